//! [`Serving`]: a UDP server at work, from its first worker to the last join.

use super::super::handle::ShutdownReport;
use super::super::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::net::clock;
use crate::net::udp::running::Running;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long handlers that ran over the grace get to notice.
pub(super) const CUT_OFF: Duration = Duration::from_millis(200);

thread_local! {
    /// Set on worker threads, which cannot wait for themselves.
    pub(super) static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// A UDP server at work.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) running: Running,
    pub(super) lifecycle: Lifecycle,
    /// Handlers that are running now.
    pub(super) busy: AtomicUsize,
    /// What is counted about handlers.
    pub(super) metrics: Arc<Metrics>,
    /// A handler has ended.
    pub(super) ended: Signal,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) report: Mutex<Option<ShutdownReport>>,
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

impl Serving {
    fn new(running: Running, lifecycle: Lifecycle) -> Self {
        let metrics = running.driver.meter().metrics();
        Self {
            running,
            lifecycle,
            busy: AtomicUsize::new(0),
            metrics,
            ended: Signal::default(),
            threads: Mutex::default(),
            report: Mutex::default(),
        }
    }

    /// Whether nobody works on messages, or could.
    fn is_quiet(&self) -> bool {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.is_empty()
            // In this order: a message is counted here before it leaves the inbox.
            || (self.running.driver.inbox_is_empty() && self.busy.load(Ordering::Acquire) == 0)
    }

    /// Waits for the handlers, says goodbye, closes the socket, joins the threads.
    pub(super) fn finish(&self, until: Instant) -> ShutdownReport {
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

/// A server without workers: dropping it closes the socket, whatever handles there still are.
#[derive(Debug)]
pub(super) struct Unserved {
    serving: Arc<Serving>,
    begun: bool,
}

impl Unserved {
    pub(super) fn new(running: Running) -> Self {
        Self {
            serving: Arc::new(Serving::new(running, Lifecycle::new())),
            begun: false,
        }
    }

    pub(super) const fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }

    /// From here on workers keep it.
    pub(super) fn begin(mut self) -> Arc<Serving> {
        self.begun = true;
        Arc::clone(&self.serving)
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        if !self.begun {
            self.serving.running.close(clock::now());
            self.serving.lifecycle.close();
        }
    }
}
