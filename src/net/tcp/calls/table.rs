//! [`Calls`]: the calls of a shared client that wait for their answers, by number.
//!
//! It holds no lock and reads no clock or socket; [`super`] does, and drives it.

use crate::error::VstpError;
use crate::wire::Frame;
use std::collections::HashMap;
use std::sync::{Arc, Condvar};

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The answer to a request, by its `correlation-id`.
    Answer,
    /// PONG, by its payload.
    Pong,
    /// The end of the session.
    End,
}

/// What came for a call.
#[derive(Debug)]
pub(super) enum Answer {
    Frame(Frame),
    Pong,
    /// ERR about this request, or an extension that failed on the answer.
    Failed(VstpError),
}

#[derive(Debug)]
struct Call {
    wanted: Wanted,
    answer: Option<Answer>,
    /// Its caller waits for the signal, and could read instead.
    rests: bool,
    signal: Arc<Condvar>,
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The number of the last call; the first is 1.
    last: u64,
    open: HashMap<u64, Call>,
    pub(super) late: u64,
    pub(super) unasked: u64,
}

impl Calls {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Notes a call that begins; its number.
    pub(super) fn begin(&mut self, wanted: Wanted) -> u64 {
        self.last += 1;
        let call = Call {
            wanted,
            answer: None,
            rests: false,
            signal: Arc::default(),
        };
        self.open.insert(self.last, call);
        self.last
    }

    /// Forgets a call; what came for it.
    pub(super) fn end(&mut self, number: u64) -> Option<Answer> {
        self.open.remove(&number)?.answer
    }

    /// Whether something came for it.
    pub(super) fn is_answered(&self, number: u64) -> bool {
        self.open
            .get(&number)
            .is_some_and(|call| call.answer.is_some())
    }

    /// Its caller waits from now on, for this signal.
    pub(super) fn rest(&mut self, number: u64) -> Option<Arc<Condvar>> {
        let call = self.open.get_mut(&number)?;
        call.rests = true;
        Some(Arc::clone(&call.signal))
    }

    /// Its caller waits no longer.
    pub(super) fn wake(&mut self, number: u64) {
        if let Some(call) = self.open.get_mut(&number) {
            call.rests = false;
        }
    }

    /// Gives an answer to the call that waits for it and wakes that. One that nobody waits for any more
    /// is dropped and counted: as late if there was such a call, else as unasked.
    pub(super) fn deliver(&mut self, number: Option<u64>, answer: Answer) {
        let wanted = match answer {
            Answer::Frame(_) | Answer::Failed(_) => Wanted::Answer,
            Answer::Pong => Wanted::Pong,
        };
        let call = number.and_then(|number| self.open.get_mut(&number));
        match call.filter(|call| call.wanted == wanted && call.answer.is_none()) {
            Some(call) => {
                call.answer = Some(answer);
                if call.rests {
                    call.signal.notify_one();
                }
            }
            None if number.is_some_and(|n| (1..=self.last).contains(&n)) => self.late += 1,
            // The keep-alive's, mostly.
            None if wanted == Wanted::Pong => {}
            None => self.unasked += 1,
        }
    }

    /// Wakes one resting caller that still waits, so that it reads.
    pub(super) fn wake_one(&self) {
        let reader = self
            .open
            .values()
            .find(|call| call.rests && call.answer.is_none());
        if let Some(call) = reader {
            call.signal.notify_one();
        }
    }

    /// Wakes all, since nothing more will come.
    pub(super) fn wake_all(&self) {
        self.open.values().for_each(|call| call.signal.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Answer {
        Answer::Frame(Frame::data("answer"))
    }

    #[test]
    fn each_answer_goes_to_its_call_in_whatever_order() {
        let mut calls = Calls::default();
        let (first, second) = (calls.begin(Wanted::Answer), calls.begin(Wanted::Answer));
        calls.deliver(Some(second), frame());
        assert!(calls.is_answered(second) && !calls.is_answered(first));
        assert!(matches!(calls.end(second), Some(Answer::Frame(_))));
        assert!(calls.end(first).is_none());
        assert_eq!((calls.count(), calls.late, calls.unasked), (0, 0, 0));
    }

    #[test]
    fn what_nobody_waits_for_is_dropped_and_counted() {
        let mut calls = Calls::default();
        let call = calls.begin(Wanted::Answer);
        calls.deliver(Some(call), frame());
        calls.deliver(Some(call), frame());
        assert_eq!((calls.late, calls.unasked), (1, 0), "a second answer");
        calls.end(call);
        calls.deliver(Some(call), frame());
        assert_eq!((calls.late, calls.unasked), (2, 0), "after its time");
        calls.deliver(Some(call + 1), frame());
        calls.deliver(None, frame());
        calls.deliver(Some(0), frame());
        assert_eq!((calls.late, calls.unasked), (2, 3), "no such call");
    }

    #[test]
    fn a_pong_is_no_answer_to_a_request() {
        let mut calls = Calls::default();
        let (call, ping) = (calls.begin(Wanted::Answer), calls.begin(Wanted::Pong));
        calls.deliver(Some(call), Answer::Pong);
        calls.deliver(Some(ping), frame());
        assert!(!calls.is_answered(call) && !calls.is_answered(ping));
        calls.deliver(None, Answer::Pong);
        assert_eq!((calls.late, calls.unasked), (2, 0));
    }
}
