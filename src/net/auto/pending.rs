//! [`PendingCall`]: a request that waits for its answer.

use super::inner::{Inner, TICK, check, is_past, wait};
use crate::error::{TimeoutKind, VstpError};
use crate::net::clock;
use crate::net::udp::Delivery;
use crate::proto::auto::Via;
use crate::proto::keys;
use crate::wire::Frame;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that waits for its answer. Dropped, it is given up: an answer that comes later is dropped.
#[derive(Debug)]
pub(crate) struct PendingCall {
    inner: Arc<Inner>,
    id: Vec<u8>,
    until: Option<Instant>,
    /// Over UDP: its way to the server, and what is sent over TCP if UDP fails.
    udp: Option<(Delivery, Option<Frame>)>,
}

impl PendingCall {
    /// Sends a request. Without a `correlation-id` it gets one.
    pub(super) fn start(
        inner: &Arc<Inner>,
        mut frame: Frame,
        via: Via,
        until: Option<Instant>,
    ) -> Result<Self, VstpError> {
        check(&frame)?;
        let half = inner.choose(via, frame.payload.len())?;
        let id = {
            let mut state = inner.lock();
            let id = match frame.header(keys::CORRELATION_ID) {
                Some(id) => id.to_vec(),
                None => {
                    let id = state.new_call_id();
                    frame = frame.with_header(keys::CORRELATION_ID, &id);
                    id.into_bytes()
                }
            };
            // Before it is sent, so that no answer is too early.
            state.calls.insert(id.clone(), None);
            id
        };
        // From here on, dropping it takes the place of the answer away.
        let mut call = Self {
            inner: Arc::clone(inner),
            id,
            until,
            udp: None,
        };
        match half {
            None => inner.send_tcp(&frame)?,
            Some(half) => match inner.start_udp(&half, frame.clone(), via) {
                Ok(started) => call.udp = Some(started),
                // The session on UDP has just ended; nothing was sent.
                Err(VstpError::ConnectionClosed(_) | VstpError::Timeout(_)) if via == Via::Auto => {
                    inner.send_tcp(&frame)?;
                }
                Err(error) => return Err(error),
            },
        }
        Ok(call)
    }

    /// Waits for the answer.
    pub(crate) fn wait(&mut self) -> Result<Frame, VstpError> {
        loop {
            if self.must_move()? {
                self.send_over_tcp()?;
            }
            let inner = Arc::clone(&self.inner);
            let mut state = inner.lock();
            // With UDP, its failure is looked for again and again.
            let look_at = match self.udp {
                Some(_) => clock::after(TICK),
                None => None,
            };
            loop {
                if let Some(answer) = state.calls.get_mut(&self.id).and_then(Option::take) {
                    return answer;
                }
                if let Some(error) = state.end_error() {
                    return Err(error);
                }
                if is_past(self.until) {
                    let accepted = self
                        .udp
                        .as_ref()
                        .is_none_or(|(delivery, _)| delivery.is_done());
                    let kind = if accepted {
                        TimeoutKind::Recv
                    } else {
                        TimeoutKind::Ack
                    };
                    return Err(inner.too_late(&state, kind));
                }
                if is_past(look_at) {
                    break;
                }
                let next = self.until.into_iter().chain(look_at).min();
                state = wait(&inner.settled, state, next);
            }
        }
    }

    /// Whether UDP has failed before the answer came.
    fn must_move(&self) -> Result<bool, VstpError> {
        let Some((delivery, again)) = &self.udp else {
            return Ok(false);
        };
        match delivery.wait_timeout(Duration::ZERO) {
            Ok(()) | Err(VstpError::Timeout(TimeoutKind::Send)) => {
                Ok(again.is_some() && self.inner.lock().udp_failed())
            }
            Err(error) => {
                self.inner.note_failure(&error);
                match again {
                    Some(_) => Ok(true),
                    None => Err(error),
                }
            }
        }
    }

    /// The server knows the number: it handles the request once, and answers again if it did so already.
    fn send_over_tcp(&mut self) -> Result<(), VstpError> {
        if let Some((delivery, Some(frame))) = self.udp.take() {
            delivery.cancel();
            self.inner.send_tcp(&frame)?;
        }
        Ok(())
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.inner.lock().calls.remove(&self.id);
        if let Some((delivery, _)) = self.udp.take() {
            delivery.cancel();
        }
    }
}
