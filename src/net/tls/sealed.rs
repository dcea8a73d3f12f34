//! Keys of sealed datagrams, from the exporter of a TLS session (spec 4.13; RFC 8446 7.5, RFC 5705).
//!
//! The AEAD is the provider's own, through `rustls::quic`: the interface by which it protects QUIC
//! packets, which are what these datagrams are too: a number for the nonce, a header in the clear.

use super::error;
use super::session::TlsSession;
use crate::error::VstpError;
use crate::proto::datagram::{Direction, PacketKey, SealedKeys, TAG_LEN};
use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::{CipherSuite, Connection, Tls13CipherSuite, quic};
use std::fmt;

/// The label of the exported value; its context is the number of the session.
const LABEL: &[u8] = b"EXPORTER-VSTP-sealed-datagrams";

/// Bytes of an id, a key and an IV.
const ID_LEN: usize = 8;
const KEY_LEN: usize = 32;
const IV_LEN: usize = 12;
/// Both ids, then key and IV of the client, then those of the server.
const EXPORT_LEN: usize = 2 * (ID_LEN + KEY_LEN + IV_LEN);

/// A provider's AEAD with a key and an IV.
struct ProviderKey(Box<dyn quic::PacketKey>);

impl fmt::Debug for ProviderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProviderKey(..)")
    }
}

impl PacketKey for ProviderKey {
    fn seal(&self, number: u64, header: &[u8], payload: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let tag = self.0.encrypt_in_place(number, header, payload).ok()?;
        tag.as_ref().try_into().ok()
    }

    fn open(&self, number: u64, header: &[u8], sealed: &mut [u8]) -> bool {
        self.0.decrypt_in_place(number, header, sealed).is_ok()
    }
}

/// The suite whose AEAD seals when this one was negotiated for TLS, if the provider has it.
///
/// AES-256-GCM also after AES-128-GCM: rustls takes keys of 32 bytes only.
pub(super) fn aead(
    provider: &CryptoProvider,
    negotiated: CipherSuite,
) -> Option<&'static Tls13CipherSuite> {
    let wanted = match negotiated {
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => negotiated,
        _ => CipherSuite::TLS13_AES_256_GCM_SHA384,
    };
    let mut suites = provider
        .cipher_suites
        .iter()
        .filter_map(|suite| suite.tls13());
    let suite = suites.find(|suite| suite.common.suite == wanted)?;
    let key_len = suite.quic.map(quic::Algorithm::aead_key_len);
    (key_len == Some(KEY_LEN)).then_some(suite)
}

/// Whether datagrams can be sealed, whichever suite the peers will choose.
pub(super) fn is_able(provider: &CryptoProvider) -> bool {
    let mut suites = provider.cipher_suites.iter();
    suites.all(|suite| suite.tls13().is_none() || aead(provider, suite.suite()).is_some())
}

/// A key for one direction.
fn key(
    suite: &'static Tls13CipherSuite,
    key: [u8; KEY_LEN],
    iv: [u8; IV_LEN],
) -> Option<ProviderKey> {
    let (key, iv) = (AeadKey::from(key), Iv::from(iv));
    Some(ProviderKey(suite.quic?.packet_key(key, iv)))
}

/// Cuts the next bytes off.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, rest) = bytes
        .split_first_chunk()
        .expect("the exported value is as long as all that is taken from it");
    *bytes = rest;
    *head
}

/// What the exported value holds, for one side.
pub(super) fn keys(
    suite: &'static Tls13CipherSuite,
    session: u128,
    exported: &[u8; EXPORT_LEN],
    is_client: bool,
) -> Option<SealedKeys> {
    let mut rest = &exported[..];
    let (client_id, server_id) = (take(&mut rest), take(&mut rest));
    let client = Direction {
        id: client_id,
        key: Box::new(key(suite, take(&mut rest), take(&mut rest))?),
    };
    let server = Direction {
        id: server_id,
        key: Box::new(key(suite, take(&mut rest), take(&mut rest))?),
    };
    let (send, receive) = if is_client {
        (client, server)
    } else {
        (server, client)
    };
    Some(SealedKeys {
        session,
        send,
        receive,
    })
}

impl TlsSession {
    /// Whether both ends of this session can seal datagrams, once it is established.
    pub(crate) fn can_seal(&self) -> bool {
        is_able(self.provider())
    }

    /// The keys of the session with this number. Each call gives the same ones, so that there must be only
    /// one: their numbers begin at zero.
    ///
    /// # Errors
    /// `Tls` before the handshake is done.
    pub(crate) fn sealed_keys(&self, session: u128) -> Result<Option<SealedKeys>, VstpError> {
        let negotiated = self.connection.negotiated_cipher_suite();
        let suite = negotiated.and_then(|suite| aead(self.provider(), suite.suite()));
        let Some(suite) = suite else {
            return Ok(None);
        };
        let context = session.to_be_bytes();
        let exported = self
            .connection
            .export_keying_material([0; EXPORT_LEN], LABEL, Some(&context))
            .map_err(error::tls)?;
        let is_client = matches!(*self.connection, Connection::Client(_));
        Ok(keys(suite, session, &exported, is_client))
    }
}
