//! Which datagram goes next, and whether window, pace and the receiver let it go.

use super::super::sent::Item;
use super::super::traced::TraceEvent;
use super::Reliable;
use std::time::Instant;

/// What one system call takes with segmentation offload (bytes, datagrams).
const BATCH_LEN: usize = 64 * 1024;
const BATCH_COUNT: usize = 64;

impl Reliable {
    /// Takes in what has happened since the last time; [`Self::peek`] follows.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.settle(now);
        self.pacer.refill(now, self.congestion.pacing_rate());
        self.is_open |= !self.is_narrow();
        self.holds_back = !self.is_open;
        self.few_places = self.has_few_places();
    }

    /// Whether a large window has room for less than a batch. More will come with the next acknowledgement, and it
    /// is better to wait for that: room is given back in the pieces in which it was used, so batches that
    /// were small once would stay so, with a system call and an acknowledgement for each. Once there was
    /// room, all of it is used, in however many turns.
    fn is_narrow(&self) -> bool {
        let window = self.congestion.window_len();
        let room = window.saturating_sub(self.log.in_flight());
        window >= 4 * BATCH_LEN && room < BATCH_LEN
    }

    /// The same for messages that may begin; what has begun has its place. After a timeout new and old take
    /// turns, one by one.
    fn has_few_places(&self) -> bool {
        let places = self.max_span.saturating_sub(self.begun.span());
        self.timeouts == 0 && self.log.in_flight() > 0 && places < BATCH_COUNT
    }

    /// The bytes of the next datagram, if one may leave now.
    pub(crate) fn peek(&mut self) -> Option<usize> {
        if !self.pacer.may_send() {
            return None;
        }
        let in_flight = self.log.in_flight();
        let holds_back = self.holds_back && self.resend.is_empty();
        let picked = if holds_back { None } else { self.pick() };
        let Some((item, len)) = picked else {
            if !self.is_idle() && in_flight < self.congestion.window_len() && !holds_back {
                self.congestion.on_idle(in_flight);
            }
            self.is_open = false;
            return None;
        };
        if in_flight > 0 && in_flight + len > self.congestion.window_len() {
            self.is_open = false;
            return None;
        }
        self.picked = Some(item);
        Some(len)
    }

    /// What goes next, and its bytes.
    fn pick(&mut self) -> Option<(Item, usize)> {
        // After a timeout old and new take turns (RFC 9002 6.2.4): what the path swallows each time,
        // such as datagrams that are too large for it, must not hold up what would come through.
        if self.timeouts > 0 && self.fresh_is_next {
            self.pick_fresh().or_else(|| self.pick_resend())
        } else {
            self.pick_resend().or_else(|| self.pick_fresh())
        }
    }

    fn pick_resend(&mut self) -> Option<(Item, usize)> {
        while let Some(&item) = self.resend.front() {
            if let Some(len) = self.len_of(item) {
                return Some((item, len));
            }
            self.resend.pop_front();
        }
        None
    }

    fn pick_fresh(&mut self) -> Option<(Item, usize)> {
        while let Some(&id) = self.fresh_messages.front() {
            if self.messages.get(id).is_some() {
                break;
            }
            self.fresh_messages.pop_front();
        }
        let message = self.fresh_messages.front().map(|id| Item::Message(*id));
        let message = message.filter(|_| self.may_begin() && !self.few_places);
        let begins = |item: &Item| matches!(item, Item::Fragment { index: 0, .. });
        let set = self.fresh_fragment();
        let set = set.filter(|set| !(begins(set) && self.few_places));
        let item = match (message, set) {
            (Some(message), Some(set)) => {
                if self.set_is_next {
                    set
                } else {
                    message
                }
            }
            (one, other) => one.or(other)?,
        };
        Some((item, self.len_of(item)?))
    }

    fn may_begin(&self) -> bool {
        self.begun.span() < self.max_span
    }

    /// The next fragment that was never sent, if the receiver takes it.
    pub(super) fn fresh_fragment(&self) -> Option<Item> {
        let frag_id = *self.fresh_sets.front()?;
        let set = self.sets.get(&frag_id)?;
        let begins = set.next == 0;
        let is_full = self.sets.len() - self.fresh_sets.len() >= self.max_sets;
        if begins && (is_full || !self.may_begin()) {
            return None;
        }
        let len = set.fragment_len(set.next).max(256);
        let fits = self.unacked_fragments + len <= self.window;
        (fits || self.probe).then_some(Item::Fragment {
            set: frag_id,
            index: set.next,
        })
    }

    /// The bytes of the datagram; `None` when it is not needed any more.
    fn len_of(&self, item: Item) -> Option<usize> {
        match item {
            Item::Message(id) => self.messages.get(id).map(|message| message.len),
            Item::Fragment { set, index } => {
                let whole = self.sets.get(&set)?;
                let is_done = whole.acked.contains(index);
                let asks = whole.acked.prefix_end() == whole.cut.total;
                (!is_done || asks).then(|| whole.datagram_len(set, index, &self.proof))
            }
        }
    }

    pub(super) fn blocked_by_pace(&self) -> bool {
        let has_work = !self.resend.is_empty()
            || !self.fresh_messages.is_empty()
            || self.fresh_fragment().is_some();
        let in_flight = self.log.in_flight();
        has_work && !self.pacer.may_send() && in_flight < self.congestion.window_len()
    }

    /// Appends the datagram that [`Self::peek`] announced.
    pub(crate) fn write(&mut self, now: Instant, out: &mut Vec<u8>) {
        let Some(item) = self.picked.take() else {
            return;
        };
        let is_resend = self.resend.front() == Some(&item);
        self.fresh_is_next = is_resend;
        if is_resend {
            self.resend.pop_front();
            self.counts.retransmissions += 1;
            let event = TraceEvent::Retransmitted { item: item.into() };
            self.trace.note(now, event);
        }
        let from = out.len();
        match item {
            Item::Message(id) => {
                if !is_resend {
                    self.fresh_messages.pop_front();
                    self.set_is_next = true;
                }
                if let Some(message) = self.messages.get(id) {
                    message.write(id, self.proof, &self.limits, out);
                }
            }
            Item::Fragment {
                set: frag_id,
                index,
            } => {
                if let Some(set) = self.sets.get_mut(&frag_id) {
                    set.write(frag_id, index, &self.proof, out);
                    if !is_resend {
                        self.unacked_fragments += set.fragment_len(index);
                        set.next += 1;
                        self.probe = false;
                        self.set_is_next = false;
                        if set.next == set.cut.total {
                            self.fresh_sets.pop_front();
                        }
                    }
                }
            }
        }
        self.sent(now, item, out.len() - from);
    }

    /// Of the last datagram that carried it.
    fn number_of(&self, item: Item) -> Option<u64> {
        match item {
            Item::Message(id) => self.messages.get(id)?.number,
            Item::Fragment { set, index } => self.sets.get(&set)?.number_if_sent(index),
        }
    }

    fn sent(&mut self, now: Instant, item: Item, len: usize) {
        let in_flight = self.log.in_flight();
        if in_flight == 0 && self.timeouts == 0 {
            self.timer_from = now;
        }
        self.answered_at.get_or_insert(now);
        let snapshot = self.congestion.on_sent(now, len, in_flight);
        let number = self.log.push(now, item, len, snapshot);
        self.pacer.on_sent(len);
        if let Some(last) = self.number_of(item) {
            let log = &self.log;
            self.copies.retain(|(_, number)| log.is_in_flight(*number));
            if log.is_in_flight(last) {
                self.copies.push((item, last));
            }
        }
        let began = match item {
            Item::Message(id) => self.messages.get_mut(id).map(|m| m.sent(now, number)),
            Item::Fragment { set, index } => {
                let set = self.sets.get_mut(&set);
                set.map(|set| set.sent(now, index, number))
            }
        };
        if began == Some(true) {
            let place = Some(self.begun.begin());
            match item {
                Item::Message(id) => {
                    if let Some(message) = self.messages.get_mut(id) {
                        message.place = place;
                    }
                }
                Item::Fragment { set, .. } => {
                    if let Some(set) = self.sets.get_mut(&set) {
                        set.place = place;
                    }
                }
            }
            let at = now.checked_add(self.delivery_timeout);
            self.expiry_at = match (self.expiry_at, at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;
    use crate::proto::datagram::config::EndpointConfig;
    use crate::proto::datagram::proof::Proof;
    use crate::proto::datagram::reliable::{Message, Outgoing};
    use crate::wire::{Frame, Limits};
    use std::time::Duration;

    fn message(len: usize) -> Message {
        let mut message = Message::new(Frame::data(vec![0; len]), false, 0);
        let mut out = Vec::new();
        message.write(1 << 40, Proof::Sealed, &Limits::default(), &mut out);
        message.len = out.len();
        message
    }

    /// One datagram for each turn, as without segmentation offload, and where lengths are mixed.
    #[test]
    fn a_wide_window_is_filled_in_however_many_turns() {
        let mut now = clock::now();
        let mut sends = Reliable::new(&EndpointConfig::default(), Proof::Sealed, 0, now);
        let (mut acked, mut queued, mut wide) = (1_u64 << 40, 1_u64 << 40, 0);
        for _ in 0..40 {
            while queued < acked + 3000 {
                let len = 900 + (queued % 2) as usize * 200;
                sends.queue(queued, Outgoing::Message(message(len)));
                queued += 1;
            }
            let (began, mut sent) = (now, acked);
            loop {
                sends.begin(now);
                if sends.peek().is_some() {
                    sends.write(now, &mut Vec::new());
                    sent += 1;
                } else if sends.blocked_by_pace() {
                    now += Duration::from_micros(100);
                } else {
                    break;
                }
            }
            let window = sends.congestion.window_len();
            let room = window - sends.log.in_flight();
            if window >= 4 * BATCH_LEN && !sends.few_places {
                wide += 1;
                assert!(room < 1200, "{room} of {window} bytes are not used");
            }
            now = now.max(began + Duration::from_millis(50));
            for id in acked..sent {
                assert!(sends.on_message_acked(now, id));
            }
            acked = sent;
        }
        // It doubles, until there are not enough places for what it takes.
        assert!(wide >= 2, "the window was wide {wide} times");
    }
}
