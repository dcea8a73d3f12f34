//! A relay of datagrams in user space: loses, doubles and delays what passes, by a seed.

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vstp::net::clock;

/// What happens to a datagram, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    pub(crate) flip: u64,
    pub(crate) delay: Duration,
}

/// Stands before one server; every client that sends to it gets a socket of its own behind it.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    stop: Arc<AtomicBool>,
    pub(crate) lost: Arc<AtomicU64>,
    /// What passed, once [`Self::tap`] was called.
    seen: Arc<Mutex<Option<Vec<Vec<u8>>>>>,
    threads: Vec<JoinHandle<()>>,
}

struct Datagram {
    at: Instant,
    number: u64,
    bytes: Vec<u8>,
}

impl PartialEq for Datagram {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Datagram {}
impl PartialOrd for Datagram {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Datagram {
    /// The earliest is the greatest, which is what a heap gives first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Enough to mix numbers, and the same every time.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Relay {
    /// Between one client and the server at `to`.
    pub(crate) fn new(to: SocketAddr, link: Link, seed: u64) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        for socket in [&front, &back] {
            let socket = socket2::SockRef::from(&**socket);
            socket.set_recv_buffer_size(8 << 20).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
        }
        let addr = front.local_addr().unwrap();
        let (stop, lost) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let client = Arc::new(Mutex::new(None));
        let seen = Arc::<Mutex<Option<Vec<Vec<u8>>>>>::default();
        let mut threads = Vec::new();
        for forth in [true, false] {
            let (input, output) = if forth {
                (&front, &back)
            } else {
                (&back, &front)
            };
            let (input, output) = (Arc::clone(input), Arc::clone(output));
            let (queue, queued) = bounded::<Datagram>(100_000);
            let target = Arc::clone(&client);
            let send = move |bytes: &[u8]| {
                let to = if forth {
                    Some(to)
                } else {
                    *target.lock().unwrap()
                };
                if let Some(to) = to {
                    let _ = output.send_to(bytes, to);
                }
            };
            threads.push(spawn(move || {
                let mut heap = BinaryHeap::new();
                loop {
                    let now = clock::now();
                    let wait = heap.peek().map_or(Duration::from_secs(1), |d: &Datagram| {
                        d.at.saturating_duration_since(now)
                    });
                    match queued.recv_timeout(wait) {
                        Ok(datagram) => heap.push(datagram),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                    while heap.peek().is_some_and(|d| d.at <= clock::now()) {
                        send(&heap.pop().unwrap().bytes);
                    }
                }
            }));
            let (stop, lost, client) = (Arc::clone(&stop), Arc::clone(&lost), Arc::clone(&client));
            let seed = seed * 2 + u64::from(forth);
            let seen = Arc::clone(&seen);
            threads.push(spawn(move || {
                let note = |from, bytes: &[u8]| {
                    if forth {
                        *client.lock().unwrap() = Some(from);
                    }
                    if let Some(seen) = &mut *seen.lock().unwrap() {
                        seen.push(bytes.to_vec());
                    }
                };
                pass(&input, link, seed, &queue, (&stop, &lost), note);
            }));
        }
        Self {
            addr,
            stop,
            lost,
            seen,
            threads,
        }
    }

    /// Notes every datagram from now on.
    pub(crate) fn tap(&self) {
        self.seen.lock().unwrap().get_or_insert_default();
    }

    /// The datagrams that were noted, in both directions.
    pub(crate) fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone().unwrap_or_default()
    }
}

fn spawn(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name("relay".to_owned())
        .spawn(body)
        .unwrap()
}

fn pass(
    input: &UdpSocket,
    link: Link,
    mut state: u64,
    queue: &Sender<Datagram>,
    (stop, lost): (&AtomicBool, &AtomicU64),
    note: impl Fn(SocketAddr, &[u8]),
) {
    let mut buffer = vec![0; 65_536];
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = input.recv_from(&mut buffer) else {
            continue;
        };
        note(from, &buffer[..len]);
        if next(&mut state) % 1000 < link.loss {
            lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let copies = 1 + u64::from(next(&mut state) % 1000 < link.duplicate);
        for _ in 0..copies {
            let mut bytes = buffer[..len].to_vec();
            if next(&mut state) % 1000 < link.flip {
                let bit = next(&mut state) as usize % (8 * len.max(1));
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            number += 1;
            let at = clock::now() + link.delay;
            if queue.try_send(Datagram { at, number, bytes }).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
