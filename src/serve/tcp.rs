//! [`VstpTcpServer`]: listens, and gives each connection a worker thread.
//!
//! ```text
//!  vstp-accept                          vstp-conn-N (from the pool, one per connection)
//!  place + handshake slot -> accept  -> TLS, HELLO/WELCOME -> slot free
//!  -> per-address check -> worker       run:    frame -> handler -> answer, until the end
//!                                       accept: hand the connection to whoever waits
//! ```
//!
//! The accept thread only accepts. A place is taken before `accept(2)`, so clients beyond the limit
//! wait in the system's backlog; it is given back when the connection is dropped.

use super::accept;
use super::addresses::{AddressLimits, AddressRefusal, Addresses};
use super::config::ServerConfig;
use super::gate::Gate;
use super::handle::{Registration, ServerHandle, ServerShared};
use super::listener::TcpAcceptor;
use super::log_limit::LogLimit;
use super::permits::{Permit, Permits};
use super::pool::{Pool, PoolConfig, RefusedReason};
use super::reply::IntoReply;
use super::session::Session;
use super::slow;
use super::stats::Refusal;
use super::worker::{self, DynHandler};
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::net::addr::ToAddress;
use crate::net::clock;
use crate::net::meter::{Meter, Source};
use crate::net::tcp::VstpTcpConnection;
use crate::net::tcp::establish;
use crate::net::tcp::keeper::Keeper;
use crate::net::tcp::memory::MemoryBudget;
use crate::net::tcp::pace::AddressRates;
use crate::net::tcp::shared::Permit as Kept;
use crate::net::tls::{TlsServerConfig, TlsSession};
use crate::wire::Frame;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use socket2::SockRef;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often a thread that waits for somebody else looks whether the server still runs.
const TICK: Duration = Duration::from_millis(100);

/// A server for frames over TCP, with TLS 1.3 or in plaintext.
///
/// Use it in one of two ways: [`run`](Self::run) or [`spawn`](Self::spawn) with a handler, or
/// [`accept`](Self::accept) connections one by one. Handshakes never happen in the caller's thread,
/// so a client that says nothing holds up nobody.
#[derive(Debug)]
pub struct VstpTcpServer {
    acceptor: Arc<TcpAcceptor>,
    tls: Option<TlsServerConfig>,
    config: ServerConfig,
    server: Arc<ServerShared>,
    /// Connections for [`Self::accept`], once it was called. Protects the start of the threads.
    ready: Mutex<Option<Receiver<VstpTcpConnection>>>,
}

impl VstpTcpServer {
    /// Listens with TLS 1.3 at `host:port`; port 0 lets the system choose.
    ///
    /// # Errors
    /// `InvalidAddress`, or `Io` when the address cannot be bound.
    #[cfg(feature = "tls")]
    pub fn bind(addr: impl ToAddress, tls: TlsServerConfig) -> Result<Self, VstpError> {
        Self::bind_with(addr, tls, ServerConfig::default())
    }

    /// [`bind`](Self::bind) with these settings.
    ///
    /// # Errors
    /// As there, and `Config`.
    #[cfg(feature = "tls")]
    pub fn bind_with(
        addr: impl ToAddress,
        tls: TlsServerConfig,
        config: ServerConfig,
    ) -> Result<Self, VstpError> {
        Self::listen(addr, Some(tls), config)
    }

    /// Listens in plaintext: everybody on the way can read and change the frames.
    ///
    /// # Errors
    /// As [`bind_plain_with`](Self::bind_plain_with).
    pub fn bind_plain(addr: impl ToAddress) -> Result<Self, VstpError> {
        Self::bind_plain_with(addr, ServerConfig::default())
    }

    /// [`bind_plain`](Self::bind_plain) with these settings.
    ///
    /// # Errors
    /// `InvalidAddress`, `Config`, or `Io` when the address cannot be bound.
    pub fn bind_plain_with(addr: impl ToAddress, config: ServerConfig) -> Result<Self, VstpError> {
        Self::listen(addr, None, config)
    }

    /// Takes over a listener that is bound already: from a service manager, or a privileged port.
    /// Without `tls` it speaks plaintext.
    ///
    /// # Errors
    /// `Config`, or `Io`.
    pub fn from_listener(
        listener: TcpListener,
        tls: Option<TlsServerConfig>,
        config: ServerConfig,
    ) -> Result<Self, VstpError> {
        config.validate()?;
        Self::new(
            TcpAcceptor::from_std(listener).map_err(VstpError::Io)?,
            tls,
            config,
        )
    }

    fn listen(
        addr: impl ToAddress,
        tls: Option<TlsServerConfig>,
        config: ServerConfig,
    ) -> Result<Self, VstpError> {
        config.validate()?;
        let addrs = addr
            .to_address()?
            .resolve(clock::after(config.tcp.connect_timeout))?;
        let acceptor = TcpAcceptor::bind(&addrs[..], config.backlog).map_err(VstpError::Io)?;
        Self::new(acceptor, tls, config)
    }

    fn new(
        acceptor: TcpAcceptor,
        tls: Option<TlsServerConfig>,
        mut config: ServerConfig,
    ) -> Result<Self, VstpError> {
        if let (Some(sealed), Some(_)) = (&config.sealed_sessions, &tls) {
            sealed.join(config.authentication.is_some())?;
        }
        config.tcp.sealed_datagrams = config.sealed_sessions.is_some();
        let meter = config.tcp.meter.as_ref();
        let meter = meter.map_or_else(Meter::new, Meter::child);
        let address_rates = config.rate_limit_per_address.map(AddressRates::new);
        config.tcp.address_rates = address_rates.map(Arc::new);
        config.tcp.memory = Some(Arc::new(MemoryBudget::new(config.max_receive_memory)));
        let local_addr = acceptor.local_addr().map_err(VstpError::Io)?;
        let acceptor = Arc::new(acceptor);
        // What sends answers may compress them.
        let stack_len = config.stack_size + config.tcp.pipeline.stack_len(&config.tcp.features);
        let pool = Pool::new(PoolConfig {
            // Connections are bounded by their places. A place is free a moment before its worker
            // is, so there are more workers than places.
            max_workers: config.max_connections.saturating_mul(2),
            stack_len,
            ..PoolConfig::default()
        });
        let handlers = Pool::new(PoolConfig {
            max_workers: config.max_handler_threads,
            stack_len,
            name: "vstp-handler-",
            ..PoolConfig::default()
        });
        let server = Arc::new(ServerShared::new(
            local_addr,
            pool,
            handlers,
            config.handler_warn,
            meter,
            Arc::downgrade(&acceptor),
        ));
        if let Some(authentication) = &config.authentication {
            let watched = Arc::clone(&server);
            let is_stopping = move || !watched.lifecycle.is_running();
            let judge = Gate::start(authentication, server.counters.metrics(), is_stopping)?;
            config.tcp.judge = Some(judge);
        }
        let source: Weak<dyn Source> = Arc::<ServerShared>::downgrade(&server);
        server.meter.attach(source);
        Ok(Self {
            acceptor,
            tls,
            config,
            server,
            ready: Mutex::new(None),
        })
    }

    /// The address that it listens at.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr
    }

    /// What counts for it and its connections.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.server.meter
    }

    /// A handle that shuts it down from another thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle {
            server: Arc::clone(&self.server),
        }
    }

    /// Serves until it is shut down by a [`handle`](Self::handle).
    ///
    /// The handler gets each message with the [`Session`] that it came from. It may answer nothing
    /// (`()`), a frame, several (`Vec<Frame>`), or an error; see [`IntoReply`]. It runs on the
    /// connection's own thread, so it may block; other connections go on. The request's
    /// `correlation-id` is copied to its answers.
    ///
    /// # Blocking
    /// Until the server is shut down.
    ///
    /// # Errors
    /// `Io` when the threads cannot be started, or the listening socket fails; `Config` after
    /// [`accept`](Self::accept).
    ///
    /// # Example
    /// ```no_run
    /// use vstp::serve::Session;
    /// use vstp::{Frame, VstpTcpServer};
    /// let server = VstpTcpServer::bind_plain("127.0.0.1:7000")?;
    /// server.run(|_session: &Session, frame: Frame| Frame::data(frame.payload))?;
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn run<F, R>(self, handler: F) -> Result<(), VstpError>
    where
        F: Fn(&Session, Frame) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.spawn(handler)?.wait()
    }

    /// Serves in the background.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn spawn<F, R>(self, handler: F) -> Result<ServerHandle, VstpError>
    where
        F: Fn(&Session, Frame) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.spawn_with(handler, Arc::new(|_| ()))
    }

    /// [`spawn`](Self::spawn); `on_session` gets the number of a session before its client does, and what it
    /// returns lives as long as the session.
    pub(super) fn spawn_with<F, R, T>(
        mut self,
        handler: F,
        on_session: Arc<dyn Fn(u128) -> T + Send + Sync>,
    ) -> Result<ServerHandle, VstpError>
    where
        F: Fn(&Session, Frame) -> R + Send + Sync + 'static,
        R: IntoReply,
        T: std::fmt::Debug + Send + 'static,
    {
        let ready = self.ready.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ready.is_some() {
            let reason = "`accept` was called before; a server does one or the other";
            return Err(VstpError::config("spawn", reason));
        }
        let handler: Arc<DynHandler> =
            Arc::new(move |session, frame| handler(session, frame).into_reply());
        self.start(Then::Serve {
            handler,
            on_session: Arc::new(move |id| Box::new(on_session(id))),
        })?;
        Ok(self.handle())
    }

    /// Waits for the next client whose handshake has succeeded.
    ///
    /// Clients are let in from the first call on; until then they wait in the system's backlog.
    ///
    /// # Blocking
    /// Until then, or until the server is shut down.
    ///
    /// # Errors
    /// - `ConnectionClosed(Local)`: the server was shut down.
    /// - `Io`: the threads cannot be started, or the listening socket fails.
    ///
    /// # Example
    /// ```
    /// use vstp::{Frame, VstpTcpClient, VstpTcpServer};
    /// let server = VstpTcpServer::bind_plain("127.0.0.1:0")?;
    /// let addr = server.local_addr();
    /// let client = std::thread::spawn(move || {
    ///     let mut client = VstpTcpClient::connect_plain(addr)?;
    ///     client.send(&Frame::data("hello"))?;
    ///     client.close()
    /// });
    /// let mut connection = server.accept()?;
    /// assert_eq!(connection.recv()?, Some(Frame::data("hello")));
    /// assert_eq!(connection.recv()?, None);
    /// client.join().expect("the client does not panic")?;
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn accept(&self) -> Result<VstpTcpConnection, VstpError> {
        self.accept_until(None)
    }

    /// [`accept`](Self::accept) for at most this long.
    ///
    /// # Blocking
    /// As there.
    ///
    /// # Errors
    /// As there, and `Timeout(Connect)`.
    pub fn accept_timeout(&self, timeout: Duration) -> Result<VstpTcpConnection, VstpError> {
        self.accept_until(clock::after(timeout))
    }

    fn accept_until(&self, until: Option<Instant>) -> Result<VstpTcpConnection, VstpError> {
        let ready = self.ready()?;
        loop {
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            match ready.recv_timeout(left.unwrap_or(TICK).min(TICK)) {
                Ok(connection) => {
                    connection.shared().accepted();
                    return Ok(connection);
                }
                Err(RecvTimeoutError::Timeout) if left.is_some_and(|left| left.is_zero()) => {
                    return Err(VstpError::Timeout(TimeoutKind::Connect));
                }
                Err(RecvTimeoutError::Timeout) if self.server.lifecycle.is_running() => {}
                Err(_) => {
                    self.server.take_failure()?;
                    return Err(VstpError::ConnectionClosed(ClosedBy::Local));
                }
            }
        }
    }

    /// Starts the threads at the first call.
    fn ready(&self) -> Result<Receiver<VstpTcpConnection>, VstpError> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = &*ready {
            return Ok(receiver.clone());
        }
        // Connections that nobody has taken yet keep their handshake slot, so this is never full.
        let (sender, receiver) = bounded(self.config.max_handshakes);
        self.start(Then::Hand { ready: sender })?;
        *ready = Some(receiver.clone());
        Ok(receiver)
    }

    fn start(&self, then: Then) -> Result<(), VstpError> {
        let keeper = self
            .config
            .tcp
            .keepalive_interval
            .map(Keeper::start)
            .transpose()
            .map_err(VstpError::Io)?;
        let on_slow = match then {
            Then::Serve { .. } => self.config.on_slow_handler.clone(),
            Then::Hand { .. } => None,
        };
        if let Some(on_slow) = on_slow {
            let server = Arc::clone(&self.server);
            slow::watch(server, on_slow, self.config.handler_warn).map_err(VstpError::Io)?;
        }
        let context = Arc::new(Context {
            tls: self.tls.clone(),
            config: self.config.clone(),
            server: Arc::clone(&self.server),
            keeper,
            then,
        });
        let acceptor = Arc::clone(&self.acceptor);
        let thread = std::thread::Builder::new()
            .name("vstp-accept".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || accept_loop(&acceptor, &context))
            // Without it nothing would ever end what was started above.
            .inspect_err(|_| self.server.stop())
            .map_err(VstpError::Io)?;
        self.server.set_accept_thread(thread);
        Ok(())
    }
}

/// A server that was never started, or whose connections were accepted one by one, ends with the
/// value; one that was [spawned](VstpTcpServer::spawn) lives on until its handle shuts it down.
impl Drop for VstpTcpServer {
    fn drop(&mut self) {
        let ready = self.ready.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ready.take().is_some() {
            self.server.stop();
        }
    }
}

/// What every connection of a server needs.
struct Context {
    tls: Option<TlsServerConfig>,
    config: ServerConfig,
    server: Arc<ServerShared>,
    keeper: Option<Keeper>,
    then: Then,
}

/// Called for each session that opens.
type OnSession = dyn Fn(u128) -> Box<dyn Kept> + Send + Sync;

/// What follows the handshake.
enum Then {
    Serve {
        handler: Arc<DynHandler>,
        on_session: Arc<OnSession>,
    },
    Hand {
        ready: Sender<VstpTcpConnection>,
    },
}

/// The body of `vstp-accept`.
fn accept_loop(acceptor: &TcpAcceptor, context: &Arc<Context>) {
    let Context { config, server, .. } = &**context;
    let places = Permits::new(config.max_connections);
    let slots = Permits::new(config.max_handshakes);
    let addresses = Addresses::new(AddressLimits {
        connection_count: u32::try_from(config.max_per_address).unwrap_or(u32::MAX),
        rate: config.new_per_address,
    });
    let no_thread = LogLimit::default();
    let place = || {
        let place = places.acquire(&server.lifecycle)?;
        Some((place, slots.acquire(&server.lifecycle)?))
    };
    let on_connection = |(place, slot): (Permit, Permit), stream: TcpStream, peer: SocketAddr| {
        let guard = match addresses.admit(peer.ip(), clock::now()) {
            Ok(guard) => guard,
            Err(refusal) => {
                server.counters.refused(match refusal {
                    AddressRefusal::TooFast => Refusal::Rate,
                    AddressRefusal::TooMany | AddressRefusal::TableFull => Refusal::PerAddress,
                });
                return;
            }
        };
        let stream = Arc::new(stream);
        let registration = server.register(&stream);
        let held = (place, guard, server.counters.connection());
        let context = Arc::clone(context);
        let job = move || welcome(&context, stream, registration, slot, held);
        if let Err(refused) = server.pool.execute(job) {
            server.counters.refused(Refusal::Resources);
            if let RefusedReason::Spawn(error) = &refused.reason {
                if let Some(more) = no_thread.allow("thread", clock::now()) {
                    log::warn!("no thread for a connection: {error} ({more} more times)");
                }
            }
        }
    };
    let (lifecycle, counters) = (&server.lifecycle, &*server.counters);
    if let Err(error) = accept::run(acceptor, lifecycle, place, on_connection, counters) {
        log::error!("the listening socket failed: {error}");
        server.fail(error);
    }
}

/// The first part of a connection's life on its worker: the handshake; then what the server does.
fn welcome(
    context: &Context,
    stream: Arc<TcpStream>,
    registration: Registration,
    slot: Permit,
    held: impl std::fmt::Debug + Send + 'static,
) {
    let server = &context.server;
    let handshake = || shake_hands(context, Arc::clone(&stream));
    let connection = match establish::measured(server.counters.metrics(), handshake) {
        Ok(connection) => connection,
        Err(error) => {
            log::debug!("handshake failed: {error}");
            return;
        }
    };
    let shared = Arc::clone(connection.shared());
    if let Some(keeper) = &context.keeper {
        keeper.watch(&shared);
    }
    server.established(&registration, &shared);
    shared.keep((held, registration));
    match &context.then {
        Then::Serve { handler, .. } => {
            drop(slot);
            // One at a time is the thread of the connection itself.
            let beside = match context.config.concurrency {
                1 => 0,
                count => count,
            };
            worker::serve(server, connection, handler, beside);
        }
        // The slot stays taken until the connection is accepted: that bounds how many wait.
        Then::Hand { ready } => {
            shared.keep_until_accepted(slot);
            // A channel with room for every slot is never full; without a receiver the server is
            // gone, and the connection goes with it.
            let _ = ready.try_send(connection);
        }
    }
}

fn shake_hands(context: &Context, stream: Arc<TcpStream>) -> Result<VstpTcpConnection, VstpError> {
    let config = &context.config.tcp;
    establish::set_options(SockRef::from(&*stream), config).map_err(VstpError::Io)?;
    let tls = context.tls.as_ref().map(TlsSession::server).transpose()?;
    let (sealed, meter) = (
        context.config.sealed_sessions.as_ref(),
        &context.server.meter,
    );
    let on_session = |id| match &context.then {
        Then::Serve { on_session, .. } => Some(on_session(id)),
        Then::Hand { .. } => None,
    };
    let offer = |keys, identity| sealed?.offer(keys, identity);
    establish::server(stream, tls, config, meter, offer, on_session)
}
