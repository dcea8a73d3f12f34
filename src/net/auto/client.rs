//! [`VstpAutoClient`]: the calls.

use super::config::AutoConfig;
use super::inner::{Inner, is_past, wait};
use super::open::Protection;
use super::pending::PendingCall;
use super::state::{Ended, State, Udp};
use super::status::{FEATURE, Path, Transports, UdpStatus};
use super::threads;
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::net::addr::ToAddress;
use crate::net::meter::Meter;
use crate::net::tcp::{ConnectionStats, VstpTcpClient};
use crate::net::threads::Threads;
#[cfg(feature = "tls")]
use crate::net::tls::{PeerInfo, TlsClientConfig};
use crate::net::udp::{UdpStats, VstpUdpClient};
use crate::net::{clock, random};
use crate::proto::auto::{AutoSwitch, Transport, Via};
use crate::proto::keys::Features;
use crate::wire::Frame;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client over TCP and UDP at once. All calls take `&self`: share it between threads in an `Arc`.
///
/// Each message says which transport it takes, [`Via::Tcp`], [`Via::Udp`] or [`Via::Auto`]. What `Auto` takes
/// is decided by what PINGs on both measure ([`AutoSwitch`]). It begins with TCP, and takes UDP while that
/// answers markedly faster; the server must be a [`VstpDualServer`](crate::VstpDualServer).
///
/// An acknowledged message that `Auto` gave to UDP is sent over TCP when UDP fails before the acknowledgement,
/// and the server handles it once whichever arrives, or both. Messages that take different transports have no
/// order among them.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::proto::auto::Via;
/// use vstp::serve::DualPeer;
/// use vstp::{Frame, VstpAutoClient, VstpDualServer};
/// let server = VstpDualServer::bind_auto_plain("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|peer: &DualPeer<'_>, frame: Frame| {
///     Frame::data(format!("{} by {}", String::from_utf8_lossy(&frame.payload), peer.transport()))
/// })?;
///
/// let client = VstpAutoClient::connect_auto_plain(addr)?;
/// let answer = client.call(Frame::data("a request"), Via::Udp)?;
/// assert_eq!(answer.payload, b"a request by UDP");
/// client.send_with_ack(Frame::data("a message"), Via::Auto)?;
/// client.close()?;
/// handle.shutdown(Duration::from_secs(1));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug)]
pub struct VstpAutoClient {
    inner: Arc<Inner>,
    meter: Meter,
    /// Protects the list; taken out of it by whoever joins.
    threads: Threads,
}

impl VstpAutoClient {
    /// Connects to a server's TCP with TLS 1.3, and to its UDP with datagrams that are sealed with keys of the TLS
    /// session. A server that cannot do that is served over TCP alone, unless
    /// [`plaintext_udp`](AutoConfig::plaintext_udp) is set.
    ///
    /// # Blocking
    /// As [`VstpTcpClient::connect`], and for [`udp_wait`](AutoConfig::udp_wait) (1 s) while UDP does not
    /// answer.
    ///
    /// # Errors
    /// As [`VstpTcpClient::connect`]. Without UDP it is no error: [`transports`](Self::transports) tells.
    #[cfg(feature = "tls")]
    pub fn connect_auto(addr: impl ToAddress, tls: &TlsClientConfig) -> Result<Self, VstpError> {
        Self::connect_auto_with(addr, tls, AutoConfig::default())
    }

    /// [`connect_auto`](Self::connect_auto) with these settings.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there, and `Config`.
    #[cfg(feature = "tls")]
    pub fn connect_auto_with(
        addr: impl ToAddress,
        tls: &TlsClientConfig,
        config: AutoConfig,
    ) -> Result<Self, VstpError> {
        let config = offering(config)?;
        let client = VstpTcpClient::connect_with(addr, tls, config.tcp.clone())?;
        Self::start(client, config)
    }

    /// Connects in plaintext, over both: everybody on the way can read and change the frames.
    ///
    /// # Blocking
    /// As [`connect_auto`](Self::connect_auto).
    ///
    /// # Errors
    /// As [`VstpTcpClient::connect_plain`].
    pub fn connect_auto_plain(addr: impl ToAddress) -> Result<Self, VstpError> {
        Self::connect_auto_plain_with(addr, AutoConfig::default())
    }

    /// [`connect_auto_plain`](Self::connect_auto_plain) with these settings.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there, and `Config`.
    pub fn connect_auto_plain_with(
        addr: impl ToAddress,
        config: AutoConfig,
    ) -> Result<Self, VstpError> {
        let config = offering(config)?;
        let client = VstpTcpClient::connect_plain_with(addr, config.tcp.clone())?;
        Self::start(client, config)
    }

    fn start(client: VstpTcpClient, config: AutoConfig) -> Result<Self, VstpError> {
        let connection = client.into_connection();
        let tcp = Arc::clone(connection.shared());
        let udp_addr = config.udp_addr.unwrap_or_else(|| connection.peer_addr());
        let protection = Protection::of(&config, &tcp);
        let status = protection.as_ref().err().copied();
        let switch = AutoSwitch::new(config.switch.clone(), clock::now());
        let udp = Udp::None(status.unwrap_or(UdpStatus::Unreachable));
        let state = State::new(switch, udp, random::first_msg_id());
        let meter = config.tcp.meter.clone().unwrap_or_default();
        let names = (udp_addr, connection.session_id());
        let inner = Arc::new(Inner::new(config, tcp, names, state));
        let client = Self {
            inner: Arc::clone(&inner),
            meter,
            threads: Threads::default(),
        };
        client.spawn("vstp-auto-tcp", move |inner| {
            threads::read_tcp(inner, connection);
        })?;
        if let Ok(protection) = protection {
            client.spawn("vstp-auto-udp", |inner| {
                threads::read_udp(inner, protection);
            })?;
            client.spawn("vstp-auto-probe", threads::probe)?;
            let until = clock::after(inner.config.udp_wait);
            let mut state = inner.lock();
            while state.udp_awaited && !state.is_over() && !is_past(until) {
                state = wait(&inner.settled, state, until);
            }
        }
        Ok(client)
    }

    fn spawn(
        &self,
        name: &str,
        body: impl FnOnce(&Inner) + Send + 'static,
    ) -> Result<(), VstpError> {
        let inner = Arc::clone(&self.inner);
        self.threads.start(name, move || body(&inner))
    }

    // Sending.

    /// Sends a message. Over UDP, which `Auto` may take, it is sent once and nobody knows whether it arrives;
    /// over TCP it arrives as long as the session lives.
    ///
    /// # Blocking
    /// Until the system has taken it; over TCP at most the write timeout.
    ///
    /// # Errors
    /// - `TransportUnavailable`: it shall take UDP, and there is none.
    /// - `ConnectionClosed`: it is over.
    /// - As [`VstpTcpConnection::send`](crate::VstpTcpConnection::send) or
    ///   [`VstpUdpClient::send`](crate::VstpUdpClient::send).
    pub fn send(&self, frame: &Frame, via: Via) -> Result<(), VstpError> {
        self.inner.send(frame, via)
    }

    /// Sends a message and waits until the server has accepted it into its queue.
    ///
    /// With `Auto`, a message that was given to UDP is sent over TCP when UDP fails first; the server handles
    /// it once.
    ///
    /// # Blocking
    /// Until it is acknowledged; at most the call timeout (30 s).
    ///
    /// # Errors
    /// - `Timeout(Ack)`: whether the server has the message is unknown.
    /// - `Backpressure`: the same, and messages wait for [`recv`](Self::recv), behind which the
    ///   acknowledgement is.
    /// - As [`send`](Self::send).
    pub fn send_with_ack(&self, frame: Frame, via: Via) -> Result<(), VstpError> {
        let until = self.inner.call_deadline();
        self.inner.send_with_ack(frame, via, until)
    }

    /// Sends a request and waits for the frame with its `correlation-id`, which it gets unless it has one.
    /// Several threads may do so at once.
    ///
    /// With `Auto`, a request that was given to UDP is sent over TCP when UDP fails before the answer came; the
    /// server handles it once, and answers again.
    ///
    /// # Blocking
    /// Until the answer came; at most the call timeout (30 s).
    ///
    /// # Errors
    /// - `ServerError`: the handler failed. The client stays usable.
    /// - `Timeout(Recv)`: no answer in time. `Timeout(Ack)`: nor an acknowledgement of the request.
    /// - `Backpressure`: no answer in time, and messages wait for [`recv`](Self::recv).
    /// - As [`send`](Self::send).
    pub fn call(&self, frame: Frame, via: Via) -> Result<Frame, VstpError> {
        self.start_call(frame, via, self.inner.call_deadline())?
            .wait()
    }

    /// Sends a request.
    pub(crate) fn start_call(
        &self,
        frame: Frame,
        via: Via,
        until: Option<Instant>,
    ) -> Result<PendingCall, VstpError> {
        PendingCall::start(&self.inner, frame, via, until)
    }

    /// [`send_with_ack`](Self::send_with_ack) with a deadline.
    #[cfg(all(feature = "tls", feature = "json"))]
    pub(crate) fn send_with_ack_until(
        &self,
        frame: Frame,
        via: Via,
        until: Option<Instant>,
    ) -> Result<(), VstpError> {
        self.inner.send_with_ack(frame, via, until)
    }

    /// Until when a call that begins now waits.
    #[cfg(all(feature = "tls", feature = "json"))]
    pub(crate) fn call_deadline(&self) -> Option<Instant> {
        self.inner.call_deadline()
    }

    // Receiving.

    /// Waits for the next message on either transport, and says on which it came. `None` is the end of the
    /// session, in order.
    ///
    /// # Blocking
    /// Until then; at most the read timeout of TCP, if that is configured.
    ///
    /// # Errors
    /// - `Timeout(Recv)`: nothing came.
    /// - `ServerError`: the server reports an error. With a `correlation_id` the session goes on.
    /// - `Extension`: an extension failed on a message, which is lost, and the session goes on.
    /// - `ConnectionClosed`, and others as [`VstpTcpConnection::recv`](crate::VstpTcpConnection::recv): the
    ///   session is over.
    pub fn recv(&self) -> Result<Option<(Frame, Transport)>, VstpError> {
        let timeout = self.inner.config.tcp.read_timeout;
        self.recv_until(timeout.and_then(clock::after))
    }

    /// [`recv`](Self::recv) for at most this long.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<(Frame, Transport)>, VstpError> {
        self.recv_until(clock::after(timeout))
    }

    /// [`recv`](Self::recv) without waiting: `Timeout(Recv)` when nothing is there.
    ///
    /// # Errors
    /// As there.
    pub fn try_recv(&self) -> Result<Option<(Frame, Transport)>, VstpError> {
        self.recv_until(Some(clock::now()))
    }

    pub(crate) fn recv_until(
        &self,
        until: Option<Instant>,
    ) -> Result<Option<(Frame, Transport)>, VstpError> {
        let mut state = self.inner.lock();
        loop {
            if let Some(received) = state.pop() {
                drop(state);
                self.inner.room.notify_all();
                return received.map(Some);
            }
            match &mut state.ended {
                Some(Ended::Clean) => return Ok(None),
                Some(Ended::By(by, error)) => {
                    return Err(error.take().unwrap_or(VstpError::ConnectionClosed(*by)));
                }
                None if is_past(until) => return Err(VstpError::Timeout(TimeoutKind::Recv)),
                None => state = wait(&self.inner.arrived, state, until),
            }
        }
    }

    // Facts.

    /// Which transports there are, how they do, and which one `Auto` takes.
    #[must_use]
    pub fn transports(&self) -> Transports {
        let state = self.inner.lock();
        let path = |transport| Path {
            is_working: state.switch.is_working(transport),
            score: state.switch.score(transport),
            failures: state.switch.failures(transport),
        };
        Transports {
            current: state.switch.choose(0),
            tcp: path(Transport::Tcp),
            udp: path(Transport::Udp),
            udp_status: state.udp_status(),
            is_udp_sealed: state
                .udp_half()
                .is_some_and(|half| half.session.is_sealed()),
            switches: state.switch.switches(),
        }
    }

    /// The number of the session on TCP.
    #[must_use]
    pub fn session_id(&self) -> u128 {
        self.inner.session_id
    }

    /// The server's address, over TCP.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.inner.tcp.peer_addr
    }

    /// The features that both sides have, by what they said over TCP.
    #[must_use]
    pub fn features(&self) -> Features {
        let established = self.inner.tcp.established();
        established.map_or_else(Features::default, |e| e.features)
    }

    /// What TLS found out about the server; `None` in plaintext.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<&PeerInfo> {
        self.inner.tcp.tls.as_ref()
    }

    /// What counts for both transports together; over those that its [`AutoConfig`] names for TCP, or else for
    /// UDP.
    #[must_use]
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What TCP has carried so far.
    #[must_use]
    pub fn tcp_stats(&self) -> ConnectionStats {
        self.inner.tcp.stats()
    }

    /// What the UDP socket has done, while there is one.
    #[must_use]
    pub fn udp_stats(&self) -> Option<UdpStats> {
        let half = self.inner.lock().udp_half()?;
        Some(half.client.stats())
    }

    // Ending.

    /// Wakes everybody, and ends UDP.
    fn stop(&self, close: impl FnOnce(&VstpUdpClient)) {
        let mut state = self.inner.lock();
        state.closing = true;
        let udp = std::mem::replace(&mut state.udp, Udp::None(UdpStatus::Unreachable));
        drop(state);
        self.inner.wake_all();
        match udp {
            Udp::Open(half) => close(&half.client),
            Udp::Opening(client) => client.close_now(),
            Udp::None(_) => {}
        }
    }

    /// Ends the session: says goodbye on both transports, waits for the server's goodbye, closes the sockets.
    /// Messages that nobody received are dropped.
    ///
    /// # Blocking
    /// Until the server has said goodbye; at most the close timeout of TCP (10 s), and 2 s for UDP.
    ///
    /// # Errors
    /// `Timeout(Shutdown)` when the server did not answer, or how the session ended before. The sockets are
    /// closed all the same.
    pub fn close(self) -> Result<(), VstpError> {
        let inner = &self.inner;
        let until = clock::after(inner.config.tcp.close_timeout);
        self.stop(VstpUdpClient::close);
        let said = inner.tcp.say_bye(until);
        let mut state = inner.lock();
        loop {
            match &mut state.ended {
                // Both have said goodbye; what was in the middle of it when the socket closed is no error.
                Some(Ended::Clean) => return Ok(()),
                Some(Ended::By(ClosedBy::Local, None)) => return said,
                Some(Ended::By(by, error)) => {
                    return Err(error.take().unwrap_or(VstpError::ConnectionClosed(*by)));
                }
                None if is_past(until) => return Err(VstpError::Timeout(TimeoutKind::Shutdown)),
                None => state = wait(&inner.settled, state, until),
            }
        }
    }
}

/// Says goodbye as far as that goes without waiting, and joins the threads.
impl Drop for VstpAutoClient {
    fn drop(&mut self) {
        let inner = &self.inner;
        self.stop(VstpUdpClient::close_now);
        inner.tcp.hang_up();
        self.threads.join();
    }
}

/// The settings, checked, with what this client can do in HELLO.
fn offering(mut config: AutoConfig) -> Result<AutoConfig, VstpError> {
    config.validate()?;
    config.tcp.features = config.tcp.features.switched(FEATURE, true);
    config.tcp.sealed_datagrams = true;
    let above = config.tcp.meter.as_ref().or(config.udp.meter.as_ref());
    let meter = above.map_or_else(Meter::new, Meter::child);
    config.tcp.meter = Some(meter.clone());
    config.udp.meter = Some(meter);
    // Without HELLO there is no session that UDP could belong to.
    config.tcp.hello = true;
    Ok(config)
}
