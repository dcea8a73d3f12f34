//! [`Reception`]: the clients of a server that are recognised before they get a session, and who they are.
//!
//! The protocol says that a client is to be judged; a thread of the authenticator does that, and comes back
//! to the protocol with the decision. The threads of the socket never wait for it.

use crate::net::identity::{Credentials, Identity, Judge, Refusal};
use crate::proto::datagram::Applicant;
use crate::proto::keys::AuthToken;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Brings a decision to the protocol; called without its lock, on any thread.
type Decide = dyn Fn(Applicant, Result<Identity, Refusal>) + Send + Sync;

pub(super) struct Reception {
    judge: Arc<dyn Judge>,
    decide: Arc<Decide>,
    /// Of open sessions: the number, and whose it is.
    identities: HashMap<SocketAddr, (u128, Arc<Identity>)>,
}

impl Reception {
    pub(super) fn new(judge: Arc<dyn Judge>, decide: Arc<Decide>) -> Self {
        Self {
            judge,
            decide,
            identities: HashMap::new(),
        }
    }

    /// Has the authenticator decide; `false` when too many wait for that. Never waits.
    pub(super) fn ask(&self, client: Applicant, token: Option<AuthToken>, until: Instant) -> bool {
        let credentials = Credentials::new(token, None, client.peer);
        let decide = Arc::clone(&self.decide);
        let answer = Box::new(move |decision| decide(client, decision));
        self.judge.submit(credentials, until, answer)
    }

    pub(super) fn note(&mut self, peer: SocketAddr, session: u128, identity: Identity) {
        self.identities.insert(peer, (session, Arc::new(identity)));
    }

    /// A session with this address has ended; `current` is the one that took its place.
    pub(super) fn forget(&mut self, peer: SocketAddr, current: Option<u128>) {
        let known = self.identities.get(&peer).map(|(session, _)| *session);
        if known != current {
            self.identities.remove(&peer);
        }
    }

    pub(super) fn identity(&self, peer: SocketAddr, session: u128) -> Option<Arc<Identity>> {
        let (of, identity) = self.identities.get(&peer)?;
        (*of == session).then(|| Arc::clone(identity))
    }
}

impl fmt::Debug for Reception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reception")
            .field("judge", &self.judge)
            .field("identity_count", &self.identities.len())
            .finish_non_exhaustive()
    }
}
