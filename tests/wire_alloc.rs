//! What the codec, inflating and connections allocate, counted (rows A6, A8, A11 and G1). A binary of its own: the counter replaces
//! the global allocator, which makes untouched zeroed memory expensive for other tests.

use allocation_counter::measure;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use vstp::proto::datagram::{Endpoint, EndpointConfig, Event};
use vstp::serve::Session;
use vstp::wire::{self, Buffer, Decoded, Frame, Limits, Trailer};
use vstp::{Flags, FrameType, try_decode_frame};
use vstp::{VstpTcpClient, VstpTcpServer};

/// Reached only by a test that fails.
const LONG: Duration = Duration::from_secs(20);

fn frame(headers: usize, payload: &[u8]) -> Frame {
    (0..headers).fold(Frame::data(payload), |frame, _| {
        frame.with_header("key", "value")
    })
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    wire::encode(
        frame.as_ref(),
        Trailer::Always,
        &Limits::default(),
        &mut out,
    )
    .expect("the test's frame is encodable");
    out
}

/// Fixed header of a DATA frame without flags.
fn announce(header_len: u16, payload_len: u32) -> Vec<u8> {
    let mut bytes = b"VT\x01\x03\x00".to_vec();
    bytes.extend(header_len.to_le_bytes());
    bytes.extend(payload_len.to_be_bytes());
    bytes
}

#[test]
fn a06_a_borrowed_frame_allocates_nothing() {
    let bytes = encode(&frame(128, b"payload"));
    let info = measure(|| {
        let decoded = wire::decode(&bytes, Trailer::Always, &Limits::default());
        let Ok(Decoded::Frame(frame, _)) = decoded else {
            panic!("not whole")
        };
        assert_eq!(frame.headers.iter().count(), 128);
        assert_eq!(frame.header("absent"), None);
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a06_an_owned_frame_allocates_once_for_its_headers_and_once_for_its_payload() {
    for (headers, payload, expected) in [
        (0, &b""[..], 0),
        (0, b"payload", 1),
        (1, b"", 1),
        (128, b"", 1),
        (128, b"payload", 2),
    ] {
        let mut buffer = Buffer::from(encode(&frame(headers, payload)));
        let mut decoded = None;
        let info = measure(|| {
            decoded = try_decode_frame(&mut buffer, 1 << 20).expect("the frame is well-formed");
        });
        assert!(decoded.is_some());
        assert_eq!(
            info.count_total,
            expected,
            "{headers} headers, {} bytes",
            payload.len()
        );
    }
}

#[test]
fn a06_too_many_headers_are_refused_without_an_allocation() {
    let mut bytes = announce(65_534, 0);
    bytes.extend([0; 65_534]);
    bytes.extend(wire::crc::crc32(&bytes).to_be_bytes());
    let mut buffer = Buffer::from(bytes);
    let mut failed = false;
    let info = measure(|| failed = try_decode_frame(&mut buffer, 1 << 20).is_err());
    assert!(failed);
    assert_eq!(info.count_total, 0);
}

#[test]
fn a08_announced_lengths_allocate_nothing() {
    for bytes in [
        announce(0xffff, 0),
        announce(0, 0xffff_ffff),
        announce(0xffff, 0x7f_0000),
    ] {
        let mut buffer = Buffer::from(bytes);
        let info = measure(|| {
            let result = try_decode_frame(&mut buffer, 8 << 20);
            assert!(!matches!(result, Ok(Some(_))));
        });
        assert_eq!(info.count_total, 0);
    }
}

#[test]
fn a11_short_inputs_allocate_nothing() {
    let bytes = encode(&Frame::new(FrameType::Ping));
    for len in 0..bytes.len() {
        let mut buffer = Buffer::from(bytes[..len].to_vec());
        let info = measure(|| {
            let result = try_decode_frame(&mut buffer, 1024);
            assert!(matches!(result, Ok(None)));
        });
        assert_eq!(info.count_total, 0, "{len} bytes");
    }
}

#[test]
fn encoding_into_a_reused_buffer_allocates_nothing() {
    let frame = frame(20, &[7; 4096]).with_flag(Flags::REQ_ACK);
    let mut out = encode(&frame);
    let info = measure(|| {
        out.clear();
        let len = wire::encode(
            frame.as_ref(),
            Trailer::Always,
            &Limits::default(),
            &mut out,
        );
        assert_eq!(len, Ok(out.len()));
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn g1_inflating_holds_no_more_than_the_limit_and_64_kib() {
    use vstp::ext::compression::{compress, inflate};
    let limit = 1 << 20;
    let honest = compress(&vec![0; limit], 9).expect("zeros shrink");
    let mut out = None;
    let info = measure(|| out = Some(inflate(&honest, limit)));
    assert_eq!(out, Some(Ok(vec![0; limit])));
    let most = (limit + (64 << 10)) as u64;
    assert!(
        info.bytes_max <= most,
        "{} bytes for the largest honest one",
        info.bytes_max
    );

    let bomb = compress(&vec![0; 16 << 20], 9).expect("zeros shrink");
    // One that says how large it is, one that says that it is as large as allowed, and one that says little.
    for announced in [16 << 20, limit as u32, 100] {
        let mut bomb = bomb.clone();
        let at = bomb.len() - 4;
        bomb[at..].copy_from_slice(&u32::to_le_bytes(announced));
        let info = measure(|| assert!(inflate(&bomb, limit).is_err()));
        assert!(
            info.bytes_max <= most,
            "{} bytes for a bomb of {announced}",
            info.bytes_max
        );
    }
    // A few bytes that announce much get nothing.
    let mut liar = compress(&vec![0; 2000], 9).expect("zeros shrink");
    let at = liar.len() - 4;
    liar[at..].copy_from_slice(&u32::to_le_bytes(limit as u32));
    let info = measure(|| assert!(inflate(&liar, limit).is_err()));
    assert!(info.bytes_max <= 128 << 10, "{} bytes", info.bytes_max);
}

/// Allocations of the calling thread for each of a few round trips, once it is warm.
fn per_round_trip(mut trip: impl FnMut()) -> f64 {
    const COUNT: u64 = 64;
    (0..COUNT).for_each(|_| trip());
    let info = measure(|| (0..COUNT).for_each(|_| trip()));
    info.count_total as f64 / COUNT as f64
}

#[test]
fn a_client_that_lends_or_reuses_frames_allocates_nothing_and_one_that_owns_them_what_it_gets() {
    let certs = vstp::net::tls::dev::generate().expect("certificates");
    for tls in [false, true] {
        let server = if tls {
            VstpTcpServer::bind("127.0.0.1:0", certs.server().expect("its settings"))
        } else {
            VstpTcpServer::bind_plain("127.0.0.1:0")
        };
        let server = server.expect("it binds");
        let addr = server.local_addr();
        let handle = server
            .spawn(|_: &Session, frame: Frame| frame)
            .expect("it starts");
        let mut client = if tls {
            VstpTcpClient::connect(addr, &certs.client().expect("its settings"))
        } else {
            VstpTcpClient::connect_plain(addr)
        }
        .expect("it connects");
        let frame = frame(1, &[7; 64]);
        let lent = per_round_trip(|| {
            client.send(&frame).expect("it is sent");
            assert!(client.recv_ref().expect("an answer").is_some());
        });
        let mut reused = Frame::data("");
        let reused = per_round_trip(|| {
            client.send(&frame).expect("it is sent");
            assert!(client.recv_into(&mut reused).expect("an answer"));
        });
        let owned = per_round_trip(|| {
            client.send(&frame).expect("it is sent");
            assert!(client.recv().expect("an answer").is_some());
        });
        // rustls makes a vector of each record, in both directions.
        let records = if tls { 2.0 } else { 0.0 };
        let expected = (records, records, records + 2.0);
        assert_eq!((lent, reused, owned), expected, "TLS: {tls}");
        client.close().expect("it closes");
        handle.shutdown(LONG);
    }
}

/// Two endpoints, and what each has to send handed to the other, until both are quiet.
struct Pair {
    sides: [(Endpoint, SocketAddr); 2],
    out: Vec<u8>,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let now = vstp::net::clock::now();
        let side = |number: u8| {
            let addr = SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(number)));
            let config = EndpointConfig::default();
            (Endpoint::new(config, [number; 32], now), addr)
        };
        Self {
            sides: [side(1), side(2)],
            out: Vec::new(),
            now,
        }
    }

    fn settle(&mut self) {
        // So that pacing has nothing to say.
        self.now += Duration::from_millis(10);
        for (endpoint, _) in &mut self.sides {
            endpoint.handle_timeout(self.now);
        }
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for from in 0..2 {
                let (from_addr, to) = (self.sides[from].1, 1 - from);
                while self.sides[from]
                    .0
                    .poll_transmit(self.now, 1, &mut self.out)
                    .is_some()
                {
                    moved = true;
                    let endpoint = &mut self.sides[to].0;
                    endpoint.handle_datagram(self.now, from_addr, &self.out, true);
                }
            }
        }
    }

    /// The next message of a side.
    fn message(&mut self, side: usize) -> Frame {
        loop {
            match self.sides[side].0.poll_event().expect("a message") {
                Event::Message { frame, .. } => return frame,
                _ => continue,
            }
        }
    }
}

#[test]
fn a_datagram_there_and_back_allocates_what_the_applications_get() {
    let mut pair = Pair::new();
    let (a, b) = (pair.sides[0].1, pair.sides[1].1);
    let request = Frame::data([7; 64]);
    let once = per_round_trip(|| {
        let sent = pair.sides[0].0.send(pair.now, b, request.as_ref());
        sent.expect("it is sent");
        pair.settle();
        let message = pair.message(1);
        let sent = pair.sides[1].0.send(pair.now, a, message.as_ref());
        sent.expect("it is answered");
        pair.settle();
        pair.message(0);
    });
    let acknowledged = per_round_trip(|| {
        let request = request.clone();
        let sent = pair.sides[0].0.send_with_ack(pair.now, b, request);
        sent.expect("it is sent");
        pair.settle();
        let message = pair.message(1);
        let sent = pair.sides[1].0.send_with_ack(pair.now, a, message);
        sent.expect("it is answered");
        pair.settle();
        pair.message(0);
    });
    // A payload for each application; tables that grow are a few in all. The test clones the request.
    assert!((2.0..2.5).contains(&once), "{once}");
    assert!((3.0..3.5).contains(&acknowledged), "{acknowledged}");
}
