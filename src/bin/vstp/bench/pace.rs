//! Sending no faster than so many bits a second.

use crossbeam_channel::after;
use std::time::{Duration, Instant};
use vstp::net::clock;

/// Behind the plan by no more than this: what was missed longer ago is not caught up with.
const SLACK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Pace {
    bits_per_second: u64,
    next: Instant,
}

impl Pace {
    pub(super) fn new(bits_per_second: u64) -> Self {
        Self {
            bits_per_second: bits_per_second.max(1),
            next: clock::now(),
        }
    }

    /// Waits until the next message may go out, after one of so many bytes.
    pub(super) fn wait(&mut self, len: u64) {
        let bits = len.max(1) as f64 * 8.0;
        self.next += Duration::from_secs_f64(bits / self.bits_per_second as f64);
        let now = clock::now();
        if let Some(earliest) = now.checked_sub(SLACK) {
            self.next = self.next.max(earliest);
        }
        let ahead = self.next.saturating_duration_since(now);
        // The system wakes no more precisely than this.
        if ahead > Duration::from_micros(200) {
            // Nothing else can happen to this thread meanwhile; its client's deadline ends the loop around it.
            let _ = after(ahead).recv();
        }
    }
}
