//! Running, draining, closed: the one state that all threads of a server look at.

use crate::net::clock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

const RUNNING: u8 = 0;
const DRAINING: u8 = 1;
const CLOSED: u8 = 2;

/// It only ever moves forward.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    state: AtomicU8,
    /// Held while the state changes, so that a wait cannot miss it. Nothing is taken inside it.
    change: Mutex<()>,
    changed: Condvar,
}

impl Lifecycle {
    pub(super) fn is_running(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNNING
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// Starts draining; `true` for the one call that did it.
    pub(super) fn begin_drain(&self) -> bool {
        self.move_to(DRAINING)
    }

    pub(super) fn close(&self) {
        self.move_to(CLOSED);
    }

    fn move_to(&self, state: u8) -> bool {
        let _change = self.lock();
        let moved = self.state.fetch_max(state, Ordering::AcqRel) < state;
        if moved {
            self.changed.notify_all();
        }
        moved
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is closed or the deadline has passed.
    pub(super) fn wait_closed(&self, until: Option<Instant>) {
        self.wait(until, CLOSED);
    }

    /// Waits until it no longer runs or the deadline has passed.
    pub(super) fn wait_drain(&self, until: Option<Instant>) {
        self.wait(until, DRAINING);
    }

    fn wait(&self, until: Option<Instant>, wanted: u8) {
        let mut change = self.lock();
        while self.state.load(Ordering::Acquire) < wanted {
            change = match until {
                None => self
                    .changed
                    .wait(change)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(clock::now());
                    if left.is_zero() {
                        return;
                    }
                    let waited = self.changed.wait_timeout(change, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}
