//! The frame as a value, owned ([`Frame`]) and borrowed ([`FrameRef`]).

use super::field::{FIXED_LEN, TRAILER_LEN};
use super::headers::{Headers, HeadersRef};
use std::fmt;

/// What a frame is for (spec 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// Opens a session; the client's first frame.
    Hello,
    /// Accepts a session; the server's answer to HELLO.
    Welcome,
    /// A message of the application.
    Data,
    /// Asks whether the peer is there.
    Ping,
    /// Answers PING with the same payload.
    Pong,
    /// Ends the session.
    Bye,
    /// Confirms that a frame with REQ_ACK was accepted.
    Ack,
    /// Reports an error.
    Err,
    /// A type of the application, 10 to FF.
    Custom(u8),
}

impl FrameType {
    /// The type of this byte; `None` for 00 and 09..0F, which mean nothing.
    #[must_use]
    #[inline]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Hello,
            0x02 => Self::Welcome,
            0x03 => Self::Data,
            0x04 => Self::Ping,
            0x05 => Self::Pong,
            0x06 => Self::Bye,
            0x07 => Self::Ack,
            0x08 => Self::Err,
            0x00 | 0x09..=0x0f => return None,
            0x10..=0xff => Self::Custom(byte),
        })
    }

    /// The byte on the wire.
    #[must_use]
    #[inline]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::Hello => 0x01,
            Self::Welcome => 0x02,
            Self::Data => 0x03,
            Self::Ping => 0x04,
            Self::Pong => 0x05,
            Self::Bye => 0x06,
            Self::Ack => 0x07,
            Self::Err => 0x08,
            Self::Custom(byte) => byte,
        }
    }

    /// Whether the frame carries a message of the application: DATA and custom types.
    #[must_use]
    pub const fn is_message(self) -> bool {
        matches!(self, Self::Data | Self::Custom(_))
    }

    /// Rank in a send queue: a higher one overtakes (ERR 255, ACK 200, session 150, keep-alive 100,
    /// messages 50).
    #[must_use]
    pub const fn priority(self) -> u8 {
        match self {
            Self::Err => 255,
            Self::Ack => 200,
            Self::Hello | Self::Welcome | Self::Bye => 150,
            Self::Ping | Self::Pong => 100,
            Self::Data | Self::Custom(_) => 50,
        }
    }
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello => f.write_str("HELLO"),
            Self::Welcome => f.write_str("WELCOME"),
            Self::Data => f.write_str("DATA"),
            Self::Ping => f.write_str("PING"),
            Self::Pong => f.write_str("PONG"),
            Self::Bye => f.write_str("BYE"),
            Self::Ack => f.write_str("ACK"),
            Self::Err => f.write_str("ERR"),
            Self::Custom(byte) => write!(f, "CUSTOM {byte:#04x}"),
        }
    }
}

bitflags::bitflags! {
    /// The flag byte (spec 2.1). Bits that are not named here are reserved and refused.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Flags: u8 {
        /// The sender wants an ACK with the frame's `msg-id`.
        const REQ_ACK = 0x01;
        /// A CRC-32 trailer is present even on a transport that does not need one.
        const CRC = 0x02;
        /// The payload is a piece of a larger frame (datagrams only).
        const FRAG = 0x10;
        /// On the wire: the payload is compressed. On a message that an application sends: it asks for that, which is
        /// done where both sides can and it helps (`ext::compression`). No received message has it.
        const COMP = 0x20;
    }
}

/// A frame that owns its bytes.
///
/// # Example
/// ```
/// use vstp::{Flags, Frame, FrameType};
/// let frame = Frame::new(FrameType::Data)
///     .with_header("content-type", "text/plain")
///     .with_payload("hello")
///     .with_flag(Flags::REQ_ACK);
/// assert_eq!(frame.header("content-type"), Some(&b"text/plain"[..]));
/// assert_eq!(frame.payload, b"hello");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the frame is for.
    pub typ: FrameType,
    /// The flag byte.
    pub flags: Flags,
    /// The header section.
    pub headers: Headers,
    /// The payload, raw bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame without flags, headers or payload; nothing is allocated.
    #[must_use]
    pub const fn new(typ: FrameType) -> Self {
        Self {
            typ,
            flags: Flags::empty(),
            headers: Headers::new(),
            payload: Vec::new(),
        }
    }

    /// A DATA frame with this payload.
    #[must_use]
    pub fn data(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(FrameType::Data).with_payload(payload)
    }

    /// Starts a frame with [`FrameBuilder`].
    #[must_use]
    pub const fn builder(typ: FrameType) -> FrameBuilder {
        FrameBuilder(Self::new(typ))
    }

    /// Appends a header; see [`Headers::push`] for what happens to one over 255 bytes.
    #[must_use]
    pub fn with_header(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(key, value);
        self
    }

    /// Replaces the payload.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets a flag.
    #[must_use]
    pub fn with_flag(mut self, flag: Flags) -> Self {
        self.flags |= flag;
        self
    }

    /// The value of the first header with this key.
    #[must_use]
    pub fn header(&self, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.headers.get(key)
    }

    /// The value of the first header with this key, if it is UTF-8.
    #[must_use]
    pub fn header_str(&self, key: impl AsRef<[u8]>) -> Option<&str> {
        self.header(key)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The same frame, borrowed.
    #[must_use]
    #[inline]
    pub fn as_ref(&self) -> FrameRef<'_> {
        FrameRef {
            typ: self.typ,
            flags: self.flags,
            headers: self.headers.as_ref(),
            payload: &self.payload,
        }
    }
}

/// Counts, not contents: payloads do not belong into logs.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// Builds a [`Frame`] piece by piece.
///
/// # Example
/// ```
/// use vstp::{Frame, FrameType};
/// let frame = Frame::builder(FrameType::Data)
///     .header("content-type", "application/octet-stream")
///     .binary_header([0xff, 0x00], [0x80])
///     .payload([1, 2, 3])
///     .build();
/// assert_eq!(frame.headers.len(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct FrameBuilder(Frame);

impl FrameBuilder {
    /// Appends a header of text.
    #[must_use]
    pub fn header(self, key: &str, value: &str) -> Self {
        self.binary_header(key, value)
    }

    /// Appends a header of any bytes; see [`Headers::push`] for one over 255 bytes.
    #[must_use]
    pub fn binary_header(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self(self.0.with_header(key, value))
    }

    /// Replaces the payload.
    #[must_use]
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        Self(self.0.with_payload(payload))
    }

    /// Sets a flag.
    #[must_use]
    pub fn flag(self, flag: Flags) -> Self {
        Self(self.0.with_flag(flag))
    }

    /// The frame.
    #[must_use]
    pub fn build(self) -> Frame {
        self.0
    }
}

/// A frame whose bytes lie elsewhere: in a receive buffer, or in a [`Frame`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// What the frame is for.
    pub typ: FrameType,
    /// The flag byte.
    pub flags: Flags,
    /// The header section.
    pub headers: HeadersRef<'a>,
    /// The payload, raw bytes.
    pub payload: &'a [u8],
}

impl<'a> FrameRef<'a> {
    /// The most bytes that it takes on the wire, without a look at whether it can be encoded.
    #[inline]
    pub(crate) const fn max_encoded_len(&self) -> usize {
        FIXED_LEN + self.headers.section_len() + self.payload.len() + TRAILER_LEN
    }

    /// The value of the first header with this key.
    #[must_use]
    pub fn header(&self, key: impl AsRef<[u8]>) -> Option<&'a [u8]> {
        self.headers.get(key)
    }

    /// A copy that owns its bytes.
    #[must_use]
    #[inline]
    pub fn to_owned(&self) -> Frame {
        Frame {
            typ: self.typ,
            flags: self.flags,
            headers: self.headers.to_owned(),
            payload: self.payload.to_vec(),
        }
    }
}

impl Frame {
    /// Becomes a copy of this frame, in the memory that it has.
    ///
    /// # Example
    /// ```
    /// use vstp::Frame;
    /// let mut frame = Frame::data("something longer");
    /// frame.assign(Frame::data("short").with_header("k", "v").as_ref());
    /// assert_eq!(frame, Frame::data("short").with_header("k", "v"));
    /// ```
    pub fn assign(&mut self, from: FrameRef<'_>) {
        self.typ = from.typ;
        self.flags = from.flags;
        self.headers.assign(from.headers);
        self.payload.clear();
        self.payload.extend_from_slice(from.payload);
    }
}

impl<'a> From<&'a Frame> for FrameRef<'a> {
    fn from(frame: &'a Frame) -> Self {
        frame.as_ref()
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("typ", &self.typ)
            .field("flags", &self.flags)
            .field("headers", &self.headers)
            .field("payload_len", &self.payload.len())
            .finish()
    }
}
