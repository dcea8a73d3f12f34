//! `vstp listen`: prints messages, those that a server sends us or those that are sent to an address of ours.

use crate::again::{Again, AgainArgs};
use crate::connect::ConnectArgs;
use crate::exit::{self, Failure};
use crate::link::Received;
use crate::message::{self, Form};
use crate::output::Talk;
use crate::server::{self, Binding, Handler, LimitArgs, Peer};
use crate::signals::{self, Event};
use crate::url::Url;
use clap::Args;
use crossbeam_channel::{Receiver, Sender, bounded, select_biased};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use vstp::Frame;
use vstp::net::clock;
use vstp::serve::{IntoReply, Reply};

const EXAMPLES: &str = "\
Examples:
  vstp listen vstp://localhost                  connect, and print what the server sends
  vstp listen 127.0.0.1:6969 --dev              be a server, and print what clients send
  vstp listen 0.0.0.0:6969 --udp --json         the same over UDP, one JSON object a message
  vstp listen 127.0.0.1:0 --dev --count 1 --raw > file
  vstp listen vstp://host --reconnect           also when the server says goodbye, until it is back

Senders that ask for an acknowledgement get it when the message is in our queue; they are slowed down when we \
cannot print as fast as they send.";

/// Messages that may wait to be printed; more make their senders wait.
const WAITING: usize = 64;

/// Print messages as they come
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListenArgs {
    /// A server's URL to connect to, or an address of this machine to listen on
    #[arg(value_name = "URL|ADDR", env = "VSTP_URL")]
    target: String,
    /// End after so many messages
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// One JSON object for each message
    #[arg(long, conflicts_with_all = ["hex", "raw"])]
    json: bool,
    /// The payload as a hex dump
    #[arg(long, conflicts_with = "raw")]
    hex: bool,
    /// The payload as it is, nothing between two messages
    #[arg(long)]
    raw: bool,
    /// With ADDR: a certificate for this machine made on the spot
    #[arg(long)]
    dev: bool,
    /// With ADDR: UDP
    #[arg(long)]
    udp: bool,
    /// With ADDR: TCP and UDP at one port
    #[arg(long, conflicts_with = "udp")]
    auto: bool,
    /// With ADDR: accept only clients with a certificate of these authorities (PEM)
    #[arg(long, value_name = "FILE", env = "VSTP_CLIENT_CA")]
    client_ca: Option<PathBuf>,
    #[command(flatten)]
    again: AgainArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(crate) fn run(args: ListenArgs, talk: Talk) -> Result<(), Failure> {
    let form = match (args.json, args.hex, args.raw) {
        (true, ..) => Form::Json,
        (_, true, _) => Form::Hex,
        (.., true) => Form::Raw,
        _ => Form::People,
    };
    let left = args.count.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(());
    }
    let events = signals::listen(false)?;
    if !Url::is_url(&args.target) {
        if args.again.reconnect && !args.again.from_env.reconnect {
            return Err(Failure::usage(
                "--reconnect is for a URL; an address of this machine is listened on all the time",
            ));
        }
        return as_server(args, form, left, &events, talk);
    }
    if args.dev || args.udp || args.auto || args.client_ca.is_some() {
        return Err(Failure::usage(
            "--dev, --udp, --auto and --client-ca are for an address of this machine; a URL says all of that itself",
        ));
    }
    let url: Url = args.target.parse().map_err(Failure::usage)?;
    let again = Again::new(&url, &args.connect, &args.again, talk);
    as_client(again, form, left, &events)
}

fn as_client(
    mut again: Again<'_>,
    form: Form,
    mut left: u64,
    events: &Receiver<Event>,
) -> Result<(), Failure> {
    loop {
        let mut link = match again.connect(events)? {
            ControlFlow::Continue(link) => link,
            ControlFlow::Break(event) => return told(event),
        };
        again.talk.say(format!("vstp: connected to {}", again.url));
        let lost = loop {
            if let Ok(Event::Stop { interrupted }) = events.try_recv() {
                link.leave();
                return stopped(interrupted);
            }
            match link.recv(clock::now().checked_add(Duration::from_millis(200))) {
                Ok(None) => {}
                Ok(Some(Received::End)) if !again.on => return Ok(()),
                Ok(Some(Received::End)) => {
                    break Failure::new(exit::CONNECT, "the server said goodbye");
                }
                Ok(Some(Received::Refused(_, failure))) => again.talk.warn(failure.message),
                Ok(Some(Received::Message(frame))) => {
                    message::print(&frame, None, form)?;
                    left -= 1;
                    if left == 0 {
                        link.leave();
                        return Ok(());
                    }
                }
                Err(error) => break error.into(),
            }
        };
        if let Some(event) = again.pause(lost, events)? {
            return told(event);
        }
    }
}

/// SIGINT is an answer to waiting, SIGTERM an order.
fn stopped(interrupted: bool) -> Result<(), Failure> {
    if interrupted {
        return Err(Failure::interrupted());
    }
    Ok(())
}

fn told(event: Event) -> Result<(), Failure> {
    stopped(matches!(event, Event::Stop { interrupted: true }))
}

fn as_server(
    args: ListenArgs,
    form: Form,
    mut left: u64,
    events: &Receiver<Event>,
    talk: Talk,
) -> Result<(), Failure> {
    let (sender, messages) = bounded(WAITING);
    let event_log = args.connect.event_log()?;
    let binding = Binding {
        address: server::address(&args.target).map_err(Failure::usage)?,
        cert: args.connect.cert,
        key: args.connect.key,
        client_ca: args.client_ca,
        keylog: args.connect.keylog,
        token_file: args.connect.token_file,
        token_bound: args.connect.token_bound,
        dev: args.dev,
        plaintext: args.connect.plaintext,
        udp: args.udp,
        auto: args.auto,
        compress: args.connect.compress,
        event_log,
        limits: LimitArgs {
            max_frame_size: args.connect.max_frame_size,
            ..LimitArgs::default()
        },
    };
    let running = binding.start(queue(sender))?;
    let url = format!("{}://{}", binding.scheme().name(), running.local_addr());
    // On stderr, as stdout holds the messages and nothing else.
    talk.say(format!("listening on {url} ({})", binding.transport()));
    let end = loop {
        let printed = select_biased! {
            recv(messages) -> message => match message {
                Ok((frame, from)) => message::print(&frame, Some(from), form),
                Err(_) => break Ok(()),
            },
            recv(events) -> event => match event {
                Ok(Event::Stop { interrupted }) => break stopped(interrupted),
                Ok(Event::Reload) | Err(_) => continue,
            },
        };
        left -= 1;
        if printed.is_err() || left == 0 {
            break printed;
        }
    };
    // Handlers that wait for room in the queue see that nobody takes from it any more.
    drop(messages);
    running.shutdown(binding.limits.grace.min(Duration::from_secs(2)));
    end
}

fn queue(sender: Sender<(Frame, SocketAddr)>) -> Handler {
    Arc::new(move |peer: &Peer<'_>, frame: Frame| {
        let _ = sender.send((frame, peer.addr()));
        Reply::None.into_reply()
    })
}
