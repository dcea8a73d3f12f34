//! [`Session`]: what a handler sees of the connection that a frame came from.

use crate::error::VstpError;
use crate::net::identity::Identity;
use crate::net::tcp::Sender;
use crate::net::tcp::shared::Shared;
use crate::net::tls::PeerInfo;
use crate::proto::keys::Features;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The connection of a frame, seen by the handler.
///
/// # Example
/// ```
/// use vstp::Frame;
/// use vstp::serve::Session;
/// fn handle(session: &Session, frame: Frame) -> Frame {
///     println!("{} sent {} bytes", session.peer_addr(), frame.payload.len());
///     frame
/// }
/// ```
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    id: u128,
    features: Features,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let established = shared.established();
        let id = established.as_ref().map_or(0, |e| e.session_id);
        let features = established.map(|e| e.features).unwrap_or_default();
        Self {
            shared,
            id,
            features,
        }
    }

    /// The number of the session, unique and unpredictable.
    #[must_use]
    pub const fn id(&self) -> u128 {
        self.id
    }

    /// The client's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.shared.peer_addr
    }

    /// What TLS knows about the client, its certificate above all; `None` in plaintext.
    #[must_use]
    pub fn tls(&self) -> Option<&PeerInfo> {
        self.shared.tls.as_ref()
    }

    /// Who the client is, at a server with an [authenticator](super::ServerConfig::authenticator).
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.shared.identity.get()
    }

    /// The features that both sides have.
    #[must_use]
    pub const fn features(&self) -> &Features {
        &self.features
    }

    /// A handle to send to this client at any time, from any thread.
    ///
    /// # Errors
    /// `Io` when no thread for the queue can be started.
    pub fn sender(&self) -> Result<Sender, VstpError> {
        Sender::new(&self.shared)
    }

    /// Whether the server is shutting down or the connection is over. A handler that works for
    /// long asks now and then, and gives up.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire) || self.shared.outbox.closed().is_some()
    }
}
