//! [`CallError`]: a call without an answer, and what became of its request.
//!
//! Not part of [`crate::error`], since only calls know it; it converts into the error of every other call.

use crate::error::VstpError;
use std::fmt;
use thiserror::Error;

/// Whether a request left this side before its call failed.
///
/// It says nothing about what the server did with it: of a request that was sent, only an answer tells
/// that it was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Not a byte of it: the server has not seen it, and sending it again cannot do it twice.
    No,
    /// All of it was handed to the system. The server may have handled it, or not.
    Yes,
    /// Writing it began and failed; whether all of it left is unknown. To be treated like `Yes`.
    Unknown,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "not sent",
            Self::Yes => "sent",
            Self::Unknown => "perhaps sent",
        })
    }
}

/// A call that got no answer, and what became of its request.
#[derive(Debug, Error)]
#[error("the request was {sent}")]
#[non_exhaustive]
pub struct CallError {
    /// Whether the request left this side.
    pub sent: Sent,
    /// Why there is no answer.
    #[source]
    pub error: VstpError,
}

impl CallError {
    pub(crate) const fn new(sent: Sent, error: VstpError) -> Self {
        Self { sent, error }
    }

    /// Nothing of the request was written.
    pub(crate) const fn not_sent(error: VstpError) -> Self {
        Self::new(Sent::No, error)
    }
}

impl From<CallError> for VstpError {
    /// Drops what is known about the request.
    fn from(failed: CallError) -> Self {
        failed.error
    }
}
