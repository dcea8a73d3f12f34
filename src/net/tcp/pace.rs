//! How fast the messages of one connection are taken: the buckets of a server's rate limits, on the clock.
//!
//! The reader charges each message that it hands out, and takes up the next when [`Pace::wait_until`] says
//! so. Until then it reads nothing, so a client that sends too much is slowed down by its own socket.
//!
//! There may be two buckets: that of the connection, and one that all connections of its address share.

use crate::net::clock;
use crate::proto::rate::{Bucket, RateLimit, RateTable};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The buckets of the addresses that one server's clients come from; an IPv6 /64 counts as one.
#[derive(Debug)]
pub(crate) struct AddressRates {
    limit: RateLimit,
    /// Protects the buckets, of which there is a fixed number. No other lock is taken under it.
    table: Mutex<RateTable>,
}

impl AddressRates {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            table: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, RateTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Pace {
    limit: Option<RateLimit>,
    bucket: Bucket,
    addresses: Option<Arc<AddressRates>>,
    /// Whether the address has been asked what it owes.
    has_begun: bool,
    /// When the next message may be taken; `None`: now.
    ready_at: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(limit: Option<RateLimit>, addresses: Option<Arc<AddressRates>>) -> Self {
        Self {
            limit,
            bucket: Bucket::default(),
            has_begun: addresses.is_none(),
            addresses,
            ready_at: None,
        }
    }

    /// Whether there is a limit.
    #[inline]
    pub(crate) const fn is_limited(&self) -> bool {
        self.limit.is_some() || self.addresses.is_some()
    }

    /// Whether [`Self::begin`] was called, or is not needed.
    #[inline]
    pub(crate) const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The session of a client at this address is open: what its address has sent on other connections, and
    /// on those before, counts.
    pub(crate) fn begin(&mut self, peer: IpAddr) {
        self.has_begun = true;
        if let Some(all) = &self.addresses {
            let ready_at = all.lock().ready_at(clock::now(), peer.into(), &all.limit);
            // HELLO may come after messages, for which the connection waits already.
            self.ready_at = self.ready_at.max(ready_at);
        }
    }

    /// A message of so many bytes is handed out; whether the next one has to wait.
    pub(crate) fn charge(&mut self, peer: IpAddr, len: usize) -> bool {
        let now = clock::now();
        self.ready_at = None;
        if let Some(limit) = &self.limit {
            self.bucket.charge(now, len, limit);
            self.ready_at = self.bucket.ready_at(now, limit);
        }
        if let Some(all) = &self.addresses {
            let ready_at = all.lock().charge(now, peer.into(), len, &all.limit);
            self.ready_at = self.ready_at.max(ready_at);
        }
        self.ready_at.is_some()
    }

    /// Until when nothing may be taken, if that is not over.
    #[inline]
    pub(crate) fn wait_until(&mut self) -> Option<Instant> {
        self.ready_at?;
        self.ready_at = self.ready_at.filter(|at| clock::now() < *at);
        self.ready_at
    }
}
