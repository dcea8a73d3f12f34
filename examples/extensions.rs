//! Extensions and compression: a log of what passes, a message type of one's own, and text that travels as gzip.
//!
//!     cargo run --example extensions -- [LINES]      (default 1000)
//!
//! Server and client run in this process, over plaintext TCP. Both log what passes; the server answers the type
//! `STATUS` in an extension, so that its handler never sees it, and counts words in its handler.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vstp::error::HandlerError;
use vstp::ext::{
    CompressionConfig, Direction, ExtensionContext, ExtensionHandler, ExtensionRegistry, Outcome,
};
use vstp::net::tcp::TcpConfig;
use vstp::serve::{ServerConfig, Session};
use vstp::{Frame, FrameType, VstpError, VstpTcpClient, VstpTcpServer};

/// A message type of this application.
const STATUS: FrameType = FrameType::Custom(0x20);

/// Prints what passes.
struct Log(&'static str);

impl ExtensionHandler for Log {
    fn should_handle(&self, _: &Frame) -> bool {
        true
    }

    fn handle_frame(
        &self,
        frame: Frame,
        context: &ExtensionContext,
    ) -> Result<Outcome, HandlerError> {
        let way = match context.direction {
            Direction::Inbound => "receives",
            Direction::Outbound => "sends",
        };
        println!(
            "{} {way} {} of {} bytes",
            self.0,
            frame.typ,
            frame.payload.len()
        );
        Ok(Outcome::Pass(frame))
    }
}

/// Answers `STATUS` with the number of messages so far, and refuses empty ones.
struct Status(AtomicU64);

impl ExtensionHandler for Status {
    fn should_handle(&self, _: &Frame) -> bool {
        true
    }

    fn handle_frame(&self, frame: Frame, _: &ExtensionContext) -> Result<Outcome, HandlerError> {
        if frame.typ == STATUS {
            let text = format!("{} messages", self.0.load(Ordering::Relaxed));
            return Ok(Outcome::Answer(vec![Frame::new(STATUS).with_payload(text)]));
        }
        if frame.payload.is_empty() {
            return Err(HandlerError::new(
                vstp::proto::ErrorCode::BadRequest,
                "an empty message",
            ));
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Outcome::Pass(frame))
    }
}

fn main() -> ExitCode {
    env_logger::init();
    let lines = match env::args().nth(1).map(|lines| lines.parse::<usize>()) {
        None => 1000,
        Some(Ok(lines)) => lines,
        Some(Err(_)) => {
            println!(
                "usage: extensions [LINES]\n\nSends so many lines of text as gzip. The default is 1000."
            );
            return ExitCode::SUCCESS;
        }
    };
    match run(lines) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("extensions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(lines: usize) -> Result<(), VstpError> {
    let mut extensions = ExtensionRegistry::new();
    extensions.register("log", Log("server"));
    extensions.register_only(Direction::Inbound, "status", Status(AtomicU64::new(0)));
    let config = ServerConfig::default()
        .compression(CompressionConfig::default())
        .extensions(extensions);
    let server = VstpTcpServer::bind_plain_with("127.0.0.1:0", config)?;
    let addr = server.local_addr();
    let handle = server.spawn(|_: &Session, frame: Frame| {
        let words = frame
            .payload
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        Frame::data(format!("{} words", words.count()))
    })?;

    let mut extensions = ExtensionRegistry::new();
    extensions.register("log", Log("client"));
    let config = TcpConfig::default()
        .compression(CompressionConfig::default())
        .extensions(Arc::new(extensions));
    let mut client = VstpTcpClient::connect_plain_with(addr, config)?;
    let text: String = (0..lines)
        .map(|n| format!("line {n} of the text\n"))
        .collect();
    let before = client.stats().bytes_sent;
    for frame in [Frame::data(text), Frame::new(STATUS)] {
        client.send(&frame)?;
        if let Some(answer) = client.recv()? {
            println!(
                "{}: {}",
                answer.typ,
                String::from_utf8_lossy(&answer.payload)
            );
        }
    }
    println!(
        "{} bytes left the client",
        client.stats().bytes_sent - before
    );

    // An extension that fails: the request ends with ERR, and nothing else does.
    client.send(&Frame::data("").with_header("correlation-id", "1"))?;
    match client.recv() {
        Err(VstpError::ServerError(error)) => println!("refused: {error}"),
        other => println!("{other:?}"),
    }
    client.close()?;
    handle.shutdown(Duration::from_secs(1));
    Ok(())
}
