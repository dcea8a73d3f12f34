//! Whose turn it is to read the socket: a caller that waits for something, or else the receive thread.
//!
//! ```text
//!          a caller takes it, drops it
//!   free <─────────────────────────────> caller's
//!    │  ^
//!    │  └──── the one caller that waits was served ────┐
//!    └──grace over without a caller, or one waits──> thread's
//! ```

use super::socket::RecvBuffer;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A caller that got its message is back for the next one sooner than this, or has something else to do.
const GRACE: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Turn {
    /// Protects the state; the socket is never read under it.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// `None` while somebody reads.
    buffer: Option<RecvBuffer>,
    /// How often a caller has taken the turn.
    taken: u64,
    /// Callers that wait for what somebody else reads.
    waiting: usize,
    /// The receive thread sleeps until it is told.
    thread_sleeps: bool,
    closed: bool,
}

/// The turn of a caller; given back when dropped.
#[derive(Debug)]
pub(super) struct CallersTurn<'a> {
    turn: &'a Turn,
    buffer: Option<RecvBuffer>,
}

impl CallersTurn<'_> {
    pub(super) fn buffer(&mut self) -> &mut RecvBuffer {
        self.buffer.get_or_insert_default()
    }
}

impl Drop for CallersTurn<'_> {
    fn drop(&mut self) {
        let mut state = self.turn.lock();
        state.buffer = self.buffer.take();
        // Telling the thread costs a system call, so only when somebody depends on it. Otherwise it
        // looks by itself when the grace is over.
        if state.waiting > 0 || state.thread_sleeps {
            drop(state);
            self.turn.changed.notify_all();
        }
    }
}

/// A caller that waits for what somebody else reads.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Turn);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Turn {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                buffer: Some(RecvBuffer::default()),
                taken: 0,
                waiting: 0,
                thread_sleeps: false,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn, if nobody has it.
    pub(super) fn try_take(&self) -> Option<CallersTurn<'_>> {
        let mut state = self.lock();
        let buffer = state.buffer.take()?;
        state.taken += 1;
        Some(CallersTurn {
            turn: self,
            buffer: Some(buffer),
        })
    }

    /// Notes that a caller waits for what somebody else reads.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.lock().waiting += 1;
        Waiting(self)
    }

    /// The receive thread: waits until no caller reads; `None` when the socket is closed.
    ///
    /// `give`: what it read into, given up for the one caller that waited and has just been served: it
    /// gets the grace to come back and read for itself.
    pub(super) fn thread_take(&self, give: Option<RecvBuffer>) -> Option<RecvBuffer> {
        let mut state = self.lock();
        let mut seen = u64::MAX;
        if give.is_some() {
            state.buffer = give;
            let waited = self.changed.wait_timeout(state, GRACE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            seen = state.taken;
        }
        loop {
            if state.closed {
                return None;
            }
            // Whether a caller has read since this was looked at last.
            let is_quiet = state.taken == seen || state.waiting > 0;
            seen = state.taken;
            match state.buffer.take_if(|_| is_quiet) {
                Some(buffer) => return Some(buffer),
                // A caller is in the middle of a long wait: it tells the thread when it is over.
                None if is_quiet => {
                    state.thread_sleeps = true;
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                    state.thread_sleeps = false;
                    // Nobody reads now; that caller too may come back.
                    seen = u64::MAX;
                }
                None => {
                    let waited = self.changed.wait_timeout(state, GRACE);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// Whether exactly one caller waits for what the thread reads, and could read it itself.
    pub(super) fn has_one_waiting(&self) -> bool {
        self.lock().waiting == 1
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}
