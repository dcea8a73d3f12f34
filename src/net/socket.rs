//! System calls on a connected stream socket, with absolute deadlines.
//!
//! [`Transport`] is what a connection needs of the system; TCP implements it here, tests implement
//! it with scripts. [`ReadSocket`] and [`WriteSocket`] are the two directions: each belongs to one
//! owner at a time, so each may cache the timeout that it armed in the kernel. No lock is involved.

use super::clock;
use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connected byte stream, as the system offers it. Shared by both directions.
pub(crate) trait Transport: Send + Sync + std::fmt::Debug {
    /// Appends to the unused capacity of `into` what has arrived; 0 is the end of the stream. With
    /// `wait`, blocks until something has arrived or the receive timeout is over.
    fn recv(&self, into: &mut Vec<u8>, wait: bool) -> io::Result<usize>;
    /// Takes bytes from the front of `parts`. With `wait`, blocks until at least one was taken or
    /// the send timeout is over.
    fn send(&self, parts: &[IoSlice<'_>], wait: bool) -> io::Result<usize>;
    fn set_recv_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    /// Ends one or both directions; blocked calls of that direction return.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

#[cfg(unix)]
impl Transport for TcpStream {
    fn recv(&self, into: &mut Vec<u8>, wait: bool) -> io::Result<usize> {
        use rustix::net::RecvFlags;
        let flags = if wait {
            RecvFlags::empty()
        } else {
            RecvFlags::DONTWAIT
        };
        let (_, len) = rustix::net::recv(self, rustix::buffer::spare_capacity(into), flags)?;
        Ok(len)
    }

    fn send(&self, parts: &[IoSlice<'_>], wait: bool) -> io::Result<usize> {
        use rustix::net::{SendAncillaryBuffer, SendFlags};
        // A peer that went away must be an error, not a signal that kills a host written in C.
        #[cfg(not(target_vendor = "apple"))]
        let mut flags = SendFlags::NOSIGNAL;
        // There std sets the option on the socket instead.
        #[cfg(target_vendor = "apple")]
        let mut flags = SendFlags::empty();
        if !wait {
            flags |= SendFlags::DONTWAIT;
        }
        let sent = match parts {
            [part] => rustix::net::send(self, part, flags)?,
            _ => rustix::net::sendmsg(self, parts, &mut SendAncillaryBuffer::default(), flags)?,
        };
        Ok(sent)
    }

    fn set_recv_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)
    }

    fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_write_timeout(timeout)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Self::shutdown(self, how)
    }
}

/// Without flags on single calls, "do not wait" is a timeout of a millisecond.
#[cfg(not(unix))]
impl Transport for TcpStream {
    fn recv(&self, into: &mut Vec<u8>, wait: bool) -> io::Result<usize> {
        use std::io::Read;
        let timeout = self.read_timeout()?;
        if !wait {
            self.set_read_timeout(Some(Duration::from_millis(1)))?;
        }
        let start = into.len();
        into.resize(into.capacity(), 0);
        let result = (&mut &*self).read(&mut into[start..]);
        into.truncate(start + *result.as_ref().unwrap_or(&0));
        if !wait {
            self.set_read_timeout(timeout)?;
        }
        result
    }

    fn send(&self, parts: &[IoSlice<'_>], wait: bool) -> io::Result<usize> {
        use std::io::Write;
        if wait {
            return (&mut &*self).write_vectored(parts);
        }
        let timeout = self.write_timeout()?;
        self.set_write_timeout(Some(Duration::from_millis(1)))?;
        let result = (&mut &*self).write_vectored(parts);
        self.set_write_timeout(timeout)?;
        result
    }

    fn set_recv_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)
    }

    fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_write_timeout(timeout)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Self::shutdown(self, how)
    }
}

/// The timeout armed in the kernel for one direction; armed anew only when it no longer serves.
#[derive(Debug)]
struct Armed(Option<Option<Duration>>);

impl Armed {
    /// The timeout to set now so that a call ends by about `left`, or `None` where the armed one
    /// serves: it ends the call early, at most eight times over, and the caller calls again.
    fn update(&mut self, left: Option<Duration>) -> Option<Option<Duration>> {
        let serves = match (self.0, left) {
            (Some(armed), None) => armed.is_none(),
            (Some(Some(armed)), Some(left)) => armed <= left && armed >= left / 8,
            _ => false,
        };
        if serves {
            return None;
        }
        // Zero would mean "never", and the kernel counts in ticks: at least a millisecond.
        let timeout = left.map(|left| left.max(Duration::from_millis(1)));
        self.0 = Some(timeout);
        Some(timeout)
    }
}

/// The receiving direction.
#[derive(Debug)]
pub(crate) struct ReadSocket {
    transport: Arc<dyn Transport>,
    armed: Armed,
    /// How long to poll before sleeping.
    spin: Duration,
}

impl ReadSocket {
    pub(crate) fn new(transport: Arc<dyn Transport>, spin: Duration) -> Self {
        Self {
            transport,
            armed: Armed(None),
            spin,
        }
    }

    /// Appends what arrives to the unused capacity of `into`.
    ///
    /// `Some(0)` is the end of the stream, `None` means that nothing arrived by `until`.
    pub(crate) fn read(
        &mut self,
        into: &mut Vec<u8>,
        until: Option<Instant>,
    ) -> io::Result<Option<usize>> {
        if !self.spin.is_zero() {
            if let Some(len) = self.poll(into, until)? {
                return Ok(Some(len));
            }
        }
        loop {
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            let expired = left.is_some_and(|left| left.is_zero());
            if !expired {
                if let Some(timeout) = self.armed.update(left) {
                    self.transport.set_recv_timeout(timeout)?;
                }
            }
            // What arrived before the deadline counts even if we come late to fetch it.
            match self.transport.recv(into, !expired) {
                Ok(len) => return Ok(Some(len)),
                Err(error) if is_interrupt(&error) => {}
                Err(error) if is_timeout(&error) => {
                    if expired {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks again and again without sleeping, for `spin` at most.
    fn poll(&self, into: &mut Vec<u8>, until: Option<Instant>) -> io::Result<Option<usize>> {
        let spin_until = clock::now() + self.spin;
        let until = until.map_or(spin_until, |at| at.min(spin_until));
        loop {
            match self.transport.recv(into, false) {
                Ok(len) => return Ok(Some(len)),
                Err(error) if is_interrupt(&error) || is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
            if clock::now() >= until {
                return Ok(None);
            }
            std::hint::spin_loop();
        }
    }
}

/// The sending direction.
#[derive(Debug)]
pub(crate) struct WriteSocket {
    transport: Arc<dyn Transport>,
    armed: Armed,
}

impl WriteSocket {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            armed: Armed(None),
        }
    }

    /// Writes all parts. `false` means that they could not be written by `until`; some bytes may
    /// have been, so the stream is then unusable.
    pub(crate) fn write_all(
        &mut self,
        mut parts: &mut [IoSlice<'_>],
        until: Option<Instant>,
    ) -> io::Result<bool> {
        IoSlice::advance_slices(&mut parts, 0);
        // Nearly every write succeeds at once: the clock and the kernel's timer are asked only
        // when one does not.
        let mut wait = false;
        while !parts.is_empty() {
            let mut expired = false;
            if wait {
                let left = until.map(|at| at.saturating_duration_since(clock::now()));
                expired = left.is_some_and(|left| left.is_zero());
                if !expired {
                    if let Some(timeout) = self.armed.update(left) {
                        self.transport.set_send_timeout(timeout)?;
                    }
                }
            }
            match self.transport.send(parts, wait && !expired) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => IoSlice::advance_slices(&mut parts, len),
                Err(error) if is_interrupt(&error) => {}
                Err(error) if is_timeout(&error) => {
                    if expired {
                        return Ok(false);
                    }
                    wait = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes what the system takes at once, without waiting; how many bytes that were.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self
                .transport
                .send(&[IoSlice::new(&bytes[written..])], false)
            {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => written += len,
                Err(error) if is_interrupt(&error) => {}
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.transport.shutdown(Shutdown::Write)
    }
}

fn is_interrupt(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Unix says WouldBlock when a timeout is over, Windows says TimedOut.
fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
