//! Certificates of any kind, and peers that speak TLS but not as they should.

use crate::util::LONG;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, Connection, RootCertStore, ServerConfig};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use vstp::net::clock;
use vstp::net::tls::{ALPN, TlsClientConfig, TlsClientConfigBuilder, TlsServerConfig};
use vstp::wire::{self, Decoded, Limits, Trailer};
use vstp::{Frame, FrameType};

/// Who signs.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    pub(crate) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key_pem: key.serialize_pem(),
        }
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> TlsClientConfigBuilder {
        TlsClientConfig::builder()
            .ca_pem(self.pem.as_bytes())
            .unwrap()
    }
}

/// The authority of most tests.
pub(crate) fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("the authority"))
}

/// A good certificate for 127.0.0.1.
pub(crate) fn leaf() -> &'static Leaf {
    static LEAF: OnceLock<Leaf> = OnceLock::new();
    LEAF.get_or_init(|| authority().issue("127.0.0.1", |_| {}))
}

pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
}

pub(crate) fn future(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(3000, 1, 1);
    params.not_after = rcgen::date_time_ymd(3001, 1, 1);
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) pem: String,
    pub(crate) der: Vec<u8>,
    pub(crate) key_pem: String,
}

impl Leaf {
    pub(crate) fn server(&self) -> TlsServerConfig {
        TlsServerConfig::builder()
            .pem(self.pem.as_bytes(), self.key_pem.as_bytes())
            .build()
            .unwrap()
    }
}

/// rustls on a socket, which does as it is told.
pub(crate) struct Peer {
    pub(crate) tls: Connection,
    pub(crate) socket: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    /// A client that offers these application protocols, before its handshake.
    pub(crate) fn connect(addr: SocketAddr, alpn: &[&[u8]]) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(authority().pem.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::from(addr.ip());
        let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        Self::new(tls.into(), dial(addr))
    }

    /// A server with [`leaf`] that knows these application protocols, before its handshake.
    pub(crate) fn accept(listener: &TcpListener, alpn: &[&[u8]]) -> Self {
        let chain = vec![CertificateDer::from(leaf().der.clone())];
        let key = PrivateKeyDer::from_pem_slice(leaf().key_pem.as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        Self::new(tls.into(), accept(listener))
    }

    fn new(tls: Connection, socket: TcpStream) -> Self {
        Self {
            tls,
            socket,
            received: Vec::new(),
        }
    }

    /// A client whose session is open.
    pub(crate) fn open_client(addr: SocketAddr) -> Self {
        let mut peer = Self::connect(addr, &[ALPN]);
        peer.shake_hands().unwrap();
        peer.send(&Frame::new(FrameType::Hello));
        assert_eq!(peer.recv().unwrap().typ, FrameType::Welcome);
        peer
    }

    /// A server whose session is open.
    pub(crate) fn open_server(listener: &TcpListener) -> Self {
        let mut peer = Self::accept(listener, &[ALPN]);
        peer.shake_hands().unwrap();
        assert_eq!(peer.recv().unwrap().typ, FrameType::Hello);
        peer.send(&Frame::new(FrameType::Welcome).with_header("session-id", "1"));
        peer
    }

    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.socket)?;
        }
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// The records of this frame.
    pub(crate) fn records(&mut self, frame: &Frame) -> Vec<u8> {
        let (limits, mut bytes) = (Limits::default(), Vec::new());
        wire::encode(frame.as_ref(), Trailer::WhenFlagged, &limits, &mut bytes).unwrap();
        self.encrypt(&bytes)
    }

    pub(crate) fn encrypt(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(bytes).unwrap();
        self.pending()
    }

    /// The record that says goodbye in TLS.
    pub(crate) fn close_notify(&mut self) -> Vec<u8> {
        self.tls.send_close_notify();
        self.pending()
    }

    /// What waits to be sent.
    pub(crate) fn pending(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).unwrap();
        }
        records
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        let records = self.records(frame);
        self.write(&records);
    }

    /// Ends the sending direction, without a word.
    pub(crate) fn fin(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    pub(crate) fn recv(&mut self) -> io::Result<Frame> {
        loop {
            let decoded = wire::decode(&self.received, Trailer::WhenFlagged, &Limits::default());
            if let Decoded::Frame(frame, used) = decoded.unwrap() {
                let frame = frame.to_owned();
                self.received.drain(..used);
                return Ok(frame);
            }
            let mut chunk = [0; 4096];
            let len = self.read(&mut chunk)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&chunk[..len]);
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if self.tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            self.tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// The alert that ends the connection.
    pub(crate) fn alert(&mut self) -> u8 {
        let error = loop {
            match self.read(&mut [0; 4096]) {
                Ok(0) => panic!("no alert"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        match error.downcast() {
            Ok(rustls::Error::AlertReceived(alert)) => alert.into(),
            other => panic!("no alert: {other:?}"),
        }
    }
}

/// A socket whose calls all end.
pub(crate) fn dial(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&addr, LONG).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.set_write_timeout(Some(LONG)).unwrap();
    socket
}

pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener)
        .set_read_timeout(Some(LONG))
        .unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let (socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.set_write_timeout(Some(LONG)).unwrap();
    socket
}

/// Reads until the peer ends the connection, in whatever way.
pub(crate) fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the peer does not end it: {error}"),
    }
    bytes
}

/// Waits for what another thread does, where there is nothing to be woken by.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = clock::now() + LONG;
    while !condition() {
        assert!(clock::now() < until, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
