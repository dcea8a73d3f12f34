//! How fast the messages of one connection are taken: the bucket of a server's rate limit, on the clock.
//!
//! The reader charges each message that it hands out, and takes up the next when [`Pace::wait_until`] says
//! so. Until then it reads nothing, so a client that sends too much is slowed down by its own socket.

use crate::net::clock;
use crate::proto::rate::{Bucket, RateLimit};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Pace {
    limit: Option<RateLimit>,
    bucket: Bucket,
    /// When the next message may be taken; `None`: now.
    ready_at: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(limit: Option<RateLimit>) -> Self {
        Self {
            limit,
            bucket: Bucket::default(),
            ready_at: None,
        }
    }

    /// Whether there is a limit.
    #[inline]
    pub(crate) const fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// A message of so many bytes is handed out; whether the next one has to wait.
    pub(crate) fn charge(&mut self, len: usize) -> bool {
        if let Some(limit) = &self.limit {
            let now = clock::now();
            self.bucket.charge(now, len, limit);
            self.ready_at = self.bucket.ready_at(now, limit);
        }
        self.ready_at.is_some()
    }

    /// Until when nothing may be taken, if that is not over.
    #[inline]
    pub(crate) fn wait_until(&mut self) -> Option<Instant> {
        self.ready_at?;
        self.ready_at = self.ready_at.filter(|at| clock::now() < *at);
        self.ready_at
    }
}
