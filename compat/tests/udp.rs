//! This crate and the asynchronous `vstp` 0.2.1 over UDP, each as the client and as the server.
//!
//! 0.2.1 knows no sessions, so ours sends to it without one; and its fragments never worked, so every
//! frame here fits one datagram.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use vstp::net::udp::UdpConfig;
use vstp::serve::UdpPeer;
use vstp::{Frame, FrameType, VstpUdpClient, VstpUdpServer};
use vstp_async::udp::client::VstpUdpClient as OldClient;
use vstp_async::udp::server::VstpUdpServer as OldServer;
use vstp_async::{Frame as OldFrame, FrameType as OldType};

/// Longer than any honest step takes here; reached only by a test that fails.
const LONG: Duration = Duration::from_secs(20);
const LOCAL: &str = "127.0.0.1:0";
/// With headers and checksum the last one fills a datagram of 1,200 bytes.
const SIZES: [usize; 6] = [0, 1, 64, 255, 1024, 1140];

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(LONG, future).await;
    result.expect("the other side does not answer")
}

async fn blocking<T: Send + 'static>(calls: impl FnOnce() -> T + Send + 'static) -> T {
    in_time(tokio::task::spawn_blocking(calls)).await.unwrap()
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

fn config() -> UdpConfig {
    UdpConfig::default().read_timeout(Some(LONG))
}

#[tokio::test]
async fn an_old_client_and_our_server() {
    let server = VstpUdpServer::bind_with_config(LOCAL, config()).unwrap();
    let addr = server.local_addr();
    let handle = server.spawn(|_: &UdpPeer, frame: Frame| frame).unwrap();
    let mut client = OldClient::bind(LOCAL).await.unwrap();
    for len in SIZES {
        let frame = OldFrame::new(OldType::Data)
            .with_header("k", "v")
            .with_payload(payload(len));
        in_time(client.send(frame.clone(), addr)).await.unwrap();
        let (back, from) = in_time(client.recv()).await.unwrap();
        assert_eq!((&back.payload, from), (&payload(len), addr));
        assert!(
            back.headers
                .iter()
                .any(|h| h.key == b"k" && h.value == b"v")
        );
    }
    // Ours answers at once, and 0.2.1 throws away what is no acknowledgement while it waits for one: this
    // server keeps the messages for itself.
    handle.shutdown(LONG);
    let server = VstpUdpServer::bind_with_config(LOCAL, config()).unwrap();
    let addr = server.local_addr();
    for len in SIZES {
        let frame = OldFrame::new(OldType::Data).with_payload(payload(len));
        in_time(client.send_with_ack(frame, addr)).await.unwrap();
    }
    let got = blocking(move || {
        let got: Vec<Vec<u8>> = SIZES.map(|_| server.recv().unwrap().0.payload).into();
        assert!(server.recv_timeout(Duration::from_millis(50)).is_err());
        got
    })
    .await;
    assert_eq!(got, SIZES.map(payload));
}

#[tokio::test]
async fn our_client_and_an_old_server() {
    let server = OldServer::bind(LOCAL).await.unwrap();
    let addr: SocketAddr = server.local_addr().unwrap();
    let echo = tokio::spawn(async move {
        for _ in 0..2 * SIZES.len() {
            let (frame, from) = server.recv().await.unwrap();
            let back = OldFrame::new(OldType::Data).with_payload(frame.payload);
            server.send(back, from).await.unwrap();
        }
    });
    blocking(move || {
        let client = VstpUdpClient::bind_with_config(LOCAL, config()).unwrap();
        for len in SIZES {
            let frame = Frame::data(payload(len));
            client.send(&frame, addr).unwrap();
            assert_eq!(client.recv().unwrap(), (frame.clone(), addr));
            client.send_with_ack(frame.clone(), addr).unwrap();
            assert_eq!(client.recv().unwrap(), (frame, addr));
        }
        assert_eq!(
            client.stats().protocol.messages_acknowledged,
            SIZES.len() as u64
        );
    })
    .await;
    in_time(echo).await.unwrap();
}

#[tokio::test]
async fn an_old_peer_that_restarts_and_counts_anew_is_heard() {
    let server = VstpUdpServer::bind_with_config(LOCAL, config()).unwrap();
    let to = server.local_addr();
    let first = OldClient::bind(LOCAL).await.unwrap();
    let addr = first.local_addr().unwrap();
    drop(first);
    for round in 0..3_u8 {
        // Each begins with message 1, from the same address.
        let mut client = OldClient::bind(&addr.to_string()).await.unwrap();
        let frame = OldFrame::new(OldType::Data).with_payload(vec![round]);
        in_time(client.send_with_ack(frame, to)).await.unwrap();
    }
    let got = blocking(move || [0; 3].map(|_| server.recv().unwrap().0)).await;
    assert!(got.iter().all(|frame| frame.typ == FrameType::Data));
    assert_eq!(got.map(|frame| frame.payload[0]), [0, 1, 2]);
}
