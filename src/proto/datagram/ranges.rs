//! [`RangeSet`]: which numbers are in, kept as ranges.
//!
//! Numbers that rise by one cost one entry however many they are, so this holds the ids of a
//! session's life and the fragments of a set alike.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of numbers; adjoining ranges are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::proto) struct RangeSet {
    /// Start to end, the end not included. Neither empty nor touching.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds one number; whether it was new.
    pub(in crate::proto) fn insert(&mut self, value: u64) -> bool {
        let mut new = false;
        self.insert_range(value..value.saturating_add(1), |_| new = true);
        new
    }

    /// Adds a range; `on_new` gets each part that was not there, in order.
    pub(super) fn insert_range(&mut self, add: Range<u64>, mut on_new: impl FnMut(Range<u64>)) {
        if add.is_empty() {
            return;
        }
        let (mut start, mut end) = (add.start, add.end);
        // The range before, if it reaches us.
        if let Some((&s, e)) = self.ranges.range_mut(..=add.start).next_back() {
            if *e >= add.end {
                return;
            }
            if *e >= add.start {
                // Growing at the end is what happens when nothing is lost: no entry is touched but this.
                let from = *e;
                let next = self.ranges.range(from + 1..=add.end).next();
                if next.is_none() {
                    on_new(from..add.end);
                    self.ranges.insert(s, add.end);
                    return;
                }
                start = s;
            }
        }
        let mut at = match self.ranges.get(&start) {
            Some(&e) if start < add.start => e,
            _ => add.start,
        };
        while let Some((&s, &e)) = self.ranges.range(at..=end).next() {
            if s > at {
                on_new(at..s.min(add.end));
            }
            self.ranges.remove(&s);
            at = e;
            end = end.max(e);
            if at >= add.end {
                break;
            }
        }
        if at < add.end {
            on_new(at..add.end);
        }
        self.ranges.insert(start, end);
    }

    /// Whether the number is in.
    #[must_use]
    pub(super) fn contains(&self, value: u64) -> bool {
        let before = self.ranges.range(..=value).next_back();
        before.is_some_and(|(_, &end)| value < end)
    }

    /// The end of the range that begins at 0: the first number that is missing.
    #[must_use]
    pub(super) fn prefix_end(&self) -> u64 {
        self.ranges.get(&0).copied().unwrap_or(0)
    }

    /// One more than the largest number, 0 when there is none.
    #[must_use]
    pub(super) fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// The ranges, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// What is missing below `end`, lowest first.
    pub(super) fn gaps(&self, end: u64) -> impl Iterator<Item = Range<u64>> {
        let mut at = 0;
        let last = std::iter::once(end..end);
        self.iter().chain(last).filter_map(move |range| {
            let gap = at..range.start.min(end);
            at = range.end;
            (!gap.is_empty()).then_some(gap)
        })
    }

    /// How many ranges there are.
    #[must_use]
    pub(in crate::proto) fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// Takes the lowest range out.
    pub(in crate::proto) fn pop_first(&mut self) -> Option<Range<u64>> {
        self.ranges.pop_first().map(|(start, end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A linear congruential generator: enough to mix numbers, and the same every time.
    fn next(state: &mut u64) -> u64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn equals_a_hash_set_whatever_is_added() {
        for seed in 0..300 {
            let mut state = seed;
            let (mut ranges, mut model) = (RangeSet::default(), HashSet::new());
            for _ in 0..200 {
                let start = next(&mut state) % 120;
                let end = start + next(&mut state) % 8;
                let mut new = Vec::new();
                ranges.insert_range(start..end, |part| new.extend(part));
                let expected: Vec<u64> = (start..end).filter(|v| model.insert(*v)).collect();
                assert_eq!(new, expected, "seed {seed}: {start}..{end}");
                for value in 0..130 {
                    assert_eq!(ranges.contains(value), model.contains(&value), "{value}");
                }
                let all: Vec<Range<u64>> = ranges.iter().collect();
                assert!(all.windows(2).all(|w| w[0].end < w[1].start), "{all:?}");
                let missing: Vec<u64> = ranges.gaps(130).flatten().collect();
                let absent: Vec<u64> = (0..130).filter(|v| !model.contains(v)).collect();
                assert_eq!(missing, absent);
            }
        }
    }

    #[test]
    fn numbers_in_a_row_are_one_range() {
        let mut ranges = RangeSet::default();
        for value in 0..100_000 {
            assert!(ranges.insert(value));
            assert!(!ranges.insert(value));
        }
        assert_eq!((ranges.range_count(), ranges.prefix_end()), (1, 100_000));
    }

    #[test]
    fn the_largest_number_cannot_be_told_and_does_no_harm() {
        let mut ranges = RangeSet::default();
        assert!(!ranges.insert(u64::MAX));
        assert!(ranges.insert(u64::MAX - 1));
    }
}
