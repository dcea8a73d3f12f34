//! A growable byte queue: bytes are appended at the end and taken from the front.

use std::ops::Deref;

/// Received bytes that wait to be decoded. Dereferences to the bytes not yet taken.
///
/// # Example
/// ```
/// use vstp::wire::Buffer;
/// let mut buffer = Buffer::new();
/// buffer.extend_from_slice(b"abc");
/// buffer.consume(1);
/// assert_eq!(&buffer[..], b"bc");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    /// `start <= bytes.len()`; what lies before it was consumed.
    start: usize,
}

impl Buffer {
    /// An empty buffer; nothing is allocated.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
        }
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.tail(bytes.len()).extend_from_slice(bytes);
    }

    /// Takes `len` bytes from the front.
    ///
    /// # Panics
    /// If fewer bytes are there.
    #[inline]
    pub fn consume(&mut self, len: usize) {
        assert!(len <= self.len(), "consumed {len} of {} bytes", self.len());
        self.start += len;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// The vector to append to, with room for `len` more bytes.
    ///
    /// What was consumed is given back only when the room is needed, so that a byte moves at most
    /// once for each time the buffer is filled, not once a frame.
    pub(crate) fn tail(&mut self, len: usize) -> &mut Vec<u8> {
        if self.start > 0 && self.bytes.capacity() - self.bytes.len() < len {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.reserve(len);
        &mut self.bytes
    }

    /// Bytes of memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives all memory back, if nothing waits.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.start = 0;
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }
}
