//! Bare sockets: what the kernel can do. Nothing is acknowledged, ordered or sent again.

use crate::sockets::{self, DATAGRAM_LEN, Offload, READ_LEN, Train};
use crate::{Outcome, Path, Took, Watch, start};
use quinn_udp::RecvMeta;
use std::io::{ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Reads handed out by one call.
const READ_COUNT: usize = 8;
/// Bytes under way: little enough to stay in the caches, and what 10 ms of the relay hold.
const WINDOW_LEN: usize = 1 << 20;
const LOSSY_WINDOW_LEN: usize = 32 << 20;
/// What is under way is lost when nothing arrives for so long.
const LOSS_AFTER: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);

/// 64 bytes there and back, one datagram at a time, polling for `spin` at most before each wait.
pub(crate) fn round_trips(n: usize, spin: Duration) -> Outcome {
    let (client, server) = (sockets::bind(), sockets::bind());
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.connect(server.local_addr().unwrap()).unwrap();
    let echo = start("raw-echo", move || {
        let mut buf = [0; 64];
        for _ in 0..n {
            let from = recv(&server, &mut buf, spin);
            server.send_to(&buf, from).unwrap();
        }
    });
    let mut buf = [7; 64];
    let began = Watch::start();
    for _ in 0..n {
        client.send(&buf).unwrap();
        recv(&client, &mut buf, spin);
    }
    let took = began.elapsed();
    echo.join().unwrap();
    Outcome::new(took)
}

fn recv(socket: &UdpSocket, buf: &mut [u8], spin: Duration) -> SocketAddr {
    if !spin.is_zero() {
        socket.set_nonblocking(true).unwrap();
        let began = Instant::now();
        while began.elapsed() < spin {
            match socket.recv_from(buf) {
                Ok((len, from)) => {
                    assert_eq!(len, buf.len());
                    socket.set_nonblocking(false).unwrap();
                    return from;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    // Both ends may sit on one core, and stay there: the one must let the other run.
                    thread::yield_now();
                }
            }
        }
        socket.set_nonblocking(false).unwrap();
    }
    let (len, from) = socket.recv_from(buf).unwrap();
    assert_eq!(len, buf.len());
    from
}

/// Until `count` datagrams of `len` bytes have arrived, whatever gets lost. The sender looks at the
/// receiver's count, a variable, so as not to spend its time on what overflows the sockets. With
/// `offload` as many datagrams go into a call as the kernel takes, else one.
pub(crate) fn one_way(path: Path, len: usize, count: usize, offload: bool) -> Outcome {
    assert!(len <= DATAGRAM_LEN);
    let (client, server) = (Offload::bind(), Offload::bind());
    let (to, relay) = path.to(server.addr());
    let train_count = if offload { client.train_count(len) } else { 1 };
    let bytes = vec![7; len * train_count];
    let train = Train {
        bytes: &bytes,
        stride: len,
        ecn: None,
    };
    let window = match path {
        Path::Direct => WINDOW_LEN / len,
        Path::Lossy => LOSSY_WINDOW_LEN / len,
    };
    let counter = Arc::new(AtomicUsize::new(0));
    let receiver = start("raw-recv", {
        let counter = counter.clone();
        move || {
            receive(&server, len, count, &counter);
            Instant::now()
        }
    });
    let (began, watch) = (Instant::now(), Watch::start());
    let (mut sent, mut lost) = (0, 0);
    let (mut arrived, mut arrived_at) = (0, began);
    while arrived < count {
        if sent < arrived + lost + window {
            client.send(train, to);
            sent += train_count;
        } else {
            thread::yield_now();
        }
        let (before, now) = (arrived, Instant::now());
        arrived = counter.load(Ordering::Acquire);
        if arrived > before {
            arrived_at = now;
        } else if now - arrived_at > LOSS_AFTER {
            lost = sent.saturating_sub(arrived);
            assert!(now - began < PATIENCE, "the datagrams do not arrive");
        }
    }
    let took = Took {
        time: receiver.join().unwrap() - began,
        ..watch.elapsed()
    };
    drop(relay);
    let ratio = sent as f64 / count as f64;
    Outcome::new(took).note(format!("sent {ratio:.2} x what had to arrive"))
}

fn receive(socket: &Offload, len: usize, count: usize, counter: &AtomicUsize) {
    let mut bufs = vec![vec![0; READ_LEN]; READ_COUNT];
    let mut metas = [RecvMeta::default(); READ_COUNT];
    let mut arrived = 0;
    while arrived < count {
        let mut slices: Vec<_> = bufs.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
        let filled = socket.try_recv(&mut slices, &mut metas).unwrap();
        for meta in &metas[..filled] {
            assert_eq!(meta.stride, len);
            assert_eq!(meta.len % len, 0);
            arrived += meta.len / len;
            counter.store(arrived, Ordering::Release);
        }
        if filled == 0 {
            socket.wait_readable(PATIENCE);
        }
    }
}
