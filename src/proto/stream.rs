//! A byte stream to frames: incremental, bounded, without a second look at any byte.
//!
//! The shell appends what it read to [`StreamDecoder::read_target`] and reports it with
//! [`StreamDecoder::on_read`]; [`StreamDecoder::poll`] then finds the next frame. Frames are handed
//! out borrowed ([`StreamDecoder::frame`]) or owned ([`StreamDecoder::take`]).
//!
//! Small frames are decoded where they lie in the staging buffer. The payload of a large one is
//! read straight into a vector of its own, so that it is copied zero times when it is taken and its
//! checksum is computed while the bytes are hot:
//!
//! ```text
//!            fixed header complete           payload >= 128 KiB, headers complete
//!  Between frames ----------> Head known ------------------------------------> Body
//!        ^                        | whole frame in staging                       | all of it there
//!        |                        v                                              |
//!        +--- next poll ------- Ready <-----------------------------------------+
//! ```
//!
//! Memory grows with the bytes received, never with the length announced: a payload vector is at
//! most twice as long as what arrived, or 64 KiB.

use crate::wire::decode::check_crc;
use crate::wire::{
    Buffer, DecodeError, FixedHeader, Frame, FrameRef, Headers, HeadersRef, Limits, Trailer,
    crc::Crc32,
};

/// Payloads from this length on get a vector of their own (bytes).
const DIRECT_LEN: usize = 128 * 1024;
/// Smallest and largest room offered for one read (bytes). It starts small because most connections
/// are idle, and doubles whenever a read fills it.
const MIN_READ_LEN: usize = 1024;
const MAX_READ_LEN: usize = 128 * 1024;
/// After so many reads in a row that needed less than a quarter of the room, the room is halved.
const QUIET_READS: u32 = 64;
/// Room beyond the end of a large payload, so that its trailer and the start of the next frame come
/// with the same read.
const OVERSHOOT: usize = 4 * 1024;

/// Decodes one direction of a stream.
#[derive(Debug)]
pub struct StreamDecoder {
    trailer: Trailer,
    limits: Limits,
    staging: Buffer,
    /// The checked fixed header of the frame that is arriving or ready.
    head: Option<FixedHeader>,
    body: Option<Body>,
    /// Headers of the ready frame; `None` while it is arriving.
    ready: Option<usize>,
    /// The vector of the last large payload, kept for the next one.
    spare: Vec<u8>,
    /// Bytes of the body's payload when the last read target was it.
    body_len_before_read: Option<usize>,
    read_len: usize,
    quiet_reads: u32,
}

/// A large frame: everything but its trailer, outside the staging buffer.
#[derive(Debug)]
struct Body {
    headers: Headers,
    payload: Vec<u8>,
    crc: Crc32,
}

impl StreamDecoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(trailer: Trailer, limits: Limits) -> Self {
        Self {
            trailer,
            limits,
            staging: Buffer::new(),
            head: None,
            body: None,
            ready: None,
            spare: Vec::new(),
            body_len_before_read: None,
            read_len: MIN_READ_LEN,
            quiet_reads: 0,
        }
    }

    /// The vector to append received bytes to; it has unused capacity, and may be filled up to it.
    pub fn read_target(&mut self) -> &mut Vec<u8> {
        match (&mut self.body, self.head) {
            (Some(body), Some(head)) if body.payload.len() < head.payload_len => {
                let payload = &mut body.payload;
                self.body_len_before_read = Some(payload.len());
                let missing = head.payload_len - payload.len() + OVERSHOOT;
                // Double what has arrived at most; a vector used before is filled as it is.
                let step = payload.len().clamp(DIRECT_LEN / 2, MAX_READ_LEN);
                payload.reserve_exact(missing.min(step));
                payload
            }
            _ => self.staging.tail(self.read_len),
        }
    }

    /// Reports that `len` bytes were appended to [`Self::read_target`].
    pub fn on_read(&mut self, len: usize) {
        if let (Some(start), Some(body), Some(head)) =
            (self.body_len_before_read.take(), &mut self.body, self.head)
        {
            let within = body.payload.len().min(head.payload_len);
            if head.trailer_len() > 0 {
                body.crc.update(&body.payload[start..within]);
            }
            self.staging.extend_from_slice(&body.payload[within..]);
            body.payload.truncate(within);
            return;
        }
        if len >= self.read_len {
            self.read_len = (self.read_len * 2).min(MAX_READ_LEN);
            self.quiet_reads = 0;
        } else if len > self.read_len / 4 || self.read_len == MIN_READ_LEN {
            self.quiet_reads = 0;
        } else {
            self.quiet_reads += 1;
            if self.quiet_reads == QUIET_READS {
                self.read_len /= 2;
                self.quiet_reads = 0;
            }
        }
    }

    /// Looks for the next frame in what was read; `true` when one is ready.
    ///
    /// The frame that was ready before is given up. `admit` is asked once for each frame, as soon as
    /// its fixed header is there and before any of its body is looked at.
    ///
    /// # Errors
    /// A [`DecodeError`], or what `admit` says. The stream is then dead: the start of the next frame
    /// is unknown.
    #[inline]
    pub fn poll<E: From<DecodeError>>(
        &mut self,
        admit: impl FnOnce(&FixedHeader) -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.ready.take().is_some() {
            self.discard();
        }
        if self.head.is_none() {
            let head = FixedHeader::parse(&self.staging, self.trailer, &self.limits)?;
            let Some(head) = head else { return Ok(false) };
            admit(&head)?;
            self.head = Some(head);
            // The usual case: all of a frame came with the read that brought its head.
            if self.staging.len() >= head.frame_len {
                self.ready = Some(head.check_body(&self.staging, &self.limits)?);
                return Ok(true);
            }
        }
        Ok(self.poll_partial()?)
    }

    /// [`Self::poll`] for a frame whose head was there before.
    fn poll_partial(&mut self) -> Result<bool, DecodeError> {
        let Some(head) = self.head else {
            return Ok(false);
        };
        if self.body.is_none()
            && head.payload_len >= DIRECT_LEN
            && self.staging.len() < head.frame_len
            && self.staging.len() >= head.head_len()
        {
            self.begin_body(head)?;
        }
        self.ready = match &mut self.body {
            Some(body) if body.payload.len() < head.payload_len => None,
            Some(body) => match self.staging.get(..head.trailer_len()) {
                None => None,
                Some(trailer) => {
                    if let Some(trailer) = trailer.first_chunk() {
                        check_crc(*trailer, std::mem::take(&mut body.crc).finish())?;
                    }
                    Some(body.headers.len())
                }
            },
            None if self.staging.len() < head.frame_len => None,
            None => Some(head.check_body(&self.staging, &self.limits)?),
        };
        Ok(self.ready.is_some())
    }

    /// The fixed header of the frame that is arriving or ready, once it is there.
    #[must_use]
    #[inline]
    pub const fn head(&self) -> Option<&FixedHeader> {
        self.head.as_ref()
    }

    /// The ready frame, borrowed.
    ///
    /// # Panics
    /// If the last [`Self::poll`] did not return `true`.
    #[must_use]
    #[inline]
    pub fn frame(&self) -> FrameRef<'_> {
        let (Some(head), Some(header_count)) = (self.head, self.ready) else {
            panic!("frame() without a ready frame");
        };
        match &self.body {
            None => head.frame(&self.staging, header_count),
            Some(body) => FrameRef {
                typ: head.typ,
                flags: head.flags,
                headers: body.headers.as_ref(),
                payload: &body.payload,
            },
        }
    }

    /// The ready frame, owned; a large payload moves without a copy.
    ///
    /// # Panics
    /// As [`Self::frame`].
    #[must_use]
    pub fn take(&mut self) -> Frame {
        match (&mut self.body, self.head) {
            (Some(body), Some(head)) if self.ready.is_some() => Frame {
                typ: head.typ,
                flags: head.flags,
                headers: std::mem::take(&mut body.headers),
                payload: std::mem::take(&mut body.payload),
            },
            _ => self.frame().to_owned(),
        }
    }

    /// Whether the stream is inside a frame: bytes of one are there, but not all.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.ready.is_none() && (self.head.is_some() || !self.staging.is_empty())
    }

    /// Bytes of the frame that is arriving, as announced; 0 while that is unknown.
    #[must_use]
    pub fn announced_len(&self) -> usize {
        self.head.map_or(0, |head| head.frame_len)
    }

    /// Bytes of memory held in buffers.
    #[must_use]
    pub fn memory(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.payload.capacity());
        self.staging.capacity() + body + self.spare.capacity()
    }

    /// Gives back buffers that nothing waits in. For connections that have become idle.
    pub fn release(&mut self) {
        self.staging.release();
        self.spare = Vec::new();
        self.read_len = MIN_READ_LEN;
    }

    /// Moves what is there of a large frame out of the staging buffer.
    fn begin_body(&mut self, head: FixedHeader) -> Result<(), DecodeError> {
        let section = &self.staging[FixedHeader::LEN..head.head_len()];
        let headers = HeadersRef::parse(section, self.limits.max_header_count)?.to_owned();
        let mut crc = Crc32::new();
        let there = &self.staging[..self.staging.len().min(head.head_len() + head.payload_len)];
        if head.trailer_len() > 0 {
            crc.update(there);
        }
        let mut payload = std::mem::take(&mut self.spare);
        payload.extend_from_slice(&there[head.head_len()..]);
        let used = there.len();
        self.staging.consume(used);
        self.body = Some(Body {
            headers,
            payload,
            crc,
        });
        Ok(())
    }

    /// Gives up the frame that was ready.
    #[inline]
    fn discard(&mut self) {
        let Some(head) = self.head.take() else { return };
        if let Some(body) = self.body.take() {
            self.staging.consume(head.trailer_len());
            self.spare = body.payload;
            self.spare.clear();
            return;
        }
        self.staging.consume(head.frame_len);
        if self.spare.capacity() > 0 {
            // Large frames have stopped coming: their memory goes back.
            self.spare = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    const LIMITS: Limits = Limits {
        max_frame_len: 4 << 20,
        max_header_count: 128,
    };

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    fn frames() -> Vec<Frame> {
        [
            0,
            1,
            64,
            5_000,
            DIRECT_LEN - 1,
            DIRECT_LEN,
            300_000,
            3,
            700_000,
            700_001,
        ]
        .into_iter()
        .map(|len| Frame::data(payload(len)).with_header("len", len.to_string()))
        .collect()
    }

    fn bytes(frames: &[Frame], trailer: Trailer) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            wire::encode(frame.as_ref(), trailer, &LIMITS, &mut out).unwrap();
        }
        out
    }

    /// Feeds `bytes` in pieces of `cut` bytes, or as much as the decoder has room for.
    fn decode(bytes: &[u8], trailer: Trailer, cut: usize, owned: bool) -> Vec<Frame> {
        let mut decoder = StreamDecoder::new(trailer, LIMITS);
        let mut rest = bytes;
        let mut out = Vec::new();
        loop {
            while decoder.poll::<DecodeError>(|_| Ok(())).unwrap() {
                out.push(if owned {
                    decoder.take()
                } else {
                    decoder.frame().to_owned()
                });
            }
            if rest.is_empty() {
                assert!(!decoder.is_mid_frame());
                return out;
            }
            let target = decoder.read_target();
            let len = cut.min(rest.len()).min(target.capacity() - target.len());
            target.extend_from_slice(&rest[..len]);
            decoder.on_read(len);
            rest = &rest[len..];
        }
    }

    #[test]
    fn b02_any_cut_gives_the_same_frames() {
        let frames = frames();
        for trailer in [Trailer::Always, Trailer::WhenFlagged] {
            let bytes = bytes(&frames, trailer);
            for cut in [1_447, 4_096, 65_536, usize::MAX] {
                for owned in [false, true] {
                    assert!(
                        decode(&bytes, trailer, cut, owned) == frames,
                        "{trailer:?} {cut}"
                    );
                }
            }
        }
    }

    #[test]
    fn b01_every_two_way_split_and_single_bytes() {
        let frames = vec![
            Frame::data("ab").with_header("k", "v"),
            Frame::data(payload(50)),
        ];
        let bytes = bytes(&frames, Trailer::Always);
        assert_eq!(decode(&bytes, Trailer::Always, 1, false), frames);
        for split in 0..=bytes.len() {
            let mut decoder = StreamDecoder::new(Trailer::Always, LIMITS);
            let mut out = Vec::new();
            for part in [&bytes[..split], &bytes[split..]] {
                decoder.read_target().extend_from_slice(part);
                decoder.on_read(part.len());
                while decoder.poll::<DecodeError>(|_| Ok(())).unwrap() {
                    out.push(decoder.take());
                }
            }
            assert_eq!(out, frames, "split at {split}");
        }
    }

    #[test]
    fn a_large_frame_cut_at_every_byte_around_its_trailer() {
        let bytes = bytes(
            &[Frame::data(payload(200_000)), Frame::data("x")],
            Trailer::Always,
        );
        let payload_end = 11 + 200_000;
        for split in payload_end - 2..=bytes.len() {
            let mut decoder = StreamDecoder::new(Trailer::Always, LIMITS);
            let mut found = 0;
            for part in [&bytes[..150_000], &bytes[150_000..split], &bytes[split..]] {
                decoder.read_target().extend_from_slice(part);
                decoder.on_read(part.len());
                while decoder.poll::<DecodeError>(|_| Ok(())).unwrap() {
                    found += 1;
                }
            }
            assert_eq!(found, 2, "split at {split}");
        }
    }

    #[test]
    fn b05_memory_follows_the_bytes_received_not_the_length_announced() {
        let limits = Limits {
            max_frame_len: 1 << 31,
            max_header_count: 128,
        };
        let mut decoder = StreamDecoder::new(Trailer::Always, limits);
        let head = [b'V', b'T', 1, 3, 0, 0, 0, 0x70, 0, 0, 0];
        decoder.read_target().extend_from_slice(&head);
        decoder.on_read(head.len());
        assert!(!decoder.poll::<DecodeError>(|_| Ok(())).unwrap());
        assert!(
            decoder.memory() <= 64 << 10,
            "{} bytes for a head alone",
            decoder.memory()
        );
        let mut received = 0;
        while received < 8 << 20 {
            let target = decoder.read_target();
            target.extend_from_slice(&[0; 1000]);
            decoder.on_read(1000);
            received += 1000;
            assert!(!decoder.poll::<DecodeError>(|_| Ok(())).unwrap());
            assert!(
                decoder.memory() <= 2 * received + (80 << 10),
                "{} bytes held for {received} received",
                decoder.memory()
            );
        }
    }

    #[test]
    fn a12_every_frame_is_admitted_once_whatever_the_cut() {
        let bytes = bytes(&frames(), Trailer::Always);
        let mut decoder = StreamDecoder::new(Trailer::Always, LIMITS);
        let (mut admitted, mut found) = (0, 0);
        for chunk in bytes.chunks(977) {
            decoder.read_target().extend_from_slice(chunk);
            decoder.on_read(chunk.len());
            while decoder
                .poll::<DecodeError>(|_| {
                    admitted += 1;
                    Ok(())
                })
                .unwrap()
            {
                found += 1;
            }
        }
        assert_eq!((admitted, found), (frames().len(), frames().len()));
    }

    #[test]
    fn a_flipped_bit_in_a_large_payload_is_found() {
        let mut bytes = bytes(&[Frame::data(payload(300_000))], Trailer::Always);
        bytes[200_000] ^= 4;
        let mut decoder = StreamDecoder::new(Trailer::Always, LIMITS);
        let mut result = Ok(false);
        for chunk in bytes.chunks(10_000) {
            decoder.read_target().extend_from_slice(chunk);
            decoder.on_read(chunk.len());
            result = decoder.poll::<DecodeError>(|_| Ok(()));
        }
        assert!(
            matches!(result, Err(DecodeError::CrcMismatch { .. })),
            "{result:?}"
        );
    }

    #[test]
    fn idle_buffers_are_given_back() {
        let mut decoder = StreamDecoder::new(Trailer::Always, LIMITS);
        for chunk in bytes(&frames(), Trailer::Always).chunks(65_536) {
            decoder.read_target().extend_from_slice(chunk);
            decoder.on_read(chunk.len());
            while decoder.poll::<DecodeError>(|_| Ok(())).unwrap() {}
        }
        decoder.release();
        assert_eq!(decoder.memory(), 0);
    }
}
