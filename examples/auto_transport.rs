//! A server on TCP and UDP at one port, and a client that sends by both: encrypted, on this machine.
//!
//!     cargo run --example auto_transport [-- ADDR]      (default 127.0.0.1:0)

use std::env;
use std::process::ExitCode;
use std::time::Duration;
use vstp::net::tls::dev;
use vstp::proto::auto::Via;
use vstp::serve::DualPeer;
use vstp::{Frame, VstpAutoClient, VstpDualServer, VstpError};

fn main() -> ExitCode {
    env_logger::init();
    let addr = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    if addr == "--help" {
        println!(
            "usage: auto_transport [ADDR]\n\nServes TCP and UDP at ADDR (default 127.0.0.1:0, a free port of this machine), sends to\nitself by both, and prints which message took which."
        );
        return ExitCode::SUCCESS;
    }
    match run(&addr) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("auto_transport: {addr}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One handler for both; it can tell by which transport a message came.
fn handle(peer: &DualPeer<'_>, frame: Frame) -> Frame {
    Frame::data(format!(
        "{} bytes by {}",
        frame.payload.len(),
        peer.transport()
    ))
}

fn run(addr: &str) -> Result<(), VstpError> {
    let server = VstpDualServer::bind_auto(addr, dev::server()?)?;
    let addr = server.local_addr();
    println!("listening on {addr}, TCP and UDP");
    let handle = server.spawn(handle)?;

    let client = VstpAutoClient::connect_auto(addr, &dev::client()?)?;
    let messages = [
        ("small, by TCP", 100, Via::Tcp),
        ("small, by UDP", 100, Via::Udp),
        ("small, by the better one", 100, Via::Auto),
        ("large, by the better one", 100_000, Via::Auto),
    ];
    for (what, len, via) in messages {
        // Acknowledged and answered; with `Via::Auto` it goes over TCP when UDP fails on the way.
        match client.call(Frame::data(vec![0; len]), via) {
            Ok(answer) => println!("{what}: {}", String::from_utf8_lossy(&answer.payload)),
            Err(VstpError::TransportUnavailable(transport)) => {
                println!("{what}: there is no {transport} here");
            }
            Err(error) => return Err(error),
        }
    }
    let transports = client.transports();
    println!(
        "UDP: {:?}, sealed: {}; small messages take {}",
        transports.udp_status, transports.is_udp_sealed, transports.current
    );
    client.close()?;
    let report = handle.shutdown(Duration::from_secs(1));
    println!("{} handlers were left behind", report.stuck);
    Ok(())
}
