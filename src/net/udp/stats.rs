//! [`UdpStats`]: what a socket counted, and its place among the metrics.

use crate::metrics::{Family, RECEIVED, SENT, Snapshot};
use crate::proto::datagram::{DropReason, EndpointStats};

/// Counters and gauges of a UDP socket.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct UdpStats {
    /// What the protocol counts: traffic, retransmissions, sessions, drops by reason.
    pub protocol: EndpointStats,
    /// Datagrams that the system did not take. Each counts as lost on the way.
    pub send_errors: u64,
    /// Errors that receiving reported, such as a refusal by the other host. None of them ends anything.
    pub recv_errors: u64,
    /// Messages on which an extension failed; they were not delivered.
    pub extension_failures: u64,
    /// Messages that wait for `recv`.
    pub recv_queue_count: usize,
    /// Messages that wait for their acknowledgement.
    pub send_queue_count: usize,
}

impl UdpStats {
    /// The same, as metrics.
    pub(super) fn numbers(&self) -> Snapshot {
        let protocol = &self.protocol;
        let mut numbers = Snapshot::default();
        numbers.set_frames(RECEIVED, &protocol.frames_received);
        numbers.set_frames(SENT, &protocol.frames_sent);
        numbers.set_times(Family::RoundTrip, &protocol.round_trips);
        for reason in DropReason::ALL {
            numbers.set(Family::Drops, reason as usize, protocol.dropped(reason));
        }
        let (completed, discarded) = (0, 1);
        let (acknowledged, failed) = (0, 1);
        for (family, place, value) in [
            (Family::Datagrams, RECEIVED, protocol.datagrams_received),
            (Family::Datagrams, SENT, protocol.datagrams_sent),
            (Family::DatagramBytes, RECEIVED, protocol.bytes_received),
            (Family::DatagramBytes, SENT, protocol.bytes_sent),
            (Family::Messages, RECEIVED, protocol.messages_received),
            (Family::Messages, SENT, protocol.messages_sent),
            (
                Family::Deliveries,
                acknowledged,
                protocol.messages_acknowledged,
            ),
            (Family::Deliveries, failed, protocol.messages_failed),
            (Family::Retransmissions, 0, protocol.retransmissions),
            (Family::RetransmissionTimeouts, 0, protocol.timeouts),
            (Family::SocketErrors, RECEIVED, self.recv_errors),
            (Family::SocketErrors, SENT, self.send_errors),
            (Family::Sets, completed, protocol.sets_completed),
            (Family::Sets, discarded, protocol.sets_discarded),
            (Family::SetsActive, 0, protocol.reassembly_sets as u64),
            (Family::SetBytes, 0, protocol.reassembly_len as u64),
            (Family::SessionsOpened, 0, protocol.sessions_opened),
            (Family::SessionsClosed, 0, protocol.sessions_closed),
            (Family::SessionsRefused, 0, protocol.sessions_refused),
            (Family::SessionsMoved, 0, protocol.sessions_moved),
            (Family::SessionsActive, 0, protocol.sessions as u64),
            (Family::ExtensionFailures, RECEIVED, self.extension_failures),
            (Family::Queued, RECEIVED, self.recv_queue_count as u64),
            (Family::Queued, SENT, self.send_queue_count as u64),
        ] {
            numbers.set(family, place, value);
        }
        numbers
    }
}
