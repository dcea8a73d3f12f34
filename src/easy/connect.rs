//! How a [`VstpClient`] comes to its transport.

use super::auto::AutoLink;
use super::client::VstpClient;
use super::link::{Link, UdpLink};
use crate::error::VstpError;
use crate::net::addr::{Address, ToAddress};
use crate::net::auto::{AutoConfig, VstpAutoClient};
use crate::net::tcp::{TcpConfig, VstpTcpClient};
use crate::net::tls::{TlsClientConfig, dev};
use crate::net::udp::UdpConfig;

impl VstpClient {
    /// Connects with TLS 1.3: to a loopback address with the certificates for development, else
    /// with the public authorities as trust.
    ///
    /// # Blocking
    /// As [`VstpTcpClient::connect`].
    ///
    /// # Errors
    /// As there; and `Config` when there are no certificates for development yet.
    pub fn connect_tcp(addr: impl ToAddress) -> Result<Self, VstpError> {
        let addr = addr.to_address()?;
        let tls = trust(&addr)?;
        Self::connect_tcp_with(addr, &tls, TcpConfig::default())
    }

    /// Connects with TLS 1.3 and these settings.
    ///
    /// # Blocking
    /// As [`VstpTcpClient::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect_tcp_with(
        addr: impl ToAddress,
        tls: &TlsClientConfig,
        config: TcpConfig,
    ) -> Result<Self, VstpError> {
        Ok(VstpTcpClient::connect_with(addr, tls, config)?.into())
    }

    /// Connects in plaintext: everybody on the way can read and change the messages.
    ///
    /// # Blocking
    /// As [`VstpTcpClient::connect_plain`].
    ///
    /// # Errors
    /// As there.
    pub fn connect_tcp_plain(addr: impl ToAddress, config: TcpConfig) -> Result<Self, VstpError> {
        Ok(VstpTcpClient::connect_plain_with(addr, config)?.into())
    }

    /// Opens a session over UDP, from a port that the system chooses. It is in plaintext: everybody on
    /// the way can read and change the messages.
    ///
    /// # Blocking
    /// Until the server has welcomed this client; at most 10 s.
    ///
    /// # Errors
    /// As [`VstpUdpClient::connect`](crate::net::udp::VstpUdpClient::connect): `Timeout(Handshake)` when nobody answers.
    ///
    /// # Example
    /// ```
    /// use vstp::easy::{VstpClient, VstpServer};
    /// let server = VstpServer::bind_udp("127.0.0.1:0")?;
    /// let addr = server.local_addr();
    /// let handle = server.spawn(|numbers: Vec<i64>| Ok::<i64, String>(numbers.iter().sum()))?;
    ///
    /// let mut client = VstpClient::connect_udp(addr)?;
    /// let sum: i64 = client.call(&[1, 2, 3])?;
    /// assert_eq!(sum, 6);
    /// client.close()?;
    /// handle.shutdown(std::time::Duration::from_secs(1));
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn connect_udp(addr: impl ToAddress) -> Result<Self, VstpError> {
        Self::connect_udp_with(addr, UdpConfig::default())
    }

    /// [`connect_udp`](Self::connect_udp) with these settings.
    ///
    /// # Blocking
    /// As there; at most for `handshake_timeout`.
    ///
    /// # Errors
    /// As there, and `Config`.
    pub fn connect_udp_with(addr: impl ToAddress, config: UdpConfig) -> Result<Self, VstpError> {
        let link = UdpLink::connect(addr, config)?;
        Ok(Self::new(Link::Udp(Box::new(link))))
    }

    /// Connects over TCP with TLS 1.3, as [`connect_tcp`](Self::connect_tcp) does, and over UDP with datagrams that
    /// are sealed with keys of the TLS session.
    ///
    /// # Blocking
    /// As [`VstpAutoClient::connect_auto`].
    ///
    /// # Errors
    /// As [`connect_tcp`](Self::connect_tcp). Without UDP it is no error:
    /// [`transports`](VstpAutoClient::transports) tells.
    ///
    /// # Example
    /// ```
    /// use vstp::easy::{VstpClient, VstpServer};
    /// use vstp::proto::auto::Via;
    /// let server = VstpServer::bind_auto("127.0.0.1:0")?;
    /// let addr = server.local_addr();
    /// let handle = server.spawn(|numbers: Vec<i64>| Ok::<i64, String>(numbers.iter().sum()))?;
    ///
    /// let mut client = VstpClient::connect_auto(addr)?;
    /// let by_either: i64 = client.call(&[1, 2, 3])?;
    /// let by_udp: i64 = client.call_via(&[1, 2, 3], Via::Udp)?;
    /// assert_eq!((by_either, by_udp), (6, 6));
    /// client.close()?;
    /// handle.shutdown(std::time::Duration::from_secs(1));
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn connect_auto(addr: impl ToAddress) -> Result<Self, VstpError> {
        let addr = addr.to_address()?;
        let tls = trust(&addr)?;
        Self::connect_auto_with(addr, &tls, AutoConfig::default())
    }

    /// Connects over TCP with TLS 1.3, and over UDP, with these settings.
    ///
    /// # Blocking
    /// As [`VstpAutoClient::connect_auto`].
    ///
    /// # Errors
    /// As there, and `Config`.
    pub fn connect_auto_with(
        addr: impl ToAddress,
        tls: &TlsClientConfig,
        config: AutoConfig,
    ) -> Result<Self, VstpError> {
        let timeout = config.tcp.read_timeout;
        let client = VstpAutoClient::connect_auto_with(addr, tls, config)?;
        Ok(Self::new(Link::Auto(Box::new(AutoLink::new(
            client, timeout,
        )))))
    }

    /// Connects over TCP and UDP in plaintext: everybody on the way can read and change the messages.
    ///
    /// # Blocking
    /// As [`VstpAutoClient::connect_auto_plain`].
    ///
    /// # Errors
    /// As there, and `Config`.
    pub fn connect_auto_plain(addr: impl ToAddress, config: AutoConfig) -> Result<Self, VstpError> {
        let timeout = config.tcp.read_timeout;
        let client = VstpAutoClient::connect_auto_plain_with(addr, config)?;
        Ok(Self::new(Link::Auto(Box::new(AutoLink::new(
            client, timeout,
        )))))
    }
}

/// The certificates for development on this machine, the public authorities elsewhere.
fn trust(addr: &Address) -> Result<TlsClientConfig, VstpError> {
    if addr.is_loopback() {
        dev::client()
    } else {
        TlsClientConfig::builder().build()
    }
}
