//! The log itself: what is written when, and what a bad writer does.

use super::*;
use crate::error::ClosedBy;
use crate::proto::datagram::{TraceEvent, Traced};
use crate::wire::FrameType;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Keeps what is written, and fails or panics when it is told to.
#[derive(Clone, Default)]
struct Memory {
    written: Arc<Mutex<Vec<u8>>>,
    fails: Arc<AtomicU64>,
    panics: bool,
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.fails.load(Ordering::Relaxed) > 0 {
            self.fails.fetch_sub(1, Ordering::Relaxed);
            assert!(!self.panics, "as it was told to");
            // Half of it arrives all the same.
            let half = &bytes[..bytes.len() / 2];
            self.written.lock().unwrap().extend_from_slice(half);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn acked(at: Instant, msg_id: u64) -> Traced {
    Traced {
        at,
        peer: ([10, 0, 0, 1], 6969).into(),
        event: TraceEvent::MessageAcked { msg_id },
    }
}

fn recorder(log: &EventLog) -> Recorder {
    Recorder::new(log.clone(), ([10, 0, 0, 2], 5000).into())
}

fn record(recorder: &Recorder, events: Vec<Traced>, lost: u64) {
    recorder.record(|taken| {
        taken.extend(events);
        lost
    });
}

#[test]
fn a_line_says_when_what_and_with_whom() {
    let memory = Memory::default();
    let log = EventLog::writer(Box::new(memory.clone()));
    let at = log.inner.began + Duration::from_micros(1_002_003);
    record(&recorder(&log), vec![acked(at, 7)], 0);
    assert_eq!(memory.text(), "", "there is little of it");
    log.flush();
    let text = memory.text();
    let mut lines = text.lines();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        lines.next().unwrap(),
        format!(
            r#"{{"time":0.000000,"name":"vstp:log_started","data":{{"version":"{version}"}}}}"#
        )
    );
    assert_eq!(
        lines.next().unwrap(),
        r#"{"time":1.002003,"name":"vstp:frames_acked","group_id":"udp/10.0.0.2:5000/10.0.0.1:6969","data":{"msg_id":7}}"#
    );
    assert_eq!(lines.next(), None);
}

#[test]
fn what_was_lost_is_said_and_counted() {
    let memory = Memory::default();
    let log = EventLog::writer(Box::new(memory.clone()));
    record(&recorder(&log), vec![], 3);
    drop(log);
    let text = memory.text();
    let last = text.lines().last().unwrap();
    assert!(
        last.contains(r#""name":"vstp:events_lost","data":{"count":3}"#),
        "{last}"
    );
}

#[test]
fn a_failed_write_breaks_one_line_at_the_most() {
    let memory = Memory::default();
    let log = EventLog::writer(Box::new(memory.clone()));
    let recorder = recorder(&log);
    memory.fails.store(1, Ordering::Relaxed);
    log.flush();
    assert_eq!(log.error_count(), 1);
    record(&recorder, vec![acked(clock::now(), 1)], 0);
    log.flush();
    assert_eq!(log.error_count(), 1);
    let text = memory.text();
    let whole = text
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert_eq!((whole.count(), text.lines().count()), (1, 2), "{text}");
}

#[test]
fn a_writer_that_panics_has_failed() {
    let memory = Memory {
        panics: true,
        ..Memory::default()
    };
    let log = EventLog::writer(Box::new(memory.clone()));
    memory.fails.store(1, Ordering::Relaxed);
    log.flush();
    assert_eq!(log.error_count(), 1);
    record(&recorder(&log), vec![acked(clock::now(), 1)], 0);
    log.flush();
    assert!(memory.text().contains("frames_acked"));
}

/// Says that it is being written to, and waits for permission.
struct Stuck(Sender<()>, Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(());
        // An error is the end of the test: nothing waits any more.
        let _ = self.1.recv_timeout(LONG);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn while_the_writer_is_stuck_others_go_on_and_lines_have_a_bound() {
    let (began, begins) = bounded(1);
    let (permit, permits) = bounded(0);
    let log = EventLog::writer(Box::new(Stuck(began, permits)));
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| log.flush());
        begins.recv_timeout(LONG).unwrap();
        // None of these waits: each line has over 100 bytes, so that a mebibyte holds fewer than these.
        let recorder = recorder(&log);
        for _ in 0..20 {
            let events = (0..1000).map(|n| acked(clock::now(), n)).collect();
            record(&recorder, events, 0);
        }
        assert!(log.inner.waiting().lines.len() < MAX_LEN + 1024);
        assert!(log.lost_count() > 8_000, "{}", log.lost_count());
        drop(permit);
        stuck.join().unwrap();
    });
    log.flush();
    assert!(log.inner.waiting().lines.is_empty());
}

#[test]
fn a_connection_ends_once_and_measures_its_pings() {
    let memory = Memory::default();
    let log = EventLog::writer(Box::new(memory.clone()));
    let addrs = (([10, 0, 0, 2], 5000).into(), ([10, 0, 0, 1], 6969).into());
    let connection = ConnectionLog::new(log.clone(), addrs, true);
    connection.received(FrameType::Pong, 11);
    connection.pinging();
    connection.sent(FrameType::Ping, 11);
    connection.received(FrameType::Pong, 11);
    connection.received(FrameType::Pong, 11);
    connection.ended(ClosedBy::Error, Some("crc"));
    connection.ended(ClosedBy::Local, None);
    let text = memory.text();
    let count = |what: &str| text.matches(what).count();
    assert_eq!(count("vstp:frame_received"), 3);
    assert_eq!(count("vstp:rtt_updated"), 1, "of one PING");
    assert_eq!(count("vstp:connection_closed"), 1);
    assert!(
        text.ends_with("\"data\":{\"trigger\":\"error\",\"reason\":\"crc\"}}\n"),
        "{text}"
    );
}
