//! The handshake: cut anywhere, with a peer that speaks something else, or breaks off.

use super::{Pair, drain, encrypt, feed, kind, leaf, raw_client, raw_server, trusting};
use crate::error::TlsErrorKind as Kind;
use crate::net::tls::{ALPN, TlsSession};

fn server() -> TlsSession {
    TlsSession::server(&leaf().server().build().unwrap()).unwrap()
}

fn client() -> TlsSession {
    TlsSession::client(&trusting().build().unwrap(), "localhost").unwrap()
}

/// Carries out the handshake with each flight cut into two at `at` (or at its end); the longest
/// flight.
fn cut(pair: &mut Pair, at: usize) -> usize {
    let mut longest = 0;
    for _ in 0..3 {
        let Pair { client, server } = pair;
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = [&mut *client, &mut *server];
            let flight = drain(ends[from]);
            longest = longest.max(flight.len());
            let (one, two) = flight.split_at(at.min(flight.len()));
            assert_eq!(feed(ends[to], one).unwrap(), b"");
            assert_eq!(feed(ends[to], two).unwrap(), b"");
        }
    }
    assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
    longest
}

#[test]
fn b01_handshake_cut_anywhere() {
    let longest = cut(&mut Pair::good(), 0);
    assert!(longest > 500);
    for at in 1..=longest {
        let mut pair = Pair::good();
        cut(&mut pair, at);
        let record = encrypt(&mut pair.client, b"works");
        assert_eq!(feed(&mut pair.server, &record).unwrap(), b"works");
    }
}

#[test]
fn b01_handshake_byte_by_byte() {
    let mut pair = Pair::good();
    for _ in 0..3 {
        for byte in drain(&mut pair.client) {
            feed(&mut pair.server, &[byte]).unwrap();
        }
        for byte in drain(&mut pair.server) {
            feed(&mut pair.client, &[byte]).unwrap();
        }
    }
    assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
}

#[test]
fn both_ends_know_the_same_secret_and_no_other_connection_does() {
    let facts = || {
        let pair = Pair::established();
        let (client, server) = (pair.client.peer_info(), pair.server.peer_info());
        let (client, server) = (client.unwrap(), server.unwrap());
        assert_eq!(client.exporter, server.exporter);
        assert_eq!(client.cipher_suite, server.cipher_suite);
        assert_eq!(
            (client.version, client.alpn.as_str()),
            ("TLSv1.3", "vstp/1")
        );
        assert_eq!(client.certificates, [leaf().certificate.der().to_vec()]);
        assert_eq!(server.server_name.as_deref(), Some("localhost"));
        client
    };
    let (one, other) = (facts(), facts());
    assert_ne!(one.exporter, other.exporter);
    // The secret does not get into logs.
    let text = format!("{one:?}").replace(|c: char| !c.is_ascii_digit(), " ");
    let logged: Vec<&str> = text.split_whitespace().collect();
    let secret: Vec<String> = one.exporter.iter().map(u8::to_string).collect();
    assert!(!logged.windows(4).any(|w| w == &secret[..4]));
}

#[test]
fn early_answers_are_there_when_the_handshake_ends() {
    // A client may send application data together with the end of its handshake.
    let mut pair = Pair::good();
    let hello = drain(&mut pair.client);
    feed(&mut pair.server, &hello).unwrap();
    let flight = drain(&mut pair.server);
    feed(&mut pair.client, &flight).unwrap();
    let mut bytes = drain(&mut pair.client);
    bytes.extend(encrypt(&mut pair.client, b"first"));
    let used = pair.server.feed(&bytes).unwrap();
    let mut got = Vec::new();
    pair.server.take_plaintext(&mut got, usize::MAX);
    got.extend(feed(&mut pair.server, &bytes[used..]).unwrap());
    assert_eq!(got, b"first");
}

/// A ClientHello as TLS 1.0 has it: no extensions.
fn tls10_hello() -> Vec<u8> {
    let mut body = vec![3, 1];
    body.extend([9; 32]); // random
    body.push(0); // session id
    body.extend([0, 4, 0x00, 0x2f, 0x00, 0x35]); // cipher suites
    body.extend([1, 0]); // compression
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![0x16, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

/// A ServerHello of this version, without extensions.
fn old_server_hello(version: u8) -> Vec<u8> {
    let mut body = vec![3, version];
    body.extend([9; 32]); // random
    body.extend([0, 0xc0, 0x2f, 0]); // session id, cipher suite, compression
    let mut message = vec![2, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![0x16, 3, version, 0, message.len() as u8];
    record.extend(message);
    record
}

#[test]
fn c06_older_versions_of_tls() {
    for version in 1..=3 {
        let mut client = client();
        drain(&mut client);
        let result = feed(&mut client, &old_server_hello(version));
        let text = result.as_ref().unwrap_err().to_string();
        assert!(text.contains("TLS 1.3"), "version 3.{version}: {result:?}");
        assert_eq!(kind(result), Kind::Incompatible);
        let alert = drain(&mut client);
        assert_eq!(alert[..5], [0x15, 3, 3, 0, 2]);
        assert_eq!(alert[6], 70, "protocol_version");
    }
    let mut server = server();
    let result = feed(&mut server, &tls10_hello());
    let text = result.as_ref().unwrap_err().to_string();
    assert!(text.contains("TLS 1.3"), "{text}");
    assert_eq!(kind(result), Kind::Incompatible);
    assert_eq!(drain(&mut server)[0], 0x15);
}

#[test]
fn c05_something_else_than_a_client_hello() {
    let vstp = b"VT\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let cases: [(&[u8], Kind); 9] = [
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Kind::InvalidMessage,
        ),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Kind::InvalidMessage),
        (vstp, Kind::InvalidMessage),
        (&[0; 100], Kind::InvalidMessage),
        (&tls10_hello(), Kind::Incompatible),
        // SSL 2.
        (
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x07\x00\xc0",
            Kind::InvalidMessage,
        ),
        // A record longer than any may be.
        (
            b"\x16\x03\x01\xff\xff\x01\x00\x00\x10",
            Kind::InvalidMessage,
        ),
        // A message of 16 MiB.
        (
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
            Kind::InvalidMessage,
        ),
        // Application data before any handshake.
        (b"\x17\x03\x03\x00\x01A", Kind::Other),
    ];
    for (bytes, reason) in cases {
        let mut at_server = server();
        assert_eq!(kind(feed(&mut at_server, bytes)), reason, "{bytes:x?}");
        let mut at_client = client();
        let hello = drain(&mut at_client);
        assert!(feed(&mut at_client, bytes).is_err(), "{bytes:x?}");
        // Its own hello is no answer either.
        let mut mirrored = client();
        drain(&mut mirrored);
        assert!(feed(&mut mirrored, &hello).is_err());
        for mut session in [at_server, at_client, mirrored] {
            assert!(session.is_handshaking());
            assert!(feed(&mut session, bytes).is_err(), "an error is final");
        }
    }
}

/// The header of a ClientHello of `len` bytes and the records up to its end.
fn large_hello(len: usize) -> Vec<u8> {
    let mut message = vec![1];
    message.extend(&u32::try_from(len).unwrap().to_be_bytes()[1..]);
    message.resize(4 + len, 0);
    let mut records = Vec::new();
    for part in message.chunks(0x4000) {
        records.extend([0x16, 3, 1]);
        records.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        records.extend(part);
    }
    records
}

#[test]
fn c15_a_hello_of_any_size_ends_in_an_error() {
    for len in [
        1_000, 16_000, 17_000, 60_000, 65_000, 65_400, 65_500, 65_535, 65_536, 100_000,
    ] {
        let mut session = server();
        let result = feed(&mut session, &large_hello(len));
        assert_eq!(kind(result), Kind::InvalidMessage, "{len} bytes");
    }
}

/// Reproducible noise (splitmix64).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut byte = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as u8
    };
    (0..len).map(|_| byte()).collect()
}

#[test]
fn c05_noise_never_opens_a_session() {
    for seed in 0..300 {
        let mut bytes = noise(seed, 70_000);
        if seed % 3 != 0 {
            // Looks like a record, and a third of them like a ClientHello.
            bytes[..3].copy_from_slice(&[0x16, 3, 1]);
            if seed % 3 == 2 {
                bytes[5] = 1;
            }
        }
        let mut session = server();
        let result = feed(&mut session, &bytes);
        assert!(result.is_err(), "seed {seed}");
        assert!(session.is_handshaking(), "seed {seed}");
        // Nothing but an alert is answered.
        assert!(drain(&mut session).len() <= 7, "seed {seed}");
    }
}

#[test]
fn c05_each_byte_of_the_hello_changed() {
    let hello = drain(&mut client());
    for at in 0..hello.len() {
        for bits in [0x01, 0x80, 0xff] {
            let mut hello = hello.clone();
            hello[at] ^= bits;
            let mut session = server();
            // Many bytes may be any (random, key share, grease): then the handshake goes on, and
            // fails at Finished.
            let _ = feed(&mut session, &hello);
            assert!(session.is_handshaking(), "at {at}");
        }
    }
}

#[test]
fn c10_alerts_in_each_position() {
    let alerts: [(&[u8], bool); 8] = [
        (&[0x15, 3, 3, 0, 2, 1, 0], false), // close_notify
        (&[0x15, 3, 3, 0, 2, 2, 0], true),
        (&[0x15, 3, 3, 0, 2, 2, 40], true),
        (&[0x15, 3, 3, 0, 2, 2, 255], true),
        (&[0x15, 3, 3, 0, 2, 1, 90], false), // user_canceled
        (&[0x15, 3, 3, 0, 2, 9, 40], true),
        (&[0x15, 3, 3, 0, 0], true),
        (&[0x15, 3, 3, 0, 1, 2], true),
    ];
    for (alert, fatal) in alerts {
        // After so many flights, whoever's they are.
        for position in 0..3 {
            for to_client in [true, false] {
                let mut pair = Pair::good();
                for flight in 0..position {
                    let Pair { client, server } = &mut pair;
                    let (from, to) = if flight % 2 == 0 {
                        (client, server)
                    } else {
                        (server, client)
                    };
                    let bytes = drain(from);
                    feed(to, &bytes).unwrap();
                }
                let session = if to_client {
                    &mut pair.client
                } else {
                    &mut pair.server
                };
                // A client that has sent everything is no longer in its handshake.
                let was_handshaking = session.is_handshaking();
                let what = format!("{alert:?} at {position}, to the client: {to_client}");
                let result = feed(session, alert);
                if fatal {
                    assert!(result.is_err(), "{what}");
                }
                // Nobody can end a handshake in order from outside of it.
                assert!(!session.peer_has_closed(), "{what}");
                assert_eq!(session.is_handshaking(), was_handshaking, "{what}");
                // However many come, it ends.
                let result = feed(session, &alert.repeat(6));
                assert!(result.is_err(), "{what}");
                // One alert in answer, at most.
                let mut answer = drain(session);
                answer.clear();
                session.drain(&mut answer);
                assert_eq!(answer, b"", "{what}");
            }
        }
    }
}

#[test]
fn c10_close_notify_behind_the_client_hello() {
    // Found in rustls once: an endless loop (RUSTSEC-2024-0336).
    let mut bytes = drain(&mut client());
    bytes.extend([0x15, 3, 3, 0, 2, 1, 0]);
    let mut session = server();
    assert_eq!(kind(feed(&mut session, &bytes)), Kind::Alert(0));
    assert!(session.is_handshaking());
}

#[test]
fn c11_a_second_client_hello_and_other_repetitions() {
    let mut pair = Pair::good();
    let hello = drain(&mut pair.client);
    feed(&mut pair.server, &hello).unwrap();
    assert!(feed(&mut pair.server, &hello).is_err());

    let mut pair = Pair::good();
    let hello = drain(&mut pair.client);
    feed(&mut pair.server, &hello).unwrap();
    let flight = drain(&mut pair.server);
    feed(&mut pair.client, &flight).unwrap();
    assert!(feed(&mut pair.client, &flight).is_err());

    // ChangeCipherSpec is for middle boxes, and only during the handshake.
    let mut pair = Pair::established();
    assert!(feed(&mut pair.server, &[0x14, 3, 3, 0, 1, 1]).is_err());
    let mut session = server();
    assert!(feed(&mut session, &[0x14, 3, 3, 0, 1, 1].repeat(100)).is_err());
}

#[test]
fn c12_the_application_protocol_at_our_server() {
    let cases: [(&[&[u8]], Result<(), Kind>, bool); 5] = [
        (&[ALPN], Ok(()), true),
        (&[b"h2", ALPN], Ok(()), true),
        (&[ALPN, b"h2"], Ok(()), true),
        (
            &[b"h2", b"http/1.1"],
            Err(Kind::NoApplicationProtocol),
            false,
        ),
        // rustls lets this one through; the check that follows the handshake does not.
        (&[], Err(Kind::NoApplicationProtocol), true),
    ];
    for (offered, expected, handshake_passes) in cases {
        let mut pair = Pair::of(raw_client(offered), server());
        let (at_client, at_server) = pair.outcomes();
        assert_eq!(at_server.is_ok(), handshake_passes, "{offered:?}");
        if !handshake_passes {
            assert_eq!(kind(at_client), Kind::NoApplicationProtocol, "{offered:?}");
        }
        let result = at_server.and_then(|()| pair.server.peer_info().map(drop));
        match expected {
            Ok(()) => result.unwrap(),
            Err(reason) => assert_eq!(kind(result), reason, "{offered:?}"),
        }
    }
}

#[test]
fn c12_the_application_protocol_at_our_client() {
    let cases: [(&[&[u8]], Result<(), Kind>); 4] = [
        (&[ALPN], Ok(())),
        (&[b"h2", ALPN], Ok(())),
        (&[b"h2"], Err(Kind::NoApplicationProtocol)),
        (&[], Err(Kind::NoApplicationProtocol)),
    ];
    for (known, expected) in cases {
        let server = raw_server(|config| {
            config.alpn_protocols = known.iter().map(|name| name.to_vec()).collect();
        });
        let mut pair = Pair::of(client(), server);
        let (at_client, _) = pair.outcomes();
        let result = at_client.and_then(|()| pair.client.peer_info().map(drop));
        match expected {
            Ok(()) => result.unwrap(),
            Err(reason) => assert_eq!(kind(result), reason, "{known:?}"),
        }
    }
}
