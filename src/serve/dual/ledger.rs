//! [`Ledgers`]: what was handled of the messages that may come by both transports, so that each is handled
//! once (spec 6.3). One [`Ledger`] for each session on TCP, from its beginning to its end.
//!
//! ```text
//!                  by UDP, first          handler ends
//!   not seen ──────────────────> running ───────────────> answered ──> forgotten, with newer ones
//!      │                          │    ^                     │
//!      │ by TCP, first            └────┘ again, by TCP:      └─ again, by TCP: the answer
//!      v                            the answer goes there
//!   handled ── again, by either: dropped
//! ```
//!
//! Only requests have an answer to keep; a message without `correlation-id` is handled when it is first seen.

use super::super::reply::Reply;
use crate::error::HandlerError;
use crate::net::tcp::Sender;
use crate::proto::once::Handled;
use crate::proto::session::error_frame;
use crate::proto::{ErrorCode, keys};
use crate::wire::Frame;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Answers kept for one client, and their bytes.
const MAX_ANSWER_COUNT: usize = 32;
const MAX_ANSWER_LEN: usize = 256 * 1024;

/// The answer to a request, as it was sent.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Frames(Vec<Frame>),
    Error(HandlerError),
}

impl Answer {
    fn of(reply: &Reply) -> Self {
        match reply {
            Reply::None => Self::Frames(Vec::new()),
            Reply::One(frame) => Self::Frames(vec![frame.clone()]),
            Reply::Many(frames) => Self::Frames(frames.clone()),
            Reply::Error(error) => Self::Error(error.clone()),
        }
    }

    fn into_reply(self) -> Reply {
        match self {
            Self::Frames(frames) => Reply::Many(frames),
            Self::Error(error) => Reply::Error(error),
        }
    }

    fn len(&self) -> usize {
        let frame_len = |frame: &Frame| -> usize {
            let headers = frame.headers.iter();
            let headers: usize = headers.map(|h| h.key.len() + h.value.len() + 2).sum();
            frame.payload.len() + headers + size_of::<Frame>()
        };
        match self {
            Self::Frames(frames) => frames.iter().map(frame_len).sum(),
            Self::Error(error) => error.message.len() + size_of::<HandlerError>(),
        }
    }
}

/// Where else an answer shall go.
#[derive(Debug)]
struct AlsoTo {
    sender: Sender,
    request: Vec<u8>,
}

#[derive(Debug)]
enum Request {
    Running(Option<AlsoTo>),
    Answered(Answer),
}

/// What is to be done with a message.
#[derive(Debug)]
pub(super) enum Begun {
    /// It is new: handle it, and end the guard with the answer.
    First(Running),
    /// It was handled, or is: this is all there is to answer.
    Again(Reply),
}

/// The messages of one client.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Protects all of it; no other lock is taken inside it but the queue's of a sender.
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    handled: Handled,
    requests: HashMap<u64, Request>,
    /// Those that are answered, oldest first.
    answered: VecDeque<u64>,
    answered_len: usize,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message came by UDP; `is_request`: there will be an answer.
    pub(super) fn by_udp(self: &Arc<Self>, number: u64, is_request: bool) -> Begun {
        let mut book = self.lock();
        if !book.handled.note(number) {
            // Where it came by before, there the answer went.
            return Begun::Again(Reply::None);
        }
        if is_request {
            book.requests.insert(number, Request::Running(None));
        }
        Begun::First(Running {
            kept: is_request.then(|| (Arc::clone(self), number)),
        })
    }

    /// A message came by TCP. `sender`: how its answer gets there later.
    pub(super) fn by_tcp(
        &self,
        number: u64,
        request: Option<&[u8]>,
        sender: impl FnOnce() -> Option<Sender>,
    ) -> Begun {
        let mut book = self.lock();
        if book.handled.note(number) {
            // It does not come again.
            return Begun::First(Running { kept: None });
        }
        let Some(request) = request else {
            return Begun::Again(Reply::None);
        };
        match book.requests.get_mut(&number) {
            Some(Request::Answered(answer)) => Begun::Again(answer.clone().into_reply()),
            Some(Request::Running(also)) => match sender() {
                Some(sender) => {
                    let request = request.to_vec();
                    *also = Some(AlsoTo { sender, request });
                    Begun::Again(Reply::None)
                }
                None => Begun::Again(gone()),
            },
            None => Begun::Again(gone()),
        }
    }
}

/// The request was handled and is not handled again, so its answer cannot be given any more.
fn gone() -> Reply {
    let text = "the request was handled; its answer is no longer here";
    Reply::Error(HandlerError::new(ErrorCode::Timeout, text))
}

impl Book {
    fn keep(&mut self, number: u64, answer: Answer) {
        let len = answer.len();
        if len > MAX_ANSWER_LEN {
            return;
        }
        self.requests.insert(number, Request::Answered(answer));
        self.answered.push_back(number);
        self.answered_len += len;
        while self.answered.len() > MAX_ANSWER_COUNT || self.answered_len > MAX_ANSWER_LEN {
            let oldest = self.answered.pop_front();
            match oldest.and_then(|number| self.requests.remove(&number)) {
                Some(Request::Answered(answer)) => self.answered_len -= answer.len(),
                Some(Request::Running(_)) | None => {}
            }
        }
    }
}

/// A message that is being handled.
#[derive(Debug)]
pub(super) struct Running {
    /// Whose answer is kept, and its number.
    kept: Option<(Arc<Ledger>, u64)>,
}

impl Running {
    /// The handler has answered.
    pub(super) fn ended(mut self, reply: &Reply) {
        self.settle(|| Answer::of(reply));
    }

    fn settle(&mut self, answer: impl FnOnce() -> Answer) {
        let Some((ledger, number)) = self.kept.take() else {
            return;
        };
        let answer = answer();
        let mut book = ledger.lock();
        let Some(Request::Running(also)) = book.requests.remove(&number) else {
            return;
        };
        let Some(AlsoTo { sender, request }) = also else {
            book.keep(number, answer);
            return;
        };
        drop(book);
        let frames = match answer {
            Answer::Frames(frames) => frames,
            Answer::Error(error) => {
                vec![error_frame(error.code, &error.message, Some(&request))]
            }
        };
        for mut frame in frames {
            if frame.header(keys::CORRELATION_ID).is_none() {
                frame = frame.with_header(keys::CORRELATION_ID, &request);
            }
            // A client that does not read its answers goes without; no handler waits for it.
            if let Err(error) = sender.try_send(frame) {
                log::debug!("an answer was not sent: {}", error.error);
            }
        }
    }
}

impl Drop for Running {
    /// The handler has panicked.
    fn drop(&mut self) {
        let error = HandlerError::new(ErrorCode::Handler, "the handler failed");
        self.settle(|| Answer::Error(error));
    }
}

/// The ledgers of the clients that are connected, by the number of their session.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    /// Protects the list; nothing is taken inside it.
    all: Mutex<HashMap<u128, Arc<Ledger>>>,
}

/// The place of a session in the list; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Open {
    ledgers: Arc<Ledgers>,
    session: u128,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.ledgers.lock().remove(&self.session);
    }
}

impl Ledgers {
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Arc<Ledger>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session has begun.
    pub(super) fn open(self: &Arc<Self>, session: u128) -> Open {
        self.lock().insert(session, Arc::default());
        Open {
            ledgers: Arc::clone(self),
            session,
        }
    }

    pub(super) fn get(&self, session: u128) -> Option<Arc<Ledger>> {
        self.lock().get(&session).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(begun: Begun) -> Running {
        match begun {
            Begun::First(running) => running,
            Begun::Again(reply) => panic!("seen before: {reply:?}"),
        }
    }

    fn again(begun: Begun) -> Reply {
        match begun {
            Begun::Again(reply) => reply,
            Begun::First(_) => panic!("not seen before"),
        }
    }

    fn by_tcp(ledger: &Ledger, number: u64) -> Begun {
        ledger.by_tcp(number, Some(b"1"), || None)
    }

    #[test]
    fn a_message_is_handled_once_whichever_comes_first() {
        let ledger = Arc::new(Ledger::default());
        drop(first(ledger.by_udp(1, false)));
        assert!(matches!(again(ledger.by_udp(1, false)), Reply::None));
        let repeated = ledger.by_tcp(1, None, || None);
        assert!(matches!(again(repeated), Reply::None));
        drop(first(ledger.by_tcp(2, None, || None)));
        assert!(matches!(again(ledger.by_udp(2, true)), Reply::None));
    }

    #[test]
    fn the_answer_to_a_request_by_udp_is_given_again_by_tcp() {
        let ledger = Arc::new(Ledger::default());
        let reply = Reply::One(Frame::data("answer"));
        first(ledger.by_udp(1, true)).ended(&reply);
        for _ in 0..2 {
            let Reply::Many(frames) = again(by_tcp(&ledger, 1)) else {
                panic!("no answer");
            };
            assert_eq!(frames, [Frame::data("answer")]);
        }
    }

    #[test]
    fn a_panic_is_an_error_by_tcp_too() {
        let ledger = Arc::new(Ledger::default());
        drop(first(ledger.by_udp(1, true)));
        let Reply::Error(error) = again(by_tcp(&ledger, 1)) else {
            panic!("no error");
        };
        assert_eq!(error.code, ErrorCode::Handler);
    }

    #[test]
    fn answers_are_bounded_and_what_is_gone_is_not_handled_again() {
        let ledger = Arc::new(Ledger::default());
        let count = 3 * MAX_ANSWER_COUNT as u64;
        for number in 0..count {
            let reply = Reply::One(Frame::data("answer"));
            first(ledger.by_udp(number, true)).ended(&reply);
        }
        assert_eq!(ledger.lock().requests.len(), MAX_ANSWER_COUNT);
        assert!(matches!(again(by_tcp(&ledger, count - 1)), Reply::Many(_)));
        let Reply::Error(error) = again(by_tcp(&ledger, 0)) else {
            panic!("no error");
        };
        assert_eq!(error.code, ErrorCode::Timeout);

        let large = Reply::One(Frame::data(vec![0; MAX_ANSWER_LEN / 3]));
        for number in count..count + 10 {
            first(ledger.by_udp(number, true)).ended(&large);
            assert!(ledger.lock().answered_len <= MAX_ANSWER_LEN);
        }
        let too_large = Reply::One(Frame::data(vec![0; MAX_ANSWER_LEN]));
        first(ledger.by_udp(1000, true)).ended(&too_large);
        assert!(matches!(again(by_tcp(&ledger, 1000)), Reply::Error(_)));
        assert!(matches!(again(by_tcp(&ledger, count + 9)), Reply::Many(_)));
    }

    #[test]
    fn a_ledger_lives_as_long_as_the_session() {
        let ledgers = Arc::new(Ledgers::default());
        let open = ledgers.open(7);
        assert!(ledgers.get(7).is_some());
        assert!(ledgers.get(8).is_none());
        drop(open);
        assert!(ledgers.get(7).is_none());
    }
}
