//! The settings of a server on both transports.

use super::super::config::ServerConfig;
use super::super::udp::VstpUdpServer;
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
    pub(super) plaintext_udp: bool,
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

    /// Whether there is UDP in plaintext although TCP has TLS. Default: no; such a server has no UDP, and its
    /// clients stay on TCP.
    #[must_use]
    pub const fn plaintext_udp(mut self, on: bool) -> Self {
        self.plaintext_udp = on;
        self
    }

    pub(super) fn workers(&self, server: VstpUdpServer) -> VstpUdpServer {
        match self.udp_workers {
            Some(count) => server.workers(count),
            None => server,
        }
    }
}
