//! CRC-32 (IEEE 802.3, polynomial 04C11DB7 reflected, as zlib), in one call or piece by piece.
//!
//! It finds accidents, not attackers: whoever can change a frame can change its checksum.

/// The checksum of `bytes`.
///
/// # Example
/// ```
/// assert_eq!(vstp::wire::crc::crc32(b"123456789"), 0xcbf4_3926);
/// ```
#[must_use]
#[inline]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// A checksum over bytes that arrive in pieces.
///
/// # Example
/// ```
/// use vstp::wire::crc::{Crc32, crc32};
/// let mut crc = Crc32::new();
/// crc.update(b"1234");
/// crc.update(b"56789");
/// assert_eq!(crc.finish(), crc32(b"123456789"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Crc32(crc32fast::Hasher);

impl Crc32 {
    /// The checksum of no bytes.
    #[must_use]
    #[inline]
    pub fn new() -> Self {
        Self(crc32fast::Hasher::new())
    }

    /// Adds the next bytes.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes added.
    #[must_use]
    #[inline]
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}
