//! Frames produced by the async crate `vstp` 0.2.1, byte for byte (spec 2.1 to 2.3).

use crate::util::{decode, encode, whole};
use serde_json::Value;
use vstp::wire::{Buffer, Decoded, FixedHeader, Flags, Trailer, decode_exact};
use vstp::{Frame, FrameType, VstpFrameCodec, encode_frame, try_decode_frame};

struct Vector {
    name: String,
    frame: Frame,
    bytes: Vec<u8>,
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex is a string").as_bytes();
    let digit = |b: u8| char::from(b).to_digit(16).expect("a hex digit") as u8;
    text.chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn vectors() -> Vec<Vector> {
    let all: Vec<Value> =
        serde_json::from_str(include_str!("../vectors/frames.json")).expect("the file is JSON");
    assert!(all.len() >= 26, "vectors are missing");
    all.iter().map(vector).collect()
}

fn vector(value: &Value) -> Vector {
    let byte = |key: &str| value[key].as_u64().expect("a number") as u8;
    let typ = FrameType::from_u8(byte("type")).expect("a known type");
    let flags = Flags::from_bits(byte("flags")).expect("known flags");
    let mut frame = Frame::new(typ).with_flag(flags);
    for header in value["headers"].as_array().expect("a list") {
        frame = frame.with_header(unhex(&header[0]), unhex(&header[1]));
    }
    Vector {
        name: value["name"].as_str().expect("a string").into(),
        frame: frame.with_payload(unhex(&value["payload"])),
        bytes: unhex(&value["frame"]),
    }
}

#[test]
fn every_vector_encodes_to_its_bytes() {
    for Vector { name, frame, bytes } in vectors() {
        // All three forms of the encoder are compared inside.
        assert_eq!(encode(&frame, Trailer::Always), bytes, "{name}");
        assert_eq!(encode_frame(&frame).unwrap(), bytes, "{name}");
        let mut out = Vec::new();
        VstpFrameCodec::default().encode(&frame, &mut out).unwrap();
        assert_eq!(out, bytes, "{name}");
    }
}

#[test]
fn every_vector_decodes_to_its_frame() {
    for Vector { name, frame, bytes } in vectors() {
        let borrowed = whole(&bytes, Trailer::Always);
        assert_eq!(borrowed, frame.as_ref(), "{name}");
        assert_eq!(borrowed.to_owned(), frame, "{name}");
        let exact = decode_exact(&bytes, Trailer::Always, &Default::default());
        assert_eq!(exact, Ok(borrowed), "{name}");
        let mut buffer = Buffer::from(bytes.clone());
        let decoded = VstpFrameCodec::default().decode(&mut buffer).unwrap();
        assert_eq!(decoded, Some(frame), "{name}");
        assert!(buffer.is_empty(), "{name}");
    }
}

#[test]
fn every_vector_with_the_crc_flag_is_the_same_on_tls() {
    let flagged = |v: &Vector| v.frame.flags.contains(Flags::CRC);
    for Vector { name, frame, bytes } in vectors().into_iter().filter(flagged) {
        assert_eq!(encode(&frame, Trailer::WhenFlagged), bytes, "{name}");
        assert_eq!(
            whole(&bytes, Trailer::WhenFlagged),
            frame.as_ref(),
            "{name}"
        );
    }
}

#[test]
fn every_vector_without_the_crc_flag_loses_its_trailer_on_tls() {
    let unflagged = |v: &Vector| !v.frame.flags.contains(Flags::CRC);
    for Vector { name, frame, bytes } in vectors().into_iter().filter(unflagged) {
        let short = &bytes[..bytes.len() - 4];
        assert_eq!(encode(&frame, Trailer::WhenFlagged), short, "{name}");
        assert_eq!(whole(short, Trailer::WhenFlagged), frame.as_ref(), "{name}");
    }
}

#[test]
fn all_vectors_in_one_stream_come_out_in_order() {
    let vectors = vectors();
    let mut buffer = Buffer::new();
    for vector in &vectors {
        buffer.extend_from_slice(&vector.bytes);
    }
    for Vector { name, frame, .. } in vectors {
        assert_eq!(
            try_decode_frame(&mut buffer, 4096).unwrap(),
            Some(frame),
            "{name}"
        );
    }
    assert_eq!(try_decode_frame(&mut buffer, 4096).unwrap(), None);
}

#[test]
fn every_proper_prefix_needs_more() {
    for Vector { name, bytes, .. } in vectors() {
        for len in 0..bytes.len() {
            let missing = bytes.len() - len;
            // Before the fixed header is complete only its own rest is certain.
            let expected = if len < FixedHeader::LEN {
                FixedHeader::LEN - len
            } else {
                missing
            };
            let needed = crate::util::needed(&bytes[..len], Trailer::Always);
            assert_eq!(needed, expected, "{name}, {len} bytes");
            assert!((1..=missing).contains(&needed), "{name}, {len} bytes");
            let mut buffer = Buffer::from(bytes[..len].to_vec());
            assert_eq!(try_decode_frame(&mut buffer, 4096).unwrap(), None, "{name}");
            assert_eq!(&buffer[..], &bytes[..len], "{name}: nothing may be taken");
        }
    }
}

#[test]
fn no_single_bit_flip_yields_a_frame() {
    for Vector { name, bytes, .. } in vectors() {
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(Decoded::Frame(frame, _)) = decode(&bytes, Trailer::Always) {
                panic!("{name}: bit {bit} makes {frame:?}");
            }
        }
    }
}
