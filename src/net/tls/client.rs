//! [`TlsClientConfig`]: what a client trusts, and what it presents.

use super::key_log::KeyLogFile;
use super::server::Roots;
use super::verify::Verifier;
use super::{ALPN, CryptoProvider, error, pem, provider};
use crate::error::VstpError;
use rustls::RootCertStore;
use rustls::client::{ClientConfig, Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a client does TLS. Cheap to clone.
///
/// # Example
/// ```
/// use vstp::net::tls::TlsClientConfig;
/// let public = TlsClientConfig::builder().build()?; // the public web's authorities
/// # let certs = vstp::net::tls::dev::generate()?;
/// # let ca = certs.ca_pem.as_bytes();
/// let own = TlsClientConfig::builder().ca_pem(ca)?.build()?; // your own authority alone
/// # let _ = (public, own);
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TlsClientConfig {
    config: Arc<ClientConfig>,
    provider: Arc<CryptoProvider>,
    server_name: Option<ServerName<'static>>,
    /// Set for certificates that are made for development.
    loopback_only: bool,
}

impl TlsClientConfig {
    /// Starts with the public web's authorities as trust (feature `webpki-roots`), which the first
    /// authority or pin given replaces.
    #[must_use]
    pub fn builder() -> TlsClientConfigBuilder {
        TlsClientConfigBuilder::default()
    }

    /// Refuses peers that this configuration may not be used with.
    pub(crate) fn check_peer(&self, ip: IpAddr) -> Result<(), VstpError> {
        if self.loopback_only && !ip.to_canonical().is_loopback() {
            let reason = format!(
                "the certificates for development are trusted on loopback addresses only, not at \
                 {ip}; use TlsClientConfig::builder()"
            );
            return Err(VstpError::config("tls", reason));
        }
        Ok(())
    }

    pub(super) const fn for_loopback_only(mut self) -> Self {
        self.loopback_only = true;
        self
    }

    /// The name that the certificate must be for.
    pub(super) fn server_name(&self, host: &str) -> Result<ServerName<'static>, VstpError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned())
                .map_err(|_| VstpError::InvalidAddress(host.into())),
        }
    }

    pub(super) fn rustls(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }
}

/// Builds a [`TlsClientConfig`].
#[derive(Debug, Clone, Default)]
pub struct TlsClientConfigBuilder {
    authorities: Option<RootCertStore>,
    webpki_roots: bool,
    pins: Vec<[u8; 32]>,
    certificate: Option<Identity>,
    server_name: Option<String>,
    accept_invalid: bool,
    provider: Option<Arc<CryptoProvider>>,
    key_log: Option<PathBuf>,
}

/// A certificate chain and its key, as PEM.
#[derive(Clone)]
struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Keys do not belong into logs.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl TlsClientConfigBuilder {
    /// Trusts the authorities in this PEM file, instead of the public ones.
    ///
    /// # Errors
    /// `Config`, naming the file.
    pub fn ca_pem_file(self, path: impl AsRef<Path>) -> Result<Self, VstpError> {
        Ok(self.trust(Roots::pem_file(path)?))
    }

    /// Trusts the authorities in this PEM text, instead of the public ones.
    ///
    /// # Errors
    /// `Config`.
    pub fn ca_pem(self, text: &[u8]) -> Result<Self, VstpError> {
        Ok(self.trust(Roots::pem(text)?))
    }

    /// Trusts this authority (DER), instead of the public ones.
    ///
    /// # Errors
    /// `Config`.
    pub fn ca_der(self, certificate: Vec<u8>) -> Result<Self, VstpError> {
        Ok(self.trust(Roots::der([certificate])?))
    }

    fn trust(mut self, roots: Roots) -> Self {
        let store = self.authorities.get_or_insert_with(RootCertStore::empty);
        store.roots.extend(roots.0.roots);
        self
    }

    /// Trusts the public web's authorities as well as those given.
    #[cfg(feature = "webpki-roots")]
    #[must_use]
    pub fn webpki_roots(mut self) -> Self {
        self.webpki_roots = true;
        self
    }

    /// Accepts a server whose public key has this SHA-256 (of its SubjectPublicKeyInfo, DER).
    /// Several pins are alternatives. Without an authority the pin decides alone: neither chain
    /// nor name nor dates are checked. With one, both must agree.
    #[must_use]
    pub fn pin_sha256(mut self, hash: [u8; 32]) -> Self {
        self.pins.push(hash);
        self
    }

    /// Presents this certificate to servers that ask for one (PEM files).
    ///
    /// # Errors
    /// `Config`, naming the file.
    pub fn client_cert_pem_files(
        self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, VstpError> {
        let certificate = pem::read_file("client_cert_pem_files", &certificate.into())?;
        let key = pem::read_file("client_cert_pem_files", &key.into())?;
        Ok(self.client_cert_pem(&certificate, &key))
    }

    /// Presents this certificate to servers that ask for one (PEM texts).
    #[must_use]
    pub fn client_cert_pem(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.certificate = Some(Identity {
            certificate: certificate.to_vec(),
            key: key.to_vec(),
        });
        self
    }

    /// The name that the certificate must be for, instead of the host connected to.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Accepts any certificate of the server: whoever is in the way can read and change
    /// everything. For development; it logs a warning. An authority given is not used then; pins
    /// still are.
    #[must_use]
    pub fn danger_accept_invalid_certs(mut self) -> Self {
        self.accept_invalid = true;
        self
    }

    /// Appends the secrets of every session to this file, in the form of `SSLKEYLOGFILE`: whoever can
    /// read it can read everything. For development, to look into captures; it logs a warning.
    #[must_use]
    pub fn danger_key_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_log = Some(path.into());
        self
    }

    /// The cryptography. Default: the process's default provider, else the compiled-in one.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// `Config`: nothing is trusted, or a certificate, key or name cannot be used.
    pub fn build(self) -> Result<TlsClientConfig, VstpError> {
        let provider = provider::choose(self.provider.clone())?;
        let server_name = self.server_name.clone().map(|name| {
            ServerName::try_from(name)
                .map_err(|e| VstpError::config_from("server_name", "no host name or address", e))
        });
        let server_name = server_name.transpose()?;
        if self.accept_invalid {
            log::warn!("certificates of servers are not checked: danger_accept_invalid_certs");
        }
        let authorities = self.verifier(&provider)?;
        let pins = self.pins;
        let verifier = Arc::new(Verifier {
            provider: Arc::clone(&provider),
            authorities,
            pins,
        });

        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(error::tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let setting = "client_cert_pem";
                let chain = pem::certificates(setting, "the certificate", &identity.certificate)?;
                let key = pem::private_key(setting, "the key", &identity.key)?;
                builder.with_client_auth_cert(chain, key).map_err(|e| {
                    VstpError::config_from(setting, "certificate and key cannot be used", e)
                })?
            }
        };
        if let Some(path) = &self.key_log {
            config.key_log = KeyLogFile::open(path)?;
        }
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        Ok(TlsClientConfig {
            config: Arc::new(config),
            provider,
            server_name,
            loopback_only: false,
        })
    }

    /// The check of chain and name; `None` where pins or the danger switch take its place.
    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<WebPkiServerVerifier>>, VstpError> {
        let nothing_given = self.authorities.is_none() && self.pins.is_empty();
        let mut store = self
            .authorities
            .clone()
            .unwrap_or_else(RootCertStore::empty);
        if self.webpki_roots || nothing_given {
            add_public(&mut store);
        }
        if self.accept_invalid || (store.is_empty() && !self.pins.is_empty()) {
            return Ok(None);
        }
        if store.is_empty() {
            return Err(VstpError::config(
                "ca_pem_file",
                "no authority is trusted: give one, pin a key, or enable the feature webpki-roots",
            ));
        }
        let provider = Arc::clone(provider);
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map(Some)
            .map_err(|e| VstpError::config_from("ca_pem", "the authorities are unusable", e))
    }
}

#[cfg(feature = "webpki-roots")]
fn add_public(store: &mut RootCertStore) {
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
}

#[cfg(not(feature = "webpki-roots"))]
fn add_public(_: &mut RootCertStore) {}
