//! This crate: reliable where asked for, in plaintext and sealed. One session.
//!
//! Settings are the defaults, but for datagrams of 1,472 bytes, as the others send.

use crate::sockets::DATAGRAM_LEN;
use crate::{Outcome, Path, Watch, start};
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::dev;
use vstp::net::udp::{SealedSessions, UdpConfig};
use vstp::serve::{ServerConfig, Session};
use vstp::{Frame, VstpTcpClient, VstpTcpServer, VstpUdpClient, VstpUdpServer};

/// Frames of this size or larger are there before the clock starts (bytes).
const PIECE_LEN: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// 64 bytes there and back in frames without acknowledgement, polling for `spin` at most before each
/// wait.
pub(crate) fn round_trips(n: usize, spin: Duration) -> Outcome {
    let (client, server) = bind(config().spin(spin));
    let to = server.local_addr();
    let echo = start("vstp-echo", move || {
        for _ in 0..n {
            let (frame, from) = server.recv_timeout(PATIENCE).unwrap();
            server.send(&frame, from).unwrap();
        }
        server
    });
    client.connect(to).unwrap();
    let frame = Frame::data([7; 64]);
    let began = Watch::start();
    for _ in 0..n {
        client.send(&frame, to).unwrap();
        let (frame, _) = client.recv_timeout(PATIENCE).unwrap();
        assert_eq!(frame.payload.len(), 64);
    }
    let took = began.elapsed();
    drop(echo.join().unwrap());
    Outcome::new(took)
}

/// So many messages, each acknowledged by itself; ends when all are.
pub(crate) fn messages(path: Path, len: usize, count: usize) -> Outcome {
    let (client, server) = bind(config());
    let (to, relay) = path.to(server.local_addr());
    let receiver = receive(server, len, count);
    client.connect(to).unwrap();
    let outcome = send(&client, to, (len, count), receiver);
    drop(relay);
    outcome
}

/// The same in a sealed session: encrypted with keys of a TLS session, AES-256-GCM as a rule.
pub(crate) fn sealed_messages(path: Path, len: usize, count: usize) -> Outcome {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let (certs, sealed) = (dev::generate().unwrap(), SealedSessions::new());
    let tcp = ServerConfig::default().sealed_sessions(sealed.clone());
    let tcp = VstpTcpServer::bind_with(addr, certs.server().unwrap(), tcp).unwrap();
    let tcp = tcp.spawn(|_: &Session, _: Frame| ()).unwrap();
    let tls = TcpConfig::default().sealed_datagrams(true);
    let tls = VstpTcpClient::connect_with(tcp.local_addr(), &certs.client().unwrap(), tls);
    let tls = tls.unwrap();
    let server = VstpUdpServer::bind_with_config(addr, config().sealed_sessions(sealed)).unwrap();
    let (to, relay) = path.to(server.local_addr());
    let receiver = receive(server, len, count);
    let (client, _) = VstpUdpClient::connect_sealed_with_config(&tls, to, config()).unwrap();
    let outcome = send(&client, to, (len, count), receiver);
    drop((relay, tls));
    tcp.shutdown(Duration::from_secs(1));
    outcome
}

fn send(
    client: &VstpUdpClient,
    to: SocketAddr,
    (len, count): (usize, usize),
    receiver: JoinHandle<VstpUdpServer>,
) -> Outcome {
    // Large frames are handed over as they are; small ones are made one after the other.
    let payload = vec![7; len];
    let ready = if len < PIECE_LEN { 0 } else { count };
    let ready: Vec<Frame> = (0..ready).map(|_| Frame::data(payload.clone())).collect();
    let began = Watch::start();
    for _ in ready.len()..count {
        drop(client.start_send(Frame::data(payload.clone()), to).unwrap());
    }
    for frame in ready {
        drop(client.start_send(frame, to).unwrap());
    }
    client.flush().unwrap();
    let took = began.elapsed();
    drop(receiver.join().unwrap());
    Outcome::new(took).note(note(client))
}

fn config() -> UdpConfig {
    UdpConfig::default().max_datagram_size(DATAGRAM_LEN)
}

fn bind(config: UdpConfig) -> (VstpUdpClient, VstpUdpServer) {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = VstpUdpServer::bind_with_config(addr, config.clone()).unwrap();
    let client = VstpUdpClient::bind_with_config(addr, config).unwrap();
    (client, server)
}

/// Takes the messages, checking each length, and hands the server back, which still acknowledges.
fn receive(server: VstpUdpServer, len: usize, count: usize) -> JoinHandle<VstpUdpServer> {
    start("vstp-recv", move || {
        for _ in 0..count {
            let (frame, _) = server.recv_timeout(PATIENCE).unwrap();
            assert_eq!(frame.payload.len(), len);
        }
        server
    })
}

fn note(client: &VstpUdpClient) -> String {
    let stats = client.stats().protocol;
    let share = stats.retransmissions as f64 / stats.datagrams_sent as f64;
    let timeouts = stats.timeouts;
    format!("{:.1} % sent again, {timeouts} timeouts", share * 100.0)
}
