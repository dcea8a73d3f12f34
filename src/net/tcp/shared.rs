//! What the halves of a connection have in common, and what ends with the last of them.

use super::handling::Handling;
use super::outbox::{Fin, Outbox};
use super::stats::ConnectionStats;
use crate::error::{ClosedBy, VstpError};
use crate::ext::Pipeline;
use crate::metrics::{Family, Lane, Metrics, RECEIVED, SENT, Snapshot};
use crate::net::clock;
use crate::net::identity::Identity;
use crate::net::meter::{Meter, Source};
use crate::net::socket::Transport;
use crate::net::stream;
use crate::net::tls::PeerInfo;
use crate::proto::datagram::SealedKeys;
use crate::proto::session::{self, Established};
use crate::proto::{ErrorCode, keys};
use crate::wire::Frame;
use std::any::Any;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One connection. Held by its halves, its senders and, weakly, by whoever watches it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) outbox: Outbox,
    pub(crate) local_addr: SocketAddr,
    pub(crate) peer_addr: SocketAddr,
    pub(crate) tls: Option<PeerInfo>,
    /// Set when the session opens, and again if HELLO comes later. Held to copy or replace it.
    established: RwLock<Option<Established>>,
    /// Server: who the client is, once that is known.
    pub(crate) identity: OnceLock<Identity>,
    pub(super) pipeline: Pipeline,
    /// Whether both sides have the feature `gzip`; of `established`, without its lock.
    pub(super) gzip: AtomicBool,
    /// This side has said, or is saying, goodbye.
    pub(crate) said_bye: AtomicBool,
    /// Set when both directions were ended from this side.
    pub(crate) aborted: OnceLock<ClosedBy>,
    /// The reader shall end the session at the next pause between frames.
    pub(crate) draining: AtomicBool,
    /// Added to by the reader alone. In a box as all counters here: `Shared` is built on the stack of the
    /// connection's thread, and a page of it that was used once stays with an idle connection.
    pub(crate) received: Box<Lane>,
    /// Bytes that have arrived, of whole frames or not. Likewise.
    bytes_received: AtomicU64,
    /// A server's handlers of messages of this connection.
    pub(crate) handling: Handling,
    /// Where the numbers go.
    pub(crate) meter: Meter,
    /// What has gone there, once something has. Held to hand over what is new; nothing is taken inside it.
    handed: Mutex<Option<Box<Snapshot>>>,
    base: Instant,
    /// Milliseconds after `base` at which bytes were last received.
    last_received: AtomicU64,
    /// Client: keys of sealed datagrams, until somebody takes them. Held to take or put them.
    sealed_keys: Mutex<Option<SealedKeys>>,
    /// Whatever shall be given back when the connection ends: a server's permits.
    /// The lock protects the two values; nothing is taken inside it.
    belongings: Mutex<Belongings>,
}

#[derive(Debug, Default)]
struct Belongings {
    permits: Vec<Box<dyn Permit>>,
    until_accepted: Option<Box<dyn Permit>>,
    writer_thread: Option<JoinHandle<()>>,
}

/// A place that is free again when this is dropped.
pub(crate) trait Permit: Any + Send + std::fmt::Debug {}
impl<T: Any + Send + std::fmt::Debug> Permit for T {}

impl Shared {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        mut outbox: Outbox,
        (local_addr, peer_addr): (SocketAddr, SocketAddr),
        tls: Option<PeerInfo>,
        pipeline: Pipeline,
        meter: Meter,
    ) -> Arc<Self> {
        let mut received = Box::<Lane>::default();
        if !meter.is_on() {
            received.switch_off();
            outbox.sent.switch_off();
        }
        Arc::new(Self {
            transport,
            outbox,
            local_addr,
            peer_addr,
            tls,
            established: RwLock::new(None),
            identity: OnceLock::new(),
            pipeline,
            gzip: AtomicBool::new(false),
            said_bye: AtomicBool::new(false),
            aborted: OnceLock::new(),
            draining: AtomicBool::new(false),
            received,
            bytes_received: AtomicU64::new(0),
            handling: Handling::default(),
            meter,
            handed: Mutex::new(None),
            base: clock::now(),
            last_received: AtomicU64::new(0),
            sealed_keys: Mutex::default(),
            belongings: Mutex::default(),
        })
    }

    pub(crate) fn note_received(&self, now: Instant, len: usize) {
        let since = now.saturating_duration_since(self.base).as_millis() as u64;
        self.last_received.store(since, Ordering::Relaxed);
        if self.meter.is_on() {
            // The reader is the only one that adds, so no read-modify-write is needed.
            let total = self.bytes_received.load(Ordering::Relaxed) + len as u64;
            self.bytes_received.store(total, Ordering::Relaxed);
        }
    }

    pub(crate) fn last_received(&self) -> Instant {
        self.base + Duration::from_millis(self.last_received.load(Ordering::Relaxed))
    }

    /// What HELLO and WELCOME settled, or what holds without them.
    pub(crate) fn established(&self) -> Option<Established> {
        self.established
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_established(&self, established: Established) {
        let gzip = established.features.contains(keys::GZIP);
        self.gzip.store(gzip, Ordering::Relaxed);
        *self
            .established
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(established);
    }

    pub(crate) fn set_sealed_keys(&self, keys: Option<SealedKeys>) {
        let mut place = self.sealed_keys.lock();
        *place.as_deref_mut().unwrap_or_else(|e| e.get_mut()) = keys;
    }

    /// The keys of sealed datagrams, for the one who asks first.
    #[cfg(feature = "tls")]
    pub(crate) fn take_sealed_keys(&self) -> Option<SealedKeys> {
        let mut place = self.sealed_keys.lock();
        place.as_deref_mut().unwrap_or_else(|e| e.get_mut()).take()
    }

    pub(crate) fn stats(&self) -> ConnectionStats {
        let bytes_received = self.bytes_received.load(Ordering::Relaxed);
        let (sent, received) = (self.outbox.sent.tally(), self.received.tally());
        ConnectionStats::new(sent, received, bytes_received)
    }

    /// Keeps something until the connection ends.
    pub(crate) fn keep(&self, permit: impl Permit) {
        self.belongings().permits.push(Box::new(permit));
    }

    /// Keeps something until [`Self::accepted`].
    pub(crate) fn keep_until_accepted(&self, permit: impl Permit) {
        self.belongings().until_accepted = Some(Box::new(permit));
    }

    /// The application has taken the connection over.
    pub(crate) fn accepted(&self) {
        self.belongings().until_accepted = None;
    }

    fn belongings(&self) -> std::sync::MutexGuard<'_, Belongings> {
        self.belongings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread behind the senders, if it does not run yet.
    pub(crate) fn start_writer(self: &Arc<Self>) -> std::io::Result<()> {
        if !self.outbox.claim_writer() {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("vstp-writer".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || shared.outbox.run_writer())
            .inspect_err(|_| self.outbox.unclaim_writer())?;
        // One that was here before has ended, or is about to without touching anything.
        self.belongings().writer_thread = Some(thread);
        Ok(())
    }

    /// Ends both directions at once; every blocked call returns `ConnectionClosed(by)`.
    pub(crate) fn abort(&self, by: ClosedBy) {
        // The first reason stays.
        let _ = self.aborted.set(by);
        self.outbox.close(by);
        self.handling.give_up();
        stream::abort(&*self.transport);
    }

    /// Sends what is queued, says goodbye and ends the sending direction; once.
    pub(crate) fn say_bye(&self, until: Option<Instant>) -> Result<(), VstpError> {
        if self.said_bye.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.outbox
            .finish(self.bye(None).as_ref(), ClosedBy::Local, Fin::Send, until)
    }

    /// The same for a server that goes away. Its receiving direction is shut down already, and
    /// with both down Linux would answer the client's goodbye with a reset; so FIN waits for close.
    pub(crate) fn say_bye_draining(&self, until: Option<Instant>) -> Result<(), VstpError> {
        if self.said_bye.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let bye = self.bye(Some(ErrorCode::ShuttingDown));
        self.outbox
            .finish(bye.as_ref(), ClosedBy::Local, Fin::Keep, until)
    }

    /// A session without HELLO has no goodbye; there the end of the stream is it.
    fn bye(&self, code: Option<ErrorCode>) -> Option<Frame> {
        let has_hello = self.established().is_some_and(|e| e.has_hello());
        has_hello.then(|| session::bye_frame(code))
    }

    /// Ends the connection without waiting: goodbye if it leaves at once, then both directions.
    pub(crate) fn hang_up(&self) {
        let said = self.said_bye.swap(true, Ordering::Relaxed);
        let bye = if said { None } else { self.bye(None) };
        self.outbox.finish_now(bye.as_ref(), ClosedBy::Local);
        stream::abort(&*self.transport);
        // Taken out first: giving a permit back may take other locks, and ending a session sends.
        let belongings = std::mem::take(&mut *self.belongings());
        let thread = belongings.writer_thread;
        drop((belongings.permits, belongings.until_accepted));
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            // It was woken by the closed outbox and the closed socket, so it ends now.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What was counted so far, with so many frames in the queue.
    fn numbers(&self, queued: usize) -> Snapshot {
        let mut numbers = Snapshot::default();
        numbers.set_frames(RECEIVED, &self.received.tally());
        numbers.set_frames(SENT, &self.outbox.sent.tally());
        numbers.set_times(Family::Handlers, &self.handling.times());
        let refused = self.outbox.refused.load(Ordering::Relaxed);
        numbers.set(Family::Backpressure, 0, refused);
        numbers.set(Family::Queued, SENT, queued as u64);
        numbers
    }

    fn hand_over(&self, queued: usize, into: &Metrics) {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let last = handed.get_or_insert_default();
        let now = self.numbers(queued);
        into.add_since(&now, last);
        **last = now;
    }
}

impl Source for Shared {
    fn fold(&self, into: &Metrics) {
        self.hand_over(self.outbox.queue_len(), into);
    }
}

impl Drop for Shared {
    /// Nothing is counted here any more, and nothing waits.
    fn drop(&mut self) {
        if self.meter.is_on() {
            self.hand_over(0, &self.meter.metrics());
        }
    }
}

/// Held by the halves of a connection; when the last one goes, the connection ends. Senders and
/// watchers hold [`Shared`] only, so they do not keep it alive.
#[derive(Debug)]
pub(crate) struct Life(pub(crate) Arc<Shared>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.hang_up();
        let outbox = &self.0.outbox;
        if let Some(log) = &outbox.log {
            log.ended(outbox.closed().unwrap_or(ClosedBy::Local), None);
        }
    }
}
