//! What is known about the peer after the handshake.

use super::names;
use std::fmt;

/// The facts of a TLS connection.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Always `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, for example `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// The application protocol, always `vstp/1`.
    pub alpn: String,
    /// The peer's certificate and those that it sent with it (DER); empty if it sent none.
    pub certificates: Vec<Vec<u8>>,
    /// At a server: the name that the client asked for, if it did.
    pub server_name: Option<String>,
    /// A value that only the two ends of this connection know (RFC 9266): an authentication token
    /// that includes it cannot be passed on by a man in the middle.
    pub exporter: [u8; 32],
    pub(super) fingerprint: Option<[u8; 32]>,
}

impl PeerInfo {
    pub(crate) const fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }

    /// The common name in the subject of the peer's certificate, if it has exactly one. TLS has verified
    /// who signed it; what names that authority gives out is between you and it.
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        names::common_name(self.certificates.first()?)
    }

    /// The DNS names that the peer's certificate is for (subject alternative names).
    #[must_use]
    pub fn dns_names(&self) -> Vec<String> {
        let first = self.certificates.first();
        first.map_or_else(Vec::new, |certificate| names::dns(certificate))
    }

    /// The SHA-256 of the peer's certificate (DER), if it sent one.
    #[must_use]
    pub const fn fingerprint_sha256(&self) -> Option<[u8; 32]> {
        self.fingerprint
    }
}

/// The exporter is a secret, so it is left out.
impl fmt::Debug for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerInfo")
            .field("version", &self.version)
            .field("cipher_suite", &self.cipher_suite)
            .field("alpn", &self.alpn)
            .field("certificate_count", &self.certificates.len())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}
