//! Clocks that jump, timers that are late, and times far beyond what anybody meant.

use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World};
use std::collections::HashMap;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

#[test]
fn h2_after_a_pause_of_ten_minutes_nothing_comes_in_a_burst() {
    seeds(10, |seed| {
        let dead = seed % 2 == 0;
        let mut world = World::session(seed, &Rules::delay(10));
        if dead {
            world.network.both(CLIENT, SERVER, &Rules::dead());
        }
        for len in [10, 500, 3000, 20_000] {
            world.promise(CLIENT, SERVER, len);
        }
        let pause = world.rng.up_to(Duration::from_millis(100));
        world.run_for(pause);
        let pending = world.model.pending_count();
        world.network.record = true;
        world.freeze(10 * MINUTE);
        let awake = world.at();
        world.run_for(Duration::ZERO);
        // Everything is overdue at once. It leaves as after one timeout: the same datagram once, or up
        // to four times where fewer than four are left.
        let mut copies = HashMap::new();
        for (at, datagram) in &world.network.sent {
            assert_eq!(*at, awake);
            *copies.entry((datagram.from, &datagram.bytes)).or_insert(0) += 1;
        }
        let most = copies.values().max().copied().unwrap_or(0);
        assert!(most <= 4, "the same datagram {most} times in one moment");
        let count = world.network.sent.len();
        assert!(count <= 64, "{count} datagrams for {pending} messages");
        world.network.record = false;
        world.settle(5 * MINUTE);
        world.assert_quiet();
    });
}

#[test]
fn h2_idle_sessions_survive_a_pause_when_the_peer_is_there() {
    let mut world = World::session(1, &Rules::delay(10));
    world.run_for(MINUTE);
    world.freeze(10 * MINUTE);
    world.run_for(2 * MINUTE);
    // Both slept, so nobody was ever silent to a peer that was awake; at worst both sides agree
    // that it is over, and then a new session works.
    let ended = world.host(CLIENT).closed(SERVER).is_some();
    assert_eq!(ended, world.endpoint(CLIENT).stats().sessions == 0);
    if ended {
        world.establish(CLIENT, SERVER);
    }
    world.promise(CLIENT, SERVER, 5000);
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    world.assert_quiet();
}

#[test]
fn h4_round_trips_of_weeks_and_idle_times_of_a_thousand() {
    let mut world = World::changed(1, |config| {
        config.ping_interval = 1000 * WEEK;
        config.max_retry_delay = 100 * WEEK;
        config.delivery_timeout = 1000 * WEEK;
        config.max_retries = 1000;
    });
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    world.establish(CLIENT, SERVER);
    let week = Rules {
        delay: WEEK,
        ..Rules::default()
    };
    world.network.both(CLIENT, SERVER, &week);
    for _ in 0..3 {
        world.promise(CLIENT, SERVER, 100);
        world.promise(SERVER, CLIENT, 100);
        world.settle(20 * WEEK);
    }
    world.model.assert_all_delivered();
    // A sender that has learned the round-trip time does not repeat itself for two weeks.
    let again = world.endpoint(CLIENT).stats().retransmissions;
    assert!(again < 100, "{again} retransmissions");
    let idle_from = world.network.sent_count;
    world.run_for(900 * WEEK);
    assert_eq!(world.network.sent_count, idle_from);
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    world.promise(CLIENT, SERVER, 100);
    world.settle(20 * WEEK);
    world.model.assert_all_delivered();
}

#[test]
fn h4_times_that_never_come_are_no_timers() {
    let mut world = World::changed(1, |config| {
        config.ping_interval = Duration::MAX;
        config.ack_timeout = Duration::MAX;
        config.max_retry_delay = Duration::MAX;
        config.delivery_timeout = Duration::MAX;
        config.handshake_timeout = Duration::MAX;
    });
    world.network.both(
        CLIENT,
        SERVER,
        &Rules {
            loss: 0.1,
            ..Rules::delay(10)
        },
    );
    world.establish(CLIENT, SERVER);
    for len in [0, 1000, 50_000] {
        world.promise(CLIENT, SERVER, len);
    }
    world.settle(5 * MINUTE);
    world.model.assert_all_delivered();
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    world.assert_quiet();
}

#[test]
fn h5_timers_that_are_half_a_second_late_only_delay() {
    seeds(10, |seed| {
        let mut world = World::session(
            seed,
            &Rules {
                loss: 0.1,
                ..Rules::delay(10)
            },
        );
        for host in [CLIENT, SERVER] {
            world.host(host).lateness = Duration::from_millis(500);
        }
        for _ in 0..10 {
            let len = world.rng.below(5000) as usize;
            world.promise(CLIENT, SERVER, len);
            world.promise(SERVER, CLIENT, len);
            let pause = world.rng.up_to(Duration::from_millis(100));
            world.run_for(pause);
        }
        world.settle(5 * MINUTE);
        world.model.assert_all_delivered();
        world.network.both(CLIENT, SERVER, &Rules::delay(10));
        world.assert_quiet();
    });
}

#[test]
fn h5_a_clock_that_steps_back_changes_nothing() {
    seeds(10, |seed| {
        let rules = Rules {
            loss: 0.05,
            ..Rules::delay(10)
        };
        let mut world = World::session(seed, &rules);
        for host in [CLIENT, SERVER] {
            world.host(host).behind = Duration::from_millis(50);
        }
        for _ in 0..10 {
            let len = world.rng.below(5000) as usize;
            world.promise(CLIENT, SERVER, len);
            world.promise(SERVER, CLIENT, len);
        }
        world.settle(5 * MINUTE);
        world.model.assert_all_delivered();
        world.network.both(CLIENT, SERVER, &Rules::delay(10));
        world.assert_quiet();
    });
}
