//! The one place that reads the monotonic clock. Everything below `net` gets `now` as an argument.

use std::time::{Duration, Instant};

/// Now, on the monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one wrapper that everything else calls"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// `wait` from now, or `None` (never) where that is beyond what an `Instant` can say.
pub(crate) fn after(wait: Duration) -> Option<Instant> {
    now().checked_add(wait)
}
