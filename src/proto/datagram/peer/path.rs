//! Where the peer of a sealed session is, and whether it has moved (spec 4.13).
//!
//! Driven by the endpoint, which sends the challenge that [`Path`] says is due and moves the session when
//! it was answered. Nothing here seals or sends.
//!
//! ```text
//!  at home ──newest datagram from elsewhere──> challenged ──answer from there──> at home, there
//!     ^                                            │
//!     └── no answer: everything still goes here ───┘
//! ```

use super::super::seal::OVERHEAD;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A PING with a token, sealed (bytes).
const CHALLENGE_LEN: usize = 11 + 8 + OVERHEAD;
/// So often it is sent without another datagram from there.
const TRIES: u32 = 3;
/// Addresses from which it moved away that still name the session.
const MAX_FORMER: usize = 4;

/// An address that has to show that the peer receives there.
#[derive(Debug)]
struct Challenge {
    to: SocketAddr,
    token: [u8; 8],
    /// Bytes from there, and to there: never more than came.
    received: usize,
    sent: usize,
    tries: u32,
    wait: Duration,
    next_at: Instant,
}

impl Challenge {
    const fn may_be_sent(&self) -> bool {
        self.tries > 0 && self.sent + CHALLENGE_LEN <= self.received
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Path {
    /// The peer has shown that it receives at its address; before, nothing but WELCOME goes there.
    pub(crate) is_proven: bool,
    /// Clients move, servers stay.
    pub(crate) may_move: bool,
    challenge: Option<Challenge>,
    /// Where it was before, the latest first.
    former: VecDeque<SocketAddr>,
}

impl Path {
    /// To a client, which has shown nothing yet, or to a server, which answered.
    #[must_use]
    pub(crate) const fn new(to_client: bool) -> Self {
        Self {
            is_proven: !to_client,
            may_move: to_client,
            challenge: None,
            former: VecDeque::new(),
        }
    }

    /// The newest datagram so far came from another address. `token` is for a challenge that begins.
    pub(crate) fn came_from(&mut self, now: Instant, from: SocketAddr, len: usize, token: [u8; 8]) {
        if self.challenge.as_ref().is_none_or(|c| c.to != from) {
            self.challenge = Some(Challenge {
                to: from,
                token,
                received: 0,
                sent: 0,
                tries: 0,
                wait: Duration::from_millis(200),
                next_at: now,
            });
        }
        if let Some(challenge) = &mut self.challenge {
            challenge.received = challenge.received.saturating_add(len);
            challenge.tries = TRIES;
        }
    }

    /// The newest datagram came from where the peer is: it has not moved.
    pub(crate) fn is_home(&mut self) {
        self.challenge = None;
    }

    /// The challenge to send now, if one is due: where to, and its token.
    pub(crate) fn take_challenge(&mut self, now: Instant) -> Option<(SocketAddr, [u8; 8])> {
        let due = |c: &&mut Challenge| c.may_be_sent() && c.next_at <= now;
        let challenge = self.challenge.as_mut().filter(due)?;
        challenge.sent += CHALLENGE_LEN;
        challenge.tries -= 1;
        challenge.next_at = now + challenge.wait;
        challenge.wait = (challenge.wait * 2).min(Duration::from_secs(10));
        Some((challenge.to, challenge.token))
    }

    /// When [`Self::take_challenge`] has something.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.challenge.as_ref().filter(|c| c.may_be_sent());
        waiting.map(|challenge| challenge.next_at)
    }

    /// Whether PONG answers the challenge: from where it went to, with its token.
    #[must_use]
    pub(crate) fn is_answer(&self, from: SocketAddr, payload: &[u8]) -> bool {
        let challenge = self.challenge.as_ref();
        challenge.is_some_and(|c| c.to == from && c.sent > 0 && payload == c.token)
    }

    /// The peer is somewhere else now; the address that is forgotten for it, if any.
    pub(crate) fn moved(&mut self, old: SocketAddr, new: SocketAddr) -> Option<SocketAddr> {
        self.challenge = None;
        self.is_proven = true;
        self.former.retain(|addr| *addr != new);
        self.former.push_front(old);
        (self.former.len() > MAX_FORMER).then(|| self.former.pop_back())?
    }

    /// Where it was before.
    pub(crate) fn former(&self) -> impl Iterator<Item = SocketAddr> {
        self.former.iter().copied()
    }
}
