//! A relay of TCP in user space: what passes is delayed, by a time that can be changed.

use crossbeam_channel::{Receiver, Sender, at, bounded};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vstp::net::clock;

/// Stands before one server.
pub(crate) struct StreamRelay {
    pub(crate) addr: SocketAddr,
    delay: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl StreamRelay {
    /// `delay`: of each direction.
    pub(crate) fn new(to: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            addr: listener.local_addr().unwrap(),
            delay: Arc::default(),
            stop: Arc::default(),
            streams: Arc::default(),
            threads: Arc::default(),
        };
        relay.set_delay(delay);
        let (stop, delay) = (Arc::clone(&relay.stop), Arc::clone(&relay.delay));
        let (streams, threads) = (Arc::clone(&relay.streams), Arc::clone(&relay.threads));
        let accept = move || {
            while let Ok((client, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let server = TcpStream::connect(to).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    from.set_nodelay(true).unwrap();
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (send, queue) = bounded(10_000);
                    let delay = Arc::clone(&delay);
                    let mut threads = threads.lock().unwrap();
                    threads.push(spawn(move || read(from, &send, &delay)));
                    threads.push(spawn(move || write(to, &queue)));
                }
                streams.lock().unwrap().extend([client, server]);
            }
        };
        relay.threads.lock().unwrap().push(spawn(accept));
        relay
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap();
        self.delay.store(delay, Ordering::Relaxed);
    }
}

fn spawn(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name("stream relay".to_owned())
        .spawn(body)
        .unwrap()
}

fn read(mut from: TcpStream, queue: &Sender<(Instant, Vec<u8>)>, delay: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len) = from.read(&mut buffer) {
        let due = clock::now() + Duration::from_millis(delay.load(Ordering::Relaxed));
        // The end, too, is delayed.
        if queue.send((due, buffer[..len].to_vec())).is_err() || len == 0 {
            return;
        }
    }
}

fn write(mut to: TcpStream, queue: &Receiver<(Instant, Vec<u8>)>) {
    for (due, bytes) in queue {
        let _ = at(due).recv();
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

impl Drop for StreamRelay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.addr));
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap());
        for thread in threads {
            let _ = thread.join();
        }
    }
}
