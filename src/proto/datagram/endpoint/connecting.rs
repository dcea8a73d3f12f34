//! What is remembered while sessions are being opened, on either side.

use super::super::seal::Sealing;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// A network that counts as one client.
pub(super) type Key = u64;

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

/// What counts as one client's: an IPv4 address, an IPv6 /64.
pub(super) fn network(ip: IpAddr) -> Key {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}
