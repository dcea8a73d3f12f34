//! One client of a benchmark, in a thread of its own (`vstp-bench-N`).

use super::histogram::Histogram;
use super::pace::Pace;
use super::plan::{Mode, Plan};
use super::responder::{BYTES, COUNT, RATE, SIZE, TIME, WANTS};
use crate::exit::Failure;
use crate::link::{Link, Received};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use vstp::Frame;
use vstp::error::{ClosedBy, VstpError};
use vstp::net::clock;
use vstp::proto::keys;

/// How often the server is asked how much has arrived, at most, and how fast.
const MAX_QUESTIONS: u32 = 50;
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(100);

/// What all clients have done so far.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Set when everybody shall end.
    pub(super) stop: AtomicBool,
}

impl Shared {
    fn add(&self, bytes: u64) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What one client saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) times: Histogram,
    pub(super) sent: u64,
    pub(super) arrived: u64,
    pub(super) arrived_bytes: u64,
}

pub(super) fn run(mut link: Link, plan: &Plan, shared: &Shared) -> Result<Seen, Failure> {
    let seen = match (plan.mode, plan.reverse) {
        (Mode::Call, _) => call(&mut link, plan, shared),
        (Mode::Stream, false) => push(&mut link, plan, shared),
        (Mode::Stream, true) => pull(&mut link, plan, shared),
    }?;
    link.close()?;
    Ok(seen)
}

/// Round trips, one after the other.
fn call(link: &mut Link, plan: &Plan, shared: &Shared) -> Result<Seen, Failure> {
    let mut seen = Seen::new();
    let request = Frame::data(vec![0x5a; plan.size]);
    while !shared.is_stopped() {
        let began = clock::now();
        seen.sent += 1;
        let answer = link.call(
            request.clone(),
            &seen.sent.to_string(),
            plan.timeout,
            |_| (),
        )?;
        seen.times
            .record(clock::now().saturating_duration_since(began));
        seen.arrived += 1;
        seen.arrived_bytes += answer.payload.len() as u64;
        shared.add(answer.payload.len() as u64);
    }
    Ok(seen)
}

/// Messages to the server, which says at the end how many came.
fn push(link: &mut Link, plan: &Plan, shared: &Shared) -> Result<Seen, Failure> {
    let mut seen = Seen::new();
    let message = Frame::data(vec![0x5a; plan.size]).with_header(WANTS, "sink");
    let mut pace = plan.rate.map(Pace::new);
    while !shared.is_stopped() {
        if plan.ack {
            link.send_request(message.clone())?;
        } else {
            link.send(&message)?;
        }
        seen.sent += 1;
        shared.add(plan.size as u64);
        if let Some(pace) = &mut pace {
            pace.wait(plan.size as u64);
        }
    }
    if let Link::Udp(link) = link {
        link.client.flush()?;
    }
    // Over UDP the question overtakes what is still on its way, or in the hands of another worker over there.
    let mut last = None;
    for number in 0..MAX_QUESTIONS {
        let question = Frame::data("").with_header(WANTS, "report");
        let report = link.call(question, &format!("report-{number}"), plan.timeout, |_| ())?;
        (seen.arrived, seen.arrived_bytes) = counted(&report)?;
        let is_same = last.replace(seen.arrived) == Some(seen.arrived);
        if seen.arrived >= seen.sent || (is_same && !plan.ack) {
            break;
        }
        let _ = crossbeam_channel::after(BETWEEN_QUESTIONS).recv();
    }
    Ok(seen)
}

fn counted(report: &Frame) -> Result<(u64, u64), Failure> {
    let number = |key: &str| report.header_str(key)?.parse().ok();
    match (number(COUNT), number(BYTES)) {
        (Some(count), Some(bytes)) => Ok((count, bytes)),
        _ => Err(no_bench()),
    }
}

fn no_bench() -> Failure {
    let text =
        "the server does not take part; start it with `vstp server --bench`, or use --mode call";
    Failure::new(crate::exit::PROTOCOL, text)
}

/// Messages from the server, which says at the end how many it sent.
fn pull(link: &mut Link, plan: &Plan, shared: &Shared) -> Result<Seen, Failure> {
    let mut seen = Seen::new();
    let mut question = Frame::data("")
        .with_header(WANTS, "source")
        .with_header(TIME, plan.time.as_millis().to_string())
        .with_header(SIZE, plan.size.to_string());
    if let Some(rate) = plan.rate {
        question = question.with_header(RATE, rate.to_string());
    }
    link.send_request(question.with_header(keys::CORRELATION_ID, "source"))?;
    // It begins at once, and answers when it is done.
    let until = clock::now().checked_add(plan.time + plan.timeout);
    loop {
        match link.recv(until)? {
            None => return Err(VstpError::Timeout(vstp::error::TimeoutKind::Recv).into()),
            Some(Received::End) => {
                return Err(VstpError::ConnectionClosed(ClosedBy::Peer(None)).into());
            }
            Some(Received::Refused(_, failure)) => return Err(failure),
            Some(Received::Message(frame)) => match frame.header_str(WANTS) {
                Some("report") => {
                    (seen.sent, _) = counted(&frame)?;
                    return Ok(seen);
                }
                Some("sink") => {
                    seen.arrived += 1;
                    seen.arrived_bytes += frame.payload.len() as u64;
                    shared.add(frame.payload.len() as u64);
                }
                _ => return Err(no_bench()),
            },
        }
    }
}

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            times: Histogram::new(),
            sent: 0,
            arrived: 0,
            arrived_bytes: 0,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.times.add(&other.times);
        self.sent += other.sent;
        self.arrived += other.arrived;
        self.arrived_bytes += other.arrived_bytes;
    }
}
