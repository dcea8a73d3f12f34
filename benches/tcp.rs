//! Connections beside bare sockets: round trips and one-way streams, in plaintext and over TLS.
//!
//!     cargo bench --bench tcp [-- --quick] [-- --only roundtrip|plain|tls|many|metrics]
//!
//! Client and receiver are two threads of this process, over loopback. Each line compares contestants
//! that took turns, round by round, and prints medians; the first one is the baseline.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark measures time, and a failure ends it"
)]

mod common;
mod tcp_peers;

use common::median;
use std::env;
use std::time::Duration;
use tcp_peers as peers;
use vstp::net::Meter;

/// One contestant: does its work once and says how long it took, in seconds.
type Work<'a> = (&'static str, Box<dyn FnMut() -> f64 + 'a>);

fn main() {
    let args: Vec<String> = env::args().collect();
    if args.iter().any(|arg| arg == "--help") {
        println!(
            "tcp: this crate beside bare sockets\n\n  --quick        a smoke run, whose numbers mean nothing\n  --only GROUP   roundtrip, plain, tls, many or metrics"
        );
        return;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let only = args
        .iter()
        .position(|arg| arg == "--only")
        .and_then(|at| args.get(at + 1));
    let wanted = |group: &str| only.is_none_or(|only| only == group);
    let rounds = if quick { 1 } else { 7 };
    let scale = if quick { 100 } else { 1 };

    if wanted("roundtrip") {
        let n = 20_000 / scale;
        let spin = Duration::from_micros(50);
        race(
            "round trip 64 B, plaintext",
            n,
            0,
            rounds,
            vec![
                (
                    "raw",
                    Box::new(|| peers::raw_round_trips(n, Duration::ZERO)),
                ),
                (
                    "vstp",
                    Box::new(|| peers::vstp_round_trips(n, false, Duration::ZERO)),
                ),
                ("raw, polling", Box::new(|| peers::raw_round_trips(n, spin))),
                (
                    "vstp, spin 50 us",
                    Box::new(|| peers::vstp_round_trips(n, false, spin)),
                ),
            ],
        );
        race(
            "round trip 64 B, TLS",
            n,
            0,
            rounds,
            vec![
                ("StreamOwned", Box::new(|| peers::tls_round_trips(n))),
                (
                    "vstp",
                    Box::new(|| peers::vstp_round_trips(n, true, Duration::ZERO)),
                ),
            ],
        );
    }
    for (len, n) in [(1 << 10, 400_000), (64 << 10, 12_000), (1 << 20, 800)] {
        let n = (n / scale).max(2);
        if wanted("plain") {
            race(
                "one way, plaintext, batched",
                n,
                len,
                rounds,
                vec![
                    (
                        "raw-crc",
                        Box::new(|| peers::raw_one_way(len, n, true, true)),
                    ),
                    ("raw", Box::new(|| peers::raw_one_way(len, n, false, true))),
                    (
                        "vstp feed",
                        Box::new(|| peers::vstp_one_way(len, n, false, true)),
                    ),
                ],
            );
        }
        if wanted("plain") && len == 1 << 10 {
            race(
                "one way, one write a message",
                n / 4,
                len,
                rounds,
                vec![
                    (
                        "raw-crc",
                        Box::new(|| peers::raw_one_way(len, n / 4, true, false)),
                    ),
                    (
                        "vstp send",
                        Box::new(|| peers::vstp_one_way(len, n / 4, false, false)),
                    ),
                ],
            );
        }
        if wanted("tls") {
            race(
                "one way, TLS, batched",
                n / 2,
                len,
                rounds,
                vec![
                    ("raw-tls", Box::new(|| peers::tls_one_way(len, n / 2, true))),
                    (
                        "StreamOwned",
                        Box::new(|| peers::tls_one_way(len, n / 2, false)),
                    ),
                    (
                        "vstp feed",
                        Box::new(|| peers::vstp_one_way(len, n / 2, true, true)),
                    ),
                ],
            );
        }
    }
    if wanted("metrics") {
        let n = 20_000 / scale;
        for handler in [false, true] {
            let label = if handler {
                "round trip 64 B through a handler"
            } else {
                "round trip 64 B"
            };
            let trips =
                |meter: fn() -> Meter| move || peers::metered_round_trips(n, handler, meter());
            race(
                label,
                n,
                0,
                // The difference is small: more rounds.
                3 * rounds,
                vec![
                    ("nothing counted", Box::new(trips(Meter::off))),
                    ("metrics", Box::new(trips(Meter::new))),
                ],
            );
        }
    }
    if wanted("many") {
        let (clients, n) = (if quick { 20 } else { 500 }, 40 / scale.min(10));
        race(
            "500 connections, 64 B echo each",
            clients * n,
            0,
            rounds.min(3),
            vec![
                (
                    "thread per connection",
                    Box::new(|| peers::raw_many(clients, n)),
                ),
                ("vstp", Box::new(|| peers::vstp_many(clients, n))),
            ],
        );
    }
}

/// Lets the contestants take turns and prints their medians.
fn race(label: &str, ops: usize, len: usize, rounds: usize, mut contestants: Vec<Work<'_>>) {
    let mut times = vec![Vec::new(); contestants.len()];
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let index = (round + turn) % contestants.len();
            times[index].push((contestants[index].1)());
        }
    }
    let size = match len {
        0 => String::new(),
        len if len < 1 << 20 => format!(", {} KiB", len >> 10),
        len => format!(", {} MiB", len >> 20),
    };
    println!("{label}{size}");
    let mut base = None;
    for ((name, _), times) in contestants.iter().zip(&mut times) {
        let seconds = median(times) / ops as f64;
        let base = *base.get_or_insert(seconds);
        let rate = if len == 0 {
            format!("{:.1} k/s", 1e-3 / seconds)
        } else {
            format!("{:.2} GB/s", len as f64 / seconds / 1e9)
        };
        println!(
            "  {name:<22} {:>10.2} us {rate:>12}   {:.2}",
            seconds * 1e6,
            base / seconds
        );
    }
}
