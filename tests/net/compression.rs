//! Compressed messages between real peers, and members that are none.

use crate::util::{BOTH, Kind, LONG, bind, certs, config, echo, try_connect};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use vstp::ext::CompressionConfig;
use vstp::ext::compression::compress;
use vstp::net::clock;
use vstp::net::udp::UdpConfig;
use vstp::proto::datagram::{DropReason, Endpoint, EndpointConfig, Event};
use vstp::proto::keys::Features;
use vstp::serve::{ServerConfig, Session, UdpPeer, UdpServerHandle};
use vstp::wire::Buffer;
use vstp::{
    Flags, Frame, FrameType, VstpClient, VstpServer, VstpUdpClient, VstpUdpServer, encode_frame,
    try_decode_frame,
};

const LOCAL: &str = "127.0.0.1:0";

/// Words that repeat, so that a third of it is enough.
fn text(len: usize) -> Vec<u8> {
    let words = [
        "frame ", "header ", "payload ", "window ", "trailer ", "peer ",
    ];
    let mut state = 1_u32;
    let mut out = Vec::new();
    while out.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(words[(state >> 16) as usize % words.len()].as_bytes());
    }
    out.truncate(len);
    out
}

fn on() -> CompressionConfig {
    CompressionConfig::default()
}

fn gzip() -> Features {
    "gzip".parse().unwrap()
}

#[test]
fn over_tcp_and_tls_messages_arrive_as_they_were_sent_in_fewer_bytes() {
    let payload = text(100_000);
    for kind in BOTH {
        let sent = payload.clone();
        let server = bind(kind, ServerConfig::default().compression(on()))
            .spawn(move |session: &Session, frame: Frame| {
                assert!(session.features().contains("gzip"));
                assert_eq!(frame.flags & Flags::COMP, Flags::empty());
                assert_eq!(frame.payload, sent);
                Frame {
                    flags: Flags::empty(),
                    ..frame
                }
            })
            .unwrap();
        let mut client = try_connect(kind, &server, config().compression(on())).unwrap();
        let frame = Frame::new(FrameType::Custom(0x20))
            .with_header("n", "1")
            .with_payload(payload.clone());
        client.send(&frame).unwrap();
        assert_eq!(client.recv().unwrap().as_ref(), Some(&frame), "{kind:?}");
        client.feed(&frame).unwrap();
        client.flush().unwrap();
        assert_eq!(client.recv_ref().unwrap(), Some(frame.as_ref()), "{kind:?}");
        client.sender().unwrap().send(frame.clone()).unwrap();
        assert_eq!(client.recv().unwrap().as_ref(), Some(&frame), "{kind:?}");
        client.send_with_ack(frame.clone()).unwrap();
        let acked = client.recv().unwrap().unwrap();
        assert_eq!((acked.typ, acked.payload), (frame.typ, payload.clone()));
        let stats = client.stats();
        let all = 4 * payload.len() as u64;
        let most = stats.bytes_sent.max(stats.bytes_received);
        assert!(most < all / 2, "{most} bytes for {all}: {kind:?}");
        let (mut reader, mut writer) = client.split();
        writer.send(&frame).unwrap();
        assert_eq!(reader.recv().unwrap(), Some(frame));
        writer.close().unwrap();
        assert_eq!(reader.recv().unwrap(), None);
        server.shutdown(LONG);
    }
}

#[test]
fn where_one_side_has_none_messages_stay_as_they_are() {
    let frame = Frame::data(text(50_000));
    for (theirs, ours) in [(true, false), (false, true), (false, false)] {
        let server = ServerConfig::default();
        let server = if theirs {
            server.compression(on())
        } else {
            server
        };
        let server = echo(Kind::Plain, server);
        let config = if ours {
            config().compression(on())
        } else {
            config()
        };
        let mut client = try_connect(Kind::Plain, &server, config).unwrap();
        // A wish is no order: what the peer cannot read is sent as it is.
        client.send(&frame.clone().with_flag(Flags::COMP)).unwrap();
        assert_eq!(client.recv().unwrap().as_ref(), Some(&frame));
        let stats = client.stats();
        assert!(
            stats.bytes_sent > 50_000 && stats.bytes_received > 50_000,
            "{theirs} {ours}"
        );
    }
}

#[test]
fn g7_nothing_is_compressed_that_was_not_asked_for() {
    let len = 20_000_u64;
    let frame = Frame::data(text(len as usize));
    let marked = frame.clone().with_flag(Flags::COMP);
    let only = on().only_marked(true);
    let server = echo(Kind::Tls, ServerConfig::default().compression(only));
    // Having the feature is not asking for it, nor is a configuration for marked messages.
    for config in [config().features(gzip()), config().compression(only)] {
        let mut client = try_connect(Kind::Tls, &server, config).unwrap();
        client.send(&frame).unwrap();
        assert_eq!(client.recv().unwrap().as_ref(), Some(&frame));
        let before = client.stats();
        assert!(before.bytes_sent > len && before.bytes_received > len);
        client.send(&marked).unwrap();
        assert_eq!(client.recv().unwrap().as_ref(), Some(&frame));
        let after = client.stats();
        assert!(after.bytes_sent - before.bytes_sent < len / 2, "it asked");
        assert!(
            after.bytes_received - before.bytes_received > len,
            "the answer did not"
        );
    }
    let small = on().min_size(30_000);
    let mut client = try_connect(Kind::Tls, &server, config().compression(small)).unwrap();
    client.send(&marked).unwrap();
    assert!(client.stats().bytes_sent > len, "below the least size");
}

#[test]
fn what_can_be_sent_does_not_depend_on_what_it_shrinks_to() {
    let tcp = vstp::net::tcp::TcpConfig::default().max_frame_size(10_000);
    let server = echo(
        Kind::Plain,
        ServerConfig::default().tcp(tcp).compression(on()),
    );
    let mut client = try_connect(Kind::Plain, &server, config().compression(on())).unwrap();
    let error = client.send(&Frame::data(vec![0; 20_000])).unwrap_err();
    assert!(
        matches!(error, vstp::VstpError::FrameTooLarge { limit: 10_000, .. }),
        "{error:?}"
    );
    let fits = Frame::data(vec![0; 9_900]);
    client.send(&fits).unwrap();
    assert_eq!(client.recv().unwrap(), Some(fits));
}

/// A peer that says HELLO with these features and then speaks for itself.
fn raw(to: SocketAddr, features: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let hello = Frame::new(FrameType::Hello).with_header("features", features);
    stream.write_all(&encode_frame(&hello).unwrap()).unwrap();
    assert_eq!(next(&mut stream).unwrap().typ, FrameType::Welcome);
    stream
}

fn next(stream: &mut TcpStream) -> Option<Frame> {
    let mut buffer = Buffer::new();
    let mut byte = [0];
    loop {
        if let Some(frame) = try_decode_frame(&mut buffer, 1 << 20).unwrap() {
            return Some(frame);
        }
        match stream.read(&mut byte) {
            Ok(1) => buffer.extend_from_slice(&byte),
            _ => return None,
        }
    }
}

/// Members that are refused: a bomb, two members, a cut, a wrong checksum.
fn bad_members() -> Vec<Vec<u8>> {
    let whole = compress(&text(5000), 6).unwrap();
    let bomb = compress(&vec![0; 200_000], 9).unwrap();
    let mut flipped = whole.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    let twice = [&whole[..], &whole].concat();
    vec![
        bomb,
        twice,
        whole[..whole.len() / 2].to_vec(),
        flipped,
        Vec::new(),
    ]
}

#[test]
fn g3_what_cannot_be_inflated_ends_that_connection_and_no_other() {
    let tcp = vstp::net::tcp::TcpConfig::default().max_frame_size(100_000);
    let server = echo(
        Kind::Plain,
        ServerConfig::default().tcp(tcp).compression(on()),
    );
    let mut other = try_connect(Kind::Plain, &server, config().compression(on())).unwrap();
    for member in bad_members() {
        let mut peer = raw(server.local_addr(), "gzip");
        let bad = Frame::data(member)
            .with_flag(Flags::COMP)
            .with_flag(Flags::REQ_ACK)
            .with_header("msg-id", "1");
        peer.write_all(&encode_frame(&bad).unwrap()).unwrap();
        let end = next(&mut peer).unwrap();
        assert_eq!(
            (end.typ, end.header_str("code")),
            (FrameType::Err, Some("protocol"))
        );
        assert_eq!(
            next(&mut peer),
            None,
            "nothing was acknowledged, nothing follows"
        );
        let unharmed = Frame::data(text(9000));
        other.send(&unharmed).unwrap();
        assert_eq!(other.recv().unwrap(), Some(unharmed));
    }
}

#[test]
fn g4_comp_without_the_feature_or_on_a_control_frame_ends_the_connection() {
    let server = echo(Kind::Plain, ServerConfig::default().compression(on()));
    let comp = |typ| {
        let frame = Frame::new(typ).with_flag(Flags::COMP);
        encode_frame(&frame.with_payload(&b"\x1f\x8b"[..])).unwrap()
    };
    for (features, typ) in [("later", FrameType::Data), ("gzip", FrameType::Ping)] {
        let mut peer = raw(server.local_addr(), features);
        peer.write_all(&comp(typ)).unwrap();
        let end = next(&mut peer).unwrap();
        assert_eq!(end.header_str("code"), Some("protocol"), "{features} {typ}");
    }
}

fn udp() -> UdpConfig {
    UdpConfig::default().read_timeout(Some(LONG))
}

fn udp_echo(config: UdpConfig) -> UdpServerHandle {
    let server = VstpUdpServer::bind_with_config(LOCAL, config).unwrap();
    server
        .workers(2)
        .spawn(|_: &UdpPeer, frame: Frame| frame)
        .unwrap()
}

#[test]
fn over_udp_messages_are_compressed_in_sessions_and_then_cut() {
    let server = udp_echo(udp().compression(on()));
    let to = server.local_addr();
    let client = VstpUdpClient::bind_with_config(LOCAL, udp().compression(on())).unwrap();
    let (small, large) = (text(1100), text(1_000_000));
    // Without a session there are no features.
    client
        .send_with_ack(Frame::data(small.clone()), to)
        .unwrap();
    assert_eq!(client.recv().unwrap().0, Frame::data(small.clone()));
    assert!(client.stats().protocol.bytes_sent > 1100);
    assert!(client.connect(to).unwrap().features().contains("gzip"));
    for payload in [small, large] {
        let frame = Frame::data(payload).with_header("n", "1");
        let before = client.stats().protocol.bytes_sent;
        client.send_with_ack(frame.clone(), to).unwrap();
        assert_eq!(client.recv().unwrap(), (frame.clone(), to));
        client
            .start_send(frame.clone(), to)
            .unwrap()
            .wait()
            .unwrap();
        assert_eq!(client.recv().unwrap().0, frame);
        let sent = client.stats().protocol.bytes_sent - before;
        let most = 2 * frame.payload.len() as u64;
        assert!(sent < most * 3 / 4, "{sent} bytes for {most}");
    }
    assert_eq!(client.stats().protocol.dropped(DropReason::Compression), 0);
}

#[test]
fn g3_over_udp_what_cannot_be_inflated_is_dropped_and_counted() {
    let server = udp_echo(udp().compression(on()).max_frame_size(100_000));
    let to = server.local_addr();
    let mut config = EndpointConfig::default();
    config.features = "bundle,gzip".parse().unwrap();
    let mut peer = RawUdp::new(config);
    peer.endpoint.connect(clock::now(), to).unwrap();
    peer.until(|event| matches!(event, Event::Connected { .. }));
    let members = bad_members();
    for member in &members {
        let bad = Frame::data(member.clone()).with_flag(Flags::COMP);
        peer.endpoint.send(clock::now(), to, bad.as_ref()).unwrap();
    }
    let good = Frame::data(compress(&text(5000), 6).unwrap()).with_flag(Flags::COMP);
    peer.endpoint.send(clock::now(), to, good.as_ref()).unwrap();
    // Two workers: the last may overtake one before it, but all are taken by then or soon.
    let echoed = peer.until(|event| matches!(event, Event::Message { .. }));
    let Event::Message { frame, .. } = echoed else {
        panic!("no message")
    };
    assert_eq!(
        vstp::ext::compression::inflate(&frame.payload, 5000).unwrap(),
        text(5000)
    );
    let count = || server.stats().protocol.dropped(DropReason::Compression);
    crate::limits::until(|| count() == members.len() as u64, "all bad ones counted");
}

/// An endpoint with a socket, which sends what it likes.
struct RawUdp {
    endpoint: Endpoint,
    socket: UdpSocket,
}

impl RawUdp {
    fn new(config: EndpointConfig) -> Self {
        let socket = UdpSocket::bind(LOCAL).unwrap();
        socket
            .set_read_timeout(Some(std::time::Duration::from_millis(20)))
            .unwrap();
        let endpoint = Endpoint::new(config, [3; 32], clock::now());
        Self { endpoint, socket }
    }

    /// Drives it until an event is this one.
    fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let began = clock::now();
        let (mut out, mut buffer) = (Vec::new(), vec![0; 65_536]);
        while began.elapsed() < LONG {
            while let Some(to) = self.endpoint.poll_transmit(clock::now(), 1, &mut out) {
                self.socket.send_to(&out, to.to).unwrap();
            }
            if let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
                let now = clock::now();
                self.endpoint
                    .handle_datagram(now, from, &buffer[..len], true);
            }
            self.endpoint.handle_timeout(clock::now());
            while let Some(event) = self.endpoint.poll_event() {
                if wanted(&event) {
                    return event;
                }
            }
        }
        panic!("it did not come")
    }
}

#[test]
fn typed_messages_are_compressed_over_tls_and_udp() {
    let words: Vec<String> = (0..2000).map(|n| format!("word {}", n % 7)).collect();
    let tls = ServerConfig::default().compression(on());
    let tls = VstpServer::bind_tcp_with(LOCAL, certs().server().unwrap(), tls).unwrap();
    let udp_server = VstpServer::bind_udp_with(LOCAL, udp().compression(on())).unwrap();
    let addrs = (tls.local_addr(), udp_server.local_addr());
    let count = |words: Vec<String>| Ok::<_, String>(words.len());
    let handles = [tls.spawn(count).unwrap(), udp_server.spawn(count).unwrap()];
    let trust = certs().client().unwrap();
    let mut client =
        VstpClient::connect_tcp_with(addrs.0, &trust, config().compression(on())).unwrap();
    assert_eq!(client.call::<usize>(&words).unwrap(), 2000);
    assert!(client.tcp().unwrap().stats().bytes_sent < 10_000);
    let mut client = VstpClient::connect_udp_with(addrs.1, udp().compression(on())).unwrap();
    assert_eq!(client.call::<usize>(&words).unwrap(), 2000);
    assert!(client.udp().unwrap().0.stats().protocol.bytes_sent < 10_000);
    for handle in handles {
        handle.shutdown(LONG);
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for level in [0, 10] {
        assert!(config().compression(on().level(level)).validate().is_err());
        assert!(udp().compression(on().level(level)).validate().is_err());
    }
    assert!(config().features(gzip()).validate().is_ok());
}

/// What a message becomes is memory of the server as what it was: small ones that become large wait for each
/// other, and are handled in the end.
#[test]
fn e05_inflated_messages_count_against_the_memory_of_a_server() {
    let large = Frame::data(vec![0; 4 << 20]);
    let (enter, entered) = crossbeam_channel::bounded(2);
    let (release, released) = crossbeam_channel::bounded::<()>(2);
    let one_at_a_time = || {
        entered.recv_timeout(LONG).unwrap();
        let both = entered.recv_timeout(std::time::Duration::from_millis(200));
        assert!(both.is_err(), "there is memory for one only");
        release.send(()).unwrap();
        entered.recv_timeout(LONG).unwrap();
        release.send(()).unwrap();
    };
    let work = move |frame: &Frame| {
        assert_eq!(frame.payload.len(), 4 << 20);
        enter.send(()).unwrap();
        released.recv_timeout(LONG).unwrap();
    };

    let handle = work.clone();
    let server = ServerConfig::default()
        .compression(on())
        .max_receive_memory(5 << 20);
    let server = bind(Kind::Plain, server)
        .spawn(move |_: &Session, frame: Frame| handle(&frame))
        .unwrap();
    let mut clients =
        [(), ()].map(|()| try_connect(Kind::Plain, &server, config().compression(on())).unwrap());
    for client in &mut clients {
        client.send(&large).unwrap();
    }
    one_at_a_time();

    let config = udp().compression(on()).max_reassembly_memory(5 << 20);
    let server = VstpUdpServer::bind_with_config(LOCAL, config).unwrap();
    let server = server.workers(2);
    let handle = server
        .spawn(move |_: &UdpPeer, frame: Frame| work(&frame))
        .unwrap();
    let client = VstpUdpClient::bind_with_config(LOCAL, udp().compression(on())).unwrap();
    client.connect(handle.local_addr()).unwrap();
    for _ in 0..2 {
        client
            .send_with_ack(large.clone(), handle.local_addr())
            .unwrap();
    }
    one_at_a_time();
}
