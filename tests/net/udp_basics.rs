//! UDP between honest ends: messages of all sizes, acknowledgements, many at once, ends.

use crate::util::LONG;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use vstp::error::{ClosedBy, TimeoutKind};
use vstp::net::clock;
use vstp::net::udp::UdpConfig;
use vstp::proto::datagram::{AnswerLimit, SendError};
use vstp::serve::{HandlerError, UdpPeer};
use vstp::{Frame, FrameType, VstpError, VstpUdpClient, VstpUdpServer};

const LOCAL: &str = "127.0.0.1:0";

fn config() -> UdpConfig {
    UdpConfig::default().read_timeout(Some(LONG))
}

fn client() -> VstpUdpClient {
    VstpUdpClient::bind_with_config(LOCAL, config()).unwrap()
}

fn server() -> VstpUdpServer {
    VstpUdpServer::bind_with_config(LOCAL, config()).unwrap()
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 131 % 251) as u8).collect()
}

#[test]
fn an_echo_comes_back_with_and_without_a_session() {
    let server = server();
    let addr = server.local_addr();
    let handle = server.spawn(|_: &UdpPeer, frame: Frame| frame).unwrap();
    for session in [false, true] {
        let client = client();
        if session {
            let session = client.connect(addr).unwrap();
            assert_eq!(session.peer_addr(), addr);
            assert!(session.features().contains("bundle") && session.id() > 0);
        }
        for len in [0, 1, 64, 1200, 60_000] {
            let frame = Frame::new(FrameType::Custom(0x20))
                .with_header("n", len.to_string())
                .with_payload(payload(len));
            client.send(&frame, addr).unwrap();
            assert_eq!(client.recv().unwrap(), (frame.clone(), addr), "{len}");
            client.send_with_ack(frame.clone(), addr).unwrap();
            assert_eq!(client.recv().unwrap(), (frame, addr), "{len}");
        }
        assert_eq!(client.reassembly_session_count(), 0);
        assert!(client.round_trip_time(addr).is_some());
        client.close();
    }
    assert_eq!(handle.shutdown(LONG).stuck, 0);
}

#[test]
fn many_are_on_their_way_together() {
    let server = server();
    let addr = server.local_addr();
    let client = client();
    client.connect(addr).unwrap();
    let count = 20_000_u32;
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut seen = vec![false; count as usize];
            for _ in 0..count {
                let (frame, _) = server.recv().unwrap();
                let number = u32::from_be_bytes(frame.payload.try_into().unwrap());
                assert!(!std::mem::replace(&mut seen[number as usize], true));
            }
        });
        for number in 0..count {
            drop(
                client
                    .start_send(Frame::data(number.to_be_bytes()), addr)
                    .unwrap(),
            );
        }
        client.flush().unwrap();
        receiving.join().unwrap();
    });
    let stats = client.stats();
    assert_eq!(stats.protocol.messages_acknowledged, u64::from(count));
    assert_eq!(stats.send_queue_count, 0);
}

#[test]
fn threads_share_a_client_and_each_gets_its_acknowledgement() {
    let server = server();
    let addr = server.local_addr();
    let handle = server
        .workers(4)
        .spawn(|_: &UdpPeer, frame: Frame| frame)
        .unwrap();
    let client = client();
    client.connect(addr).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..200 {
                    client
                        .send_with_ack(Frame::data(format!("{thread} {n}")), addr)
                        .unwrap();
                }
            });
        }
        let receiving = scope.spawn(|| {
            (0..800)
                .map(|_| client.recv().unwrap().0.payload)
                .collect::<Vec<_>>()
        });
        let mut got = receiving.join().unwrap();
        got.sort_unstable();
        got.dedup();
        assert_eq!(got.len(), 800, "each answer came once");
    });
    handle.shutdown(LONG);
}

#[test]
fn du16_a_hundred_megabytes_between_two_defaults() {
    let server = server();
    let addr = server.local_addr();
    let client = client();
    client.connect(addr).unwrap();
    let len = if cfg!(debug_assertions) {
        20_000_000
    } else {
        100_000_000
    };
    let sent = payload(len);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| server.recv().unwrap().0);
        let delivery = client.start_send(Frame::data(sent.clone()), addr).unwrap();
        let mut last = 0;
        while let Some(progress) = delivery.progress() {
            assert!(progress.acknowledged >= last && progress.total as usize >= len);
            last = progress.acknowledged;
            if let Err(error) = delivery.wait_timeout(Duration::from_millis(50)) {
                assert!(
                    matches!(error, VstpError::Timeout(TimeoutKind::Send)),
                    "{error:?}"
                );
            }
        }
        delivery.wait().unwrap();
        assert!(
            receiving.join().unwrap().payload == sent,
            "it is not what was sent"
        );
    });
    assert_eq!(server.stats().protocol.sets_completed, 1);
}

#[test]
fn a_small_message_before_a_large_one_does_not_slow_it_down() {
    let server = server();
    let addr = server.local_addr();
    let client = client();
    client.connect(addr).unwrap();
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| (server.recv().unwrap(), server.recv().unwrap()));
        // Its acknowledgement does not wait for company, so the path looks very short.
        client.send_with_ack(Frame::data("small"), addr).unwrap();
        let began = clock::now();
        client
            .send_with_ack(Frame::data(payload(3_000_000)), addr)
            .unwrap();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}");
        receiving.join().unwrap();
    });
}

#[test]
fn a_send_is_cancelled() {
    let silent = UdpSocket::bind(LOCAL).unwrap();
    let client = client();
    let to = silent.local_addr().unwrap();
    let delivery = client.start_send(Frame::data("x"), to).unwrap();
    assert!(!delivery.is_done() && delivery.progress().is_some());
    delivery.cancel();
    assert!(matches!(client.flush(), Err(VstpError::Cancelled)));
    client.flush().unwrap();
}

#[test]
fn du08_without_an_answer_it_ends_on_time() {
    let silent = UdpSocket::bind(LOCAL).unwrap();
    let to = silent.local_addr().unwrap();
    let wait = Duration::from_millis(400);
    let settings = config().delivery_timeout(wait).handshake_timeout(wait);
    let client = VstpUdpClient::bind_with_config(LOCAL, settings).unwrap();
    for large in [10, 100_000] {
        let began = clock::now();
        let error = client
            .send_with_ack(Frame::data(payload(large)), to)
            .unwrap_err();
        assert!(
            matches!(error, VstpError::Timeout(TimeoutKind::Ack)),
            "{error:?}"
        );
        let took = began.elapsed();
        assert!(
            took >= wait && took < wait + Duration::from_secs(2),
            "{took:?}"
        );
    }
    let began = clock::now();
    let error = client.connect(to).unwrap_err();
    assert!(
        matches!(error, VstpError::Timeout(TimeoutKind::Handshake)),
        "{error:?}"
    );
    assert!(began.elapsed() >= wait);
    let error = client.recv_timeout(Duration::from_millis(50)).unwrap_err();
    assert!(
        matches!(error, VstpError::Timeout(TimeoutKind::Recv)),
        "{error:?}"
    );
    assert_eq!(client.stats().send_queue_count, 0);
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_leaves() {
    let server = server();
    let to = server.local_addr();
    let client =
        VstpUdpClient::bind_with_config(LOCAL, config().max_frame_size(2_000_000)).unwrap();
    let error = |frame: Frame| client.send_with_ack(frame, to).unwrap_err();
    let large = error(Frame::data(payload(1_000_000)));
    assert!(
        matches!(
            large,
            VstpError::Datagram(SendError::TooManyFragments { .. })
        ),
        "{large:?}"
    );
    let larger = error(Frame::data(payload(3_000_000)));
    assert!(
        matches!(larger, VstpError::FrameTooLarge { .. }),
        "{larger:?}"
    );
    let hello = error(Frame::new(FrameType::Hello));
    assert!(
        matches!(hello, VstpError::Datagram(SendError::ReservedType)),
        "{hello:?}"
    );
    let answer = Frame::new(FrameType::Err).with_header("correlation-id", "1");
    let answer = error(answer);
    assert!(
        matches!(answer, VstpError::Datagram(SendError::NeverAcknowledged)),
        "{answer:?}"
    );
    let header = error(Frame::data("").with_header("sid", "mine"));
    assert!(
        matches!(
            header,
            VstpError::Datagram(SendError::ReservedHeader("sid"))
        ),
        "{header:?}"
    );
    let whole = VstpUdpClient::bind_with_config(LOCAL, config().allow_frag(false)).unwrap();
    let error = whole.send(&Frame::data(payload(1200)), to).unwrap_err();
    assert!(
        matches!(error, VstpError::Datagram(SendError::FragmentsOff { .. })),
        "{error:?}"
    );
    assert_eq!(server.stats().protocol.datagrams_received, 0);
}

#[test]
fn du17_a_server_answers_a_stranger_with_three_times_at_most() {
    let server = server();
    let addr = server.local_addr();
    let client = client();
    client.send(&Frame::data(payload(100)), addr).unwrap();
    let (_, from) = server.recv().unwrap();
    server.send(&Frame::data(payload(200)), from).unwrap();
    let error = server.send(&Frame::data(payload(200)), from).unwrap_err();
    assert!(
        matches!(error, VstpError::Datagram(SendError::AnswerLimit)),
        "{error:?}"
    );
    client.connect(addr).unwrap();
    server.send(&Frame::data(payload(100_000)), from).unwrap();

    let closed = config().answer_limit(AnswerLimit::SessionsOnly);
    let server = VstpUdpServer::bind_with_config(LOCAL, closed).unwrap();
    client.send(&Frame::data("x"), server.local_addr()).unwrap();
    let (_, from) = server.recv().unwrap();
    assert!(server.send(&Frame::data(""), from).is_err());
}

#[test]
fn f01_closing_wakes_whoever_waits() {
    let silent = UdpSocket::bind(LOCAL).unwrap();
    let to = silent.local_addr().unwrap();
    let client = client();
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| client.recv().map(|_| ()));
        let sending = scope.spawn(|| client.send_with_ack(Frame::data("x"), to));
        let other = scope.spawn(|| client.recv().map(|_| ()));
        while client.stats().send_queue_count == 0 {
            std::thread::yield_now();
        }
        let began = clock::now();
        client.close();
        for result in [receiving.join(), sending.join(), other.join()] {
            let error = result.unwrap().unwrap_err();
            let local = matches!(error, VstpError::ConnectionClosed(ClosedBy::Local));
            assert!(local, "{error:?}");
        }
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    });
    assert!(client.send(&Frame::data("x"), to).is_err());
    client.close();
}

#[test]
fn f10_sockets_and_threads_end_with_their_client() {
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .map(|d| d.count())
            .unwrap_or(0)
    };
    let files = || {
        std::fs::read_dir("/proc/self/fd")
            .map(|d| d.count())
            .unwrap_or(0)
    };
    // Other tests of this binary run beside it, so only growth that repeats is a leak.
    let mut growth = Vec::new();
    for _ in 0..5 {
        let before = threads().max(1) + files();
        for _ in 0..20 {
            let server = server();
            let client = client();
            client.connect(server.local_addr()).unwrap();
            client
                .send_with_ack(Frame::data("x"), server.local_addr())
                .unwrap();
        }
        growth.push((threads() + files()).saturating_sub(before));
    }
    assert!(growth.iter().any(|g| *g < 40), "{growth:?}");
}

#[test]
fn f10_a_closed_socket_gives_its_port_back_whoever_still_holds_it() {
    let server = server();
    let addr = server.local_addr();
    let handle = server.spawn(|_: &UdpPeer, frame: Frame| frame).unwrap();
    let client = client();
    let delivery = client.start_send(Frame::data("x"), addr).unwrap();
    delivery.wait_timeout(LONG).unwrap();
    client.close();
    handle.shutdown(LONG);
    for addr in [client.local_addr(), addr] {
        drop(UdpSocket::bind(addr).unwrap());
    }
    drop((delivery, handle));
}

#[test]
fn f09_a_port_is_not_shared() {
    let server = server();
    let error = VstpUdpServer::bind(server.local_addr()).unwrap_err();
    let in_use = matches!(&error, VstpError::Io(e) if e.kind() == std::io::ErrorKind::AddrInUse);
    assert!(in_use, "{error:?}");
}

#[test]
fn e10_a_handler_that_panics_or_fails_answers_and_lives() {
    let server = server();
    let addr = server.local_addr();
    let handle = server
        .workers(2)
        .spawn(|_: &UdpPeer, frame: Frame| match &frame.payload[..] {
            b"panic" => panic!("as asked"),
            b"fail" => Err(HandlerError::from("as asked")),
            _ => Ok(frame),
        })
        .unwrap();
    let client = client();
    client.connect(addr).unwrap();
    let ask = |text: &str, id: &str| {
        let frame = Frame::data(text).with_header("correlation-id", id);
        client.send_with_ack(frame, addr).unwrap();
        client.recv().unwrap().0
    };
    for round in 0..20 {
        let id = round.to_string();
        for what in ["panic", "fail"] {
            let answer = ask(what, &id);
            assert_eq!(answer.typ, FrameType::Err);
            assert_eq!(answer.header("code"), Some(&b"handler"[..]));
            assert_eq!(answer.header("correlation-id"), Some(id.as_bytes()));
        }
        assert_eq!(ask("well", &id).payload, b"well");
    }
    assert_eq!(handle.handler_panics(), 20);
    assert_eq!(handle.shutdown(LONG).stuck, 0);
}

#[test]
fn f05_a_stuck_handler_is_reported_and_the_rest_goes_on() {
    let (enter, entered) = crossbeam_channel::bounded(1);
    let (leave, left) = crossbeam_channel::bounded::<()>(1);
    let server = server();
    let addr = server.local_addr();
    let handle = server
        .workers(2)
        .spawn(move |_: &UdpPeer, frame: Frame| {
            if frame.payload == b"stick" {
                enter.send(()).unwrap();
                let _ = left.recv_timeout(LONG);
            }
            frame
        })
        .unwrap();
    let client = client();
    client.connect(addr).unwrap();
    client.send_with_ack(Frame::data("stick"), addr).unwrap();
    entered.recv_timeout(LONG).unwrap();
    client.send_with_ack(Frame::data("others"), addr).unwrap();
    assert_eq!(client.recv().unwrap().0.payload, b"others");
    let began = clock::now();
    let report = handle.shutdown(Duration::from_millis(200));
    assert_eq!(report.stuck, 1);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(handle.shutdown(LONG), report, "the same for all");
    leave.send(()).unwrap();
}

#[test]
fn a_session_that_the_server_ends_fails_what_is_on_its_way() {
    let server = server();
    let addr: SocketAddr = server.local_addr();
    let settings = config().recv_queue(1, 1);
    let slow = VstpUdpServer::bind_with_config(LOCAL, settings).unwrap();
    let client = client();
    client.connect(addr).unwrap();
    client.connect(slow.local_addr()).unwrap();
    let refused = client.connect(addr).unwrap_err();
    assert!(
        matches!(refused, VstpError::Datagram(SendError::Connected)),
        "{refused:?}"
    );
    // The second finds no room, so it is not acknowledged.
    client
        .send_with_ack(Frame::data("first"), slow.local_addr())
        .unwrap();
    let waiting = client
        .start_send(Frame::data("second"), slow.local_addr())
        .unwrap();
    let still = waiting
        .wait_timeout(Duration::from_millis(100))
        .unwrap_err();
    assert!(
        matches!(still, VstpError::Timeout(TimeoutKind::Send)),
        "{still:?}"
    );
    drop(slow);
    let error = waiting.wait().unwrap_err();
    assert!(
        matches!(error, VstpError::ConnectionClosed(ClosedBy::Peer(None))),
        "{error:?}"
    );
}
