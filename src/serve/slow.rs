//! Tells when a handler has been running for long: the thread `vstp-watch`.
//!
//! It only looks and tells; a thread cannot be ended from outside. There is one for a server that
//! was given something to call, and it calls that itself: neither a handler nor the accept thread
//! ever waits for it.

use super::handle::ServerShared;
use crate::net::clock;
use crate::net::tcp::shared::Shared;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How often the watch looks, at least and at most.
const MIN_TICK: Duration = Duration::from_millis(10);
const MAX_TICK: Duration = Duration::from_secs(1);

/// A handler that has been running for longer than
/// [`handler_warn`](super::ServerConfig::handler_warn).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowHandler {
    /// The session whose frame it handles.
    pub session_id: u128,
    /// The client's address.
    pub peer_addr: SocketAddr,
    /// How long it has been running.
    pub elapsed: Duration,
}

/// What is called for a slow handler.
#[derive(Clone)]
pub(super) struct OnSlow(pub(super) Arc<dyn Fn(&SlowHandler) + Send + Sync>);

impl fmt::Debug for OnSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnSlow(..)")
    }
}

/// Starts the watch; it ends with the server.
pub(super) fn watch(
    server: Arc<ServerShared>,
    on_slow: OnSlow,
    limit: Duration,
) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("vstp-watch".to_owned())
        .spawn(move || run(&server, &on_slow, limit))?;
    Ok(())
}

fn run(server: &ServerShared, on_slow: &OnSlow, limit: Duration) {
    let tick = (limit / 4).clamp(MIN_TICK, MAX_TICK);
    while !server.lifecycle.wait_closed(clock::after(tick)) {
        let mut found = Vec::new();
        server.for_each(|shared, _| {
            if let Some(shared) = shared {
                judge(&shared, limit, &mut found);
            }
        });
        // Without a connection in hand: what is called may take its time.
        for slow in found {
            let told = catch_unwind(AssertUnwindSafe(|| on_slow.0(&slow)));
            if told.is_err() {
                log::error!("what is called for a slow handler panicked");
            }
        }
    }
}

/// Adds the handlers of this connection that are slow and were not told of yet.
fn judge(shared: &Shared, limit: Duration, found: &mut Vec<SlowHandler>) {
    let now = clock::now();
    let slow = shared.handling.clocks();
    found.extend(slow.filter_map(|clock| {
        Some(SlowHandler {
            elapsed: clock.slow(now, limit)?,
            session_id: shared.established().map_or(0, |e| e.session_id),
            peer_addr: shared.peer_addr,
        })
    }));
}
