//! The accept loop: accepts, and does nothing else that could take time or fail.

use super::lifecycle::Lifecycle;
use super::log_limit::LogLimit;
use super::stats::{Counters, count};
use crate::net::clock;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long a blocked accept sleeps before it looks whether the server still runs.
const TICK: Duration = Duration::from_millis(100);
/// The pause when the system lacks descriptors or memory: doubled each time, up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Such a shortage is logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What hands out connections; the system's listener, or a script in tests.
pub(super) trait Listener {
    type Connection;
    fn accept(&self) -> io::Result<(Self::Connection, SocketAddr)>;
}

/// What an error of accept(2) means.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    /// Nothing came in time.
    Tick,
    /// This one connection failed before we had it.
    Connection,
    /// The system lacks something; it passes.
    Exhausted,
    /// The listening socket itself is unusable.
    Fatal,
}

fn classify(error: &io::Error) -> Class {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Class::Tick,
        io::ErrorKind::OutOfMemory => return Class::Exhausted,
        io::ErrorKind::InvalidInput => return Class::Fatal,
        _ => {}
    }
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let code = error.raw_os_error().map(Errno::from_raw_os_error);
        match code {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                return Class::Exhausted;
            }
            Some(Errno::BADF | Errno::NOTSOCK | Errno::INVAL | Errno::OPNOTSUPP) => {
                return Class::Fatal;
            }
            _ => {}
        }
    }
    // ECONNABORTED, EINTR, EPROTO, EPERM, and on Linux every pending error of the new socket
    // (accept(2)): they concern one connection.
    Class::Connection
}

/// Accepts until the server stops running, or the listening socket fails.
///
/// `place` is asked before each accept and may wait; it says `None` when the server stops.
pub(super) fn run<L: Listener, P>(
    listener: &L,
    lifecycle: &Lifecycle,
    counters: &Counters,
    mut place: impl FnMut() -> Option<P>,
    mut on_connection: impl FnMut(P, L::Connection, SocketAddr),
) -> io::Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut log = LogLimit::new(LOG_INTERVAL);
    let mut held = None;
    while lifecycle.is_running() {
        // A place taken for a connection that did not come serves the next one.
        let Some(next) = held.take().or_else(&mut place) else {
            break;
        };
        let error = match listener.accept() {
            Ok((connection, peer)) => {
                pause = FIRST_PAUSE;
                count(&counters.accepted);
                on_connection(next, connection, peer);
                continue;
            }
            Err(error) => error,
        };
        held = Some(next);
        match classify(&error) {
            Class::Tick => {}
            Class::Connection => count(&counters.accept_errors),
            Class::Exhausted => {
                count(&counters.accept_exhausted);
                if let Some(more) = log.allow(clock::now()) {
                    log::error!("accept failed, trying on: {error} ({more} more like it)");
                }
                lifecycle.wait_drain(clock::after(pause));
                pause = (pause * 2).min(LAST_PAUSE);
            }
            Class::Fatal if lifecycle.is_running() => return Err(error),
            Class::Fatal => break,
        }
    }
    Ok(())
}

/// The system's listener, which can be woken without connecting to it.
#[derive(Debug)]
pub(super) struct Acceptor(TcpListener);

impl Acceptor {
    /// Binds. The address can be bound again at once after a restart, but not twice at a time.
    pub(super) fn bind(addr: SocketAddr, backlog: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // Elsewhere this option would let another process take the address over.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Self::from_listener(socket.into())
    }

    /// Takes over a listener that is bound already.
    pub(super) fn from_listener(listener: TcpListener) -> io::Result<Self> {
        // Linux honours the receive timeout in accept(2).
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            listener.set_nonblocking(false)?;
            SockRef::from(&listener).set_read_timeout(Some(TICK))?;
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// A second handle, for [`Self::wake`].
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Makes a blocked accept return, and refuses clients from now on.
    pub(super) fn wake(&self) {
        // Where the system does not do this, the next tick does.
        let _ = SockRef::from(&self.0).shutdown(std::net::Shutdown::Both);
    }
}

impl Listener for Acceptor {
    type Connection = TcpStream;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = match self.0.accept() {
            // Only where the listener does not block: the tick is ours.
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::park_timeout(TICK / 5);
                return Err(error);
            }
            result => result?,
        };
        // New sockets inherit the listener's timeout on Linux, its mode elsewhere.
        stream.set_read_timeout(None)?;
        stream.set_nonblocking(false)?;
        Ok((stream, peer))
    }
}
