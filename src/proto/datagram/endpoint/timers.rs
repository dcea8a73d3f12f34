//! What an endpoint does when nothing arrives: which peer to look at when, and what is due then.

use super::super::parts::Failure;
use super::super::peer::{Fate, Shared};
use super::Endpoint;
use std::cmp::Reverse;
use std::time::Instant;

impl Endpoint {
    pub(super) fn schedule(&mut self, now: Instant, index: usize) {
        let peer = self.peers.get_mut(index).and_then(Option::as_deref_mut);
        let Some(peer) = peer else {
            return;
        };
        let Some(at) = peer.deadline(now) else {
            return;
        };
        if peer.scheduled.is_none_or(|scheduled| at < scheduled) {
            peer.scheduled = Some(at);
            self.timers.push(Reverse((at, index)));
            // A flood of strangers, each forgotten for the next, leaves a timer of each behind.
            if self.timers.len() > 4 * self.peers.len() + 64 {
                let peers = &self.peers;
                self.timers.retain(|Reverse((at, index))| {
                    let peer = peers.get(*index).and_then(Option::as_deref);
                    peer.is_some_and(|peer| peer.scheduled == Some(*at))
                });
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called; later is allowed, earlier does no harm.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let peers = self.timers.peek().map(|Reverse((at, _))| *at);
        let others = [self.connecting_deadline(), self.judging_deadline()];
        peers.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Does what is due: resends, gives up, says HELLO, PING and BYE, forgets.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clamp(now);
        self.connecting_timeout(now);
        self.judging_timeout(now);
        while let Some(Reverse((at, index))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let peer = self.peers.get_mut(index).and_then(Option::as_deref_mut);
            let Some(peer) = peer else {
                continue;
            };
            if peer.scheduled.is_some_and(|scheduled| scheduled <= at) {
                peer.scheduled = None;
            }
            let mut shared = Shared {
                config: &self.config,
                totals: &mut self.totals,
                stats: &mut self.stats,
            };
            let fate = peer.handle_timeout(now, &mut shared);
            let addr = peer.addr;
            self.collect(index);
            self.note_reassembly(index);
            match fate {
                Fate::Stays => {
                    self.send_challenge(now, index);
                    self.mark_active(index);
                }
                Fate::Ended(by) => self.end_session(index, by),
                Fate::Forgotten => {
                    self.strangers.remove(&addr);
                    self.remove_peer(index, Failure::TimedOut);
                }
            }
        }
    }
}
