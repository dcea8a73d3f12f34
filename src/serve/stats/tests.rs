//! The counters: each event counts once, in its place.

use super::*;

#[test]
fn each_event_has_its_own_number_under_its_own_name() {
    let counters = Counters::default();
    counters.accepted();
    let refusals = [
        (Refusal::Limit, "limit"),
        (Refusal::PerAddress, "per_address"),
        (Refusal::Rate, "rate"),
        (Refusal::Resources, "resources"),
        (Refusal::ShuttingDown, "shutting_down"),
    ];
    let failures = [
        (AcceptFailure::Connection, "connection"),
        (AcceptFailure::Resources, "resources"),
        (AcceptFailure::Listener, "listener"),
    ];
    let value = |name, reason| {
        let snapshot = counters.metrics().snapshot();
        snapshot.value(name, &[("reason", reason)])
    };
    for (why, word) in refusals {
        counters.refused(why);
        assert_eq!(value("vstp_connections_refused_total", word), Some(1));
    }
    for (why, word) in failures {
        counters.accept_failed(why);
        assert_eq!(value("vstp_accept_errors_total", word), Some(1));
    }
    counters.handler_panicked();
    let expected = ServerStats {
        connections_accepted: 1,
        refused_limit: 1,
        refused_per_address: 1,
        refused_rate: 1,
        refused_resources: 1,
        refused_shutting_down: 1,
        accept_errors_connection: 1,
        accept_errors_resources: 1,
        accept_errors_listener: 1,
        handler_panics: 1,
        ..ServerStats::default()
    };
    assert_eq!(counters.snapshot(), expected);
}

#[test]
fn gauges_return_to_zero_also_after_a_panic() {
    let counters = Counters::default();
    let connection = counters.connection();
    let handshake = Held::new(counters.metrics(), Family::HandshakesActive);
    let stats = counters.snapshot();
    assert_eq!((stats.connections_active, stats.handshakes_active), (1, 1));
    drop(handshake);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _connection = connection;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(result.is_err());
    assert_eq!(counters.snapshot(), ServerStats::default());
}
