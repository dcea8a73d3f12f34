//! Sends messages in plaintext and prints the answers.
//!
//!     cargo run --example tcp_client -- 127.0.0.1:7000 hello world
//!
//! The server is `tcp_server` or `thread_pool_server`.

#![expect(clippy::disallowed_methods, reason = "round trips are measured here")]

use std::env;
use std::process::ExitCode;
use std::time::Instant;
use vstp::{Frame, VstpError, VstpTcpClient};

fn main() -> ExitCode {
    env_logger::init();
    let mut args = env::args().skip(1);
    let (Some(addr), messages) = (
        args.next().filter(|a| a != "--help"),
        args.collect::<Vec<_>>(),
    ) else {
        println!(
            "usage: tcp_client ADDR MESSAGE...\n\nSends each message as a frame, in plaintext, and prints the answer."
        );
        return ExitCode::SUCCESS;
    };
    match run(&addr, &messages) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp_client: {addr}: {error} (is a server listening there, in plaintext?)");
            ExitCode::FAILURE
        }
    }
}

fn run(addr: &str, messages: &[String]) -> Result<(), VstpError> {
    let mut client = VstpTcpClient::connect_plain(addr)?;
    for (number, message) in messages.iter().enumerate() {
        let began = Instant::now();
        let id = number.to_string();
        client.send(&Frame::data(message.as_str()).with_header("correlation-id", &id))?;
        let Some(answer) = client.recv()? else {
            println!("the server said goodbye");
            return Ok(());
        };
        println!(
            "{} ({:.0?})",
            String::from_utf8_lossy(&answer.payload),
            began.elapsed()
        );
    }
    client.close()
}
