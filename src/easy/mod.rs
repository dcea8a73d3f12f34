//! Typed messages in a few lines: any serde type, as JSON, over TCP with TLS 1.3 or over UDP.
//!
//! Over TCP, on loopback addresses, it works without configuration: the server makes a certificate for
//! this machine (feature `dev-certs`) and clients of the same user trust it, for loopback addresses only.
//! Elsewhere a server needs its certificate: [`VstpServer::bind_tcp_with`]; a client trusts the
//! public authorities, or what [`VstpClient::connect_tcp_with`] is given.
//!
//! Over UDP ([`VstpServer::bind_udp`], [`VstpClient::connect_udp`]) everything is in plaintext: everybody
//! on the way can read and change the messages. Use it where that does not matter.
//!
//! Over both ([`VstpServer::bind_auto`], [`VstpClient::connect_auto`]) each message takes the transport that
//! its sender names, or the better one; both are encrypted.

mod auto;
mod client;
mod connect;
mod handle;
mod link;
mod message;
mod server;

pub use client::VstpClient;
pub use handle::ServerHandle;
pub use server::VstpServer;
