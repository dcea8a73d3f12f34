//! [`ServerHandle`]: shuts a server down, from any thread, and tells what it does.

use super::lifecycle::Lifecycle;
use super::listener::TcpAcceptor;
use super::pool::Pool;
use super::stats::{Counters, ServerStats};
use crate::error::{ClosedBy, VstpError};
use crate::metrics::{Family, Metrics};
use crate::net::clock;
use crate::net::meter::{Meter, Source};
use crate::net::stream;
use crate::net::tcp::shared::Shared;
use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long threads get to notice that they were cut off.
const CUT_OFF: Duration = Duration::from_millis(200);

/// How often a shutdown looks whether another call wants it sooner.
const TICK: Duration = Duration::from_millis(100);

/// What the threads of a server share.
#[derive(Debug)]
pub(super) struct ServerShared {
    pub(super) local_addr: SocketAddr,
    pub(super) lifecycle: Lifecycle,
    pub(super) pool: Pool,
    /// Handlers beside the threads of connections.
    pub(super) handlers: Pool,
    handler_warn: Duration,
    pub(super) counters: Arc<Counters>,
    pub(super) meter: Meter,
    /// Slow handlers that the meter was told of.
    slow_told: AtomicU64,
    /// Wakes the accept thread. Weak, so that the port is free when that thread has ended.
    acceptor: Weak<TcpAcceptor>,
    /// Protects the two values; no other lock is taken inside it.
    accepting: Mutex<Accepting>,
    /// Protects the list; no other lock is taken inside it.
    connections: Mutex<HashMap<u64, Entry>>,
    /// A connection left the list.
    left: Condvar,
    next_entry: AtomicU64,
    /// What the first call of `shutdown` found; later ones return the same.
    report: Mutex<Option<ShutdownReport>>,
}

impl Source for ServerShared {
    fn fold(&self, into: &Metrics) {
        let now = self.slow_handlers();
        let last = self.slow_told.swap(now, Ordering::Relaxed);
        into.add(Family::HandlersSlow, 0, now.wrapping_sub(last));
    }
}

impl Drop for ServerShared {
    /// No handler runs any more: each would have kept it.
    fn drop(&mut self) {
        let told = *self.slow_told.get_mut();
        self.meter.metrics().subtract(Family::HandlersSlow, 0, told);
    }
}

#[derive(Debug, Default)]
struct Accepting {
    thread: Option<JoinHandle<()>>,
    /// Why the listening socket became unusable.
    failure: Option<io::Error>,
}

/// A connection, from the moment it was accepted.
#[derive(Debug)]
struct Entry {
    transport: Weak<TcpStream>,
    /// There once the handshake is over.
    shared: Weak<Shared>,
}

/// What a shutdown found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that were open when it began.
    pub connections: usize,
    /// Connections that did not end by themselves in time and were cut off.
    pub cut_off: usize,
    /// Handlers that are still running; their threads end when they return.
    pub stuck: usize,
}

/// Place of a connection in its server's list; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    server: Arc<ServerShared>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.server.lock().remove(&self.id);
        self.server.left.notify_all();
    }
}

impl ServerShared {
    pub(super) fn new(
        local_addr: SocketAddr,
        pool: Pool,
        handlers: Pool,
        handler_warn: Duration,
        meter: Meter,
        acceptor: Weak<TcpAcceptor>,
    ) -> Self {
        Self {
            local_addr,
            lifecycle: Lifecycle::new(),
            pool,
            handlers,
            handler_warn,
            counters: Arc::new(Counters::new(meter.metrics())),
            meter,
            slow_told: AtomicU64::new(0),
            acceptor,
            accepting: Mutex::default(),
            connections: Mutex::default(),
            left: Condvar::new(),
            next_entry: AtomicU64::new(0),
            report: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a connection whose handshake begins.
    pub(super) fn register(self: &Arc<Self>, transport: &Arc<TcpStream>) -> Registration {
        let id = self.next_entry.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            transport: Arc::downgrade(transport),
            shared: Weak::new(),
        };
        self.lock().insert(id, entry);
        Registration {
            server: Arc::clone(self),
            id,
        }
    }

    /// Notes that its handshake is over.
    pub(super) fn established(&self, registration: &Registration, shared: &Arc<Shared>) {
        if let Some(entry) = self.lock().get_mut(&registration.id) {
            entry.shared = Arc::downgrade(shared);
        }
        // Shutdown may have begun in between; then nobody else tells this connection.
        if !self.lifecycle.is_running() {
            drain(shared);
        }
    }

    pub(super) fn for_each(&self, mut act: impl FnMut(Option<Arc<Shared>>, Arc<TcpStream>)) {
        // Collected first: what is done to a connection may drop it, and so take the lock again.
        let all: Vec<_> = self
            .lock()
            .values()
            .map(|e| (e.shared.upgrade(), e.transport.upgrade()))
            .collect();
        for (shared, transport) in all {
            if let Some(transport) = transport {
                act(shared, transport);
            }
        }
    }

    /// Handlers that have been running for longer than the limit.
    fn slow_handlers(&self) -> u64 {
        let now = clock::now();
        let mut count = 0;
        self.for_each(|shared, _| {
            let Some(shared) = shared else { return };
            let running = shared.handling.clocks().filter_map(|clock| clock.time(now));
            count += running.filter(|time| *time >= self.handler_warn).count() as u64;
        });
        count
    }

    fn accepting(&self) -> MutexGuard<'_, Accepting> {
        self.accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_accept_thread(&self, thread: JoinHandle<()>) {
        self.accepting().thread = Some(thread);
    }

    /// The listening socket is unusable: the server ends, and whoever waits for it learns why.
    pub(super) fn fail(&self, error: io::Error) {
        self.accepting().failure = Some(error);
        self.stop();
    }

    /// Takes no more clients; connections that were handed out live on.
    pub(super) fn stop(&self) {
        self.lifecycle.begin_drain(clock::now());
        self.wake_accept();
        self.lifecycle.close();
    }

    fn wake_accept(&self) {
        if let Some(acceptor) = self.acceptor.upgrade() {
            acceptor.wake();
        }
    }

    /// The error that ended the server, for the first who asks.
    pub(super) fn take_failure(&self) -> Result<(), VstpError> {
        self.accepting()
            .failure
            .take()
            .map_or(Ok(()), |error| Err(VstpError::Io(error)))
    }

    /// Waits until all connections have ended; how many have not by the deadline. A later call of
    /// `shutdown` may bring that forward.
    fn wait_empty(&self, until: Instant) -> usize {
        loop {
            // Asked before the list is locked: nothing is taken inside that lock.
            let until = self.lifecycle.drain_deadline().unwrap_or(until);
            let left = until.saturating_duration_since(clock::now());
            let connections = self.lock();
            if connections.is_empty() || left.is_zero() {
                return connections.len();
            }
            // A wake-up between the question and this is made up for by the tick.
            let waited = self.left.wait_timeout(connections, left.min(TICK));
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Tells the reader to end the session at the next pause. Ending the receiving direction wakes a
/// reader that waits, and leaves it what has already arrived.
fn drain(shared: &Shared) {
    shared.draining.store(true, Ordering::Release);
    // A connection that is gone needs no waking.
    let _ = shared.transport.shutdown(Shutdown::Read);
}

/// Shuts a server down and tells what it does. Clones are handles of the same server; dropping one
/// changes nothing.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    pub(super) server: Arc<ServerShared>,
}

impl ServerHandle {
    /// The address that the server listens at.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr
    }

    /// What the server has done so far.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.server.meter.refresh();
        ServerStats {
            handlers_slow: self.server.slow_handlers(),
            ..self.server.counters.snapshot()
        }
    }

    /// What counts for the server and its connections.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.server.meter
    }

    /// Whether the caller is a handler of this server.
    pub(super) fn is_on_worker(&self) -> bool {
        self.server.pool.on_worker()
    }

    /// Stops accepting, lets handlers finish, says goodbye on every connection, and cuts off what
    /// is left after `grace`.
    ///
    /// A frame that has begun to arrive is still handled and answered. A second call, from
    /// whatever thread, waits for the first and returns the same report; a shorter grace of its own
    /// counts for both. From inside a handler it
    /// only begins the shutdown, since it cannot wait for itself.
    ///
    /// # Blocking
    /// Until all connections have ended; at most `grace` and 200 ms.
    pub fn shutdown(&self, grace: Duration) -> ShutdownReport {
        let server = &self.server;
        let connections = server.lock().len();
        let until = clock::after_or_far(grace);
        let first = server.lifecycle.begin_drain(until);
        if first {
            server.wake_accept();
            server.for_each(|shared, transport| match shared {
                Some(shared) => drain(&shared),
                // Nothing was promised to a client in its handshake.
                None => stream::abort(&*transport),
            });
        }
        server.left.notify_all();
        if server.pool.on_worker() || server.handlers.on_worker() {
            // The wait for everybody else is left to a thread that is not part of it.
            if first {
                let handle = self.clone();
                let spawned = std::thread::Builder::new()
                    .name("vstp-shutdown".to_owned())
                    .spawn(move || handle.finish(connections, until));
                if spawned.is_err() {
                    server.lifecycle.close();
                }
            }
            return ShutdownReport {
                connections,
                ..ShutdownReport::default()
            };
        }
        if first {
            return self.finish(connections, until);
        }
        // It ends by then, give or take what it is interrupted for.
        server.lifecycle.wait_closed(until.checked_add(5 * CUT_OFF));
        server
            .report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .unwrap_or_default()
    }

    fn finish(&self, connections: usize, until: Instant) -> ShutdownReport {
        let server = &self.server;
        let cut_off = server.wait_empty(until);
        server.for_each(|shared, transport| match shared {
            Some(shared) => shared.abort(ClosedBy::Local),
            None => stream::abort(&*transport),
        });
        let cut_off_at = clock::after_or_far(CUT_OFF);
        let stuck = server.pool.join(cut_off_at) + server.handlers.join(cut_off_at);
        if let Some(thread) = server.accepting().thread.take() {
            // It was woken, and it waits for nothing longer than a tick.
            let _ = thread.join();
        }
        let report = ShutdownReport {
            connections,
            cut_off,
            stuck,
        };
        *server.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        server.lifecycle.close();
        report
    }

    /// Waits until the server has shut down.
    ///
    /// # Blocking
    /// Until then.
    ///
    /// # Errors
    /// `Io` when the listening socket failed.
    pub fn wait(&self) -> Result<(), VstpError> {
        self.server.lifecycle.wait_closed(None);
        self.server.take_failure()
    }
}
