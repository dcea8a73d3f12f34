//! What works when nobody misbehaves.

use crate::util::{BOTH, LONG, bind, certs, config, connect, echo};
use vstp::error::ClosedBy;
use vstp::serve::{HandlerError, ServerConfig, Session, SlowHandler};
use vstp::{Frame, FrameType, VstpError};

#[test]
fn an_echo_comes_back_as_it_was_sent() {
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default());
        let mut client = connect(kind, &server);
        for len in [0, 1, 100, 20_000, 200_000, 3_000_000] {
            let frame = Frame::data(vec![len as u8; len]).with_header("n", len.to_string());
            client.send(&frame).unwrap();
            assert!(client.recv().unwrap() == Some(frame), "{kind:?} {len}");
        }
        client.close().unwrap();
        let report = server.shutdown(LONG);
        assert_eq!((report.cut_off, report.stuck), (0, 0), "{kind:?}");
    }
}

#[test]
fn ping_ack_and_custom_types() {
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default());
        let mut client = connect(kind, &server);
        assert!(client.ping().unwrap() < LONG);
        client.send_with_ack(Frame::data("kept")).unwrap();
        assert_eq!(client.recv().unwrap().unwrap().payload, b"kept");
        let custom = Frame::new(FrameType::Custom(0x42)).with_payload("own type");
        client.send(&custom).unwrap();
        assert_eq!(client.recv().unwrap(), Some(custom));
        client.close().unwrap();
        server.shutdown(LONG);
    }
}

#[test]
fn a_batch_arrives_in_order() {
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default());
        let handle = server.handle();
        let mut client = std::thread::scope(|scope| {
            let connecting = scope.spawn(|| connect(kind, &handle));
            let mut connection = server.accept_timeout(LONG).unwrap();
            let mut client = connecting.join().unwrap();
            let frames: Vec<_> = (0..5000)
                .map(|n| Frame::data(n.to_string()).with_header("n", "x"))
                .collect();
            let sending = scope.spawn(move || {
                client.send_all(&frames).unwrap();
                client
            });
            for n in 0..5000 {
                let frame = connection.recv_timeout(LONG).unwrap().unwrap();
                assert_eq!(frame.payload, n.to_string().into_bytes());
            }
            let client = sending.join().unwrap();
            connection.close_sending().unwrap();
            client
        });
        assert_eq!(client.recv().unwrap(), None, "{kind:?}");
        assert_eq!(client.recv().unwrap(), None, "the end stays the end");
    }
}

#[test]
fn errors_of_the_handler_answer_one_request() {
    let handler = |_: &Session, frame: Frame| -> Result<Frame, HandlerError> {
        match &frame.payload[..] {
            b"fail" => Err("no luck".into()),
            b"panic" => panic!("on request"),
            _ => Ok(frame),
        }
    };
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default()).spawn(handler).unwrap();
        let mut client = connect(kind, &server);
        for (payload, text) in [("fail", "no luck"), ("panic", "the handler panicked")] {
            client
                .send(&Frame::data(payload).with_header("correlation-id", "7"))
                .unwrap();
            let Err(VstpError::ServerError(error)) = client.recv() else {
                panic!("no error")
            };
            assert_eq!(error.message, text);
            assert_eq!(error.correlation_id.as_deref(), Some(&b"7"[..]));
        }
        client.send(&Frame::data("fine")).unwrap();
        assert_eq!(client.recv().unwrap(), Some(Frame::data("fine")));
        assert_eq!(server.stats().handler_panics, 1);
        drop(client);
        server.shutdown(LONG);
    }
}

#[test]
fn e11_a_slow_handler_is_counted_and_holds_up_nobody() {
    let (release, wait) = crossbeam_channel::bounded::<()>(0);
    let (began, has_begun) = crossbeam_channel::bounded::<()>(3);
    let handler = move |_: &Session, frame: Frame| {
        if frame.payload == b"stuck" {
            began.send(()).unwrap();
            // Ends when the test drops its end.
            let _ = wait.recv_timeout(LONG);
        }
        frame
    };
    for kind in BOTH {
        let config = ServerConfig::default().handler_warn(std::time::Duration::ZERO);
        let server = bind(kind, config).spawn(handler.clone()).unwrap();
        let mut stuck: Vec<_> = (0..3).map(|_| connect(kind, &server)).collect();
        for client in &mut stuck {
            client.send(&Frame::data("stuck")).unwrap();
            has_begun.recv_timeout(LONG).unwrap();
        }
        let mut client = connect(kind, &server);
        for _ in 0..100 {
            client.send(&Frame::data("fine")).unwrap();
            assert_eq!(client.recv().unwrap(), Some(Frame::data("fine")));
        }
        assert_eq!(server.stats().handlers_slow, 3);
        for _ in &stuck {
            release.send_timeout((), LONG).unwrap();
        }
        for client in &mut stuck {
            assert_eq!(client.recv().unwrap(), Some(Frame::data("stuck")));
        }
        assert_eq!(server.stats().handlers_slow, 0);
    }
}

#[test]
fn e11_a_slow_handler_is_told_of_once_by_a_thread_of_its_own() {
    let (release, wait) = crossbeam_channel::bounded::<()>(0);
    let handler = move |session: &Session, frame: Frame| {
        if frame.payload == b"stuck" {
            // Ends when the test says so.
            let _ = wait.recv_timeout(LONG);
        }
        Frame::data(session.id().to_string())
    };
    let warn = std::time::Duration::from_millis(50);
    for kind in BOTH {
        let (tell, told) = crossbeam_channel::bounded(16);
        let config = ServerConfig::default().handler_warn(warn).on_slow_handler(
            move |slow: &SlowHandler| {
                let thread = std::thread::current().name().map(str::to_owned);
                tell.send((*slow, thread)).unwrap();
                panic!("this is caught");
            },
        );
        let server = bind(kind, config).spawn(handler.clone()).unwrap();
        let mut client = connect(kind, &server);
        let mut other = connect(kind, &server);
        for _ in 0..2 {
            client.send(&Frame::data("stuck")).unwrap();
            let (slow, thread) = told.recv_timeout(LONG).unwrap();
            assert!(slow.elapsed >= warn, "{slow:?}");
            assert_eq!(slow.peer_addr, client.local_addr());
            assert_eq!(thread.as_deref(), Some("vstp-watch"));
            // Many looks later it has not been told of again, nor has one that is quick.
            other.send(&Frame::data("quick")).unwrap();
            assert!(other.recv().unwrap().is_some());
            assert!(told.recv_timeout(10 * warn).is_err(), "told twice");
            release.send_timeout((), LONG).unwrap();
            let id = client.recv().unwrap().unwrap().payload;
            assert_eq!(id, slow.session_id.to_string().into_bytes());
        }
        server.shutdown(LONG);
        // The thread has gone, and with it what it called.
        let gone = told.recv_timeout(LONG);
        assert_eq!(
            gone.unwrap_err(),
            crossbeam_channel::RecvTimeoutError::Disconnected
        );
    }
}

#[test]
fn hello_can_follow_later_in_plaintext() {
    let handler = |session: &Session, _: Frame| Frame::data(session.id().to_string());
    let server = bind(crate::util::Kind::Plain, ServerConfig::default())
        .spawn(handler)
        .unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let config = config().hello(false);
        let mut client =
            vstp::VstpTcpClient::connect_plain_with(server.local_addr(), config).unwrap();
        client.send(&Frame::data("?")).unwrap();
        let before = client.recv().unwrap().unwrap();
        assert_eq!(client.session_id(), 0, "nobody has told the client yet");
        client.send_hello().unwrap();
        client.send_hello().unwrap();
        assert_eq!(client.session_id().to_string().into_bytes(), before.payload);
        client.send(&Frame::data("?")).unwrap();
        assert_eq!(client.recv().unwrap(), Some(before.clone()));
        ids.push(before.payload);
        client.close().unwrap();
    }
    assert_ne!(ids[0], ids[1], "each session has its own number");
}

#[test]
fn a_sender_serves_many_threads() {
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default());
        let mut client = connect(kind, &server);
        let sender = client.sender().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let sender = sender.clone();
                scope.spawn(move || {
                    for n in 0..200 {
                        sender.send(Frame::data(format!("{thread} {n}"))).unwrap();
                    }
                });
            }
            let mut next = [0; 4];
            for _ in 0..800 {
                let frame = client.recv().unwrap().unwrap();
                let text = String::from_utf8(frame.payload).unwrap();
                let (thread, n) = text.split_once(' ').unwrap();
                let thread: usize = thread.parse().unwrap();
                assert_eq!(n.parse::<usize>().unwrap(), next[thread]);
                next[thread] += 1;
            }
        });
        drop(sender);
        client.close().unwrap();
        server.shutdown(LONG);
    }
}

#[test]
fn tls_facts_are_the_same_on_both_sides() {
    let handler = |session: &Session, _: Frame| {
        let tls = session.tls().unwrap();
        Frame::data(tls.exporter).with_header("name", tls.server_name.clone().unwrap_or_default())
    };
    let server = bind(crate::util::Kind::Tls, ServerConfig::default())
        .spawn(handler)
        .unwrap();
    let addr = ("localhost", server.local_addr().port());
    let tls = certs().client().unwrap();
    let mut client = vstp::VstpTcpClient::connect_with(addr, &tls, config()).unwrap();
    let facts = client.tls().unwrap().clone();
    assert_eq!((facts.version, facts.alpn.as_str()), ("TLSv1.3", "vstp/1"));
    assert!(facts.fingerprint_sha256().is_some());
    client.send(&Frame::data("?")).unwrap();
    let answer = client.recv().unwrap().unwrap();
    assert_eq!(answer.payload, facts.exporter);
    assert_eq!(answer.header_str("name"), Some("localhost"));
}

#[test]
fn an_orderly_end_is_seen_by_both() {
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default());
        let handle = server.handle();
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| connect(kind, &handle).close());
            let mut connection = server.accept_timeout(LONG).unwrap();
            assert_eq!(connection.recv_timeout(LONG).unwrap(), None);
            closing.join().unwrap().unwrap();
            let after = connection.send(&Frame::data("late"));
            assert!(
                matches!(
                    after,
                    Err(VstpError::ConnectionClosed(ClosedBy::Peer(None)))
                ),
                "{after:?}"
            );
        });
    }
}
