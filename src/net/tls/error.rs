//! The one mapping from rustls's errors to ours, with what to do about each.

use super::verify::PinMismatch;
use crate::error::{TlsError, TlsErrorKind as Kind, VstpError};
use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};
use std::io;

/// Turns an error of rustls into ours.
pub(super) fn tls(error: Error) -> VstpError {
    let (kind, hint) = explain(&error);
    VstpError::Tls(Box::new(TlsError {
        kind,
        hint,
        source: Some(Box::new(error)),
    }))
}

/// Turns what rustls says in a function of `std::io` into ours. None of these is about a socket:
/// it is an earlier error, or a handshake message that does not fit into 64 KiB of records.
pub(super) fn io(error: io::Error) -> VstpError {
    error.downcast().map_or_else(
        |source| {
            VstpError::Tls(Box::new(TlsError {
                kind: Kind::InvalidMessage,
                hint: "",
                source: Some(Box::new(source)),
            }))
        },
        tls,
    )
}

/// An error that rustls does not know of.
pub(super) fn own(kind: Kind, hint: &'static str) -> VstpError {
    VstpError::Tls(Box::new(TlsError {
        kind,
        hint,
        source: None,
    }))
}

fn explain(error: &Error) -> (Kind, &'static str) {
    match error {
        Error::InvalidCertificate(reason) => certificate(reason),
        Error::NoCertificatesPresented => (
            Kind::CertificateRequired,
            "the client must set client_cert_pem_files",
        ),
        Error::NoApplicationProtocol => {
            (Kind::NoApplicationProtocol, "is the peer a VSTP program?")
        }
        Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => {
            (Kind::NoApplicationProtocol, "is the peer a VSTP program?")
        }
        Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            (Kind::Incompatible, "the peer must speak TLS 1.3")
        }
        Error::AlertReceived(alert) => {
            let code = u8::from(*alert);
            (Kind::Alert(code), alert_hint(code))
        }
        Error::PeerIncompatible(reason) => match reason {
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::SupportedVersionsExtensionRequired => {
                (Kind::Incompatible, "the peer must speak TLS 1.3")
            }
            _ => (
                Kind::Incompatible,
                "both must speak TLS 1.3 and share a cipher",
            ),
        },
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => (
            Kind::InvalidMessage,
            "is the certificate chain over 64 KiB?",
        ),
        Error::InvalidMessage(_) => (Kind::InvalidMessage, "does one side use plaintext?"),
        Error::DecryptError => (Kind::DecryptError, ""),
        _ => (Kind::Other, ""),
    }
}

fn certificate(reason: &CertificateError) -> (Kind, &'static str) {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (Kind::CertificateExpired, "renew it, or check the clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (Kind::CertificateNotYetValid, "check the clock")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            Kind::WrongName,
            "connect to a name in it, or set server_name",
        ),
        CertificateError::UnknownIssuer => (
            Kind::UnknownIssuer,
            "pass its authority with ca_pem_file, or pin its key",
        ),
        CertificateError::Other(other) if other.0.is::<PinMismatch>() => (
            Kind::PinMismatch,
            "the key was replaced, or this is not the server",
        ),
        _ => (Kind::BadCertificate, ""),
    }
}

/// What the peer's alert most likely wants (RFC 8446 6.2).
fn alert_hint(code: u8) -> &'static str {
    match code {
        40 => "it may not speak TLS 1.3",
        42 | 43 | 45 | 46 => "it does not accept our certificate",
        44 => "our certificate was revoked",
        48 => "it does not know the authority of our certificate",
        116 => "it requires a certificate: set client_cert_pem_files",
        _ => "",
    }
}
