//! [`Family`]: what is counted, under which name and labels, and where it lies in the array.

use crate::proto::datagram::DropReason;
use crate::proto::tally::{BUCKET_COUNT, KINDS};

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It is what there is now.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

type Label = (&'static str, &'static [&'static str]);

struct Spec {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    labels: &'static [Label],
}

const DIRECTION: Label = ("direction", &["received", "sent"]);
const DROPS: [&str; DropReason::ALL.len()] = {
    let mut words = [""; DropReason::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = DropReason::ALL[at].as_str();
        at += 1;
    }
    words
};

macro_rules! families {
    ($($(#[$doc:meta])* $family:ident = $kind:ident $name:literal $help:literal [$($label:expr),*];)*) => {
        /// A family of numbers: one name, one meaning, told apart by labels.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Family {
            $($(#[$doc])* #[doc = concat!("`", $name, "`: ", $help)] $family,)*
        }

        impl Family {
            /// All of them, in the order in which they are written.
            pub const ALL: &'static [Self] = &[$(Self::$family,)*];
        }

        const SPECS: &[Spec] = &[$(Spec {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            labels: &[$($label),*],
        },)*];
    };
}

families! {
    Frames = Counter "vstp_frames_total"
        "Frames by direction and type; sent ones once the system took them, of datagrams also those sent again." [DIRECTION, ("type", &KINDS)];
    FrameBytes = Counter "vstp_frame_bytes_total"
        "Bytes of these frames with all their parts, before encryption." [DIRECTION, ("type", &KINDS)];
    Datagrams = Counter "vstp_datagrams_total" "Datagrams, whatever was in them." [DIRECTION];
    DatagramBytes = Counter "vstp_datagram_bytes_total" "Bytes of these datagrams." [DIRECTION];
    Messages = Counter "vstp_messages_total"
        "Messages of the application in datagrams, each once however often it was sent." [DIRECTION];
    Deliveries = Counter "vstp_deliveries_total"
        "Acknowledged sends in datagrams that have ended." [("result", &["acknowledged", "failed"])];
    Retransmissions = Counter "vstp_retransmissions_total"
        "Datagrams sent again because they were taken for lost." [];
    RetransmissionTimeouts = Counter "vstp_retransmission_timeouts_total"
        "Times that no acknowledgement came for a whole timeout." [];
    RoundTrip = Histogram "vstp_round_trip_seconds"
        "Measured round-trip times: acknowledgements of datagrams that were sent once, and answered pings." [];
    Drops = Counter "vstp_drops_total" "Datagrams, or frames of them, dropped on arrival." [("reason", &DROPS)];
    SocketErrors = Counter "vstp_socket_errors_total"
        "Errors of the datagram socket; none of them ends anything." [DIRECTION];
    Sets = Counter "vstp_reassembly_sets_total"
        "Sets of fragments that have ended." [("result", &["completed", "discarded"])];
    SetsActive = Gauge "vstp_reassembly_sets_active" "Sets of fragments in reassembly." [];
    SetBytes = Gauge "vstp_reassembly_bytes" "Bytes that these sets are charged with." [];
    SessionsOpened = Counter "vstp_sessions_opened_total" "Sessions opened over datagrams." [];
    SessionsClosed = Counter "vstp_sessions_closed_total" "Sessions over datagrams that have ended." [];
    SessionsRefused = Counter "vstp_sessions_refused_total"
        "Clients over datagrams that were judged and got no session." [];
    SessionsMoved = Counter "vstp_sessions_moved_total"
        "Sealed sessions whose client was found at another address." [];
    SessionsActive = Gauge "vstp_sessions_active" "Sessions over datagrams." [];
    ConnectionsOpened = Counter "vstp_connections_opened_total"
        "Connections that the system handed over: accepted ones, or those that a client made." [];
    ConnectionsActive = Gauge "vstp_connections_active" "Connections, handshakes included." [];
    ConnectionsRefused = Counter "vstp_connections_refused_total" "Connections that a server closed at once."
        [("reason", &["limit", "per_address", "rate", "resources", "shutting_down"])];
    ConnectFailures = Counter "vstp_connect_failures_total"
        "Connections that a client could not make." [("reason", &["timeout", "address", "io"])];
    AcceptErrors = Counter "vstp_accept_errors_total"
        "Errors of accept(2)." [("reason", &["connection", "resources", "listener"])];
    HandshakesActive = Gauge "vstp_handshakes_active" "Handshakes in progress." [];
    Handshakes = Histogram "vstp_handshake_seconds"
        "Handshakes that succeeded: TLS, and HELLO with WELCOME." [];
    HandshakeFailures = Counter "vstp_handshake_failures_total"
        "Handshakes that failed." [("reason", &["timeout", "tls", "protocol", "unauthorized"])];
    AuthenticatorPanics = Counter "vstp_authenticator_panics_total"
        "Authenticators that panicked; each refused a client." [];
    AuthenticatorLate = Counter "vstp_authenticator_late_total"
        "Decisions about a client that came too late." [];
    RatePauses = Counter "vstp_rate_pauses_total"
        "Messages over TCP after which the next had to wait for the rate limit." [];
    ConnectionErrors = Counter "vstp_connection_errors_total"
        "Sessions over TCP that ended by an error." [("reason", &[
            "io", "tls", "crc", "too_large", "malformed", "overrun", "protocol", "timeout_frame",
            "timeout_idle", "timeout_send", "peer_error", "without_bye", "truncated", "reset"])];
    Queued = Gauge "vstp_queue_messages" "Messages that wait in a queue." [("queue", &["receive", "send"])];
    Backpressure = Counter "vstp_backpressure_total" "Messages refused because the send queue was full." [];
    ExtensionFailures = Counter "vstp_extension_failures_total"
        "Messages on which an extension failed or panicked." [DIRECTION];
    Handlers = Histogram "vstp_handler_seconds" "Calls of the handler, also those that ended in a panic." [];
    HandlerPanics = Counter "vstp_handler_panics_total" "Handlers that panicked." [];
    HandlersSlow = Gauge "vstp_handlers_slow" "Handlers that have been running for longer than the limit." [];
    CallRetries = Counter "vstp_call_retries_total"
        "Calls that a client made again because their connection was lost." [];
    Reconnects = Counter "vstp_reconnects_total"
        "Connections that a reconnecting client made after its first." [];
    PoolReuses = Counter "vstp_pool_reuses_total" "Times that a pool handed out a connection again." [];
    PoolDiscards = Counter "vstp_pool_discards_total" "Connections that a pool did not keep for the next call."
        [("reason", &["age", "dead", "cleared", "unclean"])];
    BackendEjections = Counter "vstp_backend_ejections_total" "Times that a balancer left a backend alone." [];
    BackendReturns = Counter "vstp_backend_returns_total" "Times that a backend came back after that." [];
}

/// Places of a histogram: its buckets, and the sum in nanoseconds.
const HISTOGRAM_WIDTH: usize = BUCKET_COUNT + 1;

const FIRST: [usize; SPECS.len() + 1] = {
    let mut first = [0; SPECS.len() + 1];
    let mut at = 0;
    while at < SPECS.len() {
        first[at + 1] = first[at] + width(&SPECS[at]);
        at += 1;
    }
    first
};
/// Numbers in all.
pub(super) const SLOT_COUNT: usize = FIRST[SPECS.len()];

const fn width(spec: &Spec) -> usize {
    if matches!(spec.kind, Kind::Histogram) {
        return HISTOGRAM_WIDTH;
    }
    let (mut product, mut at) = (1, 0);
    while at < spec.labels.len() {
        product *= spec.labels[at].1.len();
        at += 1;
    }
    product
}

impl Family {
    const fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }

    /// Its name, which ends in its unit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// What it means, in a sentence.
    #[must_use]
    pub const fn help(self) -> &'static str {
        self.spec().help
    }

    /// How its numbers behave.
    #[must_use]
    pub const fn kind(self) -> Kind {
        self.spec().kind
    }

    /// How many numbers it has; those of a histogram are its buckets and the sum in nanoseconds.
    #[must_use]
    pub const fn width(self) -> usize {
        FIRST[self as usize + 1] - FIRST[self as usize]
    }

    /// The labels of the number at this place. Of several labels the last one varies fastest.
    pub fn labels(
        self,
        place: usize,
    ) -> impl DoubleEndedIterator<Item = (&'static str, &'static str)> {
        let labels = self.spec().labels;
        (0..labels.len()).map(move |at| {
            let (name, values) = labels[at];
            let later: usize = labels[at + 1..].iter().map(|(_, v)| v.len()).product();
            (name, values[place / later % values.len()])
        })
    }

    /// Where the number at this place lies in the array.
    pub(super) const fn slot(self, place: usize) -> usize {
        assert!(place < self.width(), "the family has no such place");
        FIRST[self as usize] + place
    }

    /// The names of all labels that families use.
    pub(super) fn label_names() -> impl Iterator<Item = &'static str> {
        SPECS
            .iter()
            .flat_map(|spec| spec.labels.iter().map(|(name, _)| *name))
    }
}
