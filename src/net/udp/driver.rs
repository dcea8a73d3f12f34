//! What drives the protocol of one socket: the lock around it, its two threads, and the calls that wait.
//!
//! Every change follows one pattern: lock the protocol, change it, hand its events over, unlock, send what
//! it has to send. Calls that wait do so in [`Driver::wait_for`].

use super::config::UdpConfig;
use super::core::{Core, Incoming};
use super::socket::{RecvBuffer, Socket, TICK, is_too_large, remaining};
use super::stats::UdpStats;
use super::turn::Turn;
use crate::error::{ClosedBy, VstpError};
use crate::metrics::{Metrics, Snapshot};
use crate::net::event_log::Recorder;
use crate::net::meter::{Meter, Source};
use crate::net::tcp::memory::MemoryBudget;
use crate::net::{clock, random};
use crate::proto::datagram::{Endpoint, MAX_BUNDLED_COUNT, Progress, SendError, Token};
use crate::wire::{Frame, FrameRef};
use crossbeam_channel::{Receiver, bounded};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Acknowledged sends that are begun one after the other leave together once so many are ready.
const GATHER_COUNT: usize = 64;
/// They wait for each other so long, unless many such batches follow each other: then the timer thread looks by
/// itself so often, since telling it of each batch would cost a system call and a wake-up each.
const GATHER_TIME: Duration = Duration::from_micros(100);
const GATHER_TICK: Duration = Duration::from_micros(500);
/// Fewer on their way than this are not worth gathering: the next may never come.
const GATHER_FROM: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Driver {
    socket: Socket,
    pub(super) config: UdpConfig,
    /// Protects the protocol. Never held across a call of the socket.
    core: Mutex<Core>,
    /// An outcome is there.
    changed: Condvar,
    /// The timer thread has an earlier deadline.
    timer: Condvar,
    /// Everything has left.
    pub(super) drained: Condvar,
    turn: Turn,
    /// Bytes of the messages in the inbox.
    pub(super) inbox_len: AtomicUsize,
    pub(super) messages: Receiver<Incoming>,
    /// One thread sends, in the order of the protocol; who comes meanwhile leaves it to that one.
    sending: AtomicBool,
    has_more: AtomicBool,
    /// The sender's buffer, while nobody sends.
    send_buffer: Mutex<Vec<u8>>,
    send_errors: AtomicU64,
    recv_errors: AtomicU64,
    pub(super) extension_failures: AtomicU64,
    /// For inflated messages that handlers work on.
    pub(super) memory: Arc<MemoryBudget>,
    meter: Meter,
    recorder: Option<Recorder>,
    /// What the meter was told, once it was. Held to tell it what is new; `core` may be taken inside it.
    handed: Mutex<Option<Box<Snapshot>>>,
}

impl Driver {
    /// Binds the socket.
    pub(super) fn new(addr: SocketAddr, config: UdpConfig) -> Result<Self, VstpError> {
        let socket = Socket::bind(addr, &config).map_err(VstpError::Io)?;
        let seed = random::seed().map_err(VstpError::Io)?;
        let endpoint = Endpoint::new(config.endpoint.clone(), seed, clock::now());
        // A datagram that is taken while there is a place may bring more than one message.
        let (sender, messages) = bounded(config.recv_queue_count.saturating_add(MAX_BUNDLED_COUNT));
        Ok(Self {
            core: Mutex::new(Core::new(endpoint, sender)),
            changed: Condvar::new(),
            timer: Condvar::new(),
            drained: Condvar::new(),
            turn: Turn::new(),
            inbox_len: AtomicUsize::new(0),
            messages,
            sending: AtomicBool::new(false),
            has_more: AtomicBool::new(false),
            send_buffer: Mutex::default(),
            send_errors: AtomicU64::new(0),
            recv_errors: AtomicU64::new(0),
            extension_failures: AtomicU64::new(0),
            memory: Arc::new(MemoryBudget::new(config.endpoint.total_budget_len)),
            recorder: (config.event_log.clone()).map(|log| Recorder::new(log, socket.local_addr())),
            meter: config.meter.clone().unwrap_or_default(),
            handed: Mutex::new(None),
            socket,
            config,
        })
    }

    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the protocol, and does what follows from that.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.lock();
        let result = change(&mut core);
        self.after(core);
        result
    }

    /// Hands events over, wakes whom they concern, sends what there is to send. How many events there
    /// were.
    fn after(&self, mut core: MutexGuard<'_, Core>) -> usize {
        let count = core.hand_over(&self.inbox_len);
        self.follow_up(core, count);
        count
    }

    fn follow_up(&self, core: MutexGuard<'_, Core>, events: usize) {
        if events > 0 && core.waiters > 0 {
            drop(core);
            self.changed.notify_all();
            self.transmit();
        } else {
            self.transmit_from(Some(core));
        }
    }

    /// Sends what the protocol has to send.
    fn transmit(&self) {
        self.transmit_from(None);
    }

    /// The same, when the protocol is locked already.
    fn transmit_from(&self, mut core: Option<MutexGuard<'_, Core>>) {
        self.has_more.store(true, Ordering::SeqCst);
        // Who has it looks again after giving it back, so nothing is left lying.
        while self.has_more.load(Ordering::SeqCst) && !self.sending.swap(true, Ordering::SeqCst) {
            self.has_more.store(false, Ordering::SeqCst);
            self.send_all(core.take());
            self.sending.store(false, Ordering::SeqCst);
        }
        drop(core);
        self.record();
    }

    fn send_all(&self, mut locked: Option<MutexGuard<'_, Core>>) {
        let spare = || {
            self.send_buffer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let mut out = std::mem::take(&mut *spare());
        let max_segments = self.socket.max_segments();
        let mut is_drained = false;
        while !is_drained {
            let mut core = locked.take().unwrap_or_else(|| self.lock());
            core.gathered = 0;
            core.gather_until = None;
            let transmit = core
                .endpoint
                .poll_transmit(clock::now(), max_segments, &mut out);
            is_drained = core.endpoint.is_drained();
            let wake = is_drained && self.arm(&mut core);
            if is_drained {
                core.unsent_len = 0;
            }
            let has_room = is_drained && core.unsent_waiters > 0;
            drop(core);
            if wake {
                self.timer.notify_one();
            }
            if has_room {
                self.drained.notify_all();
            }
            let Some(transmit) = transmit else {
                break;
            };
            self.record();
            if let Err(error) = self.socket.send(transmit.to, &out, transmit.segment_len) {
                // As good as lost on the way: what matters is sent again.
                self.send_errors.fetch_add(1, Ordering::Relaxed);
                log::trace!("datagram to {} was not sent: {error}", transmit.to);
                if is_too_large(&error) {
                    self.give_up_too_large(transmit.to, transmit.segment_len);
                }
            }
        }
        *spare() = out;
    }

    /// Writes down what happened, where there is an event log.
    fn record(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.record(|events| self.lock().endpoint.take_trace(events));
        }
    }

    /// What is too large for the network now is so the next time: those who sent it are told.
    fn give_up_too_large(&self, to: SocketAddr, len: usize) {
        let mut core = self.lock();
        if core.endpoint.handle_too_large(to, len) == 0 {
            core.too_large = Some((to, len));
        }
        core.hand_over(&self.inbox_len);
        drop(core);
        self.changed.notify_all();
        // What waited behind it may leave now.
        self.has_more.store(true, Ordering::SeqCst);
    }

    /// Whether the timer thread must be told of an earlier deadline.
    fn arm(&self, core: &mut Core) -> bool {
        let gathered = core.gather_until.and_then(|at| at.checked_add(GATHER_TICK));
        let next = core.endpoint.next_timeout();
        let next = next.into_iter().chain(gathered).min();
        let Some(next) = next.filter(|_| core.timer_sleeps) else {
            return false;
        };
        let is_earlier = core.armed.is_none_or(|armed| next < armed);
        if is_earlier {
            // It sets its own when it wakes; until then nobody needs to tell it again.
            core.armed = Some(next);
        }
        is_earlier
    }

    /// The body of `vstp-udp-timer`.
    pub(super) fn timer_loop(&self) {
        let mut core = self.lock();
        while !core.closed {
            let next = core.endpoint.next_timeout();
            let mut next = next.into_iter().chain(core.gather_until).min();
            let now = clock::now();
            if next.is_some_and(|at| at <= now) {
                core.endpoint.handle_timeout(now);
                // Who sends already takes these along; until then there is nothing to wake up for.
                core.gather_until.take_if(|at| *at <= now);
                self.after(core);
                core = self.lock();
                continue;
            }
            if std::mem::take(&mut core.gathers) {
                next = next.into_iter().chain(now.checked_add(GATHER_TICK)).min();
            }
            core.armed = next;
            core.timer_sleeps = true;
            core = match next {
                Some(at) => {
                    let waited = self.timer.wait_timeout(core, at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .timer
                    .wait(core)
                    .unwrap_or_else(PoisonError::into_inner),
            };
            core.timer_sleeps = false;
        }
    }

    /// The body of `vstp-udp-recv`.
    pub(super) fn receive_loop(&self) {
        let mut given = None;
        while let Some(mut buffer) = self.turn.thread_take(given.take()) {
            loop {
                let events = self.read(&mut buffer, TICK);
                if self.lock().closed {
                    return;
                }
                if events > 0 && self.turn.has_one_waiting() {
                    break;
                }
            }
            given = Some(buffer);
        }
    }

    /// Reads what is there, or waits for it; how many events came of it.
    fn read(&self, buffer: &mut RecvBuffer, wait: Duration) -> usize {
        let received = match self.socket.recv(buffer, wait) {
            Ok(Some(received)) => received,
            Ok(None) => return 0,
            Err(error) => {
                // A refusal by the other host, or a shortage of the system; the socket itself lives.
                self.recv_errors.fetch_add(1, Ordering::Relaxed);
                log::trace!("receiving failed: {error}");
                return 0;
            }
        };
        let now = clock::now();
        let mut core = self.lock();
        let mut count = 0;
        for datagram in received.datagrams() {
            let room = self.has_inbox_room();
            core.endpoint
                .handle_datagram(now, received.from, datagram, room);
            count += core.hand_over(&self.inbox_len);
        }
        self.follow_up(core, count);
        count
    }

    /// Waits until `check` gives something, and reads the socket meanwhile if nobody else does.
    ///
    /// `None`: the deadline has passed, or the socket was closed.
    pub(super) fn wait_for<T>(
        &self,
        until: Option<Instant>,
        mut check: impl FnMut(&mut Core) -> Option<T>,
    ) -> Option<T> {
        let mut turn = None;
        loop {
            let mut core = self.lock();
            if let Some(found) = check(&mut core) {
                return Some(found);
            }
            if core.closed {
                return None;
            }
            let wait = remaining(until)?;
            turn = turn.take().or_else(|| self.turn.try_take());
            if let Some(turn) = &mut turn {
                drop(core);
                self.read(turn.buffer(), wait);
            } else {
                core.waiters += 1;
                drop(core);
                let waiting = self.turn.wait();
                let mut core = self.lock();
                let found = check(&mut core);
                if found.is_none() && !core.closed {
                    let waited = self.changed.wait_timeout(core, wait);
                    core = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                core.waiters -= 1;
                drop(core);
                drop(waiting);
                if found.is_some() {
                    return found;
                }
            }
        }
    }

    /// Waits for a message; `Ok(None)` when the deadline has passed.
    pub(crate) fn recv(&self, until: Option<Instant>) -> Result<Option<Incoming>, VstpError> {
        let mut turn = None;
        loop {
            if let Some(incoming) = self.try_recv()? {
                return Ok(Some(incoming));
            }
            let Some(wait) = remaining(until) else {
                return Ok(None);
            };
            turn = turn.take().or_else(|| self.turn.try_take());
            if let Some(turn) = &mut turn {
                self.read(turn.buffer(), wait);
            } else {
                let _waiting = self.turn.wait();
                if let Some(incoming) = self.next_message(wait, || ())? {
                    return Ok(Some(incoming));
                }
            }
        }
    }

    /// Sends a frame once.
    pub(crate) fn send(&self, frame: &Frame, to: SocketAddr) -> Result<(), VstpError> {
        let outgoing = self.outgoing(frame.as_ref(), to)?;
        match outgoing.of(frame.as_ref()) {
            Some(frame) => self.send_frame(frame, to),
            None => Ok(()),
        }
    }

    /// The same for a frame that is ready to leave.
    pub(super) fn send_frame(&self, frame: FrameRef<'_>, to: SocketAddr) -> Result<(), VstpError> {
        let mut core = self.lock_to_send();
        if core.closed {
            return Err(closed());
        }
        let sent = core.endpoint.send(clock::now(), to, frame);
        if sent.is_ok() {
            core.sent_once(frame.payload.len());
        }
        self.after(core);
        sent?;
        if self.send_errors.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        match self.lock().too_large.take_if(|(addr, _)| *addr == to) {
            Some((_, len)) => Err(SendError::TooLarge { len }.into()),
            None => Ok(()),
        }
    }

    /// Begins a send that is repeated until it is acknowledged; waits for room in the queue. `None`: an
    /// extension has kept the frame.
    pub(super) fn start_send(
        &self,
        frame: Frame,
        to: SocketAddr,
    ) -> Result<Option<Token>, VstpError> {
        match self.outgoing(frame.as_ref(), to)?.of_owned(frame) {
            Some(frame) => self.start_frame(frame, to).map(Some),
            None => Ok(None),
        }
    }

    fn start_frame(&self, frame: Frame, to: SocketAddr) -> Result<Token, VstpError> {
        let len = frame.payload.len();
        let mut core = self.lock();
        if !core.has_room(&self.config, len) {
            drop(core);
            let room = |core: &mut Core| core.has_room_again(&self.config, len).then_some(());
            self.wait_for(None, room).ok_or_else(closed)?;
            core = self.lock();
        }
        if core.closed {
            return Err(closed());
        }
        let now = clock::now();
        let token = core.endpoint.send_with_ack(now, to, frame)?;
        core.send_began(token, len);
        // One datagram is one system call; many that are begun in a row are one too.
        if core.pending_count >= GATHER_FROM && core.gathered < GATHER_COUNT {
            if core.gather_until.is_none() {
                core.gather_until = now.checked_add(GATHER_TIME);
                core.gathers = true;
                if self.arm(&mut core) {
                    drop(core);
                    self.timer.notify_one();
                }
            }
            return Ok(token);
        }
        self.transmit_from(Some(core));
        Ok(token)
    }

    /// Sends a frame until it is acknowledged, and waits for that.
    pub(crate) fn send_with_ack(&self, frame: Frame, to: SocketAddr) -> Result<(), VstpError> {
        let Some(token) = self.start_send(frame, to)? else {
            return Ok(());
        };
        self.transmit();
        let ended = self.wait_for(None, |core| core.outcome(token));
        self.lock().forget(token);
        ended.map_or_else(|| Err(closed()), |how| how.map_err(VstpError::from))
    }

    /// Begins a send that is repeated until it is acknowledged, and that nobody asks about; sends once
    /// where the queue has no room, and so never waits for an acknowledgement.
    pub(crate) fn send_assured(&self, frame: Frame, to: SocketAddr) -> Result<(), VstpError> {
        let Some(frame) = self.outgoing(frame.as_ref(), to)?.of_owned(frame) else {
            return Ok(());
        };
        let mut core = self.lock();
        if !core.has_room(&self.config, frame.payload.len()) {
            drop(core);
            return self.send_frame(frame.as_ref(), to);
        }
        if core.closed {
            return Err(closed());
        }
        let len = frame.payload.len();
        let token = core.endpoint.send_with_ack(clock::now(), to, frame)?;
        core.send_began(token, len);
        core.forget(token);
        drop(core);
        self.transmit();
        Ok(())
    }

    pub(crate) const fn read_timeout(&self) -> Option<Duration> {
        self.config.read_timeout
    }

    pub(crate) fn session_count(&self) -> usize {
        self.lock().endpoint.stats().sessions
    }

    /// Sends now what waits for company.
    pub(super) fn push(&self) {
        self.transmit();
    }

    pub(super) fn progress(&self, token: Token) -> Option<Progress> {
        self.lock().endpoint.progress(token)
    }

    pub(crate) fn stats(&self) -> UdpStats {
        let core = self.lock();
        UdpStats {
            protocol: core.endpoint.stats().clone(),
            send_errors: self.send_errors.load(Ordering::Relaxed),
            recv_errors: self.recv_errors.load(Ordering::Relaxed),
            extension_failures: self.extension_failures.load(Ordering::Relaxed),
            recv_queue_count: self.messages.len(),
            send_queue_count: core.pending_count,
        }
    }

    pub(crate) const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Ends every call that waits, and the threads.
    pub(super) fn close(&self) {
        let mut core = self.lock();
        core.closed = true;
        core.inbox = None;
        let reception = core.reception.take();
        drop(core);
        self.changed.notify_all();
        self.timer.notify_all();
        self.drained.notify_all();
        self.turn.close();
        self.socket.wake();
        // Waits for calls that are in the system; they have just been woken.
        self.socket.close();
        // Waits a moment for the authenticator's threads, which may want the protocol.
        drop(reception);
        self.record();
        self.recorder.iter().for_each(Recorder::finish);
    }
}

impl Source for Driver {
    fn fold(&self, into: &Metrics) {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let last = handed.get_or_insert_default();
        let now = self.stats().numbers();
        into.add_since(&now, last);
        **last = now;
    }
}

impl Drop for Driver {
    /// What it held is gone, what it counted is not.
    fn drop(&mut self) {
        let now = self.stats().numbers().without_gauges();
        let last = self.handed.get_mut();
        let last = last.unwrap_or_else(PoisonError::into_inner).take();
        let last = last.unwrap_or_default();
        self.meter.metrics().add_since(&now, &last);
    }
}

pub(super) fn closed() -> VstpError {
    VstpError::ConnectionClosed(ClosedBy::Local)
}
