//! [`ConnectionLog`]: the events of one TCP connection.

use super::EventLog;
use super::line::{Lines, Seconds};
use crate::error::ClosedBy;
use crate::net::clock;
use crate::proto::tally::{KINDS, Tally};
use crate::wire::FrameType;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct ConnectionLog {
    log: EventLog,
    group: String,
    /// When the oldest PING left that is not answered. Held to set or take it.
    pinged_at: Mutex<Option<Instant>>,
    has_ended: AtomicBool,
}

impl ConnectionLog {
    pub(crate) fn new(
        log: EventLog,
        (local, peer): (SocketAddr, SocketAddr),
        is_tls: bool,
    ) -> Self {
        let this = Self {
            log,
            group: format!("tcp/{local}/{peer}"),
            pinged_at: Mutex::new(None),
            has_ended: AtomicBool::new(false),
        };
        this.add(|lines, group| {
            lines.add(clock::now(), "connection_started", group, |data| {
                data.word("transport", if is_tls { "tls" } else { "tcp" });
            });
        });
        this
    }

    fn add(&self, write: impl FnOnce(&mut Lines<'_>, &str)) {
        self.log.add(0, |lines| write(lines, &self.group));
        self.log.write_out(false);
    }

    fn frame(&self, at: Instant, name: &'static str, typ: FrameType, len: usize) {
        self.add(|lines, group| {
            lines.add(at, name, group, |data| {
                data.frame_type(typ);
                data.number("length", len);
            });
        });
    }

    /// PING is about to leave: before that, so that its answer cannot be faster.
    pub(crate) fn pinging(&self) {
        let mut pinged_at = self.pinged();
        pinged_at.get_or_insert_with(clock::now);
    }

    fn pinged(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.pinged_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The system has taken a frame.
    pub(crate) fn sent(&self, typ: FrameType, len: usize) {
        self.frame(clock::now(), "frame_sent", typ, len);
    }

    /// The system has taken frames that were written together: a line for each type.
    pub(crate) fn sent_all(&self, frames: &Tally) {
        let now = clock::now();
        self.add(|lines, group| {
            for (place, kind) in KINDS.into_iter().enumerate() {
                let count = frames.frames[place];
                if count > 0 {
                    lines.add(now, "frame_sent", group, |data| {
                        data.word("frame_type", kind);
                        data.number("length", frames.bytes[place]);
                        data.number("count", count);
                    });
                }
            }
        });
    }

    /// A frame has arrived.
    pub(crate) fn received(&self, typ: FrameType, len: usize) {
        let now = clock::now();
        self.frame(now, "frame_received", typ, len);
        if typ != FrameType::Pong {
            return;
        }
        let pinged_at = self.pinged().take();
        if let Some(pinged_at) = pinged_at {
            let rtt = now.saturating_duration_since(pinged_at);
            self.add(|lines, group| {
                lines.add(now, "rtt_updated", group, |data| {
                    data.number("latest_rtt", Seconds(rtt));
                });
            });
        }
    }

    /// The connection is over; the first reason counts.
    pub(crate) fn ended(&self, by: ClosedBy, reason: Option<&'static str>) {
        if self.has_ended.swap(true, Ordering::Relaxed) {
            return;
        }
        self.add(|lines, group| {
            lines.add(clock::now(), "connection_closed", group, |data| {
                data.word("trigger", trigger(by));
                if let ClosedBy::Peer(Some(code)) = by {
                    data.word("code", code.as_str());
                }
                if let Some(reason) = reason {
                    data.word("reason", reason);
                }
            });
        });
        self.log.write_out(true);
    }
}

const fn trigger(by: ClosedBy) -> &'static str {
    match by {
        ClosedBy::Local => "local",
        ClosedBy::Peer(_) => "peer_bye",
        ClosedBy::PeerWithoutBye => "peer_without_bye",
        ClosedBy::Truncated => "truncated",
        ClosedBy::Reset => "reset",
        ClosedBy::Error => "error",
    }
}
