//! The counters of a connection, as a snapshot.

use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::metrics::Family;
use crate::proto::Violation;
use crate::proto::tally::Tally;
use crate::wire::DecodeError;

/// What a connection has carried so far, frames with all their parts, before encryption. All zero with
/// [`Meter::off`](crate::net::Meter::off).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Frames handed to the system.
    pub frames_sent: u64,
    /// Frames received, control frames included.
    pub frames_received: u64,
    /// Bytes of the frames sent.
    pub bytes_sent: u64,
    /// Bytes received, those of a frame that is still arriving included.
    pub bytes_received: u64,
    /// The frames sent, by type.
    pub sent: Tally,
    /// The frames received, by type.
    pub received: Tally,
}

impl ConnectionStats {
    pub(super) fn new(sent: Tally, received: Tally, bytes_received: u64) -> Self {
        Self {
            frames_sent: sent.frame_total(),
            frames_received: received.frame_total(),
            bytes_sent: sent.byte_total(),
            bytes_received,
            sent,
            received,
        }
    }
}

/// The place of an error that ended a session in [`Family::ConnectionErrors`](crate::metrics::Family);
/// `None` where it ended in order, or by this side's wish.
pub(super) const fn ended_by(error: &VstpError, by: ClosedBy) -> Option<usize> {
    Some(match error {
        VstpError::Io(_) => 0,
        VstpError::Tls(_) => 1,
        VstpError::CrcMismatch { .. }
        | VstpError::Protocol(Violation::Decode(DecodeError::CrcMismatch { .. })) => 2,
        VstpError::FrameTooLarge { .. }
        | VstpError::Protocol(Violation::Decode(DecodeError::FrameTooLarge { .. })) => 3,
        VstpError::InvalidMagic { .. }
        | VstpError::InvalidVersion { .. }
        | VstpError::InvalidFrameType(_)
        | VstpError::Incomplete { .. }
        | VstpError::Protocol(Violation::Decode(_)) => 4,
        VstpError::Protocol(Violation::Overrun(_)) => 5,
        VstpError::Timeout(TimeoutKind::Frame) => 7,
        VstpError::Timeout(TimeoutKind::Idle) => 8,
        VstpError::Timeout(TimeoutKind::Send) => 9,
        VstpError::ServerError(_) => 10,
        VstpError::ConnectionClosed(_) => match by {
            ClosedBy::PeerWithoutBye => 11,
            ClosedBy::Truncated => 12,
            ClosedBy::Reset => 13,
            // The first error was counted.
            ClosedBy::Local | ClosedBy::Peer(_) | ClosedBy::Error => return None,
        },
        // What the peer sent was a frame, and not allowed.
        _ => 6,
    })
}

/// The word of such a place.
pub(super) fn reason(place: usize) -> &'static str {
    let mut labels = Family::ConnectionErrors.labels(place);
    labels.next().map_or("unknown", |(_, reason)| reason)
}
