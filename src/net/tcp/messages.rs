//! Messages between the application and the outbox: extensions and compression out, extensions in.
//!
//! Runs on the thread that sends or receives, without a lock. What was compressed is inflated by the
//! reader, which knows how to end the connection over it.

use super::shared::Shared;
use crate::error::VstpError;
use crate::ext::{Direction, ExtensionContext, Inbound, Link, Outgoing, TransportKind};
use crate::metrics::{Family, RECEIVED, SENT};
use crate::net::call::CallError;
use crate::proto::keys;
use crate::proto::session::error_frame;
use crate::wire::{Frame, FrameRef};
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Shared {
    /// Sends one frame of the application; returns when the system has taken all of it.
    pub(crate) fn send(&self, frame: FrameRef<'_>) -> Result<(), VstpError> {
        if !self.changes(frame) {
            return self.outbox.send(frame);
        }
        match self.outgoing(frame)?.of(frame) {
            Some(frame) => self.outbox.send(frame),
            None => Ok(()),
        }
    }

    /// The same for a request: it waits for other threads until `until` at most, and an error says what
    /// became of it. One that an extension has kept may still be answered by it.
    pub(super) fn send_request(
        &self,
        frame: FrameRef<'_>,
        until: Option<Instant>,
    ) -> Result<(), CallError> {
        let outgoing = self.outgoing(frame).map_err(CallError::not_sent)?;
        outgoing
            .of(frame)
            .map_or(Ok(()), |frame| self.outbox.send_request(frame, until))
    }

    /// The same for what an extension has answered: it has passed the extensions.
    pub(crate) fn send_answer(&self, frame: &Frame) -> Result<(), VstpError> {
        let compressed = self.pipeline.compress(frame.as_ref(), &self.link())?;
        compressed
            .of(frame.as_ref())
            .map_or(Ok(()), |frame| self.outbox.send(frame))
    }

    /// Whether [`Self::outgoing`] does anything with it.
    #[inline]
    pub(super) fn changes(&self, frame: FrameRef<'_>) -> bool {
        self.pipeline.concerns(frame)
    }

    /// What becomes of a frame that is to be sent.
    pub(crate) fn outgoing(&self, frame: FrameRef<'_>) -> Result<Outgoing, VstpError> {
        if !self.changes(frame) {
            return Ok(Outgoing::Same(frame.flags));
        }
        let context = || self.context(Direction::Outbound);
        let outgoing = self.pipeline.outbound(frame, &self.link(), context);
        if matches!(outgoing, Err(VstpError::Extension(_))) {
            self.meter.add(Family::ExtensionFailures, SENT);
        }
        outgoing
    }

    fn link(&self) -> Link {
        Link {
            gzip: self.gzip.load(Ordering::Relaxed),
            limits: self.outbox.limits(),
            trailer: self.outbox.trailer(),
        }
    }

    fn context(&self, direction: Direction) -> ExtensionContext {
        let transport = if self.tls.is_some() {
            TransportKind::Tls
        } else {
            TransportKind::PlainTcp
        };
        let session = self.established().map(|e| e.session_id);
        ExtensionContext::new(direction, transport, self.peer_addr).with_session(session)
    }

    /// What becomes of a message that was received.
    pub(crate) fn incoming(&self, frame: Frame) -> Inbound {
        let context = || self.context(Direction::Inbound);
        let done = self.pipeline.inbound(frame, context);
        if matches!(done, Inbound::Failed(_)) {
            self.meter.add(Family::ExtensionFailures, RECEIVED);
        }
        done
    }

    /// Whether [`Self::incoming`] does anything.
    #[inline]
    pub(super) fn has_extensions(&self) -> bool {
        self.pipeline.has_extensions()
    }

    /// A message for a caller that waits for one; `None` when an extension has kept or answered it.
    ///
    /// `is_server`: whose peer sends requests, and so is told when one of them cannot be served.
    pub(super) fn deliver(
        &self,
        frame: Frame,
        is_server: bool,
    ) -> Result<Option<Frame>, VstpError> {
        if !self.has_extensions() {
            return Ok(Some(frame));
        }
        let id = frame.header(keys::CORRELATION_ID).map(<[u8]>::to_vec);
        match self.incoming(frame) {
            Inbound::Deliver(frame) => Ok(Some(frame)),
            Inbound::Consumed => Ok(None),
            Inbound::Answered(frames) => {
                frames
                    .iter()
                    .try_for_each(|frame| self.send_answer(frame))?;
                Ok(None)
            }
            Inbound::Failed(failed) => {
                if let (true, Some(id)) = (is_server, id) {
                    let error = &failed.error;
                    let frame = error_frame(error.code, &error.message, Some(&id));
                    self.outbox.send(frame.as_ref())?;
                }
                Err(VstpError::Extension(Box::new(failed)))
            }
        }
    }
}
