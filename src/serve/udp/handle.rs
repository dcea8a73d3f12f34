//! [`UdpServerHandle`]: stops a UDP server, and tells what it does.

use super::super::handle::ShutdownReport;
use super::serving::{CUT_OFF, IS_WORKER, Serving};
use crate::metrics::Family;
use crate::net::clock;
use crate::net::meter::Meter;
use crate::net::udp::UdpStats;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Shuts a UDP server down and tells what it does. Clones are handles of the same server; dropping one
/// changes nothing.
#[derive(Debug, Clone)]
pub struct UdpServerHandle {
    serving: Arc<Serving>,
}

impl UdpServerHandle {
    pub(super) const fn new(serving: Arc<Serving>) -> Self {
        Self { serving }
    }

    /// The address that the server is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.serving.running.driver.local_addr()
    }

    /// What the socket has done so far.
    #[must_use]
    pub fn stats(&self) -> UdpStats {
        self.serving.running.driver.stats()
    }

    /// Handlers that ended in a panic so far.
    #[must_use]
    pub fn handler_panics(&self) -> u64 {
        self.serving.metrics.load(Family::HandlerPanics, 0)
    }

    /// What counts for this socket.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        self.serving.running.driver.meter()
    }

    /// Panics of the authenticator so far; each refused a client.
    #[must_use]
    pub fn authenticator_panics(&self) -> u64 {
        self.serving.metrics.load(Family::AuthenticatorPanics, 0)
    }

    /// Whether the caller is a handler of a UDP server.
    pub(in crate::serve) fn is_on_worker() -> bool {
        IS_WORKER.get()
    }

    /// Lets handlers finish what was received, says goodbye in all sessions, closes the socket.
    ///
    /// A second call, from whatever thread, waits for the first and returns the same report. From
    /// inside a handler it only begins the shutdown, since it cannot wait for itself.
    ///
    /// # Blocking
    /// Until then; at most `grace` and 400 ms.
    pub fn shutdown(&self, grace: Duration) -> ShutdownReport {
        let serving = &self.serving;
        let until = clock::after_or_far(grace);
        let first = serving.lifecycle.begin_drain(until);
        if IS_WORKER.get() {
            if first {
                let mine = Arc::clone(serving);
                let spawned = std::thread::Builder::new()
                    .name("vstp-shutdown".to_owned())
                    .spawn(move || mine.finish(until));
                if spawned.is_err() {
                    serving.lifecycle.close();
                }
            }
            return ShutdownReport::default();
        }
        if first {
            return serving.finish(until);
        }
        serving
            .lifecycle
            .wait_closed(until.checked_add(4 * CUT_OFF));
        serving
            .report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .unwrap_or_default()
    }

    /// Waits until the server has shut down.
    ///
    /// # Blocking
    /// Until then.
    pub fn wait(&self) {
        self.serving.lifecycle.wait_closed(None);
    }
}
