//! [`ClientCertificate`]: clients that show a certificate.

use super::{Authenticator, Credentials, Identity, Refusal};
use crate::net::tls::PeerInfo;

/// Recognises clients by the certificate that they show in the TLS handshake. TLS has checked that it is
/// valid, that an authority of [`ClientAuth`](crate::net::tls::ClientAuth) signed it, and that the client
/// has its key; this only says who that is. The attribute `sha256` is the certificate's fingerprint in hex.
///
/// # Example
/// ```
/// use vstp::net::identity::ClientCertificate;
/// use vstp::serve::ServerConfig;
/// let config = ServerConfig::default().authenticator(ClientCertificate::by_common_name());
/// # let _ = config;
/// ```
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    by: By,
}

#[derive(Debug, Clone)]
enum By {
    CommonName,
    DnsName,
    Pins(Vec<(String, [u8; 32])>),
}

impl ClientCertificate {
    /// The name is the common name of the certificate's subject; without one the client is refused.
    #[must_use]
    pub const fn by_common_name() -> Self {
        Self { by: By::CommonName }
    }

    /// The name is the DNS name that the certificate is for; without one, or with several, the client is
    /// refused.
    #[must_use]
    pub const fn by_dns_name() -> Self {
        Self { by: By::DnsName }
    }

    /// Only these certificates, by their SHA-256, each with the name that it gives.
    #[must_use]
    pub fn pinned<N: Into<String>>(pins: impl IntoIterator<Item = (N, [u8; 32])>) -> Self {
        let pins = pins.into_iter().map(|(name, pin)| (name.into(), pin));
        Self {
            by: By::Pins(pins.collect()),
        }
    }

    fn name(&self, tls: &PeerInfo, fingerprint: &[u8; 32]) -> Option<String> {
        match &self.by {
            By::CommonName => tls.common_name(),
            By::DnsName => {
                let mut names = tls.dns_names();
                names.pop().filter(|_| names.is_empty())
            }
            // A fingerprint is no secret, so the comparison need not be of constant time.
            By::Pins(pins) => {
                let known = pins.iter().find(|(_, pin)| pin == fingerprint);
                known.map(|(name, _)| name.clone())
            }
        }
    }
}

impl Authenticator for ClientCertificate {
    fn authenticate(&self, client: &Credentials) -> Result<Identity, Refusal> {
        let tls = client.tls().ok_or_else(|| Refusal::new("plaintext"))?;
        let fingerprint = tls.fingerprint_sha256();
        let fingerprint = fingerprint.ok_or_else(|| Refusal::new("no certificate"))?;
        let name = self.name(tls, &fingerprint);
        let name = name.ok_or_else(|| Refusal::new("a certificate of nobody known"))?;
        let hex: String = fingerprint.iter().map(|b| format!("{b:02x}")).collect();
        Ok(Identity::new(name).with("sha256", hex))
    }
}
