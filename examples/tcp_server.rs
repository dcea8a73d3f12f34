//! A plaintext echo server on frames.
//!
//!     cargo run --example tcp_server [-- ADDR]      (default 127.0.0.1:7000)
//!
//! Ends in order when its standard input does, or with a line "quit". Talk to it with `tcp_client`.

use std::env;
use std::io::stdin;
use std::process::ExitCode;
use std::time::Duration;
use vstp::serve::Session;
use vstp::{Frame, VstpError, VstpTcpServer};

fn main() -> ExitCode {
    env_logger::init();
    let addr = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    if addr == "--help" {
        println!(
            "usage: tcp_server [ADDR]\n\nEchoes frames in plaintext at ADDR (default 127.0.0.1:7000) until a line \"quit\"\nor the end of standard input."
        );
        return ExitCode::SUCCESS;
    }
    match run(&addr) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp_server: {addr}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(addr: &str) -> Result<(), VstpError> {
    let server = VstpTcpServer::bind_plain(addr)?;
    println!("listening on {}", server.local_addr());
    let handle = server.spawn(|session: &Session, frame: Frame| {
        println!("{}: {} bytes", session.peer_addr(), frame.payload.len());
        Frame::data(frame.payload)
    })?;
    for line in stdin().lines().map_while(Result::ok) {
        if line == "quit" {
            break;
        }
    }
    let report = handle.shutdown(Duration::from_secs(5));
    println!(
        "closed {} connections, {} cut off",
        report.connections, report.cut_off
    );
    Ok(())
}
