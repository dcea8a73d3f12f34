//! A counted limit whose permits are values: who holds one has a place, dropping it frees the place.
//!
//! Used for connections of a server and for handshakes in progress. It is not fair: a permit
//! goes to whoever wakes first.

use crate::serve::lifecycle::{Lifecycle, Watcher};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A limit of so many permits; clones share them.
///
/// # Example
/// ```
/// use vstp::serve::permits::Permits;
/// let permits = Permits::new(1);
/// let one = permits.try_acquire().expect("none is taken");
/// assert!(permits.try_acquire().is_none());
/// drop(one);
/// assert_eq!((permits.in_use(), permits.high_water()), (0, 1));
/// ```
#[derive(Clone)]
pub struct Permits {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    /// Protects the counts. The last of all locks: no other is taken under it.
    counts: Mutex<Counts>,
    freed: Condvar,
}

#[derive(Default)]
struct Counts {
    in_use: usize,
    high_water: usize,
}

/// A place under a limit, freed when it is dropped.
#[must_use = "dropping the permit frees the place"]
pub struct Permit {
    shared: Arc<Shared>,
}

impl Permits {
    /// A limit of `limit` permits; with 0, nobody ever gets one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                limit,
                counts: Mutex::default(),
                freed: Condvar::new(),
            }),
        }
    }

    /// A permit, if one is free now.
    pub fn try_acquire(&self) -> Option<Permit> {
        self.take(&mut self.shared.lock())
    }

    /// A permit, as soon as one is free; `None` once the server does not run any more.
    ///
    /// # Blocking
    /// Until another permit is dropped, or `lifecycle` leaves Running. No deadline: this wait is
    /// the back-pressure of a full server.
    pub fn acquire(&self, lifecycle: &Lifecycle) -> Option<Permit> {
        let mut watching = false;
        let mut counts = self.shared.lock();
        loop {
            // Checked under the lock that `phase_changed` takes, so no wake-up is lost.
            if !lifecycle.is_running() {
                // A wake-up for a freed permit that ended here is not lost to waiters of another
                // server: `phase_changed` wakes all of them after it.
                return None;
            }
            if let Some(permit) = self.take(&mut counts) {
                return Some(permit);
            }
            if !watching {
                // Only a full limit has to know about shutdown; registering takes another lock.
                drop(counts);
                let watcher: Arc<dyn Watcher> = self.shared.clone();
                lifecycle.watch(&watcher);
                watching = true;
                counts = self.shared.lock();
                continue;
            }
            counts = self
                .shared
                .freed
                .wait(counts)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many permits there are.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// How many permits are held.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.shared.lock().in_use
    }

    /// How many permits were held at once at most.
    #[must_use]
    pub fn high_water(&self) -> usize {
        self.shared.lock().high_water
    }

    fn take(&self, counts: &mut Counts) -> Option<Permit> {
        if counts.in_use >= self.shared.limit {
            return None;
        }
        counts.in_use += 1;
        counts.high_water = counts.high_water.max(counts.in_use);
        Some(Permit {
            shared: Arc::clone(&self.shared),
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Shared {
    fn phase_changed(&self) {
        // Whoever has seen Running under the lock is waiting once the lock is ours.
        drop(self.lock());
        self.freed.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.lock().in_use -= 1;
        self.shared.freed.notify_one();
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("limit", &self.limit())
            .field("in_use", &self.in_use())
            .finish()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests;
