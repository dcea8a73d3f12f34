//! How a client judges a server's certificate: authorities, pinned keys, or (for development) not.

use super::provider;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use std::sync::Arc;
use thiserror::Error;

/// The server's key is none of the pinned ones.
#[derive(Debug, Error)]
#[error("the SHA-256 of the server's public key is {0}")]
pub(super) struct PinMismatch(String);

/// Both parts that are there must agree.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) provider: Arc<CryptoProvider>,
    /// Chain and name, by trusted authorities. Without it, pins decide alone.
    pub(super) authorities: Option<Arc<WebPkiServerVerifier>>,
    /// SHA-256 of public keys (SubjectPublicKeyInfo). Empty: any key.
    pub(super) pins: Vec<[u8; 32]>,
}

impl Verifier {
    fn check_pins(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        let hash = provider::sha256(&self.provider, &key)
            .map_err(|_| Error::General("the provider has no SHA-256".to_owned()))?;
        if self.pins.contains(&hash) {
            return Ok(());
        }
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Err(CertificateError::Other(OtherError(Arc::new(PinMismatch(hex)))).into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            )?;
        }
        self.check_pins(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    /// Never asked: TLS 1.2 is not compiled in.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    /// Whatever is believed of the certificate, the server must hold its key.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
