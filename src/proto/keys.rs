//! The reserved header keys, and their values between bytes and Rust (spec 2.6).

use super::error::Violation;
use crate::wire::{FrameRef, HeadersRef};
use std::fmt;
use std::str::FromStr;

/// Number of a message that wants an acknowledgement.
pub const MSG_ID: &str = "msg-id";
/// Ties an answer to its request; opaque, 1 to 255 bytes.
pub const CORRELATION_ID: &str = "correlation-id";
/// What the payload is, for the application.
pub const CONTENT_TYPE: &str = "content-type";
/// Number of the session.
pub const SESSION_ID: &str = "session-id";
/// What a side can do, or what both can.
pub const FEATURES: &str = "features";
/// The largest frame that a side accepts.
pub const MAX_FRAME_SIZE: &str = "max-frame-size";
/// Proves who the client is.
pub const AUTH_TOKEN: &str = "auth-token";
/// Reason of ERR and BYE.
pub const CODE: &str = "code";
/// Number of a set of fragments.
pub const FRAG_ID: &str = "frag-id";
/// Place of a fragment in its set, from 0.
pub const FRAG_INDEX: &str = "frag-index";
/// Fragments of a set.
pub const FRAG_TOTAL: &str = "frag-total";
/// Bytes of the frame that a set carries.
pub const FRAG_LEN: &str = "frag-len";
/// Proves that a datagram belongs to a session; raw bytes.
pub const SID: &str = "sid";
/// Proves that a client receives at its address; raw bytes.
pub const COOKIE: &str = "cookie";
/// Number of a message that may come by both transports; raw bytes.
pub const ONCE: &str = "once";
/// Bytes that the receiver can still take.
pub const WINDOW: &str = "window";
/// The feature of a TLS session whose keys may seal datagrams (spec 4.13).
pub const SEALED_DATAGRAMS: &str = "sealed-datagrams";

/// The feature that allows compressed payloads.
pub const GZIP: &str = "gzip";

/// The value of a reserved key.
///
/// # Errors
/// `ReservedHeader` when the key is there twice.
pub fn unique<'a>(
    headers: HeadersRef<'a>,
    key: &'static str,
) -> Result<Option<&'a [u8]>, Violation> {
    let mut values = headers
        .iter()
        .filter(|h| h.key == key.as_bytes())
        .map(|h| h.value);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Violation::ReservedHeader { key }),
        (value, None) => Ok(value),
    }
}

/// The value of a reserved key as a number: decimal digits without a leading zero.
///
/// # Errors
/// `ReservedHeader` when the key is there twice, or its value is no such number.
pub fn number<T: FromStr>(
    headers: HeadersRef<'_>,
    key: &'static str,
) -> Result<Option<T>, Violation> {
    let Some(value) = unique(headers, key)? else {
        return Ok(None);
    };
    parse_number(value)
        .map(Some)
        .ok_or(Violation::ReservedHeader { key })
}

/// One spelling for each number, so that equal numbers are equal bytes.
pub(super) fn parse_number<T: FromStr>(value: &[u8]) -> Option<T> {
    let canonical = match value {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if canonical {
        std::str::from_utf8(value).ok()?.parse().ok()
    } else {
        None
    }
}

/// The same for the numbers of datagrams, in one pass.
pub(super) fn parse_u64(value: &[u8]) -> Option<u64> {
    match value {
        [b'0'] => return Some(0),
        // 2^64 has 20 digits.
        [b'1'..=b'9', ..] if value.len() <= 20 => {}
        _ => return None,
    }
    let (head, last) = value.split_at(value.len().min(19));
    let mut number = 0_u64;
    for byte in head {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    for byte in last {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(number)
}

/// The `correlation-id` of a frame.
///
/// # Errors
/// `ReservedHeader` when it is empty or there twice.
pub fn correlation_id<'a>(frame: FrameRef<'a>) -> Result<Option<&'a [u8]>, Violation> {
    match unique(frame.headers, CORRELATION_ID)? {
        Some([]) => Err(Violation::ReservedHeader {
            key: CORRELATION_ID,
        }),
        id => Ok(id),
    }
}

/// Proves who a client is. Debug does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthToken(Vec<u8>);

impl AuthToken {
    /// The token, as sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Into<Vec<u8>>> From<T> for AuthToken {
    fn from(token: T) -> Self {
        Self(token.into())
    }
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthToken(..)")
    }
}

/// Names of optional parts of the protocol: what one side offers, or what both have.
///
/// # Example
/// ```
/// use vstp::proto::keys::Features;
/// let ours: Features = "gzip,bundle".parse()?;
/// let theirs: Features = "bundle,later".parse()?;
/// assert_eq!(ours.intersection(&theirs).to_string(), "bundle");
/// assert!(!ours.contains("later"));
/// # Ok::<(), vstp::proto::Violation>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features(Vec<String>);

impl Features {
    /// These names, which are known to be valid.
    pub(super) fn of(names: &[&str]) -> Self {
        Self(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// These and one more name, which is known to be valid.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str) -> Self {
        if !self.contains(name) {
            self.0.push(name.to_owned());
        }
        self
    }

    /// Whether this name is among them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|n| n == name)
    }

    /// Those that both have, in the order of `self`.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .filter(|name| other.contains(name))
                .cloned()
                .collect(),
        )
    }

    /// With this name, or without it.
    pub(crate) fn switched(mut self, name: &str, on: bool) -> Self {
        self.0.retain(|n| n != name);
        if on {
            self.0.push(name.to_owned());
        }
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn from_header(headers: HeadersRef<'_>) -> Result<Self, Violation> {
        let Some(value) = unique(headers, FEATURES)? else {
            return Ok(Self::default());
        };
        let text = std::str::from_utf8(value);
        text.map_err(|_| Violation::ReservedHeader { key: FEATURES })?
            .parse()
    }
}

impl FromStr for Features {
    type Err = Violation;

    /// Reads a comma-separated list of names made of `a-z`, `0-9` and `-`, without spaces.
    fn from_str(text: &str) -> Result<Self, Violation> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let names: Vec<&str> = text.split(',').collect();
        if !names.iter().all(|name| is_name(name)) {
            return Err(Violation::ReservedHeader { key: FEATURES });
        }
        Ok(Self(names.into_iter().map(str::to_owned).collect()))
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}
