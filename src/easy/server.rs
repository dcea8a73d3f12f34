//! [`VstpServer`]: answers serde types with serde types.

use super::handle::ServerHandle;
use super::message;
use super::request::Request;
use crate::error::{HandlerError, VstpError};
use crate::net::addr::{Address, ToAddress};
use crate::net::tls::TlsServerConfig;
use crate::net::udp::UdpConfig;
use crate::proto::ErrorCode;
use crate::serve::{
    DualConfig, DualPeer, ServerConfig, Session, UdpPeer, VstpDualServer, VstpTcpServer,
    VstpUdpServer,
};
use crate::wire::Frame;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::net::SocketAddr;

/// A server for typed messages. Over TCP each connection has a thread, which calls the handler and
/// sends what it returns; over UDP a few threads do it for all clients.
///
/// # Example
/// ```no_run
/// use vstp::easy::VstpServer;
/// let server = VstpServer::bind_tcp("127.0.0.1:7000")?;
/// server.serve(|numbers: Vec<i64>| Ok::<i64, String>(numbers.iter().sum()))?;
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug)]
pub struct VstpServer {
    server: Server,
}

#[derive(Debug)]
enum Server {
    Tcp(Box<VstpTcpServer>),
    Udp(VstpUdpServer),
    Dual(Box<VstpDualServer>),
}

impl VstpServer {
    /// Listens on a loopback address, with the certificate for development.
    ///
    /// # Errors
    /// - `Config`: the address is not a loopback one (use [`bind_tcp_with`](Self::bind_tcp_with)
    ///   with a certificate), or the feature `dev-certs` is off.
    /// - `Io`: the address cannot be bound.
    pub fn bind_tcp(addr: impl ToAddress) -> Result<Self, VstpError> {
        let addr = addr.to_address()?;
        let tls = on_loopback(&addr, "bind_tcp_with")?;
        Self::bind_tcp_with(addr, tls, ServerConfig::default())
    }

    /// Listens with this certificate and these settings.
    ///
    /// # Errors
    /// As [`VstpTcpServer::bind_with`].
    pub fn bind_tcp_with(
        addr: impl ToAddress,
        tls: TlsServerConfig,
        config: ServerConfig,
    ) -> Result<Self, VstpError> {
        Ok(Self::tcp(VstpTcpServer::bind_with(addr, tls, config)?))
    }

    /// Listens in plaintext: everybody on the way can read and change the messages.
    ///
    /// # Errors
    /// As [`VstpTcpServer::bind_plain_with`].
    pub fn bind_tcp_plain(addr: impl ToAddress, config: ServerConfig) -> Result<Self, VstpError> {
        Ok(Self::tcp(VstpTcpServer::bind_plain_with(addr, config)?))
    }

    fn tcp(server: VstpTcpServer) -> Self {
        Self {
            server: Server::Tcp(Box::new(server)),
        }
    }

    /// Binds a UDP socket. It is in plaintext: everybody on the way can read and change the messages.
    ///
    /// # Errors
    /// As [`VstpUdpServer::bind`].
    ///
    /// # Example
    /// ```no_run
    /// use vstp::easy::VstpServer;
    /// let server = VstpServer::bind_udp("127.0.0.1:7000")?;
    /// server.serve(|numbers: Vec<i64>| Ok::<i64, String>(numbers.iter().sum()))?;
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn bind_udp(addr: impl ToAddress) -> Result<Self, VstpError> {
        Self::bind_udp_with(addr, UdpConfig::default())
    }

    /// [`bind_udp`](Self::bind_udp) with these settings.
    ///
    /// # Errors
    /// As there, and `Config`.
    pub fn bind_udp_with(addr: impl ToAddress, config: UdpConfig) -> Result<Self, VstpError> {
        let server = VstpUdpServer::bind_with_config(addr, config)?.acknowledged_answers(true);
        Ok(Self {
            server: Server::Udp(server),
        })
    }

    /// Listens on TCP and UDP at one port of a loopback address, with the certificate for development. Datagrams
    /// are sealed with keys of the clients' TLS sessions.
    ///
    /// # Errors
    /// As [`bind_tcp`](Self::bind_tcp).
    pub fn bind_auto(addr: impl ToAddress) -> Result<Self, VstpError> {
        let addr = addr.to_address()?;
        let tls = on_loopback(&addr, "bind_auto_with")?;
        Self::bind_auto_with(addr, tls, DualConfig::default())
    }

    /// Listens on TCP with this certificate and UDP at one port, with these settings.
    ///
    /// # Errors
    /// As [`VstpDualServer::bind_auto_with`].
    pub fn bind_auto_with(
        addr: impl ToAddress,
        tls: TlsServerConfig,
        config: DualConfig,
    ) -> Result<Self, VstpError> {
        let server = VstpDualServer::bind_auto_with(addr, tls, config)?;
        Ok(Self::dual(server))
    }

    /// Listens on TCP and UDP at one port, in plaintext: everybody on the way can read and change the messages.
    ///
    /// # Errors
    /// As [`VstpDualServer::bind_auto_plain_with`].
    pub fn bind_auto_plain(addr: impl ToAddress, config: DualConfig) -> Result<Self, VstpError> {
        let server = VstpDualServer::bind_auto_plain_with(addr, config)?;
        Ok(Self::dual(server))
    }

    fn dual(server: VstpDualServer) -> Self {
        Self {
            server: Server::Dual(Box::new(server)),
        }
    }

    /// The address that it listens at.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        match &self.server {
            Server::Tcp(server) => server.local_addr(),
            Server::Udp(server) => server.local_addr(),
            Server::Dual(server) => server.local_addr(),
        }
    }

    /// A handle that shuts it down from another thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        match &self.server {
            Server::Tcp(server) => server.handle().into(),
            Server::Udp(server) => server.handle().into(),
            Server::Dual(server) => server.handle().into(),
        }
    }

    /// Serves until it is shut down by a [`handle`](Self::handle).
    ///
    /// A message that is not a `T` is answered with ERR `bad-request`, an error of the handler with
    /// its text; either way the connection lives on if the request had a `correlation-id`, as those
    /// of [`VstpClient::call`](super::VstpClient::call) have. Over UDP it lives on in any case, and there
    /// is no answer to what failed without one.
    ///
    /// Over UDP the answer to a `call` is sent until it is acknowledged; errors and all other answers are
    /// sent once.
    ///
    /// # Blocking
    /// Until the server is shut down.
    ///
    /// # Errors
    /// `Io` when the threads cannot be started, or the listening socket fails.
    pub fn serve<T, R, E>(
        self,
        handler: impl Fn(T) -> Result<R, E> + Send + Sync + 'static,
    ) -> Result<(), VstpError>
    where
        T: DeserializeOwned,
        R: Serialize,
        E: Into<HandlerError>,
    {
        self.spawn(handler)?.wait()
    }

    /// Serves in the background.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn spawn<T, R, E>(
        self,
        handler: impl Fn(T) -> Result<R, E> + Send + Sync + 'static,
    ) -> Result<ServerHandle, VstpError>
    where
        T: DeserializeOwned,
        R: Serialize,
        E: Into<HandlerError>,
    {
        self.spawn_requests(move |_: &Request<'_>, message: T| handler(message))
    }

    /// [`serve`](Self::serve) with a handler that also sees where the message came from: the client's identity
    /// and address, the transport, the headers.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn serve_requests<T, R, E>(
        self,
        handler: impl Fn(&Request<'_>, T) -> Result<R, E> + Send + Sync + 'static,
    ) -> Result<(), VstpError>
    where
        T: DeserializeOwned,
        R: Serialize,
        E: Into<HandlerError>,
    {
        self.spawn_requests(handler)?.wait()
    }

    /// [`serve_requests`](Self::serve_requests) in the background.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Example
    /// ```
    /// use vstp::easy::{Request, VstpClient, VstpServer};
    /// use vstp::net::identity::{Identity, SharedToken};
    /// use vstp::net::tcp::TcpConfig;
    /// use vstp::net::tls::dev;
    /// use vstp::serve::ServerConfig;
    ///
    /// # let certs = dev::generate()?;
    /// let config = ServerConfig::default().authenticator(SharedToken::new("ann", "a long random string")?);
    /// let server = VstpServer::bind_tcp_with("127.0.0.1:0", certs.server()?, config)?;
    /// let addr = server.local_addr();
    /// let handle = server.spawn_requests(|request: &Request<'_>, greeting: String| {
    ///     let name = request.identity().map(Identity::name).ok_or("nobody")?;
    ///     Ok::<_, String>(format!("{greeting}, {name}, by {}", request.transport()))
    /// })?;
    ///
    /// let config = TcpConfig::default().auth_token(Some("a long random string".into()));
    /// let mut client = VstpClient::connect_tcp_with(addr, &certs.client()?, config)?;
    /// let answer: String = client.call(&"hello")?;
    /// assert_eq!(answer, "hello, ann, by TCP");
    /// # client.close()?;
    /// # handle.shutdown(std::time::Duration::from_secs(1));
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn spawn_requests<T, R, E>(
        self,
        handler: impl Fn(&Request<'_>, T) -> Result<R, E> + Send + Sync + 'static,
    ) -> Result<ServerHandle, VstpError>
    where
        T: DeserializeOwned,
        R: Serialize,
        E: Into<HandlerError>,
    {
        let answer = move |peer: DualPeer<'_>, frame: &Frame| answer(&handler, peer, frame);
        Ok(match self.server {
            Server::Tcp(server) => server
                .spawn(move |session: &Session, frame: Frame| {
                    answer(DualPeer::by_tcp(session), &frame)
                })?
                .into(),
            Server::Udp(server) => server
                .spawn(move |peer: &UdpPeer, frame: Frame| answer(DualPeer::by_udp(peer), &frame))?
                .into(),
            Server::Dual(server) => server
                .spawn(move |peer: &DualPeer<'_>, frame: Frame| answer(*peer, &frame))?
                .into(),
        })
    }
}

fn answer<T, R, E>(
    handler: impl Fn(&Request<'_>, T) -> Result<R, E>,
    peer: DualPeer<'_>,
    frame: &Frame,
) -> Result<Frame, HandlerError>
where
    T: DeserializeOwned,
    R: Serialize,
    E: Into<HandlerError>,
{
    let message = message::decode(frame).map_err(|e| failed(ErrorCode::BadRequest, &e))?;
    let answer = handler(&Request::new(peer, frame), message).map_err(Into::into)?;
    message::encode(&answer).map_err(|error| failed(ErrorCode::Handler, &error))
}

/// What serde says, which is what the client can use.
fn failed(code: ErrorCode, error: &VstpError) -> HandlerError {
    let text = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    HandlerError::new(code, text)
}

/// The certificate for development, for loopback addresses only; elsewhere `instead` is to be called.
fn on_loopback(addr: &Address, instead: &str) -> Result<TlsServerConfig, VstpError> {
    if addr.is_loopback() {
        return development();
    }
    Err(VstpError::config(
        "tls",
        format!(
            "{addr} is not a loopback address, so it needs a certificate: use {instead} and \
             TlsServerConfig::builder().pem_files(\"cert.pem\", \"key.pem\")"
        ),
    ))
}

#[cfg(feature = "dev-certs")]
fn development() -> Result<TlsServerConfig, VstpError> {
    crate::net::tls::dev::server()
}

#[cfg(not(feature = "dev-certs"))]
fn development() -> Result<TlsServerConfig, VstpError> {
    Err(VstpError::config(
        "tls",
        "no certificate: enable the feature `dev-certs` for one made on the spot, or use \
         bind_tcp_with and TlsServerConfig::builder().pem_files(\"cert.pem\", \"key.pem\")",
    ))
}
