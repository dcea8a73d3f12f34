//! [`Link`]: what carries the messages of a client, TCP, UDP or both, with the same calls.

use super::auto::AutoLink;
use crate::error::{ClosedBy, RemoteError, TimeoutKind, VstpError};
use crate::net::Meter;
use crate::net::addr::ToAddress;
use crate::net::auto::PendingCall;
use crate::net::clock;
use crate::net::tcp::VstpTcpClient;
use crate::net::udp::{Delivery, UdpConfig, UdpSession, VstpUdpClient};
use crate::net::{CallError, Sent};
use crate::proto::auto::{Transport, Via};
use crate::proto::{ErrorCode, keys};
use crate::wire::{Frame, FrameType};
use std::time::{Duration, Instant};

/// How long `call` waits over UDP, the default over TCP too.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) enum Link {
    Tcp(Box<VstpTcpClient>),
    Udp(Box<UdpLink>),
    Auto(Box<AutoLink>),
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Request {
    until: Option<Instant>,
    way: Way,
}

/// The way of a request to the server.
#[derive(Debug)]
enum Way {
    Tcp,
    Udp(Delivery),
    Auto(PendingCall),
}

impl Request {
    /// What is known of it now: over UDP it is still on its way until the server has it.
    pub(super) fn sent(&self) -> Sent {
        match &self.way {
            Way::Udp(delivery) if !delivery.is_done() => Sent::Unknown,
            // It is this side that decides by which one it goes, and when.
            Way::Auto(_) => Sent::Unknown,
            Way::Tcp | Way::Udp(_) => Sent::Yes,
        }
    }

    /// Nobody waits for the answer any more, so it is not sent again.
    pub(super) fn give_up(self) {
        match self.way {
            Way::Udp(delivery) => delivery.cancel(),
            // Dropped, it is given up.
            Way::Tcp | Way::Auto(_) => {}
        }
    }
}

impl Link {
    pub(super) fn meter(&self) -> &Meter {
        match self {
            Self::Tcp(client) => client.meter(),
            Self::Udp(link) => link.client.meter(),
            Self::Auto(link) => link.client.meter(),
        }
    }

    /// Whether messages can take this transport here.
    fn check_via(&self, via: Via) -> Result<(), VstpError> {
        match (self, via) {
            (Self::Tcp(_), Via::Udp) => Err(VstpError::TransportUnavailable(Transport::Udp)),
            (Self::Udp(_), Via::Tcp) => Err(VstpError::TransportUnavailable(Transport::Tcp)),
            _ => Ok(()),
        }
    }

    pub(super) fn send(&mut self, frame: &Frame, via: Via) -> Result<(), VstpError> {
        self.check_via(via)?;
        match self {
            Self::Tcp(client) => client.send(frame),
            Self::Udp(link) => link.send(frame),
            Self::Auto(link) => link.client.send(frame, via),
        }
    }

    pub(super) fn send_raw(&mut self, payload: &[u8]) -> Result<(), VstpError> {
        match self {
            Self::Tcp(client) => client.send_data(payload),
            Self::Udp(link) => link.send(&Frame::data(payload)),
            Self::Auto(link) => link.client.send(&Frame::data(payload), Via::Auto),
        }
    }

    pub(super) fn send_with_ack(&mut self, frame: Frame, via: Via) -> Result<(), VstpError> {
        self.check_via(via)?;
        match self {
            Self::Tcp(client) => client.send_with_ack(frame),
            Self::Udp(link) => link.send_with_ack(frame),
            Self::Auto(link) => link.send_with_ack(frame, via),
        }
    }

    /// Until when a call that begins now waits; a client of both transports has a limit of its own.
    pub(super) fn call_deadline(&self) -> Option<Instant> {
        match self {
            Self::Tcp(client) => client.call_deadline(),
            Self::Udp(link) => clock::after(link.timeout.unwrap_or(CALL_TIMEOUT)),
            Self::Auto(_) => None,
        }
    }

    /// Sends a frame that is to be answered until then.
    pub(super) fn request(
        &mut self,
        frame: Frame,
        via: Via,
        until: Option<Instant>,
    ) -> Result<Request, CallError> {
        self.check_via(via).map_err(CallError::not_sent)?;
        let way = match self {
            Self::Tcp(client) => {
                client.send_request(&frame, until)?;
                Way::Tcp
            }
            Self::Udp(link) => Way::Udp(link.start_send(frame).map_err(CallError::not_sent)?),
            Self::Auto(link) => Way::Auto(link.request(frame, via).map_err(CallError::not_sent)?),
        };
        Ok(Request { until, way })
    }

    /// The next message while a request waits; ERR is an error.
    pub(super) fn answer(&mut self, request: &mut Request) -> Result<Frame, VstpError> {
        let delivery = match &mut request.way {
            // It gets no messages but the answer; the others are kept for `receive`.
            Way::Auto(call) => return call.wait(),
            Way::Udp(delivery) => Some(&*delivery),
            Way::Tcp => None,
        };
        match self {
            Self::Tcp(client) => in_session(client.recv_until(request.until)?),
            Self::Udp(link) => link.receive(delivery, request.until),
            Self::Auto(link) => link.receive(request.until),
        }
    }

    /// Until when a `receive` that begins now waits.
    pub(super) fn receive_deadline(&self) -> Option<Instant> {
        match self {
            // It knows its read timeout itself.
            Self::Tcp(_) => None,
            Self::Udp(link) => link.timeout.and_then(clock::after),
            Self::Auto(link) => link.receive_deadline(),
        }
    }

    /// The next message; ERR is an error.
    pub(super) fn receive(&mut self, until: Option<Instant>) -> Result<Frame, VstpError> {
        match self {
            Self::Tcp(client) => in_session(client.recv()?),
            Self::Udp(link) => link.receive(None, until),
            Self::Auto(link) => link.receive(until),
        }
    }

    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>) {
        match self {
            Self::Tcp(client) => {
                client.set_read_timeout(timeout);
                if let Some(timeout) = timeout {
                    client.set_call_timeout(timeout);
                }
            }
            Self::Udp(link) => link.timeout = timeout,
            Self::Auto(link) => link.timeout = timeout,
        }
    }

    pub(super) fn close(self) -> Result<(), VstpError> {
        match self {
            Self::Tcp(client) => client.close(),
            Self::Udp(link) => {
                link.client.close();
                Ok(())
            }
            Self::Auto(link) => link.client.close(),
        }
    }
}

/// The orderly end is an error here: whoever receives wants a message.
fn in_session(received: Option<Frame>) -> Result<Frame, VstpError> {
    received.ok_or(VstpError::ConnectionClosed(ClosedBy::Peer(None)))
}

/// A socket with one session.
#[derive(Debug)]
pub(super) struct UdpLink {
    client: VstpUdpClient,
    session: UdpSession,
    timeout: Option<Duration>,
}

impl UdpLink {
    pub(super) fn connect(addr: impl ToAddress, config: UdpConfig) -> Result<Self, VstpError> {
        let timeout = config.read_timeout;
        let (client, session) = VstpUdpClient::connect_to_with_config(addr, config)?;
        Ok(Self {
            client,
            session,
            timeout,
        })
    }

    pub(super) const fn parts(&self) -> (&VstpUdpClient, &UdpSession) {
        (&self.client, &self.session)
    }

    fn send(&self, frame: &Frame) -> Result<(), VstpError> {
        // Without a session the socket would send it as a stranger's.
        self.client.check_session(&self.session)?;
        self.client.send(frame, self.session.peer_addr())
    }

    fn start_send(&self, frame: Frame) -> Result<Delivery, VstpError> {
        self.client.check_session(&self.session)?;
        self.client.start_send(frame, self.session.peer_addr())
    }

    fn send_with_ack(&self, frame: Frame) -> Result<(), VstpError> {
        let delivery = self.start_send(frame)?;
        let Some(timeout) = self.timeout else {
            return delivery.wait();
        };
        match delivery.wait_timeout(timeout) {
            Err(VstpError::Timeout(TimeoutKind::Send)) => {
                delivery.cancel();
                Err(VstpError::Timeout(TimeoutKind::Ack))
            }
            how => how,
        }
    }

    fn receive(
        &self,
        request: Option<&Delivery>,
        until: Option<Instant>,
    ) -> Result<Frame, VstpError> {
        let received = self.client.recv_in(&self.session, request, until)?;
        let Some(frame) = received else {
            let accepted = request.is_none_or(Delivery::is_done);
            let kind = if accepted {
                TimeoutKind::Recv
            } else {
                TimeoutKind::Ack
            };
            return Err(VstpError::Timeout(kind));
        };
        if frame.typ != FrameType::Err {
            return Ok(frame);
        }
        let code = ErrorCode::from_wire(frame.header(keys::CODE).unwrap_or_default());
        let id = frame.header(keys::CORRELATION_ID);
        let error = RemoteError::new(code, &frame.payload, id);
        Err(VstpError::ServerError(Box::new(error)))
    }
}
