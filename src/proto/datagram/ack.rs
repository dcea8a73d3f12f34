//! The payload of a progress acknowledgement: which fragments of a set are there (spec 4.5).
//!
//! Pairs of varints `(gap, length)`, lowest ranges first: `gap` fragments are missing since the end of
//! the range before, then `length` are there. Only the first gap may be 0, no length is.

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
