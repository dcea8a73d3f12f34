//! Messages between the application and the protocol: extensions and compression out, inflating and
//! extensions in.
//!
//! Runs on the thread that sends or receives, never on the socket's own two, and without the lock of the
//! protocol: that is taken only to look up a session.

use super::core::Incoming;
use super::driver::Driver;
use crate::error::VstpError;
use crate::ext::{self, Direction, ExtensionContext, Inbound, Link, Outgoing, TransportKind};
use crate::metrics::{Family, SENT};
use crate::net::clock;
use crate::net::tcp::memory::MemoryShare;
use crate::proto::datagram::DropReason;
use crate::proto::keys;
use crate::proto::session::error_frame;
use crate::wire::{Flags, Frame, FrameRef, Trailer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often who waits for memory looks whether the socket is still open.
const MEMORY_TICK: Duration = Duration::from_millis(50);

impl Driver {
    /// What becomes of a frame that is to be sent.
    pub(super) fn outgoing(
        &self,
        frame: FrameRef<'_>,
        to: SocketAddr,
    ) -> Result<Outgoing, VstpError> {
        let pipeline = &self.config.pipeline;
        if !pipeline.concerns(frame) {
            return Ok(Outgoing::Same(frame.flags));
        }
        let (link, session) = self.link(to);
        let outgoing = pipeline.outbound(frame, &link, || {
            context(Direction::Outbound, to).with_session(session)
        });
        if matches!(outgoing, Err(VstpError::Extension(_))) {
            self.meter().add(Family::ExtensionFailures, SENT);
        }
        outgoing
    }

    fn link(&self, to: SocketAddr) -> (Link, Option<u128>) {
        let core = self.lock();
        let session = core.endpoint.session(to);
        let link = Link {
            gzip: session.is_some_and(|(_, features)| features.contains(keys::GZIP)),
            limits: core.endpoint.limits_to(to),
            trailer: Trailer::Always,
        };
        (link, session.map(|(id, _)| id))
    }

    /// Sends, once, what an extension has answered: it has passed the extensions.
    pub(crate) fn send_answers(&self, answers: &[Frame], to: SocketAddr) {
        for answer in answers {
            if let Err(error) = self.send_answer(answer, to) {
                log::debug!("an answer to {to} was not sent: {error}");
            }
        }
    }

    fn send_answer(&self, frame: &Frame, to: SocketAddr) -> Result<(), VstpError> {
        let (link, _) = self.link(to);
        let compressed = self.config.pipeline.compress(frame.as_ref(), &link)?;
        let Some(frame) = compressed.of(frame.as_ref()) else {
            return Ok(());
        };
        self.send_frame(frame, to)
    }

    /// Inflates a message; `None` when that is not possible, which is counted, or when the socket was
    /// closed meanwhile. The share is to be kept as long as the message.
    pub(crate) fn inflate(&self, incoming: Incoming) -> Option<(Incoming, Option<MemoryShare>)> {
        let Incoming { frame, .. } = &incoming;
        if !frame.flags.contains(Flags::COMP) {
            return Some((incoming, None));
        }
        let cap = self.config.endpoint.max_frame_len;
        let mut share = MemoryShare::new(Some(Arc::clone(&self.memory)));
        let len = ext::inflated_len(frame.as_ref(), cap);
        while !share.resize(len, Some(clock::after_or_far(MEMORY_TICK))) {
            if self.lock().closed {
                return None;
            }
        }
        match ext::inflate(frame.as_ref(), cap) {
            Ok(frame) => Some((Incoming { frame, ..incoming }, Some(share))),
            Err(error) => {
                log::trace!("a message from {} was dropped: {error}", incoming.from);
                let core = &mut self.lock().endpoint;
                core.note_dropped(DropReason::Compression);
                None
            }
        }
    }

    /// What becomes of a message that was received and inflated. An extension that fails is counted.
    pub(crate) fn extend(&self, incoming: Incoming) -> Inbound {
        let Incoming {
            from,
            session,
            frame,
            ..
        } = incoming;
        let pipeline = &self.config.pipeline;
        let done = pipeline.inbound(frame, || {
            context(Direction::Inbound, from).with_session(session)
        });
        if matches!(done, Inbound::Failed(_)) {
            self.extension_failures.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    /// What the stack of a worker needs in addition (bytes).
    pub(crate) fn extra_stack_len(&self) -> usize {
        let config = &self.config;
        config.pipeline.stack_len(&config.endpoint.features)
    }

    /// A message for a caller that waits for one; `None` when there is nothing for it.
    pub(super) fn deliver(&self, incoming: Incoming) -> Option<Incoming> {
        let (incoming, _) = self.inflate(incoming)?;
        if !self.config.pipeline.has_extensions() {
            return Some(incoming);
        }
        let (from, session) = (incoming.from, incoming.session);
        let identity = incoming.identity.clone();
        let id = incoming.frame.header(keys::CORRELATION_ID);
        let id = id.map(<[u8]>::to_vec);
        match self.extend(incoming) {
            Inbound::Deliver(frame) => {
                return Some(Incoming {
                    from,
                    session,
                    identity,
                    frame,
                });
            }
            Inbound::Consumed => {}
            Inbound::Answered(answers) => self.send_answers(&answers, from),
            // Its sender learns of it as from a handler; a client has no handlers.
            Inbound::Failed(failed) => {
                if let (true, Some(id)) = (self.config.endpoint.accept_sessions, id) {
                    let error = &failed.error;
                    let frame = error_frame(error.code, &error.message, Some(&id));
                    let _ = self.send_frame(frame.as_ref(), from);
                }
            }
        }
        None
    }

    /// Waits for a message; `Ok(None)` when the deadline has passed.
    pub(crate) fn recv_message(
        &self,
        until: Option<Instant>,
    ) -> Result<Option<Incoming>, VstpError> {
        loop {
            let Some(incoming) = self.recv(until)? else {
                return Ok(None);
            };
            if let Some(incoming) = self.deliver(incoming) {
                return Ok(Some(incoming));
            }
            // Messages that are kept back must not keep the caller.
            if until.is_some_and(|at| clock::now() >= at) {
                return Ok(None);
            }
        }
    }
}

fn context(direction: Direction, peer: SocketAddr) -> ExtensionContext {
    ExtensionContext::new(direction, TransportKind::Udp, peer)
}
