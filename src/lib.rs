//! VSTP, Vishu's Secure Transfer Protocol, for programs that block.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod codec;
pub mod error;
pub mod proto;
pub mod wire;

pub use codec::{VstpFrameCodec, encode_frame, try_decode_frame};
pub use error::VstpError;
pub use wire::{Flags, Frame, FrameType, Header, VSTP_MAGIC, VSTP_VERSION};

/// The number of a session, chosen at random by the server (spec 3.2).
pub type SessionId = u128;
