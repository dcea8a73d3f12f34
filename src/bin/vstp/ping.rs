//! `vstp ping`: is the server there, how far away, and what does it say about itself.
//!
//! Over TCP the frames PING and PONG of one session; over UDP a PING without a session, which every VSTP
//! socket answers. Over both at once the client measures by itself, to choose, and what it measures is shown.

use crate::connect::ConnectArgs;
use crate::exit::{self, Failure};
use crate::link::{AutoLink, Link};
use crate::output::{self, Talk, paint};
use crate::signals::{self, Event};
use crate::units::{self, millis};
use crate::url::{Scheme, Url};
use crate::x509::Summary;
use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde_json::json;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;
use vstp::error::{ClosedBy, TimeoutKind};
use vstp::net::auto::{Path, Transports, UdpStatus};
use vstp::net::clock;
use vstp::proto::auto::{Transport, Via};
use vstp::wire::Buffer;
use vstp::{Frame, FrameType, VstpError, encode_frame, try_decode_frame};

const EXAMPLES: &str = "\
Examples:
  vstp ping vstp://localhost                 until Ctrl-C
  vstp ping vstp://example.org -n 5 -i 200ms
  vstp ping vstp+udp://10.0.0.7 -n 3 --json  one object for each answer, one for the summary

Over vstp+auto:// the times are the smoothed ones by which the client chooses its transport: that of the transport \
which messages take or --via names, and then each. The client measures every second at the most, so shorter intervals show \
a time more than once; while its measurements are not answered, no answer is counted.

The exit code is 4 when nothing answered.";

/// Measure round trips, and show TLS and certificates
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PingArgs {
    /// The server
    #[arg(value_name = "URL", env = "VSTP_URL")]
    url: Url,
    /// So many, instead of until Ctrl-C
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The time between two
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    interval: Duration,
    /// One JSON object for each answer, and one for the summary
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// One way to ask and be answered.
pub(crate) enum Probe {
    Link(Link),
    Udp(UdpSocket),
}

/// Between two looks whether a client over both transports has measured something.
const LOOK: Duration = Duration::from_millis(5);
/// How long it is waited for the first measurement of the transport that messages do not take.
const FIRST: Duration = Duration::from_secs(1);

/// Longest wait for one PONG where it can be lost, or where the client measures by itself.
const LOST_WAIT: Duration = Duration::from_secs(2);

impl Probe {
    pub(crate) fn open(url: &Url, connect: &ConnectArgs, talk: Talk) -> Result<Self, Failure> {
        if url.scheme != Scheme::Udp {
            return Ok(Self::Link(Link::connect(url, connect, talk)?));
        }
        connect.check(url, talk)?;
        if connect.event_log.is_some() && !connect.from_env.event_log {
            return Err(Failure::usage(
                "a PING over vstp+udp:// has no session, so --event-log has nothing to write; `vstp bench` opens one",
            ));
        }
        let failed = |error: std::io::Error| {
            let text = format!("cannot reach {url}: {error}");
            Failure::new(exit::CONNECT, text)
        };
        let host = (url.address.host(), url.address.port());
        let server = host.to_socket_addrs().map_err(failed)?.next();
        let server = server.ok_or_else(|| failed(std::io::Error::other("it has no address")))?;
        let any: SocketAddr = if server.is_ipv4() {
            ([0; 4], 0).into()
        } else {
            ([0; 16], 0).into()
        };
        let socket = UdpSocket::bind(any).map_err(failed)?;
        socket.connect(server).map_err(failed)?;
        let wait = connect.timeout.min(LOST_WAIT).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(wait)).map_err(failed)?;
        Ok(Self::Udp(socket))
    }

    /// One round trip; `Timeout(Recv)` when no answer came.
    pub(crate) fn round_trip(
        &mut self,
        number: u64,
        timeout: Duration,
    ) -> Result<Duration, VstpError> {
        match self {
            Self::Link(Link::Tcp(client)) => client.ping(),
            // `open` makes no such link.
            Self::Link(Link::Udp(_)) => Err(VstpError::Cancelled),
            Self::Link(Link::Auto(link)) => auto_round_trip(link, timeout),
            Self::Udp(socket) => udp_round_trip(socket, number),
        }
    }

    fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Link(link) => Some(link.peer_addr()),
            Self::Udp(socket) => socket.peer_addr().ok(),
        }
    }

    /// What both sides can do; nothing is known of it without a session.
    fn features(&self) -> Vec<String> {
        let features = match self {
            Self::Link(Link::Tcp(client)) => client.features().to_string(),
            Self::Link(Link::Auto(link)) => link.client.features().to_string(),
            Self::Link(Link::Udp(_)) | Self::Udp(_) => String::new(),
        };
        let names = features.split(',').filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }

    /// Whether a PING without an answer says nothing about the next one.
    const fn can_lose(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::Link(Link::Auto(_)))
    }

    /// What a client over both transports has measured.
    fn transports(&self) -> Option<Transports> {
        match self {
            Self::Link(Link::Auto(link)) => Some(link.client.transports()),
            Self::Link(_) | Self::Udp(_) => None,
        }
    }

    /// The server's certificate chain, its own first.
    pub(crate) fn chain(&self) -> Result<Vec<Summary>, Failure> {
        let tls = match self {
            Self::Link(link) => link.tls(),
            Self::Udp(_) => None,
        };
        let certificates = tls.map(|tls| tls.certificates.as_slice());
        let chain = certificates.unwrap_or_default();
        chain.iter().map(|der| Summary::of(der)).collect()
    }

    pub(crate) fn close(self) {
        if let Self::Link(link) = self {
            link.leave();
        }
    }
}

/// The time of a transport that answers: what was measured before it went silent says nothing.
fn measured(path: Path) -> Option<Duration> {
    path.score.filter(|_| path.failures == 0)
}

/// The time of the transport that messages take, or that `--via` names.
fn auto_round_trip(link: &AutoLink, timeout: Duration) -> Result<Duration, VstpError> {
    let began = clock::now();
    let first = FIRST.min(timeout / 2);
    loop {
        match link.client.try_recv() {
            Ok(Some(_)) | Err(VstpError::Timeout(_)) => {}
            Ok(None) => return Err(VstpError::ConnectionClosed(ClosedBy::Peer(None))),
            Err(error) => return Err(error),
        }
        let transports = link.client.transports();
        let path = match (link.via, transports.current) {
            (Via::Tcp, _) | (Via::Auto, Transport::Tcp) => transports.tcp,
            (Via::Udp, _) | (Via::Auto, Transport::Udp) => transports.udp,
        };
        let waited = clock::now().saturating_duration_since(began);
        // Where there is UDP, its time is shown as well.
        let is_measured = link.via != Via::Auto
            || transports.udp_status != UdpStatus::Open
            || transports.udp.score.is_some();
        match measured(path) {
            Some(time) if is_measured || waited > first => return Ok(time),
            _ => {}
        }
        if waited >= timeout {
            return Err(VstpError::Timeout(TimeoutKind::Recv));
        }
        let _ = crossbeam_channel::after(LOOK).recv();
    }
}

fn udp_round_trip(socket: &UdpSocket, number: u64) -> Result<Duration, VstpError> {
    let token = [
        number.to_be_bytes(),
        u64::from(std::process::id()).to_be_bytes(),
    ]
    .concat();
    let ping = Frame::new(FrameType::Ping).with_payload(token.as_slice());
    let began = clock::now();
    socket.send(&encode_frame(&ping)?).map_err(VstpError::Io)?;
    let mut datagram = [0; 2048];
    loop {
        let len = match socket.recv(&mut datagram) {
            Ok(len) => len,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(VstpError::Timeout(TimeoutKind::Recv));
            }
            Err(error) => return Err(error.into()),
        };
        let took = clock::now().saturating_duration_since(began);
        let mut buffer = Buffer::from(datagram[..len].to_vec());
        let answer = try_decode_frame(&mut buffer, datagram.len());
        let is_ours =
            matches!(&answer, Ok(Some(f)) if f.typ == FrameType::Pong && f.payload == token);
        if is_ours {
            return Ok(took);
        }
        if took > LOST_WAIT {
            return Err(VstpError::Timeout(TimeoutKind::Recv));
        }
    }
}

/// Minimum, mean, maximum and standard deviation.
#[derive(Debug, Default)]
struct Statistics {
    sent: u64,
    times: Vec<f64>,
}

impl Statistics {
    fn summary(&self) -> Option<[f64; 4]> {
        let count = self.times.len() as f64;
        let min = self.times.iter().copied().reduce(f64::min)?;
        let max = self.times.iter().copied().reduce(f64::max)?;
        let mean = self.times.iter().sum::<f64>() / count;
        let variance = self.times.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / count;
        Some([min, mean, max, variance.sqrt()])
    }
}

/// Kept for the standard deviation; the oldest go first.
const KEPT: usize = 100_000;

pub(crate) fn run(mut args: PingArgs, talk: Talk) -> Result<(), Failure> {
    args.connect.probe_interval = Some(args.interval);
    let events = signals::listen(false)?;
    let mut probe = Probe::open(&args.url, &args.connect, talk)?;
    introduce(&probe, &args, talk)?;
    let mut statistics = Statistics::default();
    let result = ask(&mut probe, &args, &events, &mut statistics);
    probe.close();
    print_summary(&args, &statistics)?;
    result?;
    if statistics.times.is_empty() {
        return Err(Failure::new(
            exit::TIMEOUT,
            format!("{} did not answer", args.url),
        ));
    }
    Ok(())
}

fn introduce(probe: &Probe, args: &PingArgs, talk: Talk) -> Result<(), Failure> {
    let tls = match probe {
        Probe::Link(link) => link.tls(),
        Probe::Udp(_) => None,
    };
    let chain = probe.chain()?;
    let peer = probe.peer().map(|peer| peer.to_string());
    if args.json {
        return output::json(json!({
            "event": "connected",
            "url": args.url.to_string(),
            "peer": peer,
            "features": probe.features(),
            "tls": tls.map(|tls| json!({
                "version": tls.version, "cipher_suite": tls.cipher_suite, "alpn": tls.alpn,
            })),
            "certificates": chain.iter().map(Summary::to_json).collect::<Vec<_>>(),
        }));
    }
    let secured = tls.map_or("plaintext".to_owned(), |tls| {
        format!("{}, {}, {}", tls.version, tls.cipher_suite, tls.alpn)
    });
    output::line(format!(
        "{} ({}): {secured}",
        args.url,
        peer.unwrap_or_default()
    ))?;
    for (depth, certificate) in chain.iter().enumerate() {
        let colour = match certificate.days_left {
            ..0 => "1;31",
            0..14 => "1;33",
            _ => "32",
        };
        let (on, off) = paint(talk.color.on_stdout(), colour);
        let expiry = certificate.expiry();
        output::line(format!(
            "  {depth}: {}, {on}{expiry}{off}",
            certificate.title()
        ))?;
    }
    Ok(())
}

fn ask(
    probe: &mut Probe,
    args: &PingArgs,
    events: &Receiver<Event>,
    statistics: &mut Statistics,
) -> Result<(), Failure> {
    for number in 1..=args.count.unwrap_or(u64::MAX) {
        statistics.sent += 1;
        let began = clock::now();
        let timeout = if probe.can_lose() {
            args.connect.timeout.min(LOST_WAIT)
        } else {
            args.connect.timeout
        };
        match probe.round_trip(number, timeout) {
            Ok(time) => {
                let time = millis(time);
                if statistics.times.len() == KEPT {
                    statistics.times.remove(0);
                }
                statistics.times.push(time);
                let transports = probe.transports();
                if args.json {
                    let mut object = json!({"event": "answer", "seq": number, "ms": time});
                    if let Some(all) = transports {
                        object["transport"] = all.current.to_string().into();
                        object["tcp_ms"] = measured(all.tcp).map(millis).into();
                        object["udp_ms"] = measured(all.udp).map(millis).into();
                        object["udp_sealed"] = all.is_udp_sealed.into();
                    }
                    output::json(object)?;
                } else {
                    let both = transports.map_or(String::new(), |all| both(&all));
                    output::line(format!("seq={number} time={time:.3} ms{both}"))?;
                }
            }
            Err(VstpError::Timeout(TimeoutKind::Recv)) if probe.can_lose() => {
                if args.json {
                    output::json(json!({"event": "lost", "seq": number}))?;
                } else {
                    output::line(format!("seq={number} no answer"))?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        if args.count == Some(number) {
            break;
        }
        let spent = clock::now().saturating_duration_since(began);
        match events.recv_timeout(args.interval.saturating_sub(spent)) {
            // The answers so far are what was asked for: as with ping(8), no error.
            Ok(Event::Stop { .. }) => break,
            Ok(Event::Reload) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            }
        }
    }
    Ok(())
}

/// `, takes TCP (TCP 0.081 ms, UDP 0.062 ms, sealed)`.
fn both(all: &Transports) -> String {
    let shown = |name, path| match measured(path) {
        Some(time) => format!("{name} {:.3} ms", millis(time)),
        None => format!("{name} does not answer"),
    };
    let (tcp, udp) = (shown("TCP", all.tcp), shown("UDP", all.udp));
    let sealed = if all.is_udp_sealed { ", sealed" } else { "" };
    format!(", takes {} ({tcp}, {udp}{sealed})", all.current)
}

fn print_summary(args: &PingArgs, statistics: &Statistics) -> Result<(), Failure> {
    let (sent, answered) = (statistics.sent, statistics.times.len());
    let summary = statistics.summary();
    if args.json {
        let [min, avg, max, mdev] = summary.map_or([None; 4], |all| all.map(Some));
        return output::json(json!({
            "event": "summary", "sent": sent, "answered": answered,
            "min_ms": min, "avg_ms": avg, "max_ms": max, "mdev_ms": mdev,
        }));
    }
    output::line(format!(
        "--- {}: {sent} sent, {answered} answered",
        args.url
    ))?;
    match summary {
        None => Ok(()),
        Some([min, avg, max, mdev]) => output::line(format!(
            "round trip min/avg/max/mdev = {min:.3}/{avg:.3}/{max:.3}/{mdev:.3} ms"
        )),
    }
}
