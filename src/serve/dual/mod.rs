//! [`VstpDualServer`]: one handler for TCP and UDP at one port.
//!
//! A [`VstpTcpServer`] and a [`VstpUdpServer`] that share their handler, with their threads; what is added is
//! that both have the same port, that one handle stops both, and that a message of a
//! [`VstpAutoClient`](crate::net::auto::VstpAutoClient) that comes by both is handled once.

mod config;
mod handle;
mod ledger;
mod peer;

pub use config::DualConfig;
pub use handle::{DualServerHandle, DualStats};
pub use peer::DualPeer;

use super::config::ServerConfig;
use super::reply::{IntoReply, Reply};
use super::session::Session;
use super::tcp::VstpTcpServer;
use super::udp::{UdpPeer, VstpUdpServer};
use crate::error::{HandlerError, VstpError};
use crate::net::addr::{Address, ToAddress};
use crate::net::auto::FEATURE;
use crate::net::meter::Meter;
#[cfg(feature = "tls")]
use crate::net::tls::TlsServerConfig;
use crate::proto::once::OnceId;
use crate::proto::{ErrorCode, keys};
use crate::wire::{Flags, Frame, Headers};
use ledger::{Begun, Ledgers};
use std::net::SocketAddr;
use std::sync::Arc;

/// Ports that are tried until one is free on both.
const MAX_PORTS: usize = 64;

/// A server for frames over TCP and UDP at one port, with one handler.
///
/// With TLS 1.3 on TCP, datagrams are sealed with keys of the clients' TLS sessions, and nothing else is taken on
/// UDP unless the [settings](DualConfig::plaintext_udp) say so. Without TLS both are named plaintext.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::serve::DualPeer;
/// use vstp::{Frame, VstpDualServer, VstpTcpClient, VstpUdpClient};
/// let server = VstpDualServer::bind_auto_plain("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|_: &DualPeer<'_>, frame: Frame| Frame::data(frame.payload))?;
///
/// let mut tcp = VstpTcpClient::connect_plain(addr)?;
/// tcp.send(&Frame::data("by TCP"))?;
/// assert_eq!(tcp.recv()?, Some(Frame::data("by TCP")));
/// let udp = VstpUdpClient::bind("127.0.0.1:0")?;
/// udp.send_with_ack(Frame::data("by UDP"), addr)?;
/// assert_eq!(udp.recv()?.0, Frame::data("by UDP"));
/// handle.shutdown(Duration::from_secs(1));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug)]
pub struct VstpDualServer {
    tcp: VstpTcpServer,
    udp: VstpUdpServer,
    meter: Meter,
}

impl VstpDualServer {
    /// Listens with TLS 1.3 at `host:port`; port 0 lets the system choose one that is free on both.
    ///
    /// # Errors
    /// `InvalidAddress`, or `Io` when the address cannot be bound or no thread can be started.
    #[cfg(feature = "tls")]
    pub fn bind_auto(addr: impl ToAddress, tls: TlsServerConfig) -> Result<Self, VstpError> {
        Self::bind_auto_with(addr, tls, DualConfig::default())
    }

    /// [`bind_auto`](Self::bind_auto) with these settings.
    ///
    /// # Errors
    /// As there, and `Config`.
    #[cfg(feature = "tls")]
    pub fn bind_auto_with(
        addr: impl ToAddress,
        tls: TlsServerConfig,
        config: DualConfig,
    ) -> Result<Self, VstpError> {
        let config = config.sealed();
        let bind = |addr, config| VstpTcpServer::bind_with(addr, tls.clone(), config);
        Self::bind(&addr.to_address()?, config, bind)
    }

    /// Listens in plaintext on both: everybody on the way can read and change the frames.
    ///
    /// # Errors
    /// As [`bind_auto_plain_with`](Self::bind_auto_plain_with).
    pub fn bind_auto_plain(addr: impl ToAddress) -> Result<Self, VstpError> {
        Self::bind_auto_plain_with(addr, DualConfig::default())
    }

    /// [`bind_auto_plain`](Self::bind_auto_plain) with these settings.
    ///
    /// # Errors
    /// `InvalidAddress`, `Config`, or `Io` when the address cannot be bound or no thread can be started.
    pub fn bind_auto_plain_with(
        addr: impl ToAddress,
        config: DualConfig,
    ) -> Result<Self, VstpError> {
        let bind = VstpTcpServer::bind_plain_with;
        Self::bind(&addr.to_address()?, config, bind)
    }

    fn bind(
        addr: &Address,
        mut config: DualConfig,
        bind_tcp: impl Fn(Address, ServerConfig) -> Result<VstpTcpServer, VstpError>,
    ) -> Result<Self, VstpError> {
        config.server.tcp.features = config.server.tcp.features.switched(FEATURE, true);
        let above = config
            .server
            .tcp
            .meter
            .as_ref()
            .or(config.udp.meter.as_ref());
        let meter = above.map_or_else(Meter::new, Meter::child);
        config.server.tcp.meter = Some(meter.clone());
        config.udp.meter = Some(meter.clone());
        let mut tried = 0;
        loop {
            let tcp = bind_tcp(addr.clone(), config.server.clone())?;
            tried += 1;
            match VstpUdpServer::bind_with_config(tcp.local_addr(), config.udp.clone()) {
                Ok(udp) => {
                    let udp = config.workers(udp).acknowledged_answers(true);
                    return Ok(Self { tcp, udp, meter });
                }
                // The system has chosen a port that is free on TCP only: another one, then.
                Err(VstpError::Io(error))
                    if error.kind() == std::io::ErrorKind::AddrInUse
                        && addr.port() == 0
                        && tried < MAX_PORTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The address that it is bound to, on TCP and on UDP.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.tcp.local_addr()
    }

    /// A handle that shuts it down from another thread.
    #[must_use]
    pub fn handle(&self) -> DualServerHandle {
        DualServerHandle {
            tcp: self.tcp.handle(),
            udp: self.udp.handle(),
            meter: self.meter.clone(),
        }
    }

    /// Serves until it is shut down by a [`handle`](Self::handle).
    ///
    /// The handler gets each message with the [`DualPeer`] that it came from, and may answer as on
    /// [TCP](VstpTcpServer::run) and on [UDP](VstpUdpServer::run); the answer takes the transport of the
    /// request. It runs on several threads at once. Answers to requests over UDP are sent until they are
    /// acknowledged.
    ///
    /// # Blocking
    /// Until the server is shut down.
    ///
    /// # Errors
    /// `Io` when the threads cannot be started, or the listening socket fails.
    pub fn run<F, R>(self, handler: F) -> Result<(), VstpError>
    where
        F: Fn(&DualPeer<'_>, Frame) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.spawn(handler)?.wait()
    }

    /// Serves in the background.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn spawn<F, R>(self, handler: F) -> Result<DualServerHandle, VstpError>
    where
        F: Fn(&DualPeer<'_>, Frame) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        let meter = self.meter;
        let ledgers = Arc::new(Ledgers::default());
        let both = Arc::new(Both {
            handler: move |peer: &DualPeer<'_>, frame| handler(peer, frame).into_reply(),
            ledgers: Arc::clone(&ledgers),
        });
        // First, so that no client is told of UDP before there is somebody to serve it.
        let udp = {
            let both = Arc::clone(&both);
            let by_udp = move |peer: &UdpPeer, frame| both.by_udp(peer, frame);
            self.udp.spawn(by_udp)?
        };
        let on_session = Arc::new(move |session| ledgers.open(session));
        let by_tcp = move |session: &Session, frame| both.by_tcp(session, frame);
        match self.tcp.spawn_with(by_tcp, on_session) {
            Ok(tcp) => Ok(DualServerHandle { tcp, udp, meter }),
            Err(error) => {
                udp.shutdown(std::time::Duration::ZERO);
                Err(error)
            }
        }
    }
}

/// The handler of both transports, and what they share.
struct Both<F> {
    handler: F,
    ledgers: Arc<Ledgers>,
}

impl<F: Fn(&DualPeer<'_>, Frame) -> Reply> Both<F> {
    fn by_tcp(&self, session: &Session, frame: Frame) -> Reply {
        let peer = DualPeer::by_tcp(session);
        let once = match OnceId::of(frame.as_ref().headers) {
            Ok(None) => return (self.handler)(&peer, stripped(frame)),
            Ok(Some(once)) if once.session == session.id() => once,
            Ok(Some(_)) | Err(_) => {
                let text = "the header `once` is not of this session";
                return Reply::Error(HandlerError::new(ErrorCode::Protocol, text));
            }
        };
        // Gone with the session, that is, now.
        let Some(ledger) = self.ledgers.get(once.session) else {
            return Reply::None;
        };
        let request = frame.header(keys::CORRELATION_ID);
        match ledger.by_tcp(once.number, request, || session.sender().ok()) {
            Begun::First(_running) => (self.handler)(&peer, stripped(frame)),
            Begun::Again(reply) => reply,
        }
    }

    fn by_udp(&self, peer: &UdpPeer, frame: Frame) -> Reply {
        let dual = DualPeer::by_udp(peer);
        let once = match OnceId::of(frame.as_ref().headers) {
            Ok(None) => return (self.handler)(&dual, frame),
            // spec 6.3: in a session only, so that a stranger cannot take numbers, and in a sealed one only
            // its own.
            Ok(Some(once)) if may_name(peer, once.session) => once,
            Ok(Some(_)) | Err(_) => return Reply::None,
        };
        let Some(ledger) = self.ledgers.get(once.session) else {
            log::debug!("{}: a message of a session that is over", peer.peer_addr());
            return Reply::None;
        };
        let is_request = frame.header(keys::CORRELATION_ID).is_some();
        match ledger.by_udp(once.number, is_request) {
            Begun::First(running) => {
                let reply = (self.handler)(&dual, stripped(frame));
                running.ended(&reply);
                reply
            }
            Begun::Again(reply) => reply,
        }
    }
}

fn may_name(peer: &UdpPeer, session: u128) -> bool {
    match peer.session_id() {
        Some(id) => id == session || !peer.is_sealed(),
        None => false,
    }
}

/// What the client's application made, whatever the transport needed with it.
fn stripped(mut frame: Frame) -> Frame {
    let is_ours = |key: &[u8]| key == keys::ONCE.as_bytes() || key == keys::MSG_ID.as_bytes();
    if frame.headers.iter().any(|header| is_ours(header.key)) {
        let mut headers = Headers::new();
        for header in frame.headers.iter().filter(|header| !is_ours(header.key)) {
            headers.push(header.key, header.value);
        }
        frame.headers = headers;
    }
    frame.flags.remove(Flags::REQ_ACK);
    frame
}
