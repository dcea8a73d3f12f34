//! The session on a virtual clock: the whole table of spec 3.3, and each rule beside it.

use super::*;
use crate::wire::{self, DecodeError, Decoded, Limits, Trailer};
use std::time::Duration;

#[expect(clippy::disallowed_methods, reason = "the origin of a virtual clock")]
fn origin() -> Instant {
    Instant::now()
}

fn config() -> SessionConfig {
    SessionConfig {
        features: "gzip,bundle".parse().unwrap(),
        max_frame_len: 1 << 20,
        hello: true,
        require_hello: false,
        auth_token: None,
        authenticate: false,
    }
}

fn judging_server(security: Security) -> Session {
    let config = SessionConfig {
        authenticate: true,
        ..config()
    };
    Session::server(config, security, 7)
}

fn client(security: Security) -> Session {
    Session::client(config(), security)
}

fn server(security: Security) -> Session {
    Session::server(config(), security, 7)
}

/// Hands over a frame as the shell does: its head first, as it comes from the wire.
fn give(session: &mut Session, frame: &Frame) -> Result<Event, Violation> {
    give_at(session, origin(), frame)
}

fn give_at(session: &mut Session, now: Instant, frame: &Frame) -> Result<Event, Violation> {
    let mut bytes = Vec::new();
    let limits = Limits::default();
    wire::encode(frame.as_ref(), Trailer::Always, &limits, &mut bytes).unwrap();
    let head = FixedHeader::parse(&bytes, Trailer::Always, &limits)
        .unwrap()
        .unwrap();
    session.check_head(&head)?;
    match wire::decode(&bytes, Trailer::Always, &limits)? {
        Decoded::Frame(frame, _) => session.handle_frame(now, frame),
        Decoded::Incomplete { .. } => Err(DecodeError::Incomplete { needed: 1 }.into()),
    }
}

fn welcome() -> Frame {
    Frame::new(FrameType::Welcome).with_header(keys::SESSION_ID, "7")
}

fn hello() -> Frame {
    Frame::new(FrameType::Hello)
}

/// The smallest valid frame of each type.
fn sample(typ: FrameType) -> Frame {
    match typ {
        FrameType::Welcome => welcome(),
        FrameType::Ack => Frame::new(typ).with_header(keys::MSG_ID, "1"),
        _ => Frame::new(typ),
    }
}

/// Sessions in every state, by name.
fn open_client(security: Security) -> Session {
    let mut session = client(security);
    assert_eq!(session.poll_output().map(|f| f.typ), Some(FrameType::Hello));
    assert_eq!(give(&mut session, &welcome()), Ok(Event::Established));
    session
}

fn open_server(security: Security) -> Session {
    let mut session = server(security);
    assert_eq!(give(&mut session, &hello()), Ok(Event::Established));
    assert_eq!(
        session.poll_output().map(|f| f.typ),
        Some(FrameType::Welcome)
    );
    session
}

fn over(mut session: Session) -> Session {
    assert_eq!(
        give(&mut session, &sample(FrameType::Bye)),
        Ok(Event::PeerBye { code: None })
    );
    session
}

fn legacy_client() -> Session {
    Session::client(
        SessionConfig {
            hello: false,
            ..config()
        },
        Security::Plaintext,
    )
}

fn legacy_server() -> Session {
    let mut session = server(Security::Plaintext);
    assert_eq!(
        give(&mut session, &Frame::data("first")),
        Ok(Event::Deliver)
    );
    session
}

#[test]
fn a13_state_type_role_table() {
    use FrameType as T;
    const TYPES: [T; 9] = [
        T::Hello,
        T::Welcome,
        T::Data,
        T::Ping,
        T::Pong,
        T::Bye,
        T::Ack,
        T::Err,
        T::Custom(0x42),
    ];
    // Columns as in TYPES. W: opens, D: delivered, P: answered by PONG, o: PONG, a: ACK,
    // B: BYE, E: ERR, h: hello-required, x: refused.
    let rows: [(&str, &dyn Fn() -> Session, &str); 13] = [
        (
            "server TLS, nothing yet",
            &|| server(Security::Tls),
            "Whhhhhh E h",
        ),
        (
            "server plain, nothing yet",
            &|| server(Security::Plaintext),
            "WxDPxxx E D",
        ),
        (
            "server TLS, open",
            &|| open_server(Security::Tls),
            "xxDPoBa E D",
        ),
        (
            "server plain, open",
            &|| open_server(Security::Plaintext),
            "xxDPoBa E D",
        ),
        ("server plain, without HELLO", &legacy_server, "WxDPoBa E D"),
        (
            "server TLS, over",
            &|| over(open_server(Security::Tls)),
            "xxxxxxx x x",
        ),
        (
            "server plain, over",
            &|| over(open_server(Security::Plaintext)),
            "xxxxxxx x x",
        ),
        (
            "client TLS, waiting",
            &|| client(Security::Tls),
            "xWxxxxx E x",
        ),
        (
            "client plain, waiting",
            &|| client(Security::Plaintext),
            "xWxxxxx E x",
        ),
        (
            "client TLS, open",
            &|| open_client(Security::Tls),
            "xxDPoBa E D",
        ),
        (
            "client plain, open",
            &|| open_client(Security::Plaintext),
            "xxDPoBa E D",
        ),
        ("client plain, without HELLO", &legacy_client, "xxDPoBa E D"),
        (
            "client TLS, over",
            &|| over(open_client(Security::Tls)),
            "xxxxxxx x x",
        ),
    ];
    for (name, start, expected) in rows {
        let expected: Vec<char> = expected.chars().filter(|c| *c != ' ').collect();
        assert_eq!(expected.len(), TYPES.len(), "{name}");
        for (typ, expected) in TYPES.into_iter().zip(expected) {
            let mut session = start();
            let got = match give(&mut session, &sample(typ)) {
                Ok(Event::Established | Event::Hello { .. }) => 'W',
                Ok(Event::Deliver) => 'D',
                Ok(Event::Consumed) => 'P',
                Ok(Event::Pong) => 'o',
                Ok(Event::Acked { .. }) => 'a',
                Ok(Event::PeerBye { .. }) => 'B',
                Ok(Event::RemoteError { .. }) => 'E',
                Err(Violation::HelloRequired { .. }) => 'h',
                Err(Violation::Unexpected { .. }) => 'x',
                Err(other) => panic!("{name}, {typ}: {other}"),
            };
            assert_eq!(got, expected, "{name}, {typ}");
        }
    }
}

#[test]
fn a14_control_payloads_are_judged_from_the_head() {
    for (typ, limit) in [
        (FrameType::Ping, 64),
        (FrameType::Pong, 64),
        (FrameType::Bye, 256),
        (FrameType::Err, 1024),
        (FrameType::Ack, 1200),
    ] {
        let mut head = FixedHeader {
            typ,
            flags: Flags::empty(),
            header_len: 0,
            payload_len: limit,
            frame_len: 15 + limit,
        };
        let session = open_server(Security::Tls);
        assert_eq!(session.check_head(&head), Ok(()), "{typ} at its limit");
        head.payload_len = limit + 1;
        let refused = session.check_head(&head);
        assert_eq!(
            refused,
            Err(Violation::ControlPayload {
                typ,
                len: limit + 1,
                limit
            })
        );
    }
    let long = hello().with_payload(vec![0; MAX_TOKEN_LEN + 1]);
    let refused = give(&mut server(Security::Tls), &long);
    assert!(
        matches!(refused, Err(Violation::ControlPayload { .. })),
        "{refused:?}"
    );
    let mut long = hello();
    for n in 0..20 {
        long = long.with_header(format!("k{n}"), vec![b'v'; 250]);
    }
    let refused = give(&mut server(Security::Tls), &long);
    assert!(
        matches!(refused, Err(Violation::ControlPayload { .. })),
        "{refused:?}"
    );
    let full = welcome().with_payload("x");
    assert!(matches!(
        give(&mut client(Security::Tls), &full),
        Err(Violation::ControlPayload { .. })
    ));
}

#[test]
fn flags_that_mean_nothing_on_a_stream_are_refused() {
    let frag = Frame::data("x").with_flag(Flags::FRAG);
    let refused = give(&mut open_server(Security::Tls), &frag);
    assert_eq!(
        refused,
        Err(Violation::FlagNotAllowed {
            typ: FrameType::Data,
            flag: "FRAG"
        })
    );
    let comp = Frame::data("x").with_flag(Flags::COMP);
    let refused = give(&mut open_server(Security::Tls), &comp);
    assert_eq!(
        refused,
        Err(Violation::FlagNotAllowed {
            typ: FrameType::Data,
            flag: "COMP"
        })
    );
    // The twin: negotiated, it passes on messages, and never on control frames.
    let mut session = server(Security::Tls);
    give(&mut session, &hello().with_header(keys::FEATURES, "gzip")).unwrap();
    assert_eq!(give(&mut session, &comp), Ok(Event::Deliver));
    let ping = Frame::new(FrameType::Ping).with_flag(Flags::COMP);
    assert!(matches!(
        give(&mut session, &ping),
        Err(Violation::FlagNotAllowed { .. })
    ));
}

#[test]
fn hello_and_welcome_settle_features_and_limits() {
    let (mut client, mut server) = (client(Security::Tls), server(Security::Tls));
    let hello = client.poll_output().unwrap();
    assert_eq!(hello.header_str(keys::FEATURES), Some("gzip,bundle"));
    server.config.features = "bundle,other".parse().unwrap();
    give(&mut server, &hello).unwrap();
    let welcome = server.poll_output().unwrap();
    assert_eq!(welcome.header_str(keys::SESSION_ID), Some("7"));
    assert_eq!(welcome.header_str(keys::FEATURES), Some("bundle"));
    give(&mut client, &welcome).unwrap();
    for session in [&client, &server] {
        let established = session.established().unwrap();
        assert_eq!(established.features.to_string(), "bundle");
        assert_eq!(established.session_id, 7);
        assert_eq!(established.peer_max_frame_len, Some(1 << 20));
        assert!(established.has_hello());
    }
}

#[test]
fn a_feature_that_was_not_offered_cannot_be_agreed_to() {
    let refused = give(
        &mut client(Security::Tls),
        &welcome().with_header(keys::FEATURES, "later"),
    );
    assert_eq!(
        refused,
        Err(Violation::ReservedHeader {
            key: keys::FEATURES
        })
    );
}

#[test]
fn reserved_headers_are_strict_where_they_mean_something() {
    let data = Frame::data("x").with_flag(Flags::REQ_ACK);
    for value in ["", "01", "-1", "+1", " 1", "1x", "18446744073709551616"] {
        let refused = give(
            &mut open_server(Security::Tls),
            &data.clone().with_header("msg-id", value),
        );
        assert_eq!(
            refused,
            Err(Violation::ReservedHeader { key: keys::MSG_ID }),
            "{value:?}"
        );
    }
    let twice = data
        .clone()
        .with_header("msg-id", "1")
        .with_header("msg-id", "1");
    assert!(give(&mut open_server(Security::Tls), &twice).is_err());
    let fine = data.with_header("msg-id", "18446744073709551615");
    assert_eq!(
        give(&mut open_server(Security::Tls), &fine),
        Ok(Event::Deliver)
    );
    // Without REQ_ACK the same key is an entry like any other.
    let free = Frame::data("x").with_header("msg-id", "no number");
    assert_eq!(
        give(&mut open_server(Security::Tls), &free),
        Ok(Event::Deliver)
    );
    for hello in [
        hello().with_header(keys::MAX_FRAME_SIZE, "1023"),
        hello().with_header(keys::FEATURES, "Gzip"),
        hello().with_header(keys::FEATURES, "a,,b"),
        hello().with_header(keys::AUTH_TOKEN, "t").with_payload("t"),
        hello()
            .with_header(keys::FEATURES, "a")
            .with_header(keys::FEATURES, "a"),
    ] {
        let refused = give(&mut server(Security::Tls), &hello);
        assert!(
            matches!(refused, Err(Violation::ReservedHeader { .. })),
            "{hello:?}"
        );
    }
}

#[test]
fn tokens_of_any_length_arrive_whole() {
    for len in [1, 255, 256, MAX_TOKEN_LEN] {
        let token = vec![b't'; len];
        let config = SessionConfig {
            auth_token: Some(token.clone().into()),
            ..config()
        };
        let hello = Session::client(config, Security::Tls)
            .poll_output()
            .unwrap();
        let mut server = judging_server(Security::Tls);
        let event = give(&mut server, &hello);
        let Ok(Event::Hello {
            auth_token: Some(arrived),
        }) = event
        else {
            panic!("{event:?}");
        };
        assert_eq!(arrived.as_bytes(), token, "{len}");
        assert_eq!(format!("{arrived:?}"), "AuthToken(..)");
    }
}

#[test]
fn a_client_is_welcomed_only_once_it_was_judged() {
    for security in [Security::Plaintext, Security::Tls] {
        for first in [sample(FrameType::Data), sample(FrameType::Ping)] {
            let refused = give(&mut judging_server(security), &first);
            assert!(
                matches!(refused, Err(Violation::HelloRequired { .. })),
                "{refused:?}"
            );
        }
        let mut session = judging_server(security);
        assert_eq!(
            give(&mut session, &hello()),
            Ok(Event::Hello { auth_token: None })
        );
        assert_eq!(session.poll_output(), None, "no WELCOME yet");
        assert!(session.established().is_none());
        for early in [FrameType::Hello, FrameType::Data, FrameType::Bye] {
            let refused = give(&mut session, &sample(early));
            assert!(
                matches!(refused, Err(Violation::Unexpected { .. })),
                "{refused:?}"
            );
        }
        session.welcome();
        let welcome = session.poll_output().unwrap();
        assert_eq!(welcome.typ, FrameType::Welcome);
        assert!(session.established().unwrap().has_hello());
        assert_eq!(
            give(&mut session, &sample(FrameType::Data)),
            Ok(Event::Deliver)
        );
        session.welcome();
        assert!(
            session
                .poll_output()
                .is_none_or(|f| f.typ != FrameType::Welcome)
        );
    }
}

#[test]
fn messages_are_acknowledged_by_number_and_ping_by_pong() {
    let mut session = open_server(Security::Tls);
    let data = Frame::data("x").with_flag(Flags::REQ_ACK);
    give(&mut session, &data.clone().with_header("msg-id", "5")).unwrap();
    give(&mut session, &data.clone().with_header("msg-id", "5")).unwrap();
    give(&mut session, &data).unwrap();
    give(&mut session, &Frame::new(FrameType::Ping).with_payload("a")).unwrap();
    give(&mut session, &Frame::new(FrameType::Ping).with_payload("b")).unwrap();
    let out: Vec<Frame> = std::iter::from_fn(|| session.poll_output()).collect();
    let ack = Frame::new(FrameType::Ack).with_header("msg-id", "5");
    let pong = Frame::new(FrameType::Pong).with_payload("b");
    assert_eq!(
        out,
        [ack.clone(), ack, pong],
        "each ACK, but only the latest PONG"
    );
}

#[test]
fn e06_the_21st_ping_at_once_is_one_too_many() {
    let (mut session, now) = (open_server(Security::Tls), origin());
    let ping = Frame::new(FrameType::Ping);
    for n in 1..=20 {
        assert_eq!(
            give_at(&mut session, now, &ping),
            Ok(Event::Consumed),
            "{n}"
        );
    }
    let refused = give_at(&mut session, now, &ping);
    assert_eq!(
        refused,
        Err(Violation::Overrun(crate::proto::Overrun::ControlFrames))
    );
    // The twin: nine a second for half a minute.
    let mut session = open_server(Security::Tls);
    for n in 0..270 {
        let at = now + Duration::from_millis(n * 1000 / 9);
        assert_eq!(give_at(&mut session, at, &ping), Ok(Event::Consumed), "{n}");
    }
}

#[test]
fn e07_answers_to_nothing_spend_the_budget_and_provoke_nothing() {
    let err = error_frame(ErrorCode::Handler, "no", Some(b"1"));
    for frame in [sample(FrameType::Pong), sample(FrameType::Ack), err] {
        let (mut session, now) = (open_client(Security::Tls), origin());
        let accepted = (0..100)
            .take_while(|_| give_at(&mut session, now, &frame).is_ok())
            .count();
        assert_eq!(accepted, 20, "{frame:?}");
        assert_eq!(session.poll_output(), None);
        // The twin: as many as frames were sent are answers, and free.
        let mut session = open_client(Security::Tls);
        session.note_frames_sent(1000);
        assert!(
            (0..1000).all(|_| give_at(&mut session, now, &frame).is_ok()),
            "{frame:?}"
        );
    }
}

#[test]
fn bye_is_answered_once_and_only_where_there_was_hello() {
    let bye = bye_frame(Some(ErrorCode::ShuttingDown));
    let mut session = open_client(Security::Tls);
    let event = give(&mut session, &bye).unwrap();
    assert_eq!(
        event,
        Event::PeerBye {
            code: Some(ErrorCode::ShuttingDown)
        }
    );
    assert_eq!(session.poll_output(), Some(bye_frame(None)));
    assert_eq!(session.poll_output(), None);

    let mut session = open_client(Security::Tls);
    session.note_bye_sent();
    give(&mut session, &bye).unwrap();
    assert_eq!(session.poll_output(), None, "this is the answer to ours");

    let mut session = legacy_server();
    give(&mut session, &bye).unwrap();
    assert_eq!(
        session.poll_output(),
        None,
        "a session without HELLO has no BYE"
    );
}

#[test]
fn the_ends_of_a_stream_can_be_told_apart() {
    use Closed::{Clean, PeerWithoutBye, Reset, Truncated};
    let tls = || open_client(Security::Tls);
    let plain = || open_client(Security::Plaintext);
    for (session, end, mid_frame, expected) in [
        (over(tls()), StreamEnd::CloseNotify, false, Clean),
        (over(tls()), StreamEnd::Fin, false, Clean),
        (over(plain()), StreamEnd::Fin, false, Clean),
        (tls(), StreamEnd::CloseNotify, false, PeerWithoutBye),
        (tls(), StreamEnd::Fin, false, Truncated),
        (plain(), StreamEnd::Fin, false, PeerWithoutBye),
        (legacy_client(), StreamEnd::Fin, false, Clean),
        (legacy_server(), StreamEnd::Fin, false, Clean),
        (legacy_server(), StreamEnd::Fin, true, Truncated),
        (tls(), StreamEnd::CloseNotify, true, Truncated),
        (plain(), StreamEnd::Fin, true, Truncated),
        (tls(), StreamEnd::Reset, false, Reset),
        (plain(), StreamEnd::Reset, true, Reset),
    ] {
        assert_eq!(
            session.handle_eof(end, mid_frame),
            expected,
            "{end:?} {mid_frame}"
        );
    }
}

#[test]
fn an_err_frame_fits_its_limit_and_keeps_characters_whole() {
    for (message, id) in [
        ("ö".repeat(600), Some(&b"id"[..])),
        (format!("x{}", "ö".repeat(600)), None),
        ("x".repeat(2000), Some(&[b'i'; 255][..])),
    ] {
        let frame = error_frame(ErrorCode::Handler, &message, id);
        assert!(std::str::from_utf8(&frame.payload).is_ok());
        let limits = Limits::default();
        let len = wire::encoded_len(frame.as_ref(), Trailer::Always, &limits);
        let len = len.expect("it can be sent");
        assert!(
            (1021..=1024).contains(&len),
            "{len}: what every peer accepts, and no less"
        );
    }
}

#[test]
fn violations_have_the_codes_of_the_spec() {
    use crate::proto::Overrun;
    let typ = FrameType::Ping;
    for (violation, code) in [
        (
            DecodeError::InvalidMagic { offset: 0, got: 1 }.into(),
            ErrorCode::Protocol,
        ),
        (
            DecodeError::InvalidVersion {
                expected: 1,
                got: 2,
            }
            .into(),
            ErrorCode::UnsupportedVersion,
        ),
        (
            DecodeError::FrameTooLarge { size: 2, limit: 1 }.into(),
            ErrorCode::TooLarge,
        ),
        (
            DecodeError::CrcMismatch {
                expected: 1,
                got: 2,
            }
            .into(),
            ErrorCode::Protocol,
        ),
        (
            Violation::Unexpected { typ, state: "open" },
            ErrorCode::Protocol,
        ),
        (Violation::HelloRequired { typ }, ErrorCode::HelloRequired),
        (
            Violation::ControlPayload {
                typ,
                len: 2,
                limit: 1,
            },
            ErrorCode::Protocol,
        ),
        (
            Violation::ReservedHeader { key: "msg-id" },
            ErrorCode::Protocol,
        ),
        (
            Violation::FlagNotAllowed { typ, flag: "FRAG" },
            ErrorCode::Protocol,
        ),
        (Violation::Overrun(Overrun::ControlFrames), ErrorCode::Calm),
        (Violation::Overrun(Overrun::TinyReads), ErrorCode::Calm),
        (Violation::Unauthorized, ErrorCode::Unauthorized),
    ] {
        let frame = Session::fatal_error_frame(&violation);
        assert_eq!(
            frame.header_str(keys::CODE),
            Some(code.as_str()),
            "{violation}"
        );
        assert_eq!(frame.typ, FrameType::Err);
    }
}
