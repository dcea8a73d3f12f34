//! Answers, acknowledgements and pushes: none is lost, and none that is not read costs memory.

use crate::limits::until;
use crate::util::{BOTH, Kind, LONG, bind, config, connect, echo_frame, try_connect};
use crossbeam_channel::bounded;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use vstp::error::TimeoutKind;
use vstp::net::tcp::TcpConfig;
use vstp::serve::{HandlerError, ServerConfig, ServerHandle, Session};
use vstp::wire::Buffer;
use vstp::{Flags, Frame, FrameType, VstpError, encode_frame, try_decode_frame};

const SMALL: usize = 16 << 10;

/// A socket that speaks for itself, with small buffers; its calls end.
fn raw(server: &ServerHandle) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(SMALL).unwrap();
    socket.set_send_buffer_size(SMALL).unwrap();
    socket.connect(&server.local_addr().into()).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.set_write_timeout(Some(LONG)).unwrap();
    socket.into()
}

/// A server whose sockets hold little.
fn tight() -> ServerConfig {
    ServerConfig::default().tcp(TcpConfig::default().socket_buffers(Some(SMALL), Some(SMALL)))
}

/// Reads frames until the end of the stream, or until one fits.
fn read_until(stream: &mut TcpStream, last: impl Fn(&Frame) -> bool) -> Vec<Frame> {
    let mut buffer = Buffer::new();
    let mut frames = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        while let Some(frame) = try_decode_frame(&mut buffer, 16 << 20).unwrap() {
            let is_last = last(&frame);
            frames.push(frame);
            if is_last {
                return frames;
            }
        }
        match stream.read(&mut chunk).unwrap() {
            0 => return frames,
            len => buffer.extend_from_slice(&chunk[..len]),
        }
    }
}

#[test]
fn b06_acknowledgements_that_nobody_reads_stop_the_reading_and_none_is_lost() {
    const COUNT: usize = 30_000;
    let server = bind(Kind::Plain, tight())
        .spawn(|_: &Session, _: Frame| ())
        .unwrap();
    let bytes: Vec<u8> = (0..COUNT)
        .flat_map(|n| {
            let frame = Frame::data("").with_flag(Flags::REQ_ACK);
            encode_frame(&frame.with_header("msg-id", n.to_string())).unwrap()
        })
        .collect();
    let mut stream = raw(&server);
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(len) => sent += len,
            Err(_) => break,
        }
    }
    assert!(
        sent < bytes.len() / 2,
        "the server took {sent} bytes of a peer that does not read"
    );
    stream.set_write_timeout(Some(LONG)).unwrap();
    let mut writing = stream.try_clone().unwrap();
    let rest = bytes[sent..].to_vec();
    let writer = std::thread::Builder::new()
        .spawn(move || writing.write_all(&rest).unwrap())
        .unwrap();
    let last = (COUNT - 1).to_string();
    let acks = read_until(&mut stream, |f| {
        f.header_str("msg-id") == Some(last.as_str())
    });
    writer.join().unwrap();
    for (n, ack) in acks.iter().enumerate() {
        assert_eq!(ack.typ, FrameType::Ack);
        assert_eq!(ack.header_str("msg-id"), Some(n.to_string().as_str()));
    }
    assert_eq!(acks.len(), COUNT);
}

#[test]
fn b04_what_a_sender_has_queued_leaves_before_a_half_closed_stream_ends() {
    const COUNT: usize = 40;
    let (done, is_done) = bounded::<()>(1);
    let handler = move |session: &Session, _: Frame| {
        let sender = session.sender().unwrap();
        for n in 0..COUNT {
            sender.send(Frame::data(vec![n as u8; SMALL])).unwrap();
        }
        done.send(()).unwrap();
    };
    let server = bind(Kind::Plain, tight()).spawn(handler).unwrap();
    for bye in [false, true] {
        let mut stream = raw(&server);
        let mut bytes = encode_frame(&Frame::data("go")).unwrap();
        if bye {
            bytes.extend(encode_frame(&Frame::new(FrameType::Bye)).unwrap());
        }
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        is_done.recv_timeout(LONG).unwrap();
        let frames = read_until(&mut stream, |_| false);
        assert_eq!(frames.len(), COUNT, "goodbye: {bye}");
        for (n, frame) in frames.iter().enumerate() {
            assert_eq!(frame.payload.first(), Some(&(n as u8)));
        }
    }
}

#[test]
fn senders_that_come_and_go_leave_no_frame_behind() {
    let server = bind(Kind::Plain, ServerConfig::default());
    let handle = server.handle();
    let client = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| connect(Kind::Plain, &handle));
        let mut accepted = server.accept_timeout(LONG).unwrap();
        let client = connecting.join().unwrap();
        for n in 0..20_000 {
            let frame = Frame::data(n.to_string());
            client.sender().unwrap().send(frame.clone()).unwrap();
            let got = accepted.recv_timeout(Duration::from_secs(5));
            assert_eq!(got.unwrap(), Some(frame));
        }
        client
    });
    drop(client);
}

#[test]
fn a_peer_that_lowers_its_limit_later_does_not_stop_the_senders() {
    let (give, take) = bounded(4);
    let handler = move |session: &Session, _: Frame| {
        give.send(session.sender().unwrap()).unwrap();
    };
    let server = bind(Kind::Plain, tight()).spawn(handler).unwrap();
    let mut stream = raw(&server);
    stream
        .write_all(&encode_frame(&Frame::data("first")).unwrap())
        .unwrap();
    let sender = take.recv_timeout(LONG).unwrap();
    // More than the sockets hold, so some of it is still queued when the limit falls.
    let large = Frame::data(vec![0; 20_000]);
    while sender.try_send(large.clone()).is_ok() {}
    let hello = Frame::new(FrameType::Hello).with_header("max-frame-size", "1024");
    stream.write_all(&encode_frame(&hello).unwrap()).unwrap();
    stream
        .write_all(&encode_frame(&Frame::data("second")).unwrap())
        .unwrap();
    let _second = take.recv_timeout(LONG).unwrap();
    let reading = std::thread::Builder::new()
        .spawn(move || read_until(&mut stream, |frame| frame.payload == b"last"))
        .unwrap();
    let wait = Duration::from_secs(5);
    for _ in 0..200 {
        sender.send_timeout(Frame::data("small"), wait).unwrap();
    }
    sender.send_timeout(Frame::data("last"), wait).unwrap();
    let frames = reading.join().unwrap();
    let small = frames.iter().filter(|f| f.payload == b"small").count();
    assert_eq!(small, 200);
}

#[test]
fn a_session_that_begins_with_ping_is_open() {
    let tcp = TcpConfig::default().handshake_timeout(Duration::from_millis(200));
    let server = bind(Kind::Plain, ServerConfig::default().tcp(tcp))
        .spawn(echo_frame)
        .unwrap();
    let mut stream = raw(&server);
    let ping = Frame::new(FrameType::Ping).with_payload("?");
    stream.write_all(&encode_frame(&ping).unwrap()).unwrap();
    let pong = read_until(&mut stream, |_| true);
    assert_eq!(pong[0].typ, FrameType::Pong);
    // Far longer than the handshake may take.
    stream
        .set_read_timeout(Some(Duration::from_millis(600)))
        .unwrap();
    let quiet = stream.read(&mut [0; 1]);
    assert!(quiet.is_err(), "nothing was said to it: {quiet:?}");
    stream.set_read_timeout(Some(LONG)).unwrap();
    let frame = Frame::data("still here");
    stream.write_all(&encode_frame(&frame).unwrap()).unwrap();
    assert_eq!(read_until(&mut stream, |_| true), [frame]);
    assert_eq!(server.stats().handshake_timeouts, 0);
}

#[test]
fn b08_time_that_a_handler_takes_is_not_counted_against_the_next_frame() {
    let (_never, wait) = bounded::<()>(0);
    let handler = move |_: &Session, frame: Frame| {
        let _ = wait.recv_timeout(Duration::from_millis(600));
        frame
    };
    let tcp = TcpConfig::default().frame_timeout(Duration::from_millis(200));
    let server = bind(Kind::Plain, ServerConfig::default().tcp(tcp))
        .spawn(handler)
        .unwrap();
    let mut stream = raw(&server);
    let frame = Frame::data("slow");
    let bytes = encode_frame(&frame).unwrap();
    // The next frame has begun when the handler is called, and waits until it is read on.
    stream.write_all(&[&bytes, &bytes[..12]].concat()).unwrap();
    assert_eq!(
        read_until(&mut stream, |_| true),
        std::slice::from_ref(&frame)
    );
    stream.write_all(&bytes[12..]).unwrap();
    assert_eq!(read_until(&mut stream, |_| true), [frame]);
}

#[test]
fn closing_is_not_disturbed_by_the_error_that_answers_a_request() {
    let handler = |_: &Session, _: Frame| Err::<(), _>(HandlerError::from("no"));
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default()).spawn(handler).unwrap();
        let mut client = connect(kind, &server);
        client
            .send(&Frame::data("?").with_header("correlation-id", "1"))
            .unwrap();
        client.close().unwrap();
        until(
            || server.stats().connections_active == 0,
            "the server saw the goodbye",
        );
    }
}

#[test]
fn b10_an_error_that_answers_a_request_is_a_sign_of_life() {
    let handler = |_: &Session, _: Frame| Err::<(), _>(HandlerError::from("no"));
    let server = bind(Kind::Plain, ServerConfig::default())
        .spawn(handler)
        .unwrap();
    let quiet = config()
        .keepalive_interval(None)
        .idle_timeout(Some(Duration::from_millis(300)));
    let mut client = try_connect(Kind::Plain, &server, quiet).unwrap();
    let (_never, wait) = bounded::<()>(0);
    for n in 0..2 {
        let frame = Frame::data("?").with_header("correlation-id", n.to_string());
        client.send(&frame).unwrap();
        let error = client.recv().unwrap_err();
        assert!(matches!(error, VstpError::ServerError(_)), "{n} {error:?}");
        let _ = wait.recv_timeout(Duration::from_millis(500));
    }
}

#[test]
fn a_peer_that_names_no_limit_gets_frames_of_8_mib_at_most() {
    let tcp = TcpConfig::default().max_frame_size(64 << 20);
    let server = bind(Kind::Plain, ServerConfig::default().tcp(tcp));
    let mut stream = raw(&server.handle());
    let hello = encode_frame(&Frame::new(FrameType::Hello)).unwrap();
    stream.write_all(&hello).unwrap();
    let mut connection = server.accept_timeout(LONG).unwrap();
    let frame = Frame::data(vec![0; 8 << 20]);
    let error = connection.send(&frame).unwrap_err();
    assert!(
        matches!(error, VstpError::FrameTooLarge { limit, .. } if limit == 8 << 20),
        "{error:?}"
    );
}

#[test]
fn what_was_fed_is_kept_when_another_frame_is_in_the_way() {
    let server = bind(Kind::Plain, ServerConfig::default());
    let handle = server.handle();
    let config = config()
        .write_timeout(Duration::from_millis(200))
        .socket_buffers(Some(SMALL), None);
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| try_connect(Kind::Plain, &handle, config).unwrap());
        let mut accepted = server.accept_timeout(LONG).unwrap();
        let mut client = connecting.join().unwrap();
        let sender = client.sender().unwrap();
        // Takes longer than a small frame may wait, since nobody reads.
        sender.send(Frame::data(vec![0; 1 << 20])).unwrap();
        let mut count = 0;
        let error = loop {
            client.feed(&Frame::data(count.to_string())).unwrap();
            count += 1;
            if let Err(error) = client.flush() {
                break error;
            }
        };
        assert!(
            matches!(error, VstpError::Timeout(TimeoutKind::Send)),
            "{error:?}"
        );
        let receiving = scope.spawn(move || {
            let mut fed = Vec::new();
            while let Some(frame) = accepted.recv_timeout(LONG).unwrap() {
                fed.extend((frame.payload.len() < 100).then_some(frame.payload));
            }
            fed
        });
        until(|| client.flush().is_ok(), "the way is free");
        client.close().unwrap();
        let expected: Vec<_> = (0..count).map(|n| n.to_string().into_bytes()).collect();
        assert!(
            receiving.join().unwrap() == expected,
            "all of {count}, in order"
        );
    });
}

#[test]
fn a_long_reason_reaches_a_client_that_takes_short_frames() {
    let handler = |_: &Session, _: Frame| Err::<(), _>(HandlerError::from("no ".repeat(1000)));
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default()).spawn(handler).unwrap();
        let mut client = try_connect(kind, &server, config().max_frame_size(1024)).unwrap();
        let id = [b'i'; 255];
        for _ in 0..2 {
            client
                .send(&Frame::data("?").with_header("correlation-id", id))
                .unwrap();
            let error = client.recv().unwrap_err();
            assert!(
                matches!(&error, VstpError::ServerError(e) if e.message.starts_with("no no")),
                "{kind:?} {error:?}"
            );
        }
    }
}

#[test]
fn a_server_that_has_accepted_cannot_be_spawned_as_well() {
    let server = bind(Kind::Plain, ServerConfig::default());
    let none = server.accept_timeout(Duration::from_millis(1));
    assert!(matches!(none, Err(VstpError::Timeout(_))), "{none:?}");
    let spawned = server.spawn(echo_frame);
    assert!(matches!(spawned, Err(VstpError::Config(_))), "{spawned:?}");
}

#[test]
fn b06_a_peer_that_never_reads_its_acknowledgements_is_given_up() {
    let tcp = TcpConfig::default()
        .socket_buffers(Some(SMALL), Some(SMALL))
        // Long enough for a peer that has to wait for its turn on a loaded machine.
        .frame_timeout(Duration::from_secs(1))
        .write_timeout(Duration::from_millis(2500));
    let server = bind(Kind::Plain, ServerConfig::default().tcp(tcp));
    let mut stream = raw(&server.handle());
    let writer = std::thread::Builder::new()
        .spawn(move || {
            let frame = Frame::data("").with_flag(Flags::REQ_ACK);
            let bytes = encode_frame(&frame.with_header("msg-id", "1")).unwrap();
            while stream.write_all(&bytes.repeat(100)).is_ok() {}
        })
        .unwrap();
    let mut connection = server.accept_timeout(LONG).unwrap();
    let error = loop {
        if let Err(error) = connection.recv_timeout(LONG) {
            break error;
        }
    };
    // Not for a frame that did not end: it is this side that does not read on.
    assert!(
        matches!(error, VstpError::Timeout(TimeoutKind::Send)),
        "{error:?}"
    );
    drop(connection);
    writer.join().unwrap();
}
