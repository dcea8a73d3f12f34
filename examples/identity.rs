//! Who is calling: a certificate gives each client its name, and a token that is bound to the connection
//! proves that it knows a secret besides.
//!
//!     cargo run --example identity
//!
//! Makes an authority, a server and clients, lets them meet, and ends. The server asks for both; the last
//! client replays a token that it saw on another connection, as a man in the middle would.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use vstp::net::identity::{
    Authenticator, ClientCertificate, Credentials, Identity, SharedToken, bound_token,
};
use vstp::net::tcp::TcpConfig;
use vstp::net::tls::{ClientAuth, Roots, TlsClientConfig, TlsServerConfig};
use vstp::serve::{ServerConfig, Session};
use vstp::{Frame, VstpError, VstpTcpClient, VstpTcpServer};

/// In a program this comes from a file that only the user can read.
const SECRET: &str = "f0c2f9a65a0e4d3c";

fn main() -> ExitCode {
    env_logger::init();
    if env::args().nth(1).as_deref() == Some("--help") {
        println!(
            "usage: identity\n\nShows a server that recognises clients by certificate and token."
        );
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("identity: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A certificate and its key as PEM.
type Pem = (String, String);

/// An authority, and what it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self, Box<dyn Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    fn sign(&self, common_name: &str) -> Result<Pem, Box<dyn Error>> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        let names = &mut params.distinguished_name;
        names.push(DnType::CommonName, common_name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let authority = Authority::new()?;
    let (cert, key) = authority.sign("server")?;
    let tls = TlsServerConfig::builder()
        .pem(cert.as_bytes(), key.as_bytes())
        .client_auth(ClientAuth::Required(Roots::pem(authority.pem.as_bytes())?))
        .build()?;

    // Both must be right; the certificate says the name.
    let certificate = ClientCertificate::by_common_name();
    let token = SharedToken::bound("knows the secret", SECRET)?;
    let both = move |client: &Credentials| {
        let proof = token.authenticate(client)?;
        Ok(certificate
            .authenticate(client)?
            .with("token", proof.name()))
    };
    let config = ServerConfig::default().authenticator(both);
    let server = VstpTcpServer::bind_with("localhost:0", tls, config)?;
    let addr = format!("localhost:{}", server.local_addr().port());
    let handle = server.spawn(|session: &Session, _: Frame| {
        let who = session.identity().map_or("nobody", Identity::name);
        Frame::data(format!("hello, {who}"))
    })?;

    let ask = |name: &str, config: TcpConfig| -> Result<(), Box<dyn Error>> {
        let (cert, key) = authority.sign(name)?;
        let tls = TlsClientConfig::builder()
            .ca_pem(authority.pem.as_bytes())?
            .client_cert_pem(cert.as_bytes(), key.as_bytes())
            .build()?;
        let greeting = greet(&addr, &tls, config);
        println!(
            "{name}: {}",
            greeting.unwrap_or_else(|error| error.to_string())
        );
        Ok(())
    };
    let bound = |secret: &'static str| {
        let make = move |channel: &[u8; 32]| bound_token(secret, channel).to_vec();
        TcpConfig::default().bound_auth_token(make)
    };
    ask("ann", bound(SECRET))?;
    ask("bob", bound(SECRET))?;
    ask("eve without a token", TcpConfig::default())?;
    ask("eve with a wrong secret", bound("guess"))?;
    // A token of another connection: right secret, other channel.
    let seen = bound_token(SECRET, &[7; 32]).to_vec();
    ask(
        "eve with a token that she saw",
        TcpConfig::default().auth_token(Some(seen)),
    )?;

    handle.shutdown(Duration::from_secs(5));
    Ok(())
}

fn greet(addr: &str, tls: &TlsClientConfig, config: TcpConfig) -> Result<String, VstpError> {
    let mut client = VstpTcpClient::connect_with(addr, tls, config)?;
    client.send(&Frame::data("who am I?"))?;
    let answer = client.recv()?.map(|frame| frame.payload);
    client.close()?;
    Ok(String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned())
}
