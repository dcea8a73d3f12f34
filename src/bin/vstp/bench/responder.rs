//! The server's side of a benchmark (`vstp server --bench`): counts, sends as fast as it can, or echoes.
//!
//! A message says in its header `bench` what it wants: `sink` is counted, `report` answers with the count of its session,
//! `source` is answered with messages for a while and a report. Everything else comes back as it is.

use crate::server::{Handler, Peer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vstp::net::clock;
use vstp::proto::{ErrorCode, keys};
use vstp::serve::{HandlerError, IntoReply};
use vstp::{Frame, VstpError};

pub(super) const WANTS: &str = "bench";
pub(super) const COUNT: &str = "bench-count";
pub(super) const BYTES: &str = "bench-bytes";
pub(super) const TIME: &str = "bench-ms";
pub(super) const SIZE: &str = "bench-size";
/// Bits a second.
pub(super) const RATE: &str = "bench-rate";

/// A client cannot ask for more than this.
const MAX_TIME: Duration = Duration::from_secs(3600);
const MAX_SIZE: u64 = 8 * 1024 * 1024;
/// Sessions whose count is kept.
const MAX_SESSIONS: usize = 4096;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    messages: u64,
    bytes: u64,
    /// When its session began, among all.
    begun: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sessions: HashMap<u128, Count>,
    begun: u64,
}

impl Counts {
    fn add(&mut self, session: u128, bytes: u64) {
        if self.sessions.len() >= MAX_SESSIONS && !self.sessions.contains_key(&session) {
            // Nobody says when a session ends; the oldest has ended most probably.
            let oldest = self.sessions.iter().min_by_key(|(_, count)| count.begun);
            if let Some(session) = oldest.map(|(session, _)| *session) {
                self.sessions.remove(&session);
            }
        }
        let count = self.sessions.entry(session).or_insert_with(|| {
            self.begun += 1;
            Count {
                begun: self.begun,
                ..Count::default()
            }
        });
        count.messages += 1;
        count.bytes += bytes;
    }

    fn of(&self, session: u128) -> Count {
        self.sessions.get(&session).copied().unwrap_or_default()
    }
}

pub(crate) fn handler() -> Handler {
    let counts: Mutex<Counts> = Mutex::default();
    Arc::new(move |peer: &Peer<'_>, frame: Frame| {
        let counts = || counts.lock().unwrap_or_else(PoisonError::into_inner);
        match frame.header_str(WANTS) {
            Some("sink") => {
                counts().add(peer.session_id(), frame.payload.len() as u64);
                None::<Frame>.into_reply()
            }
            Some("report") => report(counts().of(peer.session_id())).into_reply(),
            Some("source") => source(peer, &frame).into_reply(),
            _ => Frame::data(frame.payload).into_reply(),
        }
    })
}

fn report(count: Count) -> Frame {
    Frame::data("")
        .with_header(WANTS, "report")
        .with_header(COUNT, count.messages.to_string())
        .with_header(BYTES, count.bytes.to_string())
}

/// Sends for as long as the client wants.
fn source(peer: &Peer<'_>, request: &Frame) -> Result<Option<Frame>, HandlerError> {
    let number = |key: &str| request.header_str(key)?.parse::<u64>().ok();
    let bad = || HandlerError::new(ErrorCode::BadRequest, "bench-ms and bench-size are missing");
    let time = Duration::from_millis(number(TIME).ok_or_else(bad)?).min(MAX_TIME);
    let size = number(SIZE).ok_or_else(bad)?.min(MAX_SIZE);
    let mut pace = number(RATE).map(super::pace::Pace::new);
    let message = Frame::data(vec![0x5a; size as usize]).with_header(WANTS, "sink");
    let failed = |error: VstpError| HandlerError::new(ErrorCode::Handler, error.to_string());
    let sender = match peer {
        Peer::Tcp(session) => Some(session.sender().map_err(failed)?),
        Peer::Udp(_) => None,
    };
    let mut count = Count::default();
    let began = clock::now();
    while clock::now().saturating_duration_since(began) < time && !peer.is_closing() {
        match (&sender, peer) {
            (Some(sender), _) => {
                let sent = sender.send(message.clone());
                sent.map_err(|refused| failed(refused.error))?;
            }
            (None, Peer::Udp(peer)) => peer.send(&message).map_err(failed)?,
            (None, Peer::Tcp(_)) => return Err(bad()),
        }
        count.messages += 1;
        count.bytes += size;
        if let Some(pace) = &mut pace {
            pace.wait(size);
        }
    }
    let answer = match request.header(keys::CORRELATION_ID) {
        Some(id) => report(count).with_header(keys::CORRELATION_ID, id),
        None => report(count),
    };
    let Some(sender) = sender else {
        return Ok(Some(answer));
    };
    // Behind the messages, which wait in the sender's queue; an answer would overtake them.
    let sent = sender.send(answer);
    sent.map_err(|refused| failed(refused.error))?;
    Ok(None)
}
