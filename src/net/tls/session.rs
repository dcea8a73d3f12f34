//! [`TlsSession`]: plaintext to records and back, in memory.
//!
//! A thin face over `rustls::Connection` that fits two directions sharing it: what comes from the
//! socket goes in with [`TlsSession::feed`] and out with [`TlsSession::take_plaintext`], what shall
//! be sent goes through [`TlsSession::encrypt`]. Bytes are appended to the caller's vectors, so each
//! is copied once on its way.

use super::client::TlsClientConfig;
use super::info::PeerInfo;
use super::server::TlsServerConfig;
use super::{ALPN, CryptoProvider, error, provider};
use crate::error::{TlsErrorKind, VstpError};
use rustls::{ClientConnection, Connection, ServerConnection};
use std::io::{self, BufRead, IoSlice, Write};
use std::sync::Arc;

/// Plaintext that one call of `encrypt` takes at most (bytes): what is encrypted before a write.
const ENCRYPT_LEN: usize = 128 * 1024;
/// The label of the exporter value (RFC 9266).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The TLS state of one connection.
#[derive(Debug)]
pub(crate) struct TlsSession {
    /// In a box, since it has a kilobyte and is passed on by value.
    pub(super) connection: Box<Connection>,
    provider: Arc<CryptoProvider>,
    peer_has_closed: bool,
}

impl TlsSession {
    /// The client's side; `host` is what the certificate must be for, unless the settings say else.
    #[inline(never)] // As `new`.
    pub(crate) fn client(config: &TlsClientConfig, host: &str) -> Result<Self, VstpError> {
        let name = config.server_name(host)?;
        let connection = ClientConnection::new(Arc::clone(config.rustls()), name);
        Ok(Self::new(
            connection.map_err(error::tls)?.into(),
            config.provider(),
        ))
    }

    /// The server's side.
    #[inline(never)] // As `new`.
    pub(crate) fn server(config: &TlsServerConfig) -> Result<Self, VstpError> {
        let connection = ServerConnection::new(Arc::clone(config.rustls()));
        Ok(Self::new(
            connection.map_err(error::tls)?.into(),
            config.provider(),
        ))
    }

    #[inline(never)] // Else its room on the stack is its caller's, for the whole handshake.
    pub(super) fn new(connection: Connection, provider: &Arc<CryptoProvider>) -> Self {
        let mut connection = Box::new(connection);
        connection.set_buffer_limit(Some(ENCRYPT_LEN));
        Self {
            connection,
            provider: Arc::clone(provider),
            peer_has_closed: false,
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes received bytes from the front, up to the first record that gives plaintext; how many.
    ///
    /// An error is final. Its alert, if there is one, is in the output.
    pub(crate) fn feed(&mut self, mut received: &[u8]) -> Result<usize, VstpError> {
        let offered = received.len();
        while !received.is_empty() && !self.has_plaintext()? {
            // After close_notify nothing counts any more (RFC 8446 6.1).
            if self.connection.read_tls(&mut received).map_err(error::io)? == 0 {
                return Ok(offered);
            }
        }
        self.has_plaintext()?;
        Ok(offered - received.len())
    }

    /// Processes what was read; whether plaintext waits.
    fn has_plaintext(&mut self) -> Result<bool, VstpError> {
        let state = self.connection.process_new_packets().map_err(error::tls)?;
        self.peer_has_closed = state.peer_has_closed();
        Ok(state.plaintext_bytes_to_read() > 0)
    }

    /// Appends at most `max` decrypted bytes; how many.
    pub(crate) fn take_plaintext(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        let mut taken = 0;
        let mut reader = self.connection.reader();
        while taken < max {
            // An error means "nothing now" or "nothing more"; the caller asks for the reason.
            let Ok(chunk) = reader.fill_buf() else { break };
            let len = chunk.len().min(max - taken);
            if len == 0 {
                break;
            }
            out.extend_from_slice(&chunk[..len]);
            reader.consume(len);
            taken += len;
        }
        taken
    }

    /// Encrypts from the front of `parts` and appends the records; how many bytes were taken.
    pub(crate) fn encrypt(
        &mut self,
        parts: &[IoSlice<'_>],
        out: &mut Vec<u8>,
    ) -> Result<usize, VstpError> {
        let taken = self
            .connection
            .writer()
            .write_vectored(parts)
            .map_err(error::io)?;
        self.drain(out);
        Ok(taken)
    }

    /// Appends everything that waits to be sent.
    pub(crate) fn drain(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // Writing to memory cannot fail.
            if !matches!(self.connection.write_tls(&mut Append(out)), Ok(1..)) {
                break;
            }
        }
    }

    /// Makes close_notify wait to be sent.
    pub(crate) fn send_close_notify(&mut self) {
        self.connection.send_close_notify();
    }

    pub(super) const fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Whether the peer has sent close_notify.
    pub(crate) const fn peer_has_closed(&self) -> bool {
        self.peer_has_closed
    }

    /// What is known about the peer, after the handshake.
    ///
    /// # Errors
    /// `NoApplicationProtocol`: rustls lets a client without ALPN through, we do not (spec 3.1).
    pub(crate) fn peer_info(&self) -> Result<PeerInfo, VstpError> {
        if self.connection.alpn_protocol() != Some(ALPN) {
            let hint = "is the peer a VSTP program?";
            return Err(error::own(TlsErrorKind::NoApplicationProtocol, hint));
        }
        let exporter = self
            .connection
            .export_keying_material([0; 32], EXPORTER_LABEL, None)
            .map_err(error::tls)?;
        let certificates: Vec<Vec<u8>> = self
            .connection
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect();
        let fingerprint = certificates
            .first()
            .map(|c| provider::sha256(&self.provider, c))
            .transpose()?;
        let cipher_suite = self.connection.negotiated_cipher_suite();
        let server_name = match &*self.connection {
            Connection::Client(_) => None,
            Connection::Server(server) => server.server_name().map(str::to_owned),
        };
        Ok(PeerInfo {
            version: "TLSv1.3",
            cipher_suite: cipher_suite.map_or_else(String::new, |s| format!("{:?}", s.suite())),
            alpn: String::from_utf8_lossy(ALPN).into_owned(),
            certificates,
            server_name,
            exporter,
            fingerprint,
        })
    }
}

/// Appends to a vector; unlike the vector's own `Write`, all slices of a vectored write at once
/// into room reserved for them together.
struct Append<'a>(&'a mut Vec<u8>);

impl Write for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = parts.iter().map(|part| part.len()).sum();
        self.0.reserve(len);
        for part in parts {
            self.0.extend_from_slice(part);
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
