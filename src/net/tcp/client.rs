//! [`VstpTcpClient`]: connects.

use super::config::TcpConfig;
use super::connection::VstpTcpConnection;
use super::establish;
use super::split::{ConnectionReader, ConnectionWriter};
use crate::error::{TimeoutKind, VstpError};
use crate::metrics::Family;
use crate::net::addr::{Address, ToAddress};
use crate::net::clock;
use crate::net::meter::Meter;
#[cfg(feature = "tls")]
use crate::net::tls::{TlsClientConfig, TlsSession};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// The least time that one of several addresses gets (it may be less when little is left).
const MIN_ATTEMPT: Duration = Duration::from_millis(250);

/// A client: a [`VstpTcpConnection`] that was opened from this side. All of its calls are those of
/// the connection, to which it dereferences.
///
/// # Example
/// ```
/// use vstp::{Frame, VstpTcpClient, VstpTcpServer};
/// let server = VstpTcpServer::bind_plain("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|_session: &vstp::serve::Session, frame: Frame| frame)?;
///
/// let mut client = VstpTcpClient::connect_plain(addr)?;
/// client.send(&Frame::data("hello"))?;
/// assert_eq!(client.recv()?, Some(Frame::data("hello")));
/// client.close()?;
/// handle.shutdown(std::time::Duration::from_secs(1));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug)]
pub struct VstpTcpClient {
    connection: VstpTcpConnection,
}

impl VstpTcpClient {
    /// Connects with TLS 1.3 and opens a session.
    ///
    /// The address is `host:port` (or a [`SocketAddr`]); the host's name is what the certificate
    /// must be for. All addresses of the host are tried within one connect timeout.
    ///
    /// # Blocking
    /// Until the server's WELCOME; at most the connect timeout and then the handshake timeout.
    ///
    /// # Errors
    /// - `InvalidAddress`, `Timeout(Resolve)`: the host was not found.
    /// - `Io`, `Timeout(Connect)`: nobody listens at any of its addresses (the last error counts).
    /// - `Tls`: a certificate or the handshake was refused, by either side.
    /// - `Timeout(Handshake)`: the server does not answer in time.
    /// - `ServerError`: the server refused the session.
    #[cfg(feature = "tls")]
    pub fn connect(addr: impl ToAddress, tls: &TlsClientConfig) -> Result<Self, VstpError> {
        Self::connect_with(addr, tls, TcpConfig::default())
    }

    /// [`connect`](Self::connect) with these settings.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there, and `Config`.
    #[cfg(feature = "tls")]
    pub fn connect_with(
        addr: impl ToAddress,
        tls: &TlsClientConfig,
        config: TcpConfig,
    ) -> Result<Self, VstpError> {
        let addr = addr.to_address()?;
        let (stream, config) = dial(&addr, config)?;
        tls.check_peer(stream.peer_addr().map_err(VstpError::Io)?.ip())?;
        let session = TlsSession::client(tls, addr.host())?;
        let until = clock::after(config.handshake_timeout);
        Ok(Self {
            connection: establish::client(stream, Some(session), &config, until)?,
        })
    }

    /// Connects in plaintext and opens a session: everybody on the way can read and change it.
    ///
    /// # Blocking
    /// As [`connect`](Self::connect).
    ///
    /// # Errors
    /// As [`connect`](Self::connect), but `Tls`.
    pub fn connect_plain(addr: impl ToAddress) -> Result<Self, VstpError> {
        Self::connect_plain_with(addr, TcpConfig::default())
    }

    /// [`connect_plain`](Self::connect_plain) with these settings.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there, and `Config`.
    pub fn connect_plain_with(addr: impl ToAddress, config: TcpConfig) -> Result<Self, VstpError> {
        let (stream, config) = dial(&addr.to_address()?, config)?;
        let until = clock::after(config.handshake_timeout);
        Ok(Self {
            connection: establish::client(stream, None, &config, until)?,
        })
    }

    /// The connection alone.
    #[must_use]
    pub fn into_connection(self) -> VstpTcpConnection {
        self.connection
    }

    /// As [`VstpTcpConnection::close`].
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<(), VstpError> {
        self.connection.close()
    }

    /// As [`VstpTcpConnection::split`].
    #[must_use]
    pub fn split(self) -> (ConnectionReader, ConnectionWriter) {
        self.connection.split()
    }
}

impl Deref for VstpTcpClient {
    type Target = VstpTcpConnection;

    fn deref(&self) -> &VstpTcpConnection {
        &self.connection
    }
}

impl DerefMut for VstpTcpClient {
    fn deref_mut(&mut self) -> &mut VstpTcpConnection {
        &mut self.connection
    }
}

/// Connects, and counts a failure; the settings come back with the meter that counts.
fn dial(addr: &Address, mut config: TcpConfig) -> Result<(TcpStream, TcpConfig), VstpError> {
    config.validate()?;
    let meter = config.meter.as_ref();
    let meter = meter.map_or_else(Meter::new, Meter::child);
    config.meter = Some(meter.clone());
    match reach(addr, &config) {
        Ok(stream) => Ok((stream, config)),
        Err(error) => {
            let place = match &error {
                VstpError::Timeout(_) => 0,
                VstpError::InvalidAddress(_) => 1,
                _ => 2,
            };
            meter.add(Family::ConnectFailures, place);
            Err(error)
        }
    }
}

/// Connects to the first address of the host that answers, within one deadline for all.
///
/// Of the time left, each address gets its share, so that one that swallows packets leaves time for
/// the others.
fn reach(addr: &Address, config: &TcpConfig) -> Result<TcpStream, VstpError> {
    let until = clock::after(config.connect_timeout);
    let found = addr.resolve(until)?;
    let mut last = VstpError::Timeout(TimeoutKind::Connect);
    for (index, peer) in found.iter().enumerate() {
        let left = until.map(|at| at.saturating_duration_since(clock::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(VstpError::Timeout(TimeoutKind::Connect));
        }
        let share = left.map(|left| {
            let others = (found.len() - index) as u32;
            (left / others).max(MIN_ATTEMPT.min(left))
        });
        match connect_one(*peer, share, config) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                last = VstpError::Timeout(TimeoutKind::Connect);
            }
            Err(error) => last = VstpError::Io(error),
        }
    }
    Err(last)
}

/// Buffers are set before connecting, since the window is negotiated then.
fn connect_one(
    peer: SocketAddr,
    timeout: Option<Duration>,
    config: &TcpConfig,
) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    establish::set_options(SockRef::from(&socket), config)?;
    match timeout {
        None => socket.connect(&peer.into())?,
        Some(timeout) => socket.connect_timeout(&peer.into(), timeout)?,
    }
    Ok(socket.into())
}
