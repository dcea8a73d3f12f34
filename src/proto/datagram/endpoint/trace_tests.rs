//! The events of an exchange with one loss, on a virtual clock: all of them, and the same every time.

use super::super::traced::{LossRule, TraceEvent, TraceItem, Traced};
use super::*;
use crate::net::clock;

const MS: Duration = Duration::from_millis(1);

struct Run {
    now: Instant,
    client: Endpoint,
    server: Endpoint,
    addrs: [SocketAddr; 2],
    /// Datagrams on their way: when they arrive, and whether at the server.
    path: VecDeque<(Instant, bool, Vec<u8>)>,
    sent: u64,
    lose: Option<u64>,
}

impl Run {
    fn new(max_trace_count: usize) -> Self {
        let now = clock::now();
        let config = EndpointConfig {
            max_trace_count,
            ..EndpointConfig::default()
        };
        let server = EndpointConfig {
            accept_sessions: true,
            ..EndpointConfig::default()
        };
        let addr = |text: &str| text.parse().expect("an address");
        Self {
            now,
            client: Endpoint::new(config, [2; 32], now),
            server: Endpoint::new(server, [1; 32], now),
            addrs: [addr("10.0.0.1:6969"), addr("10.0.0.2:5000")],
            path: VecDeque::new(),
            sent: 0,
            lose: None,
        }
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        while let Some(transmit) = self.client.poll_transmit(self.now, 64, &mut out) {
            for datagram in out.chunks(transmit.segment_len) {
                self.sent += 1;
                if self.lose != Some(self.sent) {
                    let arrives = self.now + MS;
                    self.path.push_back((arrives, true, datagram.to_vec()));
                }
            }
        }
        while let Some(transmit) = self.server.poll_transmit(self.now, 64, &mut out) {
            for datagram in out.chunks(transmit.segment_len) {
                let arrives = self.now + MS;
                self.path.push_back((arrives, false, datagram.to_vec()));
            }
        }
        while self.client.poll_event().is_some() || self.server.poll_event().is_some() {}
    }

    fn until(&mut self, until: Instant) {
        loop {
            self.drain();
            let timers = [self.client.next_timeout(), self.server.next_timeout()];
            let arrival = self.path.front().map(|(at, ..)| *at);
            let next = timers.into_iter().flatten().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            while self.path.front().is_some_and(|(at, ..)| *at <= self.now) {
                let Some((_, to_server, datagram)) = self.path.pop_front() else {
                    break;
                };
                if to_server {
                    let from = self.addrs[1];
                    self.server.handle_datagram(self.now, from, &datagram, true);
                } else {
                    let from = self.addrs[0];
                    self.client.handle_datagram(self.now, from, &datagram, true);
                }
            }
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
    }

    fn connected(max_trace_count: usize) -> Self {
        let mut run = Self::new(max_trace_count);
        let (now, server) = (run.now, run.addrs[0]);
        run.client.connect(now, server).expect("there is none");
        run.until(now + 50 * MS);
        assert!(run.client.session(server).is_some());
        run
    }

    fn taken(&mut self) -> (Vec<Traced>, u64) {
        let mut events = Vec::new();
        let lost = self.client.take_trace(&mut events);
        (events, lost)
    }

    /// Ten messages, 100 ms apart from what was before; the third datagram of them is lost.
    fn ten_messages(&mut self) -> Vec<Traced> {
        self.taken();
        let (now, server) = (self.now, self.addrs[0]);
        self.lose = Some(self.sent + 3);
        for n in 0..10 {
            let frame = Frame::data(vec![n; 1000]);
            let sent = self.client.send_with_ack(now, server, frame);
            sent.expect("it can be sent");
        }
        self.until(now + 500 * MS);
        assert_eq!(self.client.pending_count(), 0);
        let (events, lost) = self.taken();
        assert_eq!(lost, 0);
        events
    }
}

#[test]
fn one_loss_is_told_from_the_first_sending_to_the_acknowledgement() {
    let mut run = Run::connected(1000);
    let first = run.client.next_msg_id;
    let began = run.now;
    let events = run.ten_messages();
    let third = TraceItem::Message { msg_id: first + 2 };
    let of_third: Vec<(Duration, String)> = events
        .iter()
        .filter_map(|traced| {
            let what = match traced.event {
                TraceEvent::FrameSent(frame) if frame.msg_id == Some(first + 2) => {
                    assert_eq!(frame.typ, FrameType::Data);
                    format!("sent {}", frame.len)
                }
                TraceEvent::Lost { item, len, rule } if item == third => {
                    assert_eq!(rule, LossRule::Reorder);
                    format!("lost {len}")
                }
                TraceEvent::Retransmitted { item } if item == third => "again".to_owned(),
                TraceEvent::FrameReceived(frame) if frame.msg_id == Some(first + 2) => {
                    assert_eq!(frame.typ, FrameType::Ack);
                    "ACK".to_owned()
                }
                TraceEvent::MessageAcked { msg_id } if msg_id == first + 2 => "acked".to_owned(),
                _ => return None,
            };
            assert_eq!(traced.peer, run.addrs[0]);
            Some((traced.at - began, what))
        })
        .collect();
    let len = of_third[0].1.clone();
    let lost = len.replace("sent", "lost");
    let story = [
        (Duration::ZERO, len.as_str()),
        (2 * MS, &lost),
        (2 * MS, "again"),
        (2 * MS, &len),
        (4 * MS, "ACK"),
        (4 * MS, "acked"),
    ];
    let told: Vec<(Duration, &str)> = of_third.iter().map(|(at, w)| (*at, w.as_str())).collect();
    assert_eq!(told, story);

    let count = |is: fn(&TraceEvent) -> bool| events.iter().filter(|e| is(&e.event)).count();
    assert_eq!(count(|e| matches!(e, TraceEvent::Lost { .. })), 1);
    assert_eq!(count(|e| matches!(e, TraceEvent::Retransmitted { .. })), 1);
    assert_eq!(count(|e| matches!(e, TraceEvent::MessageAcked { .. })), 10);
    assert_eq!(count(|e| matches!(e, TraceEvent::TimedOut { .. })), 0);
    let acks = count(|e| matches!(e, TraceEvent::FrameReceived(f) if f.typ == FrameType::Ack));
    assert_eq!(
        acks, 2,
        "one for the nine that arrived together, one for the third"
    );
    let round_trip = TraceEvent::RoundTrip {
        latest: 2 * MS,
        smoothed: 2 * MS,
    };
    assert!(events.iter().any(|e| e.event == round_trip));
    let started = TraceEvent::CongestionState {
        old: None,
        new: "startup",
    };
    assert!(events.iter().any(|e| e.event == started));
    assert!(events.is_sorted_by_key(|traced| traced.at));
}

#[test]
fn the_same_exchange_gives_the_same_events() {
    let relative = |run: &mut Run| -> Vec<(Duration, TraceEvent)> {
        let began = run.now;
        let events = run.ten_messages();
        events.iter().map(|e| (e.at - began, e.event)).collect()
    };
    let once = relative(&mut Run::connected(1000));
    assert_eq!(once, relative(&mut Run::connected(1000)));
    let frames = |is: fn(&TraceEvent) -> bool| once.iter().filter(|(_, e)| is(e)).count();
    // One of the ten twice, and acknowledgements of several.
    assert_eq!(frames(|e| matches!(e, TraceEvent::FrameSent(_))), 11);
    assert_eq!(frames(|e| matches!(e, TraceEvent::FrameReceived(_))), 2);
}

#[test]
fn a_path_that_is_gone_shows_timeouts_as_they_are_counted() {
    let mut run = Run::connected(1000);
    run.ten_messages();
    let (now, server) = (run.now, run.addrs[0]);
    let sent = run.client.send_with_ack(now, server, Frame::data("x"));
    sent.expect("it can be sent");
    let mut out = Vec::new();
    while run.now < now + 5000 * MS {
        while run.client.poll_transmit(run.now, 64, &mut out).is_some() {}
        let next = run.client.next_timeout().expect("it waits");
        run.now = run.now.max(next);
        run.client.handle_timeout(run.now);
    }
    while run.client.poll_transmit(run.now, 64, &mut out).is_some() {}
    let (events, _) = run.taken();
    let count = |is: fn(&TraceEvent) -> bool| events.iter().filter(|e| is(&e.event)).count() as u64;
    let stats = run.client.stats();
    assert!(stats.timeouts >= 3);
    assert_eq!(
        count(|e| matches!(e, TraceEvent::TimedOut { .. })),
        stats.timeouts
    );
    // One was of the messages before.
    let again = count(|e| matches!(e, TraceEvent::Retransmitted { .. }));
    assert_eq!(again, stats.retransmissions - 1);
    assert_eq!(count(|e| matches!(e, TraceEvent::Probed { .. })), 1);
    let by_timeout =
        |e: &TraceEvent| matches!(e, TraceEvent::Lost { rule, .. } if *rule == LossRule::Timeout);
    assert!(count(by_timeout) >= 3);
}

#[test]
fn what_is_off_collects_nothing_and_what_is_full_counts() {
    let mut off = Run::connected(0);
    assert!(off.ten_messages().is_empty());

    let mut run = Run::connected(5);
    let (events, lost) = run.taken();
    let (now, server) = (run.now, run.addrs[0]);
    for _ in 0..10 {
        let sent = run.client.send_with_ack(now, server, Frame::data("x"));
        sent.expect("it can be sent");
    }
    run.until(now + 500 * MS);
    assert_eq!(run.client.pending_count(), 0, "it goes on all the same");
    let (more, more_lost) = run.taken();
    assert_eq!(more.len(), 5);
    assert!(events.len() <= 5);
    let mut all = Run::connected(1000);
    all.taken();
    let (now, server) = (all.now, all.addrs[0]);
    for _ in 0..10 {
        let sent = all.client.send_with_ack(now, server, Frame::data("x"));
        sent.expect("it can be sent");
    }
    all.until(now + 500 * MS);
    let (all, none) = all.taken();
    assert_eq!(
        (5 + more_lost, none),
        (all.len() as u64, 0),
        "{lost} before"
    );
}
