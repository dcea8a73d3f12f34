//! The settings of a server.

use super::slow::{OnSlow, SlowHandler};
use crate::error::VstpError;
use crate::ext::{CompressionConfig, ExtensionRegistry};
use crate::net::identity::Authentication;
use crate::net::tcp::TcpConfig;
use crate::net::udp::SealedSessions;
use crate::proto::rate::RateLimit;
use std::sync::Arc;
use std::time::Duration;

/// Settings of a server: those of each connection, and what all of them together may take.
///
/// # Example
/// ```
/// use vstp::serve::ServerConfig;
/// let config = ServerConfig::default().max_connections(200).max_per_address(20);
/// assert!(config.validate().is_ok());
/// assert!(ServerConfig::default().max_connections(0).validate().is_err());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    pub(crate) tcp: TcpConfig,
    pub(crate) sealed_sessions: Option<SealedSessions>,
    pub(crate) max_connections: usize,
    pub(crate) max_per_address: usize,
    pub(crate) max_handshakes: usize,
    pub(crate) new_per_address: Option<(u32, Duration)>,
    pub(crate) rate_limit_per_address: Option<RateLimit>,
    pub(crate) max_receive_memory: usize,
    pub(crate) concurrency: usize,
    pub(crate) max_handler_threads: usize,
    pub(crate) handler_warn: Duration,
    pub(super) on_slow_handler: Option<OnSlow>,
    pub(crate) backlog: u16,
    pub(crate) stack_size: usize,
    pub(super) authentication: Option<Authentication>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            tcp: TcpConfig::default(),
            sealed_sessions: None,
            max_connections: 1024,
            max_per_address: 64,
            max_handshakes: 128,
            new_per_address: None,
            rate_limit_per_address: None,
            max_receive_memory: 512 * 1024 * 1024,
            concurrency: 1,
            max_handler_threads: 256,
            handler_warn: Duration::from_secs(30),
            on_slow_handler: None,
            backlog: 1024,
            stack_size: 256 * 1024,
            authentication: None,
        }
    }
}

impl ServerConfig {
    /// The settings of each connection.
    #[must_use]
    pub fn tcp(mut self, tcp: TcpConfig) -> Self {
        self.tcp = tcp;
        self
    }

    /// Lets clients with a TLS session open a session of sealed datagrams with the UDP server that has the
    /// same [`SealedSessions`]. Default: no. Plaintext connections never do.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn sealed_sessions(mut self, sessions: SealedSessions) -> Self {
        self.sealed_sessions = Some(sessions);
        self
    }

    /// As [`TcpConfig::compression`], for each connection; after [`tcp`](Self::tcp), which replaces it.
    #[must_use]
    pub fn compression(mut self, compression: CompressionConfig) -> Self {
        self.tcp = self.tcp.compression(compression);
        self
    }

    /// As [`TcpConfig::extensions`], for each connection; after [`tcp`](Self::tcp), which replaces it.
    #[must_use]
    pub fn extensions(mut self, extensions: impl Into<Arc<ExtensionRegistry>>) -> Self {
        self.tcp = self.tcp.extensions(extensions);
        self
    }

    /// Connections at once, each with a worker thread. Default: 1,024. Further clients wait in the
    /// system's backlog until one ends.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count;
        self
    }

    /// Connections at once from one address; an IPv6 /64 counts as one. Default: 64. Further ones
    /// are closed at once.
    #[must_use]
    pub fn max_per_address(mut self, count: usize) -> Self {
        self.max_per_address = count;
        self
    }

    /// Handshakes at once. Default: 128. They are what a stranger can make expensive, so clients
    /// beyond it wait in the system's backlog.
    #[must_use]
    pub fn max_handshakes(mut self, count: usize) -> Self {
        self.max_handshakes = count;
        self
    }

    /// New connections from one address in a span of time. Default: no limit.
    #[must_use]
    pub fn new_per_address(mut self, limit: Option<(u32, Duration)>) -> Self {
        self.new_per_address = limit;
        self
    }

    /// Receive buffers of all connections together (bytes), beyond 64 KiB for each. Default: 512 MiB.
    /// A connection that would exceed it reads on when others have given some back.
    #[must_use]
    pub fn max_receive_memory(mut self, len: usize) -> Self {
        self.max_receive_memory = len;
        self
    }

    /// Requests of one connection that are handled at once. Default: 1, on the connection's own thread,
    /// in order.
    ///
    /// With more, requests with a `correlation-id` are handled on other threads (`vstp-handler-N`) and
    /// answered as they get ready, so a slow one holds up no other of its connection; a connection with
    /// so many of them is not read on until one is answered. Messages without a `correlation-id` are
    /// handled as before, one after another in order: nobody could tell their answers apart.
    ///
    /// # Example
    /// ```
    /// use vstp::serve::ServerConfig;
    /// let config = ServerConfig::default().concurrency(16);
    /// assert!(config.validate().is_ok());
    /// ```
    #[must_use]
    pub fn concurrency(mut self, count: usize) -> Self {
        self.concurrency = count;
        self
    }

    /// Threads for [`concurrency`](Self::concurrency), of all connections together. Default: 256. While
    /// all are busy, a connection handles its requests itself, one after another.
    #[must_use]
    pub fn max_handler_threads(mut self, count: usize) -> Self {
        self.max_handler_threads = count;
        self
    }

    /// How long a handler may run before it counts as slow in
    /// [`ServerStats`](super::stats::ServerStats). Default: 30 s. Nothing is done about it: a thread
    /// cannot be ended from outside.
    #[must_use]
    pub fn handler_warn(mut self, time: Duration) -> Self {
        self.handler_warn = time;
        self
    }

    /// What to call for a handler that has been running for longer than
    /// [`handler_warn`](Self::handler_warn): once for each call of the handler, soon after that time
    /// (a second later at most). Default: nothing.
    ///
    /// It runs on a thread of its own (`vstp-watch`), one call after another, so it may block without
    /// holding up a handler or a client; those that come later are told of later. A panic in it is
    /// caught and logged.
    ///
    /// # Example
    /// ```
    /// use vstp::serve::{ServerConfig, SlowHandler};
    /// let config = ServerConfig::default().on_slow_handler(|slow: &SlowHandler| {
    ///     eprintln!("{}: a handler runs for {:?}", slow.peer_addr, slow.elapsed);
    /// });
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn on_slow_handler(mut self, call: impl Fn(&SlowHandler) + Send + Sync + 'static) -> Self {
        self.on_slow_handler = Some(OnSlow(Arc::new(call)));
        self
    }

    /// Connections that the system keeps waiting. Default: 1,024.
    #[must_use]
    pub fn backlog(mut self, count: u16) -> Self {
        self.backlog = count;
        self
    }

    /// Stack of a worker thread (bytes of address space; memory is used as it is touched).
    /// Default: 256 KiB; handlers that recurse deeply or keep large arrays need more. With compression each
    /// has 512 KiB more.
    #[must_use]
    pub fn stack_size(mut self, len: usize) -> Self {
        self.stack_size = len;
        self
    }

    /// What recognises clients by their HELLO, before any handler runs. Default: nothing, everybody is
    /// served. With one, a stream must begin with HELLO in plaintext too.
    ///
    /// Takes an [`Authenticator`](crate::net::identity::Authenticator), or one with its
    /// [settings](Authentication).
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use vstp::net::identity::{Authentication, SharedToken};
    /// use vstp::serve::ServerConfig;
    /// let token = SharedToken::new("sensors", "a long random string")?;
    /// let config = ServerConfig::default().authenticator(token.clone());
    /// let slow = Authentication::new(token).timeout(Duration::from_secs(1)).workers(16);
    /// let config = config.authenticator(slow);
    /// # let _ = config;
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    #[must_use]
    pub fn authenticator(mut self, authentication: impl Into<Authentication>) -> Self {
        self.authentication = Some(authentication.into());
        self
    }

    /// How much one connection may send. Default: no limit. One that sends more is read more slowly:
    /// nothing is lost, and others do not notice.
    ///
    /// # Example
    /// ```
    /// use vstp::proto::rate::RateLimit;
    /// use vstp::serve::ServerConfig;
    /// let limit = RateLimit::default().frames(100, 200).bytes(1 << 20, 4 << 20);
    /// let config = ServerConfig::default().rate_limit(Some(limit));
    /// assert!(config.validate().is_ok());
    /// ```
    #[must_use]
    pub fn rate_limit(mut self, limit: Option<RateLimit>) -> Self {
        self.tcp.rate_limit = limit;
        self
    }

    /// How much all connections of one address may send together, whichever of them sends it; an IPv6 /64
    /// counts as one. Default: no limit. It may be there beside [`rate_limit`](Self::rate_limit): a connection
    /// waits for both. What an address has sent counts on its next connection as well, as long as it is among
    /// the 65,536 that sent last; whatever it is, the next message waits for a minute at most. Over TCP;
    /// datagrams have [`UdpConfig::rate_limit`](crate::net::udp::UdpConfig::rate_limit).
    ///
    /// Clients behind one NAT have one address, so it is to be much wider than that of one connection.
    ///
    /// # Example
    /// ```
    /// use vstp::proto::rate::RateLimit;
    /// use vstp::serve::ServerConfig;
    /// let limit = RateLimit::default().frames(1000, 2000);
    /// let config = ServerConfig::default().rate_limit_per_address(Some(limit));
    /// assert!(config.validate().is_ok());
    /// ```
    #[must_use]
    pub fn rate_limit_per_address(mut self, limit: Option<RateLimit>) -> Self {
        self.rate_limit_per_address = limit;
        self
    }

    /// Checks what a setter cannot. `bind` calls it.
    ///
    /// # Errors
    /// [`VstpError::Config`] with the setting and what to do.
    pub fn validate(&self) -> Result<(), VstpError> {
        for (setting, count) in [
            ("max_connections", self.max_connections),
            ("max_per_address", self.max_per_address),
            ("max_handshakes", self.max_handshakes),
            ("concurrency", self.concurrency),
            ("max_handler_threads", self.max_handler_threads),
        ] {
            if count == 0 {
                return Err(VstpError::config(setting, "zero would serve nobody"));
            }
        }
        if self.stack_size < 64 * 1024 {
            return Err(VstpError::config(
                "stack_size",
                "a TLS handshake needs 64 KiB or more",
            ));
        }
        if let Some(authentication) = &self.authentication {
            authentication.validate()?;
        }
        for (setting, limit) in [
            ("rate_limit", self.tcp.rate_limit),
            ("rate_limit_per_address", self.rate_limit_per_address),
        ] {
            if let Some(Err(reason)) = limit.map(|limit| limit.check()) {
                return Err(VstpError::config(setting, reason));
            }
        }
        self.tcp.validate()
    }
}
