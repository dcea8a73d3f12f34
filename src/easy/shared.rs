//! [`SharedClient`]: typed calls of many threads over one connection.

use super::call::{ask, read};
use super::connector::Connector;
use crate::error::VstpError;
use crate::net::CallError;
use crate::net::tcp::SharedTcpClient;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A client that many threads use at once: clones share one connection.
///
/// See [`SharedTcpClient`], which is underneath. It does not connect again; a
/// [`ReconnectingClient`](super::ReconnectingClient) does.
///
/// # Example
/// ```
/// use vstp::easy::{Connector, SharedClient, VstpServer};
/// use vstp::net::tcp::TcpConfig;
/// use vstp::serve::ServerConfig;
/// // Up to 16 requests of a connection at once.
/// let config = ServerConfig::default().concurrency(16);
/// let server = VstpServer::bind_tcp_plain("127.0.0.1:0", config)?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|n: u64| Ok::<_, String>(n * n))?;
///
/// let client = SharedClient::connect(&Connector::plain(addr, TcpConfig::default())?)?;
/// std::thread::scope(|scope| {
///     for n in 0..4 {
///         let client = client.clone();
///         scope.spawn(move || {
///             let square: u64 = client.call(&n).expect("the server answers");
///             assert_eq!(square, n * n);
///         });
///     }
/// });
/// client.close()?;
/// handle.shutdown(std::time::Duration::from_secs(1));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SharedClient {
    client: SharedTcpClient,
}

impl SharedClient {
    /// Connects.
    ///
    /// # Blocking
    /// As [`Connector::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(connector: &Connector) -> Result<Self, VstpError> {
        Ok(Self {
            client: SharedTcpClient::new(connector.connect_tcp()?),
        })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Blocking
    /// As [`SharedTcpClient::call`].
    ///
    /// # Errors
    /// As there, and `Serialization` (not sent) and `Deserialization`.
    pub fn call<R: DeserializeOwned>(
        &self,
        request: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        read(&self.client.call(&ask(request)?)?)
    }

    /// [`call`](Self::call) for at most this long.
    ///
    /// # Blocking
    /// As there, with this timeout.
    ///
    /// # Errors
    /// As there.
    pub fn call_timeout<R: DeserializeOwned>(
        &self,
        request: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<R, CallError> {
        read(&self.client.call_timeout(&ask(request)?, timeout)?)
    }

    /// The client underneath: frames, statistics, PING.
    #[must_use]
    pub const fn tcp(&self) -> &SharedTcpClient {
        &self.client
    }

    /// Ends the connection for all clones.
    ///
    /// # Blocking
    /// As [`SharedTcpClient::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<(), VstpError> {
        self.client.close()
    }
}

impl From<SharedTcpClient> for SharedClient {
    fn from(client: SharedTcpClient) -> Self {
        Self { client }
    }
}
