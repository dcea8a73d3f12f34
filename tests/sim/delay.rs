//! Slow paths, paths that become slow, and paths that are gone for a while.

use crate::model::Outcome;
use crate::network::{Rate, Rules};
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World};
use std::time::Duration;
use vstp::proto::datagram::Failure;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn du8_delays_of_up_to_five_seconds() {
    seeds(10, |seed| {
        let mut world = World::session(seed, &Rules::default());
        for (from, to) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            let mut rules = Rules::delay(world.rng.below(5000));
            rules.jitter = world.rng.up_to(Duration::from_millis(500));
            world.network.rules(from, to, rules);
        }
        for _ in 0..10 {
            let len = world.rng.below(5000) as usize;
            world.promise(CLIENT, SERVER, len);
            world.promise(SERVER, CLIENT, len);
        }
        world.settle(5 * MINUTE);
        world.model.assert_all_delivered();
        world.assert_quiet();
    });
}

#[test]
fn du8_a_path_that_becomes_a_hundred_times_slower() {
    seeds(10, |seed| {
        let mut world = World::session(seed, &Rules::delay(10));
        for round in 0..40 {
            if round == 20 {
                world.network.both(CLIENT, SERVER, &Rules::delay(1000));
            }
            world.promise(CLIENT, SERVER, 600);
            world.run_for(Duration::from_millis(200));
        }
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        // Karn: what was sent twice says nothing about the time, so the new one must be learned from
        // messages that were sent once, and then nothing is sent twice any more.
        world.run_for(Duration::from_secs(5));
        let before = world.endpoint(CLIENT).stats().retransmissions;
        for _ in 0..20 {
            world.promise(CLIENT, SERVER, 600);
            world.run_for(Duration::from_secs(3));
        }
        world.settle(MINUTE);
        let again = world.endpoint(CLIENT).stats().retransmissions - before;
        assert!(
            again <= 2,
            "{again} of 20 were sent again on a path without loss"
        );
        world.assert_quiet();
    });
}

#[test]
fn du8_a_path_that_is_gone_for_less_than_the_deadline() {
    seeds(15, |seed| {
        let mut world = World::session(seed, &Rules::delay(20));
        let begins = world.at() + Duration::from_millis(300);
        let gone = Duration::from_millis(world.rng.between(100, 14_000));
        let rules = Rules {
            blackholes: vec![(begins, begins + gone)],
            ..Rules::delay(20)
        };
        world.network.both(CLIENT, SERVER, &rules);
        for _ in 0..10 {
            let len = world.rng.below(20_000) as usize;
            world.promise(CLIENT, SERVER, len);
            world.run_for(Duration::from_millis(60));
        }
        world.settle(2 * MINUTE);
        world.model.assert_all_delivered();
        // No wait between two attempts is above 10 s and its jitter.
        let end = world
            .model
            .sent
            .iter()
            .filter_map(|sent| match sent.outcome {
                Outcome::Delivered(at) => Some(at),
                _ => None,
            });
        let end = end.max().expect("messages were delivered");
        assert!(end < begins + gone + Duration::from_secs(15), "{end:?}");
        world.assert_quiet();
    });
}

#[test]
fn du8_twin_a_path_that_is_gone_for_longer_ends_at_the_deadline() {
    seeds(10, |seed| {
        // With so many retries the deadline alone decides.
        let mut world = World::changed(seed, |config| {
            config.max_retries = 1000;
            config.delivery_timeout = Duration::from_secs(20);
        });
        world.network.both(CLIENT, SERVER, &Rules::delay(20));
        if seed % 2 == 0 {
            world.establish(CLIENT, SERVER);
        }
        world.network.both(CLIENT, SERVER, &Rules::dead());
        for len in [0, 500, 5000] {
            let begins = world.at();
            world.promise(CLIENT, SERVER, len);
            world.settle(MINUTE);
            let sent = world.model.sent.last().expect("one was sent");
            let Outcome::Failed(at, Failure::TimedOut) = sent.outcome else {
                panic!("ended as {:?}", sent.outcome);
            };
            let late = (at - begins).checked_sub(Duration::from_secs(20));
            let late = late.expect("not before the deadline");
            assert!(late <= Duration::from_millis(25), "{late:?} late");
            if seed % 2 == 0 {
                // The session is dead soon as well; one message is enough for it.
                break;
            }
        }
        world.assert_quiet();
    });
}

#[test]
fn du8_waits_double_up_to_ten_seconds() {
    seeds(10, |seed| {
        let mut world = World::changed(seed, |config| {
            config.max_retries = 1000;
            config.delivery_timeout = 3 * MINUTE;
        });
        world.network.both(CLIENT, SERVER, &Rules::dead());
        world.network.record = true;
        world.promise(CLIENT, SERVER, 100);
        world.settle(4 * MINUTE);
        let mut times: Vec<f64> = world
            .network
            .sent
            .iter()
            .map(|(at, _)| at.as_secs_f64())
            .collect();
        times.dedup();
        let waits: Vec<f64> = times.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(waits.len() > 12, "{waits:?}");
        assert!((0.9..=1.5).contains(&waits[0]), "{waits:?}");
        for two in waits.windows(2) {
            let grown = two[1] / two[0];
            let capped = two[0] > 4.5 && (7.4..=12.6).contains(&two[1]);
            assert!((1.3..=3.0).contains(&grown) || capped, "{waits:?}");
        }
    });
}

#[test]
fn du8_a_thin_line_is_not_flooded() {
    // 256 kbit/s with a queue of half a second: a sender that does not look loses most of it.
    seeds(3, |seed| {
        let rate = Some(Rate {
            bytes_per_second: 32_000,
            queue_len: 16_000,
        });
        let mut world = World::session(
            seed,
            &Rules {
                rate,
                ..Rules::delay(30)
            },
        );
        world.promise(CLIENT, SERVER, 500_000);
        world.settle(2 * MINUTE);
        world.model.assert_all_delivered();
        let (sent, lost) = (world.network.sent_count, world.network.lost_count);
        assert!(lost * 4 < sent, "{lost} of {sent} datagrams were lost");
        world.assert_quiet();
    });
}

/// What was repeated until it was acknowledged leaves nothing behind that the next message pays for.
#[test]
fn du8_after_a_timeout_and_a_pause_a_message_is_sent_once() {
    for with_session in [true, false] {
        let mut world = World::pair(1, &Rules::delay(30));
        if with_session {
            world.establish(CLIENT, SERVER);
        }
        world.promise(CLIENT, SERVER, 100);
        world.settle(MINUTE);
        world.network.both(CLIENT, SERVER, &Rules::dead());
        world.promise(CLIENT, SERVER, 100);
        world.run_for(Duration::from_secs(1));
        world.network.both(CLIENT, SERVER, &Rules::delay(30));
        world.settle(MINUTE);
        world.run_for(Duration::from_secs(5));
        let before = world.endpoint(CLIENT).stats().clone();
        assert!(before.timeouts > 0, "nothing was ever repeated");
        world.promise(CLIENT, SERVER, 100);
        world.settle(MINUTE);
        let after = world.endpoint(CLIENT).stats();
        assert_eq!(after.timeouts, before.timeouts);
        assert_eq!(after.retransmissions, before.retransmissions);
        world.model.assert_all_delivered();
        world.assert_quiet();
    }
}

/// Timeouts count in a row for what they were of: who was given up does not shorten the attempts of
/// the next message.
#[test]
fn du8_a_peer_that_comes_back_is_heard_after_everything_was_given_up() {
    for with_session in [true, false] {
        let mut world = World::changed(1, |config| {
            config.max_retries = 2;
            config.ping_interval = Duration::from_secs(60);
        });
        world.network.both(CLIENT, SERVER, &Rules::delay(10));
        if with_session {
            world.establish(CLIENT, SERVER);
        }
        world.promise(CLIENT, SERVER, 100);
        world.settle(MINUTE);
        world.network.both(CLIENT, SERVER, &Rules::dead());
        world.promise(CLIENT, SERVER, 100);
        world.settle(MINUTE);
        assert_eq!(world.model.failed_count(), 1);
        world.run_for(Duration::from_secs(15));
        world.network.both(CLIENT, SERVER, &Rules::delay(10));
        let before = world.endpoint(CLIENT).stats().timeouts;
        world.promise(CLIENT, SERVER, 100);
        world.settle(MINUTE);
        assert_eq!(world.model.failed_count(), 1, "given up without an attempt");
        assert_eq!(world.endpoint(CLIENT).stats().timeouts, before);
        world.assert_quiet();
    }
}

/// A set that is on its way goes on, whatever waits for a place behind it: only what begins needs one.
#[test]
fn a_large_message_is_as_fast_beside_many_small_ones_that_wait_for_it() {
    for max_segments in [1, 64] {
        let mut times = [Duration::ZERO; 2];
        for (beside, time) in times.iter_mut().enumerate() {
            let mut world = World::session(1, &Rules::delay(50));
            world.max_segments = Some(max_segments);
            let begins = world.at();
            world.promise(CLIENT, SERVER, 20_000_000);
            for _ in 0..beside * 3000 {
                world.promise(CLIENT, SERVER, 100);
            }
            world.settle(MINUTE);
            world.model.assert_all_delivered();
            let Outcome::Delivered(at) = world.model.sent[0].outcome else {
                panic!("{:?}", world.model.sent[0].outcome);
            };
            *time = at - begins;
            let again = world.endpoint(CLIENT).stats().retransmissions;
            assert_eq!(again, 0, "nothing is lost on this path");
        }
        let [alone, beside] = times;
        assert!(beside < alone * 3 / 2, "{beside:?}, alone {alone:?}");
    }
}

/// The end of what is sent is seldom a whole batch: it leaves without one.
#[test]
fn the_last_part_of_a_batch_leaves_by_itself() {
    for max_segments in [1, 64] {
        for len in [100, 1000] {
            let mut world = World::session(1, &Rules::delay(50));
            world.max_segments = Some(max_segments);
            // Opens the window.
            world.promise(CLIENT, SERVER, 5_000_000);
            world.settle(MINUTE);
            let before = world.endpoint(CLIENT).stats().clone();
            // More than there are places for, and less than a batch at the end.
            for _ in 0..2 * 2048 + 7 {
                world.promise(CLIENT, SERVER, len);
            }
            let begins = world.at();
            world.settle(MINUTE);
            world.model.assert_all_delivered();
            let took = world.at() - begins;
            assert!(took < Duration::from_millis(550), "{took:?} of {len} bytes");
            let after = world.endpoint(CLIENT).stats();
            assert_eq!(after.timeouts, before.timeouts, "of {len} bytes");
            assert_eq!(after.retransmissions, before.retransmissions);
        }
    }
}
