//! quinn (QUIC): reliable, ordered in a stream, encrypted. One connection.
//!
//! Its configuration is the best that was found on two cores: datagrams of 1,472 bytes from the
//! start, large windows, AES-128, sockets with large buffers, one runtime with two workers. The path
//! that loses gets BBR (128 MB/s where Cubic had 2), the clean one stays with Cubic.

use crate::sockets::{self, DATAGRAM_LEN};
use crate::{Outcome, Path, Took, Watch};
use bytes::{Bytes, BytesMut};
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::rustls::crypto::CryptoProvider;
use quinn::rustls::crypto::ring::{cipher_suite, default_provider};
use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn::rustls::version::TLS13;
use quinn::rustls::{self, RootCertStore};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream};
use quinn::{ServerConfig, TokioRuntime, TransportConfig, VarInt};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

/// Messages are written in pieces of about this size.
const PIECE_LEN: usize = 64 * 1024;
const BULK_PIECE_LEN: usize = 1 << 20;
/// Ahead of the acknowledgements: enough for the path, and little enough to stay in the caches.
const SEND_WINDOW_LEN: u64 = 1 << 20;
/// What is lost holds up all that follows it until it was sent again.
const LOSSY_SEND_WINDOW_LEN: u64 = 64 << 20;
/// What 10 ms of the path hold at 0.8 GB/s; with the small one of the default it began more slowly.
const LOSSY_INITIAL_WINDOW_LEN: u64 = 8 << 20;
const RECEIVE_WINDOW_LEN: u32 = 64 << 20;
const PREFIX_LEN: usize = 4;

/// What the two ends do with their connection.
#[derive(Clone, Copy)]
enum Job {
    /// A length and 64 bytes there and back on one stream.
    RoundTrips(usize),
    /// 64 bytes there and back as unreliable datagrams.
    Datagrams(usize),
    /// Messages with a length in front, on one stream.
    Messages { len: usize, count: usize },
    /// So many bytes on one stream.
    Bulk(usize),
}

pub(crate) fn round_trips(n: usize) -> Outcome {
    run(Path::Direct, Job::RoundTrips(n))
}

pub(crate) fn datagram_round_trips(n: usize) -> Outcome {
    run(Path::Direct, Job::Datagrams(n))
}

/// Ends when the receiver, having read all, has said so.
pub(crate) fn messages(len: usize, count: usize) -> Outcome {
    run(Path::Direct, Job::Messages { len, count })
}

/// Ends when the receiver, having read all, has said so.
pub(crate) fn bulk(path: Path, len: usize) -> Outcome {
    run(path, Job::Bulk(len))
}

fn run(path: Path, job: Job) -> Outcome {
    let runtime = runtime();
    let (server_config, client_config) = configs(path);
    let server = endpoint(&runtime, Some(server_config));
    let client = endpoint(&runtime, None);
    let (to, relay) = path.to(server.local_addr().unwrap());
    let serving = runtime.spawn(serve(server, job));
    let driving = runtime.spawn(drive(client, client_config, to, job));
    let outcome = runtime.block_on(async {
        let outcome = driving.await.unwrap();
        serving.await.unwrap();
        outcome
    });
    drop(relay);
    outcome
}

/// Both ends share it: in a runtime of one thread for each end every hand-over wakes the other thread,
/// and all figures were lower.
fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

fn endpoint(runtime: &Runtime, server_config: Option<ServerConfig>) -> Endpoint {
    let _entered = runtime.enter();
    let config = EndpointConfig::default();
    Endpoint::new(
        config,
        server_config,
        sockets::bind(),
        Arc::new(TokioRuntime),
    )
    .unwrap()
}

fn configs(path: Path) -> (ServerConfig, ClientConfig) {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..default_provider()
    });
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = CertificateDer::from(issued.cert);
    let key = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key.into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();

    let transport = Arc::new(transport(path));
    let mut server =
        ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap()));
    server.transport_config(transport.clone());
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    client.transport_config(transport);
    (server, client)
}

fn transport(path: Path) -> TransportConfig {
    let mut config = TransportConfig::default();
    // The path is known to carry it, so there is nothing to probe for or to fall back to.
    config.initial_mtu(DATAGRAM_LEN as u16);
    config.min_mtu(DATAGRAM_LEN as u16);
    config.mtu_discovery_config(None);
    let window = VarInt::from_u32(RECEIVE_WINDOW_LEN);
    config.stream_receive_window(window);
    config.receive_window(window);
    match path {
        Path::Direct => {
            config.send_window(SEND_WINDOW_LEN);
        }
        Path::Lossy => {
            config.send_window(LOSSY_SEND_WINDOW_LEN);
            let mut bbr = BbrConfig::default();
            bbr.initial_window(LOSSY_INITIAL_WINDOW_LEN);
            config.congestion_controller_factory(Arc::new(bbr));
        }
    }
    config
}

// ---- the server

async fn serve(endpoint: Endpoint, job: Job) {
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    match job {
        Job::RoundTrips(n) => {
            let (mut send, mut recv) = connection.accept_bi().await.unwrap();
            let mut buf = [0; PREFIX_LEN + 64];
            for _ in 0..n {
                recv.read_exact(&mut buf).await.unwrap();
                send.write_all(&buf).await.unwrap();
            }
            connection.closed().await;
        }
        Job::Datagrams(n) => {
            for _ in 0..n {
                let datagram = connection.read_datagram().await.unwrap();
                connection.send_datagram(datagram).unwrap();
            }
            connection.closed().await;
        }
        Job::Messages { len, count } => {
            let (send, recv) = connection.accept_bi().await.unwrap();
            read_messages(recv, len, count).await;
            confirm(send, &connection).await;
        }
        Job::Bulk(len) => {
            let (send, mut recv) = connection.accept_bi().await.unwrap();
            let mut read = 0;
            while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.unwrap() {
                read += chunk.bytes.len();
            }
            assert_eq!(read, len);
            confirm(send, &connection).await;
        }
    }
    endpoint.wait_idle().await;
}

/// Goes through the messages where they lie, checking each length.
async fn read_messages(mut recv: RecvStream, len: usize, count: usize) {
    let (mut read, mut body_left) = (0, 0);
    let mut prefix = Vec::with_capacity(PREFIX_LEN);
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.unwrap() {
        let mut bytes = &chunk.bytes[..];
        while !bytes.is_empty() {
            if body_left == 0 {
                let taken = (PREFIX_LEN - prefix.len()).min(bytes.len());
                prefix.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if prefix.len() == PREFIX_LEN {
                    body_left = u32::from_be_bytes(prefix[..].try_into().unwrap()) as usize;
                    assert_eq!(body_left, len);
                    prefix.clear();
                }
            } else {
                let taken = body_left.min(bytes.len());
                bytes = &bytes[taken..];
                body_left -= taken;
                read += usize::from(body_left == 0);
            }
        }
    }
    assert_eq!(read, count);
}

async fn confirm(mut send: SendStream, connection: &Connection) {
    send.write_all(&[1]).await.unwrap();
    send.finish().unwrap();
    connection.closed().await;
}

// ---- the client

async fn drive(endpoint: Endpoint, config: ClientConfig, to: SocketAddr, job: Job) -> Outcome {
    let connecting = endpoint.connect_with(config, to, "localhost").unwrap();
    let connection = connecting.await.unwrap();
    let took = match job {
        Job::RoundTrips(n) => drive_round_trips(&connection, n).await,
        Job::Datagrams(n) => drive_datagrams(&connection, n).await,
        Job::Messages { len, count } => drive_messages(&connection, len, count).await,
        Job::Bulk(len) => drive_bulk(&connection, len).await,
    };
    let path = connection.stats().path;
    let share = path.lost_packets as f64 / path.sent_packets as f64;
    connection.close(VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;
    Outcome::new(took).note(format!("{:.1} % of packets counted as lost", share * 100.0))
}

async fn drive_round_trips(connection: &Connection, n: usize) -> Took {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let mut buf = [7; PREFIX_LEN + 64];
    let began = Watch::start();
    for _ in 0..n {
        send.write_all(&buf).await.unwrap();
        recv.read_exact(&mut buf).await.unwrap();
    }
    began.elapsed()
}

async fn drive_datagrams(connection: &Connection, n: usize) -> Took {
    let datagram = Bytes::from_static(&[7; 64]);
    let began = Watch::start();
    for _ in 0..n {
        connection.send_datagram(datagram.clone()).unwrap();
        assert_eq!(connection.read_datagram().await.unwrap().len(), 64);
    }
    began.elapsed()
}

async fn drive_messages(connection: &Connection, len: usize, count: usize) -> Took {
    let (mut send, recv) = connection.open_bi().await.unwrap();
    let message = vec![7; len];
    let piece_count = (PIECE_LEN / (PREFIX_LEN + len)).max(1);
    let began = Watch::start();
    let mut left = count;
    while left > 0 {
        let now = left.min(piece_count);
        let mut piece = BytesMut::with_capacity(now * (PREFIX_LEN + len));
        for _ in 0..now {
            piece.extend_from_slice(&(len as u32).to_be_bytes());
            piece.extend_from_slice(&message);
        }
        send.write_chunk(piece.freeze()).await.unwrap();
        left -= now;
    }
    confirmed(send, recv).await;
    began.elapsed()
}

async fn drive_bulk(connection: &Connection, len: usize) -> Took {
    let (mut send, recv) = connection.open_bi().await.unwrap();
    let piece = Bytes::from(vec![7; BULK_PIECE_LEN.min(len)]);
    let began = Watch::start();
    let mut left = len;
    while left > 0 {
        let now = left.min(piece.len());
        send.write_chunk(piece.slice(..now)).await.unwrap();
        left -= now;
    }
    confirmed(send, recv).await;
    began.elapsed()
}

async fn confirmed(mut send: SendStream, mut recv: RecvStream) {
    send.finish().unwrap();
    assert_eq!(recv.read_to_end(1).await.unwrap(), [1]);
}
