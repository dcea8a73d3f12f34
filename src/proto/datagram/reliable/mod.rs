//! Messages to one peer that are resent until they are acknowledged (spec 4.5).
//!
//! Driven by [`super::peer::Peer`]: a message goes in, acknowledgements go in, [`Reliable::peek`] and
//! [`Reliable::write`] give the next datagram when window, pace and the receiver's budget allow one,
//! and [`Reliable::poll_done`] says what became of each message.
//!
//! ```text
//!  queued ──window, pace──> in flight ──ACK──> delivered
//!    fresh                   │      ^
//!                       lost │      │ window, pace
//!                            v      │
//!                            resend ──max_retries timeouts in a row, or
//!                                     delivery_timeout without progress──> timed out
//! ```

mod acknowledged;
mod begun;
mod outgoing;
mod sending;

use super::bbr::Bbr;
use super::config::{
    ACK_DELAY, EndpointConfig, INITIAL_WINDOW_LEN, MAX_SETS_PER_SESSION, MAX_SETS_PER_STRANGER,
    MAX_SPAN_IN_SESSION, MAX_SPAN_OF_STRANGER,
};
use super::congestion::Congestion;
use super::ids::{IdMap, Rising};
use super::pacing::Pacer;
use super::parts::{Failure, Progress};
use super::proof::Proof;
use super::rtt::Rtt;
use super::sent::{Item, SentLog};
use super::trace::Trace;
use super::traced::{LossRule, PathMetrics, TraceEvent};
use crate::proto::tally::Times;
use crate::wire::Limits;
use begun::Begun;
pub(crate) use outgoing::{Message, Outgoing, Set};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many datagrams leave after a timeout; fewer are repeated. It is the smallest congestion window.
const LEAST_AFTER_TIMEOUT: usize = 4;

/// PINGs whose answer is still of use.
const MAX_PINGS: usize = 8;

/// What the retransmission counters are told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Datagrams sent again.
    pub retransmissions: u64,
    /// Timeouts.
    pub timeouts: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reliable {
    max_retries: u32,
    delivery_timeout: Duration,
    max_sets: usize,
    max_span: usize,
    limits: Limits,
    proof: Proof,
    rtt: Rtt,
    congestion: Box<dyn Congestion>,
    pacer: Pacer,
    log: SentLog,
    messages: Rising<Message>,
    sets: IdMap<u64, Set>,
    /// The set that carries a message.
    set_of: IdMap<u64, u64>,
    begun: Begun,
    fresh_messages: VecDeque<u64>,
    /// Sets with fragments that were never sent, the first of which is being sent.
    fresh_sets: VecDeque<u64>,
    /// Taken for lost, to be sent again before anything new.
    resend: VecDeque<Item>,
    /// Sets whose fragments are all acknowledged but whose message is not, since when.
    unconfirmed: VecDeque<(Instant, u64)>,
    /// Bytes of fragments that were sent and not acknowledged, and what the receiver takes of them.
    unacked_fragments: u64,
    window: u64,
    /// The window is closed; one fragment goes out to learn whether it has opened.
    probe: bool,
    /// Messages and sets take turns.
    set_is_next: bool,
    /// So do, after a timeout, what is sent again and what is new.
    fresh_is_next: bool,
    picked: Option<Item>,
    /// There was room for a batch, and there is still some.
    is_open: bool,
    /// Nothing new leaves in this turn: there is too little room.
    holds_back: bool,
    /// No message begins in this turn: there are too few places.
    few_places: bool,
    /// Datagrams on their way whose item left again after them: they are done when the item is.
    copies: Vec<(Item, u64)>,
    /// Timeouts in a row without progress, and since when the next one runs.
    timeouts: u32,
    /// How often the timeout was doubled: until a sample shows the round-trip time (RFC 6298 5.7).
    /// Otherwise a path slower than the timeout is never measured, and all is sent twice for ever.
    backoff: u32,
    timer_from: Instant,
    /// One datagram was repeated since the last acknowledgement.
    probed: bool,
    lost_at: Option<Instant>,
    /// When the peer acknowledged something last, or the first of all this was sent to it.
    answered_at: Option<Instant>,
    /// No message can be over its delivery timeout before.
    expiry_at: Option<Instant>,
    /// Acknowledged since the last [`Self::settle`]: whether anything, and the newest round-trip time.
    acked: bool,
    sample: Option<Duration>,
    counts: Counts,
    /// Adds up to a tenth to a timeout, so that peers do not resend in step. In thousandths.
    jitter: u32,
    /// PING that measures the path after a repetition: whether one is due, the number of the last, and
    /// when those left that are not answered.
    ping_due: bool,
    ping_number: u64,
    pings: VecDeque<(u64, Instant)>,
    /// Since the last timeout: whether PONG has measured the path, and whether anything was acknowledged.
    measured: bool,
    progressed: bool,
    done: VecDeque<(u64, Result<(), Failure>)>,
    /// What happened, for an event log.
    pub(crate) trace: Trace,
}

impl Reliable {
    /// Nothing was sent yet; `jitter` is random.
    #[must_use]
    pub(crate) fn new(config: &EndpointConfig, proof: Proof, jitter: u64, now: Instant) -> Self {
        let datagram_len = config.max_datagram_len;
        Self {
            max_retries: config.max_retries,
            delivery_timeout: config.delivery_timeout,
            max_sets: if proof.is_session() {
                MAX_SETS_PER_SESSION
            } else {
                MAX_SETS_PER_STRANGER
            },
            max_span: if proof.is_session() {
                MAX_SPAN_IN_SESSION
            } else {
                MAX_SPAN_OF_STRANGER
            },
            limits: Limits {
                max_frame_len: config.max_frame_len,
                ..Limits::default()
            },
            proof,
            rtt: Rtt::new(
                config.ack_timeout,
                config.retry_delay,
                config.max_retry_delay,
            ),
            congestion: Box::new(Bbr::new(now, datagram_len)),
            pacer: Pacer::new(now, datagram_len),
            log: SentLog::default(),
            messages: Rising::default(),
            sets: IdMap::default(),
            set_of: IdMap::default(),
            begun: Begun::default(),
            fresh_messages: VecDeque::new(),
            fresh_sets: VecDeque::new(),
            resend: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            unacked_fragments: 0,
            window: INITIAL_WINDOW_LEN,
            probe: false,
            set_is_next: false,
            fresh_is_next: false,
            picked: None,
            is_open: true,
            holds_back: false,
            few_places: false,
            copies: Vec::new(),
            timeouts: 0,
            backoff: 0,
            timer_from: now,
            probed: false,
            lost_at: None,
            answered_at: None,
            expiry_at: None,
            acked: false,
            sample: None,
            counts: Counts::default(),
            jitter: (jitter % 100) as u32,
            ping_due: false,
            ping_number: jitter,
            pings: VecDeque::new(),
            measured: false,
            progressed: false,
            done: VecDeque::new(),
            trace: Trace::new(config.max_trace_count),
        }
    }

    /// Whether nothing is queued or on its way.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.messages.is_empty() && self.sets.is_empty()
    }

    /// Messages that are queued or on their way.
    #[must_use]
    pub(crate) fn pending_count(&self) -> usize {
        self.messages.len() + self.sets.len()
    }

    /// The smoothed round-trip time, once known.
    #[must_use]
    pub(crate) const fn smoothed_rtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// What became of a message, for each once.
    pub(crate) fn poll_done(&mut self) -> Option<(u64, Result<(), Failure>)> {
        self.done.pop_front()
    }

    /// Counts since the last call.
    pub(crate) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Round-trip times measured since the last call, if there were any.
    pub(crate) fn take_round_trips(&mut self) -> Option<Times> {
        self.rtt.take_samples()
    }

    /// Queues a message.
    pub(crate) fn queue(&mut self, msg_id: u64, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Message(message) => {
                self.messages.push(msg_id, message);
                self.fresh_messages.push_back(msg_id);
            }
            Outgoing::Set(frag_id, set) => {
                self.sets.insert(frag_id, *set);
                self.set_of.insert(msg_id, frag_id);
                self.fresh_sets.push_back(frag_id);
            }
        }
    }

    /// How far a message is.
    #[must_use]
    pub(crate) fn progress(&self, msg_id: u64) -> Option<Progress> {
        if let Some(message) = self.messages.get(msg_id) {
            return Some(Progress {
                acknowledged: 0,
                total: message.len as u64,
            });
        }
        let set = self.sets.get(self.set_of.get(&msg_id)?)?;
        Some(Progress {
            acknowledged: set.acked_len,
            total: set.inner.len() as u64,
        })
    }

    /// Gives a message up; whether there was one.
    pub(crate) fn cancel(&mut self, msg_id: u64) -> bool {
        self.end(msg_id, Err(Failure::Cancelled))
    }

    /// Gives everything up.
    pub(crate) fn fail_all(&mut self, failure: Failure) {
        let mut all: Vec<u64> = self.messages.iter().map(|(id, _)| id).collect();
        all.extend(self.set_of.keys());
        // At once, not one by one as the sets end.
        self.fresh_sets.clear();
        // The order of a hash map differs from run to run.
        all.sort_unstable();
        for msg_id in all {
            self.end(msg_id, Err(failure));
        }
        self.log.clear();
        self.resend.clear();
        self.unconfirmed.clear();
    }

    /// Gives up what needs datagrams of `len` bytes or more; how many that were.
    pub(crate) fn fail_longer(&mut self, len: usize, failure: Failure) -> usize {
        let messages = self.messages.iter().filter(|(_, m)| m.len >= len);
        let mut all: Vec<u64> = messages.map(|(id, _)| id).collect();
        for (frag_id, set) in &self.sets {
            if set.datagram_len(*frag_id, 0, &self.proof) >= len {
                all.push(set.msg_id);
            }
        }
        all.sort_unstable();
        for msg_id in &all {
            self.end(*msg_id, Err(failure));
        }
        all.len()
    }

    fn end(&mut self, msg_id: u64, how: Result<(), Failure>) -> bool {
        if let Some(message) = self.messages.remove(msg_id) {
            if let Some(number) = message.number {
                self.log.finish(number);
                self.finish_copies(|item| *item == Item::Message(msg_id));
            }
            self.finish(message.place);
        } else if let Some(frag_id) = self.set_of.remove(&msg_id) {
            self.end_set(frag_id);
        } else {
            return false;
        }
        self.done.push_back((msg_id, how));
        if self.is_idle() {
            debug_assert_eq!(self.log.in_flight(), 0, "of what has ended");
            self.answered_at = None;
            // They were of what has ended; what comes next has its own attempts (spec 4.5).
            self.timeouts = 0;
        }
        true
    }

    fn finish(&mut self, place: Option<u64>) {
        if let Some(place) = place {
            self.begun.finish(place);
        }
    }

    /// What was sent several times has arrived or was given up: no copy of it is waited for.
    fn finish_copies(&mut self, is: impl Fn(&Item) -> bool) {
        let log = &mut self.log;
        self.copies.retain(|(item, number)| {
            if is(item) {
                log.finish(*number);
            }
            !is(item)
        });
    }

    fn end_set(&mut self, frag_id: u64) {
        let Some(set) = self.sets.remove(&frag_id) else {
            return;
        };
        self.finish(set.place);
        for gap in set.acked.gaps(set.next) {
            for index in gap {
                self.unacked_fragments -= set.fragment_len(index);
                self.log.finish(set.number(index));
            }
        }
        if set.acked.contains(set.cut.total - 1) {
            // Sent again to ask for the acknowledgement of the whole.
            self.log.finish(set.number(set.cut.total - 1));
        }
        self.finish_copies(|item| matches!(item, Item::Fragment { set, .. } if *set == frag_id));
        self.unconfirmed.retain(|(_, id)| *id != frag_id);
        if set.next < set.cut.total {
            self.fresh_sets.retain(|id| *id != frag_id);
        }
    }

    // Time.

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.is_idle() {
            return None;
        }
        let pace = self
            .blocked_by_pace()
            .then(|| self.pacer.ready_at(self.congestion.pacing_rate()));
        let (timeout, probe) = (self.timeout_at(), self.probe_at());
        [self.lost_at, timeout, probe, pace, self.expiry_at]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(now))
    }

    fn timeout_at(&self) -> Option<Instant> {
        let waits = self.log.in_flight() > 0 || !self.unconfirmed.is_empty() || self.is_stuck();
        let rto = self.rtt.rto(self.backoff);
        let rto = rto.saturating_add(rto / 1000 * self.jitter);
        waits.then(|| self.timer_from.checked_add(rto)).flatten()
    }

    /// When the newest datagram is repeated because the end of what was sent may be lost, which no
    /// later datagram shows (RFC 8985 7). Long before the timeout, and nothing is taken for lost.
    fn probe_at(&self) -> Option<Instant> {
        // Only in a session, where a PING goes with it: a path that has become slow would otherwise
        // never be measured again, since everything is sent twice.
        let may_probe = self.proof.is_session() && !self.probed && self.timeouts == 0;
        let waits = may_probe && self.log.in_flight() > 0;
        let delay = self.rtt.probe_delay(ACK_DELAY).filter(|_| waits)?;
        self.timer_from.checked_add(delay)
    }

    /// Nothing is on its way and nothing may leave: the receiver's window is closed. What only waits for the
    /// pace leaves by itself.
    fn is_stuck(&self) -> bool {
        let is_idle = self.log.in_flight() == 0 && self.resend.is_empty();
        is_idle && !self.fresh_sets.is_empty() && self.fresh_fragment().is_none()
    }

    /// Resends what is due, gives up what is over its time.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.settle(now);
        if self.lost_at.is_some_and(|at| at <= now) {
            self.detect_lost(now);
        }
        if self.timeout_at().is_some_and(|at| at <= now) {
            self.on_timeout(now);
        } else if self.probe_at().is_some_and(|at| at <= now) {
            self.probed = true;
            self.ping_due = true;
            if let Some(item) = self.log.take_newest() {
                let event = TraceEvent::Probed { item: item.into() };
                self.trace.note(now, event);
                self.resend.push_front(item);
            }
        }
        if self.expiry_at.is_some_and(|at| at <= now) {
            self.expire(now);
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        self.timeouts += 1;
        self.backoff += 1;
        self.counts.timeouts += 1;
        let in_a_row = self.timeouts;
        self.trace.note(now, TraceEvent::TimedOut { in_a_row });
        self.timer_from = now;
        if self.timeouts > self.max_retries {
            self.fail_all(Failure::TimedOut);
            return;
        }
        let rto = self.rtt.rto(0);
        let before = now.checked_sub(rto).unwrap_or(now);
        let (resend, congestion) = (&mut self.resend, &mut self.congestion);
        let trace = &mut self.trace;
        self.log.take_older(before, |item, len| {
            resend.push_back(item);
            congestion.on_lost(len);
            let (item, rule) = (item.into(), LossRule::Timeout);
            trace.note(now, TraceEvent::Lost { item, len, rule });
        });
        self.congestion.on_timeout();
        self.trace_path(now);
        self.ping_due = true;
        self.measured = false;
        self.progressed = false;
        // With so little on its way nothing else can show a loss but the next timeout, which is later:
        // each copy lowers the chance that it is needed (RFC 9002 6.2.4).
        let mut copies = self.resend.clone().into_iter().cycle();
        while self.resend.len() < LEAST_AFTER_TIMEOUT {
            let Some(copy) = copies.next() else { break };
            self.resend.push_back(copy);
        }
        self.probe = self.is_stuck();
        // All fragments are there, the message is not confirmed: the last one asks again.
        for (_, frag_id) in std::mem::take(&mut self.unconfirmed) {
            if let Some(set) = self.sets.get(&frag_id) {
                let index = set.cut.total - 1;
                self.resend.push_back(Item::Fragment {
                    set: frag_id,
                    index,
                });
            }
        }
    }

    /// The payload of a PING to send now, if one is due.
    ///
    /// What was sent again measures nothing when it is acknowledged. PONG repeats the number, so it is
    /// the answer to one PING alone: it tells a slow path from a lossy one.
    pub(crate) fn take_ping(&mut self, now: Instant) -> Option<[u8; 8]> {
        if !std::mem::take(&mut self.ping_due) {
            return None;
        }
        self.ping_number = self.ping_number.wrapping_add(1);
        if self.pings.len() == MAX_PINGS {
            self.pings.pop_front();
        }
        self.pings.push_back((self.ping_number, now));
        Some(self.ping_number.to_be_bytes())
    }

    /// PONG; whether it answers one of the last PINGs.
    pub(crate) fn on_pong(&mut self, now: Instant, payload: &[u8]) -> bool {
        let answers = |(number, _): &(u64, Instant)| payload == number.to_be_bytes();
        let Some(place) = self.pings.iter().position(answers) else {
            return false;
        };
        let (_, pinged_at) = self.pings[place];
        self.pings.drain(..=place);
        self.on_sample(now, now.saturating_duration_since(pinged_at));
        self.measured = true;
        // A peer that answers PING and takes no message has no room: it is asked more and more rarely.
        if self.progressed {
            self.backoff = 0;
        }
        true
    }

    /// The round-trip time was measured.
    fn on_sample(&mut self, now: Instant, latest: Duration) {
        self.rtt.sample(latest);
        if let Some(smoothed) = self.rtt.smoothed() {
            let event = TraceEvent::RoundTrip { latest, smoothed };
            self.trace.note(now, event);
        }
    }

    /// Notes what the path is like now, where that is new.
    fn trace_path(&mut self, now: Instant) {
        if self.trace.is_on() {
            let metrics = PathMetrics {
                congestion_window: self.congestion.window_len(),
                bytes_in_flight: self.log.in_flight(),
                pacing_rate: self.congestion.pacing_rate() as u64,
            };
            let state = self.congestion.state();
            self.trace.note_path(now, state, metrics);
        }
    }

    fn expire(&mut self, now: Instant) {
        let timeout = self.delivery_timeout;
        let is_silent = |at| now.saturating_duration_since(at) >= timeout;
        if self.answered_at.is_some_and(is_silent) {
            // Nothing came back of anything; what still waits for its turn would fare no better.
            self.expiry_at = None;
            self.fail_all(Failure::TimedOut);
            return;
        }
        let over = |since: Option<Instant>| since.and_then(|since| since.checked_add(timeout));
        let messages = self
            .messages
            .iter()
            .map(|(id, m)| (id, over(m.progress_at)));
        let sets = self.sets.values().map(|s| (s.msg_id, over(s.progress_at)));
        let (mut ended, mut next) = (Vec::new(), None);
        for (msg_id, at) in messages.chain(sets) {
            match at {
                Some(at) if at <= now => ended.push(msg_id),
                Some(at) => next = Some(next.map_or(at, |next: Instant| next.min(at))),
                None => {}
            }
        }
        self.expiry_at = next;
        ended.sort_unstable();
        for msg_id in ended {
            self.end(msg_id, Err(Failure::TimedOut));
        }
    }
}
