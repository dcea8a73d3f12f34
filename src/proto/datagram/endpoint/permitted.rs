//! What an application may send: checked before anything is queued (spec 4.2).

use super::super::fields;
use super::super::parts::SendError;
use super::super::peer::Peer;
use super::super::stats::DropReason;
use super::Endpoint;
use crate::wire::{Flags, FrameRef, FrameType, Limits};
use std::net::SocketAddr;

impl Endpoint {
    /// The limits of frames to an address: this side's, and what its session said.
    #[must_use]
    pub fn limits_to(&self, with: SocketAddr) -> Limits {
        let index = self.session_at(with);
        self.envelope(index.unwrap_or(usize::MAX), false).1
    }

    /// Notes that the shell had to drop a message that it was handed.
    pub fn note_dropped(&mut self, reason: DropReason) {
        self.stats.drop(reason);
    }

    pub(super) fn check(&self, index: usize, frame: FrameRef<'_>) -> Result<(), SendError> {
        check(frame, self.peer(index).is_some_and(Peer::has_gzip))
    }
}

/// What only the transport may send or set; `gzip`: whether payloads may be compressed.
fn check(frame: FrameRef<'_>, gzip: bool) -> Result<(), SendError> {
    let is_answer = frame.typ == FrameType::Err && frame.headers.get("correlation-id").is_some();
    if !frame.typ.is_message() && !is_answer {
        return Err(SendError::ReservedType);
    }
    if frame.flags.contains(Flags::FRAG) {
        return Err(SendError::FlagNotAllowed("FRAG"));
    }
    if frame.flags.contains(Flags::COMP) && !(gzip && frame.typ.is_message()) {
        return Err(SendError::FlagNotAllowed("COMP"));
    }
    let reserved = |header: crate::wire::Header<'_>| fields::reserved_in_message(header.key);
    match frame.headers.iter().find_map(reserved) {
        Some(key) => Err(SendError::ReservedHeader(key)),
        None => Ok(()),
    }
}
