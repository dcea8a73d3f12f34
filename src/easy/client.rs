//! [`VstpClient`]: sends and receives serde types.

use super::link::Link;
use super::message::{decode, encode};
use crate::error::{RemoteError, TimeoutKind, VstpError};
use crate::net::CallError;
use crate::net::Meter;
use crate::net::auto::VstpAutoClient;
use crate::net::tcp::VstpTcpClient;
use crate::net::udp::{UdpSession, VstpUdpClient};
use crate::proto::auto::Via;
use crate::proto::keys;
use crate::wire::Frame;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
    link: Link,
    next_correlation: u64,
    /// What came while an answer was awaited: messages, and failures of other requests.
    inbox: VecDeque<Result<Frame, Box<RemoteError>>>,
    /// Nothing but calls was done on it, and each was answered.
    only_calls: bool,
}

/// Messages kept while an answer is awaited; the oldest call to `receive` takes the oldest.
const INBOX_COUNT: usize = 64;

impl VstpClient {
    pub(super) const fn new(link: Link) -> Self {
        Self {
            link,
            next_correlation: 1,
            inbox: VecDeque::new(),
            only_calls: true,
        }
    }

    /// Sends a message and does not wait for an answer. Over UDP it is sent once, and nobody knows
    /// whether it arrives.
    ///
    /// # Blocking
    /// Until the system has taken it; over TCP at most the write timeout.
    ///
    /// # Errors
    /// `Serialization`, and as [`VstpTcpConnection::send`](crate::net::tcp::VstpTcpConnection::send) or
    /// [`VstpUdpClient::send`]; over UDP also how the session ended, once it has.
    pub fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), VstpError> {
        self.send_via(message, Via::Auto)
    }

    /// [`send`](Self::send) by this transport, for a client of [both](Self::connect_auto).
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there, and `TransportUnavailable`.
    pub fn send_via<T: Serialize + ?Sized>(
        &mut self,
        message: &T,
        via: Via,
    ) -> Result<(), VstpError> {
        let frame = encode(message)?;
        self.only_calls = false;
        self.link.send(&frame, via)
    }

    /// Sends a message and waits until the server has accepted it.
    ///
    /// # Blocking
    /// Until the acknowledgement; at most the timeout. Over UDP, if none was [set](Self::set_timeout), at
    /// most `delivery_timeout` without progress.
    ///
    /// # Errors
    /// `Serialization`, and as
    /// [`VstpTcpConnection::send_with_ack`](crate::net::tcp::VstpTcpConnection::send_with_ack) or
    /// [`VstpUdpClient::send_with_ack`]. After `Timeout(Ack)` over UDP it is not sent again, but it may
    /// have arrived.
    pub fn send_with_ack<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), VstpError> {
        self.send_with_ack_via(message, Via::Auto)
    }

    /// [`send_with_ack`](Self::send_with_ack) by this transport, for a client of
    /// [both](Self::connect_auto).
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there, and `TransportUnavailable`.
    pub fn send_with_ack_via<T: Serialize + ?Sized>(
        &mut self,
        message: &T,
        via: Via,
    ) -> Result<(), VstpError> {
        let frame = encode(message)?;
        self.only_calls = false;
        self.link.send_with_ack(frame, via)
    }

    /// Sends bytes as they are, without a `content-type`.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send), but `Serialization`.
    pub fn send_raw(&mut self, payload: &[u8]) -> Result<(), VstpError> {
        self.only_calls = false;
        self.link.send_raw(payload)
    }

    /// Waits for the next message.
    ///
    /// # Blocking
    /// Until a message is there; at most the timeout, if one was [set](Self::set_timeout).
    ///
    /// # Errors
    /// `Deserialization` when it is not a `T` (it is dropped), `ConnectionClosed` also at the
    /// orderly end, `Timeout(Idle)` when the server is gone, and as
    /// [`VstpTcpConnection::recv`](crate::net::tcp::VstpTcpConnection::recv).
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
        if let Some(kept) = self.inbox.pop_front() {
            return kept.map_err(VstpError::ServerError);
        }
        let until = self.link.receive_deadline();
        loop {
            let received = self.link.receive(until);
            // All calls are over, so every answer to one is late.
            if !is_late(answered(&received), self.next_correlation) {
                return received;
            }
        }
    }

    /// Sends a request and waits for its answer; other messages are kept for `receive`. Over UDP the
    /// request is sent until it is acknowledged, and so is the answer of a
    /// [`VstpServer`](super::VstpServer); only its errors are sent once and can be lost.
    ///
    /// # Blocking
    /// Until the answer came; at most the timeout (30 s by default).
    ///
    /// # Errors
    /// - `ServerError`: the server's handler failed; the connection stays usable.
    /// - `Timeout(Recv)`: no answer in time. One that comes later is dropped.
    /// - `Timeout(Ack)`: over UDP, the server has not even accepted the request.
    /// - `Backpressure`: 64 other messages came first, and wait for `receive`. When they do so already,
    ///   nothing is sent.
    /// - As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn call<R: DeserializeOwned>(
        &mut self,
        request: &(impl Serialize + ?Sized),
    ) -> Result<R, VstpError> {
        self.call_via(request, Via::Auto)
    }

    /// [`call`](Self::call) by this transport, for a client of [both](Self::connect_auto).
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there, and `TransportUnavailable`.
    pub fn call_via<R: DeserializeOwned>(
        &mut self,
        request: &(impl Serialize + ?Sized),
        via: Via,
    ) -> Result<R, VstpError> {
        let until = self.link.call_deadline();
        let answer = self.call_frame(encode(request)?, via, until)?;
        decode(&answer)
    }

    /// One call, until then; an error says what became of the request.
    pub(super) fn call_frame(
        &mut self,
        request: Frame,
        via: Via,
        until: Option<Instant>,
    ) -> Result<Frame, CallError> {
        self.check_room().map_err(CallError::not_sent)?;
        let number = self.next_correlation;
        self.next_correlation += 1;
        let id = number.to_string();
        let frame = request.with_header(keys::CORRELATION_ID, &id);
        // Until it is answered; then it is as before.
        let was_only_calls = std::mem::take(&mut self.only_calls);
        let mut request = self.link.request(frame, via, until)?;
        loop {
            // Before the next one is taken, so that none is lost.
            let room = self.check_room();
            room.map_err(|error| CallError::new(request.sent(), error))?;
            let received = self.link.answer(&mut request);
            let whose = answered(&received);
            let is_mine = whose == Some(id.as_bytes());
            if is_late(whose, number) {
                continue;
            }
            match received {
                Ok(frame) if is_mine => {
                    self.only_calls = was_only_calls;
                    return Ok(frame);
                }
                Ok(frame) => self.inbox.push_back(Ok(frame)),
                // The failure of a request that was sent in another way.
                Err(VstpError::ServerError(e)) if !is_mine && e.correlation_id.is_some() => {
                    self.inbox.push_back(Err(e));
                }
                Err(error) => {
                    self.only_calls = was_only_calls && is_mine;
                    let sent = request.sent();
                    if error.is_timeout() {
                        request.give_up();
                    }
                    return Err(CallError::new(sent, error));
                }
            }
        }
    }

    /// Whether another caller may have it: nothing that was done on it can still be answered, and nothing
    /// that came is kept.
    pub(super) fn is_reusable(&self) -> bool {
        self.only_calls && self.inbox.is_empty()
    }

    /// Bytes received so far.
    pub(super) fn received_len(&self) -> u64 {
        match &self.link {
            Link::Tcp(client) => client.stats().bytes_received,
            Link::Udp(_) | Link::Auto(_) => 0,
        }
    }

    /// Looks, without waiting, whether the connection is alive and nothing has come on it.
    pub(super) fn is_quiet(&mut self) -> bool {
        match &mut self.link {
            Link::Tcp(client) => matches!(
                client.try_recv(),
                Err(VstpError::Timeout(TimeoutKind::Recv))
            ),
            Link::Udp(_) | Link::Auto(_) => true,
        }
    }

    fn check_room(&self) -> Result<(), VstpError> {
        if self.inbox.len() < INBOX_COUNT {
            return Ok(());
        }
        Err(VstpError::Backpressure)
    }

    /// How long `receive` and `call` wait. `None`: `receive` waits as long as the connection lives,
    /// `call` its 30 s.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.only_calls = false;
        self.link.set_timeout(timeout);
    }

    /// The client underneath, over TCP: statistics, TLS facts, frames.
    #[must_use]
    pub fn tcp(&mut self) -> Option<&mut VstpTcpClient> {
        self.only_calls = false;
        match &mut self.link {
            Link::Tcp(client) => Some(client),
            Link::Udp(_) | Link::Auto(_) => None,
        }
    }

    /// The socket underneath and the session on it, over UDP: statistics, the round-trip time. Messages
    /// that are received there do not come here.
    #[must_use]
    pub fn udp(&self) -> Option<(&VstpUdpClient, &UdpSession)> {
        match &self.link {
            Link::Tcp(_) | Link::Auto(_) => None,
            Link::Udp(link) => Some(link.parts()),
        }
    }

    /// The client underneath, over both transports: which there are, statistics, frames.
    #[must_use]
    pub fn auto(&self) -> Option<&VstpAutoClient> {
        match &self.link {
            Link::Tcp(_) | Link::Udp(_) => None,
            Link::Auto(link) => Some(&link.client),
        }
    }

    /// What counts for this client.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        self.link.meter()
    }

    /// Says goodbye and closes.
    ///
    /// # Blocking
    /// Until the server has said goodbye; at most the close timeout (10 s), over UDP 2 s.
    ///
    /// # Errors
    /// As [`VstpTcpConnection::close`](crate::net::tcp::VstpTcpConnection::close).
    pub fn close(self) -> Result<(), VstpError> {
        self.link.close()
    }
}

impl From<VstpTcpClient> for VstpClient {
    fn from(client: VstpTcpClient) -> Self {
        Self::new(Link::Tcp(Box::new(client)))
    }
}

/// The request that this answers, well or with an error.
fn answered(received: &Result<Frame, VstpError>) -> Option<&[u8]> {
    match received {
        Ok(frame) => frame.header(keys::CORRELATION_ID),
        Err(VstpError::ServerError(error)) => error.correlation_id.as_deref(),
        Err(_) => None,
    }
}

/// Whether this answers a call of ours before `current`, which then has timed out.
fn is_late(answered: Option<&[u8]>, current: u64) -> bool {
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    answered.and_then(number).is_some_and(|n| n < current)
}
