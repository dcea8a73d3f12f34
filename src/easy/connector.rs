//! [`Connector`]: how to reach a server, for clients that connect more than once.

use super::client::VstpClient;
use crate::error::VstpError;
use crate::net::Meter;
use crate::net::addr::{Address, ToAddress};
use crate::net::tcp::{TcpConfig, VstpTcpClient};
use crate::net::tls::{TlsClientConfig, dev};
use std::time::Duration;

/// An address, whom to trust there, and the settings of connections to it.
///
/// # Example
/// ```
/// use vstp::easy::Connector;
/// use vstp::net::tcp::TcpConfig;
/// let connector = Connector::plain("localhost:7000", TcpConfig::default())?;
/// assert_eq!(connector.address().port(), 7000);
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Connector {
    address: Address,
    trust: Trust,
    config: TcpConfig,
}

#[derive(Debug, Clone)]
enum Trust {
    Plain,
    Development,
    Tls(Box<TlsClientConfig>),
}

impl Connector {
    /// TLS 1.3: to a loopback address with the certificates for development, which are looked up for each
    /// connection, else with the public authorities as trust.
    ///
    /// # Errors
    /// `InvalidAddress`, and `Config`.
    pub fn tcp(addr: impl ToAddress) -> Result<Self, VstpError> {
        let address = addr.to_address()?;
        let trust = if address.is_loopback() {
            Trust::Development
        } else {
            Trust::Tls(Box::new(TlsClientConfig::builder().build()?))
        };
        Self::new(address, trust, TcpConfig::default())
    }

    /// TLS 1.3 with these settings.
    ///
    /// # Errors
    /// `InvalidAddress`, and `Config`.
    pub fn tcp_with(
        addr: impl ToAddress,
        tls: &TlsClientConfig,
        config: TcpConfig,
    ) -> Result<Self, VstpError> {
        let trust = Trust::Tls(Box::new(tls.clone()));
        Self::new(addr.to_address()?, trust, config)
    }

    /// Plaintext: everybody on the way can read and change the messages.
    ///
    /// # Errors
    /// `InvalidAddress`, and `Config`.
    pub fn plain(addr: impl ToAddress, config: TcpConfig) -> Result<Self, VstpError> {
        Self::new(addr.to_address()?, Trust::Plain, config)
    }

    fn new(address: Address, trust: Trust, config: TcpConfig) -> Result<Self, VstpError> {
        config.validate()?;
        Ok(Self {
            address,
            trust,
            config,
        })
    }

    /// Connects.
    ///
    /// # Blocking
    /// As [`VstpTcpClient::connect`].
    ///
    /// # Errors
    /// As there; and `Config` when there are no certificates for development yet.
    pub fn connect(&self) -> Result<VstpClient, VstpError> {
        self.connect_tcp().map(VstpClient::from)
    }

    pub(super) fn connect_tcp(&self) -> Result<VstpTcpClient, VstpError> {
        let (address, config) = (self.address.clone(), self.config.clone());
        match &self.trust {
            Trust::Plain => VstpTcpClient::connect_plain_with(address, config),
            Trust::Development => VstpTcpClient::connect_with(address, &dev::client()?, config),
            Trust::Tls(tls) => VstpTcpClient::connect_with(address, tls, config),
        }
    }

    /// The same for connections that shall be made within this time.
    pub(super) fn within(mut self, limit: Duration) -> Self {
        self.config.connect_timeout = self.config.connect_timeout.min(limit);
        self.config.handshake_timeout = self.config.handshake_timeout.min(limit);
        self
    }

    /// Where it connects to.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The meter that the settings give.
    pub(super) const fn meter(&self) -> Option<&Meter> {
        self.config.meter.as_ref()
    }

    /// Has its connections count there.
    pub(super) fn count_at(&mut self, meter: Meter) {
        self.config.meter = Some(meter);
    }

    /// Has its connections count at a meter of their own, below the one that the settings give.
    pub(super) fn own_meter(&mut self) -> Meter {
        let meter = self.meter().map_or_else(Meter::new, Meter::child);
        self.count_at(meter.clone());
        meter
    }

    pub(super) const fn call_timeout(&self) -> Duration {
        self.config.call_timeout
    }

    pub(super) const fn idle_timeout(&self) -> Option<Duration> {
        self.config.idle_timeout
    }
}
