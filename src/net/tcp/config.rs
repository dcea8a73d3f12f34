//! The settings of a TCP connection, of either side.

use super::memory::MemoryBudget;
use super::pace::AddressRates;
use crate::error::VstpError;
use crate::ext::{CompressionConfig, ExtensionRegistry, Pipeline};
use crate::net::event_log::EventLog;
use crate::net::identity::{Judge, MAX_TOKEN_LEN, TokenSource, check_token};
use crate::net::meter::Meter;
use crate::proto::deadline::FrameDeadline;
use crate::proto::keys::Features;
use crate::proto::rate::RateLimit;
use crate::wire::Limits;
use std::sync::Arc;
use std::time::Duration;

/// The smallest frame limit that may be announced (bytes, spec 3.2).
const MIN_FRAME_SIZE: usize = 1024;

/// Settings of a TCP connection; every limit is finite by default.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::net::tcp::TcpConfig;
/// let config = TcpConfig::default()
///     .max_frame_size(64 * 1024)
///     .read_timeout(Some(Duration::from_secs(5)));
/// assert!(config.validate().is_ok());
/// assert!(TcpConfig::default().max_frame_size(10).validate().is_err());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TcpConfig {
    pub(crate) limits: Limits,
    pub(crate) connect_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) call_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) frame_deadline: FrameDeadline,
    pub(crate) write_deadline: FrameDeadline,
    pub(crate) keepalive_interval: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) nodelay: bool,
    pub(crate) send_buffer_len: Option<usize>,
    pub(crate) recv_buffer_len: Option<usize>,
    pub(crate) spin: Duration,
    pub(crate) send_queue_count: usize,
    pub(crate) send_queue_len: usize,
    pub(crate) hello: bool,
    pub(crate) require_hello: bool,
    pub(crate) features: Features,
    pub(crate) auth_token: Option<TokenSource>,
    /// Whether datagrams may be sealed with keys of the TLS session.
    pub(crate) sealed_datagrams: bool,
    pub(crate) pipeline: Pipeline,
    /// Where the numbers are added up; of a connecting client its own.
    pub(crate) meter: Option<Meter>,
    pub(crate) event_log: Option<EventLog>,
    /// What the connections of a server share.
    pub(crate) memory: Option<Arc<MemoryBudget>>,
    /// A server's: what recognises clients, and how much one may send.
    pub(crate) judge: Option<Arc<dyn Judge>>,
    pub(crate) rate_limit: Option<RateLimit>,
    /// Server: what its connections share.
    pub(crate) address_rates: Option<Arc<AddressRates>>,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            read_timeout: None,
            call_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
            frame_deadline: FrameDeadline::reading(),
            write_deadline: FrameDeadline::writing(),
            keepalive_interval: Some(Duration::from_secs(20)),
            idle_timeout: Some(Duration::from_secs(60)),
            nodelay: true,
            send_buffer_len: None,
            recv_buffer_len: None,
            spin: Duration::ZERO,
            send_queue_count: 64,
            send_queue_len: 1024 * 1024,
            hello: true,
            require_hello: false,
            features: Features::default(),
            auth_token: None,
            sealed_datagrams: false,
            pipeline: Pipeline::default(),
            meter: None,
            event_log: None,
            memory: None,
            judge: None,
            rate_limit: None,
            address_rates: None,
        }
    }
}

impl TcpConfig {
    /// Largest frame accepted and announced to the peer, all parts counted (bytes). Default: 8 MiB.
    /// A connection holds at most about twice this in receive buffers, and only when it arrives.
    #[must_use]
    pub fn max_frame_size(mut self, len: usize) -> Self {
        self.limits.max_frame_len = len;
        self
    }

    /// Most headers of a frame. Default: 128.
    #[must_use]
    pub fn max_header_count(mut self, count: usize) -> Self {
        self.limits.max_header_count = count;
        self
    }

    /// Resolving and connecting together, over all addresses of the host. Default: 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// TLS handshake and HELLO/WELCOME together, however the peer spreads its bytes. Default: 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How long `recv` waits for a frame. Default: none, since a quiet peer is not a fault; one
    /// that is gone is found by the idle timeout. A `recv` that timed out can be repeated.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// How long calls that expect an answer wait for it. Default: 30 s.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How long `close` waits for the peer's goodbye. Default: 10 s.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// How long a frame may take to arrive once it began: `base`, and a second more for every 4 KiB,
    /// 300 s at most. Default: 10 s.
    #[must_use]
    pub fn frame_timeout(mut self, base: Duration) -> Self {
        self.frame_deadline.base = base;
        self
    }

    /// How long a write may take: `base`, and a second more for every 4 KiB, 300 s at most; this is
    /// how long a peer may not read. Default: 30 s.
    #[must_use]
    pub fn write_timeout(mut self, base: Duration) -> Self {
        self.write_deadline.base = base;
        self
    }

    /// Silence after which PING is sent. Default: 20 s.
    #[must_use]
    pub fn keepalive_interval(mut self, interval: Option<Duration>) -> Self {
        self.keepalive_interval = interval;
        self
    }

    /// Silence of the peer after which the connection ends. Default: 60 s.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Whether small writes leave at once (TCP_NODELAY). Default: yes; batching is done by
    /// [`feed`](super::VstpTcpConnection::feed), not by waiting.
    #[must_use]
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// The kernel's send and receive buffers (bytes). Default: the system's, which adapt.
    #[must_use]
    pub fn socket_buffers(mut self, send_len: Option<usize>, recv_len: Option<usize>) -> Self {
        self.send_buffer_len = send_len;
        self.recv_buffer_len = recv_len;
        self
    }

    /// How long a read polls before it sleeps. Default: zero. A few tens of microseconds save the
    /// wake-up on a busy request/response connection, at the cost of a core meanwhile (Unix only).
    #[must_use]
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// Bounds of the queue behind [`Sender`](super::Sender): frames, and bytes where each frame
    /// counts at least 256. Default: 64 frames, 1 MiB.
    #[must_use]
    pub fn send_queue(mut self, count: usize, len: usize) -> Self {
        self.send_queue_count = count;
        self.send_queue_len = len;
        self
    }

    /// Client on plaintext: whether to open a session with HELLO. Default: yes; no is for servers
    /// of `vstp` 0.2, which do not answer it.
    #[must_use]
    pub fn hello(mut self, hello: bool) -> Self {
        self.hello = hello;
        self
    }

    /// Server on plaintext: whether a stream must begin with HELLO. Default: no, so that clients of
    /// `vstp` 0.2 are served; on TLS it always must.
    #[must_use]
    pub fn require_hello(mut self, require: bool) -> Self {
        self.require_hello = require;
        self
    }

    /// The features offered in HELLO or WELCOME. Default: none.
    #[must_use]
    pub fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// Client: the token sent in HELLO, 1 to 3,072 bytes. Default: none. In plaintext everybody on the way
    /// can read it and use it.
    #[must_use]
    pub fn auth_token(mut self, token: Option<Vec<u8>>) -> Self {
        self.auth_token = token.map(|token| TokenSource::Fixed(token.into()));
        self
    }

    /// Client: makes the token sent in HELLO, for each connection its own, from a value that only the two
    /// ends of this TLS connection know (RFC 9266). A token that depends on it, as
    /// [`bound_token`](crate::net::identity::bound_token) does, is worth nothing on any other connection.
    /// Connecting in plaintext is an error then.
    ///
    /// # Example
    /// ```
    /// use vstp::net::identity::bound_token;
    /// use vstp::net::tcp::TcpConfig;
    /// let secret = b"a long random string";
    /// let config = TcpConfig::default()
    ///     .bound_auth_token(move |channel| bound_token(secret, channel).to_vec());
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn bound_auth_token(
        mut self,
        make: impl Fn(&[u8; 32]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.auth_token = Some(TokenSource::Bound(Arc::new(make)));
        self
    }

    /// Client: asks the server for keys of sealed datagrams, over TLS only; see
    /// [`VstpUdpClient::connect_sealed`](crate::VstpUdpClient::connect_sealed). Default: no. A server is told
    /// by [`ServerConfig::sealed_sessions`](crate::serve::ServerConfig::sealed_sessions).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn sealed_datagrams(mut self, on: bool) -> Self {
        self.sealed_datagrams = on;
        self
    }

    /// Offers compression (feature `gzip`), and compresses messages where the peer has it too. Default: off. See
    /// [`CompressionConfig`] for when not to; it needs the crate feature `compression`.
    #[must_use]
    pub fn compression(mut self, compression: CompressionConfig) -> Self {
        self.pipeline.compression = Some(compression);
        self
    }

    /// The extensions that messages pass. Default: none. An [`Arc`] shares one registry among many configurations.
    #[must_use]
    pub fn extensions(mut self, extensions: impl Into<Arc<ExtensionRegistry>>) -> Self {
        self.pipeline.extensions = Some(extensions.into());
        self
    }

    /// Where the numbers of a client or server are added up with those of others, or [`Meter::off`]. Default:
    /// nowhere but in its own [`Meter`].
    #[must_use]
    pub fn meter(mut self, meter: Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Where what happens on connections is written down: frames, round-trip times, how they ended. Default:
    /// nowhere. See [`EventLog`].
    #[must_use]
    pub fn event_log(mut self, log: EventLog) -> Self {
        self.event_log = Some(log);
        self
    }

    /// Checks what a setter cannot. `connect` and `bind` call it.
    ///
    /// # Errors
    /// [`VstpError::Config`] with the setting and what to do.
    pub fn validate(&self) -> Result<(), VstpError> {
        if self.limits.max_frame_len < MIN_FRAME_SIZE {
            return Err(VstpError::config(
                "max_frame_size",
                "must be at least 1,024 bytes",
            ));
        }
        let never_zero = [
            ("connect_timeout", Some(self.connect_timeout)),
            ("handshake_timeout", Some(self.handshake_timeout)),
            ("read_timeout", self.read_timeout),
            ("call_timeout", Some(self.call_timeout)),
            ("frame_timeout", Some(self.frame_deadline.base)),
            ("write_timeout", Some(self.write_deadline.base)),
            ("keepalive_interval", self.keepalive_interval),
            ("idle_timeout", self.idle_timeout),
        ];
        for (setting, value) in never_zero {
            if value.is_some_and(|value| value.is_zero()) {
                return Err(VstpError::config(
                    setting,
                    "zero would fail at once; give a time",
                ));
            }
        }
        if self.send_queue_count == 0 || self.send_queue_len == 0 {
            return Err(VstpError::config(
                "send_queue",
                "must hold at least one frame",
            ));
        }
        if let Some(TokenSource::Fixed(token)) = &self.auth_token {
            check_token(token.as_bytes(), MAX_TOKEN_LEN)?;
        }
        self.pipeline.validate(&self.features)
    }
}
/// How long the calls of a connection wait; a copy of its settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(super) handshake: Duration,
    pub(super) recv: Option<Duration>,
    pub(super) call: Duration,
    pub(super) close: Duration,
}

impl From<&TcpConfig> for Timeouts {
    fn from(config: &TcpConfig) -> Self {
        Self {
            handshake: config.handshake_timeout,
            recv: config.read_timeout,
            call: config.call_timeout,
            close: config.close_timeout,
        }
    }
}
