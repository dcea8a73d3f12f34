//! The server's side: a folder that clients put files into and get files from.
//!
//! Whoever asks is in a session; an upload belongs to the session that began it, and to the next one that asks for the
//! same file with the same hash (the first was killed). One lock for the table, one for each upload; the table's is
//! never held over a read or a write of a file.

use super::part::{Hashing, Part, PartError};
use super::protocol::{self, Sha256};
use crate::exit::{self, Failure};
use crate::server::{Handler, Peer};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};
use vstp::Frame;
use vstp::net::clock;
use vstp::proto::ErrorCode;
use vstp::serve::{HandlerError, IntoReply};

/// Uploads at once; one that rests for so long makes room.
const MAX_UPLOADS: usize = 256;
const REST: Duration = Duration::from_secs(600);
/// Hashes that are remembered.
const MAX_SUMS: usize = 1024;
/// What is hashed for one request: a second or two, so that the connection stays alive.
const HASH_STEP: u64 = 256 * 1024 * 1024;

/// The folder.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    read_only: bool,
    overwrite: bool,
    uploads: Mutex<HashMap<String, Arc<Upload>>>,
    sums: Mutex<HashMap<String, Sum>>,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Upload {
    id: u64,
    state: Mutex<UploadState>,
}

#[derive(Debug)]
struct UploadState {
    part: Part,
    session: u128,
    used: Instant,
}

/// The hash of a file, or what is known of it so far.
#[derive(Debug)]
struct Sum {
    len: u64,
    /// When the file was changed, since 1970.
    changed: Option<Duration>,
    hashing: Hashing,
}

fn refuse(code: ErrorCode, text: impl Into<String>) -> HandlerError {
    HandlerError::new(code, text)
}

fn bad(text: impl Into<String>) -> HandlerError {
    refuse(ErrorCode::BadRequest, text)
}

/// What the client may know of an error of ours: not our paths.
#[expect(
    clippy::needless_pass_by_value,
    reason = "map_err gives the error away"
)]
fn failed(error: io::Error) -> HandlerError {
    match error.kind() {
        io::ErrorKind::NotFound => bad("there is no such file"),
        io::ErrorKind::ResourceBusy => refuse(ErrorCode::Busy, error.to_string()),
        io::ErrorKind::StorageFull => refuse(ErrorCode::Handler, "the server's disk is full"),
        kind => {
            log::warn!("--dir: {error}");
            refuse(
                ErrorCode::Handler,
                format!("the server cannot use the file: {kind}"),
            )
        }
    }
}

impl From<PartError> for HandlerError {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Io(error) => failed(error),
            PartError::OutOfRange => bad("the piece is not one that is missing"),
            PartError::WrongHash => bad("the hash of what arrived is another one; send it again"),
            PartError::Incomplete => bad("pieces are missing"),
            PartError::Exists => bad("a file of this name is there already"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two changes is not possible in what these protect.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    pub(crate) fn open(dir: &Path, read_only: bool, overwrite: bool) -> Result<Self, Failure> {
        let is_dir = fs::metadata(dir)
            .map_err(|e| Failure::file(dir, &e))?
            .is_dir();
        if !is_dir {
            let text = format!("{}: not a folder", dir.display());
            return Err(Failure::new(exit::LOCAL, text));
        }
        Ok(Self {
            dir: dir.to_owned(),
            read_only,
            overwrite,
            uploads: Mutex::default(),
            sums: Mutex::default(),
            next_id: AtomicU64::new(1),
        })
    }

    pub(crate) fn handler(self) -> Handler {
        Arc::new(move |peer: &Peer<'_>, frame: Frame| self.answer(peer, frame).into_reply())
    }

    fn answer(&self, peer: &Peer<'_>, frame: Frame) -> Result<Frame, HandlerError> {
        match frame.header_str(protocol::OP) {
            Some("put") => self.put(peer, &frame),
            Some("write") => self.write(peer, frame),
            Some("done") => self.done(peer, &frame),
            Some("get") => self.get(&frame),
            Some("read") => self.read(&frame),
            _ => Err(bad("this server keeps files; ask it with `vstp file`")),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, HandlerError> {
        protocol::check_name(name).map_err(bad)?;
        Ok(self.dir.join(name))
    }

    /// Begins or goes on with an upload.
    fn put(&self, peer: &Peer<'_>, frame: &Frame) -> Result<Frame, HandlerError> {
        if self.read_only {
            return Err(bad("this server takes no files (--read-only)"));
        }
        let (name, len, sha256) = described(frame)?;
        let path = self.path(name)?;
        match fs::metadata(&path) {
            Ok(there) if there.is_file() && there.len() == len => match self.sum(name, &path)? {
                None => return Ok(state("checking")),
                Some((_, sum)) if sum == sha256 => return Ok(state("complete")),
                Some(_) if !self.overwrite => return Err(PartError::Exists.into()),
                Some(_) => {}
            },
            Ok(_) if !self.overwrite => return Err(PartError::Exists.into()),
            _ => {}
        }
        let upload = self.upload(name, &path, len, sha256, peer)?;
        let mut it = lock(&upload.state);
        if it.session != peer.session_id() {
            it.session = peer.session_id();
            it.part.forget_ahead();
        }
        it.used = clock::now();
        let checked = it.part.check(HASH_STEP).map_err(failed)?;
        Ok(state(if checked { "ready" } else { "checking" })
            .with_header(protocol::ID, upload.id.to_string())
            .with_header(protocol::OFFSET, it.part.there().to_string()))
    }

    /// The upload of this file, an older one if there is one.
    fn upload(
        &self,
        name: &str,
        path: &Path,
        len: u64,
        sha256: Sha256,
        peer: &Peer<'_>,
    ) -> Result<Arc<Upload>, HandlerError> {
        let found = lock(&self.uploads).get(name).map(Arc::clone);
        if let Some(upload) = found {
            let it = lock(&upload.state);
            if it.part.is_for(len, &sha256) {
                drop(it);
                return Ok(upload);
            }
            let rests = clock::now().saturating_duration_since(it.used) > REST;
            if it.session != peer.session_id() && !rests {
                return Err(refuse(
                    ErrorCode::Busy,
                    "another file of this name is arriving",
                ));
            }
        }
        self.make_room()?;
        // Two that come at once are told apart by the lock of the file.
        let part = Part::open(path, len, sha256).map_err(failed)?;
        let upload = Arc::new(Upload {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(UploadState {
                part,
                session: peer.session_id(),
                used: clock::now(),
            }),
        });
        lock(&self.uploads).insert(name.to_owned(), Arc::clone(&upload));
        Ok(upload)
    }

    fn make_room(&self) -> Result<(), HandlerError> {
        let mut uploads = lock(&self.uploads);
        if uploads.len() < MAX_UPLOADS {
            return Ok(());
        }
        let now = clock::now();
        uploads.retain(|_, upload| {
            // One that is being written to is not resting.
            let state = upload.state.try_lock();
            state.map_or(true, |it| now.saturating_duration_since(it.used) <= REST)
        });
        if uploads.len() < MAX_UPLOADS {
            return Ok(());
        }
        Err(refuse(ErrorCode::Busy, "too many files are arriving"))
    }

    /// The upload with the number in the frame, if it belongs to this session.
    fn mine(&self, peer: &Peer<'_>, frame: &Frame) -> Result<(String, Arc<Upload>), HandlerError> {
        let id = protocol::number(frame, protocol::ID).ok_or_else(|| bad("file-id is missing"))?;
        let found = lock(&self.uploads)
            .iter()
            .find(|(_, upload)| upload.id == id)
            .map(|(name, upload)| (name.clone(), Arc::clone(upload)));
        let gone = || bad("this upload belongs to another session now, or has ended");
        let (name, upload) = found.ok_or_else(gone)?;
        if lock(&upload.state).session != peer.session_id() {
            return Err(gone());
        }
        Ok((name, upload))
    }

    fn write(&self, peer: &Peer<'_>, frame: Frame) -> Result<Frame, HandlerError> {
        let offset = protocol::number(&frame, protocol::OFFSET)
            .ok_or_else(|| bad("file-offset is missing"))?;
        let (_, upload) = self.mine(peer, &frame)?;
        let mut it = lock(&upload.state);
        it.used = clock::now();
        it.part.take(offset, frame.payload)?;
        Ok(Frame::data("").with_header(protocol::OFFSET, it.part.there().to_string()))
    }

    fn done(&self, peer: &Peer<'_>, frame: &Frame) -> Result<Frame, HandlerError> {
        let (name, upload) = self.mine(peer, frame)?;
        let result = lock(&upload.state).part.finish(self.overwrite);
        if !matches!(result, Err(PartError::Incomplete)) {
            lock(&self.uploads).remove(&name);
            lock(&self.sums).remove(&name);
        }
        result?;
        log::info!("{}: {name} is complete", peer.addr());
        Ok(state("complete"))
    }

    fn get(&self, frame: &Frame) -> Result<Frame, HandlerError> {
        let name = frame
            .header_str(protocol::NAME)
            .ok_or_else(|| bad("file-name is missing"))?;
        let path = self.path(name)?;
        if !fs::metadata(&path).map_err(failed)?.is_file() {
            return Err(bad("there is no such file"));
        }
        Ok(match self.sum(name, &path)? {
            None => state("checking"),
            Some((len, sha256)) => state("ready")
                .with_header(protocol::LEN, len.to_string())
                .with_header(protocol::SHA256, protocol::sha256_text(&sha256)),
        })
    }

    fn read(&self, frame: &Frame) -> Result<Frame, HandlerError> {
        let name = frame
            .header_str(protocol::NAME)
            .ok_or_else(|| bad("file-name is missing"))?;
        let offset = protocol::number(frame, protocol::OFFSET).unwrap_or(0);
        let wanted = protocol::number(frame, protocol::PIECE).unwrap_or(0);
        let len = wanted.min(protocol::PIECE_LEN as u64);
        let mut file = File::open(self.path(name)?).map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut piece = Vec::with_capacity(len as usize);
        file.take(len).read_to_end(&mut piece).map_err(failed)?;
        Ok(Frame::data(piece).with_header(protocol::OFFSET, offset.to_string()))
    }

    /// The length and hash of a file; `None` while it is being read, and then it is to be asked again.
    fn sum(&self, name: &str, path: &Path) -> Result<Option<(u64, Sha256)>, HandlerError> {
        let mut file = File::open(path).map_err(failed)?;
        let facts = file.metadata().map_err(failed)?;
        let changed = facts.modified().ok();
        let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let len = facts.len();
        let known = lock(&self.sums).remove(name);
        let known = known.filter(|sum| (sum.len, sum.changed) == (len, changed));
        let mut sum = known.unwrap_or_else(|| Sum {
            len,
            changed,
            hashing: Hashing::new(),
        });
        if sum.hashing.len < len {
            file.seek(SeekFrom::Start(sum.hashing.len))
                .map_err(failed)?;
            let step = HASH_STEP.min(len - sum.hashing.len);
            if sum.hashing.step(&mut file, step).map_err(failed)? < step {
                return Err(bad("the file is being changed"));
            }
        }
        let result = (sum.hashing.len == len).then(|| (len, sum.hashing.finish()));
        let mut sums = lock(&self.sums);
        if sums.len() >= MAX_SUMS {
            sums.clear();
        }
        sums.insert(name.to_owned(), sum);
        Ok(result)
    }
}

fn state(word: &str) -> Frame {
    Frame::data("").with_header(protocol::STATE, word)
}

fn described(frame: &Frame) -> Result<(&str, u64, Sha256), HandlerError> {
    let name = frame.header_str(protocol::NAME);
    let len = protocol::number(frame, protocol::LEN);
    match (name, len, protocol::hash(frame)) {
        (Some(name), Some(len), Some(sha256)) => Ok((name, len, sha256)),
        _ => Err(bad("put needs file-name, file-len and file-sha256")),
    }
}
