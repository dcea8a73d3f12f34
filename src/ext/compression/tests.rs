//! Rows G1 to G6 on made-up members.

use super::*;
use InflateError::{Checksum, Corrupt, Length, TooLarge, TrailingBytes, Truncated};

/// Bytes with runs and without, the same every time.
fn text(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    (0..len)
        .map(|n| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if n % 100 < 60 {
                b'a'
            } else {
                (state >> 24) as u8
            }
        })
        .collect()
}

fn gzip(payload: &[u8]) -> Vec<u8> {
    member(0, &[], &deflate(payload), payload)
}

/// Deflated bytes, whether smaller or not.
fn deflate(payload: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(payload, 9)
}

/// A member of these deflated bytes, which says that it holds `payload`.
fn member(flags: u8, optional: &[u8], deflated: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    out[3] = flags;
    out.extend_from_slice(optional);
    out.extend_from_slice(deflated);
    out.extend_from_slice(&crc32(payload).to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out
}

#[test]
fn what_was_compressed_comes_back_at_every_level() {
    for len in [0, 1, 100, 1023, 1024, 16_384, 70_000] {
        let payload = text(len);
        for level in [1, 6, 9] {
            if let Some(small) = compress(&payload, level) {
                assert!(small.len() < len, "{len}");
                assert_eq!(
                    inflate(&small, len),
                    Ok(payload.clone()),
                    "{len} at {level}"
                );
            } else {
                assert!(len < 200, "{len} bytes at {level} were not made smaller");
            }
        }
        assert_eq!(inflate(&gzip(&payload), len), Ok(payload), "{len}");
    }
}

#[test]
fn what_does_not_become_smaller_is_left_alone() {
    let mut state = 7_u64;
    let noise: Vec<u8> = (0..50_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    assert_eq!(compress(&noise, 9), None);
    assert_eq!(compress(b"", 6), None);
}

#[test]
fn a_member_of_another_program_is_read() {
    // `gzip -9 h`, where the file `h` holds the payload; the time is made up.
    let member = [
        0x1f, 0x8b, 0x08, 0x08, 0x01, 0x02, 0x03, 0x04, 0x02, 0x03, 0x68, 0x00, 0xcb, 0x48, 0xcd,
        0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x27, 0xb9, 0x00, 0x00, 0x88, 0x59, 0x0b, 0x18, 0x00, 0x00,
        0x00,
    ];
    let payload = b"hello hello hello hello\n";
    assert_eq!(inflate(&member, 100), Ok(payload.to_vec()));
}

#[test]
fn g1_a_bomb_stops_at_the_limit_and_the_largest_honest_payload_passes() {
    let limit = 256 << 10;
    for len in [limit + 1, 8 << 20] {
        let bomb = gzip(&vec![0; len]);
        assert!(bomb.len() < len / 500, "{} bytes", bomb.len());
        let mut steps = 0;
        let got = inflate_counted(&bomb, limit, &mut steps);
        assert_eq!(got, Err(TooLarge { limit }));
        assert!(steps <= limit / WINDOW + 40, "{steps} steps for a bomb");
        // One that lies about its length is no better off.
        for announced in [0, limit as u32, u32::MAX] {
            let mut liar = bomb.clone();
            let at = liar.len() - 4;
            liar[at..].copy_from_slice(&announced.to_le_bytes());
            assert_eq!(
                inflate(&liar, limit),
                Err(TooLarge { limit }),
                "{announced}"
            );
        }
    }
    // The twin: a page of zeros shrinks as much, and is nobody's attack.
    let honest = gzip(&vec![0; limit]);
    assert_eq!(inflate(&honest, limit), Ok(vec![0; limit]));
}

#[test]
fn g2_one_member_and_nothing_behind_it() {
    let payload = text(5000);
    let one = gzip(&payload);
    for rest in [&b"\0"[..], b"12345678", &one] {
        let two = [&one[..], rest].concat();
        let count = rest.len();
        assert_eq!(inflate(&two, 1 << 20), Err(TrailingBytes { count }));
    }
    // A member inside of one is a payload like any other.
    let nested = gzip(&one);
    assert_eq!(inflate(&nested, 1 << 20), Ok(one));
}

#[test]
fn g3_every_damage_has_its_error() {
    let payload = text(600);
    let whole = gzip(&payload);
    for end in 0..whole.len() {
        assert_eq!(
            inflate(&whole[..end], 1 << 20),
            Err(Truncated),
            "cut at {end}"
        );
    }
    let changed = |at: usize| {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        inflate(&changed, 1 << 20)
    };
    assert_eq!(changed(whole.len() - 8), Err(Checksum));
    assert_eq!(changed(whole.len() - 4), Err(Length));
    for at in [0, 1, 2] {
        assert_eq!(changed(at), Err(Corrupt), "the magic at {at}");
    }
    for at in 10..whole.len() {
        assert!(changed(at).is_err(), "a flipped bit at {at} was not found");
    }
    // A block of a type that does not exist, and codes that are none.
    for deflated in [&[0x07][..], &[0x05, 0xff, 0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(inflate(&member(0, &[], deflated, b""), 100), Err(Corrupt));
    }
    assert_eq!(
        inflate(&member(0x20, &[], &deflate(b"x"), b"x"), 100),
        Err(Corrupt)
    );
}

#[test]
fn g3_a_payload_of_nothing_says_so() {
    assert_eq!(inflate(&gzip(b""), 0), Ok(Vec::new()));
    let mut liar = gzip(b"");
    let at = liar.len() - 4;
    liar[at] = 1;
    assert_eq!(inflate(&liar, 100), Err(Length));
    assert_eq!(inflate(b"", 100), Err(Truncated));
}

#[test]
fn g5_optional_fields_are_passed_over_however_long_they_are() {
    let payload = text(2000);
    let deflated = deflate(&payload);
    let extra = [&[0xff, 0xff][..], &[7; 0xffff]].concat();
    let name = [&[b'n'; 1 << 20][..], &[0]].concat();
    let all = [&extra[..], &name, &name].concat();
    let head = [
        &HEADER[..3],
        &[FEXTRA | FNAME | FCOMMENT | FHCRC],
        &HEADER[4..],
        &all,
    ]
    .concat();
    let crc = (crc32(&head) as u16).to_le_bytes();
    for (flags, optional) in [
        (FEXTRA, extra),
        (FNAME, name.clone()),
        (FCOMMENT, name),
        (FEXTRA | FNAME | FCOMMENT | FHCRC, [&all[..], &crc].concat()),
    ] {
        let whole = member(flags, &optional, &deflated, &payload);
        assert_eq!(inflate(&whole, 2000), Ok(payload.clone()), "{flags:#x}");
        let cut = &whole[..HEADER.len() + optional.len() - 1];
        assert_eq!(inflate(cut, 2000), Err(Truncated), "{flags:#x}");
    }
    let wrong = member(FHCRC, &[0, 0], &deflated, &payload);
    assert_eq!(inflate(&wrong, 2000), Err(Checksum));
}

/// Blocks without content: one stored of five bytes, and eight fixed of ten bits. And how many they are.
fn empty_blocks() -> [(Vec<u8>, usize); 2] {
    let fixed: Vec<u8> = (0..8)
        .flat_map(|_| [0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
        .collect();
    let fixed = fixed
        .chunks(8)
        .map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit));
    [(vec![0, 0, 0, 0xff, 0xff], 1), (fixed.collect(), 8)]
}

/// The last block, a stored one without content.
const LAST: [u8; 5] = [1, 0, 0, 0xff, 0xff];

#[test]
fn g6_blocks_that_hold_nothing_are_cut_short() {
    for (blocks, count) in empty_blocks() {
        let whole = member(0, &[], &[&blocks.repeat(100_000)[..], &LAST].concat(), b"");
        let mut steps = 0;
        let got = inflate_counted(&whole, 1 << 20, &mut steps);
        assert_eq!(got, Err(InflateError::TooManyBlocks));
        let most = FREE_BLOCKS + whole.len() / BLOCK_LEN + whole.len() / STEP;
        assert!(
            steps <= most && steps <= 3 * FREE_BLOCKS,
            "{steps} steps, {count} at once"
        );
        // The twin: exactly so many are let through.
        let free = blocks.repeat(FREE_BLOCKS / count);
        let few = member(0, &[], &[&free[..], &LAST].concat(), b"");
        assert_eq!(inflate(&few, 0), Ok(Vec::new()));
    }
}

#[test]
fn g6_blocks_of_an_honest_sender_are_not_counted_out() {
    // One that was flushed after every 300 bytes, as a log is.
    let payload = text(600_000);
    let mut state = Box::<CompressorOxide>::default();
    state.set_format_and_level(DataFormat::Raw, 6);
    let (mut deflated, mut room) = (Vec::new(), vec![0; 1000]);
    let mut pieces = payload.chunks(300).peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        let flush = if last {
            TDEFLFlush::Finish
        } else {
            TDEFLFlush::Sync
        };
        let (_, used, made) = super::deflate(&mut state, piece, &mut room, flush);
        assert_eq!(used, piece.len());
        deflated.extend_from_slice(&room[..made]);
    }
    let whole = member(0, &[], &deflated, &payload);
    assert_eq!(inflate(&whole, payload.len()), Ok(payload));
}

#[test]
fn g6_the_work_is_bounded_by_what_goes_in_and_comes_out() {
    for payload in [text(300 << 10), vec![0; 1 << 20]] {
        let whole = gzip(&payload);
        let mut steps = 0;
        assert!(inflate_counted(&whole, payload.len(), &mut steps).is_ok());
        let blocks = payload.len() / 4096 + 2;
        let most = whole.len() / STEP + payload.len() / WINDOW + blocks;
        assert!(steps <= most, "{steps} steps, at most {most} are expected");
    }
}

#[test]
fn settings_say_which_messages_are_tried() {
    let all = CompressionConfig::default();
    assert!(all.wants(false, 1024) && !all.wants(true, 1023));
    let marked = all.only_marked(true).min_size(10);
    assert!(marked.wants(true, 10) && !marked.wants(false, 10_000));
    for level in [0, 10] {
        assert!(all.level(level).validate().is_err(), "level {level}");
    }
}
