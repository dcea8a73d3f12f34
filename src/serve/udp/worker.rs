//! The body of a worker thread: takes a message, runs the handler, sends the answer.

use super::super::reply::{HandlerError, Reply};
use super::handle::Serving;
use super::peer::UdpPeer;
use crate::error::VstpError;
use crate::net::udp::driver::Incoming;
use crate::proto::ErrorCode;
use crate::proto::keys;
use crate::proto::session::error_frame;
use crate::wire::Frame;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The handler, without its own type.
pub(super) type DynHandler = dyn Fn(&UdpPeer, Frame) -> Reply + Send + Sync;

/// Until the socket is closed.
pub(super) fn run(serving: &Serving, handler: &DynHandler) {
    let driver = &serving.running.driver;
    loop {
        match driver.next_message(Duration::from_secs(1)) {
            Ok(Some(incoming)) => {
                serving.busy.fetch_add(1, Ordering::AcqRel);
                serve(serving, handler, incoming);
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

fn serve(serving: &Serving, handler: &DynHandler, incoming: Incoming) {
    let driver = &serving.running.driver;
    let Incoming {
        from,
        session,
        frame,
    } = incoming;
    let request = frame.header(keys::CORRELATION_ID).map(<[u8]>::to_vec);
    let peer = UdpPeer::new(driver, from, session);
    // The handler's state after a panic is the handler's business; nothing of ours is in it.
    let reply = catch_unwind(AssertUnwindSafe(|| handler(&peer, frame)));
    let reply = reply.unwrap_or_else(|_| {
        serving.panics.fetch_add(1, Ordering::Relaxed);
        Reply::Error(HandlerError::new(ErrorCode::Handler, "the handler failed"))
    });
    let send = |frame: Frame| answer(&peer, frame, request.as_deref());
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

fn answer(peer: &UdpPeer, mut frame: Frame, request: Option<&[u8]>) {
    if let (Some(id), None) = (request, frame.header(keys::CORRELATION_ID)) {
        frame = frame.with_header(keys::CORRELATION_ID, id);
    }
    let size = match peer.send(&frame) {
        Ok(()) => return,
        Err(VstpError::FrameTooLarge { size, .. }) => size,
        Err(error) => {
            log::debug!("the answer to {} was not sent: {error}", peer.peer_addr());
            return;
        }
    };
    let text = format!("the answer has {size} bytes");
    let refusal = error_frame(ErrorCode::TooLarge, &text, request);
    if let Some(error) = request.and_then(|_| peer.send(&refusal).err()) {
        log::debug!("the answer to {} was not sent: {error}", peer.peer_addr());
    }
}
