//! [`RateTable`]: a bucket for each network, of a fixed number; the one used longest ago gives way.

use super::{Bucket, MAX_SHARED_DEBT, RateLimit};
use crate::proto::network::Network;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// Most networks with a bucket of their own.
pub const MAX_NETWORKS: usize = 65_536;

/// The buckets of networks. One that is forgotten begins with a full bucket again, as one that is new.
#[derive(Debug, Default)]
pub struct RateTable {
    /// The hasher is keyed at random, so that peers cannot choose addresses that collide.
    entries: HashMap<Network, (u64, Bucket), RandomState>,
    /// Who was used when, oldest first.
    order: BTreeMap<u64, Network>,
    uses: u64,
}

impl RateTable {
    /// Takes the tokens of a frame of so many bytes; whether it may come now.
    pub fn take(&mut self, now: Instant, network: Network, len: usize, limit: &RateLimit) -> bool {
        self.bucket(network).take(now, len, limit)
    }

    /// Charges a frame of so many bytes that has been taken; when the next may be, if that is later:
    /// at most [`MAX_SHARED_DEBT`] and the time of one token.
    pub fn charge(
        &mut self,
        now: Instant,
        network: Network,
        len: usize,
        limit: &RateLimit,
    ) -> Option<Instant> {
        let bucket = self.bucket(network);
        bucket.charge_up_to(MAX_SHARED_DEBT, now, len, limit);
        bucket.ready_at(now, limit)
    }

    /// When the next frame may be taken, if that is later than `now`.
    #[must_use]
    pub fn ready_at(&self, now: Instant, network: Network, limit: &RateLimit) -> Option<Instant> {
        let (_, bucket) = self.entries.get(&network)?;
        bucket.ready_at(now, limit)
    }

    /// The bucket of this network, which is used now.
    fn bucket(&mut self, network: Network) -> &mut Bucket {
        if self.entries.len() >= MAX_NETWORKS && !self.entries.contains_key(&network) {
            if let Some((_, oldest)) = self.order.pop_first() {
                self.entries.remove(&oldest);
            }
        }
        self.uses += 1;
        let (used, bucket) = self.entries.entry(network).or_default();
        self.order.remove(used);
        *used = self.uses;
        self.order.insert(self.uses, network);
        bucket
    }

    /// How many networks are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "the origin of a virtual clock")]
    fn origin() -> Instant {
        Instant::now()
    }

    const LIMIT: RateLimit = RateLimit {
        frames: Some(super::super::Rate {
            per_second: 1,
            burst: 2,
        }),
        bytes: None,
    };

    #[test]
    fn e13_a_million_networks_in_a_fixed_table() {
        let (mut table, now) = (RateTable::default(), origin());
        for n in 0..1_000_000 {
            assert!(table.take(now, Network::V6(n), 1, &LIMIT));
        }
        assert_eq!(table.len(), MAX_NETWORKS);
        assert_eq!(table.order.len(), MAX_NETWORKS);
        // Room for the entries, doubled once for those that were removed.
        let capacity = table.entries.capacity();
        assert!(capacity <= 4 * MAX_NETWORKS, "{capacity}");
    }

    #[test]
    fn e12_what_is_owed_together_is_forgiven_after_a_minute_and_less_is_not() {
        let (mut table, now) = (RateTable::default(), origin());
        let (flooded, modest) = (Network::V6(1), Network::V6(2));
        for _ in 0..1_000_000 {
            table.charge(now, flooded, 1, &LIMIT);
        }
        assert_eq!(
            table.ready_at(now, flooded, &LIMIT),
            Some(now + MAX_SHARED_DEBT + Duration::from_secs(1)),
            "the whole of it and the time of one token"
        );
        for _ in 0..12 {
            table.charge(now, modest, 1, &LIMIT);
        }
        let all = now + Duration::from_secs(12 - 2 + 1);
        assert_eq!(table.ready_at(now, modest, &LIMIT), Some(all));
    }

    #[test]
    fn e13_the_hasher_is_keyed_at_random() {
        fn keyed<K, V>(_: &HashMap<K, V, RandomState>) {}
        keyed(&RateTable::default().entries);
    }

    #[test]
    fn e13_whoever_sends_on_is_not_forgotten_for_others() {
        let (mut table, now) = (RateTable::default(), origin());
        let loud = Network::V6(u64::MAX);
        assert!(table.take(now, loud, 1, &LIMIT) && table.take(now, loud, 1, &LIMIT));
        for n in 0..70_000 {
            table.take(now, Network::V6(n), 1, &LIMIT);
            assert!(
                !table.take(now, loud, 1, &LIMIT),
                "its bucket is empty, and kept"
            );
        }
    }

    #[test]
    fn e12_what_is_charged_for_a_network_delays_the_next_of_it_and_of_no_other() {
        let (mut table, now) = (RateTable::default(), origin());
        let [mine, other] = [Network::V6(1), Network::V6(2)];
        assert_eq!(table.ready_at(now, mine, &LIMIT), None);
        let waits: Vec<_> = (0..4)
            .map(|_| table.charge(now, mine, 1, &LIMIT).map(|at| at - now))
            .collect();
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(waits, [None, seconds(1), seconds(2), seconds(3)]);
        assert!(table.ready_at(now, mine, &LIMIT).is_some());
        assert_eq!(table.ready_at(now, other, &LIMIT), None);
        assert_eq!(table.charge(now, other, 1, &LIMIT), None);
    }

    #[test]
    fn e12_networks_do_not_share() {
        let (mut table, now) = (RateTable::default(), origin());
        for n in 0..10 {
            assert!(table.take(now, Network::V6(n), 1, &LIMIT));
            assert!(table.take(now, Network::V6(n), 1, &LIMIT));
            assert!(!table.take(now, Network::V6(n), 1, &LIMIT));
        }
    }
}
