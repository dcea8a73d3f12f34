//! What a handler may answer: nothing, one frame, several, or an error.

use crate::error::HandlerError;
use crate::wire::Frame;

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
