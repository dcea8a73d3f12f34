//! Who a client is: over plaintext, TLS and UDP; and authenticators that are slow, panic, or say no.

use crate::limits::until;
use crate::tls_peer::{Peer, authority, leaf};
use crate::util::{BOTH, Kind, LONG, bind, certs, config, connect, try_connect};
use crossbeam_channel::{Receiver, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use vstp::easy::{VstpClient, VstpServer};
use vstp::net::identity::{
    Authentication, Authenticator, ClientCertificate, Credentials, Identity, Refusal, SharedToken,
    bound_token,
};
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::{ClientAuth, Roots, TlsClientConfig, TlsServerConfig};
use vstp::net::udp::UdpConfig;
use vstp::proto::ErrorCode;
use vstp::proto::datagram::DropReason;
use vstp::serve::{ServerConfig, ServerHandle, Session, UdpPeer, UdpServerHandle};
use vstp::{
    Frame, FrameType, VstpError, VstpTcpClient, VstpTcpServer, VstpUdpClient, VstpUdpServer,
};

const LOCAL: &str = "127.0.0.1:0";

fn token() -> SharedToken {
    SharedToken::new("ann", "correct horse").unwrap()
}

fn with_token(token: &str) -> TcpConfig {
    config().auth_token(Some(token.into()))
}

/// Answers each message with the name of the client.
fn name(session: &Session, _: Frame) -> Frame {
    Frame::data(session.identity().map_or("nobody", Identity::name))
}

fn serve(kind: Kind, authentication: impl Into<Authentication>) -> ServerHandle {
    let config = ServerConfig::default().authenticator(authentication);
    bind(kind, config).spawn(name).unwrap()
}

fn ask(client: &mut VstpTcpClient) -> String {
    client.send(&Frame::data("who am I?")).unwrap();
    String::from_utf8(client.recv().unwrap().unwrap().payload).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, VstpError>) -> ErrorCode {
    match result {
        Err(VstpError::ServerError(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_right_token_is_known_to_the_handler_and_any_other_is_refused_before_it() {
    for kind in BOTH {
        let server = serve(kind, token());
        let mut client = try_connect(kind, &server, with_token("correct horse")).unwrap();
        assert_eq!(ask(&mut client), "ann");
        client.close().unwrap();
        let long = "x".repeat(3072);
        for wrong in ["correct horsf", "correct", long.as_str()] {
            let refused = try_connect(kind, &server, with_token(wrong));
            assert_eq!(code(refused), ErrorCode::Unauthorized, "{kind:?}");
        }
        assert_eq!(
            code(try_connect(kind, &server, config())),
            ErrorCode::Unauthorized
        );
        let stats = server.stats();
        assert_eq!(stats.frames_in, 1, "no handler ran for the others");
        until(
            || server.stats().handshake_unauthorized == 4,
            "they are counted",
        );
        server.shutdown(LONG);
    }
}

#[test]
fn a_token_of_3_kib_arrives_whole() {
    let long = "y".repeat(3072);
    let server = serve(Kind::Tls, SharedToken::new("long", &long).unwrap());
    let mut client = try_connect(Kind::Tls, &server, with_token(&long)).unwrap();
    assert_eq!(ask(&mut client), "long");
    let too_long = try_connect(Kind::Tls, &server, with_token(&"y".repeat(3073)));
    assert!(
        matches!(too_long, Err(VstpError::Config(_))),
        "{too_long:?}"
    );
}

#[test]
fn without_hello_nothing_reaches_a_handler_that_wants_to_know_who_it_is() {
    let server = serve(Kind::Plain, token());
    let mut client = try_connect(Kind::Plain, &server, config().hello(false)).unwrap();
    client.send(&Frame::data("let me in")).unwrap();
    assert_eq!(code(client.recv()), ErrorCode::HelloRequired);
    assert_eq!(server.stats().frames_in, 0);
    server.shutdown(LONG);
}

#[test]
fn an_accepted_connection_knows_who_it_is() {
    let settings = ServerConfig::default().authenticator(token());
    let server = VstpTcpServer::bind_plain_with(LOCAL, settings).unwrap();
    let addr = server.local_addr();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let config = with_token("correct horse");
            let client = VstpTcpClient::connect_plain_with(addr, config).unwrap();
            assert_eq!(client.identity(), None, "the server's is not the client's");
            client.close().unwrap();
        });
        let mut connection = server.accept_timeout(LONG).unwrap();
        assert_eq!(connection.identity(), Some(&Identity::new("ann")));
        assert_eq!(connection.recv_timeout(LONG).unwrap(), None);
    });
}

#[test]
fn a_bound_token_is_worth_nothing_on_another_channel() {
    const SECRET: &str = "a long random string";
    let server = serve(Kind::Tls, SharedToken::bound("ann", SECRET).unwrap());
    let bound = || config().bound_auth_token(|channel| bound_token(SECRET, channel).to_vec());
    let mut client = try_connect(Kind::Tls, &server, bound()).unwrap();
    assert_eq!(ask(&mut client), "ann");

    // The man in the middle is trusted by the client, as by a stolen certificate. It gets the token that
    // the client made for the channel with it, and passes it on in its own channel.
    let (seen, relayed) = bounded(1);
    let spy = move |client: &Credentials| {
        let _ = seen.send(client.token().unwrap().to_vec());
        Err(Refusal::new("thank you"))
    };
    let middle = serve(Kind::Tls, spy);
    assert_eq!(
        code(try_connect(Kind::Tls, &middle, bound())),
        ErrorCode::Unauthorized
    );
    let stolen = relayed.recv_timeout(LONG).unwrap();
    let relay = config().auth_token(Some(stolen));
    assert_eq!(
        code(try_connect(Kind::Tls, &server, relay)),
        ErrorCode::Unauthorized
    );
    // The secret itself is no token either, and plaintext has nothing to bind to.
    assert_eq!(
        code(try_connect(Kind::Tls, &server, with_token(SECRET))),
        ErrorCode::Unauthorized
    );
    let plain = serve(Kind::Plain, SharedToken::bound("ann", SECRET).unwrap());
    let refused = try_connect(Kind::Plain, &plain, bound());
    assert!(matches!(refused, Err(VstpError::Config(_))), "{refused:?}");
}

/// A server that asks for certificates of the authority.
fn with_certificates(authenticator: impl Authenticator + 'static) -> ServerHandle {
    let roots = Roots::pem(authority().pem.as_bytes()).unwrap();
    let tls = TlsServerConfig::builder()
        .pem(leaf().pem.as_bytes(), leaf().key_pem.as_bytes())
        .client_auth(ClientAuth::Optional(roots))
        .build()
        .unwrap();
    let config = ServerConfig::default().authenticator(authenticator);
    let server = VstpTcpServer::bind_with(LOCAL, tls, config).unwrap();
    server.spawn(name).unwrap()
}

fn presenting(name: &str) -> (TlsClientConfig, [u8; 32]) {
    let certificate = authority().issue(name, |_| {});
    let tls = authority()
        .client()
        .client_cert_pem(certificate.pem.as_bytes(), certificate.key_pem.as_bytes())
        .build()
        .unwrap();
    (tls, hmac_sha256::Hash::hash(&certificate.der))
}

#[test]
fn a_client_certificate_says_who_it_is() {
    let (ann, pin) = presenting("ann.example");
    let (bob, _) = presenting("bob.example");
    let nobody = authority().client().build().unwrap();
    for authenticator in [
        ClientCertificate::by_common_name(),
        ClientCertificate::by_dns_name(),
        ClientCertificate::pinned([("ann.example", pin)]),
    ] {
        let is_pinned = format!("{authenticator:?}").contains("Pins");
        let server = with_certificates(authenticator);
        let connect = |tls| VstpTcpClient::connect_with(server.local_addr(), tls, config());
        assert_eq!(ask(&mut connect(&ann).unwrap()), "ann.example");
        if is_pinned {
            assert_eq!(code(connect(&bob)), ErrorCode::Unauthorized);
        } else {
            assert_eq!(ask(&mut connect(&bob).unwrap()), "bob.example");
        }
        assert_eq!(code(connect(&nobody)), ErrorCode::Unauthorized);
        server.shutdown(LONG);
    }
}

#[test]
fn the_fingerprint_is_an_attribute() {
    let (seen, attribute) = bounded(1);
    let by_name = ClientCertificate::by_common_name();
    let server = with_certificates(move |client: &Credentials| {
        let identity = by_name.authenticate(client)?;
        let _ = seen.send(identity.attribute("sha256").map(str::to_owned));
        Ok(identity)
    });
    let (tls, pin) = presenting("ann.example");
    VstpTcpClient::connect_with(server.local_addr(), &tls, config()).unwrap();
    let hex: String = pin.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(attribute.recv_timeout(LONG).unwrap(), Some(hex));
}

/// Recognises at once who says so, and others only when it is released.
fn slow() -> (impl Authenticator + Clone, crossbeam_channel::Sender<()>) {
    let (release, released): (_, Receiver<()>) = bounded(64);
    let authenticator = move |client: &Credentials| {
        if client.token() != Some(b"quick") {
            let _ = released.recv_timeout(LONG);
        }
        Ok(Identity::new("ann"))
    };
    (authenticator, release)
}

#[test]
fn a_slow_authenticator_costs_its_client_its_time_and_others_nothing() {
    for kind in BOTH {
        let (authenticator, release) = slow();
        let short = Duration::from_millis(1500);
        let settings = Authentication::new(authenticator).timeout(short).workers(2);
        let server = serve(kind, settings);
        assert_eq!(
            code(try_connect(kind, &server, config())),
            ErrorCode::Timeout,
            "the deadline holds though the authenticator blocks"
        );
        // One of two threads is stuck; the other serves.
        let mut quick = try_connect(kind, &server, with_token("quick")).unwrap();
        assert_eq!(ask(&mut quick), "ann");
        release.send(()).unwrap();
        until(
            || server.stats().authenticator_late == 1,
            "the late answer is counted",
        );
        assert_eq!(server.stats().connections_active, 1, "and opens nothing");
        server.shutdown(LONG);
    }
}

#[test]
fn a_shutdown_does_not_wait_for_an_authenticator() {
    let (authenticator, release) = slow();
    let settings = Authentication::new(authenticator).timeout(LONG * 10);
    let server = serve(Kind::Plain, settings);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let patient = config().handshake_timeout(LONG * 10);
            try_connect(Kind::Plain, &server, patient)
        });
        until(|| server.stats().handshakes_active == 1, "the client waits");
        server.shutdown(LONG);
        let refused = waiting.join().unwrap();
        assert!(refused.is_err(), "{refused:?}");
    });
    drop(release);
}

#[test]
fn an_authenticator_that_panics_refuses_and_the_next_client_is_served() {
    for kind in BOTH {
        let calls = AtomicUsize::new(0);
        let authenticator = move |_: &Credentials| {
            assert!(calls.fetch_add(1, Ordering::Relaxed) >= 3, "as asked");
            Ok(Identity::new("ann"))
        };
        let server = serve(kind, Authentication::new(authenticator).workers(1));
        for _ in 0..3 {
            assert_eq!(
                code(try_connect(kind, &server, config())),
                ErrorCode::Unauthorized
            );
        }
        assert_eq!(ask(&mut connect(kind, &server)), "ann");
        assert_eq!(server.stats().authenticator_panics, 3);
        server.shutdown(LONG);
    }
}

#[test]
fn before_welcome_a_client_that_talks_on_is_not_heard() {
    let (authenticator, release) = slow();
    let settings = ServerConfig::default().authenticator(authenticator);
    let server = VstpTcpServer::bind_with(LOCAL, leaf().server(), settings).unwrap();
    let server = server.spawn(name).unwrap();
    let mut peer = Peer::connect(server.local_addr(), &[vstp::net::tls::ALPN]);
    peer.shake_hands().unwrap();
    peer.send(&Frame::new(FrameType::Hello));
    peer.send(&Frame::data("early"));
    until(
        || server.stats().handshakes_active == 1,
        "the server has the client",
    );
    assert_eq!(server.stats().frames_in, 0);
    release.send(()).unwrap();
    assert_eq!(peer.recv().unwrap().typ, FrameType::Welcome);
    assert_eq!(peer.recv().unwrap(), Frame::data("ann"));
    server.shutdown(LONG);
}

// UDP.

fn udp_server(authentication: impl Into<Authentication>) -> UdpServerHandle {
    let config = UdpConfig::default().authenticator(authentication);
    let server = VstpUdpServer::bind_with_config(LOCAL, config).unwrap();
    let handler =
        |peer: &UdpPeer, _: Frame| Frame::data(peer.identity().map_or("nobody", Identity::name));
    server.spawn(handler).unwrap()
}

fn udp_client(token: Option<&str>) -> VstpUdpClient {
    let config = UdpConfig::default()
        .read_timeout(Some(LONG))
        .handshake_timeout(LONG)
        .auth_token(token.map(Into::into));
    VstpUdpClient::bind_with_config(LOCAL, config).unwrap()
}

fn ask_udp(client: &VstpUdpClient, server: &UdpServerHandle) -> String {
    let to = server.local_addr();
    client.send_with_ack(Frame::data("who am I?"), to).unwrap();
    String::from_utf8(client.recv().unwrap().0.payload).unwrap()
}

#[test]
fn in_datagrams_a_session_has_an_identity_and_without_one_nothing_is_handled() {
    let server = udp_server(token());
    let to = server.local_addr();
    let client = udp_client(Some("correct horse"));
    client.connect(to).unwrap();
    assert_eq!(ask_udp(&client, &server), "ann");
    for wrong in [Some("wrong"), None] {
        let refused = udp_client(wrong).connect(to);
        assert_eq!(code(refused), ErrorCode::Unauthorized);
    }
    let stranger = udp_client(None);
    stranger.send(&Frame::data("let me in"), to).unwrap();
    until(
        || server.stats().protocol.dropped(DropReason::Unauthorized) == 1,
        "it is dropped and counted",
    );
    let stats = server.stats().protocol;
    assert_eq!((stats.sessions, stats.sessions_refused), (1, 2));
    assert_eq!(stats.messages_received, 1);
    server.shutdown(LONG);
}

#[test]
fn a_udp_server_of_its_own_loop_asks_for_the_identity() {
    let config = UdpConfig::default().authenticator(token());
    let server = VstpUdpServer::bind_with_config(LOCAL, config).unwrap();
    let client = udp_client(Some("correct horse"));
    client.connect(server.local_addr()).unwrap();
    client.send(&Frame::data("x"), server.local_addr()).unwrap();
    let (_, from) = server.recv_timeout(LONG).unwrap();
    assert_eq!(server.identity(from).unwrap().name(), "ann");
    client.close();
    until(
        || server.identity(from).is_none(),
        "it ends with the session",
    );
}

#[test]
fn a_slow_authenticator_does_not_hold_up_datagrams() {
    let (authenticator, release) = slow();
    let short = Duration::from_millis(1500);
    let settings = Authentication::new(authenticator).timeout(short).workers(2);
    let server = udp_server(settings);
    let quick = udp_client(Some("quick"));
    quick.connect(server.local_addr()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| udp_client(None).connect(server.local_addr()));
        // The authenticator blocks meanwhile; the socket is read all the time.
        for _ in 0..100 {
            assert_eq!(ask_udp(&quick, &server), "ann");
        }
        assert_eq!(code(waiting.join().unwrap()), ErrorCode::Timeout);
    });
    release.send(()).unwrap();
    assert_eq!(ask_udp(&quick, &server), "ann");
    assert_eq!(server.stats().protocol.sessions, 1, "late is too late");
    server.shutdown(LONG);
}

#[test]
fn an_authenticator_of_datagrams_that_panics_refuses() {
    let panics = |client: &Credentials| -> Result<Identity, Refusal> {
        assert_eq!(client.token(), Some(&b"good"[..]), "as asked");
        Ok(Identity::new("ann"))
    };
    let server = udp_server(panics);
    let refused = udp_client(Some("bad")).connect(server.local_addr());
    assert_eq!(code(refused), ErrorCode::Unauthorized);
    assert_eq!(server.authenticator_panics(), 1);
    let client = udp_client(Some("good"));
    client.connect(server.local_addr()).unwrap();
    assert_eq!(ask_udp(&client, &server), "ann");
    server.shutdown(LONG);
}

#[test]
fn a_server_that_closes_ends_the_threads_of_its_authenticator() {
    let alive = Arc::new(());
    let inside = Arc::clone(&alive);
    let authenticator = move |_: &Credentials| {
        let _ = &inside;
        Ok(Identity::new("ann"))
    };
    let server = udp_server(authenticator);
    udp_client(None).connect(server.local_addr()).unwrap();
    server.shutdown(LONG);
    until(
        || Arc::strong_count(&alive) == 1,
        "nobody holds the authenticator",
    );
}

#[test]
fn typed_messages_take_the_same_settings() {
    let tls = certs().server().unwrap();
    let settings = ServerConfig::default().authenticator(token());
    let server = VstpServer::bind_tcp_with(LOCAL, tls, settings).unwrap();
    let addr = server.local_addr();
    let server = server.spawn(|n: u32| Ok::<_, String>(n + 1)).unwrap();
    let tls = certs().client().unwrap();
    let mut client = VstpClient::connect_tcp_with(addr, &tls, with_token("correct horse")).unwrap();
    assert_eq!(client.call::<u32>(&1).unwrap(), 2);
    let refused = VstpClient::connect_tcp_with(addr, &tls, config());
    assert_eq!(code(refused), ErrorCode::Unauthorized);
    server.shutdown(LONG);

    let settings = UdpConfig::default().authenticator(token());
    let server = VstpServer::bind_udp_with(LOCAL, settings).unwrap();
    let addr = server.local_addr();
    let server = server.spawn(|n: u32| Ok::<_, String>(n + 1)).unwrap();
    let good = UdpConfig::default().auth_token(Some(b"correct horse".to_vec()));
    let mut client = VstpClient::connect_udp_with(addr, good).unwrap();
    assert_eq!(client.call::<u32>(&1).unwrap(), 2);
    let refused = VstpClient::connect_udp(addr);
    assert_eq!(code(refused), ErrorCode::Unauthorized);
    server.shutdown(LONG);
}

#[test]
fn senseless_settings_are_named() {
    let config = |settings| ServerConfig::default().authenticator(settings).validate();
    assert!(config(Authentication::new(token()).workers(0)).is_err());
    assert!(config(Authentication::new(token()).timeout(Duration::ZERO)).is_err());
    assert!(config(Authentication::new(token())).is_ok());
    let udp = |len| {
        UdpConfig::default()
            .auth_token(Some(vec![7; len]))
            .validate()
    };
    assert!(udp(0).is_err() && udp(256).is_err() && udp(255).is_ok());
}
