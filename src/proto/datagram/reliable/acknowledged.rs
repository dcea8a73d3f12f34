//! Acknowledgements: what arrived, what that says about the path, and what must therefore be lost.

use super::super::congestion::Snapshot;
use super::super::traced::TraceEvent;
use super::Reliable;
use std::ops::Range;
use std::time::Instant;

impl Reliable {
    /// Whether a message waits for its first sending, or some of it does: nobody can have received it.
    pub(crate) fn is_unsent(&self, msg_id: u64) -> bool {
        if let Some(message) = self.messages.get(msg_id) {
            return message.number.is_none();
        }
        let set = self.set_of.get(&msg_id).and_then(|id| self.sets.get(id));
        set.is_some_and(|set| set.next < set.cut.total)
    }

    /// Whether one of these fragments of a set does.
    pub(crate) fn has_unsent(&self, frag_id: u64, ranges: &[Range<u64>]) -> bool {
        let end = ranges.last().map_or(0, |range| range.end);
        self.sets.get(&frag_id).is_some_and(|set| end > set.next)
    }

    /// ACK of a message: it was delivered. Whether anybody waited for it.
    pub(crate) fn on_message_acked(&mut self, now: Instant, msg_id: u64) -> bool {
        if let Some(message) = self.messages.get(msg_id) {
            let Some(number) = message.number else {
                return false;
            };
            let once = message.send_count == 1;
            self.trace.note(now, TraceEvent::MessageAcked { msg_id });
            self.credit(now, number, once);
            return self.end(msg_id, Ok(()));
        }
        let set = self.set_of.get(&msg_id).and_then(|id| self.sets.get(id));
        let Some(set) = set.filter(|set| set.next == set.cut.total) else {
            return false;
        };
        let gaps: Vec<Range<u64>> = set.acked.gaps(set.next).collect();
        let numbers: Vec<(u64, bool)> = gaps
            .into_iter()
            .flatten()
            .map(|index| (set.number(index), set.was_sent_once(index)))
            .collect();
        for (number, once) in numbers {
            self.credit(now, number, once);
        }
        self.acked = true;
        self.trace.note(now, TraceEvent::MessageAcked { msg_id });
        self.end(msg_id, Ok(()))
    }

    /// ACK of fragments; `false` when it speaks of what was never sent, and changed nothing.
    pub(crate) fn on_fragments_acked(
        &mut self,
        now: Instant,
        frag_id: u64,
        ranges: &[Range<u64>],
        window: Option<u64>,
    ) -> bool {
        let Some(set) = self.sets.get_mut(&frag_id) else {
            return false;
        };
        if ranges.last().is_some_and(|range| range.end > set.next) {
            return false;
        }
        if let Some(window) = window {
            self.window = window;
        }
        let mut new = Vec::new();
        for range in ranges {
            set.acked.insert_range(range.clone(), |part| new.push(part));
        }
        if new.is_empty() {
            return true;
        }
        set.progress_at = Some(now);
        let mut credits = Vec::new();
        for index in new.into_iter().flatten() {
            let len = set.fragment_len(index);
            set.acked_len += len;
            self.unacked_fragments -= len;
            credits.push((set.number(index), set.was_sent_once(index)));
        }
        if set.acked.prefix_end() == set.cut.total {
            self.unconfirmed.push_back((now, frag_id));
        }
        let count = credits.len() as u64;
        self.trace
            .note(now, TraceEvent::FragmentsAcked { frag_id, count });
        for (number, once) in credits {
            self.credit(now, number, once);
        }
        true
    }

    /// A datagram is known to have arrived.
    fn credit(&mut self, now: Instant, number: u64, sent_once: bool) {
        self.acked = true;
        let Some(sent) = self.log.get(number).copied() else {
            return;
        };
        let elapsed = now.saturating_duration_since(sent.at);
        let known: Option<(Instant, Snapshot)> = sent_once.then_some((sent.at, sent.snapshot));
        self.congestion.on_acked(now, sent.len, known);
        if sent_once {
            self.sample = Some(elapsed);
        }
        // Of what was sent again nobody knows which sending arrived. Taking the first for the last would
        // make everything lost that left between both, and that chain does not end.
        if sent_once || self.rtt.is_plausible(elapsed) {
            self.log.acknowledged(number);
        }
        self.log.finish(number);
        self.finish_copies(|item| *item == sent.item);
    }

    /// Draws the conclusions of the acknowledgements since the last call.
    pub(crate) fn settle(&mut self, now: Instant) {
        if std::mem::take(&mut self.acked) {
            let sample = self.sample.take();
            if let Some(sample) = sample {
                self.on_sample(now, sample);
                self.backoff = 0;
            }
            let progressed = std::mem::replace(&mut self.progressed, true);
            if self.measured {
                self.backoff = 0;
            } else if !progressed {
                // The path works. Whether it is lossy or slow, PONG tells.
                self.backoff = self.backoff.saturating_sub(1);
            }
            self.timeouts = 0;
            self.probed = false;
            self.timer_from = now;
            self.answered_at = (!self.is_idle()).then_some(now);
            self.congestion
                .on_ack_end(now, sample, self.log.in_flight());
            self.detect_lost(now);
            self.trace_path(now);
        }
    }

    pub(super) fn detect_lost(&mut self, now: Instant) {
        let (resend, congestion) = (&mut self.resend, &mut self.congestion);
        let (delay, trace) = (self.rtt.loss_delay(), &mut self.trace);
        self.lost_at = self.log.detect_lost(now, delay, |item, len, rule| {
            resend.push_back(item);
            congestion.on_lost(len);
            let item = item.into();
            trace.note(now, TraceEvent::Lost { item, len, rule });
        });
    }
}
