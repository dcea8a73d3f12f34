//! Datagrams from somebody who can write any source address and any bytes, but cannot read.

use crate::craft::{self, Entry};
use crate::network::{Datagram, Rules};
use crate::plan::seeds;
use crate::world::{CLIENT, SERVER, STRANGER, World, server_config};
use std::time::Duration;
use vstp::proto::datagram::{DropReason, Progress};

const MINUTE: Duration = Duration::from_secs(60);

/// The msg-id, as written, of the only message with one among the datagrams.
fn message_id(sent: &[(Duration, Datagram)]) -> String {
    let frames = sent
        .iter()
        .flat_map(|(_, datagram)| craft::frames(&datagram.bytes));
    let mut ids = frames
        .filter(|f| f.typ.is_message())
        .filter_map(|f| f.header_str("msg-id").map(str::to_owned));
    ids.next().expect("a message was sent")
}

#[test]
fn du9_frames_with_another_sid_change_nothing() {
    seeds(4, |seed| {
        let mut world = World::session(seed, &Rules::delay(10));
        world.promise(CLIENT, SERVER, 200_000);
        world.run_for(Duration::from_millis(50));
        let sid = world.rng.bytes(16);
        let text = b"10".as_slice();
        let extra: [&[Entry<'_>]; 4] = [
            &[],
            &[("msg-id", text)],
            &[
                ("frag-id", text),
                ("frag-index", text),
                ("frag-total", b"20"),
                ("frag-len", b"20"),
            ],
            &[("code", b"shutting-down"), ("window", b"0")],
        ];
        let before = world.network.sent_count;
        let opened = world.endpoint(SERVER).stats().sessions_opened;
        let mut plain = world.endpoint(SERVER).stats().dropped_total();
        for typ in 0..=0x20 {
            for flags in [0, craft::REQ_ACK, craft::FRAG, craft::REQ_ACK | craft::FRAG] {
                for headers in extra {
                    let mut headers = headers.to_vec();
                    headers.push(("sid", &sid));
                    for (from, to) in [(CLIENT, SERVER), (STRANGER, SERVER), (SERVER, CLIENT)] {
                        let bytes = craft::frame(typ, flags, &headers, b"");
                        world.inject(from, to, bytes);
                        plain += u64::from(to == SERVER);
                    }
                }
            }
        }
        world.run_for(Duration::ZERO);
        let stats = world.endpoint(SERVER).stats().clone();
        assert!(stats.dropped_total() >= plain, "each is counted");
        assert_eq!(stats.sessions_opened, opened);
        assert_eq!(world.network.sent_count, before, "none of it is answered");
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        assert!(world.host(CLIENT).closed(SERVER).is_none());
        assert!(world.host(SERVER).closed(CLIENT).is_none());
        let again = world.endpoint(CLIENT).stats().retransmissions;
        assert!(again <= 2, "{again} retransmissions without loss");
        world.assert_quiet();
    });
}

#[test]
fn du9_a_frame_without_sid_belongs_to_no_session() {
    let mut world = World::session(1, &Rules::delay(10));
    let bye = craft::frame(craft::BYE, 0, &[], b"");
    assert_eq!(world.probe(CLIENT, SERVER, bye.clone()), vec![]);
    assert_eq!(world.probe(SERVER, CLIENT, bye), vec![]);
    let data = craft::frame(craft::DATA, 0, &[], b"");
    world.probe(CLIENT, SERVER, data);
    assert_eq!(world.model.foreign.len(), 1);
    let (_, _, session) = world.host(SERVER).heard[0];
    assert_eq!(session, None, "it does not speak for the session");
    world.model.foreign.clear();
    world.promise(CLIENT, SERVER, 10);
    world.settle(MINUTE);
    world.model.assert_all_delivered();
    world.assert_quiet();
}

#[test]
fn du10_an_acknowledgement_from_elsewhere_or_of_garbage_is_none() {
    for with_session in [false, true] {
        let mut world = World::pair(1, &Rules::delay(10));
        if with_session {
            world.establish(CLIENT, SERVER);
        }
        world.network.both(CLIENT, SERVER, &Rules::dead());
        world.network.record = true;
        world.promise(CLIENT, SERVER, 100);
        world.run_for(Duration::from_millis(100));
        let id = message_id(&world.network.sent);
        let good: Entry<'_> = ("msg-id", id.as_bytes());
        let forged =
            |headers: &[Entry<'_>], payload: &[u8]| craft::frame(craft::ACK, 0, headers, payload);
        // The right number from the wrong address.
        world.inject(STRANGER, CLIENT, forged(&[good], b""));
        // The right address with numbers that are none.
        let zero = format!("0{id}");
        let values: [&[u8]; 8] = [
            b"",
            b"-1",
            b"+1",
            b"x",
            b"\xff\xfe",
            b"18446744073709551616",
            b"1.0",
            zero.as_bytes(),
        ];
        for value in values {
            world.inject(SERVER, CLIENT, forged(&[("msg-id", value)], b""));
        }
        world.inject(SERVER, CLIENT, forged(&[good, good], b""));
        world.inject(SERVER, CLIENT, forged(&[], b""));
        for payload in [&[0xff; 1000][..], &[0x80; 9], &[0, 0], &[1]] {
            let bytes = craft::frame(craft::ACK, craft::FRAG, &[("frag-id", b"1")], payload);
            world.inject(SERVER, CLIENT, bytes);
        }
        if with_session {
            world.inject(SERVER, CLIENT, forged(&[good], b""));
            world.inject(SERVER, CLIENT, forged(&[good, ("sid", &[0; 16])], b""));
        }
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.model.pending_count(), 1);
        let dropped = world.endpoint(CLIENT).stats().dropped_total();
        assert!(dropped >= 14, "only {dropped} were counted");
        world.network.both(CLIENT, SERVER, &Rules::delay(10));
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        assert!(world.endpoint(CLIENT).stats().retransmissions > 0);
        world.assert_quiet();
    }
}

#[test]
fn du11_an_acknowledgement_of_nothing_is_counted_and_ignored() {
    // In plaintext, and so even with the number of the session, which whoever is on the way can read.
    for mut world in [
        World::pair(1, &Rules::delay(10)),
        World::session(1, &Rules::delay(10)),
    ] {
        world.network.record = true;
        world.promise(CLIENT, SERVER, 100);
        world.settle(MINUTE);
        let id: u64 = message_id(&world.network.sent).parse().expect("a number");
        let sent = world.network.sent.iter();
        let mut frames = sent.flat_map(|(_, datagram)| craft::frames(&datagram.bytes));
        let sid = frames.find_map(|frame| frame.header("sid").map(<[u8]>::to_vec));
        let has_session = world.host(CLIENT).session(SERVER).is_some();
        assert_eq!(sid.is_some(), has_session);
        let before = world.endpoint(CLIENT).stats().dropped_total();
        for other in [id, id + 1, id.wrapping_sub(1), 0, u64::MAX] {
            let other = other.to_string();
            let mut headers: Vec<Entry<'_>> = vec![("msg-id", other.as_bytes())];
            headers.extend(sid.as_deref().map(|sid| ("sid", sid)));
            let bytes = craft::frame(craft::ACK, 0, &headers, b"");
            assert_eq!(world.probe(SERVER, CLIENT, bytes), vec![]);
        }
        let dropped = world.endpoint(CLIENT).stats().dropped_total() - before;
        assert!(dropped >= 4, "only {dropped} were counted");
        assert_eq!(world.host(CLIENT).session(SERVER).is_some(), has_session);
        world.promise(CLIENT, SERVER, 100);
        world.settle(MINUTE);
        world.model.assert_all_delivered();
        world.assert_quiet();
    }
}

#[test]
fn du13_fragments_are_not_acknowledged_before_they_are_sent() {
    let mut world = World::pair(1, &Rules::dead());
    world.network.record = true;
    let token = world.promise(CLIENT, SERVER, 200_000);
    world.run_for(Duration::from_millis(10));
    let frames: Vec<_> = world
        .network
        .sent
        .iter()
        .flat_map(|(_, d)| craft::frames(&d.bytes))
        .collect();
    let fragments: Vec<_> = frames
        .iter()
        .filter(|frame| craft::is_fragment(frame))
        .collect();
    let id = craft::number(fragments[0], "frag-id")
        .expect("a fragment has its set")
        .to_string();
    let total = craft::number(fragments[0], "frag-total").expect("a fragment has its total");
    let sent = fragments.len() as u64;
    assert!((1..total).contains(&sent), "{sent} of {total} at once");
    let ack = |pairs: &[(u64, u64)]| {
        let headers: [Entry<'_>; 2] = [("frag-id", id.as_bytes()), ("window", b"1000000")];
        craft::frame(craft::ACK, craft::FRAG, &headers, &craft::ranges(pairs))
    };
    for pairs in [
        &[(0, total)][..],
        &[(0, 1), (sent, 1)],
        &[(0, total + 1)],
        &[(total - 1, 1)],
    ] {
        world.probe(SERVER, CLIENT, ack(pairs));
        let progress = world.endpoint(CLIENT).progress(token);
        let none = progress.is_some_and(|Progress { acknowledged, .. }| acknowledged == 0);
        assert!(none, "{pairs:?}: {progress:?}");
    }
    // What was sent may be acknowledged.
    world.probe(SERVER, CLIENT, ack(&[(0, 1)]));
    let progress = world
        .endpoint(CLIENT)
        .progress(token)
        .expect("it is still pending");
    assert!(progress.acknowledged > 0);
}

#[test]
fn du13_a_message_is_not_acknowledged_before_its_last_fragment_is_sent() {
    let mut world = World::pair(1, &Rules::delay(10));
    world.network.record = true;
    // The first message shows the number; the second one has the next.
    world.promise(CLIENT, SERVER, 10);
    world.settle(MINUTE);
    let id: u64 = message_id(&world.network.sent).parse().expect("a number");
    world.network.both(CLIENT, SERVER, &Rules::dead());
    world.promise(CLIENT, SERVER, 200_000);
    world.run_for(Duration::from_millis(10));
    let next = (id + 1).to_string();
    let bytes = craft::frame(craft::ACK, 0, &[("msg-id", next.as_bytes())], b"");
    world.probe(SERVER, CLIENT, bytes);
    assert_eq!(world.model.pending_count(), 1);
}

#[test]
fn du9_a_server_without_sessions_answers_hello_to_nobody() {
    let mut world = World::new(1);
    world.add(
        SERVER,
        server_config(|config| config.accept_sessions = false),
    );
    let hello = craft::padded(craft::HELLO, 0, &[], 1200);
    assert_eq!(world.probe(STRANGER, SERVER, hello), vec![]);
}

/// The sources from which no answer could come, or which would pass one on to many.
#[test]
fn du34_a_source_that_is_no_host_is_dropped_before_it_is_read() {
    let mut world = World::pair(1, &Rules::default());
    let sources = [
        "192.0.2.1:0",
        "255.255.255.255:5000",
        "224.0.0.1:5000",
        "239.1.2.3:5000",
        "0.0.0.0:5000",
        "[::]:5000",
        "[ff02::1]:5000",
        "[::ffff:224.0.0.1]:5000",
    ];
    let ping = craft::frame(craft::PING, 0, &[], b"who is there?");
    let asks = craft::frame(craft::DATA, craft::REQ_ACK, &[("msg-id", b"1")], b"x");
    let hello = craft::padded(craft::HELLO, 0, &[], 1200);
    for source in sources {
        let from = source.parse().expect("an address");
        for bytes in [&ping, &asks, &hello, &b"garbage".to_vec()] {
            assert_eq!(world.probe(from, SERVER, bytes.clone()), vec![], "{source}");
        }
    }
    let dropped = world
        .endpoint(SERVER)
        .stats()
        .dropped(DropReason::BadSource);
    assert_eq!(dropped, 4 * sources.len() as u64);
    assert_eq!(world.model.foreign.len(), 0);
    // The same from a host is answered.
    for bytes in [ping, asks, hello] {
        assert_eq!(world.probe(STRANGER, SERVER, bytes).len(), 1);
    }
    world.model.foreign.clear();
    world.assert_quiet();
}
