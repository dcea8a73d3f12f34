//! Sealed sessions: a network that reads, copies, changes and redirects everything, and an address that
//! changes. What plain sessions endure from strangers, these endure from whoever is on the path.

use crate::craft;
use crate::keys::Hand;
use crate::network::{Datagram, Fate, Rules};
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, STRANGER, World, addr, client_config, server_config};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vstp::proto::ErrorCode;
use vstp::proto::datagram::{DropReason, Event, Failure, SEALED_OVERHEAD, SendError};
use vstp::proto::rate::RateLimit;
use vstp::{Frame, FrameType};

const MINUTE: Duration = Duration::from_secs(60);
/// Magic, version, id, number.
const HEADER_LEN: usize = 19;

fn drops(world: &mut World, at: SocketAddr, reason: DropReason) -> u64 {
    world.endpoint(at).stats().dropped(reason)
}

/// What was sent from one address to another, without its time.
fn between(world: &World, from: SocketAddr, to: SocketAddr) -> Vec<Vec<u8>> {
    let all = world.network.sent.iter();
    let these = all.filter(|(_, d)| d.from == from && d.to == to);
    these.map(|(_, d)| d.bytes.clone()).collect()
}

fn number(datagram: &[u8]) -> u64 {
    let number = datagram[11..HEADER_LEN].try_into().expect("8 bytes");
    u64::from_be_bytes(number)
}

#[test]
fn du2_to_du6_sealed_over_a_path_that_does_everything_to_datagrams() {
    seeds(10, |seed| {
        let mut world = World::changed(seed, |config| {
            config.sealed_only = true;
            config.max_retries = 600;
            config.max_retry_delay = Duration::from_secs(1);
            config.delivery_timeout = Duration::from_secs(600);
            config.ping_interval = Duration::from_secs(120);
        });
        let rules = Rules {
            loss: 0.1,
            reorder: 0.2,
            reorder_by: Duration::from_millis(500),
            duplicate: 0.2,
            copies: 3,
            duplicate_by: Duration::from_secs(5),
            flip: 0.02,
            truncate: 0.01,
            concatenate: 0.01,
            ..Rules::delay(10)
        };
        world.network.both(CLIENT, SERVER, &rules);
        world.network.record = true;
        let used = world.connect_sealed(CLIENT, SERVER);
        let open = |world: &mut World| world.host(CLIENT).session(SERVER).is_none();
        assert!(world.run_while(MINUTE, open), "no session");
        for _ in 0..20 {
            let (from, to) = if world.rng.chance(0.5) {
                (CLIENT, SERVER)
            } else {
                (SERVER, CLIENT)
            };
            // The server knows the client once it has heard from it again.
            if world.host(SERVER).session(CLIENT).is_some() {
                let len = world.rng.below(20_000) as usize;
                world.promise(from, to, len);
            }
            let pause = world.rng.up_to(Duration::from_millis(200));
            world.run_for(pause);
        }
        world.settle(15 * MINUTE);
        world.model.assert_all_delivered();
        assert!(drops(&mut world, SERVER, DropReason::Replayed) > 0);
        let sealed = used.map(|used| used.lock().expect("no test panics with it").len());
        for (_, datagram) in &world.network.sent {
            assert!(datagram.bytes.starts_with(b"VS\x01"), "all is sealed");
        }
        let sent = [(CLIENT, SERVER), (SERVER, CLIENT)].map(|(from, to)| {
            let numbers = between(&world, from, to);
            let numbers: std::collections::HashSet<u64> =
                numbers.iter().map(|d| number(d)).collect();
            numbers.len()
        });
        assert_eq!(sent, sealed, "each number leaves once");
        world.network.record = false;
        world.assert_quiet();
    });
}

#[test]
fn du14_replayed_datagrams_change_nothing() {
    seeds(5, |seed| {
        let mut world = World::changed(seed, |config| config.sealed_only = true);
        world.network.both(CLIENT, SERVER, &Rules::delay(10));
        world.network.record = true;
        world.connect_sealed(CLIENT, SERVER);
        world.run_for(Duration::from_secs(1));
        world.promise(CLIENT, SERVER, 100_000);
        world.promise(SERVER, CLIENT, 500);
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        world.run_for(Duration::from_secs(1));
        let all = world.network.sent.clone();
        let (sent, replayed) = (
            world.network.sent_count,
            drops(&mut world, SERVER, DropReason::Replayed),
        );
        let mut to_server = 0;
        for (_, Datagram { from, to, bytes }) in &all {
            // From where it came, and from anywhere.
            for source in [*from, STRANGER] {
                assert_eq!(world.probe(source, *to, bytes.clone()), vec![]);
                to_server += u64::from(*to == SERVER);
            }
        }
        let now = drops(&mut world, SERVER, DropReason::Replayed);
        assert_eq!(now - replayed, to_server);
        assert_eq!(world.network.sent_count, sent, "none of it is answered");
        assert_eq!(world.model.foreign, vec![]);
        world.network.record = false;
        world.assert_quiet();
    });
}

#[test]
fn du6_each_flipped_bit_and_each_cut_is_found() {
    let (mut world, _) = World::sealed(1, &Rules::dead());
    world.network.record = true;
    world.promise(CLIENT, SERVER, 60);
    let datagram = between(&world, CLIENT, SERVER).pop().expect("it was sent");
    let sent = world.network.sent_count;
    let total = world.endpoint(SERVER).stats().dropped_total();
    let mut count = 0;
    for bit in 0..datagram.len() * 8 {
        let mut bad = datagram.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(world.probe(CLIENT, SERVER, bad), vec![], "bit {bit}");
        count += 1;
    }
    for len in 0..datagram.len() {
        let cut = datagram[..len].to_vec();
        assert_eq!(world.probe(CLIENT, SERVER, cut), vec![], "{len} bytes");
        count += 1;
    }
    let longer = [&datagram[..], &[0]].concat();
    let twice = [&datagram[..], &datagram].concat();
    for bytes in [longer, twice] {
        assert_eq!(world.probe(CLIENT, SERVER, bytes), vec![]);
        count += 1;
    }
    let stats = world.endpoint(SERVER).stats();
    assert_eq!(stats.dropped_total() - total, count, "each is counted");
    assert_eq!(world.network.sent_count, sent);
    assert!(world.host(SERVER).heard.is_empty());
    // The datagram itself is as good as ever: nothing was noted of the others.
    world.inject(CLIENT, SERVER, datagram);
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.host(SERVER).heard.len(), 1);
}

#[test]
fn du9_forged_reflected_and_unsealed_datagrams_change_nothing() {
    let (mut world, _) = World::sealed(2, &Rules::dead());
    world.network.record = true;
    world.promise(CLIENT, SERVER, 100);
    world.promise(SERVER, CLIENT, 100);
    let up = between(&world, CLIENT, SERVER).pop().expect("it was sent");
    let down = between(&world, SERVER, CLIENT).pop().expect("it was sent");
    // Back to its sender: the id is that of the other direction.
    let unknown = drops(&mut world, SERVER, DropReason::UnknownSession);
    assert_eq!(world.probe(CLIENT, SERVER, down.clone()), vec![]);
    assert_eq!(world.probe(SERVER, CLIENT, up.clone()), vec![]);
    let now = drops(&mut world, SERVER, DropReason::UnknownSession);
    assert_eq!(now, unknown + 1);
    // The same with the id that is right: the key is not, and neither is the nonce.
    let forged = drops(&mut world, SERVER, DropReason::Forged);
    let mut reflected = down.clone();
    reflected[3..11].copy_from_slice(&up[3..11]);
    reflected[11..HEADER_LEN].copy_from_slice(&u64::to_be_bytes(1000));
    assert_eq!(world.probe(CLIENT, SERVER, reflected), vec![]);
    // Bytes of somebody who knows the id and the number, and no key.
    for len in [SEALED_OVERHEAD, SEALED_OVERHEAD + 1, 1200, 65_507] {
        let mut bytes = world.rng.bytes(len);
        bytes[..11].copy_from_slice(&up[..11]);
        bytes[11..HEADER_LEN].copy_from_slice(&u64::to_be_bytes(2000));
        assert_eq!(world.probe(CLIENT, SERVER, bytes), vec![]);
    }
    assert_eq!(drops(&mut world, SERVER, DropReason::Forged), forged + 5);
    // Numbers that nobody may use.
    let invalid = drops(&mut world, SERVER, DropReason::Invalid);
    for number in [1 << 28, u64::MAX - 1, u64::MAX] {
        let mut bytes = up.clone();
        bytes[11..HEADER_LEN].copy_from_slice(&u64::to_be_bytes(number));
        assert_eq!(world.probe(CLIENT, SERVER, bytes), vec![]);
    }
    assert_eq!(drops(&mut world, SERVER, DropReason::Invalid), invalid + 3);
    // Every type of frame in plaintext, to either side, from the right address and from another.
    let unsealed = drops(&mut world, SERVER, DropReason::Unsealed);
    let mut count = 0;
    for typ in 0..=0xff {
        for source in [CLIENT, STRANGER] {
            let bytes = craft::padded(typ, 0, &[("msg-id", b"7")], 1200);
            assert_eq!(world.probe(source, SERVER, bytes.clone()), vec![]);
            assert_eq!(world.probe(SERVER, CLIENT, bytes), vec![]);
            count += 1;
        }
    }
    let now = drops(&mut world, SERVER, DropReason::Unsealed);
    assert_eq!(now, unsealed + count);
    assert!(world.host(SERVER).heard.is_empty() && world.host(CLIENT).heard.is_empty());
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    world.assert_quiet();
}

#[test]
fn unsealed_frames_beside_a_sealed_session() {
    let mut world = World::new(3);
    world.add(SERVER, server_config(|_| ()));
    world.add(CLIENT, client_config(|config| config.sealed_only = true));
    world.add(STRANGER, client_config(|_| ()));
    world.connect_sealed(CLIENT, SERVER);
    world.run_for(Duration::from_secs(1));
    // Others may speak plainly here, but nobody in the name of this client.
    world.promise(STRANGER, SERVER, 100);
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    let bye = craft::frame(craft::BYE, 0, &[], b"");
    let hello = craft::padded(craft::HELLO, 0, &[], 1200);
    for bytes in [bye, hello] {
        assert_eq!(world.probe(CLIENT, SERVER, bytes), vec![]);
    }
    assert_eq!(drops(&mut world, SERVER, DropReason::Unsealed), 2);
    // And the client says nothing in plaintext, whatever it is asked.
    let frame = Frame::data("secret");
    let to = addr([192, 0, 2, 7], 1);
    let refused = Err(SendError::NotSealed);
    assert_eq!(world.send(CLIENT, to, frame.clone()), refused);
    let refused = Err(SendError::NotSealed);
    assert_eq!(world.send_with_ack(CLIENT, to, frame), refused);
    world.assert_quiet();
}

#[test]
fn a_handshake_that_is_lost_redirected_or_refused() {
    // The first HELLO is carried to the server as if from a victim, the others are lost for a while.
    let mut world = World::changed(4, |config| config.sealed_only = true);
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    world.network.record = true;
    let first = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&first);
    world.network.filter = Some(Box::new(move |_, datagram| {
        let mut seen = seen.lock().expect("no test panics with it");
        let is_first = seen.is_none();
        seen.get_or_insert_with(|| datagram.bytes.clone());
        if is_first { Fate::Drop } else { Fate::Pass }
    }));
    world.connect_sealed(CLIENT, SERVER);
    let hello = first.lock().expect("no test panics with it").clone();
    let hello = hello.expect("it was sent");
    assert_eq!(hello.len(), 1200);
    let answers = world.probe(STRANGER, SERVER, hello.clone());
    assert_eq!(answers.len(), 1, "WELCOME, to where it came from");
    assert!(answers[0].to == STRANGER && answers[0].bytes.len() <= hello.len());
    world.model.addresses_change = true;
    // Nothing else goes there: not what the application says, not PING, not BYE.
    world.promise(SERVER, STRANGER, 5000);
    world.run_for(Duration::from_millis(400));
    assert_eq!(between(&world, SERVER, STRANGER).len(), 0);
    // The client says HELLO again, and has its session.
    world.run_for(Duration::from_secs(1));
    assert!(world.host(CLIENT).session(SERVER).is_some());
    assert!(world.host(SERVER).session(CLIENT).is_some());
    assert_eq!(between(&world, SERVER, STRANGER).len(), 0);
    world.model.addresses_change = true;
    world.settle(MINUTE);
    assert_eq!(
        world.host(CLIENT).heard.len(),
        1,
        "it waited for the client"
    );

    // No place.
    let mut world = World::new(5);
    world.add(SERVER, server_config(|config| config.max_sessions = 1));
    world.add(CLIENT, client_config(|config| config.sealed_only = true));
    world.add(STRANGER, client_config(|_| ()));
    world.establish(STRANGER, SERVER);
    world.connect_sealed(CLIENT, SERVER);
    world.run_for(Duration::from_secs(1));
    let refused = world.host(CLIENT).events.iter().any(|(_, event)| {
        let busy = Failure::Refused(ErrorCode::Busy);
        matches!(event, Event::ConnectFailed { failure, .. } if *failure == busy)
    });
    assert!(refused, "{:?}", world.host(CLIENT).events);

    // Nobody has the keys.
    let mut world = World::changed(6, |config| config.sealed_only = true);
    world.add(STRANGER, server_config(|config| config.sealed_only = true));
    world.connect_sealed(CLIENT, SERVER);
    world.restart(SERVER, server_config(|config| config.sealed_only = true));
    world.run_for(Duration::from_secs(30));
    let timed_out = world.host(CLIENT).events.iter().any(|(_, event)| {
        matches!(event, Event::ConnectFailed { failure, .. } if *failure == Failure::TimedOut)
    });
    assert!(timed_out && world.host(CLIENT).session(SERVER).is_none());
    world.assert_quiet();
}

#[test]
fn the_end_of_the_tls_session_is_the_end() {
    let mut world = World::changed(7, |config| config.sealed_only = true);
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    world.network.record = true;
    world.connect_sealed(CLIENT, SERVER);
    world.run_for(Duration::from_secs(1));
    let datagram = between(&world, CLIENT, SERVER).pop().expect("it was sent");
    let id: [u8; 8] = datagram[3..11].try_into().expect("8 bytes");
    world.promise(CLIENT, SERVER, 100_000);
    world.run_for(Duration::from_millis(25));
    world.end_sealed(SERVER, id);
    world.run_for(Duration::from_secs(1));
    let by_peer = world.host(CLIENT).closed(SERVER).map(|(_, by)| by);
    assert_eq!(by_peer, Some(Failure::PeerBye(None)));
    assert!(world.host(SERVER).closed(CLIENT).is_some());
    assert_eq!(world.model.failed_count(), 1);
    // What comes late finds nobody.
    assert_eq!(world.probe(CLIENT, SERVER, datagram), vec![]);
    let frame = world.message(10);
    let refused = world.send(SERVER, CLIENT, frame);
    assert_eq!(refused, Err(SendError::NotSealed), "and not in plaintext");
    world.network.record = false;
    world.assert_quiet();
}

/// A client with a sealed session whose server is the test's own hand from now on, and a message that the
/// client has sent to it and that is not acknowledged.
fn against_a_hand(seed: u64, len: usize) -> (World, Hand, Vec<Frame>) {
    let mut world = World::changed(seed, |config| config.sealed_only = true);
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    let (_, hand) = world.connect_by_hand(CLIENT, SERVER);
    world.run_for(Duration::from_secs(1));
    world.network.both(CLIENT, SERVER, &Rules::dead());
    world.network.record = true;
    world.promise(CLIENT, SERVER, len);
    world.run_for(Duration::from_millis(10));
    let sent = between(&world, CLIENT, SERVER);
    let frames = sent.iter().flat_map(|datagram| hand.open(datagram));
    let frames: Vec<_> = frames.filter(|frame| frame.typ.is_message()).collect();
    assert!(!frames.is_empty(), "it was sent");
    (world, hand, frames)
}

fn ack(flags: u8, key: &str, id: u64, payload: &[u8]) -> Vec<u8> {
    // With a checksum, which a frame in a sealed datagram need not have.
    craft::frame(
        craft::ACK,
        flags | craft::CRC,
        &[(key, id.to_string().as_bytes())],
        payload,
    )
}

#[test]
fn du11_an_authentic_acknowledgement_of_what_was_never_sent_ends_a_sealed_session() {
    type Forge = Box<dyn Fn(&[Frame]) -> Vec<u8>>;
    let msg_id = |frames: &[Frame]| craft::number(&frames[0], "msg-id").expect("it has one");
    let frag_id = |frames: &[Frame]| craft::number(&frames[0], "frag-id").expect("it has one");
    let cases: [(usize, &str, Forge); 11] = [
        (
            100,
            "the message and the next",
            Box::new(move |f| ack(0, "msg-id", msg_id(f), &craft::ranges(&[(0, 2)]))),
        ),
        (
            100,
            "one before all, and the message",
            Box::new(move |f| ack(0, "msg-id", msg_id(f) - 1, &craft::ranges(&[(0, 2)]))),
        ),
        (
            100,
            "the next message",
            Box::new(move |f| ack(0, "msg-id", msg_id(f) + 1, b"")),
        ),
        (
            100,
            "the one before all",
            Box::new(move |f| ack(0, "msg-id", msg_id(f) - 1, b"")),
        ),
        (100, "none", Box::new(|_| ack(0, "msg-id", 0, b""))),
        (
            100,
            "the last number",
            Box::new(|_| ack(0, "msg-id", u64::MAX - 1, b"")),
        ),
        (
            100,
            "a set",
            Box::new(|_| ack(craft::FRAG, "frag-id", 7, &[0, 1])),
        ),
        (
            200_000,
            "the next set",
            Box::new(move |f| ack(craft::FRAG, "frag-id", frag_id(f) + 1, &[0, 1])),
        ),
        (
            200_000,
            "a fragment that waits",
            Box::new(move |f| {
                let sent = f.len() as u64;
                ack(
                    craft::FRAG,
                    "frag-id",
                    frag_id(f),
                    &craft::ranges(&[(sent, 1)]),
                )
            }),
        ),
        (
            200_000,
            "all fragments",
            Box::new(move |f| {
                let total = craft::number(&f[0], "frag-total").expect("it has one");
                ack(
                    craft::FRAG,
                    "frag-id",
                    frag_id(f),
                    &craft::ranges(&[(0, total)]),
                )
            }),
        ),
        (
            200_000,
            "nothing but the window",
            Box::new(|_| ack(craft::FRAG, "frag-id", u64::MAX, b"")),
        ),
    ];
    for (len, what, forge) in cases {
        let (mut world, hand, frames) = against_a_hand(21, len);
        let unexpected = drops(&mut world, CLIENT, DropReason::Unexpected);
        let answers = world.probe(SERVER, CLIENT, hand.seal(1 << 20, &forge(&frames)));
        let closed = world.host(CLIENT).closed(SERVER).map(|(_, by)| by);
        assert_eq!(closed, Some(Failure::BadAck), "{what}");
        assert_eq!(world.model.failed_count(), 1, "{what}");
        assert_eq!(
            drops(&mut world, CLIENT, DropReason::Unexpected),
            unexpected + 1
        );
        // The peer is told, once, and not when it goes on.
        let [answer] = &answers[..] else {
            panic!("{what}: {answers:?}");
        };
        let [error] = &hand.open(&answer.bytes)[..] else {
            panic!("{what}: one frame");
        };
        assert_eq!(
            (error.typ, error.header_str("code")),
            (FrameType::Err, Some("protocol"))
        );
        let again = hand.seal(1 << 21, &forge(&frames));
        assert_eq!(world.probe(SERVER, CLIENT, again), vec![], "{what}");
        world.network.record = false;
        world.assert_quiet();
    }
}

#[test]
fn du11_the_peer_learns_that_its_acknowledgement_ended_the_session() {
    let mut world = World::changed(22, |config| config.sealed_only = true);
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    let (_, hand) = world.connect_by_hand(CLIENT, SERVER);
    world.run_for(Duration::from_secs(1));
    world.inject(
        SERVER,
        CLIENT,
        hand.seal(1 << 20, &ack(0, "msg-id", 0, b"")),
    );
    world.run_for(Duration::from_secs(1));
    let ends = [(CLIENT, SERVER), (SERVER, CLIENT)].map(|(at, peer)| {
        let closed = world.host(at).closed(peer);
        closed.map(|(_, by)| by)
    });
    let refused = Failure::Refused(ErrorCode::Protocol);
    assert_eq!(ends, [Some(Failure::BadAck), Some(refused)]);
    world.assert_quiet();
}

/// The same where the first of several messages is one that was sent: what is not is found behind it.
#[test]
fn du11_a_number_behind_the_first_is_judged_as_well() {
    let all = |count: u64| craft::ranges(&[(0, count)]);
    // What was sent next, and whether the first was acknowledged before.
    let cases = [
        ("sent + queued", vec![1000; 100], false),
        ("known + queued", vec![1000; 100], true),
        ("sent + incomplete set", vec![200_000], false),
        ("known + incomplete set", vec![200_000], true),
    ];
    for (what, others, acknowledged) in cases {
        let (mut world, hand, frames) = against_a_hand(25, 100);
        let id = craft::number(&frames[0], "msg-id").expect("it has one");
        for len in &others {
            world.promise(CLIENT, SERVER, *len);
        }
        for datagram in between(&world, CLIENT, SERVER) {
            world.probe(CLIENT, SERVER, datagram);
        }
        if acknowledged {
            let known = hand.seal(1 << 20, &ack(0, "msg-id", id, b""));
            world.probe(SERVER, CLIENT, known);
            assert_eq!(world.model.delivered_count(), 1, "{what}");
        }
        let delivered = world.model.delivered_count();
        let payload = all(1 + others.len() as u64);
        let bytes = hand.seal(1 << 21, &ack(0, "msg-id", id, &payload));
        world.probe(SERVER, CLIENT, bytes);
        let closed = world.host(CLIENT).closed(SERVER).map(|(_, by)| by);
        assert_eq!(closed, Some(Failure::BadAck), "{what}");
        assert_eq!(
            world.model.delivered_count(),
            delivered,
            "{what}: nothing of it"
        );
        world.network.record = false;
        world.assert_quiet();
    }
}

/// The twin: around a set that is half sent, what an honest peer has got.
#[test]
fn du11_numbers_around_a_set_that_is_on_its_way_end_nothing() {
    let (mut world, hand, frames) = against_a_hand(26, 100);
    let id = craft::number(&frames[0], "msg-id").expect("it has one");
    world.promise(CLIENT, SERVER, 200_000);
    world.promise(CLIENT, SERVER, 100);
    let seal =
        |number: u64, payload: &[u8]| hand.seal((1 << 20) + number, &ack(0, "msg-id", id, payload));
    let sent = between(&world, CLIENT, SERVER);
    let opened = sent.iter().flat_map(|datagram| hand.open(datagram));
    let fragment = { opened }.find(craft::is_fragment).expect("it was sent");
    let set = craft::number(&fragment, "frag-id").expect("it has one");
    // Makes room for the third. All that was sent has arrived.
    let some = ack(craft::FRAG, "frag-id", set, &craft::ranges(&[(0, 3)]));
    let more = world.probe(SERVER, CLIENT, hand.seal(1 << 20, &some));
    for datagram in sent
        .into_iter()
        .chain(more.into_iter().map(|sent| sent.bytes))
    {
        world.probe(CLIENT, SERVER, datagram);
    }
    for number in 1..10 {
        world.probe(
            SERVER,
            CLIENT,
            seal(number, &craft::ranges(&[(0, 1), (1, 1)])),
        );
    }
    assert_eq!(world.model.delivered_count(), 2);
    assert!(world.host(CLIENT).closed(SERVER).is_none());
}

/// The twin: whatever an honest peer may come to send, late and often, and whatever a stranger may.
#[test]
fn du11_late_and_repeated_acknowledgements_and_forged_ones_end_nothing() {
    let (mut world, hand, frames) = against_a_hand(23, 100);
    let id = craft::number(&frames[0], "msg-id").expect("it has one");
    // Not sealed, or sealed by nobody who has the keys.
    world.probe(SERVER, CLIENT, ack(0, "msg-id", id + 1, b""));
    let mut forged = hand.seal(1 << 20, &ack(0, "msg-id", id + 1, b""));
    *forged.last_mut().expect("it has a tag") ^= 1;
    world.probe(SERVER, CLIENT, forged);
    // It arrived, and each copy of its acknowledgement as well.
    for datagram in between(&world, CLIENT, SERVER) {
        world.probe(CLIENT, SERVER, datagram);
    }
    for number in 0..100 {
        let bytes = hand.seal((1 << 21) + number, &ack(0, "msg-id", id, b""));
        world.probe(SERVER, CLIENT, bytes);
    }
    assert_eq!(world.model.pending_count(), 0, "acknowledged by the first");
    // One that is no acknowledgement at all is dropped as ever.
    let nonsense = craft::frame(craft::ACK, craft::CRC, &[("msg-id", b"x")], b"");
    world.probe(SERVER, CLIENT, hand.seal(1 << 22, &nonsense));
    // A set of which only a part was sent: that part may be acknowledged, again and again.
    world.promise(CLIENT, SERVER, 200_000);
    world.run_for(Duration::from_millis(10));
    let sent = between(&world, CLIENT, SERVER);
    let frames = sent.iter().flat_map(|datagram| hand.open(datagram));
    let fragment = { frames }.find(craft::is_fragment).expect("it was sent");
    let set = craft::number(&fragment, "frag-id").expect("it has one");
    for number in 0..100 {
        let bytes = hand.seal(
            (1 << 23) + number,
            &ack(craft::FRAG, "frag-id", set, &[0, 1]),
        );
        world.probe(SERVER, CLIENT, bytes);
    }
    assert!(world.host(CLIENT).closed(SERVER).is_none());
    assert!(world.host(CLIENT).session(SERVER).is_some());
}

#[test]
fn the_session_ends_before_its_numbers_do() {
    let mut world = World::changed(8, |config| {
        config.sealed_only = true;
        config.max_sealed_datagrams = 200;
    });
    world.network.both(CLIENT, SERVER, &Rules::delay(10));
    let used = world.connect_sealed(CLIENT, SERVER);
    world.run_for(Duration::from_secs(1));
    world.promise(CLIENT, SERVER, 1000);
    world.settle(MINUTE);
    world.promise(CLIENT, SERVER, 1_000_000);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.model.failed_count(), 1);
    assert_eq!(
        world.model.delivered_count(),
        1,
        "what was before is not lost"
    );
    let [sealed, _] = used.map(|used| used.lock().expect("no test panics with it").len());
    assert!((136..=200).contains(&sealed), "{sealed}");
    let by_peer = world.host(SERVER).closed(CLIENT).map(|(_, by)| by);
    assert_eq!(by_peer, Some(Failure::PeerBye(None)), "it said goodbye");
    world.assert_quiet();
}

/// A client behind a NAT, and two addresses that it has outside.
fn behind_nat(seed: u64) -> (World, [SocketAddr; 2]) {
    let mut world = World::changed(seed, |config| config.sealed_only = true);
    world.model.addresses_change = true;
    let outside = [addr([198, 51, 100, 1], 1), addr([198, 51, 100, 2], 2)];
    for outside in outside {
        world.network.both(outside, SERVER, &Rules::delay(20));
    }
    world.network.rebind(CLIENT, outside[0]);
    world.connect_sealed(CLIENT, SERVER);
    world.run_for(Duration::from_secs(1));
    assert!(world.host(SERVER).session(outside[0]).is_some());
    (world, outside)
}

#[test]
fn du12_a_sealed_session_moves_with_its_client() {
    seeds(10, |seed| {
        let (mut world, outside) = behind_nat(seed);
        // Up and down, in the middle of the transfer and of the reassembly.
        world.promise(CLIENT, SERVER, 300_000);
        world.promise(SERVER, outside[0], 300_000);
        let pause = Duration::from_millis(world.rng.between(30, 200));
        world.run_for(pause);
        world.network.record = true;
        world.network.rebind(CLIENT, outside[1]);
        let moved = world.run_while(MINUTE, |world| {
            world.host(SERVER).session(outside[1]).is_none()
        });
        assert!(moved, "the session is still at the old address");
        // Until the new address had answered, no more went there than came from there, and the old one
        // was kept.
        let len = |from, to| {
            between(&world, from, to)
                .iter()
                .map(Vec::len)
                .sum::<usize>()
        };
        let (there, here) = (len(SERVER, outside[1]), len(outside[1], SERVER));
        assert!(there > 0 && there <= here, "{there} of {here}");
        world.settle(2 * MINUTE);
        world.model.assert_all_delivered();
        assert_eq!(world.endpoint(SERVER).stats().sessions_moved, 1);
        // Who still writes to the old address reaches the client.
        world.promise(SERVER, outside[0], 5000);
        // And back again.
        world.network.rebind(CLIENT, outside[0]);
        world.promise(CLIENT, SERVER, 100_000);
        world.settle(2 * MINUTE);
        world.model.assert_all_delivered();
        assert_eq!(world.endpoint(SERVER).stats().sessions_moved, 2);
        assert!(world.host(SERVER).session(outside[0]).is_some());
        world.network.record = false;
        world.assert_quiet();
    });
}

#[test]
fn du12_a_copy_from_elsewhere_does_not_carry_the_session_away() {
    seeds(5, |seed| {
        let (mut world, [outside, _]) = behind_nat(seed);
        world.network.record = true;
        // Somebody on the path is faster: of each datagram a copy arrives first, from an address that does
        // not answer.
        let copies = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&copies);
        world.network.filter = Some(Box::new(move |_, datagram| {
            if datagram.to == SERVER {
                let mut copies = sink.lock().expect("no test panics with it");
                copies.push(datagram.bytes.clone());
            }
            Fate::Pass
        }));
        world.promise(CLIENT, SERVER, 200_000);
        for _ in 0..400 {
            let taken = std::mem::take(&mut *copies.lock().expect("no test panics with it"));
            for bytes in taken {
                world.inject(STRANGER, SERVER, bytes);
            }
            world.run_for(Duration::from_millis(5));
        }
        world.settle(2 * MINUTE);
        world.model.assert_all_delivered();
        let stats = world.endpoint(SERVER).stats().clone();
        assert_eq!(stats.sessions_moved, 0);
        assert!(world.host(SERVER).session(outside).is_some());
        let to_copier = between(&world, SERVER, STRANGER);
        assert!(!to_copier.is_empty(), "it was challenged");
        let len: usize = to_copier.iter().map(Vec::len).sum();
        assert!(len < 2000, "{len} bytes to it");
        // An answer that somebody makes up is none: it would have to be sealed.
        let pong = craft::frame(0x05, 0, &[], &[7; 8]);
        assert_eq!(world.probe(STRANGER, SERVER, pong), vec![]);
        world.network.filter = None;
        world.network.record = false;
        world.assert_quiet();
    });
}

#[test]
fn du12_an_address_of_another_session_is_not_taken() {
    let mut world = World::changed(9, |config| config.sealed_only = true);
    world.model.addresses_change = true;
    let other = addr([10, 0, 0, 2], 4002);
    world.add(other, client_config(|config| config.sealed_only = true));
    world.connect_sealed(CLIENT, SERVER);
    world.connect_sealed(other, SERVER);
    world.run_for(Duration::from_secs(1));
    world.network.rebind(other, CLIENT);
    world.promise(other, SERVER, 1000);
    world.run_for(Duration::from_secs(5));
    let session = world.host(CLIENT).session(SERVER);
    assert_eq!(world.host(SERVER).session(CLIENT), session);
    assert_eq!(world.endpoint(SERVER).stats().sessions_moved, 0);
}

#[test]
fn a_plain_client_that_is_judged_does_not_take_the_address_of_a_sealed_session() {
    let mut world = World::changed(9, |config| {
        config.auth_timeout = Some(Duration::from_secs(5));
    });
    let waiting = |world: &mut World| {
        let mut events = world.host(SERVER).events.iter().rev();
        events.find_map(|(_, event)| match event {
            Event::Hello { client, .. } => Some(*client),
            _ => None,
        })
    };
    world.connect(CLIENT, SERVER);
    assert!(world.run_while(MINUTE, |world| waiting(world).is_none()));
    let client = waiting(&mut world).expect("it is judged");
    world.close(CLIENT, SERVER);
    world.connect_sealed(CLIENT, SERVER);
    world.run_for(Duration::from_secs(1));
    let session = world.host(CLIENT).session(SERVER);
    assert!(session.is_some());
    assert_eq!(world.host(SERVER).session(CLIENT), session);
    world.network.record = true;
    assert_eq!(world.admit(SERVER, client), None);
    world.promise(SERVER, CLIENT, 5000);
    // Longer than the time in which somebody would have had to decide.
    world.run_for(Duration::from_secs(10));
    world.model.assert_all_delivered();
    assert_eq!(world.host(SERVER).session(CLIENT), session);
    for datagram in between(&world, SERVER, CLIENT) {
        assert!(
            datagram.starts_with(b"VS"),
            "nothing goes there in plaintext"
        );
    }
}

#[test]
fn e12_sealed_messages_over_the_rate_are_dropped_and_those_to_be_acknowledged_come_again() {
    let mut world = World::changed(9, |config| {
        config.rate_limit = Some(RateLimit::default().frames(20, 50));
    });
    world.connect_sealed(CLIENT, SERVER);
    world.run_for(Duration::from_secs(1));
    for _ in 0..50 {
        world.promise(CLIENT, SERVER, 100);
    }
    world.run_for(Duration::from_secs(1));
    world.model.assert_all_delivered();
    assert_eq!(drops(&mut world, SERVER, DropReason::RateLimited), 0);
    for _ in 0..100 {
        world.promise(CLIENT, SERVER, 100);
    }
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    assert!(drops(&mut world, SERVER, DropReason::RateLimited) > 0);
}
