//! Section 4.11: each reason counts when the table says so, and nothing is answered.

use super::datagrams::origin;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use vstp::proto::datagram::{DropReason, Endpoint, EndpointConfig};
use vstp::proto::rate::RateLimit;
use vstp::{Flags, Frame, FrameType};

const FROM: &str = "192.0.2.2:5000";

/// A server that gets single datagrams.
struct Server {
    now: Instant,
    endpoint: Endpoint,
}

impl Server {
    fn new() -> Self {
        let now = origin();
        let mut config = EndpointConfig::default();
        config.accept_sessions = true;
        let endpoint = Endpoint::new(config, [1; 32], now);
        Self { now, endpoint }
    }

    fn gets(&mut self, from: &str, datagram: &[u8], room: bool) {
        let from: SocketAddr = from.parse().expect("an address");
        self.endpoint
            .handle_datagram(self.now, from, datagram, room);
    }

    fn gets_frame(&mut self, frame: &Frame) {
        self.gets(FROM, &encoded(frame), true);
    }

    /// What it sends now.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        while self.endpoint.poll_transmit(self.now, 1, &mut out).is_some() {
            all.push(out.clone());
        }
        all
    }

    /// Exactly one drop for this reason, and no answer.
    fn dropped_silently(mut self, reason: DropReason) {
        assert_eq!(self.sent(), [[0; 0]; 0], "{reason:?}");
        let stats = self.endpoint.stats();
        let counted = (stats.dropped(reason), stats.dropped_total());
        assert_eq!(counted, (1, 1), "{reason:?}");
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    vstp::encode_frame(frame).expect("it can be expressed")
}

fn only(datagram: &[u8], reason: DropReason) {
    let mut server = Server::new();
    server.gets(FROM, datagram, true);
    server.dropped_silently(reason);
}

fn fragment(id: &str, index: &str, chunk: &[u8]) -> Frame {
    Frame::data(chunk)
        .with_flag(Flags::FRAG)
        .with_header("frag-id", id)
        .with_header("frag-index", index)
        .with_header("frag-total", "2")
        .with_header("frag-len", "40")
}

#[test]
fn what_is_no_frame_is_dropped() {
    let hello = encoded(&Frame::data("Hello"));
    only(b"", DropReason::Malformed);
    only(b"GET / HTTP/1.1\r\n", DropReason::Malformed);
    only(&hello[..hello.len() - 1], DropReason::Malformed);
    only(&[&hello[..], b"x"].concat(), DropReason::Malformed);
    only(&[&hello[..], &hello[..]].concat(), DropReason::Malformed);
    let mut damaged = hello.clone();
    damaged[12] ^= 1;
    only(&damaged, DropReason::BadCrc);
    for from in [
        "192.0.2.2:0",
        "224.0.0.1:5000",
        "255.255.255.255:5000",
        "[ff02::1]:5000",
        "0.0.0.0:5000",
    ] {
        let mut server = Server::new();
        server.gets(from, &hello, true);
        server.dropped_silently(DropReason::BadSource);
    }
}

#[test]
fn what_means_nothing_without_a_session_is_dropped() {
    let sid = Frame::data("x").with_header("sid", [7; 16]);
    only(&encoded(&sid), DropReason::UnknownSession);
    for frame in [
        Frame::new(FrameType::Ack).with_header("msg-id", "1"),
        Frame::new(FrameType::Welcome).with_header("cookie", "c"),
        Frame::new(FrameType::Err).with_header("code", "busy"),
        Frame::new(FrameType::Bye),
        Frame::new(FrameType::Pong),
    ] {
        only(&encoded(&frame), DropReason::Unexpected);
    }
    let short = Frame::new(FrameType::Hello).with_payload(vec![0; 1184]);
    only(&encoded(&short), DropReason::Hello);
    let forged = Frame::new(FrameType::Hello)
        .with_header("cookie", [7; 40])
        .with_payload(vec![0; 1200]);
    only(&encoded(&forged), DropReason::Hello);
}

#[test]
fn what_may_not_stand_in_a_frame_is_dropped() {
    for frame in [
        Frame::data("").with_header("sid", [7; 15]),
        Frame::data("")
            .with_header("msg-id", "1")
            .with_header("msg-id", "1"),
        Frame::data("").with_header("msg-id", "01"),
        Frame::data("").with_flag(Flags::COMP),
        Frame::new(FrameType::Ping).with_flag(Flags::REQ_ACK),
        Frame::new(FrameType::Ping).with_payload(vec![0; 65]),
    ] {
        only(&encoded(&frame), DropReason::Invalid);
    }
    let types = [FrameType::Data, FrameType::Custom(0x10)];
    for frame in [
        Frame::data("").with_header("frag-id", "1"),
        Frame::data("x").with_flag(Flags::FRAG),
        fragment("1", "2", &[0; 20]),
        fragment("1", "0", &[0; 20]).with_header("msg-id", "1"),
        fragment("1", "0", &[0; 19]),
        Frame {
            typ: types[1],
            ..fragment("1", "0", &[0; 20])
        },
    ] {
        only(&encoded(&frame), DropReason::BadFragment);
    }
}

#[test]
fn what_was_there_comes_late_or_finds_no_room_is_dropped() {
    let message = Frame::data("x").with_header("msg-id", "1");
    let mut server = Server::new();
    server.gets_frame(&message);
    server.gets_frame(&message);
    server.dropped_silently(DropReason::Duplicate);

    let mut server = Server::new();
    let wanted = message.with_flag(Flags::REQ_ACK);
    server.gets(FROM, &encoded(&wanted), false);
    server.dropped_silently(DropReason::QueueFull);

    // The first four sets are within the limit of a stranger. Without REQ_ACK they would make room.
    let mut server = Server::new();
    let inner = encoded(&Frame::data([0; 25]).with_flag(Flags::REQ_ACK));
    for id in ["1", "2", "3", "4", "5"] {
        server.gets_frame(&fragment(id, "0", &inner[..20]).with_flag(Flags::REQ_ACK));
    }
    server.dropped_silently(DropReason::Budget);

    // A set whose first bytes are no frame has ended with them.
    let mut server = Server::new();
    server.gets_frame(&fragment("1", "0", &[0; 20]));
    server.gets_frame(&fragment("1", "1", &[0; 20]));
    assert_eq!(server.endpoint.reassembly_set_count(), 0);
    let count = |reason| server.endpoint.stats().dropped(reason);
    assert_eq!(count(DropReason::BadFragment), 1);
    assert_eq!(count(DropReason::LateFragment), 1);
}

#[test]
fn what_is_not_recognised_or_over_the_rate_is_dropped() {
    let message = encoded(&Frame::data("x"));
    let with = |change: fn(&mut EndpointConfig)| {
        let mut server = Server::new();
        let mut config = server.endpoint.config().clone();
        change(&mut config);
        server.endpoint = Endpoint::new(config, [1; 32], server.now);
        server
    };
    let error = Frame::new(FrameType::Err).with_header("correlation-id", "1");
    for frame in [&message, &encoded(&error)] {
        let mut server = with(|config| config.auth_timeout = Some(Duration::from_secs(5)));
        server.gets(FROM, frame, true);
        server.dropped_silently(DropReason::Unauthorized);
    }
    let mut server = with(|config| config.rate_limit = Some(RateLimit::default().frames(1, 2)));
    for _ in 0..3 {
        server.gets(FROM, &message, true);
    }
    // Another port of that address is the same client, another address is not.
    server.gets("192.0.2.3:5000", &message, true);
    server.dropped_silently(DropReason::RateLimited);
}

#[test]
fn ping_is_answered_within_its_budget_in_a_session() {
    let mut server = Server::new();
    let hello = Frame::new(FrameType::Hello).with_payload(vec![0; 1185]);
    server.gets_frame(&hello);
    let header = |datagram: &[u8], key: &str| {
        let frame = &super::dump::frames(datagram)[0];
        frame.header(key).expect("it is there").to_vec()
    };
    let cookie = header(&server.sent()[0], "cookie");
    server.gets_frame(&hello.with_header("cookie", cookie));
    let sid = header(&server.sent()[0], "sid");
    let ping = Frame::new(FrameType::Ping)
        .with_header("sid", sid)
        .with_payload(vec![7; 64]);
    for _ in 0..21 {
        server.gets_frame(&ping);
    }
    assert_eq!(server.sent().len(), 20);
    server.dropped_silently(DropReason::Calm);
}
