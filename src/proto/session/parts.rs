//! What goes into a session and comes out of it: settings, events, ends. Plain values, no rules.

use crate::proto::code::ErrorCode;
use crate::proto::keys::{AuthToken, Features};

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Connected, and says HELLO.
    Client,
    /// Accepted, and says WELCOME.
    Server,
}

/// What protects the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Nothing.
    Plaintext,
    /// TLS 1.3.
    Tls,
}

/// What a side brings into a session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// What it can do.
    pub features: Features,
    /// The largest frame that it accepts, announced to the peer (bytes).
    pub max_frame_len: usize,
    /// Client on plaintext: whether to say HELLO.
    pub hello: bool,
    /// Server on plaintext: whether the stream must begin with HELLO.
    pub require_hello: bool,
    /// Client: the token to send.
    pub auth_token: Option<AuthToken>,
    /// Server: whether HELLO is to be judged before it is answered; the stream then begins with it.
    pub authenticate: bool,
}

/// What HELLO and WELCOME settled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Established {
    /// The server's number for the session; 0 where no WELCOME gave one.
    pub session_id: u128,
    /// What both can do.
    pub features: Features,
    /// The largest frame that the peer accepts, if it said so (bytes).
    pub peer_max_frame_len: Option<usize>,
    pub(super) hello: bool,
}

impl Established {
    /// Whether there was a HELLO; a session without one has no BYE either (spec 3.6).
    #[must_use]
    pub const fn has_hello(&self) -> bool {
        self.hello
    }
}

/// What a frame means to the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The application gets the frame.
    Deliver,
    /// Server: HELLO has come and is to be judged; [`Session::welcome`](super::Session::welcome) opens the
    /// session.
    Hello {
        /// What the client proves itself with.
        auth_token: Option<AuthToken>,
    },
    /// The session is open now, or HELLO came later.
    Established,
    /// Nothing to do.
    Consumed,
    /// The peer has accepted the message with this `msg-id`.
    Acked {
        /// The message.
        msg_id: u64,
    },
    /// PONG; its payload is in the frame.
    Pong,
    /// ERR. With `correlation_id` it ends one request, without the session.
    RemoteError {
        /// The reason.
        code: ErrorCode,
        /// The reason for people, as sent.
        message: Vec<u8>,
        /// The request that it answers.
        correlation_id: Option<Vec<u8>>,
    },
    /// BYE: nothing else comes. Our own BYE, if it is still due, is in the output.
    PeerBye {
        /// Why, if the peer said so.
        code: Option<ErrorCode>,
    },
}

/// How the transport's stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// TLS close_notify.
    CloseNotify,
    /// FIN without close_notify.
    Fin,
    /// Reset.
    Reset,
}

/// How the session ended, for one whose stream is over (spec 3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// In order.
    Clean,
    /// Between frames, but without BYE.
    PeerWithoutBye,
    /// In the middle of something.
    Truncated,
    /// By a reset.
    Reset,
}
