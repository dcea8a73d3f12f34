//! How much one peer may send: a token bucket of frames and one of bytes (spec 3.11).
//!
//! Pure: the time comes in. The receiver of a stream asks [`Bucket::ready_at`] and reads on then; an
//! endpoint of datagrams asks [`Bucket::take`] and drops. The [`RateTable`] has the buckets of peers
//! that have nothing else to keep them in.

mod table;

pub use table::{MAX_NETWORKS, RateTable};

use std::time::{Duration, Instant};

/// So many a second, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Rate {
    per_second: u64,
    burst: u64,
}

/// How many frames and bytes a peer may send.
///
/// # Example
/// ```
/// use vstp::proto::rate::RateLimit;
/// // 100 frames a second, 200 at once; 1 MiB a second, 4 MiB at once.
/// let limit = RateLimit::default().frames(100, 200).bytes(1 << 20, 4 << 20);
/// assert_eq!(limit.check(), Ok(()));
/// assert!(RateLimit::default().check().is_err(), "it would limit nothing");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimit {
    frames: Option<Rate>,
    bytes: Option<Rate>,
}

impl RateLimit {
    /// So many frames a second, and so many at once after a pause.
    #[must_use]
    pub const fn frames(mut self, per_second: u64, burst: u64) -> Self {
        self.frames = Some(Rate { per_second, burst });
        self
    }

    /// So many bytes a second, and so many at once after a pause. A frame over the burst passes, and is
    /// paid for afterwards.
    #[must_use]
    pub const fn bytes(mut self, per_second: u64, burst: u64) -> Self {
        self.bytes = Some(Rate { per_second, burst });
        self
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// The reason why not, for people.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.frames.is_none() && self.bytes.is_none() {
            return Err("it limits nothing; use `frames`, `bytes`, or no limit");
        }
        let mut rates = self.frames.iter().chain(&self.bytes);
        if rates.any(|rate| rate.per_second == 0 || rate.burst == 0) {
            return Err("zero would let nothing pass");
        }
        Ok(())
    }
}

impl Rate {
    /// The time in which so many tokens come.
    fn time(self, tokens: u64) -> Duration {
        let nanos = u128::from(tokens) * 1_000_000_000 / u128::from(self.per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// When one token is there, for a bucket that is full again at `full_at`.
    fn ready_at(self, full_at: Instant) -> Option<Instant> {
        // A time so long ago that it cannot be told has passed.
        full_at.checked_sub(self.time(self.burst.saturating_sub(1)))
    }

    /// `most`: how long the next frame waits at most, whatever is owed.
    fn charge(self, full_at: &mut Option<Instant>, now: Instant, tokens: u64, most: Duration) {
        let from = full_at.map_or(now, |at| at.max(now));
        let at = from.checked_add(self.time(tokens)).unwrap_or(from);
        let last = now.checked_add(self.time(self.burst).saturating_add(most));
        *full_at = Some(last.map_or(at, |last| at.min(last)));
    }
}

/// What a peer may owe at most: longer than a connection lasts, short enough for the clock.
const MAX_DEBT: Duration = Duration::from_secs(24 * 3600);
/// What those may owe at most who share a bucket: whoever has spent the share of the others and left shall
/// not have shut them out for long.
pub const MAX_SHARED_DEBT: Duration = Duration::from_secs(60);

/// The tokens of one peer: of each kind the time at which the bucket is full again, which says all (the
/// generic cell rate algorithm, ITU-T I.371). A new one is full.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    frames: Option<Instant>,
    bytes: Option<Instant>,
}

impl Bucket {
    /// When the next frame may come, if that is later than `now`.
    #[must_use]
    pub fn ready_at(&self, now: Instant, limit: &RateLimit) -> Option<Instant> {
        let of = |rate: Option<Rate>, full_at: Option<Instant>| rate?.ready_at(full_at?);
        let frames = of(limit.frames, self.frames);
        let bytes = of(limit.bytes, self.bytes);
        frames.max(bytes).filter(|at| *at > now)
    }

    /// Takes the tokens of a frame of so many bytes. Its length may exceed what is there: then the next
    /// frame waits for longer.
    pub fn charge(&mut self, now: Instant, len: usize, limit: &RateLimit) {
        self.charge_up_to(MAX_DEBT, now, len, limit);
    }

    fn charge_up_to(&mut self, most: Duration, now: Instant, len: usize, limit: &RateLimit) {
        if let Some(rate) = limit.frames {
            rate.charge(&mut self.frames, now, 1, most);
        }
        if let Some(rate) = limit.bytes {
            rate.charge(&mut self.bytes, now, len as u64, most);
        }
    }

    /// Takes the tokens of a frame if it may come now; whether it may.
    pub fn take(&mut self, now: Instant, len: usize, limit: &RateLimit) -> bool {
        let may = self.ready_at(now, limit).is_none();
        if may {
            self.charge(now, len, limit);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the origin of a virtual clock")]
    fn origin() -> Instant {
        Instant::now()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn e12_the_burst_passes_at_once_and_then_the_rate() {
        let limit = RateLimit::default().frames(10, 5);
        let (mut bucket, start) = (Bucket::default(), origin());
        let at_once = (0..100).filter(|_| bucket.take(start, 1, &limit)).count();
        assert_eq!(at_once, 5);
        assert_eq!(bucket.ready_at(start, &limit), Some(start + SECOND / 10));
        let just_before = start + SECOND / 10 - Duration::from_nanos(1);
        assert!(!bucket.take(just_before, 1, &limit));
        assert!(bucket.take(start + SECOND / 10, 1, &limit));
        assert!(!bucket.take(start + SECOND / 10, 1, &limit));
        // After a pause of any length it is full, and not more than that.
        let later = start + 3600 * SECOND;
        assert_eq!(
            (0..100).filter(|_| bucket.take(later, 1, &limit)).count(),
            5
        );
    }

    #[test]
    fn e12_a_hundred_times_the_rate_passes_at_the_rate() {
        let limit = RateLimit::default().frames(100, 10);
        let (mut bucket, start) = (Bucket::default(), origin());
        let passed = (0..100_000u32)
            .filter(|n| bucket.take(start + SECOND * *n / 10_000, 1, &limit))
            .count();
        assert!((1000..=1010).contains(&passed), "{passed} in ten seconds");
    }

    #[test]
    fn e12_whoever_keeps_to_the_rate_never_waits() {
        let limit = RateLimit::default().frames(100, 1).bytes(100_000, 1000);
        let (mut bucket, start) = (Bucket::default(), origin());
        for n in 0..10_000u32 {
            assert!(bucket.take(start + SECOND * n / 100, 1000, &limit), "{n}");
        }
    }

    #[test]
    fn e12_a_frame_over_the_burst_passes_and_is_paid_for() {
        let limit = RateLimit::default().bytes(1000, 100);
        let (mut bucket, start) = (Bucket::default(), origin());
        assert!(bucket.take(start, 10_000, &limit));
        let ready = bucket.ready_at(start, &limit).expect("it is in debt");
        let wait = ready - start;
        assert!(wait > 9 * SECOND && wait < 10 * SECOND, "{wait:?}");
        assert!(!bucket.take(ready - Duration::from_nanos(1), 1, &limit));
        assert!(bucket.take(ready, 1, &limit));
    }

    #[test]
    fn h03_extremes_neither_panic_nor_overflow() {
        let start = origin();
        for n in [1, u64::MAX] {
            for burst in [1, u64::MAX] {
                let limit = RateLimit::default().frames(n, burst).bytes(n, burst);
                let mut bucket = Bucket::default();
                for len in [0, 1, usize::MAX, usize::MAX] {
                    bucket.charge(start, len, &limit);
                    let _ = bucket.take(start + 3600 * SECOND, len, &limit);
                    // A clock that goes back.
                    let _ = bucket.take(start, len, &limit);
                }
            }
        }
    }

    #[test]
    fn senseless_limits_are_named() {
        assert!(RateLimit::default().check().is_err());
        for limit in [
            RateLimit::default().frames(0, 1),
            RateLimit::default().frames(1, 0),
            RateLimit::default().frames(1, 1).bytes(0, 1),
        ] {
            assert!(limit.check().is_err(), "{limit:?}");
        }
        assert_eq!(RateLimit::default().frames(1, 1).check(), Ok(()));
    }
}
