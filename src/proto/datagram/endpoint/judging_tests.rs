//! Clients that are judged, and rate limits: an endpoint on a virtual clock, spoken to by hand.

use super::super::parts::Applicant;
use super::*;
use crate::net::clock;
use crate::proto::ErrorCode;
use crate::proto::datagram::DropReason;
use crate::proto::keys;
use crate::proto::rate::RateLimit;
use crate::wire::{self, Flags};

const SECOND: Duration = Duration::from_secs(1);

struct Server {
    now: Instant,
    endpoint: Endpoint,
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn client() -> SocketAddr {
    addr("10.0.0.2:5000")
}

/// HELLO of exactly 1,200 bytes.
fn hello(cookie: Option<&[u8]>) -> Frame {
    let mut hello = Frame::new(FrameType::Hello);
    if let Some(cookie) = cookie {
        hello = hello.with_header(keys::COOKIE, cookie);
        hello = hello.with_header(keys::AUTH_TOKEN, "secret");
    }
    let len = encoded(&hello).len();
    hello.with_payload(vec![0; 1200 - len])
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let (mut bytes, limits) = (Vec::new(), Limits::default());
    wire::encode(frame.as_ref(), wire::Trailer::Always, &limits, &mut bytes).expect("valid");
    bytes
}

impl Server {
    fn new(change: impl FnOnce(&mut EndpointConfig)) -> Self {
        let now = clock::now();
        let mut config = EndpointConfig {
            accept_sessions: true,
            ..EndpointConfig::default()
        };
        change(&mut config);
        let endpoint = Endpoint::new(config, [1; 32], now);
        Self { now, endpoint }
    }

    fn judging() -> Self {
        Self::new(|config| config.auth_timeout = Some(5 * SECOND))
    }

    fn gets(&mut self, from: SocketAddr, frame: &Frame) {
        let bytes = encoded(frame);
        self.endpoint.handle_datagram(self.now, from, &bytes, true);
    }

    fn sends(&mut self) -> Vec<Frame> {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        while self.endpoint.poll_transmit(self.now, 1, &mut out).is_some() {
            let limits = Limits::default();
            let frame = wire::decode_exact(&out, wire::Trailer::Always, &limits);
            all.push(frame.expect("valid").to_owned());
        }
        all
    }

    fn cookie(&mut self, of: SocketAddr) -> Vec<u8> {
        self.gets(of, &hello(None));
        let sent = self.sends();
        let is_welcome = |frame: &&Frame| frame.typ == FrameType::Welcome;
        let cookies = sent.iter().filter(is_welcome);
        let cookie = cookies.filter_map(|f| f.header(keys::COOKIE)).next_back();
        cookie.expect("a cookie").to_vec()
    }

    fn applicant(&mut self) -> Option<Applicant> {
        std::iter::from_fn(|| self.endpoint.poll_event()).find_map(|event| match event {
            Event::Hello { client, .. } => Some(client),
            _ => None,
        })
    }

    /// Asks for a session from this address: who is to be judged.
    fn applies(&mut self, from: SocketAddr) -> Option<Applicant> {
        let cookie = self.cookie(from);
        self.gets(from, &hello(Some(&cookie)));
        self.applicant()
    }

    /// Opens a session without judging: what its frames carry.
    fn session(&mut self, from: SocketAddr) -> Vec<u8> {
        let cookie = self.cookie(from);
        self.gets(from, &hello(Some(&cookie)));
        let welcome = self.sends().pop().expect("an answer");
        welcome.header(keys::SID).expect("a session").to_vec()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.endpoint.stats().dropped(reason)
    }
}

fn code(frame: &Frame) -> ErrorCode {
    assert_eq!(frame.typ, FrameType::Err);
    ErrorCode::from_wire(frame.header(keys::CODE).expect("a code"))
}

#[test]
fn nobody_is_judged_for_a_forged_address() {
    let mut server = Server::judging();
    server.gets(client(), &hello(None));
    server.gets(client(), &hello(Some(&[7; 40])));
    assert_eq!(server.applicant(), None);
    assert_eq!(server.dropped(DropReason::Hello), 1);
    assert!(server.applies(client()).is_some());
}

#[test]
fn the_token_is_handed_over_and_a_client_that_is_admitted_has_a_session() {
    let mut server = Server::judging();
    let cookie = server.cookie(client());
    let hello = hello(Some(&cookie));
    server.gets(client(), &hello);
    let event = server.endpoint.poll_event();
    let Some(Event::Hello {
        client: applicant,
        auth_token: Some(token),
        until,
    }) = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(token.as_bytes(), b"secret");
    assert_eq!(until, server.now + 5 * SECOND);
    assert_eq!(server.sends(), [], "nothing before the decision");
    server.gets(client(), &hello);
    assert_eq!(server.dropped(DropReason::Duplicate), 1);
    assert_eq!(server.applicant(), None, "it is asked once");

    let id = server.endpoint.admit(server.now, applicant);
    assert_eq!(id, server.endpoint.session(client()).map(|(id, _)| id));
    assert!(server.sends()[0].header(keys::SID).is_some());
    // WELCOME was lost: the same HELLO is answered without another decision.
    server.gets(client(), &hello);
    assert_eq!((server.sends().len(), server.applicant()), (1, None));
    assert_eq!(server.endpoint.admit(server.now, applicant), None);
}

#[test]
fn a_client_that_is_refused_hears_why_and_has_none() {
    let mut server = Server::judging();
    let applicant = server.applies(client()).expect("an applicant");
    assert!(server.endpoint.refuse(applicant, ErrorCode::Unauthorized));
    let sent = server.sends();
    assert_eq!((sent.len(), code(&sent[0])), (1, ErrorCode::Unauthorized));
    assert!(sent[0].header(keys::COOKIE).is_some(), "so it is believed");
    assert!(server.endpoint.session(client()).is_none());
    assert!(!server.endpoint.refuse(applicant, ErrorCode::Unauthorized));
    assert_eq!(server.endpoint.stats().sessions_refused, 1);
}

#[test]
fn a_late_decision_counts_for_nothing() {
    let mut server = Server::judging();
    let applicant = server.applies(client()).expect("an applicant");
    assert_eq!(
        server.endpoint.next_timeout(),
        Some(server.now + 5 * SECOND)
    );
    server.now += 5 * SECOND;
    server.endpoint.handle_timeout(server.now);
    assert_eq!(code(&server.sends()[0]), ErrorCode::Timeout);
    assert_eq!(server.endpoint.admit(server.now, applicant), None);
    // Nor does it count for the next attempt from the same address.
    let second = server.applies(client()).expect("an applicant");
    assert_eq!(server.endpoint.admit(server.now, applicant), None);
    assert!(server.endpoint.admit(server.now, second).is_some());
}

#[test]
fn an_open_session_is_replaced_only_by_a_client_that_was_recognised() {
    let mut server = Server::judging();
    let first = server.applies(client()).expect("an applicant");
    let id = server.endpoint.admit(server.now, first);
    server.now += SECOND;
    let second = server.applies(client()).expect("an applicant");
    server.endpoint.refuse(second, ErrorCode::Unauthorized);
    assert_eq!(server.endpoint.session(client()).map(|(id, _)| id), id);
    server.now += SECOND;
    let third = server.applies(client()).expect("an applicant");
    let new = server.endpoint.admit(server.now, third);
    assert!(new.is_some() && new != id);
    assert_eq!(server.endpoint.session(client()).map(|(id, _)| id), new);
}

#[test]
fn a_network_has_a_share_of_those_who_are_judged() {
    let mut server = Server::judging();
    let host = |n: u16| addr(&format!("[2001:db8::{n:x}]:5000"));
    let judged = (1..100).filter(|n| server.applies(host(*n)).is_some());
    assert_eq!(judged.count(), 16);
    assert_eq!(server.dropped(DropReason::Hello), 99 - 16);
    assert_eq!(code(&server.sends()[0]), ErrorCode::Busy);
    assert!(server.applies(client()).is_some(), "others are judged");
}

#[test]
fn e12_what_is_over_the_rate_is_neither_delivered_nor_acknowledged() {
    let mut server =
        Server::new(|config| config.rate_limit = Some(RateLimit::default().frames(10, 20)));
    let (greedy, modest) = (client(), addr("10.0.0.3:5000"));
    let sids = [greedy, modest].map(|from| server.session(from));
    let message = |sid: &[u8], id: u64| {
        let frame = Frame::data("x").with_flag(Flags::REQ_ACK);
        let frame = frame.with_header(keys::SID, sid);
        frame.with_header(keys::MSG_ID, id.to_string())
    };
    let mut acknowledged = [0; 2];
    // Ten seconds: one sends 1,000 a second, the other 10.
    for step in 0..10_000 {
        server.now += SECOND / 1000;
        server.gets(greedy, &message(&sids[0], step));
        if step % 100 == 0 {
            server.gets(modest, &message(&sids[1], step));
        }
        for ack in server.sends().iter().filter(|f| f.typ == FrameType::Ack) {
            let of_greedy = ack.header(keys::SID) == Some(&sids[0]);
            acknowledged[usize::from(!of_greedy)] += 1;
        }
    }
    assert!((110..=121).contains(&acknowledged[0]), "{acknowledged:?}");
    assert_eq!(acknowledged[1], 100, "the other one has all of its share");
    let dropped = server.dropped(DropReason::RateLimited);
    assert_eq!(dropped, 10_000 - acknowledged[0]);
}

#[test]
fn e12_a_request_over_the_rate_is_told_once_a_second_and_one_that_comes_again_is_not() {
    let mut server =
        Server::new(|config| config.rate_limit = Some(RateLimit::default().frames(1, 1)));
    let sid = server.session(client());
    let request = |n: u64| {
        let frame = Frame::data("?").with_header(keys::SID, &sid);
        let frame = frame.with_header(keys::MSG_ID, n.to_string());
        frame.with_header(keys::CORRELATION_ID, n.to_string())
    };
    for n in 0..100 {
        server.gets(client(), &request(n));
    }
    let told = server.sends();
    assert_eq!((told.len(), code(&told[0])), (1, ErrorCode::RateLimited));
    assert_eq!(told[0].header(keys::CORRELATION_ID), Some(&b"1"[..]));
    assert_eq!(server.dropped(DropReason::RateLimited), 99);
    for n in 100..200 {
        server.gets(client(), &request(n).with_flag(Flags::REQ_ACK));
    }
    assert_eq!(server.sends(), []);
    server.now += SECOND;
    server.gets(client(), &request(200));
    server.gets(client(), &request(201));
    let told = server.sends();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].header(keys::CORRELATION_ID), Some(&b"201"[..]));
}

#[test]
fn e12_a_stranger_is_limited_with_its_network_and_without_an_answer() {
    let mut server =
        Server::new(|config| config.rate_limit = Some(RateLimit::default().frames(1, 5)));
    for n in 0..100 {
        let from = addr(&format!("[2001:db8::{n:x}]:5000"));
        server.gets(from, &Frame::data("x").with_flag(Flags::REQ_ACK));
    }
    assert_eq!(server.dropped(DropReason::RateLimited), 95);
    assert_eq!(server.endpoint.stats().messages_received, 5);
    assert_eq!(server.sends(), []);
    server.gets(client(), &Frame::data("x"));
    assert_eq!(server.endpoint.stats().messages_received, 6);
}
