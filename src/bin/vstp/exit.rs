//! How the command ends: one line for people, one number for scripts.
//!
//! Every error of the library becomes a [`Failure`] here, with what to do about it. The numbers are part of
//! the interface ([`TABLE`]) and do not change.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::Path;
use vstp::VstpError;
use vstp::error::{RemoteError, TimeoutKind, TlsErrorKind};
use vstp::proto::ErrorCode;

pub(crate) const OTHER: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const CONNECT: u8 = 3;
pub(crate) const TIMEOUT: u8 = 4;
pub(crate) const TLS: u8 = 5;
pub(crate) const PROTOCOL: u8 = 6;
pub(crate) const INTEGRITY: u8 = 7;
pub(crate) const LOCAL: u8 = 8;
pub(crate) const UNHEALTHY: u8 = 9;
const REMOTE: u8 = 64;
pub(crate) const BUSY: u8 = remote_number(ErrorCode::Busy);
pub(crate) const SHUTTING_DOWN: u8 = remote_number(ErrorCode::ShuttingDown);
pub(crate) const INTERRUPTED: u8 = 130;

/// Shown at the end of `vstp --help` and in the manual page.
pub(crate) const TABLE: &str = "\
Exit codes:
  0    done; also when the reader of our output went away
  1    another error
  2    wrong arguments
  3    the host cannot be resolved or reached, or the connection was lost
  4    a limit of time was reached
  5    TLS or a certificate failed
  6    the peer broke the protocol, or bytes are no valid frame, capture or event log
  7    a checksum or a hash is wrong
  8    a local file or program cannot be used
  9    unhealthy (vstp health)
  64   the server answered with an unknown error; 65 protocol, 66 too-large,
       67 unsupported-version, 68 hello-required, 69 unauthorized, 70 rate-limited,
       71 busy, 72 bad-request, 73 handler, 74 timeout, 75 calm, 76 shutting-down
  130  interrupted";

/// Why the command ends, and with which number.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// A file, with its name, that the system does not let us use.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::new(LOCAL, format!("{}: {}", path.display(), plain(error)))
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(INTERRUPTED, "interrupted")
    }

    /// The same failure, with what was being done.
    pub(crate) fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// An ERR of the peer, which over UDP comes as a frame.
    pub(crate) fn remote(code: ErrorCode, message: &str) -> Self {
        let about = match code {
            ErrorCode::Unauthorized => "; the server wants a token or a certificate that it knows",
            ErrorCode::Busy | ErrorCode::RateLimited => "; try again later",
            _ => "",
        };
        let text = format!("the server answered with the error {code}: {message}{about}");
        Self::new(remote_number(code), text)
    }
}

/// The system's words without "(os error N)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

const fn remote_number(code: ErrorCode) -> u8 {
    REMOTE
        + match code {
            ErrorCode::Protocol => 1,
            ErrorCode::TooLarge => 2,
            ErrorCode::UnsupportedVersion => 3,
            ErrorCode::HelloRequired => 4,
            ErrorCode::Unauthorized => 5,
            ErrorCode::RateLimited => 6,
            ErrorCode::Busy => 7,
            ErrorCode::BadRequest => 8,
            ErrorCode::Handler => 9,
            ErrorCode::Timeout => 10,
            ErrorCode::Calm => 11,
            ErrorCode::ShuttingDown => 12,
            _ => 0,
        }
}

impl From<VstpError> for Failure {
    fn from(error: VstpError) -> Self {
        Self::from(&error)
    }
}

impl From<&VstpError> for Failure {
    fn from(error: &VstpError) -> Self {
        if let VstpError::ServerError(remote) = error {
            let RemoteError { code, message, .. } = &**remote;
            return Self::remote(*code, message);
        }
        Self::new(number(error), sentence(error))
    }
}

fn number(error: &VstpError) -> u8 {
    match error {
        VstpError::Io(_)
        | VstpError::ConnectionClosed(_)
        | VstpError::InvalidAddress(_)
        | VstpError::TransportUnavailable(_) => CONNECT,
        VstpError::Timeout(_) => TIMEOUT,
        VstpError::Tls(_) => TLS,
        VstpError::CrcMismatch { .. } => INTEGRITY,
        VstpError::InvalidMagic { .. }
        | VstpError::InvalidVersion { .. }
        | VstpError::InvalidFrameType(_)
        | VstpError::Incomplete { .. }
        | VstpError::UnexpectedFrameType { .. }
        | VstpError::Deserialization(_)
        | VstpError::Protocol(_) => PROTOCOL,
        VstpError::Encode(_)
        | VstpError::FrameTooLarge { .. }
        | VstpError::Datagram(_)
        | VstpError::Serialization(_) => USAGE,
        VstpError::Config(config) => match config.source() {
            Some(cause) if cause.is::<io::Error>() => LOCAL,
            // Certificates, keys and what is wrong with them.
            Some(_) => TLS,
            None if config.setting == "tls" => TLS,
            None => USAGE,
        },
        VstpError::Cancelled => INTERRUPTED,
        _ => OTHER,
    }
}

/// What happened, its causes, and what to do.
fn sentence(error: &VstpError) -> String {
    let mut text = match error {
        VstpError::Io(cause) => plain(cause),
        VstpError::Config(config) => {
            let text = config.to_string();
            let named = format!("setting `{}`: ", config.setting);
            let reason = text.strip_prefix(&named).unwrap_or(&text);
            match number(error) {
                // The setting is a flag of ours, more or less.
                USAGE => format!("{}: {reason}", config.setting),
                _ => reason.to_owned(),
            }
        }
        other => other.to_string(),
    };
    if !matches!(error, VstpError::Io(_)) {
        let mut cause = error.source();
        while let Some(inner) = cause {
            let words = match inner.downcast_ref::<io::Error>() {
                Some(io) => plain(io),
                None => inner.to_string(),
            };
            if !text.contains(&words) {
                text = format!("{text}: {words}");
            }
            cause = inner.source();
        }
    }
    text + hint(error)
}

fn hint(error: &VstpError) -> &'static str {
    match error {
        VstpError::Io(cause) => match cause.kind() {
            io::ErrorKind::ConnectionRefused => "; does a server listen at this address and port?",
            io::ErrorKind::AddrInUse => "; another program uses this port",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need rights that you lack",
            _ => "",
        },
        VstpError::Timeout(TimeoutKind::Connect) => {
            "; is the address right, and does a firewall drop packets? (--connect-timeout)"
        }
        VstpError::Timeout(TimeoutKind::Handshake) => {
            "; does the server speak VSTP, and TLS or plaintext as you do?"
        }
        VstpError::Timeout(TimeoutKind::Recv | TimeoutKind::Ack) => "; see --timeout",
        VstpError::InvalidAddress(_) => "; expected HOST or HOST:PORT that the resolver knows",
        VstpError::InvalidMagic { .. } => "; if the server speaks TLS, use vstp://",
        VstpError::Tls(tls) => match tls.kind {
            TlsErrorKind::UnknownIssuer => {
                "; name the authority with --cacert, or a key with --pin"
            }
            TlsErrorKind::InvalidMessage => {
                "; for a server without TLS: vstp+tcp:// and --plaintext"
            }
            TlsErrorKind::WrongName => "; another name to expect: --server-name",
            TlsErrorKind::Alert(_) => "; the server may want a certificate: --cert and --key",
            _ => "",
        },
        VstpError::FrameTooLarge { .. } => "; see --max-frame-size",
        VstpError::TransportUnavailable(_) => {
            "; is the server one of both transports (vstp server --auto), and does UDP get there?"
        }
        _ => "",
    }
}
