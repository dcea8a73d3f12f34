//! TLS in memory: two sessions and the bytes between them, without a socket.
//!
//! Here are the certificates and the two ends; the tests are in the files below. A peer that
//! misbehaves is rustls with other settings.

mod certificates;
mod dev;
mod handshake;
mod records;
#[cfg(feature = "ring")]
mod sealed;
mod settings;

use super::client::{TlsClientConfig, TlsClientConfigBuilder};
use super::server::{TlsServerConfig, TlsServerConfigBuilder};
use super::{ALPN, CryptoProvider, TlsSession, provider};
use crate::error::{TlsErrorKind, VstpError};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::io::IoSlice;
use std::sync::{Arc, OnceLock};

/// Who signs.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for these names, changed as said.
    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let params = params(names, change);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { certificate, key }
    }

    fn pem(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }
}

fn params(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    change(&mut params);
    params
}

/// A certificate and its key.
struct Leaf {
    certificate: Certificate,
    key: KeyPair,
}

impl Leaf {
    fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params(names, change).self_signed(&key).unwrap();
        Self { certificate, key }
    }

    fn pem(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }

    fn key_pem(&self) -> Vec<u8> {
        self.key.serialize_pem().into_bytes()
    }

    fn server(&self) -> TlsServerConfigBuilder {
        TlsServerConfig::builder().pem(&self.pem(), &self.key_pem())
    }

    /// SHA-256 of its public key, as `pin_sha256` takes it.
    fn pin(&self) -> [u8; 32] {
        let key = rcgen::PublicKeyData::subject_public_key_info(&self.key);
        provider::sha256(&crypto(), &key).unwrap()
    }
}

/// One authority for the tests that need no other.
fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("the authority"))
}

/// A good certificate for `localhost`.
fn leaf() -> &'static Leaf {
    static LEAF: OnceLock<Leaf> = OnceLock::new();
    LEAF.get_or_init(|| authority().issue(&["localhost"], |_| {}))
}

fn crypto() -> Arc<CryptoProvider> {
    provider::choose(None).unwrap()
}

/// A client that trusts [`authority`].
fn trusting() -> TlsClientConfigBuilder {
    TlsClientConfig::builder()
        .ca_pem(&authority().pem())
        .unwrap()
}

/// rustls as a client, with these application protocols; otherwise as ours.
fn raw_client(alpn: &[&[u8]]) -> TlsSession {
    let mut roots = RootCertStore::empty();
    roots.add(authority().certificate.der().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    TlsSession::new(connection.into(), &crypto())
}

/// rustls as a server with [`leaf`], changed as said; otherwise as ours.
fn raw_server(change: impl FnOnce(&mut ServerConfig)) -> TlsSession {
    let key = PrivateKeyDer::try_from(leaf().key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf().certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    change(&mut config);
    let connection = ServerConnection::new(Arc::new(config)).unwrap();
    TlsSession::new(connection.into(), &crypto())
}

/// The two ends of a connection.
struct Pair {
    client: TlsSession,
    server: TlsSession,
}

impl Pair {
    fn new(client: &TlsClientConfig, server: &TlsServerConfig) -> Self {
        Self::of(
            TlsSession::client(client, "localhost").unwrap(),
            TlsSession::server(server).unwrap(),
        )
    }

    const fn of(client: TlsSession, server: TlsSession) -> Self {
        Self { client, server }
    }

    /// Ours at both ends, with good settings.
    fn good() -> Self {
        static CONFIGS: OnceLock<(TlsClientConfig, TlsServerConfig)> = OnceLock::new();
        let (client, server) = CONFIGS.get_or_init(|| {
            (
                trusting().build().unwrap(),
                leaf().server().build().unwrap(),
            )
        });
        Self::new(client, server)
    }

    /// The same, after the handshake.
    fn established() -> Self {
        let mut pair = Self::good();
        pair.shake_hands().unwrap();
        pair
    }

    /// Carries bytes until neither end has more, past an error so that its alert arrives: what each
    /// end says, the client's first.
    fn outcomes(&mut self) -> (Result<(), VstpError>, Result<(), VstpError>) {
        let (mut at_client, mut at_server) = (Ok(()), Ok(()));
        // A handshake has three flights; an alert is one more.
        for _ in 0..6 {
            carry(&mut self.client, &mut self.server, &mut at_server);
            carry(&mut self.server, &mut self.client, &mut at_client);
        }
        (at_client, at_server)
    }

    /// Carries out the handshake and the check that follows it at both ends.
    fn shake_hands(&mut self) -> Result<(), VstpError> {
        let (at_client, at_server) = self.outcomes();
        at_server?;
        at_client?;
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        self.server.peer_info()?;
        self.client.peer_info()?;
        Ok(())
    }
}

/// Carries what one end has to the other, until that has failed.
fn carry(from: &mut TlsSession, to: &mut TlsSession, outcome: &mut Result<(), VstpError>) {
    let flight = drain(from);
    if outcome.is_ok() {
        *outcome = feed(to, &flight).map(|plaintext| assert_eq!(plaintext, b""));
    }
}

/// Feeds all of the bytes and returns the plaintext.
///
/// Fails when that takes more calls than there can be records: a caller who loops would spin.
fn feed(session: &mut TlsSession, mut bytes: &[u8]) -> Result<Vec<u8>, VstpError> {
    let mut plaintext = Vec::new();
    let mut calls = 2 + bytes.len() / 5;
    while !bytes.is_empty() {
        let used = session.feed(bytes);
        session.take_plaintext(&mut plaintext, usize::MAX);
        bytes = &bytes[used?..];
        calls = calls.checked_sub(1).expect("each call makes progress");
    }
    session.take_plaintext(&mut plaintext, usize::MAX);
    Ok(plaintext)
}

/// What waits to be sent.
fn drain(session: &mut TlsSession) -> Vec<u8> {
    let mut out = Vec::new();
    session.drain(&mut out);
    out
}

/// The records with this plaintext.
fn encrypt(session: &mut TlsSession, mut plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !plaintext.is_empty() {
        let taken = session.encrypt(&[IoSlice::new(plaintext)], &mut out);
        plaintext = &plaintext[taken.unwrap()..];
    }
    out
}

/// Why TLS failed.
#[track_caller]
fn kind<T: std::fmt::Debug>(result: Result<T, VstpError>) -> TlsErrorKind {
    match result {
        Err(VstpError::Tls(error)) => error.kind,
        other => panic!("no error of TLS: {other:?}"),
    }
}

/// What is wrong with a setting.
#[track_caller]
fn complaint<T: std::fmt::Debug>(result: Result<T, VstpError>) -> String {
    match result {
        Err(VstpError::Config(error)) => error.to_string(),
        other => panic!("no error about a setting: {other:?}"),
    }
}
