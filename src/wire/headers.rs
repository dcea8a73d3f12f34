//! The header section: key/value entries kept in their encoded form.
//!
//! One allocation holds all entries of a frame, encoding is one copy, and decoding hands out slices
//! of the bytes received. An entry is `[KEY_LEN u8][VALUE_LEN u8][KEY][VALUE]`; order and repeats
//! are kept, empty keys and values are allowed (spec 2.2).

use super::error::{DecodeError, EncodeError};
use std::borrow::Cow;
use std::fmt;

/// One entry of a header section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Up to 255 bytes, not necessarily UTF-8.
    pub key: &'a [u8],
    /// Up to 255 bytes, not necessarily UTF-8.
    pub value: &'a [u8],
}

/// The headers of an owned frame.
///
/// # Example
/// ```
/// use vstp::wire::Headers;
/// let mut headers = Headers::new();
/// headers.push("content-type", "text/plain");
/// headers.push("tag", "a");
/// headers.push("tag", "b");
/// assert_eq!(headers.get("tag"), Some(&b"a"[..]));
/// assert_eq!(headers.iter().filter(|h| h.key == b"tag").count(), 2);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    section: Vec<u8>,
    count: usize,
    /// The first entry that cannot be expressed. Kept so that building stays infallible and the
    /// error surfaces where the frame is encoded, before any byte is written.
    fault: Option<EncodeError>,
}

impl Headers {
    /// No headers; nothing is allocated.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            section: Vec::new(),
            count: 0,
            fault: None,
        }
    }

    /// Appends an entry.
    ///
    /// A key or value over 255 bytes cannot be expressed: it is left out and encoding the frame
    /// fails with [`EncodeError::HeaderKeyTooLong`] or [`EncodeError::HeaderValueTooLong`].
    pub fn push(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        let (Ok(key_len), Ok(value_len)) = (u8::try_from(key.len()), u8::try_from(value.len()))
        else {
            let fault = if key.len() > 255 {
                EncodeError::HeaderKeyTooLong { len: key.len() }
            } else {
                EncodeError::HeaderValueTooLong { len: value.len() }
            };
            self.fault.get_or_insert(fault);
            return;
        };
        self.section.reserve(2 + key.len() + value.len());
        self.section.extend_from_slice(&[key_len, value_len]);
        self.section.extend_from_slice(key);
        self.section.extend_from_slice(value);
        self.count += 1;
    }

    /// The value of the first entry with this key.
    #[must_use]
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.as_ref().get(key)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'_>> {
        self.as_ref().iter()
    }

    /// How many entries there are.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Becomes a copy of these headers, in the memory that it has.
    pub fn assign(&mut self, from: HeadersRef<'_>) {
        self.section.clear();
        self.section.extend_from_slice(from.section);
        (self.count, self.fault) = (from.count, from.fault.copied());
    }

    /// The same headers, borrowed.
    #[must_use]
    #[inline]
    pub fn as_ref(&self) -> HeadersRef<'_> {
        HeadersRef {
            section: &self.section,
            count: self.count,
            fault: self.fault.as_ref(),
        }
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// The headers of a borrowed frame: a checked section, or [`Headers`] borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeadersRef<'a> {
    section: &'a [u8],
    count: usize,
    /// By reference: this value is passed on with every frame.
    fault: Option<&'a EncodeError>,
}

impl<'a> HeadersRef<'a> {
    /// Checks a received section: every entry ends inside it and the last one fills it.
    ///
    /// # Errors
    /// [`DecodeError::HeaderBounds`], or [`DecodeError::TooManyHeaders`] at entry `max_count + 1`.
    #[inline]
    pub fn parse(section: &'a [u8], max_count: usize) -> Result<Self, DecodeError> {
        let mut offset = 0;
        let mut count = 0;
        while offset < section.len() {
            if count == max_count {
                return Err(DecodeError::TooManyHeaders { limit: max_count });
            }
            // The sub-slice makes it impossible for an entry to reach into the payload.
            let Some((_, used)) = split_entry(&section[offset..]) else {
                return Err(DecodeError::HeaderBounds { offset });
            };
            offset += used;
            count += 1;
        }
        Ok(Self {
            section,
            count,
            fault: None,
        })
    }

    /// A section that [`Self::parse`] has accepted before, with its number of entries.
    pub(crate) const fn checked(section: &'a [u8], count: usize) -> Self {
        Self {
            section,
            count,
            fault: None,
        }
    }

    /// The value of the first entry with this key.
    #[must_use]
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&'a [u8]> {
        let key = key.as_ref();
        self.iter().find(|h| h.key == key).map(|h| h.value)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut rest = self.section;
        std::iter::from_fn(move || {
            let (header, used) = split_entry(rest)?;
            rest = &rest[used..];
            Some(header)
        })
    }

    /// How many entries there are.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A copy that owns its bytes.
    #[must_use]
    #[inline]
    pub fn to_owned(&self) -> Headers {
        Headers {
            section: self.section.to_vec(),
            count: self.count,
            fault: self.fault.copied(),
        }
    }

    /// Bytes of the encoded section.
    #[inline]
    pub(super) const fn section_len(&self) -> usize {
        self.section.len()
    }

    /// The encoded section, or why there is none.
    #[inline]
    pub(super) fn section(&self, max_count: usize) -> Result<&'a [u8], EncodeError> {
        if let Some(fault) = self.fault {
            return Err(*fault);
        }
        if self.count > max_count {
            return Err(EncodeError::TooManyHeaders {
                count: self.count,
                limit: max_count,
            });
        }
        Ok(self.section)
    }
}

impl fmt::Debug for HeadersRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|h| {
                (
                    String::from_utf8_lossy(h.key).into_owned(),
                    shown(h).into_owned(),
                )
            }))
            .finish()
    }
}

/// A value for Debug; what proves an identity does not belong into logs.
fn shown<'a>(header: Header<'a>) -> Cow<'a, str> {
    match header.key {
        b"auth-token" => Cow::Borrowed(".."),
        _ => String::from_utf8_lossy(header.value),
    }
}

/// The first entry and the bytes it takes, or `None` where it does not end inside `bytes`.
#[inline]
fn split_entry(bytes: &[u8]) -> Option<(Header<'_>, usize)> {
    let (&[key_len, value_len], rest) = bytes.split_first_chunk::<2>()?;
    let (key, rest) = rest.split_at_checked(usize::from(key_len))?;
    let value = rest.get(..usize::from(value_len))?;
    Some((Header { key, value }, 2 + key.len() + value.len()))
}
