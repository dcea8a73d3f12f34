//! The codec against `raw-crc`: the least that any code must do to move a frame of this format.
//!
//! `raw-crc` copies an 11-byte header, the header section and the payload into a reused buffer and
//! takes CRC-32 (crc32fast) over it; backwards it reads the two lengths, checks the CRC and slices.
//! It checks nothing else. Aims, at 1 KiB: encode and borrowed decode at most 1.15 x, owned decode
//! (which also copies headers and payload into memory of their own) at most 2.5 x.
//!
//! Run with `cargo bench --bench wire`; `-- --quick` for a smoke run.

mod common;

use common::{Contestant, Effort, print_ratios, race};
use std::hint::black_box;
use vstp::Frame;
use vstp::wire::{self, Decoded, Limits, Trailer, crc};

const TRAILER: Trailer = Trailer::Always;

fn main() {
    let effort = Effort::from_args();
    println!(
        "median of {} rounds; one header, CRC-32 on",
        effort.round_count
    );
    for payload_len in [64, 1024, 64 * 1024, 1024 * 1024] {
        bench(effort, payload_len);
    }
}

fn bench(effort: Effort, payload_len: usize) {
    let payload: Vec<u8> = (0..payload_len).map(|i| ((i * 31) >> 3) as u8).collect();
    let frame = Frame::data(payload).with_header("content-type", "text/plain");
    let limits = Limits::default();
    let mut bytes = Vec::new();
    wire::encode(frame.as_ref(), TRAILER, &limits, &mut bytes).expect("the frame is encodable");
    let section = bytes[11..bytes.len() - 4 - payload_len].to_vec();
    let size = match payload_len {
        len if len < 1024 => format!("{len} B"),
        len if len < 1024 * 1024 => format!("{} KiB", len / 1024),
        len => format!("{} MiB", len / 1024 / 1024),
    };

    let mut raw_out = Vec::new();
    let mut out = Vec::new();
    let mut head = Vec::new();
    let mut encoders = [
        Contestant::new("raw-crc", || {
            raw_encode(black_box(&section), black_box(&frame.payload), &mut raw_out);
            black_box(&raw_out);
        }),
        Contestant::new("encode", || {
            out.clear();
            let frame = black_box(&frame).as_ref();
            let _ = black_box(wire::encode(frame, TRAILER, black_box(&limits), &mut out));
            black_box(&out);
        }),
        Contestant::new("encode_head", || {
            head.clear();
            let frame = black_box(&frame).as_ref();
            let _ = black_box(wire::encode_head(
                frame,
                TRAILER,
                black_box(&limits),
                &mut head,
            ));
            black_box(&head);
        }),
    ];
    let medians = race(effort, &mut encoders);
    print_ratios(&format!("encode {size}"), &encoders, &medians);

    let mut decoders = [
        Contestant::new("raw-crc", || {
            black_box(raw_decode(black_box(&bytes)));
        }),
        Contestant::new("borrowed", || {
            let _ = black_box(wire::decode(black_box(&bytes), TRAILER, black_box(&limits)));
        }),
        Contestant::new("owned", || {
            match wire::decode(black_box(&bytes), TRAILER, black_box(&limits)) {
                Ok(Decoded::Frame(frame, _)) => drop(black_box(frame.to_owned())),
                other => panic!("{other:?}"),
            }
        }),
        Contestant::new("crc alone", || {
            black_box(crc::crc32(black_box(&bytes[..bytes.len() - 4])));
        }),
    ];
    let medians = race(effort, &mut decoders);
    print_ratios(&format!("decode {size}"), &decoders, &medians);
}

fn raw_encode(section: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let [h0, h1] = (section.len() as u16).to_le_bytes();
    let [p0, p1, p2, p3] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[b'V', b'T', 1, 3, 0, h0, h1, p0, p1, p2, p3]);
    out.extend_from_slice(section);
    out.extend_from_slice(payload);
    let crc = crc32fast::hash(out);
    out.extend_from_slice(&crc.to_be_bytes());
}

type RawFrame<'a> = (u8, u8, &'a [u8], &'a [u8]);

fn raw_decode(bytes: &[u8]) -> Option<RawFrame<'_>> {
    let (fixed, rest) = bytes.split_first_chunk::<11>()?;
    let header_len = usize::from(u16::from_le_bytes([fixed[5], fixed[6]]));
    let payload_len = u32::from_be_bytes([fixed[7], fixed[8], fixed[9], fixed[10]]) as usize;
    let (section, rest) = rest.split_at_checked(header_len)?;
    let (payload, rest) = rest.split_at_checked(payload_len)?;
    let crc = u32::from_be_bytes(*rest.first_chunk()?);
    let good = crc32fast::hash(&bytes[..bytes.len() - rest.len()]) == crc;
    good.then_some((fixed[3], fixed[4], section, payload))
}
