//! Frames as datagrams: the application's with the headers that the transport adds, and the transport's
//! own.

use super::fragment::{Cut, Inner};
use super::proof::{Proof, header_len};
use crate::proto::keys::{self, AuthToken, Features};
use crate::wire::{
    EncodeError, Flags, FrameRef, FrameType, FrameWriter, Limits, Trailer, digit_count, encoded_len,
};

/// What a frame needs to leave: the numbers that the transport adds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope {
    /// The message's number.
    pub msg_id: u64,
    /// Whether it is to be acknowledged.
    pub wants_ack: bool,
    /// Whether it carries the CRC flag.
    pub use_crc: bool,
    /// The session.
    pub proof: Proof,
}

impl Envelope {
    fn flags(&self, frame: FrameRef<'_>) -> Flags {
        let mut flags = frame.flags;
        flags.set(Flags::REQ_ACK, self.wants_ack);
        if self.use_crc {
            flags.insert(Flags::CRC);
        }
        flags
    }

    fn header_len(&self) -> usize {
        header_len(keys::MSG_ID, digit_count(self.msg_id))
    }

    /// Bytes of the frame in one datagram.
    ///
    /// # Errors
    /// A frame that cannot be expressed, or that is over the limits.
    pub(super) fn message_len(
        &self,
        frame: FrameRef<'_>,
        limits: &Limits,
    ) -> Result<usize, EncodeError> {
        let flagged = FrameRef {
            flags: self.flags(frame),
            ..frame
        };
        let len = encoded_len(flagged, self.proof.trailer(), limits)?
            + self.header_len()
            + self.proof.header_len();
        let limit = limits.max_frame_len as u64;
        if len as u64 > limit {
            let size = len as u64;
            return Err(EncodeError::FrameTooLarge { size, limit });
        }
        Ok(len)
    }

    /// Appends the frame as one datagram.
    ///
    /// # Errors
    /// Headers that cannot be expressed.
    pub(super) fn write(
        &self,
        frame: FrameRef<'_>,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let mut writer = FrameWriter::new(out, frame.typ, self.flags(frame));
        writer.headers(frame.headers, limits)?;
        writer.number(keys::MSG_ID, self.msg_id);
        self.proof.write(&mut writer);
        writer.payload(frame.payload);
        writer.finish(self.proof.trailer());
        Ok(())
    }

    /// The head of the frame for fragments; `sid` is in each of those, not in the frame.
    ///
    /// # Errors
    /// Headers that cannot be expressed.
    pub(super) fn inner_head(
        &self,
        frame: FrameRef<'_>,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let mut headers = frame.headers.to_owned();
        headers.push(keys::MSG_ID, self.msg_id.to_string());
        let head = FrameRef {
            flags: self.flags(frame),
            headers: headers.as_ref(),
            ..frame
        };
        crate::wire::encode_head(head, Trailer::WhenFlagged, limits, out).map(|_| ())
    }
}

/// Appends one fragment.
pub(super) fn fragment(
    inner: &mut Inner,
    cut: &Cut,
    (frag_id, index): (u64, u64),
    wants_ack: bool,
    proof: &Proof,
    out: &mut Vec<u8>,
) {
    let mut flags = Flags::FRAG;
    flags.set(Flags::REQ_ACK, wants_ack);
    let mut writer = FrameWriter::new(out, FrameType::Data, flags);
    writer.number(keys::FRAG_ID, frag_id);
    writer.number(keys::FRAG_INDEX, index);
    writer.number(keys::FRAG_TOTAL, cut.total);
    writer.number(keys::FRAG_LEN, inner.len() as u64);
    proof.write(&mut writer);
    let range = cut.range(index, inner.len());
    inner.write(range, writer.payload_buffer());
    writer.finish(proof.trailer());
}

/// Bytes of what [`fragment`] appends.
#[must_use]
pub(super) fn fragment_len(
    inner: &Inner,
    cut: &Cut,
    (frag_id, index): (u64, u64),
    proof: &Proof,
) -> usize {
    11 + header_len(keys::FRAG_ID, digit_count(frag_id))
        + header_len(keys::FRAG_INDEX, digit_count(index))
        + header_len(keys::FRAG_TOTAL, digit_count(cut.total))
        + header_len(keys::FRAG_LEN, digit_count(inner.len() as u64))
        + proof.header_len()
        + cut.range(index, inner.len()).len()
        + proof.trailer_len()
}

/// A frame of the transport itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Control<'a> {
    /// Its type.
    pub typ: FrameType,
    /// Its session.
    pub proof: Proof,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> Control<'a> {
    /// A frame of this type with nothing in it.
    #[must_use]
    pub(super) const fn new(typ: FrameType, proof: Proof) -> Self {
        Self {
            typ,
            proof,
            payload: &[],
        }
    }

    /// Appends it, with what `more` adds to its headers.
    pub(super) fn write(self, out: &mut Vec<u8>, more: impl FnOnce(&mut FrameWriter<'_>)) {
        let mut writer = FrameWriter::new(out, self.typ, Flags::empty());
        more(&mut writer);
        self.proof.write(&mut writer);
        writer.payload(self.payload);
        writer.finish(self.proof.trailer());
    }
}

/// Appends the acknowledgement of a message.
pub(super) fn ack(msg_id: u64, proof: Proof, out: &mut Vec<u8>) {
    Control::new(FrameType::Ack, proof).write(out, |w| w.number(keys::MSG_ID, msg_id));
}

/// Appends one acknowledgement of as many messages as fit `max_len` bytes; `ids` rise. How many those are.
pub(super) fn acks(ids: &[u64], proof: Proof, max_len: usize, out: &mut Vec<u8>) -> usize {
    let Some((first, more)) = ids.split_first() else {
        return 0;
    };
    if more.is_empty() {
        ack(*first, proof, out);
        return 1;
    }
    let mut writer = FrameWriter::new(out, FrameType::Ack, Flags::empty());
    writer.number(keys::MSG_ID, *first);
    proof.write(&mut writer);
    let room = max_len.saturating_sub(writer.written() + proof.trailer_len());
    let count = super::ack::encode_ids(ids, room, writer.payload_buffer());
    writer.finish(proof.trailer());
    count
}

/// HELLO, padded to `len` bytes so that no answer is longer (spec 4.8).
#[must_use]
pub(super) fn hello(
    features: &Features,
    max_frame_len: usize,
    cookie: Option<&[u8]>,
    auth_token: Option<&AuthToken>,
    (proof, len): (Proof, usize),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    let mut writer = FrameWriter::new(&mut out, FrameType::Hello, Flags::empty());
    let features = features.to_string();
    writer.header(
        keys::FEATURES,
        &features.as_bytes()[..features.len().min(255)],
    );
    writer.number(keys::MAX_FRAME_SIZE, max_frame_len as u64);
    if let Some(cookie) = cookie {
        writer.header(keys::COOKIE, cookie);
        // spec 4.8: the address that it goes to has answered; before that, nobody gets the token.
        if let Some(token) = auth_token {
            writer.header(keys::AUTH_TOKEN, token.as_bytes());
        }
    }
    let padding = len.saturating_sub(writer.written() + proof.trailer_len());
    let payload = writer.payload_buffer();
    payload.resize(payload.len() + padding, 0);
    writer.finish(proof.trailer());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, decode_exact};

    const SID: [u8; 16] = [3; 16];

    #[test]
    fn hello_has_exactly_its_length() {
        let features: Features = "bundle,gzip".parse().expect("names");
        for cookie in [None, Some(&[1_u8; 40][..])] {
            let token = vec![b't'; 255].into();
            let form = (Proof::None, 1200);
            let hello = hello(&features, 1 << 20, cookie, Some(&token), form);
            assert_eq!(hello.len(), 1200);
            let frame = decode_exact(&hello, Trailer::Always, &Limits::default()).expect("valid");
            assert_eq!(frame.headers.get(keys::COOKIE), cookie);
            let sent = frame.headers.get(keys::AUTH_TOKEN);
            assert_eq!(sent, cookie.map(|_| token.as_bytes()), "with a cookie only");
            assert!(frame.payload.iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn lengths_are_known_before() {
        let frame = Frame::data("hello").with_header("a", "b");
        let limits = Limits::default();
        for (proof, use_crc) in [
            (Proof::None, false),
            (Proof::Sid(SID), true),
            (Proof::Sealed, false),
            (Proof::Sealed, true),
        ] {
            let envelope = Envelope {
                msg_id: 1234,
                wants_ack: true,
                use_crc,
                proof,
            };
            let mut out = Vec::new();
            envelope
                .write(frame.as_ref(), &limits, &mut out)
                .expect("it fits");
            assert_eq!(envelope.message_len(frame.as_ref(), &limits), Ok(out.len()));

            let payload = vec![7; 10_000];
            let large = Frame::data(payload.clone());
            let mut head = Vec::new();
            envelope
                .inner_head(large.as_ref(), &limits, &mut head)
                .expect("it fits");
            let mut inner = Inner::new(head, payload);
            let cut = Cut::new(inner.len(), 77, 1200, &proof).expect("few");
            for index in 0..cut.total {
                let mut out = Vec::new();
                fragment(&mut inner, &cut, (77, index), true, &proof, &mut out);
                let len = fragment_len(&inner, &cut, (77, index), &proof);
                assert!(out.len() == len && len <= 1200);
                decode_exact(&out, proof.trailer(), &limits).expect("a frame");
            }
        }
    }
}
