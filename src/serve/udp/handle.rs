//! Starting and stopping a UDP server with a handler.

use super::super::handle::ShutdownReport;
use super::super::lifecycle::Lifecycle;
use super::worker::{self, DynHandler};
use crate::error::VstpError;
use crate::net::clock;
use crate::net::udp::UdpStats;
use crate::net::udp::driver::Running;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long handlers that ran over the grace get to notice.
const CUT_OFF: Duration = Duration::from_millis(200);

/// A UDP server at work.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) running: Arc<Running>,
    pub(super) lifecycle: Lifecycle,
    /// Handlers that are running now.
    pub(super) busy: AtomicUsize,
    pub(super) panics: AtomicU64,
    /// A handler has ended.
    pub(super) ended: Signal,
    threads: Mutex<Vec<JoinHandle<()>>>,
    report: Mutex<Option<ShutdownReport>>,
}

/// Wakes whoever waits for handlers to end. Nothing is counted: who waits looks itself.
#[derive(Debug, Default)]
pub(super) struct Signal {
    /// Protects nothing but the wait itself.
    lock: Mutex<()>,
    condvar: Condvar,
    waiters: AtomicUsize,
}

impl Signal {
    pub(super) fn notify(&self) {
        if self.waiters.load(Ordering::Acquire) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.condvar.notify_all();
        }
    }

    /// Waits until `done` or the deadline; whether it is done.
    fn wait(&self, until: Instant, mut done: impl FnMut() -> bool) -> bool {
        self.waiters.fetch_add(1, Ordering::AcqRel);
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let result = loop {
            if done() {
                break true;
            }
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                break false;
            }
            // The queue of messages has no signal of its own, so it is looked at again.
            let wait = left.min(Duration::from_millis(20));
            let waited = self.condvar.wait_timeout(lock, wait);
            lock = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        self.waiters.fetch_sub(1, Ordering::AcqRel);
        result
    }
}

thread_local! {
    /// Set on worker threads, which cannot wait for themselves.
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

impl Serving {
    pub(super) fn new(running: Arc<Running>, lifecycle: Lifecycle) -> Self {
        Self {
            running,
            lifecycle,
            busy: AtomicUsize::new(0),
            panics: AtomicU64::new(0),
            ended: Signal::default(),
            threads: Mutex::default(),
            report: Mutex::default(),
        }
    }

    fn is_quiet(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0 && self.running.driver.inbox_is_empty()
    }

    /// Waits for the handlers, says goodbye, closes the socket, joins the threads.
    fn finish(&self, until: Instant) -> ShutdownReport {
        let sessions = self.running.driver.session_count();
        self.ended.wait(until, || self.is_quiet());
        let goodbye = until.max(clock::after_or_far(CUT_OFF));
        self.running.close(goodbye);
        let end = clock::after_or_far(CUT_OFF);
        self.ended
            .wait(end, || self.busy.load(Ordering::Acquire) == 0);
        let stuck = self.busy.load(Ordering::Acquire);
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A stuck handler keeps its thread; it ends when the handler returns.
            if stuck == 0 || thread.is_finished() {
                let _ = thread.join();
            }
        }
        let report = ShutdownReport {
            connections: sessions,
            cut_off: 0,
            stuck,
        };
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        self.lifecycle.close();
        report
    }
}

/// Starts the workers; on an error those that were started end again.
pub(super) fn spawn_workers(
    serving: &Arc<Serving>,
    count: usize,
    handler: &Arc<DynHandler>,
) -> Result<(), VstpError> {
    for number in 0..count {
        let (mine, handler) = (Arc::clone(serving), Arc::clone(handler));
        let thread = std::thread::Builder::new()
            .name(format!("vstp-udp-{number}"))
            .stack_size(256 * 1024)
            .spawn(move || {
                IS_WORKER.set(true);
                worker::run(&mine, &*handler);
            });
        match thread {
            Ok(thread) => serving
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread),
            Err(error) => {
                serving.lifecycle.begin_drain(clock::now());
                serving.finish(clock::now());
                return Err(VstpError::Io(error));
            }
        }
    }
    Ok(())
}

/// Shuts a UDP server down and tells what it does. Clones are handles of the same server; dropping one
/// changes nothing.
#[derive(Debug, Clone)]
pub struct UdpServerHandle {
    serving: Arc<Serving>,
}

impl UdpServerHandle {
    pub(super) const fn new(serving: Arc<Serving>) -> Self {
        Self { serving }
    }

    /// The address that the server is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.serving.running.driver.local_addr()
    }

    /// What the socket has done so far.
    #[must_use]
    pub fn stats(&self) -> UdpStats {
        self.serving.running.driver.stats()
    }

    /// Handlers that ended in a panic so far.
    #[must_use]
    pub fn handler_panics(&self) -> u64 {
        self.serving.panics.load(Ordering::Relaxed)
    }

    /// Lets handlers finish what was received, says goodbye in all sessions, closes the socket.
    ///
    /// A second call, from whatever thread, waits for the first and returns the same report. From
    /// inside a handler it only begins the shutdown, since it cannot wait for itself.
    ///
    /// # Blocking
    /// Until then; at most `grace` and 400 ms.
    pub fn shutdown(&self, grace: Duration) -> ShutdownReport {
        let serving = &self.serving;
        let until = clock::after_or_far(grace);
        let first = serving.lifecycle.begin_drain(until);
        if IS_WORKER.get() {
            if first {
                let mine = Arc::clone(serving);
                let spawned = std::thread::Builder::new()
                    .name("vstp-shutdown".to_owned())
                    .spawn(move || mine.finish(until));
                if spawned.is_err() {
                    serving.lifecycle.close();
                }
            }
            return ShutdownReport::default();
        }
        if first {
            return serving.finish(until);
        }
        serving
            .lifecycle
            .wait_closed(until.checked_add(4 * CUT_OFF));
        serving
            .report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .unwrap_or_default()
    }

    /// Waits until the server has shut down.
    ///
    /// # Blocking
    /// Until then.
    pub fn wait(&self) {
        self.serving.lifecycle.wait_closed(None);
    }
}
