//! VSTP, Vishu's Secure Transfer Protocol, for programs that block.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod codec;
#[cfg(all(feature = "tls", feature = "json"))]
pub mod easy;
pub mod error;
pub mod net;
pub mod proto;
pub mod serve;
pub mod wire;

pub use codec::{VstpFrameCodec, encode_frame, try_decode_frame};
#[cfg(all(feature = "tls", feature = "json"))]
pub use easy::{VstpClient, VstpServer};
pub use error::VstpError;
pub use net::tcp::{VstpTcpClient, VstpTcpConnection};
pub use serve::VstpTcpServer;
pub use wire::{Flags, Frame, FrameType, Header, VSTP_MAGIC, VSTP_VERSION};

/// The number of a session, chosen at random by the server (spec 3.2).
pub type SessionId = u128;

/// Runs the code of README.md with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
