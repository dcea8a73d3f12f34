//! Sealed sessions at the socket of a server: keys come in with who the client is, and are taken back when
//! their TLS session ends.

use super::driver::Driver;
use super::sealed::Place;
use crate::net::clock;
use crate::net::identity::Identity;
use crate::proto::datagram::{SealId, SealedKeys};
use std::net::SocketAddr;
use std::sync::Arc;

impl Driver {
    /// Whether this session is open with this address, and sealed.
    pub(crate) fn is_sealed(&self, with: SocketAddr, session: u128) -> bool {
        let core = self.lock();
        let is_it = core
            .endpoint
            .session(with)
            .is_some_and(|(id, _)| id == session);
        is_it && core.endpoint.is_sealed(with)
    }

    /// Who is at the other end of the session with this address.
    pub(crate) fn identity(&self, of: SocketAddr) -> Option<Arc<Identity>> {
        let core = self.lock();
        let (session, _) = core.endpoint.session(of)?;
        core.identity(of, Some(session))
    }
}

impl Place for Driver {
    fn is_open(&self) -> bool {
        !self.lock().closed
    }

    fn offer(&self, keys: SealedKeys, identity: Option<Arc<Identity>>) -> bool {
        self.lock().offer_sealed(keys, identity)
    }

    fn end(&self, id: SealId, session: u128) {
        self.with(|core| core.end_sealed(clock::now(), id, session));
    }
}
