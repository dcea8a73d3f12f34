//! How a connection ends because of what was received, or what was not: the peer is told where it can be,
//! and whoever reads gets the reason. Parts of [`Reader`].

use super::outbox::Fin;
use super::reader::{Ended, FAREWELL, Reader};
use super::stats;
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::metrics::Family;
use crate::net::clock;
use crate::net::identity::Identity;
use crate::net::stream::ReadOutcome;
use crate::proto::session::{Session, error_frame};
use crate::proto::{ErrorCode, Violation};
use crate::wire::{Frame, FrameType};
use std::time::Instant;

/// How much of what a peer is still sending is read, so that the ERR is not lost to a reset (bytes).
const FAREWELL_LEN: usize = 256 * 1024;
/// Why a client gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrecognised {
    Refused,
    TimedOut,
    /// Too many others are being judged.
    Busy,
    ShuttingDown,
}

impl Reader {
    /// Server: opens the session of a client that was recognised, or ends the connection.
    pub(crate) fn welcome(
        &mut self,
        client: Result<Identity, Unrecognised>,
    ) -> Result<(), VstpError> {
        let why = match client {
            Ok(identity) => {
                // Set once: a stream has one HELLO.
                let _ = self.shared.identity.set(identity);
                self.session.welcome();
                self.publish_session();
                return self.send_answers();
            }
            Err(why) => why,
        };
        let error = match why {
            Unrecognised::Refused => return Err(self.refuse(Violation::Unauthorized)),
            Unrecognised::TimedOut => return Err(self.expire(TimeoutKind::Handshake)),
            Unrecognised::Busy => error_frame(ErrorCode::Busy, "too many clients at once", None),
            Unrecognised::ShuttingDown => {
                error_frame(ErrorCode::ShuttingDown, "the server is going away", None)
            }
        };
        self.finish_with(&error)?;
        Err(VstpError::ConnectionClosed(ClosedBy::Local))
    }

    /// A deadline of the protocol has passed: the peer is told, as far as it takes it at once.
    pub(crate) fn expire(&self, kind: TimeoutKind) -> VstpError {
        let report = error_frame(ErrorCode::Timeout, &kind.to_string(), None);
        self.shared
            .outbox
            .finish_now(Some(&report), ClosedBy::Error);
        VstpError::Timeout(kind)
    }

    /// Reports a violation to the peer and ends the connection.
    pub(super) fn refuse(&mut self, violation: Violation) -> VstpError {
        // ERR is never answered, not even a broken one.
        let about_err = self
            .decoder
            .head()
            .is_some_and(|head| head.typ == FrameType::Err);
        let report = (!about_err).then(|| Session::fatal_error_frame(&violation));
        let until = clock::after(FAREWELL);
        // The error of the peer is what the caller must see, not that it does not listen.
        let _ = self
            .shared
            .outbox
            .finish(report.as_ref(), ClosedBy::Error, Fin::Send, until);
        self.linger(until);
        violation.into()
    }

    /// Ends the connection with this frame, an ERR.
    pub(crate) fn finish_with(&mut self, last: &Frame) -> Result<(), VstpError> {
        let until = clock::after(FAREWELL);
        self.shared
            .outbox
            .finish(Some(last), ClosedBy::Error, Fin::Send, until)?;
        self.linger(until);
        Ok(())
    }

    /// Reads and forgets what the peer is still sending, within bounds. Closing a socket with
    /// unread bytes resets it, and a reset can destroy the ERR on its way.
    fn linger(&mut self, until: Option<Instant>) {
        let mut sink = Vec::with_capacity(16 * 1024);
        let mut total = 0;
        while total < FAREWELL_LEN {
            sink.clear();
            match self.half.read(&mut sink, until) {
                Ok(ReadOutcome::Bytes(len) | ReadOutcome::Sealed(len)) => total += len,
                _ => return,
            }
        }
    }

    /// The session is over, and both sides agree.
    pub(super) fn ended_in_order(&mut self) {
        self.ended = Some(Ended::Clean);
        let outbox = &self.shared.outbox;
        if let Some(log) = &outbox.log {
            log.ended(outbox.closed().unwrap_or(ClosedBy::Peer(None)), None);
        }
    }

    /// Remembers how it ended.
    pub(super) fn ended_with(&mut self, error: VstpError) -> VstpError {
        let by = match &error {
            // This one ends a request, not the connection.
            VstpError::ServerError(remote) if remote.correlation_id.is_some() => return error,
            // What another thread did on purpose is the reason, and this its effect.
            VstpError::ConnectionClosed(by) => self.shared.aborted.get().copied().unwrap_or(*by),
            _ => ClosedBy::Error,
        };
        self.ended = Some(Ended::By(by));
        let place = stats::ended_by(&error, by);
        if let Some(log) = &self.shared.outbox.log {
            log.ended(by, place.map(stats::reason));
        }
        // Before that it is the handshake that failed, which is counted there.
        if self.session.established().is_some() {
            if let Some(place) = place {
                self.shared.meter.add(Family::ConnectionErrors, place);
            }
        }
        // A peer that has only ended its sending direction can still be answered.
        if by != ClosedBy::PeerWithoutBye {
            self.shared.abort(by);
        }
        match error {
            VstpError::ConnectionClosed(_) => VstpError::ConnectionClosed(by),
            other => other,
        }
    }
}
