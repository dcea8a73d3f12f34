//! [`UdpSession`]: a session that this side opened. The protocol keeps it alive, this only names it.

use crate::proto::keys::Features;
use std::net::SocketAddr;

/// A session with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpSession {
    peer_addr: SocketAddr,
    id: u128,
    features: Features,
    is_sealed: bool,
}

impl UdpSession {
    pub(super) const fn new(
        peer_addr: SocketAddr,
        id: u128,
        features: Features,
        is_sealed: bool,
    ) -> Self {
        Self {
            peer_addr,
            id,
            features,
            is_sealed,
        }
    }

    /// Whether its datagrams are encrypted and authenticated.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// The server's address: where to send.
    #[must_use]
    pub const fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// The number of the session.
    #[must_use]
    pub const fn id(&self) -> u128 {
        self.id
    }

    /// What both sides can do.
    #[must_use]
    pub const fn features(&self) -> &Features {
        &self.features
    }
}
