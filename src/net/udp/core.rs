//! [`Core`]: the protocol of one socket with what callers wait for. Everything that its lock protects.

use super::config::UdpConfig;
use crate::proto::datagram::{Endpoint, Event, Failure, IdMap, Token};
use crate::wire::Frame;
use crossbeam_channel::Sender;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Ends of sessions that are remembered.
const ENDED_COUNT: usize = 16;

/// A message that arrived.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) from: SocketAddr,
    pub(crate) session: Option<u128>,
    pub(crate) frame: Frame,
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
    sends: IdMap<Token, Send>,
    /// Sends that are on their way, and their bytes.
    pub(super) pending_count: usize,
    pub(super) pending_len: usize,
    /// The first failure of a send that nobody asks about, for `flush`.
    failed: Option<Failure>,
    /// Sends that were queued since datagrams were asked for.
    pub(super) gathered: usize,
    pub(super) gather_until: Option<Instant>,
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
    /// A datagram, its address and length, that was too large for the network and for which no
    /// acknowledgement was asked.
    pub(super) too_large: Option<(SocketAddr, usize)>,
    /// Gone when the socket is closed, which ends whoever waits for messages.
    pub(super) inbox: Option<Sender<Incoming>>,
    pub(super) closed: bool,
}

impl Core {
    pub(super) fn new(endpoint: Endpoint, inbox: Sender<Incoming>) -> Self {
        Self {
            endpoint,
            sends: IdMap::default(),
            pending_count: 0,
            pending_len: 0,
            failed: None,
            gathered: 0,
            gather_until: None,
            connected: HashMap::new(),
            pongs: VecDeque::new(),
            ended: VecDeque::new(),
            armed: None,
            timer_sleeps: false,
            waiters: 0,
            too_large: None,
            inbox: Some(inbox),
            closed: false,
        }
    }

    /// Notes an acknowledged send that was begun.
    pub(super) fn send_began(&mut self, token: Token, len: usize) {
        let send = Send {
            len,
            outcome: Some(Outcome::Pending),
            told: false,
        };
        self.sends.insert(token, send);
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
                    inbox_len.fetch_add(frame.payload.len(), Ordering::Relaxed);
                    if let Some(inbox) = &self.inbox {
                        // There is room: only the reader fills the queue, and it asked before.
                        let _ = inbox.try_send(Incoming {
                            from,
                            session,
                            frame,
                        });
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
                    self.ended.truncate(ENDED_COUNT - 1);
                    self.ended.push_front((peer, by));
                }
            }
        }
        count
    }

    fn send_ended(&mut self, token: Token, how: Result<(), Failure>) {
        let Some(send) = self.sends.get_mut(&token) else {
            return;
        };
        self.pending_count -= 1;
        self.pending_len -= send.len;
        if send.outcome.is_some() {
            send.outcome = Some(Outcome::Done(how));
            return;
        }
        self.sends.remove(&token);
        if let Err(failure) = how {
            self.failed.get_or_insert(failure);
        }
    }

    /// What became of an acknowledged send, once it has ended.
    pub(super) fn outcome(&mut self, token: Token) -> Option<Result<(), Failure>> {
        let send = self.sends.get_mut(&token)?;
        let Some(Outcome::Done(how)) = send.outcome else {
            return None;
        };
        send.told = true;
        Some(how)
    }

    /// Whether an acknowledged send has ended.
    pub(super) fn is_done(&self, token: Token) -> bool {
        let outcome = self.sends.get(&token).map(|send| &send.outcome);
        matches!(outcome, Some(Some(Outcome::Done(_))))
    }

    /// Nobody asks about this send any more.
    pub(super) fn forget(&mut self, token: Token) {
        let Some(send) = self.sends.get_mut(&token) else {
            return;
        };
        match send.outcome.take() {
            Some(Outcome::Pending) | None => {}
            Some(Outcome::Done(how)) => {
                let told = send.told;
                self.sends.remove(&token);
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

    pub(super) fn has_room(&self, config: &UdpConfig, len: usize) -> bool {
        self.pending_count == 0
            || (self.pending_count < config.send_queue_count
                && self.pending_len + len <= config.send_queue_len)
    }
}
