//! Datagrams that do not arrive: at random, in bursts, in one direction, or not at all.

use crate::craft;
use crate::model::Outcome;
use crate::network::{Burst, Fate, Rules};
use crate::plan::{seeds, seeds_of};
use crate::world::{CLIENT, SERVER, World};
use std::time::Duration;
use vstp::Frame;
use vstp::proto::datagram::Failure;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn du2_loss_of_up_to_a_third_each_way() {
    seeds(30, |seed| {
        let mut world = World::patient(seed);
        world.establish(CLIENT, SERVER);
        for (from, to) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            let rules = Rules {
                loss: world.rng.share(0.01, 0.30),
                burst: (world.rng.chance(0.3)).then_some(Burst {
                    enter: 0.02,
                    leave: 0.3,
                    loss: 0.9,
                }),
                jitter: Duration::from_millis(5),
                ..Rules::delay(world.rng.between(1, 80))
            };
            world.network.rules(from, to, rules);
        }
        for _ in 0..20 {
            let (from, to) = if world.rng.chance(0.5) {
                (CLIENT, SERVER)
            } else {
                (SERVER, CLIENT)
            };
            let len = match world.rng.below(4) {
                0 => world.rng.below(20_000),
                _ => world.rng.below(1200),
            };
            if world.rng.chance(0.3) {
                let frame = world.message(len as usize);
                world.send(from, to, frame).expect("the endpoint takes it");
            } else {
                world.promise(from, to, len as usize);
            }
            let pause = world.rng.up_to(Duration::from_millis(200));
            world.run_for(pause);
        }
        world.settle(15 * MINUTE);
        world.model.assert_all_delivered();
        world.assert_quiet();
    });
}

#[test]
fn du2_loss_during_the_handshake() {
    seeds(20, |seed| {
        let mut world = World::patient(seed);
        let rules = Rules {
            loss: 0.3,
            ..Rules::delay(20)
        };
        world.network.both(CLIENT, SERVER, &rules);
        world.connect(CLIENT, SERVER);
        let connected = world.run_while(Duration::from_secs(11), |world| {
            world.host(CLIENT).events.is_empty()
        });
        assert!(connected, "neither connected nor failed in time");
        if world.host(CLIENT).session(SERVER).is_some() {
            world.promise(CLIENT, SERVER, 3000);
            world.settle(15 * MINUTE);
            world.model.assert_all_delivered();
        }
        world.assert_quiet();
    });
}

#[test]
fn du5_acknowledgements_lost_while_messages_cross() {
    seeds(20, |seed| {
        let mut world = World::session(seed, &Rules::delay(15));
        let rounds = Duration::from_millis(world.rng.between(500, 6000));
        let begins = world.at();
        world.network.filter = Some(Box::new(move |at, datagram| {
            // Whole datagrams, so that an acknowledgement that travels with a message is lost too.
            let ack = craft::has(&datagram.bytes, craft::ACK);
            if ack && at < begins + rounds {
                Fate::Drop
            } else {
                Fate::Pass
            }
        }));
        for _ in 0..10 {
            world.promise(CLIENT, SERVER, 700);
            world.promise(SERVER, CLIENT, 5000);
        }
        world.settle(15 * MINUTE);
        world.model.assert_all_delivered();
        assert!(world.endpoint(CLIENT).stats().retransmissions > 0);
        world.assert_quiet();
    });
}

#[test]
fn du5_a_receiver_without_room_acknowledges_later() {
    seeds(5, |seed| {
        let mut world = World::session(seed, &Rules::delay(15));
        world.host(SERVER).room = false;
        world.promise(CLIENT, SERVER, 100);
        world.promise(CLIENT, SERVER, 10_000);
        world.run_for(Duration::from_secs(8));
        assert_eq!(
            world.model.pending_count(),
            2,
            "nobody took it, so nobody confirms it"
        );
        world.host(SERVER).room = true;
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        world.assert_quiet();
    });
}

#[test]
fn du5_what_a_full_receiver_drops_takes_no_place_afterwards() {
    for with_session in [true, false] {
        let mut world = World::pair(1, &Rules::delay(15));
        if with_session {
            world.establish(CLIENT, SERVER);
        }
        world.host(SERVER).room = false;
        for _ in 0..100 {
            let frame = world.message(3000);
            let sent = world.send(CLIENT, SERVER, frame);
            sent.expect("the endpoint takes it");
        }
        world.run_for(Duration::from_secs(1));
        world.host(SERVER).room = true;
        let begins = world.at();
        world.promise(CLIENT, SERVER, 3000);
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        let waited = world.at() - begins;
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        world.assert_quiet();
    }
}

#[test]
fn du3_many_small_messages_without_a_session_are_delivered_once() {
    seeds_of(1, 100, |seed| {
        let mut world = World::patient(seed);
        let rules = Rules {
            loss: 0.2,
            ..Rules::delay(100)
        };
        world.network.both(CLIENT, SERVER, &rules);
        for _ in 0..6000 {
            world.promise(CLIENT, SERVER, 20);
        }
        world.settle(15 * MINUTE);
        world.model.assert_all_delivered();
    });
}

#[test]
fn du18_one_counter_for_many_receivers() {
    // Every receiver sees gaps in the numbers that are no losses.
    seeds_of(1, 100, |seed| {
        let mut world = World::patient(seed);
        let peers = [CLIENT, crate::world::client(1)];
        world.add(peers[1], crate::world::client_config(|_| ()));
        for peer in peers {
            world.establish(peer, SERVER);
            let rules = Rules {
                loss: 0.02,
                ..Rules::delay(100)
            };
            world.network.both(peer, SERVER, &rules);
        }
        for index in 0..12_000 {
            world.promise(SERVER, peers[index % 2], 20);
        }
        world.settle(15 * MINUTE);
        world.model.assert_all_delivered();
    });
}

/// 1 MiB in messages of up to `len` bytes over a line on which everything goes wrong.
fn a_mebibyte(seed: u64, len: usize) {
    let mut world = World::changed(seed, |_| ());
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    world.establish(CLIENT, SERVER);
    let rules = Rules {
        loss: 0.30,
        duplicate: 0.10,
        copies: 2,
        duplicate_by: Duration::from_millis(100),
        reorder: 0.10,
        reorder_by: Duration::from_millis(100),
        flip: 0.01,
        ..Rules::delay(10)
    };
    world.network.both(CLIENT, SERVER, &rules);
    let mut left = 1024 * 1024;
    while left > 0 {
        let next = left.min(len);
        left -= next;
        world.promise(CLIENT, SERVER, next);
    }
    world.settle(30 * MINUTE);
    world.model.assert_all_delivered();
    let got: usize = world.model.sent.iter().map(|sent| sent.got.len()).sum();
    assert_eq!(got, world.model.sent.len(), "whole, and once");
    world.assert_quiet();
}

#[test]
fn du2_a_mebibyte_of_small_messages_at_30_percent_loss() {
    seeds(2, |seed| a_mebibyte(seed, 1024));
}

#[test]
fn du2_a_mebibyte_of_cut_messages_at_30_percent_loss() {
    seeds(2, |seed| a_mebibyte(seed, 16 * 1024));
}

#[test]
fn du2_a_mebibyte_in_one_message_at_30_percent_loss() {
    seeds(2, |seed| a_mebibyte(seed, 1024 * 1024));
}

#[test]
fn du2_everything_lost_ends_in_a_timeout_on_time_and_leaves_nothing() {
    seeds(5, |seed| {
        let with_session = seed % 2 == 0;
        let mut world = if with_session {
            World::session(seed, &Rules::dead())
        } else {
            World::pair(seed, &Rules::dead())
        };
        let begins = world.at();
        for len in [0, 100, 5000, 100_000] {
            world.promise(CLIENT, SERVER, len);
        }
        let frame = Frame::data(vec![0; 3000]);
        world
            .send(CLIENT, SERVER, frame)
            .expect("the endpoint takes it");
        world.settle(MINUTE);
        for sent in &world.model.sent {
            match &sent.outcome {
                Outcome::Unpromised => {}
                Outcome::Failed(at, Failure::TimedOut | Failure::PeerGone) => {
                    // Eight timeouts in a row, or 30 s: nobody waits longer, nobody gives up at once.
                    let waited = *at - begins;
                    let range = Duration::from_secs(5)..=Duration::from_secs(31);
                    assert!(range.contains(&waited), "gave up after {waited:?}");
                }
                other => panic!("ended as {other:?}"),
            }
        }
        world.assert_quiet();
    });
}

#[test]
fn du2_a_server_that_is_not_there_fails_the_connect_on_time() {
    let mut world = World::pair(1, &Rules::dead());
    world.connect(CLIENT, SERVER);
    world.run_for(MINUTE);
    let events = &world.host(CLIENT).events;
    assert_eq!(events.len(), 1, "{events:?}");
    let at = events[0].0;
    assert!(
        (Duration::from_secs(9)..Duration::from_secs(11)).contains(&at),
        "{at:?}"
    );
    world.assert_quiet();
}

/// What is sent once must not make the receiver forget what may come again.
#[test]
fn du3_a_message_is_remembered_through_any_number_that_are_sent_once() {
    let mut world = World::pair(1, &Rules::delay(10));
    world.network.filter = Some(Box::new(|at, datagram| {
        let ack = craft::has(&datagram.bytes, craft::ACK);
        if ack && at < Duration::from_millis(500) {
            Fate::Drop
        } else {
            Fate::Pass
        }
    }));
    world.promise(CLIENT, SERVER, 100);
    for _ in 0..5000 {
        let sent = world.send(CLIENT, SERVER, Frame::data("once"));
        sent.expect("the endpoint takes it");
    }
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    assert!(world.endpoint(CLIENT).stats().retransmissions > 0);
    world.assert_quiet();
}

/// The same in a session, where every number that went to somebody else is a gap.
#[test]
fn du18_a_message_that_was_lost_arrives_after_any_number_that_were_not() {
    let mut world = World::pair(1, &Rules::delay(10));
    let peers = [CLIENT, crate::world::client(1)];
    world.add(peers[1], crate::world::client_config(|_| ()));
    for peer in peers {
        world.establish(peer, SERVER);
    }
    world.network.rules(SERVER, CLIENT, Rules::dead());
    world.promise(SERVER, CLIENT, 100);
    world.network.rules(SERVER, CLIENT, Rules::delay(10));
    for index in 0..12_000 {
        let sent = world.send(SERVER, peers[index % 2], Frame::data("once"));
        sent.expect("the endpoint takes it");
    }
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    world.assert_quiet();
}

/// A few datagrams are no sign of a full path: a session that lost its first ones is as fast as any other.
#[test]
fn du2_few_losses_at_the_beginning_does_not_slow_down_what_follows() {
    seeds(1, |seed| {
        let mut times = [Duration::ZERO; 2];
        for (lost, time) in times.iter_mut().enumerate() {
            let mut world = World::session(seed, &Rules::delay(25));
            if lost == 1 {
                world.network.both(CLIENT, SERVER, &Rules::dead());
            }
            for _ in 0..4 {
                world.promise(CLIENT, SERVER, 1000);
            }
            world.run_for(Duration::from_millis(900));
            world.network.both(CLIENT, SERVER, &Rules::delay(25));
            world.settle(MINUTE);
            let begins = world.at();
            world.promise(CLIENT, SERVER, 3_000_000);
            world.settle(MINUTE);
            world.model.assert_all_delivered();
            *time = world.at() - begins;
        }
        let [without, with] = times;
        assert!(with < without * 3 / 2, "{with:?}, otherwise {without:?}");
    });
}
