//! Keys of sealed datagrams: what the two ends derive, and from what.

use super::super::sealed::{self, is_able};
use super::*;
use crate::proto::datagram::{Direction, SealedKeys};
use rustls::crypto::ring;
use rustls::{CipherSuite, SupportedCipherSuite};

fn keys(session: &TlsSession, number: u128) -> SealedKeys {
    session.sealed_keys(number).unwrap().unwrap()
}

/// Whether what one direction seals, the other opens.
fn fits(send: &Direction, receive: &Direction) -> bool {
    let mut bytes = b"a datagram".to_vec();
    let tag = send.key.seal(7, b"header", &mut bytes).unwrap();
    assert_ne!(bytes, b"a datagram");
    bytes.extend_from_slice(&tag);
    let mut other = bytes.clone();
    let opens = receive.key.open(7, b"header", &mut bytes);
    if opens {
        assert_eq!(bytes[..10], *b"a datagram");
        assert!(
            !receive.key.open(8, b"header", &mut other.clone()),
            "another number"
        );
        assert!(
            !receive.key.open(7, b"heades", &mut other),
            "another header"
        );
    }
    opens && send.id == receive.id
}

#[test]
fn both_ends_have_the_same_keys_and_each_session_and_direction_its_own() {
    let Pair { client, server } = Pair::established();
    let (ours, theirs) = (keys(&client, 5), keys(&server, 5));
    assert!(fits(&ours.send, &theirs.receive) && fits(&theirs.send, &ours.receive));
    assert!(!fits(&ours.send, &ours.receive), "the directions differ");
    assert_ne!(ours.send.id, ours.receive.id);
    let other = keys(&server, 6);
    assert!(!fits(&ours.send, &other.receive), "another session number");
    let Pair { server, .. } = Pair::established();
    let other = keys(&server, 5);
    assert!(!fits(&ours.send, &other.receive), "another TLS session");
    assert_ne!(ours.send.id, other.receive.id);
    let shown = format!("{ours:?}");
    assert!(shown.contains("ProviderKey(..)"), "{shown}");
}

#[test]
fn with_each_cipher_suite() {
    for suite in ring::DEFAULT_CIPHER_SUITES {
        let mut provider = ring::default_provider();
        // What seals must stay; what is first is negotiated.
        provider
            .cipher_suites
            .sort_by_key(|s| s.suite() != suite.suite());
        let provider = Arc::new(provider);
        let client = trusting().provider(Arc::clone(&provider)).build().unwrap();
        let server = leaf().server().provider(provider).build().unwrap();
        let mut pair = Pair::new(&client, &server);
        pair.shake_hands().unwrap();
        let Pair { client, server } = pair;
        let negotiated = client.connection.negotiated_cipher_suite().unwrap();
        assert_eq!(negotiated.suite(), suite.suite());
        let (ours, theirs) = (keys(&client, 5), keys(&server, 5));
        assert!(fits(&ours.send, &theirs.receive) && fits(&theirs.send, &ours.receive));
    }
}

#[test]
fn a_provider_without_the_aead_offers_nothing() {
    let with = |keep: fn(&SupportedCipherSuite) -> bool| {
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(keep);
        is_able(&provider)
    };
    assert!(with(|_| true));
    assert!(with(
        |s| s.suite() == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
    ));
    assert!(with(|s| s.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384));
    assert!(!with(|s| s.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256));
}

#[test]
fn the_exported_value_is_cut_as_the_specification_says() {
    let exported = std::array::from_fn(|place| place as u8);
    let header = |id: std::ops::Range<u8>, number: u64| {
        [
            b"VS\x01",
            &id.collect::<Vec<u8>>()[..],
            &number.to_be_bytes(),
        ]
        .concat()
    };
    // The examples of section 4.13, up to the beginning of the ciphertext.
    let examples = [
        (
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            true,
            0..8,
            0,
            [0xc0, 0x44, 0x24, 0x8a],
        ),
        (
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            true,
            0..8,
            0,
            [0xc0, 0x44, 0x24, 0x8a],
        ),
        (
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            false,
            8..16,
            258,
            [0x7d, 0x8c, 0x2d, 0xdc],
        ),
    ];
    for (negotiated, is_client, id, number, begin) in examples {
        let suite = sealed::aead(&ring::default_provider(), negotiated).unwrap();
        let keys = sealed::keys(suite, 5, &exported, is_client).unwrap();
        assert_eq!(keys.send.id.to_vec(), id.clone().collect::<Vec<u8>>());
        let mut frame = b"VT\x01\x03\x00\x0b\x00\x00\x00\x00\x05\x04\x05testvalueHello".to_vec();
        let tag = keys.send.key.seal(number, &header(id, number), &mut frame);
        assert!(tag.is_some() && frame[..4] == begin, "{frame:x?}");
    }
}
