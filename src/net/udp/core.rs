//! [`Core`]: the protocol of one socket with what callers wait for. Everything that its lock protects.

use super::config::UdpConfig;
use super::reception::Reception;
use crate::net::identity::{Identity, Refusal};
use crate::proto::ErrorCode;
use crate::proto::datagram::{
    Applicant, Endpoint, Event, Failure, Rising, SealId, SealedKeys, Token,
};
use crate::wire::Frame;
use crossbeam_channel::Sender;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Ends of sessions that are remembered.
const ENDED_COUNT: usize = 16;

/// Messages that begin together where callers waited for room.
const BATCH_COUNT: usize = 128;

/// A message that arrived.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) from: SocketAddr,
    pub(crate) session: Option<u128>,
    /// Who the session's client is, if clients are recognised.
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) frame: Frame,
}

impl Incoming {
    /// Bytes that it takes in the queue, at least one.
    pub(super) fn len(&self) -> usize {
        let headers = self.frame.headers.iter();
        let headers: usize = headers.map(|h| h.key.len() + h.value.len()).sum();
        (self.frame.payload.len() + headers).max(1)
    }
}

/// What became of an acknowledged send.
#[derive(Debug)]
enum Outcome {
    Pending,
    Done(Result<(), Failure>),
}

/// One acknowledged send.
#[derive(Debug)]
struct Send {
    len: usize,
    /// `None` when nobody asks any more.
    outcome: Option<Outcome>,
    /// Whoever asks was told.
    told: bool,
}

/// The protocol with what belongs to it.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) endpoint: Endpoint,
    /// By the number of the message, which rises with each.
    sends: Rising<Send>,
    /// Sends that are on their way, and their bytes.
    pub(super) pending_count: usize,
    pub(super) pending_len: usize,
    /// The first failure of a send that nobody asks about, for `flush`.
    failed: Option<Failure>,
    /// Sends that were queued since datagrams were asked for.
    pub(super) gathered: usize,
    pub(super) gather_until: Option<Instant>,
    /// Such a batch was begun since the timer thread looked last.
    pub(super) gathers: bool,
    /// What became of `connect`, until it is asked.
    connected: HashMap<SocketAddr, Result<(), Failure>>,
    /// Answered PINGs of `ping`, until they are asked for.
    pongs: VecDeque<(SocketAddr, u64)>,
    /// How the last sessions ended.
    ended: VecDeque<(SocketAddr, Failure)>,
    /// Until when the timer thread sleeps; `None` while it is awake.
    pub(super) armed: Option<Instant>,
    pub(super) timer_sleeps: bool,
    pub(super) waiters: usize,
    /// Bytes of sends without acknowledgement since everything had left, and calls that wait for that.
    pub(super) unsent_len: usize,
    pub(super) unsent_waiters: usize,
    /// A datagram, its address and length, that was too large for the network and for which no
    /// acknowledgement was asked.
    pub(super) too_large: Option<(SocketAddr, usize)>,
    /// Gone when the socket is closed, which ends whoever waits for messages.
    pub(super) inbox: Option<Sender<Incoming>>,
    pub(super) closed: bool,
    /// A server's, with an authenticator.
    pub(super) reception: Option<Reception>,
    /// Who the clients of sealed sessions are, open ones and others, by number.
    sealed_clients: HashMap<u128, Arc<Identity>>,
}

impl Core {
    pub(super) fn new(endpoint: Endpoint, inbox: Sender<Incoming>) -> Self {
        Self {
            endpoint,
            sends: Rising::default(),
            pending_count: 0,
            pending_len: 0,
            failed: None,
            gathered: 0,
            gather_until: None,
            gathers: false,
            connected: HashMap::new(),
            pongs: VecDeque::new(),
            ended: VecDeque::new(),
            armed: None,
            timer_sleeps: false,
            waiters: 0,
            unsent_len: 0,
            unsent_waiters: 0,
            too_large: None,
            inbox: Some(inbox),
            closed: false,
            reception: None,
            sealed_clients: HashMap::new(),
        }
    }

    /// Notes an acknowledged send that was begun.
    pub(super) fn send_began(&mut self, token: Token, len: usize) {
        let send = Send {
            len,
            outcome: Some(Outcome::Pending),
            told: false,
        };
        self.sends.push(token.msg_id(), send);
        self.pending_count += 1;
        self.pending_len += len;
        self.gathered += 1;
    }

    /// Hands the protocol's events over; how many there were that somebody may wait for.
    pub(super) fn hand_over(&mut self, inbox_len: &AtomicUsize) -> usize {
        let mut count = 0;
        while let Some(event) = self.endpoint.poll_event() {
            count += 1;
            match event {
                Event::Message {
                    from,
                    session,
                    frame,
                } => {
                    let identity = self.identity(from, session);
                    let incoming = Incoming {
                        from,
                        session,
                        identity,
                        frame,
                    };
                    inbox_len.fetch_add(incoming.len(), Ordering::Relaxed);
                    if let Some(inbox) = &self.inbox {
                        // There is room: only the reader fills the queue, and it asked before.
                        let sent = inbox.try_send(incoming);
                        debug_assert!(sent.is_ok(), "an acknowledged message is lost");
                    }
                }
                Event::Hello {
                    client,
                    auth_token,
                    until,
                } => {
                    let reception = self.reception.as_ref();
                    let asked = reception.is_some_and(|r| r.ask(client, auth_token, until));
                    if !asked {
                        self.endpoint.refuse(client, ErrorCode::Busy);
                    }
                }
                Event::Delivered(token) => self.send_ended(token, Ok(())),
                Event::Failed(token, failure) => self.send_ended(token, Err(failure)),
                Event::Pong { peer, number } => {
                    self.pongs.truncate(ENDED_COUNT - 1);
                    self.pongs.push_front((peer, number));
                }
                Event::Connected { peer, .. } => {
                    self.connected.insert(peer, Ok(()));
                }
                Event::ConnectFailed { peer, failure } => {
                    self.connected.insert(peer, Err(failure));
                }
                Event::Closed { peer, by } => {
                    let current = self.endpoint.session(peer).map(|(id, _)| id);
                    if let Some(reception) = &mut self.reception {
                        reception.forget(peer, current);
                    }
                    self.ended.truncate(ENDED_COUNT - 1);
                    self.ended.push_front((peer, by));
                }
            }
        }
        count
    }

    /// Who is at the other end of a session.
    pub(super) fn identity(
        &self,
        peer: SocketAddr,
        session: Option<u128>,
    ) -> Option<Arc<Identity>> {
        let session = session?;
        if let Some(identity) = self.sealed_clients.get(&session) {
            return Some(Arc::clone(identity));
        }
        self.reception.as_ref()?.identity(peer, session)
    }

    /// Lets a client with a TLS session open a sealed one; whether it may. It may not when clients are
    /// recognised here and it was not.
    pub(super) fn offer_sealed(
        &mut self,
        keys: SealedKeys,
        identity: Option<Arc<Identity>>,
    ) -> bool {
        let session = keys.session;
        let is_known = identity.is_some() || self.reception.is_none();
        if !is_known || !self.endpoint.offer_sealed(keys) {
            return false;
        }
        if let Some(identity) = identity {
            self.sealed_clients.insert(session, identity);
        }
        true
    }

    /// The TLS session is over, and the sealed one with it.
    pub(super) fn end_sealed(&mut self, now: Instant, id: SealId, session: u128) {
        self.endpoint.end_sealed(now, id);
        self.sealed_clients.remove(&session);
    }

    /// The authenticator has decided about a client. One that waits no longer is left alone.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        client: Applicant,
        decision: Result<Identity, Refusal>,
    ) {
        match decision {
            Ok(identity) => {
                let admitted = self.endpoint.admit(now, client);
                if let (Some(session), Some(reception)) = (admitted, &mut self.reception) {
                    reception.note(client.peer, session, identity);
                }
            }
            Err(_) => {
                self.endpoint.refuse(client, ErrorCode::Unauthorized);
            }
        }
    }

    fn send_ended(&mut self, token: Token, how: Result<(), Failure>) {
        let Some(send) = self.sends.get_mut(token.msg_id()) else {
            return;
        };
        self.pending_count -= 1;
        self.pending_len -= send.len;
        if send.outcome.is_some() {
            send.outcome = Some(Outcome::Done(how));
            return;
        }
        self.sends.remove(token.msg_id());
        if let Err(failure) = how {
            self.failed.get_or_insert(failure);
        }
    }

    /// What became of an acknowledged send, once it has ended.
    pub(super) fn outcome(&mut self, token: Token) -> Option<Result<(), Failure>> {
        let send = self.sends.get_mut(token.msg_id())?;
        let Some(Outcome::Done(how)) = send.outcome else {
            return None;
        };
        send.told = true;
        Some(how)
    }

    /// Whether an acknowledged send has ended.
    pub(super) fn is_done(&self, token: Token) -> bool {
        let outcome = self.sends.get(token.msg_id()).map(|send| &send.outcome);
        matches!(outcome, Some(Some(Outcome::Done(_))))
    }

    /// Nobody asks about this send any more.
    pub(super) fn forget(&mut self, token: Token) {
        let Some(send) = self.sends.get_mut(token.msg_id()) else {
            return;
        };
        match send.outcome.take() {
            Some(Outcome::Pending) | None => {}
            Some(Outcome::Done(how)) => {
                let told = send.told;
                self.sends.remove(token.msg_id());
                if let (Err(failure), false) = (how, told) {
                    self.failed.get_or_insert(failure);
                }
            }
        }
    }

    /// Once nothing is on its way: the first failure since the last time.
    pub(super) fn flushed(&mut self) -> Option<Result<(), Failure>> {
        (self.pending_count == 0).then(|| self.failed.take().map_or(Ok(()), Err))
    }

    /// The number of a PING that this address has answered, for each once.
    pub(super) fn take_pong(&mut self, from: SocketAddr) -> Option<u64> {
        let place = self.pongs.iter().position(|(peer, _)| *peer == from)?;
        self.pongs.remove(place).map(|(_, number)| number)
    }

    /// What became of `connect`.
    pub(super) fn take_connected(&mut self, peer: SocketAddr) -> Option<Result<(), Failure>> {
        self.connected.remove(&peer)
    }

    /// How the last session with this address ended, unless many have since then.
    pub(super) fn how_ended(&self, peer: SocketAddr) -> Option<Failure> {
        let mut ended = self.ended.iter();
        ended.find(|(with, _)| *with == peer).map(|(_, by)| *by)
    }

    /// Whether an acknowledged send of `len` bytes may begin.
    pub(super) fn has_room(&self, config: &UdpConfig, len: usize) -> bool {
        self.pending_count == 0
            || (self.pending_count < config.send_queue_count
                && self.pending_len + len <= config.send_queue_len)
    }

    /// The same for a caller that has waited: it goes on when there is room for a batch, not for each message
    /// that was acknowledged.
    pub(super) fn has_room_again(&self, config: &UdpConfig, len: usize) -> bool {
        let batch = BATCH_COUNT.min(config.send_queue_count / 4);
        let is_narrow = self.pending_count + batch > config.send_queue_count;
        self.has_room(config, len) && !is_narrow
    }
}
