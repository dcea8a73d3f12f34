//! UDP on a bad path and under attack: losses, garbage, floods, forged senders, restarts.

use crate::relay::{Link, Relay};
use crate::util::LONG;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use vstp::error::TimeoutKind;
use vstp::net::clock;
use vstp::net::udp::UdpConfig;
use vstp::proto::datagram::DropReason;
use vstp::serve::{UdpPeer, UdpServerHandle};
use vstp::wire::{Limits, Trailer};
use vstp::{Flags, Frame, FrameType, VstpError, VstpUdpClient, VstpUdpServer};

const LOCAL: &str = "127.0.0.1:0";

fn config() -> UdpConfig {
    UdpConfig::default().read_timeout(Some(LONG))
}

fn client() -> VstpUdpClient {
    VstpUdpClient::bind_with_config(LOCAL, config()).unwrap()
}

fn echo() -> UdpServerHandle {
    let server = VstpUdpServer::bind_with_config(LOCAL, config()).unwrap();
    server
        .workers(2)
        .spawn(|_: &UdpPeer, frame: Frame| frame)
        .unwrap()
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 131 % 251) as u8).collect()
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    vstp::wire::encode(
        frame.as_ref(),
        Trailer::Always,
        &Limits::default(),
        &mut out,
    )
    .unwrap();
    out
}

/// A socket at an address of the loopback network.
fn at(host: u32) -> UdpSocket {
    let ip = Ipv4Addr::from_bits(0x7f00_0000 + host);
    UdpSocket::bind((ip, 0)).unwrap()
}

#[test]
fn du02_through_losses_all_of_it_arrives_once() {
    let link = Link {
        loss: 50,
        duplicate: 20,
        flip: 10,
        delay: Duration::from_millis(1),
    };
    let server = VstpUdpServer::bind_with_config(LOCAL, config()).unwrap();
    let relay = Relay::new(server.local_addr(), link, 7);
    let client = client();
    client.connect(relay.addr).unwrap();
    // All of the row's 100 MB when the tests run in full.
    let len = if std::env::var_os("VSTP_FULL").is_some() {
        100_000_000
    } else {
        4_000_000
    };
    let sent = payload(len);
    let sum = hmac_sha256::Hash::hash(&sent);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| server.recv_timeout(10 * LONG).unwrap().0.payload);
        client.send_with_ack(Frame::data(sent), relay.addr).unwrap();
        assert_eq!(hmac_sha256::Hash::hash(&receiving.join().unwrap()), sum);
    });
    let stats = client.stats().protocol;
    println!(
        "{len} bytes: {} datagrams, {} of them again, {} lost on the way",
        stats.datagrams_sent,
        stats.retransmissions,
        relay.lost.load(std::sync::atomic::Ordering::Relaxed)
    );
    assert!(stats.retransmissions > 0);
    for n in 0..100_u8 {
        client.send_with_ack(Frame::data([n]), relay.addr).unwrap();
        assert_eq!(server.recv().unwrap().0.payload, [n]);
    }
    assert!(
        server.recv_timeout(Duration::from_millis(50)).is_err(),
        "nothing came twice"
    );
}

#[test]
fn du28_garbage_changes_nothing() {
    let server = echo();
    let to = server.local_addr();
    let raw = UdpSocket::bind(LOCAL).unwrap();
    let frame = bytes(&Frame::data("x"));
    let two = [&frame[..], &frame].concat();
    let mut flipped = frame.clone();
    flipped[11] ^= 1;
    let all: [&[u8]; 8] = [
        &[],
        &[0],
        &[0; 65_507],
        b"GET / HTTP/1.1\r\n\r\n",
        &frame[..14],
        &two,
        &flipped,
        &[0xff; 100],
    ];
    let client = client();
    for garbage in all {
        raw.send_to(garbage, to).unwrap();
        client.send_with_ack(Frame::data("alive"), to).unwrap();
        assert_eq!(client.recv().unwrap().0.payload, b"alive");
    }
    let stats = server.stats().protocol;
    // An empty datagram is nothing, not even for the counters.
    assert_eq!(stats.dropped(DropReason::BadCrc), 1);
    assert_eq!(stats.dropped(DropReason::Malformed), 6);
    assert_eq!(stats.messages_received, 8);
    raw.set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(raw.recv(&mut [0; 100]).is_err(), "nobody answers garbage");
    server.shutdown(LONG);
}

#[test]
fn du22_a_flood_of_fragments_stays_within_the_budgets() {
    let server = echo();
    let to = server.local_addr();
    let honest = client();
    honest.connect(to).unwrap();
    let fragment = |id: u64, index: u64, total: u64, len: usize| {
        let frame = Frame::data(vec![7; len])
            .with_flag(Flags::FRAG)
            .with_header("frag-id", id.to_string())
            .with_header("frag-index", index.to_string())
            .with_header("frag-total", total.to_string())
            .with_header("frag-len", (total as usize * len).to_string());
        bytes(&frame)
    };
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            for host in 0..1500 {
                let socket = at(0x02_0000 + host);
                for id in 0..6 {
                    // The first is missing, so none is ever complete.
                    for index in 1..4 {
                        let _ = socket.send_to(&fragment(id, index, 255, 1000), to);
                    }
                }
            }
        });
        let large = Frame::data(payload(300_000));
        for _ in 0..10 {
            honest.send_with_ack(large.clone(), to).unwrap();
            assert!(honest.recv().unwrap().0 == large);
            let stats = server.stats().protocol;
            assert!(stats.reassembly_sets <= 1000 && stats.reassembly_len <= 512 << 20);
        }
        flooding.join().unwrap();
    });
    honest
        .send_with_ack(Frame::data(payload(300_000)), to)
        .unwrap();
    assert!(honest.recv().unwrap().0.payload == payload(300_000));
    let stats = server.stats().protocol;
    assert!(stats.dropped(DropReason::Budget) > 0, "{stats:?}");
    assert!(stats.reassembly_sets <= 1000);
    server.shutdown(LONG);
}

#[test]
fn du25_a_flood_of_hello_opens_nothing() {
    let server = echo();
    let to = server.local_addr();
    let client = client();
    client.connect(to).unwrap();
    let mut hello = Frame::new(FrameType::Hello);
    hello.payload = vec![0; 1200 - bytes(&hello).len()];
    let hello = bytes(&hello);
    assert_eq!(hello.len(), 1200);
    for host in 0..3000 {
        let socket = at(0x03_0000 + host);
        socket.send_to(&hello, to).unwrap();
        if host % 500 == 0 {
            client.send_with_ack(Frame::data("alive"), to).unwrap();
            assert_eq!(client.recv().unwrap().0.payload, b"alive");
        }
    }
    let stats = server.stats().protocol;
    assert_eq!((stats.sessions, stats.sessions_opened), (1, 1));
    assert!(stats.bytes_sent <= stats.bytes_received, "{stats:?}");
    server.shutdown(LONG);
}

#[test]
fn du09_who_is_at_another_address_is_not_in_the_session() {
    let server = VstpUdpServer::bind_with_config(LOCAL, config()).unwrap();
    // The first datagram of the session is copied by somebody on the way.
    let tap = UdpSocket::bind(LOCAL).unwrap();
    tap.set_read_timeout(Some(LONG)).unwrap();
    let client = client();
    let through = tap.local_addr().unwrap();
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| client.connect(through));
        let mut buffer = [0; 2000];
        let mut client_addr = None;
        for _ in 0..4 {
            let (len, from) = tap.recv_from(&mut buffer).unwrap();
            let to = if from == server.local_addr() {
                client_addr.unwrap()
            } else {
                client_addr = Some(from);
                server.local_addr()
            };
            tap.send_to(&buffer[..len], to).unwrap();
        }
        connecting.join().unwrap().unwrap();
        client.send(&Frame::data("secret"), through).unwrap();
        let (len, _) = tap.recv_from(&mut buffer).unwrap();
        let stolen = buffer[..len].to_vec();
        at(0x04_0001).send_to(&stolen, server.local_addr()).unwrap();
        tap.send_to(&stolen, server.local_addr()).unwrap();
    });
    let (frame, from) = server.recv().unwrap();
    assert_eq!((&frame.payload[..], from), (&b"secret"[..], through));
    assert!(server.recv_timeout(Duration::from_millis(50)).is_err());
    assert_eq!(
        server.stats().protocol.dropped(DropReason::UnknownSession),
        1
    );
}

#[test]
fn du33_a_server_that_restarts_is_noticed_and_connected_again() {
    let quick = config()
        .ping_interval(Duration::from_millis(100))
        .delivery_timeout(Duration::from_millis(500));
    let client = VstpUdpClient::bind_with_config(LOCAL, quick).unwrap();
    let server = VstpUdpServer::bind_with_config(LOCAL, config()).unwrap();
    let addr: SocketAddr = server.local_addr();
    // The client hears nothing of the end: what is said to it goes elsewhere.
    let relay = Relay::new(addr, Link::default(), 1);
    client.connect(relay.addr).unwrap();
    client
        .send_with_ack(Frame::data("before"), relay.addr)
        .unwrap();
    let deaf = relay.addr;
    drop(relay);
    let error = client.send_with_ack(Frame::data("lost"), deaf).unwrap_err();
    let told = matches!(
        error,
        VstpError::Timeout(TimeoutKind::Ack | TimeoutKind::Idle)
    );
    assert!(told, "{error:?}");
    drop(server);
    let server = VstpUdpServer::bind_with_config(addr, config()).unwrap();
    client.connect(addr).unwrap();
    client.send_with_ack(Frame::data("after"), addr).unwrap();
    assert_eq!(server.recv().unwrap().0.payload, b"after");
}

#[test]
fn du27_a_peer_that_is_not_there_ends_nothing() {
    let gone = UdpSocket::bind(LOCAL).unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let server = echo();
    let client = client();
    for _ in 0..20 {
        // The system reports the refusal at some later call.
        let _ = client.send(&Frame::data("anybody?"), nobody);
        client
            .send_with_ack(Frame::data("alive"), server.local_addr())
            .unwrap();
        assert_eq!(client.recv().unwrap().0.payload, b"alive");
    }
    server.shutdown(LONG);
}

#[test]
fn du08_nothing_is_left_of_a_hundred_percent_loss() {
    let server = echo();
    let dead = Link {
        loss: 1000,
        ..Link::default()
    };
    let relay = Relay::new(server.local_addr(), dead, 3);
    let wait = Duration::from_millis(700);
    let settings = config().delivery_timeout(wait);
    let client = VstpUdpClient::bind_with_config(LOCAL, settings).unwrap();
    let began = clock::now();
    for n in 0..50 {
        drop(
            client
                .start_send(Frame::data(payload(n * 997)), relay.addr)
                .unwrap(),
        );
    }
    let error = client.flush().unwrap_err();
    assert!(
        matches!(error, VstpError::Timeout(TimeoutKind::Ack)),
        "{error:?}"
    );
    assert!(began.elapsed() >= wait && began.elapsed() < LONG);
    let stats = client.stats();
    assert_eq!(
        (stats.send_queue_count, stats.protocol.messages_failed),
        (0, 50)
    );
    assert_eq!(server.stats().protocol.datagrams_received, 0);
    server.shutdown(LONG);
}

/// What waits for a peer that is gone holds places in the queue; there are still others.
#[test]
fn du08_a_dead_peer_that_holds_most_of_the_queue_does_not_stop_the_others() {
    let gone = UdpSocket::bind(LOCAL).unwrap();
    let server = echo();
    let settings = config().send_queue(64, 1 << 20).delivery_timeout(LONG);
    let client = VstpUdpClient::bind_with_config(LOCAL, settings).unwrap();
    let to_gone = gone.local_addr().unwrap();
    for _ in 0..60 {
        drop(client.start_send(Frame::data("x"), to_gone).unwrap());
    }
    // Four places are left, for more callers than that.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let frame = Frame::data("x").with_header("n", "1");
                    let sent = client.start_send(frame, server.local_addr()).unwrap();
                    let queued = client.stats().send_queue_count;
                    assert!(queued <= 64, "{queued} of 64");
                    sent.wait().unwrap();
                }
            });
        }
    });
    let stats = client.stats();
    assert_eq!(stats.send_queue_count, 60, "nobody has waited for these");
    assert_eq!(stats.protocol.messages_failed, 0);
    server.shutdown(LONG);
}

/// Messages of no bytes fill a queue too: what it has no place for is not acknowledged, and comes again.
#[test]
fn du05_a_queue_full_of_empty_messages_loses_nothing() {
    let config = config().recv_queue(2, 1024 * 1024);
    let server = VstpUdpServer::bind_with_config("127.0.0.1:0", config).unwrap();
    let client = client();
    for number in 0..5 {
        let frame = Frame::data("").with_header("n", number.to_string());
        drop(client.start_send(frame, server.local_addr()).unwrap());
    }
    let until = clock::now() + LONG;
    let decided = |server: &VstpUdpServer, client: &VstpUdpClient| {
        server.stats().protocol.dropped(DropReason::QueueFull) > 0
            || client.stats().protocol.messages_acknowledged == 5
    };
    while !decided(&server, &client) && clock::now() < until {
        // Reads what comes, and no message does.
        assert!(client.recv_timeout(Duration::from_millis(5)).is_err());
    }
    let mut got: Vec<String> = (0..5)
        .map(|_| server.recv().unwrap().0)
        .map(|frame| frame.header_str("n").unwrap().to_owned())
        .collect();
    got.sort();
    assert_eq!(got, ["0", "1", "2", "3", "4"]);
    client.flush().unwrap();
}

/// Threads that send faster than the system takes it wait for it; nothing piles up behind one of them.
#[test]
fn e05_many_threads_that_send_once_are_held_to_what_leaves() {
    let sink = UdpSocket::bind(LOCAL).unwrap();
    let to = sink.local_addr().unwrap();
    let client = client();
    let most = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut most, frame) = (0, Frame::data("x"));
                    for _ in 0..25_000 {
                        client.send(&frame, to).unwrap();
                        let stats = client.stats().protocol;
                        most = most.max(stats.messages_sent - stats.datagrams_sent);
                    }
                    most
                })
            })
            .collect();
        let all = threads.into_iter().map(|thread| thread.join().unwrap());
        all.max().unwrap()
    });
    assert!(most <= 5000, "{most} datagrams waited");
}
