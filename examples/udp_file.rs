//! A file over UDP, in pieces that are acknowledged, with its SHA-256 compared at the end. In plaintext.
//!
//!     cargo run --release --example udp_file [-- MEGABYTES]      (default 100: generates a file, sends it
//!                                                                 to a receiver in the same process)
//!     cargo run --release --example udp_file -- receive ADDR DIR
//!     cargo run --release --example udp_file -- send FILE ADDR
//!
//! `receive` takes one file and ends. The file has a temporary name until it is there and right.

#![expect(clippy::disallowed_methods, reason = "the time is measured here")]

use hmac_sha256::Hash;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};
use vstp::serve::{HandlerError, UdpPeer};
use vstp::{Frame, FrameType, VstpUdpClient, VstpUdpServer};

/// Bytes of a piece: what both sides hold in memory.
const PIECE: usize = 16 << 20;
/// Frame types of this application: BEGIN names the file, DATA is a piece, END has the SHA-256.
const BEGIN: FrameType = FrameType::Custom(0x20);
const END: FrameType = FrameType::Custom(0x21);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    env_logger::init();
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        [] => both(100),
        ["send", file, addr] => send(Path::new(file), addr),
        ["receive", addr, dir] => VstpUdpServer::bind(addr)
            .map_err(Into::into)
            .and_then(|server| receive(server, dir.into()))
            .map(|file| println!("received {}", file.display())),
        [megabytes] if megabytes.parse::<usize>().is_ok() => both(megabytes.parse().unwrap_or(1)),
        _ => {
            println!(
                "usage: udp_file [MEGABYTES]\n       udp_file receive ADDR DIR\n       udp_file send FILE ADDR\n\nSends a file over UDP, in plaintext; without a file, a generated one (default 100 MB)\nwithin the same process."
            );
            return ExitCode::SUCCESS;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udp_file: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Both sides in one process, with a generated file.
fn both(megabytes: usize) -> Result<()> {
    let dir = env::temp_dir().join(format!("vstp-udp-file-{}", std::process::id()));
    fs::create_dir_all(dir.join("received"))?;
    let source = dir.join("generated.bin");
    generate(&source, megabytes)?;
    let server = VstpUdpServer::bind("127.0.0.1:0")?;
    let addr = server.local_addr().to_string();
    let stop = server.handle();
    let result = thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(server, dir.join("received")));
        let sent = send(&source, &addr);
        if sent.is_err() {
            // Ends the wait for the rest of the file.
            stop.shutdown(Duration::ZERO);
        }
        sent?;
        let file = receiving.join().map_err(|_| "the receiver panicked")??;
        println!("received {} bytes", fs::metadata(file)?.len());
        Ok(())
    });
    fs::remove_dir_all(&dir)?;
    result
}

fn generate(path: &Path, megabytes: usize) -> Result<()> {
    let mut file = File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut megabyte = Vec::with_capacity(1_000_000);
    for _ in 0..megabytes {
        megabyte.clear();
        while megabyte.len() < 1_000_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            megabyte.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&megabyte)?;
    }
    Ok(())
}

fn send(path: &Path, addr: &str) -> Result<()> {
    let mut file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let total = file.metadata()?.len();
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or("the file's name is not text")?;
    // Large messages need a session, and in it nobody else can put bytes into the file.
    let (client, session) = VstpUdpClient::connect_to(addr)?;
    let to = session.peer_addr();
    client.send_with_ack(Frame::new(BEGIN).with_header("name", name), to)?;

    let began = Instant::now();
    let (mut hash, mut sent, mut shown) = (Hash::new(), 0, 0);
    let mut show = |done: u64| {
        let percent = 100 * done.min(total) / total.max(1);
        if percent / 10 > shown {
            shown = percent / 10;
            let speed = done as f64 / 1e6 / began.elapsed().as_secs_f64();
            println!("{percent:>3} %  {speed:.0} MB/s");
        }
    };
    loop {
        let mut piece = Vec::new();
        (&mut file).take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        hash.update(&piece);
        let len = piece.len() as u64;
        // One after the other: messages of different deliveries may overtake each other.
        let delivery = client.start_send(Frame::data(piece), to)?;
        while let Some(progress) = delivery.progress() {
            show(sent + progress.acknowledged * len / progress.total);
            // Too early is no failure; how it ended is asked below.
            let _ = delivery.wait_timeout(Duration::from_millis(10));
        }
        delivery.wait()?;
        sent += len;
        show(sent);
    }

    let mine = hash.finalize();
    let end = Frame::new(END).with_payload(mine);
    client.send_with_ack(end.with_header("correlation-id", "end"), to)?;
    let (answer, _) = client.recv_timeout(Duration::from_secs(30))?;
    client.close();
    if answer.payload != mine {
        return Err(String::from_utf8_lossy(&answer.payload).into());
    }
    let hex: String = mine.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("sent {sent} bytes, SHA-256 {hex} on both sides");
    Ok(())
}

/// The file that is being received.
struct Incoming {
    session: u128,
    name: String,
    part: PathBuf,
    file: File,
    hash: Hash,
}

/// Receives one file; where it is.
fn receive(server: VstpUdpServer, dir: PathBuf) -> Result<PathBuf> {
    println!("listening on {}", server.local_addr());
    let (done, is_done) = sync_channel(1);
    let state = Mutex::new(None);
    // One worker, so that pieces are handled in their order.
    let handle = server
        .workers(1)
        .spawn(move |peer: &UdpPeer, frame: Frame| take(peer, frame, &dir, &state, &done))?;
    let file = is_done.recv()?;
    handle.shutdown(Duration::from_secs(5));
    Ok(file)
}

fn take(
    peer: &UdpPeer,
    frame: Frame,
    dir: &Path,
    state: &Mutex<Option<Incoming>>,
    done: &SyncSender<PathBuf>,
) -> std::result::Result<(), HandlerError> {
    let failed = |error: std::io::Error| HandlerError::from(error.to_string());
    let session = peer.session_id().ok_or("open a session first")?;
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if frame.typ == BEGIN {
        if let Some(busy) = state.as_ref().filter(|file| file.session != session) {
            return Err(format!("{} is being received", busy.name).into());
        }
        let name = String::from_utf8_lossy(frame.header("name").unwrap_or_default()).into_owned();
        // Only ever a file in this folder.
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':']) {
            return Err("this is no name for a file".into());
        }
        let part = dir.join(format!("{name}.part"));
        let file = File::create(&part).map_err(failed)?;
        let hash = Hash::new();
        *state = Some(Incoming {
            session,
            name,
            part,
            file,
            hash,
        });
        return Ok(());
    }
    let incoming = state.as_mut().filter(|file| file.session == session);
    let incoming = incoming.ok_or("begin with a name")?;
    if frame.typ != END {
        incoming.hash.update(&frame.payload);
        return incoming.file.write_all(&frame.payload).map_err(failed);
    }
    let mine = incoming.hash.finalize();
    if frame.payload != mine {
        return Err("the SHA-256 is another one".into());
    }
    let path = dir.join(&incoming.name);
    fs::rename(&incoming.part, &path).map_err(failed)?;
    // Acknowledged, so that the sender knows before this ends.
    peer.send_with_ack(Frame::new(END).with_payload(mine))
        .map_err(|e| HandlerError::from(e.to_string()))?;
    *state = None;
    // The one who waits has room for it.
    let _ = done.send(path);
    Ok(())
}
