//! [`State`]: everything that the lock of a client protects.

use super::status::UdpStatus;
use crate::error::{ClosedBy, RemoteError, VstpError};
use crate::net::udp::{UdpSession, VstpUdpClient};
use crate::proto::auto::{AutoSwitch, Transport};
use crate::proto::keys;
use crate::wire::{Frame, FrameType};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// The socket and the session on it.
#[derive(Debug)]
pub(super) struct UdpHalf {
    pub(super) client: Arc<VstpUdpClient>,
    pub(super) session: UdpSession,
}

/// UDP, as far as it is there.
#[derive(Debug)]
pub(super) enum Udp {
    None(UdpStatus),
    /// The socket of the attempt, so that it can be closed.
    Opening(Arc<VstpUdpClient>),
    Open(Arc<UdpHalf>),
}

/// What came for `recv`.
pub(super) type Received = Result<(Frame, Transport), VstpError>;

/// How the session on TCP ended.
#[derive(Debug)]
pub(super) enum Ended {
    Clean,
    /// The error is told once, later it is this.
    By(ClosedBy, Option<VstpError>),
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) switch: AutoSwitch,
    pub(super) udp: Udp,
    /// The first attempt to open UDP is under way.
    pub(super) udp_awaited: bool,
    pub(super) inbox: VecDeque<Received>,
    inbox_len: usize,
    /// Messages on TCP that wait for their acknowledgement, and whether it came.
    pub(super) acks: HashMap<u64, bool>,
    /// Requests that wait for their answer.
    pub(super) calls: HashMap<Vec<u8>, Option<Result<Frame, VstpError>>>,
    pub(super) next_msg_id: u64,
    pub(super) next_call: u64,
    pub(super) next_once: u64,
    pub(super) ended: Option<Ended>,
    /// This side closes: nothing is opened or kept any more.
    pub(super) closing: bool,
}

/// Before the number of a call of our own.
const CALL: &str = "call-";

impl State {
    pub(super) fn new(switch: AutoSwitch, udp: Udp, first_msg_id: u64) -> Self {
        Self {
            switch,
            udp,
            udp_awaited: true,
            inbox: VecDeque::new(),
            inbox_len: 0,
            acks: HashMap::new(),
            calls: HashMap::new(),
            next_msg_id: first_msg_id,
            next_call: 1,
            next_once: 1,
            ended: None,
            closing: false,
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.closing || self.ended.is_some()
    }

    pub(super) fn udp_status(&self) -> UdpStatus {
        match &self.udp {
            Udp::None(status) => *status,
            Udp::Opening(_) => UdpStatus::Unreachable,
            Udp::Open(_) => UdpStatus::Open,
        }
    }

    pub(super) fn udp_half(&self) -> Option<Arc<UdpHalf>> {
        match &self.udp {
            Udp::Open(half) => Some(Arc::clone(half)),
            Udp::None(_) | Udp::Opening(_) => None,
        }
    }

    /// The transport has changed hands: no session, or another.
    pub(super) fn set_udp(&mut self, now: Instant, udp: Udp) {
        let is_open = matches!(udp, Udp::Open(_));
        self.udp = udp;
        self.switch.set_available(now, Transport::Udp, is_open);
    }

    /// Whether what was given to UDP is to be given to TCP instead.
    pub(super) fn udp_failed(&self) -> bool {
        self.switch.is_working(Transport::Tcp) && !self.switch.is_working(Transport::Udp)
    }

    // Receiving.

    pub(super) fn is_full(&self, (count, len): (usize, usize)) -> bool {
        self.inbox.len() >= count || (self.inbox_len >= len && !self.inbox.is_empty())
    }

    /// The answer to a request goes to whoever waits for it; `Some`: it is for `recv`.
    pub(super) fn route(&mut self, frame: Frame, by: Transport) -> Option<Received> {
        let received = if frame.typ == FrameType::Err {
            let code =
                crate::proto::ErrorCode::from_wire(frame.header(keys::CODE).unwrap_or_default());
            let id = frame.header(keys::CORRELATION_ID);
            let error = RemoteError::new(code, &frame.payload, id);
            Err(VstpError::ServerError(Box::new(error)))
        } else {
            Ok((frame, by))
        };
        self.route_received(received)
    }

    pub(super) fn route_received(&mut self, received: Received) -> Option<Received> {
        let id = match &received {
            Ok((frame, _)) => frame.header(keys::CORRELATION_ID),
            Err(VstpError::ServerError(error)) => error.correlation_id.as_deref(),
            Err(_) => None,
        };
        let Some(id) = id else {
            return Some(received);
        };
        let is_late = self.is_late(id);
        match self.calls.get_mut(id) {
            Some(slot) => {
                // The second is that of a request that went both ways.
                if slot.is_none() {
                    *slot = Some(received.map(|(frame, _)| frame));
                }
                None
            }
            None if is_late => None,
            None => Some(received),
        }
    }

    /// Whether this answers a call that is over.
    fn is_late(&self, id: &[u8]) -> bool {
        let number = |id: &[u8]| -> Option<u64> {
            let text = std::str::from_utf8(id).ok()?;
            text.strip_prefix(CALL)?.parse().ok()
        };
        number(id).is_some_and(|number| number < self.next_call)
    }

    pub(super) fn new_call_id(&mut self) -> String {
        let number = self.next_call;
        self.next_call += 1;
        format!("{CALL}{number}")
    }

    pub(super) fn push(&mut self, received: Received) {
        if let Ok((frame, _)) = &received {
            self.inbox_len += frame.payload.len();
        }
        self.inbox.push_back(received);
    }

    pub(super) fn pop(&mut self) -> Option<Received> {
        let received = self.inbox.pop_front()?;
        if let Ok((frame, _)) = &received {
            self.inbox_len -= frame.payload.len();
        }
        Some(received)
    }

    /// The error of a call after the end.
    pub(super) const fn end_error(&self) -> Option<VstpError> {
        match &self.ended {
            Some(Ended::Clean) => Some(VstpError::ConnectionClosed(ClosedBy::Peer(None))),
            Some(Ended::By(by, _)) => Some(VstpError::ConnectionClosed(*by)),
            None if self.closing => Some(VstpError::ConnectionClosed(ClosedBy::Local)),
            None => None,
        }
    }
}
