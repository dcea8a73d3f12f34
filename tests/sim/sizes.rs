//! Messages of every size, and paths that take smaller datagrams than are sent.

use crate::craft;
use crate::model::Outcome;
use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World, client_config, server_config};
use std::time::Duration;
use vstp::Frame;
use vstp::proto::datagram::{Failure, SendError};

const MINUTE: Duration = Duration::from_secs(60);

/// Sends a message of `len` bytes both ways of sending, and waits for both.
fn both_ways(world: &mut World, len: usize) {
    let number = world.model.sent.len();
    let frame = world.message(len);
    world.promise(CLIENT, SERVER, len);
    world.settle(MINUTE);
    world
        .send(CLIENT, SERVER, frame)
        .expect("the endpoint takes it");
    world.run_for(Duration::from_secs(1));
    for sent in &world.model.sent[number..] {
        assert_eq!(sent.got.len(), 1, "{len} bytes: {:?}", sent.outcome);
    }
}

#[test]
fn du1_sizes_from_nothing_to_three_datagrams() {
    // Every size: no boundary between one datagram and two, or two and three, is left out.
    let step = if cfg!(debug_assertions) { 7 } else { 1 };
    for (seed, with_session) in [(1, true), (2, false)] {
        let rules = Rules::delay(1);
        let mut world = if with_session {
            World::session(seed, &rules)
        } else {
            World::pair(seed, &rules)
        };
        for len in (0..900)
            .step_by(step)
            .chain(900..1250)
            .chain((1250..3600).step_by(step))
        {
            both_ways(&mut world, len);
        }
        world.model.assert_all_delivered();
        world.assert_quiet();
    }
}

/// The bytes of inner frame that a fragment of this world carries, and the bytes that an inner frame
/// has beside its payload.
fn chunk_len(world: &mut World) -> (usize, usize) {
    world.network.record = true;
    let frame = Frame::data(vec![1; 60_000]);
    world
        .send_with_ack(CLIENT, SERVER, frame)
        .expect("the endpoint takes it");
    world.settle(MINUTE);
    world.network.record = false;
    let sent = std::mem::take(&mut world.network.sent);
    let frames = sent
        .iter()
        .flat_map(|(_, datagram)| craft::frames(&datagram.bytes));
    let fragment = frames
        .into_iter()
        .find(craft::is_fragment)
        .expect("60,000 bytes are cut");
    let inner = craft::number(&fragment, "frag-len").expect("a fragment says its length");
    (fragment.payload.len(), inner as usize - 60_000)
}

#[test]
fn du1_sizes_near_multiples_of_a_chunk() {
    seeds(4, |seed| {
        let with_session = seed % 2 == 1;
        let mut world = if with_session {
            World::session(seed, &Rules::delay(5))
        } else {
            World::pair(seed, &Rules::delay(5))
        };
        let (chunk, overhead) = chunk_len(&mut world);
        assert!(chunk > 900, "a fragment carries only {chunk} bytes");
        // 256 KiB: also the most that 255 fragments carry.
        let multiple = world.rng.between(1, (256 * 1024 / chunk - 1) as u64) as usize * chunk;
        for len in multiple - overhead - 3..=multiple - overhead + 3 {
            let frame = Frame::data(world.rng.bytes(len));
            world
                .send_with_ack(CLIENT, SERVER, frame)
                .expect("the endpoint takes it");
            world.settle(MINUTE);
            let frame = Frame::data(world.rng.bytes(len));
            world
                .send(CLIENT, SERVER, frame)
                .expect("the endpoint takes it");
            world.run_for(Duration::from_secs(2));
        }
        world.model.assert_all_delivered();
        for sent in &world.model.sent {
            assert_eq!(sent.got.len(), 1, "{} bytes", sent.frame.payload.len());
        }
        world.assert_quiet();
    });
}

#[test]
fn du1_sizes_that_are_too_large_are_refused_before_anything_is_sent() {
    let mut world = World::new(1);
    world.add(SERVER, server_config(|_| ()));
    world.add(CLIENT, client_config(|config| config.allow_frag = false));
    let cut = Frame::data(vec![0; 1300]);
    let refused = world.send_with_ack(CLIENT, SERVER, cut.clone());
    refused.expect_err("it does not fit a datagram and must not be cut");
    world
        .send(CLIENT, SERVER, cut)
        .expect_err("nor without acknowledgement");
    world.add(
        CLIENT,
        client_config(|config| config.max_frame_len = 10_000),
    );
    let large = Frame::data(vec![0; 10_001]);
    world
        .send_with_ack(CLIENT, SERVER, large)
        .expect_err("it is over the limit");
    world.add(CLIENT, client_config(|_| ()));
    // 255 fragments is all that is allowed without a session.
    let many = Frame::data(vec![0; 255 * 1200]);
    let refused = world.send_with_ack(CLIENT, SERVER, many);
    assert!(
        matches!(refused, Err(SendError::TooManyFragments { .. })),
        "{refused:?}"
    );
    assert_eq!(world.network.sent_count, 0);
    world.promise(CLIENT, SERVER, 1000);
    world.settle(MINUTE);
}

#[test]
fn du26_datagrams_keep_the_limit_that_was_set() {
    // The world measures every datagram; here the limits are others than 1,200.
    for (seed, limit) in [(1, 512), (2, 576), (3, 1280), (4, 9000), (5, 65_507)] {
        for with_session in [false, true] {
            let mut world = World::new(seed);
            world.add(
                SERVER,
                server_config(|config| config.max_datagram_len = limit),
            );
            world.add(
                CLIENT,
                client_config(|config| config.max_datagram_len = limit),
            );
            world.network.both(CLIENT, SERVER, &Rules::delay(5));
            if with_session {
                world.establish(CLIENT, SERVER);
            }
            for len in [0, 100, 400, 1100, 5000, 66_000] {
                world.promise(CLIENT, SERVER, len);
            }
            world.settle(MINUTE);
            world.model.assert_all_delivered();
            world.assert_quiet();
        }
    }
}

#[test]
fn du26_a_path_that_takes_1280_bytes_takes_everything() {
    let rules = Rules {
        mtu: Some(1280 - 48),
        ..Rules::delay(20)
    };
    let mut world = World::pair(1, &rules);
    world.establish(CLIENT, SERVER);
    for len in [0, 1100, 1200, 100_000] {
        world.promise(CLIENT, SERVER, len);
    }
    world.settle(MINUTE);
    world.model.assert_all_delivered();
}

#[test]
fn du26_a_path_that_takes_900_bytes_ends_in_a_timeout() {
    // There is no discovery of the path's limit: large messages end, small ones go on.
    let rules = Rules {
        mtu: Some(900),
        ..Rules::delay(20)
    };
    let mut world = World::session(1, &rules);
    world.promise(CLIENT, SERVER, 5000);
    for _ in 0..50 {
        let frame = Frame::data(vec![0; 500]);
        world
            .send_with_ack(CLIENT, SERVER, frame)
            .expect("the endpoint takes it");
        world.run_for(Duration::from_secs(1));
    }
    world.settle(MINUTE);
    let outcome = &world.model.sent[0].outcome;
    assert!(
        matches!(outcome, Outcome::Failed(_, Failure::TimedOut)),
        "{outcome:?}"
    );
    assert_eq!(world.model.delivered_count(), 50);
    world.assert_quiet();
}
