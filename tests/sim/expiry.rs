//! Sets of fragments whose last one is late, or never comes.

use crate::craft;
use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, STRANGER, World};
use std::time::Duration;
use vstp::Frame;

/// A message in ten fragments, made by hand.
fn set(id: u64) -> Vec<Vec<u8>> {
    let inner = craft::encoded(&Frame::data(vec![b'x'; 9900]));
    let fragments = craft::fragments(id, &inner, inner.len().div_ceil(10));
    assert_eq!(fragments.len(), 10);
    fragments
}

#[test]
fn du29_the_last_fragment_at_29_9_seconds_completes_the_set() {
    seeds(5, |seed| {
        let mut world = World::pair(seed, &Rules::default());
        for (index, fragment) in set(5).into_iter().enumerate() {
            // The nine others are spread over the time, which they do not prolong.
            let at = if index == 9 {
                29_900
            } else {
                index as u64 * 3000
            };
            world.run_until(Duration::from_millis(at));
            world.inject(STRANGER, SERVER, fragment);
        }
        world.run_for(Duration::ZERO);
        assert_eq!(world.model.foreign.len(), 1);
        assert_eq!(world.model.foreign[0].2.payload, vec![b'x'; 9900]);
        assert_eq!(world.endpoint(SERVER).reassembly_set_count(), 0);
        world.model.foreign.clear();
        world.assert_quiet();
    });
}

#[test]
fn du29_the_last_fragment_at_30_1_seconds_finds_nothing_and_starts_nothing() {
    let mut world = World::pair(1, &Rules::default());
    for (index, fragment) in set(5).into_iter().enumerate() {
        let at = if index == 9 {
            30_100
        } else {
            index as u64 * 3000
        };
        world.run_until(Duration::from_millis(at));
        if index == 9 {
            assert_eq!(
                world.endpoint(SERVER).reassembly_set_count(),
                0,
                "30 s are over"
            );
        }
        world.inject(STRANGER, SERVER, fragment);
    }
    world.run_for(Duration::ZERO);
    assert_eq!(
        world.endpoint(SERVER).reassembly_set_count(),
        0,
        "a late fragment starts a set"
    );
    let stats = world.endpoint(SERVER).stats();
    assert_eq!((stats.sets_discarded, stats.reassembly_len), (1, 0));
    world.assert_quiet();
}

#[test]
fn du29_a_last_fragment_that_never_comes_leaves_nothing() {
    let mut world = World::pair(1, &Rules::default());
    for id in 0..4 {
        for fragment in &set(id)[..9] {
            world.inject(STRANGER, SERVER, fragment.clone());
        }
    }
    world.run_for(Duration::from_secs(29));
    assert_eq!(world.endpoint(SERVER).reassembly_set_count(), 4);
    assert!(world.endpoint(SERVER).stats().reassembly_len >= 4 * 9 * 900);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.endpoint(SERVER).reassembly_set_count(), 0);
    assert_eq!(world.endpoint(SERVER).stats().reassembly_len, 0);
    world.assert_quiet();
}

#[test]
fn du29_in_a_session_a_set_lives_while_it_grows() {
    // 8,000 bytes a second for 60 s: longer than any single wait of 30 s.
    let rate = crate::network::Rate {
        bytes_per_second: 8000,
        queue_len: 8000,
    };
    let slow = Rules {
        rate: Some(rate),
        ..Rules::delay(20)
    };
    let mut world = World::session(1, &slow);
    world.network.rules(SERVER, CLIENT, Rules::delay(20));
    world.promise(CLIENT, SERVER, 480_000);
    world.run_for(Duration::from_secs(45));
    assert_eq!(world.endpoint(SERVER).reassembly_set_count(), 1);
    world.settle(Duration::from_secs(120));
    world.model.assert_all_delivered();
    world.assert_quiet();
}
