//! What all connections of a server together may hold in receive buffers.
//!
//! A limit for each frame times a limit of connections is more than a machine has. A connection
//! whose buffers grow past a free share takes the rest from one budget; when that is used up it
//! waits with reading, under its frame's deadline, until others have given some back.

use crate::net::clock;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a connection holds without asking (bytes).
pub(crate) const FREE_LEN: usize = 64 * 1024;

/// The budget of a server.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit: usize,
    /// Bytes taken. Nothing is taken inside the lock.
    used: Mutex<usize>,
    freed: Condvar,
}

impl MemoryBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's part of it; given back when dropped.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    budget: Option<Arc<MemoryBudget>>,
    held: usize,
}

impl MemoryShare {
    pub(crate) fn new(budget: Option<Arc<MemoryBudget>>) -> Self {
        Self { budget, held: 0 }
    }

    /// Makes the share fit buffers of this length (bytes), waiting for others where it must grow;
    /// `false` when they gave nothing back by `until`.
    pub(crate) fn resize(&mut self, buffers_len: usize, until: Option<Instant>) -> bool {
        let wanted = buffers_len.saturating_sub(FREE_LEN);
        // The usual case: nothing beyond the free share, now as before.
        if wanted == self.held {
            return true;
        }
        let Some(budget) = &self.budget else {
            return true;
        };
        let mut used = budget.lock();
        // A single connection may always have its largest frame, or it could never arrive.
        while wanted > self.held && *used > self.held && *used - self.held + wanted > budget.limit {
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            used = match left {
                Some(left) if left.is_zero() => return false,
                Some(left) => {
                    let waited = budget.freed.wait_timeout(used, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => budget
                    .freed
                    .wait(used)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        *used = *used - self.held + wanted;
        let shrank = wanted < self.held;
        self.held = wanted;
        drop(used);
        if shrank {
            budget.freed.notify_all();
        }
        true
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.resize(0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MIB: usize = 1 << 20;

    fn soon() -> Option<Instant> {
        clock::after(Duration::from_millis(20))
    }

    #[test]
    fn e05_the_sum_is_bounded_and_waiting_ends_when_others_shrink() {
        let budget = Arc::new(MemoryBudget::new(10 * MIB));
        let share = || MemoryShare::new(Some(Arc::clone(&budget)));
        let (mut first, mut second) = (share(), share());
        assert!(first.resize(8 * MIB + FREE_LEN, soon()));
        assert!(
            !second.resize(3 * MIB + FREE_LEN, soon()),
            "only two are left"
        );
        assert!(
            second.resize(2 * MIB + FREE_LEN, soon()),
            "exactly what is left"
        );
        let waiting = std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| second.resize(5 * MIB, clock::after(Duration::from_secs(20))));
            assert!(first.resize(0, None));
            waiting.join().unwrap()
        });
        assert!(waiting);
        drop((first, second));
        assert_eq!(*budget.lock(), 0);
    }

    #[test]
    fn one_connection_alone_may_exceed_it() {
        let budget = Arc::new(MemoryBudget::new(MIB));
        let mut share = MemoryShare::new(Some(budget));
        assert!(
            share.resize(64 * MIB, soon()),
            "else its frame could never arrive"
        );
    }

    #[test]
    fn small_buffers_take_nothing() {
        let budget = Arc::new(MemoryBudget::new(0));
        let mut share = MemoryShare::new(Some(Arc::clone(&budget)));
        assert!(share.resize(FREE_LEN, soon()));
        assert_eq!(*budget.lock(), 0);
    }
}
