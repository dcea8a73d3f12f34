//! The flags of a connection to a server, and what they mean: whom to trust, who we are, how long to wait.
//!
//! Every flag has a mirror in the environment (`VSTP_...`). No argument is a secret: keys and tokens come from
//! files or from the environment.

use crate::events;
use crate::exit::Failure;
use crate::from_env::FromEnv;
use crate::output::Talk;
use crate::token;
use crate::units;
use crate::url::{Scheme, Url};
use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vstp::ext::CompressionConfig;
use vstp::net::auto::AutoConfig;
use vstp::net::event_log::EventLog;
use vstp::net::identity::bound_token;
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::{TlsClientConfig, dev};
use vstp::net::udp::UdpConfig;
use vstp::proto::auto::{AutoSwitchConfig, Via};

/// Of `AutoSwitchConfig::probe_interval`: what leaves an answer a second to come, and the default.
const SHORTEST_PROBE: Duration = Duration::from_secs(1);
const LONGEST_PROBE: Duration = Duration::from_secs(2);

/// How to reach a server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) from_env: FromEnv,
    /// Trust the authorities in this PEM file, and no others
    #[arg(long, value_name = "FILE", env = "VSTP_CACERT")]
    pub(crate) cacert: Option<PathBuf>,
    /// Our certificate, for servers that want one (PEM); needs --key
    #[arg(long, value_name = "FILE", env = "VSTP_CERT", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of --cert (PEM)
    #[arg(long, value_name = "FILE", env = "VSTP_KEY", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Accept this public key of the server: sha256/BASE64 or 64 hex digits (`vstp cert pin` prints it)
    #[arg(long, value_name = "HASH", env = "VSTP_PIN", value_delimiter = ',', value_parser = pin)]
    pub(crate) pin: Vec<Pin>,
    /// The name that the server's certificate must have, instead of the host of the URL
    #[arg(long, value_name = "NAME", env = "VSTP_SERVER_NAME")]
    pub(crate) server_name: Option<String>,
    /// Accept any certificate; everybody on the way can read and change everything
    #[arg(long, env = "VSTP_INSECURE", value_parser = FalseyValueParser::new(), conflicts_with_all = ["cacert", "pin"])]
    pub(crate) insecure: bool,
    /// Prove who we are with the token in this file, or in the variable VSTP_TOKEN
    #[arg(long, value_name = "FILE", env = "VSTP_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Bind the token to the TLS connection, so that nobody can use it again; the server must expect that
    #[arg(long, env = "VSTP_TOKEN_BOUND", value_parser = FalseyValueParser::new())]
    pub(crate) token_bound: bool,
    /// Append the secrets of TLS to this file, for Wireshark: whoever reads it can read everything
    #[arg(long, value_name = "FILE", env = "VSTP_KEYLOG")]
    pub(crate) keylog: Option<PathBuf>,
    /// Agree to vstp+tcp://, and to vstp+auto:// without TLS, which everybody on the way can read and change
    #[arg(long, env = "VSTP_PLAINTEXT", value_parser = FalseyValueParser::new())]
    pub(crate) plaintext: bool,
    /// Over vstp+auto://: what messages take; auto is the faster one, and TCP for large messages
    #[arg(long, value_name = "WHICH", env = "VSTP_VIA", value_enum, default_value_t = ViaArg::Auto)]
    pub(crate) via: ViaArg,
    /// Send messages as gzip where that makes them smaller and the server has it too
    #[arg(long, env = "VSTP_COMPRESS", value_parser = FalseyValueParser::new())]
    pub(crate) compress: bool,
    /// Longest time to connect, and as long again for the handshake
    #[arg(long, value_name = "TIME", env = "VSTP_CONNECT_TIMEOUT", default_value = "10s", value_parser = units::duration)]
    pub(crate) connect_timeout: Duration,
    /// Longest wait for an answer or an acknowledgement
    #[arg(long, value_name = "TIME", env = "VSTP_TIMEOUT", default_value = "30s", value_parser = units::duration)]
    pub(crate) timeout: Duration,
    /// Largest frame to send and accept (default: 8MiB, over UDP 128MiB)
    #[arg(long, value_name = "SIZE", env = "VSTP_MAX_FRAME_SIZE", value_parser = units::length)]
    pub(crate) max_frame_size: Option<usize>,
    /// Write what happens on connections to this file, a JSON object a line (`vstp plot` draws it); replaces what is in it, and has no limit of size
    #[arg(long, value_name = "FILE", env = "VSTP_EVENT_LOG")]
    pub(crate) event_log: Option<PathBuf>,
    /// Over vstp+auto://: the time from one measurement to the next, where the command has an opinion.
    #[arg(skip)]
    pub(crate) probe_interval: Option<Duration>,
}

/// The transport that messages take where there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ViaArg {
    Auto,
    Tcp,
    Udp,
}

impl From<ViaArg> for Via {
    fn from(via: ViaArg) -> Self {
        match via {
            ViaArg::Auto => Self::Auto,
            ViaArg::Tcp => Self::Tcp,
            ViaArg::Udp => Self::Udp,
        }
    }
}

/// The SHA-256 of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin(pub(crate) [u8; 32]);

fn pin(text: &str) -> Result<Pin, String> {
    let bytes = match text.strip_prefix("sha256/") {
        Some(base64) => BASE64.decode(base64.as_bytes()).ok(),
        None => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
    };
    let hash = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    hash.map(Pin).ok_or_else(|| {
        "expected sha256/BASE64 or 64 hex digits; `vstp cert pin FILE` prints it".to_owned()
    })
}

impl ConnectArgs {
    /// Refuses flags that contradict the URL, and says so where something is not safe.
    pub(crate) fn check(&self, url: &Url, talk: Talk) -> Result<(), Failure> {
        if url.scheme == Scheme::Tcp && !self.plaintext {
            return Err(Failure::usage(format!(
                "{url} is plaintext, which everybody on the way can read and change; \
                 use vstp:// for TLS, or say that you agree with --plaintext"
            )));
        }
        if url.scheme != Scheme::Auto && self.via != ViaArg::Auto && !self.from_env.via {
            return Err(Failure::usage(format!(
                "--via chooses where there are two transports, and {url} is one; use vstp+auto://"
            )));
        }
        let is_tls = self.is_tls(url);
        let tls_flag = [
            ("--cacert", self.cacert.is_some()),
            ("--cert", self.cert.is_some()),
            ("--pin", !self.pin.is_empty()),
            ("--server-name", self.server_name.is_some()),
            ("--insecure", self.insecure),
            ("--keylog", self.keylog.is_some()),
            ("--token-bound", self.token_bound),
        ];
        if !is_tls {
            if let Some((flag, _)) = tls_flag.iter().find(|(_, given)| *given) {
                let instead = match url.scheme {
                    Scheme::Auto => "leave --plaintext out",
                    _ => "use vstp://",
                };
                return Err(Failure::usage(format!(
                    "{flag} is about TLS, and {url} is plaintext; {instead}"
                )));
            }
        }
        if !is_tls && token::of_client(self.token_file.as_deref())?.is_some() {
            talk.warn("the token travels in plaintext: everybody on the way can read and use it");
        }
        if self.insecure {
            talk.warn(
                "--insecure: the server's certificate is not checked, anybody can pose as it",
            );
        }
        Ok(())
    }

    /// Whether nobody on the way can read what goes there.
    pub(crate) fn is_tls(&self, url: &Url) -> bool {
        match url.scheme {
            Scheme::Tls => true,
            Scheme::Tcp | Scheme::Udp => false,
            Scheme::Auto => !self.plaintext,
        }
    }

    /// The log of events that --event-log asks for.
    pub(crate) fn event_log(&self) -> Result<Option<EventLog>, Failure> {
        self.event_log.as_deref().map(events::log).transpose()
    }

    /// Whom to trust: what the flags say; without them the certificates for development on a loopback
    /// address, else the public authorities.
    pub(crate) fn tls(&self, url: &Url) -> Result<TlsClientConfig, Failure> {
        let says_whom = self.cacert.is_some() || !self.pin.is_empty() || self.insecure;
        let is_plain = self.cert.is_none() && self.server_name.is_none();
        if !says_whom && is_plain && url.address.is_loopback() {
            if self.keylog.is_some() {
                return Err(Failure::usage(
                    "--keylog does not go with the certificates for development; name an authority with --cacert",
                ));
            }
            return dev::client().map_err(|error| {
                Failure::from(error).while_doing("no authority is named with --cacert")
            });
        }
        let mut builder = TlsClientConfig::builder();
        if let Some(path) = &self.cacert {
            readable(path)?;
            builder = builder.ca_pem_file(path)?;
        }
        for pin in &self.pin {
            builder = builder.pin_sha256(pin.0);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            readable(cert)?;
            readable(key)?;
            builder = builder.client_cert_pem_files(cert, key)?;
        }
        if let Some(name) = &self.server_name {
            builder = builder.server_name(name);
        }
        if let Some(path) = &self.keylog {
            builder = builder.danger_key_log(path);
        }
        if self.insecure {
            builder = builder.danger_accept_invalid_certs();
        }
        Ok(builder.build()?)
    }

    pub(crate) fn tcp(&self) -> Result<TcpConfig, Failure> {
        let config = TcpConfig::default()
            .connect_timeout(self.connect_timeout)
            .handshake_timeout(self.connect_timeout)
            .call_timeout(self.timeout);
        let config = match self.compress {
            true => config.compression(CompressionConfig::default()),
            false => config,
        };
        let config = match token::of_client(self.token_file.as_deref())? {
            Some(secret) if self.token_bound => {
                config.bound_auth_token(move |channel| bound_token(&secret, channel).to_vec())
            }
            token => config.auth_token(token),
        };
        let config = match self.event_log()? {
            Some(log) => config.event_log(log),
            None => config,
        };
        Ok(match self.max_frame_size {
            Some(len) => config.max_frame_size(len),
            None => config,
        })
    }

    /// Both transports.
    pub(crate) fn auto(&self) -> Result<AutoConfig, Failure> {
        let config = AutoConfig::default().tcp(self.tcp()?).udp(self.udp()?);
        let config = match self.via {
            // Nothing else will do, so it is waited for like a connection.
            ViaArg::Udp => config.udp_wait(self.connect_timeout),
            ViaArg::Auto | ViaArg::Tcp => config,
        };
        Ok(match self.probe_interval {
            Some(interval) => {
                let interval = interval.clamp(SHORTEST_PROBE, LONGEST_PROBE);
                let switch = AutoSwitchConfig::default()
                    .probe_interval(interval)
                    .probe_timeout(SHORTEST_PROBE);
                config.switch(switch)
            }
            None => config,
        })
    }

    pub(crate) fn udp(&self) -> Result<UdpConfig, Failure> {
        let config = UdpConfig::default()
            .handshake_timeout(self.connect_timeout)
            .delivery_timeout(self.timeout);
        let config = match self.compress {
            true => config.compression(CompressionConfig::default()),
            false => config,
        };
        let config = config.auth_token(token::of_client(self.token_file.as_deref())?);
        let config = match self.event_log()? {
            Some(log) => config.event_log(log),
            None => config,
        };
        Ok(match self.max_frame_size {
            Some(len) => config.max_frame_size(len),
            None => config,
        })
    }
}

/// Names the file that is missing, before it is one of several that could be.
pub(crate) fn readable(path: &Path) -> Result<(), Failure> {
    std::fs::File::open(path)
        .map(drop)
        .map_err(|error| Failure::file(path, &error))
}
