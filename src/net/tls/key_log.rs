//! Secrets of TLS sessions in a file, so that a capture can be read: for development, on request only.

use crate::error::VstpError;
use rustls::KeyLog;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Lines in the form that NSS gave its key log and that Wireshark reads (RFC 9850).
pub(super) struct KeyLogFile {
    file: Mutex<File>,
}

impl KeyLogFile {
    /// Appends to the file, which only its owner may read when it is made here.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, VstpError> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(|e| {
            let reason = format!("{} cannot be written", path.display());
            VstpError::config_from("danger_key_log", reason, e)
        })?;
        let path = path.display();
        log::warn!("secrets of all TLS sessions are written to {path}: danger_key_log");
        Ok(Arc::new(Self {
            file: Mutex::new(file),
        }))
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // One write for a line, so that several processes can share the file.
        if let Err(error) = file.write_all(line.as_bytes()) {
            log::warn!("the key log cannot be written: {error}");
        }
    }
}

impl fmt::Debug for KeyLogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLogFile(..)")
    }
}
