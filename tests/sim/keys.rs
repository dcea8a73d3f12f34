//! Keys of sealed sessions, as two ends of a TLS session would have them: ring's AEAD through rustls, with
//! random keys in place of exported ones. Every number that is sealed is noted, and none may come twice.

use crate::rng::Rng;
use rustls::CipherSuite;
use rustls::crypto::ring;
use rustls::quic;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use vstp::Frame;
use vstp::proto::datagram::{Direction, PacketKey, SealedKeys, TAG_LEN};
use vstp::wire::{self, Decoded, Limits, Trailer};

/// What was sealed with one key.
pub(crate) type Used = Arc<Mutex<HashSet<u64>>>;

struct Key {
    key: Box<dyn quic::PacketKey>,
    used: Used,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl PacketKey for Key {
    fn seal(&self, number: u64, header: &[u8], payload: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let mut used = self.used.lock().expect("no test panics with it");
        assert!(used.insert(number), "{number} is sealed again");
        let tag = self.key.encrypt_in_place(number, header, payload);
        let tag = tag.expect("a datagram is no problem for the AEAD");
        Some(tag.as_ref().try_into().expect("16 bytes"))
    }

    fn open(&self, number: u64, header: &[u8], sealed: &mut [u8]) -> bool {
        let opened = self.key.decrypt_in_place(number, header, sealed);
        opened.is_ok()
    }
}

/// What one direction is made from.
struct Material {
    id: [u8; 8],
    key: [u8; 32],
    iv: [u8; 12],
    used: Used,
}

impl Material {
    fn new(rng: &mut Rng) -> Self {
        Self {
            id: rng.bytes(8).try_into().expect("8 bytes"),
            key: rng.secret(),
            iv: rng.bytes(12).try_into().expect("12 bytes"),
            used: Used::default(),
        }
    }

    fn direction(&self) -> Direction {
        let provider = ring::default_provider();
        let wanted = CipherSuite::TLS13_AES_256_GCM_SHA384;
        let mut suites = provider.cipher_suites.iter();
        let suite = suites.find(|suite| suite.suite() == wanted);
        let quic = suite.and_then(|suite| suite.tls13()?.quic);
        let quic = quic.expect("ring has AES-256-GCM");
        let key = quic.packet_key(self.key.into(), self.iv.into());
        let used = Arc::clone(&self.used);
        Direction {
            id: self.id,
            key: Box::new(Key { key, used }),
        }
    }
}

/// Both ends' keys of one session.
pub(crate) struct Pair {
    pub(crate) client: SealedKeys,
    pub(crate) server: SealedKeys,
    /// What the client has sealed, and what the server has.
    pub(crate) used: [Used; 2],
    /// The server's once more.
    pub(crate) hand: Hand,
}

/// One end's keys, for a test that reads and speaks in its place.
#[derive(Debug)]
pub(crate) struct Hand {
    keys: SealedKeys,
}

impl Hand {
    /// A sealed datagram with this number.
    pub(crate) fn seal(&self, number: u64, plain: &[u8]) -> Vec<u8> {
        let Direction { id, key } = &self.keys.send;
        let header = [b"VS\x01", &id[..], &number.to_be_bytes()].concat();
        let mut payload = plain.to_vec();
        let tag = key.seal(number, &header, &mut payload);
        let tag = tag.expect("the AEAD takes every length");
        [&header[..], &payload, &tag].concat()
    }

    /// The frames of a datagram that was sealed for this end.
    pub(crate) fn open(&self, datagram: &[u8]) -> Vec<Frame> {
        let (header, sealed) = datagram.split_at(19);
        let number = u64::from_be_bytes(header[11..].try_into().expect("8 bytes"));
        let mut payload = sealed.to_vec();
        let key = &self.keys.receive.key;
        assert!(key.open(number, header, &mut payload), "it is authentic");
        let mut plain = &payload[..payload.len() - TAG_LEN];
        let mut frames = Vec::new();
        while !plain.is_empty() {
            let decoded = wire::decode(plain, Trailer::WhenFlagged, &Limits::default());
            let Ok(Decoded::Frame(frame, used)) = decoded else {
                panic!("{decoded:?}");
            };
            frames.push(frame.to_owned());
            plain = &plain[used..];
        }
        frames
    }
}

pub(crate) fn pair(rng: &mut Rng, session: u128) -> Pair {
    let (up, down) = (Material::new(rng), Material::new(rng));
    let end = |send: &Material, receive: &Material| SealedKeys {
        session,
        send: send.direction(),
        receive: receive.direction(),
    };
    Pair {
        client: end(&up, &down),
        server: end(&down, &up),
        hand: Hand {
            keys: end(&down, &up),
        },
        used: [up.used, down.used],
    }
}
