//! The payload of an acknowledgement: which fragments of a set are there, or which messages beside the one
//! that it names (spec 4.5).
//!
//! Pairs of varints `(gap, length)`, lowest ranges first: `gap` fragments are missing since the end of
//! the range before, then `length` are there. Only the first gap may be 0, no length is. Messages are counted
//! from the lowest.

use super::ranges::RangeSet;
use crate::wire::varint::{self, Decoded};
use std::ops::Range;

/// Appends as many ranges as fit `max_len` bytes, lowest first.
pub(super) fn encode(received: &RangeSet, max_len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let mut at = 0;
    for range in received.iter() {
        let before = out.len();
        varint::encode(range.start - at, out);
        varint::encode(range.end - range.start, out);
        if out.len() - start > max_len {
            out.truncate(before);
            return;
        }
        at = range.end;
    }
}

/// Appends the ranges of message numbers, which rise, counted from the first of them, as far as they fit
/// `max_len` bytes; how many of the numbers those are, at least one.
pub(super) fn encode_ids(ids: &[u64], max_len: usize, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let (mut taken, mut at) = (0, ids.first().copied().unwrap_or_default());
    while let Some(first) = ids.get(taken) {
        let row = ids[taken..].iter().zip(*first..);
        let count = row.take_while(|(id, next)| **id == *next).count();
        let before = out.len();
        varint::encode(first - at, out);
        varint::encode(count as u64, out);
        if taken > 0 && out.len() - start > max_len {
            out.truncate(before);
            break;
        }
        taken += count;
        at = first + count as u64;
    }
    taken
}

/// Reads the ranges into `out`; `None` when the payload breaks a rule or speaks of fragments at or
/// beyond `total`.
#[must_use]
pub(super) fn decode(mut payload: &[u8], total: u64, out: &mut Vec<Range<u64>>) -> Option<()> {
    out.clear();
    let mut at = 0_u64;
    while !payload.is_empty() {
        let gap = take(&mut payload)?;
        let len = take(&mut payload)?;
        if len == 0 || (gap == 0 && !out.is_empty()) {
            return None;
        }
        let start = at.checked_add(gap)?;
        let end = start.checked_add(len).filter(|end| *end <= total)?;
        out.push(start..end);
        at = end;
    }
    Some(())
}

/// The highest index in the ranges, whether they keep the rules or not; 0 without any.
#[must_use]
pub(super) fn highest(mut payload: &[u8]) -> u64 {
    let mut end = 0_u64;
    while let (Some(gap), Some(len)) = (take(&mut payload), take(&mut payload)) {
        end = end.saturating_add(gap).saturating_add(len);
    }
    end.saturating_sub(1)
}

fn take(payload: &mut &[u8]) -> Option<u64> {
    match varint::decode(payload) {
        Ok(Decoded::Value(value, used)) => {
            *payload = &payload[used..];
            Some(value)
        }
        Ok(Decoded::Incomplete) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[Range<u64>]) -> RangeSet {
        let mut set = RangeSet::default();
        for range in ranges {
            set.insert_range(range.clone(), |_| ());
        }
        set
    }

    fn read(payload: &[u8], total: u64) -> Option<Vec<Range<u64>>> {
        let mut out = Vec::new();
        decode(payload, total, &mut out).map(|()| out)
    }

    #[test]
    fn what_is_written_is_read() {
        for ranges in [
            vec![],
            vec![Range { start: 0, end: 1 }],
            vec![Range { start: 3, end: 4 }],
            vec![0..300, 301..302, 5000..70_000],
        ] {
            let mut out = Vec::new();
            encode(&set(&ranges), 1000, &mut out);
            assert_eq!(read(&out, 70_000), Some(ranges));
        }
    }

    #[test]
    fn message_numbers_are_counted_from_the_lowest() {
        let base = 1 << 47;
        let all: Vec<u64> = [0, 1, 2, 5, 7, 8, 300, 301].map(|n| base + n).to_vec();
        for max_len in [0, 2, 4, 5, 100] {
            let (mut rest, mut told) = (&all[..], Vec::new());
            while let Some(first) = rest.first().copied() {
                let mut out = Vec::new();
                let taken = encode_ids(rest, max_len, &mut out);
                assert!(
                    out.len() <= max_len.max(2),
                    "the first pair goes in any case"
                );
                let ranges = read(&out, u64::MAX - first).expect("whole pairs");
                assert_eq!(ranges.first().map(|range| range.start), Some(0));
                told.extend(ranges.into_iter().flatten().map(|n| first + n));
                rest = &rest[taken..];
            }
            assert_eq!(told, all, "{max_len}");
        }
    }

    #[test]
    fn the_highest_index_is_that_of_the_last_range() {
        for (ranges, last) in [(vec![], 0), (vec![0..1, 3..4], 3), (vec![0..3, 5..9], 8)] {
            let mut out = Vec::new();
            encode(&set(&ranges), 1000, &mut out);
            assert_eq!(highest(&out), last);
        }
        assert_eq!(
            highest(&[[0xff; 9].as_slice(), &[1, 1]].concat()),
            u64::MAX - 1
        );
    }

    #[test]
    fn the_payload_is_cut_at_a_pair() {
        let ranges: Vec<Range<u64>> = (0..100).map(|n| n * 200 + 150..n * 200 + 200).collect();
        for max in 0..300 {
            let mut out = Vec::new();
            encode(&set(&ranges), max, &mut out);
            let read = read(&out, 1 << 20).expect("whole pairs");
            assert!(out.len() <= max && read == ranges[..read.len()]);
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        assert_eq!(read(&[0, 1, 0, 1], 10), None, "a gap of 0 between ranges");
        assert_eq!(read(&[0, 0], 10), None, "an empty range");
        assert_eq!(read(&[0], 10), None, "half a pair");
        assert_eq!(read(&[0, 11], 10), None, "more than there is");
        assert_eq!(
            read(&[0x80, 0x00, 1], 10),
            None,
            "a longer form than needed"
        );
        let huge = [&[0xff; 9][..], &[1, 1]].concat();
        assert_eq!(read(&huge, u64::MAX), None, "beyond 64 bits");
        assert_eq!(read(&[0, 10], 10), Some(vec![Range { start: 0, end: 10 }]));
    }
}
