//! [`VstpClient`]: sends and receives serde types.

use super::JSON;
use crate::error::{ClosedBy, VstpError};
use crate::net::addr::ToAddress;
use crate::net::tcp::{TcpConfig, VstpTcpClient};
use crate::net::tls::{TlsClientConfig, dev};
use crate::proto::keys;
use crate::wire::Frame;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::time::Duration;

/// A client for typed messages.
///
/// # Example
/// ```
/// use vstp::easy::{VstpClient, VstpServer};
/// let server = VstpServer::bind_tcp("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|name: String| Ok::<_, String>(format!("hello, {name}")))?;
///
/// let mut client = VstpClient::connect_tcp(addr)?;
/// let greeting: String = client.call(&"world")?;
/// assert_eq!(greeting, "hello, world");
/// client.close()?;
/// handle.shutdown(std::time::Duration::from_secs(1));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug)]
pub struct VstpClient {
    client: VstpTcpClient,
    next_correlation: u64,
    /// Frames that came while an answer was awaited.
    inbox: VecDeque<Frame>,
}

/// Frames kept while an answer is awaited; the oldest call to `receive` takes the oldest.
const INBOX_COUNT: usize = 64;

impl VstpClient {
    /// Connects with TLS 1.3: to a loopback address with the certificates for development, else
    /// with the public authorities as trust.
    ///
    /// # Blocking
    /// As [`VstpTcpClient::connect`].
    ///
    /// # Errors
    /// As there; and `Config` when there are no certificates for development yet.
    pub fn connect_tcp(addr: impl ToAddress) -> Result<Self, VstpError> {
        let addr = addr.to_address()?;
        let tls = if addr.is_loopback() {
            dev::client()?
        } else {
            TlsClientConfig::builder().build()?
        };
        Self::connect_tcp_with(addr, &tls, TcpConfig::default())
    }

    /// Connects with TLS 1.3 and these settings.
    ///
    /// # Blocking
    /// As [`VstpTcpClient::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect_tcp_with(
        addr: impl ToAddress,
        tls: &TlsClientConfig,
        config: TcpConfig,
    ) -> Result<Self, VstpError> {
        Ok(Self::new(VstpTcpClient::connect_with(addr, tls, config)?))
    }

    /// Connects in plaintext: everybody on the way can read and change the messages.
    ///
    /// # Blocking
    /// As [`VstpTcpClient::connect_plain`].
    ///
    /// # Errors
    /// As there.
    pub fn connect_tcp_plain(addr: impl ToAddress, config: TcpConfig) -> Result<Self, VstpError> {
        Ok(Self::new(VstpTcpClient::connect_plain_with(addr, config)?))
    }

    fn new(client: VstpTcpClient) -> Self {
        Self {
            client,
            next_correlation: 1,
            inbox: VecDeque::new(),
        }
    }

    /// Sends a message and does not wait for an answer.
    ///
    /// # Blocking
    /// Until the system has taken it; at most the write timeout.
    ///
    /// # Errors
    /// `Serialization`, and as [`VstpTcpConnection::send`](crate::net::tcp::VstpTcpConnection::send).
    pub fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), VstpError> {
        let frame = encode(message)?;
        self.client.send(&frame)
    }

    /// Sends a message and waits until the server has accepted it.
    ///
    /// # Blocking
    /// Until the acknowledgement; at most the timeout.
    ///
    /// # Errors
    /// `Serialization`, and as
    /// [`VstpTcpConnection::send_with_ack`](crate::net::tcp::VstpTcpConnection::send_with_ack).
    pub fn send_with_ack<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), VstpError> {
        let frame = encode(message)?;
        self.client.send_with_ack(frame)
    }

    /// Sends bytes as they are, without a `content-type`.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send), but `Serialization`.
    pub fn send_raw(&mut self, payload: &[u8]) -> Result<(), VstpError> {
        self.client.send_data(payload)
    }

    /// Waits for the next message.
    ///
    /// # Blocking
    /// Until a message is there; at most the timeout, if one was [set](Self::set_timeout).
    ///
    /// # Errors
    /// `Deserialization` when it is not a `T` (it is dropped), `ConnectionClosed` also at the
    /// orderly end, and as [`VstpTcpConnection::recv`](crate::net::tcp::VstpTcpConnection::recv).
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, VstpError> {
        decode(&self.receive_frame()?)
    }

    /// Waits for the next message and does not interpret it.
    ///
    /// # Blocking
    /// As [`receive`](Self::receive).
    ///
    /// # Errors
    /// As [`receive`](Self::receive), but `Deserialization`.
    pub fn receive_raw(&mut self) -> Result<Vec<u8>, VstpError> {
        Ok(self.receive_frame()?.payload)
    }

    fn receive_frame(&mut self) -> Result<Frame, VstpError> {
        if let Some(frame) = self.inbox.pop_front() {
            return Ok(frame);
        }
        self.client
            .recv()?
            .ok_or(VstpError::ConnectionClosed(ClosedBy::Peer(None)))
    }

    /// Sends a request and waits for its answer; other messages are kept for `receive`.
    ///
    /// # Blocking
    /// Until the answer came; at most the timeout (30 s by default).
    ///
    /// # Errors
    /// - `ServerError`: the server's handler failed; the connection stays usable.
    /// - `Timeout(Recv)`: no answer in time. One that comes later is dropped.
    /// - `Backpressure`: 64 other messages came first; `receive` them.
    /// - As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn call<R: DeserializeOwned>(
        &mut self,
        request: &(impl Serialize + ?Sized),
    ) -> Result<R, VstpError> {
        let id = self.next_correlation.to_string();
        self.next_correlation += 1;
        let frame = encode(request)?.with_header(keys::CORRELATION_ID, &id);
        self.client.send(&frame)?;
        let until = self.client.call_deadline();
        loop {
            let received = match self.client.recv_until(until) {
                Err(VstpError::ServerError(e)) if is_late(e.correlation_id.as_deref(), &id) => {
                    continue;
                }
                other => other?,
            };
            let frame = received.ok_or(VstpError::ConnectionClosed(ClosedBy::Peer(None)))?;
            match frame.header(keys::CORRELATION_ID) {
                Some(answered) if answered == id.as_bytes() => return decode(&frame),
                Some(answered) if is_late(Some(answered), &id) => {}
                _ if self.inbox.len() == INBOX_COUNT => return Err(VstpError::Backpressure),
                _ => self.inbox.push_back(frame),
            }
        }
    }

    /// How long `receive` and `call` wait. `None`: `receive` waits as long as the connection lives,
    /// `call` its 30 s.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.client.set_read_timeout(timeout);
        if let Some(timeout) = timeout {
            self.client.set_call_timeout(timeout);
        }
    }

    /// The client underneath: statistics, TLS facts, frames.
    #[must_use]
    pub fn tcp(&mut self) -> &mut VstpTcpClient {
        &mut self.client
    }

    /// Says goodbye and closes.
    ///
    /// # Blocking
    /// Until the server has said goodbye; at most the close timeout (10 s).
    ///
    /// # Errors
    /// As [`VstpTcpConnection::close`](crate::net::tcp::VstpTcpConnection::close).
    pub fn close(self) -> Result<(), VstpError> {
        self.client.close()
    }
}

/// Whether this answers an earlier call of ours, one that timed out.
fn is_late(answered: Option<&[u8]>, current: &str) -> bool {
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    match (answered.and_then(number), number(current.as_bytes())) {
        (Some(answered), Some(current)) => answered < current,
        _ => false,
    }
}

fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Frame, VstpError> {
    let payload = serde_json::to_vec(message).map_err(|e| VstpError::Serialization(Box::new(e)))?;
    Ok(Frame::data(payload).with_header(keys::CONTENT_TYPE, JSON))
}

fn decode<T: DeserializeOwned>(frame: &Frame) -> Result<T, VstpError> {
    serde_json::from_slice(&frame.payload).map_err(|e| VstpError::Deserialization(Box::new(e)))
}
