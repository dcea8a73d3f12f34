//! This crate and the asynchronous `vstp` 0.2.1, in plaintext, each as the client and as the server.
//!
//! 0.2.1 knows no session: nobody says HELLO unless the application does, and a frame is handed to
//! the application whatever its type. So our server meets such clients without any setting, and our
//! client reaches such servers with `TcpConfig::hello(false)`.

use serde::{Deserialize, Serialize};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use vstp::net::tcp::{TcpConfig, VstpTcpClient};
use vstp::serve::{ServerConfig, ServerHandle, Session, VstpTcpServer};
use vstp_async::tcp::server::VstpTcpConnection as OldConnection;
use vstp_async::{
    Flags as OldFlags, Frame as OldFrame, FrameType as OldType, VstpTcpClient as OldClient,
    VstpTcpServer as OldServer,
};

/// Longer than any honest step takes here; reached only by a test that fails.
const LONG: Duration = Duration::from_secs(20);

/// Sizes of payloads: none, around powers of two, around the buffers of either side.
const SIZES: [usize; 12] = [
    0, 1, 2, 255, 256, 4095, 8192, 65_535, 65_536, 131_073, 1_048_575, 1_048_576,
];

/// What the future gives, in time.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(LONG, future).await;
    result.expect("the other side does not answer")
}

/// Runs calls of this crate, which block, while the other side's futures go on.
async fn blocking<T: Send + 'static>(calls: impl FnOnce() -> T + Send + 'static) -> T {
    in_time(tokio::task::spawn_blocking(calls)).await.unwrap()
}

/// A payload in which each byte that gets lost or changed is seen.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

fn old_data(payload: Vec<u8>) -> OldFrame {
    OldFrame::new(OldType::Data).with_payload(payload)
}

/// The settings that 0.2.1 needs.
fn config() -> TcpConfig {
    TcpConfig::default()
        .hello(false)
        .read_timeout(Some(LONG))
        .call_timeout(LONG)
}

/// Our server, which answers each message with its payload and its headers.
fn our_echo() -> (ServerHandle, String) {
    let server = VstpTcpServer::bind_plain("127.0.0.1:0").unwrap();
    let addr = server.local_addr().to_string();
    let echo = |_: &Session, frame: vstp::Frame| vstp::Frame {
        flags: vstp::Flags::empty(),
        ..frame
    };
    (server.spawn(echo).unwrap(), addr)
}

/// A server of 0.2.1 that accepts one client and does this with it.
async fn old_server<F, T>(
    act: impl FnOnce(OldConnection) -> F + Send + 'static,
) -> (SocketAddr, tokio::task::JoinHandle<T>)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let server = OldServer::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let connection = in_time(server.accept()).await.unwrap();
        act(connection).await
    });
    (addr, task)
}

/// Sends back what comes, until the end; how many frames.
async fn old_echo(mut connection: OldConnection) -> usize {
    let mut count = 0;
    while let Some(frame) = in_time(connection.recv()).await.unwrap() {
        count += 1;
        in_time(connection.send(frame)).await.unwrap();
    }
    count
}

// The client is 0.2.1, the server is ours.

#[tokio::test(flavor = "multi_thread")]
async fn old_client_payloads_of_many_sizes() {
    let (server, addr) = our_echo();
    let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
    for len in SIZES {
        let frame = old_data(payload(len)).with_header("len", &len.to_string());
        in_time(client.send(frame.clone())).await.unwrap();
        let answer = in_time(client.recv()).await.unwrap();
        assert!(answer == Some(frame), "{len} bytes");
    }
    drop(client);
    let report = blocking(move || server.shutdown(LONG)).await;
    assert_eq!((report.cut_off, report.stuck), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_client_several_frames_in_a_row() {
    let (server, addr) = our_echo();
    let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
    for n in 0..1000_u32 {
        in_time(client.send_data(n.to_be_bytes().to_vec()))
            .await
            .unwrap();
    }
    for n in 0..1000_u32 {
        let frame = in_time(client.recv()).await.unwrap().unwrap();
        assert_eq!(frame, old_data(n.to_be_bytes().to_vec()));
    }
    drop(client);
    blocking(move || server.shutdown(LONG)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_client_headers() {
    let (server, addr) = our_echo();
    let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
    let mut frame = old_data(b"text".to_vec())
        .with_header("content-type", "text/plain")
        .with_header("empty", "")
        .with_header("", "no key")
        .with_header("twice", "1")
        .with_header("twice", "2")
        .with_header(&"k".repeat(255), &"v".repeat(255));
    let bytes = vstp_async::Header::new(vec![0, 255], vec![128, 10]);
    frame.headers.push(bytes);
    in_time(client.send(frame.clone())).await.unwrap();
    assert_eq!(in_time(client.recv()).await.unwrap(), Some(frame));
    drop(client);
    blocking(move || server.shutdown(LONG)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_client_flags() {
    let server = VstpTcpServer::bind_plain("127.0.0.1:0").unwrap();
    let addr = server.local_addr().to_string();
    let say_flags = |_: &Session, frame: vstp::Frame| vstp::Frame::data([frame.flags.bits()]);
    let server = server.spawn(say_flags).unwrap();

    let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
    let frame = old_data(b"?".to_vec());
    in_time(client.send(frame.clone().with_flag(OldFlags::CRC)))
        .await
        .unwrap();
    let answer = in_time(client.recv()).await.unwrap().unwrap();
    assert_eq!(answer.payload, [OldFlags::CRC.bits()]);

    // With a number, the message is acknowledged, before it is answered.
    let numbered = frame
        .clone()
        .with_flag(OldFlags::REQ_ACK)
        .with_header("msg-id", "7");
    in_time(client.send(numbered)).await.unwrap();
    let ack = in_time(client.recv()).await.unwrap().unwrap();
    assert_eq!(ack.typ, OldType::Ack);
    assert_eq!(ack.get_header("msg-id"), Some("7"));
    let answer = in_time(client.recv()).await.unwrap().unwrap();
    assert_eq!(answer.payload, [OldFlags::REQ_ACK.bits()]);

    // Without one, there is nothing to acknowledge it by.
    in_time(client.send(frame.clone().with_flag(OldFlags::REQ_ACK)))
        .await
        .unwrap();
    let answer = in_time(client.recv()).await.unwrap().unwrap();
    assert_eq!(answer.typ, OldType::Data);

    // What a stream cannot carry is refused, and the refusal says so.
    for flag in [OldFlags::FRAG, OldFlags::COMP] {
        let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
        in_time(client.send(frame.clone().with_flag(flag)))
            .await
            .unwrap();
        let refusal = in_time(client.recv()).await.unwrap().unwrap();
        assert_eq!(refusal.typ, OldType::Err, "{flag:?}");
        assert_eq!(refusal.get_header("code"), Some("protocol"));
        assert_eq!(in_time(client.recv()).await.unwrap(), None);
    }
    drop(client);
    blocking(move || server.shutdown(LONG)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_client_ping_and_hello() {
    let (server, addr) = our_echo();
    let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
    let ping = OldFrame::new(OldType::Ping).with_payload(b"are you there".to_vec());
    in_time(client.send(ping)).await.unwrap();
    let pong = in_time(client.recv()).await.unwrap().unwrap();
    assert_eq!(pong.typ, OldType::Pong);
    assert_eq!(pong.payload, b"are you there");
    // It may open a session; then it is told its number.
    in_time(client.send_hello()).await.unwrap();
    let welcome = in_time(client.recv()).await.unwrap().unwrap();
    assert_eq!(welcome.typ, OldType::Welcome);
    let number: u128 = welcome.get_header("session-id").unwrap().parse().unwrap();
    assert_ne!(number, 0);
    in_time(client.send_data(b"go on".to_vec())).await.unwrap();
    let answer = in_time(client.recv()).await.unwrap().unwrap();
    assert_eq!(answer, old_data(b"go on".to_vec()));
    drop(client);
    blocking(move || server.shutdown(LONG)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_client_close_is_an_orderly_end() {
    for with_hello in [false, true] {
        let server = VstpTcpServer::bind_plain("127.0.0.1:0").unwrap();
        let addr = server.local_addr().to_string();
        let ours = tokio::task::spawn_blocking(move || {
            let mut connection = server.accept_timeout(LONG).unwrap();
            let first = connection.recv_timeout(LONG).unwrap();
            assert_eq!(first, Some(vstp::Frame::data("last words")));
            assert_eq!(connection.recv_timeout(LONG).unwrap(), None);
            assert_eq!(connection.recv_timeout(LONG).unwrap(), None);
        });
        let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
        if with_hello {
            in_time(client.send_hello()).await.unwrap();
            let welcome = in_time(client.recv()).await.unwrap().unwrap();
            assert_eq!(welcome.typ, OldType::Welcome);
        }
        in_time(client.send_data(b"last words".to_vec()))
            .await
            .unwrap();
        in_time(client.close()).await.unwrap();
        // A session that was opened is ended with BYE by both; the stream ends in any case.
        if with_hello {
            let bye = in_time(client.recv()).await.unwrap().unwrap();
            assert_eq!(bye.typ, OldType::Bye);
        }
        assert_eq!(in_time(client.recv()).await.unwrap(), None);
        in_time(ours).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_client_that_just_goes_away() {
    let server = VstpTcpServer::bind_plain("127.0.0.1:0").unwrap();
    let addr = server.local_addr().to_string();
    let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
    in_time(client.send_data(b"last words".to_vec()))
        .await
        .unwrap();
    drop(client);
    blocking(move || {
        let mut connection = server.accept_timeout(LONG).unwrap();
        let first = connection.recv_timeout(LONG).unwrap();
        assert_eq!(first, Some(vstp::Frame::data("last words")));
        // A session without HELLO has no BYE, so this is its end.
        assert_eq!(connection.recv_timeout(LONG).unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_client_sees_our_server_shut_down() {
    let (server, addr) = our_echo();
    let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
    in_time(client.send_data(b"one".to_vec())).await.unwrap();
    in_time(client.recv()).await.unwrap().unwrap();
    let stopping = tokio::task::spawn_blocking(move || server.shutdown(LONG));
    assert_eq!(in_time(client.recv()).await.unwrap(), None);
    drop(client);
    let report = in_time(stopping).await.unwrap();
    assert_eq!((report.connections, report.cut_off), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_old_clients_at_once() {
    let (server, addr) = our_echo();
    let clients: Vec<_> = (0..20)
        .map(|n: u8| {
            let addr = addr.clone();
            tokio::spawn(async move {
                let mut client = in_time(OldClient::connect(&addr)).await.unwrap();
                for len in [10, 1000, 100_000] {
                    let frame = old_data(vec![n; len]);
                    in_time(client.send(frame.clone())).await.unwrap();
                    assert!(in_time(client.recv()).await.unwrap() == Some(frame));
                }
            })
        })
        .collect();
    for client in clients {
        in_time(client).await.unwrap();
    }
    assert_eq!(server.stats().frames_in, 60);
    blocking(move || server.shutdown(LONG)).await;
}

// The client is ours, the server is 0.2.1.

#[tokio::test(flavor = "multi_thread")]
async fn old_server_payloads_of_many_sizes() {
    let (addr, task) = old_server(old_echo).await;
    blocking(move || {
        let mut client = VstpTcpClient::connect_plain_with(addr, config()).unwrap();
        for len in SIZES {
            let frame = vstp::Frame::data(payload(len)).with_header("len", len.to_string());
            client.send(&frame).unwrap();
            assert!(client.recv().unwrap() == Some(frame), "{len} bytes");
        }
        client.close().unwrap();
    })
    .await;
    // And no frame that the application did not send: neither HELLO nor BYE.
    assert_eq!(in_time(task).await.unwrap(), SIZES.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_server_several_frames_in_a_row() {
    let (addr, task) = old_server(old_echo).await;
    blocking(move || {
        let mut client = VstpTcpClient::connect_plain_with(addr, config()).unwrap();
        let frames: Vec<_> = (0..1000_u32)
            .map(|n| vstp::Frame::data(n.to_be_bytes()))
            .collect();
        client.send_all(&frames).unwrap();
        for frame in frames {
            assert_eq!(client.recv().unwrap(), Some(frame));
        }
        client.close().unwrap();
    })
    .await;
    assert_eq!(in_time(task).await.unwrap(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_server_headers_and_flags() {
    let (addr, task) = old_server(old_echo).await;
    blocking(move || {
        let mut client = VstpTcpClient::connect_plain_with(addr, config()).unwrap();
        let frame = vstp::Frame::data("text")
            .with_flag(vstp::Flags::CRC)
            .with_header("content-type", "text/plain")
            .with_header("empty", "")
            .with_header("twice", "1")
            .with_header("twice", "2")
            .with_header("k".repeat(255), "v".repeat(255))
            .with_header([0, 255], [128, 10]);
        client.send(&frame).unwrap();
        assert_eq!(client.recv().unwrap(), Some(frame));
        client.close().unwrap();
    })
    .await;
    in_time(task).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_server_that_acknowledges_and_answers_pings() {
    // What 0.2.1 leaves to its application.
    let (addr, task) = old_server(|mut connection| async move {
        while let Some(frame) = in_time(connection.recv()).await.unwrap() {
            let answer = match frame.typ {
                OldType::Ping => OldFrame::new(OldType::Pong).with_payload(frame.payload),
                _ => {
                    let id = frame.get_header("msg-id").unwrap();
                    OldFrame::new(OldType::Ack).with_header("msg-id", id)
                }
            };
            in_time(connection.send(answer)).await.unwrap();
        }
    })
    .await;
    blocking(move || {
        let mut client = VstpTcpClient::connect_plain_with(addr, config()).unwrap();
        client.send_with_ack(vstp::Frame::data("kept")).unwrap();
        assert!(client.ping().unwrap() < LONG);
        client.close().unwrap();
    })
    .await;
    in_time(task).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_server_says_goodbye_or_goes_away() {
    for says_bye in [false, true] {
        let (addr, task) = old_server(move |mut connection| async move {
            let frame = old_data(b"last words".to_vec());
            in_time(connection.send(frame)).await.unwrap();
            if says_bye {
                in_time(connection.send(OldFrame::new(OldType::Bye)))
                    .await
                    .unwrap();
            }
        })
        .await;
        blocking(move || {
            let mut client = VstpTcpClient::connect_plain_with(addr, config()).unwrap();
            let last = client.recv().unwrap();
            assert_eq!(last, Some(vstp::Frame::data("last words")));
            assert_eq!(client.recv().unwrap(), None);
        })
        .await;
        in_time(task).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_server_needs_the_setting() {
    // By default our client says HELLO and waits for WELCOME, which 0.2.1 does not know to send.
    let (addr, task) = old_server(|mut connection| async move {
        let hello = in_time(connection.recv()).await.unwrap().unwrap();
        assert_eq!(hello.typ, OldType::Hello);
        let error = in_time(connection.recv()).await.unwrap().unwrap();
        assert_eq!(error.typ, OldType::Err);
        assert_eq!(error.get_header("code"), Some("timeout"));
        assert_eq!(in_time(connection.recv()).await.unwrap(), None);
    })
    .await;
    blocking(move || {
        let config = TcpConfig::default().handshake_timeout(Duration::from_millis(100));
        let error = VstpTcpClient::connect_plain_with(addr, config).unwrap_err();
        assert!(error.is_timeout(), "{error}");
    })
    .await;
    in_time(task).await.unwrap();
}

// The easy interfaces: serde types as JSON.

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Message {
    name: String,
    values: Vec<i64>,
}

fn message(n: i64) -> Message {
    Message {
        name: format!("number {n}, ümlaut \"quoted\""),
        values: (0..n).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_easy_client_and_our_easy_server() {
    let server = vstp::VstpServer::bind_tcp_plain("127.0.0.1:0", ServerConfig::default()).unwrap();
    let addr = server.local_addr().to_string();
    let reverse = |mut message: Message| {
        message.values.reverse();
        Ok::<_, String>(message)
    };
    let server = server.spawn(reverse).unwrap();
    let client = in_time(vstp_async::VstpClient::connect_tcp(addr.as_str()))
        .await
        .unwrap();
    for n in [0, 1, 10_000] {
        in_time(client.send(message(n))).await.unwrap();
        let mut answer: Message = in_time(client.receive()).await.unwrap();
        answer.values.reverse();
        assert_eq!(answer, message(n));
    }
    drop(client);
    blocking(move || server.shutdown(LONG)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_easy_client_and_old_easy_server() {
    // It does not tell its port, so it gets one that was free a moment ago.
    let mut attempts = 0;
    let (server, addr) = loop {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        match vstp_async::VstpServer::bind_tcp(addr.to_string()).await {
            Ok(server) => break (server, addr),
            Err(error) => assert!(attempts < 10, "{error}"),
        }
        attempts += 1;
    };
    let echo = |message: Message| async move { Ok::<_, vstp_async::VstpError>(message) };
    let serving = tokio::spawn(server.serve(echo));
    blocking(move || {
        let mut client = vstp::VstpClient::connect_tcp_plain(addr, config()).unwrap();
        for n in [0, 1, 10_000] {
            client.send(&message(n)).unwrap();
            assert_eq!(client.receive::<Message>().unwrap(), message(n));
        }
        client.close().unwrap();
    })
    .await;
    serving.abort();
}
