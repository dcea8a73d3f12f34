//! Peers that are gone: dead, restarted, or leaving with a BYE that is lost.

use crate::craft;
use crate::model::Outcome;
use crate::network::{Fate, Rules};
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, World, server_config};
use std::time::Duration;
use vstp::Frame;
use vstp::proto::datagram::{Event, Failure};

const MINUTE: Duration = Duration::from_secs(60);

/// How many datagrams with a frame of this type were recorded.
fn count(world: &World, typ: u8) -> usize {
    let sent = world.network.sent.iter();
    sent.filter(|(_, datagram)| craft::has(&datagram.bytes, typ))
        .count()
}

#[test]
fn du30_a_dead_peer_is_noticed_after_three_pings() {
    seeds(5, |seed| {
        let mut world = World::session(seed, &Rules::delay(10));
        world.promise(CLIENT, SERVER, 10);
        world.settle(MINUTE);
        let silent_from = world.at();
        world.network.both(CLIENT, SERVER, &Rules::dead());
        world.network.record = true;
        world.run_for(Duration::from_secs(40));
        let pings = count(&world, craft::PING);
        assert!((4..=8).contains(&pings), "{pings} PINGs from two sides");
        // Too late for its own deadline: the end of the session ends it.
        world.promise(CLIENT, SERVER, 10);
        world.run_for(MINUTE);
        for (host, peer) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            let (at, why) = world.host(host).closed(peer).expect("the session ended");
            let after = (at - silent_from).as_secs_f64();
            assert!((44.0..62.0).contains(&after), "closed after {after} s");
            assert_eq!(why, Failure::PeerGone);
        }
        let outcome = &world.model.sent[1].outcome;
        assert!(
            matches!(outcome, Outcome::Failed(_, Failure::PeerGone)),
            "{outcome:?}"
        );
        world.network.record = false;
        world.assert_quiet();
    });
}

#[test]
fn du30_lost_pongs_do_not_end_a_session_that_lives() {
    seeds(5, |seed| {
        // Every second one is lost.
        let mut world = World::session(seed, &Rules::delay(10));
        let mut pings = 0;
        world.network.filter = Some(Box::new(move |_, datagram| {
            if !craft::has(&datagram.bytes, 0x05) {
                return Fate::Pass;
            }
            pings += 1;
            if pings % 2 == 0 {
                Fate::Pass
            } else {
                Fate::Drop
            }
        }));
        world.run_for(20 * MINUTE);
        assert!(world.host(CLIENT).closed(SERVER).is_none());
        world.promise(CLIENT, SERVER, 10);
        world.settle(MINUTE);
        world.model.assert_all_delivered();
    });
}

#[test]
fn du30_no_ping_while_data_flows() {
    let mut world = World::session(1, &Rules::delay(10));
    world.network.record = true;
    for _ in 0..60 {
        world.promise(CLIENT, SERVER, 100);
        world.run_for(Duration::from_secs(5));
    }
    assert_eq!(count(&world, craft::PING), 0);
    world.model.assert_all_delivered();
    world.network.record = false;
    world.assert_quiet();
}

#[test]
fn du31_a_bye_is_answered_and_both_sides_know() {
    let mut world = World::session(1, &Rules::delay(10));
    world.network.record = true;
    world.close(CLIENT, SERVER);
    world.run_for(MINUTE);
    assert!(count(&world, craft::BYE) <= 3);
    assert_eq!(world.endpoint(SERVER).stats().sessions, 0);
    assert_eq!(world.endpoint(CLIENT).stats().sessions, 0);
    let (_, why) = world
        .host(SERVER)
        .closed(CLIENT)
        .expect("the session ended");
    assert!(matches!(why, Failure::PeerBye(_)), "{why:?}");
    world.network.record = false;
    world.assert_quiet();
}

#[test]
fn du31_a_bye_that_is_always_lost_is_sent_three_times_at_most() {
    let mut world = World::session(1, &Rules::delay(10));
    world.network.record = true;
    world.network.filter = Some(Box::new(|_, datagram| {
        let bye = craft::has(&datagram.bytes, craft::BYE);
        if bye { Fate::Drop } else { Fate::Pass }
    }));
    world.close(CLIENT, SERVER);
    world.run_for(2 * MINUTE);
    let byes = count(&world, craft::BYE);
    assert!((1..=3).contains(&byes), "{byes} BYEs");
    let (_, why) = world
        .host(SERVER)
        .closed(CLIENT)
        .expect("silence ends it too");
    assert_eq!(why, Failure::PeerGone);
    world.network.record = false;
    world.assert_quiet();
}

#[test]
fn du31_byes_that_are_duplicated_are_answered_once() {
    let mut world = World::session(1, &Rules::delay(10));
    world.network.record = true;
    world.close(CLIENT, SERVER);
    world.run_for(MINUTE);
    let sent: Vec<_> = std::mem::take(&mut world.network.sent);
    let from_client = sent
        .iter()
        .find(|(_, d)| d.from == CLIENT && craft::has(&d.bytes, craft::BYE));
    let bye = from_client.expect("the client said BYE").1.bytes.clone();
    for _ in 0..20 {
        assert_eq!(
            world.probe(CLIENT, SERVER, bye.clone()),
            vec![],
            "the session is over"
        );
    }
    let closed = |event: &&(Duration, Event)| matches!(event.1, Event::Closed { .. });
    assert_eq!(world.host(SERVER).events.iter().filter(closed).count(), 1);
    world.network.record = false;
    world.assert_quiet();
}

#[test]
fn du31_closing_ends_what_is_pending() {
    seeds(5, |seed| {
        let mut world = World::session(seed, &Rules::delay(10));
        world.promise(CLIENT, SERVER, 500_000);
        world.promise(SERVER, CLIENT, 500_000);
        world.run_for(Duration::from_millis(30));
        world.close(CLIENT, SERVER);
        world.settle(Duration::from_secs(5));
        assert_eq!(world.model.failed_count(), 2);
        world.assert_quiet();
    });
}

#[test]
fn du33_a_restarted_server_is_silent_and_its_clients_come_back() {
    seeds(5, |seed| {
        let mut world = World::session(seed, &Rules::delay(10));
        world.promise(CLIENT, SERVER, 5000);
        world.settle(MINUTE);
        let first = world.host(CLIENT).session(SERVER);
        world.restart(SERVER, server_config(|_| ()));
        let before = world.model.sent.len();
        let frame = Frame::data("for the old session");
        world
            .send(CLIENT, SERVER, frame)
            .expect("the endpoint takes it");
        for len in [10, 5000] {
            world.promise(CLIENT, SERVER, len);
        }
        world.network.record = true;
        world.run_for(2 * MINUTE);
        let answers = world.network.sent.iter().filter(|(_, d)| d.from == SERVER);
        assert_eq!(
            answers.count(),
            0,
            "the new server speaks to a session that it does not know"
        );
        world.network.record = false;
        assert!(world.host(CLIENT).closed(SERVER).is_some());
        assert_eq!(world.model.failed_count(), 2);
        for sent in &world.model.sent[before..] {
            assert_eq!(sent.got, vec![], "delivered across sessions");
        }
        world.establish(CLIENT, SERVER);
        assert_ne!(world.host(CLIENT).session(SERVER), first);
        world.promise(CLIENT, SERVER, 5000);
        world.settle(MINUTE);
        assert_eq!(world.model.delivered_count(), 2);
        world.assert_quiet();
    });
}

#[test]
fn du33_a_restarted_client_gets_a_new_session_at_the_same_address() {
    seeds(5, |seed| {
        let mut world = World::session(seed, &Rules::delay(10));
        let first = world.host(SERVER).session(CLIENT);
        world.promise(SERVER, CLIENT, 100_000);
        world.run_for(Duration::from_millis(15));
        world.restart(CLIENT, crate::world::client_config(|_| ()));
        world.establish(CLIENT, SERVER);
        world.promise(CLIENT, SERVER, 3000);
        world.settle(2 * MINUTE);
        assert_ne!(world.host(SERVER).session(CLIENT), first);
        let last = world.model.sent.last().expect("one was sent");
        assert!(
            matches!(last.outcome, Outcome::Delivered(_)),
            "{:?}",
            last.outcome
        );
        world.assert_quiet();
    });
}
