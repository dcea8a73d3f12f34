//! The parts of a frame with their places, and the first byte that is wrong.
//!
//! The verdict is the library's decoder's; here it gets its place in the bytes. Nothing is searched for after an
//! error: a stream has no second beginning (spec 2.4).

use super::repair::{self, Change};
use crate::output::shown;
use std::ops::Range;
use vstp::proto::keys;
use vstp::wire::{
    DecodeError, Decoded, FixedHeader, Flags, FrameRef, Limits, Trailer, decode, decode_exact,
};
use vstp::{FrameType, VSTP_VERSION};

/// A text of so many bytes is repeated beside its bytes.
const SHORT: usize = 64;

/// Some bytes of a frame and what they mean.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) range: Range<usize>,
    pub(super) text: String,
    /// Bytes that are not printed: a token.
    pub(super) secret: bool,
}

/// What is wrong, and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) message: String,
    /// What the byte was, if the checksum tells.
    pub(super) was: Option<u8>,
    pub(super) is_checksum: bool,
}

/// One frame, or what is left of one.
#[derive(Debug)]
pub(super) struct Anatomy<'a> {
    pub(super) parts: Vec<Part>,
    pub(super) result: Result<(FrameRef<'a>, usize), Fault>,
}

/// Takes the first frame of `bytes` apart. Offsets are from their beginning.
pub(super) fn dissect<'a>(bytes: &'a [u8], trailer: Trailer, limits: &Limits) -> Anatomy<'a> {
    let decoded = decode(bytes, trailer, limits);
    if let Ok(Decoded::Frame(frame, len)) = decoded {
        let parts = parts(&bytes[..len], trailer, limits);
        return Anatomy {
            parts,
            result: Ok((frame, len)),
        };
    }
    let mut fault = match decoded {
        Err(error) => judged(bytes, error, trailer, limits),
        Ok(Decoded::Incomplete { needed }) => cut(bytes, needed),
        // Handled above.
        Ok(Decoded::Frame(..)) => cut(bytes, 0),
    };
    if let Some(change) = changed(bytes, trailer, limits) {
        fault.message = format!(
            "{}; the checksum says that one byte was changed",
            fault.message
        );
        (fault.offset, fault.was) = (change.offset, Some(change.was));
    }
    Anatomy {
        parts: parts(bytes, trailer, limits),
        result: Err(fault),
    }
}

/// The one byte whose repair makes all of `bytes`, or their first frame, a valid frame.
fn changed(bytes: &[u8], trailer: Trailer, limits: &Limits) -> Option<Change> {
    let first = FixedHeader::parse(bytes, trailer, limits).ok().flatten();
    let first = first
        .map(|head| head.frame_len)
        .filter(|len| *len < bytes.len());
    let ends = [first, Some(bytes.len())];
    let mut all = ends.into_iter().flatten().flat_map(|end| {
        let whole = &bytes[..end];
        let is_repaired = move |change: &Change| {
            let mut repaired = whole.to_vec();
            repaired[change.offset] = change.was;
            decode_exact(&repaired, trailer, limits).is_ok()
        };
        repair::candidates(whole).into_iter().filter(is_repaired)
    });
    let only = all.next()?;
    match all.next() {
        None => Some(only),
        Some(_) => None,
    }
}

fn cut(bytes: &[u8], needed: usize) -> Fault {
    let len = bytes.len();
    Fault {
        offset: len,
        message: format!(
            "the input ends here, and at least {needed} bytes of the frame are missing"
        ),
        was: None,
        is_checksum: false,
    }
}

/// The place of an error of the decoder.
fn judged(bytes: &[u8], error: DecodeError, trailer: Trailer, limits: &Limits) -> Fault {
    let offset = match error {
        DecodeError::InvalidMagic { offset, .. } => usize::from(offset),
        DecodeError::InvalidVersion { .. } => 2,
        DecodeError::InvalidFrameType(_) => 3,
        DecodeError::ReservedFlags(_) => 4,
        DecodeError::FrameTooLarge { .. } => 7,
        DecodeError::HeaderBounds { offset } => FixedHeader::LEN + offset,
        DecodeError::TooManyHeaders { limit } => {
            let head = FixedHeader::parse(bytes, trailer, limits).ok().flatten();
            let end = head
                .map_or(bytes.len(), |head| head.head_len())
                .min(bytes.len());
            entries(bytes, end)
                .nth(limit)
                .map_or(FixedHeader::LEN, |entry| entry.start)
        }
        DecodeError::CrcMismatch { .. } => {
            let head = FixedHeader::parse(bytes, trailer, limits).ok().flatten();
            head.map_or(0, |head| head.frame_len - head.trailer_len())
        }
        _ => bytes.len(),
    };
    Fault {
        offset,
        message: error.to_string(),
        was: None,
        is_checksum: matches!(error, DecodeError::CrcMismatch { .. }),
    }
}

/// A header entry: where it begins, its key and its value; ranges end where the section does.
struct Entry {
    start: usize,
    key: Range<usize>,
    value: Range<usize>,
}

fn entries(bytes: &[u8], end: usize) -> impl Iterator<Item = Entry> {
    let mut at = FixedHeader::LEN;
    std::iter::from_fn(move || {
        let (&key_len, &value_len) = (bytes.get(at)?, bytes.get(at + 1)?);
        if at + 2 > end {
            return None;
        }
        let key = at + 2..(at + 2 + usize::from(key_len)).min(end);
        let value = key.end..(key.end + usize::from(value_len)).min(end);
        let start = std::mem::replace(&mut at, value.end);
        Some(Entry { start, key, value })
    })
}

/// The parts of what is there; past the first error only as far as they make sense.
fn parts(bytes: &[u8], trailer: Trailer, limits: &Limits) -> Vec<Part> {
    let mut out = Vec::new();
    let mut add = |range: Range<usize>, text: String, secret: bool| {
        let end = range.end.min(bytes.len());
        if range.start < end {
            let range = range.start..end;
            out.push(Part {
                range,
                text,
                secret,
            });
        }
    };
    add(0..5, fixed(bytes), false);
    let Ok(Some(head)) = FixedHeader::parse(bytes, trailer, limits) else {
        let rest = FixedHeader::LEN;
        add(5..rest, lengths(bytes), false);
        add(rest..bytes.len(), "not looked at".to_owned(), false);
        return out;
    };
    add(5..FixedHeader::LEN, lengths(bytes), false);
    let section_end = head.head_len().min(bytes.len());
    let mut at = FixedHeader::LEN;
    for entry in entries(bytes, section_end) {
        let lens = (bytes[entry.start], bytes[entry.start + 1]);
        add(
            entry.start..entry.start + 2,
            format!("KEY_LEN {}, VALUE_LEN {}", lens.0, lens.1),
            false,
        );
        let key = &bytes[entry.key.clone()];
        let is_token = key == keys::AUTH_TOKEN.as_bytes();
        let value = if is_token {
            format!("VALUE, {} bytes that are not shown", entry.value.len())
        } else {
            format!("VALUE \"{}\"", shown(&bytes[entry.value.clone()]))
        };
        at = entry.value.end;
        add(entry.key, format!("KEY \"{}\"", shown(key)), false);
        add(entry.value, value, is_token);
    }
    add(at..section_end, "a piece of a header".to_owned(), false);
    let payload_end = head.head_len() + head.payload_len;
    let payload = head.head_len().min(bytes.len())..payload_end.min(bytes.len());
    // A token over 255 bytes is the payload of HELLO (spec 3.2).
    let is_token = head.typ == FrameType::Hello && !head.flags.contains(Flags::FRAG);
    let is_padding = bytes[payload.clone()].iter().all(|byte| *byte == 0);
    let is_secret = is_token && !is_padding;
    let text = match crate::output::text(&bytes[payload.clone()]) {
        Some(text) if !is_secret && !is_padding && text.len() <= SHORT => {
            format!("PAYLOAD \"{}\"", shown(text.as_bytes()))
        }
        _ => format!("PAYLOAD, {} bytes", head.payload_len),
    };
    add(payload, text, is_secret);
    add(payload_end..head.frame_len, "CRC32".to_owned(), false);
    if bytes.len() > head.frame_len {
        add(
            head.frame_len..bytes.len(),
            "not looked at".to_owned(),
            false,
        );
    }
    out
}

fn fixed(bytes: &[u8]) -> String {
    let byte = |at: usize| bytes.get(at).copied();
    let mut words = vec![match bytes.get(..2) {
        Some(b"VT") => "\"VT\"".to_owned(),
        _ => "MAGIC, wrong".to_owned(),
    }];
    words.extend(byte(2).map(|version| match version {
        VSTP_VERSION => format!("VERSION {version}"),
        _ => format!("VERSION {version}, unknown"),
    }));
    words.extend(byte(3).map(|typ| match FrameType::from_u8(typ) {
        Some(typ) => typ.to_string(),
        None => format!("TYPE {typ:#04x}, unknown"),
    }));
    words.extend(byte(4).map(flags));
    words.join(", ")
}

fn flags(bits: u8) -> String {
    match Flags::from_bits(bits) {
        Some(flags) if flags.is_empty() => "FLAGS none".to_owned(),
        Some(flags) => {
            let names: Vec<_> = flags.iter_names().map(|(name, _)| name).collect();
            format!("FLAGS {}", names.join(" "))
        }
        None => format!("FLAGS {bits:#04x}, reserved bits"),
    }
}

fn lengths(bytes: &[u8]) -> String {
    let header = bytes
        .get(5..7)
        .and_then(|b| b.try_into().ok())
        .map(u16::from_le_bytes);
    let payload = bytes
        .get(7..11)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_be_bytes);
    match (header, payload) {
        (Some(header), Some(payload)) => format!("HDR_LEN {header}, PAY_LEN {payload}"),
        (Some(header), None) => format!("HDR_LEN {header}, a piece of PAY_LEN"),
        _ => "a piece of HDR_LEN".to_owned(),
    }
}
