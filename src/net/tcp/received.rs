//! A message that the reader has found: inflated, and through the extensions.

use super::reader::{MEMORY_TICK, Reader};
use crate::error::{TimeoutKind, VstpError};
use crate::ext;
use crate::net::clock;
use crate::wire::Frame;

impl Reader {
    /// Inflates the message that is ready, within the frame limit and the server's memory.
    pub(super) fn inflate(&mut self) -> Result<(), VstpError> {
        let (frame, cap) = (self.decoder.frame(), self.max_frame_len);
        let wanted = self.decoder.memory() + ext::inflated_len(frame, cap);
        let until = clock::after(self.frame_deadline.allowance(cap));
        while !self
            .memory
            .resize(wanted, Some(clock::after_or_far(MEMORY_TICK)))
        {
            if let Some(by) = self.shared.aborted.get() {
                return Err(VstpError::ConnectionClosed(*by));
            }
            if until.is_some_and(|at| clock::now() >= at) {
                return Err(self.expire(TimeoutKind::Frame));
            }
        }
        match ext::inflate(self.decoder.frame(), cap) {
            Ok(frame) => {
                self.lent = Some(frame);
                Ok(())
            }
            Err(error) => Err(self.refuse(error.into())),
        }
    }

    /// A message through the extensions; `None` when one of them has kept or answered it.
    pub(crate) fn deliver(&self, frame: Frame) -> Result<Option<Frame>, VstpError> {
        self.shared.deliver(frame, self.session.is_server())
    }

    pub(crate) fn has_extensions(&self) -> bool {
        self.shared.has_extensions()
    }
}
