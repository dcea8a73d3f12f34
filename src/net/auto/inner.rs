//! [`Inner`]: what the callers and the threads of a client share.

use super::config::AutoConfig;
use super::state::{Ended, Received, State, Udp, UdpHalf};
use super::status::UdpStatus;
use crate::error::{TimeoutKind, VstpError};
use crate::net::clock;
use crate::net::tcp::shared::Shared;
use crate::net::udp::Delivery;
use crate::proto::auto::{Transport, Via};
use crate::proto::datagram::SendError;
use crate::proto::keys;
use crate::proto::once::OnceId;
use crate::wire::{Flags, Frame};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often who waits for UDP looks whether UDP has failed meanwhile.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// How long an answer on UDP may take that the server gave before it said goodbye.
const FAREWELL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: AutoConfig,
    pub(super) tcp: Arc<Shared>,
    pub(super) udp_addr: SocketAddr,
    /// The number of the session on TCP, which messages name that may go both ways.
    pub(super) session_id: u128,
    state: Mutex<State>,
    /// Something for `recv`, or the end.
    pub(super) arrived: Condvar,
    /// An acknowledgement, an answer, a change of UDP, or the end.
    pub(super) settled: Condvar,
    /// Room for `arrived`.
    pub(super) room: Condvar,
    /// For the threads that wait for a time.
    pub(super) timer: Condvar,
}

impl Inner {
    pub(super) fn new(
        config: AutoConfig,
        tcp: Arc<Shared>,
        (udp_addr, session_id): (SocketAddr, u128),
        state: State,
    ) -> Self {
        Self {
            config,
            tcp,
            udp_addr,
            session_id,
            state: Mutex::new(state),
            arrived: Condvar::new(),
            settled: Condvar::new(),
            room: Condvar::new(),
            timer: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn call_deadline(&self) -> Option<Instant> {
        clock::after(self.config.tcp.call_timeout)
    }

    pub(super) const fn inbox_limits(&self) -> (usize, usize) {
        (self.config.inbox_count, self.config.inbox_len)
    }

    // What came.

    /// Hands a frame over, and waits for room.
    pub(super) fn deliver(&self, frame: Frame, by: Transport) {
        let mut state = self.lock();
        let for_recv = state.route(frame, by);
        self.keep(state, for_recv);
    }

    /// Hands the error of a request over, and waits for room.
    pub(super) fn deliver_received(&self, received: Received) {
        let mut state = self.lock();
        let for_recv = state.route_received(received);
        self.keep(state, for_recv);
    }

    fn keep(&self, mut state: MutexGuard<'_, State>, received: Option<Received>) {
        let Some(received) = received else {
            drop(state);
            self.settled.notify_all();
            return;
        };
        while state.is_full(self.inbox_limits()) && !state.closing {
            state = wait(&self.room, state, None);
        }
        if !state.closing {
            state.push(received);
            drop(state);
            self.arrived.notify_one();
        }
    }

    pub(super) fn acknowledged(&self, msg_id: u64) {
        if let Some(acknowledged) = self.lock().acks.get_mut(&msg_id) {
            *acknowledged = true;
        }
        self.settled.notify_all();
    }

    /// The session on TCP is over, and with it everything.
    /// The server has said goodbye on TCP, and before that on UDP: what it answered there may lie in the
    /// socket still. It is waited for while somebody waits for an answer.
    pub(super) fn let_udp_finish(&self) {
        let until = clock::after(FAREWELL);
        let mut state = self.lock();
        while state.udp_half().is_some()
            && state.calls.values().any(Option::is_none)
            && !state.is_over()
            && !is_past(until)
        {
            state = wait(&self.settled, state, until);
        }
    }

    pub(super) fn end(&self, ended: Ended) {
        let mut state = self.lock();
        state.ended.get_or_insert(ended);
        let udp = std::mem::replace(&mut state.udp, Udp::None(UdpStatus::Unreachable));
        drop(state);
        self.wake_all();
        match udp {
            Udp::Open(half) => half.client.close_now(),
            Udp::Opening(client) => client.close_now(),
            Udp::None(_) => {}
        }
    }

    pub(super) fn wake_all(&self) {
        for condvar in [&self.arrived, &self.settled, &self.room, &self.timer] {
            condvar.notify_all();
        }
    }

    // Sending.

    /// The way for a message: `Some` is UDP.
    pub(super) fn choose(&self, via: Via, len: usize) -> Result<Option<Arc<UdpHalf>>, VstpError> {
        let state = self.lock();
        if let Some(error) = state.end_error() {
            return Err(error);
        }
        let transport = match via {
            Via::Auto => state.switch.choose(len),
            Via::Tcp => Transport::Tcp,
            Via::Udp => Transport::Udp,
        };
        match (transport, state.udp_half()) {
            (Transport::Tcp, _) => Ok(None),
            (Transport::Udp, Some(half)) => Ok(Some(half)),
            // It has just gone.
            (Transport::Udp, None) if via == Via::Auto => Ok(None),
            (Transport::Udp, None) => Err(VstpError::TransportUnavailable(Transport::Udp)),
        }
    }

    /// Sends a message once.
    pub(super) fn send(&self, frame: &Frame, via: Via) -> Result<(), VstpError> {
        check(frame)?;
        let Some(half) = self.choose(via, frame.payload.len())? else {
            return self.send_tcp(frame);
        };
        match half.client.check_session(&half.session) {
            Ok(()) => half.client.send(frame, half.session.peer_addr()),
            Err(_) if via == Via::Auto => self.send_tcp(frame),
            Err(error) => Err(error),
        }
    }

    pub(super) fn send_tcp(&self, frame: &Frame) -> Result<(), VstpError> {
        self.tcp.send(frame.as_ref())
    }

    /// Begins an acknowledged send over UDP. With `Via::Auto` it is numbered, and what is to be sent over TCP
    /// if UDP fails comes back.
    pub(super) fn start_udp(
        &self,
        half: &UdpHalf,
        frame: Frame,
        via: Via,
    ) -> Result<(Delivery, Option<Frame>), VstpError> {
        half.client.check_session(&half.session)?;
        let to = half.session.peer_addr();
        if via != Via::Auto {
            return Ok((half.client.start_send(frame, to)?, None));
        }
        let number = {
            let mut state = self.lock();
            state.next_once += 1;
            state.next_once - 1
        };
        let session = self.session_id;
        let frame = OnceId { session, number }.on(frame);
        let delivery = half.client.start_send(frame.clone(), to)?;
        Ok((delivery, Some(frame)))
    }

    /// Sends a message over TCP and waits for its acknowledgement.
    pub(super) fn send_tcp_with_ack(
        &self,
        frame: Frame,
        until: Option<Instant>,
    ) -> Result<(), VstpError> {
        let outgoing = self.tcp.outgoing(frame.as_ref())?;
        let Some(frame) = outgoing.of_owned(frame) else {
            return Ok(());
        };
        let msg_id = {
            let mut state = self.lock();
            let msg_id = state.next_msg_id;
            state.next_msg_id += 1;
            state.acks.insert(msg_id, false);
            msg_id
        };
        let frame = frame
            .with_flag(Flags::REQ_ACK)
            .with_header(keys::MSG_ID, msg_id.to_string());
        let sent = self.tcp.outbox.send(frame.as_ref());
        let result = sent.and_then(|()| self.wait_for_ack(msg_id, until));
        self.lock().acks.remove(&msg_id);
        result
    }

    fn wait_for_ack(&self, msg_id: u64, until: Option<Instant>) -> Result<(), VstpError> {
        let mut state = self.lock();
        loop {
            if state.acks.get(&msg_id) == Some(&true) {
                return Ok(());
            }
            if let Some(error) = state.end_error() {
                return Err(error);
            }
            if is_past(until) {
                return Err(self.too_late(&state, TimeoutKind::Ack));
            }
            state = wait(&self.settled, state, until);
        }
    }

    /// The error of a wait that is over. Acknowledgements and answers come behind messages: while nobody
    /// takes those, they cannot come.
    pub(super) fn too_late(&self, state: &State, kind: TimeoutKind) -> VstpError {
        if state.is_full(self.inbox_limits()) {
            return VstpError::Backpressure;
        }
        VstpError::Timeout(kind)
    }

    /// Sends a message until it is acknowledged, over TCP if UDP fails before that.
    pub(super) fn send_with_ack(
        &self,
        frame: Frame,
        via: Via,
        until: Option<Instant>,
    ) -> Result<(), VstpError> {
        check(&frame)?;
        let Some(half) = self.choose(via, frame.payload.len())? else {
            return self.send_tcp_with_ack(frame, until);
        };
        let (delivery, again) = match self.start_udp(&half, frame.clone(), via) {
            Ok(started) => started,
            // The session on UDP has just ended; nothing was sent.
            Err(VstpError::ConnectionClosed(_) | VstpError::Timeout(_)) if via == Via::Auto => {
                return self.send_tcp_with_ack(frame, until);
            }
            Err(error) => return Err(error),
        };
        drop(frame);
        loop {
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            match delivery.wait_timeout(left.unwrap_or(TICK).min(TICK)) {
                Ok(()) => return Ok(()),
                Err(VstpError::Timeout(TimeoutKind::Send)) if is_past(until) => {
                    delivery.cancel();
                    return Err(VstpError::Timeout(TimeoutKind::Ack));
                }
                Err(VstpError::Timeout(TimeoutKind::Send))
                    if again.is_none() || !self.lock().udp_failed() => {}
                Err(error) => {
                    self.note_failure(&error);
                    let Some(frame) = again else {
                        return Err(error);
                    };
                    delivery.cancel();
                    return self.send_tcp_with_ack(frame, until);
                }
            }
        }
    }

    /// A message was given up on UDP.
    pub(super) fn note_failure(&self, error: &VstpError) {
        if matches!(error, VstpError::Timeout(TimeoutKind::Ack)) {
            let mut state = self.lock();
            state.switch.handle_failure(clock::now(), Transport::Udp);
        }
    }
}

/// `once` is set here and nowhere else.
pub(super) fn check(frame: &Frame) -> Result<(), VstpError> {
    match frame.header(keys::ONCE) {
        None => Ok(()),
        Some(_) => Err(VstpError::Datagram(SendError::ReservedHeader(keys::ONCE))),
    }
}

pub(super) fn is_past(until: Option<Instant>) -> bool {
    until.is_some_and(|at| at <= clock::now())
}

/// Waits for a signal, at most until the deadline.
pub(super) fn wait<'a>(
    condvar: &Condvar,
    state: MutexGuard<'a, State>,
    until: Option<Instant>,
) -> MutexGuard<'a, State> {
    let Some(until) = until else {
        return condvar.wait(state).unwrap_or_else(PoisonError::into_inner);
    };
    let left = until.saturating_duration_since(clock::now());
    let waited = condvar.wait_timeout(state, left);
    waited.unwrap_or_else(PoisonError::into_inner).0
}
