//! A connection to a server, over TCP, UDP or both, with the same calls.

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::Talk;
use crate::url::{Scheme, Url};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use vstp::error::{ClosedBy, TimeoutKind};
use vstp::net::clock;
use vstp::net::tls::PeerInfo;
use vstp::net::udp::{UdpSession, VstpUdpClient};
use vstp::proto::auto::Via;
use vstp::proto::{ErrorCode, keys};
use vstp::{Frame, FrameType, VstpAutoClient, VstpError, VstpTcpClient};

/// How often a waiting UDP socket looks whether its session still exists.
const LOOK: Duration = Duration::from_millis(500);

/// An open session with a server.
#[derive(Debug)]
pub(crate) enum Link {
    Tcp(Box<VstpTcpClient>),
    Udp(Box<UdpLink>),
    Auto(Box<AutoLink>),
}

/// Both transports, and what `--via` says.
#[derive(Debug)]
pub(crate) struct AutoLink {
    pub(crate) client: VstpAutoClient,
    pub(crate) via: Via,
}

#[derive(Debug)]
pub(crate) struct UdpLink {
    pub(crate) client: VstpUdpClient,
    pub(crate) session: UdpSession,
}

/// What a peer sent.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Frame),
    /// ERR that answers the request with this `correlation-id`.
    Refused(Vec<u8>, Failure),
    /// The peer said goodbye.
    End,
}

impl Link {
    pub(crate) fn connect(url: &Url, args: &ConnectArgs, talk: Talk) -> Result<Self, Failure> {
        args.check(url, talk)?;
        let link = match url.scheme {
            Scheme::Tls => {
                let tls = args.tls(url)?;
                VstpTcpClient::connect_with(&url.address, &tls, args.tcp()?)
                    .map(|client| Self::Tcp(Box::new(client)))
            }
            Scheme::Tcp => VstpTcpClient::connect_plain_with(&url.address, args.tcp()?)
                .map(|client| Self::Tcp(Box::new(client))),
            Scheme::Udp => VstpUdpClient::connect_to_with_config(&url.address, args.udp()?)
                .map(|(client, session)| Self::Udp(Box::new(UdpLink { client, session }))),
            Scheme::Auto => {
                let config = args.auto()?;
                let client = if args.is_tls(url) {
                    let tls = args.tls(url)?;
                    VstpAutoClient::connect_auto_with(&url.address, &tls, config)
                } else {
                    VstpAutoClient::connect_auto_plain_with(&url.address, config)
                };
                let via = args.via.into();
                client.map(|client| Self::Auto(Box::new(AutoLink { client, via })))
            }
        };
        link.map_err(|error| {
            Failure::from(error).while_doing(format_args!("cannot connect to {url}"))
        })
    }

    pub(crate) fn send(&mut self, frame: &Frame) -> Result<(), VstpError> {
        match self {
            Self::Tcp(client) => client.send(frame),
            Self::Udp(link) => link.client.send(frame, link.session.peer_addr()),
            Self::Auto(link) => link.client.send(frame, link.via),
        }
    }

    /// Sends and waits until the server has accepted it.
    pub(crate) fn send_with_ack(&mut self, frame: Frame) -> Result<(), VstpError> {
        match self {
            Self::Tcp(client) => client.send_with_ack(frame),
            Self::Udp(link) => link.client.send_with_ack(frame, link.session.peer_addr()),
            Self::Auto(link) => link.client.send_with_ack(frame, link.via),
        }
    }

    /// Sends a frame that will be answered: over UDP it is repeated until it is accepted. Where there are two
    /// transports it takes TCP, which needs no acknowledgement, unless it was told otherwise.
    pub(crate) fn send_request(&mut self, frame: Frame) -> Result<(), VstpError> {
        match self {
            Self::Tcp(client) => client.send(&frame),
            Self::Udp(link) => link
                .client
                .start_send(frame, link.session.peer_addr())
                .map(drop),
            Self::Auto(link) => match link.via {
                Via::Udp => link.client.send_with_ack(frame, Via::Udp),
                Via::Auto | Via::Tcp => link.client.send(&frame, Via::Tcp),
            },
        }
    }

    /// The next message; `None` when `until` is reached first.
    pub(crate) fn recv(&mut self, until: Option<Instant>) -> Result<Option<Received>, VstpError> {
        loop {
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            let slice = left.unwrap_or(LOOK).min(LOOK);
            let is_over = |left: Option<Duration>| left.is_some_and(|left| left <= LOOK);
            match self.recv_slice(slice) {
                Err(VstpError::Timeout(TimeoutKind::Recv)) if is_over(left) => return Ok(None),
                Err(VstpError::Timeout(TimeoutKind::Recv)) => {}
                Err(VstpError::ServerError(error)) if error.correlation_id.is_some() => {
                    let id = error.correlation_id.clone().unwrap_or_default();
                    let failure = Failure::remote(error.code, &error.message);
                    return Ok(Some(Received::Refused(id, failure)));
                }
                Err(error) => return Err(error),
                Ok(received) => return Ok(Some(received)),
            }
        }
    }

    fn recv_slice(&mut self, slice: Duration) -> Result<Received, VstpError> {
        match self {
            Self::Tcp(client) => {
                let frame = client.recv_timeout(slice)?;
                Ok(frame.map_or(Received::End, Received::Message))
            }
            Self::Udp(link) => {
                let server = link.session.peer_addr();
                match link.client.recv_timeout(slice) {
                    Ok((frame, from)) if from == server => Ok(udp_received(frame)),
                    // A stranger's datagram is none of our business.
                    Ok(_) => Err(VstpError::Timeout(TimeoutKind::Recv)),
                    Err(VstpError::Timeout(TimeoutKind::Recv))
                        if link.client.session(server).is_none() =>
                    {
                        Err(VstpError::ConnectionClosed(ClosedBy::PeerWithoutBye))
                    }
                    Err(error) => Err(error),
                }
            }
            Self::Auto(link) => {
                let received = link.client.recv_timeout(slice)?;
                Ok(received.map_or(Received::End, |(frame, _)| udp_received(frame)))
            }
        }
    }

    /// Sends a request and waits for its answer; other messages go to `other`.
    pub(crate) fn call(
        &mut self,
        frame: Frame,
        id: &str,
        timeout: Duration,
        mut other: impl FnMut(Frame),
    ) -> Result<Frame, Failure> {
        let frame = frame.with_header(keys::CORRELATION_ID, id);
        if let Self::Auto(link) = self {
            // What waits to be received would stop the answer in the end.
            while let Ok(Some((frame, _))) = link.client.try_recv() {
                other(frame);
            }
            return Ok(link.client.call(frame, link.via)?);
        }
        self.send_request(frame)?;
        let until = clock::now().checked_add(timeout);
        loop {
            match self.recv(until)? {
                None => return Err(VstpError::Timeout(TimeoutKind::Recv).into()),
                Some(Received::End) => {
                    return Err(VstpError::ConnectionClosed(ClosedBy::Peer(None)).into());
                }
                Some(Received::Refused(whose, failure)) if whose == id.as_bytes() => {
                    return Err(failure);
                }
                Some(Received::Refused(..)) => {}
                Some(Received::Message(frame)) => {
                    if frame.header(keys::CORRELATION_ID) == Some(id.as_bytes()) {
                        return Ok(frame);
                    }
                    other(frame);
                }
            }
        }
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        match self {
            Self::Tcp(client) => client.peer_addr(),
            Self::Udp(link) => link.session.peer_addr(),
            Self::Auto(link) => link.client.peer_addr(),
        }
    }

    pub(crate) fn tls(&self) -> Option<&PeerInfo> {
        match self {
            Self::Tcp(client) => client.tls(),
            Self::Udp(_) => None,
            Self::Auto(link) => link.client.tls(),
        }
    }

    /// Says goodbye and does not wait for an answer: nothing that was sent is of interest any more.
    pub(crate) fn leave(self) {
        match self {
            Self::Tcp(mut client) => {
                let _ = client.close_sending();
            }
            Self::Udp(link) => link.client.close(),
            Self::Auto(link) => drop(link),
        }
    }

    /// Says goodbye. What was sent has then arrived over TCP; over UDP only what was acknowledged has.
    pub(crate) fn close(self) -> Result<(), VstpError> {
        match self {
            Self::Tcp(client) => client.close(),
            Self::Udp(link) => {
                link.client.flush()?;
                link.client.close();
                Ok(())
            }
            Self::Auto(link) => link.client.close(),
        }
    }
}

/// Over UDP an ERR that answers a request is a frame like any other.
fn udp_received(frame: Frame) -> Received {
    if frame.typ != FrameType::Err {
        return Received::Message(frame);
    }
    let code = ErrorCode::from_wire(frame.header(keys::CODE).unwrap_or_default());
    let text = crate::output::shown(&frame.payload);
    let id = frame.header(keys::CORRELATION_ID).unwrap_or_default();
    Received::Refused(id.to_vec(), Failure::remote(code, &text))
}
