//! The two halves of a connection, for two threads.

use super::feed::Feed;
use super::keeper::Keeper;
use super::reader::Reader;
use super::sender::Sender;
use super::shared::{Life, Shared};
use super::stats::ConnectionStats;
use crate::error::VstpError;
use crate::net::clock;
use crate::wire::{Frame, FrameRef};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The half that receives. Reading also answers the peer's PINGs and acknowledges its messages, so
/// a connection needs somebody who reads.
#[derive(Debug)]
pub struct ConnectionReader {
    reader: Box<Reader>,
    inbox: VecDeque<Frame>,
    read_timeout: Option<Duration>,
    _life: Arc<Life>,
    _keeper: Option<Arc<Keeper>>,
}

impl ConnectionReader {
    pub(super) fn new(
        reader: Box<Reader>,
        inbox: VecDeque<Frame>,
        read_timeout: Option<Duration>,
        life: Arc<Life>,
        keeper: Option<Arc<Keeper>>,
    ) -> Self {
        Self {
            reader,
            inbox,
            read_timeout,
            _life: life,
            _keeper: keeper,
        }
    }

    /// As [`VstpTcpConnection::recv`](super::VstpTcpConnection::recv).
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn recv(&mut self) -> Result<Option<Frame>, VstpError> {
        self.recv_until(self.read_timeout.and_then(clock::after))
    }

    /// As [`VstpTcpConnection::recv_timeout`](super::VstpTcpConnection::recv_timeout).
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Frame>, VstpError> {
        self.recv_until(clock::after(timeout))
    }

    /// As [`VstpTcpConnection::try_recv`](super::VstpTcpConnection::try_recv).
    ///
    /// # Errors
    /// As there.
    pub fn try_recv(&mut self) -> Result<Option<Frame>, VstpError> {
        self.recv_until(Some(clock::now()))
    }

    fn recv_until(&mut self, until: Option<Instant>) -> Result<Option<Frame>, VstpError> {
        loop {
            let frame = match self.inbox.pop_front() {
                Some(frame) => frame,
                None if self.reader.next_frame(until)? => self.reader.take(),
                None => return Ok(None),
            };
            if let Some(frame) = self.reader.deliver(frame)? {
                return Ok(Some(frame));
            }
        }
    }

    /// As [`VstpTcpConnection::recv_ref`](super::VstpTcpConnection::recv_ref).
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn recv_ref(&mut self) -> Result<Option<FrameRef<'_>>, VstpError> {
        let until = self.read_timeout.and_then(clock::after);
        if !self.inbox.is_empty() || self.reader.has_extensions() {
            let Some(frame) = self.recv_until(until)? else {
                return Ok(None);
            };
            self.reader.lend(frame);
            return Ok(Some(self.reader.frame()));
        }
        Ok(self.reader.next_frame(until)?.then(|| self.reader.frame()))
    }

    /// [`recv`](Self::recv) into a frame that was used before, whose memory is used again: nothing is
    /// allocated for messages that fit it. `false` is the end of the session, and leaves the frame as it is.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn recv_into(&mut self, frame: &mut Frame) -> Result<bool, VstpError> {
        let received = self.recv_ref()?;
        if let Some(received) = received {
            frame.assign(received);
        }
        Ok(received.is_some())
    }
}

/// The half that sends.
#[derive(Debug)]
pub struct ConnectionWriter {
    shared: Arc<Shared>,
    feed: Feed,
    close_timeout: Duration,
    _life: Arc<Life>,
    _keeper: Option<Arc<Keeper>>,
}

impl ConnectionWriter {
    pub(super) fn new(
        shared: Arc<Shared>,
        feed: Feed,
        close_timeout: Duration,
        life: Arc<Life>,
        keeper: Option<Arc<Keeper>>,
    ) -> Self {
        Self {
            shared,
            feed,
            close_timeout,
            _life: life,
            _keeper: keeper,
        }
    }

    /// As [`VstpTcpConnection::send`](super::VstpTcpConnection::send).
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn send<'a>(&mut self, frame: impl Into<FrameRef<'a>>) -> Result<(), VstpError> {
        self.feed.flush()?;
        self.shared.send(frame.into())
    }

    /// As [`VstpTcpConnection::feed`](super::VstpTcpConnection::feed).
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn feed<'a>(&mut self, frame: impl Into<FrameRef<'a>>) -> Result<(), VstpError> {
        self.feed.feed(frame.into())
    }

    /// As [`VstpTcpConnection::flush`](super::VstpTcpConnection::flush).
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn flush(&mut self) -> Result<(), VstpError> {
        self.feed.flush()
    }

    /// As [`VstpTcpConnection::sender`](super::VstpTcpConnection::sender).
    ///
    /// # Errors
    /// As there.
    pub fn sender(&self) -> Result<Sender, VstpError> {
        Sender::new(&self.shared)
    }

    /// Sends what was fed and says goodbye. The reader goes on until the peer has answered.
    ///
    /// # Blocking
    /// As [`send`](Self::send), at most the close timeout.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn close(mut self) -> Result<(), VstpError> {
        self.feed.flush()?;
        self.shared.say_bye(clock::after(self.close_timeout))
    }

    /// What the connection has carried so far, in both directions.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.shared.stats()
    }
}
