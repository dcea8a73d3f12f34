//! Section 4.13: its examples, and what an endpoint sends, against the AEAD itself.

use super::datagrams::origin;
use super::{dump, section, spec};
use rustls::CipherSuite;
use rustls::crypto::ring;
use rustls::quic;
use std::net::SocketAddr;
use vstp::proto::datagram::{
    Direction, DropReason, Endpoint, EndpointConfig, PacketKey, SEALED_MAGIC, SEALED_OVERHEAD,
    SealedKeys, TAG_LEN,
};
use vstp::wire::{self, Limits, Trailer};
use vstp::{Frame, FrameType};

const AES: CipherSuite = CipherSuite::TLS13_AES_256_GCM_SHA384;
const CHACHA: CipherSuite = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;

/// The exported value of the examples.
fn exported() -> Vec<u8> {
    (0..104).collect()
}

fn aead(suite: CipherSuite, key: &[u8], iv: &[u8]) -> Box<dyn quic::PacketKey> {
    let provider = ring::default_provider();
    let found = provider.cipher_suites.iter().find(|s| s.suite() == suite);
    let quic = found.and_then(|s| s.tls13()?.quic).expect("ring has it");
    let key = <[u8; 32]>::try_from(key).expect("32 bytes");
    let iv = <[u8; 12]>::try_from(iv).expect("12 bytes");
    quic.packet_key(key.into(), iv.into())
}

/// Id and AEAD of the client's direction, or of the server's.
fn direction(suite: CipherSuite, of_client: bool) -> ([u8; 8], Box<dyn quic::PacketKey>) {
    let all = exported();
    let (id, key) = if of_client { (0, 16) } else { (8, 60) };
    let id = all[id..id + 8].try_into().expect("8 bytes");
    (
        id,
        aead(suite, &all[key..key + 32], &all[key + 32..key + 44]),
    )
}

/// A sealed datagram, by the words of the section.
fn sealed(suite: CipherSuite, of_client: bool, number: u64, plain: &[u8]) -> Vec<u8> {
    let (id, key) = direction(suite, of_client);
    let header = [&[0x56, 0x53, 1][..], &id, &number.to_be_bytes()].concat();
    let mut payload = plain.to_vec();
    let tag = key.encrypt_in_place(number, &header, &mut payload);
    let tag = tag.expect("it is short");
    [&header[..], &payload, tag.as_ref()].concat()
}

/// The first frame of appendix A as it is on TLS: without its trailer.
fn hello() -> Vec<u8> {
    let mut out = Vec::new();
    let frame = Frame::data("Hello").with_header("test", "value");
    let limits = Limits::default();
    wire::encode(frame.as_ref(), Trailer::WhenFlagged, &limits, &mut out).expect("it fits");
    out
}

/// A datagram as the section shows it.
fn text(datagram: &[u8]) -> String {
    let (head, tag) = datagram.split_at(datagram.len() - TAG_LEN);
    let parts = [
        (&head[..3], "\"VS\", version 1"),
        (&head[3..11], "id"),
        (&head[11..19], "number"),
        (&head[19..], "ciphertext"),
        (tag, "tag"),
    ];
    let (mut out, mut at) = (String::new(), 0);
    for (bytes, meaning) in parts {
        for (index, line) in bytes.chunks(16).enumerate() {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let meaning = if index == 0 { meaning } else { "" };
            let line_text = format!("{at:04x}  {:<47}  | {meaning}", hex.join(" "));
            out += line_text.trim_end();
            out.push('\n');
            at += line.len();
        }
    }
    out
}

#[test]
fn the_examples_are_what_the_aead_gives() {
    let spec = spec();
    let blocks = section(&spec, "4.13").split("```sealed\n").skip(1);
    let blocks: Vec<&str> = blocks
        .map(|block| block.split("```").next().expect("a first piece"))
        .collect();
    let right = [
        sealed(AES, true, 0, &hello()),
        sealed(CHACHA, false, 258, &hello()),
    ];
    let texts: Vec<String> = right.iter().map(|datagram| text(datagram)).collect();
    assert!(blocks == texts, "these are right:\n{}", texts.join("\n"));
    for (block, datagram) in blocks.iter().zip(right) {
        assert_eq!(dump::bytes(block), datagram);
        assert_eq!(datagram.len(), hello().len() + SEALED_OVERHEAD);
        assert!(datagram.starts_with(&SEALED_MAGIC));
    }
}

#[derive(Debug)]
struct Key(Shown);

struct Shown(Box<dyn quic::PacketKey>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl PacketKey for Key {
    fn seal(&self, number: u64, header: &[u8], payload: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let tag = self.0.0.encrypt_in_place(number, header, payload).ok()?;
        tag.as_ref().try_into().ok()
    }

    fn open(&self, number: u64, header: &[u8], sealed: &mut [u8]) -> bool {
        self.0.0.decrypt_in_place(number, header, sealed).is_ok()
    }
}

fn keys(is_client: bool) -> SealedKeys {
    let end = |of_client| {
        let (id, key) = direction(AES, of_client);
        let key = Box::new(Key(Shown(key)));
        Direction { id, key }
    };
    SealedKeys {
        session: 5,
        send: end(is_client),
        receive: end(!is_client),
    }
}

fn sent(endpoint: &mut Endpoint, now: std::time::Instant) -> Vec<Vec<u8>> {
    let (mut all, mut out) = (Vec::new(), Vec::new());
    while endpoint.poll_transmit(now, 1, &mut out).is_some() {
        all.push(out.clone());
    }
    all
}

#[test]
fn an_endpoint_opens_its_session_as_the_section_says() {
    let now = origin();
    let addr = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    let (client_addr, server_addr) = (addr("192.0.2.2:5000"), addr("192.0.2.1:6969"));
    let mut client = Endpoint::new(EndpointConfig::default(), [2; 32], now);
    let begun = client.connect_sealed(now, server_addr, keys(true));
    begun.expect("there is no session");
    let hello = sent(&mut client, now).pop().expect("HELLO");
    assert_eq!(hello.len(), 1200);
    let (_, key) = direction(AES, true);
    let mut payload = hello[19..].to_vec();
    let plain = key.decrypt_in_place(0, &hello[..19], &mut payload);
    let plain = plain.expect("by the words of the section");
    let frame = wire::decode_exact(plain, Trailer::WhenFlagged, &Limits::default());
    let frame = frame.expect("a frame without a trailer");
    assert_eq!(frame.typ, FrameType::Hello);
    assert!(frame.headers.get("features").is_some() && frame.headers.get("cookie").is_none());
    assert!(frame.payload.iter().all(|byte| *byte == 0));

    let mut config = EndpointConfig::default();
    config.accept_sessions = true;
    let mut server = Endpoint::new(config, [1; 32], now);
    // Nobody has offered these keys.
    server.handle_datagram(now, client_addr, &hello, true);
    assert_eq!(server.stats().dropped(DropReason::UnknownSession), 1);
    assert!(server.offer_sealed(keys(false)));
    assert!(!server.offer_sealed(keys(false)), "the id is taken");
    for wrong in [&hello[..34], &[b"VS\x02", &hello[3..]].concat()] {
        server.handle_datagram(now, client_addr, wrong, true);
    }
    assert_eq!(server.stats().dropped(DropReason::Malformed), 2);
    // A datagram that is no HELLO opens nothing; its number is gone all the same.
    let early = sealed(AES, true, 7, &self::hello());
    server.handle_datagram(now, client_addr, &early, true);
    assert_eq!(server.stats().dropped(DropReason::Unexpected), 1);
    server.handle_datagram(now, client_addr, &early, true);
    assert_eq!(server.stats().dropped(DropReason::Replayed), 1);
    let forged = sealed(CHACHA, true, 8, &self::hello());
    server.handle_datagram(now, client_addr, &forged, true);
    assert_eq!(server.stats().dropped(DropReason::Forged), 1);
    assert_eq!(
        sent(&mut server, now),
        [[0; 0]; 0],
        "none of it is answered"
    );

    server.handle_datagram(now, client_addr, &hello, true);
    let welcome = sent(&mut server, now).pop().expect("WELCOME");
    assert_eq!(server.session(client_addr).map(|(id, _)| id), Some(5));
    server.handle_datagram(now, client_addr, &encoded(), true);
    assert_eq!(server.stats().dropped(DropReason::Unsealed), 1);
    client.handle_datagram(now, server_addr, &welcome, true);
    assert_eq!(client.session(server_addr).map(|(id, _)| id), Some(5));
    let ping = sent(&mut client, now).pop().expect("PING");
    assert_eq!(ping[11..19], 1_u64.to_be_bytes());
    server.handle_datagram(now, client_addr, &ping, true);
    assert_eq!(sent(&mut server, now).len(), 1, "PONG");
}

fn encoded() -> Vec<u8> {
    vstp::encode_frame(&Frame::data("Hello")).expect("it can be expressed")
}
