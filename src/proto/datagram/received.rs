//! Which messages were delivered already, so that none is delivered twice (spec 4.6).

use super::ranges::RangeSet;
use std::collections::{HashMap, HashSet, VecDeque};

/// Ranges kept for one session; each gap is messages that went to other peers of the sender, were
/// cancelled, or are still on their way.
const MAX_RANGE_COUNT: usize = 4096;
/// Messages remembered for an address without a session.
const MAX_STRANGER_COUNT: usize = 1024;
/// Sets remembered for one peer after they ended.
const MAX_ENDED_COUNT: usize = 1024;

/// What is known about an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Never seen.
    New,
    /// Delivered: acknowledge again, drop.
    Delivered,
    /// So old that nobody remembers: drop, and acknowledge nothing that may not have arrived.
    Forgotten,
}

/// The delivered message ids of one peer.
#[derive(Debug)]
pub(super) enum Received {
    /// Of a session: for its whole life, as ranges.
    Session {
        /// Delivered ids.
        ids: RangeSet,
        /// Ids below are forgotten.
        floor: u64,
    },
    /// Of an address without one: id and checksum of the frame, so that a peer that restarted and
    /// counts from 1 again is heard (spec 4.6).
    Stranger {
        /// What was delivered.
        seen: HashSet<(u64, u32)>,
        /// The same, oldest first.
        order: VecDeque<(u64, u32)>,
    },
}

impl Received {
    /// Of a session.
    #[must_use]
    pub(super) fn session() -> Self {
        Self::Session {
            ids: RangeSet::default(),
            floor: 0,
        }
    }

    /// Of an address without a session.
    #[must_use]
    pub(super) fn stranger() -> Self {
        Self::Stranger {
            seen: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether a message was delivered; changes nothing.
    #[must_use]
    pub(super) fn seen(&self, id: u64, crc: u32) -> Seen {
        match self {
            Self::Session { ids, floor } => {
                if ids.contains(id) {
                    Seen::Delivered
                } else if id < *floor {
                    Seen::Forgotten
                } else {
                    Seen::New
                }
            }
            Self::Stranger { seen, .. } if seen.contains(&(id, crc)) => Seen::Delivered,
            Self::Stranger { .. } => Seen::New,
        }
    }

    /// Notes that a message was delivered.
    pub(super) fn deliver(&mut self, id: u64, crc: u32) {
        match self {
            Self::Session { ids, floor } => {
                ids.insert(id);
                if ids.range_count() > MAX_RANGE_COUNT {
                    if let Some(lowest) = ids.pop_first() {
                        *floor = lowest.end;
                    }
                }
            }
            Self::Stranger { seen, order } => {
                if seen.insert((id, crc)) {
                    order.push_back((id, crc));
                }
                if order.len() > MAX_STRANGER_COUNT {
                    if let Some(oldest) = order.pop_front() {
                        seen.remove(&oldest);
                    }
                }
            }
        }
    }
}

/// Sets of fragments that ended, so that a late fragment starts nothing.
#[derive(Debug, Default)]
pub(super) struct EndedSets {
    /// The message that a set carried, when it was delivered and wants an acknowledgement.
    sets: HashMap<u64, Option<u64>>,
    order: VecDeque<u64>,
}

impl EndedSets {
    /// What became of a set: `None` when it did not end here, `Some(Some(msg_id))` when it was
    /// delivered and is to be acknowledged again.
    #[must_use]
    pub(super) fn get(&self, frag_id: u64) -> Option<Option<u64>> {
        self.sets.get(&frag_id).copied()
    }

    /// Notes the end of a set.
    pub(super) fn insert(&mut self, frag_id: u64, delivered: Option<u64>) {
        if self.sets.insert(frag_id, delivered).is_none() {
            self.order.push_back(frag_id);
        }
        if self.order.len() > MAX_ENDED_COUNT {
            if let Some(oldest) = self.order.pop_front() {
                self.sets.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn du15_equals_a_hash_set_at_the_edges_of_the_numbers() {
        let mut received = Received::session();
        let mut model = HashSet::new();
        let ids = [
            0,
            1,
            5,
            3,
            4,
            2,
            0,
            u64::MAX - 2,
            1 << 63,
            (1 << 63) - 1,
            7,
            7,
        ];
        for id in ids {
            let expected = if model.insert(id) {
                Seen::New
            } else {
                Seen::Delivered
            };
            assert_eq!(received.seen(id, 0), expected, "{id}");
            received.deliver(id, 0);
        }
    }

    #[test]
    fn du15_what_is_forgotten_is_neither_new_nor_delivered() {
        let mut received = Received::session();
        for n in 0..=MAX_RANGE_COUNT as u64 {
            received.deliver(10 + 2 * n, 0);
        }
        assert_eq!(received.seen(10, 0), Seen::Forgotten);
        assert_eq!(received.seen(3, 0), Seen::Forgotten);
        assert_eq!(received.seen(11, 0), Seen::New, "above the floor");
        assert_eq!(received.seen(12, 0), Seen::Delivered);
    }

    #[test]
    fn a_stranger_that_counts_from_one_again_is_heard() {
        let mut received = Received::stranger();
        received.deliver(1, 0xaaaa);
        assert_eq!(received.seen(1, 0xaaaa), Seen::Delivered);
        assert_eq!(received.seen(1, 0xbbbb), Seen::New);
        for id in 0..2 * MAX_STRANGER_COUNT as u64 {
            received.deliver(id, 0);
        }
        let Received::Stranger { seen, order } = &received else {
            panic!("it is a stranger")
        };
        assert_eq!(
            (seen.len(), order.len()),
            (MAX_STRANGER_COUNT, MAX_STRANGER_COUNT)
        );
    }
}
