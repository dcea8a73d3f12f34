//! Bytes that are no frame, rows A1 to A5, A7, A8, A10 and A11: each is refused with the exact
//! error, as soon as the bytes that prove it are there (spec 2.4).

use crate::util::{BOTH, Rng, decode, encode, fixed, needed, raw, refused, seal, whole};
use vstp::wire::{self, Flags, FrameType};
use vstp::wire::{DecodeError, Decoded, FixedHeader, Limits, Trailer, decode_exact};
use vstp::{Frame, VstpError};

/// Reads only the fixed header: no byte of a body is there.
fn parse_fixed(bytes: &[u8], limit: usize) -> Result<Option<FixedHeader>, DecodeError> {
    let limits = Limits {
        max_frame_len: limit,
        ..Limits::default()
    };
    FixedHeader::parse(bytes, Trailer::Always, &limits)
}

#[test]
fn a01_wrong_magic_is_refused_at_its_first_wrong_byte() {
    for trailer in BOTH {
        for got in (0..=255).filter(|&b| b != b'V') {
            let error = DecodeError::InvalidMagic { offset: 0, got };
            assert_eq!(refused(&[got], trailer), error);
            assert_eq!(
                refused(&[got, b'T', 1, 3, 0, 0, 0, 0, 0, 0, 0], trailer),
                error
            );
        }
        for got in (0..=255).filter(|&b| b != b'T') {
            let error = DecodeError::InvalidMagic { offset: 1, got };
            assert_eq!(refused(&[b'V', got], trailer), error);
            assert_eq!(
                refused(&[b'V', got, 1, 3, 0, 0, 0, 0, 0, 0, 0], trailer),
                error
            );
        }
    }
}

#[test]
fn a01_the_decoder_never_searches_for_the_next_magic() {
    let mut bytes = vec![0];
    bytes.extend(encode(&Frame::data("hidden"), Trailer::Always));
    let error = DecodeError::InvalidMagic { offset: 0, got: 0 };
    assert_eq!(refused(&bytes, Trailer::Always), error);
}

#[test]
fn a02_other_versions_are_refused() {
    for got in (0..=255).filter(|&v| v != 1) {
        let mut bytes = fixed(3, 0, 0, 0);
        bytes[2] = got;
        for trailer in BOTH {
            let error = DecodeError::InvalidVersion { expected: 1, got };
            assert_eq!(refused(&bytes, trailer), error);
        }
    }
}

#[test]
fn a03_types_without_a_meaning_are_refused() {
    for typ in 0..=255 {
        let bytes = raw(typ, 0, b"", b"body", Trailer::Always);
        if matches!(typ, 0 | 0x09..=0x0f) {
            assert_eq!(FrameType::from_u8(typ), None);
            let error = refused(&bytes[..11], Trailer::Always);
            assert_eq!(error, DecodeError::InvalidFrameType(typ));
        } else {
            let frame = whole(&bytes, Trailer::Always);
            assert_eq!(frame.typ.as_u8(), typ);
            assert_eq!(
                matches!(frame.typ, FrameType::Custom(t) if t == typ),
                typ >= 0x10
            );
        }
    }
}

/// A decoder that clears what it does not know would lose REQ_ACK, FRAG or COMP silently.
#[test]
fn a04_reserved_flag_bits_are_refused_on_every_type() {
    const KNOWN: u8 = 0x01 | 0x02 | 0x10 | 0x20;
    for trailer in BOTH {
        for typ in (0..=255).filter(|&t| FrameType::from_u8(t).is_some()) {
            for flags in 0..=255 {
                let bytes = raw(typ, flags, b"", b"", trailer);
                if flags & !KNOWN == 0 {
                    assert_eq!(whole(&bytes, trailer).flags.bits(), flags);
                } else {
                    let error = DecodeError::ReservedFlags(flags & !KNOWN);
                    assert_eq!(refused(&bytes[..11], trailer), error);
                }
            }
        }
    }
}

/// The payload behind the section is there to be swallowed: a parser that checks against the end
/// of the frame would take it for header bytes.
#[test]
fn a05_no_length_pair_reaches_past_the_section() {
    for key_len in 0..=255_usize {
        for value_len in 0..=255_usize {
            let full = 2 + key_len + value_len;
            let mut section = vec![b'x'; full - 1];
            section[0] = key_len as u8;
            if full > 2 {
                section[1] = value_len as u8;
            }
            let bytes = raw(3, 0, &section, b"payload", Trailer::WhenFlagged);
            let error = DecodeError::HeaderBounds { offset: 0 };
            assert_eq!(
                refused(&bytes, Trailer::WhenFlagged),
                error,
                "{key_len}, {value_len}"
            );
        }
    }
}

#[test]
fn a05_the_faulty_entry_is_named_by_its_offset() {
    for trailer in BOTH {
        let section = [b"\x01\x01kv".as_slice(), b"\x02\x02kkv"].concat();
        let bytes = raw(3, 0, &section, b"payload", trailer);
        assert_eq!(
            refused(&bytes, trailer),
            DecodeError::HeaderBounds { offset: 4 }
        );
        // One byte behind the last entry is the start of one more.
        let bytes = raw(3, 0, b"\x01\x01kv\x00", b"payload", trailer);
        assert_eq!(
            refused(&bytes, trailer),
            DecodeError::HeaderBounds { offset: 4 }
        );
    }
}

fn frame_of_200_bytes() -> Vec<u8> {
    let frame = Frame::data(vec![0xa5; 170]).with_header("test", "12345678");
    let frame = frame.with_flag(Flags::CRC);
    let bytes = encode(&frame.with_payload(vec![0xa5; 171]), Trailer::Always);
    assert_eq!(bytes.len(), 200);
    bytes
}

#[test]
fn a07_every_bit_flip_is_detected() {
    let good = frame_of_200_bytes();
    for bit in 0..1600 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match decode(&bytes, Trailer::Always) {
            Ok(Decoded::Frame(frame, _)) => panic!("bit {bit}: {frame:?}"),
            Ok(Decoded::Incomplete { .. }) => assert!((5 * 8..11 * 8).contains(&bit), "{bit}"),
            Err(DecodeError::CrcMismatch { expected, got }) => assert_ne!(expected, got),
            Err(_) => assert!(bit < 11 * 8, "bit {bit}"),
        }
    }
}

#[test]
fn a07_every_burst_of_up_to_32_bits_is_detected() {
    let good = frame_of_200_bytes();
    let mut rng = Rng::new(7);
    for start in 0..1600_usize {
        for len in 2..=32.min(1600 - start) {
            // The first and the last bit of a burst are wrong, those between are arbitrary.
            let pattern = rng.next() | 1 | 1 << (len - 1);
            let mut bytes = good.clone();
            for bit in (0..len).filter(|bit| pattern >> bit & 1 == 1) {
                // CRC-32 takes the lowest bit of a byte first: so are bits numbered here.
                bytes[(start + bit) / 8] ^= 1 << ((start + bit) % 8);
            }
            if let Ok(Decoded::Frame(frame, _)) = decode(&bytes, Trailer::Always) {
                panic!("burst of {len} at {start}: {frame:?}");
            }
        }
    }
}

#[test]
fn a07_on_tls_a_flagged_trailer_is_checked() {
    let mut bytes = frame_of_200_bytes();
    bytes[100] ^= 1;
    let error = refused(&bytes, Trailer::WhenFlagged);
    assert!(
        matches!(error, DecodeError::CrcMismatch { .. }),
        "{error:?}"
    );
}

#[test]
fn a08_the_two_length_fields_have_their_own_byte_orders() {
    let head = parse_fixed(&[b'V', b'T', 1, 3, 0, 0x0b, 0, 0, 0, 0, 5], 100);
    let head = head.unwrap().unwrap();
    assert_eq!(
        (head.header_len, head.payload_len, head.frame_len),
        (11, 5, 31)
    );
    assert_eq!((head.head_len(), head.trailer_len()), (22, 4));
    // Each swapped: 2,816 header bytes, 83,886,080 payload bytes.
    let swapped = [b'V', b'T', 1, 3, 0, 0, 0x0b, 0, 0, 0, 5];
    assert_eq!(needed(&swapped, Trailer::Always), 0x0b00 + 5 + 4);
    let swapped = [b'V', b'T', 1, 3, 0, 0x0b, 0, 5, 0, 0, 0];
    let size = 11 + 11 + 0x0500_0000 + 4;
    let limit = 8 * 1024 * 1024;
    let error = DecodeError::FrameTooLarge { size, limit };
    assert_eq!(refused(&swapped, Trailer::Always), error);
}

#[test]
fn a08_lengths_are_judged_from_the_fixed_header_alone() {
    for (header_len, payload_len) in [(0, 0), (0xffff, 0), (0, 1000), (0xffff, 0x7fff_ffff)] {
        let bytes = fixed(3, 0, header_len, payload_len);
        let size = 15 + u64::from(header_len) + u64::from(payload_len);
        let frame_len = usize::try_from(size).expect("below 4 GiB");
        assert_eq!(
            parse_fixed(&bytes, frame_len).unwrap().unwrap().frame_len,
            frame_len
        );
        let limit = size - 1;
        let error = DecodeError::FrameTooLarge { size, limit };
        assert_eq!(parse_fixed(&bytes, frame_len - 1), Err(error));
        assert_eq!(parse_fixed(&bytes[..10], frame_len - 1), Ok(None));
    }
}

#[test]
fn a08_the_largest_lengths_do_not_overflow() {
    let bytes = fixed(3, 0, 0xffff, 0xffff_ffff);
    let size = 11 + 0xffff + 0xffff_ffff + 4_u64;
    let error = |limit| DecodeError::FrameTooLarge { size, limit };
    assert_eq!(refused(&bytes, Trailer::Always), error(8 * 1024 * 1024));
    // A sum kept in 32 bits would be 65,549 here, and accepted.
    assert_eq!(parse_fixed(&bytes, 1_000_000), Err(error(1_000_000)));
    match usize::try_from(size) {
        Ok(frame_len) => {
            let head = parse_fixed(&bytes, usize::MAX).unwrap().unwrap();
            assert_eq!(head.frame_len, frame_len);
        }
        Err(_) => assert_eq!(
            parse_fixed(&bytes, usize::MAX),
            Err(error(u64::from(u32::MAX)))
        ),
    }
}

#[test]
fn a10_a_datagram_holds_exactly_one_frame() {
    for trailer in BOTH {
        let exact = |bytes: &[u8]| decode_exact(bytes, trailer, &Limits::default()).map(drop);
        let one = encode(&Frame::data("one"), trailer);
        assert_eq!(exact(&one), Ok(()));
        let count = one.len();
        let two = [&one[..], &one[..]].concat();
        assert_eq!(exact(&two), Err(DecodeError::TrailingBytes { count }));
        let padded = [&one[..], &[0]].concat();
        assert_eq!(exact(&padded), Err(DecodeError::TrailingBytes { count: 1 }));
        let short = exact(&one[..count - 2]);
        assert_eq!(short, Err(DecodeError::Incomplete { needed: 2 }));
    }
}

#[test]
fn a11_inputs_shorter_than_a_frame_are_incomplete() {
    let bytes = raw(4, 0, b"", b"", Trailer::Always);
    for len in 0..=14 {
        let expected = if len < 11 { 11 - len } else { 15 - len };
        assert_eq!(needed(&bytes[..len], Trailer::Always), expected);
        let error = decode_exact(&bytes[..len], Trailer::Always, &Limits::default());
        assert_eq!(error, Err(DecodeError::Incomplete { needed: expected }));
    }
    // Without a trailer the fixed header alone is a frame.
    assert_eq!(
        whole(&bytes[..11], Trailer::WhenFlagged).typ,
        FrameType::Ping
    );
}

#[test]
fn faults_of_the_fixed_header_are_reported_in_its_order_and_with_its_last_byte() {
    let bytes = [b'V', b'T', 9, 0, 0xcc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let reported = |bytes: &[u8]| refused(bytes, Trailer::Always);
    assert!(matches!(
        reported(&bytes),
        DecodeError::InvalidVersion { got: 9, .. }
    ));
    let mut bytes = bytes;
    bytes[2] = 1;
    assert_eq!(reported(&bytes), DecodeError::InvalidFrameType(0));
    bytes[3] = 3;
    assert_eq!(reported(&bytes), DecodeError::ReservedFlags(0xcc));
    bytes[4] = 0;
    assert!(matches!(
        reported(&bytes),
        DecodeError::FrameTooLarge { .. }
    ));
    bytes[2] = 9;
    for len in 0..11 {
        assert_eq!(needed(&bytes[..len], Trailer::Always), 11 - len);
    }
}

#[test]
fn the_checksum_is_judged_before_the_headers() {
    let mut bytes = fixed(3, 0, 1, 0);
    bytes.push(0xff);
    seal(&mut bytes);
    assert_eq!(
        refused(&bytes, Trailer::Always),
        DecodeError::HeaderBounds { offset: 0 }
    );
    bytes[15] ^= 1;
    let error = refused(&bytes, Trailer::Always);
    assert!(
        matches!(error, DecodeError::CrcMismatch { .. }),
        "{error:?}"
    );
}

#[test]
fn the_trailer_is_big_endian_and_covers_every_byte_before_it() {
    let bytes = raw(4, 0, b"", b"", Trailer::Always);
    assert_eq!(bytes[11..], wire::crc::crc32(&bytes[..11]).to_be_bytes());
    assert_eq!(wire::crc::crc32(b"123456789"), 0xcbf4_3926);
    let mut swapped = bytes.clone();
    swapped[11..].reverse();
    let expected = u32::from_le_bytes(bytes[11..].try_into().expect("four bytes"));
    let got = expected.swap_bytes();
    let error = DecodeError::CrcMismatch { expected, got };
    assert_eq!(refused(&swapped, Trailer::Always), error);
}

/// The published names of the errors come out of the published codec.
#[test]
fn the_codec_reports_each_fault_under_its_public_name() {
    let public = |bytes: &[u8]| {
        let mut buffer = wire::Buffer::from(bytes.to_vec());
        vstp::try_decode_frame(&mut buffer, 100).expect_err("the bytes are no frame")
    };
    let mut bytes = fixed(3, 0, 0, 0);
    bytes[0] = b'X';
    let error = public(&bytes);
    assert!(
        matches!(
            error,
            VstpError::InvalidMagic {
                offset: 0,
                got: b'X'
            }
        ),
        "{error:?}"
    );
    let mut bytes = fixed(3, 0, 0, 0);
    bytes[2] = 2;
    let error = public(&bytes);
    assert!(
        matches!(
            error,
            VstpError::InvalidVersion {
                expected: 1,
                got: 2
            }
        ),
        "{error:?}"
    );
    let error = public(&fixed(9, 0, 0, 0));
    assert!(matches!(error, VstpError::InvalidFrameType(9)), "{error:?}");
    let error = public(&fixed(3, 0, 0, 86));
    assert!(
        matches!(
            error,
            VstpError::FrameTooLarge {
                size: 101,
                limit: 100
            }
        ),
        "{error:?}"
    );
    let error = public(&[&fixed(3, 0, 0, 0)[..], &[0; 4]].concat());
    assert!(
        matches!(error, VstpError::CrcMismatch { expected: 0, .. }),
        "{error:?}"
    );
    let error = public(&fixed(3, 4, 0, 0));
    assert!(matches!(error, VstpError::Protocol(_)), "{error:?}");
    let error = public(&raw(3, 0, &[1], b"", Trailer::Always));
    assert!(matches!(error, VstpError::Protocol(_)), "{error:?}");
}
