//! From a connected socket to an open session: TLS, then HELLO and WELCOME, under one deadline.

use super::config::TcpConfig;
use super::connection::VstpTcpConnection;
use super::keeper::Keeper;
use super::outbox::{Framing, Outbox};
use super::reader::{Next, Reader};
use super::shared::{Permit, Shared};
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::metrics::{Family, Held, Metrics};
use crate::net::meter::{Meter, Source};
use crate::net::socket::Transport;
use crate::net::stream::{self, ReadHalf, WriteHalf};
use crate::net::tls::{PeerInfo, TlsSession};
use crate::net::udp::Offer;
use crate::net::{clock, random};
use crate::proto::datagram::SealedKeys;
use crate::proto::keys::SEALED_DATAGRAMS;
use crate::proto::session::{Security, Session, SessionConfig};
use crate::wire::Trailer;
use socket2::SockRef;
use std::net::TcpStream;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

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
    let settings = session_config(config, tls.as_ref());
    let session = Session::client(settings, security);
    let keeper = config
        .keepalive_interval
        .map(Keeper::start)
        .transpose()
        .map_err(VstpError::Io)?;
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
            (_, Ok(())) => {}
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
        config.clone(),
        keeper,
    ))
}

/// The server's part: returns when WELCOME has been sent, or with the first frame of a plaintext
/// session without HELLO. `offer` gets the keys of sealed datagrams before WELCOME, so that they are there
/// when the client uses them; it cannot have them earlier, since the number of the session is in WELCOME.
/// `on_session` gets that number, also before WELCOME. What the two return lives as long as the connection.
pub(crate) fn server(
    stream: Arc<TcpStream>,
    tls: Option<TlsSession>,
    config: &TcpConfig,
    meter: &Meter,
    offer: impl FnOnce(SealedKeys) -> Option<Offer>,
    on_session: impl FnOnce(u128) -> Option<Box<dyn Permit>>,
) -> Result<VstpTcpConnection, VstpError> {
    let until = clock::after(config.handshake_timeout);
    let session_id = random::session_id();
    let security = security(tls.as_ref());
    let settings = session_config(config, tls.as_ref());
    let may_seal = settings.features.contains(SEALED_DATAGRAMS);
    let session = Session::server(settings, security, session_id);
    let (mut reader, shared) = open(stream, tls, session, (config, meter), until)?;
    let keys = may_seal
        .then(|| reader.sealed_keys(session_id))
        .transpose()?;
    let offer = keys.flatten().and_then(offer);
    let opened = on_session(session_id);
    await_session(&mut reader, until)?;
    shared.keep(opened);
    if let (Some(offer), Some(_)) = (offer, sealed_session(&shared)) {
        shared.keep(offer);
    }
    Ok(VstpTcpConnection::new(reader, shared, config.clone(), None))
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

fn session_config(config: &TcpConfig, tls: Option<&TlsSession>) -> SessionConfig {
    let can_seal = config.sealed_datagrams && tls.is_some_and(TlsSession::can_seal);
    let features = config.pipeline.offer(&config.features);
    SessionConfig {
        features: features.switched(SEALED_DATAGRAMS, can_seal),
        max_frame_len: config.limits.max_frame_len,
        hello: config.hello,
        require_hello: config.require_hello,
        auth_token: config.auth_token.clone(),
    }
}

/// The TLS handshake, where there is one, and the parts of a connection.
fn open(
    stream: Arc<TcpStream>,
    tls: Option<TlsSession>,
    session: Session,
    (config, meter): (&TcpConfig, &Meter),
    until: Option<Instant>,
) -> Result<(Reader, Arc<Shared>), VstpError> {
    let addrs = (
        stream.local_addr().map_err(stream::closed_or_io)?,
        stream.peer_addr().map_err(stream::closed_or_io)?,
    );
    let transport: Arc<dyn Transport> = stream;
    let (read, write, tls) = halves(&transport, tls, config.spin, until)?;
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
    let outbox = Outbox::new(write, framing, config.limits.max_frame_len);
    let mut shared = Shared::new(transport, outbox, addrs, tls).with_pipeline(&config.pipeline);
    shared.set_meter(meter.clone());
    let shared = Arc::new(shared);
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

/// Waits until the session is open.
fn await_session(reader: &mut Reader, until: Option<Instant>) -> Result<(), VstpError> {
    loop {
        if reader.session().established().is_some() {
            reader.publish_session();
            return Ok(());
        }
        match reader.next(until)? {
            Next::Established => return Ok(()),
            Next::TimedOut => return Err(reader.expire(TimeoutKind::Handshake)),
            Next::End | Next::Draining => {
                return Err(VstpError::ConnectionClosed(ClosedBy::PeerWithoutBye));
            }
            // The first frame of a session without HELLO opens it; it is handed out by `recv`.
            Next::Frame => {
                reader.publish_session();
                reader.put_back();
                return Ok(());
            }
            Next::Acked(_) | Next::Pong => {}
        }
    }
}
