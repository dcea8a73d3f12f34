//! What input can cost, rows A6 and A12: counts are limited, repeats and odd bytes are not errors
//! of the codec, and work grows with the bytes received (spec 2.2, 2.4). What is allocated is
//! counted in the binary `wire_alloc`.

use crate::util::{BOTH, encode, fixed, needed, raw, refused, whole};
use std::time::{Duration, Instant};
use vstp::wire::{self, Buffer, DecodeError, Decoded, Limits, Trailer};
use vstp::{Frame, try_decode_frame};

#[test]
fn a06_128_headers_pass_and_129_are_refused() {
    for trailer in BOTH {
        let bytes = raw(3, 0, &[0; 2 * 128], b"", trailer);
        assert_eq!(whole(&bytes, trailer).headers.len(), 128);
        let bytes = raw(3, 0, &[0; 2 * 129], b"", trailer);
        assert_eq!(
            refused(&bytes, trailer),
            DecodeError::TooManyHeaders { limit: 128 }
        );
    }
}

#[test]
fn a06_the_header_limit_is_a_setting() {
    let bytes = raw(3, 0, &[0; 6], b"", Trailer::Always);
    let decode = |max_header_count| {
        let limits = Limits {
            max_header_count,
            ..Limits::default()
        };
        wire::decode(&bytes, Trailer::Always, &limits).map(drop)
    };
    assert_eq!(decode(3), Ok(()));
    assert_eq!(decode(2), Err(DecodeError::TooManyHeaders { limit: 2 }));
    assert_eq!(decode(0), Err(DecodeError::TooManyHeaders { limit: 0 }));
}

/// Entry 130 is broken; a decoder that visits it says so.
#[test]
fn a06_nothing_is_read_after_the_last_header_allowed() {
    let mut section = vec![0; 65_535];
    section[2 * 129] = 0xff;
    let bytes = raw(3, 0, &section, b"", Trailer::Always);
    let error = DecodeError::TooManyHeaders { limit: 128 };
    assert_eq!(refused(&bytes, Trailer::Always), error);
}

#[test]
fn a06_empty_repeated_and_binary_entries_keep_their_order() {
    let frame = Frame::data("")
        .with_header("", "")
        .with_header("k", "1")
        .with_header([0xff, 0x00], [0x80])
        .with_header("k", "2")
        .with_header("k", "1");
    for trailer in BOTH {
        let bytes = encode(&frame, trailer);
        let decoded = whole(&bytes, trailer);
        let entries: Vec<_> = decoded.headers.iter().map(|h| (h.key, h.value)).collect();
        let expected: [(&[u8], &[u8]); 5] = [
            (b"", b""),
            (b"k", b"1"),
            (b"\xff\x00", b"\x80"),
            (b"k", b"2"),
            (b"k", b"1"),
        ];
        assert_eq!(entries, expected);
        assert_eq!(decoded.header("k"), Some(&b"1"[..]));
        assert_eq!(decoded.header("absent"), None);
    }
}

/// Reserved keys mean something to a session, nothing to the codec.
#[test]
fn a06_reserved_keys_pass_the_codec_whatever_they_hold() {
    let frame = Frame::data("")
        .with_header("msg-id", "-1")
        .with_header("msg-id", "x");
    let bytes = encode(&frame, Trailer::Always);
    assert_eq!(whole(&bytes, Trailer::Always), frame.as_ref());
}

/// Quadratic work would be 137 billion byte visits: ten seconds at best, minutes in a debug build.
#[test]
#[expect(clippy::disallowed_methods, reason = "the claim is about CPU time")]
fn a12_a_frame_in_one_byte_pieces_costs_linear_work() {
    let frame = Frame::data(vec![0x5a; 512 * 1024]);
    let bytes = encode(&frame, Trailer::Always);
    let begin = Instant::now();
    let mut buffer = Buffer::new();
    for (index, byte) in bytes.iter().enumerate() {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "only at byte {index}"
        );
        buffer.extend_from_slice(&[*byte]);
        let decoded = try_decode_frame(&mut buffer, 1 << 20).unwrap();
        assert_eq!(decoded.is_some(), index + 1 == bytes.len());
    }
    assert!(buffer.is_empty());
}

/// No byte of a body has a say before all of them are there.
#[test]
fn a12_the_body_is_not_judged_in_pieces() {
    for trailer in BOTH {
        let mut bytes = fixed(3, 0x02, 32_768, 1000);
        bytes.extend([0xff; 100]);
        assert_eq!(needed(&bytes, trailer), 32_768 + 1000 + 4 - 100);
    }
}

/// Many small frames: what was taken must not be moved or read again for each.
#[test]
#[expect(clippy::disallowed_methods, reason = "the claim is about CPU time")]
fn a12_many_small_frames_in_one_buffer_cost_linear_work() {
    let one = encode(&Frame::data("x"), Trailer::Always);
    let begin = Instant::now();
    let mut buffer = Buffer::from(one.repeat(200_000));
    let mut count = 0;
    while try_decode_frame(&mut buffer, 1024).unwrap().is_some() {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "only at frame {count}"
        );
        count += 1;
    }
    assert_eq!(count, 200_000);
}

/// A frame behind a frame is found at the length returned, and is not looked at before.
#[test]
fn a12_only_the_first_frame_is_read() {
    let mut bytes = encode(&Frame::data("first"), Trailer::Always);
    let len = bytes.len();
    bytes.extend_from_slice(b"this is no frame");
    match wire::decode(&bytes, Trailer::Always, &Limits::default()) {
        Ok(Decoded::Frame(frame, used)) => assert_eq!((frame.payload, used), (&b"first"[..], len)),
        other => panic!("{other:?}"),
    }
    let error = DecodeError::InvalidMagic {
        offset: 0,
        got: b't',
    };
    assert_eq!(refused(&bytes[len..], Trailer::Always), error);
}
