//! An echo server on datagrams, in plaintext.
//!
//!     cargo run --example udp_server [-- ADDR]      (default 127.0.0.1:7010)
//!
//! Ends in order when its standard input does, or with a line "quit". Talk to it with `udp_client`.

use std::env;
use std::io::stdin;
use std::process::ExitCode;
use std::time::Duration;
use vstp::serve::UdpPeer;
use vstp::{Frame, VstpError, VstpUdpServer};

fn main() -> ExitCode {
    env_logger::init();
    let addr = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7010".to_owned());
    if addr == "--help" {
        println!(
            "usage: udp_server [ADDR]\n\nEchoes datagrams in plaintext at ADDR (default 127.0.0.1:7010) until a line \"quit\"\nor the end of standard input."
        );
        return ExitCode::SUCCESS;
    }
    match run(&addr) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udp_server: {addr}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(addr: &str) -> Result<(), VstpError> {
    let server = VstpUdpServer::bind(addr)?;
    println!("listening on {}", server.local_addr());
    let handle = server.spawn(|peer: &UdpPeer, frame: Frame| {
        println!("{}: {} bytes", peer.peer_addr(), frame.payload.len());
        Frame::data(frame.payload)
    })?;
    for line in stdin().lines().map_while(Result::ok) {
        if line == "quit" {
            break;
        }
    }
    handle.shutdown(Duration::from_secs(5));
    let stats = handle.stats().protocol;
    println!(
        "{} messages in {} datagrams",
        stats.messages_received, stats.datagrams_received
    );
    Ok(())
}
