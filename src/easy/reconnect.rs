//! [`ReconnectingClient`]: a shared client that connects again when its connection is lost.
//!
//! ```text
//!                 connected                lost, or dead at a look
//!   Connecting ──────────────> Connected ─────────────────────────> Lost
//!    │     ^                                                          │
//!    │     └───────── after a random time, ever longer <──────────────┘
//!    └──failed──> Failed ───────────────^
//!
//!   Lost or Failed by what `give_up_on` names ──> GaveUp
//! ```
//!
//! Its thread (`vstp-reconnect`) connects and looks; calls are made by their callers, see
//! [`crate::net::tcp::SharedTcpClient`].

use super::backoff::Backoff;
use super::call::{CallOptions, ask, is_lost, may_retry, read};
use super::connector::Connector;
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::metrics::Family;
use crate::net::tcp::SharedTcpClient;
use crate::net::{CallError, Meter, Sent};
use crate::net::{clock, random};
use crate::wire::Frame;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a connection that nobody uses is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often an idempotent call is made again at most.
const MAX_RETRIES: u32 = 3;

/// What a [`ReconnectingClient`] is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionState {
    /// It connects.
    Connecting,
    /// It is connected.
    Connected,
    /// The connection was lost; the next attempt begins in `retry_in`.
    Lost {
        /// Why.
        error: Arc<VstpError>,
        /// A random time, ever longer while attempts fail.
        retry_in: Duration,
    },
    /// An attempt to connect failed; the next begins in `retry_in`.
    Failed {
        /// Why.
        error: Arc<VstpError>,
        /// A random time, ever longer while attempts fail.
        retry_in: Duration,
    },
    /// It does nothing any more, because of a failure that [`ReconnectConfig::give_up_on`] names. Calls end at once.
    GaveUp {
        /// That failure.
        error: Arc<VstpError>,
    },
    /// It was dropped, and does nothing any more.
    Closed,
}

/// How a [`ReconnectingClient`] connects again.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::easy::ReconnectConfig;
/// let config = ReconnectConfig::default()
///     .backoff(Duration::from_millis(50), Duration::from_secs(5))
///     .on_state(|state| eprintln!("{state:?}"));
/// # let _ = config;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ReconnectConfig {
    first: Duration,
    longest: Duration,
    seed: Option<u64>,
    on_state: Option<OnState>,
    give_up_on: Option<GiveUpOn>,
}

type GiveUpOn = Arc<dyn Fn(&VstpError) -> bool + Send + Sync>;
type OnState = Arc<dyn Fn(&ConnectionState) + Send + Sync>;

impl Default for ReconnectConfig {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(30),
            seed: None,
            on_state: None,
            give_up_on: None,
        }
    }
}

impl ReconnectConfig {
    /// Before each attempt but the first it waits a random time: up to `first`, then up to twice that and
    /// so on, up to `longest`. Default: 100 ms and 30 s.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest;
        self
    }

    /// Fixes the random times. Default: each client has its own.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What to call for each new state. Default: nothing. It runs on the thread that connects, which waits
    /// for it; a panic in it is caught and logged.
    #[must_use]
    pub fn on_state(mut self, call: impl Fn(&ConnectionState) + Send + Sync + 'static) -> Self {
        self.on_state = Some(Arc::new(call));
        self
    }

    /// After which failures no further attempt is made: those that waiting cannot cure, such as a wrong certificate.
    /// Default: none, as somebody may correct the server. It runs where [`on_state`](Self::on_state) does; a panic in
    /// it is caught and logged, and means no.
    ///
    /// # Example
    /// ```
    /// use vstp::VstpError;
    /// use vstp::easy::ReconnectConfig;
    /// let config = ReconnectConfig::default().give_up_on(|error| matches!(error, VstpError::Tls(_)));
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn give_up_on(
        mut self,
        judge: impl Fn(&VstpError) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.give_up_on = Some(Arc::new(judge));
        self
    }

    fn gives_up_on(&self, error: &VstpError) -> bool {
        self.give_up_on.as_ref().is_some_and(|judge| {
            catch_unwind(AssertUnwindSafe(|| judge(error))).unwrap_or_else(|_| {
                log::error!("what judges the failures of connections panicked");
                false
            })
        })
    }
}

impl fmt::Debug for ReconnectConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectConfig")
            .field("first", &self.first)
            .field("longest", &self.longest)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// A client for many threads that keeps itself connected; clones are the same client.
///
/// Over TCP, with TLS or without: over UDP a new session is one [`connect`](crate::VstpUdpClient::connect) on the
/// socket that is there.
///
/// A call waits for a connection, within its timeout. When the connection is lost, each call on it ends
/// with what became of its request; only those [marked](CallOptions::idempotent) idempotent are made
/// again, and those of which nothing was sent.
///
/// Dropping the last clone ends it. That waits for an attempt to connect that is being made, at most the
/// connect and handshake timeouts.
///
/// # Example
/// ```
/// use vstp::easy::{CallOptions, Connector, ReconnectingClient, VstpServer};
/// let server = VstpServer::bind_tcp("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|n: u64| Ok::<_, String>(n + 1))?;
///
/// let client = ReconnectingClient::new(Connector::tcp(addr)?)?;
/// assert_eq!(client.call::<u64>(&1)?, 2);
/// // Adding one to a number twice does no harm, so this may be asked again.
/// assert_eq!(client.call_with::<u64>(&2, CallOptions::new().idempotent())?, 3);
/// drop(client);
/// handle.shutdown(std::time::Duration::from_secs(1));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ReconnectingClient {
    owner: Arc<Owner>,
}

/// What clones share and the thread does not have: its end ends the thread.
#[derive(Debug)]
struct Owner {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    connector: Connector,
    config: ReconnectConfig,
    meter: Meter,
    /// Protects the connection and the state; nothing is called or waited for under it but its signal.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    current: ConnectionState,
    client: Option<SharedTcpClient>,
    /// Connections made so far.
    connected: u64,
    stopped: bool,
}

impl ReconnectingClient {
    /// A client with the default settings; it begins to connect at once, in the background.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    pub fn new(connector: Connector) -> Result<Self, VstpError> {
        Self::with(connector, ReconnectConfig::default())
    }

    /// [`new`](Self::new) with these settings.
    ///
    /// # Errors
    /// As there, and `Config`: the first backoff is zero or over the longest.
    pub fn with(mut connector: Connector, config: ReconnectConfig) -> Result<Self, VstpError> {
        if config.first.is_zero() || config.first > config.longest {
            let reason = "the first time must be over zero and not over the longest";
            return Err(VstpError::config("backoff", reason));
        }
        let meter = connector.own_meter();
        let inner = Arc::new(Inner {
            connector,
            config,
            meter,
            state: Mutex::new(State {
                current: ConnectionState::Connecting,
                client: None,
                connected: 0,
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let run = Arc::clone(&inner);
        let thread = std::thread::Builder::new()
            .name("vstp-reconnect".to_owned())
            .spawn(move || run.run())
            .map_err(VstpError::Io)?;
        Ok(Self {
            owner: Arc::new(Owner {
                inner,
                thread: Some(thread),
            }),
        })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Blocking
    /// Until the answer came; at most the call timeout of the connections.
    ///
    /// # Errors
    /// As [`call_with`](Self::call_with).
    pub fn call<R: DeserializeOwned>(
        &self,
        request: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        self.call_with(request, CallOptions::new())
    }

    /// [`call`](Self::call) with these options.
    ///
    /// # Blocking
    /// Until the answer came; at most the timeout, in which it also waits for a connection.
    ///
    /// # Errors
    /// - `ServerError`: the server's handler failed.
    /// - `Timeout(Connect)`: there was no connection in time; not sent.
    /// - `ConnectionClosed(Local)`: it [gave up](ReconnectConfig::give_up_on); [`state`](Self::state) says why.
    /// - Others as [`SharedTcpClient::call`], with what became of the request. An idempotent one was made
    ///   three more times before, if there was time.
    pub fn call_with<R: DeserializeOwned>(
        &self,
        request: &(impl Serialize + ?Sized),
        options: CallOptions,
    ) -> Result<R, CallError> {
        read(&self.call_frame(&ask(request)?, options)?)
    }

    /// [`call_with`](Self::call_with) for a frame, with payload and headers of any kind.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Example
    /// ```
    /// use vstp::easy::{CallOptions, Connector, ReconnectingClient};
    /// use vstp::net::tcp::TcpConfig;
    /// use vstp::serve::Session;
    /// use vstp::{Frame, VstpTcpServer};
    /// let server = VstpTcpServer::bind_plain("127.0.0.1:0")?;
    /// let addr = server.local_addr();
    /// let handle = server.spawn(|_: &Session, frame: Frame| Frame::data(frame.payload))?;
    ///
    /// let client = ReconnectingClient::new(Connector::plain(addr, TcpConfig::default())?)?;
    /// let answer = client.call_frame(&Frame::data([0, 255]), CallOptions::new())?;
    /// assert_eq!(answer.payload, [0, 255]);
    /// drop(client);
    /// handle.shutdown(std::time::Duration::from_secs(1));
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn call_frame(&self, request: &Frame, options: CallOptions) -> Result<Frame, CallError> {
        let inner = &self.owner.inner;
        let until = options.until(inner.connector.call_timeout());
        inner.call(request, until, options.idempotent)
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.owner.inner.lock().current.clone()
    }

    /// What counts for it and its connections, also in the meter that its connector's
    /// [settings](crate::net::tcp::TcpConfig::meter) give.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.owner.inner.meter
    }

    /// Connections made so far; those after the first are reconnects.
    #[must_use]
    pub fn connected_count(&self) -> u64 {
        self.owner.inner.lock().connected
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.inner.lock().stopped = true;
        self.inner.changed.notify_all();
        // The last clone may have been held by what the thread calls; it must not wait for itself.
        let other = |t: &JoinHandle<()>| t.thread().id() != std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(other) {
            // It was woken, and waits for nothing but an attempt to connect, which has a limit.
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(
        &self,
        request: &Frame,
        until: Option<Instant>,
        idempotent: bool,
    ) -> Result<Frame, CallError> {
        let mut retries = 0;
        // What became of the attempt that got farthest.
        let mut sent = Sent::No;
        let mut is_again = false;
        loop {
            let client = match self.client(until) {
                Ok(client) => client,
                Err(error) => return Err(CallError::new(sent, error)),
            };
            if is_again {
                self.meter.add(Family::CallRetries, 0);
            }
            let failed = match client.call_until(request, until) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if is_lost(&failed) {
                // The thread has to know, and looks.
                self.changed.notify_all();
            }
            if failed.sent != Sent::No {
                sent = failed.sent;
                retries += 1;
            }
            let again = is_lost(&failed) && may_retry(&failed, idempotent);
            if !again || retries > MAX_RETRIES {
                return Err(CallError::new(sent, failed.error));
            }
            is_again = true;
        }
    }

    /// The connection, as soon as there is one.
    fn client(&self, until: Option<Instant>) -> Result<SharedTcpClient, VstpError> {
        let mut state = self.lock();
        loop {
            if let Some(client) = &state.client {
                if !client.is_closed() {
                    return Ok(client.clone());
                }
            }
            if matches!(state.current, ConnectionState::GaveUp { .. }) {
                return Err(VstpError::ConnectionClosed(ClosedBy::Local));
            }
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(VstpError::Timeout(TimeoutKind::Connect));
            }
            state = wait(&self.changed, state, left.unwrap_or(TICK));
        }
    }

    /// The body of the thread.
    fn run(&self) {
        let seed = self.config.seed.unwrap_or_else(random::u64);
        let mut backoff = Backoff::new(self.config.first, self.config.longest, seed);
        loop {
            self.enter(ConnectionState::Connecting);
            let next = match self.connector.connect_tcp() {
                Ok(client) => {
                    let began = clock::now();
                    let error = self.keep(SharedTcpClient::new(client));
                    backoff.lived(clock::now().saturating_duration_since(began));
                    let (error, retry_in) = (Arc::new(error), backoff.next());
                    ConnectionState::Lost { error, retry_in }
                }
                Err(error) => {
                    let (error, retry_in) = (Arc::new(error), backoff.next());
                    ConnectionState::Failed { error, retry_in }
                }
            };
            if self.lock().stopped {
                break;
            }
            let (ConnectionState::Lost { error, retry_in }
            | ConnectionState::Failed { error, retry_in }) = &next
            else {
                break;
            };
            if self.config.gives_up_on(error) {
                let error = Arc::clone(error);
                return self.enter(ConnectionState::GaveUp { error });
            }
            let retry_in = *retry_in;
            self.enter(next);
            if self.pause(retry_in) {
                break;
            }
        }
        self.enter(ConnectionState::Closed);
    }

    /// Hands the connection out until it is lost, and says why; or until this client is stopped.
    fn keep(&self, client: SharedTcpClient) -> VstpError {
        {
            let mut state = self.lock();
            if state.connected > 0 {
                self.meter.add(Family::Reconnects, 0);
            }
            state.connected += 1;
            state.client = Some(client.clone());
        }
        self.enter(ConnectionState::Connected);
        let error = loop {
            if let Err(error) = client.check() {
                break error;
            }
            if client.is_closed() {
                // It can be read, but not written; nobody else has use for it.
                break VstpError::ConnectionClosed(ClosedBy::Error);
            }
            if self.pause_once(TICK) {
                break VstpError::ConnectionClosed(ClosedBy::Local);
            }
        };
        self.lock().client = None;
        error
    }

    /// Notes the state, tells of it, and wakes those that wait for it.
    fn enter(&self, current: ConnectionState) {
        self.lock().current = current.clone();
        self.changed.notify_all();
        if let Some(call) = &self.config.on_state {
            if catch_unwind(AssertUnwindSafe(|| call(&current))).is_err() {
                log::error!("what is called for a connection's state panicked");
            }
        }
    }

    /// Waits for so long; `true` once this client is stopped.
    fn pause(&self, time: Duration) -> bool {
        let until = clock::after_or_far(time);
        loop {
            let left = until.saturating_duration_since(clock::now());
            if self.pause_once(left) {
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
    }

    /// Waits for so long, or until something changes.
    fn pause_once(&self, time: Duration) -> bool {
        let state = self.lock();
        if state.stopped || time.is_zero() {
            return state.stopped;
        }
        wait(&self.changed, state, time).stopped
    }
}

fn wait<'a>(
    signal: &Condvar,
    state: MutexGuard<'a, State>,
    time: Duration,
) -> MutexGuard<'a, State> {
    let waited = signal.wait_timeout(state, time);
    waited.unwrap_or_else(PoisonError::into_inner).0
}
