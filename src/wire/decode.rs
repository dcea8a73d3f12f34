//! Bytes to frames.
//!
//! Strict and canonical: every accepted byte string is what [`encode`](super::encode()) writes for
//! the frame it yields. Nothing is believed before it is checked: magic, version, type, flags and
//! size are judged from the fixed header alone, before a byte of the body is looked at. The decoder
//! never searches for the next magic; a bad frame ends its stream or its datagram.

use super::crc::crc32;
use super::encode::{frame_len, has_trailer};
use super::error::DecodeError;
use super::field::{self, FIXED_LEN, TRAILER_LEN, VSTP_MAGIC, VSTP_VERSION};
use super::frame::{Flags, FrameRef, FrameType};
use super::headers::HeadersRef;
use super::limits::{Limits, Trailer};

/// What [`decode`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole frame, and the bytes it took from the front.
    Frame(FrameRef<'a>, usize),
    /// The bytes are the start of a frame: at least so many more are needed.
    Incomplete {
        /// A lower bound, never 0.
        needed: usize,
    },
}

/// Decodes the frame at the front of `bytes` without copying it.
///
/// # Errors
/// Every [`DecodeError`] but `Incomplete` and `TrailingBytes`, as soon as the bytes that prove it
/// are there.
///
/// # Example
/// ```
/// use vstp::wire::{self, Decoded, Frame, Limits, Trailer};
/// let mut bytes = Vec::new();
/// let (trailer, limits) = (Trailer::Always, Limits::default());
/// wire::encode(Frame::data("hello").as_ref(), trailer, &limits, &mut bytes)?;
///
/// let Decoded::Frame(frame, used) = wire::decode(&bytes, trailer, &limits)? else { panic!() };
/// assert_eq!((frame.payload, used), (&b"hello"[..], bytes.len()));
/// assert_eq!(wire::decode(&bytes[..9], trailer, &limits)?, Decoded::Incomplete { needed: 2 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[inline]
pub fn decode<'a>(
    bytes: &'a [u8],
    trailer: Trailer,
    limits: &Limits,
) -> Result<Decoded<'a>, DecodeError> {
    let Some(head) = FixedHeader::parse(bytes, trailer, limits)? else {
        return Ok(Decoded::Incomplete {
            needed: FIXED_LEN - bytes.len(),
        });
    };
    match bytes.len().checked_sub(head.frame_len) {
        None => Ok(Decoded::Incomplete {
            needed: head.frame_len - bytes.len(),
        }),
        Some(_) => {
            let header_count = head.check_body(bytes, limits)?;
            Ok(Decoded::Frame(
                head.frame(bytes, header_count),
                head.frame_len,
            ))
        }
    }
}

/// Decodes `bytes` as exactly one frame: a datagram.
///
/// # Errors
/// Every [`DecodeError`]; `Incomplete` where the frame ends early, `TrailingBytes` where more
/// follows.
pub fn decode_exact<'a>(
    bytes: &'a [u8],
    trailer: Trailer,
    limits: &Limits,
) -> Result<FrameRef<'a>, DecodeError> {
    match decode(bytes, trailer, limits)? {
        Decoded::Frame(frame, used) if used == bytes.len() => Ok(frame),
        Decoded::Frame(_, used) => Err(DecodeError::TrailingBytes {
            count: bytes.len() - used,
        }),
        Decoded::Incomplete { needed } => Err(DecodeError::Incomplete { needed }),
    }
}

/// The 11 fixed bytes, checked: from here on the length of the frame is known and within limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedHeader {
    /// What the frame is for.
    pub typ: FrameType,
    /// The flag byte.
    pub flags: Flags,
    /// Bytes of the header section.
    pub header_len: usize,
    /// Bytes of the payload.
    pub payload_len: usize,
    /// Bytes of the whole frame.
    pub frame_len: usize,
}

impl FixedHeader {
    /// Bytes of the fixed header.
    pub const LEN: usize = FIXED_LEN;

    /// Reads the fixed header at the front of `bytes`; `None` when bytes of it are missing.
    ///
    /// # Errors
    /// `InvalidMagic` at the first wrong byte; the others when all 11 bytes are there.
    #[inline]
    pub fn parse(
        bytes: &[u8],
        trailer: Trailer,
        limits: &Limits,
    ) -> Result<Option<Self>, DecodeError> {
        let Some(fixed) = bytes.first_chunk::<FIXED_LEN>() else {
            return check_magic(bytes).map(|()| None);
        };
        check_magic(fixed)?;
        if fixed[field::VERSION] != VSTP_VERSION {
            let got = fixed[field::VERSION];
            return Err(DecodeError::InvalidVersion {
                expected: VSTP_VERSION,
                got,
            });
        }
        let typ = fixed[field::TYPE];
        let typ = FrameType::from_u8(typ).ok_or(DecodeError::InvalidFrameType(typ))?;
        let bits = fixed[field::FLAGS];
        let reserved = bits & !Flags::all().bits();
        let flags = Flags::from_bits(bits).ok_or(DecodeError::ReservedFlags(reserved))?;
        let (header_len, payload_len) = (field::header_len(fixed), field::payload_len(fixed));
        let size = frame_len(header_len, payload_len, has_trailer(flags, trailer));
        let limit = limits.max_frame_len as u64;
        match (usize::try_from(size), usize::try_from(payload_len)) {
            (Ok(frame_len), Ok(payload_len)) if size <= limit => Ok(Some(Self {
                typ,
                flags,
                header_len: usize::from(header_len),
                payload_len,
                frame_len,
            })),
            _ => Err(DecodeError::FrameTooLarge { size, limit }),
        }
    }

    /// Bytes before the payload.
    #[must_use]
    #[inline]
    pub const fn head_len(&self) -> usize {
        FIXED_LEN + self.header_len
    }

    /// Bytes of the trailer, 0 or 4.
    #[must_use]
    #[inline]
    pub const fn trailer_len(&self) -> usize {
        self.frame_len - self.head_len() - self.payload_len
    }

    /// Checks the rest of the frame that begins at the front of `bytes` with this fixed header; the
    /// number of its headers.
    #[inline]
    pub(crate) fn check_body(&self, bytes: &[u8], limits: &Limits) -> Result<usize, DecodeError> {
        let (frame, trailer) = bytes[..self.frame_len].split_at(self.head_len() + self.payload_len);
        if let Some(trailer) = trailer.first_chunk::<TRAILER_LEN>() {
            check_crc(*trailer, crc32(frame))?;
        }
        if self.header_len == 0 {
            return Ok(0);
        }
        let section = &frame[FIXED_LEN..self.head_len()];
        Ok(HeadersRef::parse(section, limits.max_header_count)?.len())
    }

    /// The frame at the front of `bytes`, which [`Self::check_body`] has accepted.
    #[inline]
    pub(crate) fn frame<'a>(&self, bytes: &'a [u8], header_count: usize) -> FrameRef<'a> {
        let (head, rest) = bytes[..self.frame_len].split_at(self.head_len());
        FrameRef {
            typ: self.typ,
            flags: self.flags,
            headers: HeadersRef::checked(&head[FIXED_LEN..], header_count),
            payload: &rest[..self.payload_len],
        }
    }
}

/// Compares a received trailer with the checksum of the bytes before it.
#[inline]
pub(crate) fn check_crc(trailer: [u8; TRAILER_LEN], got: u32) -> Result<(), DecodeError> {
    let expected = u32::from_be_bytes(trailer);
    // A fuzzer cannot guess checksums; without this it would never get past this line.
    if expected == got || cfg!(fuzzing) {
        Ok(())
    } else {
        Err(DecodeError::CrcMismatch { expected, got })
    }
}

#[inline]
fn check_magic(bytes: &[u8]) -> Result<(), DecodeError> {
    for (offset, (&got, &want)) in bytes.iter().zip(&VSTP_MAGIC).enumerate() {
        if got != want {
            return Err(DecodeError::InvalidMagic {
                offset: offset as u8,
                got,
            });
        }
    }
    Ok(())
}
