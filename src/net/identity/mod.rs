//! Who a client is: what it proves itself with, who judges that, and what a handler sees of it.
//!
//! Only the interfaces and values are here. The threads that an [`Authenticator`] runs on are in
//! [`crate::serve`]; the ready-made authenticators are [`SharedToken`] and
//! `ClientCertificate`.
//!
//! ```text
//!  HELLO ──> Credentials ──> Authenticator ──┬──> Identity   WELCOME; handlers see it
//!  (token, certificate, address, channel)    └──> Refusal    ERR `unauthorized`, the end
//! ```

#[cfg(feature = "tls")]
mod certificate;
mod token;

#[cfg(feature = "tls")]
pub use certificate::ClientCertificate;
pub use token::{SharedToken, bound_token};

use crate::error::VstpError;
use crate::net::tls::PeerInfo;
use crate::proto::keys::AuthToken;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client that was recognised: a name, and what else the [`Authenticator`] knows about it.
///
/// # Example
/// ```
/// use vstp::net::identity::Identity;
/// let ann = Identity::new("ann").with("role", "operator");
/// assert_eq!(ann.name(), "ann");
/// assert_eq!(ann.attribute("role"), Some("operator"));
/// assert_eq!(ann.attribute("team"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Identity {
    /// A client of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute; of several with one key the first counts.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The attribute with this key.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let mut all = self.attributes();
        all.find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All attributes, in the order in which they were added.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// A client that was not recognised. The client learns that it was refused, not why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    reason: String,
}

impl Refusal {
    /// A refusal for this reason, which goes to the log of the server and nowhere else. It must not
    /// hold the token.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}

/// What a client proves itself with. Debug shows neither the token nor the channel's value.
#[derive(Debug, Clone)]
pub struct Credentials {
    token: Option<AuthToken>,
    tls: Option<PeerInfo>,
    peer_addr: SocketAddr,
}

impl Credentials {
    pub(crate) const fn new(
        token: Option<AuthToken>,
        tls: Option<PeerInfo>,
        peer_addr: SocketAddr,
    ) -> Self {
        Self {
            token,
            tls,
            peer_addr,
        }
    }

    /// The token of HELLO: opaque, 1 to 3,072 bytes, over UDP up to 255.
    #[must_use]
    pub fn token(&self) -> Option<&[u8]> {
        self.token.as_ref().map(AuthToken::as_bytes)
    }

    /// The address that the client connects from.
    #[must_use]
    pub const fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// What TLS knows about the client: its certificates, which TLS has verified, and the value of the
    /// channel (`exporter`, RFC 9266). `None` in plaintext, where everybody on the way can read the token.
    #[must_use]
    pub const fn tls(&self) -> Option<&PeerInfo> {
        self.tls.as_ref()
    }
}

/// Decides who a client is, before any of its messages reaches a handler.
///
/// Functions are authenticators too. The server calls it on threads of its own (`vstp-auth-N`), several
/// at once, so it may block; one that does not decide in time is as good as one that refuses, and what it
/// says later is dropped. So is one that panics.
///
/// # Example
/// ```
/// use vstp::net::identity::{Credentials, Identity, Refusal};
/// use vstp::serve::ServerConfig;
/// let by_address = |client: &Credentials| match client.peer_addr().ip().is_loopback() {
///     true => Ok(Identity::new("this machine")),
///     false => Err(Refusal::new("from elsewhere")),
/// };
/// let config = ServerConfig::default().authenticator(by_address);
/// # let _ = config;
/// ```
pub trait Authenticator: Send + Sync {
    /// Who this is.
    ///
    /// # Errors
    /// [`Refusal`]: nobody known. The client gets ERR `unauthorized`, and its connection ends.
    fn authenticate(&self, client: &Credentials) -> Result<Identity, Refusal>;
}

impl<F> Authenticator for F
where
    F: Fn(&Credentials) -> Result<Identity, Refusal> + Send + Sync,
{
    fn authenticate(&self, client: &Credentials) -> Result<Identity, Refusal> {
        self(client)
    }
}

/// An [`Authenticator`] with the time and the threads that it gets.
#[derive(Clone)]
pub struct Authentication {
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) timeout: Duration,
    pub(crate) workers: usize,
}

impl Authentication {
    /// This one, with 5 s for each client, on 4 threads.
    #[must_use]
    pub fn new(authenticator: impl Authenticator + 'static) -> Self {
        Self {
            authenticator: Arc::new(authenticator),
            timeout: Duration::from_secs(5),
            workers: 4,
        }
    }

    /// How long a client waits for the decision at most, from its HELLO. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many clients are judged at once, each on a thread. Default: 4. One that asks a slow service
    /// needs more: as long as all are busy, further clients wait, within their time.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), VstpError> {
        if self.timeout.is_zero() || self.workers == 0 {
            let reason = "without time or threads every client would be refused";
            return Err(VstpError::config("authenticator", reason));
        }
        Ok(())
    }
}

impl<A: Authenticator + 'static> From<A> for Authentication {
    fn from(authenticator: A) -> Self {
        Self::new(authenticator)
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authentication")
            .field("timeout", &self.timeout)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// What happens with a decision; called at most once, on any thread.
pub(crate) type Answer = Box<dyn FnOnce(Result<Identity, Refusal>) + Send>;

/// The threads of a server that run its authenticator.
pub(crate) trait Judge: Send + Sync + fmt::Debug {
    /// How long a client waits.
    fn timeout(&self) -> Duration;

    /// Has a thread decide, unless `until` has passed when it comes to that; never waits. `false`: too
    /// many are waiting already.
    fn submit(&self, client: Credentials, until: Instant, answer: Answer) -> bool;

    /// Whether the server shuts down, so that nobody needs to wait any longer.
    fn is_stopping(&self) -> bool;
}

/// A client's token, made when it is needed.
#[derive(Clone)]
pub(crate) enum TokenSource {
    /// The same for each connection.
    Fixed(AuthToken),
    /// One for each connection, made from the value of its channel.
    Bound(Arc<MakeToken>),
}

/// From the value of a channel to the token for it.
type MakeToken = dyn Fn(&[u8; 32]) -> Vec<u8> + Send + Sync;

impl TokenSource {
    /// The token for this connection.
    pub(crate) fn token(&self, tls: Option<&PeerInfo>) -> Result<AuthToken, VstpError> {
        match (self, tls) {
            (Self::Fixed(token), _) => Ok(token.clone()),
            (Self::Bound(make), Some(tls)) => {
                let token = make(tls.exporter());
                check_token(&token, MAX_TOKEN_LEN)?;
                Ok(token.into())
            }
            (Self::Bound(_), None) => Err(VstpError::config(
                "bound_auth_token",
                "plaintext has no channel that a token could be bound to; connect with TLS",
            )),
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed(..)",
            Self::Bound(_) => "Bound(..)",
        })
    }
}

/// Longest token on a stream (bytes, spec 3.2).
pub(crate) const MAX_TOKEN_LEN: usize = 3072;

/// Whether a token can be sent.
pub(crate) fn check_token(token: &[u8], max_len: usize) -> Result<(), VstpError> {
    if (1..=max_len).contains(&token.len()) {
        return Ok(());
    }
    let reason = format!("must have 1 to {max_len} bytes");
    Err(VstpError::config("auth_token", reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_in_no_debug_output() {
        let secret = b"tr0ub4dor".to_vec();
        let addr = SocketAddr::from(([192, 0, 2, 1], 5));
        let credentials = Credentials::new(Some(secret.clone().into()), None, addr);
        let inner = secret.clone();
        let shown = format!(
            "{credentials:?} {:?} {:?} {:?}",
            TokenSource::Fixed(secret.clone().into()),
            TokenSource::Bound(Arc::new(move |_| inner.clone())),
            SharedToken::new("ops", &secret).expect("a token"),
        );
        assert!(shown.contains("192.0.2.1:5"), "{shown}");
        assert!(!shown.contains("tr0ub4dor"), "{shown}");
        assert!(!shown.contains(&format!("{secret:?}")[1..20]), "{shown}");
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_named() {
        assert!(check_token(b"", 255).is_err());
        assert!(check_token(&[0; 256], 255).is_err());
        assert!(check_token(&[0; 255], 255).is_ok());
    }
}
