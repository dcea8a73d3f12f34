//! Streams that are cut, slow, stuck or flooded.

use crate::util::{BOTH, Kind, LONG, bind, config, connect, echo, try_connect};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use vstp::error::{ClosedBy, TimeoutKind};
use vstp::net::clock;
use vstp::net::tcp::TcpConfig;
use vstp::serve::{ServerConfig, ServerHandle, Session};
use vstp::wire::crc::crc32;
use vstp::{Frame, FrameType, VstpError, encode_frame};

/// A socket that speaks for itself; its calls end.
fn raw(server: &ServerHandle) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// What the server sends until it closes.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset after the last byte is an end as well.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// The code of the ERR frame among the bytes.
fn err_code(bytes: &[u8]) -> Option<String> {
    let mut buffer = vstp::wire::Buffer::from(bytes.to_vec());
    while let Ok(Some(frame)) = vstp::try_decode_frame(&mut buffer, 1 << 20) {
        if frame.typ == FrameType::Err {
            return frame.header_str("code").map(str::to_owned);
        }
    }
    None
}

/// Another client is served as ever.
fn unharmed(kind: Kind, server: &ServerHandle) {
    let mut client = connect(kind, server);
    for n in 0..100 {
        let frame = Frame::data(n.to_string());
        client.send(&frame).unwrap();
        assert_eq!(client.recv().unwrap(), Some(frame));
    }
}

fn quick(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn b03_a_reset_inside_a_frame_delivers_nothing_of_it() {
    let bytes = encode_frame(&Frame::data("partial").with_header("k", "v")).unwrap();
    for cut in [1, 5, 11, 16, bytes.len() - 1] {
        let server = bind(Kind::Plain, ServerConfig::default());
        let handle = server.handle();
        let mut stream = raw(&handle);
        stream
            .write_all(&encode_frame(&Frame::data("whole")).unwrap())
            .unwrap();
        stream.write_all(&bytes[..cut]).unwrap();
        let mut connection = server.accept_timeout(LONG).unwrap();
        assert_eq!(
            connection.recv_timeout(LONG).unwrap(),
            Some(Frame::data("whole"))
        );
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(stream);
        let error = connection.recv_timeout(LONG).unwrap_err();
        assert!(
            matches!(error, VstpError::ConnectionClosed(ClosedBy::Reset)),
            "{error:?} at {cut}"
        );
    }
}

#[test]
fn b04_requests_before_a_half_close_are_answered() {
    let server = echo(Kind::Plain, ServerConfig::default());
    let mut stream = raw(&server);
    let frames: Vec<_> = (0..20).map(|n| Frame::data(n.to_string())).collect();
    let bytes: Vec<u8> = frames
        .iter()
        .flat_map(|f| encode_frame(f).unwrap())
        .collect();
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(stream), bytes, "every answer, then the end");
}

#[test]
fn b05_an_announced_length_is_judged_from_the_head_and_costs_nothing() {
    let limit = 1 << 20;
    let tcp = TcpConfig::default()
        .max_frame_size(limit)
        .frame_timeout(quick(300));
    let server = echo(
        Kind::Plain,
        ServerConfig::default().tcp(tcp).max_per_address(500),
    );
    let head = |payload_len: u32| {
        let mut head = *b"VT\x01\x03\0\0\0\0\0\0\0";
        head[7..].copy_from_slice(&payload_len.to_be_bytes());
        head
    };
    for len in [limit as u32 - 14, u32::MAX] {
        let mut stream = raw(&server);
        stream.write_all(&head(len)).unwrap();
        assert_eq!(
            err_code(&rest(stream)).as_deref(),
            Some("too-large"),
            "{len}"
        );
    }
    let before = resident();
    // Fewer than there are slots for handshakes: these have not said anything yet.
    let streams: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = raw(&server);
            stream.write_all(&head(limit as u32 - 15)).unwrap();
            stream
        })
        .collect();
    unharmed(Kind::Plain, &server);
    let grown = resident().saturating_sub(before) / 100;
    assert!(grown < 128 << 10, "{grown} bytes for each announced MiB");
    for stream in streams {
        // The allowance for a frame of this length is far away; closing is enough here.
        drop(stream);
    }
}

/// Bytes of memory that this process has in use.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

#[test]
fn b06_a_peer_that_does_not_read_ends_sending_only() {
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default());
        let handle = server.handle();
        std::thread::scope(|scope| {
            let config = config()
                .write_timeout(quick(200))
                .socket_buffers(Some(16 << 10), None);
            let connecting = scope.spawn(|| try_connect(kind, &handle, config).unwrap());
            let mut stalled = server.accept_timeout(LONG).unwrap();
            let (mut reader, mut writer) = connecting.join().unwrap().split();
            let frame = Frame::data(vec![0; 2000]);
            let error = (0..1_000_000)
                .find_map(|_| writer.send(&frame).err())
                .unwrap();
            assert!(
                matches!(error, VstpError::Timeout(TimeoutKind::Send)),
                "{error:?}"
            );
            assert!(matches!(
                writer.send(&frame),
                Err(VstpError::ConnectionClosed(_))
            ));
            stalled.send(&Frame::data("still here")).unwrap();
            assert_eq!(
                reader.recv().unwrap(),
                Some(Frame::data("still here")),
                "{kind:?}"
            );
        });
    }
}

#[test]
fn b07_silent_and_dripping_peers_are_cut_at_the_handshake_deadline() {
    for kind in BOTH {
        let tcp = TcpConfig::default().handshake_timeout(quick(300));
        let server = echo(kind, ServerConfig::default().tcp(tcp).max_per_address(500));
        let began = clock::now();
        let mut streams: Vec<_> = (0..100).map(|_| raw(&server)).collect();
        unharmed(kind, &server);
        // A byte of a real beginning now and then does not move the deadline.
        let bytes = if kind == Kind::Tls {
            b"\x16\x03\x01\x02\0\x01"
        } else {
            b"VT\x01\x01\0\0"
        };
        for byte in bytes {
            for stream in &mut streams {
                let _ = stream.write_all(&[*byte]);
            }
        }
        for stream in streams {
            rest(stream);
        }
        let took = began.elapsed();
        assert!(took >= quick(300) && took < LONG, "{took:?}");
        until(|| server.stats().handshake_timeouts == 100, "100 timeouts");
        unharmed(kind, &server);
    }
}

/// Waits for something that another thread brings about.
fn until(done: impl Fn() -> bool, what: &str) {
    let deadline = clock::now() + LONG;
    while !done() {
        assert!(clock::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn b08_a_frame_that_does_not_end_is_cut_and_a_slow_one_is_not() {
    let tcp = TcpConfig::default().frame_timeout(quick(300));
    let server = bind(Kind::Plain, ServerConfig::default().tcp(tcp));
    let handle = server.handle();
    let bytes = encode_frame(&Frame::data("slow")).unwrap();

    let mut stream = raw(&handle);
    stream.write_all(&bytes).unwrap();
    let mut connection = server.accept_timeout(LONG).unwrap();
    assert!(connection.recv_timeout(LONG).unwrap().is_some());
    stream.write_all(&bytes[..12]).unwrap();
    let began = clock::now();
    let error = connection.recv_timeout(LONG).unwrap_err();
    assert!(
        matches!(error, VstpError::Timeout(TimeoutKind::Frame)),
        "{error:?}"
    );
    assert!(began.elapsed() >= quick(250), "{:?}", began.elapsed());
    assert_eq!(err_code(&rest(stream)).as_deref(), Some("timeout"));

    // The twin: in pieces, but in time; and a timed-out recv has lost nothing.
    let mut stream = raw(&handle);
    stream.write_all(&bytes[..7]).unwrap();
    let mut connection = std::thread::scope(|scope| {
        let accepting = scope.spawn(|| server.accept_timeout(LONG).unwrap());
        stream.write_all(&bytes[7..]).unwrap();
        accepting.join().unwrap()
    });
    assert_eq!(
        connection.recv_timeout(LONG).unwrap(),
        Some(Frame::data("slow"))
    );
    stream.write_all(&bytes[..9]).unwrap();
    for _ in 0..3 {
        let error = connection.recv_timeout(quick(20)).unwrap_err();
        assert!(
            matches!(error, VstpError::Timeout(TimeoutKind::Recv)),
            "{error:?}"
        );
    }
    stream.write_all(&bytes[9..]).unwrap();
    assert_eq!(
        connection.recv_timeout(LONG).unwrap(),
        Some(Frame::data("slow"))
    );
}

#[test]
fn b10_a_silent_session_ends_at_the_idle_timeout_and_keep_alive_prevents_it() {
    for kind in BOTH {
        let silent = config().keepalive_interval(None);
        let tcp = silent.clone().idle_timeout(Some(quick(300)));
        let server = echo(kind, ServerConfig::default().tcp(tcp));
        let mut client = try_connect(kind, &server, silent).unwrap();
        let error = client.recv().unwrap_err();
        assert!(
            matches!(&error, VstpError::ServerError(e) if e.message.contains("silent")),
            "{error:?}"
        );
        // The twin sends nothing either, but its keep-alive does.
        let kept = config().keepalive_interval(Some(quick(50)));
        let mut client = try_connect(kind, &server, kept).unwrap();
        let error = client.recv_timeout(quick(900)).unwrap_err();
        assert!(
            matches!(error, VstpError::Timeout(TimeoutKind::Recv)),
            "{kind:?} {error:?}"
        );
        client.send(&Frame::data("alive")).unwrap();
        assert_eq!(client.recv().unwrap(), Some(Frame::data("alive")));
    }
}

#[test]
fn b12_a_frame_written_in_single_bytes_arrives() {
    let server = echo(Kind::Plain, ServerConfig::default());
    let bytes = encode_frame(&Frame::data(vec![7; 20_000])).unwrap();
    let mut stream = raw(&server);
    stream.set_nodelay(true).unwrap();
    for byte in &bytes {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, bytes);
}

#[test]
fn b14_a_flood_ahead_of_a_slow_handler_is_answered_in_order() {
    let frames = 20_000;
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default());
        let (mut reader, mut writer) = connect(kind, &server).split();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..frames {
                    writer.feed(&Frame::data(n.to_string())).unwrap();
                }
                writer.flush().unwrap();
            });
            for n in 0..frames {
                let frame = reader.recv().unwrap().unwrap();
                assert_eq!(frame.payload, n.to_string().into_bytes(), "{kind:?}");
            }
        });
    }
}

/// How much each side sends at once: a little in everyday runs, 1 GiB with VSTP_FULL=1.
fn duplex_len() -> usize {
    if std::env::var_os("VSTP_FULL").is_some() {
        1 << 30
    } else {
        64 << 20
    }
}

#[test]
fn b15_both_sides_send_at_once_through_small_buffers() {
    const FRAME: usize = 256 << 10;
    let payload: Vec<u8> = (0..FRAME).map(|n| (n * 31) as u8).collect();
    let (expected, frames) = (crc32(&payload), duplex_len() / FRAME);
    for kind in BOTH {
        let small = config().socket_buffers(Some(16 << 10), Some(16 << 10));
        let server = bind(kind, ServerConfig::default().tcp(small.clone()));
        let handle = server.handle();
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| try_connect(kind, &handle, small).unwrap());
            let accepted = server.accept_timeout(LONG).unwrap();
            let halves = [connecting.join().unwrap().split(), accepted.split()];
            let mut sending = Vec::new();
            let mut receiving = Vec::new();
            for (mut reader, mut writer) in halves {
                let payload = &payload;
                sending.push(scope.spawn(move || {
                    for n in 0..frames {
                        let frame = Frame::data(payload.as_slice()).with_header("n", n.to_string());
                        writer.send(&frame).unwrap();
                    }
                    writer
                }));
                receiving.push(scope.spawn(move || {
                    for n in 0..frames {
                        let frame = reader.recv_ref().unwrap().unwrap();
                        assert_eq!(crc32(frame.payload), expected, "{kind:?} {n}");
                        let number = n.to_string();
                        assert_eq!(frame.header("n"), Some(number.as_bytes()));
                    }
                    reader
                }));
            }
            // A goodbye ends both directions, so it is said when both have everything.
            let readers: Vec<_> = receiving.into_iter().map(|t| t.join().unwrap()).collect();
            let mut writers: Vec<_> = sending.into_iter().map(|t| t.join().unwrap()).collect();
            writers.remove(0).close().unwrap();
            for mut reader in readers.into_iter().rev() {
                assert!(reader.recv().unwrap().is_none(), "{kind:?}");
            }
        });
    }
}

#[test]
fn a_handler_can_push_and_the_session_knows_its_client() {
    let handler = |session: &Session, frame: Frame| {
        let sender = session.sender().unwrap();
        sender
            .send(Frame::data(format!("push to {}", session.peer_addr())))
            .unwrap();
        frame
    };
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default()).spawn(handler).unwrap();
        let mut client = connect(kind, &server);
        client.send(&Frame::data("x")).unwrap();
        let mut got = [
            client.recv().unwrap().unwrap(),
            client.recv().unwrap().unwrap(),
        ];
        got.sort_by_key(|frame| frame.payload.len());
        assert_eq!(got[0].payload, b"x");
        assert_eq!(
            got[1].payload,
            format!("push to {}", client.local_addr()).into_bytes()
        );
    }
}
