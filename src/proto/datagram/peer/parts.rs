//! What a peer is made from and what it says, apart from its state.

use super::super::config::EndpointConfig;
use super::super::parts::Failure;
use super::super::proof::Proof;
use super::super::reassembly::Totals;
use super::super::seal::Sealing;
use super::super::stats::EndpointStats;
use super::path::Path;
use crate::proto::keys::Features;
use std::time::Duration;

/// What both sides agreed on.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Proves that a datagram belongs to it.
    pub proof: Proof,
    /// Its number.
    pub id: u128,
    /// What both can do.
    pub features: Features,
    /// Whether several frames may share a datagram.
    pub bundle: bool,
    /// Whether an acknowledgement may be of several messages.
    pub ack_ranges: bool,
    /// Largest frame that the peer takes (bytes).
    pub max_frame_len: u64,
    /// Server: when the cookie that opened it was made.
    pub cookie_made: Option<Duration>,
}

/// What a sealed session has besides.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Its keys and numbers.
    pub sealing: Sealing,
    /// Where the peer is.
    pub path: Path,
}

/// What is to be done with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing.
    Stays,
    /// Its session has ended.
    Ended(Failure),
    /// Nothing is left to remember of this stranger.
    Forgotten,
}

/// What an endpoint lends to its peers.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    /// Settings.
    pub config: &'a EndpointConfig,
    /// What all peers use together.
    pub totals: &'a mut Totals,
    /// Counters.
    pub stats: &'a mut EndpointStats,
}
