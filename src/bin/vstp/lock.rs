//! One program at a time for a file that is being written. Where the system has no such locks, nobody is kept out.

use std::fs::File;
use std::io;

/// Takes the file until it is closed; `false` when another program, or this one, has it already.
#[cfg(unix)]
pub(crate) fn take(file: &File) -> io::Result<bool> {
    use rustix::fs::{FlockOperation, flock};
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
pub(crate) fn take(_: &File) -> io::Result<bool> {
    Ok(true)
}
