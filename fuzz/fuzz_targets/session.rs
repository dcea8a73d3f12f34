//! Whatever frames come, a session of either side never panics, and what it has to say stays bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};
use vstp::proto::session::{Event, Security, Session, SessionConfig};
use vstp::wire::{self, Decoded, Limits, Trailer};

/// Frames that a session may want to send after one that it received.
const MAX_ANSWERS: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Some((choice, mut bytes)) = input.split_first() else {
        return;
    };
    let config = SessionConfig {
        features: Default::default(),
        max_frame_len: 1 << 20,
        hello: choice & 1 != 0,
        require_hello: choice & 2 != 0,
        auth_token: None,
        authenticate: choice & 4 != 0,
    };
    let security = if choice & 8 != 0 {
        Security::Tls
    } else {
        Security::Plaintext
    };
    let mut session = if choice & 16 != 0 {
        Session::client(config, security)
    } else {
        Session::server(config, security, 7)
    };
    let mut now = Instant::now();
    while session.poll_output().is_some() {}
    let limits = Limits::default();
    while let Ok(Decoded::Frame(frame, len)) = wire::decode(bytes, Trailer::Always, &limits) {
        let head = wire::FixedHeader::parse(bytes, Trailer::Always, &limits);
        let head = head.expect("it was decoded").expect("it is there");
        bytes = &bytes[len..];
        now += Duration::from_millis(u64::from(*choice));
        if session.check_head(&head).is_err() || session.delivers(&head) {
            continue;
        }
        match session.handle_frame(now, frame) {
            Ok(Event::Hello { .. }) => session.welcome(),
            Ok(_) => {}
            Err(violation) => {
                let frame = Session::fatal_error_frame(&violation);
                assert!(wire::encoded_len(frame.as_ref(), Trailer::Always, &limits).is_ok());
                return;
            }
        }
        let mut answers = 0;
        while let Some(answer) = session.poll_output() {
            assert!(wire::encoded_len(answer.as_ref(), Trailer::Always, &limits).is_ok());
            answers += 1;
        }
        assert!(answers <= MAX_ANSWERS, "{answers} frames for one");
    }
});
