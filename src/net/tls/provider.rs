//! Which cryptography is used: the one given, else the process's default, else a compiled-in one.
//!
//! rustls's own builders panic when an application's dependencies enable both providers, or none;
//! so the choice is made here, and nothing is ever installed for the process.

use crate::error::VstpError;
use std::sync::Arc;

/// An implementation of the cryptography, as rustls names it.
pub use rustls::crypto::CryptoProvider;

/// Chooses the provider.
pub(super) fn choose(given: Option<Arc<CryptoProvider>>) -> Result<Arc<CryptoProvider>, VstpError> {
    given
        .or_else(|| CryptoProvider::get_default().cloned())
        .or_else(compiled_in)
        .ok_or_else(|| {
            VstpError::config(
                "provider",
                "no cryptography: enable the feature `ring` or `aws-lc-rs`, or give a provider",
            )
        })
}

/// aws-lc-rs when it is there, since whoever enabled it wants its speed; else ring.
#[cfg(feature = "aws-lc-rs")]
fn compiled_in() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn compiled_in() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::ring::default_provider()))
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
fn compiled_in() -> Option<Arc<CryptoProvider>> {
    None
}

/// SHA-256, from the provider.
pub(super) fn sha256(provider: &CryptoProvider, bytes: &[u8]) -> Result<[u8; 32], VstpError> {
    provider
        .cipher_suites
        .iter()
        .filter_map(|suite| suite.tls13())
        .map(|suite| suite.common.hash_provider)
        .find(|hash| hash.algorithm() == rustls::crypto::hash::HashAlgorithm::SHA256)
        .and_then(|hash| hash.hash(bytes).as_ref().try_into().ok())
        .ok_or_else(|| VstpError::config("provider", "the provider has no SHA-256"))
}
