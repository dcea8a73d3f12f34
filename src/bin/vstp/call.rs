//! `vstp call`: a request and its answer.

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::link::Link;
use crate::message::{self, Form, HeaderArg};
use crate::output::{self, Talk};
use crate::units::millis;
use crate::url::Url;
use clap::Args;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use vstp::net::clock;
use vstp::proto::keys;
use vstp::{Frame, FrameType};

const EXAMPLES: &str = "\
Examples:
  vstp call vstp://localhost -d '{\"name\": \"world\"}'   JSON on the command line
  vstp call vstp://localhost -d @request.json          from a file
  echo 42 | vstp call vstp://localhost -d @-           from stdin
  vstp call vstp://localhost -d hello --repeat 100 --json | jq .ms";

/// Send a request and print the answer
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CallArgs {
    /// The server
    #[arg(value_name = "URL", env = "VSTP_URL")]
    url: Url,
    /// The request: text, @FILE, or @- for stdin
    #[arg(short, long, value_name = "DATA|@FILE|@-", default_value = "@-")]
    data: String,
    /// A header; may be repeated. Valid JSON gets content-type=application/json by itself
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE")]
    headers: Vec<HeaderArg>,
    /// The frame type: DATA, or 0x10 to 0xff
    #[arg(long = "type", value_name = "TYPE", default_value = "DATA", value_parser = message::frame_type)]
    typ: FrameType,
    /// Ask so many times, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u64,
    /// Print answers as JSON objects with their time in milliseconds
    #[arg(long, conflicts_with_all = ["hex", "raw"])]
    json: bool,
    /// Print the payload of answers as a hex dump
    #[arg(long, conflicts_with = "raw")]
    hex: bool,
    /// Print the payload of answers as it is
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(crate) fn run(args: CallArgs, talk: Talk) -> Result<(), Failure> {
    let payload = match args.data.strip_prefix('@') {
        Some("-") => {
            let mut bytes = Vec::new();
            let read = io::stdin().read_to_end(&mut bytes);
            read.map_err(|e| Failure::file(Path::new("stdin"), &e))?;
            bytes
        }
        Some(path) => fs::read(path).map_err(|e| Failure::file(Path::new(path), &e))?,
        None => args.data.clone().into_bytes(),
    };
    let form = match (args.json, args.hex, args.raw) {
        (true, ..) => Form::Json,
        (_, true, _) => Form::Hex,
        (.., true) => Form::Raw,
        _ => Form::People,
    };
    let mut link = Link::connect(&args.url, &args.connect, talk)?;
    for number in 1..=args.repeat {
        let began = clock::now();
        let request = request(&args, payload.clone());
        // Messages that answer nothing are not what was asked for.
        let answer = link.call(request, &number.to_string(), args.connect.timeout, |_| ())?;
        let took = clock::now().saturating_duration_since(began);
        if form == Form::Json {
            let mut object = message::to_json(&answer, None);
            object["ms"] = millis(took).into();
            output::json(object)?;
        } else {
            message::print(&answer, None, form)?;
        }
    }
    link.close()?;
    Ok(())
}

fn request(args: &CallArgs, payload: Vec<u8>) -> Frame {
    let is_json = serde_json::from_slice::<serde_json::Value>(&payload).is_ok();
    let frame = message::frame(args.typ, &args.headers, payload);
    if is_json && frame.header(keys::CONTENT_TYPE).is_none() {
        return frame.with_header(keys::CONTENT_TYPE, "application/json");
    }
    frame
}
