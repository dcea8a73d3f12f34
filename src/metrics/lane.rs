//! Counters of one connection that one thread at a time adds to: plain loads and stores, no read-modify-write.
//!
//! A lane has cache lines of its own, so that the thread that sends and the one that receives do not take them
//! from each other.

use crate::proto::tally::{self, BUCKET_COUNT, KIND_COUNT, Tally, Times};
use crate::wire::FrameType;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Adds to a counter that nobody else adds to meanwhile.
#[inline]
fn bump(counter: &AtomicU64, by: u64) {
    let value = counter.load(Ordering::Relaxed);
    counter.store(value.wrapping_add(by), Ordering::Relaxed);
}

/// Frames and bytes of one direction of a connection. Whoever adds must be alone in that, by owning the
/// direction; anybody may read.
// Two lines: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Lane {
    frames: [AtomicU64; KIND_COUNT],
    bytes: [AtomicU64; KIND_COUNT],
    is_off: bool,
}

impl Lane {
    /// Counts nothing from now on.
    pub(crate) const fn switch_off(&mut self) {
        self.is_off = true;
    }

    /// Counts a frame of this length (bytes).
    #[inline]
    pub fn note(&self, typ: FrameType, len: usize) {
        if self.is_off {
            return;
        }
        let kind = tally::kind(typ);
        bump(&self.frames[kind], 1);
        bump(&self.bytes[kind], len as u64);
    }

    /// Counts frames that were tallied elsewhere.
    pub fn note_all(&self, tally: &Tally) {
        if self.is_off {
            return;
        }
        for kind in (0..KIND_COUNT).filter(|kind| tally.frames[*kind] > 0) {
            bump(&self.frames[kind], tally.frames[kind]);
            bump(&self.bytes[kind], tally.bytes[kind]);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            frames: std::array::from_fn(|kind| self.frames[kind].load(Ordering::Relaxed)),
            bytes: std::array::from_fn(|kind| self.bytes[kind].load(Ordering::Relaxed)),
        }
    }
}

/// Durations of one thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct TimeLane {
    buckets: [AtomicU64; BUCKET_COUNT],
    sum: AtomicU64,
}

impl TimeLane {
    /// Counts a duration.
    pub fn note(&self, time: Duration) {
        let (bucket, nanos) = tally::bucket(time);
        bump(&self.buckets[bucket], 1);
        bump(&self.sum, nanos);
    }

    /// What was counted so far.
    #[must_use]
    pub fn times(&self) -> Times {
        Times {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}
