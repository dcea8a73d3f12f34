//! Receiving in one session only: what those need who see a session and not the socket.

use super::client::VstpUdpClient;
use super::core::{Core, Incoming};
#[cfg(all(feature = "tls", feature = "json"))]
use super::delivery::Delivery;
use super::driver::closed;
use super::session::UdpSession;
use crate::error::VstpError;
use crate::net::clock;
use crate::wire::Frame;
#[cfg(all(feature = "tls", feature = "json"))]
use std::time::Instant;

/// What came in a session.
#[derive(Debug)]
pub(crate) enum InSession {
    Message(Frame),
    /// The answer to the PING with this number.
    Pong(u64),
}

impl VstpUdpClient {
    /// Sends PING once in this session; see [`Self::next_in`].
    pub(crate) fn ping(&self, session: &UdpSession, number: u64) {
        let driver = &self.running.driver;
        driver.with(|core| {
            core.endpoint
                .ping(clock::now(), session.peer_addr(), number)
        });
    }

    /// Waits for the next message or PONG in this session; an error is its end. What comes from elsewhere
    /// meanwhile is dropped.
    pub(crate) fn next_in(&self, session: &UdpSession) -> Result<InSession, VstpError> {
        let driver = &self.running.driver;
        let next = |core: &mut Core| -> Result<Option<InSession>, VstpError> {
            if let Some(number) = core.take_pong(session.peer_addr()) {
                return Ok(Some(InSession::Pong(number)));
            }
            while let Some(incoming) = driver.try_recv()? {
                if is_from(&incoming, session) {
                    return Ok(Some(InSession::Message(incoming.frame)));
                }
            }
            check(session, core)?;
            Ok(None)
        };
        driver
            .wait_for(None, |core| next(core).transpose())
            .unwrap_or_else(|| Err(closed()))
    }

    /// Whether the session is open; the error says how it ended.
    pub(crate) fn check_session(&self, session: &UdpSession) -> Result<(), VstpError> {
        check(session, &self.running.driver.lock())
    }

    #[cfg(all(feature = "tls", feature = "json"))]
    /// The next message in this session; what comes from elsewhere meanwhile is dropped, since anybody
    /// can have sent it. `Ok(None)` when the deadline has passed. Ends early when the session does, or
    /// when this request is given up.
    pub(crate) fn recv_in(
        &self,
        session: &UdpSession,
        request: Option<&Delivery>,
        until: Option<Instant>,
    ) -> Result<Option<Frame>, VstpError> {
        let driver = &self.running.driver;
        let next = |core: &mut Core| -> Result<Option<Frame>, VstpError> {
            // What came before the end of the session counts.
            while let Some(incoming) = driver.try_recv()? {
                if is_from(&incoming, session) {
                    return Ok(Some(incoming.frame));
                }
            }
            check(session, core)?;
            let outcome = request.and_then(|delivery| core.outcome(delivery.token));
            outcome.unwrap_or(Ok(()))?;
            Ok(None)
        };
        let found = driver.wait_for(until, |core| next(core).transpose());
        found.transpose()
    }
}

fn check(session: &UdpSession, core: &Core) -> Result<(), VstpError> {
    let peer = session.peer_addr();
    match core.endpoint.session(peer) {
        Some((id, _)) if id == session.id() => Ok(()),
        _ => Err(core.how_ended(peer).map_or_else(closed, Into::into)),
    }
}

fn is_from(incoming: &Incoming, session: &UdpSession) -> bool {
    incoming.session == Some(session.id()) && incoming.from == session.peer_addr()
}
