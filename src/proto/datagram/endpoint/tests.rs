//! Two endpoints and the datagrams between them, on a virtual clock.

use super::*;
use crate::net::clock;

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
