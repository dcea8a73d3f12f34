//! [`CallOptions`], and what tells a lost connection from a failed call.

use super::message::{decode, encode};
use crate::error::{TimeoutKind, VstpError};
use crate::net::clock;
use crate::net::{CallError, Sent};
use crate::wire::Frame;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

/// How one call is made.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::easy::CallOptions;
/// let options = CallOptions::new().timeout(Duration::from_secs(2)).idempotent();
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOptions {
    pub(super) timeout: Option<Duration>,
    pub(super) idempotent: bool,
}

impl CallOptions {
    /// The client's call timeout, and not idempotent.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            timeout: None,
            idempotent: false,
        }
    }

    /// How long the call may take in all, waiting for a connection and retries included.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Handling the request twice does no more than handling it once, so it may be sent again when
    /// its connection is lost after it was sent.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Until when a call that begins now may take.
    pub(super) fn until(&self, default: Duration) -> Option<Instant> {
        clock::after(self.timeout.unwrap_or(default))
    }
}

/// Whether a call that failed because its connection was lost may be made again: nothing of it has been
/// sent, or doing it twice does no harm.
pub(super) fn may_retry(failed: &CallError, idempotent: bool) -> bool {
    failed.sent == Sent::No || idempotent
}

/// Whether a call failed because its connection is over, and not by itself.
pub(super) fn is_lost(failed: &CallError) -> bool {
    match &failed.error {
        VstpError::ServerError(error) => error.correlation_id.is_none(),
        VstpError::Timeout(kind) => match kind {
            TimeoutKind::Idle | TimeoutKind::Frame => true,
            // A part of it was written, and nothing can follow that.
            TimeoutKind::Send => failed.sent != Sent::No,
            _ => false,
        },
        VstpError::Encode(_)
        | VstpError::FrameTooLarge { .. }
        | VstpError::Config(_)
        | VstpError::InvalidAddress(_)
        | VstpError::Serialization(_)
        | VstpError::Deserialization(_)
        | VstpError::Datagram(_)
        | VstpError::Backpressure
        | VstpError::TransportUnavailable(_)
        | VstpError::Extension(_)
        | VstpError::Cancelled => false,
        VstpError::Io(_)
        | VstpError::ConnectionClosed(_)
        | VstpError::InvalidMagic { .. }
        | VstpError::InvalidVersion { .. }
        | VstpError::InvalidFrameType(_)
        | VstpError::CrcMismatch { .. }
        | VstpError::Incomplete { .. }
        | VstpError::UnexpectedFrameType { .. }
        | VstpError::Protocol(_)
        | VstpError::Tls(_) => true,
    }
}

/// The request of a typed call; it is not sent when it cannot be made.
pub(super) fn ask(request: &(impl Serialize + ?Sized)) -> Result<Frame, CallError> {
    encode(request).map_err(CallError::not_sent)
}

/// The value in an answer.
pub(super) fn read<R: DeserializeOwned>(answer: &Frame) -> Result<R, CallError> {
    decode(answer).map_err(|error| CallError::new(Sent::Yes, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ClosedBy;

    #[test]
    fn only_what_was_not_sent_or_is_idempotent_is_done_again() {
        for (sent, idempotent, retry) in [
            (Sent::No, false, true),
            (Sent::No, true, true),
            (Sent::Yes, false, false),
            (Sent::Yes, true, true),
            (Sent::Unknown, false, false),
            (Sent::Unknown, true, true),
        ] {
            let failed = CallError::new(sent, VstpError::ConnectionClosed(ClosedBy::Reset));
            assert!(is_lost(&failed));
            assert_eq!(
                may_retry(&failed, idempotent),
                retry,
                "{sent:?} {idempotent}"
            );
        }
        let late = VstpError::Timeout(TimeoutKind::Recv);
        assert!(!is_lost(&CallError::new(Sent::Yes, late)));
    }
}
