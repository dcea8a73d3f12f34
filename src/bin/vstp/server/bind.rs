//! A listening server of any transport: the flags that say where and how, and the running thing.

use crate::connect::readable;
use crate::exit::Failure;
use crate::output::Talk;
use crate::token;
use crate::units;
use crate::url::Scheme;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use vstp::error::VstpError;
use vstp::ext::CompressionConfig;
use vstp::net::Address;
use vstp::net::Meter;
use vstp::net::event_log::EventLog;
use vstp::net::identity::Identity;
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::{ClientAuth, Roots, TlsServerConfig, dev};
use vstp::net::udp::UdpConfig;
use vstp::proto::rate::RateLimit;
use vstp::serve::{
    DualConfig, DualPeer, DualServerHandle, Reply, ServerConfig, ServerHandle, ServerStats,
    Session, ShutdownReport, UdpPeer, UdpServerHandle,
};
use vstp::{Frame, VstpDualServer, VstpTcpServer, VstpUdpServer};

/// What a server may use, and no more.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Connections at once, further clients wait (over UDP: sessions)
    #[arg(
        long,
        value_name = "N",
        env = "VSTP_MAX_CONNECTIONS",
        default_value_t = 1024
    )]
    pub(crate) max_connections: usize,
    /// Of these from one address, further ones are turned away
    #[arg(
        long,
        value_name = "N",
        env = "VSTP_MAX_PER_ADDRESS",
        default_value_t = 64
    )]
    pub(crate) max_per_address: usize,
    /// Silence after which a connection ends
    #[arg(long, value_name = "TIME", env = "VSTP_IDLE_TIMEOUT", default_value = "60s", value_parser = units::duration)]
    pub(crate) idle_timeout: Duration,
    /// Messages of one TCP connection handled at once; answers then come as they are ready
    #[arg(long, value_name = "N", env = "VSTP_CONCURRENCY", default_value_t = 1)]
    pub(crate) concurrency: usize,
    /// Messages a second of one client; one that sends more is slowed down, over UDP its datagrams are dropped
    #[arg(long, value_name = "N", env = "VSTP_RATE_MESSAGES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate_messages: Option<u64>,
    /// Bytes a second of one client, in the same way
    #[arg(long, value_name = "SIZE", env = "VSTP_RATE_BYTES", value_parser = units::size)]
    pub(crate) rate_bytes: Option<u64>,
    /// Largest frame to send and accept (default: 8MiB, over UDP 128MiB)
    #[arg(long, value_name = "SIZE", env = "VSTP_MAX_FRAME_SIZE", value_parser = units::length)]
    pub(crate) max_frame_size: Option<usize>,
    /// How long connections may take to end when the server is told to stop
    #[arg(long, value_name = "TIME", env = "VSTP_GRACE", default_value = "10s", value_parser = units::duration)]
    pub(crate) grace: Duration,
}

impl LimitArgs {
    /// What one client may send; twice a second's worth at once.
    fn rate(&self) -> Option<RateLimit> {
        let mut limit = RateLimit::default();
        if let Some(messages) = self.rate_messages {
            limit = limit.frames(messages, messages.saturating_mul(2));
        }
        if let Some(bytes) = self.rate_bytes {
            limit = limit.bytes(bytes, bytes.saturating_mul(2));
        }
        (self.rate_messages.is_some() || self.rate_bytes.is_some()).then_some(limit)
    }
}

impl Default for LimitArgs {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_per_address: 64,
            idle_timeout: Duration::from_secs(60),
            concurrency: 1,
            rate_messages: None,
            rate_bytes: None,
            max_frame_size: None,
            grace: Duration::from_secs(10),
        }
    }
}

/// Where to listen and how to be recognised.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(crate) address: Address,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) keylog: Option<PathBuf>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) token_bound: bool,
    pub(crate) dev: bool,
    pub(crate) plaintext: bool,
    pub(crate) udp: bool,
    /// TCP and UDP at one port.
    pub(crate) auto: bool,
    pub(crate) compress: bool,
    pub(crate) event_log: Option<EventLog>,
    pub(crate) limits: LimitArgs,
}

/// Who sent a frame, on either transport.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer<'a> {
    Tcp(&'a Session),
    Udp(&'a UdpPeer),
}

impl Peer<'_> {
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Tcp(session) => session.peer_addr(),
            Self::Udp(peer) => peer.peer_addr(),
        }
    }

    /// The session; without one, over UDP, the number 0.
    pub(crate) fn session_id(&self) -> u128 {
        match self {
            Self::Tcp(session) => session.id(),
            Self::Udp(peer) => peer.session_id().unwrap_or(0),
        }
    }

    /// Who it is, if the server asks.
    pub(crate) fn name(&self) -> Option<&str> {
        let identity = match self {
            Self::Tcp(session) => session.identity(),
            Self::Udp(peer) => peer.identity(),
        };
        identity.map(Identity::name)
    }

    /// Whether the server is being stopped, or the peer is gone.
    pub(crate) fn is_closing(&self) -> bool {
        match self {
            Self::Tcp(session) => session.is_closing(),
            Self::Udp(_) => false,
        }
    }
}

/// What a server does with a frame.
pub(crate) type Handler = Arc<dyn Fn(&Peer<'_>, Frame) -> Reply + Send + Sync>;

/// A server that runs.
#[derive(Debug)]
pub(crate) enum Running {
    Tcp(ServerHandle, Option<TlsServerConfig>),
    Udp(UdpServerHandle),
    Dual(DualServerHandle, Option<TlsServerConfig>),
}

impl Binding {
    /// Refuses what contradicts itself or would be unsafe without anybody having said so.
    fn check(&self) -> Result<(), Failure> {
        let tls = self.cert.is_some() || self.dev || self.client_ca.is_some();
        let wrong = match (self.udp, self.plaintext) {
            (true, _) if tls => {
                "--udp is plaintext, so --cert, --dev and --client-ca have no meaning"
            }
            (false, true) if tls => "--plaintext contradicts --cert, --dev and --client-ca",
            (false, false) if self.cert.is_some() && self.dev => "--dev contradicts --cert",
            (false, false) if self.cert.is_none() && !self.dev => {
                "a server needs a certificate: --cert FILE --key FILE (vstp cert leaf makes one), \
                 or --dev on a loopback address, or --plaintext to go without TLS"
            }
            (false, false) if self.dev && !self.address.is_loopback() => {
                "--dev is for loopback addresses (127.0.0.1, ::1, localhost) alone; \
                 vstp cert leaf makes a certificate for others"
            }
            (true, _) | (_, true) if self.token_bound => {
                "--token-bound needs TLS: a token is bound to its connection"
            }
            _ => return Ok(()),
        };
        Err(Failure::usage(wrong))
    }

    fn tls(&self) -> Result<TlsServerConfig, Failure> {
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else {
            return Ok(dev::server()?);
        };
        readable(cert)?;
        readable(key)?;
        let mut builder = TlsServerConfig::builder().pem_files(cert, key);
        if let Some(path) = &self.client_ca {
            readable(path)?;
            builder = builder.client_auth(ClientAuth::Required(Roots::pem_file(path)?));
        }
        if let Some(path) = &self.keylog {
            builder = builder.danger_key_log(path);
        }
        Ok(builder.build()?)
    }

    fn tcp_config(&self) -> Result<ServerConfig, Failure> {
        let limits = &self.limits;
        let idle = limits.idle_timeout;
        let mut tcp = TcpConfig::default()
            .idle_timeout(Some(idle))
            .keepalive_interval(Some(idle / 3));
        if let Some(len) = limits.max_frame_size {
            tcp = tcp.max_frame_size(len);
        }
        if self.compress {
            tcp = tcp.compression(CompressionConfig::default());
        }
        if let Some(log) = &self.event_log {
            tcp = tcp.event_log(log.clone());
        }
        let config = ServerConfig::default()
            .tcp(tcp)
            .max_connections(limits.max_connections)
            .max_per_address(limits.max_per_address)
            .concurrency(limits.concurrency)
            .rate_limit(limits.rate());
        Ok(match &self.token_file {
            Some(path) => config.authenticator(token::accepted(path, self.token_bound)?),
            None => config,
        })
    }

    fn udp_config(&self) -> Result<UdpConfig, Failure> {
        let limits = &self.limits;
        let config = UdpConfig::default()
            .max_sessions(limits.max_connections)
            .max_sessions_per_address(limits.max_per_address)
            .ping_interval(limits.idle_timeout / 4);
        let config = match self.compress {
            true => config.compression(CompressionConfig::default()),
            false => config,
        };
        let config = match limits.max_frame_size {
            Some(len) => config.max_frame_size(len),
            None => config,
        };
        let config = match &self.event_log {
            Some(log) => config.event_log(log.clone()),
            None => config,
        };
        let config = config.rate_limit(limits.rate());
        Ok(match &self.token_file {
            Some(path) => config.authenticator(token::accepted(path, false)?),
            None => config,
        })
    }

    /// Listens and serves, in threads of its own.
    pub(crate) fn start(&self, handler: Handler) -> Result<Running, Failure> {
        self.check()?;
        let failed = |error: VstpError| {
            Failure::from(error).while_doing(format_args!("cannot listen on {}", self.address))
        };
        if self.udp {
            let server = VstpUdpServer::bind_with_config(&self.address, self.udp_config()?)
                .map_err(failed)?
                .acknowledged_answers(true);
            let handle =
                server.spawn(move |peer: &UdpPeer, frame| handler(&Peer::Udp(peer), frame))?;
            return Ok(Running::Udp(handle));
        }
        let config = self.tcp_config()?;
        if self.auto {
            let config = DualConfig::default().server(config).udp(self.udp_config()?);
            let (server, tls) = if self.plaintext {
                let server = VstpDualServer::bind_auto_plain_with(&self.address, config);
                (server, None)
            } else {
                let tls = self.tls()?;
                let server = VstpDualServer::bind_auto_with(&self.address, tls.clone(), config);
                (server, Some(tls))
            };
            let handle = server
                .map_err(failed)?
                .spawn(move |peer: &DualPeer<'_>, frame| {
                    match (peer.tcp(), peer.udp()) {
                        (Some(session), _) => handler(&Peer::Tcp(session), frame),
                        (_, Some(peer)) => handler(&Peer::Udp(peer), frame),
                        // There is no third transport.
                        (None, None) => Reply::None,
                    }
                })?;
            return Ok(Running::Dual(handle, tls));
        }
        let (server, tls) = if self.plaintext {
            let server = VstpTcpServer::bind_plain_with(&self.address, config).map_err(failed)?;
            (server, None)
        } else {
            let tls = self.tls()?;
            let server =
                VstpTcpServer::bind_with(&self.address, tls.clone(), config).map_err(failed)?;
            (server, Some(tls))
        };
        let handle =
            server.spawn(move |session: &Session, frame| handler(&Peer::Tcp(session), frame))?;
        Ok(Running::Tcp(handle, tls))
    }

    /// What carries the frames, for people.
    pub(crate) fn transport(&self) -> &'static str {
        match (self.scheme(), self.plaintext) {
            (Scheme::Udp, _) => "UDP, plaintext",
            (Scheme::Tcp, _) => "TCP, plaintext",
            (Scheme::Tls, _) => "TLS 1.3",
            (Scheme::Auto, true) => "TCP and UDP, plaintext",
            (Scheme::Auto, false) => "TLS 1.3 and sealed datagrams",
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        match (self.auto, self.udp, self.plaintext) {
            (true, ..) => Scheme::Auto,
            (_, true, _) => Scheme::Udp,
            (.., true) => Scheme::Tcp,
            _ => Scheme::Tls,
        }
    }
}

impl Running {
    pub(crate) fn local_addr(&self) -> SocketAddr {
        match self {
            Self::Tcp(handle, _) => handle.local_addr(),
            Self::Udp(handle) => handle.local_addr(),
            Self::Dual(handle, _) => handle.local_addr(),
        }
    }

    /// What it counts.
    pub(crate) fn meter(&self) -> &Meter {
        match self {
            Self::Tcp(handle, _) => handle.meter(),
            Self::Udp(handle) => handle.meter(),
            Self::Dual(handle, _) => handle.meter(),
        }
    }

    /// Reads the certificate again; open connections keep the old one.
    pub(crate) fn reload(&self, talk: Talk) {
        let (Self::Tcp(_, Some(tls)) | Self::Dual(_, Some(tls))) = self else {
            return talk.say("vstp: there is no certificate to read again");
        };
        match tls.reload() {
            Ok(()) => talk.say("vstp: the certificate was read again"),
            Err(error) => {
                let failure = Failure::from(error);
                talk.warn(format!("the old certificate stays: {}", failure.message));
            }
        }
    }

    /// Whether somebody came, and everybody who came has gone.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Tcp(handle, _) => {
                let stats = handle.stats();
                has_served(&stats) && stats.connections_active == 0
            }
            Self::Udp(handle) => {
                let stats = handle.stats().protocol;
                stats.sessions_opened > 0 && stats.sessions == 0
            }
            Self::Dual(handle, _) => {
                let stats = handle.stats();
                let (tcp, udp) = (stats.tcp, stats.udp.protocol);
                let has_come = has_served(&tcp) || udp.sessions_opened > 0;
                has_come && tcp.connections_active == 0 && udp.sessions == 0
            }
        }
    }

    pub(crate) fn shutdown(&self, grace: Duration) -> ShutdownReport {
        match self {
            Self::Tcp(handle, _) => handle.shutdown(grace),
            Self::Udp(handle) => handle.shutdown(grace),
            Self::Dual(handle, _) => handle.shutdown(grace),
        }
    }
}

/// Whether a connection got past its handshake.
fn has_served(stats: &ServerStats) -> bool {
    let failed =
        stats.handshake_timeouts + stats.handshake_tls_failures + stats.handshake_protocol_failures;
    stats.connections_accepted > failed
}
