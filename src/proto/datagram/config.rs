//! The limits and times of an endpoint, each with its default (spec 4.12).

use super::seal;
use crate::proto::keys::{AuthToken, Features};
use crate::proto::rate::RateLimit;
use std::time::Duration;

/// What an application may send to an address without a session that has sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerLimit {
    /// Whatever it likes: clients, which speak first.
    Unlimited,
    /// So many times the bytes that the address sent in the last 30 s: servers, which a forged
    /// source address would otherwise turn into an amplifier.
    Times(u32),
    /// Nothing.
    SessionsOnly,
}

/// See the module; every field has its default in [`EndpointConfig::default`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// Whether clients may open sessions here. Default: no.
    pub accept_sessions: bool,
    /// Largest datagram sent (bytes). Default: 1,200, which passes any IPv6 path; up to 65,507.
    pub max_datagram_len: usize,
    /// Largest frame accepted and sent (bytes), reassembled. Default: 128 MiB.
    pub max_frame_len: usize,
    /// Whether frames that do not fit one datagram are cut. Default: yes.
    pub allow_frag: bool,
    /// Whether frames carry the CRC flag too; the checksum itself is always there. Default: no.
    pub use_crc: bool,
    /// Timeouts in a row without an acknowledgement before everything to a peer is given up. Default: 8.
    pub max_retries: u32,
    /// Time to the first retransmission, before the round-trip time is known. Default: 1 s.
    pub ack_timeout: Duration,
    /// Shortest time to a retransmission. Default: 200 ms.
    pub retry_delay: Duration,
    /// Longest time to a retransmission. Default: 10 s.
    pub max_retry_delay: Duration,
    /// A message without progress for so long is given up. Default: 30 s.
    pub delivery_timeout: Duration,
    /// The whole of HELLO, cookie and WELCOME. Default: 10 s.
    pub handshake_timeout: Duration,
    /// Silence in a session after which PING goes out; the third such interval in a row ends it.
    /// Default: 15 s.
    pub ping_interval: Duration,
    /// What this side can do. Default: `bundle`.
    pub features: Features,
    /// What may be sent to strangers. Default: unlimited.
    pub answer_limit: AnswerLimit,
    /// Sessions at once that clients may open here. Default: 4,096.
    pub max_sessions: usize,
    /// The same for one IP address. Default: 64.
    pub max_sessions_per_ip: usize,
    /// Reassembly for an address without a session (bytes). Default: 320 KiB.
    pub stranger_budget_len: usize,
    /// Reassembly for a session (bytes). Default: 128 MiB.
    pub session_budget_len: usize,
    /// Reassembly in all (bytes). Default: 512 MiB.
    pub total_budget_len: usize,
    /// Sets of fragments in all. Default: 1,000.
    pub max_reassembly_sessions: usize,
    /// Addresses without a session that are remembered. Default: 16,384.
    pub max_strangers: usize,
    /// Client: what it proves itself with; goes out with the cookie, 1 to 255 bytes. Default: nothing.
    pub auth_token: Option<AuthToken>,
    /// Server: how long a decision about a client may take, if clients are to be recognised; messages then
    /// count in sessions only. Default: everybody is welcome.
    pub auth_timeout: Option<Duration>,
    /// How much one session may send, or one network without one; what is over it is dropped. Default:
    /// unlimited.
    pub rate_limit: Option<RateLimit>,
    /// Whether only sealed datagrams are sent and taken. Default: no.
    pub sealed_only: bool,
    /// Datagrams that one side seals before it ends the session, 128 to 268,435,456; with datagrams over
    /// 2,048 bytes never more than 8,388,608. Default: the most.
    pub max_sealed_datagrams: u64,
    /// Events for an event log that are kept until they are taken; what is over it is counted and dropped.
    /// Default: 0, nothing is collected.
    pub max_trace_count: usize,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            accept_sessions: false,
            max_datagram_len: 1200,
            max_frame_len: 128 * 1024 * 1024,
            allow_frag: true,
            use_crc: false,
            max_retries: 8,
            ack_timeout: Duration::from_secs(1),
            retry_delay: Duration::from_millis(200),
            max_retry_delay: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            features: super::offered(),
            answer_limit: AnswerLimit::Unlimited,
            max_sessions: 4096,
            max_sessions_per_ip: 64,
            stranger_budget_len: 320 * 1024,
            session_budget_len: 128 * 1024 * 1024,
            total_budget_len: 512 * 1024 * 1024,
            max_reassembly_sessions: 1000,
            max_strangers: 16 * 1024,
            auth_token: None,
            auth_timeout: None,
            rate_limit: None,
            sealed_only: false,
            max_sealed_datagrams: seal::MAX_SENT,
            max_trace_count: 0,
        }
    }
}

/// Largest payload of a UDP datagram over IPv4 (bytes, RFC 768 and RFC 791).
pub const MAX_DATAGRAM_LEN: usize = 65_507;
/// Messages that are taken from one datagram. A bundle of 1,200 bytes holds fewer.
pub const MAX_BUNDLED_COUNT: usize = 64;
/// Length of HELLO (bytes): as long as the longest answer, so that it is no amplifier.
pub(super) const HELLO_LEN: usize = 1200;
/// Fragments of a set in a session.
pub(super) const MAX_FRAGMENT_COUNT: u64 = 1 << 20;
/// Fragments of a set without a session.
pub(super) const MAX_STRANGER_FRAGMENT_COUNT: u64 = 255;
/// Sets in reassembly for a session.
pub(super) const MAX_SETS_PER_SESSION: usize = 64;
/// Sets in reassembly for an address without one.
pub(super) const MAX_SETS_PER_STRANGER: usize = 4;
/// Messages from the oldest that is not acknowledged to the newest, in a session: half of what its
/// receiver remembers, so that as many without acknowledgement may come in between.
pub(super) const MAX_SPAN_IN_SESSION: usize = 2048;
/// The same without a session.
pub(super) const MAX_SPAN_OF_STRANGER: usize = 512;
/// Messages that the acknowledgements of one datagram name. Not more can be on their way, and each is looked
/// up.
pub(super) const MAX_ACKED_COUNT: u64 = 2048;
/// Answers to nobody that is remembered, which wait to leave. Whoever asks faster than answers can leave
/// gets none.
pub(super) const MAX_STRAY_COUNT: usize = 4096;
/// What the receiver is assumed to take before it has said so (bytes).
pub(super) const INITIAL_WINDOW_LEN: u64 = 64 * 1024;
/// How long a stranger is remembered after its last datagram, and a set of its fragments lives.
pub(super) const STRANGER_LIFE: Duration = Duration::from_secs(30);
/// How long a set in a session lives after its last new fragment.
pub(super) const SET_LIFE: Duration = Duration::from_secs(30);
/// How long fragments wait for company before they are acknowledged.
pub(super) const ACK_DELAY: Duration = Duration::from_millis(2);
/// So many new fragments are acknowledged at once.
pub(super) const ACK_EVERY: u32 = 16;
/// Clients that are being judged at once, and those of one network among them.
pub(super) const MAX_JUDGED: usize = 1024;
pub(super) const MAX_JUDGED_PER_NETWORK: usize = 16;
/// A session that sends too much is told so at most this often.
pub(super) const RATE_REPORT: Duration = Duration::from_secs(1);
/// Cookies handed out in a second, all addresses together.
pub(super) const COOKIES_PER_SECOND: u32 = 1000;

impl EndpointConfig {
    /// The largest frame that a peer with a session may send: reassembly must have room for it.
    pub(super) fn announced_len(&self) -> usize {
        let budget_len = self.session_budget_len.min(self.total_budget_len);
        self.max_frame_len.min(budget_len)
    }

    /// Datagrams that one key may protect here.
    pub(super) fn seal_limit(&self) -> u64 {
        let most = if self.max_datagram_len <= seal::SMALL_LEN {
            seal::MAX_SENT
        } else {
            seal::MAX_SENT_LARGE
        };
        self.max_sealed_datagrams.min(most)
    }

    /// The setting that makes no sense, and why.
    ///
    /// # Errors
    /// Its name and a sentence.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        // 576 less IP and UDP headers: what every host must take (RFC 791 3.2).
        if !(512..=MAX_DATAGRAM_LEN).contains(&self.max_datagram_len) {
            return Err(("max_datagram_len", "must be 512 to 65,507 bytes"));
        }
        if self.max_frame_len < 1024 {
            return Err(("max_frame_len", "must be 1,024 bytes or more"));
        }
        let times = [
            ("ack_timeout", self.ack_timeout),
            ("retry_delay", self.retry_delay),
            ("max_retry_delay", self.max_retry_delay),
            ("delivery_timeout", self.delivery_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("ping_interval", self.ping_interval),
        ];
        for (setting, time) in times {
            if time.is_zero() {
                return Err((setting, "zero would end everything at once"));
            }
        }
        if self.retry_delay > self.max_retry_delay {
            return Err(("retry_delay", "must not be above max_retry_delay"));
        }
        if self.accept_sessions && (self.max_sessions == 0 || self.max_sessions_per_ip == 0) {
            return Err(("max_sessions", "zero would serve nobody"));
        }
        let token_len = self.auth_token.as_ref().map(|token| token.as_bytes().len());
        if token_len.is_some_and(|len| !(1..=255).contains(&len)) {
            return Err(("auth_token", "must have 1 to 255 bytes over UDP"));
        }
        if self.auth_timeout.is_some_and(|time| time.is_zero()) {
            return Err(("auth_timeout", "zero would refuse everybody"));
        }
        if let Some(Err(reason)) = self.rate_limit.map(|limit| limit.check()) {
            return Err(("rate_limit", reason));
        }
        let budget_len = self.session_budget_len.min(self.total_budget_len);
        if (budget_len as u64) < INITIAL_WINDOW_LEN {
            return Err((
                "max_reassembly_memory",
                "must be 65,536 bytes or more: what senders take for granted",
            ));
        }
        if !(2 * seal::RESERVE..=seal::MAX_SENT).contains(&self.max_sealed_datagrams) {
            return Err(("max_sealed_datagrams", "must be 128 to 268,435,456"));
        }
        if self.max_strangers == 0 {
            return Err(("max_strangers", "must be one or more"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h3_senseless_settings_are_named() {
        assert_eq!(EndpointConfig::default().check(), Ok(()));
        let bad = |change: fn(&mut EndpointConfig)| {
            let mut config = EndpointConfig::default();
            change(&mut config);
            config.check().expect_err("it makes no sense").0
        };
        assert_eq!(bad(|c| c.max_datagram_len = 511), "max_datagram_len");
        assert_eq!(bad(|c| c.max_datagram_len = 65_508), "max_datagram_len");
        assert_eq!(bad(|c| c.max_frame_len = 1023), "max_frame_len");
        assert_eq!(bad(|c| c.ack_timeout = Duration::ZERO), "ack_timeout");
        assert_eq!(bad(|c| c.ping_interval = Duration::ZERO), "ping_interval");
        assert_eq!(bad(|c| c.retry_delay = Duration::MAX), "retry_delay");
        assert_eq!(bad(|c| c.max_strangers = 0), "max_strangers");
        assert_eq!(
            bad(|c| c.session_budget_len = 65_535),
            "max_reassembly_memory"
        );
        assert_eq!(
            bad(|c| c.total_budget_len = 65_535),
            "max_reassembly_memory"
        );
        let spent = "max_sealed_datagrams";
        assert_eq!(bad(|c| c.max_sealed_datagrams = 127), spent);
        assert_eq!(bad(|c| c.max_sealed_datagrams = (1 << 28) + 1), spent);
        let mut zero = EndpointConfig {
            accept_sessions: true,
            ..EndpointConfig::default()
        };
        zero.max_sessions = 0;
        assert!(zero.check().is_err());
        for time in [Duration::from_nanos(1), Duration::MAX] {
            let config = EndpointConfig {
                delivery_timeout: time,
                ping_interval: time,
                handshake_timeout: time,
                ..EndpointConfig::default()
            };
            assert_eq!(config.check(), Ok(()));
        }
    }
}
