//! What the tests of the codec share: a frame writer that believes whatever it is told, short
//! forms of encode and decode, and a small random number generator.

use vstp::wire::{self, DecodeError, Decoded, EncodeError, Frame, FrameRef, Limits, Trailer};

pub(crate) const BOTH: [Trailer; 2] = [Trailer::Always, Trailer::WhenFlagged];

/// The fixed header, straight from the table of spec 2.1.
pub(crate) fn fixed(typ: u8, flags: u8, header_len: u16, payload_len: u32) -> Vec<u8> {
    let [h0, h1] = header_len.to_le_bytes();
    let [p0, p1, p2, p3] = payload_len.to_be_bytes();
    vec![b'V', b'T', 1, typ, flags, h0, h1, p0, p1, p2, p3]
}

/// A frame of these parts, whether they make sense or not; the lengths and the trailer are right.
pub(crate) fn raw(typ: u8, flags: u8, section: &[u8], payload: &[u8], trailer: Trailer) -> Vec<u8> {
    let mut bytes = fixed(typ, flags, section.len() as u16, payload.len() as u32);
    bytes.extend_from_slice(section);
    bytes.extend_from_slice(payload);
    if trailer == Trailer::Always || flags & 0x02 != 0 {
        seal(&mut bytes);
    }
    bytes
}

/// Appends the right trailer.
pub(crate) fn seal(bytes: &mut Vec<u8>) {
    let crc = wire::crc::crc32(bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
}

pub(crate) fn encode(frame: &Frame, trailer: Trailer) -> Vec<u8> {
    try_encode(frame, trailer, &Limits::default()).expect("the test's frame is encodable")
}

/// Encodes behind bytes that are already there, and checks what every failure must keep: nothing
/// was written. All forms of the encoder must agree.
pub(crate) fn try_encode(
    frame: &Frame,
    trailer: Trailer,
    limits: &Limits,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = b"before".to_vec();
    let result = wire::encode(frame.as_ref(), trailer, limits, &mut out);
    assert_eq!(wire::encoded_len(frame.as_ref(), trailer, limits), result);
    let mut head = b"before".to_vec();
    let split = wire::encode_head(frame.as_ref(), trailer, limits, &mut head);
    assert_eq!(split.map(|split| split.frame_len), result);
    let bytes = out.split_off(6);
    assert_eq!(out, b"before");
    match split {
        Ok(split) => {
            head.extend_from_slice(&frame.payload);
            head.extend_from_slice(split.trailer.as_ref().map_or(&[], |t| &t[..]));
            assert_eq!(head[6..], bytes);
        }
        Err(_) => assert_eq!((&head[..], &bytes[..]), (&b"before"[..], &b""[..])),
    }
    result.map(|len| {
        assert_eq!(len, bytes.len());
        bytes
    })
}

pub(crate) fn decode(bytes: &[u8], trailer: Trailer) -> Result<Decoded<'_>, DecodeError> {
    wire::decode(bytes, trailer, &Limits::default())
}

/// The frame that fills `bytes`.
pub(crate) fn whole(bytes: &[u8], trailer: Trailer) -> FrameRef<'_> {
    match decode(bytes, trailer) {
        Ok(Decoded::Frame(frame, used)) if used == bytes.len() => frame,
        other => panic!("not exactly one frame: {other:?}"),
    }
}

/// How many bytes the decoder asks for.
pub(crate) fn needed(bytes: &[u8], trailer: Trailer) -> usize {
    match decode(bytes, trailer) {
        Ok(Decoded::Incomplete { needed }) => needed,
        other => panic!("{} bytes, not incomplete: {other:?}", bytes.len()),
    }
}

pub(crate) fn refused(bytes: &[u8], trailer: Trailer) -> DecodeError {
    match decode(bytes, trailer) {
        Err(error) => error,
        Ok(other) => panic!("not refused: {other:?}"),
    }
}

/// xorshift64*: the same numbers on every machine and in every run.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }

    pub(crate) fn bytes(&mut self, max_len: usize) -> Vec<u8> {
        let len = self.below(max_len + 1);
        (0..len).map(|_| self.next() as u8).collect()
    }
}
