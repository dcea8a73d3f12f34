//! Datagrams as text, the way appendix B shows them, and back.

use std::fmt::Write as _;
use vstp::wire::{self, Decoded, FrameRef, Limits, Trailer, varint};
use vstp::{Flags, FrameType};

/// So many equal bytes in a row are written as `XX * N`.
const RUN_LEN: usize = 32;
/// Bytes of a line.
const LINE_LEN: usize = 16;

/// The bytes of a block; the offsets in it are checked on the way.
pub(crate) fn bytes(block: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in block.lines() {
        let mut words = line
            .split('|')
            .next()
            .expect("a first piece")
            .split_whitespace();
        let offset = words
            .next()
            .and_then(|word| usize::from_str_radix(word, 16).ok());
        assert_eq!(offset, Some(bytes.len()), "{line}");
        let words: Vec<&str> = words.collect();
        let byte = |word: &str| u8::from_str_radix(word, 16).expect("two hex digits");
        match words[..] {
            [word, "*", count] => {
                let count = bytes.len() + count.parse::<usize>().expect("a count");
                bytes.resize(count, byte(word));
            }
            _ => bytes.extend(words.into_iter().map(byte)),
        }
    }
    bytes
}

/// The frames of a datagram.
pub(crate) fn frames(mut datagram: &[u8]) -> Vec<FrameRef<'_>> {
    let mut frames = Vec::new();
    while !datagram.is_empty() {
        let decoded = wire::decode(datagram, Trailer::Always, &Limits::default());
        let Ok(Decoded::Frame(frame, used)) = decoded else {
            panic!("no whole frame")
        };
        frames.push(frame);
        datagram = &datagram[used..];
    }
    frames
}

/// A datagram as a block of appendix B.
pub(crate) fn text(datagram: &[u8]) -> String {
    let mut text = Text::default();
    for frame in frames(datagram) {
        text.frame(datagram, frame);
    }
    assert_eq!(text.at, datagram.len());
    text.out
}

#[derive(Default)]
struct Text {
    out: String,
    at: usize,
}

impl Text {
    /// The next bytes with their meaning, on as many lines as they take.
    fn field(&mut self, bytes: &[u8], meaning: &str) {
        let mut meaning = format!(" {meaning}");
        for line in bytes.chunks(LINE_LEN) {
            let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            self.line(&hex.join(" "), &std::mem::take(&mut meaning));
            self.at += line.len();
        }
    }

    fn line(&mut self, hex: &str, meaning: &str) {
        let line = format!("{:04x}  {hex:<47}  |{meaning}", self.at);
        writeln!(self.out, "{line}").expect("a string takes all");
    }

    /// Bytes of which long runs are written short.
    fn long(&mut self, mut bytes: &[u8], meaning: &str) {
        while let Some(&first) = bytes.first() {
            let run = |from: &[u8]| from.iter().take_while(|byte| **byte == from[0]).count();
            let count = run(bytes);
            if count >= RUN_LEN {
                let what = match first {
                    0 => format!("{count} zero bytes"),
                    _ => format!("{count} times {:?}", char::from(first)),
                };
                self.line(
                    &format!("{first:02x} * {count}"),
                    &format!(" {meaning}, {what}"),
                );
                self.at += count;
                bytes = &bytes[count..];
            } else {
                let next = (0..bytes.len()).find(|at| run(&bytes[*at..]) >= RUN_LEN);
                let (now, rest) = bytes.split_at(next.unwrap_or(bytes.len()));
                self.field(now, &format!("{meaning}{}", quoted(now)));
                bytes = rest;
            }
        }
    }

    fn frame(&mut self, datagram: &[u8], frame: FrameRef<'_>) {
        self.head(datagram, "");
        if frame.typ == FrameType::Ack {
            self.ranges(frame.payload);
        } else if frame.flags.contains(Flags::FRAG) {
            self.chunk(frame);
        } else {
            self.long(frame.payload, "PAYLOAD");
        }
        let crc = &datagram[self.at..self.at + 4];
        self.field(crc, "CRC32");
    }

    /// Fixed header and headers of the frame that begins here.
    fn head(&mut self, all: &[u8], prefix: &str) {
        let head = &all[self.at..];
        let flags = Flags::from_bits(head[4]).expect("known flags");
        let names: Vec<_> = flags.iter_names().map(|(name, _)| name).collect();
        let names = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        let typ = FrameType::from_u8(head[3]).expect("a known type");
        let meaning = format!("{prefix}\"VT\", VERSION 1, {typ}, FLAGS {names}");
        self.field(&head[..5], &meaning);
        let headers_len = usize::from(u16::from_le_bytes([head[5], head[6]]));
        let payload_len = u32::from_be_bytes([head[7], head[8], head[9], head[10]]);
        let meaning = format!("{prefix}HDR_LEN {headers_len}, PAY_LEN {payload_len}");
        self.field(&head[5..11], &meaning);
        let mut section = &head[11..11 + headers_len];
        while let [key_len, value_len, rest @ ..] = section {
            let (key, rest) = rest.split_at(usize::from(*key_len));
            let (value, rest) = rest.split_at(usize::from(*value_len));
            let meaning = format!("{prefix}KEY_LEN {key_len}, VALUE_LEN {value_len}");
            self.field(&section[..2], &meaning);
            self.field(key, &format!("{prefix}KEY{}", quoted(key)));
            self.field(value, &format!("{prefix}VALUE{}", quoted(value)));
            section = rest;
        }
    }

    /// A piece of an inner frame: the first with its head, the last with its trailer.
    fn chunk(&mut self, frame: FrameRef<'_>) {
        let number = |key: &str| -> u64 {
            let value = frame.header(key).expect("a fragment has it");
            let text = std::str::from_utf8(value).expect("digits");
            text.parse().expect("a number")
        };
        let mut inner = frame.payload;
        if number("frag-index") == 0 {
            let mut head = Self {
                out: String::new(),
                at: 0,
            };
            head.head(inner, "inner ");
            let len = head.at;
            // The same again, with offsets of the datagram.
            let mut whole = vec![0; self.at];
            whole.extend_from_slice(&inner[..len]);
            self.head(&whole, "inner ");
            inner = &inner[len..];
        }
        let is_last = number("frag-index") + 1 == number("frag-total");
        let trailer_len = if is_last { 4 } else { 0 };
        let (payload, trailer) = inner.split_at(inner.len() - trailer_len);
        self.long(payload, "inner PAYLOAD");
        self.field(trailer, "inner CRC32");
    }

    /// The pairs of a progress acknowledgement.
    fn ranges(&mut self, mut payload: &[u8]) {
        while !payload.is_empty() {
            let mut used = 0;
            let mut next = || match varint::decode(&payload[used..]) {
                Ok(varint::Decoded::Value(value, len)) => {
                    used += len;
                    value
                }
                other => panic!("{other:?}"),
            };
            let meaning = format!("PAYLOAD gap {}, length {}", next(), next());
            let (pair, rest) = payload.split_at(used);
            self.field(pair, &meaning);
            payload = rest;
        }
    }
}

/// Printable bytes in quotes, of others the count.
fn quoted(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        format!(" \"{}\"", String::from_utf8_lossy(bytes))
    } else {
        format!(", {} bytes", bytes.len())
    }
}
