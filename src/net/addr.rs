//! Where to connect to: a host name or an IP address, and a port.

use super::clock;
use crate::error::{TimeoutKind, VstpError};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Instant;

/// The port of VSTP where none is given (spec 3.1).
pub const DEFAULT_PORT: u16 = 6969;

/// A host and a port, not resolved yet.
///
/// # Example
/// ```
/// use vstp::net::Address;
/// let address: Address = "example.org:7000".parse()?;
/// assert_eq!((address.host(), address.port()), ("example.org", 7000));
/// assert_eq!("[::1]".parse::<Address>()?.port(), 6969);
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// A host name or a literal IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address, where the host is a literal one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether this names this machine without asking anybody: `localhost`, 127.0.0.0/8, `::1`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost") || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// All addresses of the host, the families taking turns, the system's first choice first.
    ///
    /// # Blocking
    /// Until the system's resolver answers or `until`; literal addresses do not block. The resolver
    /// cannot be interrupted: past the deadline its thread (`vstp-resolve`) ends by itself.
    ///
    /// # Errors
    /// `InvalidAddress` when nothing is found, `Timeout(Resolve)`, `Io` when no thread is left.
    pub(crate) fn resolve(&self, until: Option<Instant>) -> Result<Vec<SocketAddr>, VstpError> {
        if let Some(ip) = self.ip() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let (host, port) = (self.host.clone(), self.port);
        let look_up = move || {
            (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect)
        };
        let found: std::io::Result<Vec<SocketAddr>> = match until {
            None => look_up(),
            Some(at) => {
                let (sender, receiver) = crossbeam_channel::bounded(1);
                std::thread::Builder::new()
                    .name("vstp-resolve".to_owned())
                    .spawn(move || {
                        // Nobody waits any more when the deadline has passed.
                        let _ = sender.send(look_up());
                    })
                    .map_err(VstpError::Io)?;
                let left = at.saturating_duration_since(clock::now());
                receiver
                    .recv_timeout(left)
                    .map_err(|_| VstpError::Timeout(TimeoutKind::Resolve))?
            }
        };
        match found {
            Ok(all) if !all.is_empty() => Ok(take_turns(all)),
            _ => Err(VstpError::InvalidAddress(self.to_string().into())),
        }
    }
}

/// Orders addresses so that a dead family costs one attempt, not all of its addresses.
fn take_turns(all: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let v6_first = all.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|addr| addr.is_ipv6() == v6_first);
    let mut out = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let (a, b) = (first.next(), second.next());
        if a.is_none() && b.is_none() {
            return out;
        }
        out.extend(a);
        out.extend(b);
    }
}

impl FromStr for Address {
    type Err = VstpError;

    /// `host:port`, `host`, `1.2.3.4:port`, `[::1]:port`, `::1`; without a port, 6969.
    fn from_str(text: &str) -> Result<Self, VstpError> {
        let invalid = || VstpError::InvalidAddress(text.into());
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
            host.parse::<Ipv6Addr>().map_err(|_| invalid())?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(invalid()),
            }
        } else if text.parse::<Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().map_err(|_| invalid())?
            }
            Some(_) => return Err(invalid()),
        };
        let plausible = |b: u8| b.is_ascii_graphic() && !b"/:@?#[]".contains(&b);
        if host.is_empty() || !(host.contains(':') || host.bytes().all(plausible)) {
            return Err(invalid());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self {
            host: addr.ip().to_string(),
            port: addr.port(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What can say where to connect to: text, a socket address, a host with a port.
pub trait ToAddress {
    /// The address.
    ///
    /// # Errors
    /// [`VstpError::InvalidAddress`] for text that is none.
    fn to_address(&self) -> Result<Address, VstpError>;
}

impl ToAddress for Address {
    fn to_address(&self) -> Result<Address, VstpError> {
        Ok(self.clone())
    }
}

impl ToAddress for str {
    fn to_address(&self) -> Result<Address, VstpError> {
        self.parse()
    }
}

impl ToAddress for String {
    fn to_address(&self) -> Result<Address, VstpError> {
        self.parse()
    }
}

impl ToAddress for SocketAddr {
    fn to_address(&self) -> Result<Address, VstpError> {
        Ok((*self).into())
    }
}

impl ToAddress for (&str, u16) {
    fn to_address(&self) -> Result<Address, VstpError> {
        let mut address: Address = self.0.parse()?;
        address.port = self.1;
        Ok(address)
    }
}

impl<T: ToAddress + ?Sized> ToAddress for &T {
    fn to_address(&self) -> Result<Address, VstpError> {
        (**self).to_address()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_every_usual_form() {
        for (text, host, port) in [
            ("example.org", "example.org", 6969),
            ("example.org:1", "example.org", 1),
            ("127.0.0.1:65535", "127.0.0.1", 65535),
            ("::1", "::1", 6969),
            ("[::1]:80", "::1", 80),
            ("[fe80::1]", "fe80::1", 6969),
            ("localhost:0", "localhost", 0),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "", ":80", "a:b", "a:70000", "a:+1", "[::1", "[::1]x", "[a]:1", "a b:1", "a:",
        ] {
            let result = text.parse::<Address>();
            assert!(
                matches!(result, Err(VstpError::InvalidAddress(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn families_take_turns() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]
            .map(addr)
            .to_vec();
        let want = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]
            .map(addr)
            .to_vec();
        assert_eq!(take_turns(all), want);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (text, is) in [
            ("localhost", true),
            ("127.8.8.8", true),
            ("[::1]:1", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_loopback(), is, "{text}");
        }
    }
}
