//! The server machinery: accepting, limits, worker threads, shutting down.
//!
//! Threads of a server:
//!
//! | name | how many | blocks on | is woken by | ends |
//! |---|---|---|---|---|
//! | `vstp-accept` | 1 | accept(2), a free place | a client, shutdown | with the server |
//! | `vstp-conn-N` | one per connection | the socket, the handler | frames, shutdown | 10 s after its last connection |
//! | `vstp-handler-N` | as many as requests are handled at once, with [concurrency](ServerConfig::concurrency) | the handler, the socket | a request, shutdown | 10 s after its last request |
//! | `vstp-keeper` | 1 | its clock | shutdown | with the server |
//! | `vstp-writer` | one per connection with a [`Sender`](crate::net::tcp::Sender) | the queue, the socket | a queued frame | with the last sender or the connection |
//! | `vstp-auth-N` | `workers` of an [authenticator](crate::net::identity), if there is one | the queue of clients, the authenticator | clients, the end of the server | with the server; one whose authenticator is stuck, with that |
//! | `vstp-udp-N` | `workers` per UDP server with a handler | the queue of messages, the handler | messages, shutdown | with the server |
//! | `vstp-metrics` | 1 per [`MetricsServer`] | accept(2), its client for 2 s | a client, shutdown | with it |
//! | `vstp-watch` | 1, if slow handlers are [told of](ServerConfig::on_slow_handler) | its clock, what it calls | shutdown | with the server |
//! | `vstp-shutdown` | 1, if a handler calls shutdown, or the server is on both transports | connections that end | their end | then |
//!
//! Each structure here has one lock, held for a few instructions, and takes no other under it. None
//! is held across a system call other than waiting on its own condition variable, and none while a
//! job, a handler or a log runs.

pub mod accept;
pub mod addresses;
mod config;
pub mod dual;
mod gate;
mod handle;
pub mod lifecycle;
pub mod listener;
pub mod log_limit;
pub mod permits;
pub mod pool;
mod reply;
mod scrape;
mod session;
mod slow;
pub mod stats;
mod tcp;
#[cfg(test)]
mod testing;
pub mod udp;
mod worker;

pub use crate::error::HandlerError;
pub use config::ServerConfig;
pub use dual::{DualConfig, DualPeer, DualServerHandle, DualStats, VstpDualServer};
pub use handle::{ServerHandle, ShutdownReport};
pub use reply::{IntoReply, Reply};
pub use scrape::MetricsServer;
pub use session::Session;
pub use slow::SlowHandler;
pub use stats::ServerStats;
pub use tcp::VstpTcpServer;
pub use udp::{UdpPeer, UdpServerHandle, VstpUdpServer};
