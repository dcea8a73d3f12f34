//! The life of a served connection, on its worker thread: frame, handler, answer, until the end.
//!
//! The handler runs on the thread that read the frame, and the answer is written by it too: no
//! hand-over between threads lies on the way of a request. With
//! [`concurrency`](super::ServerConfig::concurrency), requests with a `correlation-id` go to other
//! threads, so many at a time, and are answered as they get ready.

use super::handle::ServerShared;
use super::reply::Reply;
use super::session::Session;
use crate::error::{ClosedBy, ExtensionError, HandlerError, VstpError};
use crate::ext::Inbound;
use crate::net::clock;
use crate::net::tcp::VstpTcpConnection;
use crate::net::tcp::handling::HandlerClock;
use crate::net::tcp::reader::Next;
use crate::net::tcp::shared::Shared;
use crate::proto::session::error_frame;
use crate::proto::{ErrorCode, keys};
use crate::wire::{EncodeError, Frame};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// A handler with its return type forgotten.
pub(super) type DynHandler = dyn Fn(&Session, Frame) -> Reply + Send + Sync;

/// How often a connection that is being drained looks for frames that are still arriving.
const DRAIN_TICK: Duration = Duration::from_millis(5);
/// How long a client has to answer the server's goodbye.
const FAREWELL: Duration = Duration::from_millis(500);
/// How often a connection that waits for its last handlers looks whether the server cuts it off.
const LAST_TICK: Duration = Duration::from_millis(50);

/// What answers the messages of one connection, on whatever thread.
struct Answering {
    server: Arc<ServerShared>,
    shared: Arc<Shared>,
    session: Session,
    handler: Arc<DynHandler>,
}

/// Why a message was not answered.
enum Failure {
    /// The connection.
    Lost(VstpError),
    /// The handler, and the message has no `correlation-id`: this ends the session.
    Refused(HandlerError),
}

/// A place among the handlers of a connection; free again when this is dropped.
struct Place {
    shared: Arc<Shared>,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.handling.give_back(self.number);
    }
}

/// Serves the connection until it ends; the reason is logged, not returned, since nobody waits.
/// `beside`: handlers that may run at once on other threads.
pub(super) fn serve(
    server: &Arc<ServerShared>,
    connection: VstpTcpConnection,
    handler: &Arc<DynHandler>,
    beside: usize,
) {
    let peer = connection.peer_addr();
    let shared = Arc::clone(connection.shared());
    let answering = Arc::new(Answering {
        server: Arc::clone(server),
        session: Session::new(Arc::clone(&shared)),
        handler: Arc::clone(handler),
        shared,
    });
    answering.shared.handling.allow(beside);
    let mut connection = connection;
    match serve_until_end(&answering, &mut connection, beside > 0) {
        Ok(()) => log::debug!("{peer}: session ended"),
        Err(error) => log::debug!("{peer}: {error}"),
    }
    // The connection keeps its place while its handlers run: a client that comes and goes has no more
    // of them than one that stays.
    let is_over = || {
        let deadline = server.lifecycle.drain_deadline();
        deadline.is_some_and(|at| clock::now() >= at)
    };
    let handling = &answering.shared.handling;
    while !handling.wait_idle(clock::after(LAST_TICK)) && !is_over() {}
}

fn serve_until_end(
    answering: &Arc<Answering>,
    connection: &mut VstpTcpConnection,
    is_concurrent: bool,
) -> Result<(), VstpError> {
    let Answering { server, shared, .. } = &**answering;
    let mut said_bye = None;
    loop {
        let next = match connection.next(None) {
            // About one message that a handler sent to the client; the session goes on.
            Err(VstpError::ServerError(error)) if error.correlation_id.is_some() => continue,
            // The client has only stopped sending: it gets what handlers have for it.
            Err(error @ VstpError::ConnectionClosed(ClosedBy::PeerWithoutBye)) => {
                shared.handling.wait_idle(None);
                let _ = connection.close_sending();
                return Err(error);
            }
            next => next?,
        };
        match next {
            // After our goodbye nothing may be answered; the client knows from it that what it
            // has sent since was not handled.
            Next::Frame if said_bye.is_some() => {}
            Next::Frame => {
                let request = connection.take();
                if is_concurrent && request.header(keys::CORRELATION_ID).is_some() {
                    hand_over(answering, request)?;
                    continue;
                }
                match answering.answer(request, &shared.handling.own) {
                    Ok(()) => {}
                    Err(Failure::Lost(error)) => return Err(error),
                    // Without a `correlation-id` the client takes ERR as the end of the session
                    // (spec 3.7), so it is the end here as well.
                    Err(Failure::Refused(error)) => {
                        shared.handling.wait_idle(None);
                        connection.finish_with(&error_frame(error.code, &error.message, None))?;
                        return Err(VstpError::ConnectionClosed(ClosedBy::Error));
                    }
                }
            }
            Next::End => {
                // As above; after a goodbye it has been sent, and this does nothing.
                shared.handling.wait_idle(None);
                let _ = connection.close_sending();
                return Ok(());
            }
            Next::Draining => {
                if said_bye.is_none() && !connection.is_mid_frame() {
                    shared.handling.wait_idle(None);
                }
                match said_bye {
                    None if connection.is_mid_frame() => {}
                    None if connection.say_bye_draining()? => said_bye = Some(clock::now()),
                    None => return Ok(()),
                    // A client that does not answer is not waiting for anything of ours.
                    Some(at) if clock::now().saturating_duration_since(at) >= FAREWELL => {
                        return Ok(());
                    }
                    Some(_) => {}
                }
                if server.lifecycle.wait_closed(clock::after(DRAIN_TICK)) {
                    return Err(VstpError::ConnectionClosed(ClosedBy::Local));
                }
            }
            Next::TimedOut | Next::Hello(_) | Next::Established | Next::Acked(_) | Next::Pong => {}
        }
    }
}

/// Has another thread handle a request. While as many run as may, the connection is not read on; where
/// the server has no thread left, this one handles it.
fn hand_over(answering: &Arc<Answering>, request: Frame) -> Result<(), VstpError> {
    let shared = &answering.shared;
    let Some(number) = shared.handling.take() else {
        let by = shared.outbox.closed().unwrap_or(ClosedBy::Local);
        return Err(VstpError::ConnectionClosed(by));
    };
    let place = Place {
        shared: Arc::clone(shared),
        number,
    };
    let (job_answering, server) = (Arc::clone(answering), &answering.server);
    let job = move || {
        let shared = &place.shared;
        match job_answering.answer(request, shared.handling.clock(place.number)) {
            // A request has a `correlation-id`, so its refusal was sent like an answer.
            Ok(()) | Err(Failure::Refused(_)) => {}
            // An answer that cannot be written ends the connection; this wakes its reader.
            Err(Failure::Lost(_)) => shared.abort(ClosedBy::Error),
        }
    };
    if let Err(refused) = server.handlers.execute(job) {
        (refused.job)();
    }
    Ok(())
}

/// Whose answer it is. An extension's has passed the extensions that it must pass.
enum Asked {
    Handler(Reply),
    Extension(Vec<Frame>),
}

impl Answering {
    /// Asks the extensions and the handler, and sends what they return.
    fn answer(&self, request: Frame, clock: &HandlerClock) -> Result<(), Failure> {
        let id = request.header(keys::CORRELATION_ID).map(<[u8]>::to_vec);
        let began = clock.begins();
        let asked = self.ask(request);
        clock.ended(began, &self.shared.meter);
        let reply = match asked {
            Asked::Handler(reply) => reply,
            Asked::Extension(answers) => {
                return answers.iter().try_for_each(|frame| {
                    let result = self.shared.send_answer(frame);
                    self.sent(result, id.as_deref())
                });
            }
        };
        match reply {
            Reply::None => Ok(()),
            Reply::One(frame) => self.send(frame, id.as_deref()),
            Reply::Many(frames) => frames
                .into_iter()
                .try_for_each(|frame| self.send(frame, id.as_deref())),
            Reply::Error(error) => self.refuse(error, id.as_deref()),
        }
    }

    /// Asks the extensions, and the handler if they let the request pass.
    fn ask(&self, request: Frame) -> Asked {
        let request = match self.shared.incoming(request) {
            Inbound::Deliver(request) => request,
            Inbound::Consumed => return Asked::Handler(Reply::None),
            Inbound::Answered(answers) => return Asked::Extension(answers),
            Inbound::Failed(failed) => return Asked::Handler(Reply::Error(self.failure(failed))),
        };
        // The frame is gone with the panic and the session is only read, so nothing half-done is seen.
        let reply = catch_unwind(AssertUnwindSafe(|| (self.handler)(&self.session, request)));
        Asked::Handler(reply.unwrap_or_else(|_| {
            self.server.counters.handler_panicked();
            let text = "the handler panicked";
            Reply::Error(HandlerError::new(ErrorCode::Handler, text))
        }))
    }

    fn send(&self, frame: Frame, id: Option<&[u8]>) -> Result<(), Failure> {
        let frame = match id {
            Some(id) if frame.header(keys::CORRELATION_ID).is_none() => {
                frame.with_header(keys::CORRELATION_ID, id)
            }
            _ => frame,
        };
        self.sent(self.shared.send(frame.as_ref()), id)
    }

    /// What follows from sending an answer: one that cannot be sent becomes an error for the client.
    fn sent(&self, result: Result<(), VstpError>, id: Option<&[u8]>) -> Result<(), Failure> {
        match result {
            Err(VstpError::FrameTooLarge { size, limit }) => {
                let error = EncodeError::FrameTooLarge { size, limit };
                let error = HandlerError::new(ErrorCode::TooLarge, format!("the answer: {error}"));
                self.refuse(error, id)
            }
            Err(VstpError::Encode(error)) => {
                let error = HandlerError::new(ErrorCode::Handler, format!("the answer: {error}"));
                self.refuse(error, id)
            }
            Err(VstpError::Extension(failed)) => self.refuse(self.failure(*failed), id),
            result => result.map_err(Failure::Lost),
        }
    }

    /// What the client gets to know of an extension that failed.
    fn failure(&self, failed: ExtensionError) -> HandlerError {
        if failed.panicked {
            self.server.counters.handler_panicked();
        }
        failed.error
    }

    /// Answers with ERR.
    fn refuse(&self, error: HandlerError, id: Option<&[u8]>) -> Result<(), Failure> {
        if id.is_none() {
            return Err(Failure::Refused(error));
        }
        let frame = error_frame(error.code, &error.message, id);
        let sent = self.shared.outbox.send(frame.as_ref());
        sent.map_err(Failure::Lost)
    }
}
