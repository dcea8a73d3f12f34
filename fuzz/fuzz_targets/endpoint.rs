//! Whatever datagrams come from whom, an endpoint never panics, holds its budgets, sends strangers no
//! more than they sent, and becomes quiet.
//!
//! The input is a list of datagrams: a byte for who sends it and how much later, two for its length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use vstp::Frame;
use vstp::proto::datagram::{Endpoint, EndpointConfig, Event};

/// Rounds of timers in which everything must have ended: an endpoint that goes on has a timer that does not end.
const MAX_TIMERS: usize = 10_000;

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let mut config = EndpointConfig::default();
    config.accept_sessions = true;
    let (sets, budget) = (config.max_reassembly_sessions, config.total_budget_len);
    let mut endpoint = Endpoint::new(config, [7; 32], now);
    // Something of its own is under way, so that acknowledgements have something to hit.
    let friend = addr(0);
    let _ = endpoint.send_with_ack(now, friend, Frame::data(vec![1; 5_000]));
    let mut received = HashMap::<SocketAddr, usize>::new();
    let mut sent = HashMap::<SocketAddr, usize>::new();
    let mut rest = input;
    while let [who, high, low, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (datagram, tail) = tail.split_at(len);
        rest = tail;
        let from = addr(who & 7);
        now += Duration::from_millis(u64::from(who >> 3) * 40);
        *received.entry(from).or_default() += len;
        endpoint.handle_timeout(now);
        endpoint.handle_datagram(now, from, datagram, who & 8 == 0);
        pump(&mut endpoint, now, &mut sent);
        let stats = endpoint.stats();
        assert!(stats.reassembly_sets <= sets && stats.reassembly_len <= budget);
    }
    for (to, len) in &sent {
        let heard = received.get(to).copied().unwrap_or(0);
        let is_stranger = endpoint.session(*to).is_none() && *to != friend;
        assert!(
            !is_stranger || *len <= heard,
            "{len} bytes for {heard} to {to}"
        );
    }
    for _ in 0..MAX_TIMERS {
        let Some(at) = endpoint.next_timeout() else {
            return;
        };
        now = now.max(at);
        endpoint.handle_timeout(now);
        pump(&mut endpoint, now, &mut sent);
    }
    panic!("its timers do not end: {:?}", endpoint.stats());
});

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 7000))
}

fn pump(endpoint: &mut Endpoint, now: Instant, sent: &mut HashMap<SocketAddr, usize>) {
    let mut out = Vec::new();
    while let Some(transmit) = endpoint.poll_transmit(now, 8, &mut out) {
        assert!(!out.is_empty() && transmit.segment_len > 0);
        *sent.entry(transmit.to).or_default() += out.len();
    }
    while let Some(event) = endpoint.poll_event() {
        if let Event::Message { frame, .. } = event {
            assert!(frame.typ.is_message());
        }
    }
}
