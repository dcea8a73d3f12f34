//! UDP of this crate beside bare sockets and quinn.
//!
//!     cargo run --release -- [--only GROUP] [--rounds N] [--quick] [--help]
//!
//! Sender and receiver are threads of this process, over loopback. Each line compares contestants
//! that took turns, round by round, and prints medians; the first one is the baseline.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark measures time, and a failure ends it"
)]

#[path = "../../common/mod.rs"]
mod common;
mod ours;
mod quic;
mod raw;
mod relay;
mod sockets;
mod streams;

use common::median;
use relay::{Link, Relay};
use sockets::DATAGRAM_LEN;
use std::env;
use std::net::SocketAddr;
use std::process;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

const HELP: &str = "\
compare: UDP of this crate beside bare sockets and quinn, TCP beside tungstenite, over loopback

  --only GROUP   roundtrip, messages, bulk, lossy or streams
  --rounds N     each contestant works N times (7)
  --quick        a smoke run, whose numbers mean nothing

  roundtrip  64 bytes there and back, one at a time
  messages   1 KiB messages, as many under way as the contestant likes; quinn's are length and
             bytes on one stream
  bulk       64 MiB in datagrams of at most 1,472 bytes
  lossy      the same through a relay on this machine, whose rate is not limited: 1 % of the
             datagrams is lost and 5 ms pass, each way. `raw`, of which enough has to arrive, shows
             what the relay can carry
  streams    TCP in plaintext: 64 bytes there and back, and messages of 1 KiB, 64 KiB and 1 MiB
             one way, beside tungstenite (WebSocket, unmasked, without checksum)

Contestants take turns, round by round; medians are printed, and rates as ratios to the first. `raw`
sockets (GSO and GRO through quinn-udp) acknowledge nothing: their sender goes on until enough has
arrived. For quinn the time ends when the receiver, having read all, has said so; for vstp
when all frames are acknowledged, each by itself. quinn encrypts, and so does
`vstp, sealed`; the other vstp does not. `cpu` is the time of the processors for both ends and the
system, which other work on the machine changes less than the rates.";

/// How two ends reach each other.
#[derive(Clone, Copy)]
pub(crate) enum Path {
    Direct,
    /// Through a relay.
    Lossy,
}

/// The bad network: 1 % is lost and 5 ms pass, each way.
const LINK: Link = Link {
    lost_per_million: 10_000,
    delay: Duration::from_millis(5),
    seed: 0x5653_5450,
};

impl Path {
    /// Where to send what `server` shall get, and what carries it there as long as it lives.
    pub(crate) fn to(self, server: SocketAddr) -> (SocketAddr, Option<Relay>) {
        match self {
            Self::Direct => (server, None),
            Self::Lossy => {
                let relay = Relay::start(LINK, server);
                (relay.addr(), Some(relay))
            }
        }
    }
}

/// What something took: time, and time of the processors for all threads of this process, those of the
/// system on their behalf included.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
}

/// Measures that.
pub(crate) struct Watch {
    began: Instant,
    cpu: Duration,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self {
            began: Instant::now(),
            cpu: Self::cpu(),
        }
    }

    pub(crate) fn elapsed(&self) -> Took {
        Took {
            time: self.began.elapsed(),
            cpu: Self::cpu() - self.cpu,
        }
    }

    #[cfg(unix)]
    fn cpu() -> Duration {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
    }

    #[cfg(not(unix))]
    fn cpu() -> Duration {
        Duration::ZERO
    }
}

/// What a contestant took for its work, and a remark.
pub(crate) struct Outcome {
    seconds: f64,
    cpu_seconds: f64,
    note: String,
}

impl Outcome {
    pub(crate) fn new(took: Took) -> Self {
        Self {
            seconds: took.time.as_secs_f64(),
            cpu_seconds: took.cpu.as_secs_f64(),
            note: String::new(),
        }
    }

    pub(crate) fn note(self, note: String) -> Self {
        Self { note, ..self }
    }
}

/// One contestant: does its work once.
type Work<'a> = (&'static str, Box<dyn FnMut() -> Outcome + 'a>);

pub(crate) fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    Builder::new().name(name.to_owned()).spawn(work).unwrap()
}

struct Options {
    only: Option<String>,
    rounds: usize,
    scale: usize,
}

const GROUPS: [&str; 5] = ["roundtrip", "messages", "bulk", "lossy", "streams"];

fn options() -> Result<Option<Options>, String> {
    let mut options = Options {
        only: None,
        rounds: 7,
        scale: 1,
    };
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--quick" => (options.rounds, options.scale) = (1, 100),
            "--rounds" => {
                let rounds = args.next().and_then(|rounds| rounds.parse().ok());
                options.rounds = rounds
                    .filter(|&rounds| rounds > 0)
                    .ok_or("--rounds needs a number")?;
            }
            "--only" => {
                let group = args.next().filter(|group| GROUPS.contains(&group.as_str()));
                options.only =
                    Some(group.ok_or_else(|| format!("--only needs one of {GROUPS:?}"))?);
            }
            _ => return Err(format!("unknown argument {arg}; see --help")),
        }
    }
    Ok(Some(options))
}

fn main() {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return;
        }
        Err(error) => {
            eprintln!("compare: {error}");
            process::exit(2);
        }
    };
    let wanted = |group: &str| options.only.as_deref().is_none_or(|only| only == group);
    if wanted("roundtrip") {
        round_trips(&options);
    }
    if wanted("messages") {
        messages(&options);
    }
    if wanted("bulk") {
        bulk(&options);
    }
    if wanted("lossy") {
        lossy(&options);
    }
    if wanted("streams") {
        streams(&options);
    }
}

fn streams(options: &Options) {
    let n = 20_000 / options.scale;
    race(
        "TCP round trip 64 B",
        n,
        0,
        options.rounds,
        vec![
            (
                "tungstenite",
                Box::new(|| streams::websocket_round_trips(n)),
            ),
            ("vstp", Box::new(|| streams::vstp_round_trips(n))),
        ],
    );
    for (label, len, total) in [
        ("TCP one way 1 KiB", 1 << 10, 512 << 20),
        ("TCP one way 64 KiB", 64 << 10, 2 << 30),
        ("TCP one way 1 MiB", 1 << 20, 2_usize << 30),
    ] {
        let n = (total / len / options.scale).max(1);
        race(
            label,
            n,
            len,
            options.rounds,
            vec![
                (
                    "tungstenite",
                    Box::new(|| streams::websocket_one_way(len, n)),
                ),
                ("vstp", Box::new(|| streams::vstp_one_way(len, n))),
            ],
        );
    }
}

fn round_trips(options: &Options) {
    let n = 30_000 / options.scale;
    let spin = Duration::from_micros(50);
    race(
        "round trip 64 B",
        n,
        0,
        options.rounds,
        vec![
            ("raw", Box::new(|| raw::round_trips(n, Duration::ZERO))),
            ("quinn, stream", Box::new(|| quic::round_trips(n))),
            (
                "quinn, datagrams",
                Box::new(|| quic::datagram_round_trips(n)),
            ),
            ("vstp", Box::new(|| ours::round_trips(n, Duration::ZERO))),
            ("raw, polling", Box::new(|| raw::round_trips(n, spin))),
            ("vstp, spin 50 us", Box::new(|| ours::round_trips(n, spin))),
        ],
    );
}

fn messages(options: &Options) {
    let (len, count) = (1 << 10, 100_000 / options.scale);
    race(
        "messages 1 KiB, pipelined",
        count,
        len,
        options.rounds,
        vec![
            (
                "raw GSO, no acks",
                Box::new(|| raw::one_way(Path::Direct, len, count, true)),
            ),
            ("quinn", Box::new(|| quic::messages(len, count))),
            (
                "vstp",
                Box::new(|| ours::messages(Path::Direct, len, count)),
            ),
            (
                "vstp, sealed",
                Box::new(|| ours::sealed_messages(Path::Direct, len, count)),
            ),
            (
                "raw, a call each",
                Box::new(|| raw::one_way(Path::Direct, len, count, false)),
            ),
        ],
    );
}

fn bulk(options: &Options) {
    let len = (64 << 20) / options.scale;
    let count = len / DATAGRAM_LEN;
    race(
        "bulk 64 MiB",
        1,
        len,
        options.rounds,
        vec![
            (
                "raw GSO, no acks",
                Box::new(|| raw::one_way(Path::Direct, DATAGRAM_LEN, count, true)),
            ),
            ("quinn", Box::new(|| quic::bulk(Path::Direct, len))),
            (
                "vstp, one frame",
                Box::new(|| ours::messages(Path::Direct, len, 1)),
            ),
            (
                "vstp, 64 frames",
                Box::new(|| ours::messages(Path::Direct, len / 64, 64)),
            ),
            (
                "vstp, sealed",
                Box::new(|| ours::sealed_messages(Path::Direct, len, 1)),
            ),
            (
                "raw, a call each",
                Box::new(|| raw::one_way(Path::Direct, DATAGRAM_LEN, count, false)),
            ),
        ],
    );
}

fn lossy(options: &Options) {
    let len = (64 << 20) / options.scale;
    let count = len / DATAGRAM_LEN;
    race(
        "bulk 64 MiB, 1 % loss and 5 ms each way",
        1,
        len,
        options.rounds,
        vec![
            (
                "raw GSO, no acks",
                Box::new(|| raw::one_way(Path::Lossy, DATAGRAM_LEN, count, true)),
            ),
            ("quinn", Box::new(|| quic::bulk(Path::Lossy, len))),
            (
                "vstp, one frame",
                Box::new(|| ours::messages(Path::Lossy, len, 1)),
            ),
            (
                "vstp, 64 frames",
                Box::new(|| ours::messages(Path::Lossy, len / 64, 64)),
            ),
        ],
    );
}

/// Lets the contestants take turns and prints their medians.
fn race(label: &str, ops: usize, len: usize, rounds: usize, mut contestants: Vec<Work<'_>>) {
    let mut times = vec![Vec::new(); contestants.len()];
    let mut cpu_times = times.clone();
    let mut notes = vec![String::new(); contestants.len()];
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let index = (round + turn) % contestants.len();
            let outcome = (contestants[index].1)();
            times[index].push(outcome.seconds);
            cpu_times[index].push(outcome.cpu_seconds);
            notes[index] = outcome.note;
        }
    }
    println!("{label}");
    let mut base = None;
    let names = contestants.iter().map(|(name, _)| name);
    let measured = names.zip(&mut times).zip(&mut cpu_times).zip(notes);
    for (((name, times), cpu_times), note) in measured {
        let cpu = median(cpu_times) / ops as f64;
        let seconds = median(times) / ops as f64;
        let base = *base.get_or_insert(seconds);
        let (time, rate) = (format!("{:.2} us", seconds * 1e6), 1e-3 / seconds);
        let bytes = len as f64 / seconds / 1e6;
        let (time, cpu, rate) = match (ops, len) {
            (_, 0) => (time, cpu_us(cpu), format!("{rate:.1} k/s")),
            (1, _) => (
                format!("{:.1} ms", seconds * 1e3),
                format!("{:.1} ms", cpu * 1e3),
                format!("{bytes:.0} MB/s"),
            ),
            _ => (time, cpu_us(cpu), format!("{rate:.0} k/s, {bytes:.0} MB/s")),
        };
        let ratio = base / seconds;
        println!("  {name:<22} {time:>10} {rate:>22} {ratio:>7.3}   cpu {cpu:>9}   {note}");
    }
}

fn cpu_us(seconds: f64) -> String {
    format!("{:.2} us", seconds * 1e6)
}
