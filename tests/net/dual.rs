//! TCP and UDP at one port: the server of both, the client that chooses for each message, the typed calls.

use crate::relay::{Link, Relay};
use crate::util::{LONG, certs, config};
use crossbeam_channel::bounded;
use std::collections::HashSet;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vstp::easy::{VstpClient, VstpServer};
use vstp::error::{HandlerError, TimeoutKind};
use vstp::ext::{ExtensionContext, ExtensionHandler, ExtensionRegistry, Outcome};
use vstp::net::auto::{AutoConfig, UdpStatus};
use vstp::net::clock;
use vstp::net::tcp::TcpConfig;
use vstp::net::udp::UdpConfig;
use vstp::proto::ErrorCode;
use vstp::proto::auto::{Transport, Via};
use vstp::proto::datagram::SendError;
use vstp::proto::once::OnceId;
use vstp::serve::{DualConfig, DualPeer, DualServerHandle, ServerConfig, Session, UdpPeer};
use vstp::{
    Flags, Frame, FrameType, VstpAutoClient, VstpDualServer, VstpError, VstpTcpClient,
    VstpTcpServer, VstpUdpClient, VstpUdpServer,
};

const LOCAL: &str = "127.0.0.1:0";

/// A client whose calls all end, and that waits for UDP as long as it may take on a busy machine.
pub(crate) fn auto() -> AutoConfig {
    AutoConfig::default().tcp(config()).udp_wait(LONG)
}

/// Answers each message with how it came and what it was.
fn tells(peer: &DualPeer<'_>, frame: Frame) -> Frame {
    let text = String::from_utf8_lossy(&frame.payload);
    Frame::data(format!("{}: {text}", peer.transport()))
}

fn serve() -> DualServerHandle {
    let server = VstpDualServer::bind_auto_plain(LOCAL).unwrap();
    server.spawn(tells).unwrap()
}

/// Waits until it is so, without looking at anything but the client.
pub(crate) fn until(client: &VstpAutoClient, mut done: impl FnMut() -> bool) {
    let end = clock::now() + LONG;
    while !done() {
        assert!(clock::now() < end, "{:?}", client.transports());
        let received = client.recv_timeout(Duration::from_millis(10));
        assert!(
            matches!(received, Err(VstpError::Timeout(TimeoutKind::Recv))),
            "{received:?}"
        );
    }
}

#[test]
fn one_port_one_handler_one_handle() {
    let handle = serve();
    let addr = handle.local_addr();
    assert_eq!(handle.tcp().local_addr(), addr);
    assert_eq!(handle.udp().local_addr(), addr);

    let mut tcp = VstpTcpClient::connect_plain_with(addr, config()).unwrap();
    tcp.send(&Frame::data("a")).unwrap();
    assert_eq!(tcp.recv().unwrap().unwrap().payload, b"TCP: a");
    let udp = VstpUdpClient::bind(LOCAL).unwrap();
    udp.send_with_ack(Frame::data("b"), addr).unwrap();
    assert_eq!(udp.recv_timeout(LONG).unwrap().0.payload, b"UDP: b");

    let stats = handle.stats();
    assert_eq!(stats.tcp.frames_in, 1);
    assert_eq!(stats.udp.protocol.messages_received, 1);
    let labels = [("direction", "received")];
    let frames = |meter: &vstp::net::Meter| meter.snapshot().value("vstp_frames_total", &labels);
    let of_each = [handle.tcp().meter(), handle.udp().meter()].map(|meter| frames(meter).unwrap());
    assert!(of_each.iter().all(|count| *count > 0), "{of_each:?}");
    assert_eq!(frames(handle.meter()), Some(of_each.iter().sum()));
    handle.shutdown(LONG);
    handle.wait().unwrap();
    // Both are free again.
    drop(TcpListener::bind(addr).unwrap());
    drop(UdpSocket::bind(addr).unwrap());
}

#[test]
fn a_port_that_is_taken_on_udp_is_an_error_unless_the_system_may_choose() {
    let taken = UdpSocket::bind(LOCAL).unwrap();
    let addr = taken.local_addr().unwrap();
    match VstpDualServer::bind_auto_plain(addr) {
        Err(VstpError::Io(error)) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
        other => panic!("{other:?}"),
    }
    // A good part of all ports is taken on UDP; one that is free on both is found.
    let others: Vec<UdpSocket> = (0..200).map(|_| UdpSocket::bind(LOCAL).unwrap()).collect();
    let servers: Vec<VstpDualServer> = (0..20)
        .map(|_| VstpDualServer::bind_auto_plain(LOCAL).unwrap())
        .collect();
    let ports: HashSet<u16> = servers.iter().map(|s| s.local_addr().port()).collect();
    assert_eq!(ports.len(), servers.len());
    drop(others);
}

#[test]
fn each_message_takes_the_transport_that_it_names() {
    let handle = serve();
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), auto()).unwrap();
    assert_eq!(client.transports().udp_status, UdpStatus::Open);
    for (via, by) in [(Via::Tcp, "TCP: x"), (Via::Udp, "UDP: x")] {
        let answer = client.call(Frame::data("x"), via).unwrap();
        assert_eq!(answer.payload, by.as_bytes());
        client.send(&Frame::data("x"), via).unwrap();
        let (frame, transport) = client.recv_timeout(LONG).unwrap().unwrap();
        assert_eq!(frame.payload, by.as_bytes());
        let expected = match via {
            Via::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
        assert_eq!(transport, expected);
        client.send_with_ack(Frame::data("x"), via).unwrap();
        assert_eq!(
            client.recv_timeout(LONG).unwrap().unwrap().0.payload,
            by.as_bytes()
        );
    }
    // Large ones are for the stream.
    let large = client
        .call(Frame::data(vec![b'y'; 100_000]), Via::Auto)
        .unwrap();
    assert!(large.payload.starts_with(b"TCP: "));
    assert!(matches!(
        client.try_recv(),
        Err(VstpError::Timeout(TimeoutKind::Recv))
    ));
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn many_threads_share_a_client() {
    let handle = serve();
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), auto()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..20 {
                    let via = [Via::Tcp, Via::Udp, Via::Auto][(thread + n) % 3];
                    let text = format!("{thread}/{n}");
                    let answer = client.call(Frame::data(text.clone()), via).unwrap();
                    assert!(answer.payload.ends_with(text.as_bytes()));
                }
            });
        }
    });
    drop(client);
    handle.shutdown(LONG);
}

#[test]
fn without_udp_it_works_over_tcp_says_so_and_tries_again() {
    let handle = serve();
    let relay = Relay::new(handle.local_addr(), Link::default(), 1);
    relay.cut_forth.store(true, Ordering::Relaxed);
    let config = auto()
        .udp_addr(Some(relay.addr))
        .udp(UdpConfig::default().handshake_timeout(Duration::from_millis(300)))
        .udp_retry(Duration::from_millis(100));
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), config).unwrap();
    assert_eq!(client.transports().udp_status, UdpStatus::Unreachable);
    assert!(!client.transports().udp.is_working);
    let refused = client.send(&Frame::data("x"), Via::Udp);
    assert!(matches!(
        refused,
        Err(VstpError::TransportUnavailable(Transport::Udp))
    ));
    let refused = client.call(Frame::data("x"), Via::Udp);
    assert!(matches!(
        refused,
        Err(VstpError::TransportUnavailable(Transport::Udp))
    ));
    let answer = client.call(Frame::data("x"), Via::Auto).unwrap();
    assert_eq!(answer.payload, b"TCP: x");

    relay.cut_forth.store(false, Ordering::Relaxed);
    until(&client, || {
        client.transports().udp_status == UdpStatus::Open
    });
    let answer = client.call(Frame::data("x"), Via::Udp).unwrap();
    assert_eq!(answer.payload, b"UDP: x");
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn connecting_does_not_wait_long_for_udp() {
    let handle = serve();
    let silent = UdpSocket::bind(LOCAL).unwrap();
    let config = auto()
        .udp_addr(Some(silent.local_addr().unwrap()))
        .udp_wait(Duration::ZERO);
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), config).unwrap();
    assert_eq!(client.transports().udp_status, UdpStatus::Unreachable);
    // Closing does not wait for the attempt.
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn beside_tls_datagrams_are_sealed_and_nothing_else_is_taken() {
    let server = VstpDualServer::bind_auto(LOCAL, certs().server().unwrap()).unwrap();
    let handle = server.spawn(tells).unwrap();
    let relay = Relay::new(handle.local_addr(), Link::default(), 1);
    relay.tap();
    let tls = certs().client().unwrap();
    let config = auto().udp_addr(Some(relay.addr)).plaintext_udp(true);
    let client = VstpAutoClient::connect_auto_with(handle.local_addr(), &tls, config).unwrap();
    assert!(client.transports().is_udp_sealed);
    let answer = client.call(Frame::data("a secret"), Via::Udp).unwrap();
    assert_eq!(answer.payload, b"UDP: a secret");
    client
        .send_with_ack(Frame::data("a secret"), Via::Udp)
        .unwrap();
    let seen = relay.seen();
    assert!(seen.len() >= 4);
    for datagram in seen {
        assert!(!datagram.windows(8).any(|part| part == b"a secret"));
    }

    let stranger = UdpConfig::default().delivery_timeout(Duration::from_millis(300));
    let stranger = VstpUdpClient::bind_with_config(LOCAL, stranger).unwrap();
    let refused = stranger.send_with_ack(Frame::data("x"), handle.local_addr());
    assert!(
        matches!(refused, Err(VstpError::Timeout(TimeoutKind::Ack))),
        "{refused:?}"
    );
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn beside_tls_nothing_is_in_plaintext_unless_both_say_so() {
    let tls = certs().client().unwrap();
    for client_may in [false, true] {
        // It says that it is on both, and does not seal.
        let features = TcpConfig::default().features("dual".parse().unwrap());
        let server = ServerConfig::default().tcp(features);
        let tcp = VstpTcpServer::bind_with(LOCAL, certs().server().unwrap(), server).unwrap();
        let tcp = tcp
            .spawn(|_: &Session, _: Frame| Frame::data("TCP"))
            .unwrap();
        let udp = VstpUdpServer::bind(LOCAL).unwrap();
        let udp = udp
            .spawn(|_: &UdpPeer, _: Frame| Frame::data("UDP"))
            .unwrap();
        let config = auto()
            .udp_addr(Some(udp.local_addr()))
            .plaintext_udp(client_may);
        let client = VstpAutoClient::connect_auto_with(tcp.local_addr(), &tls, config).unwrap();
        let status = if client_may {
            UdpStatus::Open
        } else {
            UdpStatus::Insecure
        };
        assert_eq!(client.transports().udp_status, status);
        assert!(!client.transports().is_udp_sealed);
        let answer = client.call(Frame::data("x"), Via::Auto).unwrap();
        assert_eq!(answer.payload, b"TCP");
        let by_udp = client.call(Frame::data("x"), Via::Udp);
        assert_eq!(by_udp.is_ok(), client_may, "{by_udp:?}");
        let received = udp.stats().protocol.datagrams_received;
        assert_eq!(received > 0, client_may, "{received}");
        client.close().unwrap();
        tcp.shutdown(LONG);
        udp.shutdown(LONG);
    }
}

#[test]
fn a_server_with_tls_may_take_plaintext_beside_what_is_sealed() {
    let config = DualConfig::default().plaintext_udp(true);
    let server = VstpDualServer::bind_auto_with(LOCAL, certs().server().unwrap(), config).unwrap();
    let handle = server
        .spawn(|peer: &DualPeer<'_>, _: Frame| {
            let is_sealed = peer.udp().is_some_and(UdpPeer::is_sealed);
            Frame::data(is_sealed.to_string())
        })
        .unwrap();
    let addr = handle.local_addr();
    let tls = certs().client().unwrap();
    let client = VstpAutoClient::connect_auto_with(addr, &tls, auto()).unwrap();
    assert_eq!(
        client.call(Frame::data("x"), Via::Udp).unwrap().payload,
        b"true"
    );
    let stranger = VstpUdpClient::bind(LOCAL).unwrap();
    stranger.send_with_ack(Frame::data("x"), addr).unwrap();
    assert_eq!(stranger.recv_timeout(LONG).unwrap().0.payload, b"false");
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn sealed_udp_that_is_unreachable_at_first_is_there_later() {
    let server = VstpDualServer::bind_auto(LOCAL, certs().server().unwrap()).unwrap();
    let handle = server.spawn(tells).unwrap();
    let relay = Relay::new(handle.local_addr(), Link::default(), 1);
    relay.cut_forth.store(true, Ordering::Relaxed);
    let config = auto()
        .udp_addr(Some(relay.addr))
        .udp_wait(Duration::from_millis(100));
    let tls = certs().client().unwrap();
    let client = VstpAutoClient::connect_auto_with(handle.local_addr(), &tls, config).unwrap();
    assert_eq!(client.transports().udp_status, UdpStatus::Unreachable);
    assert_eq!(
        client.call(Frame::data("x"), Via::Auto).unwrap().payload,
        b"TCP: x"
    );
    relay.cut_forth.store(false, Ordering::Relaxed);
    until(&client, || {
        client.transports().udp_status == UdpStatus::Open
    });
    assert_eq!(
        client.call(Frame::data("x"), Via::Udp).unwrap().payload,
        b"UDP: x"
    );
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn a_sealed_session_that_the_server_ends_is_over() {
    let server = VstpDualServer::bind_auto(LOCAL, certs().server().unwrap()).unwrap();
    let handle = server.spawn(tells).unwrap();
    let tls = certs().client().unwrap();
    let client = VstpAutoClient::connect_auto_with(handle.local_addr(), &tls, auto()).unwrap();
    handle.udp().shutdown(LONG);
    until(&client, || {
        client.transports().udp_status == UdpStatus::Over
    });
    assert_eq!(
        client.call(Frame::data("x"), Via::Auto).unwrap().payload,
        b"TCP: x"
    );
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn a_server_of_tcp_alone_is_served_over_tcp() {
    let server = VstpTcpServer::bind_plain(LOCAL).unwrap();
    let handle = server
        .spawn(|_: &Session, frame: Frame| Frame::data(frame.payload))
        .unwrap();
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), auto()).unwrap();
    assert_eq!(client.transports().udp_status, UdpStatus::NotOffered);
    let answer = client.call(Frame::data("x"), Via::Auto).unwrap();
    assert_eq!(answer.payload, b"x");
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn shutdown_lets_the_handlers_of_both_finish() {
    let (entered, entering) = bounded(2);
    let (release, released) = bounded::<()>(2);
    let server = VstpDualServer::bind_auto_plain(LOCAL).unwrap();
    let handle = server
        .spawn(move |peer: &DualPeer<'_>, frame: Frame| {
            entered.send(peer.transport()).unwrap();
            released.recv_timeout(LONG).unwrap();
            tells(peer, frame)
        })
        .unwrap();
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), auto()).unwrap();
    std::thread::scope(|scope| {
        let calls = [Via::Tcp, Via::Udp].map(|via| {
            let client = &client;
            scope.spawn(move || client.call(Frame::data("x"), via))
        });
        let entered: HashSet<Transport> = (0..2)
            .map(|_| entering.recv_timeout(LONG).unwrap())
            .collect();
        assert_eq!(entered.len(), 2);
        let stopping = scope.spawn(|| handle.shutdown(LONG));
        for _ in 0..2 {
            release.send(()).unwrap();
        }
        let payloads = calls.map(|call| call.join().unwrap().unwrap().payload);
        assert_eq!(payloads, [b"TCP: x".to_vec(), b"UDP: x".to_vec()]);
        let report = stopping.join().unwrap();
        assert_eq!(
            (report.connections, report.cut_off, report.stuck),
            (2, 0, 0)
        );
    });
    assert!(
        client.recv_timeout(LONG).unwrap().is_none(),
        "the server said goodbye"
    );
    let over = client.send_with_ack(Frame::data("x"), Via::Auto);
    assert!(
        matches!(over, Err(VstpError::ConnectionClosed(_))),
        "{over:?}"
    );
}

#[test]
fn a_handler_of_either_can_shut_both_down() {
    for via in [Via::Tcp, Via::Udp] {
        let handle = Arc::new(Mutex::new(None::<DualServerHandle>));
        let server = VstpDualServer::bind_auto_plain(LOCAL).unwrap();
        let addr = server.local_addr();
        let mine = Arc::clone(&handle);
        let spawned = server
            .spawn(move |_: &DualPeer<'_>, frame: Frame| {
                let handle = mine.lock().unwrap().clone().unwrap();
                handle.shutdown(LONG);
                frame
            })
            .unwrap();
        *handle.lock().unwrap() = Some(spawned.clone());
        let client = VstpAutoClient::connect_auto_plain_with(addr, auto()).unwrap();
        client.send(&Frame::data("stop"), via).unwrap();
        spawned.wait().unwrap();
        drop(client);
    }
}

#[test]
fn the_end_on_tcp_is_the_end_of_both() {
    let handle = serve();
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), auto()).unwrap();
    handle.tcp().shutdown(LONG);
    assert!(client.recv_timeout(LONG).unwrap().is_none());
    for via in [Via::Auto, Via::Tcp, Via::Udp] {
        let over = client.send(&Frame::data("x"), via);
        assert!(
            matches!(over, Err(VstpError::ConnectionClosed(_))),
            "{over:?}"
        );
    }
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn a_failed_handler_is_an_error_of_the_call_on_both() {
    let server = VstpDualServer::bind_auto_plain(LOCAL).unwrap();
    let handle = server
        .spawn(|_: &DualPeer<'_>, _: Frame| Err::<Frame, _>("no"))
        .unwrap();
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), auto()).unwrap();
    for via in [Via::Tcp, Via::Udp] {
        match client.call(Frame::data("x"), via) {
            Err(VstpError::ServerError(error)) => assert_eq!(error.code, ErrorCode::Handler),
            other => panic!("{other:?}"),
        }
    }
    client.close().unwrap();
    handle.shutdown(LONG);
}

/// What a forger could send: numbers without a session, of no session, of another's.
#[test]
fn numbers_of_others_are_not_handled() {
    let (seen, sees) = bounded(100);
    let server = VstpDualServer::bind_auto_plain(LOCAL).unwrap();
    let handle = server
        .spawn(move |_: &DualPeer<'_>, frame: Frame| {
            assert!(frame.header("once").is_none());
            assert!(frame.header("msg-id").is_none());
            seen.send(frame.payload).unwrap();
        })
        .unwrap();
    let addr = handle.local_addr();
    let client = VstpAutoClient::connect_auto_plain_with(addr, auto()).unwrap();
    let mine = OnceId {
        session: client.session_id(),
        number: 1,
    };
    let forger = VstpUdpClient::bind(LOCAL).unwrap();
    // Without a session, even the right number.
    forger
        .send_with_ack(mine.on(Frame::data("a")), addr)
        .unwrap();
    forger.connect(addr).unwrap();
    let unknown = OnceId { session: 5, ..mine };
    forger
        .send_with_ack(unknown.on(Frame::data("b")), addr)
        .unwrap();
    let short = Frame::data("c").with_header("once", [1, 2, 3]);
    forger.send_with_ack(short, addr).unwrap();
    let mut other = VstpTcpClient::connect_plain_with(addr, config()).unwrap();
    other.send(&mine.on(Frame::data("d"))).unwrap();
    match other.recv() {
        Err(VstpError::ServerError(error)) => assert_eq!(error.code, ErrorCode::Protocol),
        answer => panic!("{answer:?}"),
    }
    // The client's own may be there once, whatever came before.
    let own = client.send(&mine.on(Frame::data("e")), Via::Auto);
    assert!(
        matches!(
            own,
            Err(VstpError::Datagram(SendError::ReservedHeader("once")))
        ),
        "{own:?}"
    );
    client.send_with_ack(Frame::data("f"), Via::Udp).unwrap();
    client.close().unwrap();
    handle.shutdown(LONG);
    drop(handle);
    assert_eq!(sees.try_iter().collect::<Vec<_>>(), [b"f"]);
}

#[test]
fn a_full_inbox_holds_both_back_and_nothing_is_lost() {
    let server = VstpDualServer::bind_auto_plain(LOCAL).unwrap();
    let handle = server
        .spawn(|peer: &DualPeer<'_>, frame: Frame| {
            if let Some(session) = peer.tcp() {
                let sender = session.sender().unwrap();
                for n in 0..20_u8 {
                    sender.send(Frame::data([n])).unwrap();
                }
            }
            frame
        })
        .unwrap();
    let config = auto().recv_queue(4, 1024);
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), config).unwrap();
    client.send(&Frame::data("go"), Via::Tcp).unwrap();
    let mut got = Vec::new();
    for _ in 0..21 {
        let (frame, _) = client.recv_timeout(LONG).unwrap().unwrap();
        if frame.payload.len() == 1 {
            got.push(frame.payload[0]);
        }
    }
    assert_eq!(got, (0..20).collect::<Vec<u8>>());
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn typed_messages_take_both() {
    let config = DualConfig::default();
    let server = VstpServer::bind_auto_plain(LOCAL, config).unwrap();
    let addr = server.local_addr();
    let handle = server
        .spawn(|numbers: Vec<i64>| match numbers.is_empty() {
            true => Err("nothing to add"),
            false => Ok(numbers.iter().sum::<i64>()),
        })
        .unwrap();
    let mut client = VstpClient::connect_auto_plain(addr, auto()).unwrap();
    client.set_timeout(Some(LONG));
    for via in [Via::Auto, Via::Tcp, Via::Udp] {
        let sum: i64 = client.call_via(&[1, 2, 3], via).unwrap();
        assert_eq!(sum, 6);
        let failed = client.call_via::<i64>(&Vec::<i64>::new(), via);
        assert!(
            matches!(failed, Err(VstpError::ServerError(_))),
            "{failed:?}"
        );
        client.send_with_ack_via(&[4, 5], via).unwrap();
        assert_eq!(client.receive::<i64>().unwrap(), 9);
        client.send_via(&[6], via).unwrap();
        assert_eq!(client.receive::<i64>().unwrap(), 6);
    }
    assert_eq!(
        client.auto().unwrap().transports().udp_status,
        UdpStatus::Open
    );
    client.close().unwrap();
    assert!(handle.tcp().is_some() && handle.udp().is_some());
    handle.shutdown(LONG);
    handle.wait().unwrap();
}

#[test]
fn a_client_of_one_transport_refuses_the_other() {
    let server = VstpServer::bind_tcp_plain(LOCAL, ServerConfig::default()).unwrap();
    let addr = server.local_addr();
    let handle = server.spawn(|n: i64| Ok::<i64, String>(n)).unwrap();
    let mut client = VstpClient::connect_tcp_plain(addr, config()).unwrap();
    assert_eq!(client.call_via::<i64>(&1, Via::Tcp).unwrap(), 1);
    let refused = client.call_via::<i64>(&1, Via::Udp);
    assert!(matches!(
        refused,
        Err(VstpError::TransportUnavailable(Transport::Udp))
    ));
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn what_a_handler_answers_to_an_acknowledged_frame_is_no_request() {
    let server = VstpDualServer::bind_auto_plain(LOCAL).unwrap();
    let handle = server
        .spawn(|_: &DualPeer<'_>, frame: Frame| frame)
        .unwrap();
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), auto()).unwrap();
    for via in [Via::Tcp, Via::Udp] {
        let frame = Frame::new(FrameType::Custom(0x42)).with_header("k", "v");
        client.send_with_ack(frame.clone(), via).unwrap();
        let (echo, _) = client.recv_timeout(LONG).unwrap().unwrap();
        assert_eq!(echo, frame);
        assert_eq!(echo.flags, Flags::empty());
    }
    drop(client);
    handle.shutdown(LONG);
}

/// Keeps what has a type of its own.
struct Keeps;

impl ExtensionHandler for Keeps {
    fn should_handle(&self, frame: &Frame) -> bool {
        frame.typ == FrameType::Custom(0x20)
    }

    fn handle_frame(&self, _: Frame, _: &ExtensionContext) -> Result<Outcome, HandlerError> {
        Ok(Outcome::Consume)
    }
}

#[test]
fn extensions_see_the_messages_of_both() {
    let server = VstpDualServer::bind_auto_plain(LOCAL).unwrap();
    let handle = server
        .spawn(|_: &DualPeer<'_>, frame: Frame| vec![Frame::new(FrameType::Custom(0x20)), frame])
        .unwrap();
    let mut extensions = ExtensionRegistry::new();
    extensions.register("keeps", Keeps);
    let config = auto()
        .tcp(config().extensions(extensions.clone()))
        .udp(UdpConfig::default().extensions(extensions));
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), config).unwrap();
    for via in [Via::Tcp, Via::Udp] {
        client.send_with_ack(Frame::data("x"), via).unwrap();
        let (frame, _) = client.recv_timeout(LONG).unwrap().unwrap();
        assert_eq!(frame, Frame::data("x"));
        let none = client.try_recv();
        assert!(
            matches!(none, Err(VstpError::Timeout(TimeoutKind::Recv))),
            "{none:?}"
        );
    }
    client.close().unwrap();
    handle.shutdown(LONG);
}
