//! [`Sender`]: a clonable handle that queues frames, bounded, from any thread.

use super::shared::Shared;
use crate::error::VstpError;
use crate::ext::Outgoing;
use crate::net::clock;
use crate::wire::Frame;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Queues frames for a connection; clone it for every thread that sends.
///
/// The queue is bounded ([`TcpConfig::send_queue`](super::TcpConfig::send_queue)) and written by a
/// thread of its own (`vstp-writer`), which ends with the last sender or with the connection.
/// Control frames overtake what is queued. A sender does not keep its connection open.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
}

/// The frame could not be queued; here it is back.
#[derive(Debug, Error)]
#[error("frame was not queued")]
pub struct SendError {
    /// The frame, unchanged.
    pub frame: Frame,
    /// Why.
    #[source]
    pub error: VstpError,
}

impl From<SendError> for VstpError {
    /// For those who do not want the frame back.
    fn from(error: SendError) -> Self {
        error.error
    }
}

impl Sender {
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Self, VstpError> {
        // Counted first, so that a thread that is about to end for want of senders stays.
        shared.outbox.add_sender();
        let sender = Self {
            shared: Arc::clone(shared),
        };
        shared.start_writer().map_err(VstpError::Io)?;
        Ok(sender)
    }

    /// Queues a frame.
    ///
    /// # Blocking
    /// Until the queue has room, or the connection closes.
    ///
    /// # Errors
    /// The frame comes back with `ConnectionClosed`, `Encode`, `FrameTooLarge` or `Extension`.
    pub fn send(&self, frame: Frame) -> Result<(), SendError> {
        self.enqueue(frame, Some(None))
    }

    /// Queues a frame if there is room now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `Backpressure` when the queue is full.
    pub fn try_send(&self, frame: Frame) -> Result<(), SendError> {
        self.enqueue(frame, None)
    }

    /// Queues a frame, waiting at most this long for room.
    ///
    /// # Blocking
    /// Until the queue has room, or the timeout.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `Timeout(Send)`.
    pub fn send_timeout(&self, frame: Frame, timeout: Duration) -> Result<(), SendError> {
        self.enqueue(frame, Some(clock::after(timeout)))
    }

    fn enqueue(
        &self,
        frame: Frame,
        until: Option<Option<std::time::Instant>>,
    ) -> Result<(), SendError> {
        let changed = match self.shared.outgoing(frame.as_ref()) {
            Ok(Outgoing::Same(flags)) if flags == frame.flags => None,
            Ok(outgoing) => match outgoing.of(frame.as_ref()) {
                Some(changed) => Some(changed.to_owned()),
                None => return Ok(()),
            },
            Err(error) => return Err(SendError { frame, error }),
        };
        let outbox = &self.shared.outbox;
        match changed {
            None => outbox
                .enqueue(frame, until)
                .map_err(|(frame, error)| SendError { frame, error }),
            // The caller gets back what it gave.
            Some(changed) => outbox
                .enqueue(changed, until)
                .map_err(|(_, error)| SendError { frame, error }),
        }
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.outbox.closed().is_some()
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        self.shared.outbox.add_sender();
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.outbox.remove_sender();
    }
}
