//! The codec under its published names: [`encode_frame`], [`try_decode_frame`], [`VstpFrameCodec`].
//!
//! Plaintext framing, so the CRC-32 trailer is always present. Connections do not go through here;
//! they drive [`crate::wire`] without copies.

use crate::error::VstpError;
use crate::wire::{self, Buffer, DEFAULT_MAX_FRAME_SIZE, Decoded, Frame, Limits, Trailer};

/// Encodes a frame, with its trailer.
///
/// # Errors
/// [`VstpError::Encode`] for a frame that cannot be expressed, [`VstpError::FrameTooLarge`] over
/// [`DEFAULT_MAX_FRAME_SIZE`].
///
/// # Example
/// ```
/// use vstp::{Frame, FrameType, encode_frame};
/// let bytes = encode_frame(&Frame::new(FrameType::Ping))?;
/// assert_eq!(bytes.len(), 15);
/// # Ok::<(), vstp::VstpError>(())
/// ```
pub fn encode_frame(frame: &Frame) -> Result<Vec<u8>, VstpError> {
    let mut out = Vec::new();
    wire::encode(
        frame.as_ref(),
        Trailer::Always,
        &Limits::default(),
        &mut out,
    )?;
    Ok(out)
}

/// Takes the frame at the front of `buffer`, or `None` when bytes of it are missing.
///
/// # Errors
/// The error of the first fault, as soon as its bytes are there; the buffer is then unusable, since
/// the start of the next frame is unknown.
///
/// # Example
/// ```
/// use vstp::wire::Buffer;
/// use vstp::{Frame, encode_frame, try_decode_frame};
/// let bytes = encode_frame(&Frame::data("hello"))?;
/// let mut buffer = Buffer::new();
/// buffer.extend_from_slice(&bytes[..7]);
/// assert_eq!(try_decode_frame(&mut buffer, 1024)?, None);
/// buffer.extend_from_slice(&bytes[7..]);
/// assert_eq!(try_decode_frame(&mut buffer, 1024)?, Some(Frame::data("hello")));
/// # Ok::<(), vstp::VstpError>(())
/// ```
pub fn try_decode_frame(
    buffer: &mut Buffer,
    max_frame_size: usize,
) -> Result<Option<Frame>, VstpError> {
    let limits = Limits {
        max_frame_len: max_frame_size,
        ..Limits::default()
    };
    let (frame, used) = match wire::decode(buffer, Trailer::Always, &limits)? {
        Decoded::Frame(frame, used) => (frame.to_owned(), used),
        Decoded::Incomplete { .. } => return Ok(None),
    };
    buffer.consume(used);
    Ok(Some(frame))
}

/// Encoder and decoder with one limit.
///
/// # Example
/// ```
/// use vstp::{Frame, VstpFrameCodec};
/// use vstp::wire::Buffer;
/// let codec = VstpFrameCodec::default();
/// let mut bytes = Vec::new();
/// codec.encode(&Frame::data("one"), &mut bytes)?;
/// codec.encode(&Frame::data("two"), &mut bytes)?;
/// let mut buffer = Buffer::from(bytes);
/// assert_eq!(codec.decode(&mut buffer)?, Some(Frame::data("one")));
/// assert_eq!(codec.decode(&mut buffer)?, Some(Frame::data("two")));
/// assert_eq!(codec.decode(&mut buffer)?, None);
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct VstpFrameCodec {
    limits: Limits,
}

impl VstpFrameCodec {
    /// A codec for frames of at most `max_frame_size` bytes.
    #[must_use]
    pub fn new(max_frame_size: usize) -> Self {
        Self {
            limits: Limits {
                max_frame_len: max_frame_size,
                ..Limits::default()
            },
        }
    }

    /// Appends the encoded frame.
    ///
    /// # Errors
    /// As [`encode_frame`], with this codec's limit; `out` is then unchanged.
    pub fn encode(&self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), VstpError> {
        wire::encode(frame.as_ref(), Trailer::Always, &self.limits, out)?;
        Ok(())
    }

    /// Takes the frame at the front of `buffer`.
    ///
    /// # Errors
    /// As [`try_decode_frame`].
    pub fn decode(&self, buffer: &mut Buffer) -> Result<Option<Frame>, VstpError> {
        try_decode_frame(buffer, self.limits.max_frame_len)
    }
}

impl Default for VstpFrameCodec {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_FRAME_SIZE)
    }
}
