//! Acknowledgements that arrive: what they name is read and judged first, and then all of it counts, or none
//! (spec 4.5).
//!
//! Driven by the endpoint, which knows besides which numbers it has given at all.

use super::super::ack;
use super::super::config::MAX_FRAGMENT_COUNT;
use super::super::fields::Fields;
use super::super::reliable::Reliable;
use super::super::stats::DropReason;
use super::Peer;
use crate::wire::{Flags, FrameRef};
use std::cell::Cell;
use std::ops::Range;
use std::time::Instant;

/// What an acknowledgement names; its form is right.
#[derive(Debug)]
pub(crate) enum Acked {
    /// Fragments of a set.
    Fragments {
        /// The set.
        frag_id: u64,
        /// The fragments, by index; none, if it only says the window.
        ranges: Vec<Range<u64>>,
        /// What the receiver still takes (bytes).
        window: Option<u64>,
    },
    /// Messages, by number.
    Messages(Vec<Range<u64>>),
}

impl Acked {
    /// The list of what it names, empty.
    pub(crate) fn into_list(self) -> Vec<Range<u64>> {
        let (Self::Fragments { mut ranges, .. } | Self::Messages(mut ranges)) = self;
        ranges.clear();
        // A peer that names more at once shall not make it stay that large.
        ranges.shrink_to(1024);
        ranges
    }

    /// Whether it names something that waits for its first sending.
    fn has_unsent(&self, sends: &Reliable) -> bool {
        match self {
            Self::Fragments {
                frag_id, ranges, ..
            } => sends.has_unsent(*frag_id, ranges),
            Self::Messages(ids) => ids.iter().cloned().flatten().any(|id| sends.is_unsent(id)),
        }
    }
}

impl Peer {
    /// Reads an ACK. `ids_left`: messages that its datagram may still name. `ranges`: an empty list, to be filled.
    ///
    /// # Errors
    /// `Invalid`: it breaks a rule.
    pub(crate) fn read_ack(
        &self,
        frame: FrameRef<'_>,
        fields: &Fields<'_>,
        ids_left: &Cell<u64>,
        mut ranges: Vec<Range<u64>>,
    ) -> Result<Acked, DropReason> {
        if frame.flags.contains(Flags::FRAG) {
            let frag_id = fields.frag_id.ok_or(DropReason::Invalid)?;
            ack::decode(frame.payload, MAX_FRAGMENT_COUNT, &mut ranges)
                .ok_or(DropReason::Invalid)?;
            let window = fields.window;
            return Ok(Acked::Fragments {
                frag_id,
                ranges,
                window,
            });
        }
        let msg_id = fields.msg_id.ok_or(DropReason::Invalid)?;
        let has_ranges = self.link.as_ref().is_some_and(|link| link.ack_ranges);
        if has_ranges && !frame.payload.is_empty() {
            ack::decode(frame.payload, u64::MAX - msg_id, &mut ranges)
                .ok_or(DropReason::Invalid)?;
            if ranges.first().is_none_or(|range| range.start != 0) {
                return Err(DropReason::Invalid);
            }
            for range in &mut ranges {
                *range = msg_id + range.start..msg_id + range.end;
            }
        } else {
            ranges.push(msg_id..msg_id.saturating_add(1));
        }
        let lens = ranges.iter().map(|range| range.end - range.start);
        let count = lens.fold(0_u64, u64::saturating_add);
        let left = ids_left.get().checked_sub(count);
        ids_left.set(left.ok_or(DropReason::Invalid)?);
        Ok(Acked::Messages(ranges))
    }

    /// Whether an ACK names what was never sent. `given`: the numbers that were given to messages and to sets.
    pub(crate) fn was_never_sent(&self, acked: &Acked, [messages, sets]: [Range<u64>; 2]) -> bool {
        let is_given = match acked {
            Acked::Fragments { frag_id, .. } => sets.contains(frag_id),
            Acked::Messages(ids) => ids
                .iter()
                .all(|ids| messages.start <= ids.start && ids.end <= messages.end),
        };
        !is_given || self.sends().is_some_and(|sends| acked.has_unsent(sends))
    }

    /// What it names has arrived.
    ///
    /// # Errors
    /// `Unexpected`: nobody waits for any of that.
    pub(crate) fn on_ack(&mut self, now: Instant, acked: &Acked) -> Result<(), DropReason> {
        let sends = self.sends_mut().ok_or(DropReason::Unexpected)?;
        let known = match acked {
            Acked::Fragments {
                frag_id,
                ranges,
                window,
            } => sends.on_fragments_acked(now, *frag_id, ranges, *window),
            Acked::Messages(ids) => {
                let mut known = false;
                for id in ids.iter().cloned().flatten() {
                    known |= sends.on_message_acked(now, id);
                }
                known
            }
        };
        known.then_some(()).ok_or(DropReason::Unexpected)
    }
}
