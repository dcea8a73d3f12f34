//! Extensions on real connections: they see, change, keep and answer messages, and harm nobody.

use crate::util::{BOTH, Kind, LONG, bind, config, connect, echo_frame, try_connect};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vstp::error::HandlerError;
use vstp::ext::{
    CompressionConfig, Direction, ExtensionContext, ExtensionHandler, ExtensionRegistry, Outcome,
    TransportKind,
};
use vstp::net::Meter;
use vstp::net::udp::UdpConfig;
use vstp::proto::ErrorCode;
use vstp::serve::{ServerConfig, UdpPeer, UdpServerHandle};
use vstp::{Frame, FrameType, VstpError, VstpUdpClient, VstpUdpServer};

const LOCAL: &str = "127.0.0.1:0";
const ASK: FrameType = FrameType::Custom(0x42);

/// Handles messages of one type by a function.
struct On<F>(FrameType, F);

impl<F> ExtensionHandler for On<F>
where
    F: Fn(Frame, &ExtensionContext) -> Result<Outcome, HandlerError> + Send + Sync,
{
    fn should_handle(&self, frame: &Frame) -> bool {
        frame.typ == self.0
    }

    fn handle_frame(&self, frame: Frame, to: &ExtensionContext) -> Result<Outcome, HandlerError> {
        (self.1)(frame, to)
    }
}

/// What a server of the tests does with messages of types of its own.
fn registry() -> ExtensionRegistry {
    let mut all = ExtensionRegistry::new();
    all.register_only(
        Direction::Inbound,
        "ask",
        On(ASK, |frame: Frame, context: &ExtensionContext| {
            let kind = format!("{:?}", context.transport);
            Ok(Outcome::Answer(vec![Frame::new(ASK).with_payload(
                [&frame.payload[..], kind.as_bytes()].concat(),
            )]))
        }),
    );
    all.register_only(
        Direction::Inbound,
        "fail",
        On(FrameType::Custom(0x50), |_, _: &ExtensionContext| {
            Err(HandlerError::new(ErrorCode::BadRequest, "not that"))
        }),
    );
    all.register_only(
        Direction::Inbound,
        "panic",
        On(FrameType::Custom(0x51), |_, _: &ExtensionContext| {
            panic!("for the test")
        }),
    );
    all.register_only(
        Direction::Inbound,
        "keep",
        On(FrameType::Custom(0x52), |_, _: &ExtensionContext| {
            Ok(Outcome::Consume)
        }),
    );
    all
}

fn udp() -> UdpConfig {
    UdpConfig::default().read_timeout(Some(LONG))
}

fn udp_echo(config: UdpConfig) -> UdpServerHandle {
    let server = VstpUdpServer::bind_with_config(LOCAL, config).unwrap();
    server
        .workers(2)
        .spawn(|_: &UdpPeer, frame: Frame| frame)
        .unwrap()
}

fn with_id(frame: Frame, id: &str) -> Frame {
    frame.with_header("correlation-id", id)
}

#[test]
fn a03_a_custom_type_gets_to_its_extension_over_tcp_and_tls_and_others_to_the_handler() {
    for (kind, name) in BOTH.into_iter().zip(["PlainTcp", "Tls"]) {
        let server = bind(kind, ServerConfig::default().extensions(registry()))
            .spawn(echo_frame)
            .unwrap();
        let mut client = connect(kind, &server);
        let kept = Frame::new(FrameType::Custom(0x52));
        let other = Frame::new(FrameType::Custom(0x99)).with_payload("o");
        for frame in [
            kept,
            with_id(Frame::new(ASK).with_payload("?"), "7"),
            other.clone(),
        ] {
            client.send(&frame).unwrap();
        }
        let answer = with_id(Frame::new(ASK).with_payload(format!("?{name}")), "7");
        assert_eq!(client.recv().unwrap(), Some(answer));
        assert_eq!(
            client.recv().unwrap(),
            Some(other),
            "and nothing for the one that was kept"
        );
    }
}

#[test]
fn a03_a_custom_type_gets_to_its_extension_over_udp_and_others_to_the_handler() {
    let server = udp_echo(udp().extensions(registry()));
    let to = server.local_addr();
    for session in [false, true] {
        let client = VstpUdpClient::bind_with_config(LOCAL, udp()).unwrap();
        if session {
            client.connect(to).unwrap();
        }
        client
            .send_with_ack(Frame::new(FrameType::Custom(0x52)), to)
            .unwrap();
        client
            .send_with_ack(with_id(Frame::new(ASK).with_payload("?"), "7"), to)
            .unwrap();
        let answer = with_id(Frame::new(ASK).with_payload("?Udp"), "7");
        assert_eq!(client.recv().unwrap().0, answer);
        let other = Frame::new(FrameType::Custom(0x99)).with_payload("o");
        client.send_with_ack(other.clone(), to).unwrap();
        assert_eq!(client.recv().unwrap().0, other);
    }
}

#[test]
fn e10_an_extension_that_fails_or_panics_answers_err_and_harms_nobody() {
    for kind in BOTH {
        let server = bind(kind, ServerConfig::default().extensions(registry()))
            .spawn(echo_frame)
            .unwrap();
        let (mut client, mut other) = (connect(kind, &server), connect(kind, &server));
        for (typ, code) in [(0x50, ErrorCode::BadRequest), (0x51, ErrorCode::Handler)] {
            client
                .send(&with_id(Frame::new(FrameType::Custom(typ)), "7"))
                .unwrap();
            match client.recv() {
                Err(VstpError::ServerError(error)) => {
                    assert_eq!(
                        (error.code, error.correlation_id.as_deref()),
                        (code, Some(&b"7"[..]))
                    );
                    assert!(!error.message.contains("for the test"));
                }
                other => panic!("{other:?}"),
            }
            for client in [&mut client, &mut other] {
                client.send(&Frame::data("alive")).unwrap();
                assert_eq!(
                    client.recv().unwrap(),
                    Some(Frame::data("alive")),
                    "{kind:?}"
                );
            }
        }
        assert_eq!(server.stats().handler_panics, 1);
        assert_eq!(failures(server.meter()), [2, 0]);
        // Without an id ERR ends the session, as it does after a handler's error.
        client.send(&Frame::new(FrameType::Custom(0x51))).unwrap();
        assert!(matches!(client.recv(), Err(VstpError::ServerError(_))));
        other.send(&Frame::data("alive")).unwrap();
        assert_eq!(
            other.recv().unwrap(),
            Some(Frame::data("alive")),
            "{kind:?}"
        );
    }
}

#[test]
fn e10_over_udp_an_extension_that_fails_or_panics_answers_err_and_harms_nobody() {
    let server = udp_echo(udp().extensions(registry()));
    let to = server.local_addr();
    let clients = [(), ()].map(|()| VstpUdpClient::bind_with_config(LOCAL, udp()).unwrap());
    clients[0].connect(to).unwrap();
    for (typ, code) in [(0x50, "bad-request"), (0x51, "handler")] {
        let typ = FrameType::Custom(typ);
        clients[0]
            .send_with_ack(with_id(Frame::new(typ), "7"), to)
            .unwrap();
        let answer = clients[0].recv().unwrap().0;
        assert_eq!(
            (answer.typ, answer.header_str("code")),
            (FrameType::Err, Some(code))
        );
        assert_eq!(answer.header_str("correlation-id"), Some("7"));
        clients[0].send_with_ack(Frame::new(typ), to).unwrap();
        for client in &clients {
            client.send_with_ack(Frame::data("alive"), to).unwrap();
            assert_eq!(
                client.recv().unwrap().0,
                Frame::data("alive"),
                "without an id there is no answer"
            );
        }
    }
    assert_eq!(server.stats().extension_failures, 4);
    assert_eq!(failures(server.meter()), [4, 0]);
    assert_eq!(server.handler_panics(), 2);
}

/// Those of messages that were received, and that were to be sent.
fn failures(meter: &Meter) -> [u64; 2] {
    let numbers = meter.snapshot();
    ["received", "sent"].map(|way| {
        let labels = [("direction", way)];
        let count = numbers.value("vstp_extension_failures_total", &labels);
        count.unwrap()
    })
}

/// Turns payloads over, both ways, and says how often.
#[derive(Default)]
struct Veil(Arc<[AtomicU64; 2]>);

impl ExtensionHandler for Veil {
    fn should_handle(&self, frame: &Frame) -> bool {
        frame.typ == FrameType::Data
    }

    fn handle_frame(
        &self,
        mut frame: Frame,
        to: &ExtensionContext,
    ) -> Result<Outcome, HandlerError> {
        self.0[usize::from(to.direction == Direction::Outbound)].fetch_add(1, Ordering::Relaxed);
        frame.payload.iter_mut().for_each(|byte| *byte ^= 0x5a);
        Ok(Outcome::Pass(frame))
    }
}

/// Puts the length in front, and takes it off.
struct Length;

impl ExtensionHandler for Length {
    fn should_handle(&self, frame: &Frame) -> bool {
        frame.typ == FrameType::Data
    }

    fn handle_frame(&self, frame: Frame, to: &ExtensionContext) -> Result<Outcome, HandlerError> {
        let payload = match (to.direction, frame.payload.split_first_chunk::<4>()) {
            (Direction::Outbound, _) => {
                let len = frame.payload.len() as u32;
                [&len.to_be_bytes(), &frame.payload[..]].concat()
            }
            (Direction::Inbound, Some((len, rest)))
                if u32::from_be_bytes(*len) as usize == rest.len() =>
            {
                rest.to_vec()
            }
            (Direction::Inbound, _) => return Err("no length".into()),
        };
        Ok(Outcome::Pass(Frame { payload, ..frame }))
    }
}

/// The same layers at both ends: what one does on the way out, it undoes on the way in, and between them
/// and the network lies compression.
#[test]
fn layers_at_both_ends_undo_each_other_with_compression_below_them() {
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let mut layers = ExtensionRegistry::new();
    layers.register("veil", Veil(Arc::clone(&counts)));
    layers.register("length", Length);
    let layers = Arc::new(layers);
    let zip = CompressionConfig::default();
    let frame = Frame::data(b"layer upon layer, ".repeat(1000));
    for kind in BOTH {
        let server = ServerConfig::default()
            .compression(zip)
            .extensions(Arc::clone(&layers));
        let server = bind(kind, server).spawn(echo_frame).unwrap();
        let config = config().compression(zip).extensions(Arc::clone(&layers));
        let mut client = try_connect(kind, &server, config).unwrap();
        client.send(&frame).unwrap();
        assert_eq!(client.recv().unwrap().as_ref(), Some(&frame), "{kind:?}");
        client.send_with_ack(frame.clone()).unwrap();
        assert_eq!(client.recv_ref().unwrap().unwrap().payload, frame.payload);
        client.sender().unwrap().send(frame.clone()).unwrap();
        assert_eq!(client.recv().unwrap().unwrap().payload, frame.payload);
        assert!(client.stats().bytes_sent < 10_000, "{kind:?}");
        // Without the layers it cannot be read.
        let mut plain = connect(kind, &server);
        plain.send(&with_id(frame.clone(), "1")).unwrap();
        assert!(
            matches!(plain.recv(), Err(VstpError::ServerError(_))),
            "{kind:?}"
        );
    }
    let config = || udp().compression(zip).extensions(Arc::clone(&layers));
    let server = udp_echo(config());
    let (client, session) =
        VstpUdpClient::connect_to_with_config(server.local_addr(), config()).unwrap();
    client
        .send_with_ack(frame.clone(), session.peer_addr())
        .unwrap();
    assert_eq!(client.recv().unwrap().0, frame);
    let [inwards, outwards] = counts.each_ref().map(|n| n.load(Ordering::Relaxed));
    assert!(
        inwards >= outwards && outwards >= 14,
        "{inwards} in, {outwards} out"
    );
}

#[test]
fn failures_of_a_client_are_its_own_and_the_connection_goes_on() {
    let mut all = registry();
    let refuse = |_, _: &ExtensionContext| Err("not this way".into());
    all.register_only(
        Direction::Outbound,
        "out",
        On(FrameType::Custom(0x60), refuse),
    );
    let keep = |_, _: &ExtensionContext| Ok(Outcome::Consume);
    all.register_only(
        Direction::Outbound,
        "drop",
        On(FrameType::Custom(0x61), keep),
    );
    let all = Arc::new(all);
    let server = crate::util::echo(Kind::Plain, ServerConfig::default());
    let config = config().extensions(Arc::clone(&all));
    let mut client = try_connect(Kind::Plain, &server, config).unwrap();
    let out = Frame::new(FrameType::Custom(0x60));
    for error in [
        client.send(&out),
        client.send_with_ack(out.clone()),
        client.feed(&out),
    ] {
        assert!(matches!(error, Err(VstpError::Extension(e)) if e.extension == "out"));
    }
    let back = client.sender().unwrap().send(out.clone()).unwrap_err();
    assert_eq!(back.frame, out, "unchanged");
    let dropped = Frame::new(FrameType::Custom(0x61));
    client.send(&dropped).unwrap();
    client.send_with_ack(dropped.clone()).unwrap();
    client.send(&Frame::new(FrameType::Custom(0x50))).unwrap();
    let failed = client.recv();
    assert!(
        matches!(failed, Err(VstpError::Extension(ref e)) if e.extension == "fail"),
        "{failed:?}"
    );
    client.send(&Frame::data("on")).unwrap();
    assert_eq!(client.recv().unwrap(), Some(Frame::data("on")));

    let server = udp_echo(udp());
    let to = server.local_addr();
    let client = VstpUdpClient::bind_with_config(LOCAL, udp().extensions(all)).unwrap();
    assert!(matches!(
        client.send(&out, to),
        Err(VstpError::Extension(_))
    ));
    assert!(client.start_send(out, to).is_err());
    client.send(&dropped, to).unwrap();
    let delivery = client.start_send(dropped, to).unwrap();
    assert!(delivery.is_done() && delivery.wait().is_ok());
    client
        .send_with_ack(Frame::new(FrameType::Custom(0x50)), to)
        .unwrap();
    client.send_with_ack(Frame::data("on"), to).unwrap();
    assert_eq!(
        client.recv().unwrap().0,
        Frame::data("on"),
        "what failed is not delivered"
    );
    assert_eq!(client.stats().extension_failures, 1);
    assert_eq!(failures(client.meter()), [1, 2]);
}

#[test]
fn connections_that_are_accepted_and_servers_that_receive_have_them_too() {
    let server = bind(Kind::Plain, ServerConfig::default().extensions(registry()));
    let handle = server.handle();
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| server.accept_timeout(LONG).unwrap());
        let mut client = connect(Kind::Plain, &handle);
        let mut connection = accepting.join().unwrap();
        client.send(&Frame::new(ASK).with_payload("?")).unwrap();
        client
            .send(&with_id(Frame::new(FrameType::Custom(0x50)), "7"))
            .unwrap();
        client.send(&Frame::data("last")).unwrap();
        let failed = connection.recv_timeout(LONG);
        assert!(matches!(failed, Err(VstpError::Extension(_))), "{failed:?}");
        assert_eq!(
            connection.recv_timeout(LONG).unwrap(),
            Some(Frame::data("last"))
        );
        assert_eq!(client.recv().unwrap().unwrap().payload, b"?PlainTcp");
        assert!(
            matches!(client.recv(), Err(VstpError::ServerError(e)) if e.code == ErrorCode::BadRequest)
        );
    });

    let server = VstpUdpServer::bind_with_config(LOCAL, udp().extensions(registry())).unwrap();
    let client = VstpUdpClient::bind_with_config(LOCAL, udp()).unwrap();
    let to = server.local_addr();
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| server.recv().unwrap().0);
        client
            .send_with_ack(with_id(Frame::new(FrameType::Custom(0x50)), "7"), to)
            .unwrap();
        assert_eq!(client.recv().unwrap().0.typ, FrameType::Err);
        client
            .send_with_ack(Frame::new(ASK).with_payload("?"), to)
            .unwrap();
        assert_eq!(client.recv().unwrap().0.payload, b"?Udp");
        client.send_with_ack(Frame::data("last"), to).unwrap();
        assert_eq!(receiving.join().unwrap(), Frame::data("last"));
    });
}

#[test]
fn the_context_says_where_a_message_comes_from() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let mut all = ExtensionRegistry::new();
    let look = move |frame, context: &ExtensionContext| {
        note.lock().unwrap().push(*context);
        Ok(Outcome::Pass(frame))
    };
    all.register("look", On(FrameType::Data, look));
    let server = bind(Kind::Tls, ServerConfig::default().extensions(all))
        .spawn(echo_frame)
        .unwrap();
    let mut client = connect(Kind::Tls, &server);
    client.send(&Frame::data("x")).unwrap();
    client.recv().unwrap();
    let seen = seen.lock().unwrap();
    let expected = [Direction::Inbound, Direction::Outbound].map(|direction| {
        ExtensionContext::new(direction, TransportKind::Tls, client.local_addr())
            .with_session(Some(client.session_id()))
    });
    assert_eq!(seen[..], expected);
}
