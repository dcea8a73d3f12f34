//! What goes into an endpoint and comes out of it, apart from datagrams.

use crate::proto::code::ErrorCode;
use crate::proto::keys::{AuthToken, Features};
use crate::wire::{EncodeError, Frame};
use std::net::SocketAddr;
use std::time::Instant;
use thiserror::Error;

/// Datagrams for one destination, in the buffer that [`super::Endpoint::poll_transmit`] filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Where they go.
    pub to: SocketAddr,
    /// Bytes of each but the last, which may be shorter.
    pub segment_len: usize,
}

/// A message that was sent for acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    pub(super) peer: usize,
    pub(super) msg_id: u64,
}

impl Token {
    /// The message's number: of no other message of its endpoint, and above those of all before it.
    #[must_use]
    pub const fn msg_id(&self) -> u64 {
        self.msg_id
    }
}

/// A client that is being judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Applicant {
    /// Its address.
    pub peer: SocketAddr,
    pub(super) number: u64,
}

/// How far a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that the receiver has acknowledged.
    pub acknowledged: u64,
    /// Bytes in all, the frame's own included.
    pub total: u64,
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message arrived, as its sender's application made it; with COMP its payload is still compressed.
    Message {
        /// From where.
        from: SocketAddr,
        /// In which session, if in one.
        session: Option<u128>,
        /// What.
        frame: Frame,
    },
    /// Server: a client whose address is proved wants a session and is to be judged, by
    /// [`admit`](super::Endpoint::admit) or [`refuse`](super::Endpoint::refuse).
    Hello {
        /// Which one.
        client: Applicant,
        /// What it proves itself with.
        auth_token: Option<AuthToken>,
        /// When it is refused without a decision.
        until: Instant,
    },
    /// A message was acknowledged.
    Delivered(Token),
    /// A message was given up.
    Failed(Token, Failure),
    /// PONG came to a PING of [`Endpoint::ping`](super::Endpoint::ping).
    Pong {
        /// From whom.
        peer: SocketAddr,
        /// The number of the PING.
        number: u64,
    },
    /// A session that this side began is open.
    Connected {
        /// With whom.
        peer: SocketAddr,
        /// Its number.
        session: u128,
        /// What both can do.
        features: Features,
    },
    /// A session that this side began was not opened.
    ConnectFailed {
        /// With whom.
        peer: SocketAddr,
        /// Why.
        failure: Failure,
    },
    /// A session ended.
    Closed {
        /// With whom.
        peer: SocketAddr,
        /// Why.
        by: Failure,
    },
}

/// Why something was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// No acknowledgement or answer in time.
    TimedOut,
    /// The peer was silent and answered no PING.
    PeerGone,
    /// The peer said BYE.
    PeerBye(Option<ErrorCode>),
    /// The peer refused, or ended the session with ERR.
    Refused(ErrorCode),
    /// The caller gave it up.
    Cancelled,
    /// This side ended the session.
    Local,
    /// The peer opened another session from the same address: it has restarted.
    Replaced,
    /// The peer acknowledged what was never sent, in a sealed session, so that it was the peer itself.
    BadAck,
    /// The network takes no datagrams as long as those that it needs.
    TooLarge {
        /// Bytes of such a datagram.
        len: usize,
    },
}

/// Why a frame cannot be sent; nothing stays queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// It cannot be expressed, or is over a limit.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It does not fit one datagram, and fragments are switched off.
    #[error("frame of {size} bytes does not fit a datagram of {limit}, and fragments are off")]
    FragmentsOff {
        /// Bytes of the datagram that it would need.
        size: usize,
        /// Bytes of a datagram.
        limit: usize,
    },
    /// It takes more fragments than a set may have, which without a session is 255.
    #[error("frame of {size} bytes takes too many fragments")]
    TooManyFragments {
        /// Bytes of the frame.
        size: usize,
    },
    /// A flag that only the transport sets, or that was not negotiated.
    #[error("flag {0} cannot be set here")]
    FlagNotAllowed(&'static str),
    /// A header that only the transport sets.
    #[error("header {0:?} is reserved for the transport")]
    ReservedHeader(&'static str),
    /// A frame type that only the transport sends.
    #[error("frames of this type are sent by the transport alone")]
    ReservedType,
    /// ERR is never acknowledged; it can only be sent once.
    #[error("an error is never acknowledged")]
    NeverAcknowledged,
    /// The address has no session and has not sent enough to be answered with this much.
    #[error("the address has no session and may not be sent so much")]
    AnswerLimit,
    /// The session with this address is being closed.
    #[error("the session with this address is being closed")]
    Closing,
    /// No sealed session with this address, and nothing else is sent here.
    #[error("there is no sealed session with this address")]
    NotSealed,
    /// The network takes no datagrams of this length; what was queued was given up.
    #[error("the network takes no datagram of {len} bytes; lower max_datagram_size")]
    TooLarge {
        /// Bytes of the datagram.
        len: usize,
    },
    /// A session with this address exists or is being opened.
    #[error("a session with this address exists already")]
    Connected,
}
