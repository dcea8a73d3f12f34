//! Two endpoints and the datagrams between them, on a virtual clock.

use super::*;
use crate::net::clock;
use crate::proto::datagram::DropReason;
use crate::proto::datagram::config::{MAX_BUNDLED_COUNT, MAX_SPAN_OF_STRANGER, MAX_STRAY_COUNT};
use crate::proto::datagram::proof::Sid;
use crate::proto::keys;
use crate::wire::Flags;

const MS: Duration = Duration::from_millis(1);

/// A server, a client, and a path that takes a millisecond and loses what `lose` says.
struct Pair {
    now: Instant,
    ends: [Endpoint; 2],
    addrs: [SocketAddr; 2],
    path: VecDeque<(Instant, usize, Vec<u8>)>,
    events: [Vec<Event>; 2],
    sent: u64,
    lose: fn(u64) -> bool,
}

impl Pair {
    fn new(config: EndpointConfig) -> Self {
        let now = clock::now();
        let server = EndpointConfig {
            accept_sessions: true,
            answer_limit: AnswerLimit::Times(3),
            ..config.clone()
        };
        let addr = |text: &str| text.parse().expect("an address");
        Self {
            now,
            ends: [
                Endpoint::new(server, [1; 32], now),
                Endpoint::new(config, [2; 32], now),
            ],
            addrs: [addr("10.0.0.1:6969"), addr("10.0.0.2:5000")],
            path: VecDeque::new(),
            events: [Vec::new(), Vec::new()],
            sent: 0,
            lose: |_| false,
        }
    }

    fn drain(&mut self, end: usize) {
        let mut out = Vec::new();
        while let Some(transmit) = self.ends[end].poll_transmit(self.now, 64, &mut out) {
            assert_eq!(transmit.to, self.addrs[1 - end]);
            for datagram in out.chunks(transmit.segment_len) {
                assert!(datagram.len() <= 1200, "{}", datagram.len());
                self.sent += 1;
                if !(self.lose)(self.sent) {
                    self.path
                        .push_back((self.now + MS, 1 - end, datagram.to_vec()));
                }
            }
        }
        while let Some(event) = self.ends[end].poll_event() {
            self.events[end].push(event);
        }
    }

    /// Runs until nothing is on its way and nothing is due before `until`.
    fn run(&mut self, until: Duration) {
        let until = self.now + until;
        loop {
            self.drain(0);
            self.drain(1);
            let arrival = self.path.front().map(|(at, ..)| *at);
            let timers = self.ends.iter().filter_map(Endpoint::next_timeout);
            let next = timers.chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            // As many at once as a socket hands over.
            for _ in 0..32 {
                if self.path.front().is_none_or(|(at, ..)| *at > self.now) {
                    break;
                }
                if let Some((_, to, datagram)) = self.path.pop_front() {
                    let from = self.addrs[1 - to];
                    self.ends[to].handle_datagram(self.now, from, &datagram, true);
                }
            }
            for end in &mut self.ends {
                end.handle_timeout(self.now);
            }
        }
    }

    fn connect(&mut self) {
        let (now, to) = (self.now, self.addrs[0]);
        self.ends[1].connect(now, to).expect("there is no session");
        self.run(100 * MS);
        assert!(matches!(self.events[1][..], [Event::Connected { .. }]));
        self.events[1].clear();
    }

    fn send(&mut self, frame: Frame) -> Token {
        let (now, to) = (self.now, self.addrs[0]);
        let token = self.ends[1].send_with_ack(now, to, frame);
        token.expect("it can be sent")
    }

    fn received(&mut self) -> Vec<Frame> {
        let events = std::mem::take(&mut self.events[0]);
        let frame = |event| match event {
            Event::Message { frame, .. } => Some(frame),
            _ => None,
        };
        events.into_iter().filter_map(frame).collect()
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

#[test]
fn du1_messages_of_every_size_arrive_as_they_were_sent() {
    for connect in [false, true] {
        let mut pair = Pair::new(EndpointConfig::default());
        if connect {
            pair.connect();
        }
        for len in (0..30).chain([
            1000, 1100, 1110, 1120, 1130, 1140, 1200, 3000, 70_000, 250_000,
        ]) {
            let frame = Frame::new(FrameType::Custom(0x77))
                .with_header("a", "b")
                .with_payload(payload(len));
            let token = pair.send(frame.clone());
            pair.run(2000 * MS);
            assert_eq!(pair.received(), [frame], "{len} bytes");
            let delivered = matches!(pair.events[1][..], [Event::Delivered(t)] if t == token);
            assert!(delivered, "{:?}", pair.events[1]);
            pair.events[1].clear();
        }
        assert_eq!(pair.ends[1].stats().retransmissions, 0);
        assert_eq!(pair.ends[0].reassembly_set_count(), 0);
    }
}

#[test]
fn du2_ten_megabytes_arrive_through_losses() {
    let mut pair = Pair::new(EndpointConfig::default());
    pair.connect();
    pair.lose = |n| n % 20 == 7;
    let frame = Frame::data(payload(10_000_000));
    pair.send(frame.clone());
    pair.run(Duration::from_secs(60));
    assert!(pair.received() == [frame], "it is not what was sent");
    assert!(matches!(pair.events[1][..], [Event::Delivered(_)]));
    let stats = pair.ends[1].stats();
    let fragments = 10_000_000 / 1080;
    assert!(stats.retransmissions < fragments / 12, "{stats:?}");
}

#[test]
fn du8_nothing_comes_back_and_it_ends_on_time() {
    let mut pair = Pair::new(EndpointConfig::default());
    pair.connect();
    pair.lose = |_| true;
    for len in [10, 100_000] {
        let began = pair.now;
        pair.send(Frame::data(payload(len)));
        while pair.events[1].is_empty() {
            pair.run(10 * MS);
        }
        let failed = matches!(pair.events[1][0], Event::Failed(_, Failure::TimedOut));
        assert!(failed, "{:?}", pair.events[1]);
        let took = pair.now - began;
        assert!(took.abs_diff(Duration::from_secs(30)) < 20 * MS, "{took:?}");
        assert_eq!(pair.ends[1].pending_count(), 0);
        pair.events[1].clear();
        // The session ends too, but later.
        if len == 10 {
            pair = Pair::new(EndpointConfig::default());
            pair.connect();
            pair.lose = |_| true;
        }
    }
}

#[test]
fn du30_silence_ends_a_session_and_du31_goodbye_too() {
    let mut pair = Pair::new(EndpointConfig::default());
    pair.connect();
    pair.run(Duration::from_secs(100));
    assert_eq!(pair.ends[0].session_addrs().len(), 1, "PING keeps it");
    pair.lose = |_| true;
    pair.run(Duration::from_secs(61));
    for end in 0..2 {
        let gone = matches!(
            pair.events[end][..],
            [Event::Closed {
                by: Failure::PeerGone,
                ..
            }]
        );
        assert!(gone, "{:?}", pair.events[end]);
    }
    pair.lose = |_| false;
    pair.events = [Vec::new(), Vec::new()];
    pair.connect();
    let (now, to) = (pair.now, pair.addrs[0]);
    pair.ends[1].close(now, to);
    pair.run(100 * MS);
    assert!(matches!(
        pair.events[1][..],
        [Event::Closed {
            by: Failure::Local,
            ..
        }]
    ));
    assert!(matches!(
        pair.events[0][..],
        [Event::Closed {
            by: Failure::PeerBye(None),
            ..
        }]
    ));
    assert!(pair.ends.iter().all(|end| end.session_addrs().is_empty()));
}

#[test]
fn du22_of_strangers_who_left_nothing_is_kept() {
    let mut now = clock::now();
    let config = EndpointConfig {
        max_strangers: 100,
        ..EndpointConfig::default()
    };
    let mut endpoint = Endpoint::new(config, [1; 32], now);
    let mut datagram = Vec::new();
    let frame = Frame::data("x");
    let (trailer, limits) = (crate::wire::Trailer::Always, Limits::default());
    crate::wire::encode(frame.as_ref(), trailer, &limits, &mut datagram).expect("it is small");
    for (pause, name) in [(MS, "a flood"), (40_000 * MS, "one now and then")] {
        for port in 1..=5000 {
            let from = SocketAddr::from(([10, 0, 0, 9], port));
            endpoint.handle_datagram(now, from, &datagram, true);
            while endpoint.poll_event().is_some() {}
            while endpoint.poll_transmit(now, 64, &mut Vec::new()).is_some() {}
            now += pause;
            endpoint.handle_timeout(now);
            while endpoint.poll_transmit(now, 64, &mut Vec::new()).is_some() {}
        }
        assert!(endpoint.peers.len() <= 101, "{name}");
        let (order, timers) = (endpoint.stranger_order.len(), endpoint.timers.len());
        assert!(
            order <= 300 && timers <= 500,
            "{name}: {order} and {timers}"
        );
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::wire::encode(
        frame.as_ref(),
        crate::wire::Trailer::Always,
        &Limits::default(),
        &mut bytes,
    )
    .expect("it can be expressed");
    bytes
}

impl Pair {
    /// The server gets a frame from the client's address that no endpoint would send.
    fn inject(&mut self, frame: Frame) {
        let datagram = encoded(&frame);
        let (now, from) = (self.now, self.addrs[1]);
        self.ends[0].handle_datagram(now, from, &datagram, true);
    }

    /// The same for a frame in two fragments.
    fn inject_cut(&mut self, inner: &Frame) {
        let bytes = encoded(inner);
        for (index, chunk) in bytes.chunks(bytes.len().div_ceil(2)).enumerate() {
            let fragment = Frame::data(chunk)
                .with_flag(Flags::FRAG)
                .with_header("frag-id", "7")
                .with_header("frag-index", index.to_string())
                .with_header("frag-total", "2")
                .with_header("frag-len", bytes.len().to_string());
            self.inject(fragment);
        }
    }

    /// What waits to leave the server.
    fn server_sends(&mut self) -> Vec<Vec<u8>> {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        while self.ends[0].poll_transmit(self.now, 1, &mut out).is_some() {
            all.push(out.clone());
        }
        all
    }
}

/// spec 4.10: three times the bytes, each datagram counted once.
#[test]
fn du17_two_acknowledged_answers_are_within_three_times() {
    let mut pair = Pair::new(EndpointConfig::default());
    pair.send(Frame::data(payload(1000)));
    pair.run(5 * MS);
    assert_eq!(pair.received().len(), 1);
    let (now, to) = (pair.now, pair.addrs[1]);
    for _ in 0..2 {
        pair.ends[0]
            .send_with_ack(now, to, Frame::data(payload(1060)))
            .expect("it can be sent");
    }
    pair.run(Duration::from_secs(20));
    let messages = pair.events[1]
        .iter()
        .filter(|event| matches!(event, Event::Message { .. }));
    assert_eq!(messages.count(), 2, "{:?}", pair.ends[0].stats());
}

/// spec 4.10: of fragments too every byte counts, not only those of the frame.
#[test]
fn du17_fragments_are_within_three_times_with_all_their_headers() {
    for max_datagram_len in [512, 1200] {
        let mut pair = Pair::new(EndpointConfig {
            max_datagram_len,
            ..EndpointConfig::default()
        });
        let request = Frame::data(payload(1000));
        (0..20).for_each(|_| pair.inject(request.clone()));
        let received = 20 * encoded(&request).len();
        let (now, to) = (pair.now, pair.addrs[1]);
        let frame = Frame::data(payload(1201));
        let refused = (0..1000).find_map(|_| pair.ends[0].send(now, to, frame.as_ref()).err());
        assert_eq!(refused, Some(SendError::AnswerLimit));
        let sent: usize = pair.server_sends().iter().map(Vec::len).sum();
        assert!(sent <= 3 * received, "{sent} bytes for {received}");
        assert!(sent + 1600 > 3 * received, "{sent} bytes for {received}");
    }
}

/// What a sender has no time for does not pile up: nobody is answered more than it can be sent.
#[test]
fn e05_answers_that_cannot_leave_are_bounded() {
    let mut pair = Pair::new(EndpointConfig::default());
    let ping = Frame::new(FrameType::Ping).with_payload("x");
    let asks = Frame::data("x")
        .with_flag(Flags::REQ_ACK)
        .with_header("msg-id", "7");
    for (request, most) in [(ping, MAX_STRAY_COUNT), (asks, MAX_SPAN_OF_STRANGER)] {
        // The twin: what fits is answered to the last.
        for (count, expected) in [(most, most), (10 * most, most)] {
            (0..count).for_each(|_| pair.inject(request.clone()));
            assert_eq!(pair.server_sends().len(), expected);
        }
    }
}

/// spec 4.2: COMP is not allowed, in fragments neither.
#[test]
fn du21_comp_in_fragments_is_dropped() {
    let mut pair = Pair::new(EndpointConfig::default());
    let comp = Frame::data(payload(100)).with_flag(Flags::COMP);
    pair.inject(comp.clone());
    assert_eq!(pair.ends[0].stats().dropped(DropReason::Invalid), 1);
    pair.inject_cut(&comp);
    pair.drain(0);
    assert_eq!(pair.received(), [], "in one datagram it is dropped");
}

/// spec 4.2: the sender refuses what every receiver drops.
#[test]
fn du21_comp_is_refused_at_the_sender() {
    let mut pair = Pair::new(EndpointConfig::default());
    let comp = Frame::data(payload(100)).with_flag(Flags::COMP);
    let (now, to) = (pair.now, pair.addrs[0]);
    assert!(pair.ends[1].send(now, to, comp.as_ref()).is_err());
    assert!(pair.ends[1].send_with_ack(now, to, comp).is_err());
}

/// spec 5: COMP is a message's, in a session that agreed to it; in fragments it is the inner frame's.
#[test]
fn g4_comp_needs_the_feature_and_stands_in_messages_only() {
    for agreed in [false, true] {
        let mut config = EndpointConfig::default();
        if agreed {
            config.features = config.features.with(keys::GZIP);
        }
        let mut pair = Pair::new(config);
        let (now, [server, _]) = (pair.now, pair.addrs);
        pair.ends[1].connect(now, server).expect("the first");
        pair.run(5 * MS);
        let mut proofs = pair.ends[1].peers.iter().flatten().map(|p| p.proof());
        let Some(Proof::Sid(sid)) = proofs.find(Proof::is_session) else {
            panic!("no session");
        };
        drop(proofs);
        let comp = |len: usize| Frame::data(payload(len)).with_flag(Flags::COMP);
        for len in [100, 5000] {
            let sent = pair.ends[1].send(now, server, comp(len).as_ref());
            assert_eq!(sent.is_ok(), agreed, "{len} bytes");
        }
        pair.run(5 * MS);
        let came = |pair: &mut Pair| {
            pair.drain(0);
            pair.received().len()
        };
        assert_eq!(came(&mut pair), if agreed { 2 } else { 0 });
        // What a peer that keeps no rules sends.
        pair.inject(comp(100).with_header("sid", sid));
        assert_eq!(came(&mut pair), usize::from(agreed));
        let inner = encoded(&comp(100));
        for (id, outer) in [("1", Flags::FRAG), ("2", Flags::FRAG | Flags::COMP)] {
            for (index, chunk) in inner.chunks(inner.len().div_ceil(2)).enumerate() {
                pair.inject(
                    Frame::data(chunk)
                        .with_flag(outer)
                        .with_header("frag-id", id)
                        .with_header("frag-index", index.to_string())
                        .with_header("frag-total", "2")
                        .with_header("frag-len", inner.len().to_string())
                        .with_header("sid", sid),
                );
            }
            let expected = usize::from(agreed && id == "1");
            assert_eq!(came(&mut pair), expected, "{outer:?}");
        }
        let invalid = pair.ends[0].stats().dropped(DropReason::Invalid);
        let ping = Frame::new(FrameType::Ping).with_flag(Flags::COMP);
        pair.inject(ping.with_header("sid", sid));
        let now_invalid = pair.ends[0].stats().dropped(DropReason::Invalid);
        assert_eq!(now_invalid, invalid + 1, "a control frame");
        // A stranger has no features.
        pair.inject(comp(100));
        assert_eq!(
            pair.ends[0].stats().dropped(DropReason::Invalid),
            invalid + 2
        );
    }
}

/// spec 4.2: no flag but CRC in HELLO.
#[test]
fn du21_hello_with_flags_is_dropped() {
    for flag in [Flags::REQ_ACK, Flags::FRAG, Flags::COMP] {
        let mut pair = Pair::new(EndpointConfig::default());
        let hello = Frame::new(FrameType::Hello)
            .with_flag(flag)
            .with_payload(vec![0; 1185]);
        pair.inject(hello);
        assert_eq!(pair.server_sends(), [[0; 0]; 0], "{flag:?}");
    }
}

/// spec 4.4: a set that is no valid message ends.
#[test]
fn du07_a_set_with_invalid_headers_inside_ends() {
    let mut pair = Pair::new(EndpointConfig::default());
    let inner = Frame::data(payload(100))
        .with_header("msg-id", "1")
        .with_header("msg-id", "1");
    pair.inject_cut(&inner);
    assert_eq!(pair.received(), []);
    assert_eq!(pair.ends[0].reassembly_set_count(), 0);
}

/// spec 4.2: REQ_ACK is not allowed in ERR, so it cannot be sent for acknowledgement.
#[test]
fn an_err_for_acknowledgement_is_refused_or_arrives() {
    let mut pair = Pair::new(EndpointConfig::default());
    pair.connect();
    let answer = Frame::new(FrameType::Err)
        .with_header("code", "handler")
        .with_header("correlation-id", "1");
    let (now, to) = (pair.now, pair.addrs[0]);
    if pair.ends[1].send_with_ack(now, to, answer).is_ok() {
        pair.run(Duration::from_secs(40));
        let delivered = matches!(pair.events[1][..], [Event::Delivered(_)]);
        assert!(delivered, "{:?}", pair.events[1]);
    }
}

/// spec 4.8: with one address there is at most one session, also when both sides begin one.
#[test]
fn both_connect_at_once_and_one_session_stays() {
    let mut pair = Pair::new(EndpointConfig::default());
    let config = EndpointConfig {
        accept_sessions: true,
        ..EndpointConfig::default()
    };
    pair.ends[1] = Endpoint::new(config, [3; 32], pair.now);
    let (now, [first, second]) = (pair.now, pair.addrs);
    pair.ends[1].connect(now, first).expect("there is none");
    pair.ends[0].connect(now, second).expect("there is none");
    pair.run(Duration::from_secs(300));
    for end in &pair.ends {
        let peers = end.peers.iter().flatten();
        let sessions = peers.filter(|peer| peer.link.is_some()).count();
        assert_eq!((end.session_addrs().len(), sessions), (1, 1));
    }
    pair.events = [Vec::new(), Vec::new()];
    pair.send(Frame::data("x"));
    pair.run(Duration::from_secs(40));
    assert_eq!(pair.received(), [Frame::data("x")]);
}

/// spec 4.10: no answer is longer than what provoked it.
#[test]
fn du17_progress_after_a_refused_fragment_is_no_longer_than_it() {
    let mut pair = Pair::new(EndpointConfig {
        stranger_budget_len: 126 * 256 + 1200,
        ..EndpointConfig::default()
    });
    let fragment = |id: u64, index: u64, total: u64, len: usize, inner: u64| {
        Frame::data(payload(len))
            .with_flag(Flags::FRAG)
            .with_flag(Flags::REQ_ACK)
            .with_header("frag-id", id.to_string())
            .with_header("frag-index", index.to_string())
            .with_header("frag-total", total.to_string())
            .with_header("frag-len", inner.to_string())
    };
    // A set of one-byte fragments with a gap before each, as far as the budget goes.
    for index in 1..127 {
        pair.inject(fragment(1, 2 * index, 255, 1, 255));
    }
    pair.inject(fragment(2, 1, 3, 1100, 3000));
    pair.run(100 * MS);
    pair.server_sends();
    let refused = fragment(1, 1, 255, 1, 255);
    let datagram = encoded(&refused);
    let before = pair.ends[0].stats().dropped(DropReason::Budget);
    let (now, from) = (pair.now, pair.addrs[1]);
    pair.ends[0].handle_datagram(now, from, &datagram, true);
    let after = pair.ends[0].stats().dropped(DropReason::Budget);
    assert_eq!(after, before + 1, "the budget is used up");
    pair.now += 30 * MS;
    let now = pair.now;
    pair.ends[0].handle_timeout(now);
    let answers = pair.server_sends();
    assert!(!answers.is_empty(), "nothing is acknowledged");
    for answer in answers {
        assert!(answer.len() <= datagram.len(), "{} bytes", answer.len());
    }
}

/// What the network does not take because of its length is given up; the rest goes on.
#[test]
fn du26_what_is_too_large_for_the_network_is_given_up() {
    let mut pair = Pair::new(EndpointConfig::default());
    pair.lose = |_| true;
    let (now, to) = (pair.now, pair.addrs[0]);
    let mut send = |len| {
        let frame = Frame::data(payload(len));
        pair.ends[1]
            .send_with_ack(now, to, frame)
            .expect("it can be sent")
    };
    let (short, long, cut) = (send(100), send(1100), send(5000));
    pair.drain(1);
    assert_eq!(pair.ends[1].handle_too_large(to, 1100), 2);
    let elsewhere = pair.addrs[1];
    assert_eq!(pair.ends[1].handle_too_large(elsewhere, 0), 0);
    pair.drain(1);
    let failed: Vec<_> = pair.events[1].drain(..).collect();
    let failure = Failure::TooLarge { len: 1100 };
    for token in [long, cut] {
        let gave_up = |event: &Event| match event {
            Event::Failed(of, how) => (*of, *how) == (token, failure),
            _ => false,
        };
        assert!(failed.iter().any(gave_up), "{failed:?}");
    }
    assert_eq!(failed.len(), 2);
    pair.lose = |_| false;
    pair.run(Duration::from_secs(5));
    let arrived = |event: &Event| matches!(event, Event::Delivered(token) if *token == short);
    assert!(pair.events[1].iter().any(arrived));
}

/// What waited for those that were given up goes on at once, not at the next timeout.
#[test]
fn du26_what_waits_behind_what_is_too_large_leaves_at_once() {
    let mut pair = Pair::new(EndpointConfig::default());
    pair.connect();
    pair.lose = |_| true;
    let first: Vec<Token> = (0..20)
        .map(|_| pair.send(Frame::data(payload(1100))))
        .collect();
    pair.drain(1);
    let short = pair.send(Frame::data("short"));
    pair.drain(1);
    pair.lose = |_| false;
    let to = pair.addrs[0];
    assert_eq!(pair.ends[1].handle_too_large(to, 1100), first.len());
    pair.run(50 * MS);
    let arrived = |event: &Event| matches!(event, Event::Delivered(token) if *token == short);
    assert!(pair.events[1].iter().any(arrived), "it is still on its way");
}

/// spec 4.1: a receiver takes every frame of a bundle, also when each is a message.
#[test]
fn a_bundle_of_messages_is_taken_as_a_whole() {
    let mut pair = Pair::new(EndpointConfig::default());
    pair.connect();
    let from = pair.addrs[1];
    let index = pair.ends[0].sessions[&from];
    let proof = pair.ends[0].peer(index).map(Peer::proof);
    let Some(Proof::Sid(sid)) = proof else {
        panic!("there is a plain session: {proof:?}")
    };
    let message = |number: usize| {
        let frame = Frame::data(number.to_string());
        encoded(
            &frame
                .with_header("sid", sid)
                .with_header("msg-id", number.to_string()),
        )
    };
    for count in [3, MAX_BUNDLED_COUNT, MAX_BUNDLED_COUNT + 1] {
        let numbers = 1000 * count..1000 * count + count;
        let bundle: Vec<u8> = numbers.flat_map(message).collect();
        let now = pair.now;
        pair.ends[0].handle_datagram(now, from, &bundle, true);
        pair.drain(0);
        assert_eq!(pair.received().len(), count.min(MAX_BUNDLED_COUNT));
    }
    let dropped = pair.ends[0].stats().dropped(DropReason::QueueFull);
    assert_eq!(dropped, 1, "of more than a datagram may bring");
}

/// spec 4.5: one acknowledgement may name several messages, where both sides agreed on that.
#[test]
fn an_acknowledgement_of_several_messages_is_exact_or_nothing() {
    for (features, has_ranges) in [("ack-ranges,bundle", true), ("bundle", false)] {
        let mut pair = Pair::new(EndpointConfig {
            features: features.parse().expect("names"),
            ..EndpointConfig::default()
        });
        pair.connect();
        pair.lose = |_| true;
        let tokens: Vec<Token> = (0..4).map(|_| pair.send(Frame::data("x"))).collect();
        pair.drain(1);
        let (now, from) = (pair.now, pair.addrs[0]);
        let index = pair.ends[1].sessions[&from];
        let proof = pair.ends[1].peer(index).map(Peer::proof);
        let Some(Proof::Sid(sid)) = proof else {
            panic!("there is a plain session: {proof:?}")
        };
        let mut acknowledge = |payload: &[u8]| {
            let mut ack = Frame::new(FrameType::Ack)
                .with_header("msg-id", tokens[0].msg_id().to_string())
                .with_header("sid", sid);
            ack.payload = payload.to_vec();
            pair.ends[1].handle_datagram(now, from, &encoded(&ack), true);
            let events: Vec<Event> = std::iter::from_fn(|| pair.ends[1].poll_event()).collect();
            let tokens = events.iter().map(|event| match event {
                Event::Delivered(token) => *token,
                other => panic!("{other:?}"),
            });
            let stats = pair.ends[1].stats();
            let dropped = [DropReason::Invalid, DropReason::Unexpected].map(|r| stats.dropped(r));
            (tokens.collect::<Vec<_>>(), dropped)
        };
        if has_ranges {
            let not_from_the_first = [1, 1];
            let half_a_pair = [0];
            let too_many = [0, 0x81, 0x10];
            let beyond_all_numbers = [0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1];
            let bad: [&[u8]; 4] = [
                &not_from_the_first,
                &half_a_pair,
                &too_many,
                &beyond_all_numbers,
            ];
            for (count, payload) in bad.into_iter().enumerate() {
                let expected = (vec![], [count as u64 + 1, 0]);
                assert_eq!(acknowledge(payload), expected, "{payload:?}");
            }
            let three = vec![tokens[0], tokens[1], tokens[3]];
            assert_eq!(acknowledge(&[0, 2, 1, 1]), (three, [4, 0]));
            assert_eq!(acknowledge(&[0, 2, 1, 1]), (vec![], [4, 1]), "known");
            assert_eq!(acknowledge(&[0, 4]), (vec![tokens[2]], [4, 1]), "the rest");
        } else {
            assert_eq!(acknowledge(&[0, 4]), (vec![tokens[0]], [0, 0]));
        }
    }
}

/// The client's end of a plain session, to which acknowledgements are written by hand.
struct ByHand {
    pair: Pair,
    sid: Sid,
}

impl ByHand {
    /// Nothing of what the client sends arrives.
    fn new() -> Self {
        let mut pair = Pair::new(EndpointConfig::default());
        pair.connect();
        pair.lose = |_| true;
        let index = pair.ends[1].sessions[&pair.addrs[0]];
        let Some(Proof::Sid(sid)) = pair.ends[1].peer(index).map(Peer::proof) else {
            panic!("there is a plain session")
        };
        Self { pair, sid }
    }

    fn ack(&self, token: Token, payload: &[u8]) -> Vec<u8> {
        let mut ack = Frame::new(FrameType::Ack)
            .with_header("msg-id", token.msg_id().to_string())
            .with_header("sid", self.sid);
        ack.payload = payload.to_vec();
        encoded(&ack)
    }

    /// What a datagram delivers, and how many of its frames are invalid and unexpected.
    fn take(&mut self, datagram: &[u8]) -> (Vec<Token>, [u64; 2]) {
        let (now, from) = (self.pair.now, self.pair.addrs[0]);
        let client = &mut self.pair.ends[1];
        let dropped = |client: &Endpoint| {
            [DropReason::Invalid, DropReason::Unexpected]
                .map(|reason| client.stats().dropped(reason))
        };
        let before = dropped(client);
        client.handle_datagram(now, from, datagram, true);
        let events = std::iter::from_fn(|| client.poll_event());
        let delivered = events.filter_map(|event| match event {
            Event::Delivered(token) => Some(token),
            _ => None,
        });
        let delivered = delivered.collect();
        let after = dropped(client);
        (delivered, [after[0] - before[0], after[1] - before[1]])
    }
}

/// spec 4.5: an acknowledgement that names one message too many says nothing about the others.
#[test]
fn du11_what_was_never_sent_spoils_the_whole_acknowledgement() {
    let spoilt = (vec![], [0, 1]);
    let mut hand = ByHand::new();
    let sent = hand.pair.send(Frame::data("x"));
    hand.pair.drain(1);
    let queued = hand.pair.send(Frame::data("x"));
    let both = hand.ack(sent, &[0, 2]);
    assert_eq!(hand.take(&both), spoilt, "sent + queued");
    let not_given = hand.ack(sent, &[0, 1, 1, 1]);
    assert_eq!(hand.take(&not_given), spoilt, "sent + one that is nobody's");
    let one = hand.ack(sent, b"");
    assert_eq!(hand.take(&one), (vec![sent], [0, 0]));
    assert_eq!(hand.take(&both), spoilt, "known + queued");
    hand.pair.drain(1);
    assert_eq!(hand.take(&both), (vec![queued], [0, 0]), "known + sent");

    let first = hand.pair.send(Frame::data("x"));
    hand.pair.drain(1);
    let set = hand.pair.send(Frame::data(payload(250_000)));
    // Messages and sets take turns, so of what waits behind the set some is sent.
    let behind: Vec<Token> = (0..3).map(|_| hand.pair.send(Frame::data("x"))).collect();
    hand.pair.drain(1);
    let both = hand.ack(first, &[0, 2]);
    assert_eq!(hand.take(&both), spoilt, "sent + incomplete set");
    let straddles = hand.ack(first, &[0, 1, 1, 1]);
    assert_eq!(
        hand.take(&straddles),
        (vec![first, behind[0]], [0, 0]),
        "what is not named is not judged"
    );
    assert!(hand.pair.ends[1].progress(set).is_some());
    // A payload that breaks the form, whatever its first number is of.
    let broken = hand.ack(set, &[0]);
    assert_eq!(hand.take(&broken), (vec![], [1, 0]));
}

/// spec 4.5: what a datagram may name is bounded, in however many frames.
#[test]
fn du11_a_datagram_names_2048_messages_at_the_most() {
    let mut hand = ByHand::new();
    hand.pair.lose = |_| false;
    let tokens: Vec<Token> = (0..2050)
        .map(|_| hand.pair.send(Frame::data("x")))
        .collect();
    hand.pair.run(2000 * MS);
    assert_eq!(hand.pair.received().len(), tokens.len());
    let invalid = hand.pair.ends[1].stats().dropped(DropReason::Invalid);
    assert_eq!(invalid, 0, "all that an honest peer says is taken");
    // Nobody waits for them any more, so each frame that is judged at all is unexpected.
    let ids = |count: u64| {
        let mut payload = vec![0];
        crate::wire::varint::encode(count, &mut payload);
        payload
    };
    let all = hand.ack(tokens[0], &ids(2048));
    assert_eq!(hand.take(&all), (vec![], [0, 1]), "one flush, everything");
    let more = hand.ack(tokens[0], &ids(2049));
    assert_eq!(hand.take(&more), (vec![], [1, 0]));
    let half = hand.ack(tokens[0], &ids(1024));
    let one = hand.ack(tokens[1], b"");
    let bundle = [&half[..], &half, &half, &one].concat();
    assert_eq!(hand.take(&bundle), (vec![], [2, 2]));
    let bundle = [&all[..], &one].concat();
    assert_eq!(hand.take(&bundle), (vec![], [1, 1]));
    assert_eq!(hand.take(&one), (vec![], [0, 1]), "each has its own");
}
