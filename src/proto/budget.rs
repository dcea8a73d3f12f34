//! Budgets for what is cheap to send and costly to take (spec 3.9).

use super::error::Overrun;
use std::time::{Duration, Instant};

/// So many at once, and one more for every `REFILL`.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_millis(100);

/// A token bucket: 20 at once, 10 more a second.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    tokens: u32,
    /// When the last token was added; `None` while the bucket is full.
    refilled: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tokens: BURST,
            refilled: None,
        }
    }
}

impl Budget {
    /// Takes one.
    ///
    /// # Errors
    /// [`Overrun::ControlFrames`] when none is left.
    pub fn take(&mut self, now: Instant) -> Result<(), Overrun> {
        if let Some(refilled) = self.refilled {
            let periods = now.saturating_duration_since(refilled).as_millis() / REFILL.as_millis();
            let periods = u32::try_from(periods).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(periods).min(BURST);
            self.refilled = if self.tokens == BURST {
                None
            } else {
                refilled.checked_add(REFILL * periods)
            };
        }
        self.tokens = self.tokens.checked_sub(1).ok_or(Overrun::ControlFrames)?;
        self.refilled.get_or_insert(now);
        Ok(())
    }
}

/// Reads in a row that may bring little.
const MAX_TINY_COUNT: u64 = 10_000;
/// What they must bring on average (bytes).
const MIN_MEAN_LEN: u64 = 16;
/// Below this, a connection is quiet, not hostile (bytes).
const FREE_LEN: u64 = 64 * 1024;

/// Watches for a peer that makes us read a byte at a time.
///
/// Only reads that end no frame count: a connection of small frames that come one by one is what
/// the protocol is for, however long it lives. Counted are therefore pieces of frames.
#[derive(Debug, Clone, Copy, Default)]
pub struct TinyReads {
    count: u64,
    len: u64,
}

impl TinyReads {
    /// Notes a read after which a frame is still incomplete.
    ///
    /// # Errors
    /// [`Overrun::TinyReads`] at the read that exceeds the budget.
    pub fn on_partial_read(&mut self, len: usize) -> Result<(), Overrun> {
        self.count += 1;
        self.len += len as u64;
        if self.count > MAX_TINY_COUNT
            && self.len >= FREE_LEN
            && self.len < self.count * MIN_MEAN_LEN
        {
            return Err(Overrun::TinyReads);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the origin of a virtual clock")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn e06_the_21st_at_once_is_one_too_many() {
        let (mut budget, now) = (Budget::default(), origin());
        for _ in 0..20 {
            assert_eq!(budget.take(now), Ok(()));
        }
        assert_eq!(budget.take(now), Err(Overrun::ControlFrames));
        assert_eq!(
            budget.take(now + REFILL),
            Ok(()),
            "one more after a tenth of a second"
        );
        assert_eq!(budget.take(now + REFILL), Err(Overrun::ControlFrames));
    }

    #[test]
    fn e06_nine_a_second_for_half_a_minute_is_fine() {
        let (mut budget, start) = (Budget::default(), origin());
        for n in 0..270 {
            assert_eq!(
                budget.take(start + Duration::from_millis(1000 * n / 9)),
                Ok(()),
                "{n}"
            );
        }
    }

    #[test]
    fn b12_a_byte_at_a_time_is_cut_and_small_frames_are_not() {
        let mut tiny = TinyReads::default();
        let cut = (1..).find(|_| tiny.on_partial_read(1).is_err());
        assert_eq!(cut, Some(FREE_LEN), "at the first read over both bounds");

        let mut honest = TinyReads::default();
        assert!((0..1_000_000).all(|_| honest.on_partial_read(16).is_ok()));
    }
}
