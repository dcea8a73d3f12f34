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

/// The same, before the extensions have seen it.
enum Found {
    Message(Incoming),
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
        let next = |core: &mut Core| -> Result<Option<Found>, VstpError> {
            if let Some(number) = core.take_pong(session.peer_addr()) {
                return Ok(Some(Found::Pong(number)));
            }
            while let Some(incoming) = driver.try_recv()? {
                if is_from(&incoming, session) {
                    return Ok(Some(Found::Message(incoming)));
                }
            }
            check(session, core)?;
            Ok(None)
        };
        loop {
            let found = driver.wait_for(None, |core| next(core).transpose());
            match found.unwrap_or_else(|| Err(closed()))? {
                Found::Pong(number) => return Ok(InSession::Pong(number)),
                // Outside of the lock: extensions may send.
                Found::Message(incoming) => {
                    if let Some(incoming) = driver.deliver(incoming) {
                        return Ok(InSession::Message(incoming.frame));
                    }
                }
            }
        }
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
        let next = |core: &mut Core| -> Result<Option<Incoming>, VstpError> {
            // What came before the end of the session counts.
            while let Some(incoming) = driver.try_recv()? {
                if is_from(&incoming, session) {
                    return Ok(Some(incoming));
                }
            }
            check(session, core)?;
            let token = request.and_then(|delivery| delivery.token);
            let outcome = token.and_then(|token| core.outcome(token));
            outcome.unwrap_or(Ok(()))?;
            Ok(None)
        };
        loop {
            let found = driver.wait_for(until, |core| next(core).transpose());
            let Some(incoming) = found.transpose()? else {
                return Ok(None);
            };
            // Outside of the lock: extensions may send.
            if let Some(incoming) = driver.deliver(incoming) {
                return Ok(Some(incoming.frame));
            }
        }
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
