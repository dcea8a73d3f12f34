//! [`VstpError`], the error of every public call, sorted by who has to act on it.
//!
//! Display says what happened and does not repeat the cause; `source()` gives the cause. Errors hold
//! no frames: where a frame must come back, the method has an error type of its own.

use crate::proto::auto::Transport;
use crate::proto::datagram::{Failure, SendError};
use crate::proto::{ErrorCode, Violation};
use crate::wire::{DecodeError, EncodeError, FrameType};
use std::error::Error as StdError;
use std::{fmt, io};
use thiserror::Error;

/// Any cause, kept for `source()`.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// What can go wrong in a call of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VstpError {
    // The system.
    /// A system call failed.
    #[error("input/output failed")]
    Io(#[source] io::Error),
    /// A limit of time was reached; the kind says which.
    #[error("timed out: {0}")]
    Timeout(TimeoutKind),
    /// The connection is over; the reason says who ended it and how.
    #[error("connection closed: {0}")]
    ConnectionClosed(ClosedBy),

    // The peer.
    /// The peer speaks something else than VSTP.
    #[error("not a VSTP frame: magic byte {offset} is {got:#04x}")]
    InvalidMagic {
        /// Which of the two bytes, 0 or 1.
        offset: u8,
        /// The byte that was there.
        got: u8,
    },
    /// The peer speaks another version of VSTP.
    #[error("VSTP version {got} is not supported, this is version {expected}")]
    InvalidVersion {
        /// The version of this crate.
        expected: u8,
        /// The version of the frame.
        got: u8,
    },
    /// The peer sent a frame type that does not exist.
    #[error("frame type {0:#04x} does not exist")]
    InvalidFrameType(u8),
    /// Bytes were changed on the way.
    #[error("CRC-32 is {got:#010x}, the frame says {expected:#010x}")]
    CrcMismatch {
        /// The checksum that the frame carries.
        expected: u32,
        /// The checksum of the bytes received.
        got: u32,
    },
    /// The bytes end inside a frame, where nothing more can follow.
    #[error("frame ends {needed} bytes early")]
    Incomplete {
        /// At least this many bytes are missing.
        needed: usize,
    },
    /// The peer sent a frame that may not come now.
    #[error("{typ} is not allowed while the session is {state}")]
    UnexpectedFrameType {
        /// The frame's type.
        typ: FrameType,
        /// The state of the session.
        state: &'static str,
    },
    /// The peer broke another rule of the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(Violation),
    /// The peer reported an error with an ERR frame.
    #[error("the peer reported an error: {0}")]
    ServerError(Box<RemoteError>),
    /// TLS failed: handshake, certificate or record.
    #[error(transparent)]
    Tls(Box<TlsError>),

    // The caller.
    /// A frame cannot be expressed on the wire.
    #[error("frame cannot be encoded: {0}")]
    Encode(EncodeError),
    /// A frame is over a limit: ours, or the one that the peer announced.
    #[error("frame of {size} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Bytes of the whole frame.
        size: u64,
        /// The limit, bytes of a whole frame.
        limit: u64,
    },
    /// A setting is missing or makes no sense.
    #[error(transparent)]
    Config(Box<ConfigError>),
    /// An address cannot be parsed or resolved to anything.
    #[error("no usable address in {0:?}")]
    InvalidAddress(Box<str>),
    /// A value cannot be serialized.
    #[error("message cannot be serialized")]
    Serialization(#[source] Cause),
    /// A payload is not the value that was asked for.
    #[error("message cannot be read as the requested type")]
    Deserialization(#[source] Cause),
    /// A frame cannot leave as datagrams; nothing was sent.
    #[error("datagram cannot be sent: {0}")]
    Datagram(SendError),
    /// A bounded queue is full; nothing was queued.
    #[error("send queue is full")]
    Backpressure,
    /// A message shall take a transport that is not there at present; nothing was sent.
    #[error("there is no {0} to the peer at present")]
    TransportUnavailable(Transport),
    /// An extension failed on a message, which was not sent, or is not received. The connection goes on.
    #[error(transparent)]
    Extension(Box<ExtensionError>),
    /// The caller gave the operation up.
    #[error("cancelled")]
    Cancelled,
}

/// Which limit of time was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// Resolving a host name.
    Resolve,
    /// Connecting, over all addresses.
    Connect,
    /// The TLS handshake and HELLO/WELCOME together.
    Handshake,
    /// Waiting for a frame. The call can be repeated: what was received is kept.
    Recv,
    /// A frame that began to arrive did not end in time.
    Frame,
    /// The peer does not take what is written. The sending half is unusable afterwards.
    Send,
    /// Waiting for an ACK.
    Ack,
    /// The peer was silent for the idle timeout.
    Idle,
    /// Closing or shutting down.
    Shutdown,
}

impl fmt::Display for TimeoutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the host name",
            Self::Connect => "connecting",
            Self::Handshake => "handshake",
            Self::Recv => "waiting for a frame",
            Self::Frame => "a frame began and did not end",
            Self::Send => "the peer does not read",
            Self::Ack => "waiting for an acknowledgement",
            Self::Idle => "the peer is silent",
            Self::Shutdown => "closing",
        })
    }
}

/// Who ended a connection, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClosedBy {
    /// This side closed it.
    Local,
    /// The peer said BYE; the code, if it gave one.
    Peer(Option<ErrorCode>),
    /// The peer closed in order, between frames, but without BYE.
    PeerWithoutBye,
    /// The stream ended inside a frame, or a TLS stream ended without close_notify.
    Truncated,
    /// The peer, or the network, reset the connection.
    Reset,
    /// An earlier error ended it.
    Error,
}

impl fmt::Display for ClosedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("by this side"),
            Self::Peer(None) => f.write_str("the peer said goodbye"),
            Self::Peer(Some(code)) => write!(f, "the peer said goodbye ({code})"),
            Self::PeerWithoutBye => f.write_str("by the peer, without goodbye"),
            Self::Truncated => f.write_str("the stream was cut"),
            Self::Reset => f.write_str("reset"),
            Self::Error => f.write_str("after an earlier error"),
        }
    }
}

/// An ERR frame of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteError {
    /// The reason, for programs.
    pub code: ErrorCode,
    /// The reason, for people: the peer's words, control characters escaped, at most 1,024 bytes.
    pub message: String,
    /// The request that it answers; without one it ends the session.
    pub correlation_id: Option<Vec<u8>>,
}

impl RemoteError {
    /// Makes the error from the parts of an ERR frame; the message is made safe to print.
    pub(crate) fn new(code: ErrorCode, message: &[u8], correlation_id: Option<&[u8]>) -> Self {
        let text = String::from_utf8_lossy(&message[..message.len().min(1024)]);
        let message = text
            .chars()
            .flat_map(|c| {
                if c.is_control() {
                    c.escape_default().collect()
                } else {
                    vec![c]
                }
            })
            .collect();
        Self {
            code,
            message,
            correlation_id: correlation_id.map(<[u8]>::to_vec),
        }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// Why a handler could not answer; the peer gets it as an ERR frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerError {
    /// For programs.
    pub code: ErrorCode,
    /// For people; the peer sees it, so it holds nothing that the peer may not know.
    pub message: String,
}

impl HandlerError {
    /// An error with this code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl StdError for HandlerError {}

impl From<String> for HandlerError {
    fn from(message: String) -> Self {
        Self::new(ErrorCode::Handler, message)
    }
}

impl From<&str> for HandlerError {
    fn from(message: &str) -> Self {
        Self::new(ErrorCode::Handler, message)
    }
}

impl From<Box<dyn StdError>> for HandlerError {
    fn from(error: Box<dyn StdError>) -> Self {
        Self::new(ErrorCode::Handler, error.to_string())
    }
}

impl From<Box<dyn StdError + Send + Sync>> for HandlerError {
    fn from(error: Box<dyn StdError + Send + Sync>) -> Self {
        Self::new(ErrorCode::Handler, error.to_string())
    }
}

/// An extension failed on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtensionError {
    /// The name under which it was registered; the peer does not see it.
    pub extension: String,
    /// How it failed. The peer gets this as an ERR frame, where it is told of it.
    pub error: HandlerError,
    /// Whether it was by a panic.
    pub panicked: bool,
}

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the extension {:?} failed", self.extension)
    }
}

impl StdError for ExtensionError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// A failure of TLS.
#[derive(Debug)]
#[non_exhaustive]
pub struct TlsError {
    /// What failed, for programs.
    pub kind: TlsErrorKind,
    /// What to do about it, for people.
    pub(crate) hint: &'static str,
    pub(crate) source: Option<Cause>,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS failed: {}", self.kind)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

impl StdError for TlsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// What failed in TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The peer's certificate has expired.
    CertificateExpired,
    /// The peer's certificate is not valid yet.
    CertificateNotYetValid,
    /// The peer's certificate is for another name.
    WrongName,
    /// No trusted authority signed the peer's certificate.
    UnknownIssuer,
    /// The peer's public key is not the pinned one.
    PinMismatch,
    /// The peer's certificate is invalid in another way.
    BadCertificate,
    /// The peer presented no certificate, and one is required.
    CertificateRequired,
    /// The peer refused: it sent this alert (RFC 8446 6).
    Alert(u8),
    /// The peers have no protocol version or cipher in common; this crate speaks TLS 1.3 only.
    Incompatible,
    /// The peer did not agree to the application protocol `vstp/1`.
    NoApplicationProtocol,
    /// The peer's bytes are not TLS.
    InvalidMessage,
    /// A record was changed on the way.
    DecryptError,
    /// Anything else; see `source()`.
    Other,
}

impl fmt::Display for TlsErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificateExpired => f.write_str("the peer's certificate has expired"),
            Self::CertificateNotYetValid => f.write_str("the peer's certificate is not valid yet"),
            Self::WrongName => f.write_str("the peer's certificate is for another name"),
            Self::UnknownIssuer => f.write_str("the peer's certificate has an unknown issuer"),
            Self::PinMismatch => f.write_str("the peer's public key is not the pinned one"),
            Self::BadCertificate => f.write_str("the peer's certificate is invalid"),
            Self::CertificateRequired => f.write_str("the peer presented no certificate"),
            Self::Alert(code) => write!(f, "the peer refused with alert {code}"),
            Self::Incompatible => f.write_str("no common protocol version or cipher"),
            Self::NoApplicationProtocol => f.write_str("the peer does not offer vstp/1"),
            Self::InvalidMessage => f.write_str("the peer does not speak TLS"),
            Self::DecryptError => f.write_str("a record cannot be decrypted"),
            Self::Other => f.write_str("the handshake or a record failed"),
        }
    }
}

/// A setting that is missing or makes no sense.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting, by the name of the method or field that sets it.
    pub setting: &'static str,
    /// What is wrong and what to do, for people.
    pub(crate) reason: String,
    pub(crate) source: Option<Cause>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting `{}`: {}", self.setting, self.reason)
    }
}

impl StdError for ConfigError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl VstpError {
    pub(crate) fn config(setting: &'static str, reason: impl Into<String>) -> Self {
        Self::Config(Box::new(ConfigError {
            setting,
            reason: reason.into(),
            source: None,
        }))
    }

    #[cfg(feature = "tls")]
    pub(crate) fn config_from(
        setting: &'static str,
        reason: impl Into<String>,
        source: impl Into<Cause>,
    ) -> Self {
        let source = Some(source.into());
        Self::Config(Box::new(ConfigError {
            setting,
            reason: reason.into(),
            source,
        }))
    }

    /// Whether a limit of time was reached.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Whether the connection is over, in whatever way.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::ConnectionClosed(_))
    }
}

impl From<Violation> for VstpError {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Decode(error) => error.into(),
            Violation::Unexpected { typ, state } => Self::UnexpectedFrameType { typ, state },
            other => Self::Protocol(other),
        }
    }
}

impl From<DecodeError> for VstpError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::InvalidMagic { offset, got } => Self::InvalidMagic { offset, got },
            DecodeError::InvalidVersion { expected, got } => Self::InvalidVersion { expected, got },
            DecodeError::InvalidFrameType(byte) => Self::InvalidFrameType(byte),
            DecodeError::CrcMismatch { expected, got } => Self::CrcMismatch { expected, got },
            DecodeError::Incomplete { needed } => Self::Incomplete { needed },
            DecodeError::FrameTooLarge { size, limit } => Self::FrameTooLarge { size, limit },
            DecodeError::ReservedFlags(_)
            | DecodeError::HeaderBounds { .. }
            | DecodeError::TooManyHeaders { .. }
            | DecodeError::TrailingBytes { .. } => Self::Protocol(Violation::Decode(error)),
        }
    }
}

impl From<EncodeError> for VstpError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::FrameTooLarge { size, limit } => Self::FrameTooLarge { size, limit },
            other => Self::Encode(other),
        }
    }
}

impl From<SendError> for VstpError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Encode(error) => error.into(),
            other => Self::Datagram(other),
        }
    }
}

impl From<Failure> for VstpError {
    /// What became of a datagram session or of a message in one.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TimedOut => Self::Timeout(TimeoutKind::Ack),
            Failure::PeerGone => Self::Timeout(TimeoutKind::Idle),
            Failure::PeerBye(code) => Self::ConnectionClosed(ClosedBy::Peer(code)),
            Failure::Refused(code) => {
                Self::ServerError(Box::new(RemoteError::new(code, b"the session ended", None)))
            }
            Failure::Cancelled => Self::Cancelled,
            Failure::Local => Self::ConnectionClosed(ClosedBy::Local),
            Failure::BadAck => Self::Protocol(Violation::BadAck),
            Failure::Replaced => Self::ConnectionClosed(ClosedBy::Reset),
            Failure::TooLarge { len } => Self::Datagram(SendError::TooLarge { len }),
        }
    }
}

impl From<io::Error> for VstpError {
    /// An own error that travelled through `io::Read` or `io::Write` comes out as it went in.
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            return match error.into_inner().map(|inner| inner.downcast::<Self>()) {
                Some(Ok(own)) => *own,
                // The check above saw this very type.
                Some(Err(_)) | None => Self::ConnectionClosed(ClosedBy::Error),
            };
        }
        Self::Io(error)
    }
}

impl From<VstpError> for io::Error {
    fn from(error: VstpError) -> Self {
        use io::ErrorKind as Kind;
        let kind = match &error {
            VstpError::Io(inner) => inner.kind(),
            VstpError::Timeout(_) => Kind::TimedOut,
            VstpError::ConnectionClosed(by) => match by {
                ClosedBy::Reset => Kind::ConnectionReset,
                ClosedBy::Truncated => Kind::UnexpectedEof,
                ClosedBy::Local | ClosedBy::Error => Kind::NotConnected,
                ClosedBy::Peer(_) | ClosedBy::PeerWithoutBye => Kind::ConnectionAborted,
            },
            VstpError::InvalidMagic { .. }
            | VstpError::InvalidVersion { .. }
            | VstpError::InvalidFrameType(_)
            | VstpError::CrcMismatch { .. }
            | VstpError::UnexpectedFrameType { .. }
            | VstpError::Protocol(_)
            | VstpError::Tls(_)
            | VstpError::Deserialization(_) => Kind::InvalidData,
            VstpError::Incomplete { .. } => Kind::UnexpectedEof,
            VstpError::ServerError(_) => Kind::Other,
            VstpError::Encode(_)
            | VstpError::FrameTooLarge { .. }
            | VstpError::Config(_)
            | VstpError::InvalidAddress(_)
            | VstpError::Datagram(_)
            | VstpError::Serialization(_) => Kind::InvalidInput,
            VstpError::Backpressure => Kind::WouldBlock,
            VstpError::TransportUnavailable(_) => Kind::NotConnected,
            VstpError::Cancelled | VstpError::Extension(_) => Kind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_in_32_bytes() {
        assert!(
            size_of::<VstpError>() <= 32,
            "{} bytes",
            size_of::<VstpError>()
        );
    }

    #[test]
    fn survives_a_trip_through_io() {
        let there: io::Error = VstpError::Timeout(TimeoutKind::Idle).into();
        assert_eq!(there.kind(), io::ErrorKind::TimedOut);
        assert!(matches!(
            VstpError::from(there),
            VstpError::Timeout(TimeoutKind::Idle)
        ));
    }

    #[test]
    fn display_does_not_repeat_the_cause() {
        let error = VstpError::Io(io::Error::other("the cause"));
        assert!(!error.to_string().contains("the cause"));
        assert_eq!(
            error
                .source()
                .expect("an I/O error has a cause")
                .to_string(),
            "the cause"
        );
    }

    #[test]
    fn boxed_errors_show_their_cause() {
        let tls = VstpError::Tls(Box::new(TlsError {
            kind: TlsErrorKind::Other,
            hint: "the hint",
            source: Some("the cause".into()),
        }));
        let config = VstpError::config_from("name", "the reason", "the cause");
        for (error, text) in [
            (
                tls,
                "TLS failed: the handshake or a record failed; the hint",
            ),
            (config, "setting `name`: the reason"),
        ] {
            assert_eq!(error.to_string(), text);
            let source = error.source().map(ToString::to_string);
            assert_eq!(source.as_deref(), Some("the cause"));
        }
    }

    #[test]
    fn a_session_that_a_bad_acknowledgement_ended_says_so() {
        let error = VstpError::from(Failure::BadAck);
        assert!(matches!(error, VstpError::Protocol(Violation::BadAck)));
        assert_eq!(Violation::BadAck.code(), ErrorCode::Protocol);
        assert!(error.to_string().contains("never sent"), "{error}");
    }

    #[test]
    fn remote_text_is_escaped_and_cut() {
        let text = [b"\x1b[31mred".as_slice(), &[b'x'; 5000]].concat();
        let error = RemoteError::new(ErrorCode::Handler, &text, None);
        assert!(error.message.starts_with("\\u{1b}[31mred"));
        assert!(error.message.len() < 1100);
    }
}
