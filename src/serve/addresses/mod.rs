//! Limits per peer address: connections at once, and optionally new connections per time.
//!
//! An address is an IPv4 address or an IPv6 /64, the smallest block that a site is given: whoever
//! has one can take any address in it. The accept thread asks with [`Addresses::admit`] and keeps
//! the [`AddressGuard`] with the connection.
//!
//! The table holds at most 65,536 addresses. An address without connections and without a rate to
//! remember is not in it. When it is full, the address closest to being forgotten gives way; if
//! all have connections, the new one is refused.

use crate::proto::network::Network;
use std::collections::hash_map::{Entry as Slot, RandomState};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most addresses remembered at once.
pub const MAX_ADDRESSES: usize = 65_536;

/// What one address may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimits {
    /// Connections at once.
    pub connection_count: u32,
    /// So many new connections in so much time; `None` does not limit it.
    ///
    /// The first number may come at once; afterwards they come back evenly over the time. A
    /// number or a time of zero is no limit.
    pub rate: Option<(u32, Duration)>,
}

impl Default for AddressLimits {
    /// 64 connections at once, at any rate.
    fn default() -> Self {
        Self {
            connection_count: 64,
            rate: None,
        }
    }
}

/// Why an address gets no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AddressRefusal {
    /// It has its number of connections.
    #[error("too many connections from this address")]
    TooMany,
    /// It connects too often.
    #[error("new connections from this address come too fast")]
    TooFast,
    /// Too many other addresses have connections.
    #[error("connections from too many addresses")]
    TableFull,
}

/// The limits and what they need to remember; clones share it.
///
/// # Example
/// ```
/// use vstp::net::clock;
/// use vstp::serve::addresses::{AddressLimits, AddressRefusal, Addresses};
/// let limits = AddressLimits { connection_count: 1, rate: None };
/// let addresses = Addresses::new(limits);
/// let peer = "192.0.2.1".parse().expect("an address");
/// let first = addresses.admit(peer, clock::now()).expect("nobody is connected");
/// let second = addresses.admit(peer, clock::now());
/// assert_eq!(second.map(drop), Err(AddressRefusal::TooMany));
/// drop(first);
/// assert!(addresses.is_empty());
/// ```
#[derive(Clone)]
pub struct Addresses {
    shared: Arc<Shared>,
}

struct Shared {
    connection_count: u32,
    rate: Option<Rate>,
    capacity: usize,
    /// Protects the table. The last of all locks: no other is taken under it.
    table: Mutex<Table>,
}

/// A rate as a token bucket that stores one instant (GCRA): the time at which the bucket is full
/// again. Each connection moves it by `step`; it may be at most `window` away.
#[derive(Clone, Copy)]
struct Rate {
    step: Duration,
    window: Duration,
}

#[derive(Default)]
struct Table {
    /// The hasher is keyed at random, so that peers cannot choose addresses that collide.
    entries: HashMap<Network, Entry, RandomState>,
    /// The addresses that are kept for their rate alone, by the time at which it is forgotten.
    idle: BTreeSet<(Instant, Network)>,
}

#[derive(Clone, Copy)]
struct Entry {
    connections: u32,
    /// When the rate has nothing more to remember; `None` without a rate.
    full_at: Option<Instant>,
}

/// A longer span than a server runs, and short enough for the clock.
const MAX_WINDOW: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Addresses {
    /// An empty table with these limits.
    #[must_use]
    pub fn new(limits: AddressLimits) -> Self {
        Self::with_capacity(limits, MAX_ADDRESSES)
    }

    fn with_capacity(limits: AddressLimits, capacity: usize) -> Self {
        let rate = limits.rate.and_then(|(count, window)| {
            let window = window.min(MAX_WINDOW);
            let step = window.checked_div(count)?;
            (!step.is_zero()).then_some(Rate { step, window })
        });
        Self {
            shared: Arc::new(Shared {
                connection_count: limits.connection_count,
                rate,
                capacity,
                table: Mutex::default(),
            }),
        }
    }

    /// Counts a new connection from `address`, or says why it may not be.
    ///
    /// A refused attempt costs the address nothing more: whoever retries too fast is let in as
    /// soon as one who waited.
    ///
    /// # Errors
    /// [`AddressRefusal`]: the limit that was reached.
    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<AddressGuard, AddressRefusal> {
        let key = Network::from(address);
        self.shared.lock().admit(key, now, &self.shared)?;
        Ok(AddressGuard {
            shared: Arc::clone(&self.shared),
            key,
        })
    }

    /// How many connections are counted for `address`.
    #[must_use]
    pub fn connections(&self, address: IpAddr) -> u32 {
        let table = self.shared.lock();
        let entry = table.entries.get(&Network::from(address));
        entry.map_or(0, |entry| entry.connections)
    }

    /// How many addresses are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().entries.len()
    }

    /// Whether no address is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the addresses whose time is over; [`admit`](Self::admit) does it too.
    pub fn forget_old(&self, now: Instant) {
        self.shared.lock().forget_old(now);
    }
}

impl Table {
    fn admit(&mut self, key: Network, now: Instant, limits: &Shared) -> Result<(), AddressRefusal> {
        self.forget_old(now);
        let known = self.entries.get(&key).copied();
        let mut entry = known.unwrap_or(Entry {
            connections: 0,
            full_at: None,
        });
        if entry.connections >= limits.connection_count {
            return Err(AddressRefusal::TooMany);
        }
        let was_idle_until = entry.full_at.filter(|_| entry.connections == 0);
        if let Some(rate) = limits.rate {
            let full_at = entry.full_at.map_or(now, |at| at.max(now)) + rate.step;
            if full_at.saturating_duration_since(now) > rate.window {
                return Err(AddressRefusal::TooFast);
            }
            entry.full_at = Some(full_at);
        }
        if known.is_none() && self.entries.len() >= limits.capacity {
            let (_, oldest) = self.idle.pop_first().ok_or(AddressRefusal::TableFull)?;
            self.entries.remove(&oldest);
        }
        if let Some(until) = was_idle_until {
            self.idle.remove(&(until, key));
        }
        entry.connections += 1;
        self.entries.insert(key, entry);
        Ok(())
    }

    fn release(&mut self, key: Network) {
        // Always there: entries with connections are never removed.
        let Slot::Occupied(mut slot) = self.entries.entry(key) else {
            return;
        };
        slot.get_mut().connections -= 1;
        if slot.get().connections > 0 {
            return;
        }
        // Whether the time is over is seen by the next `admit`, which knows what time it is.
        match slot.get().full_at {
            Some(at) => {
                self.idle.insert((at, key));
            }
            None => {
                slot.remove();
            }
        }
    }

    /// Each address comes here at most once per admission, so this costs O(log n) amortised.
    fn forget_old(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.idle.first() {
            if at > now {
                break;
            }
            self.idle.pop_first();
            self.entries.remove(&key);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection counted for its address until this is dropped.
#[must_use = "dropping the guard ends the counting"]
pub struct AddressGuard {
    shared: Arc<Shared>,
    key: Network,
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        self.shared.lock().release(self.key);
    }
}

impl fmt::Debug for AddressGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AddressGuard").field(&self.key).finish()
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
