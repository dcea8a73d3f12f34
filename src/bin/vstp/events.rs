//! `--event-log`: the file, which one process has for itself, and at the end a word about what is not in it.

use crate::exit::{self, Failure};
use crate::lock;
use crate::output::Talk;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use vstp::net::event_log::EventLog;

/// All connections of a command write to the same.
static LOG: OnceLock<EventLog> = OnceLock::new();

/// The log of this command, in this file: opened at the first time, when it loses what was in it.
pub(crate) fn log(path: &Path) -> Result<EventLog, Failure> {
    if let Some(log) = LOG.get() {
        return Ok(log.clone());
    }
    let failed = |error: io::Error| Failure::file(path, &error);
    let mut options = OpenOptions::new();
    // Not truncated before it is known that nobody else writes to it.
    options.write(true).create(true).truncate(false);
    let file = options.open(path).map_err(failed)?;
    // Pipes and devices are for as many as like.
    if file.metadata().map_err(failed)?.is_file() {
        if !lock::take(&file).map_err(failed)? {
            let text = format!(
                "{}: another program writes its event log there",
                path.display()
            );
            return Err(Failure::new(exit::LOCAL, text));
        }
        file.set_len(0).map_err(failed)?;
    }
    let log = EventLog::writer(Box::new(file));
    Ok(LOG.get_or_init(|| log).clone())
}

/// Writes what waits, and says how often writing failed.
pub(crate) fn flush() -> u64 {
    LOG.get().map_or(0, |log| {
        log.flush();
        log.error_count()
    })
}

/// The command ends.
pub(crate) fn finish(talk: Talk) {
    let errors = flush();
    if errors > 0 {
        talk.warn(format!(
            "the event log is not whole: it could not be written {errors} times"
        ));
    }
    let lost = LOG.get().map_or(0, EventLog::lost_count);
    if lost > 0 {
        talk.warn(format!(
            "the event log is not whole: for {lost} events there was no room"
        ));
    }
}
