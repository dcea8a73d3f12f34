//! Addresses without a session: so many are remembered, and no trace of the others.

use super::super::parts::Failure;
use super::super::peer::Peer;
use super::Endpoint;
use std::net::SocketAddr;
use std::time::Instant;

impl Endpoint {
    /// The stranger at this address; made, and another forgotten for it, when there is none.
    pub(super) fn stranger(&mut self, now: Instant, addr: SocketAddr) -> usize {
        if let Some(&index) = self.strangers.get(&addr) {
            return index;
        }
        while self.strangers.len() >= self.config.max_strangers {
            if !self.forget_a_stranger() {
                break;
            }
        }
        let index = self.add_peer(Peer::new(addr, None, &self.config, now));
        self.strangers.insert(addr, index);
        self.stranger_order.push_back((index, addr));
        // Those who left by themselves must not pile up here.
        if self.stranger_order.len() > 2 * self.strangers.len() + 64 {
            let strangers = &self.strangers;
            self.stranger_order
                .retain(|(index, addr)| strangers.get(addr) == Some(index));
        }
        index
    }

    /// Forgets the stranger that has been there longest; one to whom this side is sending something
    /// only if there are no others.
    fn forget_a_stranger(&mut self) -> bool {
        for attempt in 0..=self.stranger_order.len() {
            let Some((index, addr)) = self.stranger_order.pop_front() else {
                return false;
            };
            if self.strangers.get(&addr) != Some(&index) {
                continue;
            }
            let is_last = attempt == self.stranger_order.len();
            if self.peer(index).is_some_and(Peer::is_busy) && !is_last {
                self.stranger_order.push_back((index, addr));
                continue;
            }
            self.strangers.remove(&addr);
            self.remove_peer(index, Failure::TimedOut);
            return true;
        }
        false
    }
}
