//! The simulator itself: one seed is one run, to the nanosecond and the bit.

use crate::network::{Burst, Rate, Rules};
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World};
use std::time::Duration;

/// A run in which every rule is at work.
fn run(seed: u64) -> (u64, Duration, u64) {
    let rules = Rules {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(20),
        loss: 0.05,
        burst: Some(Burst {
            enter: 0.01,
            leave: 0.3,
            loss: 0.8,
        }),
        reorder: 0.1,
        reorder_by: Duration::from_millis(200),
        duplicate: 0.1,
        copies: 3,
        duplicate_by: Duration::from_secs(1),
        flip: 0.02,
        truncate: 0.02,
        concatenate: 0.02,
        mtu: Some(1500),
        rate: Some(Rate {
            bytes_per_second: 1_000_000,
            queue_len: 64 * 1024,
        }),
        blackholes: vec![(Duration::from_secs(2), Duration::from_secs(3))],
    };
    let mut world = World::session(seed, &rules);
    for _ in 0..10 {
        let len = world.rng.below(20_000) as usize;
        world.promise(CLIENT, SERVER, len);
        world.promise(SERVER, CLIENT, len / 2);
        world.run_for(Duration::from_millis(100));
    }
    world.settle(Duration::from_secs(300));
    world.assert_quiet();
    (world.network.trace(), world.at(), world.network.sent_count)
}

#[test]
fn two_runs_of_one_seed_give_one_trace() {
    seeds(2, |seed| assert_eq!(run(seed), run(seed)));
    assert_ne!(run(1), run(2), "the seed does nothing");
}
