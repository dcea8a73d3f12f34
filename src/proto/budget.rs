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

/// Reads that may bring little.
const MAX_TINY_COUNT: u64 = 10_000;
/// What more of them must bring on average (bytes).
const MIN_MEAN_LEN: u64 = 16;
/// Below this, a connection is quiet, not hostile (bytes).
const FREE_LEN: u64 = 64 * 1024;
/// Reads that a frame may take before any of them counts: its fixed header, headers, payload and
/// trailer may have been written one by one.
const FREE_PIECES: u64 = 4;

/// Watches for a peer that makes us read a byte at a time.
///
/// Only reads that end no frame count: a connection of small frames that come one by one is what
/// the protocol is for, however long it lives. Counted are therefore pieces of frames, and of TLS
/// records, where there are more of them than a frame has parts.
#[derive(Debug, Clone, Copy, Default)]
pub struct TinyReads {
    count: u64,
    len: u64,
    /// Those since the last frame ended.
    frame_count: u64,
    frame_len: u64,
}

impl TinyReads {
    /// Notes a read after which a frame is still incomplete.
    ///
    /// # Errors
    /// [`Overrun::TinyReads`] at the read that exceeds the budget.
    pub fn on_partial_read(&mut self, len: usize) -> Result<(), Overrun> {
        self.frame_count += 1;
        self.frame_len = self.frame_len.saturating_add(len as u64);
        let (count, len) = (
            self.count + self.frame_count,
            self.len.saturating_add(self.frame_len),
        );
        if count > MAX_TINY_COUNT && len >= FREE_LEN && len < count * MIN_MEAN_LEN {
            return Err(Overrun::TinyReads);
        }
        Ok(())
    }

    /// Notes that the frame has ended.
    #[inline]
    pub fn on_frame(&mut self) {
        if self.frame_count > FREE_PIECES {
            self.count += self.frame_count;
            self.len = self.len.saturating_add(self.frame_len);
        }
        self.frame_count = 0;
        self.frame_len = 0;
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

    #[test]
    fn b12_the_read_after_ten_thousand_is_the_first_that_can_be_too_many() {
        let mut tiny = TinyReads::default();
        let cut = (1..).find(|_| tiny.on_partial_read(15).is_err());
        assert_eq!(cut, Some(10_001));
        let mut quiet = TinyReads::default();
        assert!((1..FREE_LEN).all(|_| quiet.on_partial_read(1).is_ok()));
    }

    #[test]
    fn b12_frames_in_as_many_pieces_as_they_have_parts_are_honest_and_in_more_are_not() {
        let read = |pieces: usize, len: usize| {
            let mut tiny = TinyReads::default();
            (0..100_000).all(|_| {
                let read = (0..pieces).all(|_| tiny.on_partial_read(len).is_ok());
                tiny.on_frame();
                read
            })
        };
        assert!(read(1, 11), "the fixed header, then the rest");
        assert!(read(4, 3));
        // Frames of 15 bytes, the smallest there are, a byte at a time.
        assert!(!read(14, 1));
        assert!(!read(5, 3));
    }
}
