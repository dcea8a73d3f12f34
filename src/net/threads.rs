//! [`Threads`]: the named threads of a client or socket, which end with it.
//!
//! It starts and joins them. What they do, and what wakes them at the end, is their owner's business.

use crate::error::VstpError;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Address space for the stack of each (bytes), as of a server's workers by default.
const STACK_LEN: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Threads {
    /// Protects the list; nothing is waited for under it.
    list: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// Starts a thread.
    ///
    /// # Errors
    /// `Io` when the system gives none.
    pub(crate) fn start(
        &self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), VstpError> {
        let builder = Builder::new().name(name.to_owned()).stack_size(STACK_LEN);
        let thread = builder.spawn(body).map_err(VstpError::Io)?;
        self.lock().push(thread);
        Ok(())
    }

    /// Waits until all have ended; they have been woken. A second call finds none.
    pub(crate) fn join(&self) {
        let all = std::mem::take(&mut *self.lock());
        for thread in all {
            // One that ended by a panic has said so on stderr.
            let _ = thread.join();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
