//! [`Pool`]: connections that are kept for the next call, for servers that answer in order.
//!
//! ```text
//!             get: idle and alive, or a new one           answered in full
//!   idle <──────────────────────────────────── in use ────────────────────> idle
//!    │                                            │
//!    └── too old, or dead at the look ──> closed <┘ anything else happened on it
//! ```
//!
//! There is no thread behind it: what is too old is closed by the next call, and by the server.

use super::call::{CallOptions, ask, is_lost, may_retry, read};
use super::client::VstpClient;
use super::connector::Connector;
use crate::error::{TimeoutKind, VstpError};
use crate::metrics::Family;
use crate::net::clock;
use crate::net::{CallError, Meter, Sent};
use crate::proto::auto::Via;
use crate::wire::Frame;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a [`Pool`] keeps connections.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::easy::PoolConfig;
/// let config = PoolConfig::default().max_connections(4).max_idle_age(Duration::from_secs(5));
/// # let _ = config;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PoolConfig {
    max_connections: usize,
    max_idle_age: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_connections: 8,
            max_idle_age: Duration::from_secs(15),
        }
    }
}

impl PoolConfig {
    /// Connections at once, idle ones included. Default: 8.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count;
        self
    }

    /// How long a connection may be idle and still be used again. Default: 15 s. It must be below the
    /// idle timeout of this side, and should be below the server's (60 s by default), which a server does not
    /// announce, and that of firewalls on the way, which forget quiet connections without a word. A server
    /// that ends it sooner costs no call: that is seen before it is used again.
    #[must_use]
    pub fn max_idle_age(mut self, age: Duration) -> Self {
        self.max_idle_age = age;
        self
    }
}

/// What a [`Pool`] has and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections that wait for the next call.
    pub idle: usize,
    /// Connections that are in use, or being made.
    pub in_use: usize,
    /// Connections made so far.
    pub connected: u64,
    /// Times that one was used again.
    pub reused: u64,
    /// Idle connections closed for their age.
    pub expired: u64,
    /// Idle connections that were found dead when they were to be used again.
    pub dead: u64,
    /// Calls that were made again after a reused connection had died under them.
    pub retried: u64,
}

/// Connections to one server, used one call at a time; clones are the same pool.
///
/// Over TCP, with TLS or without: over UDP one socket serves any number of servers, and needs no pool.
///
/// # Example
/// ```
/// use vstp::easy::{Connector, Pool, VstpServer};
/// let server = VstpServer::bind_tcp("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|n: u64| Ok::<_, String>(n + 1))?;
///
/// let pool = Pool::new(Connector::tcp(addr)?);
/// assert_eq!(pool.call::<u64>(&1)?, 2);
/// assert_eq!(pool.call::<u64>(&2)?, 3);
/// assert_eq!((pool.stats().connected, pool.stats().reused), (1, 1));
/// drop(pool);
/// handle.shutdown(std::time::Duration::from_secs(1));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connector: Connector,
    config: PoolConfig,
    meter: Meter,
    /// Protects the list and the numbers; no connection is made, looked at or closed under it.
    state: Mutex<State>,
    /// A connection came back, or there is room for another.
    free: Condvar,
}

/// Why a connection is not kept. In the order of the family's labels.
#[derive(Debug, Clone, Copy)]
enum Discard {
    /// It was idle for too long.
    Age,
    /// It was found dead when it was to be used again.
    Dead,
    /// It was closed with all that were idle.
    Cleared,
    /// It came back broken, or with something open on it.
    Unclean,
}

#[derive(Debug, Default)]
struct State {
    /// The one used last at the end; it is used next, so that the others may grow old.
    idle: VecDeque<Idle>,
    in_use: usize,
    stats: PoolStats,
}

#[derive(Debug)]
struct Idle {
    client: VstpClient,
    since: Instant,
}

/// A connection of a [`Pool`], for one user at a time; it goes back when this is dropped.
///
/// One on which anything but answered calls was done, a `send` or a new timeout, is closed instead: what
/// might still come on it would reach the next user.
#[derive(Debug)]
pub struct PooledClient {
    /// There until it is dropped.
    client: Option<VstpClient>,
    shared: Arc<Shared>,
    is_reused: bool,
}

impl Pool {
    /// A pool with the default settings; it connects when it is first used.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        Self::build(connector, PoolConfig::default())
    }

    /// [`new`](Self::new) with these settings.
    ///
    /// # Errors
    /// `Config`: no connections are allowed, or idle ones grow older than this side's idle timeout.
    pub fn with(connector: Connector, config: PoolConfig) -> Result<Self, VstpError> {
        if config.max_connections == 0 {
            let reason = "zero connections serve nobody";
            return Err(VstpError::config("max_connections", reason));
        }
        let idle_timeout = connector.idle_timeout();
        if idle_timeout.is_some_and(|limit| config.max_idle_age >= limit) {
            let reason =
                "must be below the idle timeout, after which the connection is closed anyway";
            return Err(VstpError::config("max_idle_age", reason));
        }
        Ok(Self::build(connector, config))
    }

    fn build(mut connector: Connector, config: PoolConfig) -> Self {
        let meter = connector.own_meter();
        Self {
            shared: Arc::new(Shared {
                connector,
                config,
                meter,
                state: Mutex::default(),
                free: Condvar::new(),
            }),
        }
    }

    /// A connection for a while: an idle one that is alive, or a new one.
    ///
    /// # Blocking
    /// Until one is free, or made; at most the call timeout of the connections.
    ///
    /// # Errors
    /// `Timeout(Connect)` when all connections are in use until then, and as [`Connector::connect`].
    pub fn get(&self) -> Result<PooledClient, VstpError> {
        self.get_timeout(self.shared.connector.call_timeout())
    }

    /// [`get`](Self::get) for at most this long.
    ///
    /// # Blocking
    /// As there, with this timeout.
    ///
    /// # Errors
    /// As there.
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledClient, VstpError> {
        self.shared.get(clock::after(timeout))
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
    /// When a connection that was used before dies before a byte of the answer has come, the call is
    /// made once more, on a new one: if nothing of the request was sent, or it is
    /// [idempotent](CallOptions::idempotent).
    ///
    /// # Blocking
    /// Until the answer came; at most the timeout.
    ///
    /// # Errors
    /// - `ServerError`: the server's handler failed.
    /// - `Timeout(Connect)`: all connections were in use; not sent.
    /// - Others as [`VstpClient::call`] and [`Connector::connect`], with what became of the request.
    pub fn call_with<R: DeserializeOwned>(
        &self,
        request: &(impl Serialize + ?Sized),
        options: CallOptions,
    ) -> Result<R, CallError> {
        let until = options.until(self.shared.connector.call_timeout());
        read(
            &self
                .shared
                .call(&ask(request)?, until, options.idempotent)?,
        )
    }

    /// Closes what is idle. Connections in use go back as before.
    pub fn close_idle(&self) {
        let idle = std::mem::take(&mut self.shared.lock().idle);
        self.shared.clear(idle);
    }

    /// What counts for it and its connections, also in the meter that its connector's
    /// [settings](crate::net::tcp::TcpConfig::meter) give.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.shared.meter
    }

    /// What it has and did so far.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let state = self.shared.lock();
        PoolStats {
            idle: state.idle.len(),
            in_use: state.in_use,
            ..state.stats
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(
        self: &Arc<Self>,
        request: &Frame,
        until: Option<Instant>,
        idempotent: bool,
    ) -> Result<Frame, CallError> {
        let mut client = self.get(until).map_err(CallError::not_sent)?;
        let received = client.received_len();
        let failed = match client.call_frame(request.clone(), Via::Auto, until) {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        // A new connection that dies says something about the server; an old one, about its age.
        let is_stale = client.is_reused && is_lost(&failed);
        let is_silent = failed.sent == Sent::No || client.received_len() == received;
        drop(client);
        if !(is_stale && is_silent && may_retry(&failed, idempotent)) {
            return Err(failed);
        }
        // What took this one has taken the other idle ones as well.
        let idle = {
            let mut state = self.lock();
            state.stats.retried += 1;
            std::mem::take(&mut state.idle)
        };
        self.meter.add(Family::CallRetries, 0);
        self.clear(idle);
        // What is known of the first attempt still holds where the second sends nothing.
        let keep = |again: CallError| match failed.sent {
            Sent::No => again,
            sent => CallError::new(sent, again.error),
        };
        let client = self.get(until).map_err(|e| keep(CallError::not_sent(e)));
        client?
            .call_frame(request.clone(), Via::Auto, until)
            .map_err(keep)
    }

    fn get(self: &Arc<Self>, until: Option<Instant>) -> Result<PooledClient, VstpError> {
        loop {
            let mut expired = Vec::new();
            let found = self.find(until, &mut expired);
            self.discard(Discard::Age, expired.len());
            // Closing may take a moment, so it is not done under the lock.
            drop(expired);
            let mut client = found?;
            if let Some(idle) = &mut client.client {
                if idle.is_quiet() {
                    self.lock().stats.reused += 1;
                    self.meter.add(Family::PoolReuses, 0);
                    return Ok(client);
                }
                self.lock().stats.dead += 1;
                self.discard(Discard::Dead, 1);
                client.client = None;
                continue;
            }
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            let connector = self.connector.clone();
            let connector = match left {
                Some(left) if left.is_zero() => {
                    return Err(VstpError::Timeout(TimeoutKind::Connect));
                }
                Some(left) => connector.within(left),
                None => connector,
            };
            client.client = Some(connector.connect()?);
            client.is_reused = false;
            self.lock().stats.connected += 1;
            return Ok(client);
        }
    }

    /// Closes what was idle.
    fn clear(&self, idle: VecDeque<Idle>) {
        self.discard(Discard::Cleared, idle.len());
        drop(idle);
        self.free.notify_all();
    }

    fn discard(&self, why: Discard, count: usize) {
        for _ in 0..count {
            self.meter.add(Family::PoolDiscards, why as usize);
        }
    }

    /// Waits for a place; with an idle connection, if there is one.
    fn find(
        self: &Arc<Self>,
        until: Option<Instant>,
        expired: &mut Vec<Idle>,
    ) -> Result<PooledClient, VstpError> {
        let mut state = self.lock();
        let client = loop {
            let now = clock::now();
            let is_old =
                |idle: &Idle| now.saturating_duration_since(idle.since) > self.config.max_idle_age;
            while state.idle.front().is_some_and(is_old) {
                expired.extend(state.idle.pop_front());
                state.stats.expired += 1;
            }
            if let Some(idle) = state.idle.pop_back() {
                break Some(idle.client);
            }
            if state.in_use < self.config.max_connections {
                break None;
            }
            let left = until.map(|at| at.saturating_duration_since(now));
            state = match left {
                Some(left) if left.is_zero() => {
                    return Err(VstpError::Timeout(TimeoutKind::Connect));
                }
                Some(left) => {
                    let waited = self.free.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .free
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        };
        // An idle connection has a place as well, so there are never more than allowed.
        state.in_use += 1;
        Ok(PooledClient {
            client,
            shared: Arc::clone(self),
            is_reused: true,
        })
    }
}

impl Deref for PooledClient {
    type Target = VstpClient;

    fn deref(&self) -> &VstpClient {
        let client = self.client.as_ref();
        client.expect("only `drop` takes it, and `get` hands none out without it")
    }
}

impl DerefMut for PooledClient {
    fn deref_mut(&mut self) -> &mut VstpClient {
        let client = self.client.as_mut();
        client.expect("only `drop` takes it, and `get` hands none out without it")
    }
}

impl Drop for PooledClient {
    fn drop(&mut self) {
        let client = self.client.take();
        let mut state = self.shared.lock();
        state.in_use -= 1;
        let closed = match client {
            Some(client) if client.is_reusable() => {
                let since = clock::now();
                state.idle.push_back(Idle { client, since });
                None
            }
            other => other,
        };
        drop(state);
        self.shared.free.notify_one();
        if closed.is_some() {
            self.shared.discard(Discard::Unclean, 1);
        }
        // Outside of the lock, since it writes a goodbye.
        drop(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tcp::TcpConfig;
    use crate::serve::ServerConfig;

    #[test]
    fn e13_by_default_a_pool_gives_connections_up_before_anybody_else_does() {
        let (pool, server) = (PoolConfig::default(), ServerConfig::default().tcp);
        for side in [server, TcpConfig::default()] {
            let idle = side.idle_timeout.expect("there is one by default");
            let ping = side.keepalive_interval.expect("so is this");
            // With room for a path that is slow, and for one PING that is lost.
            assert!(pool.max_idle_age * 2 <= idle, "{idle:?}");
            assert!(ping * 2 < idle, "{ping:?} {idle:?}");
        }
    }
}
