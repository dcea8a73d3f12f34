//! A stream cut into pieces gives the frames, and the error, of the same stream in one piece.
//!
//! The first byte is the length of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vstp::proto::StreamDecoder;
use vstp::wire::{DecodeError, Frame, Limits, Trailer};

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else {
        return;
    };
    let limits = Limits {
        max_frame_len: 1 << 20,
        ..Limits::default()
    };
    for trailer in [Trailer::Always, Trailer::WhenFlagged] {
        let whole = read(bytes, bytes.len().max(1), trailer, limits);
        let pieces = read(bytes, usize::from(*piece).max(1), trailer, limits);
        assert_eq!(whole, pieces);
    }
});

fn read(
    bytes: &[u8],
    piece: usize,
    trailer: Trailer,
    limits: Limits,
) -> (Vec<Frame>, Option<DecodeError>) {
    let mut decoder = StreamDecoder::new(trailer, limits);
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut rest = piece;
        while !rest.is_empty() {
            let room = decoder.read_target();
            let len = rest.len().min(room.capacity() - room.len());
            assert!(len > 0, "a target without room");
            room.extend_from_slice(&rest[..len]);
            rest = &rest[len..];
            decoder.on_read(len);
            loop {
                match decoder.poll(|_| Ok::<(), DecodeError>(())) {
                    Ok(true) if frames.len() % 2 == 0 => frames.push(decoder.frame().to_owned()),
                    Ok(true) => frames.push(decoder.take()),
                    Ok(false) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
    }
    (frames, None)
}
