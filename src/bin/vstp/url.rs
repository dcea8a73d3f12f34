//! Where a server is and how to reach it: `vstp://host[:6969]` and its relatives.

use std::fmt;
use std::str::FromStr;
use vstp::net::Address;

/// How the frames travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// TCP with TLS 1.3.
    Tls,
    /// TCP in plaintext.
    Tcp,
    /// UDP in plaintext.
    Udp,
    /// TCP with TLS 1.3 and sealed datagrams, or both in plaintext where the flags say so.
    Auto,
}

impl Scheme {
    const NAMES: [(Self, &'static str); 4] = [
        (Self::Tls, "vstp"),
        (Self::Tcp, "vstp+tcp"),
        (Self::Udp, "vstp+udp"),
        (Self::Auto, "vstp+auto"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(scheme, _)| *scheme == self)
            .map_or("vstp", |(_, name)| name)
    }
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    pub(crate) address: Address,
}

impl Url {
    /// Whether the text names a scheme, that is, somebody else's server.
    pub(crate) fn is_url(text: &str) -> bool {
        text.contains("://")
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("vstp", text));
        let known = Scheme::NAMES.iter().find(|(_, name)| *name == scheme);
        let Some((scheme, _)) = known else {
            let names: Vec<_> = Scheme::NAMES
                .iter()
                .map(|(_, name)| format!("{name}://"))
                .collect();
            return Err(format!(
                "the scheme {scheme}:// is not known; there are {}",
                names.join(", ")
            ));
        };
        let host = rest.strip_suffix('/').unwrap_or(rest);
        let address = host.parse().map_err(|_| {
            format!(
                "{host:?} is no HOST or HOST:PORT; example: {text_scheme}://example.org:6969",
                text_scheme = scheme.name()
            )
        })?;
        Ok(Self {
            scheme: *scheme,
            address,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_printed() {
        for (text, scheme, shown) in [
            ("vstp://example.org", Scheme::Tls, "vstp://example.org:6969"),
            ("vstp+tcp://[::1]:7/", Scheme::Tcp, "vstp+tcp://[::1]:7"),
            (
                "vstp+udp://10.0.0.1:80",
                Scheme::Udp,
                "vstp+udp://10.0.0.1:80",
            ),
            ("vstp+auto://[::]:7", Scheme::Auto, "vstp+auto://[::]:7"),
            ("localhost:1", Scheme::Tls, "vstp://localhost:1"),
        ] {
            let url: Url = text.parse().expect(text);
            assert_eq!((url.scheme, url.to_string().as_str()), (scheme, shown));
        }
        for bad in [
            "http://a",
            "vstp://",
            "vstp://a:99999",
            "vstp://a/b",
            "vstp://u@a",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }
}
