//! Forged source addresses: whoever never sent anything must not get more than was sent in his name.

use crate::craft::{self, Entry};
use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, STRANGER, World, addr, server_config};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use vstp::Frame;
use vstp::proto::datagram::{AnswerLimit, Endpoint, SendError};

/// What one address sent, or got.
#[derive(Default, Clone, Copy)]
struct Traffic {
    datagrams: u64,
    bytes: u64,
}

impl Traffic {
    fn add(&mut self, len: usize) {
        self.datagrams += 1;
        self.bytes += len as u64;
    }
}

/// A server alone, and what went in and out for each address.
struct Victim {
    endpoint: Endpoint,
    now: Instant,
    traffic: HashMap<SocketAddr, (Traffic, Traffic)>,
}

impl Victim {
    fn new() -> Self {
        let now = vstp::net::clock::now();
        let endpoint = Endpoint::new(server_config(|_| ()), [3; 32], now);
        let traffic = HashMap::new();
        Self {
            endpoint,
            now,
            traffic,
        }
    }

    fn forge(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.traffic.entry(from).or_default().0.add(bytes.len());
        self.endpoint.handle_datagram(self.now, from, bytes, true);
        self.drain();
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit(self.now, 1, &mut out) {
            self.traffic
                .entry(transmit.to)
                .or_default()
                .1
                .add(out.len());
            out.clear();
        }
        while self.endpoint.poll_event().is_some() {}
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.endpoint.next_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.endpoint.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }
}

#[test]
fn du17_nobody_gets_more_than_was_sent_in_his_name() {
    let number = b"7".as_slice();
    let sid: Entry<'_> = ("sid", &[7; 16]);
    let lists: [&[Entry<'_>]; 9] = [
        &[],
        &[sid],
        &[("msg-id", number)],
        &[("msg-id", number), sid],
        &[
            ("frag-id", number),
            ("frag-index", b"0"),
            ("frag-total", b"2"),
            ("frag-len", b"9"),
        ],
        &[
            ("frag-id", number),
            ("frag-index", b"0"),
            ("frag-total", b"2"),
            ("frag-len", b"9"),
            sid,
        ],
        &[("features", b"bundle"), ("max-frame-size", b"65536")],
        &[("cookie", &[0; 40])],
        &[("code", b"protocol"), ("correlation-id", number)],
    ];
    // A debug build leaves out types and flags that are treated like their neighbours.
    let thin = cfg!(debug_assertions);
    let types: Vec<u8> = (0..=255)
        .filter(|t| !thin || *t < 0x12 || *t == 0xff)
        .collect();
    let flags: Vec<u8> = (0..=255_u8)
        .filter(|f| !thin || f.count_ones() < 3)
        .collect();
    let mut victim = Victim::new();
    let mut source = 0_u32;
    let mut what = HashMap::new();
    for typ in types {
        for flags in &flags {
            for headers in lists {
                for len in [0, 64, 300, 1199, 1200, 1201] {
                    source += 1;
                    let [_, b, c, d] = source.to_be_bytes();
                    let from = addr([11, b, c, d], 9);
                    let bytes = craft::padded(typ, *flags, headers, len);
                    what.insert(from, (typ, *flags, bytes.len()));
                    victim.forge(from, &bytes);
                    if source % 500 == 0 {
                        victim.wait(Duration::from_secs(1));
                    }
                }
            }
        }
    }
    victim.wait(Duration::from_secs(120));
    let mut largest = (0.0, 0, (0, 0, 0));
    let mut answered = 0;
    for (from, (sent, got)) in &victim.traffic {
        let sent_what = what.get(from).expect("answers go to those who sent");
        assert!(
            got.datagrams <= sent.datagrams,
            "{sent_what:?} gives {}",
            got.datagrams
        );
        let ratio = got.bytes as f64 / sent.bytes as f64;
        if ratio > largest.0 {
            largest = (ratio, got.bytes, *sent_what);
        }
        answered += got.datagrams;
    }
    let (ratio, bytes, (typ, flags, len)) = largest;
    println!(
        "largest ratio of bytes out to bytes in: {ratio:.3} ({bytes} for {len} bytes of type \
         {typ:#04x}, flags {flags:#04x}); {answered} of {source} datagrams were answered"
    );
    assert!(ratio <= 1.0);
    assert!(
        answered > 0,
        "nothing is ever answered: the test sees nothing"
    );
}

#[test]
fn du17_an_unknown_sid_gets_silence() {
    let mut victim = Victim::new();
    for typ in 0..=255 {
        for flags in [0, craft::REQ_ACK, craft::FRAG] {
            for len in [0, 1200] {
                let headers: [Entry<'_>; 2] = [("sid", &[9; 16]), ("msg-id", b"1")];
                victim.forge(STRANGER, &craft::padded(typ, flags, &headers, len));
            }
        }
    }
    victim.wait(Duration::from_secs(60));
    assert_eq!(victim.traffic[&STRANGER].1.datagrams, 0);
}

#[test]
fn du17_answers_of_the_application_are_held_to_three_times() {
    seeds(5, |seed| {
        let mut world = World::pair(seed, &Rules::dead());
        // 20 datagrams in the client's name, who never answers.
        let mut received = 0;
        for _ in 0..20 {
            let len = world.rng.between(15, 1200) as usize;
            let bytes = craft::padded(craft::DATA, 0, &[], len);
            received += bytes.len();
            world.inject(CLIENT, SERVER, bytes);
            world.run_for(Duration::from_millis(100));
        }
        world.model.foreign.clear();
        world.network.record = true;
        let mut refused = 0;
        for round in 0..200 {
            let len = world.rng.below(3000) as usize;
            let frame = world.message(len);
            let result = if round % 2 == 0 {
                world.send(SERVER, CLIENT, frame)
            } else {
                world.send_with_ack(SERVER, CLIENT, frame).map(|_| ())
            };
            match result {
                Ok(()) => {}
                Err(SendError::AnswerLimit) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        world.settle(Duration::from_secs(120));
        let answered: usize = world.network.sent.iter().map(|(_, d)| d.bytes.len()).sum();
        println!(
            "{answered} bytes for {received}: {:.2}",
            answered as f64 / received as f64
        );
        assert!(refused > 0, "600 kB were allowed");
        assert!(answered > 0, "nothing was allowed");
        assert!(answered <= 3 * received, "{answered} bytes for {received}");
    });
}

#[test]
fn du17_a_stranger_who_is_silent_gets_nothing() {
    for limit in [AnswerLimit::Times(3), AnswerLimit::SessionsOnly] {
        let mut world = World::new(1);
        world.add(SERVER, server_config(|config| config.answer_limit = limit));
        let sent = world.send(SERVER, STRANGER, Frame::data(""));
        assert_eq!(sent, Err(SendError::AnswerLimit));
        world.inject(STRANGER, SERVER, craft::padded(craft::DATA, 0, &[], 1200));
        world.run_for(Duration::from_millis(1));
        world.model.foreign.clear();
        let sent = world.send(SERVER, STRANGER, Frame::data(""));
        assert_eq!(sent.is_ok(), limit == AnswerLimit::Times(3));
        // What was earned is gone half a minute later.
        world.run_for(Duration::from_secs(31));
        let sent = world.send(SERVER, STRANGER, Frame::data(""));
        assert_eq!(sent, Err(SendError::AnswerLimit));
    }
}

#[test]
fn du25_a_flood_of_hello_opens_no_session_and_disturbs_none() {
    // A million addresses; a debug build has time for fewer.
    let seconds = if cfg!(debug_assertions) { 3 } else { 100 };
    let mut world = World::session(1, &Rules::delay(10));
    world.network.record = true;
    let mut source = 0_u32;
    let mut answers = 0;
    for second in 0..seconds {
        for _ in 0..100 {
            for _ in 0..100 {
                source += 1;
                let [a, b, c, d] = source.to_be_bytes();
                let from = addr([20 + a, b, c, d], 9);
                let hello = craft::padded(craft::HELLO, 0, &[("features", b"bundle")], 1200);
                world.inject(from, SERVER, hello);
            }
            world.run_for(Duration::from_millis(10));
        }
        for (_, datagram) in std::mem::take(&mut world.network.sent) {
            if datagram.to.port() == 9 {
                answers += 1;
                assert!(datagram.bytes.len() <= 1200);
            }
        }
        assert!(
            answers <= 1000 * (second + 2),
            "{answers} answers after {second} s"
        );
        assert_eq!(world.endpoint(SERVER).stats().sessions, 1);
        world.promise(CLIENT, SERVER, 20_000);
        world.promise(SERVER, CLIENT, 20_000);
    }
    assert!(answers > 0, "nobody is ever answered");
    world.network.record = false;
    world.settle(Duration::from_secs(5));
    world.model.assert_all_delivered();
    assert_eq!(world.endpoint(CLIENT).stats().retransmissions, 0);
    world.assert_quiet();
}
