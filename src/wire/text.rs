//! Length-prefixed text: `[LEN u16 little-endian][UTF-8]` (spec 2.5).

use thiserror::Error;

/// Why text and bytes do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// The text is longer than its length field can say.
    #[error("text of {len} bytes, at most 65,535 fit")]
    TooLong {
        /// Bytes of the text.
        len: usize,
    },
    /// The bytes end inside the text.
    #[error("text ends {needed} bytes early")]
    Incomplete {
        /// At least this many bytes are missing.
        needed: usize,
    },
    /// The bytes are not UTF-8.
    #[error("text is not UTF-8 from byte {valid_up_to} on")]
    NotUtf8 {
        /// Bytes of the text that are valid.
        valid_up_to: usize,
    },
}

/// Appends the text with its length.
///
/// # Errors
/// [`TextError::TooLong`]; `out` is then unchanged.
///
/// # Example
/// ```
/// use vstp::wire::text;
/// let mut out = Vec::new();
/// text::encode("hi", &mut out)?;
/// assert_eq!(out, [2, 0, b'h', b'i']);
/// assert_eq!(text::decode(&out)?, ("hi", 4));
/// # Ok::<(), text::TextError>(())
/// ```
pub fn encode(text: &str, out: &mut Vec<u8>) -> Result<(), TextError> {
    let len = u16::try_from(text.len()).map_err(|_| TextError::TooLong { len: text.len() })?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Reads the text at the front of `bytes` and the bytes it took.
///
/// # Errors
/// [`TextError::Incomplete`] or [`TextError::NotUtf8`].
pub fn decode(bytes: &[u8]) -> Result<(&str, usize), TextError> {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else {
        return Err(TextError::Incomplete {
            needed: 2 - bytes.len(),
        });
    };
    let len = usize::from(u16::from_le_bytes(*len));
    let text = rest.get(..len).ok_or(TextError::Incomplete {
        needed: len - rest.len().min(len),
    })?;
    let text = std::str::from_utf8(text).map_err(|e| TextError::NotUtf8 {
        valid_up_to: e.valid_up_to(),
    })?;
    Ok((text, 2 + len))
}
