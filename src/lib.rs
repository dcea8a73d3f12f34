//! VSTP, Vishu's Secure Transfer Protocol, for programs that block: frames with binary headers over
//! TCP with TLS 1.3, or in UDP datagrams, plain or sealed with keys of a TLS session, on plain threads and
//! `std::net`.
//!
//! Start with [`easy`] for typed messages, or with [`VstpTcpClient`] and [`VstpTcpServer`] for
//! frames ([`VstpUdpClient`] and [`VstpUdpServer`] for frames in datagrams). The rooms of the crate, each
//! importing only from those above it:
//!
//! | module | what it is |
//! |---|---|
//! | [`wire`] | bytes to frames and back; pure functions |
//! | [`proto`] | what may follow what; state machines without I/O |
//! | [`error`], [`codec`] | the error of every call; the codec under its published names |
//! | [`metrics`] | what is counted, and its text for Prometheus |
//! | [`ext`] | what messages pass between protocol and application: compression, extensions |
//! | [`net`] | sockets, TLS, connections, clients |
//! | [`serve`] | servers: accepting, limits, worker threads, shutting down |
//! | [`easy`] | serde types in, serde types out |
//!
//! # Blocking
//!
//! A call blocks until it is done, its deadline has passed, or the connection ends; its documentation
//! says which. `try_…` never blocks, `…_timeout` takes the limit as an argument.
//!
//! # Panics
//!
//! Input never makes this crate panic. A panic of a handler is caught, counted and answered with ERR;
//! with `panic = "abort"` there is nothing to catch.
//!
//! # Logging
//!
//! Through the `log` crate. `error`: a listening socket became unusable. `warn`: the system is short
//! of something, or certificates are not checked. `debug`: connections that end. Payloads are never
//! logged; whatever a peer can cause is logged at most once a second for each reason.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod codec;
#[cfg(all(feature = "tls", feature = "json"))]
pub mod easy;
pub mod error;
pub mod ext;
pub mod metrics;
pub mod net;
pub mod proto;
pub mod serve;
pub mod wire;

pub use codec::{VstpFrameCodec, encode_frame, try_decode_frame};
#[cfg(all(feature = "tls", feature = "json"))]
pub use easy::{VstpClient, VstpServer};
pub use error::VstpError;
pub use net::auto::VstpAutoClient;
pub use net::tcp::{VstpTcpClient, VstpTcpConnection};
pub use net::udp::VstpUdpClient;
pub use serve::{VstpDualServer, VstpTcpServer, VstpUdpServer};
pub use wire::{Flags, Frame, FrameType, Header, VSTP_MAGIC, VSTP_VERSION};

/// The number of a session, chosen at random by the server (spec 3.2).
pub type SessionId = u128;

/// The programs in the README are compiled and run with the documentation.
#[cfg(all(
    doctest,
    feature = "compression",
    feature = "dev-certs",
    feature = "json"
))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are those in the guide.
#[cfg(all(doctest, feature = "dev-certs", feature = "json"))]
#[doc = include_str!("../docs/guide.md")]
struct Guide;
