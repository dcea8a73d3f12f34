//! What the settings make of rustls, and what they complain about.

use super::{Authority, Leaf, Pair, authority, complaint, crypto, drain, kind, leaf, trusting};
use crate::error::TlsErrorKind;
use crate::net::tls::{ALPN, ClientAuth, CryptoProvider, Roots, TlsClientConfig, TlsServerConfig};
use rustls::CipherSuite;
use std::fs;
use std::sync::Arc;

#[test]
fn c14_no_early_data_no_tickets_no_key_log() {
    let (client, server) = (
        trusting().build().unwrap(),
        leaf().server().build().unwrap(),
    );
    let (client, server) = (client.rustls(), server.rustls());
    assert_eq!(client.alpn_protocols, [ALPN]);
    assert_eq!(server.alpn_protocols, [ALPN]);
    assert!(!client.enable_early_data);
    assert_eq!(server.max_early_data_size, 0);
    assert_eq!(server.send_tls13_tickets, 0);
    assert!(!server.ticketer.enabled());
    assert!(!server.session_storage.can_cache());
    for log in [&client.key_log, &server.key_log] {
        assert!(!log.will_log("CLIENT_TRAFFIC_SECRET_0"));
    }
}

#[test]
fn c14_nothing_to_resume_with_is_sent_or_kept() {
    let (client, server) = (
        trusting().build().unwrap(),
        leaf().server().build().unwrap(),
    );
    let facts = || {
        let mut pair = Pair::new(&client, &server);
        let hello = drain(&mut pair.client);
        pair.server.feed(&hello).unwrap();
        let flight = drain(&mut pair.server);
        pair.client.feed(&flight).unwrap();
        let finished = drain(&mut pair.client);
        pair.server.feed(&finished).unwrap();
        assert!(!pair.server.is_handshaking());
        assert_eq!(drain(&mut pair.server), b"", "a ticket");
        let kind = |session: &super::TlsSession| session.connection.handshake_kind();
        assert_eq!(kind(&pair.client), Some(rustls::HandshakeKind::Full));
        assert_eq!(kind(&pair.server), Some(rustls::HandshakeKind::Full));
        hello.len()
    };
    // With something to resume, the second hello would be longer.
    assert_eq!(facts(), facts());
}

/// The crypto, with one cipher suite only, so that it is seen which one was used.
fn only(suite: CipherSuite) -> Arc<CryptoProvider> {
    let mut provider = (*crypto()).clone();
    provider.cipher_suites.retain(|s| s.suite() == suite);
    assert_eq!(provider.cipher_suites.len(), 1);
    Arc::new(provider)
}

#[test]
fn the_provider_that_was_given_is_used() {
    for suite in [
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let client = trusting().provider(only(suite)).build();
        let server = leaf().server().build().unwrap();
        match client {
            Ok(client) => {
                let mut pair = Pair::new(&client, &server);
                let (at_client, at_server) = pair.outcomes();
                at_client.and(at_server).unwrap();
                let name = format!("{suite:?}");
                assert_eq!(pair.server.peer_info().unwrap().cipher_suite, name);
            }
            Err(error) => panic!("{suite:?}: {error}"),
        }
        let server = leaf().server().provider(only(suite)).build().unwrap();
        let mut pair = Pair::new(&trusting().build().unwrap(), &server);
        let (at_client, at_server) = pair.outcomes();
        at_client.and(at_server).unwrap();
    }
}

#[test]
fn no_common_cipher() {
    let one = only(CipherSuite::TLS13_AES_128_GCM_SHA256);
    let other = only(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    let client = trusting().provider(one).build().unwrap();
    let server = leaf().server().provider(other).build().unwrap();
    let (at_client, at_server) = Pair::new(&client, &server).outcomes();
    assert_eq!(kind(at_server), TlsErrorKind::Incompatible);
    assert_eq!(kind(at_client), TlsErrorKind::Alert(40));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let other = authority().issue(&["localhost"], |_| {});
    let server = TlsServerConfig::builder;
    let (pem, key) = (leaf().pem(), leaf().key_pem());
    for (result, words) in [
        (server().build(), "a server needs one"),
        (server().pem(b"", &key).build(), "holds no certificate"),
        (
            server().pem(&pem, b"nothing").build(),
            "holds no private key",
        ),
        (server().pem(&pem, &pem).build(), "holds no private key"),
        (server().pem(&pem, &key.repeat(2)).build(), "more than one"),
        (
            server().pem(&pem, &other.key_pem()).build(),
            "do not belong together",
        ),
        (
            server().pem_files("missing/cert.pem", "key.pem").build(),
            "missing/cert.pem",
        ),
        (server().der(vec![vec![1, 2, 3]], vec![4]).build(), "`der`"),
        (
            server().der(Vec::new(), leaf().key.serialize_der()).build(),
            "certificate",
        ),
    ] {
        let text = complaint(result);
        assert!(text.contains(words), "{text}");
    }
    let der = leaf().certificate.der().to_vec();
    let good = server().der(vec![der], leaf().key.serialize_der());
    Pair::new(&trusting().build().unwrap(), &good.build().unwrap())
        .shake_hands()
        .unwrap();

    let client = TlsClientConfig::builder;
    for (result, words) in [
        (
            client().ca_pem(b"").and_then(|b| b.build()),
            "no certificate",
        ),
        (
            client().ca_der(vec![1, 2, 3]).and_then(|b| b.build()),
            "authority",
        ),
        (
            client()
                .ca_pem_file("missing/ca.pem")
                .and_then(|b| b.build()),
            "missing/ca.pem",
        ),
        (trusting().server_name("two words").build(), "server_name"),
        (
            trusting().client_cert_pem(&pem, &other.key_pem()).build(),
            "cannot be used",
        ),
    ] {
        let text = complaint(result);
        assert!(text.contains(words), "{text}");
    }
    let roots = Roots::der(Vec::new()).unwrap();
    let nobody = leaf().server().client_auth(ClientAuth::Required(roots));
    assert!(complaint(nobody.build()).contains("client_auth"));
}

#[test]
fn the_first_authority_given_replaces_the_public_ones() {
    // Two of our own are both trusted; the public ones no longer, so the store holds two.
    let other = Authority::new("another authority");
    let client = trusting().ca_pem(&other.pem()).unwrap().build().unwrap();
    for server in [leaf(), &other.issue(&["localhost"], |_| {})] {
        Pair::new(&client, &server.server().build().unwrap())
            .shake_hands()
            .unwrap();
    }
    #[cfg(feature = "webpki-roots")]
    {
        let both = trusting().webpki_roots().build().unwrap();
        Pair::new(&both, &leaf().server().build().unwrap())
            .shake_hands()
            .unwrap();
        let public = TlsClientConfig::builder().build().unwrap();
        let (at_client, _) = Pair::new(&public, &leaf().server().build().unwrap()).outcomes();
        assert_eq!(kind(at_client), TlsErrorKind::UnknownIssuer);
    }
}

/// The certificate that a new connection gets.
fn shown(server: &TlsServerConfig) -> Vec<u8> {
    let mut pair = Pair::new(&trusting().build().unwrap(), server);
    pair.shake_hands().unwrap();
    pair.client.peer_info().unwrap().certificates.remove(0)
}

#[test]
fn c16_a_reload_concerns_new_connections_and_clones() {
    let (one, two) = (
        authority().issue(&["localhost"], |_| {}),
        authority().issue(&["localhost"], |_| {}),
    );
    let server = one.server().build().unwrap();
    let clone = server.clone();
    assert_eq!(shown(&server), one.certificate.der().to_vec());
    let mut old = Pair::new(&trusting().build().unwrap(), &server);
    old.shake_hands().unwrap();
    server.reload_pem(&two.pem(), &two.key_pem()).unwrap();
    assert_eq!(shown(&server), two.certificate.der().to_vec());
    assert_eq!(shown(&clone), two.certificate.der().to_vec());
    let record = super::encrypt(&mut old.client, b"still here");
    assert_eq!(
        super::feed(&mut old.server, &record).unwrap(),
        b"still here"
    );

    // What cannot be used changes nothing.
    complaint(server.reload_pem(&one.pem(), &two.key_pem()));
    complaint(server.reload_pem(b"", b""));
    assert!(complaint(server.reload()).contains("reload_pem"));
    assert_eq!(shown(&server), two.certificate.der().to_vec());
}

#[test]
fn c16_a_reload_reads_the_files_again() {
    let folder = super::dev::Folder::new();
    fs::create_dir(&*folder).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let write = |leaf: &Leaf| {
        fs::write(&cert, leaf.pem()).unwrap();
        fs::write(&key, leaf.key_pem()).unwrap();
    };
    let (one, two) = (
        authority().issue(&["localhost"], |_| {}),
        authority().issue(&["localhost"], |_| {}),
    );
    write(&one);
    let server = TlsServerConfig::builder().pem_files(&cert, &key);
    let server = server.build().unwrap();
    assert_eq!(shown(&server), one.certificate.der().to_vec());
    write(&two);
    assert_eq!(shown(&server), one.certificate.der().to_vec());
    server.reload().unwrap();
    assert_eq!(shown(&server), two.certificate.der().to_vec());
    // In the middle of being replaced.
    fs::write(&cert, one.pem()).unwrap();
    assert!(complaint(server.reload()).contains("do not belong together"));
    fs::remove_file(&key).unwrap();
    assert!(complaint(server.reload()).contains("key.pem"));
    assert_eq!(shown(&server), two.certificate.der().to_vec());
}

#[test]
fn keys_do_not_get_into_logs() {
    let key = leaf().key_pem();
    let server = leaf().server();
    let client = trusting().client_cert_pem(&leaf().pem(), &key);
    let text = format!("{server:?} {client:?}");
    let secret: Vec<String> = key[40..44].iter().map(u8::to_string).collect();
    assert!(!text.contains(&secret.join(", ")), "{text}");
    assert!(!text.contains("PRIVATE KEY"));
}

#[test]
fn a_key_log_that_cannot_be_written_is_named() {
    let path = std::env::temp_dir()
        .join("no-such-folder-of-vstp")
        .join("keys");
    for said in [
        complaint(trusting().danger_key_log(&path).build()),
        complaint(leaf().server().danger_key_log(&path).build()),
    ] {
        assert!(said.contains("no-such-folder-of-vstp"), "{said}");
    }
}

#[test]
fn a_key_log_has_a_line_for_each_secret_and_is_appended_to() {
    let path = std::env::temp_dir().join(format!("vstp-key-log-{}", std::process::id()));
    for count in [1, 2] {
        let client = trusting().danger_key_log(&path).build().unwrap();
        let mut pair = Pair::new(&client, &leaf().server().build().unwrap());
        let (client, server) = pair.outcomes();
        client.and(server).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let secrets = text
            .lines()
            .filter(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 "));
        assert_eq!(secrets.count(), count);
        for line in text.lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            assert_eq!(parts.len(), 3, "{line}");
            assert_eq!(parts[1].len(), 64, "{line}");
        }
    }
    fs::remove_file(&path).unwrap();
}
