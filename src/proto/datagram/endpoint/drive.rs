//! What the shell drives: datagrams out, events out, time in.

use super::super::parts::{Event, Failure, Transmit};
use super::super::peer::{Fate, Shared};
use super::Endpoint;
use crate::wire::Trailer;
use std::cmp::Reverse;
use std::time::Instant;

impl Endpoint {
    /// What happened, for each once; call it until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Fills `out` with up to `max_segments` datagrams for one destination; call it until `None`.
    ///
    /// All have the same length, the last may be shorter: the form that segmentation offload takes.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: usize,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let now = self.clamp(now);
        out.clear();
        if let Some((to, datagram)) = self.stray.pop_front() {
            out.extend_from_slice(&datagram);
            self.stats.datagrams_sent += 1;
            self.stats.bytes_sent += datagram.len() as u64;
            // Those of sealed ones were counted when they were sealed.
            let frames = &mut self.stats.frames_sent;
            frames.note_datagram(&datagram, Trailer::Always);
            return Some(Transmit {
                to,
                segment_len: datagram.len(),
            });
        }
        while let Some(&index) = self.active.front() {
            self.end_spent(now, index);
            let mut shared = Shared {
                config: &self.config,
                totals: &mut self.totals,
                stats: &mut self.stats,
            };
            if let Some(peer) = self.peers.get_mut(index).and_then(Option::as_deref_mut) {
                let to = peer.addr;
                let polled = peer.poll_transmit(now, max_segments, out, &mut shared);
                if let Some((segment_len, true)) = polled {
                    // The next call is another peer's turn.
                    self.active.rotate_left(1);
                    return Some(Transmit { to, segment_len });
                }
                peer.is_active = false;
                if let Some((segment_len, false)) = polled {
                    self.active.pop_front();
                    self.schedule(now, index);
                    return Some(Transmit { to, segment_len });
                }
            }
            self.active.pop_front();
            self.schedule(now, index);
        }
        None
    }

    /// Whether [`Self::poll_transmit`] has nothing more.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.stray.is_empty() && self.active.is_empty()
    }

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
        peers.into_iter().chain(self.connecting_deadline()).min()
    }

    /// Does what is due: resends, gives up, says HELLO, PING and BYE, forgets.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clamp(now);
        self.connecting_timeout(now);
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
