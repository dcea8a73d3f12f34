//! `vstp call`: a request and its answer.

use crate::again::{self, AgainArgs};
use crate::connect::ConnectArgs;
use crate::exit::{self, Failure};
use crate::link::Link;
use crate::message::{self, Form, HeaderArg};
use crate::output::{self, Talk};
use crate::units::millis;
use crate::url::{Scheme, Url};
use clap::Args;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use vstp::easy::{CallOptions, ConnectionState, Connector, ReconnectConfig, ReconnectingClient};
use vstp::error::TimeoutKind;
use vstp::net::{CallError, Sent, clock};
use vstp::proto::keys;
use vstp::{Frame, FrameType, VstpError};

const EXAMPLES: &str = "\
Examples:
  vstp call vstp://localhost -d '{\"name\": \"world\"}'   JSON on the command line
  vstp call vstp://localhost -d @request.json          from a file
  echo 42 | vstp call vstp://localhost -d @-           from stdin
  vstp call vstp://localhost -d hello --repeat 100 --json | jq .ms
  vstp call vstp://host -d status --reconnect          waits until the server is there
  vstp call vstp+auto://host -d hello --via udp        over sealed datagrams

With --reconnect a request of which nothing was sent is sent on the next connection; one that was sent when the connection \
broke may have been handled, and is sent again only with --idempotent. --timeout holds for all attempts together.";

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
    /// With --reconnect: handling the request twice does no harm, so it may be sent again
    #[arg(long, requires = "reconnect")]
    idempotent: bool,
    #[command(flatten)]
    again: AgainArgs,
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
    let is_stream = matches!(args.url.scheme, Scheme::Tls | Scheme::Tcp);
    if args.again.reconnect && (is_stream || !args.again.from_env.reconnect) {
        let client = reconnecting(&args, talk)?;
        let options = CallOptions::new().timeout(args.connect.timeout);
        let options = match args.idempotent {
            true => options.idempotent(),
            false => options,
        };
        return ask(&args, &payload, form, |request, _| {
            let called = client.call_frame(&request, options);
            called.map_err(|error| failed(error, &client, &args))
        });
    }
    let mut link = Link::connect(&args.url, &args.connect, talk)?;
    ask(&args, &payload, form, |request, number| {
        // Messages that answer nothing are not what was asked for.
        link.call(request, &number.to_string(), args.connect.timeout, |_| ())
    })?;
    link.close()?;
    Ok(())
}

/// Asks as often as was wanted, and prints the answers.
fn ask(
    args: &CallArgs,
    payload: &[u8],
    form: Form,
    mut call: impl FnMut(Frame, u64) -> Result<Frame, Failure>,
) -> Result<(), Failure> {
    for number in 1..=args.repeat {
        let began = clock::now();
        let answer = call(request(args, payload.to_vec()), number)?;
        let took = clock::now().saturating_duration_since(began);
        if form == Form::Json {
            let mut object = message::to_json(&answer, None);
            object["ms"] = millis(took).into();
            output::json(object)?;
        } else {
            message::print(&answer, None, form)?;
        }
    }
    Ok(())
}

/// A client that connects again, and says so.
fn reconnecting(args: &CallArgs, talk: Talk) -> Result<ReconnectingClient, Failure> {
    args.connect.check(&args.url, talk)?;
    let (address, config) = (&args.url.address, args.connect.tcp()?);
    // The end of the command waits for an attempt that is being made.
    let limit = args.connect.connect_timeout.min(args.connect.timeout);
    let config = config.connect_timeout(limit).handshake_timeout(limit);
    let connector = match args.url.scheme {
        Scheme::Tls => Connector::tcp_with(address, &args.connect.tls(&args.url)?, config),
        Scheme::Tcp => Connector::plain(address, config),
        Scheme::Udp | Scheme::Auto => {
            let text = "--reconnect of calls is for vstp:// and vstp+tcp://";
            return Err(Failure::usage(text));
        }
    };
    let url = args.url.clone();
    let config = ReconnectConfig::default();
    let config = config.give_up_on(|error| !again::can_pass(&error.into()));
    let config = config.on_state(move |state| {
        let (what, error, wait) = match state {
            ConnectionState::Lost { error, retry_in } => ("lost", error, retry_in),
            ConnectionState::Failed { error, retry_in } => ("no connection", error, retry_in),
            _ => return,
        };
        let wait = wait.as_secs_f64();
        talk.say(format!(
            "vstp: {url}: {what}: {error}; again in {wait:.1} s"
        ));
    });
    Ok(ReconnectingClient::with(connector?, config)?)
}

/// What became of the request, too.
fn failed(failed: CallError, client: &ReconnectingClient, args: &CallArgs) -> Failure {
    if let (Sent::No, ConnectionState::GaveUp { error }) = (failed.sent, client.state()) {
        let what = format!("cannot connect to {}", args.url);
        return Failure::from(&*error).while_doing(what);
    }
    if let (Sent::No, VstpError::Timeout(TimeoutKind::Connect)) = (failed.sent, &failed.error) {
        let cause = match client.state() {
            ConnectionState::Lost { error, .. } | ConnectionState::Failed { error, .. } => {
                format!(": {error}")
            }
            _ => String::new(),
        };
        let (url, limit) = (&args.url, args.connect.timeout);
        let text = format!("no connection to {url} within {limit:?} (--timeout){cause}");
        return Failure::new(exit::TIMEOUT, text);
    }
    let is_answer = matches!(failed.error, VstpError::ServerError(_));
    let failure = Failure::from(failed.error);
    match failed.sent {
        _ if is_answer => failure,
        Sent::No => failure,
        Sent::Yes => failure.while_doing("the request was sent, and no answer came"),
        Sent::Unknown => failure.while_doing("it is not known whether the request was handled"),
    }
}

fn request(args: &CallArgs, payload: Vec<u8>) -> Frame {
    let is_json = serde_json::from_slice::<serde_json::Value>(&payload).is_ok();
    let frame = message::frame(args.typ, &args.headers, payload);
    if is_json && frame.header(keys::CONTENT_TYPE).is_none() {
        return frame.with_header(keys::CONTENT_TYPE, "application/json");
    }
    frame
}
