//! The contestants of the TCP benchmark: bare sockets, rustls on them, and this crate.
//!
//! Each function sets up its connection, then times its work alone, and returns seconds.

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig as RustlsServer};
use rustls::{ServerConnection, StreamOwned};
use std::io::{BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vstp::net::Meter;
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::dev;
use vstp::serve::ServerConfig;
use vstp::{Frame, VstpTcpClient, VstpTcpConnection, VstpTcpServer};

const SEGMENT_LEN: usize = 64 * 1024;
const READ_LEN: usize = 256 * 1024;

fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().spawn(work).unwrap()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

/// Reads exactly, polling for `spin` at most before each wait.
fn read_exact(stream: &mut TcpStream, buf: &mut [u8], spin: Duration) {
    let mut filled = 0;
    while filled < buf.len() {
        if !spin.is_zero() {
            let began = Instant::now();
            stream.set_nonblocking(true).unwrap();
            while began.elapsed() < spin && filled < buf.len() {
                if let Ok(len) = stream.read(&mut buf[filled..]) {
                    filled += len;
                }
            }
            stream.set_nonblocking(false).unwrap();
        }
        if filled < buf.len() {
            filled += stream.read(&mut buf[filled..]).unwrap();
        }
    }
}

/// 4 bytes of length and 64 of payload, there and back.
pub(crate) fn raw_round_trips(n: usize, spin: Duration) -> f64 {
    let (mut client, mut server) = pair();
    let echo = start(move || {
        let mut buf = [0; 68];
        for _ in 0..n {
            read_exact(&mut server, &mut buf, spin);
            server.write_all(&buf).unwrap();
        }
    });
    let began = Instant::now();
    let mut buf = [0; 68];
    for _ in 0..n {
        client.write_all(&buf).unwrap();
        read_exact(&mut client, &mut buf, spin);
    }
    let took = began.elapsed().as_secs_f64();
    echo.join().unwrap();
    took
}

pub(crate) fn vstp_round_trips(n: usize, tls: bool, spin: Duration) -> f64 {
    let (mut client, mut server) = vstp_pair(tls, TcpConfig::default().spin(spin));
    let echo = start(move || {
        for _ in 0..n {
            let frame = server.recv().unwrap().unwrap();
            server.send(&frame).unwrap();
        }
        server
    });
    let frame = Frame::data([7; 64]);
    let began = Instant::now();
    for _ in 0..n {
        client.send(&frame).unwrap();
        client.recv_ref().unwrap().unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    drop(echo.join().unwrap());
    took
}

/// The same in plaintext with this meter on both sides; with `handler` the server is one with a handler.
pub(crate) fn metered_round_trips(n: usize, handler: bool, meter: Meter) -> f64 {
    let config = TcpConfig::default().meter(meter);
    let settings = ServerConfig::default().tcp(config.clone());
    let server = VstpTcpServer::bind_plain_with("127.0.0.1:0", settings).unwrap();
    let addr = server.local_addr();
    let connect = || VstpTcpClient::connect_plain_with(addr, config.clone()).unwrap();
    if handler {
        let handle = server
            .spawn(|_: &vstp::serve::Session, frame: Frame| frame)
            .unwrap();
        let took = client_round_trips(n, &mut connect());
        handle.shutdown(Duration::from_secs(5));
        return took;
    }
    let echo = start(move || {
        let mut connection = server.accept().unwrap();
        for _ in 0..n {
            let frame = connection.recv().unwrap().unwrap();
            connection.send(&frame).unwrap();
        }
        connection
    });
    let took = client_round_trips(n, &mut connect());
    drop(echo.join().unwrap());
    took
}

fn client_round_trips(n: usize, client: &mut VstpTcpClient) -> f64 {
    let frame = Frame::data([7; 64]);
    let began = Instant::now();
    for _ in 0..n {
        client.send(&frame).unwrap();
        client.recv_ref().unwrap().unwrap();
    }
    began.elapsed().as_secs_f64()
}

pub(crate) fn tls_round_trips(n: usize) -> f64 {
    let (mut client, mut server) = tls_pair();
    let echo = start(move || {
        let mut buf = [0; 68];
        for _ in 0..n {
            server.read_exact(&mut buf).unwrap();
            server.write_all(&buf).unwrap();
        }
        server
    });
    let mut buf = [0; 68];
    let began = Instant::now();
    for _ in 0..n {
        client.write_all(&buf).unwrap();
        client.read_exact(&mut buf).unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    drop(echo.join().unwrap());
    took
}

/// How a bare stream is framed: 4 bytes of length, or the protocol's 11 bytes and a CRC-32.
#[derive(Clone, Copy)]
struct Framing {
    crc: bool,
}

impl Framing {
    fn head_len(self) -> usize {
        if self.crc { 11 } else { 4 }
    }

    fn write(self, to: &mut impl Write, payload: &[u8]) {
        let len = (payload.len() as u32).to_be_bytes();
        if !self.crc {
            to.write_all(&len).unwrap();
            to.write_all(payload).unwrap();
            return;
        }
        let mut head = *b"VT\x01\x03\0\0\0\0\0\0\0";
        head[7..].copy_from_slice(&len);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc.update(payload);
        to.write_all(&head).unwrap();
        to.write_all(payload).unwrap();
        to.write_all(&crc.finalize().to_be_bytes()).unwrap();
    }

    /// Takes one message of `expected` bytes from the front; how many bytes it took.
    fn take(self, bytes: &[u8], expected: usize) -> Option<usize> {
        let head = bytes.get(..self.head_len())?;
        let len = u32::from_be_bytes(*head.last_chunk().unwrap()) as usize;
        assert_eq!(len, expected);
        let end = head.len() + len;
        if !self.crc {
            return (bytes.len() >= end).then_some(end);
        }
        let crc = bytes.get(end..end + 4)?;
        assert_eq!(crc32fast::hash(&bytes[..end]).to_be_bytes(), crc);
        Some(end + 4)
    }
}

/// A receive buffer that is read into at its end and taken from at its front.
struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    fn new(len: usize) -> Self {
        Self {
            bytes: vec![0; len],
            start: 0,
            end: 0,
        }
    }

    /// Counts and drops the whole messages.
    fn take_all(&mut self, framing: Framing, len: usize) -> usize {
        let mut count = 0;
        while let Some(used) = framing.take(&self.bytes[self.start..self.end], len) {
            self.start += used;
            count += 1;
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        count
    }

    fn room(&mut self, at_least: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < at_least {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }
}

/// Many messages in one direction; with `batched` in full segments, else a write for each.
pub(crate) fn raw_one_way(len: usize, n: usize, crc: bool, batched: bool) -> f64 {
    let (client, mut server) = pair();
    let framing = Framing { crc };
    let began = Instant::now();
    let receiving = start(move || {
        let mut inbox = Inbox::new(READ_LEN + len + 64);
        let mut received = 0;
        while received < n {
            let got = server.read(inbox.room(SEGMENT_LEN)).unwrap();
            assert!(got > 0);
            inbox.end += got;
            received += inbox.take_all(framing, len);
        }
    });
    let payload = vec![7; len];
    let mut writer = BufWriter::with_capacity(SEGMENT_LEN, client);
    for _ in 0..n {
        framing.write(&mut writer, &payload);
        if !batched {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    receiving.join().unwrap();
    began.elapsed().as_secs_f64()
}

pub(crate) fn vstp_one_way(len: usize, n: usize, tls: bool, batched: bool) -> f64 {
    let (mut client, mut server) = vstp_pair(tls, TcpConfig::default());
    let began = Instant::now();
    let receiving = start(move || {
        for _ in 0..n {
            assert_eq!(server.recv_ref().unwrap().unwrap().payload.len(), len);
        }
        server
    });
    let frame = Frame::data(vec![7; len]);
    for _ in 0..n {
        if batched {
            client.feed(&frame).unwrap();
        } else {
            client.send(&frame).unwrap();
        }
    }
    client.flush().unwrap();
    let server = receiving.join().unwrap();
    let took = began.elapsed().as_secs_f64();
    drop(server);
    took
}

/// rustls with a length prefix. `by_hand` reads the socket in large pieces and feeds rustls from
/// them; else `StreamOwned` reads, which asks the socket for 4 KiB at a time.
pub(crate) fn tls_one_way(len: usize, n: usize, by_hand: bool) -> f64 {
    let (client, server) = tls_pair();
    let framing = Framing { crc: false };
    let began = Instant::now();
    let receiving = start(move || {
        let mut inbox = Inbox::new(2 * READ_LEN + len);
        let mut received = 0;
        if !by_hand {
            let mut server = server;
            while received < n {
                let got = server.read(inbox.room(SEGMENT_LEN)).unwrap();
                assert!(got > 0);
                inbox.end += got;
                received += inbox.take_all(framing, len);
            }
            return;
        }
        let StreamOwned { mut conn, mut sock } = server;
        let mut records = vec![0; READ_LEN];
        while received < n {
            let got = sock.read(&mut records).unwrap();
            assert!(got > 0);
            let mut rest = &records[..got];
            while !rest.is_empty() {
                conn.read_tls(&mut rest).unwrap();
                let ready = conn
                    .process_new_packets()
                    .unwrap()
                    .plaintext_bytes_to_read();
                if ready > 0 {
                    let room = &mut inbox.room(ready)[..ready];
                    conn.reader().read_exact(room).unwrap();
                    inbox.end += ready;
                    received += inbox.take_all(framing, len);
                }
            }
        }
    });
    let payload = vec![7; len];
    let mut writer = BufWriter::with_capacity(SEGMENT_LEN, client);
    for _ in 0..n {
        framing.write(&mut writer, &payload);
    }
    writer.flush().unwrap();
    receiving.join().unwrap();
    began.elapsed().as_secs_f64()
}

/// One echo outstanding on each of many connections, driven by one thread.
pub(crate) fn raw_many(clients: usize, n: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let accepting = start(move || {
        let mut servers = Vec::new();
        for _ in 0..clients {
            let (mut server, _) = listener.accept().unwrap();
            server.set_nodelay(true).unwrap();
            servers.push(start(move || {
                let mut buf = [0; 68];
                while server.read_exact(&mut buf).is_ok() {
                    server.write_all(&buf).unwrap();
                }
            }));
        }
        servers
    });
    let mut streams: Vec<_> = (0..clients)
        .map(|_| {
            let stream = TcpStream::connect(addr).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
        .collect();
    let servers = accepting.join().unwrap();
    let mut buf = [0; 68];
    let began = Instant::now();
    for _ in 0..n {
        for stream in &mut streams {
            stream.write_all(&buf).unwrap();
        }
        for stream in &mut streams {
            stream.read_exact(&mut buf).unwrap();
        }
    }
    let took = began.elapsed().as_secs_f64();
    drop(streams);
    for server in servers {
        server.join().unwrap();
    }
    took
}

pub(crate) fn vstp_many(clients: usize, n: usize) -> f64 {
    let config = ServerConfig::default().max_per_address(clients);
    let server = VstpTcpServer::bind_plain_with("127.0.0.1:0", config).unwrap();
    let addr = server.local_addr();
    let handle = server
        .spawn(|_: &vstp::serve::Session, frame: Frame| frame)
        .unwrap();
    let config = TcpConfig::default().keepalive_interval(None);
    let connect = || VstpTcpClient::connect_plain_with(addr, config.clone()).unwrap();
    let mut connections: Vec<_> = (0..clients).map(|_| connect()).collect();
    let frame = Frame::data([7; 64]);
    let began = Instant::now();
    for _ in 0..n {
        for connection in &mut connections {
            connection.send(&frame).unwrap();
        }
        for connection in &mut connections {
            connection.recv_ref().unwrap().unwrap();
        }
    }
    let took = began.elapsed().as_secs_f64();
    drop(connections);
    handle.shutdown(Duration::from_secs(5));
    took
}

fn vstp_pair(tls: bool, config: TcpConfig) -> (VstpTcpClient, VstpTcpConnection) {
    let certs = dev::generate().unwrap();
    let settings = ServerConfig::default().tcp(config.clone());
    let server = if tls {
        VstpTcpServer::bind_with("127.0.0.1:0", certs.server().unwrap(), settings)
    } else {
        VstpTcpServer::bind_plain_with("127.0.0.1:0", settings)
    }
    .unwrap();
    let addr = server.local_addr();
    let connecting = start(move || {
        if tls {
            VstpTcpClient::connect_with(addr, &certs.client().unwrap(), config)
        } else {
            VstpTcpClient::connect_plain_with(addr, config)
        }
        .unwrap()
    });
    let connection = server.accept().unwrap();
    (connecting.join().unwrap(), connection)
}

type TlsClient = StreamOwned<ClientConnection, TcpStream>;
type TlsServer = StreamOwned<ServerConnection, TcpStream>;

/// The same provider and settings as this crate's own connections, handshake done.
fn tls_pair() -> (TlsClient, TlsServer) {
    let certs = dev::generate().unwrap();
    let der = |pem: &str| {
        rustls_pemfile::certs(&mut pem.as_bytes())
            .next()
            .unwrap()
            .unwrap()
    };
    let key = rustls_pemfile::private_key(&mut certs.key_pem.as_bytes())
        .unwrap()
        .unwrap();
    let (ca, cert): (CertificateDer<'_>, _) = (der(&certs.ca_pem), der(&certs.cert_pem));
    #[cfg(feature = "aws-lc-rs")]
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = &[&rustls::version::TLS13];
    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = RustlsServer::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    server.send_tls13_tickets = 0;
    let (client_socket, server_socket) = pair();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(client), name).unwrap();
    let server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = StreamOwned::new(client, client_socket);
    let mut server = StreamOwned::new(server, server_socket);
    let accepting = start(move || {
        server.read_exact(&mut [0]).unwrap();
        server.write_all(&[0]).unwrap();
        server
    });
    client.write_all(&[0]).unwrap();
    client.read_exact(&mut [0]).unwrap();
    (client, accepting.join().unwrap())
}
