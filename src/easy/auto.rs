//! [`AutoLink`]: both transports under a client of typed messages, and its own calls.

use crate::error::{ClosedBy, VstpError};
use crate::net::auto::{PendingCall, VstpAutoClient};
use crate::net::clock;
use crate::proto::auto::Via;
use crate::wire::Frame;
use std::time::{Duration, Instant};

/// A client over both transports, with the timeout of the typed calls.
#[derive(Debug)]
pub(super) struct AutoLink {
    pub(super) client: VstpAutoClient,
    pub(super) timeout: Option<Duration>,
}

impl AutoLink {
    pub(super) const fn new(client: VstpAutoClient, timeout: Option<Duration>) -> Self {
        Self { client, timeout }
    }

    fn call_deadline(&self) -> Option<Instant> {
        match self.timeout {
            Some(timeout) => clock::after(timeout),
            None => self.client.call_deadline(),
        }
    }

    pub(super) fn send_with_ack(&self, frame: Frame, via: Via) -> Result<(), VstpError> {
        let until = self.call_deadline();
        self.client.send_with_ack_until(frame, via, until)
    }

    pub(super) fn request(&self, frame: Frame, via: Via) -> Result<PendingCall, VstpError> {
        self.client.start_call(frame, via, self.call_deadline())
    }

    pub(super) fn receive_deadline(&self) -> Option<Instant> {
        self.timeout.and_then(clock::after)
    }

    /// The orderly end is an error here: whoever receives wants a message.
    pub(super) fn receive(&self, until: Option<Instant>) -> Result<Frame, VstpError> {
        let received = self.client.recv_until(until)?;
        let (frame, _) = received.ok_or(VstpError::ConnectionClosed(ClosedBy::Peer(None)))?;
        Ok(frame)
    }
}
