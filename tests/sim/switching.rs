//! A client over a stream and over datagrams at once, one of which becomes bad and then the other: the automatic
//! choice follows, once each, and what was acknowledged was handled, once.
//!
//! The datagrams are endpoints on the simulated network. The stream is a line that delays and loses nothing, as
//! TCP looks from above.

use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use vstp::Frame;
use vstp::proto::auto::{AutoSwitch, AutoSwitchConfig, Output, Transport};
use vstp::proto::datagram::{Event, Token};
use vstp::proto::once::{Handled, OnceId};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(5);
/// From here on the stream is slow.
const SLOW: Duration = Duration::from_secs(20);
/// From here on the client gets no datagram, and a moment later the server neither.
const DEAD: Duration = Duration::from_secs(60);
/// Messages end here, and everything else has until `END`.
const LAST: Duration = Duration::from_secs(100);
const END: Duration = Duration::from_secs(180);

/// What is on the stream, there and back.
#[derive(Clone, Copy)]
enum Item {
    Ping(u64),
    Message(u64),
    Pong(u64),
    Ack(u64),
}

/// Both transports of one client, its messages, and the server that handles them.
struct Pair {
    world: World,
    switch: AutoSwitch,
    base: Instant,
    stream: VecDeque<(Duration, Item)>,
    /// Messages on datagrams that are not acknowledged.
    pending: BTreeMap<u64, Token>,
    events_seen: usize,
    handled: Handled,
    handled_count: BTreeMap<u64, u32>,
    /// Messages that reached the server, by whatever they came.
    arrivals: u64,
    acknowledged: BTreeMap<u64, u32>,
    by: BTreeMap<u64, Transport>,
    switched: Vec<(Duration, Transport, bool)>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let rules = Rules {
            jitter: 5 * MS,
            duplicate: 0.05,
            copies: 2,
            duplicate_by: 30 * MS,
            ..Rules::delay(20)
        };
        let mut world = World::session(seed, &rules);
        world.host(SERVER).kept = Some(Vec::new());
        let base = vstp::net::clock::now();
        let mut switch = AutoSwitch::new(AutoSwitchConfig::default(), base);
        switch.set_available(base + world.at(), Transport::Udp, true);
        Self {
            world,
            switch,
            base,
            stream: VecDeque::new(),
            pending: BTreeMap::new(),
            events_seen: 0,
            handled: Handled::default(),
            handled_count: BTreeMap::new(),
            arrivals: 0,
            acknowledged: BTreeMap::new(),
            by: BTreeMap::new(),
            switched: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.base + self.world.at()
    }

    /// Puts something on the stream, behind what is there.
    fn put(&mut self, item: Item) {
        let delay = if self.world.at() < SLOW { 20 } else { 200 } * MS;
        let last = self.stream.back().map_or(Duration::ZERO, |(at, _)| *at);
        self.stream
            .push_back((last.max(self.world.at() + delay), item));
    }

    fn message(number: u64) -> Frame {
        let id = OnceId { session: 1, number };
        id.on(Frame::data(number.to_string()))
    }

    fn send(&mut self, number: u64) {
        let transport = self.switch.choose(100);
        self.by.insert(number, transport);
        if transport == Transport::Udp {
            let sent = self
                .world
                .send_with_ack(CLIENT, SERVER, Self::message(number));
            if let Ok(token) = sent {
                self.pending.insert(number, token);
                return;
            }
        }
        self.put(Item::Message(number));
    }

    fn handle(&mut self, number: u64) {
        self.arrivals += 1;
        if self.handled.note(number) {
            *self.handled_count.entry(number).or_default() += 1;
        }
    }

    /// What the server's application does with what came in datagrams.
    fn serve(&mut self) {
        let kept = self.world.host(SERVER).kept.replace(Vec::new());
        for frame in kept.unwrap_or_default() {
            let id = OnceId::of(frame.headers.as_ref());
            let id = id.ok().flatten().expect("every message has one");
            self.handle(id.number);
        }
    }

    /// What the client's shell does with what its endpoint says.
    fn listen(&mut self) {
        let now = self.now();
        let events = &self.world.host(CLIENT).events[self.events_seen..];
        self.events_seen += events.len();
        let mut over_stream = Vec::new();
        for (_, event) in events {
            match event {
                Event::Pong { number, .. } => {
                    self.switch.handle_pong(now, Transport::Udp, *number);
                }
                Event::Delivered(token) => {
                    let number = self.pending.iter().find(|(_, t)| *t == token);
                    let number = *number.expect("it is pending").0;
                    self.pending.remove(&number);
                    *self.acknowledged.entry(number).or_default() += 1;
                }
                Event::Failed(token, _) => {
                    let number = self.pending.iter().find(|(_, t)| *t == token);
                    over_stream.push(*number.expect("it is pending").0);
                    self.switch.handle_failure(now, Transport::Udp);
                }
                Event::Closed { .. } => self.switch.set_available(now, Transport::Udp, false),
                _ => {}
            }
        }
        for number in over_stream {
            self.pending.remove(&number);
            self.put(Item::Message(number));
        }
    }

    fn read_stream(&mut self) {
        while let Some((at, item)) = self.stream.front().copied() {
            if at > self.world.at() {
                break;
            }
            self.stream.pop_front();
            match item {
                Item::Ping(number) => self.put(Item::Pong(number)),
                Item::Pong(number) => {
                    let now = self.now();
                    self.switch.handle_pong(now, Transport::Tcp, number);
                }
                Item::Message(number) => {
                    self.handle(number);
                    self.put(Item::Ack(number));
                }
                Item::Ack(number) => *self.acknowledged.entry(number).or_default() += 1,
            }
        }
    }

    fn choose(&mut self) {
        let now = self.now();
        self.switch.handle_timeout(now);
        while let Some(output) = self.switch.poll_output() {
            match output {
                Output::Probe {
                    transport: Transport::Tcp,
                    number,
                } => self.put(Item::Ping(number)),
                Output::Probe { number, .. } => {
                    self.world.ping(CLIENT, SERVER, number);
                }
                Output::Switched { to, failed } => {
                    self.switched.push((self.world.at(), to, failed));
                }
            }
        }
    }

    fn tick(&mut self) {
        self.world.run_for(TICK);
        self.serve();
        self.listen();
        self.read_stream();
        self.choose();
    }
}

#[test]
fn a_slow_stream_then_lost_datagrams_are_one_switch_each_and_no_acknowledged_message_is_lost() {
    seeds(3, |seed| {
        let mut pair = Pair::new(seed);
        let (mut next_at, mut count) = (pair.world.at(), 0);
        while pair.world.at() < END {
            let at = pair.world.at();
            if at >= DEAD {
                pair.world.network.rules(SERVER, CLIENT, Rules::dead());
            }
            if at >= DEAD + 300 * MS {
                pair.world.network.rules(CLIENT, SERVER, Rules::dead());
            }
            if at >= next_at && next_at < LAST {
                pair.send(count);
                count += 1;
                next_at += 50 * MS;
            }
            pair.tick();
        }
        let [
            (to_udp, Transport::Udp, false),
            (to_tcp, Transport::Tcp, true),
        ] = pair.switched[..]
        else {
            panic!("{:?}", pair.switched);
        };
        assert!(to_udp > SLOW && to_udp < SLOW + 15 * SECOND, "{to_udp:?}");
        assert!(to_tcp > DEAD && to_tcp < DEAD + 15 * SECOND, "{to_tcp:?}");
        assert!(count > 1900, "{count} messages");
        let by_udp = pair.by.values().filter(|by| **by == Transport::Udp);
        assert!(by_udp.count() > 500, "it was used");
        assert!(pair.arrivals > count, "some came by both, unacknowledged");
        for number in 0..count {
            assert_eq!(pair.handled_count.get(&number), Some(&1), "{number}");
            assert_eq!(pair.acknowledged.get(&number), Some(&1), "{number}");
        }
        assert!(pair.pending.is_empty());
    });
}
