//! A file that is arriving: hidden beside its final place until it is complete and its hash is right.
//!
//! Bytes are written in order only, so whatever was written before a kill is the beginning of the file, and a later
//! transfer goes on there. The beginning is read and hashed again then, a part at a time. A lock keeps two programs from
//! writing to the same one.

use super::protocol::{PIECE_LEN, Sha256, WINDOW, sha256_text};
use crate::lock;
use ring_digest::digest::{Context, SHA256};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Pieces that came too early: so many, and so many bytes.
const MAX_AHEAD_COUNT: usize = 4 * WINDOW;
const MAX_AHEAD_LEN: usize = 4 * WINDOW * PIECE_LEN;

/// Why a piece was not taken, or a file not completed.
#[derive(Debug)]
pub(super) enum PartError {
    Io(io::Error),
    /// Beyond the end of the file, or too far ahead.
    OutOfRange,
    /// All bytes are there, and they are not the ones that were announced. The part is gone.
    WrongHash,
    /// Bytes are missing.
    Incomplete,
    /// The final name is taken.
    Exists,
}

impl From<io::Error> for PartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads and hashes in steps.
pub(super) struct Hashing {
    context: Context,
    pub(super) len: u64,
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hashing({} bytes)", self.len)
    }
}

impl Hashing {
    pub(super) fn new() -> Self {
        Self {
            context: Context::new(&SHA256),
            len: 0,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// Hashes the next bytes of a file, at most so many; how many there were.
    pub(super) fn step(&mut self, file: &mut impl Read, max_len: u64) -> io::Result<u64> {
        let mut buffer = vec![0; PIECE_LEN];
        let mut left = max_len;
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            let count = match file.read(&mut buffer[..want]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            if count == 0 {
                break;
            }
            self.update(&buffer[..count]);
            left -= count as u64;
        }
        Ok(max_len - left)
    }

    pub(super) fn finish(&self) -> Sha256 {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.context.clone().finish().as_ref());
        hash
    }
}

/// The arriving file.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    len: u64,
    sha256: Sha256,
    /// What of the file is written and hashed; behind `there` while an older beginning is read again.
    hashing: Hashing,
    there: u64,
    ahead: BTreeMap<u64, Vec<u8>>,
    ahead_len: usize,
}

impl Part {
    /// Opens or makes the part of the file that will be `target`.
    pub(super) fn open(target: &Path, len: u64, sha256: Sha256) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let hash = sha256_text(&sha256);
        let path = target.with_file_name(format!(".{name}.{}.part", &hash[..16]));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path)?;
        if !lock::take(&file)? {
            let text = "another transfer of this file is going on";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        let mut there = file.metadata()?.len();
        if there > len {
            file.set_len(0)?;
            there = 0;
        }
        Ok(Self {
            file,
            path,
            target: target.to_owned(),
            len,
            sha256,
            hashing: Hashing::new(),
            there,
            ahead: BTreeMap::new(),
            ahead_len: 0,
        })
    }

    /// Hashes what an earlier transfer left, at most so many bytes; whether that is done.
    pub(super) fn check(&mut self, max_len: u64) -> io::Result<bool> {
        let left = self.there - self.hashing.len;
        if left == 0 {
            return Ok(true);
        }
        let step = left.min(max_len);
        if self.hashing.step(&mut self.file, step)? < step {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.hashing.len == self.there)
    }

    /// Bytes from the beginning that are there.
    pub(super) const fn there(&self) -> u64 {
        self.there
    }

    pub(super) fn is_for(&self, len: u64, sha256: &Sha256) -> bool {
        (self.len, &self.sha256) == (len, sha256)
    }

    /// Forgets pieces that came too early: whoever sent them is gone.
    pub(super) fn forget_ahead(&mut self) {
        self.ahead.clear();
        self.ahead_len = 0;
    }

    /// Takes a piece, in whatever order they come.
    pub(super) fn take(&mut self, offset: u64, bytes: Vec<u8>) -> Result<(), PartError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.len) || self.hashing.len != self.there {
            return Err(PartError::OutOfRange);
        }
        if offset != self.there {
            // A piece from before is a repetition.
            if offset > self.there && !self.ahead.contains_key(&offset) {
                let full = self.ahead.len() >= MAX_AHEAD_COUNT
                    || self.ahead_len + bytes.len() > MAX_AHEAD_LEN;
                if full {
                    return Err(PartError::OutOfRange);
                }
                self.ahead_len += bytes.len();
                self.ahead.insert(offset, bytes);
            }
            return Ok(());
        }
        self.append(&bytes)?;
        while let Some(bytes) = self.ahead.remove(&self.there) {
            self.ahead_len -= bytes.len();
            self.append(&bytes)?;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // What was written of it is cut off, so that the file still ends where we think it does.
            self.file.set_len(self.there)?;
            use std::io::Seek;
            self.file.seek(io::SeekFrom::Start(self.there))?;
            return Err(error);
        }
        self.hashing.update(bytes);
        self.there += bytes.len() as u64;
        Ok(())
    }

    /// Gives the complete file its name.
    pub(super) fn finish(&mut self, overwrite: bool) -> Result<(), PartError> {
        if self.there != self.len || self.hashing.len != self.len {
            return Err(PartError::Incomplete);
        }
        if self.hashing.finish() != self.sha256 {
            fs::remove_file(&self.path)?;
            return Err(PartError::WrongHash);
        }
        self.file.sync_all()?;
        if overwrite {
            fs::rename(&self.path, &self.target)?;
        } else {
            // A link fails where a file is, which rename would replace.
            match fs::hard_link(&self.path, &self.target) {
                Ok(()) => fs::remove_file(&self.path)?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(PartError::Exists);
                }
                // A file system without links.
                Err(_) if self.target.exists() => return Err(PartError::Exists),
                Err(_) => fs::rename(&self.path, &self.target)?,
            }
        }
        sync_folder(&self.target);
        Ok(())
    }
}

/// The name survives a power failure, where the system can promise that.
fn sync_folder(target: &Path) {
    if let Some(folder) = target.parent() {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("vstp-part-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a temporary folder");
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("the folder is there");
            let name = |e: io::Result<fs::DirEntry>| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            };
            entries.map(name).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn sha(bytes: &[u8]) -> Sha256 {
        let mut hashing = Hashing::new();
        hashing.update(bytes);
        hashing.finish()
    }

    #[test]
    fn pieces_in_any_order_make_the_file() {
        let folder = Folder::new("order");
        let target = folder.0.join("f");
        let mut part = Part::open(&target, 6, sha(b"abcdef")).expect("open");
        part.take(4, b"ef".to_vec()).expect("ahead");
        part.take(0, b"ab".to_vec()).expect("next");
        part.take(0, b"ab".to_vec()).expect("again");
        assert_eq!(part.there(), 2);
        assert!(matches!(part.finish(false), Err(PartError::Incomplete)));
        assert!(!target.exists());
        part.take(2, b"cd".to_vec()).expect("the gap");
        assert!(matches!(
            part.take(6, b"x".to_vec()),
            Err(PartError::OutOfRange)
        ));
        part.finish(false).expect("complete");
        assert_eq!(fs::read(&target).expect("the file"), b"abcdef");
        assert_eq!(folder.names(), ["f"]);
    }

    #[test]
    fn a_part_is_found_again_and_checked() {
        let folder = Folder::new("resume");
        let target = folder.0.join("f");
        let hash = sha(b"abcdef");
        let mut part = Part::open(&target, 6, hash).expect("open");
        part.take(0, b"abc".to_vec()).expect("next");
        let error = Part::open(&target, 6, hash).expect_err("it is in use");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        drop(part);
        let mut part = Part::open(&target, 6, hash).expect("again");
        assert_eq!(part.there(), 3);
        assert!(
            matches!(part.take(3, b"d".to_vec()), Err(PartError::OutOfRange)),
            "not checked yet"
        );
        assert!(!part.check(2).expect("the first two"));
        assert!(part.check(2).expect("the last"));
        part.take(3, b"def".to_vec()).expect("the rest");
        part.finish(false).expect("complete");
        assert_eq!(fs::read(&target).expect("the file"), b"abcdef");
    }

    #[test]
    fn a_wrong_hash_leaves_nothing() {
        let folder = Folder::new("hash");
        let target = folder.0.join("f");
        let mut part = Part::open(&target, 3, sha(b"abc")).expect("open");
        part.take(0, b"abd".to_vec()).expect("next");
        assert!(matches!(part.finish(true), Err(PartError::WrongHash)));
        assert!(folder.names().is_empty());
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_when_told() {
        let folder = Folder::new("exists");
        let target = folder.0.join("f");
        fs::write(&target, "old").expect("a file");
        let mut part = Part::open(&target, 3, sha(b"new")).expect("open");
        part.take(0, b"new".to_vec()).expect("next");
        assert!(matches!(part.finish(false), Err(PartError::Exists)));
        assert_eq!(fs::read(&target).expect("the file"), b"old");
        part.finish(true).expect("told");
        assert_eq!(fs::read(&target).expect("the file"), b"new");
    }

    #[test]
    fn what_came_too_early_is_bounded() {
        let folder = Folder::new("ahead");
        let mut part = Part::open(&folder.0.join("f"), 1 << 40, [0; 32]).expect("open");
        for n in 1..=MAX_AHEAD_COUNT as u64 {
            part.take(n, vec![0]).expect("there is room");
        }
        assert!(matches!(
            part.take(1 << 20, vec![0]),
            Err(PartError::OutOfRange)
        ));
    }
}
