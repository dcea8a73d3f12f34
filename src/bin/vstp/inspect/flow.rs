//! [`Flow`]: what a form of input comes down to.

/// Bytes that were sent together in one direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// Where they come from; empty for bytes without a network.
    pub(super) title: String,
    pub(super) bytes: Vec<u8>,
    /// Whether nothing can follow: a datagram, or all of a file.
    pub(super) is_datagram: bool,
}
