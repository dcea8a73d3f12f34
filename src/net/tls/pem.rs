//! Certificates and keys from PEM text.

use crate::error::VstpError;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io;
use std::path::Path;

/// The certificates and keys in a PEM text. The one function that names `rustls_pemfile`, which is
/// archived: `rustls::pki_types::pem` can take its place here.
fn items(pem: &[u8]) -> io::Result<Vec<Item>> {
    use rustls_pemfile::Item as Pem;
    let mut found = Vec::new();
    for item in rustls_pemfile::read_all(&mut &*pem) {
        match item? {
            Pem::X509Certificate(certificate) => found.push(Item::Certificate(certificate)),
            Pem::Pkcs1Key(key) => found.push(Item::Key(key.into())),
            Pem::Pkcs8Key(key) => found.push(Item::Key(key.into())),
            Pem::Sec1Key(key) => found.push(Item::Key(key.into())),
            _ => {}
        }
    }
    Ok(found)
}

enum Item {
    Certificate(CertificateDer<'static>),
    Key(PrivateKeyDer<'static>),
}

fn read(setting: &'static str, name: &str, pem: &[u8]) -> Result<Vec<Item>, VstpError> {
    items(pem).map_err(|e| VstpError::config_from(setting, format!("{name} is not valid PEM"), e))
}

/// The certificates of a PEM text; `name` says in errors where it comes from.
pub(super) fn certificates(
    setting: &'static str,
    name: &str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, VstpError> {
    let mut found = Vec::new();
    for item in read(setting, name, pem)? {
        if let Item::Certificate(certificate) = item {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        let reason = format!("{name} holds no certificate (-----BEGIN CERTIFICATE-----)");
        return Err(VstpError::config(setting, reason));
    }
    Ok(found)
}

/// The private key of a PEM text: PKCS#8, PKCS#1 or SEC1.
pub(super) fn private_key(
    setting: &'static str,
    name: &str,
    pem: &[u8],
) -> Result<PrivateKeyDer<'static>, VstpError> {
    let mut keys = read(setting, name, pem)?
        .into_iter()
        .filter_map(|item| match item {
            Item::Key(key) => Some(key),
            Item::Certificate(_) => None,
        });
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => {
            let reason = format!("{name} holds no private key (-----BEGIN PRIVATE KEY-----)");
            Err(VstpError::config(setting, reason))
        }
        (Some(_), Some(_)) => Err(VstpError::config(
            setting,
            format!("{name} holds more than one private key"),
        )),
    }
}

/// The contents of a file, or an error that names it.
pub(super) fn read_file(setting: &'static str, path: &Path) -> Result<Vec<u8>, VstpError> {
    fs::read(path).map_err(|e| {
        VstpError::config_from(setting, format!("{} cannot be read", path.display()), e)
    })
}
