//! The accept loop: it accepts and hands over, and no error of a single peer ends it.
//!
//! What happens before (a permit) and after (limits per address, a worker) is the caller's, as two
//! functions; neither may block on a peer. Runs on the thread that calls [`run`].

use crate::net::clock;
use crate::serve::lifecycle::Lifecycle;
use crate::serve::log_limit::LogLimit;
use crate::serve::stats::{AcceptFailure, Counters, Refusal};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// What connections come from.
pub trait Listener {
    /// A connection.
    type Conn;

    /// Waits for the next connection, at most for a short while.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` when none came in that while; else what accept(2) said.
    fn accept(&self) -> io::Result<(Self::Conn, SocketAddr)>;

    /// How long to pause after a `WouldBlock`: zero if `accept` waits by itself.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}

/// What the loop does about an error of `accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Nobody came: look whether the server still runs.
    Tick,
    /// It was about that connection alone: go on.
    Connection,
    /// The system is short of something: go on after a pause.
    Resources,
    /// The socket is unusable: end.
    Listener,
}

/// Accepts until the lifecycle leaves Running.
///
/// For each connection: `before_accept` gives what the connection needs (its permits), or `None`
/// when the server does not run any more; then a connection is accepted; then `on_conn` gets both.
/// A full server so leaves new connections in the backlog of the system.
///
/// # Blocking
/// Until the lifecycle leaves Running. Seen after at most one wait of `listener`, or one of
/// `before_accept`; the pauses of the loop end at once.
///
/// # Errors
/// The error that made the listening socket unusable while the server ran.
pub fn run<L: Listener, T>(
    listener: &L,
    lifecycle: &Lifecycle,
    mut before_accept: impl FnMut() -> Option<T>,
    mut on_conn: impl FnMut(T, L::Conn, SocketAddr),
    counters: &Counters,
) -> io::Result<()> {
    let mut errors = Errors::default();
    while lifecycle.is_running() {
        let Some(permit) = before_accept() else {
            return Ok(());
        };
        // The permit is kept over errors and ticks: taking it again could wait.
        let (conn, peer) = loop {
            if !lifecycle.is_running() {
                return Ok(());
            }
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) => errors.handle(error, listener, lifecycle, counters)?,
            }
        };
        errors.reset();
        counters.accepted();
        if lifecycle.is_running() {
            on_conn(permit, conn, peer);
        } else {
            // It came while the server began to shut down: closed, never half-served.
            counters.refused(Refusal::ShuttingDown);
        }
    }
    Ok(())
}

/// What the loop remembers between errors.
struct Errors {
    backoff: Backoff,
    in_a_row: u32,
    log: LogLimit,
}

impl Default for Errors {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            in_a_row: 0,
            log: LogLimit::new(Duration::from_secs(60)),
        }
    }
}

impl Errors {
    /// An error about a connection takes the connection off the backlog, so going on is progress.
    /// So many in a row look like an error that stays: the loop then must not use up a core.
    const MANY: u32 = 64;

    fn handle<L: Listener>(
        &mut self,
        error: io::Error,
        listener: &L,
        lifecycle: &Lifecycle,
        counters: &Counters,
    ) -> io::Result<()> {
        match classify(&error) {
            Class::Tick => {
                let pause = listener.pause();
                if !pause.is_zero() {
                    lifecycle.wait_change(pause);
                }
            }
            Class::Connection => {
                counters.accept_failed(AcceptFailure::Connection);
                self.in_a_row += 1;
                if self.in_a_row >= Self::MANY {
                    self.in_a_row = 0;
                    lifecycle.wait_change(Backoff::FIRST);
                }
            }
            Class::Resources => {
                counters.accept_failed(AcceptFailure::Resources);
                let pause = self.backoff.next();
                if let Some(more) = self.log.allow("resources", clock::now()) {
                    log::warn!(
                        "connections cannot be accepted: {error} ({more} more times since the last \
                         line); trying again"
                    );
                }
                lifecycle.wait_change(pause);
            }
            // Waking a blocked accept makes the socket unusable; `run` sees the lifecycle next.
            Class::Listener if !lifecycle.is_running() => {}
            Class::Listener => {
                counters.accept_failed(AcceptFailure::Listener);
                return Err(error);
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.backoff = Backoff::default();
        self.in_a_row = 0;
    }
}

/// Pauses that double: 10 ms to 1 s.
#[derive(Debug)]
struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LAST: Duration = Duration::from_secs(1);

    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LAST);
        pause
    }
}

#[cfg(unix)]
fn classify(error: &io::Error) -> Class {
    use rustix::io::Errno;
    let Some(errno) = Errno::from_io_error(error) else {
        return classify_kind(error.kind());
    };
    // Windows of accept(2), "Error handling": Linux passes on errors that are already pending on
    // the new socket.
    match errno {
        Errno::AGAIN | Errno::TIMEDOUT => Class::Tick,
        Errno::CONNABORTED
        | Errno::CONNRESET
        | Errno::INTR
        | Errno::PROTO
        | Errno::PERM
        | Errno::NETDOWN
        | Errno::NOPROTOOPT
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETUNREACH
        | Errno::OPNOTSUPP => Class::Connection,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Errno::NONET => Class::Connection,
        // EFAULT cannot happen from safe code.
        Errno::BADF | Errno::INVAL | Errno::NOTSOCK => Class::Listener,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM, and whatever is not known: a server that goes on slowly
        // can recover, one that ended cannot.
        _ => Class::Resources,
    }
}

#[cfg(not(unix))]
fn classify(error: &io::Error) -> Class {
    classify_kind(error.kind())
}

fn classify_kind(kind: io::ErrorKind) -> Class {
    use io::ErrorKind as Kind;
    match kind {
        Kind::WouldBlock | Kind::TimedOut => Class::Tick,
        Kind::ConnectionAborted
        | Kind::ConnectionReset
        | Kind::Interrupted
        | Kind::PermissionDenied
        | Kind::NetworkDown
        | Kind::NetworkUnreachable
        | Kind::HostUnreachable => Class::Connection,
        Kind::InvalidInput | Kind::NotConnected => Class::Listener,
        _ => Class::Resources,
    }
}

#[cfg(test)]
mod tests;
