//! What is remembered while sessions are being opened, on either side.

use super::super::seal::Sealing;
use crate::proto::keys::Features;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A session that this side is opening.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) cookie: Option<(Vec<u8>, Instant)>,
    /// Its keys, when it will be sealed: then it needs no cookie.
    pub(super) sealing: Option<Box<Sealing>>,
    pub(super) wait: Duration,
    pub(super) next_at: Instant,
    pub(super) give_up_at: Option<Instant>,
}

/// Whose the sealed datagrams with one id are.
#[derive(Debug)]
pub(super) enum Owner {
    /// Of a session that a client may open here.
    Offered(Box<Sealing>),
    /// Of a session that this side is opening with a server.
    Connecting(SocketAddr),
    /// Of the session with this peer.
    Session(usize),
}

/// Cookies handed out in the current second.
#[derive(Debug)]
pub(super) struct CookieRate {
    pub(super) began: Instant,
    pub(super) count: u32,
}

/// Server: a HELLO with a valid cookie.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) cookie: Vec<u8>,
    /// When the cookie was made.
    pub(super) made: Duration,
    /// What both can do.
    pub(super) features: Features,
    /// The largest frame that the client takes.
    pub(super) max_frame_len: u64,
}

/// Server: a client about which somebody else decides.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) number: u64,
    pub(super) hello: Hello,
    pub(super) until: Instant,
}
