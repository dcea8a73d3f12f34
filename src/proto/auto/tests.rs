//! Measurements on a virtual clock, and made-up ones: when it switches, and that it does not flap.

use super::*;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn start() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do as the first"
    )]
    Instant::now()
}

/// A network on a virtual clock: how long each transport takes to answer at a time; `None`: never.
struct Network<F> {
    switch: AutoSwitch,
    start: Instant,
    now: Instant,
    answers: F,
    on_the_way: Vec<(Instant, Transport, u64)>,
    switched: Vec<(Duration, Transport)>,
}

impl<F: Fn(Duration, Transport) -> Option<Duration>> Network<F> {
    fn new(config: AutoSwitchConfig, answers: F) -> Self {
        let start = start();
        let mut switch = AutoSwitch::new(config, start);
        switch.set_available(start, Transport::Udp, true);
        Self {
            switch,
            start,
            now: start,
            answers,
            on_the_way: Vec::new(),
            switched: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.switch.poll_output() {
            let elapsed = self.now - self.start;
            match output {
                Output::Switched { to, .. } => self.switched.push((elapsed, to)),
                Output::Probe { transport, number } => {
                    if let Some(delay) = (self.answers)(elapsed, transport) {
                        self.on_the_way.push((self.now + delay, transport, number));
                    }
                }
            }
        }
    }

    fn run(&mut self, until: Duration) {
        while self.now - self.start < until {
            let next = self.on_the_way.iter().map(|(at, ..)| *at);
            self.now = next.chain(self.switch.next_timeout()).min().unwrap();
            let now = self.now;
            let due = self.on_the_way.extract_if_due(now);
            for (_, transport, number) in due {
                self.switch.handle_pong(now, transport, number);
            }
            self.switch.handle_timeout(now);
            self.drain();
        }
    }
}

trait ExtractIfDue {
    fn extract_if_due(&mut self, now: Instant) -> Self;
}

impl ExtractIfDue for Vec<(Instant, Transport, u64)> {
    fn extract_if_due(&mut self, now: Instant) -> Self {
        let (due, rest) = self.drain(..).partition(|(at, ..)| *at <= now);
        *self = rest;
        due
    }
}

#[test]
fn it_begins_with_tcp_and_stays_while_both_are_as_good() {
    let mut network = Network::new(AutoSwitchConfig::default(), |_, _| Some(20 * MS));
    network.run(Duration::from_secs(600));
    assert_eq!(network.switched, []);
    assert_eq!(network.switch.choose(1), Transport::Tcp);
}

#[test]
fn a_difference_within_the_margin_changes_nothing() {
    let answers = |_, transport| Some(if transport == Transport::Tcp { 24 } else { 20 } * MS);
    let mut network = Network::new(AutoSwitchConfig::default(), answers);
    network.run(Duration::from_secs(600));
    assert_eq!(network.switched, []);
}

#[test]
fn slow_tcp_then_lost_udp_is_one_switch_each() {
    let answers = |at: Duration, transport| match transport {
        Transport::Tcp => Some(if at.as_secs() < 20 { 20 } else { 200 } * MS),
        Transport::Udp if at.as_secs() < 60 => Some(20 * MS),
        Transport::Udp => None,
    };
    let mut network = Network::new(AutoSwitchConfig::default(), answers);
    network.run(Duration::from_secs(300));
    let [(to_udp, Transport::Udp), (to_tcp, Transport::Tcp)] = network.switched[..] else {
        panic!("{:?}", network.switched);
    };
    assert!((20..30).contains(&to_udp.as_secs()), "{to_udp:?}");
    assert!((60..70).contains(&to_tcp.as_secs()), "{to_tcp:?}");
}

#[test]
fn what_failed_for_a_moment_is_returned_to_after_the_cooldown() {
    let answers = |at: Duration, transport| match transport {
        Transport::Tcp => Some(200 * MS),
        Transport::Udp if (30..35).contains(&at.as_secs()) => None,
        Transport::Udp => Some(20 * MS),
    };
    let config = AutoSwitchConfig::default().failure_threshold(2);
    let mut network = Network::new(config, answers);
    network.run(Duration::from_secs(120));
    let to: Vec<Transport> = network.switched.iter().map(|(_, to)| *to).collect();
    assert_eq!(to, [Transport::Udp, Transport::Tcp, Transport::Udp]);
    let gap = network.switched[2].0 - network.switched[1].0;
    assert!(gap >= Duration::from_secs(10), "{gap:?}");
}

#[test]
fn large_messages_and_missing_udp_take_tcp() {
    let now = start();
    let mut switch = AutoSwitch::new(AutoSwitchConfig::default(), now);
    assert!(!switch.is_working(Transport::Udp));
    switch.set_available(now, Transport::Udp, true);
    for _ in 0..3 {
        switch.handle_failure(now, Transport::Tcp);
    }
    assert_eq!(switch.current(), Transport::Udp);
    assert_eq!(switch.choose(16 * 1024), Transport::Udp);
    assert_eq!(switch.choose(16 * 1024 + 1), Transport::Tcp);
    switch.set_available(now, Transport::Udp, false);
    assert_eq!(
        switch.choose(0),
        Transport::Tcp,
        "at once, whatever the dwell time"
    );
}

#[test]
fn pongs_that_answer_nothing_change_nothing() {
    let now = start();
    let mut switch = AutoSwitch::new(AutoSwitchConfig::default(), now);
    switch.handle_timeout(now);
    let Some(Output::Probe { transport, number }) = switch.poll_output() else {
        panic!("no probe");
    };
    assert_eq!(transport, Transport::Tcp);
    switch.handle_pong(now + MS, Transport::Udp, number);
    switch.handle_pong(now + MS, Transport::Tcp, number + 1);
    assert_eq!(switch.score(Transport::Tcp), None);
    switch.handle_pong(now + 2 * MS, Transport::Tcp, number);
    switch.handle_pong(now + 3 * MS, Transport::Tcp, number);
    assert_eq!(switch.score(Transport::Tcp), Some(2 * MS));
}

#[test]
fn silence_that_this_side_made_is_no_failure() {
    let mut now = start();
    let mut switch = AutoSwitch::new(AutoSwitchConfig::default(), now);
    for _ in 0..10 {
        switch.handle_timeout(now);
        switch.forget_probes();
        now += Duration::from_secs(2);
    }
    assert!(switch.is_working(Transport::Tcp));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let config = AutoSwitchConfig::default;
    let refused = [
        (config().probe_interval(99 * MS), "probe_interval"),
        (config().probe_timeout(Duration::ZERO), "probe_timeout"),
        (config().probe_timeout(2001 * MS), "probe_timeout"),
        (config().failure_threshold(0), "failure_threshold"),
        (config().cooldown(MS), "cooldown"),
    ];
    for (config, setting) in refused {
        assert_eq!(config.check().unwrap_err().0, setting);
    }
}

/// Whatever is reported, in whatever order: no two switches within a dwell time, and within a cooldown
/// only away from what failed.
#[test]
fn no_input_makes_it_flap() {
    for seed in 1..=300_u64 {
        let mut state = seed;
        let mut dice = |end: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        let config = AutoSwitchConfig::default()
            .probe_interval(Duration::from_millis(100 + dice(900)))
            .probe_timeout(Duration::from_millis(1 + dice(100)))
            .failure_threshold(1 + dice(3) as u32)
            .score_margin(dice(50) as u32)
            .dwell_time(Duration::from_millis(dice(3000)))
            .cooldown(Duration::from_millis(3000 + dice(5000)));
        config.check().unwrap();
        let (dwell, cooldown) = (config.dwell_time, config.cooldown);
        let begin = start() + Duration::from_secs(1);
        let (mut now, mut seen) = (begin, begin);
        let mut switch = AutoSwitch::new(config, now);
        let mut probes = Vec::new();
        let mut switched: Vec<(Instant, Transport, bool)> = Vec::new();
        for _ in 0..2000 {
            now += Duration::from_millis(dice(200));
            let transport = if dice(2) == 0 {
                Transport::Tcp
            } else {
                Transport::Udp
            };
            let kind = dice(8);
            // A clock that goes back.
            let at = if kind == 3 {
                now - Duration::from_secs(1)
            } else {
                now
            };
            if kind != 2 {
                seen = at.max(seen);
            }
            match kind {
                0 => switch.set_available(now, Transport::Udp, dice(4) > 0),
                1 => switch.handle_failure(now, transport),
                2 => switch.forget_probes(),
                3..=5 => switch.handle_timeout(at),
                _ => {
                    if let Some((transport, number)) = probes.pop() {
                        switch.handle_pong(now, transport, number);
                    }
                }
            }
            while let Some(output) = switch.poll_output() {
                match output {
                    Output::Probe { transport, number } => probes.push((transport, number)),
                    Output::Switched { to, failed } => switched.push((seen, to, failed)),
                }
            }
        }
        assert_eq!(switched.len() as u64, switch.switches());
        for pair in switched.windows(2) {
            assert_eq!(pair[0].1, pair[1].1.other(), "seed {seed}");
            assert!(pair[1].0 - pair[0].0 >= dwell, "seed {seed}: {pair:?}");
            let is_free = pair[1].2 || pair[1].0 - pair[0].0 >= cooldown;
            assert!(is_free, "seed {seed}: {pair:?}");
        }
    }
}
