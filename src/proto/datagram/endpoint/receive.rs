//! A datagram arrives: whose it is, and what its frames do (spec 4.1, 4.11).

use super::super::config::{MAX_ACKED_COUNT, MAX_BUNDLED_COUNT, MAX_DATAGRAM_LEN, MAX_STRAY_COUNT};
use super::super::emit::Control;
use super::super::fields::{Fields, FragmentFields};
use super::super::parts::{Event, Failure};
use super::super::peer::{Peer, Shared};
use super::super::proof::{Proof, Sid};
use super::super::seal;
use super::super::stats::DropReason;
use super::Endpoint;
use crate::proto::code::ErrorCode;
use crate::proto::keys;
use crate::wire::{DecodeError, Decoded, Flags, FrameRef, FrameType, Limits, Trailer, decode};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// PING and PONG carry this much at the most (bytes).
const MAX_PING_LEN: usize = 64;
/// BYE (bytes).
const MAX_BYE_LEN: usize = 256;
/// ERR (bytes).
const MAX_ERR_LEN: usize = 1024;

impl Endpoint {
    /// A datagram arrived. What is wrong with it is counted, and nothing else happens.
    ///
    /// `room`: the application's queue takes [`MAX_BUNDLED_COUNT`] more messages, which is what one
    /// datagram brings at the most. Without room nothing is delivered, and so nothing is acknowledged.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], room: bool) {
        let now = self.clamp(now);
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.len() as u64;
        if !is_source(from) {
            self.stats.drop(DropReason::BadSource);
            return;
        }
        if seal::is_sealed(datagram) {
            if let Err(reason) = self.handle_sealed(now, from, datagram, room) {
                self.stats.drop(reason);
            }
        } else if self.takes_only_sealed(from) {
            self.stats.drop(DropReason::Unsealed);
        } else {
            self.handle_frames(now, (from, None), datagram, room);
        }
    }

    /// The frames of a plain datagram, or of one that was sealed in the session of this peer.
    pub(super) fn handle_frames(
        &mut self,
        now: Instant,
        (from, sealed): (SocketAddr, Option<usize>),
        datagram: &[u8],
        mut room: bool,
    ) {
        let limits = Limits {
            max_frame_len: MAX_DATAGRAM_LEN,
            ..Limits::default()
        };
        let trailer = sealed.map_or(Trailer::Always, |_| Proof::Sealed.trailer());
        let mut rest = datagram;
        let mut first = true;
        let queued = self.events.len();
        let ids_left = Cell::new(MAX_ACKED_COUNT);
        loop {
            let (frame, used) = match decode(rest, trailer, &limits) {
                Ok(Decoded::Frame(frame, used)) => (frame, used),
                Ok(Decoded::Incomplete { .. }) => {
                    self.stats.drop(DropReason::Malformed);
                    return;
                }
                Err(DecodeError::CrcMismatch { .. }) => {
                    self.stats.drop(DropReason::BadCrc);
                    return;
                }
                Err(_) => {
                    self.stats.drop(DropReason::Malformed);
                    return;
                }
            };
            self.stats.frames_received.note(frame.typ, used);
            let fields = match Fields::read(frame) {
                Ok(fields) => fields,
                Err(reason) => {
                    self.stats.drop(reason);
                    return;
                }
            };
            self.trace
                .note_received(now, from, (frame.typ, used), &fields);
            let is_single = first && used == rest.len();
            if !is_single && !self.may_bundle(from, sealed, fields.sid) {
                self.stats.drop(DropReason::Malformed);
                return;
            }
            let crc = checksum(&rest[..used]);
            let input = Input {
                from,
                sealed,
                frame,
                fields,
                crc,
                len: used,
                ids_left: &ids_left,
            };
            if let Err(reason) = self.handle_frame(now, &input, room) {
                self.stats.drop(reason);
            }
            room &= self.events.len() < queued + MAX_BUNDLED_COUNT;
            rest = &rest[used..];
            first = false;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The peer in whose session a frame proves to be.
    fn peer_in_session(
        &mut self,
        from: SocketAddr,
        sealed: Option<usize>,
        sid: Option<Sid>,
    ) -> Option<&Peer> {
        let proof = sealed.map_or(sid.map(Proof::Sid), |_| Some(Proof::Sealed));
        let index = sealed.or_else(|| self.session_with(from))?;
        self.peer(index).filter(|peer| proof == Some(peer.proof()))
    }

    /// Several frames in a datagram come only in a session that agreed to it.
    fn may_bundle(&mut self, from: SocketAddr, sealed: Option<usize>, sid: Option<Sid>) -> bool {
        let peer = self.peer_in_session(from, sealed, sid);
        peer.is_some_and(|peer| peer.link.as_ref().is_some_and(|link| link.bundle))
    }

    /// Compressed payloads, too.
    fn may_inflate(&mut self, from: SocketAddr, sealed: Option<usize>, sid: Option<Sid>) -> bool {
        let peer = self.peer_in_session(from, sealed, sid);
        peer.is_some_and(Peer::has_gzip)
    }

    fn handle_frame(
        &mut self,
        now: Instant,
        input: &Input<'_>,
        room: bool,
    ) -> Result<(), DropReason> {
        let Input {
            from,
            frame,
            fields,
            ..
        } = input;
        let flags = match frame.typ {
            FrameType::Ack => Flags::FRAG | Flags::CRC,
            // spec 5: a fragment is not compressed, the frame in it may be.
            typ if typ.is_message()
                && frame.flags.contains(Flags::COMP)
                && self.may_inflate(*from, input.sealed, fields.sid) =>
            {
                Flags::COMP | Flags::CRC | Flags::REQ_ACK
            }
            typ if typ.is_message() => Flags::FRAG | Flags::CRC | Flags::REQ_ACK,
            _ => Flags::CRC,
        };
        if !flags.contains(frame.flags) {
            return Err(DropReason::Invalid);
        }
        if let Some(index) = input.sealed {
            return self.in_sealed_session(now, index, input, room);
        }
        match frame.typ {
            FrameType::Hello => return self.on_hello(now, *from, *frame, fields, input.len),
            FrameType::Welcome => return self.on_welcome(now, *from, *frame, fields),
            _ => {}
        }
        match fields.sid {
            Some(sid) => self.in_session(now, input, sid, room),
            None => self.without_session(now, input, room),
        }
    }

    fn in_session(
        &mut self,
        now: Instant,
        input: &Input<'_>,
        sid: Sid,
        room: bool,
    ) -> Result<(), DropReason> {
        let Some(index) = self.session_with(input.from) else {
            return Err(DropReason::UnknownSession);
        };
        let is_its = |peer: &Peer| peer.proof() == Proof::Sid(sid);
        if !self.peer(index).is_some_and(is_its) {
            return Err(DropReason::UnknownSession);
        }
        self.for_session(now, index, input, room)
    }

    /// A frame that has proved to be of this session.
    pub(super) fn for_session(
        &mut self,
        now: Instant,
        index: usize,
        input: &Input<'_>,
        room: bool,
    ) -> Result<(), DropReason> {
        let (config, peers) = (&self.config, &mut self.peers);
        let peer = peers.get_mut(index).and_then(Option::as_deref_mut);
        let Some(peer) = peer else {
            return Err(DropReason::UnknownSession);
        };
        peer.heard(now, input.len, config);
        let is_closing = peer.is_closing();
        self.mark_active(index);
        match input.frame.typ {
            FrameType::Bye => {
                let frame = input.frame;
                let code = frame.headers.get(keys::CODE).map(ErrorCode::from_wire);
                if frame.payload.len() > MAX_BYE_LEN {
                    return Err(DropReason::Invalid);
                }
                if is_closing {
                    self.end_session(index, Failure::Local);
                } else {
                    self.answer_bye(index);
                    self.end_session(index, Failure::PeerBye(code));
                }
                Ok(())
            }
            // BYE is on its way: nothing new is begun.
            typ if is_closing && typ.is_message() => Err(DropReason::Unexpected),
            typ if typ.is_message() => {
                self.check_rate(now, index, input)?;
                self.for_peer(now, index, input, room)
            }
            _ => self.for_peer(now, index, input, room),
        }
    }

    /// The session is gone with this, so the answer does not go through its peer.
    fn answer_bye(&mut self, index: usize) {
        let Some(peer) = self.peer(index) else {
            return;
        };
        let (to, mut bye) = (peer.addr, Vec::new());
        Control::new(FrameType::Bye, peer.proof()).write(&mut bye, |_| ());
        self.push_aside(index, to, bye);
    }

    /// Whether an answer may be queued to somebody of whom nothing is remembered; not when too many wait
    /// already, because they come faster than they can leave.
    pub(super) fn has_stray_room(&self) -> bool {
        self.stray.len() < MAX_STRAY_COUNT
    }

    /// Queues such an answer, if it may be.
    pub(super) fn answer_stray(&mut self, to: SocketAddr, datagram: Vec<u8>) -> bool {
        let has_room = self.has_stray_room();
        if has_room {
            self.stray.push_back((to, datagram));
        }
        has_room
    }

    fn without_session(
        &mut self,
        now: Instant,
        input: &Input<'_>,
        room: bool,
    ) -> Result<(), DropReason> {
        let Input { from, frame, .. } = input;
        match frame.typ {
            FrameType::Ping => {
                if frame.payload.len() > MAX_PING_LEN {
                    return Err(DropReason::Invalid);
                }
                // Exactly as long as what it answers, and nothing is remembered of it. Headers that PONG
                // does not repeat only make it shorter.
                let mut pong = Vec::new();
                let control = Control {
                    typ: FrameType::Pong,
                    proof: Proof::None,
                    payload: frame.payload,
                };
                control.write(&mut pong, |_| ());
                let answered = self.answer_stray(*from, pong);
                answered.then_some(()).ok_or(DropReason::Calm)
            }
            FrameType::Err if self.connecting.contains_key(from) => self.on_refusal(*from, *frame),
            FrameType::Bye => Err(DropReason::Unexpected),
            FrameType::Err if self.config.auth_timeout.is_some() => Err(DropReason::Unauthorized),
            FrameType::Ack | FrameType::Err | FrameType::Pong => {
                let Some(&index) = self.strangers.get(from) else {
                    return Err(DropReason::Unexpected);
                };
                let result = self.for_peer(now, index, input, room);
                if result.is_ok() {
                    let (config, peers) = (&self.config, &mut self.peers);
                    if let Some(peer) = peers.get_mut(index).and_then(Option::as_deref_mut) {
                        peer.heard(now, input.len, config);
                    }
                    self.mark_active(index);
                }
                result
            }
            _ => {
                self.check_stranger(now, input)?;
                let index = self.stranger(now, *from);
                let (config, peers) = (&self.config, &mut self.peers);
                if let Some(peer) = peers.get_mut(index).and_then(Option::as_deref_mut) {
                    peer.heard(now, input.len, config);
                }
                self.mark_active(index);
                self.for_peer(now, index, input, room)
            }
        }
    }

    /// What is the same with a session and without.
    fn for_peer(
        &mut self,
        now: Instant,
        index: usize,
        input: &Input<'_>,
        room: bool,
    ) -> Result<(), DropReason> {
        let Input { frame, fields, .. } = input;
        let result = match frame.typ {
            FrameType::Ack => self.on_ack(now, index, input),
            FrameType::Ping => {
                if frame.payload.len() > MAX_PING_LEN {
                    return Err(DropReason::Invalid);
                }
                let peer = self.peer_mut(index).ok_or(DropReason::Unexpected)?;
                peer.on_ping(now, frame.payload)
            }
            FrameType::Pong => {
                let peer = self.peer_mut(index).ok_or(DropReason::Unexpected)?;
                let (addr, answered) = (peer.addr, peer.on_pong(now, frame.payload)?);
                if let Some(number) = answered {
                    self.events.push_back(Event::Pong { peer: addr, number });
                }
                Ok(())
            }
            FrameType::Err => self.on_error(index, input, room),
            _ if frame.flags.contains(Flags::FRAG) => self.on_fragment(now, index, input, room),
            _ if fields.speaks_of_fragments() => Err(DropReason::BadFragment),
            _ => {
                let crc = input.crc;
                let peer = self.peer_mut(index).ok_or(DropReason::Unexpected)?;
                let frame = peer.on_message(*frame, fields, crc, room)?;
                self.deliver(index, frame);
                Ok(())
            }
        };
        self.collect(index);
        result
    }

    /// ERR: with a `correlation-id` it answers a request, in a session without one it is the end.
    fn on_error(&mut self, index: usize, input: &Input<'_>, room: bool) -> Result<(), DropReason> {
        let frame = input.frame;
        if frame.payload.len() > MAX_ERR_LEN {
            return Err(DropReason::Invalid);
        }
        let id = keys::correlation_id(frame).map_err(|_| DropReason::Invalid)?;
        if id.is_some() {
            if !room {
                return Err(DropReason::QueueFull);
            }
            let peer = self.peer_mut(index).ok_or(DropReason::Unexpected)?;
            let answer = peer.on_message(frame, &input.fields, input.crc, room)?;
            self.deliver(index, answer);
            return Ok(());
        }
        if input.fields.sid.is_none() && input.sealed.is_none() {
            return Err(DropReason::Unexpected);
        }
        let code = frame.headers.get(keys::CODE).unwrap_or_default();
        self.end_session(index, Failure::Refused(ErrorCode::from_wire(code)));
        Ok(())
    }

    fn on_fragment(
        &mut self,
        now: Instant,
        index: usize,
        input: &Input<'_>,
        room: bool,
    ) -> Result<(), DropReason> {
        let frame = input.frame;
        if frame.typ != FrameType::Data {
            return Err(DropReason::BadFragment);
        }
        let fields = input.fields.fragment(frame.flags)?;
        let peer = self.peers.get_mut(index).and_then(Option::as_deref_mut);
        let peer = peer.ok_or(DropReason::Unexpected)?;
        let mut shared = Shared {
            config: &self.config,
            totals: &mut self.totals,
            stats: &mut self.stats,
        };
        let len = frame.payload.len();
        let (charge, begins) = peer.admit_fragment(now, &fields, (len, input.len), &mut shared)?;
        self.make_space(index, charge, begins)?;
        let whole = self.take_fragment(now, index, &fields, input, room)?;
        if let Some(frame) = whole {
            self.deliver(index, frame);
        }
        Ok(())
    }

    fn take_fragment(
        &mut self,
        now: Instant,
        index: usize,
        fields: &FragmentFields,
        input: &Input<'_>,
        room: bool,
    ) -> Result<Option<crate::wire::Frame>, DropReason> {
        let peer = self.peers.get_mut(index).and_then(Option::as_deref_mut);
        let peer = peer.ok_or(DropReason::Unexpected)?;
        let mut shared = Shared {
            config: &self.config,
            totals: &mut self.totals,
            stats: &mut self.stats,
        };
        let datagram = (input.frame.payload, input.len);
        let result = peer.on_fragment(now, fields, datagram, room, &mut shared);
        self.note_reassembly(index);
        result
    }

    /// Frees what a fragment needs, at the expense of the largest user: strangers first, never of a
    /// smaller one than the peer itself.
    fn make_space(&mut self, index: usize, charge: usize, begins: bool) -> Result<(), DropReason> {
        loop {
            let too_many = begins && self.totals.sets >= self.config.max_reassembly_sessions;
            let too_much = self.totals.charged + charge > self.config.total_budget_len;
            if !too_many && !too_much {
                return Ok(());
            }
            let size = |peer: &Peer| {
                let usage = peer.reassembly();
                // A fragment of a set that exists goes on where another begins.
                (peer.link.is_none(), usage.charged(), usage.set_count())
            };
            let mine = self.peer(index).map(size);
            let largest = self
                .reassembling
                .iter()
                .filter(|other| **other != index)
                .filter_map(|other| Some((self.peer(*other).map(size)?, *other)))
                .max();
            let Some((theirs, victim)) = largest.filter(|(theirs, _)| Some(*theirs) > mine) else {
                return Err(DropReason::Budget);
            };
            debug_assert!(theirs.2 > 0, "only peers with sets are listed");
            let peer = self.peers.get_mut(victim).and_then(Option::as_deref_mut);
            let peer = peer.ok_or(DropReason::Budget)?;
            if !peer.reassembly_mut().evict_oldest(&mut self.totals) {
                return Err(DropReason::Budget);
            }
            self.stats.sets_discarded += 1;
            self.note_reassembly(victim);
        }
    }

    /// Keeps the list of peers with sets, and the gauges.
    pub(super) fn note_reassembly(&mut self, index: usize) {
        let count = self.peer(index).map(|p| p.reassembly().set_count());
        if count.is_some_and(|count| count > 0) {
            self.reassembling.insert(index);
        } else {
            self.reassembling.remove(&index);
        }
        self.stats.reassembly_sets = self.totals.sets;
        self.stats.reassembly_len = self.totals.charged;
    }

    fn deliver(&mut self, index: usize, frame: crate::wire::Frame) {
        let Some(peer) = self.peer(index) else {
            return;
        };
        let (from, session) = (peer.addr, peer.link.as_ref().map(|link| link.id));
        self.stats.messages_received += 1;
        self.events.push_back(Event::Message {
            from,
            session,
            frame,
        });
    }
}

/// A frame, with where it came from.
pub(super) struct Input<'a> {
    pub(super) from: SocketAddr,
    /// The peer in whose session it came, when its datagram was sealed.
    pub(super) sealed: Option<usize>,
    pub(super) frame: FrameRef<'a>,
    pub(super) fields: Fields<'a>,
    crc: u32,
    /// Bytes of the frame.
    pub(super) len: usize,
    /// Messages that ACK frames of the datagram may still name.
    pub(super) ids_left: &'a Cell<u64>,
}

/// The checksum that a frame carries; in a session nobody asks for it.
fn checksum(frame: &[u8]) -> u32 {
    frame
        .last_chunk::<4>()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Whether an answer to this address reaches one host (spec 4.1).
fn is_source(addr: SocketAddr) -> bool {
    let is_one = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified(),
    };
    is_one && addr.port() != 0
}
