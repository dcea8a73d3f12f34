//! The events that [`super::trace`] collects: values without payload, token or cookie.

use crate::wire::FrameType;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// An event, with when and with whom.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Traced {
    /// When.
    pub at: Instant,
    /// The other end.
    pub peer: SocketAddr,
    /// What.
    pub event: TraceEvent,
}

/// A frame that left or arrived, without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TracedFrame {
    /// Its type.
    pub typ: FrameType,
    /// All its parts (bytes).
    pub len: usize,
    /// The message that it carries, or acknowledges.
    pub msg_id: Option<u64>,
    /// The set that it is a fragment of, or acknowledges.
    pub frag_id: Option<u64>,
    /// Its place in the set, from 0, and how many fragments that has.
    pub place: Option<(u64, u64)>,
}

/// What a datagram carries that is sent until it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceItem {
    /// A message of its own.
    Message {
        /// Its number.
        msg_id: u64,
    },
    /// A fragment.
    Fragment {
        /// The number of its set.
        frag_id: u64,
        /// Its place in the set, from 0.
        index: u64,
    },
}

/// Why a datagram was taken for lost (RFC 9002 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossRule {
    /// Three that left after it arrived.
    Reorder,
    /// One that left after it arrived, and it should have arrived as well by now.
    Time,
    /// Nothing arrived for a whole retransmission timeout.
    Timeout,
}

/// What the sender thinks of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathMetrics {
    /// Bytes that may be on their way.
    pub congestion_window: usize,
    /// Bytes that are.
    pub bytes_in_flight: usize,
    /// How fast they leave (bytes a second).
    pub pacing_rate: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum TraceEvent {
    /// A frame was handed to the socket.
    FrameSent(TracedFrame),
    /// A frame arrived whole, whatever became of it.
    FrameReceived(TracedFrame),
    /// A message was acknowledged.
    MessageAcked {
        /// Its number.
        msg_id: u64,
    },
    /// Fragments were acknowledged for the first time.
    FragmentsAcked {
        /// The number of their set.
        frag_id: u64,
        /// How many.
        count: u64,
    },
    /// A datagram was taken for lost.
    Lost {
        /// What it carried.
        item: TraceItem,
        /// All of it (bytes).
        len: usize,
        /// Why.
        rule: LossRule,
    },
    /// What was sent before is sent again; the frame follows.
    Retransmitted {
        /// What.
        item: TraceItem,
    },
    /// A retransmission timeout.
    TimedOut {
        /// How many there were in a row without progress.
        in_a_row: u32,
    },
    /// The newest datagram is repeated because the end of what was sent may be lost (RFC 8985 7).
    Probed {
        /// What it carries.
        item: TraceItem,
    },
    /// A round-trip time was measured.
    RoundTrip {
        /// The measurement.
        latest: Duration,
        /// The smoothed value with it (RFC 6298).
        smoothed: Duration,
    },
    /// Congestion control goes from one state to another.
    CongestionState {
        /// What it was, except at the beginning.
        old: Option<&'static str>,
        /// What it is.
        new: &'static str,
    },
    /// The path has new metrics.
    Metrics(PathMetrics),
}
