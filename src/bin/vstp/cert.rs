//! `vstp cert`: an authority and certificates of one's own, and what certificates say.
//!
//! Private keys are written with mode 600 and never to stdout; no file is overwritten.

use crate::exit::{self, Failure};
use crate::output::{self, Talk};
use crate::x509::{self, Summary};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use ring_digest::digest::{SHA256, digest};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use x509_parser::prelude::ASN1Time;

const EXAMPLES: &str = "\
Examples:
  vstp cert ca --out ca                            ca.pem and ca.key
  vstp cert leaf example.org 10.0.0.7 --ca ca      example.org.pem and example.org.key
  vstp cert leaf alice --client --ca ca            for a client that proves who it is
  vstp cert show example.org.pem                   names, dates, fingerprint
  vstp cert pin example.org.pem                    the value for --pin

The server gets example.org.pem and example.org.key, clients get ca.pem, and ca.key stays where it is.";

/// Make and read certificates
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Make an authority: FILE.pem for everybody, FILE.key for nobody
    Ca {
        /// The beginning of the files' names
        #[arg(long, value_name = "FILE", default_value = "ca")]
        out: PathBuf,
        /// The authority's name (default: VSTP authority, and a number that no other has)
        #[arg(long)]
        name: Option<String>,
        /// How long it is valid
        #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
    /// Make a certificate for a server, or with --client for a client
    Leaf {
        /// The names and addresses of the server, or the name of the client
        #[arg(required = true, value_name = "NAME|IP")]
        names: Vec<String>,
        /// The authority: FILE.pem and FILE.key
        #[arg(long, value_name = "FILE", default_value = "ca")]
        ca: PathBuf,
        /// The beginning of the files' names (default: the first name)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// For a client
        #[arg(long)]
        client: bool,
        /// How long it is valid
        #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
    /// Print what the certificates in a file say
    Show {
        file: PathBuf,
        /// One JSON object for each certificate
        #[arg(long)]
        json: bool,
    },
    /// Print the SHA-256 of the public key, for --pin
    Pin { file: PathBuf },
}

pub(crate) fn run(args: CertArgs, talk: Talk) -> Result<(), Failure> {
    match args.command {
        CertCommand::Ca { out, name, days } => make_ca(&out, name, days, talk),
        CertCommand::Leaf {
            names,
            ca,
            out,
            client,
            days,
        } => {
            let out = out.unwrap_or_else(|| PathBuf::from(file_name(&names[0])));
            make_leaf(&names, &ca, &out, client, days, talk)
        }
        CertCommand::Show { file, json } => show(&file, json),
        CertCommand::Pin { file } => match x509::read(&file)?.first() {
            Some(der) => output::line(Summary::of(der)?.pin),
            None => Ok(()),
        },
    }
}

/// A name as a file name: what a shell or a file system minds becomes `_`.
fn file_name(name: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || ".-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(safe).collect();
    name.trim_start_matches('.').to_owned()
}

/// FILE.pem and FILE.key.
fn pair(base: &Path) -> (PathBuf, PathBuf) {
    let with = |end: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    (with(".pem"), with(".key"))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "map_err gives the error away"
)]
fn failed(error: rcgen::Error) -> Failure {
    Failure::new(
        exit::TLS,
        format!("the certificate cannot be made: {error}"),
    )
}

fn params(names: &[String], name: &str, days: u32) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(|_| {
        Failure::usage(format!(
            "{names:?}: a name of a server is ASCII, like example.org"
        ))
    })?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = ASN1Time::now().to_datetime();
    let hour = 3600;
    // A clock that runs an hour behind on the other side must not matter.
    params.not_before = now - std::time::Duration::from_secs(hour);
    params.not_after = now + std::time::Duration::from_secs(u64::from(days) * 24 * hour);
    Ok(params)
}

fn make_ca(out: &Path, name: Option<String>, days: u32, talk: Talk) -> Result<(), Failure> {
    let key = KeyPair::generate().map_err(failed)?;
    // Of two authorities with one name, a client that trusts one takes the other's certificates for forged.
    let number = || HEXLOWER.encode(&digest(&SHA256, key.public_key_raw()).as_ref()[..4]);
    let name = name.unwrap_or_else(|| format!("VSTP authority {}", number()));
    let mut params = params(&[], &name, days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(failed)?;
    write_pair(out, &certificate.pem(), &key, talk)
}

fn make_leaf(
    names: &[String],
    ca: &Path,
    out: &Path,
    client: bool,
    days: u32,
    talk: Talk,
) -> Result<(), Failure> {
    let (ca_pem, ca_key) = pair(ca);
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| {
            let failure = Failure::file(path, &error);
            Failure::new(
                failure.code,
                failure.message + "; vstp cert ca makes an authority",
            )
        })
    };
    let (ca_text, key_text) = (read(&ca_pem)?, read(&ca_key)?);
    let ca_key = KeyPair::from_pem(&key_text).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&ca_text, ca_key).map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    // The name of a person or a program is no name of a host.
    let hosts = if client { &[][..] } else { names };
    let mut params = params(hosts, &names[0], days)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if client {
        ExtendedKeyUsagePurpose::ClientAuth
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    }];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    write_pair(out, &certificate.pem(), &key, talk)
}

fn write_pair(out: &Path, certificate: &str, key: &KeyPair, talk: Talk) -> Result<(), Failure> {
    let (cert_path, key_path) = pair(out);
    for path in [&cert_path, &key_path] {
        if path.exists() {
            let text = format!("{} exists already; choose another --out", path.display());
            return Err(Failure::new(exit::LOCAL, text));
        }
    }
    write_new(&key_path, &key.serialize_pem(), true)?;
    write_new(&cert_path, certificate, false)?;
    talk.say(format!(
        "vstp: wrote {} and {}",
        cert_path.display(),
        key_path.display()
    ));
    Ok(())
}

fn write_new(path: &Path, text: &str, private: bool) -> Result<(), Failure> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(if private { 0o600 } else { 0o644 });
    }
    #[cfg(not(unix))]
    let _ = private;
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::file(path, &error))
}

fn show(path: &Path, json: bool) -> Result<(), Failure> {
    for der in x509::read(path)? {
        let summary = Summary::of(&der)?;
        if json {
            output::json(summary.to_json())?;
            continue;
        }
        let kind = if summary.is_authority {
            "authority"
        } else {
            "certificate"
        };
        output::line(format!("{kind} {}", summary.title()))?;
        let rows = [
            ("issuer", summary.issuer.clone()),
            ("names", summary.names.join(", ")),
            ("valid from", summary.not_before.clone()),
            ("valid until", summary.expiry()),
            ("serial", summary.serial.clone()),
            ("sha256", summary.fingerprint.clone()),
            ("pin", summary.pin.clone()),
        ];
        for (name, value) in rows {
            if !value.is_empty() {
                output::line(format!("  {name:<12} {value}"))?;
            }
        }
    }
    Ok(())
}
