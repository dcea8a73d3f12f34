//! Which cryptography is used. A process of its own, since the default is one for the process.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, ring};
use std::sync::Arc;
use std::time::Duration;
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::{TlsClientConfig, TlsServerConfig, dev};
use vstp::{VstpTcpClient, VstpTcpServer};

/// The cryptography with one cipher suite only, so that it is seen which one was used.
fn only(suite: CipherSuite) -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|s| s.suite() == suite);
    assert_eq!(provider.cipher_suites.len(), 1);
    provider
}

/// The cipher suite of a connection.
fn cipher_suite(client: &TlsClientConfig, server: TlsServerConfig) -> String {
    let server = VstpTcpServer::bind("127.0.0.1:0", server).unwrap();
    let addr = server.local_addr();
    let handle = server.spawn(|_: &vstp::serve::Session, _| ()).unwrap();
    let config = TcpConfig::default().close_timeout(Duration::from_secs(20));
    let client = VstpTcpClient::connect_with(addr, client, config).unwrap();
    let suite = client.tls().unwrap().cipher_suite.clone();
    client.close().unwrap();
    handle.shutdown(Duration::from_secs(20));
    suite
}

#[test]
fn the_given_one_else_the_process_default_else_the_compiled_in_one() {
    let certs = dev::generate().unwrap();
    let (cert, key) = (certs.cert_pem.as_bytes(), certs.key_pem.as_bytes());
    let client = || {
        TlsClientConfig::builder()
            .ca_pem(certs.ca_pem.as_bytes())
            .unwrap()
    };
    let server = || TlsServerConfig::builder().pem(cert, key);

    let compiled_in = cipher_suite(&client().build().unwrap(), server().build().unwrap());
    assert_eq!(compiled_in, "TLS13_AES_256_GCM_SHA384");
    assert!(
        CryptoProvider::get_default().is_none(),
        "nothing is installed"
    );

    let default = only(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    default.install_default().unwrap();
    let by_default = cipher_suite(&client().build().unwrap(), server().build().unwrap());
    assert_eq!(by_default, "TLS13_CHACHA20_POLY1305_SHA256");

    let given = Arc::new(only(CipherSuite::TLS13_AES_128_GCM_SHA256));
    let given = cipher_suite(
        &client().provider(Arc::clone(&given)).build().unwrap(),
        server().provider(given).build().unwrap(),
    );
    assert_eq!(given, "TLS13_AES_128_GCM_SHA256");
}
