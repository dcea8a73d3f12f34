//! Back-pressure for sends without acknowledgement, which no window holds back: one thread sends for all,
//! and without this the others would queue faster than it sends. Driven by [`Driver::send_frame`].

use super::core::Core;
use super::driver::Driver;
use super::socket::TICK;
use std::sync::{MutexGuard, PoisonError};

/// They wait while so many bytes have not left.
const MAX_UNSENT_LEN: usize = 1024 * 1024;
/// What each of them counts beside its payload.
const UNSENT_COST: usize = 256;

impl Driver {
    /// The protocol, locked, once there is room for one more such send, or the socket is closed.
    pub(super) fn lock_to_send(&self) -> MutexGuard<'_, Core> {
        let mut core = self.lock();
        while core.unsent_len >= MAX_UNSENT_LEN && !core.closed {
            core.unsent_waiters += 1;
            let waited = self.drained.wait_timeout(core, TICK);
            core = waited.unwrap_or_else(PoisonError::into_inner).0;
            core.unsent_waiters -= 1;
        }
        core
    }
}

impl Core {
    /// A frame with this payload was queued for sending once.
    pub(super) fn sent_once(&mut self, payload_len: usize) {
        self.unsent_len += payload_len + UNSENT_COST;
    }
}
