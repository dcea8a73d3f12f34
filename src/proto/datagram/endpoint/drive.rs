//! What the shell drives: datagrams and events out.

use super::super::parts::{Event, Transmit};
use super::super::peer::Shared;
use super::super::traced::Traced;
use super::Endpoint;
use crate::wire::Trailer;
use std::time::Instant;

impl Endpoint {
    /// What happened, for each once; call it until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Appends what happened since the last call to `into`, and says how many events were dropped because they
    /// were not taken in time; nothing unless
    /// [`max_trace_count`](crate::proto::datagram::EndpointConfig::max_trace_count) is set.
    pub fn take_trace(&mut self, into: &mut Vec<Traced>) -> u64 {
        self.trace.take(into)
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
            self.trace.note_sent(now, to, &datagram);
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
                peer.hand_over_trace(&mut self.trace);
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
}
