//! [`Backoff`]: how long to wait before the next attempt. Pure; time and seed are passed in.
//!
//! Full jitter: a random time up to a ceiling that doubles with each failure. Clients that lost the
//! same server so come back spread over the whole span and not together.

use std::time::Duration;

/// A connection that lived for so long was a good one: failures before it no longer count.
const STABLE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Ceilings from `first` on, doubling up to `longest`.
    pub(super) const fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self {
            first,
            longest,
            failures: 0,
            random: seed,
        }
    }

    /// An attempt failed, or a connection was lost: how long to wait before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random() % nanos.saturating_add(1))
    }

    /// The longest that [`next`](Self::next) may say.
    pub(super) fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// A connection lived for so long. A server that accepts and dies at once is still waited for ever
    /// longer.
    pub(super) fn lived(&mut self, time: Duration) {
        if time >= STABLE {
            self.reset();
        }
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// SplitMix64: spreads clients, and need not be unpredictable.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(FIRST, LONGEST, seed)
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_longest_and_stays_there() {
        let mut it = backoff(1);
        let mut expected = FIRST;
        for _ in 0..200 {
            assert_eq!(it.ceiling(), expected);
            assert!(it.next() <= expected);
            expected = (expected * 2).min(LONGEST);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_times_and_others_are_spread() {
        let times = |seed| {
            let mut it = backoff(seed);
            (0..20).map(|_| it.next()).collect::<Vec<_>>()
        };
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
        // Of 1,000 clients that wait for up to 100 ms, each tenth gets about a tenth.
        let mut tenths = [0; 10];
        for seed in 0..1000 {
            let wait = backoff(seed).next();
            tenths[(wait.as_micros() as usize / 10_000).min(9)] += 1;
        }
        assert!(tenths.iter().all(|n| (50..200).contains(n)), "{tenths:?}");
    }

    #[test]
    fn attempts_while_a_server_is_away_are_few() {
        // Ten minutes on a virtual clock, for many seeds.
        for seed in 0..100 {
            let (mut it, mut now, mut attempts) = (backoff(seed), Duration::ZERO, 0);
            while now < Duration::from_secs(600) {
                now += it.next();
                attempts += 1;
            }
            assert!((20..120).contains(&attempts), "{attempts} with seed {seed}");
        }
    }

    #[test]
    fn only_a_connection_that_lived_for_a_while_ends_the_backing_off() {
        let mut it = backoff(1);
        for _ in 0..5 {
            it.next();
        }
        it.lived(Duration::from_millis(5));
        assert_eq!(it.ceiling(), FIRST * 32, "accepted and dropped at once");
        it.lived(STABLE);
        assert_eq!(it.ceiling(), FIRST);
    }
}
