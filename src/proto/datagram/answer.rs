//! How much an address without a session may be sent: so many times what it has sent itself, so that a
//! forged source address gains nothing (spec 4.10).

use super::config::AnswerLimit;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes count for so long.
const LIFE: Duration = Duration::from_secs(30);
/// Counted in steps of this, so that an address costs a bounded number of entries.
const STEP: Duration = Duration::from_secs(1);

/// What one address sent and was sent in the last 30 s.
#[derive(Debug, Default)]
pub(super) struct AnswerCredit {
    steps: VecDeque<Step>,
    received: u64,
    sent: u64,
}

#[derive(Debug)]
struct Step {
    began: Instant,
    received: u64,
    sent: u64,
}

impl AnswerCredit {
    fn step(&mut self, now: Instant) -> Option<&mut Step> {
        while let Some(step) = self.steps.front() {
            if now.saturating_duration_since(step.began) < LIFE {
                break;
            }
            self.received -= step.received;
            self.sent -= step.sent;
            self.steps.pop_front();
        }
        let is_current = |step: &Step| now.saturating_duration_since(step.began) < STEP;
        if !self.steps.back().is_some_and(is_current) {
            self.steps.push_back(Step {
                began: now,
                received: 0,
                sent: 0,
            });
        }
        self.steps.back_mut()
    }

    /// The address sent a datagram.
    pub(super) fn received(&mut self, now: Instant, len: usize) {
        if let Some(step) = self.step(now) {
            step.received += len as u64;
            self.received += len as u64;
        }
    }

    /// Whether it may be sent so many bytes now; if so, they are counted.
    pub(super) fn take(&mut self, now: Instant, len: usize, limit: AnswerLimit) -> bool {
        let factor = match limit {
            AnswerLimit::Unlimited => return true,
            AnswerLimit::SessionsOnly => return false,
            AnswerLimit::Times(factor) => u64::from(factor),
        };
        let Some(_) = self.step(now) else {
            return false;
        };
        let may = self.received.saturating_mul(factor);
        if self.sent + len as u64 > may {
            return false;
        }
        self.sent += len as u64;
        if let Some(step) = self.steps.back_mut() {
            step.sent += len as u64;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    #[test]
    fn du17_three_times_what_came_in_the_last_thirty_seconds() {
        let now = clock::now();
        let limit = AnswerLimit::Times(3);
        let mut credit = AnswerCredit::default();
        assert!(!credit.take(now, 1, limit), "it has sent nothing");
        credit.received(now, 100);
        assert!(credit.take(now, 200, limit) && !credit.take(now, 101, limit));
        assert!(credit.take(now, 100, limit) && !credit.take(now, 1, limit));
        let later = now + Duration::from_secs(29);
        credit.received(later, 10);
        assert!(credit.take(later, 30, limit) && !credit.take(later, 1, limit));
        let much_later = now + Duration::from_secs(31);
        assert!(
            !credit.take(much_later, 1, limit),
            "of 10 bytes, 30 are used"
        );
        credit.received(much_later, 1);
        assert!(credit.take(much_later, 3, limit));
        assert!(!credit.take(much_later, 0, AnswerLimit::SessionsOnly));
        assert!(credit.take(much_later, usize::MAX, AnswerLimit::Unlimited));
    }

    #[test]
    fn an_address_costs_a_bounded_number_of_entries() {
        let start = clock::now();
        let mut credit = AnswerCredit::default();
        for n in 0..10_000 {
            credit.received(start + Duration::from_millis(37 * n), 1);
        }
        assert!(credit.steps.len() <= 31, "{}", credit.steps.len());
    }
}
