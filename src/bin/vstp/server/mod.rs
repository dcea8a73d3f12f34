//! `vstp server`: echo, a program for each request, files, or the other side of a benchmark.

mod bind;
mod exec;

pub(crate) use bind::{Binding, Handler, LimitArgs, Peer, Running};

use crate::bench;
use crate::events;
use crate::exit::Failure;
use crate::file;
use crate::output::{self, Talk};
use crate::signals::{self, Event};
use crate::units;
use clap::Args;
use clap::builder::FalseyValueParser;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use vstp::Frame;
use vstp::net::Address;
use vstp::proto::keys;
use vstp::serve::{IntoReply, MetricsServer};
use vstp::wire::DEFAULT_MAX_FRAME_SIZE;

const EXAMPLES: &str = "\
Examples:
  vstp server --dev                                  echo on 127.0.0.1:6969, for trying things out
  vstp server 0.0.0.0:6969 --cert c.pem --key k.pem  echo, with a certificate of your own
  vstp server --dev --exec 'tr a-z A-Z'              the answer is what a program prints
  vstp server --dev --dir ./files                    files for `vstp file send` and `vstp file recv`
  vstp server --dev --metrics 127.0.0.1:9464         numbers for Prometheus
  vstp server --udp --bench                          the other side of `vstp bench`
  vstp server 127.0.0.1:7000 --plaintext --auto      TCP and UDP at one port, for trying things out
  vstp server --dev --auto                           TLS, and datagrams sealed with keys of it

With --auto clients of vstp+auto:// use both transports. In plaintext those of vstp+tcp:// and vstp+udp:// are served too; \
with TLS those of vstp://, and no datagram that is not sealed.

The address is printed on stdout when the server listens; with port 0 the system chooses the port.
SIGINT or SIGTERM ends the server in order, a second one at once; SIGHUP reads the certificate again.
A program of --exec finds VSTP_PEER_ADDR, VSTP_SESSION_ID and, with tokens, VSTP_IDENTITY in its environment.";

/// Serve: echo (default), a program, files, or benchmarks
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServerArgs {
    /// Where to listen
    #[arg(value_name = "ADDR", env = "VSTP_LISTEN", default_value = "127.0.0.1:6969", value_parser = address)]
    address: Address,
    /// The program that answers: run by the shell for each message, payload in, answer out
    #[arg(long, value_name = "CMD", conflicts_with_all = ["dir", "bench"])]
    exec: Option<String>,
    /// How long a program of --exec may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration, requires = "exec")]
    exec_timeout: Duration,
    /// Keep files in this folder for `vstp file`
    #[arg(long, value_name = "DIR", conflicts_with = "bench")]
    dir: Option<PathBuf>,
    /// With --dir: files can be fetched, not sent
    #[arg(long, requires = "dir")]
    read_only: bool,
    /// With --dir: a file that is sent may replace one that is there
    #[arg(long, requires = "dir", conflicts_with = "read_only")]
    overwrite: bool,
    /// Answer `vstp bench`, which may make this machine send as fast as it can
    #[arg(long)]
    bench: bool,
    /// The certificate chain (PEM); needs --key
    #[arg(long, value_name = "FILE", env = "VSTP_CERT", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert (PEM)
    #[arg(long, value_name = "FILE", env = "VSTP_KEY", requires = "cert")]
    key: Option<PathBuf>,
    /// Accept only clients with a certificate of these authorities (PEM)
    #[arg(long, value_name = "FILE", env = "VSTP_CLIENT_CA", requires = "cert")]
    client_ca: Option<PathBuf>,
    /// Accept only clients with a token of this file: lines of TOKEN or NAME TOKEN
    #[arg(long, value_name = "FILE", env = "VSTP_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Tokens are bound to their TLS connection (clients with --token-bound)
    #[arg(long, requires = "token_file")]
    token_bound: bool,
    /// Append the secrets of TLS to this file, for Wireshark: whoever reads it can read everything
    #[arg(long, value_name = "FILE", env = "VSTP_KEYLOG", requires = "cert")]
    keylog: Option<PathBuf>,
    /// A certificate for this machine made on the spot, which clients of the same user trust
    #[arg(long)]
    dev: bool,
    /// TCP without TLS: everybody on the way can read and change everything
    #[arg(long, env = "VSTP_PLAINTEXT", value_parser = FalseyValueParser::new())]
    plaintext: bool,
    /// UDP, in plaintext
    #[arg(long)]
    udp: bool,
    /// TCP and UDP at one port: TLS with sealed datagrams, or with --plaintext neither
    #[arg(long, conflicts_with = "udp")]
    auto: bool,
    /// Send messages as gzip where that makes them smaller and the client has it too
    #[arg(long, env = "VSTP_COMPRESS", value_parser = FalseyValueParser::new())]
    compress: bool,
    /// Write what happens on connections to this file, a JSON object a line (`vstp plot` draws it); replaces what is in it, and has no limit of size
    #[arg(long, value_name = "FILE", env = "VSTP_EVENT_LOG")]
    event_log: Option<PathBuf>,
    /// Answer GET /metrics here, for Prometheus; in plaintext, so keep it on a loopback or private address
    #[arg(long, value_name = "ADDR", env = "VSTP_METRICS", value_parser = address)]
    metrics: Option<Address>,
    /// End when the first client has come and gone
    #[arg(long)]
    once: bool,
    /// Print the address, and what happened at the end, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

pub(crate) fn address(text: &str) -> Result<Address, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no HOST:PORT; example: 0.0.0.0:6969"))
}

pub(crate) fn run(args: ServerArgs, talk: Talk) -> Result<(), Failure> {
    let max_len = args.limits.max_frame_size.unwrap_or(DEFAULT_MAX_FRAME_SIZE);
    // Room for the headers of the answer.
    let answer_len = max_len.saturating_sub(1024);
    let (handler, what): (Handler, _) = match (&args.exec, &args.dir) {
        (Some(command), _) => (
            exec::handler(command, args.exec_timeout, answer_len),
            "exec",
        ),
        (_, Some(dir)) => {
            let store = file::Store::open(dir, args.read_only, args.overwrite)?;
            (store.handler(), "files")
        }
        _ if args.bench => (bench::handler(), "bench"),
        _ => (
            Arc::new(|_: &Peer<'_>, frame| echo(&frame).into_reply()),
            "echo",
        ),
    };
    let binding = Binding {
        address: args.address,
        cert: args.cert,
        key: args.key,
        client_ca: args.client_ca,
        keylog: args.keylog,
        token_file: args.token_file,
        token_bound: args.token_bound,
        dev: args.dev,
        plaintext: args.plaintext,
        udp: args.udp,
        auto: args.auto,
        compress: args.compress,
        event_log: args.event_log.as_deref().map(events::log).transpose()?,
        limits: args.limits,
    };
    let events = signals::listen(true)?;
    let running = binding.start(handler)?;
    let url = format!("{}://{}", binding.scheme().name(), running.local_addr());
    let metrics = args
        .metrics
        .map(|address| serve_metrics(&address, &running));
    let metrics = metrics.transpose()?;
    let metrics_url = metrics
        .as_ref()
        .map(|metrics| format!("http://{}/metrics", metrics.local_addr()));
    if let Some(url) = &metrics_url {
        talk.say(format!("vstp: metrics at {url}"));
    }
    if args.json {
        output::json(json!({
            "event": "listening", "url": url, "serves": what, "metrics": metrics_url,
        }))?;
    } else {
        output::line(format!(
            "listening on {url} ({}, {what})",
            binding.transport()
        ))?;
    }
    if binding.plaintext || binding.udp {
        talk.say("vstp: plaintext: everybody on the way can read and change the messages");
    }
    serve_until_told(&running, &events, args.once, talk);
    let report = running.shutdown(binding.limits.grace);
    if args.json {
        output::json(json!({
            "event": "stopped",
            "connections": report.connections,
            "cut_off": report.cut_off,
        }))?;
    } else if report.cut_off > 0 {
        let grace = binding.limits.grace;
        talk.say(format!(
            "vstp: {} connections were cut off after {grace:?}",
            report.cut_off
        ));
    }
    Ok(())
}

fn serve_metrics(address: &Address, running: &Running) -> Result<MetricsServer, Failure> {
    let meter = running.meter().clone();
    MetricsServer::bind(address, move || meter.render_prometheus()).map_err(|error| {
        Failure::from(error).while_doing(format_args!("cannot serve metrics on {address}"))
    })
}

/// The same message, without what belonged to its first way: the wish for an acknowledgement.
fn echo(frame: &Frame) -> Frame {
    let mut answer = Frame::new(frame.typ).with_payload(frame.payload.as_slice());
    for header in frame
        .headers
        .iter()
        .filter(|h| h.key != keys::MSG_ID.as_bytes())
    {
        answer.headers.push(header.key, header.value);
    }
    answer
}

/// Until a signal asks for the end, or with `once` until the first client has gone.
pub(crate) fn serve_until_told(
    running: &Running,
    events: &Receiver<Event>,
    once: bool,
    talk: Talk,
) {
    let tick = if once {
        Duration::from_millis(50)
    } else {
        Duration::from_secs(3600)
    };
    loop {
        match events.recv_timeout(tick) {
            Ok(Event::Stop { .. }) => {
                return talk.say("vstp: stopping; once more to stop at once");
            }
            Ok(Event::Reload) => running.reload(talk),
            Err(RecvTimeoutError::Timeout) if once && running.is_done() => return,
            Err(RecvTimeoutError::Timeout) => {}
            // The thread that listens to signals never ends.
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
