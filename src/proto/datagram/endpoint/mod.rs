//! [`Endpoint`]: everything that one UDP socket speaks, without the socket.
//!
//! Driven by a shell: datagrams and the time go in, [`Endpoint::poll_transmit`] and
//! [`Endpoint::poll_event`] are drained after each, and it sleeps until [`Endpoint::next_timeout`].
//! Nothing here fails because of what came from the network.
//!
//! ```text
//!   stranger ──HELLO + cookie──> session ──BYE, ERR, three silent intervals──> gone
//!      └── 30 s without a datagram, nothing pending ──> forgotten
//! ```

mod connecting;
mod drive;
mod handshake;
mod judging;
#[cfg(test)]
mod judging_tests;
mod moving;
mod path;
mod permitted;
mod receive;
mod sealed;
mod strangers;
#[cfg(test)]
mod tests;
mod timers;
#[cfg(test)]
mod trace_tests;

use super::config::{AnswerLimit, EndpointConfig};
use super::emit::Envelope;
use super::fragment::{Cut, Inner};
use super::parts::{Event, Failure, Progress, SendError, Token};
use super::peer::{Link, Peer};
use super::proof::Proof;
use super::reassembly::Totals;
use super::reliable::{Message, Outgoing, Set};
use super::seal::{OVERHEAD, SealId};
use super::secret::Secret;
use super::stats::EndpointStats;
use super::trace::TraceLog;
use crate::proto::keys::Features;
use crate::proto::network::Network;
use crate::proto::rate::RateTable;
use crate::wire::{Frame, FrameRef, FrameType, Limits};
use connecting::{Connecting, CookieRate, Judged, Owner};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    secret: Secret,
    began: Instant,
    /// The latest time seen; a clock that goes back is held here.
    now: Instant,
    peers: Vec<Option<Box<Peer>>>,
    free: Vec<usize>,
    sessions: HashMap<SocketAddr, usize>,
    /// The session that was looked for last: traffic comes in runs.
    recent: Option<(SocketAddr, usize)>,
    /// Where sealed sessions were before they moved: what is sent there goes to where they are.
    former: HashMap<SocketAddr, usize>,
    /// Whose a sealed datagram is.
    sealed: HashMap<SealId, Owner>,
    /// Where sealed datagrams are opened.
    opened: Vec<u8>,
    /// Room for what an acknowledgement names, empty between calls.
    acked: Vec<Range<u64>>,
    strangers: HashMap<SocketAddr, usize>,
    /// Strangers in the order in which they came, some of whom are gone.
    stranger_order: VecDeque<(usize, SocketAddr)>,
    connecting: BTreeMap<SocketAddr, Connecting>,
    /// Sessions that clients opened, by network.
    per_ip: HashMap<Network, usize>,
    cookies: CookieRate,
    /// Clients about which somebody decides, and how many there were.
    judging: BTreeMap<SocketAddr, Judged>,
    judged_count: u64,
    /// What networks without a session may send.
    rates: RateTable,
    /// Datagrams to addresses of which nothing is remembered.
    stray: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Peers that may have something to send.
    active: VecDeque<usize>,
    /// When to look at a peer; entries that were overtaken by an earlier one do no harm.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Peers with sets in reassembly.
    reassembling: BTreeSet<usize>,
    totals: Totals,
    events: VecDeque<Event>,
    stats: EndpointStats,
    /// What happened, for an event log.
    trace: TraceLog,
    /// The numbers of messages and sets: the first that this endpoint gave, and the next.
    first_msg_id: u64,
    next_msg_id: u64,
    first_frag_id: u64,
    next_frag_id: u64,
}

impl Endpoint {
    /// An endpoint without peers. All that is random in it follows from `seed`, which must be
    /// unpredictable outside of tests.
    #[must_use]
    pub fn new(config: EndpointConfig, seed: [u8; 32], now: Instant) -> Self {
        let mut secret = Secret::new(seed);
        // Below 2^48, so that they never wrap (spec 4.6).
        let (next_msg_id, next_frag_id) = (secret.u64() >> 16, secret.u64() >> 16);
        let trace = TraceLog::new(config.max_trace_count);
        Self {
            config,
            secret,
            began: now,
            now,
            peers: Vec::new(),
            free: Vec::new(),
            sessions: HashMap::new(),
            recent: None,
            former: HashMap::new(),
            sealed: HashMap::new(),
            opened: Vec::new(),
            acked: Vec::new(),
            strangers: HashMap::new(),
            stranger_order: VecDeque::new(),
            connecting: BTreeMap::new(),
            per_ip: HashMap::new(),
            cookies: CookieRate {
                began: now,
                count: 0,
            },
            judging: BTreeMap::new(),
            judged_count: 0,
            rates: RateTable::default(),
            stray: VecDeque::new(),
            active: VecDeque::new(),
            timers: BinaryHeap::new(),
            reassembling: BTreeSet::new(),
            totals: Totals {
                charged: 0,
                sets: 0,
            },
            events: VecDeque::new(),
            stats: EndpointStats::default(),
            trace,
            first_msg_id: next_msg_id,
            next_msg_id,
            first_frag_id: next_frag_id,
            next_frag_id,
        }
    }

    /// Time that goes back, by a bug or between threads, is held still.
    fn clamp(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn peer(&self, index: usize) -> Option<&Peer> {
        self.peers.get(index)?.as_deref()
    }

    fn peer_mut(&mut self, index: usize) -> Option<&mut Peer> {
        self.peers.get_mut(index)?.as_deref_mut()
    }

    fn session_with(&mut self, addr: SocketAddr) -> Option<usize> {
        if let Some((_, index)) = self.recent.filter(|(recent, _)| *recent == addr) {
            return Some(index);
        }
        let index = *self.sessions.get(&addr)?;
        self.recent = Some((addr, index));
        Some(index)
    }

    fn add_peer(&mut self, peer: Peer) -> usize {
        let peer = Some(Box::new(peer));
        match self.free.pop() {
            Some(index) => {
                self.peers[index] = peer;
                index
            }
            None => {
                self.peers.push(peer);
                self.peers.len() - 1
            }
        }
    }

    fn remove_peer(&mut self, index: usize, failure: Failure) {
        if let Some(peer) = self.peers.get_mut(index).and_then(Option::as_deref_mut) {
            if let Some(sends) = peer.sends_mut() {
                sends.fail_all(failure);
            }
            peer.reassembly_mut().clear(&mut self.totals);
        }
        self.collect(index);
        if let Some(slot) = self.peers.get_mut(index) {
            if slot.take().is_some() {
                self.free.push(index);
            }
        }
        self.note_reassembly(index);
    }

    fn mark_active(&mut self, index: usize) {
        if let Some(peer) = self.peers.get_mut(index).and_then(Option::as_deref_mut) {
            if !peer.is_active {
                peer.is_active = true;
                self.active.push_back(index);
            }
        }
    }

    /// Turns what became of a peer's messages into events.
    fn collect(&mut self, index: usize) {
        let peer = self.peers.get_mut(index).and_then(Option::as_deref_mut);
        let Some(peer) = peer else {
            return;
        };
        peer.hand_over_trace(&mut self.trace);
        let Some(sends) = peer.sends_mut() else {
            return;
        };
        while let Some((msg_id, how)) = sends.poll_done() {
            let token = Token {
                peer: index,
                msg_id,
            };
            match how {
                Ok(()) => {
                    self.stats.messages_acknowledged += 1;
                    self.events.push_back(Event::Delivered(token));
                }
                Err(failure) => {
                    self.stats.messages_failed += 1;
                    self.events.push_back(Event::Failed(token, failure));
                }
            }
        }
    }

    // What the application does.

    /// Queues a frame that is sent once.
    ///
    /// In a session when there is one with this address. A frame that does not fit one datagram is cut;
    /// the loss of one fragment is then the loss of the frame.
    ///
    /// # Errors
    /// [`SendError`]; nothing was queued.
    pub fn send(
        &mut self,
        now: Instant,
        to: SocketAddr,
        frame: FrameRef<'_>,
    ) -> Result<(), SendError> {
        let now = self.clamp(now);
        let index = self.peer_for(now, to)?;
        let (envelope, limits) = self.envelope(index, false);
        self.check(index, frame)?;
        let len = envelope.message_len(frame, &limits)?;
        let limit = self.config.answer_limit;
        if len <= self.max_datagram_len(index) {
            let Some(peer) = self.peer_mut(index) else {
                return Ok(());
            };
            if !peer.may_answer(now, len, limit) {
                return Err(SendError::AnswerLimit);
            }
            let mut datagram = peer.take_buffer();
            datagram.reserve(len);
            envelope.write(frame, &limits, &mut datagram)?;
            peer.push(datagram);
        } else {
            self.send_fragments(now, index, frame, (&envelope, &limits))?;
        }
        self.next_msg_id += 1;
        self.stats.messages_sent += 1;
        self.mark_active(index);
        Ok(())
    }

    fn send_fragments(
        &mut self,
        now: Instant,
        index: usize,
        frame: FrameRef<'_>,
        (envelope, limits): (&Envelope, &Limits),
    ) -> Result<(), SendError> {
        let (mut inner, cut) = self.cut(frame, frame.payload.to_vec(), envelope, limits)?;
        let number = self.next_frag_id;
        let limit = self.config.answer_limit;
        let proof = envelope.proof;
        let len_of = |place| super::emit::fragment_len(&inner, &cut, (number, place), &proof);
        let len = (0..cut.total).map(len_of).sum();
        let Some(peer) = self.peer_mut(index) else {
            return Ok(());
        };
        if !peer.may_answer(now, len, limit) {
            return Err(SendError::AnswerLimit);
        }
        for place in 0..cut.total {
            let mut datagram = Vec::new();
            let number = (number, place);
            super::emit::fragment(&mut inner, &cut, number, false, &proof, &mut datagram);
            peer.push(datagram);
        }
        self.next_frag_id += 1;
        Ok(())
    }

    /// Queues a frame that is sent until it is acknowledged; ends in [`Event::Delivered`] or
    /// [`Event::Failed`] with the token.
    ///
    /// # Errors
    /// [`SendError`]; nothing was queued.
    pub fn send_with_ack(
        &mut self,
        now: Instant,
        to: SocketAddr,
        frame: Frame,
    ) -> Result<Token, SendError> {
        if frame.typ == FrameType::Err {
            // With REQ_ACK its receiver drops it (spec 4.2).
            return Err(SendError::NeverAcknowledged);
        }
        let now = self.clamp(now);
        let index = self.peer_for(now, to)?;
        let (envelope, limits) = self.envelope(index, true);
        self.check(index, frame.as_ref())?;
        let len = envelope.message_len(frame.as_ref(), &limits)?;
        let msg_id = envelope.msg_id;
        let is_stranger = !envelope.proof.is_session();
        if is_stranger && self.config.answer_limit == AnswerLimit::SessionsOnly {
            return Err(SendError::AnswerLimit);
        }
        let outgoing = if len <= self.max_datagram_len(index) {
            Outgoing::Message(Message::new(frame, self.config.use_crc, len))
        } else {
            let head = FrameRef {
                typ: frame.typ,
                flags: frame.flags,
                headers: frame.headers.as_ref(),
                payload: &frame.payload,
            };
            let (head, cut) = self.cut_head(head, &envelope, &limits)?;
            let frag_id = self.next_frag_id;
            self.next_frag_id += 1;
            let inner = Inner::new(head, frame.payload);
            Outgoing::Set(frag_id, Box::new(Set::new(msg_id, inner, cut)))
        };
        let (config, secret) = (&self.config, &mut self.secret);
        if let Some(peer) = self.peers.get_mut(index).and_then(Option::as_deref_mut) {
            let jitter = || secret.u64();
            peer.reliable(config, jitter, now).queue(msg_id, outgoing);
        }
        self.next_msg_id += 1;
        self.stats.messages_sent += 1;
        self.mark_active(index);
        Ok(Token {
            peer: index,
            msg_id,
        })
    }

    fn cut(
        &self,
        frame: FrameRef<'_>,
        payload: Vec<u8>,
        envelope: &Envelope,
        limits: &Limits,
    ) -> Result<(Inner, Cut), SendError> {
        let (head, cut) = self.cut_head(frame, envelope, limits)?;
        Ok((Inner::new(head, payload), cut))
    }

    fn cut_head(
        &self,
        frame: FrameRef<'_>,
        envelope: &Envelope,
        limits: &Limits,
    ) -> Result<(Vec<u8>, Cut), SendError> {
        let sealed = if envelope.proof == Proof::Sealed {
            OVERHEAD
        } else {
            0
        };
        let limit = self.config.max_datagram_len - sealed;
        let mut head = Vec::new();
        envelope.inner_head(frame, limits, &mut head)?;
        let size = head.len() + frame.payload.len() + 4;
        if !self.config.allow_frag {
            return Err(SendError::FragmentsOff { size, limit });
        }
        let cut = Cut::new(size, self.next_frag_id, limit, &envelope.proof);
        Ok((head, cut.ok_or(SendError::TooManyFragments { size })?))
    }

    fn peer_for(&mut self, now: Instant, to: SocketAddr) -> Result<usize, SendError> {
        match self.session_with(to).or(self.former.get(&to).copied()) {
            // Not without a session instead: whoever opened one relies on what it gives.
            Some(index) if self.peer(index).is_some_and(Peer::is_closing) => {
                Err(SendError::Closing)
            }
            Some(index) => Ok(index),
            None if self.config.sealed_only => Err(SendError::NotSealed),
            None => Ok(self.stranger(now, to)),
        }
    }

    /// Bytes of a plain datagram to this peer at the most.
    fn max_datagram_len(&self, index: usize) -> usize {
        let max = self.config.max_datagram_len;
        let peer = self.peer(index);
        peer.map_or(max, |peer| peer.max_datagram_len(&self.config))
    }

    fn envelope(&self, index: usize, wants_ack: bool) -> (Envelope, Limits) {
        let link = self.peer(index).and_then(|peer| peer.link.as_ref());
        let theirs = link.map_or(u64::MAX, |link| link.max_frame_len);
        let theirs = usize::try_from(theirs).unwrap_or(usize::MAX);
        let limits = Limits {
            max_frame_len: self.config.max_frame_len.min(theirs),
            ..Limits::default()
        };
        let envelope = Envelope {
            msg_id: self.next_msg_id,
            wants_ack,
            use_crc: self.config.use_crc,
            proof: link.map_or(Proof::None, |link| link.proof),
        };
        (envelope, limits)
    }

    /// Gives a message up; whether it was still on its way.
    pub fn cancel(&mut self, token: Token) -> bool {
        let sends = self.peer_mut(token.peer).and_then(Peer::sends_mut);
        let was_there = sends.is_some_and(|sends| sends.cancel(token.msg_id));
        self.collect(token.peer);
        self.mark_active(token.peer);
        was_there
    }

    /// How far a message is, while it is on its way.
    #[must_use]
    pub fn progress(&self, token: Token) -> Option<Progress> {
        self.peer(token.peer)?.sends()?.progress(token.msg_id)
    }

    /// The smoothed round-trip time to an address, once something was acknowledged.
    #[must_use]
    pub fn round_trip_time(&self, with: SocketAddr) -> Option<Duration> {
        let index = self.session_at(with);
        let index = index.or(self.strangers.get(&with).copied())?;
        self.peer(index)?.sends()?.smoothed_rtt()
    }

    /// The session of an address, also of one that it has moved away from.
    fn session_at(&self, addr: SocketAddr) -> Option<usize> {
        let here = self.sessions.get(&addr);
        here.or_else(|| self.former.get(&addr)).copied()
    }

    /// The number and the features of the session with an address.
    #[must_use]
    pub fn session(&self, with: SocketAddr) -> Option<(u128, &Features)> {
        let link: &Link = self.peer(self.session_at(with)?)?.link.as_ref()?;
        Some((link.id, &link.features))
    }

    /// Addresses with an open session, in order.
    #[must_use]
    pub fn session_addrs(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self.sessions.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// Ends the session with an address, or the attempt to open one: BYE goes out up to three times,
    /// [`Event::Closed`] follows. What was on its way is given up.
    pub fn close(&mut self, now: Instant, with: SocketAddr) {
        let now = self.clamp(now);
        self.connect_failed(with, Failure::Local);
        if let Some(index) = self.session_at(with) {
            if let Some(peer) = self.peer_mut(index).filter(|peer| !peer.is_closing()) {
                peer.close(now);
            }
            self.collect(index);
            self.mark_active(index);
        }
    }

    /// Sends PING once in the session with an address; [`Event::Pong`] with this number follows if it is
    /// answered before the next. Whether there is such a session.
    pub fn ping(&mut self, now: Instant, with: SocketAddr, number: u64) -> bool {
        self.clamp(now);
        let Some(&index) = self.sessions.get(&with) else {
            return false;
        };
        if let Some(peer) = self.peer_mut(index).filter(|peer| !peer.is_closing()) {
            peer.probe(number);
        }
        self.mark_active(index);
        true
    }

    /// Sets of fragments in reassembly.
    #[must_use]
    pub const fn reassembly_set_count(&self) -> usize {
        self.totals.sets
    }

    /// Messages that wait for their acknowledgement, of all peers.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        let sends = self.peers.iter().flatten().filter_map(|peer| peer.sends());
        sends.map(super::reliable::Reliable::pending_count).sum()
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    /// The settings.
    #[must_use]
    pub const fn config(&self) -> &EndpointConfig {
        &self.config
    }
}
