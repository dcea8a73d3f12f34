//! Many threads that call over one connection, and servers that answer out of order.

use crate::limits::until;
use crate::util::{BOTH, Kind, LONG, bind, config, connect, echo, try_connect};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use vstp::error::{ClosedBy, TimeoutKind};
use vstp::ext::{
    CompressionConfig, Direction, ExtensionContext, ExtensionHandler, ExtensionRegistry, Outcome,
};
use vstp::net::Sent;
use vstp::net::tcp::{SharedTcpClient, TcpConfig};
use vstp::serve::{HandlerError, Reply, ServerConfig, ServerHandle, Session};
use vstp::wire::Buffer;
use vstp::{Frame, FrameType, VstpError, encode_frame, try_decode_frame};

/// Answers with the payload; `slow` waits for a word, `fail` fails, `panic` panics, `none` is not answered.
fn handler(go: Receiver<()>) -> impl Fn(&Session, Frame) -> Reply + Send + Sync + 'static {
    move |_, frame| match &frame.payload[..] {
        b"slow" => {
            go.recv_timeout(LONG).unwrap();
            Reply::One(Frame::data("slow"))
        }
        b"fail" => Reply::Error(HandlerError::from("no")),
        b"panic" => panic!("as the client asked"),
        b"none" => Reply::None,
        _ => Reply::One(Frame::data(frame.payload)),
    }
}

fn serve(kind: Kind, config: ServerConfig) -> (ServerHandle, Sender<()>) {
    let (go, wait) = bounded(64);
    (bind(kind, config).spawn(handler(wait)).unwrap(), go)
}

fn share(kind: Kind, server: &ServerHandle) -> SharedTcpClient {
    SharedTcpClient::new(connect(kind, server))
}

fn ask(client: &SharedTcpClient, payload: &str) -> String {
    let answer = client.call(&Frame::data(payload)).unwrap();
    String::from_utf8(answer.payload).unwrap()
}

#[test]
fn the_fast_calls_of_sixteen_threads_do_not_wait_for_the_slow_one() {
    const CALLS: usize = 50;
    for kind in BOTH {
        let (server, go) = serve(kind, ServerConfig::default().concurrency(16));
        let client = share(kind, &server);
        thread::scope(|scope| {
            let slow = scope.spawn(|| ask(&client, "slow"));
            until(|| client.call_stats().in_flight == 1, "the slow call");
            let fast: Vec<_> = (0..16)
                .map(|thread| {
                    let client = client.clone();
                    scope.spawn(move || {
                        for n in 0..CALLS {
                            let payload = format!("{thread} {n}");
                            assert_eq!(ask(&client, &payload), payload);
                        }
                    })
                })
                .collect();
            for thread in fast {
                thread.join().unwrap();
            }
            assert!(!slow.is_finished(), "nobody has told it to go on");
            go.send(()).unwrap();
            assert_eq!(slow.join().unwrap(), "slow");
        });
        let stats = client.call_stats();
        assert_eq!((stats.in_flight, stats.late, stats.unasked), (0, 0, 0));
        client.close().unwrap();
        assert_eq!(server.shutdown(LONG).stuck, 0);
    }
}

#[test]
fn a_server_without_concurrency_answers_a_shared_client_in_order() {
    for kind in BOTH {
        let (server, go) = serve(kind, ServerConfig::default());
        let client = share(kind, &server);
        thread::scope(|scope| {
            let slow = scope.spawn(|| ask(&client, "slow"));
            // In flight at the client it may still be overtaken.
            let arrived = [("direction", "received"), ("type", "data")];
            let arrived = || {
                server
                    .meter()
                    .snapshot()
                    .value("vstp_frames_total", &arrived)
            };
            until(|| arrived() == Some(1), "the slow call at the server");
            let late = client.call_timeout(&Frame::data("fast"), Duration::from_millis(300));
            let late = late.unwrap_err();
            assert_eq!(late.sent, Sent::Yes);
            assert!(matches!(late.error, VstpError::Timeout(TimeoutKind::Recv)));
            go.send(()).unwrap();
            assert_eq!(slow.join().unwrap(), "slow");
        });
        assert_eq!(ask(&client, "next"), "next");
        let stats = client.call_stats();
        assert_eq!((stats.late, stats.unasked), (1, 0), "the answer to `fast`");
    }
}

#[test]
fn errors_panics_and_large_answers_concern_one_call() {
    let config = ServerConfig::default().concurrency(4);
    let (server, _go) = serve(Kind::Tls, config);
    let client = share(Kind::Tls, &server);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    for (payload, message) in [("fail", "no"), ("panic", "the handler panicked")] {
                        let failed = client.call(&Frame::data(payload)).unwrap_err();
                        let VstpError::ServerError(error) = failed.error else {
                            panic!("{failed:?}");
                        };
                        assert_eq!((failed.sent, &error.message[..]), (Sent::Yes, message));
                    }
                    let large = vec![7; 300_000];
                    let answer = client.call(&Frame::data(large.clone())).unwrap();
                    assert_eq!(answer.payload, large);
                }
            });
        }
    });
    assert_eq!(server.stats().handler_panics, 160);
    assert_eq!(ask(&client, "still here"), "still here");
}

#[test]
fn a_frame_that_numbers_itself_or_is_too_large_is_not_sent() {
    let server = echo(Kind::Plain, ServerConfig::default());
    let client = share(Kind::Plain, &server);
    let before = client.stats().frames_sent;
    let numbered = Frame::data("").with_header("correlation-id", "mine");
    let failed = client.call(&numbered).unwrap_err();
    assert!(matches!(failed.error, VstpError::Config(_)));
    assert_eq!(failed.sent, Sent::No);
    let large = Frame::data(vec![0; 9 << 20]);
    let failed = client.call(&large).unwrap_err();
    assert!(matches!(failed.error, VstpError::FrameTooLarge { .. }));
    assert_eq!(failed.sent, Sent::No);
    assert_eq!(client.stats().frames_sent, before);
    assert_eq!(ask(&client, "next"), "next");
}

#[test]
fn calls_beyond_the_limit_wait_and_are_not_sent() {
    let (server, go) = serve(Kind::Plain, ServerConfig::default().concurrency(4));
    let client = SharedTcpClient::with_max_calls(connect(Kind::Plain, &server), 1);
    thread::scope(|scope| {
        let before = client.stats().frames_sent;
        let slow = scope.spawn(|| ask(&client, "slow"));
        let sent = before + 1;
        until(|| client.stats().frames_sent == sent, "the slow call");
        let failed = client.call_timeout(&Frame::data("x"), Duration::from_millis(50));
        let failed = failed.unwrap_err();
        assert_eq!(failed.sent, Sent::No);
        assert!(matches!(
            failed.error,
            VstpError::Timeout(TimeoutKind::Send)
        ));
        assert_eq!(client.stats().frames_sent, sent);
        let waits = scope.spawn(|| ask(&client, "waited"));
        go.send(()).unwrap();
        assert_eq!(waits.join().unwrap(), "waited");
        assert_eq!(slow.join().unwrap(), "slow");
    });
}

#[test]
fn e09_a_connection_has_no_more_handlers_at_once_than_allowed() {
    const AT_ONCE: usize = 3;
    let (running, high) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (go, wait) = bounded::<()>(64);
    let counts = (Arc::clone(&running), Arc::clone(&high));
    let handler = move |_: &Session, frame: Frame| {
        let now = counts.0.fetch_add(1, Ordering::SeqCst) + 1;
        counts.1.fetch_max(now, Ordering::SeqCst);
        wait.recv_timeout(LONG).unwrap();
        counts.0.fetch_sub(1, Ordering::SeqCst);
        Frame::data(frame.payload)
    };
    let config = ServerConfig::default().concurrency(AT_ONCE);
    let server = bind(Kind::Plain, config).spawn(handler).unwrap();
    let client = share(Kind::Plain, &server);
    thread::scope(|scope| {
        for n in 0..10 {
            let client = &client;
            scope.spawn(move || assert_eq!(ask(client, &n.to_string()), n.to_string()));
        }
        until(|| running.load(Ordering::SeqCst) == AT_ONCE, "all places");
        (0..10).for_each(|_| go.send(()).unwrap());
    });
    assert_eq!(high.load(Ordering::SeqCst), AT_ONCE);
    let other = share(Kind::Plain, &server);
    go.send(()).unwrap();
    assert_eq!(ask(&other, "twin"), "twin", "one at a time is served too");
}

#[test]
fn without_a_free_thread_the_connection_handles_its_requests_itself() {
    let config = ServerConfig::default()
        .concurrency(8)
        .max_handler_threads(1);
    let (server, go) = serve(Kind::Plain, config);
    let (first, second) = (share(Kind::Plain, &server), share(Kind::Plain, &server));
    thread::scope(|scope| {
        let slow = scope.spawn(|| ask(&first, "slow"));
        until(|| first.call_stats().in_flight == 1, "the slow call");
        for n in 0..20 {
            assert_eq!(ask(&second, &n.to_string()), n.to_string());
        }
        go.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), "slow");
    });
}

#[test]
fn messages_without_a_number_are_handled_in_order_beside_those_with_one() {
    let (server, go) = serve(Kind::Plain, ServerConfig::default().concurrency(4));
    let mut client = connect(Kind::Plain, &server);
    let slow = Frame::data("slow").with_header("correlation-id", "s");
    client.send(&slow).unwrap();
    for n in 0..20 {
        client.send(&Frame::data(n.to_string())).unwrap();
    }
    for n in 0..20 {
        let answer = client.recv().unwrap().unwrap();
        assert_eq!(answer.payload, n.to_string().into_bytes());
    }
    go.send(()).unwrap();
    let answer = client.recv().unwrap().unwrap();
    assert_eq!(answer.header_str("correlation-id"), Some("s"));
}

#[test]
fn answers_that_are_being_made_go_before_the_goodbye() {
    for (kind, bye) in [(Kind::Plain, true), (Kind::Plain, false), (Kind::Tls, true)] {
        let (server, go) = serve(kind, ServerConfig::default().concurrency(4));
        let mut client = connect(kind, &server);
        for id in ["1", "2", "3"] {
            let slow = Frame::data("slow").with_header("correlation-id", id);
            client.send(&slow).unwrap();
        }
        if bye {
            client.close_sending().unwrap();
        } else {
            server_side(&server, 3);
        }
        let mut ids = BTreeSet::new();
        let shutdown = thread::scope(|scope| {
            let shutdown = (!bye).then(|| scope.spawn(|| server.shutdown(LONG)));
            (0..3).for_each(|_| go.send(()).unwrap());
            while let Some(answer) = client.recv().unwrap() {
                ids.insert(answer.header_str("correlation-id").unwrap().to_owned());
            }
            shutdown.map(|thread| thread.join().unwrap())
        });
        assert_eq!(ids.len(), 3, "{kind:?}, goodbye of the client: {bye}");
        assert!(shutdown.is_none_or(|report| report.cut_off + report.stuck == 0));
    }
}

/// Waits until the server has received so many frames.
fn server_side(server: &ServerHandle, frames: u64) {
    until(
        || server.stats().frames_in == frames,
        "frames at the server",
    );
}

#[test]
fn f05_a_stuck_handler_beside_the_connection_is_counted_once() {
    let (server, go) = serve(Kind::Plain, ServerConfig::default().concurrency(2));
    let client = share(Kind::Plain, &server);
    thread::scope(|scope| {
        let stuck = scope.spawn(|| client.call(&Frame::data("slow")).unwrap_err());
        server_side(&server, 1);
        let report = server.shutdown(Duration::from_millis(100));
        assert_eq!((report.cut_off, report.stuck), (1, 1));
        let failed = stuck.join().unwrap();
        assert_eq!(failed.sent, Sent::Yes);
        assert!(failed.error.is_closed(), "{failed:?}");
        go.send(()).unwrap();
    });
}

#[test]
fn a_slow_handler_beside_the_connection_is_counted() {
    let config = ServerConfig::default()
        .concurrency(4)
        .handler_warn(Duration::from_millis(1));
    let (told, tell) = bounded(16);
    let config = config.on_slow_handler(move |slow| told.send(slow.peer_addr).unwrap());
    let (server, go) = serve(Kind::Plain, config);
    let client = share(Kind::Plain, &server);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| ask(&client, "slow")))
            .collect();
        until(|| server.stats().handlers_slow == 2, "both are slow");
        for _ in 0..2 {
            assert!(tell.recv_timeout(LONG).unwrap().ip().is_loopback());
            go.send(()).unwrap();
        }
        for call in calls {
            assert_eq!(call.join().unwrap(), "slow");
        }
    });
    assert_eq!(server.stats().handlers_slow, 0);
    assert!(tell.try_recv().is_err(), "each is told of once");
}

#[test]
fn ping_goes_past_requests_that_wait() {
    for kind in BOTH {
        let (server, go) = serve(kind, ServerConfig::default().concurrency(4));
        let client = share(kind, &server);
        thread::scope(|scope| {
            let slow = scope.spawn(|| ask(&client, "slow"));
            server_side(&server, 1);
            client.ping(LONG).unwrap();
            go.send(()).unwrap();
            assert_eq!(slow.join().unwrap(), "slow");
        });
        client.ping(LONG).unwrap();
    }
}

#[test]
fn what_the_server_sends_unasked_is_dropped_and_counted() {
    let handler = |session: &Session, frame: Frame| {
        session.sender().unwrap().send(Frame::data("push")).unwrap();
        Frame::data(frame.payload)
    };
    let server = bind(Kind::Plain, ServerConfig::default())
        .spawn(handler)
        .unwrap();
    let client = share(Kind::Plain, &server);
    (0..10).for_each(|_| assert_eq!(ask(&client, "x"), "x"));
    until(
        || {
            client.check().unwrap();
            client.call_stats().unasked == 10
        },
        "ten pushes",
    );
    assert_eq!(client.call_stats().late, 0);
}

#[test]
fn close_gives_those_that_wait_their_answers() {
    for kind in BOTH {
        let (server, go) = serve(kind, ServerConfig::default().concurrency(4));
        let client = share(kind, &server);
        thread::scope(|scope| {
            let slow = scope.spawn(|| ask(&client, "slow"));
            server_side(&server, 1);
            let closing = scope.spawn(|| client.close());
            until(|| client.is_closed(), "the goodbye");
            let failed = client.call(&Frame::data("x")).unwrap_err();
            assert_eq!(failed.sent, Sent::No);
            assert!(matches!(
                failed.error,
                VstpError::ConnectionClosed(ClosedBy::Local)
            ));
            go.send(()).unwrap();
            assert_eq!(slow.join().unwrap(), "slow");
            closing.join().unwrap().unwrap();
        });
        assert!(client.close().is_ok(), "a second time");
        assert!(client.check().is_err());
    }
}

#[test]
fn f03_a_server_that_shuts_down_answers_each_call_or_ends_it() {
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default().concurrency(8));
        let client = share(kind, &server);
        let (answered, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..8 {
                let (client, answered, ended) = (&client, &answered, &ended);
                scope.spawn(move || {
                    for n in 0.. {
                        let payload = format!("{thread} {n}");
                        match client.call(&Frame::data(payload.clone())) {
                            Ok(answer) => {
                                assert_eq!(answer.payload, payload.into_bytes());
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(_) => {
                                ended.fetch_add(1, Ordering::Relaxed);
                                return;
                            }
                        }
                    }
                });
            }
            until(|| answered.load(Ordering::Relaxed) > 100, "some calls");
            let report = server.shutdown(LONG);
            assert_eq!((report.cut_off, report.stuck), (0, 0), "{kind:?}");
        });
        assert_eq!(ended.into_inner(), 8, "each caller has learnt of it");
    }
}

// What is known about a request whose connection was lost.

/// A listener whose one connection speaks for itself.
fn raw_server() -> (TcpListener, TcpConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener, config().hello(false))
}

fn raw_pair(config: TcpConfig, listener: &TcpListener) -> (SharedTcpClient, TcpStream) {
    let addr = listener.local_addr().unwrap();
    let client = vstp::VstpTcpClient::connect_plain_with(addr, config).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    (SharedTcpClient::new(client), stream)
}

/// The next request, and its number.
fn read_request(stream: &mut TcpStream, buffer: &mut Buffer) -> (Frame, String) {
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = try_decode_frame(buffer, 1 << 20).unwrap() {
            if frame.typ == FrameType::Data {
                let id = frame.header_str("correlation-id").unwrap().to_owned();
                return (frame, id);
            }
        } else {
            let len = stream.read(&mut chunk).unwrap();
            assert!(len > 0, "the client has closed");
            buffer.extend_from_slice(&chunk[..len]);
        }
    }
}

#[test]
fn sent_yes_when_the_connection_is_lost_after_the_request() {
    let (listener, config) = raw_server();
    let (client, mut stream) = raw_pair(config, &listener);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| client.call(&Frame::data("x")).unwrap_err()))
            .collect();
        let mut buffer = Buffer::new();
        (0..4).for_each(|_| drop(read_request(&mut stream, &mut buffer)));
        // In the middle of an answer.
        let bytes = encode_frame(&Frame::data("half")).unwrap();
        stream.write_all(&bytes[..bytes.len() - 3]).unwrap();
        drop(stream);
        for call in calls {
            let failed = call.join().unwrap();
            assert_eq!(failed.sent, Sent::Yes);
            assert!(matches!(
                failed.error,
                VstpError::ConnectionClosed(ClosedBy::Truncated)
            ));
        }
    });
    assert!(client.is_closed());
}

#[test]
fn sent_no_when_the_connection_was_lost_before() {
    for reset in [false, true] {
        let (listener, config) = raw_server();
        let (client, stream) = raw_pair(config, &listener);
        if reset {
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(stream);
        until(|| client.check().is_err(), "the end of the connection");
        for _ in 0..3 {
            let failed = client.call(&Frame::data("x")).unwrap_err();
            assert_eq!(failed.sent, Sent::No, "reset: {reset}");
            assert!(failed.error.is_closed());
        }
        assert_eq!(client.stats().frames_sent, 0);
    }
}

#[test]
fn sent_unknown_when_the_connection_is_lost_within_the_request() {
    let (listener, config) = raw_server();
    let config = config.socket_buffers(Some(16 << 10), None);
    let (client, stream) = raw_pair(config, &listener);
    thread::scope(|scope| {
        let large = Frame::data(vec![1; 8 << 20 >> 1]);
        let client = &client;
        let call = scope.spawn(move || client.call(&large).unwrap_err());
        // Some of it is here, so writing has begun; it cannot end, since nobody reads.
        assert!(stream.peek(&mut [0; 16]).unwrap() > 0);
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(stream);
        let failed = call.join().unwrap();
        assert_eq!(failed.sent, Sent::Unknown, "{failed:?}");
    });
    let failed = client.call(&Frame::data("x")).unwrap_err();
    assert_eq!(failed.sent, Sent::No);
}

#[test]
fn wrong_and_doubled_numbers_reach_no_call() {
    let (listener, config) = raw_server();
    let (client, mut stream) = raw_pair(config, &listener);
    thread::scope(|scope| {
        let call = scope.spawn(|| client.call(&Frame::data("x")).unwrap());
        let (_, id) = read_request(&mut stream, &mut Buffer::new());
        let mut bytes = Vec::new();
        for wrong in ["", "0", "99", "abc", "18446744073709551616"] {
            let mut frame = Frame::data("wrong");
            if !wrong.is_empty() {
                frame = frame.with_header("correlation-id", wrong);
            }
            bytes.extend(encode_frame(&frame).unwrap());
        }
        let right = Frame::data("right").with_header("correlation-id", id);
        for _ in 0..2 {
            bytes.extend(encode_frame(&right).unwrap());
        }
        stream.write_all(&bytes).unwrap();
        assert_eq!(call.join().unwrap().payload, b"right");
    });
    until(
        || {
            let _ = client.check();
            let stats = client.call_stats();
            (stats.unasked, stats.late) == (5, 1)
        },
        "five that are nobody's, and one too many",
    );
}

#[test]
fn f01_dropping_the_last_clone_closes_the_socket() {
    let (listener, config) = raw_server();
    let (client, mut stream) = raw_pair(config, &listener);
    let clone = client.clone();
    drop(client);
    assert!(!clone.is_closed());
    drop(clone);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    stream.shutdown(Shutdown::Both).unwrap_or_default();
}

#[test]
fn a_caller_that_leaves_hands_the_reading_to_another() {
    let (server, go) = serve(Kind::Plain, ServerConfig::default().concurrency(16));
    let client = share(Kind::Plain, &server);
    thread::scope(|scope| {
        // The first that waits is the one that reads, and it leaves before the other is answered.
        let leaves = scope.spawn(|| {
            let failed = client.call_timeout(&Frame::data("none"), Duration::from_millis(500));
            assert!(failed.unwrap_err().error.is_timeout());
        });
        server_side(&server, 1);
        let waits = scope.spawn(|| client.call_timeout(&Frame::data("slow"), LONG));
        leaves.join().unwrap();
        go.send(()).unwrap();
        assert_eq!(waits.join().unwrap().unwrap().payload, b"slow");
    });
}

#[test]
fn a_request_is_not_stuck_behind_the_large_answer_to_a_call_that_gave_up() {
    const LARGE: usize = 4 << 20;
    let small = |config: TcpConfig| config.socket_buffers(Some(16 << 10), Some(16 << 10));
    for kind in BOTH {
        let (go, wait) = bounded::<()>(1);
        let (begun, has_begun) = bounded::<()>(1);
        let handler = move |_: &Session, frame: Frame| {
            if frame.payload.is_empty() {
                begun.send(()).unwrap();
                wait.recv_timeout(LONG).unwrap();
                return Frame::data(vec![1; LARGE]);
            }
            Frame::data(frame.payload.len().to_string())
        };
        let config = ServerConfig::default().tcp(small(TcpConfig::default()));
        let server = bind(kind, config).spawn(handler).unwrap();
        let client = try_connect(kind, &server, small(crate::util::config())).unwrap();
        let client = SharedTcpClient::new(client);
        let gave_up = client.call_timeout(&Frame::data(""), Duration::from_millis(300));
        assert!(gave_up.unwrap_err().error.is_timeout());
        has_begun.recv_timeout(LONG).unwrap();
        go.send(()).unwrap();
        // The server writes until somebody reads, and reads nothing before.
        let answer = client.call(&Frame::data(vec![2; LARGE])).unwrap();
        assert_eq!(answer.payload, LARGE.to_string().into_bytes());
        assert_eq!(client.call_stats().late, 1);
    }
}

/// Does by the payload what a test asks for.
struct ByPayload;

impl ExtensionHandler for ByPayload {
    fn should_handle(&self, frame: &Frame) -> bool {
        frame.payload.starts_with(b"ext ")
    }

    fn handle_frame(&self, frame: Frame, to: &ExtensionContext) -> Result<Outcome, HandlerError> {
        match (&frame.payload[..], to.direction) {
            (b"ext answer", Direction::Inbound) => Ok(Outcome::Answer(vec![Frame::data("by it")])),
            (b"ext fail", Direction::Inbound) => Err(HandlerError::from("not that")),
            (b"ext refuse", Direction::Outbound) => Err(HandlerError::from("not out")),
            _ => Ok(Outcome::Pass(frame)),
        }
    }
}

#[test]
fn the_calls_of_many_threads_pass_extensions_and_compression() {
    let mut extensions = ExtensionRegistry::new();
    extensions.register("by payload", ByPayload);
    for kind in BOTH {
        let tcp = TcpConfig::default().compression(CompressionConfig::default());
        let server = ServerConfig::default()
            .tcp(tcp.clone())
            .extensions(extensions.clone())
            .concurrency(4);
        let (server, _go) = serve(kind, server);
        let tcp = config()
            .compression(CompressionConfig::default())
            .extensions(extensions.clone());
        let client = SharedTcpClient::new(try_connect(kind, &server, tcp).unwrap());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert_eq!(ask(&client, "ext answer"), "by it");
                    let failed = client.call(&Frame::data("ext fail")).unwrap_err();
                    assert!(matches!(failed.error, VstpError::ServerError(_)));
                    let failed = client.call(&Frame::data("ext refuse")).unwrap_err();
                    assert!(matches!(failed.error, VstpError::Extension(_)));
                    assert_eq!(failed.sent, Sent::No);
                    let large = "words ".repeat(20_000);
                    assert_eq!(ask(&client, &large), large);
                });
            }
        });
        let stats = client.stats();
        assert!(stats.bytes_sent < 200_000, "{stats:?}");
        assert!(stats.bytes_received < 200_000, "{stats:?}");
    }
}
