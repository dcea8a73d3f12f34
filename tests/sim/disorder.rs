//! Datagrams that arrive late, in another order, or many times.

use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Messages of mixed sizes in both directions.
fn exchange(world: &mut World, count: usize) {
    for _ in 0..count {
        let small = world.rng.below(1000) as usize;
        let large = world.rng.below(12_000) as usize;
        world.promise(CLIENT, SERVER, small);
        world.promise(SERVER, CLIENT, large);
        let frame = world.message(small);
        world
            .send(CLIENT, SERVER, frame)
            .expect("the endpoint takes it");
        let pause = world.rng.up_to(Duration::from_millis(300));
        world.run_for(pause);
    }
}

#[test]
fn du3_every_datagram_up_to_six_times_and_up_to_30_s_late() {
    seeds(10, |seed| {
        let rules = Rules {
            duplicate: 1.0,
            copies: 5,
            duplicate_by: Duration::from_secs(30),
            ..Rules::delay(10)
        };
        let mut world = World::session(seed, &rules);
        exchange(&mut world, 10);
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        // Without loss every message arrives, those without acknowledgement too.
        let got: usize = world.model.sent.iter().map(|sent| sent.got.len()).sum();
        assert_eq!(got, world.model.sent.len());
        world.assert_quiet();
    });
}

#[test]
fn du3_a_duplicate_without_a_session_is_acknowledged_again_and_dropped() {
    let mut world = World::pair(1, &Rules::delay(10));
    world.network.record = true;
    world.promise(CLIENT, SERVER, 100);
    world.settle(MINUTE);
    let (_, message) = world.network.sent[0].clone();
    let (_, ack) = world.network.sent[1].clone();
    for _ in 0..5 {
        world.run_for(Duration::from_secs(5));
        let answers = world.probe(CLIENT, SERVER, message.bytes.clone());
        assert_eq!(answers, vec![ack.clone()]);
    }
    assert_eq!(world.host(SERVER).heard.len(), 1);
    world.assert_quiet();
}

#[test]
fn du4_any_order_within_two_seconds() {
    seeds(10, |seed| {
        let rules = Rules {
            jitter: Duration::from_secs(2),
            ..Rules::delay(5)
        };
        let mut world = World::session(seed, &rules);
        exchange(&mut world, 20);
        world.settle(5 * MINUTE);
        world.model.assert_all_delivered();
        world.assert_quiet();
    });
}

#[test]
fn du4_any_order_and_loss_and_copies_without_a_session() {
    seeds(10, |seed| {
        let rules = Rules {
            jitter: Duration::from_millis(200),
            loss: 0.05,
            duplicate: 0.2,
            copies: 3,
            duplicate_by: Duration::from_secs(3),
            ..Rules::delay(5)
        };
        let mut world = World::pair(seed, &rules);
        for _ in 0..15 {
            let len = world.rng.below(6000) as usize;
            world.promise(CLIENT, SERVER, len);
            world.run_for(Duration::from_millis(100));
        }
        world.settle(5 * MINUTE);
        world.model.assert_all_delivered();
        world.assert_quiet();
    });
}
