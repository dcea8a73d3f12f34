//! [`Request`]: where a typed message came from, and what came with it.

use crate::net::identity::Identity;
use crate::proto::auto::Transport;
use crate::serve::DualPeer;
use crate::wire::{Frame, Headers};
use std::net::SocketAddr;

/// What a handler of [`serve_requests`](super::VstpServer::serve_requests) sees beside the message itself,
/// whatever the transports of the server.
///
/// # Example
/// ```
/// use vstp::easy::Request;
/// use vstp::proto::auto::Transport;
/// fn handle(request: &Request<'_>, amount: u32) -> Result<u32, String> {
///     let who = request.identity().ok_or("who are you?")?;
///     if request.transport() == Transport::Udp && amount > 100 {
///         return Err(format!("{}: large amounts by TCP, please", who.name()));
///     }
///     Ok(amount)
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    peer: DualPeer<'a>,
    frame: &'a Frame,
}

impl<'a> Request<'a> {
    pub(super) const fn new(peer: DualPeer<'a>, frame: &'a Frame) -> Self {
        Self { peer, frame }
    }

    /// Who the client is, at a server with an [authenticator](crate::serve::ServerConfig::authenticator); `None`
    /// elsewhere. Over UDP in plaintext, whoever is on the way can have read its token and forged the message.
    #[must_use]
    pub fn identity(&self) -> Option<&'a Identity> {
        self.peer.identity()
    }

    /// The client's address. Over UDP without a session anybody can have forged it.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer.peer_addr()
    }

    /// By which transport the message came. The answer goes the same way.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.peer.transport()
    }

    /// Whether the message was encrypted on its way: by TLS, or in a session of sealed datagrams.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.peer.is_encrypted()
    }

    /// The number of the session; `None` for a datagram without one. A client of both transports has one session
    /// and one number, if it uses TLS.
    #[must_use]
    pub const fn session_id(&self) -> Option<u128> {
        self.peer.session_id()
    }

    /// The first header with this key.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<&'a [u8]> {
        self.frame.header(key)
    }

    /// The first header with this key, if it is UTF-8.
    #[must_use]
    pub fn header_str(&self, key: &str) -> Option<&'a str> {
        self.frame.header_str(key)
    }

    /// All headers of the message, those of the protocol included.
    #[must_use]
    pub const fn headers(&self) -> &'a Headers {
        &self.frame.headers
    }

    /// What is known of the client on its transport: certificates, features, and a way to send it more.
    #[must_use]
    pub const fn peer(&self) -> &DualPeer<'a> {
        &self.peer
    }
}
