//! `vstp bench`: how fast, between two machines or inside one.

mod client;
mod histogram;
mod pace;
mod plan;
mod responder;

pub(crate) use responder::handler;

use crate::connect::{ConnectArgs, ViaArg};
use crate::events;
use crate::exit::{self, Failure};
use crate::link::Link;
use crate::output::{self, Talk};
use crate::plot;
use crate::server::{Binding, LimitArgs, Running};
use crate::signals::{self, Event};
use crate::units::{self, millis, show_bits, show_bytes};
use crate::url::{Scheme, Url};
use clap::Args;
use client::{Seen, Shared};
use crossbeam_channel::Receiver;
use plan::{Mode, Plan};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use vstp::net::clock;

const EXAMPLES: &str = "\
Examples:
  vstp bench --local                                   TLS, plaintext TCP and UDP inside this machine
  vstp server --bench --cert c.pem --key k.pem 0.0.0.0:6969      the other side, on another machine
  vstp bench vstp://server                             round trips, one after the other
  vstp bench vstp://server --mode stream --size 64KiB --clients 4
  vstp bench vstp://server --mode stream --reverse     the server sends
  vstp bench vstp+udp://server --mode stream --rate 100M          how much of it arrives
  vstp bench vstp+udp://server --mode stream --ack     as fast as acknowledgements allow
  vstp bench vstp+udp://server --mode stream --ack --svg out.svg  and a picture of it, as `vstp plot` makes it
  vstp bench vstp+auto://server --via udp              over sealed datagrams

Round trips (--mode call) work with every server that echoes. Payload is counted, not headers.";

/// Measure throughput and round trips
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// The server: `vstp server --bench`
    #[arg(value_name = "URL", env = "VSTP_URL")]
    url: Option<Url>,
    /// Start a server here, and measure TLS, TCP and UDP one after the other
    #[arg(long)]
    local: bool,
    /// Round trips, or messages in one direction
    #[arg(long, value_enum, default_value_t = Mode::Call)]
    mode: Mode,
    /// Clients at once, each with a connection and a thread
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// Bytes of a message
    #[arg(short, long, value_name = "SIZE", default_value = "1KiB", value_parser = units::length)]
    size: usize,
    /// How long
    #[arg(short = 't', long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    time: Duration,
    /// The server sends (with --mode stream)
    #[arg(short = 'R', long)]
    reverse: bool,
    /// Bits a second of each client (with --mode stream; over UDP without --ack 10M, else unlimited)
    #[arg(long, value_name = "BITS", value_parser = units::bit_rate)]
    rate: Option<u64>,
    /// Over UDP: send until acknowledged
    #[arg(long)]
    ack: bool,
    /// Draw throughput, round-trip times and congestion windows into this file, as SVG; keeping the log for it costs a little
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// One JSON object for the start, for each second, and for the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

const DEFAULT_UDP_RATE: u64 = 10_000_000;

pub(crate) fn run(mut args: BenchArgs, talk: Talk) -> Result<(), Failure> {
    if args.mode == Mode::Call && (args.reverse || args.rate.is_some() || args.ack) {
        return Err(Failure::usage(
            "--reverse, --rate and --ack go with --mode stream",
        ));
    }
    let Some(svg) = args.svg.clone() else {
        return run_all(&args, talk);
    };
    let drawing = Drawing::new(svg, &mut args.connect)?;
    match run_all(&args, talk) {
        Err(failure) if failure.code != exit::INTERRUPTED => Err(failure),
        result => drawing.finish(talk).and(result),
    }
}

/// A picture that will be drawn from the event log: the user's, or one that is removed at the end.
struct Drawing {
    svg: PathBuf,
    log: PathBuf,
    is_ours: bool,
}

impl Drawing {
    fn new(svg: PathBuf, connect: &mut ConnectArgs) -> Result<Self, Failure> {
        let is_ours = connect.event_log.is_none();
        let log = connect.event_log.clone().unwrap_or_else(|| {
            let name = svg.file_name().unwrap_or_default().to_string_lossy();
            let hidden = format!(".{name}.{}.events", std::process::id());
            svg.with_file_name(hidden)
        });
        plot::check(&svg, &log)?;
        connect.event_log = Some(log.clone());
        // Opened before anything is measured; beside the picture it also shows that there is room for that.
        let opened = connect.event_log();
        if is_ours && opened.is_err() {
            let text = format!("{}: no file can be made in its folder", svg.display());
            return Err(Failure::new(exit::LOCAL, text));
        }
        opened?;
        Ok(Self { svg, log, is_ours })
    }

    fn finish(&self, talk: Talk) -> Result<(), Failure> {
        if events::flush() > 0 {
            let text = "the event log could not be written, so there is nothing to draw";
            return Err(Failure::new(exit::LOCAL, text));
        }
        let picture = plot::picture(&self.log, talk)?;
        plot::write(&self.svg, &picture)
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if self.is_ours {
            // A hidden file that stays is the worst that can happen.
            let _ = fs::remove_file(&self.log);
        }
    }
}

fn run_all(args: &BenchArgs, talk: Talk) -> Result<(), Failure> {
    let events = signals::listen(false)?;
    if !args.local {
        let which = || Failure::usage("name a server (vstp server --bench), or use --local");
        let url = args.url.clone().ok_or_else(which)?;
        return measure(&url, args, &args.connect, &events, talk);
    }
    if args.url.is_some() {
        return Err(Failure::usage(
            "--local starts a server of its own; leave the URL out",
        ));
    }
    for scheme in [Scheme::Tls, Scheme::Tcp, Scheme::Udp] {
        let (running, url) = local(scheme, &args.connect)?;
        let mut connect = args.connect.clone();
        connect.plaintext = true;
        let result = measure(&url, args, &connect, &events, talk);
        running.shutdown(Duration::from_secs(2));
        result?;
    }
    Ok(())
}

/// A server in this process, on a port that is free.
fn local(scheme: Scheme, connect: &ConnectArgs) -> Result<(Running, Url), Failure> {
    let loopback = "127.0.0.1:0".parse()?;
    let binding = Binding {
        address: loopback,
        cert: None,
        key: None,
        client_ca: None,
        keylog: None,
        token_file: None,
        token_bound: false,
        dev: scheme == Scheme::Tls,
        plaintext: scheme == Scheme::Tcp,
        udp: scheme == Scheme::Udp,
        auto: false,
        compress: connect.compress,
        event_log: None,
        limits: LimitArgs {
            max_per_address: 1024,
            ..LimitArgs::default()
        },
    };
    let running = binding.start(handler())?;
    let address = running.local_addr().into();
    Ok((running, Url { scheme, address }))
}

fn measure(
    url: &Url,
    args: &BenchArgs,
    connect: &ConnectArgs,
    events: &Receiver<Event>,
    talk: Talk,
) -> Result<(), Failure> {
    let is_auto = url.scheme == Scheme::Auto;
    if is_auto && args.mode == Mode::Stream && connect.via == ViaArg::Auto {
        return Err(Failure::usage(
            "--mode stream counts on one transport: say which with --via tcp or --via udp",
        ));
    }
    let is_udp = url.scheme == Scheme::Udp || (is_auto && connect.via == ViaArg::Udp);
    if args.ack && (url.scheme != Scheme::Udp || args.reverse) {
        return Err(Failure::usage(
            "--ack is for vstp+udp://, and not for --reverse",
        ));
    }
    let is_lossy = is_udp && args.mode == Mode::Stream && !args.ack;
    let plan = Plan {
        mode: args.mode,
        reverse: args.reverse,
        size: args.size,
        time: args.time,
        rate: args.rate.or(is_lossy.then_some(DEFAULT_UDP_RATE)),
        ack: args.ack,
        timeout: connect.timeout,
    };
    let links: Vec<Link> = (0..args.clients)
        .map(|_| Link::connect(url, connect, talk))
        .collect::<Result<_, _>>()?;
    let mode = if plan.mode == Mode::Call {
        "call"
    } else {
        "stream"
    };
    if args.json {
        let cipher = links
            .first()
            .and_then(Link::tls)
            .map(|tls| tls.cipher_suite.clone());
        output::json(json!({
            "event": "start", "url": url.to_string(), "mode": mode, "clients": args.clients,
            "size": plan.size, "reverse": plan.reverse, "rate": plan.rate, "ack": plan.ack,
            "cipher_suite": cipher,
        }))?;
    } else {
        let direction = if plan.reverse {
            ", the server sends"
        } else {
            ""
        };
        let clients = args.clients;
        let size = show_bytes(plan.size as u64);
        output::line(format!(
            "{url}: {mode}, {clients} clients, {size} each{direction}"
        ))?;
    }
    let shared = Shared::default();
    let began = clock::now();
    let (results, stopped) = thread::scope(|scope| {
        let mut clients = Vec::new();
        for (number, link) in links.into_iter().enumerate() {
            let (plan, shared) = (&plan, &shared);
            let thread = thread::Builder::new().name(format!("vstp-bench-{number}"));
            let run = move || client::run(link, plan, shared);
            clients.push(thread.spawn_scoped(scope, run));
        }
        let watched = watch(&plan, args.json, &shared, events);
        shared.stop.store(true, Ordering::Relaxed);
        let end = |client: std::io::Result<thread::ScopedJoinHandle<'_, Result<Seen, Failure>>>| {
            let client =
                client.map_err(|e| Failure::new(exit::OTHER, format!("no thread: {e}")))?;
            let panicked = |_| Failure::new(exit::OTHER, "a client panicked");
            client.join().map_err(panicked)?
        };
        let results: Vec<_> = clients.into_iter().map(end).collect();
        (results, watched)
    });
    let seconds = clock::now().saturating_duration_since(began).min(plan.time);
    let stopped = stopped?;
    let mut all = Seen::new();
    for result in results {
        all.add(&result?);
    }
    summary(&all, &plan, seconds, args.json)?;
    if stopped {
        return Err(Failure::interrupted());
    }
    Ok(())
}

/// Prints what happens each second; whether a signal ended it.
fn watch(
    plan: &Plan,
    json: bool,
    shared: &Shared,
    events: &Receiver<Event>,
) -> Result<bool, Failure> {
    let began = clock::now();
    let (mut messages, mut bytes) = (0, 0);
    let mut from = Duration::ZERO;
    while from < plan.time {
        let until = (from + Duration::from_secs(1)).min(plan.time);
        let passed = clock::now().saturating_duration_since(began);
        if let Ok(Event::Stop { .. }) = events.recv_timeout(until.saturating_sub(passed)) {
            return Ok(true);
        }
        let now = (
            shared.messages.load(Ordering::Relaxed),
            shared.bytes.load(Ordering::Relaxed),
        );
        let (count, len) = (now.0 - messages, now.1 - bytes);
        (messages, bytes) = now;
        let seconds = (until - from).as_secs_f64().max(1e-3);
        let bits = len as f64 * 8.0 / seconds;
        let (first, last) = (from.as_secs_f64(), until.as_secs_f64());
        if json {
            output::json(json!({
                "event": "interval", "from_s": first, "to_s": last,
                "messages": count, "bytes": len, "bits_per_second": bits,
            }))?;
        } else {
            let rate = count as f64 / seconds;
            let bits = show_bits(bits);
            output::line(format!(
                "{first:>6.1} - {last:<6.1} s  {rate:>10.0} messages/s  {bits:>14}"
            ))?;
        }
        from = until;
    }
    Ok(false)
}

fn summary(all: &Seen, plan: &Plan, time: Duration, json: bool) -> Result<(), Failure> {
    let seconds = time.as_secs_f64().max(1e-3);
    let bits = all.arrived_bytes as f64 * 8.0 / seconds;
    let lost = all.sent.saturating_sub(all.arrived);
    let quantile = |share| all.times.quantile(share).map(millis);
    let [p50, p90, p99, p999, max] = [0.5, 0.9, 0.99, 0.999, 1.0].map(quantile);
    if json {
        return output::json(json!({
            "event": "end", "seconds": seconds, "sent": all.sent, "arrived": all.arrived,
            "lost": lost, "bytes": all.arrived_bytes, "bits_per_second": bits,
            "messages_per_second": all.arrived as f64 / seconds,
            "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "p999_ms": p999, "max_ms": max,
        }));
    }
    let rate = all.arrived as f64 / seconds;
    let bytes = show_bytes(all.arrived_bytes);
    let bits = show_bits(bits);
    output::line(format!(
        "{rate:.0} messages/s, {bits}, {bytes} in {seconds:.1} s"
    ))?;
    if plan.mode == Mode::Stream {
        let share = 100.0 * lost as f64 / (all.sent as f64).max(1.0);
        output::line(format!(
            "{} sent, {} arrived, {lost} lost ({share:.2}%)",
            all.sent, all.arrived
        ))?;
    }
    if let (Some(p50), Some(p90), Some(p99), Some(p999), Some(max)) = (p50, p90, p99, p999, max) {
        output::line(format!(
            "round trip p50/p90/p99/p99.9/max = {p50:.3}/{p90:.3}/{p99:.3}/{p999:.3}/{max:.3} ms"
        ))?;
    }
    Ok(())
}
