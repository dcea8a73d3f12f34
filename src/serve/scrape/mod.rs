//! [`MetricsServer`]: answers `GET /metrics`, so that Prometheus can read the numbers.
//!
//! As much HTTP/1.1 (RFC 9112) as that takes: one request for each connection, a small head, no body. One thread
//! (`vstp-metrics`) accepts and answers, one after the other; each client has a deadline that it cannot extend.
//! It knows nothing of what the text says.

use super::accept;
use super::lifecycle::Lifecycle;
use super::listener::TcpAcceptor;
use super::stats::Counters;
use crate::error::VstpError;
use crate::metrics::CONTENT_TYPE;
use crate::net::addr::ToAddress;
use crate::net::clock;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest head of a request (bytes).
const MAX_REQUEST_LEN: usize = 8 * 1024;
/// How long a request may take to arrive, however its bytes are spread.
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// How long the client may take to read the answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// What is read of a client that goes on sending, so that the answer is not lost to a reset.
const LINGER_TIME: Duration = Duration::from_millis(500);
const LINGER_LEN: usize = 64 * 1024;
/// Resolving the address to listen at.
const RESOLVE_TIME: Duration = Duration::from_secs(10);
const BACKLOG: u16 = 16;

/// Serves a text at `/metrics` over HTTP/1.1, for Prometheus.
///
/// One client at a time, in plaintext and without a password: bind it where only those come who may know. A
/// client has 2 s for its request and 5 s to read the answer; the next one waits so long at the most.
///
/// # Example
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use vstp::serve::MetricsServer;
/// use vstp::{Frame, VstpTcpServer};
/// let server = VstpTcpServer::bind_plain("127.0.0.1:0")?;
/// let meter = server.meter().clone();
/// let metrics = MetricsServer::bind("127.0.0.1:0", move || meter.render_prometheus())?;
///
/// let mut http = TcpStream::connect(metrics.local_addr())?;
/// http.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
/// let mut answer = String::new();
/// http.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
/// assert!(answer.contains("vstp_connections_active 0\n"));
/// metrics.shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MetricsServer {
    state: Arc<State>,
    local_addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    acceptor: TcpAcceptor,
    lifecycle: Lifecycle,
    /// The client that is being answered. Held to put, take and shut down; no call that waits.
    client: Mutex<Option<TcpStream>>,
    request_time: Duration,
}

impl MetricsServer {
    /// Listens at `host:port` (port 0 lets the system choose) and answers with what `text` returns, which
    /// should be the text format of Prometheus ([`CONTENT_TYPE`]).
    ///
    /// # Errors
    /// `InvalidAddress`, `Timeout(Resolve)`, or `Io` when the address cannot be bound or no thread can be started.
    pub fn bind(
        addr: impl ToAddress,
        text: impl Fn() -> String + Send + 'static,
    ) -> Result<Self, VstpError> {
        Self::bind_with_time(addr, text, REQUEST_TIME)
    }

    fn bind_with_time(
        addr: impl ToAddress,
        text: impl Fn() -> String + Send + 'static,
        request_time: Duration,
    ) -> Result<Self, VstpError> {
        let addrs = addr.to_address()?.resolve(clock::after(RESOLVE_TIME))?;
        let acceptor = TcpAcceptor::bind(&addrs[..], BACKLOG).map_err(VstpError::Io)?;
        let local_addr = acceptor.local_addr().map_err(VstpError::Io)?;
        let state = Arc::new(State {
            acceptor,
            lifecycle: Lifecycle::new(),
            client: Mutex::new(None),
            request_time,
        });
        let mine = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("vstp-metrics".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || run(&mine, &text))
            .map_err(VstpError::Io)?;
        Ok(Self {
            state,
            local_addr,
            thread: Some(thread),
        })
    }

    /// The address that it listens at.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Ends it; a client that is being answered is cut off. Dropping it does the same.
    ///
    /// # Blocking
    /// Until its thread has ended, which waits for nothing but the text that is being made.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        let state = &self.state;
        state.lifecycle.begin_drain(clock::now());
        state.acceptor.wake();
        if let Some(client) = &*state.client() {
            // It may have gone by itself.
            let _ = client.shutdown(Shutdown::Both);
        }
        let Some(thread) = self.thread.take() else {
            return;
        };
        if thread.thread().id() != std::thread::current().id() {
            // A panic would have been one of `text`, which is caught.
            let _ = thread.join();
        }
    }
}

impl State {
    fn client(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of `vstp-metrics`.
fn run(state: &State, text: &dyn Fn() -> String) {
    let on_connection = |(), stream: TcpStream, peer: SocketAddr| {
        // Without a second handle nobody could cut it off; the deadlines would end it.
        *state.client() = stream.try_clone().ok();
        if state.lifecycle.is_running() {
            if let Err(error) = serve(&stream, text, state.request_time) {
                log::debug!("{peer}: the metrics were not read: {error}");
            }
        }
        state.client().take();
    };
    let counters = Counters::default();
    let result = accept::run(
        &state.acceptor,
        &state.lifecycle,
        || Some(()),
        on_connection,
        &counters,
    );
    if let Err(error) = result {
        log::error!("the listening socket for metrics failed: {error}");
    }
}

fn serve(stream: &TcpStream, text: &dyn Fn() -> String, time: Duration) -> io::Result<()> {
    let request = read_request(stream, time)?;
    let answer = match judge(&request) {
        Ask::Metrics { with_body } => match catch_unwind(AssertUnwindSafe(text)) {
            Ok(body) => answer("200 OK", CONTENT_TYPE, &body, with_body),
            Err(_) => refusal("500 Internal Server Error"),
        },
        Ask::Wrong(status) => refusal(status),
    };
    write(stream, answer.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    linger(stream);
    Ok(())
}

/// Reads up to the empty line that ends the head, or as much as a head may have.
fn read_request(stream: &TcpStream, time: Duration) -> io::Result<Vec<u8>> {
    let until = clock::after_or_far(time);
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !is_whole(&request) && request.len() <= MAX_REQUEST_LEN {
        stream.set_read_timeout(Some(left(until)?))?;
        match (&mut &*stream).read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => request.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(request)
}

fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let until = clock::after_or_far(ANSWER_TIME);
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match (&mut &*stream).write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the client has closed, within bounds. What it has to say does not matter.
fn linger(stream: &TcpStream) {
    let until = clock::after_or_far(LINGER_TIME);
    let mut chunk = [0; 1024];
    let mut total = 0;
    while let (true, Ok(wait)) = (total < LINGER_LEN, left(until)) {
        if stream.set_read_timeout(Some(wait)).is_err() {
            return;
        }
        match (&mut &*stream).read(&mut chunk) {
            Ok(len) if len > 0 => total += len,
            _ => return,
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(clock::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn is_whole(request: &[u8]) -> bool {
    request.windows(4).any(|window| window == b"\r\n\r\n")
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    Metrics { with_body: bool },
    Wrong(&'static str),
}

fn judge(request: &[u8]) -> Ask {
    if !is_whole(request) {
        return Ask::Wrong(if request.len() > MAX_REQUEST_LEN {
            "431 Request Header Fields Too Large"
        } else {
            "400 Bad Request"
        });
    }
    let line = request.split(|byte| *byte == b'\r').next();
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Ask::Wrong("400 Bad Request");
    };
    if method.is_empty() || !target.starts_with('/') {
        return Ask::Wrong("400 Bad Request");
    }
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Ask::Wrong("505 HTTP Version Not Supported");
    }
    // What follows `?` asks for a selection, which a scraper does not need.
    if target.split('?').next() != Some("/metrics") {
        return Ask::Wrong("404 Not Found");
    }
    match method {
        "GET" => Ask::Metrics { with_body: true },
        "HEAD" => Ask::Metrics { with_body: false },
        _ => Ask::Wrong("405 Method Not Allowed"),
    }
}

fn refusal(status: &str) -> String {
    answer(
        status,
        "text/plain; charset=utf-8",
        &format!("{status}\n"),
        true,
    )
}

fn answer(status: &str, content_type: &str, body: &str, with_body: bool) -> String {
    // RFC 9110 15.5.6: 405 says what is allowed; in the others it does no harm.
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n{}",
        body.len(),
        if with_body { body } else { "" }
    )
}

#[cfg(test)]
mod tests;
