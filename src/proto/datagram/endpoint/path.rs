//! What the system says of the way to a peer: that it takes no datagram of some length.

use super::super::parts::Failure;
use super::super::peer::Peer;
use super::Endpoint;
use std::net::SocketAddr;

impl Endpoint {
    /// A datagram of `len` bytes to `to` is larger than the network takes (EMSGSIZE): acknowledged
    /// sends that need such datagrams are given up, since they would fare no better the next time.
    ///
    /// Shorter ones go on, and so does the session. How many were given up.
    pub fn handle_too_large(&mut self, to: SocketAddr, len: usize) -> usize {
        let session = self.session_with(to);
        let indexes = [session, self.strangers.get(&to).copied()];
        let mut count = 0;
        for index in indexes.into_iter().flatten() {
            let added = self.peer(index).map_or(0, Peer::sealed_overhead);
            if let Some(sends) = self.peer_mut(index).and_then(Peer::sends_mut) {
                // What is compared are plain datagrams.
                let plain_len = len.saturating_sub(added);
                count += sends.fail_longer(plain_len, Failure::TooLarge { len });
            }
            self.collect(index);
            // What waited for them can go on.
            self.mark_active(index);
        }
        count
    }
}
