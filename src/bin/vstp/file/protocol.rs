//! The words of `vstp file` (docs/files.md): requests and answers are DATA frames with these headers.

use crate::exit::{self, Failure};
use data_encoding::HEXLOWER;
use vstp::Frame;

/// What a request wants.
pub(super) const OP: &str = "file-op";
pub(super) const NAME: &str = "file-name";
/// Bytes of the whole file.
pub(super) const LEN: &str = "file-len";
/// Its SHA-256, 64 hexadecimal digits.
pub(super) const SHA256: &str = "file-sha256";
/// Where a piece begins; in the answer to `put`, what is there already.
pub(super) const OFFSET: &str = "file-offset";
/// Bytes of a piece that is asked for.
pub(super) const PIECE: &str = "file-piece";
/// The number of an upload.
pub(super) const ID: &str = "file-id";
/// `checking`, `ready` or `complete`.
pub(super) const STATE: &str = "file-state";

/// Bytes of a piece, and how many are on their way at once: 4 MiB hide the time of a round trip, and are what a
/// receiver keeps when they overtake each other.
pub(super) const PIECE_LEN: usize = 256 * 1024;
pub(super) const WINDOW: usize = 16;

/// A digest of a whole file.
pub(super) type Sha256 = [u8; 32];

pub(super) fn sha256_text(hash: &Sha256) -> String {
    HEXLOWER.encode(hash)
}

/// A number in a header.
pub(super) fn number(frame: &Frame, key: &str) -> Option<u64> {
    frame.header_str(key)?.parse().ok()
}

pub(super) fn hash(frame: &Frame) -> Option<Sha256> {
    let bytes = HEXLOWER.decode(frame.header(SHA256)?).ok()?;
    bytes.try_into().ok()
}

/// A header that an answer must have.
pub(super) fn needed<T>(found: Option<T>) -> Result<T, Failure> {
    found.ok_or_else(|| {
        let text = "the answer is not one of `vstp server --dir`; is it another kind of server?";
        Failure::new(exit::PROTOCOL, text)
    })
}

/// A name that stays in its folder: one component, not hidden, nothing that a terminal or a shell minds.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    const MAX_LEN: usize = 200;
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_LEN {
        "is over 200 bytes"
    } else if name.starts_with('.') {
        "begins with a dot"
    } else if name.contains(['/', '\\', ':']) || name.chars().any(char::is_control) {
        "has a slash, a backslash, a colon or a control character"
    } else {
        return Ok(());
    };
    Err(format!("the name {name:?} {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for good in ["a", "a b.txt", "ä", "a..b", "-x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".a",
            "a/b",
            "/a",
            "..\\a",
            "C:a",
            "a\nb",
            "a\0b",
            &"a".repeat(201),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
