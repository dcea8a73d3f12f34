//! Opening a session: HELLO, a cookie, HELLO with the cookie, WELCOME (spec 4.8).
//!
//! ```text
//!   client                                        server
//!   HELLO, 1,200 bytes ─────────────────────────>  keeps nothing
//!                      <───── WELCOME with cookie  HMAC of address, port and time
//!   HELLO with cookie  ─────────────────────────>  checks it; opens the session
//!                      <──────── WELCOME with sid
//! ```

use super::super::config::{COOKIES_PER_SECOND, HELLO_LEN};
use super::super::emit::{self, Control};
use super::super::fields::Fields;
use super::super::parts::{Event, Failure, SendError};
use super::super::peer::{Link, Peer};
use super::super::proof::Proof;
use super::super::seal::{OVERHEAD, Sealing};
use super::super::stats::DropReason;
use super::Endpoint;
use super::connecting::{Connecting, CookieRate, Hello, Owner};
use crate::proto::code::ErrorCode;
use crate::proto::keys::{self, Features};
use crate::proto::network::Network;
use crate::wire::{FrameRef, FrameType};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// A cookie that is this old is not used any more: it might be over its time when it arrives.
const COOKIE_USE: Duration = Duration::from_secs(8);
/// First wait for an answer to HELLO; it doubles.
const HELLO_WAIT: Duration = Duration::from_millis(500);

impl Endpoint {
    /// Begins a session; ends in [`Event::Connected`] or [`Event::ConnectFailed`].
    ///
    /// # Errors
    /// `Connected`: there is one with this address, or one is being opened.
    pub fn connect(&mut self, now: Instant, to: SocketAddr) -> Result<(), SendError> {
        if self.config.sealed_only {
            return Err(SendError::NotSealed);
        }
        let now = self.clamp(now);
        self.begin_connecting(now, to, None)
    }

    /// Says the first HELLO, sealed if there are keys.
    pub(super) fn begin_connecting(
        &mut self,
        now: Instant,
        to: SocketAddr,
        sealing: Option<Box<Sealing>>,
    ) -> Result<(), SendError> {
        let is_closing = |index: &usize| self.peer(*index).is_some_and(Peer::is_closing);
        if let Some(index) = self.sessions.get(&to).copied() {
            if !is_closing(&index) {
                return Err(SendError::Connected);
            }
            self.end_session(index, Failure::Local);
        }
        if self.connecting.contains_key(&to) {
            return Err(SendError::Connected);
        }
        if let Some(sealing) = &sealing {
            let id = sealing.receive_id();
            self.sealed.insert(id, Owner::Connecting(to));
        }
        let connecting = Connecting {
            cookie: None,
            sealing,
            wait: HELLO_WAIT,
            next_at: now,
            give_up_at: now.checked_add(self.config.handshake_timeout),
        };
        self.connecting.insert(to, connecting);
        self.say_hello(now, to);
        Ok(())
    }

    fn say_hello(&mut self, now: Instant, to: SocketAddr) {
        let Some(connecting) = self.connecting.get_mut(&to) else {
            return;
        };
        let is_old = |at: Instant| now.saturating_duration_since(at) >= COOKIE_USE;
        if connecting
            .cookie
            .as_ref()
            .is_some_and(|(_, at)| is_old(*at))
        {
            connecting.cookie = None;
        }
        let cookie = connecting.cookie.as_ref().map(|(cookie, _)| &cookie[..]);
        let (features, announced_len) = (&self.config.features, self.config.announced_len());
        let hello = match &mut connecting.sealing {
            None => {
                let token = self.config.auth_token.as_ref();
                let form = (Proof::None, HELLO_LEN);
                Some(emit::hello(features, announced_len, cookie, token, form))
            }
            Some(sealing) => {
                let form = (Proof::Sealed, HELLO_LEN - OVERHEAD);
                let hello = emit::hello(features, announced_len, None, None, form);
                let frames = &mut self.stats.frames_sent;
                frames.note_datagram(&hello, Proof::Sealed.trailer());
                sealing.seal(&hello)
            }
        };
        connecting.next_at = now + connecting.wait;
        connecting.wait = (connecting.wait * 2).min(self.config.max_retry_delay);
        self.stray.extend(hello.map(|hello| (to, hello)));
    }

    /// Says HELLO again where it is due, gives up where it is over its time.
    pub(super) fn connecting_timeout(&mut self, now: Instant) {
        let due: Vec<SocketAddr> = self
            .connecting
            .iter()
            .filter(|(_, c)| c.next_at <= now || c.give_up_at.is_some_and(|at| at <= now))
            .map(|(addr, _)| *addr)
            .collect();
        for peer in due {
            let over = |c: &Connecting| c.give_up_at.is_some_and(|at| at <= now);
            if self.connecting.get(&peer).is_some_and(over) {
                self.connect_failed(peer, Failure::TimedOut);
            } else {
                self.say_hello(now, peer);
            }
        }
    }

    pub(super) fn connecting_deadline(&self) -> Option<Instant> {
        let of = |c: &Connecting| c.give_up_at.map_or(c.next_at, |at| at.min(c.next_at));
        self.connecting.values().map(of).min()
    }

    pub(super) fn connect_failed(&mut self, peer: SocketAddr, failure: Failure) {
        if let Some(connecting) = self.connecting.remove(&peer) {
            if let Some(sealing) = connecting.sealing {
                self.sealed.remove(&sealing.receive_id());
            }
            self.events
                .push_back(Event::ConnectFailed { peer, failure });
        }
    }

    /// ERR while a session is being opened: believed only with the cookie, which a forger does not have.
    pub(super) fn on_refusal(
        &mut self,
        from: SocketAddr,
        frame: FrameRef<'_>,
    ) -> Result<(), DropReason> {
        let connecting = self.connecting.get(&from).ok_or(DropReason::Unexpected)?;
        let ours = connecting.cookie.as_ref().map(|(cookie, _)| &cookie[..]);
        let theirs = keys::unique(frame.headers, keys::COOKIE).map_err(|_| DropReason::Invalid)?;
        if ours.is_none() || ours != theirs {
            return Err(DropReason::Unexpected);
        }
        let code = frame.headers.get(keys::CODE).unwrap_or_default();
        self.connect_failed(from, Failure::Refused(ErrorCode::from_wire(code)));
        Ok(())
    }

    /// Client: WELCOME, with a cookie or with the session.
    pub(super) fn on_welcome(
        &mut self,
        now: Instant,
        from: SocketAddr,
        frame: FrameRef<'_>,
        fields: &Fields<'_>,
    ) -> Result<(), DropReason> {
        let connecting = self
            .connecting
            .get_mut(&from)
            .ok_or(DropReason::Unexpected)?;
        if !frame.payload.is_empty() {
            return Err(DropReason::Invalid);
        }
        let Some(sid) = fields.sid else {
            let cookie = fields.cookie.ok_or(DropReason::Invalid)?;
            if connecting.cookie.is_some() {
                // An answer to a HELLO that was repeated; the first cookie is in use.
                return Err(DropReason::Duplicate);
            }
            connecting.cookie = Some((cookie.to_vec(), now));
            connecting.wait = HELLO_WAIT;
            self.say_hello(now, from);
            return Ok(());
        };
        if connecting.cookie.is_none() {
            return Err(DropReason::Unexpected);
        }
        let invalid = |_| DropReason::Invalid;
        let id = keys::number::<u128>(frame.headers, keys::SESSION_ID).map_err(invalid)?;
        let size = keys::number::<u64>(frame.headers, keys::MAX_FRAME_SIZE).map_err(invalid)?;
        let theirs = Features::from_header(frame.headers).map_err(invalid)?;
        let id = id.ok_or(DropReason::Invalid)?;
        let features = self.config.features.intersection(&theirs);
        let link = Link {
            proof: Proof::Sid(sid),
            id,
            bundle: features.contains("bundle"),
            ack_ranges: features.contains("ack-ranges"),
            features: features.clone(),
            max_frame_len: size.filter(|size| *size >= 1024).unwrap_or(1024),
            cookie_made: None,
        };
        self.connecting.remove(&from);
        self.open_session(now, from, link);
        self.events.push_back(Event::Connected {
            peer: from,
            session: id,
            features,
        });
        Ok(())
    }

    pub(super) fn open_session(&mut self, now: Instant, addr: SocketAddr, link: Link) -> usize {
        let peer = Peer::new(addr, Some(link), &self.config, now);
        let index = self.add_peer(peer);
        self.sessions.insert(addr, index);
        self.stats.sessions_opened += 1;
        self.stats.sessions = self.sessions.len();
        self.mark_active(index);
        index
    }

    /// Server: HELLO, without a cookie or with one.
    pub(super) fn on_hello(
        &mut self,
        now: Instant,
        from: SocketAddr,
        frame: FrameRef<'_>,
        fields: &Fields<'_>,
        datagram_len: usize,
    ) -> Result<(), DropReason> {
        let is_padded = datagram_len >= HELLO_LEN;
        if !self.config.accept_sessions || !is_padded || fields.sid.is_some() {
            return Err(DropReason::Hello);
        }
        let uptime = now.saturating_duration_since(self.began);
        let Some(cookie) = fields.cookie else {
            return self.hand_out_cookie(now, from, uptime);
        };
        let made = self
            .secret
            .check_cookie(cookie, from, uptime)
            .ok_or(DropReason::Hello)?;
        if let Some(index) = self.sessions.get(&from).copied() {
            let before = self
                .peer(index)
                .and_then(|peer| peer.link.as_ref())
                .and_then(|link| link.cookie_made);
            match before {
                // The answer was lost: the same session again.
                Some(before) if before == made => {
                    self.welcome(index);
                    return Ok(());
                }
                Some(before) if before > made => return Err(DropReason::Hello),
                // A new cookie from the same address: whoever is there has begun anew.
                _ if self.config.auth_timeout.is_none() => {
                    self.end_session(index, Failure::Replaced);
                }
                // The same once that is known; until then the session is not given up.
                _ => {}
            }
        }
        // Both sides are opening one. The side that handed out the smaller cookie is the server; both know
        // both cookies by the time it matters.
        let ours = self.connecting.get(&from).map(|c| &c.cookie);
        if let Some(Some((ours, _))) = ours {
            if cookie > &ours[..] {
                return Err(DropReason::Hello);
            }
        }
        let invalid = |_| DropReason::Invalid;
        let theirs = Features::from_header(frame.headers).map_err(invalid)?;
        let size = keys::number::<u64>(frame.headers, keys::MAX_FRAME_SIZE).map_err(invalid)?;
        let hello = Hello {
            cookie: cookie.to_vec(),
            made,
            features: self.config.features.intersection(&theirs),
            max_frame_len: size.filter(|size| *size >= 1024).unwrap_or(1024),
        };
        if self.config.auth_timeout.is_some() {
            return self.ask_about(now, from, hello, frame);
        }
        if self.accept(now, from, &hello).is_none() {
            return Err(DropReason::Hello);
        }
        Ok(())
    }

    /// Server: opens the session that a HELLO asks for, if there is a place; says so if not.
    pub(super) fn accept(&mut self, now: Instant, from: SocketAddr, hello: &Hello) -> Option<u128> {
        if !self.has_place(from.ip()) {
            self.turn_away(from, &hello.cookie, ErrorCode::Busy);
            return None;
        }
        let link = Link {
            proof: Proof::Sid(self.secret.bytes()),
            id: u128::from_be_bytes(self.secret.bytes()),
            bundle: hello.features.contains("bundle"),
            ack_ranges: hello.features.contains("ack-ranges"),
            features: hello.features.clone(),
            max_frame_len: hello.max_frame_len,
            cookie_made: Some(hello.made),
        };
        self.count_session(from.ip());
        let (session, features) = (link.id, link.features.clone());
        let index = self.open_session(now, from, link);
        self.welcome(index);
        if self.connecting.remove(&from).is_some() {
            self.events.push_back(Event::Connected {
                peer: from,
                session,
                features,
            });
        }
        Some(session)
    }

    /// Server: refuses a HELLO with a valid cookie.
    pub(super) fn turn_away(&mut self, from: SocketAddr, cookie: &[u8], code: ErrorCode) {
        let mut refusal = Vec::new();
        Control::new(FrameType::Err, Proof::None).write(&mut refusal, |writer| {
            writer.header(keys::CODE, code.as_str().as_bytes());
            writer.header(keys::COOKIE, cookie);
        });
        self.answer_stray(from, refusal);
    }

    fn hand_out_cookie(
        &mut self,
        now: Instant,
        from: SocketAddr,
        uptime: Duration,
    ) -> Result<(), DropReason> {
        if now.saturating_duration_since(self.cookies.began) >= Duration::from_secs(1) {
            self.cookies = CookieRate {
                began: now,
                count: 0,
            };
        }
        if self.cookies.count >= COOKIES_PER_SECOND {
            return Err(DropReason::Hello);
        }
        self.cookies.count += 1;
        let cookie = self.secret.cookie(from, uptime);
        let mut welcome = Vec::new();
        Control::new(FrameType::Welcome, Proof::None)
            .write(&mut welcome, |writer| writer.header(keys::COOKIE, &cookie));
        let answered = self.answer_stray(from, welcome);
        answered.then_some(()).ok_or(DropReason::Hello)
    }

    pub(super) fn has_place(&self, ip: IpAddr) -> bool {
        let of_ip = self.per_ip.get(&Network::from(ip)).copied().unwrap_or(0);
        self.sessions.len() < self.config.max_sessions && of_ip < self.config.max_sessions_per_ip
    }

    fn welcome(&mut self, index: usize) {
        let max_frame_len = self.config.announced_len() as u64;
        let Some(peer) = self.peer_mut(index) else {
            return;
        };
        let Some(link) = &peer.link else {
            return;
        };
        let mut welcome = Vec::new();
        let (id, features) = (link.id.to_string(), link.features.to_string());
        Control::new(FrameType::Welcome, link.proof).write(&mut welcome, |writer| {
            writer.header(keys::SESSION_ID, id.as_bytes());
            writer.header(keys::FEATURES, features.as_bytes());
            writer.number(keys::MAX_FRAME_SIZE, max_frame_len);
        });
        peer.push(welcome);
        self.mark_active(index);
    }

    /// Sessions that clients opened are counted by network.
    pub(super) fn count_session(&mut self, ip: IpAddr) {
        *self.per_ip.entry(Network::from(ip)).or_default() += 1;
    }

    pub(super) fn uncount_session(&mut self, ip: IpAddr) {
        let key = Network::from(ip);
        if let Some(count) = self.per_ip.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&key);
            }
        }
    }

    /// Ends a session here: everything that waits for it is given up.
    pub(super) fn end_session(&mut self, index: usize, by: Failure) {
        let Some(peer) = self.peer(index) else {
            return;
        };
        let addr = peer.addr;
        let had_cookie = peer.link.as_ref().is_some_and(|l| l.cookie_made.is_some());
        let was_offered = peer.sealed.as_ref().is_some_and(|s| s.path.may_move);
        if had_cookie || was_offered {
            self.uncount_session(addr.ip());
        }
        self.sessions.remove(&addr);
        self.forget_seal(index);
        self.recent = None;
        self.remove_peer(index, by);
        self.stats.sessions_closed += 1;
        self.stats.sessions = self.sessions.len();
        self.events.push_back(Event::Closed { peer: addr, by });
    }
}
