//! Limits: the attack trips each at its exact count, and everybody else is served.

use crate::util::{BOTH, Kind, LONG, bind, config, connect, echo, try_connect};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use vstp::net::clock;
use vstp::serve::{ServerConfig, ServerHandle, Session};
use vstp::{Frame, FrameType, VstpError, encode_frame};

/// Waits for something that another thread brings about.
pub(crate) fn until(mut done: impl FnMut() -> bool, what: &str) {
    let deadline = clock::now() + LONG;
    while !done() {
        assert!(clock::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn ask(client: &mut vstp::VstpTcpClient) {
    client.send(&Frame::data("?")).unwrap();
    assert_eq!(client.recv().unwrap(), Some(Frame::data("?")));
}

#[test]
fn e01_connections_over_the_limit_wait_and_enter_when_one_leaves() {
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default().max_connections(5));
        let mut clients: Vec<_> = (0..5).map(|_| connect(kind, &server)).collect();
        let short = config().handshake_timeout(Duration::from_millis(200));
        let waiting = try_connect(kind, &server, short);
        assert!(
            matches!(waiting, Err(VstpError::Timeout(_))),
            "{kind:?} {waiting:?}"
        );
        clients.iter_mut().for_each(ask);
        assert_eq!(server.stats().connections_active, 5);
        drop(clients.pop());
        // The one that gave up takes a place first, and leaves it again.
        ask(&mut connect(kind, &server));
    }
}

#[test]
fn e01_an_address_over_its_limit_is_closed_at_once() {
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default().max_per_address(3));
        let mut clients: Vec<_> = (0..3).map(|_| connect(kind, &server)).collect();
        let refused = try_connect(kind, &server, config());
        assert!(
            matches!(refused, Err(VstpError::ConnectionClosed(_))),
            "{refused:?}"
        );
        assert_eq!(server.stats().refused_per_address, 1);
        clients.iter_mut().for_each(ask);
        clients.pop().unwrap().close().unwrap();
        until(
            || server.stats().connections_active == 2,
            "the place is free",
        );
        ask(&mut connect(kind, &server));
    }
}

#[test]
fn e06_the_21st_ping_at_once_ends_its_connection_alone() {
    let server = echo(Kind::Plain, ServerConfig::default());
    let mut other = connect(Kind::Plain, &server);
    let ping = encode_frame(&Frame::new(FrameType::Ping)).unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(&ping.repeat(20)).unwrap();
    let echoed = Frame::data("still there");
    stream.write_all(&encode_frame(&echoed).unwrap()).unwrap();
    let answers = frames(&mut stream, 2);
    assert_eq!(answers.last(), Some(&echoed), "20 are fine");
    stream.write_all(&ping.repeat(25)).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    assert!(
        bytes.windows(4).any(|w| w == b"calm"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    ask(&mut other);
}

#[test]
fn e07_answers_to_nothing_provoke_nothing_and_too_many_of_them_end_their_connection_alone() {
    let server = echo(Kind::Plain, ServerConfig::default());
    let mut other = connect(Kind::Plain, &server);
    let refusal = Frame::new(FrameType::Err).with_header("code", "handler");
    let overruns = || {
        let reason = [("reason", "overrun")];
        let numbers = server.meter().snapshot();
        numbers.value("vstp_connection_errors_total", &reason)
    };
    for unasked in [
        Frame::new(FrameType::Pong).with_payload("?"),
        Frame::new(FrameType::Ack).with_header("msg-id", "7"),
        refusal.with_header("correlation-id", "7"),
    ] {
        let before = overruns();
        let bytes = encode_frame(&unasked).unwrap();
        let echoed = Frame::data("still there");
        let asks = encode_frame(&echoed).unwrap();
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(&asks).unwrap();
        assert_eq!(frames(&mut stream, 1), std::slice::from_ref(&echoed));
        stream.write_all(&bytes.repeat(20)).unwrap();
        stream.write_all(&asks).unwrap();
        let answers = frames(&mut stream, 1);
        assert_eq!(
            answers,
            [echoed],
            "{unasked:?}: 20 are fine, and not answered"
        );
        // So many that a loaded machine's pauses do not bring back as many.
        let _ = stream.write_all(&bytes.repeat(200));
        // The ERR `calm` may be lost with what the server has not read any more.
        let _ = stream.read_to_end(&mut Vec::new());
        until(|| overruns() > before, "it is ended for this");
        ask(&mut other);
    }
}

/// Reads frames until one is DATA, at most so many.
fn frames(stream: &mut TcpStream, most: usize) -> Vec<Frame> {
    let mut buffer = vstp::wire::Buffer::new();
    let mut out: Vec<Frame> = Vec::new();
    while out.last().is_none_or(|f| f.typ != FrameType::Data) && out.len() < 30 * most {
        match vstp::try_decode_frame(&mut buffer, 1 << 20).unwrap() {
            Some(frame) => out.push(frame),
            None => {
                let mut chunk = [0; 4096];
                let len = stream.read(&mut chunk).unwrap();
                assert!(len > 0, "it was closed");
                buffer.extend_from_slice(&chunk[..len]);
            }
        }
    }
    out
}

#[test]
fn e08_empty_messages_are_answered_and_cost_no_memory() {
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default());
        let (mut reader, mut writer) = connect(kind, &server).split();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..50_000 {
                    writer.feed(&Frame::data("")).unwrap();
                }
                writer.flush().unwrap();
            });
            for _ in 0..50_000 {
                assert_eq!(reader.recv().unwrap(), Some(Frame::data("")));
            }
        });
    }
}

#[test]
fn e09_more_requests_than_handlers_are_all_answered() {
    let server = echo(Kind::Plain, ServerConfig::default());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let mut client = connect(Kind::Plain, server);
                for n in 0..200 {
                    let frame = Frame::data(format!("{thread} {n}"));
                    client.send(&frame).unwrap();
                    assert_eq!(client.recv().unwrap(), Some(frame));
                }
            });
        }
    });
    assert_eq!(server.stats().frames_in, 16 * 200);
}

#[test]
fn e10_a_thousand_panics_leave_server_and_connection_alive() {
    let handler = |_: &Session, frame: Frame| -> Frame {
        assert_ne!(frame.payload, b"!", "as asked");
        frame
    };
    // A thousand backtraces would drown the output of the other tests.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("as asked") {
            eprintln!("{info}");
        }
    }));
    let server = bind(Kind::Plain, ServerConfig::default())
        .spawn(handler)
        .unwrap();
    let mut client = connect(Kind::Plain, &server);
    for n in 0..1000 {
        client
            .send(&Frame::data("!").with_header("correlation-id", n.to_string()))
            .unwrap();
        let error = client.recv().unwrap_err();
        assert!(matches!(error, VstpError::ServerError(_)), "{error:?}");
    }
    client.send(&Frame::data("x")).unwrap();
    assert_eq!(client.recv().unwrap(), Some(Frame::data("x")));
    assert_eq!(server.stats().handler_panics, 1000);
}

#[test]
fn e16_locks_that_a_panic_poisoned_and_senders_that_are_gone_stop_nobody() {
    let kept: std::sync::Arc<std::sync::Mutex<Vec<vstp::net::tcp::Sender>>> =
        std::sync::Arc::default();
    let shared = std::sync::Arc::clone(&kept);
    let handler = move |session: &Session, frame: Frame| -> Frame {
        let mut senders = shared
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        senders.push(session.sender().unwrap());
        if frame.payload == b"poison" {
            // Without the hook's noise; the lock is held, so it is poisoned.
            std::panic::resume_unwind(Box::new("poison"));
        }
        frame
    };
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default())
            .spawn(handler.clone())
            .unwrap();
        let mut client = connect(kind, &server);
        client
            .send(&Frame::data("poison").with_header("correlation-id", "1"))
            .unwrap();
        assert!(matches!(client.recv(), Err(VstpError::ServerError(_))));
        ask(&mut client);
        client.close().unwrap();
        // The connection of these senders is gone; they say so, and the server goes on.
        let gone = std::mem::take(
            &mut *kept
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        until(
            || gone.iter().all(vstp::net::tcp::Sender::is_closed),
            "the senders know",
        );
        let error = gone[0].send(Frame::data("late")).unwrap_err().error;
        assert!(matches!(error, VstpError::ConnectionClosed(_)), "{error:?}");
        ask(&mut connect(kind, &server));
    }
}

#[test]
fn a_sender_pushes_back_when_its_queue_is_full() {
    for kind in BOTH {
        let config = config()
            .send_queue(4, 1 << 20)
            .socket_buffers(Some(16 << 10), None);
        let server = bind(kind, ServerConfig::default());
        let handle = server.handle();
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| try_connect(kind, &handle, config).unwrap());
            let mut stalled = server.accept_timeout(LONG).unwrap();
            let client = connecting.join().unwrap();
            let sender = client.sender().unwrap();
            let frame = Frame::data(vec![0; 50_000]);
            let refused = (0..10_000)
                .find_map(|_| sender.try_send(frame.clone()).err())
                .unwrap();
            assert!(
                matches!(refused.error, VstpError::Backpressure),
                "{refused:?}"
            );
            assert_eq!(refused.frame, frame, "the frame comes back");
            // The system's buffers still take some.
            let wait = Duration::from_millis(100);
            let late = (0..10_000)
                .find_map(|_| sender.send_timeout(frame.clone(), wait).err())
                .unwrap();
            assert!(matches!(late.error, VstpError::Timeout(_)), "{late:?}");
            // The twin: a peer that reads makes room.
            assert!(stalled.recv_timeout(LONG).unwrap().is_some());
            drop(client);
            assert!(sender.is_closed());
        });
    }
}

/// Threads, descriptors: both back to what they were after many servers and clients.
#[test]
fn f10_starting_and_stopping_leaves_nothing_behind() {
    if std::env::var_os("VSTP_CHILD").is_none() {
        // Other tests of this binary come and go; so it is done in a process of its own.
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "limits::f10_starting_and_stopping_leaves_nothing_behind",
            ])
            .env("VSTP_CHILD", "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let count =
        |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).map_or(0, Iterator::count);
    let cycle = |kind| {
        let server: ServerHandle = echo(kind, ServerConfig::default());
        let mut clients: Vec<_> = (0..3).map(|_| connect(kind, &server)).collect();
        clients.iter_mut().for_each(ask);
        let sender = clients[0].sender().unwrap();
        sender.send(Frame::data("queued")).unwrap();
        assert!(clients[0].recv().unwrap().is_some());
        clients.pop().unwrap().close().unwrap();
        drop(clients);
        let report = server.shutdown(LONG);
        assert_eq!((report.cut_off, report.stuck), (0, 0));
    };
    BOTH.into_iter().for_each(cycle);
    let before = (count("task"), count("fd"));
    for _ in 0..25 {
        BOTH.into_iter().for_each(cycle);
    }
    until(
        || (count("task"), count("fd")) <= before,
        "threads and descriptors are back",
    );
}
