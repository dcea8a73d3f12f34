//! Worker threads: each takes a message, runs the handler, sends the answer.

use super::super::reply::Reply;
use super::peer::UdpPeer;
use super::serving::{IS_WORKER, Serving};
use crate::error::{HandlerError, VstpError};
use crate::ext::Inbound;
use crate::metrics::Family;
use crate::net::clock;
use crate::net::udp::core::Incoming;
use crate::proto::ErrorCode;
use crate::proto::keys;
use crate::proto::session::error_frame;
use crate::wire::{Frame, FrameType};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The handler, without its own type.
type DynHandler = dyn Fn(&UdpPeer, Frame) -> Reply + Send + Sync;

/// What the workers do.
pub(super) struct Work {
    pub(super) handler: Box<DynHandler>,
    /// Whether answers to requests are sent until they are acknowledged.
    pub(super) acknowledged_answers: bool,
}

/// Until the socket is closed.
fn run(serving: &Serving, work: &Work) {
    let driver = &serving.running.driver;
    loop {
        let begin = || {
            serving.busy.fetch_add(1, Ordering::AcqRel);
        };
        match driver.next_message(Duration::from_secs(1), begin) {
            Ok(Some(incoming)) => {
                serve(serving, work, incoming);
                serving.busy.fetch_sub(1, Ordering::AcqRel);
                serving.ended.notify();
            }
            // Draining: what was accepted has been handled.
            Ok(None) | Err(_) if !serving.lifecycle.is_running() => return,
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

fn serve(serving: &Serving, work: &Work, incoming: Incoming) {
    let driver = &serving.running.driver;
    let Some((incoming, _memory)) = driver.inflate(incoming) else {
        return;
    };
    let (from, session) = (incoming.from, incoming.session);
    let request = incoming.frame.header(keys::CORRELATION_ID);
    let request = request.map(<[u8]>::to_vec);
    let peer = UdpPeer::new(driver, from, session, incoming.identity.clone());
    let reply = match driver.extend(incoming) {
        Inbound::Deliver(frame) => ask(serving, work, &peer, frame),
        Inbound::Consumed => Reply::None,
        Inbound::Answered(answers) => {
            driver.send_answers(&answers, from);
            Reply::None
        }
        Inbound::Failed(failed) => {
            let panics = u64::from(failed.panicked);
            serving.metrics.add(Family::HandlerPanics, 0, panics);
            Reply::Error(failed.error)
        }
    };
    let assured = work.acknowledged_answers && request.is_some() && session.is_some();
    let send = |frame: Frame| answer(&peer, frame, request.as_deref(), assured);
    match reply {
        Reply::None => {}
        Reply::One(frame) => send(frame),
        Reply::Many(frames) => frames.into_iter().for_each(send),
        // Without a request that it answers, ERR would end the session of a client that did nothing
        // wrong; a datagram has no order that it could be told from.
        Reply::Error(_) if request.is_none() => {}
        Reply::Error(error) => send(error_frame(error.code, &error.message, None)),
    }
}

/// Calls the handler.
fn ask(serving: &Serving, work: &Work, peer: &UdpPeer, frame: Frame) -> Reply {
    // The handler's state after a panic is the handler's business; nothing of ours is in it.
    let began = serving.running.driver.meter().is_on().then(clock::now);
    let reply = catch_unwind(AssertUnwindSafe(|| (work.handler)(peer, frame)));
    if let Some(began) = began {
        let elapsed = clock::now().saturating_duration_since(began);
        serving.metrics.time(Family::Handlers, elapsed);
    }
    reply.unwrap_or_else(|_| {
        serving.metrics.add(Family::HandlerPanics, 0, 1);
        Reply::Error(HandlerError::new(ErrorCode::Handler, "the handler failed"))
    })
}

fn answer(peer: &UdpPeer, mut frame: Frame, request: Option<&[u8]>, assured: bool) {
    if let (Some(id), None) = (request, frame.header(keys::CORRELATION_ID)) {
        frame = frame.with_header(keys::CORRELATION_ID, id);
    }
    // ERR is never acknowledged (spec 4.2).
    let send = |frame: Frame| match assured && frame.typ != FrameType::Err {
        true => peer.send_assured(frame),
        false => peer.send(&frame),
    };
    let refusal = match send(frame) {
        Ok(()) => return,
        Err(VstpError::FrameTooLarge { size, .. }) => {
            let text = format!("the answer has {size} bytes");
            error_frame(ErrorCode::TooLarge, &text, request)
        }
        Err(VstpError::Extension(failed)) => {
            error_frame(failed.error.code, &failed.error.message, request)
        }
        Err(error) => {
            log::debug!("the answer to {} was not sent: {error}", peer.peer_addr());
            return;
        }
    };
    if let Some(error) = request.and_then(|_| send(refusal).err()) {
        log::debug!("the answer to {} was not sent: {error}", peer.peer_addr());
    }
}

/// Starts the workers; on an error those that were started end again.
pub(super) fn spawn_workers(
    serving: &Arc<Serving>,
    count: usize,
    work: &Arc<Work>,
) -> Result<(), VstpError> {
    for number in 0..count {
        let (mine, work) = (Arc::clone(serving), Arc::clone(work));
        let thread = std::thread::Builder::new()
            .name(format!("vstp-udp-{number}"))
            .stack_size(256 * 1024 + serving.running.driver.extra_stack_len())
            .spawn(move || {
                IS_WORKER.set(true);
                run(&mine, &work);
            });
        match thread {
            Ok(thread) => serving
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread),
            Err(error) => {
                serving.lifecycle.begin_drain(clock::now());
                serving.finish(clock::now());
                return Err(VstpError::Io(error));
            }
        }
    }
    Ok(())
}
