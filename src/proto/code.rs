//! The `code` of an ERR frame (spec 3.7).

use std::fmt;

/// Why a peer sent ERR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// Bytes or frames break the protocol.
    Protocol,
    /// A frame is over the receiver's limit.
    TooLarge,
    /// The version of the protocol is not spoken here.
    UnsupportedVersion,
    /// The stream did not begin with HELLO.
    HelloRequired,
    /// The peer could not prove who it is.
    Unauthorized,
    /// The peer sends more than its share.
    RateLimited,
    /// The server is at one of its limits.
    Busy,
    /// The application could not read the request.
    BadRequest,
    /// The application's handler failed.
    Handler,
    /// Something took too long.
    Timeout,
    /// The peer sends frames that cost more than they are worth.
    Calm,
    /// The server is going away.
    ShuttingDown,
    /// A code that this version does not know.
    Unknown,
}

impl ErrorCode {
    const NAMES: [(Self, &'static str); 12] = [
        (Self::Protocol, "protocol"),
        (Self::TooLarge, "too-large"),
        (Self::UnsupportedVersion, "unsupported-version"),
        (Self::HelloRequired, "hello-required"),
        (Self::Unauthorized, "unauthorized"),
        (Self::RateLimited, "rate-limited"),
        (Self::Busy, "busy"),
        (Self::BadRequest, "bad-request"),
        (Self::Handler, "handler"),
        (Self::Timeout, "timeout"),
        (Self::Calm, "calm"),
        (Self::ShuttingDown, "shutting-down"),
    ];

    /// The word on the wire; `unknown` for [`ErrorCode::Unknown`], which is never sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(code, _)| *code == self)
            .map_or("unknown", |(_, name)| name)
    }

    /// The code of this word; [`ErrorCode::Unknown`] for any other.
    #[must_use]
    pub fn from_wire(name: &[u8]) -> Self {
        Self::NAMES
            .iter()
            .find(|(_, n)| n.as_bytes() == name)
            .map_or(Self::Unknown, |(code, _)| *code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
