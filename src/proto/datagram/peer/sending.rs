//! Datagrams that leave: acknowledgements first, then what is ready, then what is sent until it is
//! acknowledged.

use super::super::ack;
use super::super::config::{EndpointConfig, MAX_DATAGRAM_LEN};
use super::super::emit;
use super::{Peer, Shared};
use crate::proto::keys;
use crate::wire::{Flags, FrameType, FrameWriter, Trailer};
use std::time::Instant;

impl Peer {
    /// Appends datagrams of one length, the last maybe shorter, to `out`; that length.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: usize,
        out: &mut Vec<u8>,
        shared: &mut Shared<'_>,
    ) -> Option<usize> {
        self.flush_acks(shared.config.max_datagram_len);
        self.flush_progress(now, shared.config.max_datagram_len);
        let (mut segment_len, mut count) = (None, 0);
        while count < max_segments {
            let from_outbox = self.outbox.front().map(Vec::len);
            let len = from_outbox.or_else(|| self.peek(now, shared.config))?;
            let segment = *segment_len.get_or_insert(len);
            if len > segment || out.len() + len > MAX_DATAGRAM_LEN && count > 0 {
                break;
            }
            if let Some(datagram) = self.outbox.pop_front() {
                out.extend_from_slice(&datagram);
            } else if let Some(reliable) = &mut self.reliable {
                reliable.write(now, out);
            }
            count += 1;
            shared.stats.datagrams_sent += 1;
            shared.stats.bytes_sent += len as u64;
            let is_last = self.outbox.is_empty() && self.peek(now, shared.config).is_none();
            if len < segment || is_last {
                break;
            }
        }
        if let Some(reliable) = &mut self.reliable {
            let counts = reliable.take_counts();
            shared.stats.retransmissions += counts.retransmissions;
            shared.stats.timeouts += counts.timeouts;
        }
        segment_len
    }

    /// The bytes of the next datagram of a message, if one may leave.
    fn peek(&mut self, now: Instant, config: &EndpointConfig) -> Option<usize> {
        loop {
            let len = self.reliable.as_mut()?.peek(now)?;
            if self.may_answer(now, len, config.answer_limit) {
                return Some(len);
            }
            // An address that nobody has proved is not sent more than its due, not even again: the
            // datagram counts as sent and lost.
            self.reliable.as_mut()?.write(now, &mut Vec::new());
        }
    }

    fn flush_acks(&mut self, max_len: usize) {
        if self.acks.is_empty() {
            return;
        }
        let sid = self.sid();
        let bundle = self.link.as_ref().is_some_and(|link| link.bundle);
        let mut datagram = Vec::new();
        for id in std::mem::take(&mut self.acks) {
            let before = datagram.len();
            emit::ack(id, sid.as_ref(), &mut datagram);
            if before > 0 && (!bundle || datagram.len() > max_len) {
                let rest = datagram.split_off(before);
                self.outbox
                    .push_back(std::mem::replace(&mut datagram, rest));
            }
        }
        self.outbox.push_back(datagram);
    }

    fn flush_progress(&mut self, now: Instant, max_len: usize) {
        let sid = self.sid();
        let is_stranger = self.link.is_none();
        let window = self.reassembly.window() as u64;
        // A stranger is answered with nothing longer than what it sent.
        let max_len = if is_stranger {
            max_len.min(self.last_len)
        } else {
            max_len
        };
        let mut datagrams = Vec::new();
        for (frag_id, set) in self.reassembly.due(now) {
            set.unacked = 0;
            set.ack_at = None;
            set.ack_now = false;
            let mut out = Vec::new();
            let mut writer = FrameWriter::new(&mut out, FrameType::Ack, Flags::FRAG);
            writer.number(keys::FRAG_ID, frag_id);
            writer.number(keys::WINDOW, window);
            if let Some(sid) = &sid {
                writer.header(keys::SID, sid);
            }
            let Some(room) = max_len.checked_sub(writer.written() + 4) else {
                continue;
            };
            ack::encode(&set.received, room, writer.payload_buffer());
            writer.finish(Trailer::Always);
            datagrams.push(out);
        }
        self.outbox.extend(datagrams);
    }
}
