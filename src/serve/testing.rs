//! What the tests of this room share: threads with a deadline.

use crate::net::clock;
use crossbeam_channel::{Receiver, bounded};
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

/// Long enough for a busy machine, short enough for a test that hangs.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A thread whose result is waited for with a deadline.
pub(crate) struct Task<T> {
    result: Receiver<thread::Result<T>>,
}

/// Runs `body` on a thread of its own.
pub(crate) fn task<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    let (send, result) = bounded(1);
    thread::Builder::new()
        .name("vstp-test".into())
        .spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // The test may have given up.
            let _ = send.send(result);
        })
        .expect("a test can start a thread");
    Task { result }
}

impl<T> Task<T> {
    /// The result of the thread; fails the test after `LONG`.
    pub(crate) fn wait(self) -> T {
        match self.result.recv_timeout(LONG) {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => panic!("the thread does not end"),
        }
    }

    /// Whether the thread is still at work after `time`.
    pub(crate) fn is_busy_for(&self, time: Duration) -> bool {
        self.result.recv_timeout(time).is_err()
    }
}

/// Waits until `done`; fails the test after `LONG`. For what sends no event.
pub(crate) fn until(what: &str, done: impl Fn() -> bool) {
    let end = clock::now() + LONG;
    let nothing = crossbeam_channel::never::<()>();
    while !done() {
        assert!(clock::now() < end, "never happened: {what}");
        // Only a time between two looks; nothing depends on its length.
        let _ = nothing.recv_timeout(Duration::from_millis(1));
    }
}
