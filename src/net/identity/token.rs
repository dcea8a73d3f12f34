//! [`SharedToken`]: clients that know a secret.
//!
//! How long a comparison takes must not say how much of a guess is right, so no secret is compared with a
//! guess byte by byte. What is compared are 32 bytes of HMAC-SHA-256, by `HMAC::verify`, which folds all
//! differences into one value before it looks at it. SHA-256 has no branch and no table that depends on its
//! input, so the time of an HMAC says how long the input is and nothing else, and that is what the client
//! itself has sent, or a length that is the same for all clients.
//!
//! A plain token goes through HMAC on both sides, under a key drawn at random for each [`SharedToken`].
//! Even a comparison with an early exit would then tell nothing: whoever changes one byte of a guess
//! changes all bytes of its HMAC, in a way that cannot be foreseen without the key.

use super::{Authenticator, Credentials, Identity, Refusal};
use crate::error::VstpError;
use crate::net::random;
use hmac_sha256::HMAC;
use std::fmt;

/// What the HMAC of a bound token is over, before the value of the channel.
const LABEL: &[u8] = b"vstp bound token 1";

/// Recognises clients by a secret that all of them share.
///
/// [`new`](Self::new) takes the secret itself as the token: whoever reads it once (over plaintext everybody
/// on the way, over TLS a server that was taken for the real one) can use it. [`bound`](Self::bound) takes
/// a proof for one TLS connection only. Both compare in constant time.
///
/// # Example
/// ```
/// use vstp::net::identity::{SharedToken, bound_token};
/// use vstp::net::tcp::TcpConfig;
/// use vstp::serve::ServerConfig;
/// let secret = b"a long random string";
/// let server = ServerConfig::default().authenticator(SharedToken::bound("sensors", secret)?);
/// let client = TcpConfig::default().bound_auth_token(move |channel| bound_token(secret, channel).to_vec());
/// # let _ = (server, client);
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Clone)]
pub struct SharedToken {
    name: String,
    check: Check,
}

#[derive(Clone)]
enum Check {
    /// The HMAC of the token, and its key, which is random and known to nobody else.
    Plain { key: [u8; 32], expected: [u8; 32] },
    /// The secret.
    Bound { secret: Vec<u8> },
}

impl SharedToken {
    /// Clients that send exactly this token are `name`.
    ///
    /// # Errors
    /// `Config` when the token is empty, `Io` when the system has no random bytes.
    pub fn new(name: impl Into<String>, token: impl AsRef<[u8]>) -> Result<Self, VstpError> {
        let token = not_empty(token.as_ref())?;
        let key = random::seed().map_err(VstpError::Io)?;
        let expected = HMAC::mac(token, key);
        Ok(Self {
            name: name.into(),
            check: Check::Plain { key, expected },
        })
    }

    /// Clients that send the [`bound_token`] of this secret and of their own connection are `name`. In
    /// plaintext nobody is.
    ///
    /// # Errors
    /// `Config` when the secret is empty.
    pub fn bound(name: impl Into<String>, secret: impl AsRef<[u8]>) -> Result<Self, VstpError> {
        let secret = not_empty(secret.as_ref())?.to_vec();
        Ok(Self {
            name: name.into(),
            check: Check::Bound { secret },
        })
    }
}

fn not_empty(secret: &[u8]) -> Result<&[u8], VstpError> {
    if secret.is_empty() {
        let reason = "an empty one would recognise everybody who sends none";
        return Err(VstpError::config("SharedToken", reason));
    }
    Ok(secret)
}

impl Authenticator for SharedToken {
    fn authenticate(&self, client: &Credentials) -> Result<Identity, Refusal> {
        let token = client.token().ok_or_else(|| Refusal::new("no token"))?;
        let is_right = match &self.check {
            Check::Plain { key, expected } => HMAC::verify(token, key, expected),
            Check::Bound { secret } => {
                let tls = client.tls().ok_or_else(|| Refusal::new("plaintext"))?;
                let message = [LABEL, tls.exporter()].concat();
                token
                    .try_into()
                    .is_ok_and(|token| HMAC::verify(message, secret, token))
            }
        };
        if is_right {
            Ok(Identity::new(self.name.clone()))
        } else {
            Err(Refusal::new("wrong token"))
        }
    }
}

/// Neither the secret nor what follows from it is shown.
impl fmt::Debug for SharedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedToken")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Proves knowledge of a secret on one TLS connection: HMAC-SHA-256, under the secret, of
/// `vstp bound token 1` and the connection's exporter value (RFC 9266).
///
/// A man in the middle has two connections with two values, so the token of one is worth nothing on the
/// other. The secret should be random and 16 bytes or longer: whoever sees a token can try secrets.
#[must_use]
pub fn bound_token(secret: impl AsRef<[u8]>, channel: &[u8; 32]) -> [u8; 32] {
    HMAC::mac([LABEL, channel].concat(), secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn client(token: Option<&[u8]>) -> Credentials {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        Credentials::new(token.map(Into::into), None, addr)
    }

    #[test]
    fn only_the_whole_token_is_right() {
        let token = SharedToken::new("ops", "correct horse").expect("a token");
        let who = token.authenticate(&client(Some(b"correct horse")));
        assert_eq!(who, Ok(Identity::new("ops")));
        let wrong: [&[u8]; 6] = [
            b"",
            b"correct hors",
            b"correct horsf",
            b"correct horse ",
            b"Correct horse",
            &[0; 3072],
        ];
        for wrong in wrong {
            assert!(token.authenticate(&client(Some(wrong))).is_err());
        }
        assert!(token.authenticate(&client(None)).is_err());
    }

    #[test]
    fn an_empty_secret_is_refused() {
        assert!(SharedToken::new("x", "").is_err());
        assert!(SharedToken::bound("x", "").is_err());
    }

    #[test]
    fn a_bound_token_says_nothing_in_plaintext() {
        let token = SharedToken::bound("ops", "secret").expect("a secret");
        let proof = bound_token("secret", &[0; 32]);
        assert!(token.authenticate(&client(Some(&proof))).is_err());
    }

    #[test]
    fn a_bound_token_is_of_one_secret_and_one_channel() {
        let one = bound_token("secret", &[1; 32]);
        assert_eq!(one, bound_token("secret", &[1; 32]));
        assert_ne!(one, bound_token("secret", &[2; 32]));
        assert_ne!(one, bound_token("Secret", &[1; 32]));
    }
}
