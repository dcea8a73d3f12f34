//! What a handler may answer: nothing, one frame, several, or an error.

use crate::proto::ErrorCode;
use crate::wire::Frame;
use std::fmt;

/// The answer to one frame.
#[derive(Debug)]
pub enum Reply {
    /// No answer.
    None,
    /// One frame.
    One(Frame),
    /// Several frames, in order.
    Many(Vec<Frame>),
    /// An ERR frame. It ends the request when that had a `correlation-id`, else the session.
    Error(HandlerError),
}

/// Why a handler could not answer; the peer gets it as an ERR frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerError {
    /// For programs.
    pub code: ErrorCode,
    /// For people; the peer sees it, so it holds nothing that the peer may not know.
    pub message: String,
}

impl HandlerError {
    /// An error with this code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for HandlerError {}

impl From<String> for HandlerError {
    fn from(message: String) -> Self {
        Self::new(ErrorCode::Handler, message)
    }
}

impl From<&str> for HandlerError {
    fn from(message: &str) -> Self {
        Self::new(ErrorCode::Handler, message)
    }
}

impl From<Box<dyn std::error::Error>> for HandlerError {
    fn from(error: Box<dyn std::error::Error>) -> Self {
        Self::new(ErrorCode::Handler, error.to_string())
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for HandlerError {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::new(ErrorCode::Handler, error.to_string())
    }
}

/// What a handler may return.
pub trait IntoReply {
    /// The answer.
    fn into_reply(self) -> Reply;
}

impl IntoReply for Reply {
    fn into_reply(self) -> Reply {
        self
    }
}

impl IntoReply for () {
    fn into_reply(self) -> Reply {
        Reply::None
    }
}

impl IntoReply for Frame {
    fn into_reply(self) -> Reply {
        Reply::One(self)
    }
}

impl IntoReply for Option<Frame> {
    fn into_reply(self) -> Reply {
        self.map_or(Reply::None, Reply::One)
    }
}

impl IntoReply for Vec<Frame> {
    fn into_reply(self) -> Reply {
        Reply::Many(self)
    }
}

impl<T: IntoReply, E: Into<HandlerError>> IntoReply for Result<T, E> {
    fn into_reply(self) -> Reply {
        self.map_or_else(|error| Reply::Error(error.into()), T::into_reply)
    }
}
