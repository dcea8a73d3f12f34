//! Fragments to frames, within budgets (spec 4.4, 4.9).
//!
//! In-order fragments are appended where the frame's payload will stay, and summed while they are in
//! the processor's cache; only those that come early are kept apart. So memory follows the bytes that
//! arrived, and a frame is ready when its last byte is.

use super::config::MAX_FRAGMENT_COUNT;
use super::fields::FragmentFields;
use super::ranges::RangeSet;
use super::received::EndedSets;
use super::stats::DropReason;
use crate::wire::crc::Crc32;
use crate::wire::{FixedHeader, Flags, Frame, HeadersRef, Limits, Trailer};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The least that a fragment is charged (bytes): what it costs beside its data.
const MIN_CHARGE: usize = 256;

/// What all peers of an endpoint use together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    /// Bytes charged.
    pub charged: usize,
    /// Sets.
    pub sets: usize,
}

/// The inner frame, as far as it is there without a gap.
#[derive(Debug, Default)]
struct Assembly {
    /// Fixed header and header section.
    head: Vec<u8>,
    fixed: Option<FixedHeader>,
    payload: Vec<u8>,
    trailer: Vec<u8>,
    crc: Crc32,
}

impl Assembly {
    /// Appends the next bytes; `None` when they cannot be the frame that was announced.
    fn push(&mut self, mut bytes: &[u8], inner_len: usize, limits: &Limits) -> Option<()> {
        if self.fixed.is_none() {
            let missing = FixedHeader::LEN - self.head.len();
            self.take_head(&mut bytes, missing);
            self.fixed = FixedHeader::parse(&self.head, Trailer::Always, limits).ok()?;
            let Some(fixed) = &self.fixed else {
                return Some(());
            };
            // Exactly one frame, and no fragments inside fragments.
            if fixed.frame_len != inner_len || fixed.flags.contains(Flags::FRAG) {
                return None;
            }
        }
        let fixed = self.fixed?;
        let missing = fixed.head_len() - self.head.len();
        self.take_head(&mut bytes, missing);
        let missing = fixed.payload_len - self.payload.len();
        let (payload, trailer) = bytes.split_at(missing.min(bytes.len()));
        self.crc.update(payload);
        self.payload.extend_from_slice(payload);
        self.trailer.extend_from_slice(trailer);
        Some(())
    }

    fn take_head(&mut self, bytes: &mut &[u8], missing: usize) {
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.crc.update(head);
        self.head.extend_from_slice(head);
        *bytes = rest;
    }

    /// The frame, once all of it is there and right.
    fn finish(&mut self, limits: &Limits) -> Option<Frame> {
        let fixed = self.fixed?;
        let crc = std::mem::take(&mut self.crc).finish();
        if self.trailer != crc.to_be_bytes() {
            return None;
        }
        let section = &self.head[FixedHeader::LEN..];
        let headers = HeadersRef::parse(section, limits.max_header_count).ok()?;
        Some(Frame {
            typ: fixed.typ,
            flags: fixed.flags,
            headers: headers.to_owned(),
            payload: std::mem::take(&mut self.payload),
        })
    }
}

/// One set of fragments on its way to a frame.
#[derive(Debug)]
pub(super) struct Set {
    total: u64,
    inner_len: usize,
    chunk_len: usize,
    pub wants_ack: bool,
    /// Fragments that are there.
    pub received: RangeSet,
    assembly: Assembly,
    /// Fragments below are in `assembly`.
    assembled: u64,
    early: BTreeMap<u64, Box<[u8]>>,
    charged: usize,
    /// Its end is counted from here.
    life_from: Instant,
    /// New fragments that were not acknowledged, and when they are at the latest.
    pub unacked: u32,
    /// When an acknowledgement goes out at the latest.
    pub ack_at: Option<Instant>,
    /// Bytes of the datagram that the next acknowledgement answers.
    pub(super) answer_len: usize,
    /// An acknowledgement is due.
    pub ack_now: bool,
    /// Complete, waiting for room in the application's queue.
    whole: Option<Frame>,
}

/// What a fragment did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// It is new; whether it left a gap before it, and whether the set is complete.
    New {
        /// Fragments before it are missing that were not missing before.
        gap: bool,
        /// The frame can be taken.
        complete: bool,
    },
    /// It was there; whether the set is complete and waits to be taken.
    Duplicate {
        /// The frame can be taken.
        complete: bool,
    },
    /// Dropped, and so is the set if it turned out to be no frame.
    Dropped(DropReason),
}

/// The sets of one peer.
#[derive(Debug)]
pub(super) struct Reassembly {
    sets: BTreeMap<u64, Set>,
    ended: EndedSets,
    charged: usize,
    budget_len: usize,
    max_sets: usize,
    max_total: u64,
    life: Duration,
    /// Each new fragment prolongs the set's life.
    prolong: bool,
    limits: Limits,
}

impl Reassembly {
    /// No sets yet. `prolong`: a set lives from its last new fragment, not from its first.
    #[must_use]
    pub(super) fn new(
        (budget_len, max_sets, max_total): (usize, usize, u64),
        (life, prolong): (Duration, bool),
        max_frame_len: usize,
    ) -> Self {
        Self {
            sets: BTreeMap::new(),
            ended: EndedSets::default(),
            charged: 0,
            budget_len,
            max_sets,
            max_total: max_total.min(MAX_FRAGMENT_COUNT),
            life,
            prolong,
            limits: Limits {
                max_frame_len,
                ..Limits::default()
            },
        }
    }

    /// Sets in reassembly.
    #[must_use]
    pub(super) fn set_count(&self) -> usize {
        self.sets.len()
    }

    /// Bytes charged.
    #[must_use]
    pub(super) const fn charged(&self) -> usize {
        self.charged
    }

    /// Bytes that this peer may still send.
    #[must_use]
    pub(super) const fn window(&self) -> usize {
        self.budget_len - self.charged
    }

    /// What became of a set that ended, see [`EndedSets::get`].
    #[must_use]
    pub(super) fn ended(&self, frag_id: u64) -> Option<Option<u64>> {
        self.ended.get(frag_id)
    }

    /// The set with this number.
    pub(super) fn set_mut(&mut self, frag_id: u64) -> Option<&mut Set> {
        self.sets.get_mut(&frag_id)
    }

    /// The sets to acknowledge now: none until one is due or something else is acknowledged, then all with
    /// something new. What is told of one set makes earlier fragments of another look lost.
    pub(super) fn due(
        &mut self,
        now: Instant,
        at_once: bool,
    ) -> impl Iterator<Item = (u64, &mut Set)> {
        let is_due =
            |set: &Set| set.wants_ack && (set.ack_now || set.ack_at.is_some_and(|at| at <= now));
        let any = at_once || self.sets.values().any(is_due);
        let has_news = move |set: &Set| set.wants_ack && (set.ack_now || set.ack_at.is_some());
        self.sets
            .iter_mut()
            .filter(move |(_, set)| any && has_news(set))
            .map(|(id, set)| (*id, set))
    }

    /// Whether the fragment may be taken, as far as this peer's limits go: the bytes that it is charged,
    /// and whether it begins a set.
    ///
    /// # Errors
    /// Why it is dropped.
    pub(super) fn admit(
        &self,
        fields: &FragmentFields,
        len: usize,
    ) -> Result<(usize, bool), DropReason> {
        let chunk_len = fields.chunk_len(len).ok_or(DropReason::BadFragment)?;
        if fields.total > self.max_total || fields.inner_len > self.limits.max_frame_len as u64 {
            return Err(DropReason::BadFragment);
        }
        let charge = len.max(MIN_CHARGE);
        match self.sets.get(&fields.frag_id) {
            Some(set) => {
                let agrees = set.total == fields.total
                    && set.inner_len as u64 == fields.inner_len
                    && set.chunk_len == chunk_len
                    && set.wants_ack == fields.wants_ack;
                if !agrees {
                    return Err(DropReason::BadFragment);
                }
                if set.received.contains(fields.index) {
                    return Ok((0, false));
                }
            }
            None if self.sets.len() >= self.max_sets => return Err(DropReason::Budget),
            None => {}
        }
        if self.charged + charge > self.budget_len {
            return Err(DropReason::Budget);
        }
        Ok((charge, !self.sets.contains_key(&fields.frag_id)))
    }

    /// Takes a fragment that was [admitted](Self::admit).
    pub(super) fn insert(
        &mut self,
        now: Instant,
        fields: &FragmentFields,
        bytes: &[u8],
        totals: &mut Totals,
    ) -> Inserted {
        let Some(chunk_len) = fields.chunk_len(bytes.len()) else {
            return Inserted::Dropped(DropReason::BadFragment);
        };
        let set = self.sets.entry(fields.frag_id).or_insert_with(|| {
            totals.sets += 1;
            Set {
                total: fields.total,
                inner_len: fields.inner_len as usize,
                chunk_len,
                wants_ack: fields.wants_ack,
                received: RangeSet::default(),
                assembly: Assembly::default(),
                assembled: 0,
                early: BTreeMap::new(),
                charged: 0,
                life_from: now,
                unacked: 0,
                ack_at: None,
                answer_len: 0,
                ack_now: false,
                whole: None,
            }
        });
        let end_before = set.received.end();
        if !set.received.insert(fields.index) {
            return Inserted::Duplicate {
                complete: set.whole.is_some(),
            };
        }
        let charge = bytes.len().max(MIN_CHARGE);
        set.charged += charge;
        self.charged += charge;
        totals.charged += charge;
        if self.prolong {
            set.life_from = now;
        }
        let gap = fields.index > end_before;
        if set.take(fields.index, bytes, &self.limits).is_none() {
            self.end(fields.frag_id, None, totals);
            return Inserted::Dropped(DropReason::BadFragment);
        }
        let complete = set.assembled == set.total;
        if complete {
            set.whole = set.assembly.finish(&self.limits);
            let agrees = set.whole.as_ref().is_some_and(|frame| {
                frame.flags.contains(Flags::REQ_ACK) == set.wants_ack && frame.typ.is_message()
            });
            if !agrees {
                self.end(fields.frag_id, None, totals);
                return Inserted::Dropped(DropReason::BadFragment);
            }
        }
        Inserted::New { gap, complete }
    }

    /// The complete frame, to look at.
    #[must_use]
    pub(super) fn whole(&self, frag_id: u64) -> Option<&Frame> {
        self.sets.get(&frag_id)?.whole.as_ref()
    }

    /// Takes the complete frame; the set has ended with it.
    pub(super) fn take(
        &mut self,
        frag_id: u64,
        msg_id: Option<u64>,
        totals: &mut Totals,
    ) -> Option<Frame> {
        let frame = self.sets.get_mut(&frag_id)?.whole.take()?;
        self.end(frag_id, msg_id, totals);
        Some(frame)
    }

    fn end(&mut self, frag_id: u64, delivered: Option<u64>, totals: &mut Totals) {
        if let Some(set) = self.sets.remove(&frag_id) {
            self.charged -= set.charged;
            totals.charged -= set.charged;
            totals.sets -= 1;
            self.ended.insert(frag_id, delivered);
        }
    }

    /// Gives up the set that has waited longest among those without acknowledgement; whether there was
    /// one beside `but`.
    pub(super) fn evict_unpromised(&mut self, but: u64, totals: &mut Totals) -> bool {
        let sets = self.sets.iter();
        let oldest = sets
            .filter(|(id, set)| **id != but && !set.wants_ack)
            .min_by_key(|(_, set)| set.life_from)
            .map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.end(oldest, None, totals);
        }
        oldest.is_some()
    }

    /// Gives up the set that has waited longest; whether there was one.
    pub(super) fn evict_oldest(&mut self, totals: &mut Totals) -> bool {
        let oldest = self
            .sets
            .iter()
            .min_by_key(|(_, set)| set.life_from)
            .map(|(id, _)| *id);
        let Some(oldest) = oldest else {
            return false;
        };
        self.end(oldest, None, totals);
        true
    }

    /// Gives up everything.
    pub(super) fn clear(&mut self, totals: &mut Totals) {
        while self.evict_oldest(totals) {}
    }

    /// Gives up the sets that are over their time; how many.
    pub(super) fn expire(&mut self, now: Instant, totals: &mut Totals) -> u64 {
        let life = self.life;
        let over = |set: &Set| now.saturating_duration_since(set.life_from) >= life;
        let ended: Vec<u64> = self
            .sets
            .iter()
            .filter(|(_, set)| over(set))
            .map(|(id, _)| *id)
            .collect();
        for frag_id in &ended {
            self.end(*frag_id, None, totals);
        }
        ended.len() as u64
    }

    /// When a set is over its time or its acknowledgement is due.
    #[must_use]
    pub(super) fn deadline(&self) -> Option<Instant> {
        let of = |set: &Set| {
            let end = set.life_from.checked_add(self.life);
            let ack = if set.ack_now {
                Some(set.life_from)
            } else {
                set.ack_at.filter(|_| set.wants_ack)
            };
            end.into_iter().chain(ack).min()
        };
        self.sets.values().filter_map(of).min()
    }
}

impl Set {
    fn take(&mut self, index: u64, bytes: &[u8], limits: &Limits) -> Option<()> {
        if index != self.assembled {
            self.early.insert(index, bytes.into());
            return Some(());
        }
        self.assembly.push(bytes, self.inner_len, limits)?;
        self.assembled += 1;
        while let Some(bytes) = self.early.remove(&self.assembled) {
            self.assembly.push(&bytes, self.inner_len, limits)?;
            self.assembled += 1;
        }
        Some(())
    }
}
