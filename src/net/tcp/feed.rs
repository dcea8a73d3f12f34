//! The batch behind `feed` and `flush`: frames encoded one behind the other, written together.

use super::shared::Shared;
use crate::error::VstpError;
use crate::proto::tally::Tally;
use crate::wire::{self, FrameRef};
use std::sync::Arc;

/// The longest batch (bytes). With what TLS adds it still fits the largest segment that segmentation offload
/// takes, 65,483 bytes on loopback; the rest of a longer one would travel through the system by itself.
const BATCH_LEN: usize = 64 * 1024 - 256;
/// Payloads from this length on are not copied into the batch (bytes).
const DIRECT_LEN: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
    batch: Vec<u8>,
    frames: Tally,
}

impl Feed {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            batch: Vec::new(),
            frames: Tally::default(),
        }
    }

    /// Adds a frame; writes the batch first if the frame does not fit. After an error the frame is not in it.
    pub(crate) fn feed(&mut self, frame: FrameRef<'_>) -> Result<(), VstpError> {
        if !self.shared.changes(frame) {
            return self.add(frame);
        }
        match self.shared.outgoing(frame)?.of(frame) {
            Some(frame) => self.add(frame),
            None => Ok(()),
        }
    }

    fn add(&mut self, frame: FrameRef<'_>) -> Result<(), VstpError> {
        let outbox = &self.shared.outbox;
        let (trailer, limits) = (outbox.trailer(), outbox.limits());
        if frame.payload.len() < DIRECT_LEN {
            if self.batch.len() + frame.max_encoded_len() > BATCH_LEN {
                self.flush()?;
            }
            let len = wire::encode(frame, trailer, &limits, &mut self.batch)?;
            self.frames.note(frame.typ, len);
            return Ok(());
        }
        let start = self.batch.len();
        let head = wire::encode_head(frame, trailer, &limits, &mut self.batch)?;
        let tail = head.trailer.as_ref().map_or(&[][..], |bytes| bytes);
        self.frames.note(frame.typ, head.frame_len);
        let result = self.write(frame.payload, tail);
        if result.is_err() && !self.batch.is_empty() {
            self.batch.truncate(start);
            self.frames.take_back(frame.typ, head.frame_len);
        }
        result
    }

    /// Writes the batch.
    pub(crate) fn flush(&mut self) -> Result<(), VstpError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.write(&[], &[])
    }

    /// Writes the batch with what follows it. Where others were in the way for too long, nothing has
    /// been written, and the batch stays for the next time.
    fn write(&mut self, payload: &[u8], trailer: &[u8]) -> Result<(), VstpError> {
        let outbox = &self.shared.outbox;
        let result = outbox.send_encoded(&self.batch, payload, trailer, &self.frames);
        if result.is_ok() || outbox.closed().is_some() {
            self.batch.clear();
            self.frames = Tally::default();
        }
        result
    }
}
