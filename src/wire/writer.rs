//! Frames written piece by piece, for senders that hold the parts in different places.
//!
//! [`encode`](super::encode()) takes a whole frame; [`FrameWriter`] takes a header section from here, two
//! more headers from there and a payload in slices, and fills the lengths in at the end. It is for
//! frames that the protocol itself makes, whose sizes are known to be expressible.

use super::crc::crc32;
use super::encode::has_trailer;
use super::error::EncodeError;
use super::field::{self, FIXED_LEN};
use super::frame::{Flags, FrameType};
use super::headers::HeadersRef;
use super::limits::{Limits, Trailer};

/// A frame being appended to a buffer.
///
/// # Example
/// ```
/// use vstp::wire::{Flags, Frame, FrameType, FrameWriter, Limits, Trailer};
/// let mut out = Vec::new();
/// let mut writer = FrameWriter::new(&mut out, FrameType::Ack, Flags::empty());
/// writer.number("msg-id", 7);
/// let len = writer.finish(Trailer::Always);
/// assert_eq!(len, out.len());
///
/// let same = Frame::new(FrameType::Ack).with_header("msg-id", "7");
/// let mut expected = Vec::new();
/// vstp::wire::encode(same.as_ref(), Trailer::Always, &Limits::default(), &mut expected)?;
/// assert_eq!(out, expected);
/// # Ok::<(), vstp::wire::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct FrameWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    typ: FrameType,
    flags: Flags,
    /// Where the payload begins, once it has begun.
    payload: Option<usize>,
}

impl<'a> FrameWriter<'a> {
    /// Begins a frame at the end of `out`.
    #[must_use]
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, typ: FrameType, flags: Flags) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; FIXED_LEN]);
        Self {
            out,
            start,
            typ,
            flags,
            payload: None,
        }
    }

    /// Appends headers that exist already.
    ///
    /// # Errors
    /// Headers that cannot be expressed; nothing is appended then.
    #[inline]
    pub fn headers(&mut self, headers: HeadersRef<'_>, limits: &Limits) -> Result<(), EncodeError> {
        let section = headers.section(limits.max_header_count)?;
        debug_assert!(self.payload.is_none(), "headers come before the payload");
        self.out.extend_from_slice(section);
        Ok(())
    }

    /// Appends one header; key and value have at most 255 bytes.
    #[inline]
    pub fn header(&mut self, key: &str, value: &[u8]) {
        debug_assert!(self.payload.is_none(), "headers come before the payload");
        debug_assert!(key.len() <= 255 && value.len() <= 255);
        self.out
            .extend_from_slice(&[key.len() as u8, value.len() as u8]);
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(value);
    }

    /// Appends one header whose value is a number in decimal digits.
    #[inline]
    pub fn number(&mut self, key: &str, value: u64) {
        let mut digits = [0; 20];
        self.header(key, decimal(value, &mut digits));
    }

    /// Appends bytes to the payload.
    #[inline]
    pub fn payload(&mut self, bytes: &[u8]) {
        self.payload.get_or_insert(self.out.len());
        self.out.extend_from_slice(bytes);
    }

    /// The buffer, to append payload that another function writes.
    #[inline]
    pub fn payload_buffer(&mut self) -> &mut Vec<u8> {
        self.payload.get_or_insert(self.out.len());
        self.out
    }

    /// Bytes written so far, the trailer not counted.
    #[must_use]
    #[inline]
    pub fn written(&self) -> usize {
        self.out.len() - self.start
    }

    /// Fills in the lengths, appends the trailer, and returns the bytes of the frame.
    #[inline]
    pub fn finish(self, trailer: Trailer) -> usize {
        let end = self.out.len();
        let payload = self.payload.unwrap_or(end);
        let header_len = payload - self.start - FIXED_LEN;
        debug_assert!(header_len <= usize::from(u16::MAX));
        let fixed = field::fixed(
            self.typ.as_u8(),
            self.flags.bits(),
            header_len as u16,
            (end - payload) as u32,
        );
        self.out[self.start..self.start + FIXED_LEN].copy_from_slice(&fixed);
        if has_trailer(self.flags, trailer) {
            let crc = crc32(&self.out[self.start..]);
            self.out.extend_from_slice(&crc.to_be_bytes());
        }
        self.out.len() - self.start
    }
}

/// How many decimal digits a number has.
#[must_use]
#[inline]
pub fn digit_count(value: u64) -> usize {
    value.checked_ilog10().unwrap_or(0) as usize + 1
}

#[inline]
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_digits() {
        for value in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut digits = [0; 20];
            let text = value.to_string();
            assert_eq!(decimal(value, &mut digits), text.as_bytes());
            assert_eq!(digit_count(value), text.len());
        }
    }
}
