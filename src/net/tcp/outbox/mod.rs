//! The sending side of a connection: who may write, and what overtakes what.
//!
//! There is one [`WriteHalf`], and whoever holds it writes. It is kept in this box while nobody
//! writes and handed over through the lock, so the lock is held for moments and never over a system
//! call. Whoever gives it back first sends the control frames that came meanwhile.
//!
//! ```text
//!   send()      takes the half, waiting for it   ──┐
//!   vstp-writer takes it when frames are queued  ──┼──> control frames, own frame ──> back
//!   reader      takes it only if it is free      ──┘    (reader: what fits without waiting)
//! ```

mod queue;

use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::metrics::Lane;
use crate::net::call::{CallError, Sent};
use crate::net::clock;
use crate::net::event_log::ConnectionLog;
use crate::net::socket::Meanwhile;
use crate::net::stream::WriteHalf;
use crate::proto::deadline::FrameDeadline;
use crate::proto::tally::Tally;
use crate::wire::{self, Frame, FrameRef, FrameType, Limits, Trailer};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Payloads below this length are copied behind their header, above they are written from where
/// they are (bytes): copying costs less than a longer list of parts up to about here.
const COPY_LEN: usize = 16 * 1024;
/// Queued frames are written together up to this length (bytes).
const BATCH_LEN: usize = 64 * 1024;
/// Control frames that may wait; with so many, reading stops until some have left.
const MAX_CONTROL_COUNT: usize = 64;
/// What a frame counts at least in the queue's bytes: empty frames are not free.
const MIN_CHARGE: usize = 256;

/// How frames become bytes on this connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    pub(crate) trailer: Trailer,
    pub(crate) max_header_count: usize,
    pub(crate) write_deadline: FrameDeadline,
    pub(crate) queue_count: usize,
    pub(crate) queue_len: usize,
}

/// Whether ending the session ends the sending direction of the socket at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fin {
    Send,
    /// It ends when the socket is closed.
    Keep,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    framing: Framing,
    /// The largest frame that both sides accept (bytes).
    max_frame_len: AtomicUsize,
    /// Protects what waits to be sent and who may write. No other lock is taken inside it.
    state: Mutex<State>,
    /// The write half came back, or the box closed.
    free: Condvar,
    /// The queue has room again, or the box closed.
    room: Condvar,
    /// Frames were queued, the last sender went, or the box closed.
    work: Condvar,
    /// Frames sent so far, which the session needs: so many answers may come.
    frames_sent: AtomicU64,
    /// The same for whoever looks, by type. Added to by whoever has the write half.
    pub(crate) sent: Box<Lane>,
    /// Messages refused because the queue was full.
    pub(crate) refused: AtomicU64,
    /// What happens on the connection is written down here.
    pub(crate) log: Option<Box<ConnectionLog>>,
    base: Instant,
    /// Milliseconds after `base` of the last write.
    last_sent: AtomicU64,
}

#[derive(Debug)]
struct State {
    half: Option<Box<Writer>>,
    control: Vec<Frame>,
    queue: VecDeque<Frame>,
    queue_charge: usize,
    senders: usize,
    /// The thread `vstp-writer` runs, or is being started.
    has_writer: bool,
    /// Threads that wait for the half. Waking nobody costs a system call all the same, and nearly
    /// always nobody waits.
    waiting: usize,
    /// Nothing more may be sent: why.
    closed: Option<ClosedBy>,
}

impl State {
    /// Remembers that a write failed: bytes may be missing in the middle, so the direction is over.
    /// Where somebody else had ended it before, that is the reason, and the failure its effect.
    fn fail(&mut self, error: VstpError) -> VstpError {
        match error {
            VstpError::Encode(_) | VstpError::FrameTooLarge { .. } => error,
            VstpError::ConnectionClosed(by) => {
                VstpError::ConnectionClosed(*self.closed.get_or_insert(by))
            }
            other => {
                self.closed.get_or_insert(ClosedBy::Error);
                other
            }
        }
    }
}

/// The write half with its scratch buffer.
#[derive(Debug)]
struct Writer {
    half: WriteHalf,
    scratch: Vec<u8>,
}

impl Outbox {
    pub(crate) fn new(half: WriteHalf, framing: Framing, max_frame_len: usize) -> Self {
        Self {
            framing,
            max_frame_len: AtomicUsize::new(max_frame_len),
            state: Mutex::new(State {
                half: Some(Box::new(Writer {
                    half,
                    scratch: Vec::new(),
                })),
                control: Vec::new(),
                queue: VecDeque::new(),
                queue_charge: 0,
                senders: 0,
                has_writer: false,
                waiting: 0,
                closed: None,
            }),
            free: Condvar::new(),
            room: Condvar::new(),
            work: Condvar::new(),
            frames_sent: AtomicU64::new(0),
            sent: Box::default(),
            refused: AtomicU64::new(0),
            log: None,
            base: clock::now(),
            last_sent: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lowers the limit to what the peer announced.
    pub(crate) fn limit_frames(&self, peer_max: usize) {
        self.max_frame_len.fetch_min(peer_max, Ordering::Relaxed);
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_frame_len: self.max_frame_len.load(Ordering::Relaxed),
            max_header_count: self.framing.max_header_count,
        }
    }

    pub(crate) fn trailer(&self) -> Trailer {
        self.framing.trailer
    }

    /// When bytes were last handed to the system.
    pub(crate) fn last_sent(&self) -> Instant {
        self.base + Duration::from_millis(self.last_sent.load(Ordering::Relaxed))
    }

    /// How many frames were sent so far.
    pub(crate) fn frames_sent(&self) -> u64 {
        self.frames_sent.load(Ordering::Relaxed)
    }

    /// Frames that wait in the queue.
    pub(crate) fn queue_len(&self) -> usize {
        let state = self.lock();
        // What was left in it when the box closed is not waiting for anything.
        if state.closed.is_some() {
            return 0;
        }
        state.queue.len()
    }

    /// Counts a frame. Only whoever has the write half does, so nobody else adds meanwhile.
    fn note_sent(&self, typ: FrameType, len: usize) {
        self.note_count(1);
        self.sent.note(typ, len);
        if let Some(log) = &self.log {
            log.sent(typ, len);
        }
    }

    fn note_all_sent(&self, tally: &Tally) {
        self.note_count(tally.frame_total());
        self.sent.note_all(tally);
        if let Some(log) = &self.log {
            log.sent_all(tally);
        }
    }

    /// A frame is about to be written.
    fn note_writing(&self, typ: FrameType) {
        if let Some(log) = self.log.as_ref().filter(|_| typ == FrameType::Ping) {
            log.pinging();
        }
    }

    fn note_count(&self, count: u64) {
        let total = self.frames_sent.load(Ordering::Relaxed) + count;
        self.frames_sent.store(total, Ordering::Relaxed);
    }

    /// Notes the time of a write. Apart from the counters because bulk senders need not do it for
    /// every frame.
    fn note_time(&self) {
        let since = clock::now().saturating_duration_since(self.base);
        self.last_sent
            .store(since.as_millis() as u64, Ordering::Relaxed);
    }

    /// Sends one frame; returns when the system has taken all of it.
    pub(crate) fn send(&self, frame: FrameRef<'_>) -> Result<(), VstpError> {
        let until = self.write_until(frame.payload.len());
        let mut writer = self.acquire(until)?;
        let result = self.write_frame(&mut writer, frame, until);
        self.release(writer, result)
    }

    /// [`Self::send`] for a request: it waits for its turn until `until` at most, and an error says what
    /// became of the request. What has begun to be written is finished all the same, since half a frame
    /// would end the connection for everybody.
    pub(crate) fn send_request(
        &self,
        frame: FrameRef<'_>,
        until: Option<Instant>,
    ) -> Result<(), CallError> {
        let write_until = self.write_until(frame.payload.len());
        let turn_until = [until, write_until].into_iter().flatten().min();
        let mut writer = self.acquire(turn_until).map_err(CallError::not_sent)?;
        let result = self.write_frame(&mut writer, frame, write_until);
        let sent = match &result {
            Ok(()) => Sent::Yes,
            Err(VstpError::Encode(_) | VstpError::FrameTooLarge { .. }) => Sent::No,
            Err(_) => Sent::Unknown,
        };
        self.release(writer, result)
            .map_err(|error| CallError::new(sent, error))
    }

    /// Calls this again and again while a write waits; not where somebody writes already.
    pub(crate) fn set_meanwhile(&self, meanwhile: Meanwhile) {
        if let Some(writer) = &mut self.lock().half {
            writer.half.set_meanwhile(meanwhile);
        }
    }

    /// Writes encoded frames, and `payload` with its trailer behind them without copying it.
    pub(crate) fn send_encoded(
        &self,
        encoded: &[u8],
        payload: &[u8],
        trailer: &[u8],
        frames: &Tally,
    ) -> Result<(), VstpError> {
        let len = encoded.len() + payload.len() + trailer.len();
        let until = self.write_until(len);
        let mut writer = self.acquire(until)?;
        let mut parts = [encoded, payload, trailer].map(IoSlice::new);
        let result = writer.half.write(&mut parts, until);
        if result.is_ok() {
            self.note_all_sent(frames);
        }
        self.release(writer, result)
    }

    fn write_until(&self, len: usize) -> Option<Instant> {
        clock::after(self.framing.write_deadline.allowance(len))
    }

    fn write_frame(
        &self,
        writer: &mut Writer,
        frame: FrameRef<'_>,
        until: Option<Instant>,
    ) -> Result<(), VstpError> {
        let Writer { half, scratch } = writer;
        scratch.clear();
        self.note_writing(frame.typ);
        let (trailer, limits) = (self.framing.trailer, self.limits());
        let len = if frame.payload.len() < COPY_LEN {
            let len = wire::encode(frame, trailer, &limits, scratch)?;
            half.write(&mut [IoSlice::new(scratch)], until)?;
            len
        } else {
            let head = wire::encode_head(frame, trailer, &limits, scratch)?;
            let trailer = head.trailer.as_ref().map_or(&[][..], |bytes| bytes);
            half.write(
                &mut [scratch, frame.payload, trailer].map(IoSlice::new),
                until,
            )?;
            head.frame_len
        };
        self.note_sent(frame.typ, len);
        Ok(())
    }

    /// Takes the write half, waiting for it until the deadline.
    fn acquire(&self, until: Option<Instant>) -> Result<Box<Writer>, VstpError> {
        let mut state = self.lock();
        loop {
            if let Some(by) = state.closed {
                return Err(VstpError::ConnectionClosed(by));
            }
            if let Some(writer) = state.half.take() {
                return Ok(writer);
            }
            state.waiting += 1;
            let waited = wait(&self.free, state, until);
            state = match waited {
                Ok(state) => state,
                Err(mut state) => {
                    state.waiting -= 1;
                    return Err(VstpError::Timeout(TimeoutKind::Send));
                }
            };
            state.waiting -= 1;
        }
    }

    /// Gives the write half back, after sending the control frames that came meanwhile.
    fn release(
        &self,
        mut writer: Box<Writer>,
        mut result: Result<(), VstpError>,
    ) -> Result<(), VstpError> {
        self.note_time();
        loop {
            let mut state = self.lock();
            if let Err(error) = result {
                result = Err(state.fail(error));
            }
            if state.control.is_empty() || state.closed.is_some() {
                self.put_back(state, writer);
                if result.is_err() {
                    self.wake_all();
                }
                return result;
            }
            drop(state);
            // A frame that was refused stays refused, whatever becomes of these.
            result = self.write_control(&mut writer).and(result);
        }
    }

    /// Sends the control frames that wait now.
    fn write_control(&self, writer: &mut Writer) -> Result<(), VstpError> {
        let control = std::mem::take(&mut self.lock().control);
        let until = self.write_until(0);
        control
            .iter()
            .try_for_each(|frame| or_skipped(self.write_frame(writer, frame.as_ref(), until)))
    }

    fn put_back(&self, mut state: MutexGuard<'_, State>, writer: Box<Writer>) {
        state.half = Some(writer);
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.free.notify_one();
        }
    }

    fn wake_all(&self) {
        self.free.notify_all();
        self.room.notify_all();
        self.work.notify_all();
    }

    /// Queues a control frame; it overtakes all messages. Of PONGs only the latest is kept.
    pub(crate) fn push_control(&self, frame: Frame) {
        let mut state = self.lock();
        if frame.typ == FrameType::Pong {
            state.control.retain(|queued| queued.typ != FrameType::Pong);
        }
        if state.closed.is_none() && state.control.len() < MAX_CONTROL_COUNT {
            let rank = frame.typ.priority();
            let at = state
                .control
                .partition_point(|queued| queued.typ.priority() >= rank);
            state.control.insert(at, frame);
        }
    }

    /// Sends queued control frames as far as the system takes them at once.
    ///
    /// `false` when some remain: the caller asks again soon. What the system did not take before goes
    /// first, and no more is made into bytes until it has: a peer that does not read costs no memory.
    pub(crate) fn try_flush_control(&self) -> Result<bool, VstpError> {
        let mut writer = {
            let mut state = self.lock();
            if state.closed.is_some() {
                return Ok(true);
            }
            let none = state.control.is_empty();
            match state.half.take() {
                // Whoever is writing sends them; but one that does not wait may miss the last.
                None => return Ok(none),
                Some(writer) if none && !writer.half.has_pending() => {
                    state.half = Some(writer);
                    return Ok(true);
                }
                Some(writer) => writer,
            }
        };
        let result = writer.half.try_flush().and_then(|done| {
            if !done {
                return Ok(false);
            }
            let control = std::mem::take(&mut self.lock().control);
            self.queue_control(&mut writer, &control)
        });
        let done = matches!(result, Ok(true));
        self.release_unflushed(writer, result.map(|_| ()))?;
        Ok(done)
    }

    /// Whether a control frame can be queued. If not, whoever has one waits, and so reads no more.
    pub(crate) fn has_control_room(&self) -> bool {
        let state = self.lock();
        state.closed.is_some() || state.control.len() < MAX_CONTROL_COUNT
    }

    /// Waits until then, or until the box closes.
    pub(crate) fn pause(&self, until: Instant) {
        let mut state = self.lock();
        while state.closed.is_none() {
            match wait(&self.room, state, Some(until)) {
                Ok(again) => state = again,
                Err(_) => return,
            }
        }
    }

    fn queue_control(&self, writer: &mut Writer, control: &[Frame]) -> Result<bool, VstpError> {
        for frame in control {
            writer.scratch.clear();
            let scratch = &mut writer.scratch;
            let len = wire::encode(
                frame.as_ref(),
                self.framing.trailer,
                &self.limits(),
                scratch,
            )?;
            self.note_writing(frame.typ);
            writer.half.queue(scratch)?;
            self.note_sent(frame.typ, len);
        }
        writer.half.try_flush()
    }

    /// [`Self::release`] for callers that must not wait: newer control frames stay queued.
    fn release_unflushed(
        &self,
        writer: Box<Writer>,
        result: Result<(), VstpError>,
    ) -> Result<(), VstpError> {
        self.note_time();
        let mut state = self.lock();
        let result = result.map_err(|error| state.fail(error));
        self.put_back(state, writer);
        if result.is_err() {
            self.wake_all();
        }
        result
    }

    /// Sends what is queued, then `last` (BYE or ERR), then ends the direction: close_notify on
    /// TLS, FIN. Nothing can be sent afterwards; later calls say `ConnectionClosed(by)`.
    pub(crate) fn finish(
        &self,
        last: Option<&Frame>,
        by: ClosedBy,
        fin: Fin,
        until: Option<Instant>,
    ) -> Result<(), VstpError> {
        let mut writer = self.acquire(until)?;
        let (control, queue) = {
            let mut state = self.lock();
            // From here on nobody can add to what is sent below.
            state.closed = Some(by);
            (
                std::mem::take(&mut state.control),
                std::mem::take(&mut state.queue),
            )
        };
        self.wake_all();
        let mut result = control
            .iter()
            .chain(&queue)
            .try_for_each(|frame| or_skipped(self.write_frame(&mut writer, frame.as_ref(), until)));
        if let (Ok(()), Some(last)) = (&result, last) {
            result = self.write_frame(&mut writer, last.as_ref(), until);
        }
        writer.half.queue_close_notify();
        if result.is_ok() {
            result = writer.half.flush(until);
        }
        if fin == Fin::Send {
            writer.half.shutdown();
        }
        self.lock().half = Some(writer);
        result
    }

    /// [`Self::finish`] without waiting: for `Drop`, where what does not leave at once is lost.
    pub(crate) fn finish_now(&self, last: Option<&Frame>, by: ClosedBy) {
        let (writer, control) = {
            let mut state = self.lock();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(by);
            (state.half.take(), std::mem::take(&mut state.control))
        };
        self.wake_all();
        let Some(mut writer) = writer else { return };
        // Nobody is left to tell of an error.
        let _ = self.queue_control(&mut writer, &control);
        if let Some(last) = last {
            let _ = self.queue_control(&mut writer, std::slice::from_ref(last));
        }
        writer.half.queue_close_notify();
        let _ = writer.half.try_flush();
        writer.half.shutdown();
        self.lock().half = Some(writer);
    }

    /// Nothing may be sent any more; blocked calls return with the reason.
    pub(crate) fn close(&self, by: ClosedBy) {
        self.lock().closed.get_or_insert(by);
        self.wake_all();
    }

    pub(crate) fn closed(&self) -> Option<ClosedBy> {
        self.lock().closed
    }
}

/// Waits for a signal; the guard comes back as an error once the deadline has passed.
fn wait<'a>(
    signal: &Condvar,
    state: MutexGuard<'a, State>,
    until: Option<Instant>,
) -> Result<MutexGuard<'a, State>, MutexGuard<'a, State>> {
    let Some(at) = until else {
        return Ok(signal.wait(state).unwrap_or_else(PoisonError::into_inner));
    };
    let left = at.saturating_duration_since(clock::now());
    if left.is_zero() {
        return Err(state);
    }
    let waited = signal.wait_timeout(state, left);
    Ok(waited.unwrap_or_else(PoisonError::into_inner).0)
}

/// A frame that the peer has said it does not accept is left out; it concerns no other frame.
fn or_skipped(result: Result<(), VstpError>) -> Result<(), VstpError> {
    match result {
        Err(VstpError::Encode(_) | VstpError::FrameTooLarge { .. }) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;
