//! Certificates for this machine, for development: trusted on loopback addresses, and by nobody
//! else.
//!
//! A server makes an authority and a certificate for `localhost`, `127.0.0.1` and `::1` once for
//! each user and keeps them in a private folder; clients of the same user read the authority from
//! there. The authority's key is never stored, so nothing else can be signed with it.
//!
//! The folder is `$VSTP_DEV_CERTS`, else `$XDG_STATE_HOME/vstp/dev`, else
//! `$HOME/.local/state/vstp/dev`, else one for the user below the system's folder for temporary
//! files.

use super::client::TlsClientConfig;
#[cfg(feature = "dev-certs")]
use super::server::TlsServerConfig;
use crate::error::VstpError;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const CA: &str = "ca.pem";
#[cfg(feature = "dev-certs")]
const CERTIFICATE: &str = "cert.pem";
#[cfg(feature = "dev-certs")]
const KEY: &str = "key.pem";
#[cfg(feature = "dev-certs")]
const EXPIRES: &str = "expires";

/// A server's settings with the certificate for this machine, made if there is none yet.
///
/// # Errors
/// `Config` when the folder cannot be used.
#[cfg(feature = "dev-certs")]
pub fn server() -> Result<TlsServerConfig, VstpError> {
    server_in(&folder())
}

/// A client's settings that trust the certificate for this machine, on loopback addresses only.
///
/// # Errors
/// `Config` when no server of this user has made one yet.
pub fn client() -> Result<TlsClientConfig, VstpError> {
    client_in(&folder())
}

#[cfg(feature = "dev-certs")]
pub(super) fn server_in(folder: &Path) -> Result<TlsServerConfig, VstpError> {
    make::ensure(folder)?;
    TlsServerConfig::builder()
        .pem_files(folder.join(CERTIFICATE), folder.join(KEY))
        .build()
}

pub(super) fn client_in(folder: &Path) -> Result<TlsClientConfig, VstpError> {
    let path = folder.join(CA);
    match refuse_if_shared(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(unusable(folder, e)),
        _ => {}
    }
    let ca = fs::read(&path).map_err(|e| {
        let reason = format!(
            "no certificate for development at {}: start a server with one first \
             (feature dev-certs), or give an authority with TlsClientConfig::builder()",
            path.display()
        );
        VstpError::config_from("tls", reason, e)
    })?;
    Ok(TlsClientConfig::builder()
        .ca_pem(&ca)?
        .build()?
        .for_loopback_only())
}

fn unusable(folder: &Path, error: io::Error) -> VstpError {
    let reason = format!(
        "the folder for development certificates, {}, cannot be used; name another one in the \
         environment variable VSTP_DEV_CERTS",
        folder.display()
    );
    VstpError::config_from("dev-certs", reason, error)
}

/// Whoever can write here can make clients trust their own authority.
#[cfg(unix)]
fn refuse_if_shared(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let folder = fs::metadata(folder)?;
    if is_private(
        folder.mode(),
        folder.uid(),
        rustix::process::geteuid().as_raw(),
    ) {
        return Ok(());
    }
    Err(io::Error::other(
        "other users can write to it; a folder of your own with mode 700 mends that",
    ))
}

/// Only its owner can write to it, and that is us, or root, who can do everything anyway.
#[cfg(unix)]
pub(super) const fn is_private(mode: u32, owner: u32, me: u32) -> bool {
    mode & 0o022 == 0 && (owner == me || owner == 0)
}

#[cfg(not(unix))]
fn refuse_if_shared(_: &Path) -> io::Result<()> {
    Ok(())
}

fn folder() -> PathBuf {
    let variable = |name| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(folder) = variable("VSTP_DEV_CERTS") {
        return folder;
    }
    let state = variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local").join("state")));
    match state {
        Some(state) => state.join("vstp").join("dev"),
        None => {
            let user = variable("USER")
                .or_else(|| variable("USERNAME"))
                .unwrap_or_default();
            env::temp_dir().join(format!("vstp-dev-{}", user.display()))
        }
    }
}

#[cfg(feature = "dev-certs")]
pub use make::{DevCerts, generate};

/// Making and storing; needs rcgen.
#[cfg(feature = "dev-certs")]
mod make {
    use super::{CA, CERTIFICATE, EXPIRES, KEY, refuse_if_shared, unusable};
    use crate::error::VstpError;
    use crate::net::random;
    use crate::net::tls::client::TlsClientConfig;
    use crate::net::tls::server::TlsServerConfig;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
        KeyPair, KeyUsagePurpose,
    };
    use std::fs;
    use std::io;
    use std::path::Path;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
    /// Made anew when less is left.
    const RESERVE: Duration = Duration::from_secs(7 * 24 * 3600);

    /// An authority of its own and a certificate for this machine, as PEM.
    #[derive(Clone)]
    #[non_exhaustive]
    pub struct DevCerts {
        /// The authority's certificate; its key is gone.
        pub ca_pem: String,
        /// The certificate for `localhost`, `127.0.0.1` and `::1`.
        pub cert_pem: String,
        /// The certificate's private key (PKCS#8).
        pub key_pem: String,
    }

    /// Keys do not belong into logs.
    impl std::fmt::Debug for DevCerts {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("DevCerts(..)")
        }
    }

    impl DevCerts {
        /// A server's settings with this certificate.
        ///
        /// # Errors
        /// As [`TlsServerConfigBuilder::build`](crate::net::tls::TlsServerConfigBuilder::build).
        pub fn server(&self) -> Result<TlsServerConfig, VstpError> {
            TlsServerConfig::builder()
                .pem(self.cert_pem.as_bytes(), self.key_pem.as_bytes())
                .build()
        }

        /// A client's settings that trust this authority, on loopback addresses only.
        ///
        /// # Errors
        /// As [`TlsClientConfigBuilder::build`](crate::net::tls::TlsClientConfigBuilder::build).
        pub fn client(&self) -> Result<TlsClientConfig, VstpError> {
            let builder = TlsClientConfig::builder().ca_pem(self.ca_pem.as_bytes())?;
            Ok(builder.build()?.for_loopback_only())
        }
    }

    /// Makes an authority and a certificate for this machine, in memory.
    ///
    /// # Errors
    /// `Config` when the random source or the key generation fails.
    ///
    /// # Example
    /// ```
    /// let certs = vstp::net::tls::dev::generate()?;
    /// let (server, client) = (certs.server()?, certs.client()?);
    /// # let _ = (server, client);
    /// # Ok::<(), vstp::VstpError>(())
    /// ```
    pub fn generate() -> Result<DevCerts, VstpError> {
        try_generate()
            .map_err(|e| VstpError::config_from("dev-certs", "a certificate could not be made", e))
    }

    /// Certificates are about the wall clock; nothing else is.
    #[expect(clippy::disallowed_methods, reason = "the dates of a certificate")]
    fn wall_clock() -> SystemTime {
        SystemTime::now()
    }

    fn try_generate() -> Result<DevCerts, rcgen::Error> {
        let now = wall_clock();
        // A clock that runs an hour behind on the other side must not matter.
        let not_before = (now - Duration::from_secs(3600)).into();
        let not_after = (now + LIFETIME).into();

        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        // Different names, so that a client with several of them looks at the right one.
        let name = format!("VSTP development {:016x}", random::u64());
        ca.distinguished_name.push(DnType::CommonName, name);
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (ca.not_before, ca.not_after) = (not_before, not_after);
        let ca_certificate = ca.self_signed(&ca_key)?;

        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut leaf = CertificateParams::new(names.to_vec())?;
        leaf.distinguished_name
            .push(DnType::CommonName, "localhost");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        (leaf.not_before, leaf.not_after) = (not_before, not_after);
        let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;

        Ok(DevCerts {
            ca_pem: ca_certificate.pem(),
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Makes the files if they are not there, or will soon be useless.
    pub(super) fn ensure(folder: &Path) -> Result<(), VstpError> {
        let failed = |e| unusable(folder, e);
        if is_good(folder).map_err(failed)? {
            return Ok(());
        }
        let parent = folder.parent().unwrap_or(Path::new("."));
        private_dirs()
            .recursive(true)
            .create(parent)
            .map_err(failed)?;
        let _alone = lock(parent);
        // Another server may have made it while we waited for the lock.
        if is_good(folder).map_err(failed)? {
            return Ok(());
        }
        let certs = generate()?;
        store(folder, &certs).map_err(failed)
    }

    /// Lets one server at a time make certificates, until the value is dropped. Where a folder
    /// cannot be locked, servers that start at the same moment may end with different ones.
    #[cfg(unix)]
    fn lock(folder: &Path) -> Option<fs::File> {
        use rustix::fs::{FlockOperation, flock};
        let folder = fs::File::open(folder).ok()?;
        flock(&folder, FlockOperation::LockExclusive).ok()?;
        Some(folder)
    }

    #[cfg(not(unix))]
    fn lock(_: &Path) -> Option<fs::File> {
        None
    }

    fn is_good(folder: &Path) -> io::Result<bool> {
        match refuse_if_shared(folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            result => result?,
        }
        let complete = [CA, CERTIFICATE, KEY]
            .iter()
            .all(|name| folder.join(name).is_file());
        let expires = fs::read_to_string(folder.join(EXPIRES)).unwrap_or_default();
        let expires = Duration::from_secs(expires.trim().parse().unwrap_or(0));
        Ok(complete && since_epoch() + RESERVE < expires)
    }

    fn since_epoch() -> Duration {
        wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Writes a whole set beside the folder and moves it into place, so that nobody sees half of it.
    fn store(folder: &Path, certs: &DevCerts) -> io::Result<()> {
        let id = random::u64();
        let fresh = folder.with_extension(format!("new-{id:016x}"));
        private_dirs().create(&fresh)?;
        let expires = (since_epoch() + LIFETIME).as_secs().to_string();
        let files = [
            (CA, certs.ca_pem.as_bytes()),
            (CERTIFICATE, certs.cert_pem.as_bytes()),
            (KEY, certs.key_pem.as_bytes()),
            (EXPIRES, expires.as_bytes()),
        ];
        let written = files
            .iter()
            .try_for_each(|(name, text)| write_private(&fresh.join(name), text));
        let moved = written.and_then(|()| replace(folder, &fresh, id));
        if fresh.exists() {
            // Ours was not needed, or is not complete.
            let _ = fs::remove_dir_all(&fresh);
        }
        moved
    }

    fn replace(folder: &Path, fresh: &Path, id: u64) -> io::Result<()> {
        if folder.exists() {
            if is_good(folder)? {
                return Ok(());
            }
            let old = folder.with_extension(format!("old-{id:016x}"));
            // Without a lock another server may be doing the same; its set is as good as ours.
            if fs::rename(folder, &old).is_ok() {
                fs::remove_dir_all(&old)?;
            }
        }
        match fs::rename(fresh, folder) {
            Err(_) if is_good(folder)? => Ok(()),
            result => result,
        }
    }

    /// Makes folders that nobody else can read.
    fn private_dirs() -> fs::DirBuilder {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
    }

    fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
        use io::Write;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        options.open(path)?.write_all(text)
    }
}
