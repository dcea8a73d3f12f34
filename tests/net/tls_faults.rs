//! Faults of TLS: each is a typed error on the side that must see it, and costs nobody else
//! anything. The ids are those of the list of faults.

use crate::tls_peer::{
    Authority, Leaf, Peer, accept, authority, dial, eventually, expired, future, leaf, listen,
    read_to_end,
};
use crate::util::{LONG, config, echo_frame};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use vstp::error::{ClosedBy, TimeoutKind, TlsErrorKind};
use vstp::net::clock;
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::{ALPN, ClientAuth, Roots, TlsClientConfig, TlsServerConfig};
use vstp::serve::{ServerConfig, ServerHandle};
use vstp::{Frame, FrameType, VstpError, VstpTcpClient, VstpTcpConnection, VstpTcpServer};

/// A server whose handshakes take longer than any test waits: what ends earlier was ended.
fn patient() -> ServerConfig {
    ServerConfig::default().tcp(config().handshake_timeout(4 * LONG))
}

fn bind(tls: TlsServerConfig) -> VstpTcpServer {
    VstpTcpServer::bind_with("127.0.0.1:0", tls, patient()).unwrap()
}

fn echo(tls: TlsServerConfig) -> ServerHandle {
    bind(tls).spawn(echo_frame).unwrap()
}

fn connect(server: &ServerHandle, tls: &TlsClientConfig) -> Result<VstpTcpClient, VstpError> {
    let config = config().handshake_timeout(4 * LONG);
    VstpTcpClient::connect_with(server.local_addr(), tls, config)
}

fn good_client() -> TlsClientConfig {
    authority().client().build().unwrap()
}

/// The client answers and is answered.
fn works(client: &mut VstpTcpClient) {
    client.send(&Frame::data("still here")).unwrap();
    assert_eq!(client.recv().unwrap(), Some(Frame::data("still here")));
}

#[track_caller]
fn kind<T: std::fmt::Debug>(result: Result<T, VstpError>) -> TlsErrorKind {
    match result {
        Err(VstpError::Tls(error)) => error.kind,
        other => panic!("no error of TLS: {other:?}"),
    }
}

#[track_caller]
fn closed<T: std::fmt::Debug>(result: Result<T, VstpError>) -> ClosedBy {
    match result {
        Err(VstpError::ConnectionClosed(by)) => by,
        other => panic!("not closed: {other:?}"),
    }
}

/// So many handshakes have failed in TLS, and no other error was counted.
fn tls_failures(server: &ServerHandle, count: u64) {
    eventually("the count of failures", || {
        server.stats().handshake_tls_failures == count
    });
    let stats = server.stats();
    assert_eq!(stats.handshake_timeouts, 0);
    assert_eq!(stats.handshake_protocol_failures, 0);
}

#[test]
fn c01_to_c04_a_bad_certificate() {
    let stranger = Authority::new("nobody");
    for (certificate, reason) in [
        (
            authority().issue("127.0.0.1", expired),
            TlsErrorKind::CertificateExpired,
        ),
        (
            authority().issue("127.0.0.1", future),
            TlsErrorKind::CertificateNotYetValid,
        ),
        (
            authority().issue("localhost", |_| {}),
            TlsErrorKind::WrongName,
        ),
        (
            stranger.issue("127.0.0.1", |_| {}),
            TlsErrorKind::UnknownIssuer,
        ),
    ] {
        let server = echo(certificate.server());
        assert_eq!(kind(connect(&server, &good_client())), reason);
        tls_failures(&server, 1);
        // The server is as good as before for those who know it.
        let trusting = TlsClientConfig::builder().danger_accept_invalid_certs();
        works(&mut connect(&server, &trusting.build().unwrap()).unwrap());
        let stats = server.stats();
        assert_eq!((stats.handshake_tls_failures, stats.frames_in), (1, 1));
        server.shutdown(LONG);
    }
}

#[test]
fn c05_garbage_while_another_client_works() {
    let server = echo(leaf().server());
    let mut honest = connect(&server, &good_client()).unwrap();
    let hello = vstp::encode_frame(&Frame::new(FrameType::Hello)).unwrap();
    let mut tls10 = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x01".to_vec();
    tls10.extend([9; 32]);
    tls10.extend(b"\x00\x00\x04\x00\x2f\x00\x35\x01\x00");
    let garbage: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        &hello,
        &tls10,
        &[0; 3000],
        &[0xff; 100_000],
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x17\x03\x03\x00\x01A",
    ];
    // Connections that say nothing at all are there as well.
    let silent: Vec<_> = (0..20).map(|_| dial(server.local_addr())).collect();
    for (n, bytes) in garbage.iter().enumerate() {
        let mut socket = dial(server.local_addr());
        // The server may have hung up before it was said to the end.
        let _ = socket.write_all(bytes);
        let answer = read_to_end(&mut socket);
        // An alert, if anything.
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:x?}");
        tls_failures(&server, n as u64 + 1);
        works(&mut honest);
        works(&mut connect(&server, &good_client()).unwrap());
    }
    drop(silent);
    works(&mut honest);
    honest.close().unwrap();
    server.shutdown(LONG);
}

#[test]
fn c05_one_side_in_plaintext() {
    let server = echo(leaf().server());
    let result = VstpTcpClient::connect_plain_with(server.local_addr(), config());
    // What comes is an alert of TLS.
    assert!(
        matches!(
            result,
            Err(VstpError::InvalidMagic {
                offset: 0,
                got: 0x15
            })
        ),
        "{result:?}"
    );
    tls_failures(&server, 1);
    server.shutdown(LONG);

    let server = VstpTcpServer::bind_plain_with("127.0.0.1:0", patient()).unwrap();
    let server = server.spawn(echo_frame).unwrap();
    let error = connect(&server, &good_client()).unwrap_err();
    assert!(error.to_string().contains("plaintext"), "{error}");
    assert_eq!(kind::<()>(Err(error)), TlsErrorKind::InvalidMessage);
    eventually("the failure is counted", || {
        server.stats().handshake_protocol_failures == 1
    });
    server.shutdown(LONG);
}

fn with_client_auth(auth: fn(Roots) -> ClientAuth) -> ServerHandle {
    let roots = Roots::pem(authority().pem.as_bytes()).unwrap();
    let tls = TlsServerConfig::builder()
        .pem(leaf().pem.as_bytes(), leaf().key_pem.as_bytes())
        .client_auth(auth(roots))
        .build()
        .unwrap();
    echo(tls)
}

fn presenting(certificate: &Leaf) -> TlsClientConfig {
    authority()
        .client()
        .client_cert_pem(certificate.pem.as_bytes(), certificate.key_pem.as_bytes())
        .build()
        .unwrap()
}

#[test]
fn c07_connect_fails_without_the_certificate_that_is_required() {
    let server = with_client_auth(ClientAuth::Required);
    // In TLS 1.3 the client's handshake is over before the server judges, so the alert races with
    // the client's HELLO; whoever wins, `connect` says what happened.
    for n in 1..=50 {
        let error = connect(&server, &good_client()).unwrap_err();
        assert!(error.to_string().contains("client_cert_pem"), "{error}");
        assert_eq!(kind::<()>(Err(error)), TlsErrorKind::Alert(116));
        tls_failures(&server, n);
    }
    let stranger = Authority::new("nobody").issue("client", |_| {});
    let late = authority().issue("client", expired);
    for (certificate, alert) in [(stranger, 48), (late, 45)] {
        let result = connect(&server, &presenting(&certificate));
        assert_eq!(kind(result), TlsErrorKind::Alert(alert));
    }
    tls_failures(&server, 52);
    let good = presenting(&authority().issue("client", |_| {}));
    works(&mut connect(&server, &good).unwrap());
    assert_eq!(server.stats().frames_in, 1);
    server.shutdown(LONG);
}

#[test]
fn c07_optional_certificate() {
    let server = with_client_auth(ClientAuth::Optional);
    works(&mut connect(&server, &good_client()).unwrap());
    let certificate = authority().issue("client", |_| {});
    works(&mut connect(&server, &presenting(&certificate)).unwrap());
    let stranger = Authority::new("nobody").issue("client", |_| {});
    let result = connect(&server, &presenting(&stranger));
    assert_eq!(kind(result), TlsErrorKind::Alert(48));
    tls_failures(&server, 1);
    server.shutdown(LONG);
}

/// A connection of each side with a peer that does as it is told: once as the server's, once as
/// the client's.
fn both_sides(act: impl Fn(&mut Peer, &mut VstpTcpConnection)) {
    let server = bind(leaf().server());
    let addr = server.local_addr();
    std::thread::scope(|scope| {
        let peer = scope.spawn(|| Peer::open_client(addr));
        let mut ours = server.accept_timeout(LONG).unwrap();
        act(&mut peer.join().unwrap(), &mut ours);
    });

    let (listener, addr) = listen();
    std::thread::scope(|scope| {
        let peer = scope.spawn(|| Peer::open_server(&listener));
        let client = VstpTcpClient::connect_with(addr, &good_client(), config()).unwrap();
        act(&mut peer.join().unwrap(), &mut client.into_connection());
    });
}

#[test]
fn c08_end_without_close_notify() {
    both_sides(|peer, ours| {
        peer.send(&Frame::data("whole"));
        peer.fin();
        assert_eq!(ours.recv().unwrap(), Some(Frame::data("whole")));
        assert_eq!(closed(ours.recv()), ClosedBy::Truncated);
        assert_eq!(closed(ours.recv()), ClosedBy::Truncated, "it stays so");
    });
}

#[test]
fn c08_end_without_close_notify_after_bye() {
    both_sides(|peer, ours| {
        peer.send(&Frame::data("whole"));
        peer.send(&Frame::new(FrameType::Bye));
        peer.fin();
        assert_eq!(ours.recv().unwrap(), Some(Frame::data("whole")));
        assert_eq!(ours.recv().unwrap(), None);
        assert_eq!(peer.recv().unwrap().typ, FrameType::Bye);
    });
}

#[test]
fn c08_close_notify_without_bye() {
    both_sides(|peer, ours| {
        let bytes = peer.close_notify();
        peer.write(&bytes);
        peer.fin();
        assert_eq!(closed(ours.recv()), ClosedBy::PeerWithoutBye);
    });
}

#[test]
fn c09_end_inside_a_frame() {
    for with_close_notify in [false, true] {
        both_sides(|peer, ours| {
            // All of the frame but its last byte.
            let frame = Frame::data(vec![1; 1000]);
            let (limits, mut bytes) = (vstp::wire::Limits::default(), Vec::new());
            let trailer = vstp::wire::Trailer::WhenFlagged;
            vstp::wire::encode(frame.as_ref(), trailer, &limits, &mut bytes).unwrap();
            bytes.pop();
            let mut records = peer.encrypt(&bytes);
            if with_close_notify {
                records.extend(peer.close_notify());
            }
            peer.write(&records);
            peer.fin();
            assert_eq!(closed(ours.recv()), ClosedBy::Truncated);
        });
    }
}

#[test]
fn c09_bytes_after_close_notify() {
    both_sides(|peer, ours| {
        let mut bytes = peer.records(&Frame::data("before"));
        bytes.extend(peer.records(&Frame::new(FrameType::Bye)));
        bytes.extend(peer.close_notify());
        bytes.extend([0x17; 5000]);
        peer.write(&bytes);
        assert_eq!(ours.recv().unwrap(), Some(Frame::data("before")));
        assert_eq!(ours.recv().unwrap(), None);
        assert_eq!(ours.recv().unwrap(), None);
    });
}

#[test]
fn c10_close_notify_and_alerts_in_the_handshake() {
    let server = echo(leaf().server());
    let alerts: [&[u8]; 3] = [
        &[0x15, 3, 3, 0, 2, 1, 0],
        &[0x15, 3, 3, 0, 2, 2, 40],
        &[0x15, 3, 3, 0, 2, 1, 90, 0x15, 3, 3, 0, 2, 2, 90],
    ];
    let mut count = 0;
    for alert in alerts {
        let mut peer = Peer::connect(server.local_addr(), &[ALPN]);
        let mut bytes = peer.pending();
        bytes.extend(alert);
        peer.write(&bytes);
        // The socket stays open on this side, so it is the server that ends it.
        read_to_end(&mut peer.socket);
        count += 1;
        tls_failures(&server, count);
    }
    works(&mut connect(&server, &good_client()).unwrap());
    server.shutdown(LONG);

    // And the other way round: a server that answers a hello with an alert.
    for alert in &alerts[1..] {
        let (listener, addr) = listen();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut socket = accept(&listener);
                socket.write_all(alert).unwrap();
                read_to_end(&mut socket);
            });
            let result = VstpTcpClient::connect_with(addr, &good_client(), config());
            assert!(matches!(kind(result), TlsErrorKind::Alert(_)));
        });
    }
}

#[test]
fn c10_a_server_that_hangs_up_in_the_handshake() {
    let (listener, addr) = listen();
    std::thread::scope(|scope| {
        scope.spawn(|| accept(&listener).shutdown(std::net::Shutdown::Write));
        let result = VstpTcpClient::connect_with(addr, &good_client(), config());
        assert!(matches!(
            closed(result),
            ClosedBy::Truncated | ClosedBy::Reset
        ));
    });
    // One that says nothing.
    let began = clock::now();
    let timeout = Duration::from_millis(100);
    let result =
        VstpTcpClient::connect_with(addr, &good_client(), config().handshake_timeout(timeout));
    assert!(matches!(
        result,
        Err(VstpError::Timeout(TimeoutKind::Handshake))
    ));
    assert!(began.elapsed() >= timeout && began.elapsed() < LONG / 4);
}

#[test]
fn c12_peers_without_our_application_protocol() {
    let server = echo(leaf().server());
    let mut other = Peer::connect(server.local_addr(), &[b"h2"]);
    other.shake_hands().unwrap_err();
    tls_failures(&server, 1);
    // Without any, the handshake passes, and nothing else.
    let mut none = Peer::connect(server.local_addr(), &[]);
    none.shake_hands().unwrap();
    assert!(none.recv().is_err());
    tls_failures(&server, 2);
    let mut among = Peer::connect(server.local_addr(), &[b"h2", ALPN]);
    among.shake_hands().unwrap();
    among.send(&Frame::new(FrameType::Hello));
    assert_eq!(among.recv().unwrap().typ, FrameType::Welcome);
    drop(among);
    server.shutdown(LONG);

    for (known, reason) in [
        (&[&b"h2"[..]][..], TlsErrorKind::NoApplicationProtocol),
        (&[], TlsErrorKind::NoApplicationProtocol),
    ] {
        let (listener, addr) = listen();
        std::thread::scope(|scope| {
            scope.spawn(|| Peer::accept(&listener, known).shake_hands());
            let result = VstpTcpClient::connect_with(addr, &good_client(), config());
            assert_eq!(kind(result), reason);
        });
    }
}

#[test]
fn c13_a_changed_record() {
    both_sides(|peer, ours| {
        // In one write with a good one, which counts as much as if it had come alone.
        let mut bytes = peer.records(&Frame::data("good"));
        bytes.extend(peer.records(&Frame::data("changed")));
        *bytes.last_mut().unwrap() ^= 1;
        peer.write(&bytes);
        assert_eq!(ours.recv().unwrap(), Some(Frame::data("good")));
        assert_eq!(kind(ours.recv()), TlsErrorKind::DecryptError);
        assert_eq!(closed(ours.recv()), ClosedBy::Error);
        assert_eq!(closed(ours.send(&Frame::data("more"))), ClosedBy::Error);
        assert_eq!(peer.alert(), 20); // bad_record_mac
    });
}

#[test]
fn c15_pathological_chains() {
    let many: String = (0..150)
        .map(|_| Authority::new("one of many").pem)
        .collect();
    let end = Authority::new("one of many").issue("127.0.0.1", |_| {});
    for (chain, key, reasons) in [
        // Each could have signed each; without a bound that would be a search without end.
        (
            end.pem.clone() + &many,
            &end.key_pem,
            &[TlsErrorKind::UnknownIssuer, TlsErrorKind::BadCertificate][..],
        ),
        // More than a handshake message may hold.
        (
            leaf().pem.clone() + &many.repeat(3),
            &leaf().key_pem,
            &[TlsErrorKind::InvalidMessage],
        ),
    ] {
        let tls = TlsServerConfig::builder().pem(chain.as_bytes(), key.as_bytes());
        let server = echo(tls.build().unwrap());
        let began = clock::now();
        let reason = kind(connect(&server, &good_client()));
        assert!(reasons.contains(&reason), "{reason}");
        // A search without a bound would not end at all; how long this takes depends on the machine.
        assert!(began.elapsed() < 2 * LONG);
        server.shutdown(LONG);
    }
}

#[test]
fn c15_a_client_hello_without_end() {
    let server = echo(leaf().server());
    let mut socket = dial(server.local_addr());
    // A message of 60,000 bytes is within bounds, so it is waited for, up to its end.
    socket
        .write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60])
        .unwrap();
    let part = [0; 0x4000 - 4];
    socket.write_all(&part).unwrap();
    let mut rest = Vec::new();
    for _ in 0..3 {
        rest.extend([0x16, 3, 3, 0x40, 0]);
        rest.extend([0; 0x4000]);
    }
    // It may be refused before it was sent to the end.
    let _ = socket.write_all(&rest);
    read_to_end(&mut socket);
    tls_failures(&server, 1);
    works(&mut connect(&server, &good_client()).unwrap());
    server.shutdown(LONG);
}

/// A server of few slots, and a client that is connected already.
fn few_slots(handshake_timeout: Duration) -> (ServerHandle, VstpTcpClient) {
    let tcp = TcpConfig::default().handshake_timeout(handshake_timeout);
    let config = ServerConfig::default()
        .tcp(tcp)
        .max_handshakes(SLOTS)
        .max_per_address(1000);
    let server = VstpTcpServer::bind_with("127.0.0.1:0", leaf().server(), config).unwrap();
    let server = server.spawn(echo_frame).unwrap();
    let client = connect(&server, &good_client()).unwrap();
    (server, client)
}

const SLOTS: usize = 16;

#[test]
fn c17_half_open_handshakes_take_their_slots_and_no_more() {
    let (server, mut client) = few_slots(Duration::from_secs(3));
    let slots = SLOTS as u64;
    let half_open: Vec<_> = (0..30).map(|_| dial(server.local_addr())).collect();
    eventually("the slots are taken", || {
        server.stats().handshakes_active == slots
    });
    // Who is connected does not notice, and whoever comes behind them gets in when they are refused.
    std::thread::scope(|scope| {
        let late = scope.spawn(|| {
            let patient = TcpConfig::default().handshake_timeout(LONG);
            VstpTcpClient::connect_with(server.local_addr(), &good_client(), patient)
        });
        while !late.is_finished() {
            works(&mut client);
            let stats = server.stats();
            assert!(stats.handshakes_active <= slots, "{stats:?}");
        }
        works(&mut late.join().unwrap().unwrap());
    });
    assert!(server.stats().handshake_timeouts > 30 - slots);
    drop(half_open);
    server.shutdown(LONG);
}

#[test]
fn c17_a_flood_of_whole_handshakes_leaves_those_who_are_connected_working() {
    let (server, mut client) = few_slots(LONG);
    let tls = good_client();
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..2 * SLOTS)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..10 {
                        works(&mut connect(&server, &tls).unwrap());
                    }
                })
            })
            .collect();
        let mut count = 0;
        while !flood.iter().all(|thread| thread.is_finished()) {
            works(&mut client);
            count += 1;
            let stats = server.stats();
            assert!(stats.handshakes_active <= SLOTS as u64, "{stats:?}");
        }
        // How many depends on the machine; one that starves would not get far.
        assert!(count >= 20, "{count}");
    });
    server.shutdown(LONG);
}

#[test]
fn c16_reload_under_load() {
    let certificates = [
        authority().issue("127.0.0.1", |_| {}),
        authority().issue("127.0.0.1", |_| {}),
    ];
    let tls = certificates[0].server();
    let server = bind(tls.clone()).spawn(echo_frame).unwrap();
    let client = good_client();
    let mut old = connect(&server, &client).unwrap();
    let first = old.tls().unwrap().certificates.clone();
    assert_eq!(first, [certificates[0].der.clone()]);

    let (done, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Not one is refused, and each gets a certificate with its own key.
                    let mut client = connect(&server, &client).unwrap();
                    let shown = &client.tls().unwrap().certificates[0];
                    assert!(certificates.iter().any(|c| c.der == *shown));
                    works(&mut client);
                    client.close().unwrap();
                    connections.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=40 {
            let seen = connections.load(Ordering::Relaxed);
            let next = &certificates[round % 2];
            tls.reload_pem(next.pem.as_bytes(), next.key_pem.as_bytes())
                .unwrap();
            // From here on everybody gets the new one.
            let mut new = connect(&server, &client).unwrap();
            assert_eq!(new.tls().unwrap().certificates[0], next.der);
            works(&mut new);
            works(&mut old);
            eventually("others connect", || {
                connections.load(Ordering::Relaxed) > seen
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(old.tls().unwrap().certificates, first);
    drop(old);
    let stats = server.stats();
    assert_eq!(stats.handshake_tls_failures, 0);
    assert!(stats.connections_accepted > 80);
    server.shutdown(LONG);
}

#[test]
fn c07_the_alert_reaches_a_client_that_is_still_sending() {
    let server = with_client_auth(ClientAuth::Required);
    for n in 1..=20 {
        let mut peer = Peer::connect(server.local_addr(), &[ALPN]);
        peer.shake_hands().unwrap();
        let bytes = peer.encrypt(&[0; 16_000]);
        // More than anybody reads; the server may end it meanwhile.
        let _ = peer.socket.write_all(&bytes.repeat(64));
        assert_eq!(peer.alert(), 116);
        tls_failures(&server, n);
    }
    server.shutdown(LONG);
}
