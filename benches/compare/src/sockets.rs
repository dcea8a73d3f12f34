//! UDP sockets with segmentation offload and receive coalescing, for the bare peer and the relay.
//!
//! A thin layer on `quinn-udp`: it never blocks in a socket, so waiting is a function of its own.

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// What a datagram carries at most: 1,500 bytes of Ethernet without the heads of IPv4 and UDP.
pub(crate) const DATAGRAM_LEN: usize = 1472;
/// What one read may hand out: several datagrams of one size in a row.
pub(crate) const READ_LEN: usize = 64 * 1024;
/// Asked of the kernel, which caps it at its own limit without an error.
const BUFFER_LEN: usize = 16 << 20;
/// The kernel takes as many bytes in one call as one datagram can have.
const CALL_LEN: usize = 65_507;

/// A socket on a free port of localhost, with buffers as large as the kernel allows.
pub(crate) fn bind() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_recv_buffer_size(BUFFER_LEN).unwrap();
    socket.set_send_buffer_size(BUFFER_LEN).unwrap();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&addr.into()).unwrap();
    socket.into()
}

/// A socket that sends and receives several datagrams in a call.
pub(crate) struct Offload {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Datagrams of one size (the last may be shorter), in one buffer.
#[derive(Clone, Copy)]
pub(crate) struct Train<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) ecn: Option<EcnCodepoint>,
}

impl Offload {
    pub(crate) fn bind() -> Self {
        let socket = bind();
        let state = UdpSocketState::new((&socket).into()).unwrap();
        Self { socket, state }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// How many datagrams of that size go into one call.
    pub(crate) fn train_count(&self, stride: usize) -> usize {
        (CALL_LEN / stride).min(self.state.max_gso_segments())
    }

    /// Sends all of it, waiting for room where there is none. What nobody listens to is lost.
    pub(crate) fn send(&self, train: Train<'_>, to: SocketAddr) {
        let call_len = train.stride * self.train_count(train.stride);
        for bytes in train.bytes.chunks(call_len) {
            let transmit = Transmit {
                destination: to,
                ecn: train.ecn,
                contents: bytes,
                segment_size: Some(train.stride),
                src_ip: None,
            };
            loop {
                match self.state.try_send((&self.socket).into(), &transmit) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        wait(&[(&self.socket, PollFlags::OUT)], None);
                    }
                    Err(error) if error.kind() != ErrorKind::ConnectionRefused => panic!("{error}"),
                    _ => break,
                }
            }
        }
    }

    /// Fills some buffers with what is there, without waiting; says how many.
    pub(crate) fn try_recv(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        match self.state.recv((&self.socket).into(), bufs, metas) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Waits until there is something to read, at most that long.
    pub(crate) fn wait_readable(&self, timeout: Duration) {
        wait(&[(&self.socket, PollFlags::IN)], Some(timeout));
    }
}

/// Waits until one of two sockets has something to read, at most that long.
pub(crate) fn wait_either(first: &Offload, second: &Offload, timeout: Duration) {
    let sockets = [&first.socket, &second.socket].map(|socket| (socket, PollFlags::IN));
    wait(&sockets, Some(timeout));
}

fn wait(sockets: &[(&UdpSocket, PollFlags)], timeout: Option<Duration>) {
    let mut fds: Vec<_> = sockets
        .iter()
        .map(|&(socket, flags)| PollFd::new(socket, flags))
        .collect();
    let timeout = timeout.map(|timeout| Timespec::try_from(timeout).unwrap());
    match poll(&mut fds, timeout.as_ref()) {
        Err(rustix::io::Errno::INTR) | Ok(_) => {}
        Err(error) => panic!("{error}"),
    }
}
