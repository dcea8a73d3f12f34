//! The queue behind [`Sender`](super::super::Sender), and the thread that writes it.

use super::{BATCH_LEN, COPY_LEN, MIN_CHARGE, Outbox, Writer, or_skipped, wait};
use crate::error::{TimeoutKind, VstpError};
use crate::proto::tally::Tally;
use crate::wire::{self, Frame};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Outbox {
    pub(crate) fn add_sender(&self) {
        self.lock().senders += 1;
    }

    pub(crate) fn remove_sender(&self) {
        self.lock().senders -= 1;
        self.work.notify_all();
    }

    /// Queues a frame; waits for room until `until`, or not at all.
    pub(crate) fn enqueue(
        &self,
        frame: Frame,
        until: Option<Option<Instant>>,
    ) -> Result<(), (Frame, VstpError)> {
        let len = match wire::encoded_len(frame.as_ref(), self.framing.trailer, &self.limits()) {
            Ok(len) => len,
            Err(error) => return Err((frame, error.into())),
        };
        let charge = len.max(MIN_CHARGE);
        let mut state = self.lock();
        loop {
            if let Some(by) = state.closed {
                return Err((frame, VstpError::ConnectionClosed(by)));
            }
            // One frame always fits an empty queue, however large it is.
            let fits = state.queue.is_empty()
                || (state.queue.len() < self.framing.queue_count
                    && state.queue_charge + charge <= self.framing.queue_len);
            if fits {
                state.queue_charge += charge;
                state.queue.push_back(frame);
                drop(state);
                self.work.notify_one();
                return Ok(());
            }
            let Some(until) = until else {
                drop(state);
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err((frame, VstpError::Backpressure));
            };
            state = match wait(&self.room, state, until) {
                Ok(state) => state,
                Err(_) => return Err((frame, VstpError::Timeout(TimeoutKind::Send))),
            };
        }
    }

    /// Whether the thread `vstp-writer` must be started; it then counts as running. Decided under
    /// the lock under which it ends, so no sender is left to a thread that is on its way out.
    pub(crate) fn claim_writer(&self) -> bool {
        !std::mem::replace(&mut self.lock().has_writer, true)
    }

    /// The thread that was claimed could not be started.
    pub(crate) fn unclaim_writer(&self) {
        self.lock().has_writer = false;
    }

    /// The body of the thread `vstp-writer`: writes what is queued until the box closes, or the
    /// last sender is gone and the queue is empty.
    pub(crate) fn run_writer(&self) {
        while let Some((mut writer, batch)) = self.next_batch() {
            let mut result = Ok(());
            let mut frames = batch.iter();
            let mut next = frames.next();
            while let (Some(frame), true) = (next, result.is_ok()) {
                // Small frames go out together, a large one from where it is.
                if frame.payload.len() >= COPY_LEN {
                    let until = self.write_until(frame.payload.len());
                    let written = self.write_frame(&mut writer, frame.as_ref(), until);
                    result = or_skipped(written);
                    next = frames.next();
                    continue;
                }
                let Writer { half, scratch } = &mut *writer;
                scratch.clear();
                let (trailer, limits) = (self.framing.trailer, self.limits());
                let mut tally = Tally::default();
                while let Some(frame) = next.filter(|f| f.payload.len() < COPY_LEN) {
                    if scratch.len() >= BATCH_LEN {
                        break;
                    }
                    // It fitted when it was queued; a HELLO that came later may have said less.
                    if let Ok(len) = wire::encode(frame.as_ref(), trailer, &limits, scratch) {
                        tally.note(frame.typ, len);
                    }
                    next = frames.next();
                }
                result = half.write(
                    &mut [IoSlice::new(scratch)],
                    self.write_until(scratch.len()),
                );
                if result.is_ok() {
                    self.note_all_sent(&tally);
                    result = self.write_control(&mut writer);
                }
            }
            if self.release(writer, result).is_err() {
                return;
            }
        }
    }

    /// Waits until frames are queued and the write half is free; takes both.
    fn next_batch(&self) -> Option<(Box<Writer>, VecDeque<Frame>)> {
        let mut state = self.lock();
        loop {
            if state.closed.is_some() || (state.senders == 0 && state.queue.is_empty()) {
                state.has_writer = false;
                return None;
            }
            if state.queue.is_empty() {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            } else if let Some(writer) = state.half.take() {
                state.queue_charge = 0;
                let batch = std::mem::take(&mut state.queue);
                drop(state);
                self.room.notify_all();
                return Some((writer, batch));
            } else {
                state.waiting += 1;
                state = self
                    .free
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
            }
        }
    }
}
