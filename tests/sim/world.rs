//! Endpoints at addresses, driven over the simulated network until nothing is left to do.
//!
//! One way to drive them: a datagram or a timer goes in, then everything that comes out is taken,
//! then the clock jumps to whatever is next. Every datagram out is measured, every event goes to the
//! model, and a run that stops making progress fails instead of hanging.

use crate::craft;
use crate::keys::{self, Hand, Used};
use crate::model::Model;
use crate::network::{Datagram, Network, Rules};
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use vstp::proto::datagram::{
    AnswerLimit, Applicant, Endpoint, EndpointConfig, Event, Failure, SendError, Token,
};
use vstp::{Frame, FrameType};

/// HELLO has this length whatever the limit of the datagrams is.
const HELLO_LEN: usize = 1200;
/// So many datagrams and timers without the clock moving are a livelock.
const MAX_STEPS_AT_ONCE: u64 = 200_000;

pub(crate) const SERVER: SocketAddr = addr([192, 0, 2, 1], 6969);
pub(crate) const CLIENT: SocketAddr = addr([10, 0, 0, 1], 4001);
pub(crate) const STRANGER: SocketAddr = addr([203, 0, 113, 9], 666);

pub(crate) const fn addr(ip: [u8; 4], port: u16) -> SocketAddr {
    let [a, b, c, d] = ip;
    SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)),
        port,
    )
}

/// A client of many.
pub(crate) fn client(index: usize) -> SocketAddr {
    addr([10, 1, (index >> 8) as u8, index as u8], 4000)
}

/// The configuration of a client, changed.
pub(crate) fn client_config(change: impl FnOnce(&mut EndpointConfig)) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    change(&mut config);
    config
}

/// The configuration of a server, changed.
pub(crate) fn server_config(change: impl FnOnce(&mut EndpointConfig)) -> EndpointConfig {
    client_config(|config| {
        config.accept_sessions = true;
        config.answer_limit = AnswerLimit::Times(3);
        change(config);
    })
}

pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    /// Whether the application takes messages.
    pub(crate) room: bool,
    /// Timers go off up to so much late: a loaded machine.
    pub(crate) lateness: Duration,
    /// The clock that is shown to arriving datagrams is up to so much behind: another thread's.
    pub(crate) behind: Duration,
    /// Everything but messages, with its time since the start.
    pub(crate) events: Vec<(Duration, Event)>,
    /// Messages: when, from whom, in which session.
    pub(crate) heard: Vec<(Duration, SocketAddr, Option<u128>)>,
    /// The messages themselves, where a test wants them.
    pub(crate) kept: Option<Vec<Frame>>,
    max_datagram_len: usize,
    /// The timeout that the endpoint named, and when it is going to be called.
    due: Option<(Instant, Instant)>,
    life: u32,
}

impl Host {
    /// The number of the session with `peer`.
    pub(crate) fn session(&self, peer: SocketAddr) -> Option<u128> {
        self.endpoint.session(peer).map(|(number, _)| number)
    }

    /// Why and when the session with `peer` ended.
    pub(crate) fn closed(&self, peer: SocketAddr) -> Option<(Duration, Failure)> {
        self.events
            .iter()
            .rev()
            .find_map(|(at, event)| match event {
                Event::Closed { peer: p, by } if *p == peer => Some((*at, *by)),
                _ => None,
            })
    }
}

pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) model: Model,
    pub(crate) rng: Rng,
    start: Instant,
    now: Instant,
    hosts: BTreeMap<SocketAddr, Host>,
    steps_at_once: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let start = vstp::net::clock::now();
        Self {
            network: Network::new(seed, start),
            model: Model::default(),
            rng: Rng::new(seed),
            start,
            now: start,
            hosts: BTreeMap::new(),
            steps_at_once: 0,
        }
    }

    /// A server and a client whose settings are changed alike.
    pub(crate) fn changed(seed: u64, change: impl Fn(&mut EndpointConfig)) -> Self {
        let mut world = Self::new(seed);
        world.add(SERVER, server_config(&change));
        world.add(CLIENT, client_config(&change));
        world
    }

    /// The same with patience: nobody gives up because of bad luck. On a line that loses 30 % each way
    /// one message in 60 is not acknowledged within the six attempts that half a minute has; here it
    /// has thirty. (More time would not do: the receiver gives up a set after half a minute.)
    pub(crate) fn patient(seed: u64) -> Self {
        Self::changed(seed, |config| {
            config.max_retries = 600;
            config.max_retry_delay = Duration::from_secs(1);
            config.delivery_timeout = Duration::from_secs(600);
            config.ping_interval = Duration::from_secs(120);
        })
    }

    /// A server and a client without a session, with the same rules both ways.
    pub(crate) fn pair(seed: u64, rules: &Rules) -> Self {
        let mut world = Self::changed(seed, |_| ());
        world.network.both(CLIENT, SERVER, rules);
        world
    }

    /// A server and a client with a session; the rules begin after it was established.
    pub(crate) fn session(seed: u64, rules: &Rules) -> Self {
        let mut world = Self::pair(seed, &Rules::delay(10));
        world.establish(CLIENT, SERVER);
        world.network.both(CLIENT, SERVER, rules);
        world
    }

    pub(crate) fn add(&mut self, at: SocketAddr, config: EndpointConfig) {
        let life = self.hosts.get(&at).map_or(0, |host| host.life + 1);
        let host = Host {
            max_datagram_len: config.max_datagram_len,
            endpoint: Endpoint::new(config, self.rng.secret(), self.now),
            room: true,
            lateness: Duration::ZERO,
            behind: Duration::ZERO,
            events: Vec::new(),
            heard: Vec::new(),
            kept: None,
            due: None,
            life,
        };
        self.hosts.insert(at, host);
    }

    /// The process at this address dies and another one begins.
    pub(crate) fn restart(&mut self, at: SocketAddr, config: EndpointConfig) {
        self.model.forget(at);
        self.add(at, config);
    }

    pub(crate) fn host(&mut self, at: SocketAddr) -> &mut Host {
        self.hosts.get_mut(&at).expect("the test added this host")
    }

    pub(crate) fn endpoint(&mut self, at: SocketAddr) -> &mut Endpoint {
        &mut self.host(at).endpoint
    }

    /// Time since the start.
    pub(crate) fn at(&self) -> Duration {
        self.now.duration_since(self.start)
    }

    // ---- what applications do

    pub(crate) fn connect(&mut self, from: SocketAddr, to: SocketAddr) {
        let now = self.now;
        let begun = self.endpoint(from).connect(now, to);
        begun.expect("nothing is connected to there");
        self.drain(from);
    }

    /// Connects and waits for both sides.
    #[track_caller]
    pub(crate) fn establish(&mut self, from: SocketAddr, to: SocketAddr) {
        let earlier = self.host(from).session(to);
        self.connect(from, to);
        let done = self.run_while(Duration::from_secs(20), |world| {
            world.host(from).session(to) == earlier
        });
        assert!(done, "no session: {:?}", self.host(from).events);
    }

    /// Gives both ends keys and lets `from` open a sealed session; what each of them seals.
    pub(crate) fn connect_sealed(&mut self, from: SocketAddr, to: SocketAddr) -> [Used; 2] {
        self.connect_by_hand(from, to).0
    }

    /// The same, and the server's keys.
    pub(crate) fn connect_by_hand(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
    ) -> ([Used; 2], Hand) {
        let session = u128::from(self.rng.next());
        let pair = keys::pair(&mut self.rng, session);
        assert!(
            self.endpoint(to).offer_sealed(pair.server),
            "the id is free"
        );
        let now = self.now;
        let begun = self.endpoint(from).connect_sealed(now, to, pair.client);
        begun.expect("nothing is connected to there");
        self.drain(from);
        (pair.used, pair.hand)
    }

    /// A server and a client with a sealed session, and nothing else allowed.
    #[track_caller]
    pub(crate) fn sealed(seed: u64, rules: &Rules) -> (Self, [Used; 2]) {
        let mut world = Self::changed(seed, |config| config.sealed_only = true);
        world.network.both(CLIENT, SERVER, &Rules::delay(10));
        let used = world.connect_sealed(CLIENT, SERVER);
        world.run_for(Duration::from_secs(1));
        assert!(world.host(CLIENT).session(SERVER).is_some());
        assert!(world.host(SERVER).session(CLIENT).is_some());
        world.network.both(CLIENT, SERVER, rules);
        (world, used)
    }

    /// The server's TLS session with this client is over.
    pub(crate) fn end_sealed(&mut self, at: SocketAddr, id: [u8; 8]) {
        let now = self.now;
        self.endpoint(at).end_sealed(now, id);
        self.drain(at);
    }

    /// The server has decided for this client; the number of its session, if it got one.
    pub(crate) fn admit(&mut self, at: SocketAddr, client: Applicant) -> Option<u128> {
        let now = self.now;
        let session = self.endpoint(at).admit(now, client);
        self.drain(at);
        session
    }

    pub(crate) fn close(&mut self, from: SocketAddr, to: SocketAddr) {
        let now = self.now;
        self.endpoint(from).close(now, to);
        self.drain(from);
    }

    /// A message of random type, header and content.
    pub(crate) fn message(&mut self, len: usize) -> Frame {
        let typ = match self.rng.below(4) {
            0 => FrameType::Custom(self.rng.between(0x10, 0xff) as u8),
            _ => FrameType::Data,
        };
        let mut frame = Frame::new(typ).with_payload(self.rng.bytes(len));
        for _ in 0..self.rng.below(3) {
            let (key, value) = (self.rng.below(6) as usize, self.rng.below(12) as usize);
            // A first byte that no key of the protocol or of the model has.
            let key = [vec![0xff], self.rng.bytes(key)].concat();
            frame = frame.with_header(key, self.rng.bytes(value));
        }
        frame
    }

    pub(crate) fn send(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        frame: Frame,
    ) -> Result<(), SendError> {
        let (frame, now) = (self.model.number(frame), self.now);
        self.endpoint(from).send(now, to, frame.as_ref())?;
        self.model.sent(from, to, frame, None);
        self.drain(from);
        Ok(())
    }

    pub(crate) fn send_with_ack(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        frame: Frame,
    ) -> Result<Token, SendError> {
        let (frame, now) = (self.model.number(frame), self.now);
        let token = self.endpoint(from).send_with_ack(now, to, frame.clone())?;
        self.model.sent(from, to, frame, Some(token));
        self.drain(from);
        Ok(token)
    }

    /// Sends with acknowledgement a message of `len` bytes that must be accepted.
    #[track_caller]
    pub(crate) fn promise(&mut self, from: SocketAddr, to: SocketAddr, len: usize) -> Token {
        let frame = self.message(len);
        self.send_with_ack(from, to, frame)
            .expect("the endpoint takes the message")
    }

    /// Sends PING in a session; whether there is one.
    pub(crate) fn ping(&mut self, from: SocketAddr, to: SocketAddr, number: u64) -> bool {
        let now = self.now;
        let is_sent = self.endpoint(from).ping(now, to, number);
        self.drain(from);
        is_sent
    }

    /// Puts a datagram in front of `to`, now.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.network.inject(self.now, from, to, bytes);
    }

    /// The same, and lets it arrive; everything that endpoints sent because of it.
    pub(crate) fn probe(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) -> Vec<Datagram> {
        let (recorded, was) = (self.network.sent.len(), self.network.record);
        self.network.record = true;
        self.inject(from, to, bytes);
        self.run_for(Duration::ZERO);
        self.network.record = was;
        let sent = self.network.sent.split_off(recorded);
        sent.into_iter().map(|(_, datagram)| datagram).collect()
    }

    // ---- the clock

    /// Takes everything that the endpoint has to say.
    fn drain(&mut self, at: SocketAddr) {
        let (now, since) = (self.now, self.at());
        let host = self.hosts.get_mut(&at).expect("the host exists");
        let mut out = Vec::new();
        let max_segments = self.rng.between(1, 16) as usize;
        let mut sent = 0_u64;
        while let Some(transmit) = host.endpoint.poll_transmit(now, max_segments, &mut out) {
            sent += 1;
            assert!(sent < MAX_STEPS_AT_ONCE, "{at} sends without end");
            assert!(
                !out.is_empty() && transmit.segment_len > 0,
                "nothing to send"
            );
            let segments = out.chunks(transmit.segment_len);
            assert!(
                segments.len() <= max_segments,
                "more segments than asked for"
            );
            for segment in segments {
                let bytes = segment.to_vec();
                let fits = bytes.len() <= host.max_datagram_len
                    || bytes.len() == HELLO_LEN && craft::has(&bytes, craft::HELLO);
                assert!(fits, "a datagram of {} bytes", bytes.len());
                let (from, to) = (at, transmit.to);
                self.network.send(now, Datagram { from, to, bytes });
            }
            out.clear();
        }
        while let Some(event) = host.endpoint.poll_event() {
            match event {
                Event::Message {
                    from,
                    session,
                    frame,
                } => {
                    assert!(host.room, "a message without room for it");
                    host.heard.push((since, from, session));
                    if let Some(kept) = &mut host.kept {
                        kept.push(frame.clone());
                    }
                    self.model.got(since, at, host.life, from, frame);
                    continue;
                }
                Event::Delivered(token) => self.model.delivered(since, at, token),
                Event::Failed(token, why) => {
                    self.model.failed(since, at, token, why);
                }
                _ => {}
            }
            host.events.push((since, event));
        }
        let next = host.endpoint.next_timeout();
        if host.due.map(|(named, _)| named) != next {
            let late = self.rng.up_to(host.lateness);
            host.due = next.map(|named| (named, named.checked_add(late).unwrap_or(named)));
        }
    }

    fn next_timer(&self) -> Option<(Instant, SocketAddr)> {
        let due = |(at, host): (&SocketAddr, &Host)| host.due.map(|(_, due)| (due, *at));
        self.hosts.iter().filter_map(due).min()
    }

    /// One datagram or one timer, unless the next is after `end`.
    fn step(&mut self, end: Instant) -> bool {
        let timer = self.next_timer();
        let arrival = self.network.next_at();
        let Some(next) = timer.map(|(at, _)| at).into_iter().chain(arrival).min() else {
            return false;
        };
        if next > end {
            return false;
        }
        if next > self.now {
            self.now = next;
            self.steps_at_once = 0;
        }
        self.steps_at_once += 1;
        assert!(
            self.steps_at_once < MAX_STEPS_AT_ONCE,
            "the clock stands still at {:?}",
            self.at()
        );
        if let Some(datagram) = self.network.arrived(self.now) {
            if let Some(host) = self.hosts.get_mut(&datagram.to) {
                let (from, bytes) = (datagram.from, &datagram.bytes);
                let now = self.now - self.rng.up_to(host.behind);
                host.endpoint.handle_datagram(now, from, bytes, host.room);
                self.drain(datagram.to);
            }
        } else if let Some((_, at)) = timer {
            self.host(at).due = None;
            let now = self.now;
            self.endpoint(at).handle_timeout(now);
            self.drain(at);
        }
        true
    }

    /// Runs for so long.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    pub(crate) fn run_until(&mut self, at: Duration) {
        self.run_for(at.saturating_sub(self.at()));
    }

    /// Runs while the condition holds, at most for `limit`; whether it ceased to hold.
    pub(crate) fn run_while(
        &mut self,
        limit: Duration,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let end = self.now + limit;
        loop {
            if !holds(self) {
                return true;
            }
            if !self.step(end) {
                self.now = end;
                return !holds(self);
            }
        }
    }

    /// Everything stands still for so long: a machine that is suspended. Datagrams that would have
    /// arrived in the meantime arrive all at once afterwards.
    pub(crate) fn freeze(&mut self, time: Duration) {
        self.now += time;
    }

    /// Runs until nothing is pending.
    #[track_caller]
    pub(crate) fn settle(&mut self, limit: Duration) {
        let done = self.run_while(limit, |world| world.model.pending_count() > 0);
        let pending = self.model.pending_count();
        assert!(done, "{pending} messages are still pending after {limit:?}");
    }

    /// Everything goes quiet: an idle network carries keep-alives alone, and closed sessions leave
    /// nothing behind.
    #[track_caller]
    pub(crate) fn assert_quiet(&mut self) {
        assert_eq!(self.model.pending_count(), 0, "messages are pending");
        assert_eq!(
            self.model.foreign,
            vec![],
            "messages that the test did not ask for"
        );
        // Late copies, and sets whose sender has given up, have 30 s each.
        self.run_for(Duration::from_secs(90));
        for (at, host) in &self.hosts {
            assert_eq!(host.endpoint.reassembly_set_count(), 0, "{at} keeps a set");
        }
        // At most: PING every 15 s from both sides, each answered, again for each copy that the
        // network makes.
        let sessions = |world: &Self| -> usize {
            let all = world.hosts.values();
            all.map(|host| host.endpoint.stats().sessions).sum()
        };
        let (before, most) = (self.network.sent_count, sessions(self) as u64 * 2 * 10);
        self.run_for(Duration::from_secs(60));
        let sent = self.network.sent_count - before;
        assert!(
            sent <= most,
            "{sent} datagrams in an idle minute, {most} at most"
        );
        let all = self.hosts.iter();
        let open = all.flat_map(|(at, host)| {
            let peers = host.endpoint.session_addrs();
            peers.into_iter().map(|peer| (*at, peer))
        });
        for (from, to) in open.collect::<Vec<_>>() {
            self.close(from, to);
        }
        self.run_for(Duration::from_secs(120));
        for (at, host) in &self.hosts {
            assert_eq!(host.endpoint.stats().sessions, 0, "{at} keeps a session");
        }
        let before = self.network.sent_count;
        self.run_for(Duration::from_secs(300));
        assert_eq!(self.network.sent_count, before, "somebody still sends");
        assert_eq!(self.network.in_flight_count(), 0);
        for (at, host) in &self.hosts {
            assert_eq!(
                host.endpoint.next_timeout(),
                None,
                "{at} still waits for something"
            );
        }
    }
}
