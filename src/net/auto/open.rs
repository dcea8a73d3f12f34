//! Opens UDP beside TCP: the one place that decides how datagrams are protected.

use super::config::AutoConfig;
use super::status::{FEATURE, UdpStatus};
use crate::error::VstpError;
use crate::net::tcp::shared::Shared;
use crate::net::udp::{UdpSession, VstpUdpClient};
#[cfg(feature = "tls")]
use crate::proto::datagram::SealedKeys;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
#[cfg(feature = "tls")]
use std::time::Duration;

/// The times of a sealed session, which ends with the session on TCP and not by silence: a network that loses
/// all datagrams for a while is no reason to end what cannot be opened again. The probes keep it alive.
#[cfg(feature = "tls")]
pub(crate) const SEALED_PING_INTERVAL: Duration = Duration::from_secs(3600);
/// For the same reason the one attempt goes on, with a HELLO every few seconds.
#[cfg(feature = "tls")]
const SEALED_HANDSHAKE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How datagrams are protected.
#[derive(Debug)]
pub(super) enum Protection {
    /// Not at all.
    Plaintext,
    /// By keys of the TLS session, which open one session.
    #[cfg(feature = "tls")]
    Sealed(Option<SealedKeys>),
}

impl Protection {
    /// What UDP beside this session on TCP may be; the error says why it may not be there.
    pub(super) fn of(config: &AutoConfig, tcp: &Shared) -> Result<Self, UdpStatus> {
        let established = tcp.established();
        if !established.is_some_and(|e| e.features.contains(FEATURE)) {
            return Err(UdpStatus::NotOffered);
        }
        #[cfg(feature = "tls")]
        if let Some(keys) = tcp.take_sealed_keys() {
            return Ok(Self::Sealed(Some(keys)));
        }
        // What was opened with TLS is not continued in plaintext unless the caller says so.
        if tcp.tls.is_some() && !config.plaintext_udp {
            return Err(UdpStatus::Insecure);
        }
        Ok(Self::Plaintext)
    }

    /// Whether a session can be opened, again or at all.
    pub(super) const fn is_usable(&self) -> bool {
        match self {
            Self::Plaintext => true,
            #[cfg(feature = "tls")]
            Self::Sealed(keys) => keys.is_some(),
        }
    }

    /// A socket for the session.
    pub(super) fn socket(
        &self,
        config: &AutoConfig,
        server: SocketAddr,
    ) -> Result<VstpUdpClient, VstpError> {
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let udp = match self {
            Self::Plaintext => config.udp.clone(),
            #[cfg(feature = "tls")]
            Self::Sealed(_) => {
                let mut udp = config.udp.clone();
                udp.endpoint.sealed_only = true;
                udp.endpoint.handshake_timeout = SEALED_HANDSHAKE;
                udp.endpoint.ping_interval = SEALED_PING_INTERVAL;
                udp
            }
        };
        VstpUdpClient::bind_with_config(any, udp)
    }

    /// Opens the session. Blocks until the server answers, the attempt ends, or the socket is closed.
    pub(super) fn open(
        &mut self,
        client: &VstpUdpClient,
        server: SocketAddr,
    ) -> Result<UdpSession, VstpError> {
        match self {
            Self::Plaintext => client.connect(server),
            #[cfg(feature = "tls")]
            Self::Sealed(keys) => match keys.take() {
                Some(keys) => client.open_sealed(keys, server),
                None => Err(VstpError::config("udp", "the keys have been used")),
            },
        }
    }
}
