//! The settings of a client over both transports.

use crate::error::VstpError;
use crate::net::tcp::TcpConfig;
use crate::net::udp::UdpConfig;
use crate::proto::auto::AutoSwitchConfig;
use std::net::SocketAddr;
use std::time::Duration;

/// Settings of a [`VstpAutoClient`](super::VstpAutoClient).
///
/// # Example
/// ```
/// use vstp::net::auto::AutoConfig;
/// use vstp::proto::auto::AutoSwitchConfig;
/// let config = AutoConfig::default().switch(AutoSwitchConfig::default().failure_threshold(2));
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AutoConfig {
    pub(crate) tcp: TcpConfig,
    pub(super) udp: UdpConfig,
    pub(super) switch: AutoSwitchConfig,
    pub(super) udp_addr: Option<SocketAddr>,
    pub(super) udp_wait: Duration,
    pub(super) udp_retry: Duration,
    pub(super) plaintext_udp: bool,
    pub(super) inbox_count: usize,
    pub(super) inbox_len: usize,
}

impl Default for AutoConfig {
    fn default() -> Self {
        Self {
            tcp: TcpConfig::default(),
            udp: UdpConfig::default(),
            switch: AutoSwitchConfig::default(),
            udp_addr: None,
            udp_wait: Duration::from_secs(1),
            udp_retry: Duration::from_secs(30),
            plaintext_udp: false,
            inbox_count: 1024,
            inbox_len: 8 * 1024 * 1024,
        }
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $typ:ty;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: $typ) -> Self {
            self.$name = value;
            self
        })*
    };
}

impl AutoConfig {
    settings! {
        /// The settings of the session on TCP. Its `call_timeout` holds for every call that waits for an
        /// acknowledgement or an answer, whatever the transport.
        tcp: TcpConfig;
        /// The settings of the UDP socket and the session on it.
        udp: UdpConfig;
        /// How the transport is chosen.
        switch: AutoSwitchConfig;
        /// Where the server's UDP is, if not at the address and port of TCP. Default: there.
        udp_addr: Option<SocketAddr>;
        /// How long connecting waits for UDP after TCP is there; the attempt goes on behind it. Default: 1 s.
        udp_wait: Duration;
        /// Time from a failed attempt to open plaintext UDP, or the end of a session on it, to the next attempt.
        /// Default: 30 s. With sealed datagrams there is one attempt, which goes on until the server answers.
        udp_retry: Duration;
        /// Whether datagrams may be in plaintext although TCP has TLS, if the server does not seal them: everybody
        /// on the way can then read and change what takes UDP. Default: no, such a client stays on TCP.
        plaintext_udp: bool;
    }

    /// Messages that wait for `recv`: so many, and so many bytes. Default: 1,024 and 8 MiB. When they are
    /// there, nothing more is read from either transport.
    #[must_use]
    pub fn recv_queue(mut self, count: usize, len: usize) -> Self {
        self.inbox_count = count;
        self.inbox_len = len;
        self
    }

    /// Checks what a setter cannot. `connect_auto` calls it.
    ///
    /// # Errors
    /// [`VstpError::Config`] with the setting and what to do.
    pub fn validate(&self) -> Result<(), VstpError> {
        self.tcp.validate()?;
        self.udp.validate()?;
        let switch = self.switch.check();
        switch.map_err(|(setting, reason)| VstpError::config(setting, reason))?;
        if self.inbox_count == 0 {
            let reason = "a queue of no messages would pass nothing";
            return Err(VstpError::config("recv_queue", reason));
        }
        Ok(())
    }
}
