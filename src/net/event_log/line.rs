//! Lines of JSON, without a library: their strings are words of this crate and addresses, so nothing in them
//! needs to be escaped.

use crate::proto::datagram::{LossRule, TraceEvent, TraceItem, TracedFrame};
use crate::proto::tally::{KINDS, kind};
use crate::wire::FrameType;
use std::fmt::{Display, Write};
use std::time::{Duration, Instant};

/// The lines that wait, up to a length.
pub(super) struct Lines<'a> {
    out: &'a mut String,
    began: Instant,
    max_len: usize,
    dropped: u64,
}

impl<'a> Lines<'a> {
    pub(super) const fn new(out: &'a mut String, began: Instant, max_len: usize) -> Self {
        Self {
            out,
            began,
            max_len,
            dropped: 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.out.len() < self.max_len
    }

    /// Lines for which there was no room.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds a line; `group` says which connection it is about.
    pub(super) fn add(
        &mut self,
        at: Instant,
        name: &'static str,
        group: &str,
        data: impl FnOnce(&mut Data<'_>),
    ) {
        if !self.has_room() {
            self.dropped += 1;
            return;
        }
        let out = &mut *self.out;
        let time = at.saturating_duration_since(self.began);
        put(
            out,
            format_args!("{{\"time\":{},\"name\":\"vstp:{name}\"", Seconds(time)),
        );
        if !group.is_empty() {
            put(out, format_args!(",\"group_id\":\"{group}\""));
        }
        out.push_str(",\"data\":{");
        data(&mut Data { out, any: false });
        out.push_str("}}\n");
    }

    /// Events are in no line.
    pub(super) fn lost(&mut self, at: Instant, count: u64) {
        self.add(at, "events_lost", "", |data| data.number("count", count));
    }

    /// An event of the datagram protocol.
    pub(super) fn event(&mut self, at: Instant, group: &str, event: &TraceEvent) {
        match event {
            TraceEvent::FrameSent(frame) => self.frame(at, "frame_sent", group, frame),
            TraceEvent::FrameReceived(frame) => self.frame(at, "frame_received", group, frame),
            TraceEvent::MessageAcked { msg_id } => self.add(at, "frames_acked", group, |data| {
                data.number("msg_id", msg_id);
            }),
            TraceEvent::FragmentsAcked { frag_id, count } => {
                self.add(at, "frames_acked", group, |data| {
                    data.number("frag_id", frag_id);
                    data.number("count", count);
                });
            }
            TraceEvent::Lost { item, len, rule } => self.add(at, "frame_lost", group, |data| {
                data.item(item);
                data.number("length", len);
                data.word("trigger", trigger(*rule));
            }),
            TraceEvent::Retransmitted { item } => {
                self.add(at, "frame_retransmitted", group, |data| data.item(item));
            }
            TraceEvent::TimedOut { in_a_row } => self.add(at, "timeout_expired", group, |data| {
                data.number("timeout_count", in_a_row);
            }),
            TraceEvent::Probed { item } => {
                self.add(at, "probe_sent", group, |data| data.item(item));
            }
            TraceEvent::RoundTrip { latest, smoothed } => {
                self.add(at, "rtt_updated", group, |data| {
                    data.number("latest_rtt", Seconds(*latest));
                    data.number("smoothed_rtt", Seconds(*smoothed));
                });
            }
            TraceEvent::CongestionState { old, new } => {
                self.add(at, "congestion_state_updated", group, |data| {
                    if let Some(old) = old {
                        data.word("old", old);
                    }
                    data.word("new", new);
                });
            }
            TraceEvent::Metrics(metrics) => self.add(at, "metrics_updated", group, |data| {
                data.number("congestion_window", metrics.congestion_window);
                data.number("bytes_in_flight", metrics.bytes_in_flight);
                data.number("pacing_rate", metrics.pacing_rate);
            }),
        }
    }

    fn frame(&mut self, at: Instant, name: &'static str, group: &str, frame: &TracedFrame) {
        self.add(at, name, group, |data| {
            data.frame_type(frame.typ);
            data.number("length", frame.len);
            for (key, value) in [("msg_id", frame.msg_id), ("frag_id", frame.frag_id)] {
                if let Some(value) = value {
                    data.number(key, value);
                }
            }
            if let Some((index, total)) = frame.place {
                data.number("frag_index", index);
                data.number("frag_total", total);
            }
        });
    }
}

/// The members of `data`.
pub(super) struct Data<'a> {
    out: &'a mut String,
    any: bool,
}

impl Data<'_> {
    fn key(&mut self, key: &'static str) {
        let comma = if std::mem::replace(&mut self.any, true) {
            ","
        } else {
            ""
        };
        put(self.out, format_args!("{comma}\"{key}\":"));
    }

    pub(super) fn number(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        put(self.out, format_args!("{value}"));
    }

    /// A word of this crate.
    pub(super) fn word(&mut self, key: &'static str, value: &'static str) {
        self.key(key);
        put(self.out, format_args!("\"{value}\""));
    }

    pub(super) fn frame_type(&mut self, typ: FrameType) {
        self.word("frame_type", KINDS[kind(typ)]);
        if let FrameType::Custom(code) = typ {
            self.number("type_code", code);
        }
    }

    fn item(&mut self, item: &TraceItem) {
        match item {
            TraceItem::Message { msg_id } => self.number("msg_id", msg_id),
            TraceItem::Fragment { frag_id, index } => {
                self.number("frag_id", frag_id);
                self.number("frag_index", index);
            }
        }
    }
}

/// The words of qlog where it has them.
const fn trigger(rule: LossRule) -> &'static str {
    match rule {
        LossRule::Reorder => "reordering_threshold",
        LossRule::Time => "time_threshold",
        LossRule::Timeout => "timeout_expired",
    }
}

/// The first line.
pub(super) fn began(lines: &mut Lines<'_>) {
    let began = lines.began;
    lines.add(began, "log_started", "", |data| {
        data.word("version", env!("CARGO_PKG_VERSION"));
    });
}

/// A duration in seconds, to the microsecond.
pub(super) struct Seconds(pub(super) Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a string takes what it is given");
}
