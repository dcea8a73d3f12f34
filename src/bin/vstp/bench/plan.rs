//! What every client of a benchmark does.

use clap::ValueEnum;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Request and answer, one after the other
    Call,
    /// Messages in one direction
    Stream,
}

/// What every client does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    pub(super) reverse: bool,
    pub(super) size: usize,
    pub(super) time: Duration,
    pub(super) rate: Option<u64>,
    pub(super) ack: bool,
    pub(super) timeout: Duration,
}
