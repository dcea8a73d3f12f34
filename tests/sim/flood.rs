//! More sets of fragments than anybody honest sends, and the largest load that honest peers make.

use crate::craft::{self, Entry};
use crate::network::Rules;
use crate::plan::{seeds, seeds_of};
use crate::world::{CLIENT, SERVER, STRANGER, World, addr, client, client_config};
use std::time::Duration;
use vstp::Frame;

const MINUTE: Duration = Duration::from_secs(60);

/// One byte of a set that never becomes whole; not the first, which must begin a frame.
fn crumb(id: u64, sid: Option<&[u8]>) -> Vec<u8> {
    let id = id.to_string();
    let mut headers: Vec<Entry<'_>> = vec![
        ("frag-id", id.as_bytes()),
        ("frag-index", b"1"),
        ("frag-total", b"200"),
        ("frag-len", b"200"),
    ];
    headers.extend(sid.map(|sid| ("sid", sid)));
    craft::frame(craft::DATA, craft::FRAG, &headers, b"x")
}

#[test]
fn du22_one_stranger_has_four_sets_and_no_more() {
    let mut world = World::pair(1, &Rules::default());
    for id in 0..1000 {
        world.inject(STRANGER, SERVER, crumb(id, None));
        world.run_for(Duration::from_millis(1));
        let count = world.endpoint(SERVER).reassembly_set_count();
        assert_eq!(count, 4.min(id as usize + 1));
    }
    assert!(world.endpoint(SERVER).stats().reassembly_len <= 4 * 1024);
    assert_eq!(world.network.sent_count, 0);
    world.assert_quiet();
}

#[test]
fn du22_a_flood_from_everywhere_stays_in_its_budget_and_harms_nobody() {
    seeds_of(2, 10, |seed| {
        let mut world = World::session(
            seed,
            &Rules {
                loss: 0.02,
                ..Rules::delay(10)
            },
        );
        world.promise(CLIENT, SERVER, 1_000_000);
        let (mut id, mut most) = (0, 0);
        for round in 0..100_u8 {
            for source in 0..30 {
                id += 1;
                let from = addr([100, round, source, 1], 9);
                for id in [id, id + 1000, id + 2000] {
                    world.inject(from, SERVER, crumb(id, None));
                }
            }
            world.run_for(Duration::from_millis(20));
            let stats = world.endpoint(SERVER).stats();
            most = most.max(stats.reassembly_sets);
            assert!(
                stats.reassembly_sets <= 1000,
                "{} sets",
                stats.reassembly_sets
            );
            // The flood is charged with 256 bytes a fragment, the transfer with what it is.
            assert!(
                stats.reassembly_len <= 1000 * 512 + 1_500_000,
                "{}",
                stats.reassembly_len
            );
        }
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        assert!(most >= 999, "the flood took {most} places");
        let completed = world.endpoint(SERVER).stats().sets_completed;
        assert_eq!(completed, 1, "the transfer was not begun anew");
        world.assert_quiet();
    });
}

#[test]
fn du22_a_peer_with_a_session_has_64_sets_and_harms_nobody() {
    seeds(2, |seed| {
        let mut world = World::session(seed, &Rules::delay(10));
        let insider = client(7);
        world.add(insider, client_config(|_| ()));
        world.network.record = true;
        world.establish(insider, SERVER);
        let sent = std::mem::take(&mut world.network.sent);
        world.network.record = false;
        let frames = sent
            .iter()
            .filter(|(_, d)| d.to == insider)
            .flat_map(|(_, d)| craft::frames(&d.bytes));
        let sid = frames
            .filter_map(|f| f.header("sid").map(<[u8]>::to_vec))
            .next();
        let sid = sid.expect("WELCOME says it");
        world.promise(CLIENT, SERVER, 500_000);
        let mut most = 0;
        for id in 0..2000 {
            world.inject(insider, SERVER, crumb(id, Some(&sid)));
            world.run_for(Duration::from_millis(1));
            let count = world.endpoint(SERVER).reassembly_set_count();
            assert!(count <= 64 + 1, "{count} sets of two peers");
            most = most.max(count);
        }
        assert!(most >= 64, "the flood took {most} places");
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        world.assert_quiet();
    });
}

#[test]
fn du23_a_hundred_honest_peers_with_eight_transfers_each_complete() {
    // 200 MB; a debug build moves less, in the same shape.
    let (peers, len) = if cfg!(debug_assertions) {
        (30, 12_000)
    } else {
        (100, 256 * 1024)
    };
    seeds_of(1, 10_000, |seed| {
        let mut world = World::pair(seed, &Rules::default());
        let rules = Rules {
            loss: 0.10,
            reorder: 0.10,
            reorder_by: Duration::from_millis(100),
            jitter: Duration::from_millis(5),
            ..Rules::delay(15)
        };
        for index in 0..peers {
            world.add(client(index), client_config(|_| ()));
            world.establish(client(index), SERVER);
            world.network.both(client(index), SERVER, &rules);
        }
        for _ in 0..8 {
            for index in 0..peers {
                let frame = Frame::data(world.rng.bytes(len));
                world
                    .send_with_ack(client(index), SERVER, frame)
                    .expect("the endpoint takes it");
            }
        }
        world.settle(20 * MINUTE);
        world.model.assert_all_delivered();
        let stats = world.endpoint(SERVER).stats().clone();
        assert_eq!(stats.sets_completed, peers as u64 * 8);
        assert_eq!(stats.sets_discarded, 0, "honest work was thrown away");
        world.assert_quiet();
    });
}

#[test]
fn du23_a_lossy_stream_of_cut_messages_goes_on() {
    // What is never completed must not take the places of what follows, nor of what is promised.
    seeds(3, |seed| {
        let rules = Rules {
            loss: 0.05,
            ..Rules::delay(20)
        };
        for with_session in [true, false] {
            let mut world = World::pair(seed, &Rules::delay(20));
            if with_session {
                world.establish(CLIENT, SERVER);
            }
            world.network.both(CLIENT, SERVER, &rules);
            for tick in 0..1000 {
                let frame = Frame::data(world.rng.bytes(3000));
                let sent = world.send(CLIENT, SERVER, frame);
                sent.expect("the endpoint takes it");
                if tick % 100 == 99 {
                    world.promise(CLIENT, SERVER, 5000);
                }
                world.run_for(Duration::from_millis(30));
            }
            world.settle(MINUTE);
            world.model.assert_all_delivered();
            let got = world.model.sent.iter().filter(|sent| !sent.got.is_empty());
            let got = got.count();
            assert!(got > 800, "{got} of 1010 arrived, of three datagrams each");
            world.network.both(CLIENT, SERVER, &Rules::delay(20));
            world.assert_quiet();
        }
    });
}

#[test]
fn du24_a_thousand_sets_end_at_once_and_nothing_else_is_late() {
    let mut world = World::session(1, &Rules::delay(10));
    for source in 0..250_u8 {
        for id in 0..4 {
            world.inject(addr([100, 1, source, 1], 9), SERVER, crumb(id, None));
        }
    }
    world.run_for(Duration::from_millis(1));
    let stats = world.endpoint(SERVER).stats();
    assert_eq!(stats.reassembly_sets, 1000, "{stats:?}");
    world.run_for(Duration::from_secs(29));
    world.promise(CLIENT, SERVER, 100_000);
    world.run_for(Duration::from_millis(1001));
    let stats = world.endpoint(SERVER).stats();
    assert_eq!(stats.reassembly_len, 0, "all are over their time");
    assert_eq!(stats.sets_discarded, 1000);
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    world.assert_quiet();
}

/// The orders that make the most gaps, for a receiver that remembers ranges: from the end, every
/// second one first, and from both ends to the middle.
#[test]
fn du24_fragments_in_the_worst_order_make_one_message() {
    let total = 255;
    let message = craft::encoded(&Frame::data(vec![b'y'; 200_000]));
    let ordered = craft::fragments(5, &message, message.len().div_ceil(total));
    assert_eq!(ordered.len(), total);
    let backwards: Vec<usize> = (0..total).rev().collect();
    let combed: Vec<usize> = (1..total).step_by(2).chain((0..total).step_by(2)).collect();
    let inwards: Vec<usize> = (0..total)
        .map(|n| if n % 2 == 0 { n / 2 } else { total - 1 - n / 2 })
        .collect();
    for order in [backwards, combed, inwards] {
        let mut world = World::pair(1, &Rules::default());
        for index in order {
            world.inject(STRANGER, SERVER, ordered[index].clone());
        }
        world.run_for(Duration::ZERO);
        assert_eq!(world.model.foreign.len(), 1);
        assert_eq!(world.model.foreign[0].2.payload, vec![b'y'; 200_000]);
        world.model.foreign.clear();
        world.assert_quiet();
    }
}
