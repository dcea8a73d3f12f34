//! Metrics: every number of a scripted exchange, and the text as Prometheus reads it.

use crate::limits::until;
use crate::util::{BOTH, Kind, LONG, bind, config, connect, echo, try_connect};
use prometheus_parse::{Scrape, Value};
use socket2::SockRef;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;
use vstp::metrics::{Exposition, Family, Snapshot};
use vstp::net::Meter;
use vstp::net::tcp::TcpConfig;
use vstp::net::udp::UdpConfig;
use vstp::proto::datagram::DropReason;
use vstp::serve::{ServerConfig, ServerHandle, Session, UdpPeer};
use vstp::{
    Frame, FrameType, VstpError, VstpTcpClient, VstpUdpClient, VstpUdpServer, encode_frame,
};

const SHORT: Duration = Duration::from_millis(100);
const TYPES: [&str; 9] = [
    "hello", "welcome", "data", "ping", "pong", "bye", "ack", "err", "custom",
];

#[track_caller]
fn value(numbers: &Snapshot, name: &str, labels: &[(&str, &str)]) -> u64 {
    numbers.value(name, labels).unwrap()
}

/// Frames of each type in the order of [`TYPES`].
fn frames(numbers: &Snapshot, name: &str, direction: &str) -> [u64; 9] {
    TYPES.map(|typ| value(numbers, name, &[("direction", direction), ("type", typ)]))
}

/// Answers DATA with its payload and other messages with nothing; panics as asked.
fn handler(_: &Session, frame: Frame) -> Option<Frame> {
    if frame.payload == b"panic" {
        // Without the hook's noise.
        std::panic::resume_unwind(Box::new("as asked"));
    }
    (frame.typ == FrameType::Data).then(|| Frame::data(frame.payload))
}

#[test]
fn d26_every_frame_of_a_session_is_counted_once_on_both_sides() {
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default()).spawn(handler).unwrap();
        let mut client = connect(kind, &server);
        for _ in 0..3 {
            client.send(&Frame::data("0123456789")).unwrap();
            assert!(client.recv().unwrap().is_some());
        }
        client.send_with_ack(Frame::data("acknowledged")).unwrap();
        assert!(client.recv().unwrap().is_some());
        client.ping().unwrap();
        let custom = Frame::new(FrameType::Custom(0x20)).with_payload("custom!");
        client.feed(&custom).unwrap();
        client.feed(&custom).unwrap();
        client.flush().unwrap();
        let sender = client.sender().unwrap();
        let panicking = Frame::data("panic").with_header("correlation-id", "1");
        sender.send(panicking).unwrap();
        assert!(matches!(client.recv(), Err(VstpError::ServerError(_))));
        drop(sender);
        let meter = client.meter().clone();
        let live = meter.snapshot();
        assert_eq!(value(&live, "vstp_connections_active", &[]), 1);
        client.close().unwrap();
        until(
            || server.stats().connections_active == 0,
            "the connection has ended",
        );

        let (client, server) = (meter.snapshot(), server.meter().snapshot());
        let (sent, received) = ([1, 0, 5, 1, 0, 1, 0, 0, 2], [0, 1, 4, 0, 1, 1, 1, 1, 0]);
        let name = "vstp_frames_total";
        assert_eq!(frames(&client, name, "sent"), sent, "{kind:?}");
        assert_eq!(frames(&client, name, "received"), received, "{kind:?}");
        assert_eq!(frames(&server, name, "sent"), received, "{kind:?}");
        assert_eq!(frames(&server, name, "received"), sent, "{kind:?}");
        let name = "vstp_frame_bytes_total";
        assert_eq!(
            frames(&client, name, "sent"),
            frames(&server, name, "received")
        );
        assert_eq!(
            frames(&client, name, "received"),
            frames(&server, name, "sent")
        );
        let trailer = if kind == Kind::Plain { 4 } else { 0 };
        let custom = [("direction", "sent"), ("type", "custom")];
        assert_eq!(value(&client, name, &custom), 2 * (11 + 7 + trailer));
        let answers = [("direction", "sent"), ("type", "data")];
        let expected = 3 * (11 + 10 + trailer) + 11 + 12 + trailer;
        assert_eq!(value(&server, name, &answers), expected);

        let calls = 3 + 1 + 2 + 1;
        assert_eq!(value(&server, "vstp_handler_seconds_count", &[]), calls);
        assert!(server.time("vstp_handler_seconds").unwrap() > Duration::ZERO);
        assert_eq!(value(&server, "vstp_handler_panics_total", &[]), 1);
        assert_eq!(value(&client, "vstp_round_trip_seconds_count", &[]), 1);
        for numbers in [&client, &server] {
            assert_eq!(value(numbers, "vstp_connections_opened_total", &[]), 1);
            assert_eq!(value(numbers, "vstp_connections_active", &[]), 0);
            assert_eq!(value(numbers, "vstp_handshake_seconds_count", &[]), 1);
            for quiet in [
                "vstp_handshakes_active",
                "vstp_handshake_failures_total",
                "vstp_connection_errors_total",
                "vstp_connections_refused_total",
                "vstp_queue_messages",
                "vstp_datagrams_total",
            ] {
                assert_eq!(value(numbers, quiet, &[]), 0, "{quiet}");
            }
        }
    }
}

#[test]
fn d26_every_datagram_message_is_counted_on_both_sides() {
    let server = VstpUdpServer::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    let server = server
        .spawn(|_: &UdpPeer, frame: Frame| {
            if frame.payload == b"panic" {
                std::panic::resume_unwind(Box::new("as asked"));
            }
            (frame.payload != b"quiet").then(|| Frame::data(frame.payload))
        })
        .unwrap();
    let client = VstpUdpClient::bind("127.0.0.1:0").unwrap();
    client.connect(addr).unwrap();
    for _ in 0..5 {
        client.send_with_ack(Frame::data("echo"), addr).unwrap();
        client.recv_timeout(LONG).unwrap();
    }
    let large = Frame::data(vec![7; 100_000]);
    client.send_with_ack(large, addr).unwrap();
    client.recv_timeout(LONG).unwrap();
    for _ in 0..2 {
        client.send(&Frame::data("quiet"), addr).unwrap();
    }
    client.send_with_ack(Frame::data("panic"), addr).unwrap();
    let calls = 5 + 1 + 2 + 1;
    let handled = || {
        value(
            &server.meter().snapshot(),
            "vstp_handler_seconds_count",
            &[],
        )
    };
    until(|| handled() == calls, "all were handled");
    let meter = client.meter().clone();
    client.close();
    until(
        || value(&server.meter().snapshot(), "vstp_sessions_active", &[]) == 0,
        "the session has ended",
    );

    let client = meter.snapshot();
    let name = "vstp_messages_total";
    let messages = |numbers: &Snapshot| {
        ["received", "sent"].map(|way| value(numbers, name, &[("direction", way)]))
    };
    assert_eq!(messages(&client), [6, calls]);
    assert_eq!(messages(&server.meter().snapshot()), [calls, 6]);
    let deliveries = |result| value(&client, "vstp_deliveries_total", &[("result", result)]);
    assert_eq!((deliveries("acknowledged"), deliveries("failed")), (7, 0));
    assert!(value(&client, "vstp_round_trip_seconds_count", &[]) > 0);
    let server_numbers = server.meter().snapshot();
    assert_eq!(server.handler_panics(), 1);
    assert_eq!(value(&server_numbers, "vstp_handler_panics_total", &[]), 1);
    assert_eq!(value(&server_numbers, "vstp_sessions_opened_total", &[]), 1);
    assert_eq!(value(&server_numbers, "vstp_sessions_closed_total", &[]), 1);
    let sets = [("result", "completed")];
    assert_eq!(
        value(&server_numbers, "vstp_reassembly_sets_total", &sets),
        1
    );
    for gauge in [
        "vstp_reassembly_sets_active",
        "vstp_reassembly_bytes",
        "vstp_queue_messages",
    ] {
        assert_eq!(value(&server_numbers, gauge, &[]), 0, "{gauge}");
    }
    // Loopback loses nothing that fits the buffers: what one side sent, the other received.
    for name in ["vstp_frames_total", "vstp_frame_bytes_total"] {
        assert_eq!(
            frames(&client, name, "sent"),
            frames(&server_numbers, name, "received"),
            "{name}"
        );
    }
    for name in ["vstp_datagrams_total", "vstp_datagram_bytes_total"] {
        assert_eq!(
            value(&client, name, &[("direction", "sent")]),
            value(&server_numbers, name, &[("direction", "received")]),
            "{name}"
        );
    }
}

#[test]
fn d26_a_dropped_datagram_counts_under_its_reason() {
    let server = VstpUdpServer::bind("127.0.0.1:0").unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |bytes: &[u8]| {
        stranger.send_to(bytes, server.local_addr()).unwrap();
    };
    let good = encode_frame(&Frame::data("x").with_header("msg-id", "7")).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    send(b"no frame");
    send(&bad);
    send(&encode_frame(&Frame::new(FrameType::Ack).with_header("msg-id", "1")).unwrap());
    send(&encode_frame(&Frame::data("x").with_header("sid", [7; 16])).unwrap());
    send(&encode_frame(&Frame::new(FrameType::Hello)).unwrap());
    send(&good);
    send(&good);
    let twice = good.repeat(2);
    send(&twice);
    let dropped = |numbers: &Snapshot| {
        DropReason::ALL.map(|reason| {
            let label = [("reason", reason.as_str())];
            (reason, value(numbers, "vstp_drops_total", &label))
        })
    };
    let total = |numbers: &Snapshot| value(numbers, "vstp_drops_total", &[]);
    until(
        || total(&server.meter().snapshot()) == 7,
        "all but one are dropped",
    );
    let stats = server.stats().protocol;
    for (reason, count) in dropped(&server.meter().snapshot()) {
        assert_eq!(count, stats.dropped(reason), "{reason:?}");
        let expected = match reason {
            DropReason::Malformed => 2,
            DropReason::BadCrc
            | DropReason::Unexpected
            | DropReason::UnknownSession
            | DropReason::Hello
            | DropReason::Duplicate => 1,
            _ => 0,
        };
        assert_eq!(count, expected, "{reason:?}");
    }
}

/// A connection to a plaintext server that has sent a first frame, and got its echo.
fn raw(server: &ServerHandle) -> TcpStream {
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let frame = encode_frame(&Frame::data("first")).unwrap();
    stream.write_all(&frame).unwrap();
    let mut echo = vec![0; frame.len()];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(echo, frame);
    stream
}

#[test]
fn d26_a_session_that_ends_by_an_error_counts_under_its_reason() {
    let tcp = TcpConfig::default()
        .frame_timeout(SHORT)
        .idle_timeout(Some(10 * SHORT));
    let server = echo(Kind::Plain, ServerConfig::default().tcp(tcp));
    let good = encode_frame(&Frame::data("second")).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let huge = {
        let mut bytes = good.clone();
        bytes[7..11].copy_from_slice(&u32::MAX.to_be_bytes());
        bytes
    };
    let ping = encode_frame(&Frame::new(FrameType::Ping)).unwrap();
    let err = Frame::new(FrameType::Err).with_header("code", "handler");
    let welcome = Frame::new(FrameType::Welcome);
    let count = |reason: &str| {
        let numbers = server.meter().snapshot();
        value(
            &numbers,
            "vstp_connection_errors_total",
            &[("reason", reason)],
        )
    };
    let mut seen = 0;
    let mut expect = |reason: &str, bytes: &[u8], end: &dyn Fn(TcpStream) -> Option<TcpStream>| {
        let mut stream = raw(&server);
        stream.write_all(bytes).unwrap();
        let kept = end(stream);
        until(|| count(reason) == 1, reason);
        drop(kept);
        seen += 1;
        let all = value(
            &server.meter().snapshot(),
            "vstp_connection_errors_total",
            &[],
        );
        assert_eq!(all, seen, "{reason}: {:?}", server.meter().snapshot());
    };
    let keep = |stream| Some(stream);
    expect("crc", &flipped, &keep);
    expect("malformed", b"GET / HTTP/1.1\r\n", &keep);
    expect("too_large", &huge, &keep);
    expect("overrun", &ping.repeat(30), &keep);
    expect("peer_error", &encode_frame(&err).unwrap(), &keep);
    expect("protocol", &encode_frame(&welcome).unwrap(), &keep);
    expect("timeout_frame", &good[..9], &keep);
    expect("timeout_idle", b"", &keep);
    expect("truncated", &good[..9], &|stream: TcpStream| {
        stream.shutdown(Shutdown::Write).unwrap();
        Some(stream)
    });
    expect("reset", b"", &|stream: TcpStream| {
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        None
    });
    assert_eq!(server.stats().handshake_protocol_failures, 0);
}

#[test]
fn d26_a_peer_that_leaves_without_goodbye_is_counted() {
    for kind in BOTH {
        let server = echo(kind, ServerConfig::default());
        let client = connect(kind, &server);
        client.closer().close();
        let numbers = || server.meter().snapshot();
        let count = || value(&numbers(), "vstp_connection_errors_total", &[]);
        until(|| count() == 1, "it is counted");
        let reasons = ["without_bye", "truncated", "reset"].map(|reason| {
            value(
                &numbers(),
                "vstp_connection_errors_total",
                &[("reason", reason)],
            )
        });
        assert_eq!(reasons.iter().sum::<u64>(), 1, "{reasons:?}");
    }
}

#[test]
fn d26_failed_handshakes_and_refused_connections_count_under_their_reasons() {
    for kind in BOTH {
        let tcp = TcpConfig::default().handshake_timeout(SHORT);
        let server = echo(kind, ServerConfig::default().tcp(tcp));
        let count = |name, reason: &str| {
            let numbers = server.meter().snapshot();
            value(&numbers, name, &[("reason", reason)])
        };
        let failures = "vstp_handshake_failures_total";
        let silent = TcpStream::connect(server.local_addr()).unwrap();
        until(|| count(failures, "timeout") == 1, "it took too long");
        drop(silent);
        let mut wrong = TcpStream::connect(server.local_addr()).unwrap();
        wrong.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let reason = if kind == Kind::Tls { "tls" } else { "protocol" };
        until(|| count(failures, reason) == 1, "it is no client of this");
        drop(wrong);

        let server = echo(kind, ServerConfig::default().max_per_address(2));
        let count = |name, reason: &str| {
            let numbers = server.meter().snapshot();
            value(&numbers, name, &[("reason", reason)])
        };
        let connected = [connect(kind, &server), connect(kind, &server)];
        let meter = Meter::new();
        let refused = try_connect(kind, &server, config().meter(meter.clone()));
        assert!(refused.is_err());
        assert_eq!(count("vstp_connections_refused_total", "per_address"), 1);
        let client = meter.snapshot();
        assert_eq!(value(&client, "vstp_connections_opened_total", &[]), 1);
        assert_eq!(value(&client, failures, &[]), 1);
        assert_eq!(value(&client, "vstp_connections_active", &[]), 0);
        drop(connected);
    }
}

#[test]
fn a_connection_that_cannot_be_made_counts_at_the_meter_that_was_given() {
    let meter = Meter::new();
    let config = config().meter(meter.clone());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let refused = VstpTcpClient::connect_plain_with(addr, config);
    assert!(matches!(refused, Err(VstpError::Io(_))), "{refused:?}");
    let numbers = meter.snapshot();
    let io = [("reason", "io")];
    assert_eq!(value(&numbers, "vstp_connect_failures_total", &io), 1);
    assert_eq!(value(&numbers, "vstp_connections_opened_total", &[]), 0);
}

#[test]
fn a_full_send_queue_counts_what_waits_and_what_was_refused() {
    let config = config()
        .send_queue(4, 1 << 20)
        .socket_buffers(Some(16 << 10), None);
    let server = bind(Kind::Plain, ServerConfig::default());
    let handle = server.handle();
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| try_connect(Kind::Plain, &handle, config).unwrap());
        let stalled = server.accept_timeout(LONG).unwrap();
        let client = connecting.join().unwrap();
        let sender = client.sender().unwrap();
        let frame = Frame::data(vec![0; 50_000]);
        let mut queued = 0;
        while sender.send_timeout(frame.clone(), 10 * SHORT).is_ok() {
            queued += 1;
        }
        assert!(queued >= 4);
        for _ in 0..3 {
            let refused = sender.try_send(frame.clone()).unwrap_err();
            assert!(matches!(refused.error, VstpError::Backpressure));
        }
        let meter = client.meter().clone();
        let numbers = meter.snapshot();
        assert_eq!(value(&numbers, "vstp_backpressure_total", &[]), 3);
        assert_eq!(
            value(&numbers, "vstp_queue_messages", &[("queue", "send")]),
            4
        );
        drop((client, stalled));
        drop(sender);
        let numbers = meter.snapshot();
        assert_eq!(value(&numbers, "vstp_backpressure_total", &[]), 3);
        assert_eq!(value(&numbers, "vstp_queue_messages", &[]), 0);
    });
}

#[test]
fn with_the_meter_off_nothing_is_counted_and_everything_works() {
    for kind in BOTH {
        let tcp = config().meter(Meter::off());
        let server = echo(kind, ServerConfig::default().tcp(tcp.clone()));
        let mut client = try_connect(kind, &server, tcp).unwrap();
        // More acknowledgements than may come unasked: what was asked for is counted all the same.
        for _ in 0..40 {
            client.send_with_ack(Frame::data("x")).unwrap();
            assert!(client.recv().unwrap().is_some());
        }
        assert_eq!(client.stats().frames_sent, 0);
        assert_eq!(server.stats().frames_in, 0);
        assert_eq!(server.stats().connections_active, 1, "what limits need");
        assert_eq!(client.meter().snapshot(), Snapshot::default());
        assert_eq!(server.meter().snapshot(), Snapshot::default());
        client.close().unwrap();
    }
    let quiet = UdpConfig::default().meter(Meter::off());
    let client = VstpUdpClient::bind_with_config("127.0.0.1:0", quiet).unwrap();
    assert_eq!(client.meter().snapshot(), Snapshot::default());
}

#[test]
fn numbers_of_what_has_ended_stay_in_the_meter_that_they_share_and_its_gauges_go_back() {
    let shared = Meter::new();
    let server = echo(
        Kind::Plain,
        ServerConfig::default().tcp(config().meter(shared.clone())),
    );
    for round in 1..=3 {
        let tcp = config().meter(shared.clone());
        let mut client = try_connect(Kind::Plain, &server, tcp).unwrap();
        client.send(&Frame::data("x")).unwrap();
        assert!(client.recv().unwrap().is_some());
        let numbers = shared.snapshot();
        assert_eq!(value(&numbers, "vstp_connections_active", &[]), 2);
        client.close().unwrap();
        until(|| server.stats().connections_active == 0, "it has ended");
        let numbers = shared.snapshot();
        let data = [("direction", "received"), ("type", "data")];
        assert_eq!(value(&numbers, "vstp_frames_total", &data), 2 * round);
        assert_eq!(value(&numbers, "vstp_connections_active", &[]), 0);
    }
    // Its own numbers have nothing of the clients.
    assert_eq!(server.stats().frames_in, 3);
    assert_eq!(server.stats().connections_accepted, 3);
    server.shutdown(LONG);
    drop(server);
    let udp = UdpConfig::default().meter(shared.clone());
    let client = VstpUdpClient::bind_with_config("127.0.0.1:0", udp).unwrap();
    client.send(&Frame::data("x"), client.local_addr()).unwrap();
    client.recv_timeout(LONG).unwrap();
    drop(client);
    let numbers = shared.snapshot();
    assert_eq!(value(&numbers, "vstp_messages_total", &[]), 2);
    assert_eq!(value(&numbers, "vstp_handler_seconds_count", &[]), 3);
}

/// A text with numbers in it: a server with two clients, one over UDP, told apart by a label that needs escaping.
fn exposition() -> (Snapshot, Snapshot, String) {
    let server = echo(Kind::Plain, ServerConfig::default());
    let mut client = connect(Kind::Plain, &server);
    client.send(&Frame::data("x")).unwrap();
    assert!(client.recv().unwrap().is_some());
    client.ping().unwrap();
    client.close().unwrap();
    until(|| server.stats().connections_active == 0, "it has ended");
    let udp = VstpUdpClient::bind("127.0.0.1:0").unwrap();
    udp.send(&Frame::data("x"), udp.local_addr()).unwrap();
    udp.recv_timeout(LONG).unwrap();
    let (server, udp) = (server.meter().snapshot(), udp.meter().snapshot());
    let mut all = Exposition::new("instance_name").unwrap();
    all.add("the \"server\"", &server);
    all.add("udp", &udp);
    (server, udp, all.render())
}

#[test]
fn a_parser_of_the_format_reads_every_number_back() {
    let (server, udp, text) = exposition();
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let mut series = HashSet::new();
    let mut sums = [0.0, 0.0];
    for sample in &scrape.samples {
        let labels = format!("{:?}", sample.labels);
        let mut sorted: Vec<_> = sample.labels.iter().collect();
        sorted.sort_unstable();
        assert!(
            series.insert((sample.metric.clone(), format!("{sorted:?}"))),
            "{} {labels} is there twice",
            sample.metric
        );
        let who = sample.labels.get("instance_name").unwrap();
        let numbers = if who == "udp" { &udp } else { &server };
        let labels: Vec<(&str, &str)> = sample
            .labels
            .iter()
            .filter(|(name, _)| *name != "instance_name")
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        match &sample.value {
            Value::Counter(read) | Value::Gauge(read) => {
                let expected = value(numbers, &sample.metric, &labels);
                assert_eq!(*read, expected as f64, "{} {labels:?}", sample.metric);
                sums[usize::from(who == "udp")] += read;
            }
            Value::Histogram(buckets) => {
                assert_eq!(buckets.len(), 19);
                assert!(
                    buckets.is_sorted_by(|a, b| a.less_than < b.less_than && a.count <= b.count)
                );
                let last = buckets.last().unwrap();
                let count = value(numbers, &format!("{}_count", sample.metric), &[]);
                assert_eq!((last.less_than, last.count), (f64::INFINITY, count as f64));
            }
            // `_sum` and `_count`, which this parser does not join with their histogram.
            Value::Untyped(read) => match sample.metric.strip_suffix("_sum") {
                Some(name) => {
                    let expected = numbers.time(name).unwrap().as_secs_f64();
                    assert!((read - expected).abs() < 1e-9, "{name}");
                }
                None => assert_eq!(*read, value(numbers, &sample.metric, &labels) as f64),
            },
            Value::Summary(_) => panic!("{sample:?}"),
        }
    }
    assert!(sums.iter().all(|sum| *sum > 0.0), "{sums:?}");
    assert!(series.len() > 200, "{}", series.len());
}

/// What that parser does not look at.
#[test]
fn the_text_keeps_the_grammar_line_by_line() {
    let (_, _, text) = exposition();
    assert!(text.ends_with('\n'));
    let mut families = HashSet::new();
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let (name, words) = help
            .strip_prefix("# HELP ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert!(words.ends_with('.'), "{help}");
        assert!(families.insert(name), "{name} comes twice");
        let typ = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
        let typ = typ.strip_prefix(name).unwrap().trim();
        assert!(["counter", "gauge", "histogram"].contains(&typ), "{typ}");
        let mut count = 0;
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            count += 1;
            let (series, number) = sample.rsplit_once(' ').unwrap();
            assert!(number.parse::<f64>().is_ok_and(|n| n >= 0.0), "{sample}");
            let (own, labels) = series.split_once('{').unwrap();
            let suffix = own.strip_prefix(name).unwrap();
            let allowed: &[&str] = match typ {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "{sample}");
            assert!(labels.ends_with("\"}"), "{sample}");
            assert!(labels.starts_with("instance_name=\""), "{sample}");
        }
        assert!(count > 0, "{name} has no number");
    }
    assert!(text.contains(r#"{instance_name="the \"server\"","#));
}

/// The values of each label, in their order.
fn label_values(family: Family) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, value) in (0..family.width()).flat_map(|place| family.labels(place)) {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => all.push((name, vec![value])),
        }
    }
    all
}

#[test]
fn the_page_of_metrics_has_each_with_its_type_and_labels() {
    let row = |family: &Family| {
        let kind = format!("{:?}", family.kind()).to_lowercase();
        let labels = label_values(*family)
            .into_iter()
            .map(|(name, values)| format!("`{name}`: {}", values.join(", ")));
        let labels = labels.collect::<Vec<_>>().join("; ");
        let cells = [
            &format!("`{}`", family.name()),
            &kind,
            &labels,
            family.help(),
        ];
        format!("| {} |", cells.join(" | ")).replace("|  |", "| |")
    };
    let expected: Vec<String> = Family::ALL.iter().map(row).collect();
    let page = include_str!("../../docs/metrics.md");
    let rows: Vec<&str> = page.lines().filter(|l| l.starts_with("| `")).collect();
    assert_eq!(rows, expected, "\n{}", expected.join("\n"));
}

#[test]
fn promtool_finds_nothing_to_say_about_the_text() {
    let (_, _, text) = exposition();
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        eprintln!("skipped: `promtool` of Prometheus is not installed; scripts/setup-ci does it");
        return;
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
