//! The order of control frames and messages, over a wire that takes everything or nothing.

use super::*;
use crate::net::socket::Transport;
use crate::net::stream;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;

/// Takes everything, or nothing.
#[derive(Debug)]
struct Wire {
    takes: bool,
}

impl Transport for Wire {
    fn recv(&self, _: &mut Vec<u8>, _: bool) -> io::Result<usize> {
        Ok(0)
    }

    fn send(&self, parts: &[IoSlice<'_>], _: bool) -> io::Result<usize> {
        if self.takes {
            Ok(parts.iter().map(|part| part.len()).sum())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn set_recv_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn set_send_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        Ok(())
    }
}

fn outbox(takes: bool) -> Outbox {
    let (_, half) = stream::plain(Arc::new(Wire { takes }), Duration::ZERO);
    let framing = Framing {
        trailer: Trailer::Always,
        max_header_count: 128,
        write_deadline: FrameDeadline {
            base: Duration::from_millis(20),
        },
        queue_count: 64,
        queue_len: 1 << 20,
    };
    Outbox::new(half, framing, 1024)
}

fn ping() -> Frame {
    Frame::new(FrameType::Ping)
}

#[test]
fn a_refused_frame_is_an_error_also_when_control_frames_wait() {
    let outbox = outbox(true);
    outbox.push_control(ping());
    let error = outbox.send(Frame::data(vec![0; 2000]).as_ref());
    assert!(
        matches!(error, Err(VstpError::FrameTooLarge { .. })),
        "{error:?}"
    );
    assert_eq!(outbox.frames_sent(), 1, "the PING");
    outbox.send(Frame::data("x").as_ref()).unwrap();
}

#[test]
fn control_frames_left_behind_by_another_writer_are_asked_for_again() {
    let outbox = outbox(true);
    let writer = outbox.acquire(None).unwrap();
    outbox.push_control(ping());
    assert!(!outbox.try_flush_control().unwrap(), "somebody else writes");
    // That one does not look again.
    outbox.release_unflushed(writer, Ok(())).unwrap();
    assert!(outbox.try_flush_control().unwrap());
    assert_eq!(outbox.frames_sent(), 1);
}

#[test]
fn b06_control_frames_for_a_peer_that_does_not_read_are_bounded() {
    let outbox = outbox(false);
    let mut pushed = 0;
    while outbox.has_control_room() {
        outbox.push_control(ping());
        assert!(!outbox.try_flush_control().unwrap());
        pushed += 1;
        assert!(pushed <= 2 * MAX_CONTROL_COUNT, "it never ends");
    }
    outbox.close(ClosedBy::Local);
    assert!(outbox.has_control_room(), "nobody waits for a closed box");
}

#[test]
fn the_first_reason_stays() {
    let outbox = outbox(true);
    outbox.close(ClosedBy::Peer(None));
    outbox.finish_now(None, ClosedBy::Local);
    assert_eq!(outbox.closed(), Some(ClosedBy::Peer(None)));
}

#[test]
fn a_writer_thread_that_is_about_to_end_is_replaced() {
    let outbox = outbox(true);
    outbox.add_sender();
    assert!(outbox.claim_writer(), "the first");
    assert!(!outbox.claim_writer(), "one is enough");
    outbox.remove_sender();
    // The body has decided to end; whether the thread is gone does not matter.
    outbox.run_writer();
    outbox.add_sender();
    assert!(outbox.claim_writer());
}
