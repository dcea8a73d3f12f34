//! The counters of a connection, as a snapshot.

/// What a connection has carried so far, frames with all their parts, before encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Frames handed to the system.
    pub frames_sent: u64,
    /// Frames received, control frames included.
    pub frames_received: u64,
    /// Bytes of the frames sent.
    pub bytes_sent: u64,
    /// Bytes received of frames.
    pub bytes_received: u64,
}
