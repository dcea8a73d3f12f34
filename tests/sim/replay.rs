//! Datagrams that were captured and are sent again: at once, later, from elsewhere, to a successor.

use crate::craft;
use crate::network::{Datagram, Rules};
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, STRANGER, World, server_config};
use std::time::Duration;
use vstp::proto::datagram::Event;

const MINUTE: Duration = Duration::from_secs(60);

/// A session, and everything that was sent to establish it.
fn captured(seed: u64) -> (World, Vec<Datagram>) {
    let mut world = World::pair(seed, &Rules::delay(10));
    world.network.record = true;
    world.establish(CLIENT, SERVER);
    world.run_for(Duration::from_millis(100));
    let sent = std::mem::take(&mut world.network.sent);
    (
        world,
        sent.into_iter().map(|(_, datagram)| datagram).collect(),
    )
}

/// The datagrams of this type with this header.
fn with(sent: &[Datagram], typ: u8, key: &str) -> Vec<Datagram> {
    let has = |datagram: &&Datagram| {
        let frames = craft::frames(&datagram.bytes);
        frames
            .iter()
            .any(|f| f.typ.as_u8() == typ && f.header(key).is_some())
    };
    sent.iter().filter(has).cloned().collect()
}

fn sid(datagram: &Datagram) -> Option<Vec<u8>> {
    let frames = craft::frames(&datagram.bytes);
    frames
        .iter()
        .find_map(|f| f.header("sid").map(<[u8]>::to_vec))
}

#[test]
fn du14_the_same_hello_from_the_same_address_is_the_same_session() {
    let (mut world, sent) = captured(1);
    let hello = with(&sent, craft::HELLO, "cookie").remove(0);
    let welcome = with(&sent, craft::WELCOME, "sid").remove(0);
    for _ in 0..5 {
        let answers = world.probe(CLIENT, SERVER, hello.bytes.clone());
        assert_eq!(answers.len(), 1, "the answer may have been lost");
        assert_eq!(sid(&answers[0]), sid(&welcome));
        world.run_for(Duration::from_secs(1));
    }
    // The cookie is over its 10 s; the client has its session and asks no more.
    world.run_for(Duration::from_secs(20));
    let answers = world.probe(CLIENT, SERVER, hello.bytes.clone());
    assert!(
        answers
            .iter()
            .all(|a| sid(a).is_none() || sid(a) == sid(&welcome)),
        "a second session"
    );
    let stats = world.endpoint(SERVER).stats();
    assert_eq!((stats.sessions, stats.sessions_opened), (1, 1));
    world.promise(CLIENT, SERVER, 100);
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    world.assert_quiet();
}

#[test]
fn du14_a_cookie_is_useless_elsewhere_and_at_a_successor() {
    let (mut world, sent) = captured(2);
    let hello = with(&sent, craft::HELLO, "cookie").remove(0);
    let mut other_port = CLIENT;
    other_port.set_port(4002);
    for from in [STRANGER, other_port] {
        let answers = world.probe(from, SERVER, hello.bytes.clone());
        assert!(
            answers.iter().all(|answer| sid(answer).is_none()),
            "a session for {from}"
        );
    }
    assert_eq!(world.endpoint(SERVER).stats().sessions, 1);
    world.restart(SERVER, server_config(|_| ()));
    let answers = world.probe(CLIENT, SERVER, hello.bytes);
    assert!(answers.iter().all(|answer| sid(answer).is_none()));
    assert_eq!(world.endpoint(SERVER).stats().sessions, 0);
}

#[test]
fn du14_a_welcome_that_comes_again_changes_nothing() {
    let (mut world, sent) = captured(3);
    for datagram in &sent {
        if datagram.to == CLIENT {
            assert_eq!(world.probe(SERVER, CLIENT, datagram.bytes.clone()), vec![]);
        }
    }
    let connected = |event: &&(Duration, Event)| matches!(event.1, Event::Connected { .. });
    assert_eq!(
        world.host(CLIENT).events.iter().filter(connected).count(),
        1
    );
    // After the session has ended too.
    world.close(CLIENT, SERVER);
    world.run_for(MINUTE);
    for datagram in &sent {
        world.probe(datagram.from, datagram.to, datagram.bytes.clone());
    }
    world.run_for(MINUTE);
    assert_eq!(
        world.host(CLIENT).events.iter().filter(connected).count(),
        1
    );
    world.network.record = false;
    world.assert_quiet();
}

#[test]
fn du14_everything_captured_sent_again_is_delivered_once() {
    seeds(5, |seed| {
        let (mut world, mut sent) = captured(seed);
        for _ in 0..10 {
            let len = world.rng.below(5000) as usize;
            world.promise(CLIENT, SERVER, len);
            world.promise(SERVER, CLIENT, len / 2);
            let frame = world.message(len);
            world
                .send(CLIENT, SERVER, frame)
                .expect("the endpoint takes it");
        }
        world.settle(MINUTE);
        sent.extend(world.network.sent.drain(..).map(|(_, datagram)| datagram));
        world.network.record = false;
        // The model fails on a second delivery.
        for _ in 0..3 {
            for datagram in &sent {
                let Datagram { from, to, bytes } = datagram.clone();
                world.inject(from, to, bytes);
                let pause = world.rng.up_to(Duration::from_millis(20));
                world.run_for(pause);
            }
            world.run_for(Duration::from_secs(11));
        }
        assert_eq!(world.endpoint(SERVER).stats().sessions_opened, 1);
        world.assert_quiet();
    });
}

#[test]
fn du14_a_bye_does_not_end_the_next_session() {
    let (mut world, _) = captured(4);
    world.close(CLIENT, SERVER);
    world.run_for(MINUTE);
    let sent: Vec<_> = world
        .network
        .sent
        .drain(..)
        .map(|(_, datagram)| datagram)
        .collect();
    let byes = with(&sent, craft::BYE, "sid");
    assert!(!byes.is_empty(), "a session ends by BYE with its sid");
    assert_eq!(world.endpoint(SERVER).stats().sessions, 0);
    world.establish(CLIENT, SERVER);
    for Datagram { from, to, bytes } in byes {
        world.inject(from, to, bytes);
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.endpoint(SERVER).stats().sessions, 1);
    assert_eq!(world.endpoint(CLIENT).stats().sessions, 1);
    world.promise(CLIENT, SERVER, 100);
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    world.network.record = false;
    world.assert_quiet();
}
