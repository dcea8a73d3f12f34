//! What can be wrong with bytes, or with a frame that shall become bytes.
//!
//! Both enums are plain values: comparable, without strings or causes, so that a test can name the
//! exact fault and the session can choose the ERR code from it.

use thiserror::Error;

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A magic byte is wrong; reported at the first wrong byte.
    #[error("not a VSTP frame: magic byte {offset} is {got:#04x}")]
    InvalidMagic {
        /// Which of the two bytes, 0 or 1.
        offset: u8,
        /// The byte that was there.
        got: u8,
    },
    /// The version byte is not ours.
    #[error("VSTP version {got} is not supported, this is version {expected}")]
    InvalidVersion {
        /// The version of this crate.
        expected: u8,
        /// The version of the frame.
        got: u8,
    },
    /// The type byte is 00 or 09..0F, which mean nothing.
    #[error("frame type {0:#04x} does not exist")]
    InvalidFrameType(u8),
    /// Flag bits are set that no feature defines.
    #[error("reserved flag bits are set: {0:#04x}")]
    ReservedFlags(u8),
    /// The announced frame is larger than the limit of the receiver.
    #[error("frame of {size} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Bytes of the whole frame as announced by its fixed header.
        size: u64,
        /// The limit, bytes of a whole frame.
        limit: u64,
    },
    /// A header entry does not end inside the header section.
    #[error("header entry at byte {offset} of the header section runs past its end")]
    HeaderBounds {
        /// Offset of the entry from the start of the header section.
        offset: usize,
    },
    /// There are more header entries than the limit of the receiver.
    #[error("more than {limit} headers")]
    TooManyHeaders {
        /// The limit, entries.
        limit: usize,
    },
    /// The checksum in the trailer is not that of the bytes.
    #[error("CRC-32 is {got:#010x}, the frame says {expected:#010x}")]
    CrcMismatch {
        /// The checksum that the frame carries.
        expected: u32,
        /// The checksum of the bytes received.
        got: u32,
    },
    /// The bytes end inside the frame, where nothing more can follow (a datagram).
    #[error("frame ends {needed} bytes early")]
    Incomplete {
        /// At least this many bytes are missing.
        needed: usize,
    },
    /// Bytes follow the frame, where only one frame may be (a datagram).
    #[error("{count} bytes follow the frame")]
    TrailingBytes {
        /// How many bytes follow.
        count: usize,
    },
}

/// Why a frame cannot become bytes. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A header key is longer than its one length byte can say.
    #[error("header key of {len} bytes, at most 255 fit")]
    HeaderKeyTooLong {
        /// Bytes of the key.
        len: usize,
    },
    /// A header value is longer than its one length byte can say.
    #[error("header value of {len} bytes, at most 255 fit")]
    HeaderValueTooLong {
        /// Bytes of the value.
        len: usize,
    },
    /// The header section is longer than HDR_LEN can say.
    #[error("header section of {len} bytes, at most 65,535 fit")]
    HeaderSectionTooLong {
        /// Bytes of the section.
        len: usize,
    },
    /// More header entries than the limit.
    #[error("{count} headers, the limit is {limit}")]
    TooManyHeaders {
        /// Entries in the frame.
        count: usize,
        /// The limit, entries.
        limit: usize,
    },
    /// The payload is longer than PAY_LEN can say.
    #[error("payload of {len} bytes, at most 4,294,967,295 fit")]
    PayloadTooLong {
        /// Bytes of the payload.
        len: usize,
    },
    /// The frame is larger than the limit, ours or the one that the peer announced.
    #[error("frame of {size} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Bytes of the whole frame.
        size: u64,
        /// The limit, bytes of a whole frame.
        limit: u64,
    },
    /// The type is `Custom` with a byte outside 10..FF.
    #[error("frame type {0:#04x} is not free for applications, use 0x10 to 0xff")]
    InvalidFrameType(u8),
    /// Flag bits are set that no feature defines; every receiver refuses them.
    #[error("reserved flag bits are set: {0:#04x}")]
    ReservedFlags(u8),
}
