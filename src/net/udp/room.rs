//! Back-pressure for sends with acknowledgement: the queue of those that have not ended is bounded, and
//! callers wait for room in it. Driven by [`Driver::start_send`].

use super::config::UdpConfig;
use super::core::Core;
use super::driver::{Driver, closed};
use crate::error::VstpError;
use crate::net::clock;
use std::sync::MutexGuard;
use std::time::Duration;

/// Messages that begin together where callers waited for room.
const BATCH_COUNT: usize = 128;
/// Who waits for room waits so long for room for such a batch.
const BATCH_TIME: Duration = Duration::from_millis(5);

impl Driver {
    /// The protocol, locked, once there is room for one more such send of `len` bytes, or the socket is
    /// closed.
    pub(super) fn lock_with_room(&self, len: usize) -> Result<MutexGuard<'_, Core>, VstpError> {
        let mut core = self.lock();
        // Again, since of those that have waited another may have been first.
        while !core.closed && !core.has_room(&self.config, len) {
            drop(core);
            self.wait_for_room(len)?;
            core = self.lock();
        }
        Ok(core)
    }

    /// Waits until a send may begin, if possible as the first of a batch. Not for long: what one peer
    /// does not acknowledge may hold so many places that there never are enough for that.
    fn wait_for_room(&self, len: usize) -> Result<(), VstpError> {
        let until = clock::now().checked_add(BATCH_TIME);
        let batch = |core: &mut Core| core.has_room_for_batch(&self.config, len).then_some(());
        let room = |core: &mut Core| core.has_room(&self.config, len).then_some(());
        let waited = self.wait_for(until, batch);
        let waited = waited.or_else(|| self.wait_for(None, room));
        waited.ok_or_else(closed)
    }
}

impl Core {
    /// Whether an acknowledged send of `len` bytes may begin.
    pub(super) fn has_room(&self, config: &UdpConfig, len: usize) -> bool {
        self.pending_count == 0
            || (self.pending_count < config.send_queue_count
                && self.pending_len + len <= config.send_queue_len)
    }

    /// The same for a caller that has waited: better to go on when there is room for a batch, not for each
    /// message that was acknowledged.
    fn has_room_for_batch(&self, config: &UdpConfig, len: usize) -> bool {
        let batch = BATCH_COUNT.min(config.send_queue_count / 4);
        let is_narrow = self.pending_count + batch > config.send_queue_count;
        self.has_room(config, len) && !is_narrow
    }
}
