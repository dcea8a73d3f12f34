//! Spreads what may leave over time: a bucket of bytes that fills at the pacing rate (RFC 9002 7.7).

use std::time::{Duration, Instant};

/// What the bucket holds: so much time at the rate.
const BURST: Duration = Duration::from_millis(2);
/// Datagrams that may always leave together (RFC 9002 7.7).
const MIN_BURST_COUNT: usize = 10;
/// A timer is later than it was asked to be, so it is worth waiting for a part of the bucket at once.
const WORTH_WAITING: f64 = 0.25;

/// See the module.
#[derive(Debug)]
pub(super) struct Pacer {
    tokens: f64,
    filled_at: Instant,
    datagram_len: usize,
}

impl Pacer {
    /// A full bucket.
    #[must_use]
    pub(super) fn new(now: Instant, datagram_len: usize) -> Self {
        Self {
            tokens: (MIN_BURST_COUNT * datagram_len) as f64,
            filled_at: now,
            datagram_len,
        }
    }

    fn capacity(&self, rate: f64) -> f64 {
        (rate * BURST.as_secs_f64()).max((MIN_BURST_COUNT * self.datagram_len) as f64)
    }

    /// Fills the bucket up to now.
    pub(super) fn refill(&mut self, now: Instant, rate: f64) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let tokens = self.tokens + rate * elapsed.as_secs_f64();
        self.tokens = tokens.min(self.capacity(rate));
        self.filled_at = now;
    }

    /// Whether a datagram may leave now; call [`Self::refill`] first.
    #[must_use]
    pub(super) fn may_send(&self) -> bool {
        self.tokens > 0.0
    }

    /// A datagram leaves.
    pub(super) fn on_sent(&mut self, len: usize) {
        self.tokens -= len as f64;
    }

    /// When it is worth asking again.
    #[must_use]
    pub(super) fn ready_at(&self, rate: f64) -> Instant {
        let missing = self.capacity(rate) * WORTH_WAITING - self.tokens;
        // At a rate of next to nothing the wait is cut, and asked for again.
        let wait = (missing / rate.max(1.0)).clamp(0.0, 60.0);
        self.filled_at + Duration::from_secs_f64(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    #[test]
    fn sends_at_the_rate_and_in_bursts_of_two_milliseconds() {
        for rate in [1e5, 1e7, 2e9] {
            let start = clock::now();
            let (mut now, mut sent) = (start, 0_usize);
            let mut pacer = Pacer::new(now, 1200);
            while now < start + Duration::from_secs(1) {
                pacer.refill(now, rate);
                let mut burst = 0;
                while pacer.may_send() {
                    pacer.on_sent(1200);
                    burst += 1200;
                }
                assert!(burst as f64 <= pacer.capacity(rate) + 1200.0);
                sent += burst;
                now = pacer.ready_at(rate).max(now + Duration::from_micros(1));
            }
            let most = rate * 1.01 + pacer.capacity(rate);
            assert!(
                (sent as f64) < most && sent as f64 > rate * 0.95,
                "{sent} at {rate}"
            );
        }
    }
}
