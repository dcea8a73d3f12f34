//! Sealed datagrams between real sockets: keys from a TLS session, then UDP with them.

use crate::limits::until;
use crate::relay::{Link, Relay};
use crate::util::{self, Kind, LONG};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vstp::error::TimeoutKind;
use vstp::ext::CompressionConfig;
use vstp::net::identity::{Identity, SharedToken};
use vstp::net::tcp::TcpConfig;
use vstp::net::udp::{SealedSessions, UdpConfig};
use vstp::proto::ErrorCode;
use vstp::proto::datagram::DropReason;
use vstp::serve::{ServerConfig, ServerHandle, Session, UdpPeer, UdpServerHandle};
use vstp::{Frame, VstpError, VstpTcpClient, VstpTcpServer, VstpUdpClient, VstpUdpServer};

const LOCAL: &str = "127.0.0.1:0";

fn config() -> UdpConfig {
    UdpConfig::default().read_timeout(Some(LONG))
}

/// A TLS server and a UDP server, joined.
struct Servers {
    sealed: SealedSessions,
    tcp: ServerHandle,
}

impl Servers {
    fn new() -> Self {
        let sealed = SealedSessions::new();
        let config = ServerConfig::default().sealed_sessions(sealed.clone());
        let tcp = util::echo(Kind::Tls, config);
        Self { sealed, tcp }
    }

    fn udp(&self) -> VstpUdpServer {
        let config = config().sealed_sessions(self.sealed.clone());
        VstpUdpServer::bind_with_config(LOCAL, config).unwrap()
    }

    /// A connection that asks for sealed datagrams.
    fn connect(&self) -> VstpTcpClient {
        let config = util::config().sealed_datagrams(true);
        let client = util::try_connect(Kind::Tls, &self.tcp, config).unwrap();
        assert!(client.features().contains("sealed-datagrams"));
        client
    }
}

fn echo(server: VstpUdpServer) -> UdpServerHandle {
    let server = server.workers(2);
    server.spawn(|_: &UdpPeer, frame: Frame| frame).unwrap()
}

fn connect(tls: &VstpTcpClient, to: SocketAddr) -> (VstpUdpClient, SocketAddr) {
    let (client, session) = VstpUdpClient::connect_sealed_with_config(tls, to, config()).unwrap();
    assert!(session.is_sealed());
    assert_eq!(session.id(), tls.session_id());
    (client, session.peer_addr())
}

/// A text that nobody may see, again and again with its place.
fn secret(len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 32);
    for line in 0.. {
        if text.len() >= len {
            break;
        }
        text.extend_from_slice(format!("attack at dawn, said {line}\n").as_bytes());
    }
    text.truncate(len);
    text
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// 10 MB there, acknowledged, and a little back.
fn transfer(server: &VstpUdpServer, client: &VstpUdpClient, to: SocketAddr) {
    let sent = secret(10_000_000);
    let sum = hmac_sha256::Hash::hash(&sent);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| server.recv_timeout(10 * LONG).unwrap());
        client.send_with_ack(Frame::data(sent), to).unwrap();
        let (frame, from) = receiving.join().unwrap();
        assert_eq!(hmac_sha256::Hash::hash(&frame.payload), sum);
        let answer = Frame::data(secret(100_000)).with_header("answer", "attack at dusk");
        scope.spawn(move || server.send_with_ack(answer, from).unwrap());
        let (frame, _) = client.recv().unwrap();
        assert_eq!(frame.payload, secret(100_000));
        assert_eq!(frame.header_str("answer"), Some("attack at dusk"));
    });
}

#[test]
fn ten_megabytes_sealed_and_identical() {
    let servers = Servers::new();
    let server = servers.udp();
    let tls = servers.connect();
    let (client, to) = connect(&tls, server.local_addr());
    transfer(&server, &client, to);
    let stats = server.stats().protocol;
    assert_eq!(stats.dropped(DropReason::Forged), 0);
    client.close();
}

#[test]
fn du02_sealed_through_losses_and_a_wire_tap_sees_nothing() {
    let servers = Servers::new();
    let server = servers.udp();
    let tls = servers.connect();
    let link = Link {
        loss: 30,
        duplicate: 20,
        flip: 10,
        delay: Duration::from_millis(1),
    };
    let relay = Relay::new(server.local_addr(), link, 7);
    relay.tap();
    let (client, to) = connect(&tls, relay.addr);
    transfer(&server, &client, to);
    let stats = server.stats().protocol;
    assert!(
        stats.dropped(DropReason::Replayed) > 0,
        "datagrams came twice"
    );
    assert!(stats.dropped(DropReason::Forged) > 0, "bits were flipped");
    client.close();
    let seen = relay.seen();
    assert!(seen.len() > 8000, "{} datagrams", seen.len());
    for datagram in &seen {
        assert!(datagram.starts_with(b"VS\x01"), "{datagram:?}");
        for text in [
            &b"attack at"[..],
            b"answer",
            b"frag-id",
            b"msg-id",
            b"features",
        ] {
            assert!(!contains(datagram, text));
        }
    }
}

#[test]
fn du12_an_address_that_changes_keeps_its_session() {
    let servers = Servers::new();
    let server = servers.udp();
    let tls = servers.connect();
    // What a NAT does: the client's datagrams come from another port from some moment on.
    let outside = Arc::new(Mutex::new(Arc::new(UdpSocket::bind(LOCAL).unwrap())));
    let inside = Arc::new(UdpSocket::bind(LOCAL).unwrap());
    let nat = inside.local_addr().unwrap();
    let target = server.local_addr();
    let client_addr = Arc::new(Mutex::new(None));
    let (stop, server) = (AtomicBool::new(false), &server);
    let stopped = || stop.load(Ordering::Relaxed);
    let tick = Some(Duration::from_millis(20));
    inside.set_read_timeout(tick).unwrap();
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut buffer = [0; 65_536];
            while !stopped() {
                if let Ok((len, from)) = inside.recv_from(&mut buffer) {
                    *client_addr.lock().unwrap() = Some(from);
                    let socket = Arc::clone(&outside.lock().unwrap());
                    let _ = socket.send_to(&buffer[..len], target);
                }
            }
        });
        scope.spawn(|| {
            let mut buffer = [0; 65_536];
            while !stopped() {
                let socket = Arc::clone(&outside.lock().unwrap());
                socket.set_read_timeout(tick).unwrap();
                if let (Ok(len), Some(to)) =
                    (socket.recv(&mut buffer), *client_addr.lock().unwrap())
                {
                    let _ = inside.send_to(&buffer[..len], to);
                }
            }
        });
        let (client, to) = connect(&tls, nat);
        client.send_with_ack(Frame::data("before"), to).unwrap();
        let (_, first) = server.recv().unwrap();
        *outside.lock().unwrap() = Arc::new(UdpSocket::bind(LOCAL).unwrap());
        // Its acknowledgement goes to the old address until the new one has answered.
        let large = secret(300_000);
        client
            .send_with_ack(Frame::data(large.clone()), to)
            .unwrap();
        assert_eq!(server.recv().unwrap().0.payload, large);
        assert_eq!(server.stats().protocol.sessions_moved, 1);
        let moved = server.meter().snapshot();
        assert_eq!(moved.value("vstp_sessions_moved_total", &[]), Some(1));
        client.send_with_ack(Frame::data("after"), to).unwrap();
        let (frame, second) = server.recv().unwrap();
        assert_eq!(frame.payload, b"after");
        assert_ne!(first, second);
        // The address that the application has kept still names the session.
        scope.spawn(move || server.send_with_ack(Frame::data("hello"), first).unwrap());
        assert_eq!(client.recv().unwrap().0.payload, b"hello");
        client.close();
    });
}

/// Stops the threads also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_sealed_session_ends_with_its_tls_session() {
    let servers = Servers::new();
    let udp = echo(servers.udp());
    let tls = servers.connect();
    let (client, to) = connect(&tls, udp.local_addr());
    client.send_with_ack(Frame::data("x"), to).unwrap();
    assert_eq!(client.recv().unwrap().0.payload, b"x");
    tls.close().unwrap();
    until(|| client.session(to).is_none(), "it is still open");
    // Nothing goes out in plaintext instead.
    let refused = client.send(&Frame::data("x"), to);
    assert!(
        matches!(refused, Err(VstpError::Datagram(_))),
        "{refused:?}"
    );
    let refused = client.connect(to);
    assert!(
        matches!(refused, Err(VstpError::Datagram(_))),
        "{refused:?}"
    );
    // The client's answer to BYE may still be on its way.
    until(|| udp.stats().protocol.sessions == 0, "the server's end");
}

#[test]
fn compression_comes_before_the_seal() {
    let servers = Servers::new();
    let compressed = || config().compression(CompressionConfig::default());
    let server = compressed().sealed_sessions(servers.sealed.clone());
    let server = VstpUdpServer::bind_with_config(LOCAL, server).unwrap();
    let tls = servers.connect();
    let client = VstpUdpClient::connect_sealed_with_config(&tls, server.local_addr(), compressed());
    let (client, session) = client.unwrap();
    let to = session.peer_addr();
    // In one datagram when it is compressed, and in fragments as well.
    for len in [100_000, 10_000_000] {
        let before = client.stats().protocol.bytes_sent;
        let sent = vec![7; len];
        client.send_with_ack(Frame::data(sent.clone()), to).unwrap();
        assert!(server.recv().unwrap().0.payload == sent);
        let bytes = client.stats().protocol.bytes_sent - before;
        assert!(bytes < len as u64 / 10, "{bytes} bytes for {len}");
    }
    client.close();
}

#[test]
fn a_handler_knows_who_it_is() {
    let servers = Servers::new();
    let config = config()
        .sealed_sessions(servers.sealed.clone())
        .also_plaintext(true);
    let server = VstpUdpServer::bind_with_config(LOCAL, config).unwrap();
    let said = |peer: &UdpPeer, _: Frame| {
        let session = peer.session_id().unwrap_or_default();
        Frame::data(format!("{} {session}", peer.is_sealed()))
    };
    let udp = server.workers(2).spawn(said).unwrap();
    let tls = servers.connect();
    let (client, to) = connect(&tls, udp.local_addr());
    client.send_with_ack(Frame::data(""), to).unwrap();
    let expected = format!("true {}", tls.session_id());
    assert_eq!(client.recv().unwrap().0.payload, expected.as_bytes());
    let plain = VstpUdpClient::bind_with_config(LOCAL, self::config()).unwrap();
    let session = plain.connect(udp.local_addr()).unwrap();
    assert!(!session.is_sealed());
    let to = session.peer_addr();
    plain.send_with_ack(Frame::data(""), to).unwrap();
    let expected = format!("false {}", session.id());
    assert_eq!(plain.recv().unwrap().0.payload, expected.as_bytes());
}

#[test]
fn plaintext_finds_nobody_at_a_server_of_sealed_sessions() {
    let servers = Servers::new();
    let udp = echo(servers.udp());
    let patience = Duration::from_millis(300);
    let config = config()
        .handshake_timeout(patience)
        .delivery_timeout(patience);
    let plain = VstpUdpClient::bind_with_config(LOCAL, config).unwrap();
    let refused = plain.connect(udp.local_addr());
    let timed_out = VstpError::Timeout(TimeoutKind::Handshake);
    assert_eq!(refused.unwrap_err().to_string(), timed_out.to_string());
    assert!(
        plain
            .send_with_ack(Frame::data("x"), udp.local_addr())
            .is_err()
    );
    let stats = udp.stats().protocol;
    assert!(stats.dropped(DropReason::Unsealed) >= 2);
    assert_eq!(stats.datagrams_sent, 0);
}

#[test]
fn keys_are_given_once_and_only_where_both_agreed() {
    let is_config = |result: Result<(VstpUdpClient, _), VstpError>| {
        let error = result
            .map(|_: (_, vstp::net::udp::UdpSession)| ())
            .unwrap_err();
        assert!(matches!(error, VstpError::Config { .. }), "{error:?}");
    };
    let servers = Servers::new();
    let udp = echo(servers.udp());
    let to = udp.local_addr();
    let tls = servers.connect();
    let first = connect(&tls, to);
    is_config(VstpUdpClient::connect_sealed(&tls, to));
    drop(first);
    is_config(VstpUdpClient::connect_sealed(&tls, to));
    // The client did not ask.
    let silent = util::connect(Kind::Tls, &servers.tcp);
    is_config(VstpUdpClient::connect_sealed(&silent, to));
    // The server has no such thing, and plaintext has no keys.
    for kind in util::BOTH {
        let other = util::echo(kind, ServerConfig::default());
        let config = TcpConfig::default().sealed_datagrams(true);
        let client = util::try_connect(kind, &other, config).unwrap();
        assert!(client.features().is_empty());
        is_config(VstpUdpClient::connect_sealed(&client, to));
    }
    let config = ServerConfig::default().sealed_sessions(SealedSessions::new());
    let other = util::echo(Kind::Plain, config);
    let config = TcpConfig::default().sealed_datagrams(true);
    let client = util::try_connect(Kind::Plain, &other, config).unwrap();
    assert!(client.features().is_empty());
}

#[test]
fn one_udp_server_at_a_time_and_clients_may_come_before_it() {
    let servers = Servers::new();
    let early = servers.connect();
    let gone = servers.connect();
    gone.close().unwrap();
    let first = echo(servers.udp());
    let config = config().sealed_sessions(servers.sealed.clone());
    let second = VstpUdpServer::bind_with_config(LOCAL, config);
    assert!(
        matches!(second, Err(VstpError::Config { .. })),
        "{second:?}"
    );
    let (client, to) = connect(&early, first.local_addr());
    client.send_with_ack(Frame::data("x"), to).unwrap();
    client.close();
    first.shutdown(Duration::from_secs(1));
    let next = echo(servers.udp());
    let late = servers.connect();
    let (client, to) = connect(&late, next.local_addr());
    client.send_with_ack(Frame::data("x"), to).unwrap();
    assert_eq!(client.recv().unwrap().0.payload, b"x");
}

fn token() -> SharedToken {
    SharedToken::new("ann", "correct horse").unwrap()
}

/// A TLS server of these sessions.
fn bind_tls(config: ServerConfig, sealed: &SealedSessions) -> Result<VstpTcpServer, VstpError> {
    let config = config.sealed_sessions(sealed.clone());
    VstpTcpServer::bind_with(LOCAL, util::certs().server().unwrap(), config)
}

#[test]
fn who_the_client_is_on_tls_it_is_on_sealed_datagrams() {
    for also_plain in [false, true] {
        let sealed = SealedSessions::new();
        let config = ServerConfig::default().authenticator(token());
        let tcp = bind_tls(config, &sealed).unwrap();
        let tcp = tcp.spawn(|_: &Session, frame: Frame| frame).unwrap();
        let mut config = self::config().sealed_sessions(sealed.clone());
        if also_plain {
            config = config.also_plaintext(true).authenticator(token());
        }
        let server = VstpUdpServer::bind_with_config(LOCAL, config).unwrap();
        let name = |peer: &UdpPeer, _: Frame| {
            Frame::data(peer.identity().map_or("nobody", Identity::name))
        };
        let udp = server.workers(2).spawn(name).unwrap();
        let with = |token: &str| {
            let config = util::config().sealed_datagrams(true);
            util::try_connect(Kind::Tls, &tcp, config.auth_token(Some(token.into())))
        };
        let tls = with("correct horse").unwrap();
        let (client, to) = connect(&tls, udp.local_addr());
        client.send_with_ack(Frame::data("?"), to).unwrap();
        assert_eq!(client.recv().unwrap().0, Frame::data("ann"));
        // Who is not recognised has no number, and so no keys.
        match with("wrong") {
            Err(VstpError::ServerError(error)) => assert_eq!(error.code, ErrorCode::Unauthorized),
            other => panic!("{other:?}"),
        }
        // In plaintext the UDP server asks for itself.
        if also_plain {
            let config = self::config().auth_token(Some("wrong".into()));
            let plain = VstpUdpClient::bind_with_config(LOCAL, config).unwrap();
            match plain.connect(udp.local_addr()) {
                Err(VstpError::ServerError(error)) => {
                    assert_eq!(error.code, ErrorCode::Unauthorized);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_tls_server_that_recognises_nobody_is_no_way_past_an_authenticator() {
    let judging = |sealed: &SealedSessions| {
        let config = config().sealed_sessions(sealed.clone());
        VstpUdpServer::bind_with_config(LOCAL, config.authenticator(token()))
    };
    let is_config = |error: Option<VstpError>| {
        assert!(matches!(error, Some(VstpError::Config { .. })), "{error:?}");
    };
    // Whichever is bound last is refused.
    let sealed = SealedSessions::new();
    let _udp = judging(&sealed).unwrap();
    is_config(bind_tls(ServerConfig::default(), &sealed).err());
    let recognising = ServerConfig::default().authenticator(token());
    assert!(bind_tls(recognising, &sealed).is_ok());
    let sealed = SealedSessions::new();
    let _tcp = bind_tls(ServerConfig::default(), &sealed).unwrap();
    is_config(judging(&sealed).err());
    // Without an authenticator everybody is welcome.
    let config = config().sealed_sessions(sealed);
    assert!(VstpUdpServer::bind_with_config(LOCAL, config).is_ok());
}
