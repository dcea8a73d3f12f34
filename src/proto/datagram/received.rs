//! Which messages were delivered already, so that none is delivered twice (spec 4.6).

use super::ranges::RangeSet;
use std::collections::{HashMap, HashSet, VecDeque};

/// Ranges kept for one session, of either kind of messages; each gap is messages that went to other peers
/// of the sender, were cancelled, or are still on their way.
const MAX_RANGE_COUNT: usize = 4096;
/// Messages with REQ_ACK remembered for an address without a session.
const MAX_STRANGER_COUNT: usize = 1024;
/// Messages that are sent once, which only the network doubles.
const MAX_STRANGER_ONCE_COUNT: usize = 256;
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
///
/// Messages with REQ_ACK, which come again until they are acknowledged, are remembered apart from those
/// that are sent once: however many of the latter there are, none of the former is forgotten for them.
#[derive(Debug)]
pub(super) struct Received {
    promised: Memory,
    once: Memory,
}

impl Received {
    /// Of a session.
    #[must_use]
    pub(super) fn session() -> Self {
        let new = || Memory::Session {
            ids: RangeSet::default(),
            floor: 0,
        };
        Self {
            promised: new(),
            once: new(),
        }
    }

    /// Of an address without a session.
    #[must_use]
    pub(super) fn stranger() -> Self {
        let new = |most| Memory::Stranger {
            seen: HashSet::new(),
            order: VecDeque::new(),
            most,
        };
        Self {
            promised: new(MAX_STRANGER_COUNT),
            once: new(MAX_STRANGER_ONCE_COUNT),
        }
    }

    /// Whether a message was delivered; changes nothing.
    #[must_use]
    pub(super) fn seen(&self, id: u64, crc: u32, wants_ack: bool) -> Seen {
        match wants_ack {
            true => self.promised.seen(id, crc),
            false => self.once.seen(id, crc),
        }
    }

    /// Notes that a message was delivered.
    pub(super) fn deliver(&mut self, id: u64, crc: u32, wants_ack: bool) {
        match wants_ack {
            true => self.promised.deliver(id, crc),
            false => self.once.deliver(id, crc),
        }
    }
}

/// Ids of one kind of messages.
#[derive(Debug)]
enum Memory {
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
        /// So many at the most.
        most: usize,
    },
}

impl Memory {
    fn seen(&self, id: u64, crc: u32) -> Seen {
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

    fn deliver(&mut self, id: u64, crc: u32) {
        match self {
            Self::Session { ids, floor } => {
                ids.insert(id);
                if ids.range_count() > MAX_RANGE_COUNT {
                    if let Some(lowest) = ids.pop_first() {
                        *floor = lowest.end;
                    }
                }
            }
            Self::Stranger { seen, order, most } => {
                if seen.insert((id, crc)) {
                    order.push_back((id, crc));
                }
                if order.len() > *most {
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
            for wants_ack in [false, true] {
                assert_eq!(received.seen(id, 0, wants_ack), expected, "{id}");
                received.deliver(id, 0, wants_ack);
            }
        }
    }

    #[test]
    fn du15_what_is_forgotten_is_neither_new_nor_delivered() {
        let mut received = Received::session();
        for n in 0..=MAX_RANGE_COUNT as u64 {
            received.deliver(10 + 2 * n, 0, true);
        }
        assert_eq!(received.seen(10, 0, true), Seen::Forgotten);
        assert_eq!(received.seen(3, 0, true), Seen::Forgotten);
        assert_eq!(received.seen(3, 0, false), Seen::New, "of another kind");
        assert_eq!(received.seen(11, 0, true), Seen::New, "above the floor");
        assert_eq!(received.seen(12, 0, true), Seen::Delivered);
    }

    #[test]
    fn a_stranger_that_counts_from_one_again_is_heard() {
        let mut received = Received::stranger();
        received.deliver(1, 0xaaaa, true);
        assert_eq!(received.seen(1, 0xaaaa, true), Seen::Delivered);
        assert_eq!(received.seen(1, 0xbbbb, true), Seen::New);
        for wants_ack in [false, true] {
            for id in 0..2 * MAX_STRANGER_COUNT as u64 {
                received.deliver(id, 0, wants_ack);
            }
        }
        let Received { promised, once } = &received;
        for (memory, expected) in [
            (promised, MAX_STRANGER_COUNT),
            (once, MAX_STRANGER_ONCE_COUNT),
        ] {
            let Memory::Stranger { seen, order, .. } = memory else {
                panic!("it is a stranger")
            };
            assert_eq!((seen.len(), order.len()), (expected, expected));
        }
    }
}
