//! [`TlsServerConfig`]: the server's certificate, and whether clients need one.

use super::key_log::KeyLogFile;
use super::{ALPN, CryptoProvider, error, pem, provider};
use crate::error::VstpError;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// How a server does TLS. Clones share the certificate, so [`reload`](Self::reload) concerns all.
///
/// # Example
/// ```
/// use vstp::net::tls::{TlsServerConfig, dev};
/// let certs = dev::generate()?;
/// let tls = TlsServerConfig::builder()
///     .pem(certs.cert_pem.as_bytes(), certs.key_pem.as_bytes())
///     .build()?;
/// # let _ = tls;
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TlsServerConfig {
    config: Arc<ServerConfig>,
    certificate: Arc<CurrentCertificate>,
    provider: Arc<CryptoProvider>,
    files: Option<(PathBuf, PathBuf)>,
}

/// The certificate that new connections get.
#[derive(Debug)]
struct CurrentCertificate {
    /// Held to copy or replace one pointer; nothing is taken inside it.
    key: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self.key.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

impl TlsServerConfig {
    /// Starts with no certificate.
    #[must_use]
    pub fn builder() -> TlsServerConfigBuilder {
        TlsServerConfigBuilder {
            source: None,
            client_auth: ClientAuth::None,
            provider: None,
            key_log: None,
        }
    }

    /// Reads the certificate and key files again. New connections get the new certificate, open
    /// ones live on with the old.
    ///
    /// # Errors
    /// `Config` when the files do not hold a valid pair, or none were given; the old one stays.
    pub fn reload(&self) -> Result<(), VstpError> {
        let Some((certificate, key)) = &self.files else {
            let reason = "the certificate was not read from files; use reload_pem";
            return Err(VstpError::config("pem_files", reason));
        };
        self.replace(Source::Files(certificate.clone(), key.clone()))
    }

    /// Replaces the certificate and its key by these.
    ///
    /// # Errors
    /// `Config` when they are no valid pair; the old one stays.
    pub fn reload_pem(&self, certificate: &[u8], key: &[u8]) -> Result<(), VstpError> {
        self.replace(Source::Pem(certificate.to_vec(), key.to_vec()))
    }

    fn replace(&self, source: Source) -> Result<(), VstpError> {
        let key = source.certified_key(&self.provider)?;
        *self
            .certificate
            .key
            .write()
            .unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    pub(super) fn rustls(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }
}

/// Whether clients must prove who they are with a certificate.
#[derive(Debug, Clone, Default)]
pub enum ClientAuth {
    /// Clients are not asked.
    #[default]
    None,
    /// A client may present a certificate; if it does, one of these authorities must have signed it.
    Optional(Roots),
    /// A client must present a certificate that one of these authorities has signed.
    Required(Roots),
}

/// Certificates of authorities.
#[derive(Debug, Clone)]
pub struct Roots(pub(super) RootCertStore);

impl Roots {
    /// Reads them from a PEM file.
    ///
    /// # Errors
    /// `Config`, naming the file.
    pub fn pem_file(path: impl AsRef<Path>) -> Result<Self, VstpError> {
        let path = path.as_ref();
        let text = pem::read_file("roots", path)?;
        Self::from_pem(&path.display().to_string(), &text)
    }

    /// Reads them from a PEM text.
    ///
    /// # Errors
    /// `Config`.
    pub fn pem(text: &[u8]) -> Result<Self, VstpError> {
        Self::from_pem("the PEM text", text)
    }

    /// Takes them as DER.
    ///
    /// # Errors
    /// `Config`.
    pub fn der(certificates: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, VstpError> {
        Self::collect(
            certificates.into_iter().map(CertificateDer::from),
            "the DER certificates",
        )
    }

    pub(super) fn from_pem(name: &str, text: &[u8]) -> Result<Self, VstpError> {
        Self::collect(pem::certificates("roots", name, text)?, name)
    }

    fn collect(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
        name: &str,
    ) -> Result<Self, VstpError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate).map_err(|e| {
                let reason = format!("{name}: a certificate cannot be used as an authority");
                VstpError::config_from("roots", reason, e)
            })?;
        }
        Ok(Self(store))
    }
}

/// Builds a [`TlsServerConfig`].
#[derive(Debug, Clone)]
pub struct TlsServerConfigBuilder {
    source: Option<Source>,
    client_auth: ClientAuth,
    provider: Option<Arc<CryptoProvider>>,
    key_log: Option<PathBuf>,
}

/// Where the certificate and its key come from.
#[derive(Clone)]
enum Source {
    Files(PathBuf, PathBuf),
    Pem(Vec<u8>, Vec<u8>),
    Der(Vec<Vec<u8>>, Vec<u8>),
}

/// Keys do not belong into logs.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files(certificate, key) => f
                .debug_tuple("Files")
                .field(certificate)
                .field(key)
                .finish(),
            Self::Pem(..) => f.write_str("Pem(..)"),
            Self::Der(..) => f.write_str("Der(..)"),
        }
    }
}

impl Source {
    fn certified_key(self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, VstpError> {
        let (chain, key) = match self {
            Self::Files(certificate, key) => (
                certificates_of(&certificate)?,
                pem::private_key(
                    "pem_files",
                    &key.display().to_string(),
                    &pem::read_file("pem_files", &key)?,
                )?,
            ),
            Self::Pem(certificate, key) => (
                pem::certificates("pem", "the certificate", &certificate)?,
                pem::private_key("pem", "the key", &key)?,
            ),
            Self::Der(chain, key) => (
                chain.into_iter().map(CertificateDer::from).collect(),
                PrivateKeyDer::try_from(key)
                    .map_err(|e| VstpError::config("der", format!("the key: {e}")))?,
            ),
        };
        let key = provider.key_provider.load_private_key(key).map_err(|e| {
            VstpError::config_from("certificate", "the private key cannot be used", e)
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(Arc::new(certified))
            }
            Err(e) => Err(VstpError::config_from(
                "certificate",
                "the certificate and the private key do not belong together",
                e,
            )),
        }
    }
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, VstpError> {
    let text = pem::read_file("pem_files", path)?;
    pem::certificates("pem_files", &path.display().to_string(), &text)
}

impl TlsServerConfigBuilder {
    /// The certificate with its chain, and its private key, in PEM files.
    #[must_use]
    pub fn pem_files(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.source = Some(Source::Files(certificate.into(), key.into()));
        self
    }

    /// The certificate with its chain, and its private key, as PEM texts.
    #[must_use]
    pub fn pem(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.source = Some(Source::Pem(certificate.to_vec(), key.to_vec()));
        self
    }

    /// The certificate with its chain (the server's own first), and its private key, as DER.
    #[must_use]
    pub fn der(mut self, chain: Vec<Vec<u8>>, key: Vec<u8>) -> Self {
        self.source = Some(Source::Der(chain, key));
        self
    }

    /// Whether clients need a certificate. Default: they are not asked.
    #[must_use]
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
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

    /// Reads and checks everything.
    ///
    /// # Errors
    /// `Config`: no certificate was given, it cannot be read, or it does not fit its key.
    pub fn build(self) -> Result<TlsServerConfig, VstpError> {
        let provider = provider::choose(self.provider)?;
        let source = self.source.ok_or_else(|| {
            VstpError::config(
                "certificate",
                "a server needs one: use pem_files, pem or der",
            )
        })?;
        let files = match &source {
            Source::Files(certificate, key) => Some((certificate.clone(), key.clone())),
            Source::Pem(..) | Source::Der(..) => None,
        };
        let key = RwLock::new(source.certified_key(&provider)?);
        let certificate = Arc::new(CurrentCertificate { key });

        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(error::tls)?;
        let verifier = |roots: Roots| {
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.0), Arc::clone(&provider))
        };
        let invalid = |e| VstpError::config_from("client_auth", "the authorities are unusable", e);
        let builder = match self.client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Optional(roots) => builder.with_client_cert_verifier(
                verifier(roots)
                    .allow_unauthenticated()
                    .build()
                    .map_err(invalid)?,
            ),
            ClientAuth::Required(roots) => {
                builder.with_client_cert_verifier(verifier(roots).build().map_err(invalid)?)
            }
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<CurrentCertificate>::clone(&certificate);
        let mut config = builder.with_cert_resolver(resolver);
        if let Some(path) = &self.key_log {
            config.key_log = KeyLogFile::open(path)?;
        }
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(TlsServerConfig {
            config: Arc::new(config),
            certificate,
            provider,
            files,
        })
    }
}
