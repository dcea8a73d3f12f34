//! Two servers that are made to talk to each other: one forged datagram must not keep them busy.

use crate::craft::{self, Entry};
use crate::world::{SERVER, World, addr, server_config};
use std::net::SocketAddr;
use std::time::Duration;

const OTHER: SocketAddr = addr([192, 0, 2, 2], 6969);

/// How many datagrams follow one that seems to come from another server.
fn follow(seed: u64, bytes: Vec<u8>) -> u64 {
    let mut world = World::new(seed);
    world.add(SERVER, server_config(|_| ()));
    world.add(OTHER, server_config(|_| ()));
    world.inject(SERVER, OTHER, bytes);
    world.run_for(Duration::from_secs(60));
    world.network.sent_count
}

#[test]
fn du16_one_forged_datagram_between_two_servers_causes_at_most_two_more() {
    let id: Entry<'_> = ("msg-id", b"7");
    let sid: Entry<'_> = ("sid", &[7; 16]);
    let fragment: [Entry<'_>; 4] = [
        ("frag-id", b"7"),
        ("frag-index", b"0"),
        ("frag-total", b"2"),
        ("frag-len", b"20"),
    ];
    let lists: [&[Entry<'_>]; 7] = [
        &[],
        &[id],
        &[id, sid],
        &[("code", b"protocol"), ("correlation-id", b"7")],
        &[("features", b"bundle"), ("max-frame-size", b"65536")],
        &[("cookie", &[0; 40])],
        &fragment,
    ];
    let mut most = (0, 0);
    for typ in 0..=255 {
        for headers in lists {
            for flags in [0, craft::REQ_ACK, craft::FRAG | craft::REQ_ACK] {
                for len in [0, 1200] {
                    let bytes = craft::padded(typ, flags, headers, len);
                    most = most.max((follow(u64::from(typ), bytes), typ));
                }
            }
        }
    }
    assert!(
        most.0 <= 2,
        "{} datagrams followed one of type {:#04x}",
        most.0,
        most.1
    );
    assert!(
        most.0 > 0,
        "nothing is ever answered: the test sees nothing"
    );
}

#[test]
fn du16_answers_are_never_answered() {
    for typ in [craft::ACK, craft::WELCOME, 0x05, 0x08] {
        for flags in [0, craft::REQ_ACK] {
            for headers in [&[][..], &[("msg-id", b"7".as_slice())]] {
                for payload in [0, 8, 1000] {
                    let bytes = craft::frame(typ, flags, headers, &vec![0; payload]);
                    assert_eq!(follow(1, bytes), 0, "type {typ:#04x}");
                }
            }
        }
    }
}
