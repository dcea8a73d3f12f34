//! What is resent until it is acknowledged: a message in one datagram, or a set of fragments.

use super::super::emit::{self, Envelope};
use super::super::fragment::{Cut, Inner};
use super::super::proof::Proof;
use super::super::ranges::RangeSet;
use crate::wire::{Frame, Limits};
use std::time::Instant;

/// A message in the form in which it leaves.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// In one datagram.
    Message(Message),
    /// In several, with the number of the set.
    Set(u64, Box<Set>),
}

/// A message that fits one datagram.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) frame: Frame,
    pub(crate) use_crc: bool,
    /// Bytes of its datagram.
    pub(crate) len: usize,
    /// Of the last datagram that carried it, in the log.
    pub(crate) number: Option<u64>,
    pub(crate) send_count: u32,
    /// When it was sent first: from then on it must be acknowledged in time.
    pub(crate) progress_at: Option<Instant>,
    /// Its place among those that were begun.
    pub(crate) place: Option<u64>,
}

impl Message {
    /// `len` are the bytes of its datagram.
    #[must_use]
    pub(crate) const fn new(frame: Frame, use_crc: bool, len: usize) -> Self {
        Self {
            frame,
            use_crc,
            len,
            number: None,
            send_count: 0,
            progress_at: None,
            place: None,
        }
    }

    pub(crate) fn write(&self, msg_id: u64, proof: Proof, limits: &Limits, out: &mut Vec<u8>) {
        let envelope = Envelope {
            msg_id,
            wants_ack: true,
            use_crc: self.use_crc,
            proof,
        };
        let written = envelope.write(self.frame.as_ref(), limits, out);
        debug_assert!(written.is_ok(), "it was checked when it was queued");
    }

    /// It left in datagram `number`; whether for the first time.
    pub(crate) fn sent(&mut self, now: Instant, number: u64) -> bool {
        self.number = Some(number);
        self.send_count += 1;
        self.progress_at.get_or_insert(now);
        self.send_count == 1
    }
}

/// In a fragment's log number: it was sent more than once.
const AGAIN: u64 = 1 << 63;

/// A message in fragments.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) msg_id: u64,
    pub(crate) inner: Inner,
    pub(crate) cut: Cut,
    /// Fragments below were sent.
    pub(crate) next: u64,
    /// Of the last datagram that carried each of them, in the log.
    numbers: Vec<u64>,
    pub(crate) acked: RangeSet,
    pub(crate) acked_len: u64,
    /// When the last fragment was acknowledged, or the first was sent.
    pub(crate) progress_at: Option<Instant>,
    /// Its place among those that were begun.
    pub(crate) place: Option<u64>,
}

impl Set {
    /// A message cut so.
    #[must_use]
    pub(crate) fn new(msg_id: u64, inner: Inner, cut: Cut) -> Self {
        Self {
            msg_id,
            inner,
            cut,
            next: 0,
            numbers: Vec::new(),
            acked: RangeSet::default(),
            acked_len: 0,
            progress_at: None,
            place: None,
        }
    }

    pub(crate) fn fragment_len(&self, index: u64) -> u64 {
        self.cut.range(index, self.inner.len()).len() as u64
    }

    pub(crate) fn datagram_len(&self, frag_id: u64, index: u64, proof: &Proof) -> usize {
        emit::fragment_len(&self.inner, &self.cut, (frag_id, index), proof)
    }

    /// The number of the last datagram that carried a fragment which was sent.
    pub(crate) fn number(&self, index: u64) -> u64 {
        self.numbers[index as usize] & !AGAIN
    }

    /// The same for one that may not have been sent.
    pub(crate) fn number_if_sent(&self, index: u64) -> Option<u64> {
        let number = self.numbers.get(usize::try_from(index).ok()?)?;
        Some(number & !AGAIN)
    }

    pub(crate) fn was_sent_once(&self, index: u64) -> bool {
        self.numbers[index as usize] & AGAIN == 0
    }

    pub(crate) fn write(&mut self, frag_id: u64, index: u64, proof: &Proof, out: &mut Vec<u8>) {
        let number = (frag_id, index);
        emit::fragment(&mut self.inner, &self.cut, number, true, proof, out);
    }

    /// A fragment left in datagram `number`; whether it is the set's first.
    pub(crate) fn sent(&mut self, now: Instant, index: u64, number: u64) -> bool {
        match self.numbers.get_mut(index as usize) {
            Some(last) => *last = number | AGAIN,
            None => self.numbers.push(number),
        }
        let began = self.progress_at.is_none();
        self.progress_at.get_or_insert(now);
        began
    }
}
