//! Opens UDP beside TCP: the one place that decides how datagrams are protected.

use super::config::AutoConfig;
use super::status::{FEATURE, UdpStatus};
use crate::error::VstpError;
use crate::net::tcp::shared::Shared;
use crate::net::udp::VstpUdpClient;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether UDP may be opened beside this session on TCP; the error says why not.
pub(super) fn allowed(config: &AutoConfig, tcp: &Shared) -> Result<(), UdpStatus> {
    let established = tcp.established();
    if !established.is_some_and(|e| e.features.contains(FEATURE)) {
        return Err(UdpStatus::NotOffered);
    }
    // What was opened with TLS is not continued in plaintext unless the caller says so.
    if tcp.tls.is_some() && !config.plaintext_udp {
        return Err(UdpStatus::Insecure);
    }
    Ok(())
}

/// A socket for the session on UDP, which is in plaintext. [`VstpUdpClient::connect`] opens it.
pub(super) fn socket(config: &AutoConfig, server: SocketAddr) -> Result<VstpUdpClient, VstpError> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    VstpUdpClient::bind_with_config(any, config.udp.clone())
}
