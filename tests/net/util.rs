//! Servers, clients and raw peers for the tests.

use std::sync::OnceLock;
use std::time::Duration;
use vstp::net::tcp::{TcpConfig, VstpTcpClient};
use vstp::net::tls::dev::{self, DevCerts};
use vstp::serve::{ServerConfig, ServerHandle, Session, VstpTcpServer};
use vstp::{Frame, VstpError};

/// Longer than any honest step takes here; reached only by a test that fails.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// One set of certificates for the whole binary.
pub(crate) fn certs() -> &'static DevCerts {
    static CERTS: OnceLock<DevCerts> = OnceLock::new();
    CERTS.get_or_init(|| dev::generate().unwrap())
}

/// Plaintext or TLS; most tests run with both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Tls,
}

pub(crate) const BOTH: [Kind; 2] = [Kind::Plain, Kind::Tls];

/// A server at a port of its own.
pub(crate) fn bind(kind: Kind, config: ServerConfig) -> VstpTcpServer {
    match kind {
        Kind::Plain => VstpTcpServer::bind_plain_with("127.0.0.1:0", config),
        Kind::Tls => VstpTcpServer::bind_with("127.0.0.1:0", certs().server().unwrap(), config),
    }
    .unwrap()
}

/// A server that answers each frame with its payload and headers.
pub(crate) fn echo(kind: Kind, config: ServerConfig) -> ServerHandle {
    bind(kind, config).spawn(echo_frame).unwrap()
}

pub(crate) fn echo_frame(_: &Session, frame: Frame) -> Frame {
    Frame {
        flags: vstp::Flags::empty(),
        ..frame
    }
}

/// A client whose calls all end.
pub(crate) fn config() -> TcpConfig {
    TcpConfig::default()
        .read_timeout(Some(LONG))
        .call_timeout(LONG)
}

pub(crate) fn try_connect(
    kind: Kind,
    handle: &ServerHandle,
    config: TcpConfig,
) -> Result<VstpTcpClient, VstpError> {
    match kind {
        Kind::Plain => VstpTcpClient::connect_plain_with(handle.local_addr(), config),
        Kind::Tls => {
            VstpTcpClient::connect_with(handle.local_addr(), &certs().client().unwrap(), config)
        }
    }
}

pub(crate) fn connect(kind: Kind, handle: &ServerHandle) -> VstpTcpClient {
    try_connect(kind, handle, config()).unwrap()
}
