//! Payloads as gzip (RFC 1952), in memory, within bounds (spec 5).
//!
//! The member around the deflated bytes is read and written here, so that each fault has its own error;
//! the deflated bytes (RFC 1951) are `flate2`'s. Nothing here decides whether to compress: that is
//! [`CompressionConfig`] and the session.

use crate::error::VstpError;
use crate::proto::error::InflateError;
use crate::wire::crc::{Crc32, crc32};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// So many bytes go in and come out in one step at the most.
const STEP: usize = 16 * 1024;
/// Bytes behind the deflated ones: checksum and length.
const TRAILER_LEN: usize = 8;
/// Deflate makes at most 258 bytes of two bits.
const MAX_RATIO: usize = 1032;
/// What every member begins with here: no name, no time, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

const FHCRC: u8 = 0x02;
const FEXTRA: u8 = 0x04;
const FNAME: u8 = 0x08;
const FCOMMENT: u8 = 0x10;
/// "Must be zero", RFC 1952 2.3.1.2.
const RESERVED: u8 = 0xe0;

/// Which messages are compressed, and how hard. Giving one to a configuration turns compression on, for
/// sessions in which both sides have it.
///
/// Whoever sees the length of a compressed message learns about its content: where a message holds a
/// secret beside text that somebody else chose, that text can be varied until the length tells the
/// secret (CRIME, BREACH). TLS does not hide lengths. Do not compress such messages; use
/// [`only_marked`](Self::only_marked) and mark others.
///
/// # Example
/// ```
/// use vstp::ext::CompressionConfig;
/// use vstp::net::tcp::TcpConfig;
/// use vstp::{Flags, Frame};
/// // All messages from 4 KiB on:
/// let config = TcpConfig::default().compression(CompressionConfig::default().min_size(4096));
/// assert!(config.validate().is_ok());
/// // Only those that ask for it:
/// let config = TcpConfig::default().compression(CompressionConfig::default().only_marked(true));
/// let message = Frame::data("a long text".repeat(1000)).with_flag(Flags::COMP);
/// # let _ = (config, message);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompressionConfig {
    min_size: usize,
    level: u8,
    only_marked: bool,
}

impl Default for CompressionConfig {
    fn default() -> Self {
        Self {
            min_size: 1024,
            level: 6,
            only_marked: false,
        }
    }
}

impl CompressionConfig {
    /// Payloads below this are sent as they are (bytes). Default: 1,024.
    #[must_use]
    pub const fn min_size(mut self, len: usize) -> Self {
        self.min_size = len;
        self
    }

    /// 1 is fast, 9 is small. Default: 6.
    #[must_use]
    pub const fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    /// Whether only messages with [`Flags::COMP`](crate::wire::Flags::COMP) are compressed. Default: no, all are.
    #[must_use]
    pub const fn only_marked(mut self, only: bool) -> Self {
        self.only_marked = only;
        self
    }

    /// Checks what a setter cannot.
    pub(crate) fn validate(&self) -> Result<(), VstpError> {
        if (1..=9).contains(&self.level) {
            return Ok(());
        }
        Err(VstpError::config(
            "compression",
            "the level is 1 (fast) to 9 (small)",
        ))
    }

    /// Whether a payload of this length is tried.
    pub(super) const fn wants(&self, is_marked: bool, len: usize) -> bool {
        len >= self.min_size && (is_marked || !self.only_marked)
    }

    pub(super) fn compress(&self, payload: &[u8]) -> Option<Vec<u8>> {
        compress(payload, self.level)
    }

    /// What holds for a message that asks for compression where no settings were given.
    pub(super) fn for_marked() -> Option<Self> {
        Some(Self::default().only_marked(true))
    }
}

/// Whether this build can inflate.
pub(crate) const IS_BUILT_IN: bool = true;

/// The payload as one gzip member; `None` when that is not smaller.
///
/// `level`: 1 is fast, 9 is small; anything else is taken as the nearest of them.
///
/// # Example
/// ```
/// use vstp::ext::compression::{compress, inflate};
/// let text = "again and again, ".repeat(100).into_bytes();
/// let small = compress(&text, 6).expect("it repeats itself");
/// assert!(small.len() < text.len() / 10);
/// assert_eq!(inflate(&small, 2000)?, text);
/// assert_eq!(compress(b"short", 9), None);
/// # Ok::<(), vstp::proto::error::InflateError>(())
/// ```
#[must_use]
pub fn compress(payload: &[u8], level: u8) -> Option<Vec<u8>> {
    let level = Compression::new(u32::from(level.clamp(1, 9)));
    // More room is not needed: what does not fit is not smaller.
    let mut out = Vec::with_capacity(payload.len());
    out.extend_from_slice(&HEADER);
    let mut deflate = Compress::new(level, false);
    loop {
        let before = (deflate.total_in(), deflate.total_out());
        let rest = payload.get(deflate.total_in() as usize..)?;
        let status = deflate.compress_vec(rest, &mut out, FlushCompress::Finish);
        match status {
            Ok(Status::StreamEnd) => break,
            Ok(_) if before != (deflate.total_in(), deflate.total_out()) => {}
            Ok(_) | Err(_) => return None,
        }
    }
    if out.len() + TRAILER_LEN >= payload.len() {
        return None;
    }
    out.extend_from_slice(&crc32(payload).to_le_bytes());
    // Modulo 2^32, RFC 1952 2.3.1; no frame is longer anyway.
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.shrink_to_fit();
    Some(out)
}

/// What the payload, one gzip member and nothing else, was before; at most `cap` bytes.
///
/// Memory: what the member says about its length is reserved once, if the member can be so long and `cap` allows
/// it; beside that about 60 KiB. A member that says something else than it holds is inflated without keeping anything.
///
/// # Errors
/// [`InflateError`]: the member is damaged, or longer than `cap`. No more than `cap` bytes are ever made of it.
///
/// # Example
/// ```
/// use vstp::ext::compression::{compress, inflate};
/// use vstp::proto::error::InflateError;
/// let small = compress(&[0; 10_000], 6).expect("zeros");
/// assert_eq!(inflate(&small, 10_000)?, [0; 10_000]);
/// assert_eq!(inflate(&small, 9_999), Err(InflateError::TooLarge { limit: 9_999 }));
/// # Ok::<(), InflateError>(())
/// ```
pub fn inflate(payload: &[u8], cap: usize) -> Result<Vec<u8>, InflateError> {
    inflate_counted(payload, cap, &mut 0)
}

/// What [`inflate`] reserves for this payload.
pub(crate) fn announced_len(payload: &[u8], cap: usize) -> usize {
    let announced = payload.last_chunk::<4>();
    let announced = announced.map_or(0, |len| u32::from_le_bytes(*len)) as usize;
    let is_possible = announced <= cap && announced <= payload.len().saturating_mul(MAX_RATIO);
    if is_possible { announced } else { 0 }
}

/// `steps` counts how often deflated bytes are worked on; each takes or makes at most [`STEP`].
fn inflate_counted(
    payload: &[u8],
    cap: usize,
    steps: &mut usize,
) -> Result<Vec<u8>, InflateError> {
    let body = body(payload)?;
    let announced = announced_len(payload, cap);
    let mut out = Vec::new();
    out.reserve_exact(announced);
    let mut step = [0; STEP];
    let (mut taken, mut made) = (0, 0);
    let mut crc = Crc32::new();
    let mut inflate = Decompress::new(false);
    loop {
        *steps += 1;
        let input = &body[taken..(taken + STEP).min(body.len())];
        let status = inflate.decompress(input, &mut step, FlushDecompress::None);
        let status = status.map_err(|_| InflateError::Corrupt)?;
        let (now_taken, now_made) = (inflate.total_in() as usize, inflate.total_out() as usize);
        let is_stuck = (now_taken, now_made) == (taken, made);
        let new = &step[..now_made - made];
        (taken, made) = (now_taken, now_made);
        if made > cap {
            return Err(InflateError::TooLarge { limit: cap });
        }
        crc.update(new);
        if made <= announced {
            out.extend_from_slice(new);
        } else {
            // Damaged: what follows only tells how.
            out = Vec::new();
        }
        match status {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError if is_stuck => {
                let is_all = taken == body.len();
                return Err(if is_all {
                    InflateError::Truncated
                } else {
                    InflateError::Corrupt
                });
            }
            Status::Ok | Status::BufError => {}
        }
    }
    let Some((trailer, rest)) = body[taken..].split_first_chunk::<TRAILER_LEN>() else {
        return Err(InflateError::Truncated);
    };
    if !rest.is_empty() {
        return Err(InflateError::TrailingBytes { count: rest.len() });
    }
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
    if crc.finish() != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(InflateError::Checksum);
    }
    if made != u32::from_le_bytes([l0, l1, l2, l3]) as usize || out.len() != made {
        return Err(InflateError::Length);
    }
    Ok(out)
}

/// What follows the header of the member (RFC 1952 2.3). Its optional fields are passed over.
fn body(payload: &[u8]) -> Result<&[u8], InflateError> {
    let magic = payload.len().min(3);
    if payload[..magic] != HEADER[..magic] {
        return Err(InflateError::Corrupt);
    }
    let (head, mut rest) = payload
        .split_first_chunk::<{ HEADER.len() }>()
        .ok_or(InflateError::Truncated)?;
    let flags = head[3];
    if flags & RESERVED != 0 {
        return Err(InflateError::Corrupt);
    }
    if flags & FEXTRA != 0 {
        let (len, after) = rest.split_first_chunk().ok_or(InflateError::Truncated)?;
        let len = usize::from(u16::from_le_bytes(*len));
        rest = after.get(len..).ok_or(InflateError::Truncated)?;
    }
    for text in [FNAME, FCOMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0);
            rest = &rest[end.ok_or(InflateError::Truncated)? + 1..];
        }
    }
    if flags & FHCRC != 0 {
        let header = &payload[..payload.len() - rest.len()];
        let (crc, after) = rest.split_first_chunk().ok_or(InflateError::Truncated)?;
        if crc32(header) & 0xffff != u32::from(u16::from_le_bytes(*crc)) {
            return Err(InflateError::Checksum);
        }
        rest = after;
    }
    Ok(rest)
}

#[cfg(test)]
mod tests;
