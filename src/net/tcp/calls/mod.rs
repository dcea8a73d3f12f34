//! [`SharedTcpClient`]: many threads call over one connection, and answers come in any order.
//!
//! There is no thread behind it. A caller writes its request itself; one of those that wait has the
//! connection and reads, for all of them, until its own answer is there:
//!
//! ```text
//!   call: number, write ──> wait ──> connection free?
//!                            ^        yes: take it, read, hand out what comes ──> back
//!                            │        no:  sleep until answered, or until it is free
//!                            └──────────────────────────────────────────────────┘
//! ```
//!
//! A single caller so reads its own answer, without a hand-over between threads.

mod table;

use super::client::VstpTcpClient;
use super::connection::VstpTcpConnection;
use super::reader::Next;
use super::shared::Shared;
use super::stats::ConnectionStats;
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::net::call::{CallError, Sent};
use crate::net::socket::Meanwhile;
use crate::net::{Meter, clock};
use crate::proto::keys;
use crate::wire::{Frame, FrameRef, FrameType};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use table::{Answer, Calls, Wanted};

/// Calls at once, unless another number was set.
const MAX_CALLS: usize = 128;
/// After this silence a call first looks whether the connection still lives, before it writes.
const QUIET: Duration = Duration::from_millis(100);
/// Frames that one such look takes, so that it ends.
const MAX_LOOK_COUNT: usize = 64;

/// A client for many threads: clones share one connection, each call gets its own answer.
///
/// A request is sent with a `correlation-id`, by which its answer is found. A server that handles
/// requests of one connection at once ([`concurrency`](crate::serve::ServerConfig::concurrency)) answers
/// them as they get ready, so a slow one holds up no other.
///
/// An answer that comes after its call's deadline is dropped and counted, and so is what the server sends
/// unasked; to receive that, use [`VstpTcpClient`]. Of several answers to one request the first counts.
///
/// Dropping the last clone ends the connection as dropping [`VstpTcpConnection`] does.
///
/// # Example
/// ```
/// use vstp::net::tcp::SharedTcpClient;
/// use vstp::serve::Session;
/// use vstp::{Frame, VstpTcpClient, VstpTcpServer};
/// let server = VstpTcpServer::bind_plain("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|_: &Session, frame: Frame| Frame::data(frame.payload))?;
///
/// let client = SharedTcpClient::new(VstpTcpClient::connect_plain(addr)?);
/// std::thread::scope(|scope| {
///     for n in 0..4 {
///         let client = client.clone();
///         scope.spawn(move || {
///             let answer = client.call(&Frame::data([n])).expect("the server answers");
///             assert_eq!(answer.payload, [n]);
///         });
///     }
/// });
/// client.close()?;
/// handle.shutdown(std::time::Duration::from_secs(1));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SharedTcpClient {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    call_timeout: Duration,
    close_timeout: Duration,
    max_calls: usize,
    /// Protects who reads and who waits for what; never held while the connection is read or written.
    state: Mutex<State>,
    /// A call ended, or the connection.
    room: Condvar,
}

#[derive(Debug)]
struct State {
    /// `None` while somebody reads, and when it is over.
    connection: Option<Box<VstpTcpConnection>>,
    calls: Calls,
    /// Callers that wait for room.
    waiting: usize,
    /// No new calls: this side is closing.
    closing: bool,
    ended: Option<Ended>,
    /// What ended it, for the first call that asks; the others learn that it is over.
    cause: Option<VstpError>,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    by: ClosedBy,
    in_order: bool,
}

impl Ended {
    const fn not_in_order(by: ClosedBy) -> Self {
        Self {
            by,
            in_order: false,
        }
    }
}

/// What a [`SharedTcpClient`] counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CallStats {
    /// Calls that are waiting for their answers.
    pub in_flight: usize,
    /// Answers that nobody waited for any more: after the deadline, or beyond the first.
    pub late: u64,
    /// Messages that answered no call.
    pub unasked: u64,
}

impl SharedTcpClient {
    /// Shares this client's connection, for up to 128 calls at once. What it has received already is
    /// dropped, and what was fed but not flushed too.
    #[must_use]
    pub fn new(client: VstpTcpClient) -> Self {
        Self::with_max_calls(client, MAX_CALLS)
    }

    /// [`new`](Self::new) for up to so many calls at once, at least one; further ones wait.
    #[must_use]
    pub fn with_max_calls(client: VstpTcpClient, max_calls: usize) -> Self {
        let connection = Box::new(client.into_connection());
        let (call_timeout, close_timeout) = connection.timeouts();
        let core = Core {
            shared: Arc::clone(connection.shared()),
            call_timeout,
            close_timeout,
            max_calls: max_calls.max(1),
            state: Mutex::new(State {
                connection: Some(connection),
                calls: Calls::default(),
                waiting: 0,
                closing: false,
                ended: None,
                cause: None,
            }),
            room: Condvar::new(),
        };
        let core = Arc::new(core);
        // A server may be writing the answer to a call that has given up, and read no request before that
        // is taken: somebody has to read then, though nobody waits.
        let weak = Arc::downgrade(&core);
        core.shared
            .outbox
            .set_meanwhile(Meanwhile(Box::new(move || {
                if let Some(core) = weak.upgrade() {
                    drop(core.look(core.lock()));
                }
            })));
        Self { core }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Blocking
    /// Until the answer came; at most the [call timeout](super::TcpConfig::call_timeout) that the client was
    /// made with. A request that has begun to be written is finished first, at most for the write
    /// timeout, since half a frame would end the connection for everybody.
    ///
    /// # Errors
    /// [`CallError`] with
    /// - `ServerError`: the handler failed; the connection stays usable.
    /// - `Timeout(Recv)`: no answer in time. One that comes later is dropped.
    /// - `Timeout(Send)`: not sent, since as many calls as may be were waiting, or others' requests were in
    ///   the way.
    /// - `Extension`: an extension refused the request, which was not sent, or failed on the answer.
    /// - `Encode`, `FrameTooLarge`, and `Config` when the frame has a `correlation-id` already; not sent.
    /// - Others: the connection is over, and with it every call on it; each says whether its own
    ///   request was sent.
    pub fn call(&self, request: &Frame) -> Result<Frame, CallError> {
        self.call_until(request, clock::after(self.core.call_timeout))
    }

    /// [`call`](Self::call) for at most this long.
    ///
    /// # Blocking
    /// As there, with this timeout.
    ///
    /// # Errors
    /// As there.
    pub fn call_timeout(&self, request: &Frame, timeout: Duration) -> Result<Frame, CallError> {
        self.call_until(request, clock::after(timeout))
    }

    pub(crate) fn call_until(
        &self,
        request: &Frame,
        until: Option<Instant>,
    ) -> Result<Frame, CallError> {
        if request.header(keys::CORRELATION_ID).is_some() {
            let error = VstpError::config(keys::CORRELATION_ID, "the client numbers its requests");
            return Err(CallError::not_sent(error));
        }
        match self.core.ask(Wanted::Answer, Some(request), until)? {
            Answer::Frame(frame) => Ok(frame),
            Answer::Failed(error) => Err(CallError::new(Sent::Yes, error)),
            // Only PINGs are answered so.
            Answer::Pong => Err(CallError::new(Sent::Yes, VstpError::Cancelled)),
        }
    }

    /// Asks the server for a sign of life and says how long it took.
    ///
    /// # Blocking
    /// Until PONG came; at most `timeout`.
    ///
    /// # Errors
    /// As [`call`](Self::call), but `ServerError`.
    pub fn ping(&self, timeout: Duration) -> Result<Duration, CallError> {
        let began = clock::now();
        self.core.ask(Wanted::Pong, None, clock::after(timeout))?;
        Ok(clock::now().saturating_duration_since(began))
    }

    /// Looks whether the connection still lives, as far as that can be seen without waiting.
    ///
    /// # Errors
    /// `ConnectionClosed` when it is over.
    pub fn check(&self) -> Result<(), VstpError> {
        let state = self.core.look(self.core.lock());
        state
            .ended
            .map_or(Ok(()), |ended| Err(VstpError::ConnectionClosed(ended.by)))
    }

    /// For the typed clients above: whether both are clones of one client.
    #[cfg(all(feature = "tls", feature = "json"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// Whether it is known that the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.lock().ended.is_some() || self.core.shared.outbox.closed().is_some()
    }

    /// Ends the connection for all clones: no more calls begin, and those that wait still get what the
    /// server answers before its goodbye.
    ///
    /// # Blocking
    /// Until the server has said goodbye; at most the close timeout.
    ///
    /// # Errors
    /// As [`VstpTcpConnection::close`].
    pub fn close(&self) -> Result<(), VstpError> {
        let core = &self.core;
        let until = clock::after(core.close_timeout);
        core.lock().closing = true;
        if let Err(error) = core.shared.say_bye(until) {
            core.cut();
            return Err(error);
        }
        let number = core.lock().calls.begin(Wanted::End);
        let mut state = core.wait(number, until);
        state.calls.end(number);
        let ended = state.ended;
        drop(state);
        match ended {
            Some(Ended { in_order: true, .. }) => Ok(()),
            Some(Ended { by, .. }) => Err(VstpError::ConnectionClosed(by)),
            None => {
                core.cut();
                Err(VstpError::Timeout(TimeoutKind::Shutdown))
            }
        }
    }

    /// What became of the calls so far.
    #[must_use]
    pub fn call_stats(&self) -> CallStats {
        let state = self.core.lock();
        CallStats {
            in_flight: state.calls.count(),
            late: state.calls.late,
            unasked: state.calls.unasked,
        }
    }

    /// What the connection has carried so far.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.core.shared.stats()
    }

    /// What counts for this connection.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.core.shared.meter
    }

    /// The server's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.core.shared.peer_addr
    }
}

/// What one look at the connection found.
enum Found {
    Answer(Option<u64>, Answer),
    /// Something that concerns no call.
    Other,
    Nothing,
    End(Ended, Option<VstpError>),
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call: sends what asks, and waits for what answers it.
    fn ask(
        &self,
        wanted: Wanted,
        request: Option<&Frame>,
        until: Option<Instant>,
    ) -> Result<Answer, CallError> {
        let number = self.begin(wanted, until)?;
        let sent = match request {
            Some(request) => {
                let mut headers = request.headers.clone();
                headers.push(keys::CORRELATION_ID, number.to_string());
                let frame = FrameRef {
                    headers: headers.as_ref(),
                    ..request.as_ref()
                };
                self.shared.send_request(frame, until)
            }
            None => {
                let ping = Frame::new(FrameType::Ping).with_payload(number.to_be_bytes());
                self.shared.outbox.send_request(ping.as_ref(), until)
            }
        };
        let mut state = match sent {
            Ok(()) => self.wait(number, until),
            Err(_) => self.lock(),
        };
        let answer = state.calls.end(number);
        if state.connection.is_some() {
            state.calls.wake_one();
        }
        if state.waiting > 0 {
            self.room.notify_one();
        }
        // One that came although the request could not be written to its end is an answer too.
        if let Some(answer) = answer {
            return Ok(answer);
        }
        sent?;
        let error = match state.ended {
            None => VstpError::Timeout(TimeoutKind::Recv),
            Some(ended) => {
                let cause = state.cause.take();
                cause.unwrap_or(VstpError::ConnectionClosed(ended.by))
            }
        };
        Err(CallError::new(Sent::Yes, error))
    }

    /// Waits for room for a call; its number.
    fn begin(&self, wanted: Wanted, until: Option<Instant>) -> Result<u64, CallError> {
        let mut state = self.lock();
        let last = self.shared.last_received();
        if clock::now().saturating_duration_since(last) >= QUIET {
            // What is known to be over need not be written to.
            state = self.look(state);
        }
        loop {
            let closed = state.closing.then_some(ClosedBy::Local);
            if let Some(by) = state.ended.map(|ended| ended.by).or(closed) {
                return Err(CallError::not_sent(VstpError::ConnectionClosed(by)));
            }
            // A sign of life costs the server next to nothing, and is wanted most when it is busy.
            if wanted != Wanted::Answer || state.calls.count() < self.max_calls {
                return Ok(state.calls.begin(wanted));
            }
            let Some(left) = time_left(until) else {
                return Err(CallError::not_sent(VstpError::Timeout(TimeoutKind::Send)));
            };
            state.waiting += 1;
            state = wait_for(&self.room, state, left);
            state.waiting -= 1;
        }
    }

    /// Waits until something came for this call, the connection is over, or the deadline has passed;
    /// reads, while nobody else does.
    fn wait(&self, number: u64, until: Option<Instant>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        loop {
            if state.calls.is_answered(number) || state.ended.is_some() {
                return state;
            }
            let Some(left) = time_left(until) else {
                return state;
            };
            if let Some(connection) = state.connection.take() {
                drop(state);
                state = self.read(connection, until).0;
            } else if let Some(wake) = state.calls.rest(number) {
                state = wait_for(&wake, state, left);
                state.calls.wake(number);
            } else {
                return state;
            }
        }
    }

    /// Takes what has arrived, without waiting, unless somebody reads already.
    fn look<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        for _ in 0..MAX_LOOK_COUNT {
            let Some(connection) = state.connection.take() else {
                return state;
            };
            drop(state);
            let (again, found) = self.read(connection, Some(clock::now()));
            state = again;
            if !found {
                break;
            }
        }
        if state.connection.is_some() {
            // Somebody may have begun to wait meanwhile, and found the connection taken.
            state.calls.wake_one();
        }
        state
    }

    /// Reads until something comes, hands it out and puts the connection back; whether there may be more.
    fn read(
        &self,
        mut connection: Box<VstpTcpConnection>,
        until: Option<Instant>,
    ) -> (MutexGuard<'_, State>, bool) {
        let (number, answer) = match find(&mut connection, until) {
            Found::End(ended, cause) => {
                // Closes the socket, which is not for the inside of a lock.
                drop(connection);
                return (self.end(ended, cause), false);
            }
            Found::Answer(number, answer) => (number, answer),
            found => {
                let mut state = self.lock();
                state.connection = Some(connection);
                return (state, matches!(found, Found::Other));
            }
        };
        let mut state = self.lock();
        state.connection = Some(connection);
        state.calls.deliver(number, answer);
        (state, true)
    }

    /// Ends the connection at once.
    fn cut(&self) {
        self.shared.abort(ClosedBy::Local);
        let mut state = self.end(Ended::not_in_order(ClosedBy::Local), None);
        let connection = state.connection.take();
        drop(state);
        // Closes the socket; whoever reads just now does it instead.
        drop(connection);
    }

    /// The connection is over: everybody learns it. The first reason stays.
    fn end(&self, ended: Ended, cause: Option<VstpError>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.ended.is_none() {
            state.ended = Some(ended);
            state.cause = cause;
        }
        state.calls.wake_all();
        self.room.notify_all();
        state
    }
}

fn find(connection: &mut VstpTcpConnection, until: Option<Instant>) -> Found {
    match connection.next(until) {
        Ok(Next::Frame) => {
            let asked = number(connection.frame().header(keys::CORRELATION_ID));
            match connection.deliver() {
                Ok(Some(frame)) => {
                    let number = number(frame.header(keys::CORRELATION_ID));
                    Found::Answer(number, Answer::Frame(frame))
                }
                Err(error @ VstpError::Extension(_)) => Found::Answer(asked, Answer::Failed(error)),
                // Kept or answered by an extension. An answer that could not be sent is no caller's; where
                // the connection is over, the next read says so.
                Ok(None) | Err(_) => Found::Other,
            }
        }
        Ok(Next::Pong) => {
            let payload = connection.frame().payload;
            let number = payload.try_into().ok().map(u64::from_be_bytes);
            Found::Answer(number, Answer::Pong)
        }
        Ok(Next::TimedOut) => Found::Nothing,
        Ok(Next::Hello(_) | Next::Established | Next::Acked(_)) => Found::Other,
        Ok(Next::End | Next::Draining) => {
            let by = connection.shared().outbox.closed();
            let ended = Ended {
                by: by.unwrap_or(ClosedBy::Peer(None)),
                in_order: true,
            };
            Found::End(ended, None)
        }
        Err(VstpError::ServerError(error)) if error.correlation_id.is_some() => {
            let number = number(error.correlation_id.as_deref());
            Found::Answer(number, Answer::Failed(VstpError::ServerError(error)))
        }
        Err(VstpError::ConnectionClosed(by)) => Found::End(Ended::not_in_order(by), None),
        Err(error) => Found::End(Ended::not_in_order(ClosedBy::Error), Some(error)),
    }
}

/// The call that a `correlation-id` names, if it is one of ours.
fn number(id: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(id?).ok()?.parse().ok()
}

/// What is left until then; `None` when it has passed.
fn time_left(until: Option<Instant>) -> Option<Duration> {
    let Some(at) = until else {
        return Some(Duration::MAX);
    };
    let left = at.saturating_duration_since(clock::now());
    (!left.is_zero()).then_some(left)
}

fn wait_for<'a>(
    signal: &Condvar,
    state: MutexGuard<'a, State>,
    left: Duration,
) -> MutexGuard<'a, State> {
    if left == Duration::MAX {
        return signal.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    let waited = signal.wait_timeout(state, left);
    waited.unwrap_or_else(PoisonError::into_inner).0
}
