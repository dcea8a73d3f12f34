//! Datagrams made by hand: what an attacker, a broken peer, or a test that looks inside writes and
//! reads. The checksums are right unless a test breaks them.

use vstp::wire::{self, Flags, Frame, Limits, Trailer, varint};

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const WELCOME: u8 = 0x02;
pub(crate) const DATA: u8 = 0x03;
pub(crate) const PING: u8 = 0x04;
pub(crate) const BYE: u8 = 0x06;
pub(crate) const ACK: u8 = 0x07;
pub(crate) const REQ_ACK: u8 = 0x01;
pub(crate) const CRC: u8 = 0x02;
pub(crate) const FRAG: u8 = 0x10;

pub(crate) type Entry<'a> = (&'a str, &'a [u8]);

/// A frame of these parts, whether they make sense or not; lengths and trailer are right.
pub(crate) fn frame(typ: u8, flags: u8, headers: &[Entry<'_>], payload: &[u8]) -> Vec<u8> {
    let mut section = Vec::new();
    for (key, value) in headers {
        section.extend([key.len() as u8, value.len() as u8]);
        section.extend_from_slice(key.as_bytes());
        section.extend_from_slice(value);
    }
    let mut bytes = vec![b'V', b'T', 1, typ, flags];
    bytes.extend((section.len() as u16).to_le_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.append(&mut section);
    bytes.extend_from_slice(payload);
    let crc = wire::crc::crc32(&bytes);
    bytes.extend(crc.to_be_bytes());
    bytes
}

/// The same with as many zero bytes of payload as make it `len` bytes, or none if it is longer.
pub(crate) fn padded(typ: u8, flags: u8, headers: &[Entry<'_>], len: usize) -> Vec<u8> {
    let bare = frame(typ, flags, headers, &[]).len();
    frame(typ, flags, headers, &vec![0; len.saturating_sub(bare)])
}

/// The frames of a datagram; none where one is broken.
pub(crate) fn frames(mut datagram: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let (trailer, limits) = (Trailer::Always, Limits::default());
    while !datagram.is_empty() {
        let Ok(wire::Decoded::Frame(frame, used)) = wire::decode(datagram, trailer, &limits) else {
            return Vec::new();
        };
        frames.push(frame.to_owned());
        datagram = &datagram[used..];
    }
    frames
}

/// Whether a frame of the datagram has this type.
pub(crate) fn has(datagram: &[u8], typ: u8) -> bool {
    frames(datagram).iter().any(|f| f.typ.as_u8() == typ)
}

/// A reserved header as a number.
pub(crate) fn number(frame: &Frame, key: &str) -> Option<u64> {
    frame.header_str(key)?.parse().ok()
}

/// The encoded frame.
pub(crate) fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(
        frame.as_ref(),
        Trailer::Always,
        &Limits::default(),
        &mut bytes,
    )
    .expect("the test's frame is encodable");
    bytes
}

/// A set of fragments that carries these bytes, `chunk` at a time, without acknowledgement.
pub(crate) fn fragments(id: u64, inner: &[u8], chunk: usize) -> Vec<Vec<u8>> {
    let total = inner.len().div_ceil(chunk).to_string();
    let (id, len) = (id.to_string(), inner.len().to_string());
    let fragment = |(index, piece): (usize, &[u8])| {
        let index = index.to_string();
        let headers: [Entry<'_>; 4] = [
            ("frag-id", id.as_bytes()),
            ("frag-index", index.as_bytes()),
            ("frag-total", total.as_bytes()),
            ("frag-len", len.as_bytes()),
        ];
        frame(DATA, FRAG, &headers, piece)
    };
    inner.chunks(chunk).enumerate().map(fragment).collect()
}

/// The payload of a progress acknowledgement.
pub(crate) fn ranges(pairs: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (gap, len) in pairs {
        varint::encode(*gap, &mut out);
        varint::encode(*len, &mut out);
    }
    out
}

/// Whether the frame is a fragment.
pub(crate) fn is_fragment(frame: &Frame) -> bool {
    frame.typ.is_message() && frame.flags.contains(Flags::FRAG)
}
