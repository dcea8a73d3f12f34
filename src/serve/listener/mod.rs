//! The listening TCP socket of a server, whose `accept` shutdown can wake.
//!
//! Connecting to oneself to wake `accept` is what others do; it fails on addresses that cannot be
//! reached from here, at a full backlog, and behind a firewall. Here the socket has a timeout, and
//! where the system allows it, it is shut down.

use crate::serve::accept::Listener;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Length of the backlog unless said otherwise; the system may cut it.
pub const DEFAULT_BACKLOG: u16 = 1024;

/// The longest that a blocked `accept` waits before the loop looks at the lifecycle.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(100);
/// The same where `accept` cannot have a timeout and is asked again and again.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// How `accept` waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// In the system, which ends it after `ACCEPT_TIMEOUT` (SO_RCVTIMEO), or when the socket is shut
    /// down. Only Linux is documented to honour both for `accept`.
    Blocked,
    /// In the accept loop, on the lifecycle.
    Polling,
}

impl Waiting {
    const BEST: Self = if cfg!(any(target_os = "linux", target_os = "android")) {
        Self::Blocked
    } else {
        Self::Polling
    };
}

/// A listening TCP socket that can be woken.
///
/// # Example
/// ```
/// use vstp::serve::listener::{DEFAULT_BACKLOG, TcpAcceptor};
/// let acceptor = TcpAcceptor::bind("127.0.0.1:0", DEFAULT_BACKLOG)?;
/// assert_ne!(acceptor.local_addr()?.port(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpAcceptor {
    listener: TcpListener,
    waiting: Waiting,
}

impl TcpAcceptor {
    /// Listens on the first of `addrs` that can be bound.
    ///
    /// On Unix with SO_REUSEADDR, as std does, so that a restart does not wait for old connections;
    /// never with SO_REUSEPORT, which would let another process of the same user take
    /// connections. IPv6 addresses take IPv4 peers too if that is the system's default.
    ///
    /// # Errors
    /// The error of the last address; `InvalidInput` if there is none.
    pub fn bind(addrs: impl ToSocketAddrs, backlog: u16) -> io::Result<Self> {
        let mut last = None;
        for addr in addrs.to_socket_addrs()? {
            match listen(addr, backlog) {
                Ok(listener) => return Self::from_std(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on")
        }))
    }

    /// Takes over a socket that listens already; its timeout or blocking mode is changed.
    ///
    /// # Errors
    /// The socket does not allow that.
    pub fn from_std(listener: TcpListener) -> io::Result<Self> {
        Self::with_waiting(listener, Waiting::BEST)
    }

    fn with_waiting(listener: TcpListener, waiting: Waiting) -> io::Result<Self> {
        match waiting {
            Waiting::Blocked => {
                listener.set_nonblocking(false)?;
                SockRef::from(&listener).set_read_timeout(Some(ACCEPT_TIMEOUT))?;
            }
            Waiting::Polling => listener.set_nonblocking(true)?,
        }
        Ok(Self { listener, waiting })
    }

    /// The address that it listens on, with the port that the system chose.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Makes a blocked `accept` return; to be called after the lifecycle has left Running.
    ///
    /// The socket accepts nothing afterwards; connections in its backlog are reset. Where the
    /// system knows no such thing, the next tick does the same for the loop.
    pub fn wake(&self) {
        if self.waiting == Waiting::Blocked {
            // If it fails, the timeout of `accept` is soon enough.
            let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        }
    }

    /// The accepted socket without what it may have inherited from the listening one.
    fn reset(&self, stream: &TcpStream) -> io::Result<()> {
        if self.waiting == Waiting::Polling {
            // Inherited on the BSDs, macOS and Windows.
            stream.set_nonblocking(false)?;
        }
        // Inherited on Linux, also from whoever made the listening socket.
        stream.set_read_timeout(None)
    }
}

impl Listener for TcpAcceptor {
    type Conn = TcpStream;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept()?;
        // Its own error would be taken for one of the listening socket.
        self.reset(&stream)
            .map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error))?;
        Ok((stream, peer))
    }

    fn pause(&self) -> Duration {
        match self.waiting {
            Waiting::Blocked => Duration::ZERO,
            Waiting::Polling => POLL_PAUSE,
        }
    }
}

fn listen(addr: SocketAddr, backlog: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows it would mean what SO_REUSEPORT means.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(i32::from(backlog))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
