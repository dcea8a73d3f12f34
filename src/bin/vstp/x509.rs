//! What a certificate says, for people and programs. It judges nothing: TLS does that.

use crate::exit::{self, Failure};
use data_encoding::{BASE64, HEXLOWER};
use ring_digest::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::path::Path;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

const DAY: i64 = 24 * 3600;

/// The facts of one certificate.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) names: Vec<String>,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    /// Whole days until it expires; negative when it has.
    pub(crate) days_left: i64,
    pub(crate) is_authority: bool,
    pub(crate) serial: String,
    /// SHA-256 of the certificate.
    pub(crate) fingerprint: String,
    /// SHA-256 of its public key, as `--pin` takes it.
    pub(crate) pin: String,
}

impl Summary {
    pub(crate) fn of(der: &[u8]) -> Result<Self, Failure> {
        let invalid = |e| Failure::new(exit::TLS, format!("a certificate cannot be read: {e}"));
        let (_, certificate) = X509Certificate::from_der(der).map_err(invalid)?;
        let validity = certificate.validity();
        let left = validity.not_after.timestamp() - ASN1Time::now().timestamp();
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names(&certificate),
            not_before: shown(validity.not_before),
            not_after: shown(validity.not_after),
            days_left: left.div_euclid(DAY),
            is_authority: certificate.is_ca(),
            serial: certificate.raw_serial_as_string(),
            fingerprint: HEXLOWER.encode(digest(&SHA256, der).as_ref()),
            pin: pin_of(certificate.public_key().raw),
        })
    }

    /// The subject in one word, where there is one.
    pub(crate) fn title(&self) -> &str {
        match (self.subject.as_str(), self.names.first()) {
            ("", Some(name)) => name,
            ("", None) => "(no name)",
            (subject, _) => subject,
        }
    }

    /// `expires 2027-01-01 (89 days)`, or `EXPIRED ...`.
    pub(crate) fn expiry(&self) -> String {
        if self.days_left < 0 {
            return format!("EXPIRED {}", self.not_after);
        }
        format!("expires {} ({} days)", self.not_after, self.days_left)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "subject": self.subject,
            "issuer": self.issuer,
            "names": self.names,
            "not_before": self.not_before,
            "not_after": self.not_after,
            "days_left": self.days_left,
            "authority": self.is_authority,
            "serial": self.serial,
            "sha256": self.fingerprint,
            "pin": self.pin,
        })
    }
}

fn pin_of(public_key: &[u8]) -> String {
    format!(
        "sha256/{}",
        BASE64.encode(digest(&SHA256, public_key).as_ref())
    )
}

/// `2027-01-01T00:00:00Z`.
fn shown(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => ip(bytes),
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

fn ip(bytes: &[u8]) -> Option<String> {
    use std::net::IpAddr;
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(address.to_string())
}

/// The certificates in a file, PEM or DER.
pub(crate) fn read(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::file(path, &e))?;
    let no_certificate = || {
        let text = format!(
            "{}: no certificate in it (-----BEGIN CERTIFICATE-----, or DER)",
            path.display()
        );
        Failure::new(exit::TLS, text)
    };
    if !bytes.windows(10).any(|w| w == b"-----BEGIN") {
        return match X509Certificate::from_der(&bytes) {
            Ok(_) => Ok(vec![bytes]),
            Err(_) => Err(no_certificate()),
        };
    }
    let mut found = Vec::new();
    for pem in Pem::iter_from_buffer(&bytes) {
        let pem = pem.map_err(|_| no_certificate())?;
        if pem.label == "CERTIFICATE" {
            found.push(pem.contents);
        }
    }
    if found.is_empty() {
        return Err(no_certificate());
    }
    Ok(found)
}
