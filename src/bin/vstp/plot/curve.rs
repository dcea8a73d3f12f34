//! Numbers over time in bounded memory: [`Curve`] keeps single values, [`Bins`] adds them up.

/// Points of a curve; when there are more, every second one goes.
const MAX_POINTS: usize = 4096;
/// Intervals of a sum; when there are more, two become one.
const MAX_BINS: usize = 8192;
/// The shortest interval (seconds).
const FINEST: f64 = 0.001;

/// Values at times, in seconds; when there are too many, every n-th.
#[derive(Debug)]
pub(super) struct Curve {
    points: Vec<(f64, f64)>,
    stride: u64,
    seen: u64,
}

impl Default for Curve {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            stride: 1,
            seen: 0,
        }
    }
}

impl Curve {
    pub(super) fn add(&mut self, time: f64, value: f64) {
        if self.seen % self.stride == 0 {
            self.points.push((time, value));
        }
        self.seen += 1;
        if self.points.len() > MAX_POINTS {
            let mut number = 0;
            self.points.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// In the order of their times; threads write to a log a little out of order.
    pub(super) fn points(&self) -> Vec<(f64, f64)> {
        let mut points = self.points.clone();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

/// Sums over intervals of the same length, which grows with the time that they cover.
#[derive(Debug)]
pub(super) struct Bins {
    sums: Vec<f64>,
    width: f64,
    pub(super) total: f64,
}

impl Default for Bins {
    fn default() -> Self {
        Self {
            sums: Vec::new(),
            width: FINEST,
            total: 0.0,
        }
    }
}

impl Bins {
    pub(super) fn add(&mut self, time: f64, value: f64) {
        self.total += value;
        while time / self.width >= MAX_BINS as f64 {
            self.sums = halved(&self.sums, 2);
            self.width *= 2.0;
        }
        let index = (time / self.width) as usize;
        if self.sums.len() <= index {
            self.sums.resize(index + 1, 0.0);
        }
        self.sums[index] += value;
    }

    /// The mean rate of each of about `count` intervals up to `end`, at the middle of it.
    pub(super) fn rates(&self, end: f64, count: usize) -> Vec<(f64, f64)> {
        let factor = ((end / self.width) as usize).div_ceil(count).max(1);
        let width = self.width * factor as f64;
        let mut sums = halved(&self.sums, factor);
        // Nothing happened between the last value and the end.
        sums.resize(((end / width).ceil() as usize).max(sums.len()).max(1), 0.0);
        let bin = |(index, sum): (usize, f64)| {
            let from = index as f64 * width;
            // The last interval is shorter; of a fraction of it nothing follows.
            let len = (end - from).min(width);
            (len > width / 2.0 || index == 0).then(|| (from + len / 2.0, sum / len.max(FINEST)))
        };
        sums.into_iter().enumerate().filter_map(bin).collect()
    }
}

/// Each `factor` of them as one.
fn halved(sums: &[f64], factor: usize) -> Vec<f64> {
    sums.chunks(factor).map(|part| part.iter().sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_shape_in_bounded_memory() {
        let mut curve = Curve::default();
        for n in 0..1_000_000 {
            curve.add(f64::from(n), f64::from(n) * 2.0);
        }
        let points = curve.points();
        assert!((1000..=MAX_POINTS).contains(&points.len()));
        assert!(points.iter().all(|(time, value)| *value == time * 2.0));
        assert!(points.last().is_some_and(|last| last.0 > 990_000.0));
    }

    #[test]
    fn sums_are_kept_when_intervals_are_joined() {
        let mut bins = Bins::default();
        // 1,000 a second, for 100 seconds.
        for n in 0..10_000 {
            bins.add(f64::from(n) / 100.0, 10.0);
        }
        assert_eq!(bins.total, 100_000.0);
        assert!(bins.sums.len() <= MAX_BINS);
        let rates = bins.rates(100.0, 100);
        assert!((50..=100).contains(&rates.len()), "{}", rates.len());
        for (time, rate) in rates {
            assert!((900.0..1100.0).contains(&rate), "{rate} at {time}");
        }
    }

    #[test]
    fn the_last_interval_counts_for_its_length() {
        let mut bins = Bins::default();
        for n in 0..15 {
            bins.add(f64::from(n) / 10_000.0, 1.0);
        }
        // 10 in the first millisecond, 5 in the half behind it.
        assert_eq!(bins.rates(0.0016, 100).len(), 2);
        assert_eq!(bins.rates(0.0011, 100).len(), 1);
    }
}
