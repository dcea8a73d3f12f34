//! What happens on the way, as small values for an event log: who was sent what, what was lost by which
//! rule, what the path is thought to be like.
//!
//! Nothing is written here and no payload is kept. Every peer collects its own events, and the endpoint takes
//! them over after each call; whoever drives it takes them with [`super::Endpoint::take_trace`]. Without
//! [`EndpointConfig::max_trace_count`](super::EndpointConfig::max_trace_count) each place costs a branch.

use super::fields::Fields;
use super::traced::{PathMetrics, TraceEvent, Traced, TracedFrame};
use crate::wire::{Decoded, FrameRef, FrameType, Limits, Trailer, decode};
use std::net::SocketAddr;
use std::time::Instant;

/// Collects the events of one peer, if anything is to be collected.
#[derive(Debug, Default)]
pub(super) struct Trace(Option<Box<Kept<(Instant, TraceEvent)>>>);

#[derive(Debug)]
struct Kept<T> {
    events: Vec<T>,
    most: usize,
    /// Events for which there was no room.
    lost: u64,
    /// What was said of the path last.
    state: Option<&'static str>,
    metrics: Option<PathMetrics>,
}

impl<T> Kept<T> {
    fn new(most: usize) -> Option<Box<Self>> {
        (most > 0).then(|| {
            Box::new(Self {
                events: Vec::new(),
                most,
                lost: 0,
                state: None,
                metrics: None,
            })
        })
    }

    fn push(&mut self, event: T) {
        if self.events.len() < self.most {
            self.events.push(event);
        } else {
            self.lost += 1;
        }
    }
}

impl Trace {
    /// Keeps so many events at the most; none is off.
    #[must_use]
    pub(super) fn new(most: usize) -> Self {
        Self(Kept::new(most))
    }

    /// Whether anything is collected.
    #[must_use]
    pub(super) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// This happened.
    #[inline]
    pub(super) fn note(&mut self, at: Instant, event: TraceEvent) {
        if let Some(kept) = &mut self.0 {
            kept.push((at, event));
        }
    }

    /// The path is in this state; noted where that is new.
    pub(super) fn note_path(&mut self, at: Instant, state: &'static str, metrics: PathMetrics) {
        let Some(kept) = &mut self.0 else {
            return;
        };
        if kept.state != Some(state) {
            let old = kept.state.replace(state);
            kept.push((at, TraceEvent::CongestionState { old, new: state }));
        }
        if kept.metrics != Some(metrics) {
            kept.metrics = Some(metrics);
            kept.push((at, TraceEvent::Metrics(metrics)));
        }
    }

    /// The frames of a datagram that this side has made leave.
    pub(super) fn note_sent(&mut self, at: Instant, datagram: &[u8], trailer: Trailer) {
        if let Some(kept) = &mut self.0 {
            frames(datagram, trailer, |frame| {
                kept.push((at, TraceEvent::FrameSent(frame)));
            });
        }
    }

    /// Takes over what another one has collected.
    pub(super) fn append(&mut self, other: &mut Self) {
        let (Some(kept), Some(other)) = (&mut self.0, &mut other.0) else {
            return;
        };
        kept.lost += std::mem::take(&mut other.lost);
        for event in other.events.drain(..) {
            kept.push(event);
        }
    }
}

/// Collects the events of all peers, if anything is to be collected.
#[derive(Debug)]
pub(super) struct TraceLog(Option<Box<Kept<Traced>>>);

impl TraceLog {
    /// Keeps so many events at the most; none is off.
    #[must_use]
    pub(super) fn new(most: usize) -> Self {
        Self(Kept::new(most))
    }

    /// Takes over what a peer has collected.
    pub(super) fn append(&mut self, peer: SocketAddr, other: &mut Trace) {
        let (Some(kept), Some(other)) = (&mut self.0, &mut other.0) else {
            return;
        };
        kept.lost += std::mem::take(&mut other.lost);
        // Its memory goes with it: a server has many peers, and most of them are quiet.
        for (at, event) in std::mem::take(&mut other.events) {
            kept.push(Traced { at, peer, event });
        }
    }

    /// The frames of a datagram leave, to an address of which nothing is remembered.
    pub(super) fn note_sent(&mut self, at: Instant, peer: SocketAddr, datagram: &[u8]) {
        if let Some(kept) = &mut self.0 {
            frames(datagram, Trailer::Always, |frame| {
                let event = TraceEvent::FrameSent(frame);
                kept.push(Traced { at, peer, event });
            });
        }
    }

    /// A frame arrived whole.
    #[inline]
    pub(super) fn note_received(
        &mut self,
        at: Instant,
        peer: SocketAddr,
        (typ, len): (FrameType, usize),
        fields: &Fields<'_>,
    ) {
        if let Some(kept) = &mut self.0 {
            let event = TraceEvent::FrameReceived(fields.traced(typ, len));
            kept.push(Traced { at, peer, event });
        }
    }

    /// Moves what was collected to the end of `into`; how many events there was no room for.
    pub(super) fn take(&mut self, into: &mut Vec<Traced>) -> u64 {
        self.0.as_mut().map_or(0, |kept| {
            if into.is_empty() {
                std::mem::swap(into, &mut kept.events);
            } else {
                into.append(&mut kept.events);
            }
            std::mem::take(&mut kept.lost)
        })
    }
}

fn frames(datagram: &[u8], trailer: Trailer, mut note: impl FnMut(TracedFrame)) {
    let limits = Limits {
        max_frame_len: datagram.len(),
        ..Limits::default()
    };
    let mut rest = datagram;
    while let Ok(Decoded::Frame(frame, used)) = decode(rest, trailer, &limits) {
        note(describe(frame, used));
        rest = &rest[used..];
        if rest.is_empty() {
            return;
        }
    }
}

fn describe(frame: FrameRef<'_>, len: usize) -> TracedFrame {
    let fields = Fields::read(frame).unwrap_or_default();
    fields.traced(frame.typ, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    #[test]
    fn what_there_is_no_room_for_is_counted_and_the_rest_stays_in_order() {
        let (now, peer) = (clock::now(), SocketAddr::from(([10, 0, 0, 1], 1)));
        let (mut trace, mut log) = (Trace::new(3), TraceLog::new(4));
        let mut told = Vec::new();
        for msg_id in 0..5 {
            trace.note(now, TraceEvent::MessageAcked { msg_id });
        }
        log.append(peer, &mut trace);
        for msg_id in 5..7 {
            trace.note(now, TraceEvent::MessageAcked { msg_id });
        }
        log.append(peer, &mut trace);
        assert_eq!(log.take(&mut told), 3, "two at the peer, one after it");
        let ids: Vec<TraceEvent> = told.iter().map(|traced| traced.event).collect();
        let acked = |msg_id| TraceEvent::MessageAcked { msg_id };
        assert_eq!(ids, [0, 1, 2, 5].map(acked));
        assert_eq!(log.take(&mut told), 0, "told once");
        assert_eq!(told.len(), 4);
    }

    #[test]
    fn what_is_off_keeps_nothing() {
        let mut trace = Trace::new(0);
        let metrics = PathMetrics {
            congestion_window: 1,
            bytes_in_flight: 1,
            pacing_rate: 1,
        };
        trace.note(clock::now(), TraceEvent::TimedOut { in_a_row: 1 });
        trace.note_path(clock::now(), "startup", metrics);
        assert!(!trace.is_on() && trace.0.is_none());
    }

    #[test]
    fn the_path_is_noted_when_it_changes() {
        let mut trace = Trace::new(10);
        let metrics = |window| PathMetrics {
            congestion_window: window,
            bytes_in_flight: 0,
            pacing_rate: 7,
        };
        for (state, window) in [("startup", 1), ("startup", 1), ("drain", 1), ("drain", 2)] {
            trace.note_path(clock::now(), state, metrics(window));
        }
        let events = trace.0.expect("it is on").events;
        let events: Vec<TraceEvent> = events.into_iter().map(|(_, event)| event).collect();
        assert_eq!(
            events,
            [
                TraceEvent::CongestionState {
                    old: None,
                    new: "startup"
                },
                TraceEvent::Metrics(metrics(1)),
                TraceEvent::CongestionState {
                    old: Some("startup"),
                    new: "drain"
                },
                TraceEvent::Metrics(metrics(2)),
            ]
        );
    }
}
