//! The counters: each event counts once, in its place.

use super::*;

#[test]
fn each_event_has_its_own_number() {
    let counters = Counters::default();
    counters.accepted();
    for why in [
        Refusal::Limit,
        Refusal::PerAddress,
        Refusal::Rate,
        Refusal::Resources,
        Refusal::ShuttingDown,
    ] {
        counters.refused(why);
    }
    for why in [
        HandshakeFailure::Timeout,
        HandshakeFailure::Unauthorized,
        HandshakeFailure::Tls,
        HandshakeFailure::Protocol,
    ] {
        counters.handshake_failed(why);
    }
    for why in [
        AcceptFailure::Connection,
        AcceptFailure::Resources,
        AcceptFailure::Listener,
    ] {
        counters.accept_failed(why);
    }
    counters.handler_panicked();
    counters.authenticator_panicked();
    counters.authenticator_was_late();
    counters.rate_paused(0);
    counters.rate_paused(1);
    counters.frame_in();
    counters.frame_out();
    let expected = ServerStats {
        connections_accepted: 1,
        connections_active: 0,
        refused_limit: 1,
        refused_per_address: 1,
        refused_rate: 1,
        refused_resources: 1,
        refused_shutting_down: 1,
        handshakes_active: 0,
        handshake_timeouts: 1,
        handshake_tls_failures: 1,
        handshake_unauthorized: 1,
        authenticator_panics: 1,
        authenticator_late: 1,
        rate_pauses: 1,
        handshake_protocol_failures: 1,
        accept_errors_connection: 1,
        accept_errors_resources: 1,
        accept_errors_listener: 1,
        handler_panics: 1,
        handlers_slow: 0,
        frames_in: 1,
        frames_out: 1,
    };
    assert_eq!(counters.snapshot(), expected);
}

#[test]
fn gauges_return_to_zero_also_after_a_panic() {
    let counters = Arc::new(Counters::default());
    let connection = counters.connection();
    let handshake = counters.handshake();
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
