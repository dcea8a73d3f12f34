//! The frames that a session makes of a code and a sentence: BYE and ERR.

use crate::proto::code::ErrorCode;
use crate::proto::keys;
use crate::wire::{FixedHeader, Frame, FrameType};

/// BYE (spec 3.6).
#[must_use]
pub fn bye_frame(code: Option<ErrorCode>) -> Frame {
    let bye = Frame::new(FrameType::Bye);
    match code {
        None => bye,
        Some(code) => bye.with_header(keys::CODE, code.as_str()),
    }
}

/// The smallest limit of frames that a peer may announce (spec 3.2), less the fixed header, the trailer
/// and the lengths of two headers: room for their keys and values, and the message.
const ROOM: usize = 1024 - FixedHeader::LEN - 4 - 2 * 2;

/// ERR (spec 3.7); the message is cut so that every peer accepts the frame.
#[must_use]
pub fn error_frame(code: ErrorCode, message: &str, correlation_id: Option<&[u8]>) -> Frame {
    let id_len = correlation_id.map_or(0, |id| keys::CORRELATION_ID.len() + id.len());
    let room = ROOM.saturating_sub(keys::CODE.len() + code.as_str().len() + id_len);
    let mut end = message.len().min(room);
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
