//! Order, ends on the way, failures.

use super::*;
use crate::ext::extension::TransportKind;
use crate::wire::FrameType;
use std::net::SocketAddr;

/// Appends its letter to DATA.
struct Letter(u8);

impl ExtensionHandler for Letter {
    fn should_handle(&self, frame: &Frame) -> bool {
        frame.typ == FrameType::Data
    }

    fn handle_frame(
        &self,
        mut frame: Frame,
        _: &ExtensionContext,
    ) -> Result<Outcome, HandlerError> {
        frame.payload.push(self.0);
        Ok(Outcome::Pass(frame))
    }
}

/// Does what a function says to each message.
struct Does<F>(F);

impl<F: Fn(Frame) -> Result<Outcome, HandlerError> + Send + Sync> ExtensionHandler for Does<F> {
    fn should_handle(&self, _: &Frame) -> bool {
        true
    }

    fn handle_frame(&self, frame: Frame, _: &ExtensionContext) -> Result<Outcome, HandlerError> {
        (self.0)(frame)
    }
}

fn context(direction: Direction) -> ExtensionContext {
    let addr = SocketAddr::from(([127, 0, 0, 1], 6969));
    ExtensionContext::new(direction, TransportKind::Udp, addr)
}

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

fn letters() -> ExtensionRegistry {
    let mut all = ExtensionRegistry::new();
    for letter in [b'a', b'b', b'c'] {
        assert!(all.register(char::from(letter), Letter(letter)).is_none());
    }
    all
}

fn payload(all: &ExtensionRegistry, direction: Direction) -> Vec<u8> {
    match all.process_frame(Frame::data(""), &context(direction)) {
        Ok(Outcome::Pass(frame)) => frame.payload,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_pass_in_order_inwards_and_in_the_reverse_outwards() {
    let mut all = letters();
    assert_eq!(payload(&all, IN), b"abc");
    assert_eq!(payload(&all, OUT), b"cba");
    assert!(
        all.register("b", Letter(b'B')).is_some(),
        "the one before comes back"
    );
    assert_eq!(payload(&all, IN), b"aBc", "at its place");
    assert!(all.unregister("a").is_some() && all.unregister("a").is_none());
    assert_eq!(payload(&all, IN), b"Bc");
    assert_eq!(all.names().collect::<Vec<_>>(), ["b", "c"]);
    assert!(!all.is_empty());
}

#[test]
fn one_direction_can_be_chosen_and_others_are_not_asked() {
    let mut all = letters();
    all.register_only(OUT, "d", Letter(b'd'));
    assert_eq!(payload(&all, IN), b"abc");
    assert_eq!(payload(&all, OUT), b"dcba");
    let custom = Frame::new(FrameType::Custom(0x10));
    let passed = all.process_frame(custom.clone(), &context(IN));
    assert_eq!(passed, Ok(Outcome::Pass(custom)), "nobody handles it");
}

#[test]
fn one_that_keeps_a_message_ends_its_way() {
    let mut all = ExtensionRegistry::new();
    all.register("keep", Does(|_| Ok(Outcome::Consume)));
    all.register("fail", Does(|_| Err("it came through".into())));
    let kept = all.process_frame(Frame::data("x"), &context(IN));
    assert_eq!(kept, Ok(Outcome::Consume));
}

#[test]
fn answers_carry_the_id_and_pass_what_is_nearer_to_the_network() {
    let mut all = letters();
    let answer = |_| {
        Ok(Outcome::Answer(vec![
            Frame::data("?"),
            Frame::data("!").with_header("correlation-id", "9"),
        ]))
    };
    all.register("answer", Does(answer));
    all.register("beyond", Letter(b'z'));
    let request = Frame::data("").with_header("correlation-id", "7");
    let Ok(Outcome::Answer(answers)) = all.process_frame(request, &context(IN)) else {
        panic!("no answer")
    };
    let all: Vec<_> = answers
        .iter()
        .map(|f| (&f.payload[..], f.header_str("correlation-id")))
        .collect();
    assert_eq!(all, [(&b"?cba"[..], Some("7")), (b"!cba", Some("9"))]);
}

#[test]
fn errors_and_panics_say_whose_they_are() {
    for (does, panicked) in [(false, false), (true, true)] {
        let mut all = letters();
        let fail = move |_| {
            assert!(!does, "a panic for the test");
            Err(HandlerError::new(ErrorCode::BadRequest, "not that"))
        };
        all.register("fails", Does(fail));
        for direction in [IN, OUT] {
            let error = all.process_frame(Frame::data("x"), &context(direction));
            let error = error.expect_err("it fails");
            assert_eq!(
                (error.extension.as_str(), error.panicked),
                ("fails", panicked)
            );
            let code = if panicked {
                ErrorCode::Handler
            } else {
                ErrorCode::BadRequest
            };
            assert_eq!(error.error.code, code);
            assert!(
                !error.error.message.contains("for the test"),
                "the peer would see it"
            );
        }
    }
}

#[test]
fn what_makes_no_sense_outwards_is_an_error() {
    let ping = |_| Ok(Outcome::Pass(Frame::new(FrameType::Ping)));
    let answer = |frame| Ok(Outcome::Answer(vec![frame]));
    let mut all = ExtensionRegistry::new();
    all.register("x", Does(ping));
    assert!(all.process_frame(Frame::data("x"), &context(OUT)).is_err());
    all.register("x", Does(answer));
    assert!(all.process_frame(Frame::data("x"), &context(OUT)).is_err());
}
