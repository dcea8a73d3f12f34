//! [`Meter`]: the [`Metrics`] of a server, client or endpoint, and the connections that count for it.
//!
//! What happens with every frame is counted where it happens, without an instruction that other threads could
//! wait for. Whoever looks asks those places to hand over what is new; a connection that ends does so by
//! itself.

use crate::metrics::{Family, Metrics, Snapshot};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A place where something is counted: a connection, or a socket for datagrams.
pub(crate) trait Source: Debug + Send + Sync {
    /// Adds what was counted since the last call.
    fn fold(&self, into: &Metrics);
}

/// Reads the numbers of a server, client or endpoint. Clones read the same ones.
///
/// Each server, client and UDP socket has one of its own. Where its configuration gives one, its numbers are
/// added up there as well; with [`Meter::off`] nothing is counted.
///
/// # Example
/// ```
/// use vstp::{Frame, VstpTcpClient, VstpTcpServer};
/// let server = VstpTcpServer::bind_plain("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let handle = server.spawn(|_: &vstp::serve::Session, frame: Frame| frame)?;
/// let mut client = VstpTcpClient::connect_plain(addr)?;
/// client.send(&Frame::data("hello"))?;
/// client.recv()?;
///
/// let numbers = handle.meter().snapshot();
/// let data = [("direction", "received"), ("type", "data")];
/// assert_eq!(numbers.value("vstp_frames_total", &data), Some(1));
/// println!("{}", numbers.render_prometheus());
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Meter {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    metrics: Arc<Metrics>,
    /// Where these numbers are added up with others.
    parent: Option<Arc<Self>>,
    /// What has gone there, once something has. Held to hand over what is new; nothing is taken inside it.
    handed: Mutex<Option<Box<Snapshot>>>,
    /// Those that are counted at. Held to copy or clean the list; nothing is taken inside it.
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    list: Vec<Weak<dyn Source>>,
    /// The length at which those that have ended are taken out again.
    clean_at: usize,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter {
    /// With all numbers at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Some(Arc::default()),
        }
    }

    /// Counts nothing, and costs nothing. [`ConnectionStats`](super::tcp::ConnectionStats) stay at zero, too.
    #[must_use]
    pub const fn off() -> Self {
        Self { inner: None }
    }

    /// One whose numbers are added up here, now and when it ends.
    pub(crate) fn child(&self) -> Self {
        let Some(inner) = &self.inner else {
            return Self::off();
        };
        let mut child = Inner::default();
        child.parent = Some(Arc::clone(inner));
        let child = Arc::new(child);
        let source: Weak<dyn Source> = Arc::<Inner>::downgrade(&child);
        self.attach(source);
        Self { inner: Some(child) }
    }

    /// Whether both read the same numbers.
    #[cfg(all(feature = "tls", feature = "json"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.inner, &other.inner) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether anything is counted.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.refresh();
        self.inner
            .as_ref()
            .map_or_else(Snapshot::default, |inner| inner.metrics.snapshot())
    }

    /// The numbers now as text; see [`Snapshot::render_prometheus`].
    #[must_use]
    pub fn render_prometheus(&self) -> String {
        self.snapshot().render_prometheus()
    }

    /// Has everybody hand over what is new.
    pub(crate) fn refresh(&self) {
        if let Some(inner) = &self.inner {
            inner.refresh();
        }
    }

    /// Counts from now on what this one counts.
    pub(crate) fn attach(&self, source: Weak<dyn Source>) {
        let Some(inner) = &self.inner else { return };
        let mut sources = inner.lock();
        if sources.list.len() >= sources.clean_at {
            sources.list.retain(|source| source.strong_count() > 0);
            sources.clean_at = 2 * sources.list.len() + 16;
        }
        sources.list.push(source);
    }

    /// Where events are added; apart from everybody if nothing is counted.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        self.inner
            .as_ref()
            .map_or_else(Arc::default, |inner| Arc::clone(&inner.metrics))
    }

    pub(crate) fn add(&self, family: Family, place: usize) {
        if let Some(inner) = &self.inner {
            inner.metrics.add(family, place, 1);
        }
    }

    pub(crate) fn time(&self, family: Family, time: std::time::Duration) {
        if let Some(inner) = &self.inner {
            inner.metrics.time(family, time);
        }
    }
}

impl Inner {
    fn refresh(&self) {
        let mut live = Vec::new();
        let mut sources = self.lock();
        sources.list.retain(|source| {
            let source = source.upgrade();
            let is_live = source.is_some();
            live.extend(source);
            is_live
        });
        drop(sources);
        // Without the lock: a source may be dropped here, and has locks of its own.
        for source in live {
            source.fold(&self.metrics);
        }
    }

    fn hand_over(&self, into: &Metrics, is_over: bool) {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let last = handed.get_or_insert_default();
        let now = self.metrics.snapshot();
        let now = if is_over { now.without_gauges() } else { now };
        into.add_since(&now, last);
        **last = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Inner {
    fn fold(&self, into: &Metrics) {
        self.refresh();
        self.hand_over(into, false);
    }
}

impl Drop for Inner {
    /// Everybody who counted here has ended, or would have kept it.
    fn drop(&mut self) {
        if let Some(parent) = self.parent.take() {
            self.hand_over(&parent.metrics, true);
        }
    }
}
