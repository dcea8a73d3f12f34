//! [`DualPeer`]: what a handler sees of the client that a frame came from, and by which transport.

use super::super::session::Session;
use super::super::udp::UdpPeer;
use crate::net::identity::Identity;
use crate::proto::auto::Transport;
use std::net::SocketAddr;

/// The sender of a message, seen by the handler.
///
/// # Example
/// ```
/// use vstp::Frame;
/// use vstp::serve::DualPeer;
/// fn handle(peer: &DualPeer<'_>, frame: Frame) -> Frame {
///     println!("{} sent {} bytes by {}", peer.peer_addr(), frame.payload.len(), peer.transport());
///     frame
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DualPeer<'a> {
    by: By<'a>,
}

#[derive(Debug, Clone, Copy)]
enum By<'a> {
    Tcp(&'a Session),
    Udp(&'a UdpPeer),
}

impl<'a> DualPeer<'a> {
    pub(crate) const fn by_tcp(session: &'a Session) -> Self {
        Self {
            by: By::Tcp(session),
        }
    }

    pub(crate) const fn by_udp(peer: &'a UdpPeer) -> Self {
        Self { by: By::Udp(peer) }
    }

    /// By which transport the message came. The answer goes the same way.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self.by {
            By::Tcp(_) => Transport::Tcp,
            By::Udp(_) => Transport::Udp,
        }
    }

    /// The client's address, which is another one on each transport.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        match self.by {
            By::Tcp(session) => session.peer_addr(),
            By::Udp(peer) => peer.peer_addr(),
        }
    }

    /// Who the client is, at a server with an [authenticator](crate::serve::ServerConfig::authenticator).
    #[must_use]
    pub fn identity(&self) -> Option<&'a Identity> {
        match self.by {
            By::Tcp(session) => session.identity(),
            By::Udp(peer) => peer.identity(),
        }
    }

    /// The number of the session; `None` for a datagram without one. That of a sealed session is the number of
    /// its TLS session.
    #[must_use]
    pub const fn session_id(&self) -> Option<u128> {
        match self.by {
            By::Tcp(session) => Some(session.id()),
            By::Udp(peer) => peer.session_id(),
        }
    }

    /// Whether the message was encrypted on its way: by TLS, or in a session of sealed datagrams.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        match self.by {
            By::Tcp(session) => session.tls().is_some(),
            By::Udp(peer) => peer.is_sealed(),
        }
    }

    /// The session on TCP, if the message came by it.
    #[must_use]
    pub const fn tcp(&self) -> Option<&'a Session> {
        match self.by {
            By::Tcp(session) => Some(session),
            By::Udp(_) => None,
        }
    }

    /// The sender on UDP, if the message came by it.
    #[must_use]
    pub const fn udp(&self) -> Option<&'a UdpPeer> {
        match self.by {
            By::Tcp(_) => None,
            By::Udp(peer) => Some(peer),
        }
    }
}
