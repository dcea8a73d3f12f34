//! A TLS 1.3 client: trusts the certificate for this machine, or an authority of yours.
//!
//!     cargo run --example tcp_client_tls -- 127.0.0.1:7001 hello
//!     cargo run --example tcp_client_tls -- --ca ca.pem [--cert me.pem --key me.key] \
//!         server.example:7001 hello
//!
//! The server is `tcp_server_tls`.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use vstp::net::tls::{TlsClientConfig, dev};
use vstp::{Frame, VstpError, VstpTcpClient};

fn main() -> ExitCode {
    env_logger::init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("tcp_client_tls: {error}");
            // The errors of this crate do not repeat their cause, so it is printed beside them.
            match error.source() {
                Some(cause) => eprintln!(" ({cause})"),
                None => eprintln!(),
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), VstpError> {
    let (mut ca, mut cert, mut key, mut rest) = (None, None, None, Vec::new());
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--ca" => ca = args.next(),
            "--cert" => cert = args.next(),
            "--key" => key = args.next(),
            "--help" => rest.clear(),
            _ => rest.push(arg),
        }
    }
    let Some((addr, messages)) = rest.split_first() else {
        println!(
            "usage: tcp_client_tls [--ca FILE] [--cert FILE --key FILE] ADDR MESSAGE...\n\nWithout --ca it trusts the certificate for this machine that tcp_server_tls makes."
        );
        return Ok(());
    };
    let tls = match ca {
        None => dev::client()?,
        Some(ca) => {
            let mut builder = TlsClientConfig::builder().ca_pem_file(ca)?;
            if let (Some(cert), Some(key)) = (cert, key) {
                builder = builder.client_cert_pem_files(cert, key)?;
            }
            builder.build()?
        }
    };
    let mut client = VstpTcpClient::connect(addr.as_str(), &tls)?;
    if let Some(tls) = client.tls() {
        println!("{} with {}", tls.version, tls.cipher_suite);
    }
    for message in messages {
        client.send(&Frame::data(message.as_str()))?;
        if let Some(answer) = client.recv()? {
            println!("{}", String::from_utf8_lossy(&answer.payload));
        }
    }
    client.close()
}
