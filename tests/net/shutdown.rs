//! Ends: from another thread, under load, twice, from a handler, with one that is stuck.

use crate::limits::until;
use crate::util::{BOTH, Kind, LONG, bind, certs, config, connect, echo};
use crossbeam_channel::bounded;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vstp::error::ClosedBy;
use vstp::net::clock;
use vstp::serve::{ServerConfig, ServerHandle, Session};
use vstp::{Frame, VstpError, VstpTcpServer, encode_frame};

#[test]
fn f01_closing_wakes_a_blocked_recv_and_a_blocked_send() {
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default());
        let handle = server.handle();
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| connect(kind, &handle));
            let _silent = server.accept_timeout(LONG).unwrap();
            let client = connecting.join().unwrap();
            let closer = client.closer();
            let (mut reader, mut writer) = client.split();
            let receiving = scope.spawn(move || reader.recv());
            let (full, is_full) = bounded::<()>(1);
            let sending = scope.spawn(move || {
                let frame = Frame::data(vec![0; 1 << 20]);
                loop {
                    let _ = full.try_send(());
                    if let Err(error) = writer.send(&frame) {
                        return error;
                    }
                }
            });
            is_full.recv_timeout(LONG).unwrap();
            let began = clock::now();
            closer.close();
            for error in [
                receiving.join().unwrap().unwrap_err(),
                sending.join().unwrap(),
            ] {
                assert!(
                    matches!(error, VstpError::ConnectionClosed(ClosedBy::Local)),
                    "{kind:?} {error:?}"
                );
            }
            assert!(began.elapsed() < Duration::from_secs(2));
        });
    }
}

#[test]
fn f02_shutting_down_wakes_a_blocked_accept_on_any_address() {
    for addr in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
        let server = match VstpTcpServer::bind_plain(addr) {
            Ok(server) => server,
            Err(error) if addr.starts_with('[') => {
                println!("skipped, no IPv6 here: {error}");
                continue;
            }
            Err(error) => panic!("{addr}: {error}"),
        };
        let handle = server.handle();
        std::thread::scope(|scope| {
            let accepting = scope.spawn(|| server.accept());
            let began = clock::now();
            handle.shutdown(Duration::from_secs(1));
            let error = accepting.join().unwrap().unwrap_err();
            assert!(
                matches!(error, VstpError::ConnectionClosed(ClosedBy::Local)),
                "{error:?}"
            );
            assert!(began.elapsed() < Duration::from_secs(2), "{addr}");
        });
    }
}

#[test]
fn f03_under_load_each_request_gets_its_answer_or_an_error() {
    for kind in BOTH {
        let handled = std::sync::Arc::new(AtomicU64::new(0));
        let counter = std::sync::Arc::clone(&handled);
        let handler = move |_: &Session, frame: Frame| {
            counter.fetch_add(1, Ordering::Relaxed);
            frame
        };
        let config = ServerConfig::default().max_per_address(200);
        let server = bind(kind, config).spawn(handler).unwrap();
        let answered = AtomicU64::new(0);
        let (running, is_running) = bounded::<()>(40);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                let (server, answered, running) = (&server, &answered, running.clone());
                scope.spawn(move || {
                    let mut client = connect(kind, server);
                    for n in 0_u64.. {
                        let frame = Frame::data(n.to_string());
                        if client.send(&frame).is_err() {
                            return;
                        }
                        match client.recv() {
                            Ok(Some(answer)) => assert_eq!(answer, frame),
                            Ok(None) | Err(VstpError::ConnectionClosed(_)) => return,
                            Err(error) => panic!("{error:?}"),
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                        if n == 20 {
                            running.send(()).unwrap();
                        }
                    }
                });
            }
            for _ in 0..40 {
                is_running.recv_timeout(LONG).unwrap();
            }
            let report = server.shutdown(LONG);
            assert_eq!((report.cut_off, report.stuck), (0, 0), "{kind:?}");
        });
        assert_eq!(
            handled.load(Ordering::Relaxed),
            answered.load(Ordering::Relaxed),
            "{kind:?}"
        );
    }
}

#[test]
fn f04_a_second_shutdown_waits_for_the_first_and_says_the_same() {
    let server = echo(Kind::Plain, ServerConfig::default());
    let client = connect(Kind::Plain, &server);
    drop(client);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| server.shutdown(Duration::from_secs(5))))
            .collect();
        let reports: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        assert!(
            reports
                .iter()
                .all(|report| (report.cut_off, report.stuck) == (0, 0))
        );
    });
    let again = server.shutdown(Duration::ZERO);
    assert_eq!((again.cut_off, again.stuck), (0, 0));
    server.wait().unwrap();
}

#[test]
fn f04_a_handler_can_begin_the_shutdown() {
    let own: std::sync::Arc<Mutex<Option<ServerHandle>>> = std::sync::Arc::default();
    let shared = std::sync::Arc::clone(&own);
    let handler = move |_: &Session, frame: Frame| {
        if let Some(handle) = &*shared.lock().unwrap() {
            handle.shutdown(Duration::from_secs(5));
        }
        frame
    };
    let server = bind(Kind::Plain, ServerConfig::default())
        .spawn(handler)
        .unwrap();
    *own.lock().unwrap() = Some(server.clone());
    let mut client = connect(Kind::Plain, &server);
    client.send(&Frame::data("stop")).unwrap();
    assert_eq!(
        client.recv().unwrap(),
        Some(Frame::data("stop")),
        "its own answer still leaves"
    );
    assert_eq!(client.recv().unwrap(), None, "then the goodbye");
    server.wait().unwrap();
}

#[test]
fn f05_a_stuck_handler_is_counted_and_does_not_hold_up_the_shutdown() {
    let (release, wait) = bounded::<()>(0);
    let (began, has_begun) = bounded::<()>(1);
    let handler = move |_: &Session, frame: Frame| {
        began.send(()).unwrap();
        let _ = wait.recv_timeout(LONG);
        frame
    };
    let server = bind(Kind::Plain, ServerConfig::default())
        .spawn(handler)
        .unwrap();
    let mut client = connect(Kind::Plain, &server);
    client.send(&Frame::data("stuck")).unwrap();
    has_begun.recv_timeout(LONG).unwrap();
    let start = clock::now();
    let report = server.shutdown(Duration::from_millis(200));
    assert_eq!(
        (report.connections, report.cut_off, report.stuck),
        (1, 1, 1)
    );
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    drop(release);
}

#[test]
fn f06_clients_that_come_at_the_shutdown_are_served_or_refused() {
    for _ in 0..10 {
        let server = echo(Kind::Tls, ServerConfig::default());
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    let server = &server;
                    scope.spawn(move || {
                        let tls = certs().client().unwrap();
                        let addr = server.local_addr();
                        vstp::VstpTcpClient::connect_with(addr, &tls, config()).is_ok()
                    })
                })
                .collect();
            server.shutdown(Duration::from_secs(5));
            for client in clients {
                client.join().unwrap();
            }
        });
        until(
            || server.stats().connections_active == 0,
            "nothing is left half-registered",
        );
        assert_eq!(server.stats().handshakes_active, 0);
    }
}

#[test]
fn f09_a_port_can_be_bound_again_at_once_but_not_twice() {
    let server = echo(Kind::Plain, ServerConfig::default());
    let addr = server.local_addr();
    let twice = VstpTcpServer::bind_plain(addr);
    assert!(matches!(twice, Err(VstpError::Io(_))), "{twice:?}");
    // A connection that the server closes first stays in TIME_WAIT.
    let mut client = connect(Kind::Plain, &server);
    client.send(&Frame::data("x")).unwrap();
    assert!(client.recv().unwrap().is_some());
    server.shutdown(Duration::from_secs(2));
    let again = VstpTcpServer::bind_plain(addr).unwrap();
    assert_eq!(again.local_addr(), addr);
}

#[test]
fn f11_a_client_outlives_its_server() {
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default());
        let mut client = connect(kind, &server);
        client.send(&Frame::data("x")).unwrap();
        assert_eq!(client.recv().unwrap(), Some(Frame::data("x")));
        server.shutdown(Duration::from_secs(2));
        drop(server);
        assert!(matches!(
            client.recv(),
            Ok(None) | Err(VstpError::ConnectionClosed(_))
        ));
        let error = client.send(&Frame::data("late")).unwrap_err();
        assert!(matches!(error, VstpError::ConnectionClosed(_)), "{error:?}");
    }
}

#[test]
fn f05_a_connection_that_was_cut_off_inside_a_frame_is_not_a_stuck_handler() {
    let server = echo(Kind::Plain, ServerConfig::default());
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let bytes = encode_frame(&Frame::data("x")).unwrap();
    stream.write_all(&[&bytes, &bytes[..5]].concat()).unwrap();
    stream.read_exact(&mut vec![0; bytes.len()]).unwrap();
    let report = server.shutdown(Duration::from_millis(200));
    assert_eq!((report.cut_off, report.stuck), (1, 0), "{report:?}");
}

#[test]
fn f03_an_accepted_connection_gets_the_frame_that_had_begun() {
    let server = bind(Kind::Plain, ServerConfig::default());
    let handle = server.handle();
    let mut stream = TcpStream::connect(handle.local_addr()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let (first, second) = (Frame::data("first"), Frame::data("second"));
    let bytes = encode_frame(&second).unwrap();
    stream.write_all(&encode_frame(&first).unwrap()).unwrap();
    stream.write_all(&bytes[..5]).unwrap();
    let mut connection = server.accept_timeout(LONG).unwrap();
    assert_eq!(connection.recv().unwrap(), Some(first));
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| handle.shutdown(LONG));
        let receiving = scope.spawn(move || {
            let received = [connection.recv_timeout(LONG), connection.recv_timeout(LONG)];
            received.map(|result| result.unwrap())
        });
        until(
            || {
                server
                    .accept_timeout(Duration::ZERO)
                    .is_err_and(|e| e.is_closed())
            },
            "it stops",
        );
        // A while in which the receiver looks for the rest in vain.
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        assert!(stream.read(&mut [0; 1]).is_err(), "the frame is waited for");
        stream.write_all(&bytes[5..]).unwrap();
        assert_eq!(receiving.join().unwrap(), [Some(second), None]);
        assert_eq!(stopping.join().unwrap().cut_off, 0);
    });
}

#[test]
fn f04_a_second_shutdown_in_more_of_a_hurry_is_the_one_that_counts() {
    let (began, has_begun) = bounded::<()>(1);
    let (release, wait) = bounded::<()>(0);
    let handler = move |_: &Session, frame: Frame| {
        began.send(()).unwrap();
        let _ = wait.recv_timeout(LONG);
        frame
    };
    let server = bind(Kind::Plain, ServerConfig::default())
        .spawn(handler)
        .unwrap();
    let mut client = connect(Kind::Plain, &server);
    client.send(&Frame::data("x")).unwrap();
    has_begun.recv_timeout(LONG).unwrap();
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| server.shutdown(LONG));
        until(
            || TcpStream::connect(server.local_addr()).is_err(),
            "the port is closed",
        );
        let hasty = server.shutdown(Duration::from_millis(100));
        assert_eq!((hasty.cut_off, hasty.stuck), (1, 1), "{hasty:?}");
        assert_eq!(patient.join().unwrap(), hasty);
    });
    drop(release);
}

#[test]
fn f01_closing_wakes_a_reader_that_waits_for_memory() {
    let config = ServerConfig::default().max_receive_memory(1 << 20);
    let server = bind(Kind::Plain, config);
    let handle = server.handle();
    let bytes = encode_frame(&Frame::data(vec![0; 4 << 20])).unwrap();
    let connection = |len: usize| {
        let mut stream = TcpStream::connect(handle.local_addr()).unwrap();
        stream
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        // The server's handshake ends with the head of the frame; what is beyond that is read by
        // the halves below.
        stream
            .write_all(&encode_frame(&Frame::data("first")).unwrap())
            .unwrap();
        let accepted = server.accept_timeout(LONG).unwrap();
        let closer = accepted.closer();
        let (mut reader, writer) = accepted.split();
        let receiving = std::thread::Builder::new()
            .spawn(move || {
                reader.recv().unwrap();
                reader.recv()
            })
            .unwrap();
        // It may not take all of it.
        let _ = stream.write_all(&bytes[..len]);
        (stream, closer, writer, receiving)
    };
    let large = connection(3 << 20);
    until(|| large.2.stats().bytes_received >= 3 << 20, "it is there");
    let waiting = connection(3 << 20);
    until(
        || waiting.2.stats().bytes_received >= 32 << 10,
        "it has begun",
    );
    let began = clock::now();
    for (_stream, closer, _writer, receiving) in [waiting, large] {
        closer.close();
        let error = receiving.join().unwrap().unwrap_err();
        assert!(
            matches!(error, VstpError::ConnectionClosed(ClosedBy::Local)),
            "{error:?}"
        );
    }
    assert!(began.elapsed() < Duration::from_secs(2));
}
