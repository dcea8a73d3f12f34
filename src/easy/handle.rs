//! [`ServerHandle`]: shuts a server of typed messages down, whatever its transports.

use crate::error::VstpError;
use crate::net::Meter;
use crate::serve::{self, DualServerHandle, ShutdownReport, UdpServerHandle};
use std::net::SocketAddr;
use std::time::Duration;

/// Shuts a server down, from any thread. Clones are handles of the same server; dropping one changes
/// nothing.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    handle: Handle,
}

#[derive(Debug, Clone)]
enum Handle {
    Tcp(serve::ServerHandle),
    Udp(UdpServerHandle),
    Dual(DualServerHandle),
}

impl From<serve::ServerHandle> for ServerHandle {
    fn from(handle: serve::ServerHandle) -> Self {
        Self {
            handle: Handle::Tcp(handle),
        }
    }
}

impl From<UdpServerHandle> for ServerHandle {
    fn from(handle: UdpServerHandle) -> Self {
        Self {
            handle: Handle::Udp(handle),
        }
    }
}

impl From<DualServerHandle> for ServerHandle {
    fn from(handle: DualServerHandle) -> Self {
        Self {
            handle: Handle::Dual(handle),
        }
    }
}

impl ServerHandle {
    /// What counts for the server.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        match &self.handle {
            Handle::Tcp(handle) => handle.meter(),
            Handle::Udp(handle) => handle.meter(),
            Handle::Dual(handle) => handle.meter(),
        }
    }

    /// The address that the server is at.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        match &self.handle {
            Handle::Tcp(handle) => handle.local_addr(),
            Handle::Udp(handle) => handle.local_addr(),
            Handle::Dual(handle) => handle.local_addr(),
        }
    }

    /// Lets handlers finish, says goodbye to all clients, and cuts off what is left after `grace`. A
    /// second call, from whatever thread, waits for the first and returns the same report.
    ///
    /// # Blocking
    /// Until then; at most `grace` and 400 ms.
    pub fn shutdown(&self, grace: Duration) -> ShutdownReport {
        match &self.handle {
            Handle::Tcp(handle) => handle.shutdown(grace),
            Handle::Udp(handle) => handle.shutdown(grace),
            Handle::Dual(handle) => handle.shutdown(grace),
        }
    }

    /// Waits until the server has shut down.
    ///
    /// # Blocking
    /// Until then.
    ///
    /// # Errors
    /// `Io` when the listening socket failed.
    pub fn wait(&self) -> Result<(), VstpError> {
        match &self.handle {
            Handle::Tcp(handle) => handle.wait(),
            Handle::Udp(handle) => {
                handle.wait();
                Ok(())
            }
            Handle::Dual(handle) => handle.wait(),
        }
    }

    /// The handle underneath, over TCP, with its statistics.
    #[must_use]
    pub const fn tcp(&self) -> Option<&serve::ServerHandle> {
        match &self.handle {
            Handle::Tcp(handle) => Some(handle),
            Handle::Udp(_) => None,
            Handle::Dual(handle) => Some(handle.tcp()),
        }
    }

    /// The handle underneath, over UDP, with its statistics.
    #[must_use]
    pub const fn udp(&self) -> Option<&UdpServerHandle> {
        match &self.handle {
            Handle::Tcp(_) => None,
            Handle::Udp(handle) => Some(handle),
            Handle::Dual(handle) => Some(handle.udp()),
        }
    }
}
