//! One address, with a session or as a stranger: what goes to it and what came from it.
//!
//! Driven by [`super::endpoint::Endpoint`], which finds the peer of a datagram, hands it the frame, and
//! asks it for datagrams when it may have some. A peer knows nothing of others but their sum, [`Shared`].

use super::answer::AnswerCredit;
use super::config::{
    AnswerLimit, EndpointConfig, MAX_FRAGMENT_COUNT, MAX_SETS_PER_SESSION, MAX_SETS_PER_STRANGER,
    MAX_STRANGER_FRAGMENT_COUNT, SET_LIFE, STRANGER_LIFE,
};
use super::emit::Control;
use super::parts::Failure;
use super::proof::Proof;
use super::reassembly::Reassembly;
use super::received::Received;
use super::reliable::Reliable;
use super::seal::OVERHEAD;
use super::stats::DropReason;
use super::trace::{Trace, TraceLog};
use crate::proto::budget::Budget;
use crate::proto::code::ErrorCode;
use crate::proto::keys::{self};
use crate::proto::rate::Bucket;
use crate::wire::FrameType;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

mod acks;
mod messages;
mod parts;
mod path;
mod sending;

pub(crate) use parts::{Fate, Link, Sealed, Shared};
pub(crate) use path::Path;

/// Memory that a peer keeps for its next datagram at the most (bytes): one of the usual size.
const MAX_SPARE_LEN: usize = 2048;
/// BYE is sent so often at the most.
const MAX_BYE_COUNT: u32 = 3;
/// Silent intervals that end a session.
const MAX_SILENT_COUNT: u32 = 3;

#[derive(Debug)]
struct Closing {
    sent: u32,
    next_at: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub addr: SocketAddr,
    /// Its session; a stranger has none.
    pub link: Option<Link>,
    /// Its keys and its path, when the session is sealed.
    pub sealed: Option<Box<Sealed>>,
    reliable: Option<Box<Reliable>>,
    received: Received,
    reassembly: Reassembly,
    /// Messages to acknowledge.
    acks: Vec<u64>,
    /// Datagrams that are ready.
    outbox: VecDeque<Vec<u8>>,
    /// The memory of a datagram that has left, for the next one.
    spare: Vec<u8>,
    heard_at: Instant,
    /// Intervals of silence, and when the next ends.
    silent: u32,
    silent_at: Option<Instant>,
    closing: Option<Closing>,
    control: Budget,
    answers: AnswerCredit,
    /// Stranger: bytes of the next datagram, which its credit has paid for.
    announced: Option<usize>,
    /// What it may send.
    pub bucket: Bucket,
    /// When it was last told that it sends too much.
    pub rate_told: Option<Instant>,
    /// The application's PING that is out.
    probe: Option<u64>,
    /// What happened, for an event log.
    trace: Trace,
    /// In the endpoint's list of peers that may have something to send.
    pub is_active: bool,
    /// When the endpoint looks at this peer next.
    pub scheduled: Option<Instant>,
}

impl Peer {
    /// A peer of which nothing is known but its session, if it has one.
    #[must_use]
    pub(crate) fn new(
        addr: SocketAddr,
        link: Option<Link>,
        config: &EndpointConfig,
        now: Instant,
    ) -> Self {
        let is_session = link.is_some();
        let (bounds, received) = if is_session {
            let bounds = (
                config.session_budget_len,
                MAX_SETS_PER_SESSION,
                MAX_FRAGMENT_COUNT,
            );
            (bounds, Received::session())
        } else {
            let bounds = (
                config.stranger_budget_len,
                MAX_SETS_PER_STRANGER,
                MAX_STRANGER_FRAGMENT_COUNT,
            );
            (bounds, Received::stranger())
        };
        let life = if is_session { SET_LIFE } else { STRANGER_LIFE };
        Self {
            addr,
            silent_at: is_session
                .then(|| now.checked_add(config.ping_interval))
                .flatten(),
            link,
            sealed: None,
            reliable: None,
            received,
            reassembly: Reassembly::new(bounds, (life, is_session), config.max_frame_len),
            acks: Vec::new(),
            outbox: VecDeque::new(),
            spare: Vec::new(),
            heard_at: now,
            silent: 0,
            closing: None,
            control: Budget::default(),
            answers: AnswerCredit::default(),
            announced: None,
            bucket: Bucket::default(),
            rate_told: None,
            probe: None,
            trace: Trace::new(config.max_trace_count),
            is_active: false,
            scheduled: None,
        }
    }

    /// The session's proof.
    #[must_use]
    pub(crate) fn proof(&self) -> Proof {
        self.link.as_ref().map_or(Proof::None, |link| link.proof)
    }

    /// Whether both sides have the feature `gzip`.
    #[must_use]
    pub(crate) fn has_gzip(&self) -> bool {
        let link = self.link.as_ref();
        link.is_some_and(|link| link.features.contains(keys::GZIP))
    }

    /// Sends for acknowledgement; made at the first use.
    pub(crate) fn reliable(
        &mut self,
        config: &EndpointConfig,
        jitter: impl FnOnce() -> u64,
        now: Instant,
    ) -> &mut Reliable {
        let proof = self.proof();
        self.reliable
            .get_or_insert_with(|| Box::new(Reliable::new(config, proof, jitter(), now)))
    }

    /// Sends for acknowledgement, if there were any.
    #[must_use]
    pub(crate) fn sends(&self) -> Option<&Reliable> {
        self.reliable.as_deref()
    }

    /// The same, to change.
    pub(crate) fn sends_mut(&mut self) -> Option<&mut Reliable> {
        self.reliable.as_deref_mut()
    }

    /// Sets in reassembly, and what they are charged.
    #[must_use]
    pub(crate) fn reassembly(&self) -> &Reassembly {
        &self.reassembly
    }

    /// The same, to change.
    pub(crate) fn reassembly_mut(&mut self) -> &mut Reassembly {
        &mut self.reassembly
    }

    /// Whether it holds something that must not be forgotten.
    #[must_use]
    pub(crate) fn is_busy(&self) -> bool {
        self.sends().is_some_and(|sends| !sends.is_idle()) || !self.outbox.is_empty()
    }

    /// Whether this side is saying goodbye.
    #[must_use]
    pub(crate) const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Bytes of a plain datagram to it at the most.
    #[must_use]
    pub(crate) fn max_datagram_len(&self, config: &EndpointConfig) -> usize {
        config.max_datagram_len - self.sealed_overhead()
    }

    /// What sealing adds to its datagrams (bytes).
    #[must_use]
    pub(crate) fn sealed_overhead(&self) -> usize {
        self.sealed.as_ref().map_or(0, |_| OVERHEAD)
    }

    /// Whether its keys may seal no more than goodbye.
    #[must_use]
    pub(crate) fn is_spent(&self) -> bool {
        self.sealed.as_ref().is_some_and(|s| s.sealing.is_spent())
    }

    /// An empty buffer for a datagram.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    /// Keeps the memory of a datagram that has left, within bounds.
    fn give_back(&mut self, mut buffer: Vec<u8>) {
        if (self.spare.capacity()..=MAX_SPARE_LEN).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Queues a datagram.
    pub(crate) fn push(&mut self, datagram: Vec<u8>) {
        self.outbox.push_back(datagram);
    }

    /// A valid datagram came from it.
    pub(crate) fn heard(&mut self, now: Instant, len: usize, config: &EndpointConfig) {
        self.heard_at = now;
        self.silent = 0;
        if self.link.is_some() {
            self.silent_at = now.checked_add(config.ping_interval);
        } else {
            self.answers.received(now, len);
        }
    }

    /// Whether an application may send it so many bytes now.
    pub(crate) fn may_answer(&mut self, now: Instant, len: usize, limit: AnswerLimit) -> bool {
        self.link.is_some() || self.answers.take(now, len, limit)
    }

    /// Hands over what was noted for an event log.
    #[inline]
    pub(crate) fn hand_over_trace(&mut self, to: &mut TraceLog) {
        if self.trace.is_on() {
            if let Some(reliable) = &mut self.reliable {
                self.trace.append(&mut reliable.trace);
            }
            to.append(self.addr, &mut self.trace);
        }
    }

    // The transport's own frames.

    /// PING: answered within the budget of control frames.
    pub(crate) fn on_ping(&mut self, now: Instant, payload: &[u8]) -> Result<(), DropReason> {
        self.control.take(now).map_err(|_| DropReason::Calm)?;
        let mut pong = Vec::new();
        let control = Control {
            typ: FrameType::Pong,
            proof: self.proof(),
            payload,
        };
        control.write(&mut pong, |_| ());
        self.outbox.push_back(pong);
        Ok(())
    }

    /// PING for the application, of which the answer is told.
    pub(crate) fn probe(&mut self, number: u64) {
        self.probe = Some(number);
        self.push_ping(&probe_payload(number));
    }

    /// PONG: an answer to the PING that measures the path, to keep-alive, or to the application's, whose
    /// number comes back.
    pub(crate) fn on_pong(
        &mut self,
        now: Instant,
        payload: &[u8],
    ) -> Result<Option<u64>, DropReason> {
        if let Some(number) = self
            .probe
            .take_if(|number| payload == probe_payload(*number))
        {
            return Ok(Some(number));
        }
        let measures = |sends: &mut Box<Reliable>| sends.on_pong(now, payload);
        let keeps_alive = self.link.is_some() && payload.is_empty();
        if self.reliable.as_mut().is_some_and(measures) || keeps_alive {
            Ok(None)
        } else {
            Err(DropReason::Unexpected)
        }
    }

    /// Begins to say goodbye.
    pub(crate) fn close(&mut self, now: Instant) {
        if let Some(reliable) = &mut self.reliable {
            reliable.fail_all(Failure::Local);
        }
        self.closing.get_or_insert(Closing {
            sent: 0,
            next_at: now,
        });
        self.say_bye(now);
    }

    fn say_bye(&mut self, now: Instant) {
        let proof = self.proof();
        let wait = self.sends().and_then(Reliable::smoothed_rtt);
        let wait = wait.map_or(Duration::from_secs(1), |rtt| {
            (rtt * 2).max(Duration::from_millis(200))
        });
        if let Some(closing) = &mut self.closing {
            closing.sent += 1;
            closing.next_at = now + wait;
            let mut bye = Vec::new();
            Control::new(FrameType::Bye, proof).write(&mut bye, |_| ());
            self.outbox.push_back(bye);
        }
    }

    /// Queues BYE as an answer to the peer's, or ERR.
    pub(crate) fn push_control(&mut self, typ: FrameType, code: Option<ErrorCode>) {
        let mut out = Vec::new();
        Control::new(typ, self.proof()).write(&mut out, |writer| {
            if let Some(code) = code {
                writer.header(keys::CODE, code.as_str().as_bytes());
            }
        });
        self.outbox.push_back(out);
    }

    // Time.

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let forget = self
            .link
            .is_none()
            .then(|| self.heard_at.checked_add(STRANGER_LIFE))
            .flatten();
        let bye = self.closing.as_ref().map(|closing| closing.next_at);
        let sends = self.sends().and_then(|sends| sends.deadline(now));
        let path = self.sealed.as_ref().and_then(|s| s.path.deadline());
        [
            path,
            self.reassembly.deadline(),
            sends,
            self.silent_at,
            bye,
            forget,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, shared: &mut Shared<'_>) -> Fate {
        shared.stats.sets_discarded += self.reassembly.expire(now, shared.totals);
        if let Some(reliable) = &mut self.reliable {
            reliable.handle_timeout(now);
        }
        if let Some(closing) = &self.closing {
            if closing.next_at <= now {
                if closing.sent >= MAX_BYE_COUNT {
                    return Fate::Ended(Failure::Local);
                }
                self.say_bye(now);
            }
        }
        if self.silent_at.is_some_and(|at| at <= now) {
            self.silent += 1;
            if self.silent >= MAX_SILENT_COUNT {
                return Fate::Ended(Failure::PeerGone);
            }
            self.silent_at = now.checked_add(shared.config.ping_interval);
            self.push_control(FrameType::Ping, None);
        }
        let is_old = now.saturating_duration_since(self.heard_at) >= STRANGER_LIFE;
        if self.link.is_none() && is_old {
            if !self.is_busy() && self.reassembly.set_count() == 0 {
                return Fate::Forgotten;
            }
            // Looked at again when what keeps it has had its time.
            self.heard_at = now;
        }
        Fate::Stays
    }
}

/// Longer than the PINGs that measure the path for the protocol itself, so neither is taken for the other.
fn probe_payload(number: u64) -> [u8; 16] {
    let mut payload = *b"probe...\0\0\0\0\0\0\0\0";
    payload[8..].copy_from_slice(&number.to_be_bytes());
    payload
}
