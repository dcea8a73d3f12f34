//! A counting semaphore whose permits are values: a place is free again when its permit is dropped.

use super::lifecycle::Lifecycle;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a thread that waits for a place looks whether the server still runs.
const TICK: Duration = Duration::from_millis(100);

/// So many places, shared by its clones.
#[derive(Debug, Clone)]
pub(super) struct Permits(Arc<Places>);

#[derive(Debug)]
struct Places {
    /// Places that are free. Nothing is taken inside the lock.
    free: Mutex<usize>,
    freed: Condvar,
}

/// One place.
#[derive(Debug)]
pub(super) struct Permit(Arc<Places>);

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Places {
            free: Mutex::new(count),
            freed: Condvar::new(),
        }))
    }

    /// Waits for a place; `None` when the server stops running.
    pub(super) fn acquire(&self, lifecycle: &Lifecycle) -> Option<Permit> {
        let mut free = self.0.lock();
        while *free == 0 {
            if !lifecycle.is_running() {
                return None;
            }
            let waited = self.0.freed.wait_timeout(free, TICK);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Some(Permit(Arc::clone(&self.0)))
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.lock() += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_permit_is_dropped() {
        let (permits, lifecycle) = (Permits::new(2), Lifecycle::default());
        let first = permits.acquire(&lifecycle).unwrap();
        let _second = permits.acquire(&lifecycle).unwrap();
        lifecycle.begin_drain();
        assert!(permits.acquire(&lifecycle).is_none(), "no third place");
        drop(first);
        assert!(permits.acquire(&lifecycle).is_some());
    }
}
