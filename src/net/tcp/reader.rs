//! The receiving side of a connection: socket to decoder to session.
//!
//! Whoever owns the [`Reader`] drives the session. Answers of the protocol (PONG, ACK, WELCOME, the
//! goodbye) go to the outbox and are sent without waiting, so reading never depends on the peer's
//! reading.

use super::config::TcpConfig;
use super::memory::{FREE_LEN, MemoryShare};
use super::outbox::Fin;
use super::pace::Pace;
use super::shared::Shared;
use crate::error::{ClosedBy, RemoteError, TimeoutKind, VstpError};
use crate::metrics::Family;
use crate::net::clock;
use crate::net::stream::{ReadHalf, ReadOutcome};
use crate::proto::budget::TinyReads;
use crate::proto::datagram::SealedKeys;
use crate::proto::deadline::FrameDeadline;
use crate::proto::keys::AuthToken;
use crate::proto::session::{Closed, Event, Session, StreamEnd};
use crate::proto::{StreamDecoder, Violation};
use crate::wire::{DEFAULT_MAX_FRAME_SIZE, Flags, Frame, FrameRef, FrameType};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How soon control frames that did not fit the socket are tried again.
const RETRY: Duration = Duration::from_millis(10);
/// The same while nothing is read until they have left.
const STALL_TICK: Duration = Duration::from_millis(1);
/// How long a peer has to take the last frame of this side.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);
/// How often a reader that waits for memory looks whether its connection still lives.
pub(super) const MEMORY_TICK: Duration = Duration::from_millis(50);
/// A connection that holds more than its free share of memory gives it back after a pause.
const PAUSE: Duration = Duration::from_secs(1);

/// What [`Reader::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A frame for the application; see [`Reader::frame`] and [`Reader::take`].
    Frame,
    /// Server: HELLO has come; [`Reader::welcome`] goes on.
    Hello(Option<AuthToken>),
    /// The session has been opened.
    Established,
    /// The frame with this `msg-id` was accepted.
    Acked(u64),
    /// PONG; its payload is that of [`Reader::frame`].
    Pong,
    /// The session is over, in order.
    End,
    /// The connection shall be given up: the server is shutting down, and nothing waits.
    Draining,
    /// Nothing came by the deadline.
    TimedOut,
}

#[derive(Debug)]
pub(crate) struct Reader {
    pub(super) half: ReadHalf,
    pub(super) decoder: StreamDecoder,
    pub(super) session: Session,
    pub(super) shared: Arc<Shared>,
    idle_timeout: Option<Duration>,
    pub(super) frame_deadline: FrameDeadline,
    tiny_reads: TinyReads,
    pub(super) memory: MemoryShare,
    pace: Pace,
    /// Bytes of the last read, while no frame has ended in it, but for those counted in `sealed_len`.
    last_len: Option<usize>,
    /// Bytes of TLS that were counted when they arrived; so much of their content is not counted again.
    sealed_len: usize,
    /// The time of the last read, which is as exact as the session needs it.
    now: Instant,
    /// When the frame that is arriving began.
    frame_began: Option<Instant>,
    /// Since when the peer is silent, as far as we have listened.
    silent_since: Instant,
    /// The application had the thread since the last read.
    was_away: bool,
    /// How it ended; everything afterwards says the same.
    pub(super) ended: Option<Ended>,
    /// A frame that is lent out instead of the decoder's, or the decoder's inflated.
    pub(super) lent: Option<Frame>,
    /// The frame that is ready was found, but not handed out yet.
    found_again: bool,
    /// It is the message that opened the session, and waits for what its address owes.
    is_held: bool,
    /// The session has more to say than the outbox has room for: until it has, nothing is read.
    is_stalled: bool,
    /// Since when it is so.
    stalled_since: Option<Instant>,
    /// How long the peer may leave it so.
    write_timeout: Duration,
    /// The largest message, inflated (bytes).
    pub(super) max_frame_len: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    Clean,
    By(ClosedBy),
}

impl Reader {
    #[inline(never)] // What is built here is large, and the caller's stack stays for the connection's life.
    pub(crate) fn new(
        half: ReadHalf,
        session: Session,
        shared: Arc<Shared>,
        config: &TcpConfig,
    ) -> Box<Self> {
        let now = clock::now();
        Box::new(Self {
            half,
            decoder: StreamDecoder::new(shared.outbox.trailer(), config.limits),
            session,
            shared,
            idle_timeout: config.idle_timeout,
            frame_deadline: config.frame_deadline,
            tiny_reads: TinyReads::default(),
            memory: MemoryShare::new(config.memory.clone()),
            pace: Pace::new(config.rate_limit, config.address_rates.clone()),
            last_len: None,
            sealed_len: 0,
            now,
            frame_began: None,
            silent_since: now,
            was_away: false,
            ended: None,
            lent: None,
            found_again: false,
            is_held: false,
            is_stalled: false,
            stalled_since: None,
            write_timeout: config.write_deadline.base,
            max_frame_len: config.limits.max_frame_len,
        })
    }

    /// The keys of sealed datagrams that the TLS session gives, if it gives any.
    pub(crate) fn sealed_keys(&self, session: u128) -> Result<Option<SealedKeys>, VstpError> {
        self.half.sealed_keys(session)
    }

    /// The frame that [`Self::next`] found, or the one that was [lent](Self::lend).
    #[inline]
    pub(crate) fn frame(&self) -> FrameRef<'_> {
        match &self.lent {
            None => self.decoder.frame(),
            Some(frame) => frame.as_ref(),
        }
    }

    /// Makes [`Self::frame`] return this one, until the next call of [`Self::next`].
    pub(crate) fn lend(&mut self, frame: Frame) {
        self.lent = Some(frame);
    }

    /// Makes the next call of [`Self::next`] find the same frame again.
    pub(crate) fn put_back(&mut self) {
        self.found_again = true;
    }

    /// Waits for the next frame of the application; `false` is the end of the session.
    #[inline]
    pub(crate) fn next_frame(&mut self, until: Option<Instant>) -> Result<bool, VstpError> {
        loop {
            match self.next(until)? {
                Next::Frame => return Ok(true),
                Next::End => return Ok(false),
                Next::TimedOut => return Err(VstpError::Timeout(TimeoutKind::Recv)),
                // A frame that has begun is still waited for, as long as the server's grace lasts.
                Next::Draining if self.is_mid_frame() => {
                    if until.is_some_and(|at| clock::now() >= at) {
                        return Err(VstpError::Timeout(TimeoutKind::Recv));
                    }
                    self.shared.outbox.pause(clock::after_or_far(RETRY));
                }
                Next::Draining => {
                    let until = clock::after(FAREWELL);
                    self.shared.say_bye_draining(until)?;
                    return Ok(false);
                }
                Next::Hello(_) | Next::Established | Next::Acked(_) | Next::Pong => {}
            }
        }
    }

    /// The frame that [`Self::next`] found, owned.
    pub(crate) fn take(&mut self) -> Frame {
        match self.lent.take() {
            None => self.decoder.take(),
            Some(frame) => frame,
        }
    }

    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Waits for the next thing that concerns the caller.
    ///
    /// An error other than `ServerError` with a `correlation_id` ends the connection.
    pub(crate) fn next(&mut self, until: Option<Instant>) -> Result<Next, VstpError> {
        if self.lent.is_some() {
            self.lent = None;
        }
        if std::mem::take(&mut self.found_again) {
            self.was_away = true;
            return Ok(Next::Frame);
        }
        match self.ended {
            Some(Ended::Clean) => return Ok(Next::End),
            Some(Ended::By(by)) => return Err(VstpError::ConnectionClosed(by)),
            None => {}
        }
        loop {
            match self.step() {
                Ok(Some(Next::End)) => {
                    self.ended_in_order();
                    return Ok(Next::End);
                }
                Ok(Some(next)) => {
                    self.was_away = true;
                    return Ok(next);
                }
                Ok(None) => {}
                Err(error) => return Err(self.ended_with(error)),
            }
            match self.fill(until) {
                Ok(None) => {}
                Ok(Some(Next::End)) => {
                    self.ended_in_order();
                    return Ok(Next::End);
                }
                Ok(Some(next)) => return Ok(next),
                Err(error) => return Err(self.ended_with(error)),
            }
        }
    }

    /// Handles frames that are there, up to one that concerns the caller.
    fn step(&mut self) -> Result<Option<Next>, VstpError> {
        if self.is_stalled {
            self.send_answers()?;
            if !self.is_stalled {
                // What the peer could not send meanwhile is not late.
                self.stalled_since = None;
                self.frame_began = None;
                self.was_away = true;
            }
        }
        loop {
            if !self.pace.has_begun() && self.session.established().is_some() {
                self.pace.begin(self.shared.peer_addr.ip());
            }
            if self.is_stalled || self.waits_for_tokens() {
                return Ok(None);
            }
            if std::mem::take(&mut self.is_held) {
                return self.accept().map(Some);
            }
            let session = &self.session;
            let ready = self.decoder.poll(|head| session.check_head(head));
            if !ready.map_err(|violation| self.refuse(violation))? {
                let began = self.frame_began.take();
                self.frame_began = self.decoder.is_mid_frame().then(|| match began {
                    Some(began) => began,
                    // Its beginning lay here while nobody read on; that is not the peer's time.
                    None if self.was_away => clock::now(),
                    None => self.now,
                });
                if let Some(len) = self.last_len.take() {
                    self.note_piece(len)?;
                }
                return Ok(None);
            }
            self.tiny_reads.on_frame();
            self.frame_began = None;
            self.last_len = None;
            if let Some(head) = self.decoder.head() {
                self.shared.received.note(head.typ, head.frame_len);
                if let Some(log) = &self.shared.outbox.log {
                    log.received(head.typ, head.frame_len);
                }
                if self.session.delivers(head) {
                    self.charge();
                    return Ok(Some(Next::Frame));
                }
            }
            let was_open = self.session.established().is_some();
            let event = match self.session.handle_frame(self.now, self.decoder.frame()) {
                Ok(Event::Deliver) if self.pace.has_begun() => return self.accept().map(Some),
                Ok(Event::Deliver) => {
                    self.is_held = true;
                    continue;
                }
                Ok(event) => event,
                Err(violation) => return Err(self.refuse(violation)),
            };
            match event {
                Event::Deliver | Event::Consumed => {}
                Event::Hello { auth_token } => return Ok(Some(Next::Hello(auth_token))),
                Event::Established => self.publish_session(),
                Event::Acked { msg_id } => return Ok(Some(Next::Acked(msg_id))),
                Event::Pong => {
                    return Ok(Some(Next::Pong));
                }
                Event::PeerBye { code } => return self.answer_bye(ClosedBy::Peer(code)).map(Some),
                Event::RemoteError {
                    code,
                    message,
                    correlation_id,
                } => {
                    let id = correlation_id.as_deref();
                    let error = RemoteError::new(code, &message, id);
                    self.was_away = true;
                    return Err(VstpError::ServerError(Box::new(error)));
                }
            }
            self.send_answers()?;
            // PING opens a session without HELLO as any message does.
            if matches!(event, Event::Established) || !was_open {
                return Ok(Some(Next::Established));
            }
        }
    }

    /// Takes the message that is ready.
    fn accept(&mut self) -> Result<Next, VstpError> {
        self.charge();
        if self.decoder.frame().flags.contains(Flags::COMP) {
            // Before it is acknowledged: what cannot be inflated was not accepted.
            self.inflate()?;
        }
        self.send_answers()?;
        Ok(Next::Frame)
    }

    /// Notes a read that ended no frame.
    fn note_piece(&mut self, len: usize) -> Result<(), VstpError> {
        let reads = self.tiny_reads.on_partial_read(len);
        reads.map_err(|overrun| self.refuse(Violation::Overrun(overrun)))
    }

    #[inline]
    fn charge(&mut self) {
        if self.pace.is_limited() {
            let len = self.decoder.head().map_or(0, |head| head.frame_len);
            if self.pace.charge(self.shared.peer_addr.ip(), len) {
                self.shared.meter.add(Family::RatePauses, 0);
            }
        }
    }

    /// Whether the client has sent more than its share, so that nothing of it is taken now. A server that
    /// shuts down finishes what has arrived, at any rate.
    fn waits_for_tokens(&mut self) -> bool {
        self.pace.wait_until().is_some() && !self.is_told_to_drain()
    }

    /// Makes known what HELLO and WELCOME settled.
    pub(crate) fn publish_session(&self) {
        if let Some(established) = self.session.established() {
            // spec 3.2: a peer that says nothing accepts the default.
            let unsaid = established.has_hello().then_some(DEFAULT_MAX_FRAME_SIZE);
            if let Some(limit) = established.peer_max_frame_len.or(unsaid) {
                self.shared.outbox.limit_frames(limit);
            }
            self.shared.set_established(established.clone());
        }
    }

    /// Sends what the session has to say, as far as it goes without waiting.
    pub(super) fn send_answers(&mut self) -> Result<(), VstpError> {
        let mut any = false;
        loop {
            self.is_stalled = !self.shared.outbox.has_control_room();
            if self.is_stalled {
                break;
            }
            let Some(frame) = self.session.poll_output() else {
                break;
            };
            self.shared.outbox.push_control(frame);
            any = true;
        }
        if any || self.is_stalled {
            self.flush_answers()?;
        }
        Ok(())
    }

    /// `false` when something remains to be sent. A sending side that is over concerns senders.
    fn flush_answers(&self) -> Result<bool, VstpError> {
        match self.shared.outbox.try_flush_control() {
            Err(VstpError::ConnectionClosed(_)) => Ok(true),
            result => result,
        }
    }

    /// The peer said goodbye: what is queued goes out, then our goodbye, then the end.
    fn answer_bye(&mut self, by: ClosedBy) -> Result<Next, VstpError> {
        let mut bye = None;
        while let Some(frame) = self.session.poll_output() {
            if frame.typ == FrameType::Bye {
                bye = Some(frame);
            } else {
                self.shared.outbox.push_control(frame);
            }
        }
        self.shared.said_bye.store(true, Ordering::Relaxed);
        // What is being handled was received before, and its answers go before our goodbye.
        self.shared.handling.wait_idle(None);
        let until = clock::after(self.frame_deadline.base);
        // The peer may be gone already; it said all it had to say. Where we said goodbye before, this
        // does nothing.
        let _ = self
            .shared
            .outbox
            .finish(bye.as_ref(), by, Fin::Send, until);
        self.shared.outbox.close(by);
        Ok(Next::End)
    }

    /// Reads once; `None` when bytes came.
    fn fill(&mut self, until: Option<Instant>) -> Result<Option<Next>, VstpError> {
        if self.was_away {
            // Nobody listened meanwhile, so the silence begins now.
            self.was_away = false;
            self.silent_since = clock::now();
        }
        let stall_at = if self.is_stalled {
            let since = *self.stalled_since.get_or_insert_with(clock::now);
            since.checked_add(self.write_timeout)
        } else {
            None
        };
        let paced_until = self.pace.wait_until().filter(|_| !self.is_told_to_drain());
        if paced_until.is_some() {
            // What lies here meanwhile is not the peer's time.
            self.frame_began = None;
            self.was_away = true;
        }
        // Nothing is late that we do not read.
        let is_reading = !self.is_stalled && paced_until.is_none();
        let idle_at = self
            .idle_timeout
            .filter(|_| is_reading)
            .and_then(|limit| self.silent_since.checked_add(limit));
        let frame_at = self.frame_began.filter(|_| is_reading).and_then(|began| {
            began.checked_add(self.frame_deadline.allowance(self.decoder.announced_len()))
        });
        let all_sent = self.flush_answers()?;
        let retry_at = if all_sent { None } else { clock::after(RETRY) };
        let is_busy = !self.decoder.is_mid_frame() && self.decoder.memory() > FREE_LEN;
        let pause_at = if is_busy { clock::after(PAUSE) } else { None };
        let at = [until, idle_at, frame_at, retry_at, pause_at]
            .into_iter()
            .flatten()
            .min();

        let outcome = if self.is_stalled {
            self.shared.outbox.pause(clock::after_or_far(STALL_TICK));
            Ok(ReadOutcome::TimedOut)
        } else if let Some(ready_at) = paced_until {
            // In steps: a shutdown does not wake who waits here.
            let soon = ready_at.min(clock::after_or_far(MEMORY_TICK));
            let until = at.map_or(soon, |at| at.min(soon));
            self.shared.outbox.pause(until);
            Ok(ReadOutcome::TimedOut)
        } else if self.reserve(at) {
            self.half.read(self.decoder.read_target(), at)
        } else {
            Ok(ReadOutcome::TimedOut)
        };
        let outcome = match outcome {
            Ok(ReadOutcome::Sealed(len)) => {
                self.sealed_len = self.sealed_len.saturating_add(len);
                self.note_piece(len)?;
                if at.is_none_or(|at| clock::now() < at) {
                    return Ok(None);
                }
                Ok(ReadOutcome::TimedOut)
            }
            other => other,
        };
        match outcome {
            Ok(ReadOutcome::Sealed(_)) => Ok(None),
            Ok(ReadOutcome::Bytes(len)) => {
                self.decoder.on_read(len);
                self.now = clock::now();
                self.silent_since = self.now;
                self.shared.note_received(self.now, len);
                let sent = self.shared.outbox.frames_sent();
                self.session.note_frames_sent(sent);
                let counted = len.min(self.sealed_len);
                self.sealed_len -= counted;
                self.last_len = Some(len - counted).filter(|len| *len > 0);
                Ok(None)
            }
            Ok(ReadOutcome::End(StreamEnd::Fin))
                if self.is_told_to_drain() && self.shared.aborted.get().is_none() =>
            {
                Ok(Some(Next::Draining))
            }
            Ok(ReadOutcome::End(end)) => {
                if self.shared.said_bye.load(Ordering::Relaxed) {
                    self.session.note_bye_sent();
                }
                if let Some(by) = self.shared.aborted.get() {
                    return Err(VstpError::ConnectionClosed(*by));
                }
                match self.session.handle_eof(end, self.decoder.is_mid_frame()) {
                    Closed::Clean => Ok(Some(Next::End)),
                    other => Err(VstpError::ConnectionClosed(closed_by(other))),
                }
            }
            Ok(ReadOutcome::TimedOut) => {
                if let Some(by) = self.shared.aborted.get() {
                    return Err(VstpError::ConnectionClosed(*by));
                }
                let now = clock::now();
                let over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
                if over(stall_at) {
                    return Err(self.expire(TimeoutKind::Send));
                }
                if over(frame_at) {
                    return Err(self.expire(TimeoutKind::Frame));
                }
                if over(idle_at) {
                    return Err(self.expire(TimeoutKind::Idle));
                }
                if over(until) {
                    return Ok(Some(Next::TimedOut));
                }
                if over(pause_at) {
                    self.decoder.release();
                    self.half.release();
                }
                Ok(None)
            }
            Err(error) => {
                // An alert may wait in the TLS state; the peer shall see it.
                self.shared.outbox.finish_now(None, ClosedBy::Error);
                Err(error)
            }
        }
    }

    /// Takes the memory that the decoder holds from the budget; `false` when it is not there yet.
    fn reserve(&mut self, until: Option<Instant>) -> bool {
        // An end from another thread does not wake who waits here, so nobody waits for long.
        let soon = clock::after_or_far(MEMORY_TICK);
        let until = until.map_or(soon, |at| at.min(soon));
        self.memory.resize(self.decoder.memory(), Some(until))
    }

    fn is_told_to_drain(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    /// Whether a frame is there, or arriving.
    pub(crate) fn is_mid_frame(&self) -> bool {
        self.decoder.is_mid_frame()
    }
}

fn closed_by(closed: Closed) -> ClosedBy {
    match closed {
        Closed::Clean => ClosedBy::Peer(None),
        Closed::PeerWithoutBye => ClosedBy::PeerWithoutBye,
        Closed::Truncated => ClosedBy::Truncated,
        Closed::Reset => ClosedBy::Reset,
    }
}

#[cfg(test)]
#[cfg(feature = "dev-certs")]
mod tests {
    use super::super::client::VstpTcpClient;
    use super::super::outbox::{Framing, Outbox};
    use super::*;
    use crate::ext::Pipeline;
    use crate::net::meter::Meter;
    use crate::net::socket::Transport;
    use crate::net::stream;
    use crate::net::tls::{TlsSession, dev};
    use crate::proto::ErrorCode;
    use crate::proto::error::Overrun;
    use crate::proto::session::{Security, SessionConfig};
    use crate::wire::Trailer;
    use std::io::{self, IoSlice};
    use std::net::{Shutdown, TcpListener, TcpStream};

    const LONG: Duration = Duration::from_secs(20);

    /// A socket that is read a few bytes at a time, however many have arrived.
    #[derive(Debug)]
    struct Drip {
        stream: TcpStream,
        piece: usize,
    }

    impl Transport for Drip {
        fn recv(&self, into: &mut Vec<u8>, wait: bool) -> io::Result<usize> {
            // Its capacity is exact: vectors of bytes are, up to a multiple of one.
            let mut piece = Vec::with_capacity(self.piece.min(into.capacity() - into.len()));
            let len = Transport::recv(&self.stream, &mut piece, wait)?;
            into.extend_from_slice(&piece);
            Ok(len)
        }

        fn send(&self, parts: &[IoSlice<'_>], wait: bool) -> io::Result<usize> {
            Transport::send(&self.stream, parts, wait)
        }

        fn set_recv_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
            self.stream.set_recv_timeout(timeout)
        }

        fn set_send_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
            self.stream.set_send_timeout(timeout)
        }

        fn shutdown(&self, how: Shutdown) -> io::Result<()> {
            Transport::shutdown(&self.stream, how)
        }
    }

    /// What a server finds that reads `piece` bytes at a time of a client that sends `frames`: how
    /// many arrived, the error if there was one, and what the client heard last.
    fn drip(tls: bool, piece: usize, frames: &[Frame]) -> (usize, Option<VstpError>, VstpError) {
        let certs = dev::generate().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let config = TcpConfig::default();
        let server = || {
            let (stream, _) = listener.accept().unwrap();
            let addrs = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let transport: Arc<dyn Transport> = Arc::new(Drip { stream, piece });
            let until = clock::after(LONG);
            let (read, write) = if tls {
                let session = TlsSession::server(&certs.server().unwrap()).unwrap();
                stream::tls(Arc::clone(&transport), session, Duration::ZERO, until).unwrap()
            } else {
                stream::plain(Arc::clone(&transport), Duration::ZERO)
            };
            let framing = Framing {
                trailer: if tls {
                    Trailer::WhenFlagged
                } else {
                    Trailer::Always
                },
                max_header_count: 128,
                write_deadline: config.write_deadline,
                queue_count: 1,
                queue_len: 1,
            };
            let outbox = Outbox::new(write, framing, config.limits.max_frame_len);
            let shared = Shared::new(
                transport,
                outbox,
                addrs,
                None,
                Pipeline::default(),
                Meter::off(),
            );
            let session = SessionConfig {
                features: config.features.clone(),
                max_frame_len: config.limits.max_frame_len,
                hello: true,
                require_hello: true,
                auth_token: None,
                authenticate: false,
            };
            let security = if tls {
                Security::Tls
            } else {
                Security::Plaintext
            };
            let session = Session::server(session, security, 1);
            let mut reader = Reader::new(read, session, shared, &config);
            let mut count = 0;
            loop {
                match reader.next(until) {
                    Ok(Next::Frame) => count += 1,
                    Ok(Next::End | Next::TimedOut) => return (count, None),
                    Ok(_) => {}
                    Err(error) => return (count, Some(error)),
                }
            }
        };
        std::thread::scope(|scope| {
            let serving = scope.spawn(server);
            let mut client = if tls {
                VstpTcpClient::connect(addr, &certs.client().unwrap()).unwrap()
            } else {
                VstpTcpClient::connect_plain(addr).unwrap()
            };
            let sent = frames.iter().try_for_each(|frame| client.send(frame));
            let heard = match sent.and_then(|()| client.close_sending()) {
                Ok(()) | Err(VstpError::ConnectionClosed(_)) => client.recv_timeout(LONG),
                Err(error) => Err(error),
            };
            let heard = heard.err();
            let (count, error) = serving.join().unwrap();
            let clean = VstpError::ConnectionClosed(ClosedBy::Peer(None));
            (count, error, heard.unwrap_or(clean))
        })
    }

    #[test]
    fn b12_a_mebibyte_in_single_bytes_is_cut_over_plaintext_and_over_tls() {
        let attack = [Frame::data(vec![7; 1 << 20])];
        for tls in [false, true] {
            let (count, error, heard) = drip(tls, 1, &attack);
            assert_eq!(count, 0);
            assert!(
                matches!(
                    error,
                    Some(VstpError::Protocol(Violation::Overrun(Overrun::TinyReads)))
                ),
                "TLS: {tls} {error:?}"
            );
            assert!(
                matches!(&heard, VstpError::ServerError(e) if e.code == ErrorCode::Calm)
                    || matches!(heard, VstpError::ConnectionClosed(_)),
                "{heard:?}"
            );
        }
    }

    #[test]
    fn b12_less_than_64_kib_in_single_bytes_arrives() {
        let honest = [Frame::data(vec![7; 30_000]), Frame::data(vec![8; 30_000])];
        for tls in [false, true] {
            let (count, error, _) = drip(tls, 1, &honest);
            assert!(error.is_none(), "TLS: {tls} {error:?}");
            assert_eq!(count, 2);
        }
    }

    #[test]
    fn b12_a_mebibyte_in_pieces_of_20_bytes_arrives() {
        let honest = [Frame::data(vec![7; 1 << 20])];
        for tls in [false, true] {
            let (count, error, _) = drip(tls, 20, &honest);
            assert!(error.is_none(), "TLS: {tls} {error:?}");
            assert_eq!(count, 1);
        }
    }
}
