//! The bodies of a client's threads.

use super::inner::{Inner, is_past, wait};
use super::open::Protection;
use super::state::{Ended, Udp, UdpHalf};
use super::status::UdpStatus;
use crate::error::{ClosedBy, VstpError};
use crate::net::clock;
use crate::net::tcp::VstpTcpConnection;
use crate::net::tcp::reader::Next;
use crate::net::udp::in_session::InSession;
use crate::proto::auto::{Output, Transport};
use crate::wire::{Frame, FrameType};
use std::sync::Arc;

/// The body of `vstp-auto-tcp`: reads the session on TCP until it ends.
pub(super) fn read_tcp(inner: &Inner, mut connection: VstpTcpConnection) {
    let ended = loop {
        match connection.next(None) {
            Ok(Next::Frame) => match connection.deliver() {
                Ok(Some(frame)) => inner.deliver(frame, Transport::Tcp),
                Ok(None) => {}
                Err(error @ VstpError::Extension(_)) => inner.deliver_received(Err(error)),
                Err(error) => break Ended::By(ClosedBy::Error, Some(error)),
            },
            Ok(Next::Acked(msg_id)) => inner.acknowledged(msg_id),
            Ok(Next::Pong) => {
                if let Ok(number) = connection.frame().payload.try_into() {
                    let number = u64::from_be_bytes(number);
                    let mut state = inner.lock();
                    let now = clock::now();
                    state.switch.handle_pong(now, Transport::Tcp, number);
                }
            }
            Ok(Next::Hello(_) | Next::Established | Next::TimedOut) => {}
            Ok(Next::End | Next::Draining) => break Ended::Clean,
            Err(VstpError::ServerError(error)) if error.correlation_id.is_some() => {
                inner.deliver_received(Err(VstpError::ServerError(error)));
            }
            Err(VstpError::ConnectionClosed(by)) => break Ended::By(by, None),
            Err(error) => break Ended::By(ClosedBy::Error, Some(error)),
        }
    };
    if matches!(ended, Ended::Clean) {
        inner.let_udp_finish();
    }
    inner.end(ended);
}

/// The body of `vstp-auto-udp`: opens UDP, reads it, and opens it again when it ends.
pub(super) fn read_udp(inner: &Inner, mut protection: Protection) {
    loop {
        match open_udp(inner, &mut protection) {
            Ok(half) => {
                let error = read_session(inner, &half);
                log::debug!("UDP to {} ended: {error}", inner.udp_addr);
            }
            Err(error) => log::debug!("no UDP to {}: {error}", inner.udp_addr),
        }
        let is_usable = protection.is_usable();
        let status = if is_usable {
            UdpStatus::Unreachable
        } else {
            UdpStatus::Over
        };
        let mut state = inner.lock();
        if state.is_over() {
            return;
        }
        state.set_udp(clock::now(), Udp::None(status));
        state.udp_awaited = false;
        inner.settled.notify_all();
        if !is_usable {
            return;
        }
        let again_at = clock::after(inner.config.udp_retry);
        while !is_past(again_at) {
            if state.is_over() {
                return;
            }
            state = wait(&inner.timer, state, again_at);
        }
    }
}

fn open_udp(inner: &Inner, protection: &mut Protection) -> Result<Arc<UdpHalf>, VstpError> {
    let client = Arc::new(protection.socket(&inner.config, inner.udp_addr)?);
    let mut state = inner.lock();
    if state.is_over() {
        return Err(VstpError::ConnectionClosed(ClosedBy::Local));
    }
    state.udp = Udp::Opening(Arc::clone(&client));
    drop(state);
    // Whoever closes closes this socket too, which ends the call.
    let session = protection.open(&client, inner.udp_addr)?;
    let half = Arc::new(UdpHalf { client, session });
    let mut state = inner.lock();
    if state.is_over() {
        return Err(VstpError::ConnectionClosed(ClosedBy::Local));
    }
    state.set_udp(clock::now(), Udp::Open(Arc::clone(&half)));
    state.udp_awaited = false;
    drop(state);
    inner.settled.notify_all();
    inner.timer.notify_all();
    Ok(half)
}

/// Until the session ends, and how.
fn read_session(inner: &Inner, half: &UdpHalf) -> VstpError {
    loop {
        match half.client.next_in(&half.session) {
            Ok(InSession::Message(frame)) => inner.deliver(frame, Transport::Udp),
            Ok(InSession::Pong(number)) => {
                let mut state = inner.lock();
                let now = clock::now();
                state.switch.handle_pong(now, Transport::Udp, number);
            }
            Err(error) => return error,
        }
    }
}

/// The body of `vstp-auto-probe`: sends the PINGs that measure, when they are due.
pub(super) fn probe(inner: &Inner) {
    let mut state = inner.lock();
    while !state.is_over() {
        // This side does not read: that the peer is not heard says nothing about the network.
        if state.is_full(inner.inbox_limits()) {
            state.switch.forget_probes();
        }
        state.switch.handle_timeout(clock::now());
        let mut probes = Vec::new();
        while let Some(output) = state.switch.poll_output() {
            match output {
                Output::Probe { transport, number } => probes.push((transport, number)),
                Output::Switched { to, failed } => {
                    log::debug!("messages take {to} from now on, the other failed: {failed}");
                    inner.settled.notify_all();
                }
            }
        }
        if probes.is_empty() {
            let next = state.switch.next_timeout();
            state = wait(&inner.timer, state, next);
            continue;
        }
        let half = state.udp_half();
        drop(state);
        for (transport, number) in probes {
            match (transport, &half) {
                (Transport::Tcp, _) => ping_tcp(inner, number),
                (Transport::Udp, Some(half)) => half.client.ping(&half.session, number),
                (Transport::Udp, None) => {}
            }
        }
        state = inner.lock();
    }
}

fn ping_tcp(inner: &Inner, number: u64) {
    let outbox = &inner.tcp.outbox;
    // Without room it is not sent, and so not answered: that is what a stream that stands still is.
    if outbox.has_control_room() {
        let payload = number.to_be_bytes();
        outbox.push_control(Frame::new(FrameType::Ping).with_payload(payload));
        // A connection that fails here fails in its reader as well, which reports it.
        let _ = outbox.try_flush_control();
    }
}
