//! Clients that are judged before they get a session, and what a session or a network may send (spec 4.8,
//! 4.11).

use super::super::config::{MAX_JUDGED, MAX_JUDGED_PER_NETWORK, RATE_REPORT};
use super::super::emit::Control;
use super::super::parts::{Applicant, Event, Failure};
use super::super::stats::DropReason;
use super::Endpoint;
use super::connecting::{Hello, Judged};
use super::receive::Input;
use crate::proto::code::ErrorCode;
use crate::proto::keys;
use crate::proto::network::Network;
use crate::wire::{Flags, FrameRef, FrameType};
use std::net::SocketAddr;
use std::time::Instant;

impl Endpoint {
    /// Has the shell decide about a client whose address is proved.
    pub(super) fn ask_about(
        &mut self,
        now: Instant,
        from: SocketAddr,
        hello: Hello,
        frame: FrameRef<'_>,
    ) -> Result<(), DropReason> {
        if self.judging.contains_key(&from) {
            // Said again while it waits.
            return Err(DropReason::Duplicate);
        }
        let token = keys::unique(frame.headers, keys::AUTH_TOKEN);
        let auth_token = token.map_err(|_| DropReason::Invalid)?.map(Into::into);
        let network = Network::from(from.ip());
        let is_neighbour = |addr: &&SocketAddr| Network::from(addr.ip()) == network;
        let neighbours = self.judging.keys().filter(is_neighbour).count();
        if self.judging.len() >= MAX_JUDGED || neighbours >= MAX_JUDGED_PER_NETWORK {
            self.turn_away(from, &hello.cookie, ErrorCode::Busy);
            return Err(DropReason::Hello);
        }
        let timeout = self.config.auth_timeout.unwrap_or_default();
        let until = now.checked_add(timeout).unwrap_or(now);
        self.judged_count += 1;
        let number = self.judged_count;
        let judged = Judged {
            number,
            hello,
            until,
        };
        self.judging.insert(from, judged);
        self.events.push_back(Event::Hello {
            client: Applicant { peer: from, number },
            auth_token,
            until,
        });
        Ok(())
    }

    fn take_judged(&mut self, client: Applicant) -> Option<Hello> {
        let judged = self.judging.get(&client.peer)?;
        if judged.number != client.number {
            return None;
        }
        self.judging.remove(&client.peer).map(|judged| judged.hello)
    }

    /// Opens the session of a client that was recognised: its number. `None` when that comes too late, or
    /// there is no place any more.
    pub fn admit(&mut self, now: Instant, client: Applicant) -> Option<u128> {
        let now = self.clamp(now);
        let hello = self.take_judged(client)?;
        if let Some(index) = self.sessions.get(&client.peer).copied() {
            self.end_session(index, Failure::Replaced);
        }
        self.accept(now, client.peer, &hello)
    }

    /// Tells a client that it gets no session; whether it was still waiting.
    pub fn refuse(&mut self, client: Applicant, code: ErrorCode) -> bool {
        let Some(hello) = self.take_judged(client) else {
            return false;
        };
        self.stats.sessions_refused += 1;
        self.turn_away(client.peer, &hello.cookie, code);
        true
    }

    pub(super) fn judging_deadline(&self) -> Option<Instant> {
        self.judging.values().map(|judged| judged.until).min()
    }

    /// Refuses those about whom nobody has decided in time.
    pub(super) fn judging_timeout(&mut self, now: Instant) {
        let late = |(peer, judged): (&SocketAddr, &Judged)| {
            let (peer, number) = (*peer, judged.number);
            (judged.until <= now).then_some(Applicant { peer, number })
        };
        let late: Vec<Applicant> = self.judging.iter().filter_map(late).collect();
        for client in late {
            self.refuse(client, ErrorCode::Timeout);
        }
    }

    /// A message without a session: dropped where clients are to be recognised, or where its network has
    /// sent its share.
    pub(super) fn check_stranger(
        &mut self,
        now: Instant,
        input: &Input<'_>,
    ) -> Result<(), DropReason> {
        if self.config.auth_timeout.is_some() {
            return Err(DropReason::Unauthorized);
        }
        let Some(limit) = &self.config.rate_limit else {
            return Ok(());
        };
        let network = Network::from(input.from.ip());
        let may = self.rates.take(now, network, input.len, limit);
        may.then_some(()).ok_or(DropReason::RateLimited)
    }

    /// A message in a session: dropped when the session has sent its share.
    pub(super) fn check_rate(
        &mut self,
        now: Instant,
        index: usize,
        input: &Input<'_>,
    ) -> Result<(), DropReason> {
        let (limit, peers) = (&self.config.rate_limit, &mut self.peers);
        let peer = peers.get_mut(index).and_then(Option::as_deref_mut);
        let (Some(limit), Some(peer)) = (limit, peer) else {
            return Ok(());
        };
        if peer.bucket.take(now, input.len, limit) {
            return Ok(());
        }
        // One that is repeated until it is acknowledged will come again; an ERR would end its request,
        // which may yet be served.
        let frame = input.frame;
        let is_final = !frame.flags.intersects(Flags::REQ_ACK | Flags::FRAG);
        let request = keys::correlation_id(frame).ok().flatten();
        let is_due = |told: Instant| now.saturating_duration_since(told) >= RATE_REPORT;
        if let (Some(request), true) = (request, is_final && peer.rate_told.is_none_or(is_due)) {
            peer.rate_told = Some(now);
            let (proof, mut report) = (peer.proof(), Vec::new());
            Control::new(FrameType::Err, proof).write(&mut report, |writer| {
                writer.header(keys::CODE, ErrorCode::RateLimited.as_str().as_bytes());
                writer.header(keys::CORRELATION_ID, request);
            });
            peer.push(report);
        }
        Err(DropReason::RateLimited)
    }
}
