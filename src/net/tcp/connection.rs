//! [`VstpTcpConnection`]: an open session over TCP, of either side, for one thread.

use super::config::Timeouts;
use super::feed::Feed;
use super::keeper::Keeper;
use super::reader::{Next, Reader};
use super::sender::Sender;
use super::shared::{Life, Shared};
use super::split::{ConnectionReader, ConnectionWriter};
use super::stats::ConnectionStats;
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::metrics::Family;
#[cfg(all(feature = "tls", feature = "json"))]
use crate::net::call::CallError;
use crate::net::identity::Identity;
use crate::net::meter::Meter;
use crate::net::tls::PeerInfo;
use crate::net::{clock, random};
use crate::proto::keys::{self, Features};
use crate::wire::{Flags, Frame, FrameRef, FrameType};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Frames that may wait while an acknowledgement is awaited, and their bytes.
const INBOX_COUNT: usize = 64;
const INBOX_LEN: usize = 1024 * 1024;

/// A session over TCP, with TLS 1.3 or in plaintext.
///
/// One thread uses it. To read in one thread and write in another, [`split`](Self::split) it; to
/// send from many threads, take [`sender`](Self::sender)s.
///
/// Dropping it says goodbye as far as that goes without waiting, and closes the socket. What is
/// queued or fed but not flushed is lost then; [`close`](Self::close) waits.
#[derive(Debug)]
pub struct VstpTcpConnection {
    reader: Box<Reader>,
    feed: Feed,
    /// Frames that came while something else was awaited.
    inbox: VecDeque<Frame>,
    inbox_len: usize,
    next_msg_id: u64,
    timeouts: Timeouts,
    shared: Arc<Shared>,
    life: Arc<Life>,
    /// A client's keep-alive; servers have one for all.
    keeper: Option<Arc<Keeper>>,
}

impl VstpTcpConnection {
    pub(crate) fn new(
        reader: Box<Reader>,
        shared: Arc<Shared>,
        timeouts: Timeouts,
        keeper: Option<Keeper>,
    ) -> Self {
        Self {
            reader,
            feed: Feed::new(Arc::clone(&shared)),
            inbox: VecDeque::new(),
            inbox_len: 0,
            next_msg_id: random::first_msg_id(),
            timeouts,
            life: Arc::new(Life(Arc::clone(&shared))),
            shared,
            keeper: keeper.map(Arc::new),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    // Sending.

    /// Sends one frame, after what was fed.
    ///
    /// # Blocking
    /// Until the system has taken all of it; at most the write timeout.
    ///
    /// # Errors
    /// - `Encode`, `FrameTooLarge`: the frame cannot be sent; nothing was written.
    /// - `Timeout(Send)`: the peer does not read. If a part of the frame was written, nothing can be
    ///   sent any more, and later calls say `ConnectionClosed`; if frames of other threads were in
    ///   the way, nothing was written, and the call can be repeated. Receiving goes on.
    /// - `ConnectionClosed`: it is over.
    /// - `Extension`: an extension refused it; nothing was written.
    ///
    /// # Example
    /// ```
    /// # fn send(connection: &mut vstp::VstpTcpConnection) -> Result<(), vstp::VstpError> {
    /// let frame = vstp::Frame::data("hello").with_header("content-type", "text/plain");
    /// connection.send(&frame)
    /// # }
    /// ```
    pub fn send<'a>(&mut self, frame: impl Into<FrameRef<'a>>) -> Result<(), VstpError> {
        self.feed.flush()?;
        self.shared.send(frame.into())
    }

    /// Sends a request; an error says what became of it. It waits for other threads until `until` at most.
    #[cfg(all(feature = "tls", feature = "json"))]
    pub(crate) fn send_request(
        &mut self,
        frame: &Frame,
        until: Option<Instant>,
    ) -> Result<(), CallError> {
        self.feed.flush().map_err(CallError::not_sent)?;
        self.shared.send_request(frame.as_ref(), until)
    }

    /// Sends a DATA frame with this payload.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_data(&mut self, payload: &[u8]) -> Result<(), VstpError> {
        let frame = Frame::new(FrameType::Data);
        self.send(FrameRef {
            payload,
            ..frame.as_ref()
        })
    }

    /// Opens the session now, on a plaintext connection that was made without
    /// [`hello`](super::TcpConfig::hello); otherwise it is open already, and nothing is sent.
    ///
    /// # Blocking
    /// Until the server's WELCOME; at most the handshake timeout.
    ///
    /// # Errors
    /// As [`send_with_ack`](Self::send_with_ack); `Timeout(Handshake)` when the server does not know
    /// HELLO.
    pub fn send_hello(&mut self) -> Result<(), VstpError> {
        let Some(hello) = self.reader.session().say_hello() else {
            return Ok(());
        };
        self.send(&hello)?;
        let until = clock::after(self.timeouts.handshake);
        self.wait_for(TimeoutKind::Handshake, until, |next, _| {
            *next == Next::Established
        })
    }

    /// Adds a frame to a batch, which leaves before it would exceed 64 KiB, or when it is [`flush`](Self::flush)ed.
    ///
    /// # Blocking
    /// Only when the batch is full, as [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send). The frame is then not in the batch; those before it still are, unless
    /// the connection is over.
    pub fn feed<'a>(&mut self, frame: impl Into<FrameRef<'a>>) -> Result<(), VstpError> {
        self.feed.feed(frame.into())
    }

    /// Sends what was fed.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn flush(&mut self) -> Result<(), VstpError> {
        self.feed.flush()
    }

    /// Sends several frames with as few system calls as possible.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send); the frames before the one refused have been sent.
    pub fn send_all<'a>(
        &mut self,
        frames: impl IntoIterator<Item = &'a Frame>,
    ) -> Result<(), VstpError> {
        let result = frames.into_iter().try_for_each(|frame| self.feed(frame));
        self.flush().and(result)
    }

    /// Sends a message and waits until the peer has accepted it into its queue.
    ///
    /// Sets REQ_ACK and a `msg-id` of its own. Frames that come meanwhile are kept for
    /// [`recv`](Self::recv).
    ///
    /// # Blocking
    /// Until the ACK came; at most the call timeout.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`recv`](Self::recv), and
    /// - `Timeout(Ack)`: whether the peer has the message is unknown.
    /// - `Backpressure`: 64 frames or 1 MiB came before the ACK; `recv` them first. Whether the
    ///   peer has the message is unknown.
    pub fn send_with_ack(&mut self, frame: Frame) -> Result<(), VstpError> {
        let outgoing = self.shared.outgoing(frame.as_ref())?;
        let Some(frame) = outgoing.of_owned(frame) else {
            return Ok(());
        };
        let msg_id = self.next_msg_id;
        self.next_msg_id += 1;
        let frame = frame
            .with_flag(Flags::REQ_ACK)
            .with_header(keys::MSG_ID, msg_id.to_string());
        self.feed.flush()?;
        self.shared.outbox.send(frame.as_ref())?;
        self.wait_for(TimeoutKind::Ack, self.call_deadline(), |next, _| {
            *next == Next::Acked(msg_id)
        })
    }

    /// Asks the peer for a sign of life and says how long it took.
    ///
    /// # Blocking
    /// Until PONG came; at most the call timeout.
    ///
    /// # Errors
    /// As [`send_with_ack`](Self::send_with_ack).
    pub fn ping(&mut self) -> Result<Duration, VstpError> {
        let token = random::u64().to_be_bytes();
        let began = clock::now();
        self.send(&Frame::new(FrameType::Ping).with_payload(token))?;
        self.wait_for(TimeoutKind::Recv, self.call_deadline(), |next, reader| {
            *next == Next::Pong && reader.frame().payload == token
        })?;
        let time = clock::now().saturating_duration_since(began);
        self.shared.meter.time(Family::RoundTrip, time);
        Ok(time)
    }

    /// Waits for `wanted` and keeps the frames that come before.
    fn wait_for(
        &mut self,
        kind: TimeoutKind,
        until: Option<Instant>,
        wanted: impl Fn(&Next, &Reader) -> bool,
    ) -> Result<(), VstpError> {
        loop {
            if self.inbox.len() >= INBOX_COUNT || self.inbox_len >= INBOX_LEN {
                return Err(VstpError::Backpressure);
            }
            match self.reader.next(until)? {
                next if wanted(&next, &self.reader) => return Ok(()),
                Next::Frame => {
                    let frame = self.reader.take();
                    self.inbox_len += frame.payload.len();
                    self.inbox.push_back(frame);
                }
                Next::End => return Err(self.closed()),
                // This side is shutting down.
                Next::Draining => return Err(VstpError::ConnectionClosed(ClosedBy::Local)),
                Next::TimedOut => return Err(VstpError::Timeout(kind)),
                Next::Hello(_) | Next::Established | Next::Acked(_) | Next::Pong => {}
            }
        }
    }

    fn closed(&self) -> VstpError {
        VstpError::ConnectionClosed(self.shared.outbox.closed().unwrap_or(ClosedBy::Peer(None)))
    }

    // Receiving.

    /// Waits for the next message: DATA, or a type of the application.
    ///
    /// `None` is the end of the session, in order: the peer said goodbye and no frame is missing.
    ///
    /// # Blocking
    /// Until a frame is there, the session ends, or the read timeout; a silent peer ends it by the
    /// idle timeout.
    ///
    /// # Errors
    /// - `Timeout(Recv)`: nothing came; call again, what has arrived of a frame is kept.
    /// - `ConnectionClosed`: the connection ended in another way; the reason says which.
    /// - `ServerError`: the peer reported an error. With a `correlation_id` it answers one request
    ///   and the session goes on.
    /// - `Extension`: an extension failed on a message, which is lost, and the session goes on.
    /// - Others: the peer broke the protocol, or time or the system did; the connection is over.
    pub fn recv(&mut self) -> Result<Option<Frame>, VstpError> {
        match self.timeouts.recv {
            None => self.recv_until(None),
            Some(timeout) => self.recv_timeout(timeout),
        }
    }

    /// [`recv`](Self::recv) for at most this long.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv), with this timeout.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Frame>, VstpError> {
        self.recv_until(clock::after(timeout))
    }

    /// [`recv`](Self::recv) without waiting: `Timeout(Recv)` when no frame is there.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<Frame>, VstpError> {
        self.recv_until(Some(clock::now()))
    }

    pub(crate) fn recv_until(
        &mut self,
        until: Option<Instant>,
    ) -> Result<Option<Frame>, VstpError> {
        loop {
            let frame = match self.inbox.pop_front() {
                Some(frame) => {
                    self.inbox_len -= frame.payload.len();
                    frame
                }
                None if self.reader.next_frame(until)? => self.reader.take(),
                None => return Ok(None),
            };
            if let Some(frame) = self.reader.deliver(frame)? {
                return Ok(Some(frame));
            }
        }
    }

    /// [`recv`](Self::recv) without a copy: the frame lies in the receive buffer.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_ref(&mut self) -> Result<Option<FrameRef<'_>>, VstpError> {
        let until = self.timeouts.recv.and_then(clock::after);
        if !self.inbox.is_empty() || self.shared.has_extensions() {
            let Some(frame) = self.recv_until(until)? else {
                return Ok(None);
            };
            self.reader.lend(frame);
            return Ok(Some(self.reader.frame()));
        }
        if !self.reader.next_frame(until)? {
            return Ok(None);
        }
        Ok(Some(self.reader.frame()))
    }

    /// [`recv`](Self::recv) into a frame that was used before, whose memory is used again: nothing is
    /// allocated for messages that fit it. `false` is the end of the session, and leaves the frame as it is.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Example
    /// ```
    /// # use vstp::{Frame, VstpTcpClient, VstpTcpServer};
    /// # let server = VstpTcpServer::bind_plain("127.0.0.1:0")?;
    /// # let addr = server.local_addr();
    /// # let handle = server.spawn(|_: &vstp::serve::Session, frame: Frame| frame)?;
    /// # let mut client = VstpTcpClient::connect_plain(addr)?;
    /// let mut frame = Frame::data("");
    /// for text in ["first", "second"] {
    ///     client.send(&Frame::data(text))?;
    ///     assert!(client.recv_into(&mut frame)?);
    ///     assert_eq!(frame.payload, text.as_bytes());
    /// }
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn recv_into(&mut self, frame: &mut Frame) -> Result<bool, VstpError> {
        let received = self.recv_ref()?;
        if let Some(received) = received {
            frame.assign(received);
        }
        Ok(received.is_some())
    }

    /// Waits as [`recv_until`](Self::recv_until), for the loop of a server.
    pub(crate) fn next(&mut self, until: Option<Instant>) -> Result<Next, VstpError> {
        self.reader.next(until)
    }

    pub(crate) fn take(&mut self) -> Frame {
        self.reader.take()
    }

    /// The frame that [`next`](Self::next) found, through the extensions; `None` when one of them has kept
    /// or answered it.
    pub(crate) fn deliver(&mut self) -> Result<Option<Frame>, VstpError> {
        let frame = self.reader.take();
        self.reader.deliver(frame)
    }

    /// The frame that [`next`](Self::next) found.
    pub(crate) fn frame(&self) -> FrameRef<'_> {
        self.reader.frame()
    }

    pub(crate) fn is_mid_frame(&self) -> bool {
        self.reader.is_mid_frame()
    }

    // Ending.

    /// Ends the session: sends what was fed, says goodbye, and waits for the peer's goodbye.
    ///
    /// Messages that the peer sent before its goodbye are dropped; to have them, use
    /// [`close_sending`](Self::close_sending) and `recv` until `None`.
    ///
    /// # Blocking
    /// Until the peer has said goodbye; at most the close timeout.
    ///
    /// # Errors
    /// - `Timeout(Shutdown)`: the peer did not answer; the socket is closed all the same.
    /// - As [`recv`](Self::recv), when it ended in another way before.
    pub fn close(mut self) -> Result<(), VstpError> {
        let until = clock::after(self.timeouts.close);
        self.close_sending()?;
        loop {
            let next = match self.reader.next(until) {
                // The answer to a request, and dropped like any other.
                Err(VstpError::ServerError(error)) if error.correlation_id.is_some() => continue,
                next => next?,
            };
            match next {
                Next::End | Next::Draining => return Ok(()),
                Next::TimedOut => return Err(VstpError::Timeout(TimeoutKind::Shutdown)),
                Next::Frame | Next::Hello(_) | Next::Established | Next::Acked(_) | Next::Pong => {}
            }
        }
    }

    /// Sends what was fed and says goodbye; the peer's remaining messages can still be received.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn close_sending(&mut self) -> Result<(), VstpError> {
        self.feed.flush()?;
        self.shared.say_bye(clock::after(self.timeouts.close))
    }

    /// Says goodbye for a server that goes away; `false` when the session has no goodbye, so that
    /// there is none to wait for either.
    pub(crate) fn say_bye_draining(&self) -> Result<bool, VstpError> {
        self.shared
            .say_bye_draining(clock::after(self.timeouts.close))?;
        Ok(self.shared.established().is_some_and(|e| e.has_hello()))
    }

    /// Ends the sending direction with this frame.
    pub(crate) fn finish_with(&mut self, last: &Frame) -> Result<(), VstpError> {
        self.reader.finish_with(last)
    }

    // Parts.

    /// Divides it into a half that reads and a half that writes, for two threads.
    ///
    /// The halves block independently, over TLS as over plaintext. Frames that
    /// [`send_with_ack`](Self::send_with_ack) kept go to the reader.
    #[must_use]
    pub fn split(self) -> (ConnectionReader, ConnectionWriter) {
        let Self {
            reader,
            feed,
            inbox,
            timeouts,
            shared,
            life,
            keeper,
            ..
        } = self;
        let timeout = timeouts.recv;
        let reader =
            ConnectionReader::new(reader, inbox, timeout, Arc::clone(&life), keeper.clone());
        (
            reader,
            ConnectionWriter::new(shared, feed, timeouts.close, life, keeper),
        )
    }

    /// A handle that queues frames from any thread, with back-pressure.
    ///
    /// # Errors
    /// `Io` when no thread for the queue can be started.
    pub fn sender(&self) -> Result<Sender, VstpError> {
        Sender::new(&self.shared)
    }

    /// A handle that ends the connection from any thread.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer(Arc::downgrade(&self.shared))
    }

    // Settings.

    /// How long [`recv`](Self::recv) waits from now on; see [`TcpConfig::read_timeout`](super::TcpConfig::read_timeout).
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.timeouts.recv = timeout;
    }

    /// How long calls that expect an answer wait from now on; see [`TcpConfig::call_timeout`](super::TcpConfig::call_timeout).
    pub fn set_call_timeout(&mut self, timeout: Duration) {
        self.timeouts.call = timeout;
    }

    /// When an answer is awaited no longer, for a call that begins now.
    pub(crate) fn call_deadline(&self) -> Option<Instant> {
        clock::after(self.timeouts.call)
    }

    /// How long calls wait for their answers, and `close` for the peer's goodbye.
    pub(crate) const fn timeouts(&self) -> (Duration, Duration) {
        (self.timeouts.call, self.timeouts.close)
    }

    // Facts.

    /// The number that the server gave the session; 0 on a plaintext session without HELLO at a
    /// client.
    #[must_use]
    pub fn session_id(&self) -> u128 {
        self.shared.established().map_or(0, |e| e.session_id)
    }

    /// The features that both sides have.
    #[must_use]
    pub fn features(&self) -> Features {
        self.shared
            .established()
            .map_or_else(Features::default, |e| e.features)
    }

    /// What TLS knows about the peer; `None` in plaintext.
    #[must_use]
    pub fn tls(&self) -> Option<&PeerInfo> {
        self.shared.tls.as_ref()
    }

    /// At a server with an [authenticator](crate::serve::ServerConfig::authenticator): who the client is.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.shared.identity.get()
    }

    /// The address of this end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// The address of the other end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.shared.peer_addr
    }

    /// What counts for it: of a client its own, of an accepted connection that of the server.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.shared.meter
    }

    /// What it has carried so far.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.shared.stats()
    }
}

/// Ends a connection at once, from any thread; does not keep it alive.
///
/// # Example
/// ```
/// # fn example(connection: vstp::VstpTcpConnection) {
/// let closer = connection.closer();
/// closer.close(); // a `recv` that waits in another thread returns `ConnectionClosed(Local)`
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Closer(std::sync::Weak<Shared>);

impl Closer {
    /// Ends it: every blocked call returns `ConnectionClosed(Local)`. Nothing more is sent.
    pub fn close(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.abort(ClosedBy::Local);
        }
    }
}
