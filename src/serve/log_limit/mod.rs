//! Keeps a peer from filling the log: at most one line per interval for each reason.
//!
//! It does not write the line. The caller asks, and writes if it gets an answer; what was kept
//! back is counted and told with the next line.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A limit of log lines per reason.
///
/// # Example
/// ```
/// use vstp::net::clock;
/// use vstp::serve::log_limit::LogLimit;
/// let limit = LogLimit::default();
/// let now = clock::now();
/// assert_eq!(limit.allow("bad frame", now), Some(0));
/// assert_eq!(limit.allow("bad frame", now), None);
/// assert_eq!(limit.allow("bad frame", now + LogLimit::INTERVAL), Some(1));
/// ```
#[derive(Debug)]
pub struct LogLimit {
    interval: Duration,
    /// Protects the list, which is as long as there are reasons in the code: few, so a scan beats
    /// a map. The last of all locks: no other is taken under it.
    reasons: Mutex<Vec<Reason>>,
}

#[derive(Debug)]
struct Reason {
    name: &'static str,
    next: Instant,
    suppressed: u64,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::new(Self::INTERVAL)
    }
}

impl LogLimit {
    /// The usual interval.
    pub const INTERVAL: Duration = Duration::from_secs(1);

    /// One line per reason in each `interval`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            reasons: Mutex::new(Vec::new()),
        }
    }

    /// Whether to write a line for `reason` now; with the number of lines kept back since the last.
    ///
    /// Reasons are `'static` because they must come from the code, never from a peer.
    #[must_use = "the answer says whether to write the line"]
    pub fn allow(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let next = now + self.interval;
        let Some(known) = reasons.iter_mut().find(|known| known.name == reason) else {
            reasons.push(Reason {
                name: reason,
                next,
                suppressed: 0,
            });
            return Some(0);
        };
        if now < known.next {
            known.suppressed = known.suppressed.saturating_add(1);
            return None;
        }
        known.next = next;
        Some(std::mem::take(&mut known.suppressed))
    }
}

#[cfg(test)]
mod tests;
