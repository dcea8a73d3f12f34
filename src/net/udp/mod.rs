//! UDP: sockets and threads around [`crate::proto::datagram`], which has the protocol.
//!
//! Datagrams are not encrypted, unless the session is [sealed](SealedSessions): everybody on the way can
//! read and change them. The CRC-32 finds accidents only.
//!
//! | thread | how many | blocks on | is woken by | ends |
//! |---|---|---|---|---|
//! | `vstp-udp-recv` | 1 per socket | the socket, or its turn to read it | datagrams, a caller that stops reading | with the socket |
//! | `vstp-udp-timer` | 1 per socket | the protocol's own deadline | an earlier deadline | with the socket |
//!
//! A caller that waits for a message or an acknowledgement reads the socket itself when nobody else
//! does, so an answer costs no hand-over between threads; the receive thread reads when no caller
//! does. Both threads are joined when the socket is closed or dropped. No code of the application runs
//! on them.
//!
//! Locks, in the order in which they may be taken: the registry of sealed sessions (`sealed`), the protocol (`core`), the turn to read (`turn`). Neither is held
//! across a system call on the socket. Around the socket itself there is a lock that is written only to close it.

mod client;
mod config;
pub(crate) mod core;
mod delivery;
pub(crate) mod driver;
pub(crate) mod in_session;
mod inbox;
mod messages;
mod place;
mod reception;
pub(crate) mod running;
mod sealed;
mod session;
mod socket;
mod stats;
mod turn;
mod unsent;

pub use client::VstpUdpClient;
pub(crate) use client::first as resolve_first;
pub use config::UdpConfig;
pub use delivery::Delivery;
pub(crate) use sealed::Offer;
pub use sealed::SealedSessions;
pub use session::UdpSession;
pub use stats::UdpStats;
