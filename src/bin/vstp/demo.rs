//! `vstp demo`: the quick start, with pictures of the bytes.

use crate::exit::{self, Failure};
use crate::inspect;
use crate::output::{self, Talk, paint};
use crate::units::millis;
use clap::Args;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vstp::net::clock;
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::dev;
use vstp::proto::keys;
use vstp::serve::{ServerConfig, Session};
use vstp::{Frame, VstpTcpClient, VstpTcpServer, encode_frame};

/// A server, a client and the bytes between them, in one process
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vstp demo
  vstp demo 'what I have to say'")]
pub(crate) struct DemoArgs {
    /// What the client says
    #[arg(value_name = "TEXT", default_value = "hello")]
    text: String,
}

pub(crate) fn run(args: DemoArgs, talk: Talk) -> Result<(), Failure> {
    let color = talk.color.on_stdout();
    let (bold, off) = paint(color, "1");
    let step = |number: u32, text: &str| output::line(format!("\n{bold}{number}. {text}{off}"));

    // Certificates that live as long as this process, so that nothing is left behind.
    let certs = dev::generate()?;
    let seen: Arc<Mutex<Option<Frame>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let server = VstpTcpServer::bind_with("127.0.0.1:0", certs.server()?, ServerConfig::default())?;
    let addr = server.local_addr();
    let handle = server.spawn(move |_: &Session, frame: Frame| {
        let answer = Frame::data(frame.payload.to_ascii_uppercase());
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
        answer
    })?;
    step(1, "A server listens, and a client connects")?;
    let began = clock::now();
    let mut client = VstpTcpClient::connect_with(addr, &certs.client()?, TcpConfig::default())?;
    let took = millis(clock::now().saturating_duration_since(began));
    let tls = client
        .tls()
        .ok_or_else(|| Failure::new(exit::OTHER, "the connection has no TLS"))?;
    output::line(format!(
        "   vstp://{addr} in {took:.1} ms, handshake included"
    ))?;
    output::line(format!(
        "   {}, {}, {}",
        tls.version, tls.cipher_suite, tls.alpn
    ))?;

    let request = Frame::data(args.text)
        .with_header("content-type", "text/plain")
        .with_header(keys::CORRELATION_ID, "1");
    step(2, "The client sends a frame; TLS encrypts it on the way")?;
    // As it is in plaintext, so that there is a checksum to show.
    output::data(inspect::explain(&encode_frame(&request)?, color).as_bytes())?;
    let began = clock::now();
    client.send(&request)?;
    let answer = client.recv()?;
    let took = millis(clock::now().saturating_duration_since(began));
    let answer = answer.ok_or_else(|| Failure::new(exit::CONNECT, "the server said goodbye"))?;

    step(
        3,
        &format!("The answer, {took:.3} ms later, names the request it belongs to"),
    )?;
    output::data(inspect::explain(&encode_frame(&answer)?, color).as_bytes())?;

    step(4, "Without TLS, a byte that is damaged on the way is found")?;
    let mut damaged = encode_frame(&request)?;
    let middle = damaged.len() - 6;
    damaged[middle] ^= 0x20;
    output::data(inspect::explain(&damaged, color).as_bytes())?;

    client.close()?;
    let report = handle.shutdown(Duration::from_secs(5));
    let arrived = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    if arrived.as_ref() != Some(&request) || report.cut_off > 0 {
        return Err(Failure::new(
            exit::INTEGRITY,
            "the server saw another frame",
        ));
    }
    step(5, "Try it yourself")?;
    output::line("   vstp server --dev        in one terminal")?;
    output::line("   vstp call vstp://localhost -d hello        in another")
}
