//! From a connected socket to an open session: TLS, then HELLO and WELCOME, under one deadline.

use super::config::TcpConfig;
use super::connection::VstpTcpConnection;
use super::ending::Unrecognised;
use super::keeper::Keeper;
use super::outbox::{Framing, Outbox};
use super::reader::{Next, Reader};
use super::shared::{Permit, Shared};
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::metrics::{Family, Held, Metrics};
use crate::net::event_log::ConnectionLog;
use crate::net::identity::{Credentials, Identity};
use crate::net::meter::{Meter, Source};
use crate::net::socket::Transport;
use crate::net::stream::{self, ReadHalf, WriteHalf};
use crate::net::tls::{PeerInfo, TlsSession};
use crate::net::udp::Offer;
use crate::net::{clock, random};
use crate::proto::Violation;
use crate::proto::datagram::SealedKeys;
use crate::proto::keys::{AuthToken, SEALED_DATAGRAMS};
use crate::proto::session::{Security, Session, SessionConfig};
use crate::wire::Trailer;
use crossbeam_channel::{RecvTimeoutError, bounded};
use socket2::SockRef;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often a thread that waits for a decision looks whether the server still runs.
const TICK: Duration = Duration::from_millis(50);

/// Sets the options of a socket, connected or not.
pub(crate) fn set_options(socket: SockRef<'_>, config: &TcpConfig) -> std::io::Result<()> {
    socket.set_tcp_nodelay(config.nodelay)?;
    if let Some(len) = config.send_buffer_len {
        socket.set_send_buffer_size(len)?;
    }
    if let Some(len) = config.recv_buffer_len {
        socket.set_recv_buffer_size(len)?;
    }
    Ok(())
}

/// Counts a handshake while it lasts, and how it ends.
pub(crate) fn measured(
    metrics: &Arc<Metrics>,
    handshake: impl FnOnce() -> Result<VstpTcpConnection, VstpError>,
) -> Result<VstpTcpConnection, VstpError> {
    let _active = Held::new(metrics, Family::HandshakesActive);
    let began = clock::now();
    let result = handshake();
    match &result {
        Ok(_) => {
            let elapsed = clock::now().saturating_duration_since(began);
            metrics.time(Family::Handshakes, elapsed);
        }
        Err(error) => {
            let place = match error {
                VstpError::Timeout(_) => 0,
                VstpError::Tls(_) => 1,
                VstpError::Protocol(Violation::Unauthorized) => 3,
                _ => 2,
            };
            metrics.add(Family::HandshakeFailures, place, 1);
        }
    }
    result
}

/// The client's part: returns after WELCOME, or at once for a plaintext session without HELLO.
pub(crate) fn client(
    stream: TcpStream,
    tls: Option<TlsSession>,
    config: &TcpConfig,
    until: Option<Instant>,
) -> Result<VstpTcpConnection, VstpError> {
    let meter = config.meter.clone().unwrap_or_default();
    let metrics = meter.metrics();
    metrics.add(Family::ConnectionsOpened, 0, 1);
    let active = Held::new(&metrics, Family::ConnectionsActive);
    let connection = measured(&metrics, || shake_hands(stream, tls, config, &meter, until))?;
    connection.shared().keep(active);
    Ok(connection)
}

fn shake_hands(
    stream: TcpStream,
    tls: Option<TlsSession>,
    config: &TcpConfig,
    meter: &Meter,
    until: Option<Instant>,
) -> Result<VstpTcpConnection, VstpError> {
    let security = security(tls.as_ref());
    let can_seal = can_seal(config, tls.as_ref());
    let keeper = config
        .keepalive_interval
        .map(Keeper::start)
        .transpose()
        .map_err(VstpError::Io)?;
    let session = |info: Option<&PeerInfo>| {
        let token = config.auth_token.as_ref();
        let token = token.map(|token| token.token(info)).transpose()?;
        let session = session_config(config, token, can_seal);
        Ok(Session::client(session, security))
    };
    let (mut reader, shared) = open(Arc::new(stream), tls, session, (config, meter), until)?;
    if let Some(keeper) = &keeper {
        keeper.watch(&shared);
    }
    if !config.hello && security == Security::Plaintext {
        reader.publish_session();
    } else {
        let hello = reader.session().poll_output();
        let sent = hello.map_or(Ok(()), |hello| shared.outbox.send(hello.as_ref()));
        // A server that refuses has said why before it closed: listen before giving up.
        match (sent, await_session(&mut reader, until)) {
            (_, Ok(_)) => {}
            (Err(error), Err(VstpError::ConnectionClosed(_))) | (_, Err(error)) => {
                shared.abort(ClosedBy::Error);
                return Err(error);
            }
        }
    }
    if let Some(session) = sealed_session(&shared) {
        shared.set_sealed_keys(reader.sealed_keys(session)?);
    }
    Ok(VstpTcpConnection::new(
        reader,
        shared,
        config.into(),
        keeper,
    ))
}

/// The server's part: returns when WELCOME has been sent, or with the first frame of a plaintext
/// session without HELLO. `offer` gets the keys of sealed datagrams before WELCOME, so that they are there
/// when the client uses them; it cannot have them earlier, since the number of the session is in WELCOME.
/// Where clients are recognised it gets them with who the client is, and those of nobody else.
/// `on_session` gets the number too, of a client that is let in. What the two return lives as long as the
/// connection, the first no longer than this call when the client did not ask for it.
pub(crate) fn server(
    stream: Arc<TcpStream>,
    tls: Option<TlsSession>,
    config: &TcpConfig,
    meter: &Meter,
    offer: impl Fn(SealedKeys, Option<Arc<Identity>>) -> Option<Offer>,
    on_session: impl Fn(u128) -> Option<Box<dyn Permit>>,
) -> Result<VstpTcpConnection, VstpError> {
    let until = clock::after(config.handshake_timeout);
    let session_id = random::session_id();
    let security = security(tls.as_ref());
    let can_seal = can_seal(config, tls.as_ref());
    let session = |_: Option<&PeerInfo>| {
        let session = session_config(config, None, can_seal);
        Ok(Session::server(session, security, session_id))
    };
    let (mut reader, shared) = open(stream, tls, session, (config, meter), until)?;
    let keys = can_seal.then(|| reader.sealed_keys(session_id));
    let mut keys = keys.transpose()?.flatten();
    let (mut offered, mut opened) = (None, None);
    if config.judge.is_none() {
        offered = keys.take().and_then(|keys| offer(keys, None));
        opened = on_session(session_id);
    }
    match await_session(&mut reader, until)? {
        Opened::Session => {}
        Opened::Hello(token) => {
            let identity = recognise(&shared, config, token);
            if let (Ok(identity), Some(keys)) = (&identity, keys) {
                offered = offer(keys, Some(Arc::new(identity.clone())));
            }
            if identity.is_ok() {
                opened = on_session(session_id);
            }
            reader.welcome(identity)?;
        }
    }
    shared.keep(opened);
    if let (Some(offered), Some(_)) = (offered, sealed_session(&shared)) {
        shared.keep(offered);
    }
    Ok(VstpTcpConnection::new(reader, shared, config.into(), None))
}

/// Waits until the authenticator has decided, or its time is over.
fn recognise(
    shared: &Shared,
    config: &TcpConfig,
    token: Option<AuthToken>,
) -> Result<Identity, Unrecognised> {
    let Some(judge) = &config.judge else {
        return Err(Unrecognised::Refused);
    };
    let client = Credentials::new(token, shared.tls.clone(), shared.peer_addr);
    let until = clock::after_or_far(judge.timeout());
    // A late answer finds nobody who takes it.
    let (sender, answer) = bounded(1);
    let submitted = judge.submit(
        client,
        until,
        Box::new(move |decision| {
            let _ = sender.send(decision);
        }),
    );
    if !submitted {
        return Err(Unrecognised::Busy);
    }
    loop {
        match answer.recv_deadline(until.min(clock::after_or_far(TICK))) {
            Ok(Ok(identity)) => return Ok(identity),
            Ok(Err(_)) => return Err(Unrecognised::Refused),
            Err(RecvTimeoutError::Timeout) if judge.is_stopping() => {
                return Err(Unrecognised::ShuttingDown);
            }
            Err(RecvTimeoutError::Timeout) if clock::now() < until => {}
            Err(_) => return Err(Unrecognised::TimedOut),
        }
    }
}

fn security(tls: Option<&TlsSession>) -> Security {
    if tls.is_some() {
        Security::Tls
    } else {
        Security::Plaintext
    }
}

/// The number of the session, when both sides seal datagrams.
fn sealed_session(shared: &Shared) -> Option<u128> {
    let established = shared.established()?;
    let is_agreed = established.features.contains(SEALED_DATAGRAMS);
    is_agreed.then_some(established.session_id)
}

fn can_seal(config: &TcpConfig, tls: Option<&TlsSession>) -> bool {
    config.sealed_datagrams && tls.is_some_and(TlsSession::can_seal)
}

fn session_config(
    config: &TcpConfig,
    auth_token: Option<AuthToken>,
    can_seal: bool,
) -> SessionConfig {
    let features = config.pipeline.offer(&config.features);
    SessionConfig {
        features: features.switched(SEALED_DATAGRAMS, can_seal),
        max_frame_len: config.limits.max_frame_len,
        hello: config.hello,
        require_hello: config.require_hello,
        auth_token,
        authenticate: config.judge.is_some(),
    }
}

/// The TLS handshake, where there is one, and the parts of a connection.
fn open(
    stream: Arc<TcpStream>,
    tls: Option<TlsSession>,
    session: impl FnOnce(Option<&PeerInfo>) -> Result<Session, VstpError>,
    (config, meter): (&TcpConfig, &Meter),
    until: Option<Instant>,
) -> Result<(Box<Reader>, Arc<Shared>), VstpError> {
    let addrs = (
        stream.local_addr().map_err(stream::closed_or_io)?,
        stream.peer_addr().map_err(stream::closed_or_io)?,
    );
    let transport: Arc<dyn Transport> = stream;
    let (read, write, tls) = halves(&transport, tls, config.spin, until)?;
    assemble(
        transport,
        addrs,
        (read, write, tls),
        session,
        (config, meter),
    )
}

/// The parts of a connection whose bytes flow.
#[inline(never)] // The stack that this needs is free again when the session goes on.
fn assemble(
    transport: Arc<dyn Transport>,
    addrs: (SocketAddr, SocketAddr),
    (read, write, tls): (ReadHalf, WriteHalf, Option<PeerInfo>),
    session: impl FnOnce(Option<&PeerInfo>) -> Result<Session, VstpError>,
    (config, meter): (&TcpConfig, &Meter),
) -> Result<(Box<Reader>, Arc<Shared>), VstpError> {
    let session = session(tls.as_ref())?;
    let framing = Framing {
        trailer: if tls.is_some() {
            Trailer::WhenFlagged
        } else {
            Trailer::Always
        },
        max_header_count: config.limits.max_header_count,
        write_deadline: config.write_deadline,
        queue_count: config.send_queue_count,
        queue_len: config.send_queue_len,
    };
    // What the peer accepts is known after HELLO or WELCOME; until then our own limit holds.
    let mut outbox = Outbox::new(write, framing, config.limits.max_frame_len);
    outbox.log = (config.event_log.as_ref())
        .map(|log| Box::new(ConnectionLog::new(log.clone(), addrs, tls.is_some())));
    let pipeline = config.pipeline.clone();
    let shared = Shared::new(transport, outbox, addrs, tls, pipeline, meter.clone());
    let source: Weak<dyn Source> = Arc::<Shared>::downgrade(&shared);
    meter.attach(source);
    Ok((
        Reader::new(read, session, Arc::clone(&shared), config),
        shared,
    ))
}

fn halves(
    transport: &Arc<dyn Transport>,
    tls: Option<TlsSession>,
    spin: Duration,
    until: Option<Instant>,
) -> Result<(ReadHalf, WriteHalf, Option<PeerInfo>), VstpError> {
    let Some(tls) = tls else {
        let (read, write) = stream::plain(Arc::clone(transport), spin);
        return Ok((read, write, None));
    };
    let (read, write) = stream::tls(Arc::clone(transport), tls, spin, until)?;
    let info = read.peer_info()?;
    Ok((read, write, info))
}

/// What [`await_session`] waits for.
enum Opened {
    Session,
    /// Server: HELLO, which is to be judged before the session opens.
    Hello(Option<AuthToken>),
}

/// Waits until the session is open, or may be opened.
fn await_session(reader: &mut Reader, until: Option<Instant>) -> Result<Opened, VstpError> {
    loop {
        if reader.session().established().is_some() {
            reader.publish_session();
            return Ok(Opened::Session);
        }
        match reader.next(until)? {
            Next::Established => return Ok(Opened::Session),
            Next::Hello(token) => return Ok(Opened::Hello(token)),
            Next::TimedOut => return Err(reader.expire(TimeoutKind::Handshake)),
            Next::End | Next::Draining => {
                return Err(VstpError::ConnectionClosed(ClosedBy::PeerWithoutBye));
            }
            // The first frame of a session without HELLO opens it; it is handed out by `recv`.
            Next::Frame => {
                reader.publish_session();
                reader.put_back();
                return Ok(Opened::Session);
            }
            Next::Acked(_) | Next::Pong => {}
        }
    }
}
