//! `vstp send`: messages to a server, no answers.

use crate::again::{Again, AgainArgs};
use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::link::Link;
use crate::message::{self, HeaderArg};
use crate::output::{self, Talk};
use crate::url::Url;
use clap::Args;
use crossbeam_channel::never;
use serde_json::json;
use std::fs;
use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use vstp::FrameType;

const EXAMPLES: &str = "\
Examples:
  vstp send vstp://localhost -m hello              one message
  date | vstp send vstp://localhost                all of stdin as one message
  tail -f log | vstp send vstp://localhost -l      a message for each line
  vstp send vstp+udp://10.0.0.7 -f state.bin --ack until the server has acknowledged it
  vstp send vstp://localhost -m '{}' -H content-type=application/json
  tail -f log | vstp send vstp://host -l --ack --reconnect   also when the server is restarted in between

With --reconnect a message that failed is sent again on the next connection: with --ack each arrives at least once; without, \
what was on its way when the connection broke is lost.
Over UDP without --ack nobody knows whether a message arrives; vstp+auto:// takes UDP where that is faster.";

/// Send messages and wait for no answer
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SendArgs {
    /// The server
    #[arg(value_name = "URL", env = "VSTP_URL")]
    url: Url,
    /// The message
    #[arg(short, long, value_name = "TEXT", group = "source")]
    message: Option<String>,
    /// Send this file as one message
    #[arg(short, long, value_name = "FILE", group = "source")]
    file: Option<PathBuf>,
    /// Send each line of stdin as a message, as it comes
    #[arg(short, long, group = "source")]
    lines: bool,
    /// Send all of stdin as one message (the default)
    #[arg(short, long, group = "source")]
    stdin: bool,
    /// A header; may be repeated
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE")]
    headers: Vec<HeaderArg>,
    /// The frame type: DATA, or 0x10 to 0xff
    #[arg(long = "type", value_name = "TYPE", default_value = "DATA", value_parser = message::frame_type)]
    typ: FrameType,
    /// Wait for the acknowledgement of each message
    #[arg(long)]
    ack: bool,
    /// Print what was sent as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    again: AgainArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(crate) fn run(args: SendArgs, talk: Talk) -> Result<(), Failure> {
    // What cannot be read is found before anybody is connected to.
    let whole = match (&args.message, &args.file) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (_, Some(path)) => Some(fs::read(path).map_err(|e| Failure::file(path, &e))?),
        _ if args.lines => None,
        _ => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map_err(stdin_failed)?;
            Some(bytes)
        }
    };
    let mut again = Again::new(&args.url, &args.connect, &args.again, talk);
    let mut link = connected(&mut again)?;
    let (mut count, mut len) = (0_u64, 0_u64);
    let mut send = |link: &mut Link, payload: Vec<u8>| -> Result<(), Failure> {
        count += 1;
        len += payload.len() as u64;
        let frame = message::frame(args.typ, &args.headers, payload);
        loop {
            let sent = match (args.ack, again.on) {
                (true, true) => link.send_with_ack(frame.clone()),
                // Not needed again.
                (true, false) => return Ok(link.send_with_ack(frame)?),
                (false, _) => link.send(&frame),
            };
            let Err(error) = sent else { return Ok(()) };
            again.pause(error.into(), &never())?;
            *link = connected(&mut again)?;
        }
    };
    match whole {
        Some(payload) => send(&mut link, payload)?,
        None => {
            let mut input = io::stdin().lock();
            let mut line = Vec::new();
            while input.read_until(b'\n', &mut line).map_err(stdin_failed)? > 0 {
                let end = line.strip_suffix(b"\n").unwrap_or(&line);
                send(&mut link, end.to_vec())?;
                line.clear();
            }
        }
    }
    let server = link.peer_addr();
    let closed = link.close();
    // What was acknowledged has arrived, however the connection ends.
    if !(args.ack && args.again.reconnect) {
        closed?;
    }
    if args.json {
        output::json(
            json!({"event": "sent", "to": server.to_string(), "messages": count, "bytes": len}),
        )?;
    }
    Ok(())
}

/// No signal is listened to: the system's own answer to it ends the command.
fn connected(again: &mut Again<'_>) -> Result<Link, Failure> {
    loop {
        if let ControlFlow::Continue(link) = again.connect(&never())? {
            return Ok(link);
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "map_err gives the error away"
)]
fn stdin_failed(error: io::Error) -> Failure {
    Failure::new(crate::exit::LOCAL, format!("stdin: {error}"))
}
