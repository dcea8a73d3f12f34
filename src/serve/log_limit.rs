//! Keeps hostile input from filling the log: one line in a span of time, and how many it stands for.

use std::time::{Duration, Instant};

/// The limit of one reason.
#[derive(Debug)]
pub(super) struct LogLimit {
    interval: Duration,
    last: Option<Instant>,
    suppressed: u64,
}

impl LogLimit {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
            suppressed: 0,
        }
    }

    /// Whether to log now: `Some` with the number of lines left out since the last one.
    pub(super) fn allow(&mut self, now: Instant) -> Option<u64> {
        let due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= self.interval);
        if due {
            self.last = Some(now);
            return Some(std::mem::take(&mut self.suppressed));
        }
        self.suppressed += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    #[test]
    fn e15_one_line_a_span_with_the_count_of_the_others() {
        let (mut limit, start) = (LogLimit::new(Duration::from_secs(1)), clock::now());
        let lines: Vec<_> = (0..2_500)
            .filter_map(|ms| limit.allow(start + Duration::from_millis(ms)))
            .collect();
        assert_eq!(lines, [0, 999, 999]);
    }
}
