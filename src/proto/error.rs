//! What a peer did wrong, and the one table from there to the code of the ERR frame.

use super::code::ErrorCode;
use crate::wire::{DecodeError, FrameType};
use thiserror::Error;

/// A rule that the peer broke. The connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// Bytes that are no frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A frame that its sender may not send in this state of the session.
    #[error("{typ} is not allowed while the session is {state}")]
    Unexpected {
        /// The frame's type.
        typ: FrameType,
        /// The state's name.
        state: &'static str,
    },
    /// The stream did not begin with HELLO where it must.
    #[error("the first frame is {typ}, HELLO is required")]
    HelloRequired {
        /// The type of the first frame.
        typ: FrameType,
    },
    /// A control frame with more payload than its type may carry.
    #[error("{typ} with a payload of {len} bytes, at most {limit} are allowed")]
    ControlPayload {
        /// The frame's type.
        typ: FrameType,
        /// Bytes of the payload.
        len: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// A reserved header whose value is not what the key demands, or that is there twice.
    #[error("reserved header {key:?} is invalid or repeated")]
    ReservedHeader {
        /// The key.
        key: &'static str,
    },
    /// A flag that means nothing on this transport or was not negotiated.
    #[error("flag {flag} is not allowed on {typ} here")]
    FlagNotAllowed {
        /// The frame's type.
        typ: FrameType,
        /// The flag's name.
        flag: &'static str,
    },
    /// The client did not prove who it is.
    #[error("authentication failed")]
    Unauthorized,
    /// A compressed payload that cannot be inflated.
    #[error("compressed payload: {0}")]
    Compression(#[from] InflateError),
    /// An ACK of a message or fragment that was never sent, in a session of sealed datagrams.
    #[error("an acknowledgement of what was never sent")]
    BadAck,
    /// The peer sent more of something cheap than its budget.
    #[error("too many {0}")]
    Overrun(Overrun),
}

/// Why a compressed payload cannot be inflated (spec 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InflateError {
    /// It ends too early.
    #[error("the gzip member ends too early")]
    Truncated,
    /// It is no gzip member, or what it holds is not deflated.
    #[error("not a valid gzip member")]
    Corrupt,
    /// A checksum is not that of the bytes.
    #[error("the checksum of the gzip member is wrong")]
    Checksum,
    /// The member says another length than it has.
    #[error("the length of the gzip member is wrong")]
    Length,
    /// Something follows the first member, be it another.
    #[error("{count} bytes follow the gzip member")]
    TrailingBytes {
        /// How many bytes follow.
        count: usize,
    },
    /// It is cut into more blocks than its length explains: each costs time, however little it holds.
    #[error("the gzip member has too many blocks")]
    TooManyBlocks,
    /// It is larger than the receiver accepts.
    #[error("inflated, the payload is over the limit of {limit} bytes")]
    TooLarge {
        /// The limit, bytes of the payload.
        limit: usize,
    },
}

/// What a peer sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overrun {
    /// PING, and PONG, ACK and ERR that answer nothing, beyond 20 at once and 10 a second.
    ControlFrames,
    /// More than 10,000 reads that ended no frame, with 64 KiB or more in all, but less than 16 bytes
    /// each on average; of a frame in five pieces or fewer none counts.
    TinyReads,
}

impl std::fmt::Display for Overrun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ControlFrames => "control frames",
            Self::TinyReads => "tiny reads",
        })
    }
}

impl Violation {
    /// The code of the ERR frame that reports this violation to the peer (spec 3.7).
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Decode(DecodeError::FrameTooLarge { .. }) => ErrorCode::TooLarge,
            Self::Decode(DecodeError::InvalidVersion { .. }) => ErrorCode::UnsupportedVersion,
            Self::HelloRequired { .. } => ErrorCode::HelloRequired,
            Self::Unauthorized => ErrorCode::Unauthorized,
            Self::Overrun(_) => ErrorCode::Calm,
            Self::Decode(_)
            | Self::Unexpected { .. }
            | Self::ControlPayload { .. }
            | Self::Compression(_)
            | Self::BadAck
            | Self::ReservedHeader { .. }
            | Self::FlagNotAllowed { .. } => ErrorCode::Protocol,
        }
    }
}
