//! Rate limits on real sockets: who sends too much is slowed down or dropped, who does not notices nothing.

use crate::limits::until;
use crate::util::{BOTH, Kind, LONG, config, connect, echo, try_connect};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use vstp::net::clock;
use vstp::net::udp::UdpConfig;
use vstp::proto::ErrorCode;
use vstp::proto::datagram::DropReason;
use vstp::proto::rate::RateLimit;
use vstp::serve::{ServerConfig, UdpPeer, UdpServerHandle};
use vstp::{Frame, VstpError, VstpUdpClient, VstpUdpServer, encode_frame};

const LOCAL: &str = "127.0.0.1:0";

#[test]
fn e12_a_connection_over_its_rate_is_delayed_and_loses_nothing() {
    for kind in BOTH {
        let limit = RateLimit::default().frames(100, 20);
        let server = echo(kind, ServerConfig::default().rate_limit(Some(limit)));
        let mut client = connect(kind, &server);
        let mut other = connect(kind, &server);
        let began = clock::now();
        for n in 0..70 {
            client.feed(&Frame::data(format!("{n}"))).unwrap();
        }
        client.flush().unwrap();
        // The other one keeps to its rate, and is served while the first one waits.
        for _ in 0..5 {
            other.send(&Frame::data("?")).unwrap();
            assert_eq!(other.recv().unwrap(), Some(Frame::data("?")));
        }
        for n in 0..70 {
            assert_eq!(client.recv().unwrap(), Some(Frame::data(format!("{n}"))));
        }
        // 20 at once, and 50 at 100 a second; a loaded machine only makes it longer.
        let took = clock::now() - began;
        assert!(took >= Duration::from_millis(490), "{kind:?} {took:?}");
        client.close().unwrap();
        server.shutdown(LONG);
    }
}

#[test]
fn e12_a_connection_within_its_rate_never_waits() {
    for kind in BOTH {
        let limit = RateLimit::default().frames(1, 200).bytes(1, 200 * 1024);
        let server = echo(kind, ServerConfig::default().rate_limit(Some(limit)));
        let mut client = connect(kind, &server);
        for _ in 0..100 {
            client.send(&Frame::data(vec![7; 1000])).unwrap();
            client.recv().unwrap().unwrap();
        }
        assert_eq!(server.stats().rate_pauses, 0);
        server.shutdown(LONG);
    }
}

#[test]
fn e12_bytes_are_limited_as_frames_are() {
    let limit = RateLimit::default().bytes(1 << 20, 64 * 1024);
    let server = echo(Kind::Tls, ServerConfig::default().rate_limit(Some(limit)));
    let mut client = connect(Kind::Tls, &server);
    let began = clock::now();
    // The first is over the burst and passes; the second waits until it is paid for.
    for _ in 0..2 {
        client.send(&Frame::data(vec![7; 512 * 1024])).unwrap();
        assert_eq!(client.recv().unwrap().unwrap().payload.len(), 512 * 1024);
    }
    let took = clock::now() - began;
    assert!(took >= Duration::from_millis(400), "{took:?}");
    server.shutdown(LONG);
}

#[test]
fn e12_a_connection_that_waits_for_its_rate_is_neither_idle_nor_stuck() {
    let limit = RateLimit::default().frames(1, 1);
    let short = Duration::from_millis(300);
    let tcp = config().idle_timeout(Some(short)).frame_timeout(short);
    let settings = ServerConfig::default().tcp(tcp).rate_limit(Some(limit));
    let server = echo(Kind::Plain, settings);
    let mut client = try_connect(Kind::Plain, &server, config()).unwrap();
    for n in 0..3 {
        client.feed(&Frame::data(format!("{n}"))).unwrap();
    }
    client.flush().unwrap();
    for n in 0..3 {
        assert_eq!(client.recv().unwrap(), Some(Frame::data(format!("{n}"))));
    }
    assert_eq!(server.stats().rate_pauses, 3, "after each message");
    // It owes nothing to a shutdown either.
    for _ in 0..50 {
        client.feed(&Frame::data("more")).unwrap();
    }
    client.flush().unwrap();
    let report = server.shutdown(LONG);
    assert_eq!((report.stuck, report.cut_off), (0, 0));
}

#[test]
fn e12_connections_of_one_address_share_its_rate() {
    for kind in BOTH {
        let limit = RateLimit::default().frames(50, 20);
        let settings = ServerConfig::default().rate_limit_per_address(Some(limit));
        let server = echo(kind, settings);
        let began = clock::now();
        let mut clients: Vec<_> = (0..4).map(|_| connect(kind, &server)).collect();
        for client in &mut clients {
            for n in 0..15 {
                client.feed(&Frame::data(format!("{n}"))).unwrap();
            }
            client.flush().unwrap();
        }
        for client in &mut clients {
            for n in 0..15 {
                assert_eq!(client.recv().unwrap(), Some(Frame::data(format!("{n}"))));
            }
        }
        // 20 at once and one more of each connection, which waits after it; the others at 50 a second.
        let took = clock::now() - began;
        let least = Duration::from_millis(1000 * (4 * 15 - 20 - 4) / 50);
        assert!(took >= least, "{kind:?} {took:?}");
        server.shutdown(LONG);
    }
}

#[test]
fn e12_what_an_address_owes_waits_for_its_next_connection_and_for_nobody_elsewhere() {
    // Nothing comes back while this runs.
    let limit = RateLimit::default().bytes(1, 300);
    let settings = ServerConfig::default().rate_limit_per_address(Some(limit));
    let server = echo(Kind::Plain, settings);
    let frame = Frame::data(vec![7; 100]);
    for pauses in [0, 0, 1] {
        let mut client = connect(Kind::Plain, &server);
        client.send(&frame).unwrap();
        assert_eq!(client.recv().unwrap().as_ref(), Some(&frame));
        assert_eq!(server.stats().rate_pauses, pauses);
    }
    let mut late = connect(Kind::Plain, &server);
    late.send(&frame).unwrap();
    let waits = late.recv_timeout(Duration::from_millis(200));
    assert!(matches!(waits, Err(VstpError::Timeout(_))), "{waits:?}");

    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], 0));
    // Not every system has more than one such address.
    if socket.bind(&elsewhere.into()).is_ok() {
        socket.connect(&server.local_addr().into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LONG)).unwrap();
        let bytes = encode_frame(&frame).unwrap();
        for _ in 0..2 {
            stream.write_all(&bytes).unwrap();
            let mut answer = vec![0; bytes.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, bytes);
        }
        assert_eq!(server.stats().rate_pauses, 1);
    }
    // What has arrived is served when the server goes.
    server.shutdown(LONG);
    assert_eq!(late.recv().unwrap(), Some(frame));
}

#[test]
fn e12_a_message_for_each_connection_without_hello_waits_as_well() {
    // Nothing comes back while this runs.
    let limit = RateLimit::default().frames(1, 3);
    let settings = ServerConfig::default()
        .rate_limit_per_address(Some(limit))
        .tcp(config().handshake_timeout(Duration::from_millis(300)));
    let server = echo(Kind::Plain, settings);
    let bytes = encode_frame(&Frame::data("one")).unwrap();
    let began = clock::now();
    let answers = (0..10).filter(|_| {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = vec![0; bytes.len()];
        stream.read_exact(&mut answer).is_ok() && answer == bytes
    });
    let answers = answers.count();
    // The burst, and one for each second that the others waited in vain, or a little longer.
    let most = 3 + (clock::now() - began).as_secs() as usize + 1;
    assert!((3..=most).contains(&answers), "{answers} of 10, {most}");
    server.shutdown(LONG);
}

#[test]
fn e12_connections_of_one_address_within_its_rate_never_wait() {
    for kind in BOTH {
        let limit = RateLimit::default().frames(1, 100).bytes(1, 200 * 1024);
        let settings = ServerConfig::default().rate_limit_per_address(Some(limit));
        let server = echo(kind, settings);
        for _ in 0..10 {
            let mut client = connect(kind, &server);
            for _ in 0..9 {
                client.send(&Frame::data(vec![7; 1000])).unwrap();
                client.recv().unwrap().unwrap();
            }
            client.close().unwrap();
        }
        assert_eq!(server.stats().rate_pauses, 0);
        server.shutdown(LONG);
    }
}

fn udp_echo(limit: Option<RateLimit>) -> UdpServerHandle {
    let config = UdpConfig::default().rate_limit(limit);
    let server = VstpUdpServer::bind_with_config(LOCAL, config).unwrap();
    server.spawn(|_: &UdpPeer, frame: Frame| frame).unwrap()
}

fn udp_client() -> VstpUdpClient {
    let config = UdpConfig::default().read_timeout(Some(LONG));
    VstpUdpClient::bind_with_config(LOCAL, config).unwrap()
}

#[test]
fn e12_datagrams_over_the_rate_are_dropped_and_those_of_others_are_not() {
    let server = udp_echo(Some(RateLimit::default().frames(20, 50)));
    let to = server.local_addr();
    let (greedy, modest) = (udp_client(), udp_client());
    greedy.connect(to).unwrap();
    modest.connect(to).unwrap();
    for _ in 0..1000 {
        greedy.send(&Frame::data("more"), to).unwrap();
    }
    let dropped = || server.stats().protocol.dropped(DropReason::RateLimited);
    until(|| dropped() > 0, "some are dropped");
    for n in 0..40 {
        let frame = Frame::data(format!("{n}"));
        modest.send_with_ack(frame.clone(), to).unwrap();
        assert_eq!(modest.recv().unwrap().0, frame);
    }
    // What is to be acknowledged comes again until there is room.
    greedy.send_with_ack(Frame::data("please"), to).unwrap();
    server.shutdown(LONG);
}

#[test]
fn e12_datagrams_within_the_rate_all_arrive() {
    let limit = RateLimit::default().frames(1, 500).bytes(1, 1 << 20);
    let server = udp_echo(Some(limit));
    let to = server.local_addr();
    let client = udp_client();
    client.connect(to).unwrap();
    for n in 0..100 {
        client
            .send_with_ack(Frame::data(format!("{n}")), to)
            .unwrap();
    }
    client
        .send_with_ack(Frame::data(vec![7; 100_000]), to)
        .unwrap();
    let stats = server.stats().protocol;
    assert_eq!(stats.dropped(DropReason::RateLimited), 0, "{stats:?}");
    server.shutdown(LONG);
}

#[test]
fn e12_a_request_over_the_rate_is_answered_by_rate_limited() {
    // The first message is paid for in a minute or more.
    let server = udp_echo(Some(RateLimit::default().bytes(1, 1)));
    let to = server.local_addr();
    let client = udp_client();
    client.connect(to).unwrap();
    let request = |n: u32| Frame::data("?").with_header("correlation-id", n.to_string());
    for n in 0..3 {
        client.send(&request(n), to).unwrap();
    }
    // One is answered, of the others one is refused; which comes first is the workers' business.
    let answers = [client.recv().unwrap().0, client.recv().unwrap().0];
    let codes: Vec<_> = answers.iter().filter_map(|f| f.header("code")).collect();
    assert_eq!(codes, [ErrorCode::RateLimited.as_str().as_bytes()]);
    server.shutdown(LONG);
}

#[test]
fn senseless_limits_are_refused() {
    let nothing = RateLimit::default();
    let tcp = ServerConfig::default().rate_limit(Some(nothing));
    assert!(matches!(tcp.validate(), Err(VstpError::Config(_))));
    let tcp = ServerConfig::default().rate_limit_per_address(Some(nothing));
    assert!(matches!(tcp.validate(), Err(VstpError::Config(_))));
    let udp = UdpConfig::default().rate_limit(Some(nothing));
    assert!(matches!(udp.validate(), Err(VstpError::Config(_))));
}
