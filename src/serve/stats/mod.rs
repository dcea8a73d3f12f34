//! What a server counted: [`Counters`] inside, [`ServerStats`] for operators and tests.
//!
//! Counters are independent of each other: a snapshot taken while the server works may show a
//! connection as accepted and not yet as active. They only inform, nothing is decided by them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection was not taken, though it was accepted.
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

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// It took too long, or the authenticator did.
    Timeout,
    /// The authenticator did not recognise the client.
    Unauthorized,
    /// TLS failed.
    Tls,
    /// The peer broke the protocol, or does not speak it.
    Protocol,
}

/// What an error of accept(2) means.
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

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one server, written by its threads.
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
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
        }

        /// What a server counted since it started, at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct ServerStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The numbers now.
            #[must_use]
            pub fn snapshot(&self) -> ServerStats {
                ServerStats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Connections that the system handed over.
    connections_accepted,
    /// Connections being served, handshake included.
    connections_active,
    /// Connections closed at once: the server is at its limit.
    refused_limit,
    /// Connections closed at once: their address has too many.
    refused_per_address,
    /// Connections closed at once: their address connects too often.
    refused_rate,
    /// Connections closed at once: no thread or memory.
    refused_resources,
    /// Connections closed at once: the server was shutting down.
    refused_shutting_down,
    /// Handshakes in progress.
    handshakes_active,
    /// Handshakes that took too long.
    handshake_timeouts,
    /// Handshakes that failed in TLS.
    handshake_tls_failures,
    /// Clients that the authenticator did not recognise.
    handshake_unauthorized,
    /// Panics of the authenticator; each refused a client.
    authenticator_panics,
    /// Decisions of the authenticator that came too late and were dropped.
    authenticator_late,
    /// Messages after which a connection was not read for a while: it sends more than its rate limit.
    rate_pauses,
    /// Handshakes that broke the protocol.
    handshake_protocol_failures,
    /// Errors of accept(2) about one connection.
    accept_errors_connection,
    /// Errors of accept(2) for want of descriptors or memory.
    accept_errors_resources,
    /// Errors of accept(2) that ended a listener.
    accept_errors_listener,
    /// Panics of handlers.
    handler_panics,
    /// Handlers that have been running for longer than `handler_warn`.
    handlers_slow,
    /// Frames received.
    frames_in,
    /// Frames sent.
    frames_out,
}

impl Counters {
    /// A connection was accepted.
    pub fn accepted(&self) {
        add(&self.connections_accepted);
    }

    /// An accepted connection was refused.
    pub fn refused(&self, why: Refusal) {
        add(match why {
            Refusal::Limit => &self.refused_limit,
            Refusal::PerAddress => &self.refused_per_address,
            Refusal::Rate => &self.refused_rate,
            Refusal::Resources => &self.refused_resources,
            Refusal::ShuttingDown => &self.refused_shutting_down,
        });
    }

    /// A handshake failed.
    pub fn handshake_failed(&self, why: HandshakeFailure) {
        add(match why {
            HandshakeFailure::Timeout => &self.handshake_timeouts,
            HandshakeFailure::Unauthorized => &self.handshake_unauthorized,
            HandshakeFailure::Tls => &self.handshake_tls_failures,
            HandshakeFailure::Protocol => &self.handshake_protocol_failures,
        });
    }

    /// accept(2) failed.
    pub fn accept_failed(&self, why: AcceptFailure) {
        add(match why {
            AcceptFailure::Connection => &self.accept_errors_connection,
            AcceptFailure::Resources => &self.accept_errors_resources,
            AcceptFailure::Listener => &self.accept_errors_listener,
        });
    }

    /// A handler panicked.
    pub fn handler_panicked(&self) {
        add(&self.handler_panics);
    }

    /// The authenticator panicked.
    pub fn authenticator_panicked(&self) {
        add(&self.authenticator_panics);
    }

    /// The authenticator decided too late.
    pub fn authenticator_was_late(&self) {
        add(&self.authenticator_late);
    }

    /// A connection had to wait so often for its rate limit.
    pub fn rate_paused(&self, count: u64) {
        if count > 0 {
            self.rate_pauses.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// A frame was received.
    pub fn frame_in(&self) {
        add(&self.frames_in);
    }

    /// A frame was sent.
    pub fn frame_out(&self) {
        add(&self.frames_out);
    }

    /// Counts a connection as active until the guard is dropped.
    pub fn connection(self: &Arc<Self>) -> Active {
        Active::new(self, |counters| &counters.connections_active)
    }

    /// Counts a handshake as in progress until the guard is dropped.
    pub fn handshake(self: &Arc<Self>) -> Active {
        Active::new(self, |counters| &counters.handshakes_active)
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One that is counted as active; dropping it ends that, also when a panic unwinds.
#[must_use = "dropping the guard ends the counting"]
pub struct Active {
    counters: Arc<Counters>,
    gauge: fn(&Counters) -> &AtomicU64,
}

impl Active {
    fn new(counters: &Arc<Counters>, gauge: fn(&Counters) -> &AtomicU64) -> Self {
        add(gauge(counters));
        Self {
            counters: Arc::clone(counters),
            gauge,
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        (self.gauge)(&self.counters).fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Active")
    }
}

#[cfg(test)]
mod tests;
