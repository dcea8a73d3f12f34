//! Row A15: what holds for every frame, tried on seeded random ones. A failure names its seed.

use crate::util::{BOTH, Rng, decode, encode, seal, whole};
use vstp::wire::{Buffer, Decoded, Flags, Frame, FrameType, Trailer};
use vstp::{VstpError, try_decode_frame};

const LIMIT: usize = vstp::wire::DEFAULT_MAX_FRAME_SIZE;

fn any_frame(rng: &mut Rng) -> Frame {
    let typ = loop {
        if let Some(typ) = FrameType::from_u8(rng.next() as u8 & 0x1f) {
            break typ;
        }
    };
    let mut frame = Frame::new(typ).with_flag(Flags::from_bits_truncate(rng.next() as u8));
    for _ in 0..rng.below(5) {
        // Mostly short; sometimes up to the longest that a length byte can say.
        let max_len = if rng.below(8) == 0 { 255 } else { 12 };
        frame = frame.with_header(rng.bytes(max_len), rng.bytes(max_len));
    }
    let max_len = if rng.below(8) == 0 { 2000 } else { 60 };
    frame.with_payload(rng.bytes(max_len))
}

#[test]
fn a15_every_frame_comes_back() {
    for seed in 0..4000 {
        let frame = any_frame(&mut Rng::new(seed));
        for trailer in BOTH {
            let bytes = encode(&frame, trailer);
            let decoded = whole(&bytes, trailer);
            assert_eq!(decoded, frame.as_ref(), "seed {seed}");
            assert_eq!(decoded.to_owned(), frame, "seed {seed}");
        }
    }
}

/// Changes 1 to 3 bytes, then makes the checksum right again: otherwise it would hide everything
/// behind it.
fn mutate(bytes: &mut Vec<u8>, sealed: bool, rng: &mut Rng) {
    if sealed {
        bytes.truncate(bytes.len() - 4);
    }
    for _ in 0..=rng.below(3) {
        let at = rng.below(bytes.len());
        bytes[at] = rng.next() as u8;
    }
    if sealed {
        seal(bytes);
    }
}

#[test]
fn a15_bytes_that_are_accepted_are_what_the_encoder_writes() {
    for trailer in BOTH {
        let mut accepted = 0;
        for seed in 0..8000 {
            let mut rng = Rng::new(seed);
            let frame = any_frame(&mut rng);
            let mut bytes = encode(&frame, trailer);
            let sealed = trailer == Trailer::Always || frame.flags.contains(Flags::CRC);
            mutate(&mut bytes, sealed, &mut rng);
            if let Ok(Decoded::Frame(frame, used)) = decode(&bytes, trailer) {
                assert_eq!(
                    encode(&frame.to_owned(), trailer),
                    bytes[..used],
                    "seed {seed}"
                );
                accepted += 1;
            }
        }
        assert!(
            (1000..7500).contains(&accepted),
            "{accepted} of 8,000: the mutation is no test"
        );
    }
}

fn one_shot(mut bytes: &[u8]) -> (Vec<Frame>, Option<String>) {
    let mut frames = Vec::new();
    loop {
        match decode(bytes, Trailer::Always) {
            Ok(Decoded::Frame(frame, used)) => {
                frames.push(frame.to_owned());
                bytes = &bytes[used..];
            }
            Ok(Decoded::Incomplete { .. }) => return (frames, None),
            Err(error) => return (frames, Some(VstpError::from(error).to_string())),
        }
    }
}

fn in_pieces(mut bytes: &[u8], rng: &mut Rng) -> (Vec<Frame>, Option<String>) {
    let mut frames = Vec::new();
    let mut buffer = Buffer::new();
    let max_len = [1, 4, 40, 4000][rng.below(4)];
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(1 + rng.below(max_len)));
        buffer.extend_from_slice(piece);
        bytes = rest;
        loop {
            match try_decode_frame(&mut buffer, LIMIT) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }
    (frames, None)
}

/// Half of the streams are damaged somewhere: the frames before the damage and the error are the
/// same too.
#[test]
fn a15_any_cut_gives_the_frames_of_one_piece() {
    let mut errors = 0;
    for seed in 0..600 {
        let mut rng = Rng::new(seed);
        let mut bytes = Vec::new();
        for _ in 0..1 + rng.below(6) {
            bytes.extend(encode(&any_frame(&mut rng), Trailer::Always));
        }
        if seed % 2 == 0 {
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        let expected = one_shot(&bytes);
        errors += usize::from(expected.1.is_some());
        assert_eq!(in_pieces(&bytes, &mut rng), expected, "seed {seed}");
    }
    assert!(errors > 100, "{errors}");
}

#[test]
fn a15_no_input_makes_the_decoder_panic() {
    for seed in 0..20_000 {
        let mut rng = Rng::new(seed);
        let mut bytes = rng.bytes(80);
        // Half of them get past the checks of the first bytes.
        if seed % 2 == 0 && bytes.len() >= 11 {
            bytes[..5].copy_from_slice(&[b'V', b'T', 1, 3, (seed as u8) & 0x32]);
            bytes[6..10].fill(0);
        }
        for trailer in BOTH {
            match decode(&bytes, trailer) {
                Ok(Decoded::Frame(_, used)) => assert!(used <= bytes.len()),
                Ok(Decoded::Incomplete { needed }) => assert!(needed > 0),
                Err(_) => {}
            }
        }
    }
}
