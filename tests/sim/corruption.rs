//! Datagrams that arrive damaged: flipped bits, a missing end, two in one.

use crate::craft;
use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, STRANGER, World};
use std::time::Duration;
use vstp::Frame;
use vstp::proto::datagram::DropReason;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn du6_flips_cuts_and_gluing_are_dropped_and_repaired() {
    seeds(20, |seed| {
        let mut world = World::pair(seed, &Rules::default());
        let rules = Rules {
            flip: world.rng.share(0.001, 0.05),
            truncate: world.rng.share(0.0, 0.02),
            concatenate: world.rng.share(0.0, 0.02),
            ..Rules::delay(10)
        };
        if world.rng.chance(0.5) {
            world.establish(CLIENT, SERVER);
        }
        world.network.both(CLIENT, SERVER, &rules);
        for _ in 0..20 {
            let len = world.rng.below(8000) as usize;
            world.promise(CLIENT, SERVER, len);
            let frame = world.message(len / 10);
            world
                .send(CLIENT, SERVER, frame)
                .expect("the endpoint takes it");
            world.run_for(Duration::from_millis(50));
        }
        world.settle(5 * MINUTE);
        world.model.assert_all_delivered();
        world.assert_quiet();
    });
}

#[test]
fn du6_every_single_flipped_bit_is_dropped() {
    let mut world = World::pair(1, &Rules::default());
    let good = craft::frame(craft::DATA, 0, &[("key", b"value")], b"payload");
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(world.probe(STRANGER, SERVER, bad), vec![], "bit {bit}");
    }
    for len in 0..good.len() {
        assert_eq!(world.probe(STRANGER, SERVER, good[..len].to_vec()), vec![]);
    }
    // Without `bundle` a datagram is one frame; two are none.
    let two = [good.clone(), good.clone()].concat();
    assert_eq!(world.probe(STRANGER, SERVER, two), vec![]);
    assert_eq!(world.model.foreign, vec![]);
    let stats = world.endpoint(SERVER).stats();
    let expected = (good.len() * 9 + 1) as u64;
    assert_eq!(stats.dropped_total(), expected);
    assert!(stats.dropped(DropReason::BadCrc) > 100);
    world.probe(STRANGER, SERVER, good);
    assert_eq!(world.model.foreign.len(), 1, "the whole one is fine");
}

/// A set whose content is not one message: a fragment, two frames, or a part of one.
#[test]
fn du07_what_is_no_message_inside_fragments_ends_its_set() {
    let message = craft::encoded(&Frame::data(vec![b'x'; 500]));
    let nested = craft::fragments(9, &message, message.len().div_ceil(4)).remove(0);
    let flagged = craft::frame(craft::DATA, craft::FRAG, &[], &[b'x'; 500]);
    let twice = [message.clone(), message.clone()].concat();
    let cut_short = message[..message.len() - 1].to_vec();
    let control = craft::frame(craft::PING, 0, &[], &[b'x'; 60]);
    for (index, inner) in [nested, flagged, twice, cut_short, control]
        .iter()
        .enumerate()
    {
        let mut world = World::pair(1, &Rules::default());
        for fragment in craft::fragments(5, inner, inner.len().div_ceil(3)) {
            world.inject(STRANGER, SERVER, fragment);
        }
        world.run_for(Duration::ZERO);
        let stats = world.endpoint(SERVER).stats().clone();
        assert_eq!(world.model.foreign.len(), 0, "case {index}");
        assert_eq!(stats.reassembly_sets, 0, "case {index} is kept");
        assert_eq!(stats.reassembly_len, 0, "case {index} is charged");
        assert!(stats.dropped_total() >= 1, "case {index} is not counted");
        assert_eq!(world.network.sent_count, 0, "case {index} is answered");
        world.assert_quiet();
    }
}
