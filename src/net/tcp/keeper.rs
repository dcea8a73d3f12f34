//! The keep-alive thread: PING on connections that were silent for the keep-alive interval.
//!
//! One thread (`vstp-keeper`) watches all connections of a server, or the one of a client. It only
//! sends, and never waits for a socket: the answers are read by whoever reads the connection. So a
//! program that is busy between two calls keeps its connection, without a thread hop on any frame.

use super::shared::Shared;
use crate::net::clock;
use crate::wire::{Frame, FrameType};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Owns the thread; dropping it ends the thread and waits for that.
#[derive(Debug)]
pub(crate) struct Keeper {
    state: Arc<KeeperState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct KeeperState {
    interval: Duration,
    /// Protects the list; held for moments, no other lock is taken inside it.
    watched: Mutex<Watched>,
    stop: Condvar,
}

#[derive(Debug, Default)]
struct Watched {
    connections: Vec<(Weak<Shared>, Instant)>,
    stopped: bool,
}

impl Keeper {
    /// Starts the thread.
    pub(crate) fn start(interval: Duration) -> std::io::Result<Self> {
        let state = Arc::new(KeeperState {
            interval,
            watched: Mutex::default(),
            stop: Condvar::new(),
        });
        let run = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("vstp-keeper".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || run.run())?;
        Ok(Self {
            state,
            thread: Some(thread),
        })
    }

    /// Keeps this connection alive until it closes.
    pub(crate) fn watch(&self, shared: &Arc<Shared>) {
        self.state
            .lock()
            .connections
            .push((Arc::downgrade(shared), clock::now()));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.state.lock().stopped = true;
        self.state.stop.notify_all();
        // The last owner of a connection may be the thread itself; it must not wait for itself.
        let other = |t: &JoinHandle<()>| t.thread().id() != std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(other) {
            // It does no I/O that waits, so this is a matter of moments.
            let _ = thread.join();
        }
    }
}

impl KeeperState {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let tick = (self.interval / 4).max(Duration::from_millis(1));
        let mut watched = self.lock();
        while !watched.stopped {
            let now = clock::now();
            let mut due = Vec::new();
            watched.connections.retain_mut(|(weak, pinged)| {
                let Some(shared) = weak.upgrade() else {
                    return false;
                };
                if shared.outbox.closed().is_some() {
                    return false;
                }
                let quiet = shared
                    .last_received()
                    .min(shared.outbox.last_sent())
                    .max(*pinged);
                if now.saturating_duration_since(quiet) >= self.interval {
                    *pinged = now;
                    due.push(shared);
                }
                true
            });
            drop(watched);
            for shared in due {
                shared.outbox.push_control(Frame::new(FrameType::Ping));
                // A connection that fails here fails in its reader as well, which reports it.
                let _ = shared.outbox.try_flush_control();
            }
            watched = self.lock();
            if !watched.stopped {
                watched = self
                    .stop
                    .wait_timeout(watched, tick)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
    }
}
