//! Certificates that must be refused, by either side, and those that must not.

use super::{Authority, Leaf, Pair, authority, kind, leaf, trusting};
use crate::error::{TlsErrorKind as Kind, VstpError};
use crate::net::tls::{
    ClientAuth, Roots, TlsClientConfig, TlsServerConfig, TlsServerConfigBuilder, TlsSession,
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Usage, IsCa, date_time_ymd,
};

/// How it ends when the client trusts the authority and connects to this name.
fn outcomes(
    server: TlsServerConfigBuilder,
    host: &str,
) -> (Result<(), VstpError>, Result<(), VstpError>) {
    let client = TlsSession::client(&trusting().build().unwrap(), host).unwrap();
    let server = TlsSession::server(&server.build().unwrap()).unwrap();
    Pair::of(client, server).outcomes()
}

/// The client refuses for this reason, and the server is told so with this alert.
#[track_caller]
fn assert_refused(server: TlsServerConfigBuilder, host: &str, reason: Kind, alert: u8) {
    let (client, server) = outcomes(server, host);
    assert_eq!(kind(client), reason, "for {host}");
    assert_eq!(kind(server), Kind::Alert(alert), "for {host}");
}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
}

fn future(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(3000, 1, 1);
    params.not_after = date_time_ymd(3001, 1, 1);
}

#[test]
fn c01_expired_certificate() {
    let server = authority().issue(&["localhost"], expired).server();
    assert_refused(server, "localhost", Kind::CertificateExpired, 45);
}

#[test]
fn c02_certificate_of_the_future() {
    let server = authority().issue(&["localhost"], future).server();
    assert_refused(server, "localhost", Kind::CertificateNotYetValid, 45);
}

#[test]
fn c03_wrong_name() {
    let cases: [(&[&str], &str, bool); 13] = [
        (&["localhost"], "localhost", true),
        (&["localhost"], "LOCALHOST", true),
        (&["other.test"], "localhost", false),
        (&["other.test", "localhost"], "localhost", true),
        // The common name is no name.
        (&[], "leaf", false),
        // An address is not a name, even if it is written the same.
        (&["localhost"], "127.0.0.1", false),
        (&["127.0.0.1"], "localhost", false),
        (&["127.0.0.1"], "127.0.0.1", true),
        (&["127.0.0.1"], "127.0.0.2", false),
        (&["::1"], "::1", true),
        // A wildcard is one label.
        (&["*.example.test"], "a.example.test", true),
        (&["*.example.test"], "a.b.example.test", false),
        (&["*.example.test"], "example.test", false),
    ];
    for (names, host, good) in cases {
        let server = authority().issue(names, |_| {}).server();
        if good {
            let (client, server) = outcomes(server, host);
            assert!(client.and(server).is_ok(), "{names:?} for {host}");
        } else {
            assert_refused(server, host, Kind::WrongName, 42);
        }
    }
    assert!(matches!(
        TlsSession::client(&trusting().build().unwrap(), ""),
        Err(VstpError::InvalidAddress(_))
    ));
}

#[test]
fn c03_the_name_can_be_given() {
    let given = trusting().server_name("localhost").build().unwrap();
    let client = TlsSession::client(&given, "10.1.2.3").unwrap();
    let server = TlsSession::server(&leaf().server().build().unwrap()).unwrap();
    let mut pair = Pair::of(client, server);
    pair.shake_hands().unwrap();
    let asked_for = pair.server.peer_info().unwrap().server_name;
    assert_eq!(asked_for.as_deref(), Some("localhost"));
}

#[test]
fn c04_unknown_authority() {
    let other = Authority::new("another authority");
    let server = other.issue(&["localhost"], |_| {}).server();
    assert_refused(server, "localhost", Kind::UnknownIssuer, 48);
}

#[test]
fn c04_authority_of_the_same_name_with_another_key() {
    let other = Authority::new("the authority");
    let server = other.issue(&["localhost"], |_| {}).server();
    let (client, server) = outcomes(server, "localhost");
    assert_eq!(kind(client), Kind::BadCertificate);
    assert!(matches!(kind(server), Kind::Alert(_)));
}

#[test]
fn c04_self_signed() {
    let server = Leaf::self_signed(&["localhost"], |_| {}).server();
    assert_refused(server, "localhost", Kind::UnknownIssuer, 48);
}

#[test]
fn c04_authority_as_a_server() {
    let server = authority().issue(&["localhost"], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let (client, server) = outcomes(server.server(), "localhost");
    assert_eq!(kind(client), Kind::BadCertificate);
    assert!(matches!(kind(server), Kind::Alert(_)));
}

#[test]
fn c04_certificate_for_another_purpose() {
    for (usages, good) in [
        (vec![Usage::ServerAuth], true),
        (vec![Usage::ClientAuth, Usage::ServerAuth], true),
        (vec![Usage::ClientAuth], false),
        (vec![Usage::EmailProtection], false),
    ] {
        let server = authority().issue(&["localhost"], |params| {
            params.extended_key_usages.clone_from(&usages);
        });
        let (client, server) = outcomes(server.server(), "localhost");
        if good {
            assert!(client.and(server).is_ok(), "{usages:?}");
        } else {
            assert_eq!(kind(client), Kind::BadCertificate, "{usages:?}");
            assert!(matches!(kind(server), Kind::Alert(_)));
        }
    }
}

#[test]
fn c04_the_authority_alone_is_no_chain() {
    // A leaf that signs another leaf: it is no authority, so what it signs is worth nothing.
    let middle = authority().issue(&["middle.test"], |_| {});
    let issuer = rcgen::Issuer::new(super::params(&["middle.test"], |_| {}), &middle.key);
    let key = rcgen::KeyPair::generate().unwrap();
    let forged = super::params(&["localhost"], |_| {})
        .signed_by(&key, &issuer)
        .unwrap();
    let chain = [forged.pem(), middle.certificate.pem()].concat();
    let server = TlsServerConfig::builder().pem(chain.as_bytes(), key.serialize_pem().as_bytes());
    let (client, server) = outcomes(server, "localhost");
    assert_eq!(kind(client), Kind::BadCertificate);
    assert!(matches!(kind(server), Kind::Alert(_)));
}

/// How it ends when the server asks for a certificate that the authority has signed.
fn with_client_auth(
    auth: fn(Roots) -> ClientAuth,
    certificate: Option<&Leaf>,
) -> (Pair, Result<(), VstpError>, Result<(), VstpError>) {
    let roots = Roots::pem(&authority().pem()).unwrap();
    let server = leaf().server().client_auth(auth(roots)).build().unwrap();
    let mut client = trusting();
    if let Some(leaf) = certificate {
        client = client.client_cert_pem(&leaf.pem(), &leaf.key_pem());
    }
    let mut pair = Pair::new(&client.build().unwrap(), &server);
    let (client, server) = pair.outcomes();
    (pair, client, server)
}

#[test]
fn c07_required_client_certificate() {
    let stranger = Authority::new("nobody");
    let cases = [
        (None, Kind::CertificateRequired, Some(116)),
        (
            Some(stranger.issue(&["client"], |_| {})),
            Kind::UnknownIssuer,
            Some(48),
        ),
        (
            Some(authority().issue(&["client"], expired)),
            Kind::CertificateExpired,
            Some(45),
        ),
        (
            Some(authority().issue(&["client"], future)),
            Kind::CertificateNotYetValid,
            Some(45),
        ),
        (
            Some(authority().issue(&["client"], |params| {
                params.extended_key_usages = vec![Usage::ServerAuth];
            })),
            Kind::BadCertificate,
            None,
        ),
    ];
    for (certificate, reason, alert) in cases {
        let (_, client, server) = with_client_auth(ClientAuth::Required, certificate.as_ref());
        assert_eq!(kind(server), reason);
        match (kind(client), alert) {
            (Kind::Alert(_), None) => {}
            (told, alert) => assert_eq!(Some(told), alert.map(Kind::Alert)),
        }
    }
    let good = authority().issue(&["client"], |_| {});
    let (pair, client, server) = with_client_auth(ClientAuth::Required, Some(&good));
    client.and(server).unwrap();
    let info = pair.server.peer_info().unwrap();
    assert_eq!(info.certificates, [good.certificate.der().to_vec()]);
    let hash = super::provider::sha256(&super::crypto(), good.certificate.der()).unwrap();
    assert_eq!(info.fingerprint_sha256(), Some(hash));
}

#[test]
fn c07_optional_client_certificate() {
    let (pair, client, server) = with_client_auth(ClientAuth::Optional, None);
    client.and(server).unwrap();
    let info = pair.server.peer_info().unwrap();
    assert!(info.certificates.is_empty() && info.fingerprint_sha256().is_none());

    let good = authority().issue(&["client"], |_| {});
    let (pair, client, server) = with_client_auth(ClientAuth::Optional, Some(&good));
    client.and(server).unwrap();
    assert_eq!(pair.server.peer_info().unwrap().certificates.len(), 1);

    let wrong = Authority::new("nobody").issue(&["client"], |_| {});
    let (_, client, server) = with_client_auth(ClientAuth::Optional, Some(&wrong));
    assert_eq!(kind(server), Kind::UnknownIssuer);
    assert_eq!(kind(client), Kind::Alert(48));
}

#[test]
fn c07_a_client_that_is_not_asked_presents_nothing() {
    let certificate = authority().issue(&["client"], |_| {});
    let client = trusting().client_cert_pem(&certificate.pem(), &certificate.key_pem());
    let mut pair = Pair::new(&client.build().unwrap(), &leaf().server().build().unwrap());
    pair.shake_hands().unwrap();
    assert!(pair.server.peer_info().unwrap().certificates.is_empty());
}

#[test]
fn c15_a_long_chain_ends_in_an_error() {
    // 150 certificates of one name: each could be the issuer of each.
    let chain: Vec<u8> = (0..150)
        .flat_map(|_| Authority::new("one of many").pem())
        .collect();
    let end = Authority::new("one of many").issue(&["localhost"], |_| {});
    let chain = [end.pem(), chain].concat();
    let server = TlsServerConfig::builder().pem(&chain, &end.key_pem());
    let (client, server) = outcomes(server, "localhost");
    assert!(matches!(
        kind(client),
        Kind::UnknownIssuer | Kind::BadCertificate
    ));
    assert!(matches!(kind(server), Kind::Alert(_)));
}

#[test]
fn c15_a_handshake_message_over_64_kib_is_refused() {
    // About 150 KiB.
    let one = authority().pem();
    let chain = [leaf().pem(), one.repeat(400)].concat();
    let server = TlsServerConfig::builder().pem(&chain, &leaf().key_pem());
    // rustls has no alert for this one.
    let (client, _) = outcomes(server, "localhost");
    assert_eq!(kind(client), Kind::InvalidMessage);
}

/// An error and its causes, as a program prints them.
fn causes(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(
        || error.to_string(),
        |source| format!("{error}: {}", causes(source)),
    )
}

fn pinning(pins: &[[u8; 32]]) -> TlsClientConfig {
    pins.iter()
        .fold(TlsClientConfig::builder(), |b, pin| b.pin_sha256(*pin))
        .build()
        .unwrap()
}

#[test]
fn a_pin_alone_decides() {
    // Self-signed, for another name, expired: the key is what counts.
    let server = Leaf::self_signed(&["other.test"], expired);
    let config = server.server().build().unwrap();
    let other = [7; 32];
    Pair::new(&pinning(&[server.pin()]), &config)
        .shake_hands()
        .unwrap();
    Pair::new(&pinning(&[other, server.pin()]), &config)
        .shake_hands()
        .unwrap();
    let (client, at_server) = Pair::new(&pinning(&[other]), &config).outcomes();
    // The error says which key it is, so that a wanted change can be pinned.
    let hex: String = server.pin().iter().map(|b| format!("{b:02x}")).collect();
    assert!(causes(client.as_ref().unwrap_err()).contains(&hex));
    assert_eq!(kind(client), Kind::PinMismatch);
    assert!(matches!(kind(at_server), Kind::Alert(_)));
}

#[test]
fn a_pin_and_an_authority_must_agree() {
    let stranger = Authority::new("nobody").issue(&["localhost"], |_| {});
    let good = leaf();
    let with_pin = |pin| trusting().pin_sha256(pin).build().unwrap();
    let ours = good.server().build().unwrap();
    let theirs = stranger.server().build().unwrap();
    Pair::new(&with_pin(good.pin()), &ours)
        .shake_hands()
        .unwrap();
    let (client, _) = Pair::new(&with_pin(stranger.pin()), &ours).outcomes();
    assert_eq!(kind(client), Kind::PinMismatch);
    let (client, _) = Pair::new(&with_pin(stranger.pin()), &theirs).outcomes();
    assert_eq!(kind(client), Kind::UnknownIssuer);
}

#[test]
fn the_danger_switch_accepts_any_certificate_but_no_other_pin() {
    let server = Leaf::self_signed(&["other.test"], expired);
    let config = server.server().build().unwrap();
    let anything = || trusting().danger_accept_invalid_certs();
    Pair::new(&anything().build().unwrap(), &config)
        .shake_hands()
        .unwrap();
    let pinned = anything().pin_sha256(server.pin()).build().unwrap();
    Pair::new(&pinned, &config).shake_hands().unwrap();
    let pinned = anything().pin_sha256([7; 32]).build().unwrap();
    let (client, _) = Pair::new(&pinned, &config).outcomes();
    assert_eq!(kind(client), Kind::PinMismatch);
}

#[test]
fn whoever_is_believed_must_hold_the_key() {
    // A server that shows a certificate which it has no key of.
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use std::sync::Arc;
    let stolen = leaf();
    let own = authority().issue(&["localhost"], |_| {});
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.key.serialize_der()).unwrap();
    let key = super::crypto().key_provider.load_private_key(key).unwrap();
    let certified = CertifiedKey::new(vec![stolen.certificate.der().clone()], key);
    let certified = Arc::new(SingleCertAndKey::from(certified));
    for client in [
        trusting().build().unwrap(),
        pinning(&[stolen.pin()]),
        trusting().danger_accept_invalid_certs().build().unwrap(),
    ] {
        let server = super::raw_server(|config| {
            config.cert_resolver = Arc::<SingleCertAndKey>::clone(&certified);
        });
        let client = TlsSession::client(&client, "localhost").unwrap();
        let (client, _) = Pair::of(client, server).outcomes();
        assert_eq!(kind(client), Kind::BadCertificate);
    }
}
