//! The numbers of a server, client or endpoint: [`Metrics`] while they are counted, [`Snapshot`] to look at.
//!
//! Atomics only: no lock, clock or socket. Who counts is elsewhere: [`crate::net::Meter`] knows the
//! connections and sockets and asks them to hand their numbers over; what is rare (connections, handshakes,
//! errors) is added here directly. What happens with every frame is counted in a [`Lane`] of its connection
//! or under the lock of its endpoint, and added here when somebody looks or the connection ends.
//!
//! All numbers are one array of [`u64`]; [`Family`] says which part of it is what. So adding, merging and
//! writing them out are loops, and a number cannot be forgotten in one of them.

mod family;
mod lane;
mod render;
#[cfg(test)]
mod tests;

pub use family::{Family, Kind};
pub use lane::{Lane, TimeLane};
pub use render::{CONTENT_TYPE, Exposition};

use crate::proto::tally::{self, BUCKET_COUNT, Tally, Times};
use family::SLOT_COUNT;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Frames that came, in the families by direction.
pub const RECEIVED: usize = 0;
/// Frames that left.
pub const SENT: usize = 1;

/// The numbers while they are counted, by any thread.
///
/// A number may lag behind another for a moment. They only inform, nothing is decided by them.
///
/// # Example
/// ```
/// use vstp::metrics::{Family, Metrics};
/// let metrics = Metrics::default();
/// metrics.add(Family::HandlerPanics, 0, 1);
/// assert_eq!(metrics.snapshot().value("vstp_handler_panics_total", &[]), Some(1));
/// ```
#[derive(Debug)]
pub struct Metrics {
    slots: [AtomicU64; SLOT_COUNT],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            slots: [const { AtomicU64::new(0) }; SLOT_COUNT],
        }
    }
}

impl Metrics {
    /// Adds to the number at this place of a family (see [`Family::labels`]).
    ///
    /// # Panics
    /// If the family has no such place.
    pub fn add(&self, family: Family, place: usize, count: u64) {
        self.slots[family.slot(place)].fetch_add(count, Ordering::Relaxed);
    }

    /// Takes from a gauge.
    ///
    /// # Panics
    /// If the family has no such place.
    pub fn subtract(&self, family: Family, place: usize, count: u64) {
        self.slots[family.slot(place)].fetch_sub(count, Ordering::Relaxed);
    }

    /// Counts a duration in a histogram.
    pub fn time(&self, family: Family, time: Duration) {
        let (bucket, nanos) = tally::bucket(time);
        self.add(family, bucket, 1);
        self.add(family, BUCKET_COUNT, nanos);
    }

    /// Adds what came about between two snapshots of the same source.
    pub fn add_since(&self, now: &Snapshot, last: &Snapshot) {
        let both = now.slots.iter().zip(&last.slots);
        for (slot, (now, last)) in self.slots.iter().zip(both) {
            // Gauges go down as well; the sum wraps with them and comes out right.
            let change = now.wrapping_sub(*last);
            if change != 0 {
                slot.fetch_add(change, Ordering::Relaxed);
            }
        }
    }

    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (out, slot) in snapshot.slots.iter_mut().zip(&self.slots) {
            *out = slot.load(Ordering::Relaxed);
        }
        snapshot
    }

    /// One number, now.
    pub(crate) fn load(&self, family: Family, place: usize) -> u64 {
        self.slots[family.slot(place)].load(Ordering::Relaxed)
    }
}

/// One in a gauge, until it is dropped, also by a panic.
#[must_use = "dropping it ends the counting"]
#[derive(Debug)]
pub struct Held {
    metrics: Arc<Metrics>,
    gauge: Family,
}

impl Held {
    /// Adds one to a gauge that has one place.
    pub fn new(metrics: &Arc<Metrics>, gauge: Family) -> Self {
        metrics.add(gauge, 0, 1);
        Self {
            metrics: Arc::clone(metrics),
            gauge,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics.subtract(self.gauge, 0, 1);
    }
}

/// The numbers at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    slots: [u64; SLOT_COUNT],
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            slots: [0; SLOT_COUNT],
        }
    }
}

impl Snapshot {
    /// The number of this name, summed over every series that has these labels; `None` where there is none.
    ///
    /// Of a histogram the name with `_count` is the number of observations; [`Self::time`] is their sum.
    ///
    /// # Example
    /// ```
    /// let numbers = vstp::metrics::Snapshot::default();
    /// let sent = numbers.value("vstp_frames_total", &[("direction", "sent")]);
    /// assert_eq!((sent, numbers.value("vstp_rames_total", &[])), (Some(0), None));
    /// ```
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        let named = |family: &&Family| match family.kind() {
            Kind::Histogram => name.strip_suffix("_count") == Some(family.name()),
            Kind::Counter | Kind::Gauge => name == family.name(),
        };
        let family = *Family::ALL.iter().find(named)?;
        let places = match family.kind() {
            Kind::Histogram => BUCKET_COUNT,
            Kind::Counter | Kind::Gauge => family.width(),
        };
        let mut sum = None;
        for place in 0..places {
            let has = |wanted: &(&str, &str)| family.labels(place).any(|label| label == *wanted);
            if labels.iter().all(has) {
                *sum.get_or_insert(0) += self.slots[family.slot(place)];
            }
        }
        sum
    }

    /// The sum of the durations in the histogram of this name.
    #[must_use]
    pub fn time(&self, name: &str) -> Option<Duration> {
        let is_it = |family: &&Family| family.name() == name && family.kind() == Kind::Histogram;
        let family = *Family::ALL.iter().find(is_it)?;
        Some(Duration::from_nanos(self.slots[family.slot(BUCKET_COUNT)]))
    }

    /// Adds the numbers of another source, gauges too.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.slots.iter_mut().zip(&other.slots) {
            *mine = mine.wrapping_add(*theirs);
        }
    }

    /// The same with nothing there any more: what a source leaves behind.
    pub(crate) fn without_gauges(mut self) -> Self {
        for family in Family::ALL.iter().filter(|f| f.kind() == Kind::Gauge) {
            for place in 0..family.width() {
                self.set(*family, place, 0);
            }
        }
        self
    }

    pub(crate) fn set(&mut self, family: Family, place: usize, value: u64) {
        self.slots[family.slot(place)] = value;
    }

    pub(crate) fn set_frames(&mut self, direction: usize, tally: &Tally) {
        let first = direction * tally::KIND_COUNT;
        for kind in 0..tally::KIND_COUNT {
            self.set(Family::Frames, first + kind, tally.frames[kind]);
            self.set(Family::FrameBytes, first + kind, tally.bytes[kind]);
        }
    }

    pub(crate) fn set_times(&mut self, family: Family, times: &Times) {
        for (bucket, count) in times.buckets.into_iter().enumerate() {
            self.set(family, bucket, count);
        }
        self.set(family, BUCKET_COUNT, times.sum);
    }

    pub(crate) const fn at(&self, family: Family, place: usize) -> u64 {
        self.slots[family.slot(place)]
    }
}

/// Only what is not zero, by name.
impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for family in Family::ALL {
            for place in (0..family.width()).filter(|place| self.at(*family, *place) != 0) {
                let labels: Vec<_> = family.labels(place).map(|(_, value)| value).collect();
                let key = format!("{} {place} {}", family.name(), labels.join(" "));
                map.entry(&key, &self.at(*family, place));
            }
        }
        map.finish()
    }
}
