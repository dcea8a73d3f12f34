//! [`SealedSessions`]: hands the keys that a TLS server derives to the UDP server that uses them.

use crate::error::VstpError;
use crate::net::identity::Identity;
use crate::proto::datagram::{SealId, SealedKeys};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Joins a TLS server and a UDP server: whoever has a TLS session with the first may open a session of
/// sealed datagrams with the second.
///
/// Give a clone to each: [`ServerConfig::sealed_sessions`](crate::serve::ServerConfig::sealed_sessions) and
/// [`UdpConfig::sealed_sessions`](super::UdpConfig::sealed_sessions). One UDP server at a time uses it;
/// several TLS servers may.
///
/// A sealed session ends with its TLS session, so the limits of the TLS server are those of both, and a
/// client that is cut off there is cut off here.
///
/// So are its [authenticator](crate::serve::ServerConfig::authenticator) and what it has found:
/// [`UdpPeer::identity`](crate::serve::UdpPeer::identity) is that of the TLS session. A UDP server with an
/// [authenticator of its own](super::UdpConfig::authenticator) recognises plain sessions by that, and is not
/// joined to a TLS server without one: that is a `Config` error of whichever of the two is bound last.
///
/// # Example
/// ```
/// # #[cfg(feature = "dev-certs")] {
/// use vstp::net::tcp::TcpConfig;
/// use vstp::net::tls::dev;
/// use vstp::net::udp::{SealedSessions, UdpConfig};
/// use vstp::serve::{ServerConfig, Session, UdpPeer};
/// use vstp::{Frame, VstpTcpClient, VstpTcpServer, VstpUdpClient, VstpUdpServer};
///
/// let certs = dev::generate()?;
/// let sealed = SealedSessions::new();
/// let config = ServerConfig::default().sealed_sessions(sealed.clone());
/// let tcp = VstpTcpServer::bind_with("127.0.0.1:0", certs.server()?, config)?;
/// let udp = VstpUdpServer::bind_with_config("127.0.0.1:0", UdpConfig::default().sealed_sessions(sealed))?;
/// let (tcp_addr, udp_addr) = (tcp.local_addr(), udp.local_addr());
/// let tcp = tcp.spawn(|_: &Session, frame: Frame| frame)?;
/// let udp = udp.spawn(|_: &UdpPeer, frame: Frame| frame)?;
///
/// let config = TcpConfig::default().sealed_datagrams(true);
/// let tls = VstpTcpClient::connect_with(tcp_addr, &certs.client()?, config)?;
/// let (client, session) = VstpUdpClient::connect_sealed(&tls, udp_addr)?;
/// client.send_with_ack(Frame::data("a secret"), session.peer_addr())?;
/// assert_eq!(client.recv()?.0, Frame::data("a secret"));
/// client.close();
/// # tls.close()?;
/// # udp.shutdown(std::time::Duration::from_secs(1));
/// # tcp.shutdown(std::time::Duration::from_secs(1));
/// # }
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Clone, Default)]
pub struct SealedSessions(Arc<Mutex<Registry>>);

/// Who takes keys: a UDP server at work.
pub(crate) trait Place: Send + Sync {
    /// Whether it still works.
    fn is_open(&self) -> bool;
    /// Lets the other end open its session, whose client is this one. Sends nothing.
    fn offer(&self, keys: SealedKeys, identity: Option<Arc<Identity>>) -> bool;
    /// The session with this id and number is over, or was never opened.
    fn end(&self, id: SealId, session: u128);
}

/// Keys are in one place at a time, and never come back: a key whose numbers begin again is broken.
#[derive(Default)]
struct Registry {
    place: Option<Weak<dyn Place>>,
    /// Whether it takes recognised clients only.
    recognises: bool,
    /// Whether there was a TLS server that recognises nobody.
    has_open_door: bool,
    /// Until there is a place.
    waiting: HashMap<SealId, (SealedKeys, Option<Arc<Identity>>)>,
}

/// One of the two servers recognises its clients, and the other would let anybody past it.
fn bypass() -> VstpError {
    let reason = "the UDP server has an authenticator, so the TLS server needs one too";
    VstpError::config("sealed_sessions", reason)
}

impl Registry {
    fn place(&self) -> Option<Arc<dyn Place>> {
        let place = self.place.as_ref().and_then(Weak::upgrade);
        place.filter(|place| place.is_open())
    }
}

impl SealedSessions {
    /// Joins nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Taken before the protocol's lock, never after it.
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A TLS server will offer the keys of its sessions.
    ///
    /// # Errors
    /// `Config`: it recognises nobody, which the UDP server does.
    pub(crate) fn join(&self, recognises: bool) -> Result<(), VstpError> {
        let mut registry = self.lock();
        if !recognises && registry.place().is_some() && registry.recognises {
            return Err(bypass());
        }
        registry.has_open_door |= !recognises;
        Ok(())
    }

    /// Keys of a TLS session and who its client is, until what is returned is dropped. `None` when the id
    /// is in use, or the UDP server takes recognised clients only.
    pub(crate) fn offer(&self, keys: SealedKeys, identity: Option<Arc<Identity>>) -> Option<Offer> {
        let (id, session) = (keys.receive.id, keys.session);
        let mut registry = self.lock();
        let is_taken = match registry.place() {
            Some(place) => {
                drop(registry);
                place.offer(keys, identity)
            }
            None => {
                let is_free = !registry.waiting.contains_key(&id);
                if is_free {
                    registry.waiting.insert(id, (keys, identity));
                }
                is_free
            }
        };
        is_taken.then(|| Offer {
            sessions: self.clone(),
            id,
            session,
        })
    }

    /// This UDP server is the one, and may take recognised clients only.
    ///
    /// # Errors
    /// `Config`: another one is, or a TLS server recognises nobody.
    pub(crate) fn attach(
        &self,
        place: &Arc<impl Place + 'static>,
        recognises: bool,
    ) -> Result<(), VstpError> {
        let mut registry = self.lock();
        if recognises && registry.has_open_door {
            return Err(bypass());
        }
        if registry.place().is_some() {
            let reason = "another UDP server uses these sessions";
            return Err(VstpError::config("sealed_sessions", reason));
        }
        // Under the lock, or an offer that ends just now would stay for ever.
        for (_, (keys, identity)) in registry.waiting.drain() {
            place.offer(keys, identity);
        }
        registry.recognises = recognises;
        let place: Arc<dyn Place> = Arc::clone(place) as _;
        registry.place = Some(Arc::downgrade(&place));
        Ok(())
    }

    fn end(&self, id: SealId, session: u128) {
        let mut registry = self.lock();
        let waited = registry.waiting.remove(&id);
        let place = registry.place();
        drop(registry);
        if let (None, Some(place)) = (waited, place) {
            place.end(id, session);
        }
    }
}

impl fmt::Debug for SealedSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = self.lock();
        f.debug_struct("SealedSessions")
            .field("has_udp_server", &registry.place().is_some())
            .field("waiting", &registry.waiting.len())
            .finish()
    }
}

/// The keys of one TLS session are with the UDP server, and its session there may live.
#[derive(Debug)]
pub(crate) struct Offer {
    sessions: SealedSessions,
    id: SealId,
    session: u128,
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.sessions.end(self.id, self.session);
    }
}
