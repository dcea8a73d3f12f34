//! What an endpoint counts: traffic, losses, and every datagram that it dropped, by reason (spec 4.11).

use crate::proto::tally::{Tally, Times};

/// Why a datagram, or a frame of one, was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Not one whole frame.
    Malformed,
    /// The checksum is wrong.
    BadCrc,
    /// From port 0, a multicast or a broadcast address.
    BadSource,
    /// A session that does not exist, or not at this address.
    UnknownSession,
    /// A frame that nobody waits for: ACK of nothing, WELCOME without HELLO.
    Unexpected,
    /// A reserved header that is missing, repeated or no such value, or a flag that is not allowed here.
    Invalid,
    /// HELLO that is too short, without a valid cookie, or to an endpoint that takes no sessions.
    Hello,
    /// A message or fragment that was there already.
    Duplicate,
    /// A fragment that contradicts its set, or a set that is no frame.
    BadFragment,
    /// A fragment of a set that has ended.
    LateFragment,
    /// Over a budget of the reassembly.
    Budget,
    /// The application's queue is full.
    QueueFull,
    /// More control frames than their budget.
    Calm,
    /// A compressed message that cannot be inflated, or only to more than the limit of frames.
    Compression,
    /// A custom frame type without a handler, or a frame type that means nothing here.
    Unhandled,
    /// A message without a session, where clients are to be recognised.
    Unauthorized,
    /// More than the rate limit.
    RateLimited,
    /// A plain frame where only sealed ones are taken.
    Unsealed,
    /// A sealed datagram that is not authentic.
    Forged,
    /// A sealed datagram that was there already, or is too old to know.
    Replayed,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 20] = [
        Self::Malformed,
        Self::BadCrc,
        Self::BadSource,
        Self::UnknownSession,
        Self::Unexpected,
        Self::Invalid,
        Self::Hello,
        Self::Duplicate,
        Self::BadFragment,
        Self::LateFragment,
        Self::Budget,
        Self::QueueFull,
        Self::Calm,
        Self::Compression,
        Self::Unhandled,
        Self::Unauthorized,
        Self::RateLimited,
        Self::Unsealed,
        Self::Forged,
        Self::Replayed,
    ];

    /// A word for it, as metrics use it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadCrc => "bad_crc",
            Self::BadSource => "bad_source",
            Self::UnknownSession => "unknown_session",
            Self::Unexpected => "unexpected",
            Self::Invalid => "invalid",
            Self::Hello => "hello",
            Self::Duplicate => "duplicate",
            Self::BadFragment => "bad_fragment",
            Self::LateFragment => "late_fragment",
            Self::Budget => "budget",
            Self::QueueFull => "queue_full",
            Self::Calm => "calm",
            Self::Compression => "compression",
            Self::Unhandled => "unhandled",
            Self::Unauthorized => "unauthorized",
            Self::RateLimited => "rate_limited",
            Self::Unsealed => "unsealed",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
        }
    }
}

/// Counters of one endpoint since it was made, and gauges of what it holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Datagrams received, whatever they were.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Frames received that were whole, by type, whatever became of them.
    pub frames_received: Tally,
    /// Frames sent, by type, those sent again included.
    pub frames_sent: Tally,
    /// Measured round-trip times.
    pub round_trips: Times,
    /// Messages handed to the application.
    pub messages_received: u64,
    /// Messages that the application sent.
    pub messages_sent: u64,
    /// Messages that were sent for acknowledgement and acknowledged.
    pub messages_acknowledged: u64,
    /// Messages that were sent for acknowledgement and given up.
    pub messages_failed: u64,
    /// Datagrams sent again because they were taken for lost.
    pub retransmissions: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions that ended.
    pub sessions_closed: u64,
    /// Clients that were judged and got no session.
    pub sessions_refused: u64,
    /// Sealed sessions whose peer was found at another address.
    pub sessions_moved: u64,
    /// Sets of fragments that were completed.
    pub sets_completed: u64,
    /// Sets of fragments that were given up: too old, or evicted.
    pub sets_discarded: u64,
    /// Sessions now.
    pub sessions: usize,
    /// Sets of fragments in reassembly now.
    pub reassembly_sets: usize,
    /// Bytes that they are charged with now.
    pub reassembly_len: usize,
    drops: [u64; DropReason::ALL.len()],
}

impl EndpointStats {
    /// How often a datagram or frame was dropped for this reason.
    #[must_use]
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// All that was dropped.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    pub(super) fn drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_word_of_its_own() {
        let mut stats = EndpointStats::default();
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            stats.drop(reason);
            assert_eq!(stats.dropped(reason), 1);
        }
        assert_eq!(stats.dropped_total(), DropReason::ALL.len() as u64);
        let words: std::collections::HashSet<_> =
            DropReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), DropReason::ALL.len());
    }
}
