//! TCP in plaintext beside tungstenite, WebSocket on blocking sockets: the nearest crate in shape. Its
//! sender is the server, whose messages are not masked, which is the faster direction.

use crate::{Outcome, Watch, start};
use std::net::{TcpListener, TcpStream};
use tungstenite::{Bytes, Message, WebSocket, accept, client};
use vstp::{Frame, VstpTcpClient, VstpTcpServer};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    connected.set_nodelay(true).unwrap();
    accepted.set_nodelay(true).unwrap();
    (connected, accepted)
}

/// Client and server, after the handshake.
fn websockets() -> (WebSocket<TcpStream>, WebSocket<TcpStream>) {
    let (connected, accepted) = pair();
    let accepting = start("accept", move || accept(accepted).unwrap());
    let (near, _) = client("ws://localhost/", connected).unwrap();
    (near, accepting.join().unwrap())
}

/// Messages of `len` bytes one way, gathered by the peer's own buffer.
pub(crate) fn websocket_one_way(len: usize, count: usize) -> Outcome {
    let (mut near, mut far) = websockets();
    let began = Watch::start();
    let receiving = start("receiver", move || {
        for _ in 0..count {
            assert_eq!(near.read().unwrap().len(), len);
        }
    });
    let payload = Bytes::from(vec![7; len]);
    for _ in 0..count {
        far.write(Message::Binary(payload.clone())).unwrap();
    }
    far.flush().unwrap();
    receiving.join().unwrap();
    Outcome::new(began.elapsed())
}

/// The same by this crate, with `feed`.
pub(crate) fn vstp_one_way(len: usize, count: usize) -> Outcome {
    let server = VstpTcpServer::bind_plain("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    let connecting = start("connect", move || {
        VstpTcpClient::connect_plain(addr).unwrap()
    });
    let mut far = server.accept().unwrap();
    let mut near = connecting.join().unwrap();
    let began = Watch::start();
    let receiving = start("receiver", move || {
        for _ in 0..count {
            assert_eq!(near.recv_ref().unwrap().unwrap().payload.len(), len);
        }
        near
    });
    let frame = Frame::data(vec![7; len]);
    for _ in 0..count {
        far.feed(&frame).unwrap();
    }
    far.flush().unwrap();
    let near = receiving.join().unwrap();
    let took = began.elapsed();
    drop((near, far));
    Outcome::new(took)
}

/// 64 bytes there and back, one at a time.
pub(crate) fn websocket_round_trips(count: usize) -> Outcome {
    let (mut near, mut far) = websockets();
    let echo = start("echo", move || {
        for _ in 0..count {
            let message = far.read().unwrap();
            far.send(message).unwrap();
        }
    });
    let payload = Bytes::from(vec![7; 64]);
    let began = Watch::start();
    for _ in 0..count {
        near.send(Message::Binary(payload.clone())).unwrap();
        assert_eq!(near.read().unwrap().len(), 64);
    }
    let took = began.elapsed();
    echo.join().unwrap();
    Outcome::new(took)
}

/// The same by this crate.
pub(crate) fn vstp_round_trips(count: usize) -> Outcome {
    let server = VstpTcpServer::bind_plain("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    let connecting = start("connect", move || {
        VstpTcpClient::connect_plain(addr).unwrap()
    });
    let mut far = server.accept().unwrap();
    let mut near = connecting.join().unwrap();
    let echo = start("echo", move || {
        for _ in 0..count {
            let frame = far.recv().unwrap().unwrap();
            far.send(&frame).unwrap();
        }
        far
    });
    let frame = Frame::data(vec![7; 64]);
    let began = Watch::start();
    for _ in 0..count {
        near.send(&frame).unwrap();
        assert_eq!(near.recv().unwrap().unwrap().payload.len(), 64);
    }
    let took = began.elapsed();
    drop((echo.join().unwrap(), near));
    Outcome::new(took)
}
