//! The UDP socket: datagrams in and out in batches, where the system offers that.
//!
//! Blocking, with a receive timeout, so that a datagram costs one system call and no readiness check.

use super::config::UdpConfig;
use crate::net::clock;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Type};
use std::io::{self, IoSliceMut};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// How long a receive call stays in the system before it looks whether the socket was closed.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// The largest datagram, and one more byte; also what coalesced datagrams fill at the most.
const BUFFER_LEN: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    /// `None` once closed. Every call reads it; it is written once, when nobody begins a call any more and
    /// those in the system have been woken.
    io: RwLock<Option<UdpSocket>>,
    state: UdpSocketState,
    local_addr: SocketAddr,
    spin: Duration,
}

/// Where datagrams arrive, and the receive timeout that the socket has now. Belongs to whose turn it is
/// to read.
#[derive(Debug)]
pub(super) struct RecvBuffer {
    bytes: Vec<u8>,
    timeout: Duration,
}

impl Default for RecvBuffer {
    fn default() -> Self {
        Self {
            bytes: vec![0; BUFFER_LEN],
            timeout: TICK,
        }
    }
}

/// Datagrams of one sender.
#[derive(Debug)]
pub(super) struct Received<'a> {
    pub(super) from: SocketAddr,
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Received<'a> {
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> {
        // An empty datagram has no chunk; it is nothing anyway.
        self.bytes.chunks(self.stride.max(1))
    }
}

impl Socket {
    pub(super) fn bind(addr: SocketAddr, config: &UdpConfig) -> io::Result<Self> {
        let socket =
            socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        // Never shared between processes: a second one on the port would take datagrams away.
        socket.bind(&addr.into())?;
        for (len, is_send) in [
            (config.send_buffer_len, true),
            (config.recv_buffer_len, false),
        ] {
            // What the system does not grant is a smaller buffer, not an error.
            let _ = match len {
                Some(len) if is_send => socket.set_send_buffer_size(len),
                Some(len) => socket.set_recv_buffer_size(len),
                None => Ok(()),
            };
        }
        let io: UdpSocket = socket.into();
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        io.set_nonblocking(false)?;
        io.set_read_timeout(Some(TICK))?;
        io.set_write_timeout(Some(Duration::from_secs(1)))?;
        let local_addr = io.local_addr()?;
        Ok(Self {
            io: RwLock::new(Some(io)),
            state,
            local_addr,
            spin: config.spin,
        })
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Datagrams that one call may send together.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments().clamp(1, 64)
    }

    /// Sends datagrams of `segment_len` bytes, the last maybe shorter.
    pub(super) fn send(&self, to: SocketAddr, bytes: &[u8], segment_len: usize) -> io::Result<()> {
        let open = self.open();
        let io = open.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if bytes.len() <= segment_len {
            return io.send_to(bytes, to).map(|_| ());
        }
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: Some(segment_len),
            src_ip: None,
        };
        let sent = self.state.try_send(UdpSockRef::from(io), &transmit);
        if sent.is_err() && self.state.max_gso_segments() == 1 {
            // The system has just found that it cannot do this; one by one then.
            for datagram in bytes.chunks(segment_len) {
                io.send_to(datagram, to)?;
            }
            return Ok(());
        }
        sent
    }

    /// Waits for datagrams, at most for `wait` and at most for a tick.
    pub(super) fn recv<'a>(
        &self,
        buffer: &'a mut RecvBuffer,
        wait: Duration,
    ) -> io::Result<Option<Received<'a>>> {
        let wait = wait.clamp(Duration::from_micros(1), TICK);
        let open = self.open();
        let io = open.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if !self.spin.is_zero() {
            self.spin(io, wait);
        }
        if wait != buffer.timeout {
            io.set_read_timeout(Some(wait))?;
            buffer.timeout = wait;
        }
        let mut meta = [RecvMeta::default()];
        let mut slices = [IoSliceMut::new(&mut buffer.bytes)];
        let got = self
            .state
            .recv(UdpSockRef::from(io), &mut slices, &mut meta);
        let [meta] = meta;
        match got {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(Received {
                from: meta.addr,
                bytes: &buffer.bytes[..meta.len],
                stride: meta.stride,
            })),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for datagrams without sleeping, for the configured time at most.
    #[cfg(unix)]
    fn spin(&self, io: &UdpSocket, wait: Duration) {
        use rustix::event::{PollFd, PollFlags, poll};
        let Some(until) = clock::after(self.spin.min(wait)) else {
            return;
        };
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(io, PollFlags::IN)];
        while poll(&mut fds, Some(&now)) == Ok(0) && clock::now() < until {
            // The other end may need this very core.
            std::thread::yield_now();
        }
    }

    #[cfg(not(unix))]
    fn spin(&self, _io: &UdpSocket, _wait: Duration) {
        // Asking without waiting needs the socket in another mode; here the call sleeps at once.
    }

    /// Wakes whoever is in [`Self::recv`]. Where the system does not, a tick does.
    pub(super) fn wake(&self) {
        if let Some(io) = &*self.open() {
            let _ = SockRef::from(io).shutdown(Shutdown::Both);
        }
    }

    /// Gives the port back, whoever still holds a part of this socket.
    pub(super) fn close(&self) {
        *self.io.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn open(&self) -> RwLockReadGuard<'_, Option<UdpSocket>> {
        self.io.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// EMSGSIZE, whose kind std does not name.
pub(super) fn is_too_large(error: &io::Error) -> bool {
    #[cfg(unix)]
    let code = rustix::io::Errno::MSGSIZE.raw_os_error();
    // WSAEMSGSIZE.
    #[cfg(not(unix))]
    let code = 10_040;
    error.raw_os_error() == Some(code)
}

/// What is left until a deadline, at most a tick; `None` when it has passed.
pub(super) fn remaining(until: Option<Instant>) -> Option<Duration> {
    let Some(until) = until else {
        return Some(TICK);
    };
    let left = until.saturating_duration_since(clock::now());
    (!left.is_zero()).then(|| left.min(TICK))
}
