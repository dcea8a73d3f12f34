//! What left and is not acknowledged yet, in the order in which it left, and when it counts as lost
//! (RFC 9002 6.1).

use super::congestion::Snapshot;
use super::traced::{LossRule, TraceItem};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Datagrams that may overtake one before it counts as lost.
const REORDER_COUNT: u64 = 3;

/// What a datagram carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// A message, by its number.
    Message(u64),
    /// A fragment of a set.
    Fragment {
        /// The set's number.
        set: u64,
        /// Its place.
        index: u64,
    },
}

impl From<Item> for TraceItem {
    fn from(item: Item) -> Self {
        match item {
            Item::Message(msg_id) => Self::Message { msg_id },
            Item::Fragment { set, index } => Self::Fragment {
                frag_id: set,
                index,
            },
        }
    }
}

/// One datagram that left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// When.
    pub at: Instant,
    /// With what.
    pub item: Item,
    /// Its bytes.
    pub len: usize,
    /// The state of the rate measurement then.
    pub snapshot: Snapshot,
    in_flight: bool,
}

/// See the module. Datagrams are numbered here; the number is not on the wire.
#[derive(Debug, Default)]
pub(super) struct SentLog {
    entries: VecDeque<Sent>,
    /// The number of the first entry.
    first: u64,
    in_flight: usize,
    /// The newest datagram that was acknowledged.
    largest_acked: Option<u64>,
}

impl SentLog {
    /// Bytes that are on their way.
    #[must_use]
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A datagram leaves; its number.
    pub(super) fn push(&mut self, at: Instant, item: Item, len: usize, snapshot: Snapshot) -> u64 {
        self.in_flight += len;
        self.entries.push_back(Sent {
            at,
            item,
            len,
            snapshot,
            in_flight: true,
        });
        self.first + self.entries.len() as u64 - 1
    }

    /// The datagram with this number, while it is remembered.
    #[must_use]
    pub(super) fn get(&self, number: u64) -> Option<&Sent> {
        let index = number.checked_sub(self.first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Whether it is on its way.
    #[must_use]
    pub(super) fn is_in_flight(&self, number: u64) -> bool {
        self.get(number).is_some_and(|entry| entry.in_flight)
    }

    /// It is no longer on its way.
    pub(super) fn finish(&mut self, number: u64) {
        let index = number.checked_sub(self.first);
        let entry = index.and_then(|index| self.entries.get_mut(index as usize));
        if let Some(entry) = entry.filter(|entry| entry.in_flight) {
            entry.in_flight = false;
            self.in_flight -= entry.len;
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| !entry.in_flight) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// It was acknowledged: what left long before it and was not, is lost.
    pub(super) fn acknowledged(&mut self, number: u64) {
        self.largest_acked = self.largest_acked.max(Some(number));
    }

    /// Takes what is lost out; when the next will be, if nothing is acknowledged until then.
    pub(super) fn detect_lost(
        &mut self,
        now: Instant,
        delay: Duration,
        mut on_lost: impl FnMut(Item, usize, LossRule),
    ) -> Option<Instant> {
        let largest = self.largest_acked?;
        let mut next = None;
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let number = self.first + index as u64;
            if number >= largest {
                break;
            }
            if !entry.in_flight {
                continue;
            }
            let lost_at = entry.at.checked_add(delay);
            let rule = if largest - number >= REORDER_COUNT {
                LossRule::Reorder
            } else if lost_at.is_some_and(|at| at <= now) {
                LossRule::Time
            } else {
                next = lost_at;
                break;
            };
            entry.in_flight = false;
            self.in_flight -= entry.len;
            on_lost(entry.item, entry.len, rule);
        }
        self.trim();
        next
    }

    /// Takes the newest out that is on its way, to be sent again, without taking it for lost.
    pub(super) fn take_newest(&mut self) -> Option<Item> {
        let newest = self
            .entries
            .iter_mut()
            .rev()
            .find(|entry| entry.in_flight)?;
        newest.in_flight = false;
        self.in_flight -= newest.len;
        let item = newest.item;
        self.trim();
        Some(item)
    }

    /// Takes everything out that left before `before`: nothing was heard of it for too long.
    pub(super) fn take_older(&mut self, before: Instant, mut on_lost: impl FnMut(Item, usize)) {
        for entry in &mut self.entries {
            if entry.at > before {
                break;
            }
            if entry.in_flight {
                entry.in_flight = false;
                self.in_flight -= entry.len;
                on_lost(entry.item, entry.len);
            }
        }
        self.trim();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.first += self.entries.len() as u64;
        self.entries.clear();
        self.in_flight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;
    use crate::proto::datagram::congestion::DeliveryRate;

    const DELAY: Duration = Duration::from_millis(9);

    fn log(count: u64) -> (SentLog, Instant) {
        let now = clock::now();
        let snapshot = DeliveryRate::new(now).on_sent(now, 0);
        let mut log = SentLog::default();
        for n in 0..count {
            let at = now + Duration::from_millis(n);
            assert_eq!(log.push(at, Item::Message(n), 100, snapshot), n);
        }
        (log, now)
    }

    fn lost(log: &mut SentLog, now: Instant) -> (Vec<Item>, Option<Instant>) {
        let mut items = Vec::new();
        let next = log.detect_lost(now, DELAY, |item, _, _| items.push(item));
        (items, next)
    }

    #[test]
    fn three_later_ones_make_it_lost_two_do_not() {
        let (mut log, now) = log(10);
        for number in [1, 2] {
            log.finish(number);
            log.acknowledged(number);
        }
        assert_eq!(lost(&mut log, now), (vec![], Some(now + DELAY)));
        log.finish(3);
        log.acknowledged(3);
        assert_eq!(lost(&mut log, now), (vec![Item::Message(0)], None));
        assert_eq!(log.in_flight(), 600);
    }

    #[test]
    fn time_makes_it_lost_too() {
        let (mut log, now) = log(2);
        log.finish(1);
        log.acknowledged(1);
        let just_before = now + DELAY - Duration::from_micros(1);
        assert_eq!(lost(&mut log, just_before), (vec![], Some(now + DELAY)));
        assert_eq!(lost(&mut log, now + DELAY), (vec![Item::Message(0)], None));
        assert_eq!(log.in_flight(), 0);
    }

    #[test]
    fn the_newest_is_taken_out_once() {
        let (mut log, _) = log(2);
        assert_eq!(log.take_newest(), Some(Item::Message(1)));
        assert_eq!(log.take_newest(), Some(Item::Message(0)));
        assert_eq!((log.take_newest(), log.in_flight()), (None, 0));
    }

    #[test]
    fn what_nobody_overtook_is_not_lost() {
        let (mut log, now) = log(5);
        assert_eq!(lost(&mut log, now + DELAY * 100), (vec![], None));
        log.take_older(now + Duration::from_millis(2), |_, _| ());
        assert_eq!(log.in_flight(), 200);
        log.clear();
        assert_eq!((log.in_flight(), log.get(4).is_none()), (0, true));
    }
}
