//! The receiving end of the [`Driver`]'s queue of messages: how much may be in it, and how they leave it.
//!
//! Whoever reads the socket fills it (`Core::hand_over`); the callers and a server's workers empty it.

use super::core::Incoming;
use super::driver::{Driver, closed};
use super::socket::TICK;
use crate::error::VstpError;
use crossbeam_channel::{RecvTimeoutError, TryRecvError};
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Driver {
    pub(super) fn has_inbox_room(&self) -> bool {
        let len = self.inbox_len.load(Ordering::Relaxed);
        // An empty queue takes a message of any size; an empty message takes a place.
        let count = self.messages.len();
        count == 0 || (count < self.config.recv_queue_count && len < self.config.recv_queue_len)
    }

    /// Waits a tick for a message that somebody else reads: for workers, of which one that reads would not work.
    /// `on_taken` is called while the inbox still counts it: who asks for both never sees it in neither.
    pub(crate) fn next_message(
        &self,
        wait: Duration,
        on_taken: impl FnOnce(),
    ) -> Result<Option<Incoming>, VstpError> {
        match self.messages.recv_timeout(wait.min(TICK)) {
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(closed()),
            Ok(incoming) => {
                on_taken();
                Ok(Some(self.taken(incoming)))
            }
        }
    }

    /// A message that is there already.
    pub(crate) fn try_recv(&self) -> Result<Option<Incoming>, VstpError> {
        match self.messages.try_recv() {
            Ok(incoming) => Ok(Some(self.taken(incoming))),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(closed()),
        }
    }

    fn taken(&self, incoming: Incoming) -> Incoming {
        self.inbox_len.fetch_sub(incoming.len(), Ordering::Release);
        incoming
    }

    pub(crate) fn inbox_is_empty(&self) -> bool {
        self.inbox_len.load(Ordering::Acquire) == 0
    }
}
