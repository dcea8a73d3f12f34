//! A TLS 1.3 server that tells each client who it is.
//!
//!     cargo run --example tcp_server_tls                     certificate for this machine
//!     cargo run --example tcp_server_tls -- --cert server.pem --key server.key \
//!         [--client-ca ca.pem] [ADDR]
//!
//! With `--client-ca` clients need a certificate of that authority (mutual TLS). Ends in order when
//! its standard input does. Talk to it with `tcp_client_tls`.

use std::env;
use std::io::stdin;
use std::process::ExitCode;
use std::time::Duration;
use vstp::net::tls::{ClientAuth, Roots, TlsServerConfig, dev};
use vstp::serve::Session;
use vstp::{Frame, VstpError, VstpTcpServer};

fn main() -> ExitCode {
    env_logger::init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp_server_tls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), VstpError> {
    let (mut addr, mut cert, mut key, mut client_ca) =
        ("127.0.0.1:7001".to_owned(), None, None, None);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--cert" => cert = args.next(),
            "--key" => key = args.next(),
            "--client-ca" => client_ca = args.next(),
            "--help" => {
                println!(
                    "usage: tcp_server_tls [--cert FILE --key FILE] [--client-ca FILE] [ADDR]\n\nWithout --cert it uses a certificate for this machine, which clients of the same\nuser trust on loopback addresses (default address: 127.0.0.1:7001)."
                );
                return Ok(());
            }
            _ => addr = arg,
        }
    }
    let tls = match (cert, key) {
        (Some(cert), Some(key)) => {
            let auth = match client_ca {
                Some(path) => ClientAuth::Required(Roots::pem_file(path)?),
                None => ClientAuth::None,
            };
            TlsServerConfig::builder()
                .pem_files(cert, key)
                .client_auth(auth)
                .build()?
        }
        _ => dev::server()?,
    };
    let server = VstpTcpServer::bind(addr.as_str(), tls)?;
    println!("listening on {}", server.local_addr());
    let handle = server.spawn(|session: &Session, frame: Frame| {
        let who = session.tls().and_then(|tls| tls.fingerprint_sha256());
        let who = match who {
            None => "you showed no certificate".to_owned(),
            Some(hash) => format!(
                "your certificate is {:02x}{:02x}{:02x}…",
                hash[0], hash[1], hash[2]
            ),
        };
        Frame::data(format!(
            "{who}, and you said {}",
            String::from_utf8_lossy(&frame.payload)
        ))
    })?;
    for line in stdin().lines().map_while(Result::ok) {
        if line == "quit" {
            break;
        }
    }
    handle.shutdown(Duration::from_secs(5));
    Ok(())
}
