//! Frames to bytes.
//!
//! Everything that can be refused is refused before the first byte is written. Three forms: the
//! whole frame appended to a buffer ([`encode`]), the head alone with the payload left where it is
//! ([`encode_head`], for vectored writes), and the length ([`encoded_len`]).

use super::crc::Crc32;
use super::error::EncodeError;
use super::field::{self, FIXED_LEN, TRAILER_LEN};
use super::frame::{Flags, FrameRef, FrameType};
use super::limits::{Limits, Trailer};

/// Bytes that the frame takes on the wire.
///
/// # Errors
/// Every [`EncodeError`]: a frame that has a length can be encoded.
pub fn encoded_len(
    frame: FrameRef<'_>,
    trailer: Trailer,
    limits: &Limits,
) -> Result<usize, EncodeError> {
    Ok(Parts::new(frame, trailer, limits)?.len)
}

/// Appends the encoded frame to `out` and returns its length in bytes.
///
/// # Errors
/// Every [`EncodeError`]; `out` is then unchanged.
///
/// # Example
/// ```
/// use vstp::wire::{self, Frame, Limits, Trailer};
/// let mut out = Vec::new();
/// let frame = Frame::data("hello");
/// let len = wire::encode(frame.as_ref(), Trailer::Always, &Limits::default(), &mut out)?;
/// assert_eq!(len, 11 + 5 + 4);
/// assert_eq!(&out[..4], [0x56, 0x54, 0x01, 0x03]);
/// # Ok::<(), wire::EncodeError>(())
/// ```
#[inline]
pub fn encode(
    frame: FrameRef<'_>,
    trailer: Trailer,
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<usize, EncodeError> {
    let parts = Parts::new(frame, trailer, limits)?;
    let start = out.len();
    out.reserve(parts.len);
    out.extend_from_slice(&parts.fixed);
    out.extend_from_slice(parts.headers);
    out.extend_from_slice(frame.payload);
    if parts.has_trailer {
        let crc = super::crc::crc32(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }
    Ok(parts.len)
}

/// What [`encode_head`] leaves to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedHead {
    /// Bytes of the whole frame: head, payload and trailer.
    pub frame_len: usize,
    /// The trailer to write after the payload, if the frame has one.
    pub trailer: Option<[u8; TRAILER_LEN]>,
}

/// Appends the fixed header and the header section to `head`; the payload stays where it is.
///
/// What goes on the wire is `head`, `frame.payload`, then the trailer.
///
/// # Errors
/// Every [`EncodeError`]; `head` is then unchanged.
pub fn encode_head(
    frame: FrameRef<'_>,
    trailer: Trailer,
    limits: &Limits,
    head: &mut Vec<u8>,
) -> Result<EncodedHead, EncodeError> {
    let parts = Parts::new(frame, trailer, limits)?;
    head.reserve(FIXED_LEN + parts.headers.len());
    head.extend_from_slice(&parts.fixed);
    head.extend_from_slice(parts.headers);
    let trailer = parts.has_trailer.then(|| {
        let mut crc = Crc32::new();
        crc.update(&parts.fixed);
        crc.update(parts.headers);
        crc.update(frame.payload);
        crc.finish().to_be_bytes()
    });
    Ok(EncodedHead {
        frame_len: parts.len,
        trailer,
    })
}

/// A frame that passed every check.
struct Parts<'a> {
    fixed: [u8; FIXED_LEN],
    headers: &'a [u8],
    has_trailer: bool,
    len: usize,
}

impl<'a> Parts<'a> {
    #[inline]
    fn new(frame: FrameRef<'a>, trailer: Trailer, limits: &Limits) -> Result<Self, EncodeError> {
        if let FrameType::Custom(byte @ 0..0x10) = frame.typ {
            return Err(EncodeError::InvalidFrameType(byte));
        }
        // `Flags::from_bits_retain` can hold any bit.
        let reserved = frame.flags.bits() & !Flags::all().bits();
        if reserved != 0 {
            return Err(EncodeError::ReservedFlags(reserved));
        }
        let headers = frame.headers.section(limits.max_header_count)?;
        let header_len = u16::try_from(headers.len())
            .map_err(|_| EncodeError::HeaderSectionTooLong { len: headers.len() })?;
        let payload_len =
            u32::try_from(frame.payload.len()).map_err(|_| EncodeError::PayloadTooLong {
                len: frame.payload.len(),
            })?;
        let has_trailer = has_trailer(frame.flags, trailer);
        let size = frame_len(header_len, payload_len, has_trailer);
        let limit = limits.max_frame_len as u64;
        match usize::try_from(size) {
            Ok(len) if size <= limit => Ok(Self {
                fixed: field::fixed(
                    frame.typ.as_u8(),
                    frame.flags.bits(),
                    header_len,
                    payload_len,
                ),
                headers,
                has_trailer,
                len,
            }),
            _ => Err(EncodeError::FrameTooLarge { size, limit }),
        }
    }
}

/// Whether a frame with these flags ends with a CRC-32 on this transport (spec 2.3).
#[inline]
pub(super) fn has_trailer(flags: Flags, trailer: Trailer) -> bool {
    trailer == Trailer::Always || flags.contains(Flags::CRC)
}

/// Bytes of a whole frame; u64 because the sum of the fields overflows a 32-bit usize.
#[inline]
pub(super) fn frame_len(header_len: u16, payload_len: u32, has_trailer: bool) -> u64 {
    let trailer_len = if has_trailer { TRAILER_LEN as u64 } else { 0 };
    FIXED_LEN as u64 + u64::from(header_len) + u64::from(payload_len) + trailer_len
}
