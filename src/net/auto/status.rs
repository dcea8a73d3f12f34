//! What a client says about its transports.

use crate::proto::auto::Transport;
use std::time::Duration;

/// The feature of a server that takes one client over both transports (spec 6.1).
pub(crate) const FEATURE: &str = "dual";

/// The transports of a client, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transports {
    /// The one that small messages take when the client chooses.
    pub current: Transport,
    /// TCP, as measured.
    pub tcp: Path,
    /// UDP, as measured.
    pub udp: Path,
    /// Whether there is UDP, and if not, why.
    pub udp_status: UdpStatus,
    /// Whether the session on UDP is encrypted and authenticated.
    pub is_udp_sealed: bool,
    /// Switches so far.
    pub switches: u64,
}

/// One transport, as measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Path {
    /// It is there, and has not failed several times in a row.
    pub is_working: bool,
    /// The smoothed round-trip time that decides; failures count as long ones.
    pub score: Option<Duration>,
    /// Failures since the last answer: PINGs without one, and messages that were given up. With any, `score` is no
    /// measurement of now.
    pub failures: u32,
}

/// Whether there is UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UdpStatus {
    /// A session is open.
    Open,
    /// The server does not answer, or no longer; attempts go on.
    Unreachable,
    /// A session of sealed datagrams has ended. The keys of a TLS session open one, so there is UDP again with a
    /// new client.
    Over,
    /// The server takes no UDP beside TCP.
    NotOffered,
    /// The server does not seal datagrams beside TLS, and the settings do not allow plaintext.
    Insecure,
}
