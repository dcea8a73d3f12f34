//! The life of a server as a state that threads can wait on, instead of a flag that they poll.
//!
//! ```text
//! Running ── begin_drain(deadline) ──> Draining{deadline} ── close() ──> Closed
//!    └────────────────────────── close() ─────────────────────────────────^
//! ```
//!
//! It only says where the server is. Nobody is interrupted by it: the server's threads look at it,
//! wait on it, or register as a [`Watcher`] to be told. Any handle may drive it.

use crate::net::clock;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Where in its life a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It accepts connections and serves them.
    Running,
    /// It accepts nothing new and finishes what it has.
    Draining {
        /// When the rest is cut off.
        deadline: Instant,
    },
    /// It does nothing any more.
    Closed,
}

/// Something that waits on a lock of its own and has to look at the lifecycle when it changes.
pub trait Watcher: Send + Sync {
    /// The phase has changed. Called without a lock held, on the thread that changed it; must not
    /// block.
    fn phase_changed(&self);
}

/// The shared state of one server; clones are the same server.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::net::clock;
/// use vstp::serve::lifecycle::Lifecycle;
/// let lifecycle = Lifecycle::new();
/// let deadline = clock::now() + Duration::from_secs(10);
/// assert!(lifecycle.begin_drain(deadline));
/// assert!(!lifecycle.begin_drain(deadline), "the second call changes nothing");
/// assert!(!lifecycle.is_running());
/// lifecycle.close();
/// assert!(lifecycle.wait_closed(None));
/// ```
#[derive(Clone)]
pub struct Lifecycle {
    shared: Arc<Shared>,
}

struct Shared {
    /// A copy of `phase == Running`, so that hot loops do not lock. Written under the lock.
    running: AtomicBool,
    /// Protects the phase and the list of watchers. The last of all locks: no other is taken under
    /// it, watchers are called without it.
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    watchers: Vec<Weak<dyn Watcher>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A server that runs.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                running: AtomicBool::new(true),
                state: Mutex::new(State {
                    phase: Phase::Running,
                    watchers: Vec::new(),
                }),
                changed: Condvar::new(),
            }),
        }
    }

    /// Whether new work is taken; one atomic load.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shared.running.load(Ordering::Acquire)
    }

    /// Where the server is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// When draining ends, if the server is draining.
    #[must_use]
    pub fn drain_deadline(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Draining { deadline } => Some(deadline),
            Phase::Running | Phase::Closed => None,
        }
    }

    /// Begins the end; `true` for the one call that left Running.
    ///
    /// While draining, an earlier deadline replaces the one that stands, a later one is ignored:
    /// whoever asked for a fast end gets it.
    pub fn begin_drain(&self, deadline: Instant) -> bool {
        self.change(|phase| match phase {
            Phase::Running => Some(Phase::Draining { deadline }),
            Phase::Draining { deadline: old } if deadline < old => {
                Some(Phase::Draining { deadline })
            }
            Phase::Draining { .. } | Phase::Closed => None,
        }) == Some(Phase::Running)
    }

    /// Ends it; `true` for the one call that did.
    pub fn close(&self) -> bool {
        self.change(|phase| (phase != Phase::Closed).then_some(Phase::Closed))
            .is_some()
    }

    /// Waits until the server is closed; `false` if the deadline came first.
    ///
    /// # Blocking
    /// Until [`close`](Self::close) or `deadline`; without a deadline, until `close`.
    pub fn wait_closed(&self, deadline: Option<Instant>) -> bool {
        self.wait(deadline, |phase| phase == Phase::Closed)
    }

    /// Pauses for `timeout`, but only while the server runs; `true` if it does not run any more.
    ///
    /// This is the pause for retries: shutdown ends it, and a shutdown that came before it leaves
    /// no pause at all.
    ///
    /// # Blocking
    /// Until the phase is another than Running, or for `timeout`.
    pub fn wait_change(&self, timeout: Duration) -> bool {
        // A timeout beyond what the clock can express is none.
        let deadline = clock::now().checked_add(timeout);
        self.wait(deadline, |phase| phase != Phase::Running)
    }

    /// Waits until the phase is another than `seen`; the phase at the end.
    ///
    /// # Blocking
    /// Until the phase differs from `seen`, or until `deadline`.
    pub fn wait_other(&self, seen: Phase, deadline: Option<Instant>) -> Phase {
        self.wait(deadline, |phase| phase != seen);
        self.phase()
    }

    /// Has `watcher` told about every later change, as long as it lives; twice is once.
    pub fn watch(&self, watcher: &Arc<dyn Watcher>) {
        let mut state = self.lock();
        state.watchers.retain(|known| known.strong_count() > 0);
        let new = Arc::downgrade(watcher);
        if !state.watchers.iter().any(|known| known.ptr_eq(&new)) {
            state.watchers.push(new);
        }
    }

    /// Moves to the phase that `next` names; the phase left, if it named one.
    fn change(&self, next: impl FnOnce(Phase) -> Option<Phase>) -> Option<Phase> {
        let (left, watchers) = {
            let mut state = self.lock();
            let left = state.phase;
            state.phase = next(left)?;
            self.shared.running.store(false, Ordering::Release);
            (left, state.watchers.clone())
        };
        self.shared.changed.notify_all();
        // After the unlock: a watcher takes its own lock.
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher.phase_changed();
        }
        Some(left)
    }

    fn wait(&self, deadline: Option<Instant>, done: impl Fn(Phase) -> bool) -> bool {
        let mut state = self.lock();
        while !done(state.phase) {
            state = match deadline {
                None => self
                    .shared
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(clock::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.shared
                        .changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lifecycle").field(&self.phase()).finish()
    }
}

#[cfg(test)]
mod tests;
