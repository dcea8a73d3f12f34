//! Records after the handshake: cut anywhere, changed anywhere, and the end of the stream.

use super::{Pair, drain, encrypt, feed, kind};
use crate::error::TlsErrorKind as Kind;
use std::io::IoSlice;

#[test]
fn b01_records_cut_anywhere_give_the_same_plaintext() {
    // Both sides of the largest record.
    for len in [1, 100, 16_383, 16_384, 16_385, 40_000] {
        let plaintext: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        let step = if len > 100 { 997 } else { 1 };
        let mut pair = Pair::established();
        let mut at = 0;
        let mut end = 1;
        while at < end {
            let records = encrypt(&mut pair.client, &plaintext);
            end = records.len();
            let (one, two) = records.split_at(at);
            let mut got = feed(&mut pair.server, one).unwrap();
            got.extend(feed(&mut pair.server, two).unwrap());
            assert!(got == plaintext, "{len} bytes cut at {at}");
            at += step;
        }
    }
}

#[test]
fn b01_records_byte_by_byte() {
    let mut pair = Pair::established();
    let records: Vec<u8> = (0..50)
        .flat_map(|n| encrypt(&mut pair.server, &[n]))
        .collect();
    let mut got = Vec::new();
    for byte in records {
        got.extend(feed(&mut pair.client, &[byte]).unwrap());
    }
    assert_eq!(got, Vec::from_iter(0..50));
}

#[test]
fn plaintext_is_taken_in_any_portions() {
    let mut pair = Pair::established();
    let plaintext = vec![5; 10_000];
    let mut records = &encrypt(&mut pair.client, &plaintext)[..];
    let mut got = Vec::new();
    while got.len() < plaintext.len() {
        let used = pair.server.feed(records).unwrap();
        records = &records[used..];
        let len = got.len();
        let taken = pair.server.take_plaintext(&mut got, 7);
        assert!(taken <= 7 && got.len() == len + taken);
        assert!(taken + used > 0, "stuck at {len}");
        // As long as plaintext waits, no record is taken in.
        if got.len() < plaintext.len() {
            assert_eq!(pair.server.feed(records).unwrap(), 0);
        }
    }
    assert_eq!(got, plaintext);
}

#[test]
fn c09_bytes_after_close_notify_are_ignored() {
    for together in [false, true] {
        let mut pair = Pair::established();
        let mut bytes = encrypt(&mut pair.client, b"last words");
        pair.client.send_close_notify();
        pair.client.drain(&mut bytes);
        let junk = [b"junk that is no record".as_slice(), &[0x17; 100_000]].concat();
        let got = if together {
            bytes.extend(&junk);
            feed(&mut pair.server, &bytes).unwrap()
        } else {
            let got = feed(&mut pair.server, &bytes).unwrap();
            assert_eq!(feed(&mut pair.server, &junk).unwrap(), b"");
            got
        };
        assert_eq!(got, b"last words");
        assert!(pair.server.peer_has_closed());
        // The other direction lives on.
        let answer = encrypt(&mut pair.server, b"answer");
        assert_eq!(feed(&mut pair.client, &answer).unwrap(), b"answer");
    }
}

#[test]
fn c10_alerts_after_the_handshake() {
    // In plaintext, as an attacker can send them: they end the connection, but not in order.
    for alert in [[1, 0], [2, 0], [2, 40], [1, 90], [9, 200]] {
        let mut pair = Pair::established();
        let record = [&[0x15, 3, 3, 0, 2], &alert[..]].concat();
        for session in [&mut pair.client, &mut pair.server] {
            assert_eq!(kind(feed(session, &record)), Kind::DecryptError);
            assert!(!session.peer_has_closed());
        }
    }
}

#[test]
fn c10_close_notify_at_once_after_the_handshake() {
    let mut pair = Pair::good();
    let hello = drain(&mut pair.client);
    feed(&mut pair.server, &hello).unwrap();
    let flight = drain(&mut pair.server);
    feed(&mut pair.client, &flight).unwrap();
    pair.client.send_close_notify();
    let finished_and_close = drain(&mut pair.client);
    feed(&mut pair.server, &finished_and_close).unwrap();
    assert!(!pair.server.is_handshaking() && pair.server.peer_has_closed());
}

#[test]
fn c13_a_changed_byte_is_seen_and_nothing_delivered() {
    let text = b"one hundred for the account of Mallory";
    let mut len = 6;
    let mut at = 0;
    while at < len {
        let mut pair = Pair::established();
        let mut record = encrypt(&mut pair.client, text);
        let honest = encrypt(&mut pair.client, b"more");
        len = record.len();
        record[at] ^= 1 << (at % 8);
        let mut received = record.clone();
        // A length that grew wants more bytes.
        received.extend([0; 20_000]);
        let mut delivered = Vec::new();
        let refused = loop {
            match pair.server.feed(&received) {
                Ok(0) => panic!("neither progress nor an error, at {at}"),
                Ok(used) => received.drain(..used),
                Err(error) => break kind::<()>(Err(error)),
            };
            pair.server.take_plaintext(&mut delivered, usize::MAX);
        };
        pair.server.take_plaintext(&mut delivered, usize::MAX);
        if at < 5 {
            // rustls takes the header's type and version for granted, the true type is inside
            // (RFC 8446 5.1, 5.2).
            let as_sent = delivered == text && at < 3;
            assert!(as_sent || delivered.is_empty(), "at {at}: {delivered:?}");
        } else {
            assert_eq!((&delivered[..], refused), (&b""[..], Kind::DecryptError));
        }
        // What failed stays so, in both directions, and the peer is told.
        assert_eq!(kind(pair.server.feed(&honest)), refused);
        let parts = [IoSlice::new(b"answer")];
        let answer = pair.server.encrypt(&parts, &mut Vec::new());
        assert_eq!(kind(answer), refused, "at {at}");
        let alert = drain(&mut pair.server);
        let told = kind(feed(&mut pair.client, &alert));
        assert!(matches!(told, Kind::Alert(_)), "at {at}: {told}");
        at += 1;
    }
    assert!(len > text.len() + 5);
}

#[test]
fn c13_records_left_out_repeated_or_swapped() {
    for order in [&[1][..], &[0, 0], &[1, 0]] {
        let mut pair = Pair::established();
        let records = [b"one", b"two"].map(|text| encrypt(&mut pair.client, text));
        let results = order.iter().map(|&n| feed(&mut pair.server, &records[n]));
        let error = results.into_iter().find_map(Result::err).unwrap();
        assert_eq!(kind::<()>(Err(error)), Kind::DecryptError, "{order:?}");
    }
}

#[test]
fn c13_what_came_before_a_bad_record_can_be_taken() {
    let mut pair = Pair::established();
    let mut bytes = encrypt(&mut pair.client, b"good");
    let mut bad = encrypt(&mut pair.client, b"bad");
    *bad.last_mut().unwrap() ^= 1;
    bytes.extend(bad);
    assert_eq!(kind(pair.server.feed(&bytes)), Kind::DecryptError);
    let mut got = Vec::new();
    pair.server.take_plaintext(&mut got, usize::MAX);
    assert_eq!(got, b"good");
    assert_eq!(kind(pair.server.feed(&bytes)), Kind::DecryptError);
}

#[test]
fn c11_new_keys_and_a_flood_of_them() {
    let mut pair = Pair::established();
    for round in 0..20 {
        pair.client.connection.refresh_traffic_keys().unwrap();
        let records = encrypt(&mut pair.client, &[round]);
        assert_eq!(feed(&mut pair.server, &records).unwrap(), [round]);
        let records = encrypt(&mut pair.server, &[round]);
        assert_eq!(feed(&mut pair.client, &records).unwrap(), [round]);
    }
    let mut flood = Vec::new();
    for _ in 0..200 {
        pair.client.connection.refresh_traffic_keys().unwrap();
        pair.client.drain(&mut flood);
    }
    assert!(feed(&mut pair.server, &flood).is_err());
    // What the flood made us send is bounded: a key update or two and an alert.
    assert!(drain(&mut pair.server).len() < 200);
}
