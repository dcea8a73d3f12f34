//! Sealed sessions: whose a datagram is, and how a session begins without a cookie (spec 4.13).
//!
//! ```text
//!   client                                            server
//!   connect_sealed(keys)                              offer_sealed(keys)
//!   HELLO, sealed, 1,200 bytes ─────────────────────>  opens the session
//!                              <────────── WELCOME, sealed
//!   anything, sealed           ─────────────────────>  the address is proven
//! ```
//!
//! Both keys come from one TLS session, so HELLO itself proves who sent it. It does not prove where: until
//! another datagram comes from the address, which shows that WELCOME arrived there, nothing else goes to it.

use super::super::config::{HELLO_LEN, MAX_DATAGRAM_LEN};
use super::super::emit::Control;
use super::super::fields::Fields;
use super::super::parts::{Event, Failure, SendError};
use super::super::peer::{Link, Path, Peer, Sealed};
use super::super::proof::Proof;
use super::super::seal::{self, SealId, SealedKeys, Sealing};
use super::super::stats::DropReason;
use super::Endpoint;
use super::connecting::Owner;
use super::receive::Input;
use crate::proto::code::ErrorCode;
use crate::proto::keys;
use crate::proto::keys::Features;
use crate::wire::{FrameRef, FrameType, Limits, decode_exact};
use std::net::SocketAddr;
use std::time::Instant;

impl Endpoint {
    /// Begins a sealed session; ends in [`Event::Connected`] or [`Event::ConnectFailed`].
    ///
    /// # Errors
    /// `Connected`: there is a session with this address, or one is being opened. The keys are lost.
    pub fn connect_sealed(
        &mut self,
        now: Instant,
        to: SocketAddr,
        keys: SealedKeys,
    ) -> Result<(), SendError> {
        let now = self.clamp(now);
        let sealing = Sealing::new(keys, self.config.seal_limit());
        self.begin_connecting(now, to, Some(Box::new(sealing)))
    }

    /// Lets the holder of the other end's keys open a session here; whether its id was free.
    pub fn offer_sealed(&mut self, keys: SealedKeys) -> bool {
        let sealing = Sealing::new(keys, self.config.seal_limit());
        let id = sealing.receive_id();
        let is_free = !self.sealed.contains_key(&id);
        if is_free {
            self.sealed.insert(id, Owner::Offered(Box::new(sealing)));
        }
        is_free
    }

    /// Takes an offer back, by the id of what would arrive. A session that came of it is closed.
    pub fn end_sealed(&mut self, now: Instant, id: SealId) {
        match self.sealed.get(&id) {
            Some(Owner::Offered(_)) => {
                self.sealed.remove(&id);
            }
            Some(Owner::Session(index)) => {
                if let Some(addr) = self.peer(*index).map(|peer| peer.addr) {
                    self.close(now, addr);
                }
            }
            Some(Owner::Connecting(_)) | None => {}
        }
    }

    /// Whether the session with an address is sealed.
    #[must_use]
    pub fn is_sealed(&self, with: SocketAddr) -> bool {
        let peer = self.session_at(with).and_then(|index| self.peer(index));
        peer.is_some_and(|peer| peer.sealed.is_some())
    }

    /// Whether plain datagrams from this address are not taken.
    pub(super) fn takes_only_sealed(&mut self, from: SocketAddr) -> bool {
        let index = self.session_with(from);
        let peer = index.and_then(|index| self.peer(index));
        self.config.sealed_only || peer.is_some_and(|peer| peer.sealed.is_some())
    }

    /// A datagram that claims to be sealed.
    pub(super) fn handle_sealed(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        room: bool,
    ) -> Result<(), DropReason> {
        let id = seal::id_of(datagram).ok_or(DropReason::Malformed)?;
        if !self.sealed.contains_key(&id) {
            return Err(DropReason::UnknownSession);
        }
        let mut buffer = std::mem::take(&mut self.opened);
        buffer.clear();
        buffer.extend_from_slice(datagram);
        let result = self.open(now, (from, id), &mut buffer, room);
        self.opened = buffer;
        result
    }

    fn open(
        &mut self,
        now: Instant,
        (from, id): (SocketAddr, SealId),
        datagram: &mut [u8],
        room: bool,
    ) -> Result<(), DropReason> {
        let len = datagram.len();
        let index = match self.sealed.get_mut(&id) {
            None => return Err(DropReason::UnknownSession),
            Some(Owner::Offered(sealing)) => {
                let plain = sealing.open(datagram)?.plain;
                return self.on_sealed_hello(now, (from, id), plain, len);
            }
            Some(Owner::Connecting(to)) => {
                let to = *to;
                let connecting = self.connecting.get_mut(&to);
                let sealing = connecting.and_then(|c| c.sealing.as_mut());
                let opened = sealing.ok_or(DropReason::Unexpected)?.open(datagram)?;
                return self.on_sealed_welcome(now, (to, id), opened.plain);
            }
            Some(Owner::Session(index)) => *index,
        };
        let peer = self.peers.get_mut(index).and_then(Option::as_deref_mut);
        let peer = peer.ok_or(DropReason::UnknownSession)?;
        let sealed = peer.sealed.as_mut().ok_or(DropReason::UnknownSession)?;
        let opened = match sealed.sealing.open(datagram) {
            Ok(opened) => opened,
            Err(reason) => {
                self.end_spent(now, index);
                self.mark_active(index);
                return Err(reason);
            }
        };
        if opened.is_newest {
            self.note_path(now, index, from, len);
        }
        self.handle_frames(now, (from, Some(index)), opened.plain, room);
        Ok(())
    }

    /// A frame that came sealed in the session of this peer.
    pub(super) fn in_sealed_session(
        &mut self,
        now: Instant,
        index: usize,
        input: &Input<'_>,
        room: bool,
    ) -> Result<(), DropReason> {
        if input.fields.sid.is_some() {
            return Err(DropReason::Invalid);
        }
        match input.frame.typ {
            // The first WELCOME was lost, or is still on its way.
            FrameType::Hello => return self.on_hello_again(index, input.from),
            FrameType::Welcome => return Err(DropReason::Unexpected),
            _ => self.prove_path(index, input.from),
        }
        if input.frame.typ == FrameType::Pong
            && self.on_challenge_answered(index, input.from, input.frame.payload)
        {
            return Ok(());
        }
        self.for_session(now, index, input, room)
    }

    /// Server: the first datagram of a session that was offered.
    fn on_sealed_hello(
        &mut self,
        now: Instant,
        (from, id): (SocketAddr, SealId),
        plain: &[u8],
        len: usize,
    ) -> Result<(), DropReason> {
        let frame = whole(plain)?;
        let fields = Fields::read(frame)?;
        if frame.typ != FrameType::Hello || fields.sid.is_some() {
            return Err(DropReason::Unexpected);
        }
        if len < HELLO_LEN || !frame.flags.is_empty() {
            return Err(DropReason::Hello);
        }
        let settings = settings(frame)?;
        // An address has one session. A plain one proves less; another sealed one is not ended for this:
        // its own TLS session says when it is over.
        match self.sessions.get(&from).copied() {
            Some(_) if self.is_sealed(from) => return Err(DropReason::Hello),
            Some(other) => self.end_session(other, Failure::Replaced),
            None => {}
        }
        if !self.has_place(from.ip()) {
            self.refuse_sealed(from, id);
            return Err(DropReason::Hello);
        }
        let Some(Owner::Offered(sealing)) = self.sealed.remove(&id) else {
            return Err(DropReason::UnknownSession);
        };
        self.count_session(from.ip());
        let path = Path::new(true);
        let index = self.open_sealed_session(now, from, (*sealing, path), settings);
        self.welcome_sealed(index);
        Ok(())
    }

    fn open_sealed_session(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        (sealing, path): (Sealing, Path),
        (theirs, max_frame_len): (Features, u64),
    ) -> usize {
        let features = self.config.features.intersection(&theirs);
        let link = Link {
            proof: Proof::Sealed,
            id: sealing.session(),
            bundle: features.contains("bundle"),
            ack_ranges: features.contains("ack-ranges"),
            features,
            max_frame_len,
            cookie_made: None,
        };
        let id = sealing.receive_id();
        let index = self.open_session(now, addr, link);
        // What it named before it moved is this one's from now on.
        self.former.remove(&addr);
        // Nothing goes there in plaintext any more, no decision about a plain session either.
        self.judging.remove(&addr);
        if let Some(peer) = self.peer_mut(index) {
            peer.sealed = Some(Box::new(Sealed { sealing, path }));
        }
        self.sealed.insert(id, Owner::Session(index));
        index
    }

    fn refuse_sealed(&mut self, to: SocketAddr, id: SealId) {
        if !self.has_stray_room() {
            return;
        }
        let Some(Owner::Offered(sealing)) = self.sealed.get_mut(&id) else {
            return;
        };
        let mut refusal = Vec::new();
        Control::new(FrameType::Err, Proof::Sealed).write(&mut refusal, |writer| {
            writer.header(keys::CODE, ErrorCode::Busy.as_str().as_bytes());
        });
        let frames = &mut self.stats.frames_sent;
        frames.note_datagram(&refusal, Proof::Sealed.trailer());
        if let Some(refusal) = sealing.seal(&refusal) {
            self.stray.push_back((to, refusal));
        }
    }

    /// Not longer than HELLO, and one for each: no amplifier (spec 4.10).
    fn welcome_sealed(&mut self, index: usize) {
        let Some((addr, link)) = self
            .peer(index)
            .and_then(|p| Some((p.addr, p.link.as_ref()?)))
        else {
            return;
        };
        let (features, mut welcome) = (link.features.to_string(), Vec::new());
        let max_frame_len = self.config.announced_len() as u64;
        Control::new(FrameType::Welcome, Proof::Sealed).write(&mut welcome, |writer| {
            writer.header(keys::FEATURES, features.as_bytes());
            writer.number(keys::MAX_FRAME_SIZE, max_frame_len);
        });
        self.push_aside(index, addr, welcome);
    }

    /// Server: HELLO in a session that is open already.
    fn on_hello_again(&mut self, index: usize, from: SocketAddr) -> Result<(), DropReason> {
        let peer = self.peer(index).ok_or(DropReason::UnknownSession)?;
        if peer.sealed.as_ref().is_none_or(|s| s.path.is_proven) {
            return Err(DropReason::Duplicate);
        }
        // Whoever carried the first HELLO to another address has won nothing by it.
        if peer.addr != from && !self.relocate(index, from, false) {
            return Err(DropReason::Hello);
        }
        self.welcome_sealed(index);
        Ok(())
    }

    /// Client: what comes before the session is open.
    fn on_sealed_welcome(
        &mut self,
        now: Instant,
        (to, id): (SocketAddr, SealId),
        plain: &[u8],
    ) -> Result<(), DropReason> {
        let frame = whole(plain)?;
        if Fields::read(frame)?.sid.is_some() || !frame.flags.is_empty() {
            return Err(DropReason::Invalid);
        }
        match frame.typ {
            FrameType::Welcome if frame.payload.is_empty() => {}
            FrameType::Err => {
                let code = frame.headers.get(keys::CODE).unwrap_or_default();
                self.connect_failed(to, Failure::Refused(ErrorCode::from_wire(code)));
                return Ok(());
            }
            // The server has ended what it had offered.
            FrameType::Bye => {
                self.connect_failed(to, Failure::PeerBye(None));
                return Ok(());
            }
            _ => return Err(DropReason::Unexpected),
        }
        let settings = settings(frame)?;
        let connecting = self.connecting.remove(&to);
        let sealing = connecting.and_then(|connecting| connecting.sealing);
        let Some(sealing) = sealing else {
            self.sealed.remove(&id);
            return Err(DropReason::Unexpected);
        };
        let session = sealing.session();
        let index = self.open_sealed_session(now, to, (*sealing, Path::new(false)), settings);
        let link = self.peer(index).and_then(|peer| peer.link.as_ref());
        let features = link.map(|link| link.features.clone()).unwrap_or_default();
        // So that the server, which may have the next word, knows that this address is real.
        if let Some(peer) = self.peer_mut(index) {
            peer.push_control(FrameType::Ping, None);
        }
        self.events.push_back(Event::Connected {
            peer: to,
            session,
            features,
        });
        Ok(())
    }

    /// An ACK. One of what was never sent is dropped as a whole, and ends a sealed session (spec 4.13): it is the
    /// peer that is broken, or tries how fast it can make this side send. In a plain session anybody on the way
    /// could end it so.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        index: usize,
        input: &Input<'_>,
    ) -> Result<(), DropReason> {
        let given = [
            self.first_msg_id..self.next_msg_id,
            self.first_frag_id..self.next_frag_id,
        ];
        let list = std::mem::take(&mut self.acked);
        let peer = self.peer_mut(index).ok_or(DropReason::Unexpected)?;
        let acked = peer.read_ack(input.frame, &input.fields, input.ids_left, list)?;
        if !peer.was_never_sent(&acked, given) {
            let result = peer.on_ack(now, &acked);
            self.acked = acked.into_list();
            return result;
        }
        if input.sealed.is_some() {
            self.end_by_bad_ack(index);
        }
        Err(DropReason::Unexpected)
    }

    fn end_by_bad_ack(&mut self, index: usize) {
        let Some(to) = self.peer(index).map(|peer| peer.addr) else {
            return;
        };
        let mut refusal = Vec::new();
        Control::new(FrameType::Err, Proof::Sealed).write(&mut refusal, |writer| {
            writer.header(keys::CODE, ErrorCode::Protocol.as_str().as_bytes());
        });
        self.push_aside(index, to, refusal);
        self.end_session(index, Failure::BadAck);
    }

    /// Begins goodbye when the keys of a session have done their work.
    pub(super) fn end_spent(&mut self, now: Instant, index: usize) {
        let is_due = |peer: &&mut Peer| peer.is_spent() && !peer.is_closing();
        if let Some(peer) = self.peer_mut(index).filter(is_due) {
            peer.close(now);
            self.collect(index);
        }
    }

    /// Sends a datagram of a peer's session to any address, before all others; not when too many wait
    /// there already.
    pub(super) fn push_aside(&mut self, index: usize, to: SocketAddr, plain: Vec<u8>) {
        if !self.has_stray_room() {
            return;
        }
        let peer = self.peers.get_mut(index).and_then(Option::as_deref_mut);
        let Some(peer) = peer else {
            return;
        };
        let datagram = match &mut peer.sealed {
            None => Some(plain),
            Some(sealed) => {
                let frames = &mut self.stats.frames_sent;
                frames.note_datagram(&plain, Proof::Sealed.trailer());
                sealed.sealing.seal(&plain)
            }
        };
        self.stray.extend(datagram.map(|datagram| (to, datagram)));
    }
}

/// The one frame of a datagram.
fn whole(plain: &[u8]) -> Result<FrameRef<'_>, DropReason> {
    let limits = Limits {
        max_frame_len: MAX_DATAGRAM_LEN,
        ..Limits::default()
    };
    decode_exact(plain, Proof::Sealed.trailer(), &limits).map_err(|_| DropReason::Malformed)
}

/// What HELLO and WELCOME say about their sender.
fn settings(frame: FrameRef<'_>) -> Result<(Features, u64), DropReason> {
    let invalid = |_| DropReason::Invalid;
    let features = Features::from_header(frame.headers).map_err(invalid)?;
    let size = keys::number::<u64>(frame.headers, keys::MAX_FRAME_SIZE).map_err(invalid)?;
    let size = size.filter(|size| *size >= 1024).unwrap_or(1024);
    Ok((features, size))
}
