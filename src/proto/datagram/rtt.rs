//! How long an answer takes: the round-trip time and the retransmission timeout (RFC 6298).

use crate::proto::tally::Times;
use std::time::Duration;

/// Estimates for one peer. Samples come only from datagrams that were sent once (Karn's rule).
#[derive(Debug, Clone)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    latest: Duration,
    /// Samples that nobody has taken note of yet.
    samples: Option<Times>,
    initial_rto: Duration,
    min_rto: Duration,
    max_rto: Duration,
}

impl Rtt {
    /// Nothing is known yet; the timeout is `initial_rto`.
    #[must_use]
    pub(super) fn new(initial_rto: Duration, min_rto: Duration, max_rto: Duration) -> Self {
        Self {
            smoothed: None,
            variation: Duration::ZERO,
            latest: Duration::ZERO,
            samples: None,
            initial_rto,
            min_rto,
            max_rto,
        }
    }

    /// Takes a sample (RFC 6298 2.2, 2.3).
    pub(super) fn sample(&mut self, sample: Duration) {
        self.latest = sample;
        self.samples.get_or_insert_default().note(sample);
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variation = sample / 2;
            }
            Some(smoothed) => {
                let error = smoothed.abs_diff(sample);
                self.variation = (self.variation * 3 + error) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    /// The samples since the last call.
    pub(super) const fn take_samples(&mut self) -> Option<Times> {
        self.samples.take()
    }

    /// The smoothed round-trip time, once there was a sample.
    #[must_use]
    pub(super) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How long to wait for an answer after `timeouts` timeouts in a row: doubled for each.
    #[must_use]
    pub(super) fn rto(&self, timeouts: u32) -> Duration {
        let base = self.smoothed.map_or(self.initial_rto, |smoothed| {
            (smoothed + 4 * self.variation).max(self.min_rto)
        });
        let factor = 1_u32 << timeouts.min(31);
        base.saturating_mul(factor).min(self.max_rto)
    }

    /// How long to wait for an answer before one datagram is repeated to provoke it: twice the
    /// round-trip time and what the peer may take over an answer, at least 10 ms (RFC 8985 7.2).
    #[must_use]
    pub(super) fn probe_delay(&self, answer_delay: Duration) -> Option<Duration> {
        let delay = self
            .smoothed?
            .saturating_mul(2)
            .saturating_add(answer_delay);
        Some(delay.max(Duration::from_millis(10)))
    }

    /// Whether an answer that came `elapsed` after the last of several sendings is for that one: the
    /// answer to an earlier one would hardly take nearly a round trip longer (RFC 8985 6.2 step 2). The
    /// newest sample counts where it is shorter: a queue that was long a moment ago may be gone.
    #[must_use]
    pub(super) fn is_plausible(&self, elapsed: Duration) -> bool {
        self.smoothed
            .is_some_and(|smoothed| elapsed >= smoothed.min(self.latest).saturating_mul(7) / 8)
    }

    /// After this time without an acknowledgement a datagram that was overtaken is lost: 9/8 of the
    /// round-trip time, at least 1 ms (RFC 9002 6.1.2).
    #[must_use]
    pub(super) fn loss_delay(&self) -> Duration {
        let rtt = self
            .smoothed
            .map_or(self.initial_rto, |smoothed| smoothed.max(self.latest));
        (rtt.saturating_mul(9) / 8).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rtt() -> Rtt {
        Rtt::new(1000 * MS, 200 * MS, 10_000 * MS)
    }

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = rtt();
        assert_eq!(rtt.rto(0), 1000 * MS);
        rtt.sample(100 * MS);
        assert_eq!((rtt.smoothed(), rtt.rto(0)), (Some(100 * MS), 300 * MS));
        rtt.sample(200 * MS);
        // RTTVAR = 3/4 * 50 + 1/4 * 100 = 62.5 ms, SRTT = 7/8 * 100 + 1/8 * 200 = 112.5 ms.
        assert_eq!(rtt.rto(0), Duration::from_micros(112_500 + 4 * 62_500));
    }

    #[test]
    fn doubles_up_to_the_limit_and_never_below_the_other() {
        let mut rtt = rtt();
        let waits: Vec<u64> = (0..6).map(|n| rtt.rto(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(rtt.rto(u32::MAX), 10_000 * MS);
        for _ in 0..50 {
            rtt.sample(MS);
        }
        assert_eq!(rtt.rto(0), 200 * MS);
    }

    #[test]
    fn h4_weeks_do_not_overflow() {
        let mut rtt = rtt();
        rtt.sample(Duration::from_secs(60 * 86_400));
        assert_eq!(rtt.rto(9), 10_000 * MS);
        assert!(rtt.loss_delay() > Duration::from_secs(60 * 86_400));
    }
}
