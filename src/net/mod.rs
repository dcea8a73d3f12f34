//! Sockets, clocks and TLS: the only rooms that own them.
//!
//! Threads of a client: `vstp-keeper`, one per connection with a keep-alive interval, sends PING
//! when the connection is silent and ends with it; `vstp-writer`, one per connection with a
//! [`Sender`](tcp::Sender), writes its queue and ends with the last sender; `vstp-resolve` looks up
//! a host name and ends with the answer. Clients that connect again have one more, see `easy`. The
//! threads of a UDP socket are listed in [`udp`], those of a server in [`crate::serve`], those of a client
//! over both transports in [`auto`].

pub mod addr;
pub mod auto;
mod call;
pub mod clock;
pub mod event_log;
pub mod identity;
pub mod meter;
pub(crate) mod random;
pub(crate) mod socket;
pub(crate) mod stream;
pub mod tcp;
mod threads;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
pub mod tls;
pub mod udp;

pub use addr::{Address, ToAddress};
pub use call::{CallError, Sent};
pub use meter::Meter;
