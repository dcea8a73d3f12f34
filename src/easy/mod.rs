//! Typed messages in a few lines: any serde type, as JSON, over TCP with TLS 1.3.
//!
//! On loopback addresses it works without configuration: the server makes a certificate for this
//! machine (feature `dev-certs`) and clients of the same user trust it, for loopback addresses only.
//! Elsewhere a server needs its certificate: [`VstpServer::bind_tcp_with`]; a client trusts the
//! public authorities, or what [`VstpClient::connect_tcp_with`] is given.

mod client;
mod server;

pub use client::VstpClient;
pub use server::VstpServer;

/// The `content-type` of typed messages.
pub(crate) const JSON: &str = "application/json";
