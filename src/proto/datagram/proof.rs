//! How a frame of a datagram shows to which session it belongs, and what that costs.

use crate::proto::keys;
use crate::wire::{FrameWriter, Trailer};

/// Proves that a datagram belongs to a session.
pub(super) type Sid = [u8; 16];

/// How a frame shows whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Not at all: no session.
    None,
    /// By the session's `sid`.
    Sid(Sid),
    /// By the datagram around it, which is sealed; that finds every damage, too.
    Sealed,
}

impl Proof {
    /// Whether there is a session.
    #[must_use]
    pub(super) const fn is_session(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Bytes of the header that shows it.
    #[must_use]
    pub(super) const fn header_len(&self) -> usize {
        match self {
            Self::Sid(sid) => header_len(keys::SID, sid.len()),
            Self::None | Self::Sealed => 0,
        }
    }

    /// When a frame has a trailer.
    #[must_use]
    pub(super) const fn trailer(&self) -> Trailer {
        match self {
            Self::None | Self::Sid(_) => Trailer::Always,
            Self::Sealed => Trailer::WhenFlagged,
        }
    }

    /// Bytes of the trailer of a frame without the CRC flag.
    #[must_use]
    pub(super) const fn trailer_len(&self) -> usize {
        match self {
            Self::None | Self::Sid(_) => 4,
            Self::Sealed => 0,
        }
    }

    /// Adds the header, if there is one.
    pub(super) fn write(&self, writer: &mut FrameWriter<'_>) {
        if let Self::Sid(sid) = self {
            writer.header(keys::SID, sid);
        }
    }
}

/// Bytes of a header.
pub(super) const fn header_len(key: &str, value_len: usize) -> usize {
    2 + key.len() + value_len
}
