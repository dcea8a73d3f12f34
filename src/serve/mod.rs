//! The server machinery: accepting, limits, worker threads, shutting down.
//!
//! Threads of a server:
//!
//! | name | how many | blocks on | is woken by | ends |
//! |---|---|---|---|---|
//! | `vstp-accept` | 1 | accept(2), a free place | a client, shutdown | with the server |
//! | `vstp-conn-N` | one per connection | the socket, the handler | frames, shutdown | 10 s after its last connection |
//! | `vstp-keeper` | 1 | its clock | shutdown | with the server |
//! | `vstp-writer` | one per connection with a [`Sender`](crate::net::tcp::Sender) | the queue, the socket | a queued frame | with the last sender or the connection |
//! | `vstp-shutdown` | 1, if a handler calls shutdown | connections that end | their end | then |

mod accept;
mod addresses;
mod config;
mod handle;
mod lifecycle;
mod log_limit;
mod permits;
mod pool;
mod reply;
mod session;
mod stats;
mod tcp;
mod worker;

pub use config::ServerConfig;
pub use handle::{ServerHandle, ShutdownReport};
pub use reply::{HandlerError, IntoReply, Reply};
pub use session::Session;
pub use stats::ServerStats;
pub use tcp::VstpTcpServer;
