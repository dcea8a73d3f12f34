//! Receiving in one session only: what the easy API needs, which sees a session and not the socket.

use super::client::VstpUdpClient;
use super::core::{Core, Incoming};
use super::delivery::Delivery;
use super::driver::closed;
use super::session::UdpSession;
use crate::error::VstpError;
use crate::wire::Frame;
use std::time::Instant;

impl VstpUdpClient {
    /// Whether the session is open; the error says how it ended.
    pub(crate) fn check_session(&self, session: &UdpSession) -> Result<(), VstpError> {
        check(session, &self.running.driver.lock())
    }

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
