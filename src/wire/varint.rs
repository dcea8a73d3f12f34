//! Unsigned LEB128 of up to 64 bits, shortest form only (spec 2.5).

/// Appends `value` in its shortest form, 1 to 10 bytes.
///
/// # Example
/// ```
/// use vstp::wire::varint;
/// let mut out = Vec::new();
/// varint::encode(300, &mut out);
/// assert_eq!(out, [0xac, 0x02]);
/// assert_eq!(varint::decode(&out), Ok(varint::Decoded::Value(300, 2)));
/// ```
pub fn encode(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What [`decode`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// The value, and the bytes it took from the front.
    Value(u64, usize),
    /// The bytes are the start of a number.
    Incomplete,
}

/// Why bytes are not a varint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VarintError {
    /// The value does not fit 64 bits.
    #[error("varint is over 64 bits")]
    Overflow,
    /// The value has a shorter form, which is the only one accepted.
    #[error("varint is not in its shortest form")]
    NotShortest,
}

/// Reads the number at the front of `bytes`.
///
/// # Errors
/// [`VarintError`]: more than 64 bits, or a longer form than needed.
pub fn decode(bytes: &[u8]) -> Result<Decoded, VarintError> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate() {
        let part = u64::from(byte & 0x7f);
        // The tenth byte holds bit 63 alone.
        if index == 9 && byte > 1 {
            return Err(VarintError::Overflow);
        }
        value |= part << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(VarintError::NotShortest);
            }
            return Ok(Decoded::Value(value, index + 1));
        }
    }
    Ok(Decoded::Incomplete)
}
