//! [`Delivery`]: an acknowledged send that is on its way.

use super::driver::{Driver, closed};
use crate::error::{TimeoutKind, VstpError};
use crate::net::clock;
use crate::proto::datagram::{Progress, Token};
use crate::wire::Frame;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An acknowledged send that is on its way. Dropping it lets the send go on; see
/// [`flush`](super::VstpUdpClient::flush).
#[derive(Debug)]
#[must_use = "dropping it is allowed, but then only `flush` tells whether the message arrived"]
pub struct Delivery {
    driver: Arc<Driver>,
    /// `None`: an extension has kept the message, so it has ended.
    pub(super) token: Option<Token>,
}

impl Delivery {
    /// Begins an acknowledged send.
    pub(crate) fn start(
        driver: &Arc<Driver>,
        frame: Frame,
        to: SocketAddr,
    ) -> Result<Self, VstpError> {
        let token = driver.start_send(frame, to)?;
        Ok(Self {
            driver: Arc::clone(driver),
            token,
        })
    }

    /// Waits until the message was acknowledged.
    ///
    /// # Blocking
    /// Until then; at most until the protocol gives it up, `delivery_timeout` without progress.
    ///
    /// # Errors
    /// - `Timeout(Ack)`: it was given up.
    /// - `Timeout(Idle)`, `ConnectionClosed`: the session or the socket ended.
    /// - `Cancelled`.
    pub fn wait(self) -> Result<(), VstpError> {
        self.wait_until(None)
    }

    /// Waits at most for `timeout`. The send goes on afterwards; wait again, or
    /// [cancel](Self::cancel) it.
    ///
    /// # Blocking
    /// Until the message was acknowledged or the time is over.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); `Timeout(Send)` when the time is over and the message still on its way.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), VstpError> {
        self.wait_until(Some(clock::after_or_far(timeout)))
    }

    fn wait_until(&self, until: Option<Instant>) -> Result<(), VstpError> {
        self.driver.push();
        let Some(token) = self.token else {
            return Ok(());
        };
        match self.driver.wait_for(until, |core| core.outcome(token)) {
            Some(how) => how.map_err(VstpError::from),
            None if until.is_some_and(|at| at <= clock::now()) => {
                Err(VstpError::Timeout(TimeoutKind::Send))
            }
            None => Err(closed()),
        }
    }

    /// Whether it has ended, in whatever way. Never blocks.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.token
            .is_none_or(|token| self.driver.lock().is_done(token))
    }

    /// Bytes acknowledged and bytes in all; `None` when it has ended.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.driver.progress(self.token?)
    }

    /// Gives the message up. What has arrived of it is forgotten by the receiver after 30 s.
    pub fn cancel(self) {
        if let Some(token) = self.token {
            self.driver.with(|core| core.endpoint.cancel(token));
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.driver.lock().forget(token);
        }
    }
}
