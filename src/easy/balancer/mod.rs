//! [`Balancer`]: one client for several servers that do the same.
//!
//! Each backend has one shared connection. Which is used, and which is left alone, is decided by
//! [`health`], a pure state machine; a thread (`vstp-balancer`) connects, probes and checks, one backend
//! after another. Calls are made by their callers.

mod health;

use super::call::{CallOptions, ask, is_lost, may_retry, read};
use super::connector::Connector;
use crate::error::{TimeoutKind, VstpError};
use crate::metrics::Family;
use crate::net::addr::Address;
use crate::net::tcp::SharedTcpClient;
use crate::net::{CallError, Meter, Sent};
use crate::net::{clock, random};
use crate::proto::ErrorCode;
use crate::wire::Frame;
use health::{Health, HealthConfig, Task};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use health::Policy;

/// How a [`Balancer`] chooses and judges.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::easy::{BalancerConfig, Policy};
/// let config = BalancerConfig::default()
///     .policy(Policy::RoundRobin)
///     .max_failures(2)
///     .probe_timeout(Duration::from_millis(500));
/// # let _ = config;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BalancerConfig {
    policy: Policy,
    max_failures: u32,
    first_pause: Duration,
    longest_pause: Duration,
    check_interval: Duration,
    probe_timeout: Duration,
}

impl Default for BalancerConfig {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            max_failures: 3,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            check_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(1),
        }
    }
}

impl BalancerConfig {
    /// Which backend gets the next call. Default: the one with the fewest outstanding calls.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Calls in a row without an answer in time, or answered with ERR `busy`, after which a backend is
    /// left alone until a probe succeeds. Default: 3. The last backend is kept; one whose connection is
    /// lost is left alone at once.
    #[must_use]
    pub fn max_failures(mut self, count: u32) -> Self {
        self.max_failures = count;
        self
    }

    /// Before each probe of a backend that was left alone it waits a random time: up to `first`, then up
    /// to twice that and so on, up to `longest`. Default: 100 ms and 30 s.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest;
        self
    }

    /// How often each connection is checked by PING. Default: 5 s.
    #[must_use]
    pub fn check_interval(mut self, interval: Duration) -> Self {
        self.check_interval = interval;
        self
    }

    /// How long connecting may take, its handshake, and a PING. Default: 1 s. Backends are probed one
    /// after another, so one that swallows packets delays the others by this.
    #[must_use]
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    fn validate(&self) -> Result<(), VstpError> {
        let wrong = |setting, reason| Err(VstpError::config(setting, reason));
        if self.max_failures == 0 {
            return wrong("max_failures", "zero would use no backend");
        }
        if self.first_pause.is_zero() || self.first_pause > self.longest_pause {
            let reason = "the first time must be over zero and not over the longest";
            return wrong("backoff", reason);
        }
        if self.check_interval.is_zero() || self.probe_timeout.is_zero() {
            return wrong("probe_timeout", "zero would fail at once; give a time");
        }
        Ok(())
    }
}

/// What a [`Balancer`] knows of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendStats {
    /// Where it is.
    pub address: Address,
    /// Whether it is used.
    pub is_up: bool,
    /// Calls that are being made.
    pub outstanding: usize,
    /// Calls that it has answered.
    pub answered: u64,
    /// Calls that ended on it without an answer.
    pub failed: u64,
    /// Times that it was left alone.
    pub ejected: u64,
}

/// A client for several servers that do the same, for many threads; clones are the same client.
///
/// Over TCP, with TLS or without; not over UDP.
///
/// When a backend is lost, the calls that were being made on it end with what became of their requests,
/// and no others; those [marked](CallOptions::idempotent) idempotent are made again on another backend,
/// and those of which nothing was sent.
///
/// Dropping the last clone ends it. That waits for a probe that is being made, at most for the probe
/// timeout, for each of connecting, the handshake and PING.
///
/// # Example
/// ```
/// use vstp::easy::{Balancer, Connector, VstpServer};
/// let mut backends = Vec::new();
/// let mut handles = Vec::new();
/// for _ in 0..3 {
///     let server = VstpServer::bind_tcp("127.0.0.1:0")?;
///     backends.push(Connector::tcp(server.local_addr())?);
///     handles.push(server.spawn(|n: u64| Ok::<_, String>(n * 2))?);
/// }
/// let balancer = Balancer::new(backends)?;
/// assert_eq!(balancer.call::<u64>(&21)?, 42);
/// drop(balancer);
/// for handle in handles {
///     handle.shutdown(std::time::Duration::from_secs(1));
/// }
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Balancer {
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
    connectors: Vec<Connector>,
    call_timeout: Duration,
    probe_timeout: Duration,
    meter: Meter,
    /// Protects who is up and the connections; nothing is waited for under it but its signal.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    health: Health,
    backends: Vec<Backend>,
    stopped: bool,
}

#[derive(Debug, Clone, Default)]
struct Backend {
    /// There while it is up.
    client: Option<SharedTcpClient>,
    answered: u64,
    failed: u64,
    ejected: u64,
}

impl Balancer {
    /// A client of these backends with the default settings; it begins to connect at once, in the
    /// background.
    ///
    /// # Errors
    /// `Config` without a backend, `Io` when no thread can be started.
    pub fn new(backends: impl IntoIterator<Item = Connector>) -> Result<Self, VstpError> {
        Self::with(backends, BalancerConfig::default())
    }

    /// [`new`](Self::new) with these settings.
    ///
    /// # Errors
    /// As there.
    pub fn with(
        backends: impl IntoIterator<Item = Connector>,
        config: BalancerConfig,
    ) -> Result<Self, VstpError> {
        config.validate()?;
        let mut backends: Vec<_> = backends.into_iter().collect();
        let Some(call_timeout) = backends.iter().map(Connector::call_timeout).max() else {
            return Err(VstpError::config("backends", "at least one is needed"));
        };
        let above = backends.iter().find_map(Connector::meter).cloned();
        let meter = above.as_ref().map_or_else(Meter::new, Meter::child);
        for backend in &mut backends {
            // One with another meter counts there alone: numbers are added up in one other place at most.
            let other = |given: &Meter| above.as_ref().is_some_and(|above| !above.is_same(given));
            if !backend.meter().is_some_and(other) {
                backend.count_at(meter.clone());
            }
        }
        let probing = |connector: Connector| connector.within(config.probe_timeout);
        let count = backends.len();
        let health = HealthConfig {
            policy: config.policy,
            max_failures: config.max_failures,
            first_pause: config.first_pause,
            longest_pause: config.longest_pause,
            check_interval: config.check_interval,
        };
        let inner = Arc::new(Inner {
            connectors: backends.into_iter().map(probing).collect(),
            call_timeout,
            probe_timeout: config.probe_timeout,
            meter,
            state: Mutex::new(State {
                health: Health::new(count, health, random::u64(), clock::now()),
                backends: vec![Backend::default(); count],
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let run = Arc::clone(&inner);
        let thread = std::thread::Builder::new()
            .name("vstp-balancer".to_owned())
            .spawn(move || run.run())
            .map_err(VstpError::Io)?;
        Ok(Self {
            owner: Arc::new(Owner {
                inner,
                thread: Some(thread),
            }),
        })
    }

    /// Sends a request to a backend and waits for its answer.
    ///
    /// # Blocking
    /// Until the answer came; at most the longest call timeout of the backends.
    ///
    /// # Errors
    /// As [`call_with`](Self::call_with).
    pub fn call<R: DeserializeOwned>(
        &self,
        request: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        self.call_with(request, CallOptions::new())
    }

    /// [`call`](Self::call) with these options. The request is sent to each backend once at most.
    ///
    /// # Blocking
    /// Until the answer came; at most the timeout, in which it also waits for a backend.
    ///
    /// # Errors
    /// - `ServerError`: the handler failed.
    /// - `Timeout(Connect)`: no backend was there in time; not sent.
    /// - Others as [`SharedTcpClient::call`], with what became of the request.
    pub fn call_with<R: DeserializeOwned>(
        &self,
        request: &(impl Serialize + ?Sized),
        options: CallOptions,
    ) -> Result<R, CallError> {
        let inner = &self.owner.inner;
        let until = options.until(inner.call_timeout);
        read(&inner.call(&ask(request)?, until, options.idempotent)?)
    }

    /// What counts for it and its connections, also in the meter that a backend's
    /// [settings](crate::net::tcp::TcpConfig::meter) give: the first one that is given. A backend with
    /// another meter counts its connections there alone.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.owner.inner.meter
    }

    /// What is known of the backends, in their order.
    #[must_use]
    pub fn stats(&self) -> Vec<BackendStats> {
        let inner = &self.owner.inner;
        let state = inner.lock();
        let backends = state.backends.iter().zip(&inner.connectors).enumerate();
        backends
            .map(|(index, (backend, connector))| BackendStats {
                address: connector.address().clone(),
                is_up: state.health.is_up(index),
                outstanding: state.health.outstanding(index),
                answered: backend.answered,
                failed: backend.failed,
                ejected: backend.ejected,
            })
            .collect()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.inner.lock().stopped = true;
        self.inner.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It was woken, and waits for nothing but a probe, which has a limit. It owns no clone.
            let _ = thread.join();
        }
    }
}

impl State {
    /// Leaves a backend alone; its connection, to be dropped where nothing is locked. Calls on it that
    /// are being made still have it.
    fn eject(&mut self, index: usize) -> Option<SharedTcpClient> {
        self.backends[index].ejected += 1;
        self.backends[index].client.take()
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
        let mut tried = vec![false; self.connectors.len()];
        let mut last: Option<CallError> = None;
        loop {
            // What was sent once is not waited for again; a request that ends servers would end them all.
            let was_sent = last.as_ref().is_some_and(|last| last.sent != Sent::No);
            let Some((index, client)) = self.pick(&tried, until, !was_sent) else {
                // Those that are left have been tried, or time is up.
                let no_backend = VstpError::Timeout(TimeoutKind::Connect);
                return Err(last.unwrap_or_else(|| CallError::not_sent(no_backend)));
            };
            if last.is_some() {
                self.meter.add(Family::CallRetries, 0);
            }
            let result = client.call_until(request, until);
            self.judge(index, &client, &result);
            let failed = match result {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            tried[index] = failed.sent != Sent::No;
            // What became of the attempt that got farthest.
            let before = last.as_ref().map_or(Sent::No, |last| last.sent);
            let sent = if failed.sent == Sent::No {
                before
            } else {
                failed.sent
            };
            let again = is_lost(&failed) && may_retry(&failed, idempotent);
            let failed = CallError::new(sent, failed.error);
            if !again {
                return Err(failed);
            }
            last = Some(failed);
        }
    }

    /// A backend for a call that was not tried; one that is up, or else the next that is.
    fn pick(
        &self,
        tried: &[bool],
        until: Option<Instant>,
        waits: bool,
    ) -> Option<(usize, SharedTcpClient)> {
        let mut state = self.lock();
        loop {
            if let Some(index) = state.health.pick(tried) {
                if let Some(client) = state.backends[index].client.clone() {
                    return Some((index, client));
                }
                // Up means that it is there.
                state.health.ended(index);
            }
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            if !waits || left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            state = match left {
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// What the end of a call says about its backend.
    fn judge(&self, index: usize, client: &SharedTcpClient, result: &Result<Frame, CallError>) {
        let now = clock::now();
        let mut ejected = None;
        let mut state = self.lock();
        match result {
            Ok(_) => {
                state.health.answered(index);
                state.backends[index].answered += 1;
            }
            Err(failed) if is_lost(failed) => {
                state.health.ended(index);
                state.backends[index].failed += 1;
                // Another call may have said so, and the backend be back already.
                let current = state.backends[index].client.as_ref();
                if current.is_some_and(|current| current.is_same(client)) {
                    state.health.lost(index, now);
                    ejected = state.eject(index);
                }
            }
            Err(failed) => match &failed.error {
                VstpError::ServerError(error) if error.code != ErrorCode::Busy => {
                    state.health.answered(index);
                    state.backends[index].answered += 1;
                }
                VstpError::ServerError(_) | VstpError::Timeout(_) => {
                    state.backends[index].failed += 1;
                    if state.health.failed(index, now) {
                        ejected = state.eject(index);
                    }
                }
                // The caller's own mistakes.
                _ => state.health.ended(index),
            },
        }
        drop(state);
        if ejected.is_some() {
            self.meter.add(Family::BackendEjections, 0);
            // The thread has a probe to wait for.
            self.changed.notify_all();
        }
    }

    /// The body of the thread.
    fn run(&self) {
        let mut state = self.lock();
        while !state.stopped {
            let now = clock::now();
            let Some(task) = state.health.due(now) else {
                let next = state.health.next_due();
                let left = next.map_or(Duration::MAX, |at| at.saturating_duration_since(now));
                // Everything that makes something due sooner wakes it.
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            };
            let current = match task {
                Task::Check(index) => state.backends[index].client.clone(),
                Task::Probe(_) => None,
            };
            drop(state);
            let (client, index) = match task {
                Task::Check(index) => (self.check(current), index),
                Task::Probe(index) => (self.probe(index), index),
            };
            let mut ejected = None;
            state = self.lock();
            let was_up = state.health.is_up(index);
            state.health.done(task, client.is_some(), clock::now());
            match (was_up, state.health.is_up(index)) {
                (false, true) => {
                    state.backends[index].client = client;
                    if state.backends[index].ejected > 0 {
                        self.meter.add(Family::BackendReturns, 0);
                    }
                }
                (true, false) => {
                    ejected = state.eject(index);
                    self.meter.add(Family::BackendEjections, 0);
                }
                _ => {}
            }
            drop(state);
            drop(ejected);
            self.changed.notify_all();
            state = self.lock();
        }
        let backends = std::mem::take(&mut state.backends);
        drop(state);
        drop(backends);
    }

    /// Connects and asks for a sign of life.
    fn probe(&self, index: usize) -> Option<SharedTcpClient> {
        let client = SharedTcpClient::new(self.connectors[index].connect_tcp().ok()?);
        self.check(Some(client))
    }

    fn check(&self, client: Option<SharedTcpClient>) -> Option<SharedTcpClient> {
        client.filter(|client| client.ping(self.probe_timeout).is_ok())
    }
}
