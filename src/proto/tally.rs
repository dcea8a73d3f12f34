//! Plain numbers that are counted per frame type and per duration: [`Tally`] and [`Times`].
//!
//! Values without atomics, for whoever counts under a lock or in one thread; [`crate::metrics`] adds them up.

use crate::wire::{FixedHeader, FrameType, Limits, Trailer};
use std::time::Duration;

/// How many types of frames are told apart: all custom ones are one.
pub const KIND_COUNT: usize = 9;
/// Their names, as metrics use them.
pub const KINDS: [&str; KIND_COUNT] = [
    "hello", "welcome", "data", "ping", "pong", "bye", "ack", "err", "custom",
];
const DATA: usize = 2;
const CUSTOM: usize = 8;

/// The place of a type among [`KINDS`].
#[must_use]
#[inline]
pub const fn kind(typ: FrameType) -> usize {
    match typ {
        FrameType::Custom(_) => CUSTOM,
        typ => typ.as_u8() as usize - 1,
    }
}

/// Frames and their bytes, by type.
///
/// # Example
/// ```
/// use vstp::FrameType;
/// use vstp::proto::tally::Tally;
/// let mut tally = Tally::default();
/// tally.note(FrameType::Data, 75);
/// tally.note(FrameType::Ping, 11);
/// assert_eq!((tally.frames(FrameType::Data), tally.frame_total()), (1, 2));
/// assert_eq!((tally.bytes(FrameType::Data), tally.byte_total()), (75, 86));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub(crate) frames: [u64; KIND_COUNT],
    pub(crate) bytes: [u64; KIND_COUNT],
}

impl Tally {
    /// Counts a frame of this length (bytes, all parts).
    #[inline]
    pub const fn note(&mut self, typ: FrameType, len: usize) {
        let kind = kind(typ);
        self.frames[kind] += 1;
        self.bytes[kind] += len as u64;
    }

    /// Undoes [`Self::note`].
    pub(crate) const fn take_back(&mut self, typ: FrameType, len: usize) {
        let kind = kind(typ);
        self.frames[kind] -= 1;
        self.bytes[kind] -= len as u64;
    }

    /// Counts the frames of a datagram that this side has made.
    pub(crate) fn note_datagram(&mut self, datagram: &[u8], trailer: Trailer) {
        let limits = Limits {
            max_frame_len: datagram.len(),
            ..Limits::default()
        };
        let mut rest = datagram;
        while let Ok(Some(head)) = FixedHeader::parse(rest, trailer, &limits) {
            self.note(head.typ, head.frame_len);
            rest = rest.get(head.frame_len..).unwrap_or_default();
        }
    }

    /// Frames of this type; every custom type counts as one.
    #[must_use]
    pub const fn frames(&self, typ: FrameType) -> u64 {
        self.frames[kind(typ)]
    }

    /// Bytes of the frames of this type.
    #[must_use]
    pub const fn bytes(&self, typ: FrameType) -> u64 {
        self.bytes[kind(typ)]
    }

    /// Frames of all types.
    #[must_use]
    pub fn frame_total(&self) -> u64 {
        self.frames.iter().sum()
    }

    /// Bytes of all frames.
    #[must_use]
    pub fn byte_total(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// Frames that carry messages of the application: DATA and custom types.
    #[must_use]
    pub const fn message_total(&self) -> u64 {
        self.frames[DATA] + self.frames[CUSTOM]
    }
}

/// Upper bounds of the buckets of [`Times`] (nanoseconds, inclusive); one more bucket has no bound.
pub const BOUNDS: [u64; 18] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];
/// Buckets of [`Times`].
pub const BUCKET_COUNT: usize = BOUNDS.len() + 1;

/// The bucket of a duration, and its nanoseconds.
#[must_use]
#[inline]
pub fn bucket(time: Duration) -> (usize, u64) {
    // Over 584 years are not measured.
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    (BOUNDS.partition_point(|bound| *bound < nanos), nanos)
}

/// Durations, sorted into fixed buckets from 50 us to 30 s, and their sum.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::proto::tally::Times;
/// let mut times = Times::default();
/// times.note(Duration::from_micros(100));
/// times.note(Duration::from_millis(3));
/// assert_eq!((times.count(), times.sum()), (2, Duration::from_micros(3_100)));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    pub(crate) buckets: [u64; BUCKET_COUNT],
    /// Nanoseconds.
    pub(crate) sum: u64,
}

impl Times {
    /// Counts a duration.
    pub fn note(&mut self, time: Duration) {
        let (bucket, nanos) = bucket(time);
        self.buckets[bucket] += 1;
        self.sum = self.sum.saturating_add(nanos);
    }

    /// Adds those of another.
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_place_and_a_name() {
        for (place, byte) in (1..=8).enumerate() {
            let typ = FrameType::from_u8(byte).unwrap();
            assert_eq!(kind(typ), place);
            assert_eq!(KINDS[place], typ.to_string().to_lowercase());
        }
        for byte in 0x10..=0xff {
            assert_eq!(kind(FrameType::Custom(byte)), CUSTOM);
        }
        assert_eq!(kind(FrameType::Data), DATA);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_one_more_nanosecond_does_not() {
        for (index, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!(bucket(Duration::from_nanos(bound)), (index, bound));
            assert_eq!(bucket(Duration::from_nanos(bound + 1)).0, index + 1);
        }
        assert_eq!(bucket(Duration::ZERO), (0, 0));
        assert_eq!(bucket(Duration::MAX), (BOUNDS.len(), u64::MAX));
    }

    #[test]
    fn a_datagram_of_several_frames_counts_each() {
        let mut datagram = Vec::new();
        for typ in [FrameType::Ack, FrameType::Ack, FrameType::Data] {
            let frame = crate::wire::Frame::new(typ);
            let limits = Limits::default();
            crate::wire::encode(frame.as_ref(), Trailer::Always, &limits, &mut datagram).unwrap();
        }
        let mut tally = Tally::default();
        tally.note_datagram(&datagram, Trailer::Always);
        assert_eq!(
            (
                tally.frames(FrameType::Ack),
                tally.frames(FrameType::Data),
                tally.byte_total()
            ),
            (2, 1, datagram.len() as u64)
        );
    }
}
