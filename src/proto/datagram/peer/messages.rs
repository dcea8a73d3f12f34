//! Messages and fragments that arrive: whether they are new, and what is delivered.

use super::super::config::{ACK_DELAY, ACK_EVERY, MAX_SPAN_IN_SESSION, MAX_SPAN_OF_STRANGER};
use super::super::fields::{self, Fields, FragmentFields};
use super::super::reassembly::Inserted;
use super::super::received::Seen;
use super::super::stats::DropReason;
use super::{Peer, Shared};
use crate::wire::{Flags, Frame, FrameRef, Headers};
use std::time::Instant;

impl Peer {
    /// DATA or a custom type, in one datagram. The frame to deliver, if it is to be delivered.
    pub(crate) fn on_message(
        &mut self,
        frame: FrameRef<'_>,
        fields: &Fields<'_>,
        crc: u32,
        room: bool,
    ) -> Result<Frame, DropReason> {
        let wants_ack = frame.flags.contains(Flags::REQ_ACK);
        if let Some(id) = fields.msg_id {
            self.is_new(id, crc, wants_ack)?;
        }
        if !room {
            return Err(DropReason::QueueFull);
        }
        if let Some(id) = fields.msg_id {
            self.received.deliver(id, crc, wants_ack);
            if wants_ack {
                self.acknowledge(id);
            }
        }
        Ok(without_transport(frame, fields))
    }

    /// An honest sender never waits for more at once; of what is left out here, it asks again.
    fn acknowledge(&mut self, id: u64) {
        let most = match self.link {
            Some(_) => MAX_SPAN_IN_SESSION,
            None => MAX_SPAN_OF_STRANGER,
        };
        if self.acks.len() < most {
            self.acks.push(id);
        }
    }

    fn is_new(&mut self, id: u64, crc: u32, wants_ack: bool) -> Result<(), DropReason> {
        match self.received.seen(id, crc, wants_ack) {
            Seen::New => Ok(()),
            Seen::Delivered => {
                if wants_ack {
                    self.acknowledge(id);
                }
                Err(DropReason::Duplicate)
            }
            Seen::Forgotten => Err(DropReason::Duplicate),
        }
    }

    /// Whether the fragment may be taken; what it is charged, and whether it begins a set.
    pub(crate) fn admit_fragment(
        &mut self,
        now: Instant,
        fields: &FragmentFields,
        (len, datagram_len): (usize, usize),
        shared: &mut Shared<'_>,
    ) -> Result<(usize, bool), DropReason> {
        let exists = self.reassembly.set_mut(fields.frag_id).is_some();
        let ended = (!exists).then(|| self.reassembly.ended(fields.frag_id));
        if let Some(ended) = ended.flatten() {
            return match ended {
                Some(msg_id) => {
                    self.acknowledge(msg_id);
                    Err(DropReason::Duplicate)
                }
                None => Err(DropReason::LateFragment),
            };
        }
        let mut admitted = self.reassembly.admit(fields, len);
        // Sets that nobody resends make room for what is newer; otherwise those with a lost fragment
        // would soon take all places, and for half a minute nothing that is cut would come through.
        while admitted == Err(DropReason::Budget)
            && self
                .reassembly
                .evict_unpromised(fields.frag_id, shared.totals)
        {
            shared.stats.sets_discarded += 1;
            admitted = self.reassembly.admit(fields, len);
        }
        if admitted == Err(DropReason::Budget) {
            // The sender learns from it how much there is room for.
            if let Some(set) = self.reassembly.set_mut(fields.frag_id) {
                set.ack_at.get_or_insert(now + ACK_DELAY);
                set.answer_len = datagram_len;
            }
        }
        admitted
    }

    /// A fragment that was admitted, in a datagram of `datagram_len` bytes. The frame, if it is
    /// complete and there is room.
    pub(crate) fn on_fragment(
        &mut self,
        now: Instant,
        fields: &FragmentFields,
        (bytes, datagram_len): (&[u8], usize),
        room: bool,
        shared: &mut Shared<'_>,
    ) -> Result<Option<Frame>, DropReason> {
        let inserted = self.reassembly.insert(now, fields, bytes, shared.totals);
        let complete = match inserted {
            Inserted::Dropped(reason) => return Err(reason),
            Inserted::New { complete, .. } | Inserted::Duplicate { complete } => complete,
        };
        // What is not acknowledged must not have a time at which that is due.
        let set = self.reassembly.set_mut(fields.frag_id);
        if let Some(set) = set.filter(|set| set.wants_ack) {
            set.answer_len = datagram_len;
            set.unacked += 1;
            set.ack_at.get_or_insert(now + ACK_DELAY);
            set.ack_now |= match inserted {
                Inserted::New { gap, complete } => gap || complete || set.unacked >= ACK_EVERY,
                _ => true,
            };
        }
        if complete {
            return self.take_whole(fields.frag_id, room, shared).map(Some);
        }
        if matches!(inserted, Inserted::Duplicate { .. }) {
            return Err(DropReason::Duplicate);
        }
        Ok(None)
    }

    fn take_whole(
        &mut self,
        frag_id: u64,
        room: bool,
        shared: &mut Shared<'_>,
    ) -> Result<Frame, DropReason> {
        let Some(whole) = self.reassembly.whole(frag_id) else {
            return Err(DropReason::BadFragment);
        };
        let wants_ack = whole.flags.contains(Flags::REQ_ACK);
        let read = Fields::read(whole.as_ref());
        // spec 5: compressed only where that was agreed on.
        let is_unasked = whole.flags.contains(Flags::COMP) && !self.has_gzip();
        let (msg_id, is_bad) = match read {
            Ok(fields) => (fields.msg_id, fields.speaks_of_fragments() || is_unasked),
            Err(reason) => {
                self.reassembly.take(frag_id, None, shared.totals);
                return Err(reason);
            }
        };
        let crc = 0;
        let acknowledge = msg_id.filter(|_| wants_ack);
        if is_bad {
            self.reassembly.take(frag_id, None, shared.totals);
            return Err(DropReason::BadFragment);
        }
        if let Some(id) = msg_id {
            if let Err(reason) = self.is_new(id, crc, wants_ack) {
                self.reassembly.take(frag_id, acknowledge, shared.totals);
                return Err(reason);
            }
        }
        if !room {
            if !wants_ack {
                // It does not come again, so nobody would ever take it.
                self.reassembly.take(frag_id, None, shared.totals);
            }
            return Err(DropReason::QueueFull);
        }
        let frame = self.reassembly.take(frag_id, acknowledge, shared.totals);
        let Some(frame) = frame else {
            return Err(DropReason::BadFragment);
        };
        if let Some(id) = msg_id {
            self.received.deliver(id, crc, wants_ack);
            if wants_ack {
                self.acknowledge(id);
            }
        }
        shared.stats.sets_completed += 1;
        Ok(strip(frame))
    }
}

/// The frame as the sender's application made it: without what the transport added.
fn without_transport(frame: FrameRef<'_>, fields: &Fields<'_>) -> Frame {
    let mut headers = Headers::new();
    if frame.headers.len() > fields.count {
        for header in frame.headers.iter() {
            if fields::reserved_in_message(header.key).is_none() {
                headers.push(header.key, header.value);
            }
        }
    }
    Frame {
        typ: frame.typ,
        flags: frame.flags.difference(Flags::REQ_ACK),
        headers,
        payload: frame.payload.to_vec(),
    }
}

/// The same for a frame that is owned already.
fn strip(mut frame: Frame) -> Frame {
    let mut headers = Headers::new();
    for header in frame.headers.iter() {
        if fields::reserved_in_message(header.key).is_none() {
            headers.push(header.key, header.value);
        }
    }
    frame.headers = headers;
    frame.flags.remove(Flags::REQ_ACK);
    frame
}
