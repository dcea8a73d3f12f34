//! Typed messages over UDP: calls, what goes wrong with them, and what ends.

use crate::relay::{Link, Relay};
use crate::util::LONG;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;
use vstp::easy::{ServerHandle, VstpClient, VstpServer};
use vstp::error::{ClosedBy, TimeoutKind};
use vstp::net::clock;
use vstp::net::udp::UdpConfig;
use vstp::proto::ErrorCode;
use vstp::serve::UdpPeer;
use vstp::{Frame, VstpError, VstpUdpServer};

const LOCAL: &str = "127.0.0.1:0";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    values: Vec<f64>,
    at: Option<u64>,
}

fn reading(count: usize) -> Reading {
    Reading {
        sensor: "kitchen \u{1f321}".to_owned(),
        values: (0..count).map(|n| n as f64 / 8.0).collect(),
        at: Some(u64::MAX),
    }
}

/// Answers with what it got; a reading without values is an error.
fn echo() -> ServerHandle {
    let server = VstpServer::bind_udp(LOCAL).unwrap();
    server
        .spawn(|reading: Reading| match reading.values.is_empty() {
            true => Err("no values"),
            false => Ok(reading),
        })
        .unwrap()
}

fn connect(to: SocketAddr) -> VstpClient {
    let mut client = VstpClient::connect_udp(to).unwrap();
    client.set_timeout(Some(LONG));
    client
}

fn remote(error: VstpError) -> (ErrorCode, String) {
    match error {
        VstpError::ServerError(error) => (error.code, error.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_typed_struct_comes_back_by_call_and_by_send() {
    let server = echo();
    let mut client = connect(server.local_addr());
    // The last takes many datagrams.
    for count in [1, 100, 20_000] {
        let sent = reading(count);
        let answer: Reading = client.call(&sent).unwrap();
        assert_eq!(answer, sent);
    }
    let sent = reading(3);
    client.send(&sent).unwrap();
    assert_eq!(client.receive::<Reading>().unwrap(), sent);
    client.send_with_ack(&sent).unwrap();
    assert_eq!(client.receive::<Reading>().unwrap(), sent);
    let (socket, session) = client.udp().unwrap();
    assert_eq!(session.peer_addr(), server.local_addr());
    assert!(socket.round_trip_time(session.peer_addr()).is_some());
    assert!(client.tcp().is_none());
    client.close().unwrap();
    assert!(server.udp().is_some() && server.tcp().is_none());
    assert_eq!(server.shutdown(LONG).stuck, 0);
}

#[test]
fn many_clients_call_at_once_and_each_gets_its_own_answers() {
    let server = echo();
    let addr = server.local_addr();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                let mut client = connect(addr);
                for n in 0..100 {
                    let sent = Reading {
                        at: Some(thread * 1000 + n),
                        ..reading(1)
                    };
                    assert_eq!(client.call::<Reading>(&sent).unwrap(), sent);
                }
                client.close().unwrap();
            });
        }
    });
    server.shutdown(LONG);
}

#[test]
fn calls_on_a_bad_path_are_answered_each_with_its_own() {
    let server = echo();
    let path = Link {
        loss: 100,
        duplicate: 100,
        delay: Duration::from_millis(2),
        ..Link::default()
    };
    let relay = Relay::new(server.local_addr(), path, 7);
    let mut client = connect(relay.addr);
    for n in 0..50 {
        let sent = Reading {
            at: Some(n),
            ..reading(300)
        };
        assert_eq!(client.call::<Reading>(&sent).unwrap(), sent);
    }
    assert!(
        relay.lost.load(Ordering::Relaxed) > 0,
        "the path was not bad"
    );
}

#[test]
fn a_request_that_fails_is_an_error_and_the_server_lives_on() {
    let server = echo();
    let mut client = connect(server.local_addr());
    for _ in 0..3 {
        let error = client.call::<Reading>(&reading(0)).unwrap_err();
        assert_eq!(remote(error), (ErrorCode::Handler, "no values".to_owned()));
        let (code, text) = remote(client.call::<Reading>("no reading").unwrap_err());
        assert_eq!(code, ErrorCode::BadRequest);
        assert!(text.contains("expected struct Reading"), "{text}");
        // Nobody asked, so nobody is answered.
        client.send_raw(b"{ no json").unwrap();
        client.send(&reading(0)).unwrap();
        let sent = reading(1);
        assert_eq!(client.call::<Reading>(&sent).unwrap(), sent);
    }
    let error = client.call::<Vec<u8>>(&reading(1)).unwrap_err();
    assert!(matches!(error, VstpError::Deserialization(_)), "{error:?}");
    client.close().unwrap();
    server.shutdown(LONG);
}

#[test]
fn what_is_not_the_answer_is_kept_for_receive() {
    let server = VstpUdpServer::bind(LOCAL).unwrap();
    let addr = server.local_addr();
    let handle = server
        .spawn(|peer: &UdpPeer, frame: Frame| {
            for n in 0..3 {
                peer.send_with_ack(Frame::data(n.to_string())).unwrap();
            }
            let other = Frame::data("3").with_header("correlation-id", "other");
            peer.send_with_ack(other).unwrap();
            frame
        })
        .unwrap();
    let mut client = connect(addr);
    assert_eq!(client.call::<String>("question").unwrap(), "question");
    let mut kept: Vec<u32> = (0..4).map(|_| client.receive().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, [0, 1, 2, 3]);
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn too_many_messages_before_an_answer_are_kept_and_the_call_fails() {
    let server = VstpUdpServer::bind(LOCAL).unwrap();
    let addr = server.local_addr();
    let handle = server
        .spawn(|peer: &UdpPeer, _: Frame| {
            for n in 0..70 {
                peer.send_with_ack(Frame::data(n.to_string())).unwrap();
            }
        })
        .unwrap();
    let mut client = connect(addr);
    for asked in [true, false] {
        let error = client.call::<String>("question").unwrap_err();
        assert!(matches!(error, VstpError::Backpressure), "{error:?}");
        let requests = handle.stats().protocol.messages_received;
        assert_eq!(requests, 1, "asked: {asked}");
    }
    let mut kept: Vec<u32> = (0..70).map(|_| client.receive().unwrap()).collect();
    kept.sort_unstable();
    assert!(kept.into_iter().eq(0..70));
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn a_late_answer_is_dropped() {
    let (open, gate) = crossbeam_channel::bounded::<()>(1);
    let server = VstpServer::bind_udp(LOCAL).unwrap();
    let handle = server
        .spawn(move |text: String| {
            if text == "slow" {
                let _ = gate.recv_timeout(LONG);
            }
            Ok::<_, String>(text)
        })
        .unwrap();
    let mut client = connect(handle.local_addr());
    let wait = Duration::from_millis(200);
    client.set_timeout(Some(wait));
    let began = clock::now();
    let error = client.call::<String>("slow").unwrap_err();
    assert!(
        matches!(error, VstpError::Timeout(TimeoutKind::Recv)),
        "{error:?}"
    );
    assert!(began.elapsed() >= wait && began.elapsed() < wait + Duration::from_secs(2));
    client.set_timeout(Some(LONG));
    open.send(()).unwrap();
    assert_eq!(client.call::<String>("fast").unwrap(), "fast");
    client.send("sent").unwrap();
    assert_eq!(client.receive::<String>().unwrap(), "sent");
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn without_a_server_every_call_ends_on_time() {
    let silent = UdpSocket::bind(LOCAL).unwrap();
    let to = silent.local_addr().unwrap();
    let wait = Duration::from_millis(300);
    let on_time = |took: Duration| assert!(took >= wait && took < wait * 8, "{took:?}");

    let began = clock::now();
    let settings = UdpConfig::default().handshake_timeout(wait);
    let error = VstpClient::connect_udp_with(to, settings).unwrap_err();
    let handshake = matches!(error, VstpError::Timeout(TimeoutKind::Handshake));
    assert!(handshake, "{error:?}");
    on_time(began.elapsed());

    // A relay that stops: to the client, the server has lost its power.
    let server = echo();
    let relay = Relay::new(server.local_addr(), Link::default(), 1);
    let mut client = connect(relay.addr);
    assert_eq!(client.call::<Reading>(&reading(1)).unwrap(), reading(1));
    drop(relay);
    client.set_timeout(Some(wait));
    type Call = fn(&mut VstpClient) -> Result<Reading, VstpError>;
    let calls: [(Call, TimeoutKind); 3] = [
        (|client| client.call(&reading(1)), TimeoutKind::Ack),
        (
            |client| client.send_with_ack(&reading(1)).map(|()| reading(1)),
            TimeoutKind::Ack,
        ),
        (|client| client.receive(), TimeoutKind::Recv),
    ];
    for (call, kind) in calls {
        let began = clock::now();
        let error = call(&mut client).unwrap_err();
        on_time(began.elapsed());
        let expected = matches!(error, VstpError::Timeout(found) if found == kind);
        assert!(expected, "{error:?}");
    }
    let (socket, _) = client.udp().unwrap();
    assert_eq!(socket.stats().send_queue_count, 0, "nothing is sent again");
}

#[test]
fn a_silent_server_ends_the_session() {
    let server = echo();
    let relay = Relay::new(server.local_addr(), Link::default(), 1);
    let settings = UdpConfig::default().ping_interval(Duration::from_millis(100));
    let mut client = VstpClient::connect_udp_with(relay.addr, settings).unwrap();
    drop(relay);
    let error = client.receive::<Reading>().unwrap_err();
    assert!(
        matches!(error, VstpError::Timeout(TimeoutKind::Idle)),
        "{error:?}"
    );
    let error = client.send(&reading(1)).unwrap_err();
    assert!(
        matches!(error, VstpError::Timeout(TimeoutKind::Idle)),
        "{error:?}"
    );
}

#[test]
fn a_server_that_shuts_down_says_goodbye_to_whoever_waits() {
    let server = echo();
    let mut client = connect(server.local_addr());
    client.call::<Reading>(&reading(1)).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let error = client.receive::<Reading>().unwrap_err();
            (client, error)
        });
        server.shutdown(LONG);
        let (mut client, error) = waiting.join().unwrap();
        for error in [
            error,
            client.call::<Reading>(&reading(1)).unwrap_err(),
            client.send(&reading(1)).unwrap_err(),
        ] {
            assert!(
                matches!(error, VstpError::ConnectionClosed(ClosedBy::Peer(None))),
                "{error:?}"
            );
        }
        client.close().unwrap();
    });
}

#[test]
fn serve_ends_by_its_handle() {
    let server = VstpServer::bind_udp(LOCAL).unwrap();
    let handle = server.handle();
    let addr = handle.local_addr();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(Ok::<String, String>));
        let mut client = connect(addr);
        assert_eq!(client.call::<String>("there").unwrap(), "there");
        client.close().unwrap();
        assert_eq!(handle.shutdown(LONG).stuck, 0);
        serving.join().unwrap().unwrap();
    });
    // One that never served leaves its port when it is dropped, whatever handles there are.
    let server = VstpServer::bind_udp(addr).unwrap();
    let handle = server.handle();
    drop(server);
    handle.wait().unwrap();
    drop(UdpSocket::bind(addr).unwrap());
}
