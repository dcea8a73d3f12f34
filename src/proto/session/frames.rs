//! The frames that a session makes of a code and a sentence: BYE and ERR.

use crate::proto::code::ErrorCode;
use crate::proto::keys;
use crate::wire::{Frame, FrameType};

/// BYE (spec 3.6).
#[must_use]
pub fn bye_frame(code: Option<ErrorCode>) -> Frame {
    let bye = Frame::new(FrameType::Bye);
    match code {
        None => bye,
        Some(code) => bye.with_header(keys::CODE, code.as_str()),
    }
}

/// ERR (spec 3.7); the message is cut to what ERR may carry.
#[must_use]
pub fn error_frame(code: ErrorCode, message: &str, correlation_id: Option<&[u8]>) -> Frame {
    let mut end = message.len().min(1024);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let frame = Frame::new(FrameType::Err)
        .with_header(keys::CODE, code.as_str())
        .with_payload(&message.as_bytes()[..end]);
    match correlation_id {
        None => frame,
        Some(id) => frame.with_header(keys::CORRELATION_ID, id),
    }
}
