//! Many messages at once to a peer that is dead, slow, or fine: how much is sent, and when.

use crate::network::Rules;
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World};
use std::time::Duration;
use vstp::Frame;

const MINUTE: Duration = Duration::from_secs(60);
/// What a sender takes for granted before the receiver has said more; no burst is larger.
const BURST_LEN: u64 = 64 * 1024;

/// Sends messages of 1,000 bytes.
fn many(world: &mut World, count: usize) {
    for _ in 0..count {
        let frame = Frame::data(vec![0; 1000]);
        let sent = world.send_with_ack(CLIENT, SERVER, frame);
        sent.expect("the endpoint takes the message");
    }
}

/// Bytes that the client sent in each `step` since `begin`.
fn series(world: &World, begin: Duration, step: Duration) -> Vec<u64> {
    let mut series = vec![0; ((world.at() - begin).as_nanos() / step.as_nanos()) as usize + 1];
    for (at, datagram) in &world.network.sent {
        if *at >= begin && datagram.from == CLIENT {
            let index = (*at - begin).as_nanos() / step.as_nanos();
            series[index as usize] += datagram.bytes.len() as u64;
        }
    }
    series
}

#[test]
fn du32_a_dead_peer_gets_less_and_less() {
    seeds(3, |seed| {
        let mut world = World::pair(seed, &Rules::dead());
        world.network.record = true;
        let begin = world.at();
        many(&mut world, 1000);
        // Those that wait for their turn are given up with the eighth timeout in a row.
        world.settle(Duration::from_secs(100));
        let series = series(&world, begin, Duration::from_secs(1));
        assert!(series[0] <= BURST_LEN, "{series:?}");
        // Whoever gets no answer tries again with a little, and waits longer each time.
        let later: u64 = series[1..].iter().sum();
        assert!(later <= series[0] + 40 * 1200, "{series:?}");
        let tens: Vec<u64> = series.chunks(10).map(|ten| ten.iter().sum()).collect();
        assert!(tens[1..].iter().all(|ten| ten * 2 <= tens[0]), "{series:?}");
        world.assert_quiet();
    });
}

#[test]
fn du32_a_peer_that_comes_back_is_not_buried() {
    seeds(3, |seed| {
        let mut world = World::patient(seed);
        world.network.both(CLIENT, SERVER, &Rules::delay(25));
        world.establish(CLIENT, SERVER);
        world.network.both(CLIENT, SERVER, &Rules::dead());
        many(&mut world, 1000);
        world.run_for(Duration::from_secs(12));
        world.network.record = true;
        world.network.both(CLIENT, SERVER, &Rules::delay(25));
        let begin = world.at();
        world.settle(2 * MINUTE);
        world.model.assert_all_delivered();
        // Until the first answer can have come it knows nothing that would allow more.
        let series = series(&world, begin, Duration::from_millis(50));
        assert!(series[0] <= BURST_LEN, "{series:?}");
        world.network.record = false;
        world.assert_quiet();
    });
}

#[test]
fn du32_a_path_without_loss_sees_hardly_anything_twice() {
    seeds(5, |seed| {
        let mut world = World::session(seed, &Rules::default());
        let delay = world.rng.between(0, 150);
        world.network.both(CLIENT, SERVER, &Rules::delay(delay));
        many(&mut world, 1000);
        world.settle(2 * MINUTE);
        world.model.assert_all_delivered();
        let stats = world.endpoint(CLIENT).stats();
        let (again, sent) = (stats.retransmissions, stats.datagrams_sent);
        assert!(again * 20 < sent, "{again} of {sent} were sent again");
        world.assert_quiet();
    });
}

#[test]
fn du32_a_receiver_that_is_slow_gets_everything_in_the_end() {
    seeds(3, |seed| {
        let mut world = World::patient(seed);
        world.network.both(CLIENT, SERVER, &Rules::delay(10));
        world.establish(CLIENT, SERVER);
        many(&mut world, 300);
        // Room for a moment now and then.
        for _ in 0..600 {
            world.host(SERVER).room = false;
            world.run_for(Duration::from_millis(120));
            world.host(SERVER).room = true;
            world.run_for(Duration::from_millis(80));
            if world.model.pending_count() == 0 {
                break;
            }
        }
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        world.assert_quiet();
    });
}
