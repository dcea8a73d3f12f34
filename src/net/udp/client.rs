//! [`VstpUdpClient`]: frames to and from any address, over one UDP socket.

use super::config::UdpConfig;
#[cfg(feature = "tls")]
use super::core::Core;
use super::delivery::Delivery;
use super::driver::closed;
use super::running::Running;
use super::session::UdpSession;
use super::stats::UdpStats;
use crate::error::{TimeoutKind, VstpError};
use crate::net::addr::ToAddress;
use crate::net::clock;
use crate::net::meter::Meter;
#[cfg(feature = "tls")]
use crate::net::tcp::VstpTcpConnection;
use crate::proto::datagram::Failure;
use crate::wire::Frame;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// A UDP socket that speaks VSTP. All calls take `&self`: share it between threads in an `Arc`.
///
/// Datagrams are not encrypted, but for those of [`connect_sealed`](Self::connect_sealed). [`connect`](Self::connect) opens a session with a server, which large
/// messages and hostile networks need; without one, frames of up to 255 datagrams go to any address.
///
/// # Example
/// ```
/// use vstp::{Frame, VstpUdpClient, VstpUdpServer};
/// let server = VstpUdpServer::bind("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|_peer: &vstp::serve::UdpPeer, frame: Frame| frame)?;
///
/// let client = VstpUdpClient::bind("127.0.0.1:0")?;
/// let server = client.connect(addr)?.peer_addr();
/// client.send_with_ack(Frame::data("hello"), server)?;
/// assert_eq!(client.recv()?, (Frame::data("hello"), server));
/// # handle.shutdown(std::time::Duration::from_secs(1));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug)]
pub struct VstpUdpClient {
    pub(super) running: Running,
}

impl VstpUdpClient {
    /// Binds a socket at `host:port`; port 0 lets the system choose.
    ///
    /// # Blocking
    /// While a host name is looked up; at most for `handshake_timeout`.
    ///
    /// # Errors
    /// `InvalidAddress`, `Timeout(Resolve)`, or `Io` when the address cannot be bound or no thread can be started.
    pub fn bind(addr: impl ToAddress) -> Result<Self, VstpError> {
        Self::bind_with_config(addr, UdpConfig::default())
    }

    /// [`bind`](Self::bind) with these settings.
    ///
    /// # Errors
    /// As there, and `Config`.
    pub fn bind_with_config(
        addr: impl ToAddress,
        mut config: UdpConfig,
    ) -> Result<Self, VstpError> {
        config.validate()?;
        config.own_meter();
        let addr = first(addr, config.endpoint.handshake_timeout)?;
        Ok(Self {
            running: Running::start(addr, config, false)?,
        })
    }

    /// Binds a socket that can reach this server, and opens a session with it.
    ///
    /// # Blocking
    /// As [`connect`](Self::connect).
    ///
    /// # Errors
    /// As [`bind`](Self::bind) and [`connect`](Self::connect).
    pub fn connect_to(server: impl ToAddress) -> Result<(Self, UdpSession), VstpError> {
        Self::connect_to_with_config(server, UdpConfig::default())
    }

    /// [`connect_to`](Self::connect_to) with these settings.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there, and `Config`.
    pub fn connect_to_with_config(
        server: impl ToAddress,
        config: UdpConfig,
    ) -> Result<(Self, UdpSession), VstpError> {
        let server = first(server, config.endpoint.handshake_timeout)?;
        let client = Self::bind_with_config(any_for(server), config)?;
        let session = client.connect(server)?;
        Ok((client, session))
    }

    /// Binds a socket and opens a session of sealed datagrams: encrypted and authenticated with keys of the
    /// TLS session of `connection`, which asked for them with
    /// [`TcpConfig::sealed_datagrams`](crate::net::tcp::TcpConfig::sealed_datagrams). `server` is where the UDP
    /// server of the same program listens.
    ///
    /// The socket sends and takes nothing else. The session ends with the connection, so keep that, and
    /// read from it now and then if the server sends there. A connection gives keys once: after an error
    /// other than those of [`bind`](Self::bind), connect anew.
    ///
    /// # Blocking
    /// As [`connect`](Self::connect).
    ///
    /// # Errors
    /// - `Config`: the server did not agree to sealed datagrams, the connection is plaintext, or its keys
    ///   have been used.
    /// - As [`bind`](Self::bind) and [`connect`](Self::connect).
    ///
    /// # Example
    /// At [`SealedSessions`](super::SealedSessions).
    #[cfg(feature = "tls")]
    pub fn connect_sealed(
        connection: &VstpTcpConnection,
        server: impl ToAddress,
    ) -> Result<(Self, UdpSession), VstpError> {
        Self::connect_sealed_with_config(connection, server, UdpConfig::default())
    }

    /// [`connect_sealed`](Self::connect_sealed) with these settings.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "tls")]
    pub fn connect_sealed_with_config(
        connection: &VstpTcpConnection,
        server: impl ToAddress,
        mut config: UdpConfig,
    ) -> Result<(Self, UdpSession), VstpError> {
        let server = first(server, config.endpoint.handshake_timeout)?;
        config.endpoint.sealed_only = true;
        let client = Self::bind_with_config(any_for(server), config)?;
        let keys = connection.shared().take_sealed_keys().ok_or_else(|| {
            let reason = "the connection has no keys: both sides must ask for them, over TLS, and \
                          they are used once";
            VstpError::config("sealed_datagrams", reason)
        })?;
        let begin = |core: &mut Core| core.endpoint.connect_sealed(clock::now(), server, keys);
        client.running.driver.with(begin)?;
        let session = client.await_session(server)?;
        Ok((client, session))
    }

    /// Opens a session with a server. Frames to its address belong to it from then on.
    ///
    /// # Blocking
    /// Until the server has welcomed this client; at most for `handshake_timeout`.
    ///
    /// # Errors
    /// - `InvalidAddress`, `Timeout(Resolve)`.
    /// - `Timeout(Handshake)`: nobody answered. A server of `vstp` 0.2 knows no sessions: send to it
    ///   without one.
    /// - `ServerError`: the server refused, with the reason.
    /// - `Datagram(Connected)`: there is a session with this address.
    pub fn connect(&self, to: impl ToAddress) -> Result<UdpSession, VstpError> {
        let driver = &self.running.driver;
        let peer = first(to, driver.config.endpoint.handshake_timeout)?;
        driver.with(|core| {
            let began = core.endpoint.connect(clock::now(), peer);
            began.map_err(VstpError::from)
        })?;
        self.await_session(peer)
    }

    /// The protocol ends it in time.
    fn await_session(&self, peer: SocketAddr) -> Result<UdpSession, VstpError> {
        let driver = &self.running.driver;
        match driver.wait_for(None, |core| core.take_connected(peer)) {
            None => return Err(closed()),
            Some(Err(Failure::TimedOut)) => {
                return Err(VstpError::Timeout(TimeoutKind::Handshake));
            }
            Some(how) => how?,
        }
        self.session(peer).ok_or_else(closed)
    }

    /// The session with this address, while it is open.
    #[must_use]
    pub fn session(&self, with: SocketAddr) -> Option<UdpSession> {
        let core = self.running.driver.lock();
        let (id, features) = core.endpoint.session(with)?;
        let is_sealed = core.endpoint.is_sealed(with);
        Some(UdpSession::new(with, id, features.clone(), is_sealed))
    }

    /// Ends the session with this address: what is on its way is given up, the server is told.
    pub fn disconnect(&self, from: SocketAddr) {
        let driver = &self.running.driver;
        driver.with(|core| core.endpoint.close(clock::now(), from));
    }

    /// Sends a frame once: fast, and nobody knows whether it arrives.
    ///
    /// # Blocking
    /// No longer than the system takes to accept the datagrams, those of other threads included that were
    /// to be sent before (1 MiB at the most).
    ///
    /// # Errors
    /// - `Encode`, `FrameTooLarge`: it cannot be expressed, or is over a limit.
    /// - `Datagram`: it takes too many fragments, or the address may not be sent so much.
    /// - `ConnectionClosed(Local)`: the socket is closed.
    pub fn send(&self, frame: &Frame, to: SocketAddr) -> Result<(), VstpError> {
        self.running.driver.send(frame, to)
    }

    /// Sends a frame, again and again until the peer has acknowledged that it is in its queue.
    ///
    /// # Blocking
    /// Until then. At most `delivery_timeout` without progress; a large frame that makes progress may
    /// take longer.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `Timeout(Ack)` when no acknowledgement came, `ConnectionClosed` or
    /// `Timeout(Idle)` when the session ended.
    pub fn send_with_ack(&self, frame: Frame, to: SocketAddr) -> Result<(), VstpError> {
        self.running.driver.send_with_ack(frame, to)
    }

    /// Begins what [`send_with_ack`](Self::send_with_ack) does and returns at once, so that many are on
    /// their way together.
    ///
    /// # Blocking
    /// While the send queue is full.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Example
    /// ```
    /// # use vstp::{Frame, VstpUdpClient, VstpUdpServer};
    /// # let server = VstpUdpServer::bind("127.0.0.1:0")?;
    /// # let addr = server.local_addr();
    /// # let handle = server.spawn(|_peer: &vstp::serve::UdpPeer, _frame: Frame| ())?;
    /// let client = VstpUdpClient::bind("127.0.0.1:0")?;
    /// for n in 0..100 {
    ///     drop(client.start_send(Frame::data(format!("message {n}")), addr)?);
    /// }
    /// client.flush()?;
    /// # handle.shutdown(std::time::Duration::from_secs(1));
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn start_send(&self, frame: Frame, to: SocketAddr) -> Result<Delivery, VstpError> {
        Delivery::start(&self.running.driver, frame, to)
    }

    /// Waits until every acknowledged send of this socket has ended.
    ///
    /// # Blocking
    /// Until then; each ends at most `delivery_timeout` after its last progress.
    ///
    /// # Errors
    /// The first failure, since the last call, of a send whose [`Delivery`] was dropped, or cancelled:
    /// that is `Cancelled`.
    pub fn flush(&self) -> Result<(), VstpError> {
        let driver = &self.running.driver;
        driver.push();
        match driver.wait_for(None, |core| core.flushed()) {
            Some(how) => how.map_err(VstpError::from),
            None => Err(closed()),
        }
    }

    /// Waits for the next message, and where it came from.
    ///
    /// # Blocking
    /// Until then; at most for `read_timeout`, if that is configured.
    ///
    /// # Errors
    /// `Timeout(Recv)`, or `ConnectionClosed(Local)` when the socket is closed. A bad datagram is never
    /// an error; it is counted in [`stats`](Self::stats).
    pub fn recv(&self) -> Result<(Frame, SocketAddr), VstpError> {
        let timeout = self.running.driver.config.read_timeout;
        self.recv_until(timeout.and_then(clock::after))
    }

    /// [`recv`](Self::recv) for at most this long.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<(Frame, SocketAddr), VstpError> {
        self.recv_until(clock::after(timeout))
    }

    fn recv_until(&self, until: Option<Instant>) -> Result<(Frame, SocketAddr), VstpError> {
        match self.running.driver.recv_message(until)? {
            Some(incoming) => Ok((incoming.frame, incoming.from)),
            None => Err(VstpError::Timeout(TimeoutKind::Recv)),
        }
    }

    /// The next message, if it is there already. Never blocks.
    ///
    /// # Errors
    /// `ConnectionClosed(Local)` when the socket is closed.
    pub fn try_recv(&self) -> Result<Option<(Frame, SocketAddr)>, VstpError> {
        let driver = &self.running.driver;
        while let Some(incoming) = driver.try_recv()? {
            if let Some(incoming) = driver.deliver(incoming) {
                return Ok(Some((incoming.frame, incoming.from)));
            }
        }
        Ok(None)
    }

    /// The address that the socket is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.running.driver.local_addr()
    }

    /// Sets of fragments that are being put together.
    #[must_use]
    pub fn reassembly_session_count(&self) -> usize {
        self.running.driver.lock().endpoint.reassembly_set_count()
    }

    /// The smoothed round-trip time to an address, once a message to it was acknowledged.
    #[must_use]
    pub fn round_trip_time(&self, with: SocketAddr) -> Option<Duration> {
        self.running.driver.lock().endpoint.round_trip_time(with)
    }

    /// What the socket has done so far.
    #[must_use]
    pub fn stats(&self) -> UdpStats {
        self.running.driver.stats()
    }

    /// What counts for this socket.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        self.running.driver.meter()
    }

    /// Says goodbye in all sessions and closes the socket. Calls of other threads that wait end with
    /// `ConnectionClosed(Local)`. Dropping the client does the same without waiting for answers.
    ///
    /// # Blocking
    /// Until the servers have answered; at most 2 s.
    pub fn close(&self) {
        self.running
            .close(clock::after_or_far(Duration::from_secs(2)));
    }
}

/// Where to bind to reach this address.
const fn any_for(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

/// The first address of a host.
pub(crate) fn first(addr: impl ToAddress, timeout: Duration) -> Result<SocketAddr, VstpError> {
    let address = addr.to_address()?;
    let all = address.resolve(clock::after(timeout))?;
    all.first()
        .copied()
        .ok_or_else(|| VstpError::InvalidAddress(address.to_string().into()))
}
