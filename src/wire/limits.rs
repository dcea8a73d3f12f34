//! The bounds that a decoder enforces before it believes a length, and when a trailer is expected.

/// Default limit of a whole frame, 8 MiB: header, payload and trailer (spec 2.4).
pub const DEFAULT_MAX_FRAME_SIZE: usize = 8 * 1024 * 1024;

/// What a frame may cost: enforced when it is decoded and before it is encoded (spec 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole frame, all parts counted. Default: [`DEFAULT_MAX_FRAME_SIZE`].
    pub max_frame_len: usize,
    /// Entries of the header section. Default: 128, far above honest use, so that a section of
    /// empty entries cannot cost 32,767 visits.
    pub max_header_count: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_len: DEFAULT_MAX_FRAME_SIZE,
            max_header_count: 128,
        }
    }
}

/// When a frame ends with a CRC-32 (spec 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailer {
    /// On every frame, whatever the CRC flag says: plaintext streams and plaintext datagrams.
    Always,
    /// Exactly on frames with the CRC flag: transports that authenticate every record (TLS).
    WhenFlagged,
}
