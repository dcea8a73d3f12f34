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
//!
//! For programs with many threads, and for servers that come and go (all over TCP):
//!
//! | client | connections | threads of its own |
//! |---|---|---|
//! | [`SharedClient`] | one, for many threads at once | none beside that of the connection |
//! | [`Pool`] | several to one server, each for one call at a time | none beside those of the connections |
//! | [`ReconnectingClient`] | one, made again when it is lost | `vstp-reconnect`, until the last clone is dropped |
//! | [`Balancer`] | one to each of several servers | `vstp-balancer`, until the last clone is dropped |

mod auto;
mod backoff;
mod balancer;
mod call;
mod client;
mod connect;
mod connector;
mod handle;
mod link;
mod message;
mod pool;
mod reconnect;
mod request;
mod server;
mod shared;

pub use balancer::{BackendStats, Balancer, BalancerConfig, Policy};
pub use call::CallOptions;
pub use client::VstpClient;
pub use connector::Connector;
pub use handle::ServerHandle;
pub use pool::{Pool, PoolConfig, PoolStats, PooledClient};
pub use reconnect::{ConnectionState, ReconnectConfig, ReconnectingClient};
pub use request::Request;
pub use server::VstpServer;
pub use shared::SharedClient;
