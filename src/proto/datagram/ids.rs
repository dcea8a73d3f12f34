//! Tables keyed by numbers that this side has chosen itself.
//!
//! Nobody else can choose the keys, so they need no protection against collisions: where they come in order
//! a queue is the table ([`Rising`]), elsewhere one multiplication is hash enough ([`IdMap`]).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Places of values that are gone, kept for so many at least before they are given up.
const MIN_GONE_COUNT: usize = 64;

/// Values by numbers that rise from one to the next, as a rule by one.
///
/// The place of a number is then its distance from the first. Where numbers were left out, because they
/// went to another peer, a binary search finds it.
#[derive(Debug)]
pub struct Rising<T> {
    /// In the order of the numbers, `None` where the value is gone; neither end is.
    entries: VecDeque<(u64, Option<T>)>,
    count: usize,
}

impl<T> Default for Rising<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            count: 0,
        }
    }
}

impl<T> Rising<T> {
    /// How many values there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a value at the end, whose number must be above all others.
    pub fn push(&mut self, number: u64, value: T) {
        debug_assert!(self.entries.back().is_none_or(|(last, _)| *last < number));
        self.entries.push_back((number, Some(value)));
        self.count += 1;
    }

    #[inline]
    fn place(&self, number: u64) -> Option<usize> {
        let (first, _) = self.entries.front()?;
        let ahead = usize::try_from(number.checked_sub(*first)?).ok()?;
        if self.entries.get(ahead).is_some_and(|(at, _)| *at == number) {
            return Some(ahead);
        }
        let found = self.entries.binary_search_by_key(&number, |(at, _)| *at);
        found.ok()
    }

    /// The value with this number.
    #[must_use]
    #[inline]
    pub fn get(&self, number: u64) -> Option<&T> {
        self.entries[self.place(number)?].1.as_ref()
    }

    /// The same, to change.
    #[inline]
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let place = self.place(number)?;
        self.entries[place].1.as_mut()
    }

    /// Takes a value out.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.place(number)?;
        let value = self.entries[place].1.take()?;
        self.count -= 1;
        while self.entries.front().is_some_and(|(_, v)| v.is_none()) {
            self.entries.pop_front();
        }
        while self.entries.back().is_some_and(|(_, v)| v.is_none()) {
            self.entries.pop_back();
        }
        // One value that stays must not keep the places of all that came after it.
        if self.entries.len() > 2 * self.count + MIN_GONE_COUNT {
            self.entries.retain(|(_, value)| value.is_some());
        }
        Some(value)
    }

    /// The values in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let entries = self.entries.iter();
        entries.filter_map(|(number, value)| Some((*number, value.as_ref()?)))
    }
}

/// A map from our own numbers.
pub(super) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Spreads numbers that rise by one over all bits (Fibonacci hashing).
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        // The map looks at the top bits and at the bottom ones; the bottom ones are poor.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rising_table_equals_a_map() {
        use std::collections::BTreeMap;
        for seed in 1..200_u64 {
            let mut state = seed;
            let mut next = move |most: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005);
                state = state.wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % most
            };
            let (mut table, mut model) = (Rising::default(), BTreeMap::new());
            let mut number = 1 << 40;
            for _ in 0..2000 {
                if next(5) < 2 {
                    // Most in a row, some left out, most of them in other runs.
                    number += 1 + if next(20) < seed % 20 { next(50) } else { 0 };
                    table.push(number, number);
                    model.insert(number, number);
                } else {
                    let some = number.saturating_sub(next(300));
                    assert_eq!(table.get(some), model.get(&some));
                    assert_eq!(table.get_mut(some), model.get_mut(&some));
                    assert_eq!(table.remove(some), model.remove(&some));
                }
                assert_eq!(
                    (table.len(), table.is_empty()),
                    (model.len(), model.is_empty())
                );
                assert!(table.entries.len() <= 2 * table.len() + MIN_GONE_COUNT);
            }
            let all: Vec<u64> = table.iter().map(|(number, _)| number).collect();
            assert!(all.iter().eq(model.keys()), "seed {seed}");
            assert_eq!((table.get(0), table.get(u64::MAX)), (None, None));
        }
    }

    #[test]
    fn numbers_in_a_row_spread_over_a_table() {
        let mut slots = std::collections::HashSet::new();
        for n in 0..1024_u64 {
            let mut hasher = IdHasher::default();
            hasher.write_u64((1 << 40) + n);
            slots.insert(hasher.finish() % 4096);
        }
        assert!(slots.len() > 800, "{}", slots.len());
    }
}
