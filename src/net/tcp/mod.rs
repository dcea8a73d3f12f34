//! Sessions over TCP: the client, the connection that both sides use, and its halves.
//!
//! The server is in [`crate::serve`], since it needs worker threads and limits.

mod calls;
mod client;
mod config;
mod connection;
mod ending;
pub(crate) mod establish;
mod feed;
pub(crate) mod handling;
pub(crate) mod keeper;
pub(crate) mod memory;
mod messages;
mod outbox;
pub(crate) mod pace;
pub(crate) mod reader;
mod received;
mod sender;
pub(crate) mod shared;
mod split;
mod stats;

pub use calls::{CallStats, SharedTcpClient};
pub use client::VstpTcpClient;
pub use config::TcpConfig;
pub use connection::{Closer, VstpTcpConnection};
pub use sender::{SendError, Sender};
pub use split::{ConnectionReader, ConnectionWriter};
pub use stats::ConnectionStats;
