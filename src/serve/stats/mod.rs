//! What a server counted: [`Counters`] inside, [`ServerStats`] for operators and tests.
//!
//! Counters are independent of each other: a snapshot taken while the server works may show a
//! connection as accepted and not yet as active. They only inform, nothing is decided by them.

use crate::metrics::{Family, Held, Metrics, RECEIVED, SENT};
use crate::proto::tally::{self, KIND_COUNT};
use crate::wire::FrameType;
use std::sync::Arc;

/// Why a connection was not taken, though it was accepted. In the order of the family's labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The server is at its limit of connections or handshakes.
    Limit,
    /// Its address has too many connections.
    PerAddress,
    /// Its address connects too often.
    Rate,
    /// The system gives no thread or memory for it.
    Resources,
    /// The server is shutting down.
    ShuttingDown,
}

/// What an error of accept(2) means. In the order of the family's labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcceptFailure {
    /// This one connection was gone before it was accepted.
    Connection,
    /// The system has no file descriptor or memory left, or failed in an unknown way.
    Resources,
    /// The listening socket is unusable.
    Listener,
}

/// What a server counted since it started, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that the system handed over.
    pub connections_accepted: u64,
    /// Connections being served, handshake included.
    pub connections_active: u64,
    /// Connections closed at once: the server is at its limit.
    pub refused_limit: u64,
    /// Connections closed at once: their address has too many.
    pub refused_per_address: u64,
    /// Connections closed at once: their address connects too often.
    pub refused_rate: u64,
    /// Connections closed at once: no thread or memory.
    pub refused_resources: u64,
    /// Connections closed at once: the server was shutting down.
    pub refused_shutting_down: u64,
    /// Handshakes in progress.
    pub handshakes_active: u64,
    /// Handshakes that took too long.
    pub handshake_timeouts: u64,
    /// Handshakes that failed in TLS.
    pub handshake_tls_failures: u64,
    /// Handshakes that broke the protocol.
    pub handshake_protocol_failures: u64,
    /// Errors of accept(2) about one connection.
    pub accept_errors_connection: u64,
    /// Errors of accept(2) for want of descriptors or memory.
    pub accept_errors_resources: u64,
    /// Errors of accept(2) that ended a listener.
    pub accept_errors_listener: u64,
    /// Panics of handlers.
    pub handler_panics: u64,
    /// Handlers that have been running for longer than `handler_warn`.
    pub handlers_slow: u64,
    /// Messages received: frames of the application, none of the protocol's own. Zero with
    /// [`Meter::off`](crate::net::Meter::off).
    pub frames_in: u64,
    /// Messages sent, likewise.
    pub frames_out: u64,
}

/// What the threads of one server count; a view of [`Metrics`].
///
/// # Example
/// ```
/// use vstp::serve::stats::{Counters, Refusal};
/// let counters = Counters::default();
/// counters.refused(Refusal::Rate);
/// assert_eq!(counters.snapshot().refused_rate, 1);
/// ```
#[derive(Debug, Default)]
pub struct Counters {
    metrics: Arc<Metrics>,
}

impl Counters {
    pub(crate) const fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }

    pub(crate) const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> ServerStats {
        let at = |family, place| self.metrics.load(family, place);
        let refused = |why: Refusal| at(Family::ConnectionsRefused, why as usize);
        let failed = |place| at(Family::HandshakeFailures, place);
        let accept = |why: AcceptFailure| at(Family::AcceptErrors, why as usize);
        let messages = |direction| {
            let first = direction * KIND_COUNT;
            let place = |typ| first + tally::kind(typ);
            at(Family::Frames, place(FrameType::Data))
                + at(Family::Frames, place(FrameType::Custom(0xff)))
        };
        ServerStats {
            connections_accepted: at(Family::ConnectionsOpened, 0),
            connections_active: at(Family::ConnectionsActive, 0),
            refused_limit: refused(Refusal::Limit),
            refused_per_address: refused(Refusal::PerAddress),
            refused_rate: refused(Refusal::Rate),
            refused_resources: refused(Refusal::Resources),
            refused_shutting_down: refused(Refusal::ShuttingDown),
            handshakes_active: at(Family::HandshakesActive, 0),
            handshake_timeouts: failed(0),
            handshake_tls_failures: failed(1),
            handshake_protocol_failures: failed(2),
            accept_errors_connection: accept(AcceptFailure::Connection),
            accept_errors_resources: accept(AcceptFailure::Resources),
            accept_errors_listener: accept(AcceptFailure::Listener),
            handler_panics: at(Family::HandlerPanics, 0),
            handlers_slow: at(Family::HandlersSlow, 0),
            frames_in: messages(RECEIVED),
            frames_out: messages(SENT),
        }
    }

    /// A connection was accepted.
    pub fn accepted(&self) {
        self.metrics.add(Family::ConnectionsOpened, 0, 1);
    }

    /// An accepted connection was refused.
    pub fn refused(&self, why: Refusal) {
        self.metrics
            .add(Family::ConnectionsRefused, why as usize, 1);
    }

    /// accept(2) failed.
    pub fn accept_failed(&self, why: AcceptFailure) {
        self.metrics.add(Family::AcceptErrors, why as usize, 1);
    }

    /// A handler panicked.
    pub fn handler_panicked(&self) {
        self.metrics.add(Family::HandlerPanics, 0, 1);
    }

    /// Counts a connection as active until the guard is dropped.
    pub fn connection(&self) -> Held {
        Held::new(&self.metrics, Family::ConnectionsActive)
    }
}

#[cfg(test)]
mod tests;
