//! How much may be on its way, and how fast it leaves: the interface, and BBR behind it (spec 4.7).
//!
//! [`Congestion`] is what the sender asks; [`super::bbr::Bbr`] answers. The first part here is the
//! measurement that rate-based control needs: how many bytes arrived in what time, taken from the
//! moments at which a datagram was sent and acknowledged (draft-cheng-iccrg-delivery-rate-estimation).

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Decides how many bytes may be unacknowledged, and their pace.
///
/// Driven by the sender of one peer: `on_sent` for each datagram, `on_acked` for each that one
/// acknowledgement covers and `on_ack_end` after the last of them.
pub(super) trait Congestion: Debug + Send {
    /// A datagram of `len` bytes leaves; `in_flight` bytes were on their way before it.
    fn on_sent(&mut self, now: Instant, len: usize, in_flight: usize) -> Snapshot;
    /// A datagram arrived. `snapshot` is `None` when it was sent more than once and nobody knows which
    /// one arrived.
    fn on_acked(&mut self, now: Instant, len: usize, sent: Option<(Instant, Snapshot)>);
    /// All that one acknowledgement covers was reported; `rtt` is its sample.
    fn on_ack_end(&mut self, now: Instant, rtt: Option<Duration>, in_flight: usize);
    /// A datagram was lost.
    fn on_lost(&mut self, len: usize);
    /// Nothing was acknowledged for a whole retransmission timeout.
    fn on_timeout(&mut self);
    /// There is less to send than the window allows.
    fn on_idle(&mut self, in_flight: usize);
    /// Bytes that may be on their way.
    fn window_len(&self) -> usize;
    /// Bytes a second.
    fn pacing_rate(&self) -> f64;
    /// The state that it is in, for an event log.
    fn state(&self) -> &'static str;
}

/// The state of the measurement when a datagram was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Snapshot {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    app_limited: bool,
}

/// What one acknowledgement says about the rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateSample {
    /// Bytes a second; `None` when the interval is too short to say.
    pub rate: Option<f64>,
    /// The sender had less to send than it was allowed, so the path may be faster.
    pub app_limited: bool,
    /// Bytes that had been delivered when the newest acknowledged datagram was sent.
    pub prior_delivered: u64,
}

/// Measures the rate at which bytes arrive.
#[derive(Debug)]
pub(super) struct DeliveryRate {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// Until so many bytes are delivered, samples are of a sender that had little to send.
    app_limited_until: u64,
    /// The newest datagram of the acknowledgement at hand, with when it was sent.
    newest: Option<(Instant, Snapshot)>,
}

impl DeliveryRate {
    /// Nothing was sent yet.
    #[must_use]
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            app_limited_until: 0,
            newest: None,
        }
    }

    /// Bytes delivered so far.
    #[must_use]
    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// A datagram leaves.
    pub(super) fn on_sent(&mut self, now: Instant, in_flight: usize) -> Snapshot {
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.app_limited_until > 0,
        }
    }

    /// A datagram arrived.
    pub(super) fn on_acked(&mut self, now: Instant, len: usize, sent: Option<(Instant, Snapshot)>) {
        self.delivered += len as u64;
        self.delivered_at = now;
        if let Some((sent_at, snapshot)) = sent {
            let is_newer = self
                .newest
                .is_none_or(|(_, newest)| snapshot.delivered >= newest.delivered);
            if is_newer {
                self.first_sent_at = sent_at;
                self.newest = Some((sent_at, snapshot));
            }
        }
    }

    /// The sample of the acknowledgement that ends here.
    pub(super) fn take_sample(&mut self, min_rtt: Duration) -> Option<RateSample> {
        let (sent_at, snapshot) = self.newest.take()?;
        if self.app_limited_until > 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let sending = sent_at.saturating_duration_since(snapshot.first_sent_at);
        let arriving = self
            .delivered_at
            .saturating_duration_since(snapshot.delivered_at);
        // The longer of both: neither a burst of datagrams nor one of acknowledgements is a rate.
        let interval = sending.max(arriving);
        let bytes = self.delivered - snapshot.delivered;
        let rate = (interval >= min_rtt && !interval.is_zero())
            .then(|| bytes as f64 / interval.as_secs_f64());
        Some(RateSample {
            rate,
            app_limited: snapshot.app_limited,
            prior_delivered: snapshot.delivered,
        })
    }

    /// There is less to send than allowed.
    pub(super) fn on_idle(&mut self, in_flight: usize) {
        self.app_limited_until = (self.delivered + in_flight as u64).max(1);
    }
}
