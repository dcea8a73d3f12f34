//! Frames that cannot be expressed, rows A9 and A16: each is refused with its own error before a
//! byte is written, and the largest frame that can be expressed is not (spec 2.4).
//! `util::try_encode` checks for every case that all forms of the encoder agree and that nothing was
//! written on failure.

use crate::util::{BOTH, encode, try_encode, whole};
use vstp::wire::{self, EncodeError, Flags, FrameRef, FrameType, Headers, Limits, Trailer};
use vstp::{Frame, VstpError, VstpFrameCodec};

fn error(frame: &Frame) -> EncodeError {
    let [plain, tls] = BOTH.map(|trailer| try_encode(frame, trailer, &Limits::default()));
    assert_eq!(plain, tls);
    plain.expect_err("the frame cannot be expressed")
}

fn with_headers(headers: Headers) -> Frame {
    let mut frame = Frame::new(FrameType::Data);
    frame.headers = headers;
    frame
}

#[test]
fn a09_keys_of_255_bytes_pass_and_of_256_are_refused() {
    let frame = |len: usize| Frame::data("x").with_header(vec![b'k'; len], "v");
    let bytes = encode(&frame(255), Trailer::Always);
    assert_eq!(whole(&bytes, Trailer::Always), frame(255).as_ref());
    assert_eq!(
        error(&frame(256)),
        EncodeError::HeaderKeyTooLong { len: 256 }
    );
}

#[test]
fn a09_values_of_255_bytes_pass_and_of_256_are_refused() {
    let frame = |len: usize| Frame::data("x").with_header("k", vec![b'v'; len]);
    let bytes = encode(&frame(255), Trailer::Always);
    assert_eq!(whole(&bytes, Trailer::Always), frame(255).as_ref());
    assert_eq!(
        error(&frame(256)),
        EncodeError::HeaderValueTooLong { len: 256 }
    );
}

#[test]
fn a09_the_first_header_that_cannot_be_expressed_is_reported() {
    let frame = Frame::data("x")
        .with_header("good", "1")
        .with_header("k", vec![0; 300])
        .with_header(vec![0; 400], "v")
        .with_header("good", "2");
    assert_eq!(error(&frame), EncodeError::HeaderValueTooLong { len: 300 });
    assert_eq!(
        error(&frame.as_ref().to_owned()),
        EncodeError::HeaderValueTooLong { len: 300 }
    );
}

#[test]
fn a09_sections_of_65535_bytes_pass_and_of_65536_are_refused() {
    // 127 entries of 512 bytes and one that fills the rest: 65,024 + 511 or 512.
    let frame = |last: usize| {
        let mut headers = Headers::new();
        (0..127).for_each(|_| headers.push([b'k'; 255], [b'v'; 255]));
        headers.push([b'k'; 255], vec![b'v'; last]);
        with_headers(headers)
    };
    let bytes = encode(&frame(254), Trailer::Always);
    assert_eq!(bytes[5..7], [0xff, 0xff]);
    assert_eq!(whole(&bytes, Trailer::Always), frame(254).as_ref());
    assert_eq!(
        error(&frame(255)),
        EncodeError::HeaderSectionTooLong { len: 65_536 }
    );
}

#[test]
fn a09_one_header_over_the_limit_is_refused() {
    let frame = |count: usize| {
        let mut headers = Headers::new();
        (0..count).for_each(|_| headers.push("", ""));
        with_headers(headers)
    };
    assert_eq!(encode(&frame(128), Trailer::Always).len(), 11 + 256 + 4);
    let (count, limit) = (129, 128);
    assert_eq!(
        error(&frame(129)),
        EncodeError::TooManyHeaders { count, limit }
    );
}

#[test]
fn a09_the_frame_limit_counts_every_byte_of_the_frame() {
    let limits = Limits {
        max_frame_len: 1024,
        ..Limits::default()
    };
    for (trailer, fits) in [
        (Trailer::Always, 1024 - 21),
        (Trailer::WhenFlagged, 1024 - 17),
    ] {
        let frame = |len: usize| Frame::data(vec![0; len]).with_header("ab", "cd");
        assert_eq!(
            try_encode(&frame(fits), trailer, &limits).unwrap().len(),
            1024
        );
        let (size, limit) = (1025, 1024);
        let error = try_encode(&frame(fits + 1), trailer, &limits);
        assert_eq!(error, Err(EncodeError::FrameTooLarge { size, limit }));
    }
}

/// The payload is zeroed memory that is never touched: the system maps no page of it.
#[cfg(target_pointer_width = "64")]
#[test]
fn a09_payloads_over_32_bits_are_refused() {
    let len = u32::MAX as usize + 1;
    if Vec::<u8>::new().try_reserve_exact(len).is_err() {
        eprintln!("this machine does not hand out 4 GiB of address space");
        return;
    }
    let payload = vec![0; len];
    let headers = Headers::new();
    let frame = |len: usize| FrameRef {
        typ: FrameType::Data,
        flags: Flags::empty(),
        headers: headers.as_ref(),
        payload: &payload[..len],
    };
    let limits = Limits {
        max_frame_len: usize::MAX,
        ..Limits::default()
    };
    let mut out = Vec::new();
    let error = EncodeError::PayloadTooLong { len };
    assert_eq!(
        wire::encode(frame(len), Trailer::Always, &limits, &mut out),
        Err(error)
    );
    let head = wire::encode_head(frame(len), Trailer::Always, &limits, &mut out);
    assert_eq!(head, Err(error));
    assert_eq!(out.capacity(), 0);
    // The largest length that the field can say; without a trailer no byte of it is read.
    let head = wire::encode_head(frame(len - 1), Trailer::WhenFlagged, &limits, &mut out);
    assert_eq!(head.unwrap().frame_len, 11 + len - 1);
    assert_eq!(out[7..], [0xff; 4]);
}

#[test]
fn a16_custom_types_outside_their_range_are_refused() {
    for typ in 0..=255 {
        let frame = Frame::new(FrameType::Custom(typ));
        if typ < 0x10 {
            assert_eq!(error(&frame), EncodeError::InvalidFrameType(typ));
        } else {
            let bytes = encode(&frame, Trailer::Always);
            assert_eq!(whole(&bytes, Trailer::Always), frame.as_ref());
        }
    }
}

#[test]
fn reserved_flag_bits_are_not_sent() {
    for bits in 0..=255 {
        let frame = Frame::new(FrameType::Data).with_flag(Flags::from_bits_retain(bits));
        let reserved = bits & !Flags::all().bits();
        if reserved != 0 {
            assert_eq!(error(&frame), EncodeError::ReservedFlags(reserved));
        } else {
            assert_eq!(encode(&frame, Trailer::Always)[4], bits);
        }
    }
}

#[test]
fn the_codec_refuses_under_the_public_names_and_writes_nothing() {
    let codec = VstpFrameCodec::new(1024);
    let mut out = vec![7];
    let error = codec
        .encode(&Frame::data(vec![0; 1010]), &mut out)
        .unwrap_err();
    assert!(
        matches!(
            error,
            VstpError::FrameTooLarge {
                size: 1025,
                limit: 1024
            }
        ),
        "{error:?}"
    );
    let error = codec
        .encode(&Frame::data("").with_header([0; 256], ""), &mut out)
        .unwrap_err();
    let inner = EncodeError::HeaderKeyTooLong { len: 256 };
    assert!(
        matches!(error, VstpError::Encode(e) if e == inner),
        "{error:?}"
    );
    assert_eq!(out, [7]);
    let error = vstp::encode_frame(&Frame::data(vec![0; wire::DEFAULT_MAX_FRAME_SIZE]));
    assert!(
        matches!(error, Err(VstpError::FrameTooLarge { .. })),
        "{error:?}"
    );
}
