//! Datagrams that leave: acknowledgements first, then what is ready, then what is sent until it is
//! acknowledged.

use super::super::ack;
use super::super::config::{AnswerLimit, EndpointConfig, MAX_DATAGRAM_LEN};
use super::super::emit::{self, Control};
use super::{Peer, Shared};
use crate::proto::keys;
use crate::wire::{Flags, FrameType, FrameWriter, Trailer};
use std::time::Instant;

/// Room for ids that is kept for the next acknowledgements.
const MAX_SPARE_COUNT: usize = 64;

impl Peer {
    /// Appends datagrams of one length, the last maybe shorter, to `out`: that length, and whether there is
    /// more to send now.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: usize,
        out: &mut Vec<u8>,
        shared: &mut Shared<'_>,
    ) -> Option<(usize, bool)> {
        if self.sealed.as_ref().is_some_and(|s| !s.path.is_proven) {
            return None;
        }
        let max_len = self.max_datagram_len(shared.config);
        // Progress first: an acknowledgement of messages that overtakes it tells the sender that what it sent
        // before them is lost.
        self.flush_progress(now, max_len);
        self.flush_acks(max_len);
        if let Some(reliable) = &mut self.reliable {
            reliable.begin(now);
            if let Some(times) = reliable.take_round_trips() {
                shared.stats.round_trips.add(&times);
            }
            let may_ping =
                self.link.is_some() || shared.config.answer_limit == AnswerLimit::Unlimited;
            if let Some(number) = reliable.take_ping(now).filter(|_| may_ping) {
                // Twice, as what it accompanies.
                self.push_ping(&number);
                self.push_ping(&number);
            }
        }
        let added = self.sealed_overhead();
        let mut next = self.next_len(now, shared.config);
        let Some(segment_len) = next else {
            self.count(shared);
            return None;
        };
        let mut count = 0;
        while let Some(len) = next {
            let is_full = count >= max_segments || out.len() + added + len > MAX_DATAGRAM_LEN;
            if len > segment_len || (is_full && count > 0) {
                break;
            }
            if !self.write_datagram(now, out, shared) {
                // The keys are spent, up to the last number. Nothing leaves any more; what is written
                // counts as lost, and the session ends by its own times.
                next = None;
                break;
            }
            count += 1;
            shared.stats.datagrams_sent += 1;
            shared.stats.bytes_sent += (added + len) as u64;
            next = self.next_len(now, shared.config);
            if len < segment_len {
                break;
            }
        }
        self.count(shared);
        (count > 0).then_some((added + segment_len, next.is_some()))
    }

    /// Notes the frames of a datagram, behind what made it leave.
    #[inline]
    fn trace_sent(&mut self, now: Instant, datagram: &[u8], trailer: Trailer) {
        if self.trace.is_on() {
            if let Some(reliable) = &mut self.reliable {
                self.trace.append(&mut reliable.trace);
            }
            self.trace.note_sent(now, datagram, trailer);
        }
    }

    fn count(&mut self, shared: &mut Shared<'_>) {
        if let Some(reliable) = &mut self.reliable {
            let counts = reliable.take_counts();
            shared.stats.retransmissions += counts.retransmissions;
            shared.stats.timeouts += counts.timeouts;
        }
    }

    /// Appends the next datagram, sealed where the session is; whether that was possible.
    fn write_datagram(&mut self, now: Instant, out: &mut Vec<u8>, shared: &mut Shared<'_>) -> bool {
        let begin = out.len();
        if let Some(sealed) = &self.sealed {
            sealed.sealing.begin(out);
        }
        let plain = out.len();
        match self.outbox.pop_front() {
            Some(datagram) => {
                out.extend_from_slice(&datagram);
                self.give_back(datagram);
            }
            None => self.write_message(now, out),
        }
        let frames = &mut shared.stats.frames_sent;
        let trailer = self.proof().trailer();
        frames.note_datagram(&out[plain..], trailer);
        self.trace_sent(now, &out[plain..], trailer);
        let sealed = self.sealed.as_mut();
        sealed.is_none_or(|sealed| sealed.sealing.finish(out, begin))
    }

    pub(super) fn push_ping(&mut self, payload: &[u8]) {
        let mut ping = Vec::new();
        let control = Control {
            typ: FrameType::Ping,
            proof: self.proof(),
            payload,
        };
        control.write(&mut ping, |_| ());
        self.push(ping);
    }

    fn write_message(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.announced = None;
        if let Some(reliable) = &mut self.reliable {
            reliable.write(now, out);
        }
    }

    fn next_len(&mut self, now: Instant, config: &EndpointConfig) -> Option<usize> {
        let ready = self.outbox.front().map(Vec::len);
        ready.or_else(|| self.peek(now, config))
    }

    /// The bytes of the next datagram of a message, if one may leave.
    fn peek(&mut self, now: Instant, config: &EndpointConfig) -> Option<usize> {
        loop {
            let len = self.reliable.as_mut()?.peek()?;
            // Paid for when it was announced, and it has not left since.
            if self.link.is_some() || self.announced == Some(len) {
                return Some(len);
            }
            if self.may_answer(now, len, config.answer_limit) {
                self.announced = Some(len);
                return Some(len);
            }
            // An address that nobody has proved is not sent more than its due, not even again: the
            // datagram counts as sent and lost.
            self.write_message(now, &mut Vec::new());
        }
    }

    fn flush_acks(&mut self, max_len: usize) {
        if self.acks.is_empty() {
            return;
        }
        let proof = self.proof();
        let mut acks = std::mem::take(&mut self.acks);
        if self.link.as_ref().is_some_and(|link| link.ack_ranges) {
            acks.sort_unstable();
            acks.dedup();
            let mut rest = &acks[..];
            while !rest.is_empty() {
                let mut datagram = self.take_buffer();
                let count = emit::acks(rest, proof, max_len, &mut datagram);
                self.outbox.push_back(datagram);
                rest = &rest[count..];
            }
            acks.clear();
            acks.shrink_to(MAX_SPARE_COUNT);
            self.acks = acks;
            return;
        }
        let bundle = self.link.as_ref().is_some_and(|link| link.bundle);
        let mut datagram = self.take_buffer();
        for id in acks.drain(..) {
            let before = datagram.len();
            emit::ack(id, proof, &mut datagram);
            if before > 0 && (!bundle || datagram.len() > max_len) {
                let rest = datagram.split_off(before);
                self.outbox
                    .push_back(std::mem::replace(&mut datagram, rest));
            }
        }
        self.outbox.push_back(datagram);
        acks.shrink_to(MAX_SPARE_COUNT);
        self.acks = acks;
    }

    fn flush_progress(&mut self, now: Instant, max_len: usize) {
        let proof = self.proof();
        let is_stranger = self.link.is_none();
        let window = self.reassembly.window() as u64;
        let at_once = !self.acks.is_empty();
        let mut datagrams = Vec::new();
        for (frag_id, set) in self.reassembly.due(now, at_once) {
            set.unacked = 0;
            set.ack_at = None;
            set.ack_now = false;
            let mut out = Vec::new();
            let mut writer = FrameWriter::new(&mut out, FrameType::Ack, Flags::FRAG);
            writer.number(keys::FRAG_ID, frag_id);
            writer.number(keys::WINDOW, window);
            proof.write(&mut writer);
            // A stranger is answered with nothing longer than what it sent.
            let max_len = if is_stranger {
                max_len.min(set.answer_len)
            } else {
                max_len
            };
            let Some(room) = max_len.checked_sub(writer.written() + proof.trailer_len()) else {
                continue;
            };
            ack::encode(&set.received, room, writer.payload_buffer());
            writer.finish(proof.trailer());
            datagrams.push(out);
        }
        self.outbox.extend(datagrams);
    }
}
