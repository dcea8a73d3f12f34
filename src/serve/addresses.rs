//! How many connections an address has, and how fast it opens new ones.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are remembered at most. Beyond it new ones are refused: with one connection each
/// they would exceed any limit of connections anyway.
const MAX_KEYS: usize = 65_536;

/// A client as limits see it: an IPv4 address, or an IPv6 /64, which is what one site gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(IpAddr);

impl Key {
    fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        })
    }
}

/// The table of a server, shared by its clones.
#[derive(Debug, Clone)]
pub(super) struct Addresses(Arc<Table>);

#[derive(Debug)]
struct Table {
    max_open: usize,
    max_new: Option<(u32, Duration)>,
    /// The hasher has a random key: nobody can choose addresses that collide.
    entries: Mutex<HashMap<Key, Entry, RandomState>>,
}

#[derive(Debug)]
struct Entry {
    open: usize,
    /// Connections opened since `window`.
    opened: u32,
    window: Instant,
}

/// One connection of an address.
#[derive(Debug)]
pub(super) struct Guard {
    table: Arc<Table>,
    key: Key,
}

impl Addresses {
    /// `max_open` connections at once for each address, and `max_new` in a span of time.
    pub(super) fn new(max_open: usize, max_new: Option<(u32, Duration)>) -> Self {
        Self(Arc::new(Table {
            max_open,
            max_new,
            entries: Mutex::default(),
        }))
    }

    /// Admits a connection, or not.
    pub(super) fn admit(&self, ip: IpAddr, now: Instant) -> Option<Guard> {
        let key = Key::of(ip);
        let mut entries = self.0.lock();
        if entries.len() >= MAX_KEYS && !entries.contains_key(&key) {
            self.0.forget(&mut entries, now);
            if entries.len() >= MAX_KEYS {
                return None;
            }
        }
        let entry = entries.entry(key).or_insert(Entry {
            open: 0,
            opened: 0,
            window: now,
        });
        if let Some((count, span)) = self.0.max_new {
            if now.saturating_duration_since(entry.window) >= span {
                (entry.opened, entry.window) = (0, now);
            }
            if entry.opened >= count {
                return None;
            }
        }
        if entry.open >= self.0.max_open {
            return None;
        }
        entry.open += 1;
        entry.opened = entry.opened.saturating_add(1);
        Some(Guard {
            table: Arc::clone(&self.0),
            key,
        })
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry, RandomState>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the addresses whose rate is no longer of interest.
    fn forget(&self, entries: &mut HashMap<Key, Entry, RandomState>, now: Instant) {
        let span = self.max_new.map_or(Duration::ZERO, |(_, span)| span);
        entries.retain(|_, e| e.open > 0 || now.saturating_duration_since(e.window) < span);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut entries = self.table.lock();
        if let Some(entry) = entries.get_mut(&self.key) {
            entry.open -= 1;
            // With a limit of the rate, the entry stays until its span is over.
            if entry.open == 0 && self.table.max_new.is_none() {
                entries.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn e01_the_limit_is_exact_and_a_place_frees_on_drop() {
        let (addresses, now) = (Addresses::new(3, None), clock::now());
        let mut guards: Vec<_> = (0..3)
            .map(|_| addresses.admit(ip("10.0.0.1"), now).unwrap())
            .collect();
        assert!(addresses.admit(ip("10.0.0.1"), now).is_none());
        assert!(
            addresses.admit(ip("10.0.0.2"), now).is_some(),
            "another address is not affected"
        );
        guards.pop();
        assert!(addresses.admit(ip("10.0.0.1"), now).is_some());
        guards.clear();
        assert_eq!(addresses.0.lock().len(), 0);
    }

    #[test]
    fn an_ipv6_site_counts_as_one_and_mapped_addresses_as_ipv4() {
        let (addresses, now) = (Addresses::new(1, None), clock::now());
        let _a = addresses.admit(ip("2001:db8::1"), now).unwrap();
        assert!(addresses.admit(ip("2001:db8::ffff:2"), now).is_none());
        assert!(addresses.admit(ip("2001:db8:0:1::1"), now).is_some());
        let _b = addresses.admit(ip("::ffff:1.2.3.4"), now).unwrap();
        assert!(addresses.admit(ip("1.2.3.4"), now).is_none());
    }

    #[test]
    fn e09_new_connections_are_counted_in_spans() {
        let span = Duration::from_secs(10);
        let (addresses, now) = (Addresses::new(100, Some((20, span))), clock::now());
        for _ in 0..20 {
            assert!(addresses.admit(ip("10.0.0.1"), now).is_some());
        }
        assert!(
            addresses.admit(ip("10.0.0.1"), now).is_none(),
            "the 21st, though none is open"
        );
        assert!(addresses.admit(ip("10.0.0.1"), now + span).is_some());
    }

    #[test]
    fn e13_a_million_addresses_do_not_grow_the_table() {
        let span = Duration::from_secs(1);
        let (addresses, now) = (Addresses::new(1, Some((1, span))), clock::now());
        for n in 0..1_000_000_u32 {
            // Each connection ends at once; only its address is remembered.
            let _ = addresses.admit(IpAddr::V4(n.into()), now);
        }
        assert_eq!(addresses.0.lock().len(), MAX_KEYS);
        assert!(
            addresses.admit(ip("255.0.0.1"), now + span).is_some(),
            "old ones make room"
        );
        assert_eq!(addresses.0.lock().len(), 1);
    }
}
