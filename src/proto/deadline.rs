//! How long a frame may take: a base, and more for every byte, up to a cap (spec 3.8).
//!
//! A fixed time would either cut off large frames on slow links or let a peer that sends a byte a
//! second hold a connection for as long as it likes.

use std::time::Duration;

/// Slowest honest rate (bytes a second).
const MIN_RATE: u64 = 4 * 1024;
/// No frame may take longer.
const CAP: Duration = Duration::from_secs(300);

/// The time that one frame may take from its first byte to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameDeadline {
    /// What even an empty frame gets.
    pub base: Duration,
}

impl FrameDeadline {
    /// For a frame that arrives: 10 s and its bytes at 4 KiB/s.
    #[must_use]
    pub const fn reading() -> Self {
        Self {
            base: Duration::from_secs(10),
        }
    }

    /// For a frame that is written: 30 s and its bytes at 4 KiB/s.
    #[must_use]
    pub const fn writing() -> Self {
        Self {
            base: Duration::from_secs(30),
        }
    }

    /// The time for a frame of this length (bytes), 300 s at most, or the base if that is more.
    #[must_use]
    pub fn allowance(&self, len: usize) -> Duration {
        let more = Duration::from_millis((len as u64).saturating_mul(1000) / MIN_RATE);
        self.base.saturating_add(more).min(CAP.max(self.base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn b09_an_honest_slow_peer_passes_and_a_dripping_one_does_not() {
        let allowed = FrameDeadline::reading().allowance(MIB);
        assert!(
            Duration::from_secs(MIB as u64 / 8192) < allowed,
            "1 MiB at 8 KiB/s"
        );
        assert!(
            Duration::from_secs(MIB as u64 / 1024) > allowed,
            "1 MiB at 1 KiB/s"
        );
    }

    #[test]
    fn h03_extremes_neither_panic_nor_overflow() {
        for base in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            for len in [0, 1, usize::MAX] {
                let allowed = FrameDeadline { base }.allowance(len);
                assert!(allowed >= base && allowed <= CAP.max(base));
            }
        }
    }
}
