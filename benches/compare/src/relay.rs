//! A bad network between two UDP sockets: it loses datagrams by a seeded dice and holds the others
//! for a fixed time, each way by itself. Its rate is not limited.
//!
//! One thread with a socket towards either end. It reads and sends several datagrams in a call, so
//! that it can do more than what it is put under; `lossy` prints how much that is. Datagrams keep their
//! order, their sizes and their congestion bits.

use crate::sockets::{Offload, READ_LEN, Train, wait_either};
use crate::start;
use quinn_udp::{EcnCodepoint, RecvMeta};
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What it does to datagrams, in each direction.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// Of a million datagrams, how many are lost.
    pub(crate) lost_per_million: u64,
    pub(crate) delay: Duration,
    pub(crate) seed: u64,
}

/// Reads in one call; few, so that the other direction is not kept waiting.
const READ_COUNT: usize = 8;
/// Shorter reads are copied, so that an acknowledgement does not occupy a large buffer.
const COPIED_LEN: usize = 4096;
/// Buffers that are there before the first datagram is, for 5 ms of more than the path carries.
const BUFFER_COUNT: usize = 1024;
/// Bytes under way in one direction; beyond them it loses what arrives.
const QUEUE_LEN: usize = 256 << 20;
/// How often it looks whether it shall end.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Runs until it is dropped.
pub(crate) struct Relay {
    addr: SocketAddr,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Datagrams to `addr` reach `server`, whose answers reach whoever sent first.
    pub(crate) fn start(link: Link, server: SocketAddr) -> Self {
        let (front, back) = (Offload::bind(), Offload::bind());
        let addr = front.addr();
        let ending = Arc::new(AtomicBool::new(false));
        let mut buffers = Buffers::new();
        let thread = start("relay", {
            let ending = ending.clone();
            move || {
                let mut out = Direction::new(link, link.seed, Some(server));
                let mut home = Direction::new(link, !link.seed, None);
                while !ending.load(Ordering::Relaxed) {
                    let mut read = false;
                    if let Some(client) = out.read(&front, &mut buffers) {
                        home.to = Some(client);
                        read = true;
                    }
                    read |= home.read(&back, &mut buffers).is_some();
                    let due = [
                        out.send_due(&back, &mut buffers),
                        home.send_due(&front, &mut buffers),
                    ];
                    if !read {
                        let wait = due.into_iter().flatten().fold(LOOK_UP, Duration::min);
                        wait_either(&front, &back, wait);
                    }
                }
            }
        });
        Self {
            addr,
            ending,
            thread: Some(thread),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Datagrams of one size that arrived together, in the first `len` bytes of a buffer.
struct Held {
    due: Instant,
    buffer: Vec<u8>,
    len: usize,
    stride: usize,
    ecn: Option<EcnCodepoint>,
}

struct Direction {
    link: Link,
    dice: Dice,
    to: Option<SocketAddr>,
    held: VecDeque<Held>,
    held_len: usize,
}

impl Direction {
    fn new(link: Link, seed: u64, to: Option<SocketAddr>) -> Self {
        Self {
            link,
            dice: Dice(seed),
            to,
            held: VecDeque::new(),
            held_len: 0,
        }
    }

    /// Takes in what is there, if anything is; says from whom.
    fn read(&mut self, socket: &Offload, buffers: &mut Buffers) -> Option<SocketAddr> {
        let mut metas = [RecvMeta::default(); READ_COUNT];
        let read = {
            let slices = buffers.reading.iter_mut().map(|buf| IoSliceMut::new(buf));
            let mut slices: Vec<_> = slices.collect();
            socket.try_recv(&mut slices, &mut metas).unwrap()
        };
        let due = Instant::now() + self.link.delay;
        for (index, meta) in metas[..read].iter().enumerate() {
            let len = self.lose(&mut buffers.reading[index][..meta.len], meta.stride);
            if len > 0 && self.held_len + len <= QUEUE_LEN {
                self.held_len += len;
                self.held.push_back(Held {
                    due,
                    buffer: buffers.take_read(index, len),
                    len,
                    stride: meta.stride,
                    ecn: meta.ecn,
                });
            }
        }
        metas[..read].first().map(|meta| meta.addr)
    }

    /// Throws the dice for each datagram and closes the gaps; says how many bytes are left.
    fn lose(&mut self, bytes: &mut [u8], stride: usize) -> usize {
        let mut kept = 0;
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + stride).min(bytes.len());
            if !self.dice.hits(self.link.lost_per_million) {
                if kept != at {
                    bytes.copy_within(at..end, kept);
                }
                kept += end - at;
            }
            at = end;
        }
        kept
    }

    /// Sends what was held long enough; says when the next will be.
    fn send_due(&mut self, socket: &Offload, buffers: &mut Buffers) -> Option<Duration> {
        let mut now = Instant::now();
        let mut sent = 0;
        while let Some(held) = self.held.front() {
            let wait = held.due.saturating_duration_since(now);
            if !wait.is_zero() || sent == READ_COUNT {
                return Some(wait);
            }
            let held = self.held.pop_front().unwrap();
            let train = Train {
                bytes: &held.buffer[..held.len],
                stride: held.stride,
                ecn: held.ecn,
            };
            if let Some(to) = self.to {
                socket.send(train, to);
            }
            self.held_len -= held.len;
            buffers.put_back(held.buffer);
            sent += 1;
            now = Instant::now();
        }
        None
    }
}

/// Buffers of `READ_LEN` bytes, used again and again.
struct Buffers {
    reading: Vec<Vec<u8>>,
    free: Vec<Vec<u8>>,
}

impl Buffers {
    fn new() -> Self {
        // Written to, so that the kernel has given the memory before it counts.
        let buffer = vec![1; READ_LEN];
        Self {
            reading: vec![buffer.clone(); READ_COUNT],
            free: vec![buffer; BUFFER_COUNT],
        }
    }

    /// What was read into that buffer, of which another one takes the place.
    fn take_read(&mut self, index: usize, len: usize) -> Vec<u8> {
        let read = &mut self.reading[index];
        if len <= COPIED_LEN {
            return read[..len].to_vec();
        }
        let fresh = self.free.pop().unwrap_or_else(|| vec![0; READ_LEN]);
        std::mem::replace(read, fresh)
    }

    fn put_back(&mut self, buffer: Vec<u8>) {
        if buffer.len() == READ_LEN {
            self.free.push(buffer);
        }
    }
}

/// Vigna's splitmix64: every state is a good one, so any seed will do.
struct Dice(u64);

impl Dice {
    fn hits(&mut self, per_million: u64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % 1_000_000 < per_million
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets;

    #[test]
    fn what_is_lost_leaves_no_gap_and_is_the_same_each_time() {
        let link = Link {
            lost_per_million: 300_000,
            delay: Duration::ZERO,
            seed: 7,
        };
        let run = || {
            // 200 datagrams of 10 bytes and one of 4, each filled with its number.
            let mut bytes: Vec<u8> = (0..2004).map(|at| (at / 10) as u8).collect();
            let len = Direction::new(link, link.seed, None).lose(&mut bytes, 10);
            bytes.truncate(len);
            bytes
        };
        let kept = run();
        assert_eq!(kept, run());
        assert!((1200..1600).contains(&kept.len()), "{}", kept.len());
        for datagram in kept.chunks(10) {
            assert!(datagram.iter().all(|byte| *byte == datagram[0]));
        }
    }

    #[test]
    fn what_is_not_lost_comes_later_and_answers_go_back() {
        let link = Link {
            lost_per_million: 0,
            delay: Duration::from_millis(5),
            seed: 7,
        };
        let (client, server) = (sockets::bind(), sockets::bind());
        for socket in [&client, &server] {
            let limit = Duration::from_secs(10);
            socket.set_read_timeout(Some(limit)).unwrap();
        }
        let relay = Relay::start(link, server.local_addr().unwrap());
        let began = Instant::now();
        client.send_to(b"there", relay.addr()).unwrap();
        let mut buf = [0; 16];
        let (len, from) = server.recv_from(&mut buf).unwrap();
        assert_eq!(&buf[..len], b"there");
        assert!(began.elapsed() >= link.delay);
        server.send_to(b"back", from).unwrap();
        assert_eq!(client.recv_from(&mut buf).unwrap(), (4, relay.addr()));
        assert!(began.elapsed() >= 2 * link.delay);
    }
}
