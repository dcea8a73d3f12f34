//! The life of a served connection, on its worker thread: frame, handler, answer, until the end.
//!
//! The handler runs on the thread that read the frame, and the answer is written by it too: no
//! hand-over between threads lies on the way of a request.

use super::handle::ServerShared;
use super::reply::Reply;
use super::session::Session;
use crate::error::{ClosedBy, ExtensionError, HandlerError, VstpError};
use crate::ext::Inbound;
use crate::net::clock;
use crate::net::tcp::VstpTcpConnection;
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

/// Serves the connection until it ends; the reason is logged, not returned, since nobody waits.
pub(super) fn serve(server: &ServerShared, connection: VstpTcpConnection, handler: &DynHandler) {
    let peer = connection.peer_addr();
    match serve_until_end(server, connection, handler) {
        Ok(()) => log::debug!("{peer}: session ended"),
        Err(error) => log::debug!("{peer}: {error}"),
    }
}

fn serve_until_end(
    server: &ServerShared,
    mut connection: VstpTcpConnection,
    handler: &DynHandler,
) -> Result<(), VstpError> {
    let session = Session::new(Arc::clone(connection.shared()));
    let mut said_bye = None;
    loop {
        let next = match connection.next(None) {
            // About one message that a handler sent to the client; the session goes on.
            Err(VstpError::ServerError(error)) if error.correlation_id.is_some() => continue,
            // The client has only stopped sending: it gets what handlers have queued for it.
            Err(error @ VstpError::ConnectionClosed(ClosedBy::PeerWithoutBye)) => {
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
                answer(server, &mut connection, &session, request, handler)?;
            }
            Next::End => {
                // As above; after a goodbye it has been sent, and this does nothing.
                let _ = connection.close_sending();
                return Ok(());
            }
            Next::Draining => {
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
            Next::TimedOut | Next::Established | Next::Acked(_) | Next::Pong => {}
        }
    }
}

/// Calls the handler and sends what it returns.
fn answer(
    server: &ServerShared,
    connection: &mut VstpTcpConnection,
    session: &Session,
    request: Frame,
    handler: &DynHandler,
) -> Result<(), VstpError> {
    let id = request.header(keys::CORRELATION_ID).map(<[u8]>::to_vec);
    let began = connection.shared().handler_begins();
    let reply = ask(server, connection.shared(), session, request, handler);
    connection.shared().handler_ended(began);
    let reply = match reply {
        Asked::Handler(reply) => reply,
        Asked::Extension(answers) => {
            return answers.iter().try_for_each(|frame| {
                let result = connection.shared().send_answer(frame);
                sent(server, connection, result, id.as_deref())
            });
        }
    };
    match reply {
        Reply::None => Ok(()),
        Reply::One(frame) => send(server, connection, frame, id.as_deref()),
        Reply::Many(frames) => frames
            .into_iter()
            .try_for_each(|frame| send(server, connection, frame, id.as_deref())),
        Reply::Error(error) => refuse(connection, &error, id.as_deref()),
    }
}

/// Whose answer it is. An extension's has passed the extensions that it must pass.
enum Asked {
    Handler(Reply),
    Extension(Vec<Frame>),
}

/// Asks the extensions, and the handler if they let the request pass.
fn ask(
    server: &ServerShared,
    shared: &Shared,
    session: &Session,
    request: Frame,
    handler: &DynHandler,
) -> Asked {
    let request = match shared.incoming(request) {
        Inbound::Deliver(request) => request,
        Inbound::Consumed => return Asked::Handler(Reply::None),
        Inbound::Answered(answers) => return Asked::Extension(answers),
        Inbound::Failed(failed) => return Asked::Handler(Reply::Error(failure(server, failed))),
    };
    // The frame is gone with the panic and the session is only read, so nothing half-done is seen.
    let reply = catch_unwind(AssertUnwindSafe(|| handler(session, request)));
    Asked::Handler(reply.unwrap_or_else(|_| {
        server.counters.handler_panicked();
        let text = "the handler panicked";
        Reply::Error(HandlerError::new(ErrorCode::Handler, text))
    }))
}

fn send(
    server: &ServerShared,
    connection: &mut VstpTcpConnection,
    frame: Frame,
    id: Option<&[u8]>,
) -> Result<(), VstpError> {
    let frame = match id {
        Some(id) if frame.header(keys::CORRELATION_ID).is_none() => {
            frame.with_header(keys::CORRELATION_ID, id)
        }
        _ => frame,
    };
    let result = connection.send(&frame);
    sent(server, connection, result, id)
}

/// What follows from sending an answer: one that cannot be sent becomes an error for the client.
fn sent(
    server: &ServerShared,
    connection: &mut VstpTcpConnection,
    result: Result<(), VstpError>,
    id: Option<&[u8]>,
) -> Result<(), VstpError> {
    match result {
        Err(VstpError::FrameTooLarge { size, limit }) => {
            let error = EncodeError::FrameTooLarge { size, limit };
            let error = HandlerError::new(ErrorCode::TooLarge, format!("the answer: {error}"));
            refuse(connection, &error, id)
        }
        Err(VstpError::Encode(error)) => {
            let error = HandlerError::new(ErrorCode::Handler, format!("the answer: {error}"));
            refuse(connection, &error, id)
        }
        Err(VstpError::Extension(failed)) => refuse(connection, &failure(server, *failed), id),
        result => result,
    }
}

/// What the client gets to know of an extension that failed.
fn failure(server: &ServerShared, failed: ExtensionError) -> HandlerError {
    if failed.panicked {
        server.counters.handler_panicked();
    }
    failed.error
}

/// Answers with ERR. Without a `correlation-id` the client takes it as the end of the session
/// (spec 3.7), so it is the end here as well.
fn refuse(
    connection: &mut VstpTcpConnection,
    error: &HandlerError,
    id: Option<&[u8]>,
) -> Result<(), VstpError> {
    let frame = error_frame(error.code, &error.message, id);
    if id.is_some() {
        return connection.send(&frame);
    }
    connection.finish_with(&frame)?;
    Err(VstpError::ConnectionClosed(ClosedBy::Error))
}
