//! The settings of a UDP socket: those of the protocol, and those of the socket itself.

use super::sealed::SealedSessions;
use crate::error::VstpError;
use crate::ext::{CompressionConfig, ExtensionRegistry, Pipeline};
use crate::net::event_log::EventLog;
use crate::net::identity::{Authentication, Judge};
use crate::net::meter::Meter;
use crate::proto::datagram::{AnswerLimit, EndpointConfig};
use crate::proto::rate::RateLimit;
use std::sync::Arc;
use std::time::Duration;

/// Places of the receive queue that are allocated at the most.
const MAX_RECV_QUEUE_COUNT: usize = 1 << 20;
/// Events that wait to become lines of the event log: more than the largest window of datagrams has.
const MAX_TRACE_COUNT: usize = 16 * 1024;

/// Settings of a UDP client or server; every limit is finite by default.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::net::udp::UdpConfig;
/// let config = UdpConfig::default()
///     .max_datagram_size(1472)
///     .delivery_timeout(Duration::from_secs(5));
/// assert!(config.validate().is_ok());
/// assert!(UdpConfig::default().max_datagram_size(100).validate().is_err());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UdpConfig {
    pub(crate) endpoint: EndpointConfig,
    pub(crate) send_buffer_len: Option<usize>,
    pub(crate) recv_buffer_len: Option<usize>,
    pub(crate) recv_queue_count: usize,
    pub(crate) recv_queue_len: usize,
    pub(crate) send_queue_count: usize,
    pub(crate) send_queue_len: usize,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) spin: Duration,
    pub(crate) sealed_sessions: Option<SealedSessions>,
    /// Sealed sessions alone, as soon as there can be any.
    pub(crate) also_plaintext: bool,
    pub(crate) authentication: Option<Authentication>,
    /// The threads of the authenticator.
    pub(crate) judge: Option<Arc<dyn Judge>>,
    pub(crate) pipeline: Pipeline,
    pub(crate) meter: Option<Meter>,
    pub(crate) event_log: Option<EventLog>,
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            endpoint: EndpointConfig::default(),
            send_buffer_len: Some(2 * 1024 * 1024),
            recv_buffer_len: Some(4 * 1024 * 1024),
            recv_queue_count: 4096,
            recv_queue_len: 64 * 1024 * 1024,
            send_queue_count: 4096,
            send_queue_len: 64 * 1024 * 1024,
            read_timeout: None,
            spin: Duration::ZERO,
            sealed_sessions: None,
            also_plaintext: false,
            authentication: None,
            judge: None,
            pipeline: Pipeline::default(),
            meter: None,
            event_log: None,
        }
    }
}

macro_rules! endpoint_settings {
    ($($(#[$doc:meta])* $name:ident => $field:ident: $typ:ty;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: $typ) -> Self {
            self.endpoint.$field = value;
            self
        })*
    };
}

impl UdpConfig {
    endpoint_settings! {
        /// Largest datagram sent (bytes), 512 to 65,507. Default: 1,200, which passes any IPv6 path. Received
        /// are datagrams of any size.
        max_datagram_size => max_datagram_len: usize;
        /// Largest frame sent and accepted (bytes), fragments put together. Default: 128 MiB.
        max_frame_size => max_frame_len: usize;
        /// Whether frames that do not fit one datagram are cut into fragments. Default: yes; otherwise they
        /// are an error at the sender.
        allow_frag => allow_frag: bool;
        /// Whether frames carry the CRC flag. The checksum itself is on every datagram anyway. Default: no.
        use_crc => use_crc: bool;
        /// Retransmission timeouts in a row without any acknowledgement before everything on its way to a peer
        /// is given up. Default: 8.
        max_retries => max_retries: u32;
        /// Time to the first retransmission while the round-trip time is unknown. Default: 1 s (RFC 6298).
        ack_timeout => ack_timeout: Duration;
        /// Shortest time to a retransmission. Default: 200 ms.
        retry_delay => retry_delay: Duration;
        /// Longest time to a retransmission, which doubles up to it. Default: 10 s.
        max_retry_delay => max_retry_delay: Duration;
        /// A message that makes no progress for so long is given up. Default: 30 s.
        delivery_timeout => delivery_timeout: Duration;
        /// How long `connect` waits for the session. Default: 10 s.
        handshake_timeout => handshake_timeout: Duration;
        /// Silence in a session after which PING goes out; three silent intervals end it. Default: 15 s.
        ping_interval => ping_interval: Duration;
        /// What the application may send to an address without a session. Default: unlimited for clients,
        /// three times what the address sent in the last 30 s for servers.
        answer_limit => answer_limit: AnswerLimit;
        /// Sessions at once. Default: 4,096.
        max_sessions => max_sessions: usize;
        /// Sessions at once from one IP address; an IPv6 /64 counts as one. Default: 64.
        max_sessions_per_address => max_sessions_per_ip: usize;
        /// Datagrams that one side seals before it ends a sealed session, 128 to 268,435,456: what the key can
        /// do. Default: the most, which with datagrams of 1,200 bytes is 322 GB.
        max_sealed_datagrams => max_sealed_datagrams: u64;
        /// Sets of fragments in reassembly, all peers together. Default: 1,000.
        max_reassembly_sessions => max_reassembly_sessions: usize;
        /// Reassembly for all peers together (bytes). Default: 512 MiB.
        max_reassembly_memory => total_budget_len: usize;
        /// Reassembly for one session (bytes), at least 64 KiB. Default: 128 MiB. Peers are told of it as the
        /// largest frame if it is below that.
        max_reassembly_memory_per_session => session_budget_len: usize;
        /// How much one session may send, and one address without a session (an IPv6 /64 counts as one); each
        /// datagram counts as a frame. Default: no limit. What is over it is dropped and not acknowledged, so
        /// that it is sent again later if it is to be acknowledged.
        rate_limit => rate_limit: Option<RateLimit>;
    }

    /// Client: the token sent when a session is opened, 1 to 255 bytes. Default: none. Datagrams are not
    /// encrypted: everybody on the way can read it and use it.
    #[must_use]
    pub fn auth_token(mut self, token: Option<Vec<u8>>) -> Self {
        self.endpoint.auth_token = token.map(Into::into);
        self
    }

    /// Server: what recognises clients before they get a session. Default: nothing, everybody is served.
    /// With one, messages without a session are dropped. It never runs for an address that has not proved
    /// that it receives what is sent to it.
    ///
    /// Takes an [`Authenticator`](crate::net::identity::Authenticator), or one with its
    /// [settings](Authentication).
    #[must_use]
    pub fn authenticator(mut self, authentication: impl Into<Authentication>) -> Self {
        self.authentication = Some(authentication.into());
        self
    }

    /// Server: takes sessions of sealed datagrams from the clients of the TLS servers that have the same
    /// [`SealedSessions`]. Default: none.
    ///
    /// Nothing else is taken then, and nothing is sent in plaintext, unless
    /// [`also_plaintext`](Self::also_plaintext) is set.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn sealed_sessions(mut self, sessions: SealedSessions) -> Self {
        self.sealed_sessions = Some(sessions);
        self
    }

    /// Server with [`sealed_sessions`](Self::sealed_sessions): whether plaintext is taken and sent beside
    /// them. Default: no. [`UdpPeer::is_sealed`](crate::serve::UdpPeer::is_sealed) tells a handler.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn also_plaintext(mut self, on: bool) -> Self {
        self.also_plaintext = on;
        self
    }

    /// The socket's send buffer (bytes); `None` leaves the system's default. Default: 2 MiB. The system
    /// cuts it to its own limit.
    #[must_use]
    pub fn send_buffer_size(mut self, len: Option<usize>) -> Self {
        self.send_buffer_len = len;
        self
    }

    /// The socket's receive buffer (bytes); `None` leaves the system's default. Default: 4 MiB. The
    /// system cuts it to its own limit (on Linux `net.core.rmem_max`).
    #[must_use]
    pub fn recv_buffer_size(mut self, len: Option<usize>) -> Self {
        self.recv_buffer_len = len;
        self
    }

    /// Messages that wait for `recv`: so many, at most 1,048,576, and so many bytes of payload and
    /// headers. Default: 4,096 and 64 MiB. One beyond it is dropped without acknowledgement, so its
    /// sender sends it again; what came in one datagram is taken together.
    #[must_use]
    pub fn recv_queue(mut self, count: usize, len: usize) -> Self {
        self.recv_queue_count = count;
        self.recv_queue_len = len;
        self
    }

    /// Messages that wait for acknowledgement: so many, and so many bytes; a single one may be larger.
    /// Default: 4,096 and 64 MiB. Beyond it sending waits, until 128 messages have room, or a quarter of `count`;
    /// after 5 ms, until one has.
    #[must_use]
    pub fn send_queue(mut self, count: usize, len: usize) -> Self {
        self.send_queue_count = count;
        self.send_queue_len = len;
        self
    }

    /// How long `recv` waits for a message. Default: no limit.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// How long a waiting call asks for datagrams again and again before it sleeps. Default: zero. It
    /// trades a core for the time that waking a thread takes.
    #[must_use]
    pub fn spin(mut self, time: Duration) -> Self {
        self.spin = time;
        self
    }

    /// Offers compression (feature `gzip`), and compresses messages in sessions with a peer that has it too.
    /// Default: off. See [`CompressionConfig`] for when not to; it needs the crate feature `compression`.
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

    /// Where the numbers of this socket are added up with those of others, or [`Meter::off`]. Default: nowhere but
    /// in its own [`Meter`].
    #[must_use]
    pub fn meter(mut self, meter: Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Where what happens on this socket is written down: frames, acknowledgements, losses, the state of the
    /// path. Default: nowhere, and nothing is collected. See [`EventLog`].
    #[must_use]
    pub fn event_log(mut self, log: EventLog) -> Self {
        self.endpoint.max_trace_count = MAX_TRACE_COUNT;
        self.event_log = Some(log);
        self
    }

    /// Gives the socket that is about to be bound a meter of its own, which the one that was set adds up.
    pub(crate) fn own_meter(&mut self) -> &Meter {
        let own = self.meter.as_ref().map_or_else(Meter::new, Meter::child);
        self.meter.insert(own)
    }

    /// Checks what a setter cannot. `bind` calls it.
    ///
    /// # Errors
    /// [`VstpError::Config`] with the setting and what to do.
    pub fn validate(&self) -> Result<(), VstpError> {
        self.endpoint
            .check()
            .map_err(|(setting, reason)| VstpError::config(setting, reason))?;
        if let Some(authentication) = &self.authentication {
            authentication.validate()?;
        }
        self.pipeline.validate(&self.endpoint.features)?;
        if self.recv_queue_count == 0 || self.send_queue_count == 0 {
            return Err(VstpError::config(
                "recv_queue",
                "queues of no messages would pass nothing",
            ));
        }
        if self.recv_queue_count > MAX_RECV_QUEUE_COUNT {
            return Err(VstpError::config(
                "recv_queue",
                "must be 1,048,576 messages or fewer: its places are allocated at once",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h3_queues_that_cannot_be_are_refused() {
        let counts = |recv, send| {
            let config = UdpConfig::default();
            let config = config.recv_queue(recv, usize::MAX);
            config.send_queue(send, usize::MAX).validate().is_ok()
        };
        assert!(counts(1, 1) && counts(1 << 20, usize::MAX));
        assert!(!counts(0, 1) && !counts(1, 0) && !counts(usize::MAX, 1));
    }
}
