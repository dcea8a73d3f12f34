//! Times, counted in classes that are at most 1/32 wide: the distribution of any number of round trips in 16 KiB.

use std::time::Duration;

/// Classes for each power of two.
const SUB: usize = 32;
const SUB_BITS: u32 = SUB.trailing_zeros();

#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; SUB * (65 - SUB_BITS as usize)],
            total: 0,
            max: 0,
        }
    }

    pub(super) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[class(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The time that this share of all was not over; `None` without any.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        if self.total == 0 {
            return None;
        }
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_nanos(upper(class).min(self.max)));
            }
        }
        Some(Duration::from_nanos(self.max))
    }
}

fn class(value: u64) -> usize {
    if value < SUB as u64 {
        return value as usize;
    }
    let power = value.ilog2() - SUB_BITS;
    let part = (value >> power) as usize - SUB;
    SUB * (power as usize + 1) + part
}

/// The largest value of a class.
fn upper(class: usize) -> u64 {
    if class < SUB {
        return class as u64;
    }
    let power = (class / SUB - 1) as u32;
    let part = (SUB + class % SUB) as u64;
    let first = part << power;
    first + ((1_u64 << power) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_narrow_and_in_order() {
        for value in [0, 1, 31, 32, 33, 1000, 123_456, 9_999_999_999, u64::MAX] {
            let end = upper(class(value));
            assert!(
                end >= value && (end - value) as f64 <= value as f64 / SUB as f64,
                "{value}"
            );
        }
    }

    #[test]
    fn quantiles() {
        let mut all = Histogram::new();
        assert_eq!(all.quantile(0.5), None);
        for micros in 1..=1000 {
            all.record(Duration::from_micros(micros));
        }
        let near = |share, micros: f64| {
            let found = all.quantile(share).expect("there are times").as_secs_f64() * 1e6;
            assert!((found - micros).abs() <= micros / 30.0, "{share}: {found}");
        };
        near(0.5, 500.0);
        near(0.99, 990.0);
        assert_eq!(all.quantile(1.0), Some(Duration::from_millis(1)));
    }
}
