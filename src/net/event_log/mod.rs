//! [`EventLog`]: what happens on connections as lines of JSON, where a configuration asks for it.
//!
//! Whoever has events makes them lines in memory, under a lock that is held for nothing else; whoever finds
//! enough of them there writes them, one thread at a time, while the others go on. So a slow disk delays the
//! thread that writes and drops lines of the others, which are counted; it never ends a connection.
//!
//! ```text
//!  Recorder (udp) ──┐             ┌── write_out: one thread, without the lock of the lines
//!                   ├──> lines ───┤
//!  Connection (tcp)─┘   1 MiB     └── sink: the file, or what `writer` was given
//! ```

mod connection;
mod line;
mod recorder;
#[cfg(test)]
mod tests;

pub(crate) use connection::ConnectionLog;
pub(crate) use recorder::Recorder;

use crate::error::VstpError;
use crate::net::clock;
use line::Lines;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

/// Lines are written when there are so many bytes of them.
const WRITE_LEN: usize = 32 * 1024;
/// Lines that wait to be written (bytes); those beyond are dropped.
const MAX_LEN: usize = 1024 * 1024;

/// Where the events of connections go: one JSON object a line, in the manner of qlog
/// (draft-ietf-quic-qlog-main-schema). Clones write to the same place.
///
/// Give it to [`UdpConfig::event_log`](crate::net::udp::UdpConfig::event_log) or
/// [`TcpConfig::event_log`](crate::net::tcp::TcpConfig::event_log). A line has `time` (seconds since the log
/// was made), `name`, `group_id` (which connection) and `data`; docs/design.md lists the names. Times are in
/// seconds, lengths in bytes, rates in bytes a second. Payloads, headers of the application, tokens and
/// cookies are in no line.
///
/// Lines are written when there are 32 KiB of them, when a TCP connection or a UDP socket ends, at
/// [`flush`](Self::flush), and when the last clone is dropped. An error of writing is counted, and the lines that
/// it concerned are gone.
///
/// # Example
/// ```
/// use vstp::net::event_log::EventLog;
/// use vstp::net::udp::UdpConfig;
/// use vstp::{Frame, VstpUdpClient, VstpUdpServer};
/// # let path = std::env::temp_dir().join(format!("vstp-events-{}.jsonl", std::process::id()));
/// let log = EventLog::file(&path)?;
/// let server = VstpUdpServer::bind("127.0.0.1:0")?;
/// let config = UdpConfig::default().event_log(log.clone());
/// let client = VstpUdpClient::bind_with_config("127.0.0.1:0", config)?;
/// client.send_with_ack(Frame::data("hello"), server.local_addr())?;
/// client.close();
///
/// let lines = std::fs::read_to_string(&path)?;
/// assert!(lines.contains(r#""name":"vstp:frame_sent""#));
/// assert_eq!((log.lost_count(), log.error_count()), (0, 0));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct EventLog {
    inner: Arc<Inner>,
}

struct Inner {
    began: Instant,
    /// Protects the lines that wait; held to add and to take them. Nothing is taken inside it.
    waiting: Mutex<Waiting>,
    /// Whoever has it writes. `waiting` is taken inside it.
    sink: Mutex<Sink>,
    lost: AtomicU64,
    errors: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: String,
    /// Lines that were dropped and of which the log does not say so yet.
    untold: u64,
    /// All of it is to be written, however little it is.
    flush: bool,
}

struct Sink {
    to: Box<dyn Write + Send>,
    /// The last write failed, maybe in the middle of a line.
    is_torn: bool,
}

impl EventLog {
    /// A new file, or one that loses what was in it.
    ///
    /// # Errors
    /// The system's, when the file cannot be made.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, VstpError> {
        let file = File::create(path).map_err(VstpError::Io)?;
        Ok(Self::writer(Box::new(file)))
    }

    /// Anything that can be written to, in pieces of at least a line.
    ///
    /// A thread that drives a connection writes to it, so it should not wait for one.
    #[must_use]
    pub fn writer(to: Box<dyn Write + Send>) -> Self {
        let log = Self {
            inner: Arc::new(Inner {
                began: clock::now(),
                waiting: Mutex::default(),
                sink: Mutex::new(Sink { to, is_torn: false }),
                lost: AtomicU64::new(0),
                errors: AtomicU64::new(0),
            }),
        };
        log.add(0, line::began);
        log
    }

    /// Writes what waits.
    ///
    /// # Blocking
    /// While the writer does.
    pub fn flush(&self) {
        self.inner.waiting().flush = true;
        let sink = self.inner.sink.lock();
        self.inner
            .write_all(&mut sink.unwrap_or_else(PoisonError::into_inner));
    }

    /// Events that are in no line because there was no room for them.
    #[must_use]
    pub fn lost_count(&self) -> u64 {
        self.inner.lost.load(Ordering::Relaxed)
    }

    /// Writes that failed.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.inner.errors.load(Ordering::Relaxed)
    }

    /// Adds lines, and says so where `lost` events are in none.
    fn add(&self, lost: u64, write: impl FnOnce(&mut Lines<'_>)) {
        let mut waiting = self.inner.waiting();
        let Waiting { lines, untold, .. } = &mut *waiting;
        *untold += lost;
        let mut lines = Lines::new(lines, self.inner.began, MAX_LEN);
        if *untold > 0 && lines.has_room() {
            lines.lost(clock::now(), std::mem::take(untold));
        }
        write(&mut lines);
        let dropped = lines.dropped();
        *untold += dropped;
        drop(waiting);
        self.inner.lost.fetch_add(lost + dropped, Ordering::Relaxed);
    }

    /// Writes what waits, if it is enough or `flush` says so, and nobody writes already: then that one does.
    fn write_out(&self, flush: bool) {
        self.inner.waiting().flush |= flush;
        while self.inner.waiting().is_due() {
            let mut sink = match self.inner.sink.try_lock() {
                Ok(sink) => sink,
                Err(TryLockError::Poisoned(sink)) => sink.into_inner(),
                // It looks again after giving it back.
                Err(TryLockError::WouldBlock) => return,
            };
            self.inner.write_all(&mut sink);
        }
    }
}

impl Waiting {
    fn is_due(&self) -> bool {
        self.flush || self.lines.len() >= WRITE_LEN
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, sink: &mut Sink) {
        loop {
            let mut waiting = self.waiting();
            if !waiting.is_due() {
                return;
            }
            let flush = std::mem::take(&mut waiting.flush);
            let lines = std::mem::take(&mut waiting.lines);
            drop(waiting);
            if sink.write(&lines, flush).is_err() {
                self.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Sink {
    fn write(&mut self, lines: &str, flush: bool) -> io::Result<()> {
        let is_torn = std::mem::replace(&mut self.is_torn, true);
        let to = &mut self.to;
        // A writer that panics is one that fails: the thread has a connection to drive.
        let written = catch_unwind(AssertUnwindSafe(|| {
            if is_torn {
                // At most one line is broken.
                to.write_all(b"\n")?;
            }
            to.write_all(lines.as_bytes())?;
            if flush { to.flush() } else { Ok(()) }
        }));
        let result = written.unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
        self.is_torn = result.is_err();
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut();
        let lines = std::mem::take(&mut waiting.unwrap_or_else(PoisonError::into_inner).lines);
        let sink = self.sink.get_mut();
        // Nobody is left to tell of an error.
        let _ = sink
            .unwrap_or_else(PoisonError::into_inner)
            .write(&lines, true);
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog")
            .field("lost_count", &self.lost_count())
            .field("error_count", &self.error_count())
            .finish_non_exhaustive()
    }
}
