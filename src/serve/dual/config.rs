//! The settings of a server on both transports.

use super::super::config::ServerConfig;
use super::super::udp::VstpUdpServer;
#[cfg(feature = "tls")]
use crate::net::auto::SEALED_PING_INTERVAL;
use crate::net::udp::UdpConfig;

/// Settings of a [`VstpDualServer`](super::VstpDualServer): those of each half.
///
/// # Example
/// ```
/// use vstp::serve::{DualConfig, ServerConfig};
/// let config = DualConfig::default()
///     .server(ServerConfig::default().max_connections(100))
///     .udp_workers(4);
/// # let _ = config;
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DualConfig {
    pub(super) server: ServerConfig,
    pub(super) udp: UdpConfig,
    plaintext_udp: bool,
    udp_workers: Option<usize>,
}

impl DualConfig {
    /// The settings of the TCP half.
    #[must_use]
    pub fn server(mut self, config: ServerConfig) -> Self {
        self.server = config;
        self
    }

    /// The settings of the UDP half.
    #[must_use]
    pub fn udp(mut self, config: UdpConfig) -> Self {
        self.udp = config;
        self
    }

    /// Threads that run the handler for UDP. Default: as [`VstpUdpServer::workers`].
    #[must_use]
    pub const fn udp_workers(mut self, count: usize) -> Self {
        self.udp_workers = Some(count);
        self
    }

    /// Whether plaintext is taken on UDP, beside sealed datagrams, although TCP has TLS. Default: no.
    /// [`UdpPeer::is_sealed`](crate::serve::UdpPeer::is_sealed) tells a handler.
    #[must_use]
    pub const fn plaintext_udp(mut self, on: bool) -> Self {
        self.plaintext_udp = on;
        self
    }

    /// With UDP that is sealed by keys of the TLS sessions.
    #[cfg(feature = "tls")]
    pub(super) fn sealed(mut self) -> Self {
        let sessions = self.server.sealed_sessions.clone().unwrap_or_default();
        self.server = self.server.sealed_sessions(sessions.clone());
        self.udp = self.udp.sealed_sessions(sessions);
        self.udp.also_plaintext = self.plaintext_udp;
        if !self.plaintext_udp {
            // All sessions are sealed, and end with their TLS sessions.
            self.udp.endpoint.ping_interval = SEALED_PING_INTERVAL;
        }
        self
    }

    pub(super) fn workers(&self, server: VstpUdpServer) -> VstpUdpServer {
        match self.udp_workers {
            Some(count) => server.workers(count),
            None => server,
        }
    }
}
