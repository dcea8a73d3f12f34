//! [`VstpUdpServer`]: frames from many addresses over one UDP socket, to a handler on worker threads.

mod handle;
mod peer;
mod serving;
mod worker;

pub use handle::UdpServerHandle;
pub use peer::UdpPeer;

use super::gate::Gate;
use super::reply::IntoReply;
use crate::error::{TimeoutKind, VstpError};
use crate::net::addr::ToAddress;
use crate::net::clock;
use crate::net::identity::Identity;
use crate::net::meter::Meter;
use crate::net::udp::driver::Driver;
use crate::net::udp::running::Running;
use crate::net::udp::{Delivery, UdpConfig, UdpStats, resolve_first};
use crate::wire::Frame;
use serving::Unserved;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use worker::{Work, spawn_workers};

/// A server for frames in datagrams. They are not encrypted, but for those of
/// [sealed sessions](crate::net::udp::SealedSessions).
///
/// Use it in one of two ways: [`run`](Self::run) or [`spawn`](Self::spawn) with a handler, or
/// [`recv`](Self::recv) and [`send`](Self::send) in a loop of your own.
#[derive(Debug)]
pub struct VstpUdpServer {
    unserved: Unserved,
    workers: usize,
    acknowledged_answers: bool,
}

impl VstpUdpServer {
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
        let metrics = config.own_meter().metrics();
        if let Some(authentication) = config.authentication.take() {
            // Nobody waits for a decision in a thread, so nobody needs to know of the server's end.
            config.judge = Some(Gate::start(&authentication, &metrics, || false)?);
        }
        let addr = resolve_first(addr, config.endpoint.handshake_timeout)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            unserved: Unserved::new(Running::start(addr, config, true)?),
            workers: (4 * cores).min(64),
            acknowledged_answers: false,
        })
    }

    /// Threads that run the handler. Default: four per core, at most 64.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count.max(1);
        self
    }

    /// Whether an answer to a request with a `correlation-id` is sent, in a session, until the client has
    /// acknowledged it. Default: no, each answer is sent once. Sent once in either case are errors, which
    /// are never acknowledged, and answers that find the send queue full: no client makes workers wait.
    #[must_use]
    pub const fn acknowledged_answers(mut self, on: bool) -> Self {
        self.acknowledged_answers = on;
        self
    }

    fn driver(&self) -> &Arc<Driver> {
        &self.unserved.serving().running.driver
    }

    /// A handle that shuts it down from another thread.
    #[must_use]
    pub fn handle(&self) -> UdpServerHandle {
        UdpServerHandle::new(Arc::clone(self.unserved.serving()))
    }

    /// The address that it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.driver().local_addr()
    }

    /// Who is at the other end of the session with this address, at a server with an
    /// [authenticator](UdpConfig::authenticator), or in a sealed session whose TLS server has one.
    #[must_use]
    pub fn identity(&self, of: SocketAddr) -> Option<Arc<Identity>> {
        self.driver().identity(of)
    }

    /// Waits for the next message, and where it came from.
    ///
    /// # Blocking
    /// Until then; at most for `read_timeout`, if that is configured.
    ///
    /// # Errors
    /// `Timeout(Recv)`, or `ConnectionClosed(Local)`. A bad datagram is never an error; it is counted
    /// in [`stats`](Self::stats).
    pub fn recv(&self) -> Result<(Frame, SocketAddr), VstpError> {
        let timeout = self.driver().read_timeout();
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

    fn recv_until(
        &self,
        until: Option<std::time::Instant>,
    ) -> Result<(Frame, SocketAddr), VstpError> {
        match self.driver().recv_message(until)? {
            Some(incoming) => Ok((incoming.frame, incoming.from)),
            None => Err(VstpError::Timeout(TimeoutKind::Recv)),
        }
    }

    /// Sends a frame once. To an address without a session at most three times the bytes that it sent
    /// in the last 30 s, so that nobody can turn this server on somebody else.
    ///
    /// # Blocking
    /// No longer than the system takes to accept the datagrams.
    ///
    /// # Errors
    /// `Encode`, `FrameTooLarge`, `Datagram`, or `ConnectionClosed(Local)`.
    pub fn send(&self, frame: &Frame, to: SocketAddr) -> Result<(), VstpError> {
        self.driver().send(frame, to)
    }

    /// Sends a frame, again and again until the peer has acknowledged it.
    ///
    /// # Blocking
    /// Until then; at most `delivery_timeout` without progress.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `Timeout(Ack)`, or `ConnectionClosed` or `Timeout(Idle)` when the
    /// session ended.
    pub fn send_with_ack(&self, frame: Frame, to: SocketAddr) -> Result<(), VstpError> {
        self.driver().send_with_ack(frame, to)
    }

    /// Begins what [`send_with_ack`](Self::send_with_ack) does and returns at once.
    ///
    /// # Blocking
    /// While the send queue is full.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn start_send(&self, frame: Frame, to: SocketAddr) -> Result<Delivery, VstpError> {
        Delivery::start(self.driver(), frame, to)
    }

    /// What the socket has done so far.
    #[must_use]
    pub fn stats(&self) -> UdpStats {
        self.driver().stats()
    }

    /// What counts for this socket.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        self.driver().meter()
    }

    /// Serves until a [handle](Self::handle) shuts it down.
    ///
    /// The handler gets each message with the [`UdpPeer`] that it came from. It may answer nothing
    /// (`()`), a frame, several (`Vec<Frame>`), or an error; see [`IntoReply`]. Answers are sent once
    /// unless [told otherwise](Self::acknowledged_answers), the request's `correlation-id` is copied to
    /// them. It runs on several threads at once.
    ///
    /// # Blocking
    /// Until the server is shut down.
    ///
    /// # Errors
    /// `Io` when the threads cannot be started.
    pub fn run<F, R>(self, handler: F) -> Result<(), VstpError>
    where
        F: Fn(&UdpPeer, Frame) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.spawn(handler)?.wait();
        Ok(())
    }

    /// Serves in the background.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use vstp::serve::UdpPeer;
    /// use vstp::{Frame, VstpUdpServer};
    /// let server = VstpUdpServer::bind("127.0.0.1:0")?;
    /// let handle = server.spawn(|peer: &UdpPeer, frame: Frame| {
    ///     println!("{} sent {} bytes", peer.peer_addr(), frame.payload.len());
    ///     frame
    /// })?;
    /// let report = handle.shutdown(Duration::from_secs(1));
    /// assert_eq!(report.stuck, 0);
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn spawn<F, R>(self, handler: F) -> Result<UdpServerHandle, VstpError>
    where
        F: Fn(&UdpPeer, Frame) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        let work = Work {
            handler: Box::new(move |peer, frame| handler(peer, frame).into_reply()),
            acknowledged_answers: self.acknowledged_answers,
        };
        let serving = self.unserved.begin();
        spawn_workers(&serving, self.workers, &Arc::new(work))?;
        Ok(UdpServerHandle::new(serving))
    }
}
