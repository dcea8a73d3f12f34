//! [`UdpPeer`]: what a handler sees of the address that a frame came from.

use crate::error::VstpError;
use crate::net::identity::Identity;
use crate::net::udp::driver::Driver;
use crate::wire::Frame;
use std::net::SocketAddr;
use std::sync::Arc;

/// The sender of a message, seen by the handler.
#[derive(Debug)]
pub struct UdpPeer {
    driver: Arc<Driver>,
    addr: SocketAddr,
    session: Option<u128>,
    identity: Option<Arc<Identity>>,
}

impl UdpPeer {
    pub(super) fn new(
        driver: &Arc<Driver>,
        addr: SocketAddr,
        session: Option<u128>,
        identity: Option<Arc<Identity>>,
    ) -> Self {
        Self {
            driver: Arc::clone(driver),
            addr,
            session,
            identity,
        }
    }

    /// The address. Without a session anybody can have forged it.
    #[must_use]
    pub const fn peer_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The number of the session; `None` without one.
    #[must_use]
    pub const fn session_id(&self) -> Option<u128> {
        self.session
    }

    /// Whether its session is one of [sealed datagrams](crate::net::udp::SealedSessions), and still open: then
    /// [`session_id`](Self::session_id) is the number of its TLS session too.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        let is_it = |id| self.driver.is_sealed(self.addr, id);
        self.session.is_some_and(is_it)
    }

    /// Who the client is, at a server with an [authenticator](crate::net::udp::UdpConfig::authenticator), or
    /// in a sealed session whose TLS server has one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Sends it a frame once, beside the handler's answer.
    ///
    /// # Blocking
    /// No longer than the system takes to accept the datagrams.
    ///
    /// # Errors
    /// As [`VstpUdpServer::send`](super::VstpUdpServer::send).
    pub fn send(&self, frame: &Frame) -> Result<(), VstpError> {
        self.driver.send(frame, self.addr)
    }

    /// Begins a send that is repeated until it is acknowledged; never waits for that.
    pub(super) fn send_assured(&self, frame: Frame) -> Result<(), VstpError> {
        self.driver.send_assured(frame, self.addr)
    }

    /// Sends it a frame until it has acknowledged it.
    ///
    /// # Blocking
    /// Until then, and this worker with it; at most `delivery_timeout` without progress.
    ///
    /// # Errors
    /// As [`VstpUdpServer::send_with_ack`](super::VstpUdpServer::send_with_ack).
    pub fn send_with_ack(&self, frame: Frame) -> Result<(), VstpError> {
        self.driver.send_with_ack(frame, self.addr)
    }
}
