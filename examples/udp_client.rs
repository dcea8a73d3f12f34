//! Sends messages as datagrams, in plaintext, and prints the answers and the round-trip time.
//!
//!     cargo run --example udp_client [-- ADDR [MESSAGE...]]      (default 127.0.0.1:7010 hello)
//!
//! The server is `udp_server`.

#![expect(clippy::disallowed_methods, reason = "round trips are measured here")]

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use vstp::{Frame, VstpError, VstpUdpClient};

/// Answers are sent once and can be lost.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    env_logger::init();
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7010".to_owned());
    if addr == "--help" {
        println!(
            "usage: udp_client [ADDR [MESSAGE...]]\n\nSends each message (default: hello) to ADDR (default 127.0.0.1:7010), in plaintext,\nand prints the answer."
        );
        return ExitCode::SUCCESS;
    }
    let mut messages: Vec<String> = args.collect();
    if messages.is_empty() {
        messages.push("hello".to_owned());
    }
    match run(&addr, &messages) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udp_client: {addr}: {error} (is a server there?)");
            ExitCode::FAILURE
        }
    }
}

fn run(addr: &str, messages: &[String]) -> Result<(), VstpError> {
    let (client, session) = VstpUdpClient::connect_to(addr)?;
    let server = session.peer_addr();
    for message in messages {
        let began = Instant::now();
        // Acknowledged: it is sent again until the server has it.
        client.send_with_ack(Frame::data(message.as_str()), server)?;
        let acknowledged = began.elapsed();
        let (answer, _) = client.recv_timeout(PATIENCE)?;
        println!(
            "sent {message}, acknowledged after {acknowledged:.0?}, answer {} after {:.0?}",
            String::from_utf8_lossy(&answer.payload),
            began.elapsed()
        );
    }
    if let Some(time) = client.round_trip_time(server) {
        println!("round trip {time:.0?}");
    }
    client.close();
    Ok(())
}
