//! [`DualServerHandle`]: stops both halves of a server, and tells what they do.

use super::super::handle::{ServerHandle, ShutdownReport};
use super::super::stats::ServerStats;
use super::super::udp::UdpServerHandle;
use crate::error::VstpError;
use crate::net::clock;
use crate::net::meter::Meter;
use crate::net::udp::UdpStats;
use crossbeam_channel::bounded;
use std::net::SocketAddr;
use std::time::Duration;

/// Shuts a server on TCP and UDP down and tells what it does. Clones are handles of the same server; dropping
/// one changes nothing.
#[derive(Debug, Clone)]
pub struct DualServerHandle {
    pub(super) tcp: ServerHandle,
    pub(super) udp: UdpServerHandle,
    pub(super) meter: Meter,
}

/// What a server on TCP and UDP has done so far.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DualStats {
    /// TCP.
    pub tcp: ServerStats,
    /// UDP.
    pub udp: UdpStats,
}

impl DualServerHandle {
    /// The address that the server is at, on TCP and on UDP.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.tcp.local_addr()
    }

    /// The handle of the TCP half.
    #[must_use]
    pub const fn tcp(&self) -> &ServerHandle {
        &self.tcp
    }

    /// The handle of the UDP half.
    #[must_use]
    pub const fn udp(&self) -> &UdpServerHandle {
        &self.udp
    }

    /// What counts for both together; over those that the [settings](super::DualConfig) name for TCP, or else
    /// for UDP.
    #[must_use]
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What both have done so far.
    #[must_use]
    pub fn stats(&self) -> DualStats {
        DualStats {
            tcp: self.tcp.stats(),
            udp: self.udp.stats(),
        }
    }

    /// Lets handlers finish, says goodbye to all clients, first on UDP and then on TCP, and cuts off what is
    /// left after `grace`. The report counts a client of both twice.
    ///
    /// A second call waits for the first and returns the same report. From inside a handler it only begins
    /// the shutdown, and the report is empty.
    ///
    /// # Blocking
    /// Until then; at most `grace` and 400 ms.
    pub fn shutdown(&self, grace: Duration) -> ShutdownReport {
        let udp = &self.udp;
        if self.tcp.is_on_worker() || UdpServerHandle::is_on_worker() {
            let mine = self.clone();
            let spawned = spawn(move || mine.shutdown(grace));
            if spawned.is_err() {
                // Each of the two begins at least.
                udp.shutdown(Duration::ZERO);
                self.tcp.shutdown(Duration::ZERO);
            }
            return ShutdownReport::default();
        }
        let until = clock::after_or_far(grace);
        let (done, is_done) = bounded::<()>(0);
        let mine = udp.clone();
        let beside = spawn(move || {
            let report = mine.shutdown(grace);
            drop(done);
            report
        });
        // UDP first, since the end on TCP is the end of a client; but not at the expense of TCP.
        let _ = is_done.recv_timeout(grace / 2);
        let left = until.saturating_duration_since(clock::now());
        let mut report = self.tcp.shutdown(left);
        let other = match beside {
            Ok(thread) => thread.join().unwrap_or_default(),
            Err(_) => udp.shutdown(left),
        };
        report.connections += other.connections;
        report.cut_off += other.cut_off;
        report.stuck += other.stuck;
        report
    }

    /// Waits until both have shut down.
    ///
    /// # Blocking
    /// Until then.
    ///
    /// # Errors
    /// `Io` when the listening socket failed. UDP is then shut down as well.
    pub fn wait(&self) -> Result<(), VstpError> {
        let how = self.tcp.wait();
        if how.is_err() {
            self.udp.shutdown(Duration::ZERO);
        }
        self.udp.wait();
        how
    }
}

fn spawn<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new()
        .name("vstp-shutdown".to_owned())
        .spawn(body)
}
