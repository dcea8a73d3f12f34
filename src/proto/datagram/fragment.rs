//! A frame that does not fit one datagram, cut into equal pieces (spec 4.4).
//!
//! The pieces are never made: [`Inner::write`] copies the bytes of one fragment from where the frame's
//! parts lie into the datagram.

use super::config::{MAX_FRAGMENT_COUNT, MAX_STRANGER_FRAGMENT_COUNT};
use super::proof::Proof;
use crate::wire::crc::Crc32;
use crate::wire::digit_count;
use std::ops::Range;

/// An encoded frame in three parts: head, payload, trailer.
#[derive(Debug)]
pub(super) struct Inner {
    head: Vec<u8>,
    payload: Vec<u8>,
    /// The checksum of the first `summed` bytes. It grows as they are sent for the first time, when
    /// they are in the processor's cache anyway.
    crc: Crc32,
    summed: usize,
}

/// Bytes of the trailer.
const TRAILER_LEN: usize = 4;

impl Inner {
    /// `head` is the encoded fixed header and header section of a frame with this payload.
    #[must_use]
    pub(super) fn new(head: Vec<u8>, payload: Vec<u8>) -> Self {
        Self {
            head,
            payload,
            crc: Crc32::new(),
            summed: 0,
        }
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.body_len() + TRAILER_LEN
    }

    fn body_len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Appends these bytes of the encoded frame to `out`.
    pub(super) fn write(&mut self, range: Range<usize>, out: &mut Vec<u8>) {
        let from = out.len();
        let body = self.body_len();
        self.copy(range.start..range.end.min(body), out);
        if range.start <= self.summed && self.summed < range.end.min(body) {
            self.crc.update(&out[from + (self.summed - range.start)..]);
            self.summed = range.end.min(body);
        }
        if range.end > body {
            self.sum_rest();
            let trailer = self.crc.clone().finish().to_be_bytes();
            let skip = range.start.saturating_sub(body);
            out.extend_from_slice(&trailer[skip..range.end - body]);
        }
    }

    /// The parts that a range of the body lies in.
    fn copy(&self, range: Range<usize>, out: &mut Vec<u8>) {
        if range.is_empty() {
            return;
        }
        let head = self.head.len();
        if range.start < head {
            out.extend_from_slice(&self.head[range.start..range.end.min(head)]);
        }
        if range.end > head {
            let start = range.start.saturating_sub(head);
            out.extend_from_slice(&self.payload[start..range.end - head]);
        }
    }

    /// The last fragment can be the first to be sent, as a probe.
    fn sum_rest(&mut self) {
        if self.summed < self.head.len() {
            self.crc.update(&self.head[self.summed..]);
            self.summed = self.head.len();
        }
        self.crc
            .update(&self.payload[self.summed - self.head.len()..]);
        self.summed = self.body_len();
    }
}

/// How a frame is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes of each fragment but the last.
    pub chunk_len: usize,
    /// How many fragments there are.
    pub total: u64,
}

/// Bytes that a fragment's datagram needs besides its chunk: fixed header, headers, trailer.
fn overhead(frag_id: u64, total_digits: usize, inner_len: usize, proof: &Proof) -> usize {
    let header = |key: &str, len: usize| 2 + key.len() + len;
    11 + header("frag-id", digit_count(frag_id))
        + header("frag-index", total_digits)
        + header("frag-total", total_digits)
        + header("frag-len", digit_count(inner_len as u64))
        + proof.header_len()
        + proof.trailer_len()
}

impl Cut {
    /// Cuts `inner_len` bytes for datagrams of at most `max_datagram_len`; `None` when it takes more
    /// fragments than a set may have.
    #[must_use]
    pub(super) fn new(
        inner_len: usize,
        frag_id: u64,
        max_datagram_len: usize,
        proof: &Proof,
    ) -> Option<Self> {
        let max = if proof.is_session() {
            MAX_FRAGMENT_COUNT
        } else {
            MAX_STRANGER_FRAGMENT_COUNT
        };
        (1..=digit_count(max)).find_map(|digits| {
            let room = max_datagram_len.checked_sub(overhead(frag_id, digits, inner_len, proof));
            let chunk_len = room.filter(|room| *room > 0)?.min(inner_len.div_ceil(2));
            let total = inner_len.div_ceil(chunk_len) as u64;
            (total >= 2 && total <= max && digit_count(total) <= digits)
                .then_some(Self { chunk_len, total })
        })
    }

    /// The bytes of one fragment.
    #[must_use]
    pub(super) fn range(&self, index: u64, inner_len: usize) -> Range<usize> {
        let start = index as usize * self.chunk_len;
        start..(start + self.chunk_len).min(inner_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, Limits, Trailer, encode, encode_head};

    fn inner(payload_len: usize) -> (Inner, Vec<u8>) {
        let payload: Vec<u8> = (0..payload_len).map(|n| (n * 7 % 251) as u8).collect();
        let frame = Frame::data(payload).with_header("a", "b");
        let (mut head, mut whole) = (Vec::new(), Vec::new());
        let limits = Limits::default();
        encode_head(frame.as_ref(), Trailer::Always, &limits, &mut head).expect("it fits");
        encode(frame.as_ref(), Trailer::Always, &limits, &mut whole).expect("it fits");
        (Inner::new(head, frame.payload), whole)
    }

    #[test]
    fn du1_the_fragments_in_any_order_are_the_frame() {
        for len in (0..40).chain([1000, 5000]) {
            for chunk in [1, 2, 3, 7, 100, 4999] {
                for backwards in [false, true] {
                    let (mut inner, whole) = inner(len);
                    let cut = Cut {
                        chunk_len: chunk,
                        total: whole.len().div_ceil(chunk) as u64,
                    };
                    let mut got = vec![0; whole.len()];
                    for n in 0..cut.total {
                        let index = if backwards { cut.total - 1 - n } else { n };
                        let range = cut.range(index, inner.len());
                        let mut out = vec![9];
                        inner.write(range.clone(), &mut out);
                        got[range].copy_from_slice(&out[1..]);
                    }
                    assert_eq!(got, whole, "{len} bytes in chunks of {chunk}");
                }
            }
        }
    }

    #[test]
    fn du26_every_datagram_fits_and_none_is_wasted() {
        for proof in [Proof::None, Proof::Sid([1; 16]), Proof::Sealed] {
            for max in [512, 1200, 1472, 65_507] {
                for inner_len in [600, 5000, 100_000, 1 << 20, 100 << 20] {
                    let Some(cut) = Cut::new(inner_len, u64::MAX >> 16, max, &proof) else {
                        assert!(!proof.is_session() || inner_len > max << 10);
                        continue;
                    };
                    let digits = digit_count(cut.total);
                    let most = overhead(u64::MAX >> 16, digits, inner_len, &proof) + cut.chunk_len;
                    assert!(most <= max, "{most} of {max}");
                    let last = cut.range(cut.total - 1, inner_len);
                    assert!(!last.is_empty() && last.end == inner_len);
                }
            }
        }
    }

    #[test]
    fn too_many_fragments_are_refused() {
        assert!(Cut::new(255 * 1100, 1, 1200, &Proof::None).is_some());
        assert_eq!(Cut::new(256 * 1200, 1, 1200, &Proof::None), None);
        assert_eq!(Cut::new(1 << 32, 1, 1200, &Proof::Sid([1; 16])), None);
    }
}
