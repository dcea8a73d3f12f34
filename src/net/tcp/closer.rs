//! [`Closer`]: the end of a connection, from another thread. In order it ends in `connection`, by what was received in
//! `ending`.

use super::shared::Shared;
use crate::error::ClosedBy;
use std::sync::{Arc, Weak};

/// Ends a connection at once, from any thread; does not keep it alive.
///
/// # Example
/// ```
/// # fn example(connection: vstp::VstpTcpConnection) {
/// let closer = connection.closer();
/// closer.close(); // a `recv` that waits in another thread returns `ConnectionClosed(Local)`
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Closer(Weak<Shared>);

impl Closer {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// Ends it: every blocked call returns `ConnectionClosed(Local)`. Nothing more is sent.
    pub fn close(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.abort(ClosedBy::Local);
        }
    }
}
