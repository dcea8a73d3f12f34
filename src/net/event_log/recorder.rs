//! [`Recorder`]: from the events of one UDP socket to the log.

use super::EventLog;
use crate::proto::datagram::Traced;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// Takes the events of a socket, in their order.
#[derive(Debug)]
pub(crate) struct Recorder {
    log: EventLog,
    local: SocketAddr,
    /// Taken, and not a line yet. Held while they become lines, so that these are in the order of the events;
    /// the protocol's lock and that of the lines are taken inside it, one after the other.
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    events: Vec<Traced>,
    group: String,
    /// Whom `group` names.
    peer: Option<SocketAddr>,
}

impl Recorder {
    pub(crate) fn new(log: EventLog, local: SocketAddr) -> Self {
        Self {
            log,
            local,
            taken: Mutex::default(),
        }
    }

    /// Writes down what `take` gives, which says how many events were lost.
    pub(crate) fn record(&self, take: impl FnOnce(&mut Vec<Traced>) -> u64) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Taken {
            events,
            group,
            peer,
        } = &mut *taken;
        let lost = take(events);
        if events.is_empty() && lost == 0 {
            return;
        }
        self.log.add(lost, |lines| {
            for traced in events.drain(..) {
                if *peer != Some(traced.peer) {
                    *peer = Some(traced.peer);
                    *group = format!("udp/{}/{}", self.local, traced.peer);
                }
                lines.event(traced.at, group, &traced.event);
            }
        });
        drop(taken);
        self.log.write_out(false);
    }

    /// The socket has ended.
    pub(crate) fn finish(&self) {
        self.log.write_out(true);
    }
}
