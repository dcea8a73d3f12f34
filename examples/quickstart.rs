//! Quick start: a server and three clients in one process exchange a file's lines over TLS 1.3, and
//! what went over the wire is printed.
//!
//!     cargo run --release --example quickstart [-- FILE]
//!
//! Without a file it sends the README. Ends with exit code 0 when every answer was right.

#![expect(clippy::disallowed_methods, reason = "round trips are measured here")]

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use vstp::easy::{VstpClient, VstpServer};
use vstp::wire::crc::crc32;
use vstp::{Frame, encode_frame};

const CLIENTS: usize = 3;

/// What a client asks.
#[derive(Serialize, Deserialize)]
struct Line {
    number: usize,
    text: String,
}

/// What the server answers.
#[derive(Serialize, Deserialize)]
struct Counted {
    number: usize,
    words: usize,
    crc32: u32,
}

/// What one client saw.
struct Seen {
    words: usize,
    round_trips: Vec<Duration>,
    ping: Duration,
    facts: String,
    frames: (u64, u64),
    bytes: (u64, u64),
}

fn main() -> ExitCode {
    env_logger::init();
    match env::args().nth(1).as_deref() {
        Some("-h" | "--help") => {
            println!(
                "usage: quickstart [FILE]\n\nSends the lines of FILE (default: the README) over TLS 1.3 to a server in the\nsame process, and prints what went over the wire."
            );
            ExitCode::SUCCESS
        }
        path => {
            let path = path.unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
            match run(path) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("quickstart: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn run(path: &str) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path} cannot be read: {e}"))?;
    let lines: Vec<&str> = text.lines().collect();

    // The server, in two lines. On a loopback address it makes a certificate for this machine.
    let server = VstpServer::bind_tcp("127.0.0.1:0")?;
    let addr = server.local_addr();
    let handle = server.spawn(|line: Line| {
        let words = line.text.split_whitespace().count();
        Ok::<_, String>(Counted {
            number: line.number,
            words,
            crc32: crc32(line.text.as_bytes()),
        })
    })?;

    // The clients, each in a thread of its own, share the lines.
    let share = lines.len().div_ceil(CLIENTS).max(1);
    let began = Instant::now();
    let seen = thread::scope(|scope| {
        let clients: Vec<_> = lines
            .chunks(share)
            .enumerate()
            .map(|(n, part)| scope.spawn(move || talk(addr, n * share, part)))
            .collect();
        let results = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| "a client panicked"));
        results
            .map(|result| result?)
            .collect::<Result<Vec<Seen>, Box<dyn Error + Send + Sync>>>()
    });
    let seen = seen.map_err(|e| e.to_string())?;
    let took = began.elapsed();
    let report = handle.shutdown(Duration::from_secs(5));

    print(path, &lines, &seen, took);
    println!(
        "\nshut down in order: {}",
        report.cut_off == 0 && report.stuck == 0
    );
    let words: usize = lines
        .iter()
        .map(|line| line.split_whitespace().count())
        .sum();
    let counted: usize = seen.iter().map(|client| client.words).sum();
    if counted == words {
        Ok(())
    } else {
        Err(format!("{words} words, {counted} counted").into())
    }
}

/// One client: connects, asks about each line, checks the answers.
fn talk(
    addr: std::net::SocketAddr,
    first: usize,
    lines: &[&str],
) -> Result<Seen, Box<dyn Error + Send + Sync>> {
    let mut client = VstpClient::connect_tcp(addr)?;
    let mut words = 0;
    let mut round_trips = Vec::with_capacity(lines.len());
    for (n, text) in lines.iter().enumerate() {
        let began = Instant::now();
        let line = Line {
            number: first + n,
            text: (*text).to_owned(),
        };
        let answer: Counted = client.call(&line)?;
        round_trips.push(began.elapsed());
        if (answer.number, answer.crc32) != (line.number, crc32(text.as_bytes())) {
            return Err(format!("line {} came back wrong", line.number).into());
        }
        words += answer.words;
    }
    let tcp = client.tcp().ok_or("the connection is not TCP")?;
    let ping = tcp.ping()?;
    let stats = tcp.stats();
    let tls = tcp.tls().ok_or("the connection is not encrypted")?;
    let print: String = tls
        .fingerprint_sha256()
        .iter()
        .flatten()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect();
    let facts = format!(
        "{}, {}, {}, certificate {print}…",
        tls.version, tls.cipher_suite, tls.alpn
    );
    client.close()?;
    Ok(Seen {
        words,
        round_trips,
        ping,
        facts,
        frames: (stats.frames_sent, stats.frames_received),
        bytes: (stats.bytes_sent, stats.bytes_received),
    })
}

fn print(path: &str, lines: &[&str], seen: &[Seen], took: Duration) {
    println!(
        "{path}: {} lines over TLS 1.3, {} clients, {took:.1?}\n",
        lines.len(),
        seen.len()
    );
    println!("client  frames out/in   bytes out/in      round trip min/median/max       ping");
    for (n, client) in seen.iter().enumerate() {
        let mut trips = client.round_trips.clone();
        trips.sort();
        let at = |index: usize| trips.get(index).copied().unwrap_or_default();
        let (min, median, max) = (
            at(0),
            at(trips.len() / 2),
            at(trips.len().saturating_sub(1)),
        );
        println!(
            "{n:>6}  {:>6} / {:<6} {:>7} / {:<8} {:>9} {:>9} {:>9} {:>10}",
            client.frames.0,
            client.frames.1,
            client.bytes.0,
            client.bytes.1,
            format!("{min:.0?}"),
            format!("{median:.0?}"),
            format!("{max:.0?}"),
            format!("{:.0?}", client.ping),
        );
    }
    if let Some(client) = seen.first() {
        println!("\n{}", client.facts);
    }
    let frame = Frame::data(lines.first().copied().unwrap_or("")).with_header("tag", "1");
    if let Ok(bytes) = encode_frame(&frame) {
        println!(
            "\nA frame with the first line, as it is before encryption ({} bytes):",
            bytes.len()
        );
        show(&bytes, frame.payload.len());
    }
}

/// The bytes of a frame, field by field.
fn show(bytes: &[u8], payload_len: usize) {
    let headers_end = bytes.len() - payload_len - 4;
    let fields = [
        ("MAGIC", 0..2, "\"VT\""),
        ("VERSION", 2..3, "1"),
        ("TYPE", 3..4, "DATA"),
        ("FLAGS", 4..5, "none"),
        ("HDR_LEN", 5..7, "little-endian"),
        ("PAY_LEN", 7..11, "big-endian"),
        ("HEADERS", 11..headers_end, "tag = 1"),
        ("PAYLOAD", headers_end..bytes.len() - 4, "the line"),
        (
            "CRC32",
            bytes.len() - 4..bytes.len(),
            "left out on TLS, which has better",
        ),
    ];
    for (name, range, what) in fields {
        let shown = &bytes[range.clone()];
        let hex: Vec<String> = shown
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let more = if shown.len() > 12 { " …" } else { "" };
        println!(
            "  {:>4}  {name:<8} {:<38}  {what}",
            range.start,
            hex.join(" ") + more
        );
    }
}
