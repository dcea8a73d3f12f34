//! TLS 1.3 over any byte stream: settings, certificates, and the state of a connection.
//!
//! The one room that names rustls. Nothing here owns a socket or a thread: `TlsSession` turns
//! plaintext into records and back in memory, and `net::stream` moves the records.
//!
//! What holds for every connection (spec 3.1): TLS 1.3 only (1.2 is not compiled in), the
//! application protocol `vstp/1` checked on both sides, no early data, no session tickets, no key
//! log.

mod client;
pub mod dev;
mod error;
mod info;
mod key_log;
mod names;
mod pem;
mod provider;
mod sealed;
mod server;
mod session;
mod verify;

pub use client::{TlsClientConfig, TlsClientConfigBuilder};
pub use info::PeerInfo;
pub use provider::CryptoProvider;
pub use server::{ClientAuth, Roots, TlsServerConfig, TlsServerConfigBuilder};
pub(crate) use session::TlsSession;

/// The application protocol of VSTP (ALPN, RFC 7301).
pub const ALPN: &[u8] = b"vstp/1";

#[cfg(test)]
mod tests;
