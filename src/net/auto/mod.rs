//! One client over TCP and UDP at once: [`VstpAutoClient`].
//!
//! The session on TCP is the client's session, and its end is the end of the client. UDP is a second way to the
//! same server, opened beside it, sealed with keys of the TLS session if there is one. Which way a message takes is the caller's choice
//! ([`Via`](crate::proto::auto::Via)), or that of [`AutoSwitch`](crate::proto::auto::AutoSwitch).
//!
//! | thread | how many | blocks on | is woken by | ends |
//! |---|---|---|---|---|
//! | `vstp-auto-tcp` | 1 per client | the TCP socket, room for a message | frames, a caller that receives | with the session on TCP |
//! | `vstp-auto-udp` | 1 per client, if UDP may be used | the UDP socket, the time of the next attempt | datagrams, close | with the session on TCP |
//! | `vstp-auto-probe` | 1 per client, if UDP may be used | its clock | close | with the session on TCP |
//!
//! All are joined by `close` and drop. There is one lock, over the state; nothing else is taken inside it, and
//! it is not held across a system call. The threads of the UDP socket are those of [`udp`](super::udp), and
//! with a TCP keep-alive there is a `vstp-keeper`.

mod client;
mod config;
mod inner;
mod open;
mod pending;
mod state;
mod status;
mod threads;

pub use client::VstpAutoClient;
pub use config::AutoConfig;
#[cfg(feature = "tls")]
pub(crate) use open::SEALED_PING_INTERVAL;
#[cfg(all(feature = "tls", feature = "json"))]
pub(crate) use pending::PendingCall;
pub(crate) use status::FEATURE;
pub use status::{Path, Transports, UdpStatus};
