//! Varints and length-prefixed text (spec 2.5).

use vstp::wire::text::{self, TextError};
use vstp::wire::varint::{self, Decoded, VarintError};

fn edges() -> impl Iterator<Item = u64> {
    let powers = (0..=9).map(|k| 1_u64 << (7 * k));
    let around = powers.flat_map(|p| [p - 1, p, p + 1]);
    around.chain([u64::MAX - 1, u64::MAX, 1 << 63])
}

#[test]
fn varints_at_every_length_boundary_come_back() {
    for value in edges() {
        let mut bytes = Vec::new();
        varint::encode(value, &mut bytes);
        let bits = (64 - value.leading_zeros() as usize).max(1);
        assert_eq!(bytes.len(), bits.div_ceil(7), "{value}");
        assert_eq!(
            varint::decode(&bytes),
            Ok(Decoded::Value(value, bytes.len()))
        );
        for len in 0..bytes.len() {
            assert_eq!(
                varint::decode(&bytes[..len]),
                Ok(Decoded::Incomplete),
                "{value}"
            );
        }
        bytes.push(0xff);
        let used = bytes.len() - 1;
        assert_eq!(varint::decode(&bytes), Ok(Decoded::Value(value, used)));
    }
}

#[test]
fn varints_over_64_bits_are_refused() {
    // Bit 64 in the tenth byte; an eleventh byte; a number that never ends.
    let bit_64 = [&[0xff; 9][..], &[0x02]].concat();
    let eleven = [&[0x80; 10][..], &[0x01]].concat();
    for bytes in [bit_64, eleven, vec![0xff; 1000]] {
        assert_eq!(
            varint::decode(&bytes),
            Err(VarintError::Overflow),
            "{bytes:x?}"
        );
    }
}

#[test]
fn varints_in_a_longer_form_than_needed_are_refused() {
    for value in edges() {
        let mut bytes = Vec::new();
        varint::encode(value, &mut bytes);
        if bytes.len() == 10 {
            continue; // The longest form has no longer one.
        }
        *bytes.last_mut().expect("never empty") |= 0x80;
        bytes.push(0);
        assert_eq!(
            varint::decode(&bytes),
            Err(VarintError::NotShortest),
            "{value}"
        );
    }
}

#[test]
fn text_comes_back_and_says_what_it_took() {
    for (text, bytes) in [
        ("", &b"\0\0"[..]),
        ("hi", b"\x02\0hi"),
        ("é", b"\x02\0\xc3\xa9"),
    ] {
        let mut out = Vec::new();
        text::encode(text, &mut out).unwrap();
        assert_eq!(out, bytes);
        out.push(0xff);
        assert_eq!(text::decode(&out), Ok((text, bytes.len())));
    }
}

#[test]
fn text_of_65535_bytes_passes_and_of_65536_is_refused() {
    let longest = "x".repeat(65_535);
    let mut out = Vec::new();
    text::encode(&longest, &mut out).unwrap();
    assert_eq!(out[..2], [0xff, 0xff]);
    assert_eq!(text::decode(&out), Ok((&longest[..], 65_537)));
    let mut out = vec![7];
    let error = text::encode(&"x".repeat(65_536), &mut out);
    assert_eq!(error, Err(TextError::TooLong { len: 65_536 }));
    assert_eq!(out, [7]);
}

#[test]
fn text_that_ends_early_says_how_much_is_missing() {
    let needed = |bytes: &[u8]| match text::decode(bytes) {
        Err(TextError::Incomplete { needed }) => needed,
        other => panic!("{other:?}"),
    };
    assert_eq!(needed(b""), 2);
    assert_eq!(needed(b"\x05"), 1);
    assert_eq!(needed(b"\x05\0"), 5);
    assert_eq!(needed(b"\x05\0abcd"), 1);
    assert_eq!(needed(b"\0\x01"), 256);
}

#[test]
fn text_that_is_not_utf8_says_where() {
    let error = text::decode(b"\x04\0ab\xffc");
    assert_eq!(error, Err(TextError::NotUtf8 { valid_up_to: 2 }));
    // The character goes on behind the end of the text: that does not make it whole.
    let error = text::decode(b"\x01\0\xc3\xa9");
    assert_eq!(error, Err(TextError::NotUtf8 { valid_up_to: 0 }));
}
