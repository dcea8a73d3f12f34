//! Limits of sessions and of memory, each reached exactly: what is beyond is refused, what is not is
//! served.

use crate::craft::{self, Entry};
use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World, addr, client_config, server_config};
use std::net::SocketAddr;
use std::time::Duration;
use vstp::Frame;
use vstp::proto::ErrorCode;
use vstp::proto::datagram::{Event, Failure, SendError};
use vstp::wire::EncodeError;

const MINUTE: Duration = Duration::from_secs(60);

/// Whether `from` gets a session; otherwise it was refused because the server has no place.
fn is_welcome(world: &mut World, from: SocketAddr) -> bool {
    world.add(from, client_config(|_| ()));
    world.connect(from, SERVER);
    world.run_for(Duration::from_secs(1));
    let events = &world.host(from).events;
    match &events[..] {
        [(_, Event::Connected { .. })] => true,
        [(_, Event::ConnectFailed { failure, .. })] => {
            assert_eq!(*failure, Failure::Refused(ErrorCode::Busy));
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn e09_sessions_are_limited_for_one_address_and_in_all() {
    let mut world = World::new(1);
    world.add(
        SERVER,
        server_config(|config| {
            config.max_sessions = 5;
            config.max_sessions_per_ip = 2;
        }),
    );
    let of = |ip: u8, port: u16| addr([10, 9, 0, ip], port);
    assert!(is_welcome(&mut world, of(1, 1)) && is_welcome(&mut world, of(1, 2)));
    assert!(
        !is_welcome(&mut world, of(1, 3)),
        "the third of one address"
    );
    assert!(is_welcome(&mut world, of(2, 1)) && is_welcome(&mut world, of(2, 2)));
    assert!(is_welcome(&mut world, of(3, 1)));
    assert!(!is_welcome(&mut world, of(4, 1)), "the sixth of all");
    assert_eq!(world.endpoint(SERVER).stats().sessions, 5);
    // Who leaves makes room for one, whatever address it has.
    world.close(of(1, 1), SERVER);
    world.run_for(Duration::from_secs(1));
    assert!(is_welcome(&mut world, of(1, 4)));
    assert!(!is_welcome(&mut world, of(4, 2)));
    world.assert_quiet();
}

#[test]
fn du22_strangers_give_up_their_bytes_for_a_session() {
    const TOTAL_LEN: usize = 128 * 1024;
    seeds(3, |seed| {
        let mut world = World::changed(seed, |config| {
            config.total_budget_len = TOTAL_LEN;
            config.session_budget_len = TOTAL_LEN;
        });
        world.network.both(CLIENT, SERVER, &Rules::delay(10));
        world.establish(CLIENT, SERVER);
        let rules = Rules {
            loss: 0.05,
            ..Rules::delay(10)
        };
        world.network.both(CLIENT, SERVER, &rules);
        world.promise(CLIENT, SERVER, 100_000);
        let (mut id, mut most) = (0_u32, 0);
        for _ in 0..100 {
            for _ in 0..10 {
                id += 1;
                let [_, _, c, d] = id.to_be_bytes();
                let number = id.to_string();
                let headers: [Entry<'_>; 4] = [
                    ("frag-id", number.as_bytes()),
                    ("frag-index", b"1"),
                    ("frag-total", b"200"),
                    ("frag-len", b"200000"),
                ];
                let bytes = craft::frame(craft::DATA, craft::FRAG, &headers, &[7; 1000]);
                world.inject(addr([100, 2, c, d], 9), SERVER, bytes);
            }
            world.run_for(Duration::from_millis(20));
            let len = world.endpoint(SERVER).stats().reassembly_len;
            most = most.max(len);
            assert!(len <= TOTAL_LEN, "{len} bytes");
        }
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        assert!(most + 2000 > TOTAL_LEN, "only {most} bytes were ever taken");
        let stats = world.endpoint(SERVER).stats();
        assert_eq!(stats.sets_completed, 1, "the transfer was not begun anew");
        assert!(stats.sets_discarded > 0);
        world.assert_quiet();
    });
}

/// What no reassembly has room for is an error at its sender, and not a message that never arrives.
#[test]
fn du23_a_frame_over_the_budget_of_its_receiver_is_refused_before_it_leaves() {
    const BUDGET_LEN: usize = 64 * 1024;
    let mut world = World::new(1);
    world.add(
        SERVER,
        server_config(|config| config.session_budget_len = BUDGET_LEN),
    );
    world.add(CLIENT, client_config(|_| ()));
    world.establish(CLIENT, SERVER);
    let frame = Frame::data(vec![0; BUDGET_LEN]);
    let refused = world.send_with_ack(CLIENT, SERVER, frame);
    let is_it = matches!(
        refused,
        Err(SendError::Encode(EncodeError::FrameTooLarge { .. }))
    );
    assert!(is_it, "{refused:?}");
    // The twin: as large as it may be, and several at once.
    let rules = Rules {
        loss: 0.1,
        ..Rules::delay(10)
    };
    world.network.both(CLIENT, SERVER, &rules);
    for _ in 0..5 {
        let frame = Frame::data(vec![0; BUDGET_LEN - 1000]);
        let sent = world.send_with_ack(CLIENT, SERVER, frame);
        sent.expect("the endpoint takes it");
    }
    world.settle(5 * MINUTE);
    world.model.assert_all_delivered();
    world.assert_quiet();
}
