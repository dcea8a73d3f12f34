//! The clock of the crate: the one place that reads it.
//!
//! Layers below `net` never call this; they take `now` as an argument, so their tests run on a
//! virtual clock.

use std::time::{Duration, Instant};

/// The current time, monotonic.
///
/// # Example
/// ```
/// let before = vstp::net::clock::now();
/// assert!(vstp::net::clock::now() >= before);
/// ```
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// `wait` from now, or `None` (never) where that is beyond what an `Instant` can say.
pub(crate) fn after(wait: Duration) -> Option<Instant> {
    now().checked_add(wait)
}

/// `wait` from now, or, where that is beyond what an `Instant` can say, in about thirty years.
pub(crate) fn after_or_far(wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    let now = now();
    now.checked_add(wait).unwrap_or(now + FAR)
}
