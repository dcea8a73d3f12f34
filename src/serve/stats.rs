//! What a server counts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The counters; every drop and every limit has one.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) active: AtomicUsize,
    pub(super) handshakes: AtomicUsize,
    pub(super) refused_address: AtomicU64,
    pub(super) refused_thread: AtomicU64,
    pub(super) handshake_timeouts: AtomicU64,
    pub(super) handshake_tls: AtomicU64,
    pub(super) handshake_other: AtomicU64,
    pub(super) accept_errors: AtomicU64,
    pub(super) accept_exhausted: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) handler_panics: AtomicU64,
}

/// A snapshot of what a server has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections accepted from the system.
    pub accepted: u64,
    /// Connections open now, those in their handshake included.
    pub active: usize,
    /// Handshakes going on now.
    pub handshakes: usize,
    /// Connections closed at once because their address had too many.
    pub refused_address: u64,
    /// Connections closed at once because the system had no thread left.
    pub refused_thread: u64,
    /// Handshakes that took too long.
    pub handshake_timeouts: u64,
    /// Handshakes that failed in TLS.
    pub handshake_tls: u64,
    /// Handshakes that failed otherwise: a broken protocol, a peer that went away.
    pub handshake_other: u64,
    /// `accept` failed for one connection.
    pub accept_errors: u64,
    /// `accept` failed because the system lacked descriptors or memory.
    pub accept_exhausted: u64,
    /// Frames given to the handler.
    pub requests: u64,
    /// Handlers that panicked.
    pub handler_panics: u64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> ServerStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServerStats {
            accepted: get(&self.accepted),
            active: self.active.load(Ordering::Relaxed),
            handshakes: self.handshakes.load(Ordering::Relaxed),
            refused_address: get(&self.refused_address),
            refused_thread: get(&self.refused_thread),
            handshake_timeouts: get(&self.handshake_timeouts),
            handshake_tls: get(&self.handshake_tls),
            handshake_other: get(&self.handshake_other),
            accept_errors: get(&self.accept_errors),
            accept_exhausted: get(&self.accept_exhausted),
            requests: get(&self.requests),
            handler_panics: get(&self.handler_panics),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
