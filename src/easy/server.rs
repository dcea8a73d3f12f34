//! [`VstpServer`]: answers serde types with serde types.

use super::JSON;
use crate::error::VstpError;
use crate::net::addr::ToAddress;
use crate::net::tls::TlsServerConfig;
use crate::proto::{ErrorCode, keys};
use crate::serve::{HandlerError, ServerConfig, ServerHandle, Session, VstpTcpServer};
use crate::wire::Frame;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;

/// A server for typed messages: each connection has a thread, which calls the handler and sends
/// what it returns.
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
    server: VstpTcpServer,
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
        if !addr.is_loopback() {
            return Err(VstpError::config(
                "tls",
                format!(
                    "{addr} is not a loopback address, so it needs a certificate: use bind_tcp_with \
                     and TlsServerConfig::builder().pem_files(\"cert.pem\", \"key.pem\")"
                ),
            ));
        }
        Self::bind_tcp_with(addr, development()?, ServerConfig::default())
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
        Ok(Self {
            server: VstpTcpServer::bind_with(addr, tls, config)?,
        })
    }

    /// Listens in plaintext: everybody on the way can read and change the messages.
    ///
    /// # Errors
    /// As [`VstpTcpServer::bind_plain_with`].
    pub fn bind_tcp_plain(addr: impl ToAddress, config: ServerConfig) -> Result<Self, VstpError> {
        Ok(Self {
            server: VstpTcpServer::bind_plain_with(addr, config)?,
        })
    }

    /// The address that it listens at.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// A handle that shuts it down from another thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// Serves until it is shut down by a [`handle`](Self::handle).
    ///
    /// A message that is not a `T` is answered with ERR `bad-request`, an error of the handler with
    /// its text; either way the connection lives on if the request had a `correlation-id`, as those
    /// of [`VstpClient::call`](super::VstpClient::call) have.
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
        self.server
            .run(move |_: &Session, frame: Frame| answer(&handler, &frame))
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
        self.server
            .spawn(move |_: &Session, frame: Frame| answer(&handler, &frame))
    }
}

fn answer<T, R, E>(
    handler: impl Fn(T) -> Result<R, E>,
    request: &Frame,
) -> Result<Frame, HandlerError>
where
    T: DeserializeOwned,
    R: Serialize,
    E: Into<HandlerError>,
{
    let message = serde_json::from_slice(&request.payload)
        .map_err(|e| HandlerError::new(ErrorCode::BadRequest, e.to_string()))?;
    let answer = handler(message).map_err(Into::into)?;
    let payload = serde_json::to_vec(&answer)
        .map_err(|e| HandlerError::new(ErrorCode::Handler, e.to_string()))?;
    Ok(Frame::data(payload).with_header(keys::CONTENT_TYPE, JSON))
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
