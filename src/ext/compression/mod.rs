//! Payloads as gzip (RFC 1952), in memory, within bounds (spec 5).
//!
//! The member around the deflated bytes is read and written here, so that each fault has its own error;
//! the deflated bytes (RFC 1951) are `miniz_oxide`'s. Nothing here decides whether to compress: that is
//! [`CompressionConfig`] and the session.

use crate::error::VstpError;
use crate::proto::error::InflateError;
use crate::wire::crc::{Crc32, crc32};
use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress as deflate};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// So many bytes go into one step at the most.
const STEP: usize = 16 * 1024;
/// As far as deflated bytes refer back (RFC 1951 2), and so what comes out of one step at the most.
const WINDOW: usize = 32 * 1024;
/// Blocks that a member may have whatever its length, and how much it must have for each further one (bytes, deflated and
/// inflated together). A block costs about 6 microseconds for its tables even if it holds nothing, and one of ten bits
/// is possible; blocks of real compressors hold kilobytes.
const FREE_BLOCKS: usize = 1000;
const BLOCK_LEN: usize = 256;
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
/// A thread that sends compressed messages needs 400 KiB of stack (threads of `std` have 2 MiB).
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
    // What does not fit into less room is not smaller.
    let room = payload.len().checked_sub(TRAILER_LEN + 1)?;
    let mut out = HEADER.to_vec();
    // Zeroed memory costs nothing until it is written to.
    out.resize(room.max(HEADER.len()), 0);
    let mut state = Box::<CompressorOxide>::default();
    state.set_format_and_level(DataFormat::Raw, level.clamp(1, 9));
    let (mut taken, mut made) = (0, HEADER.len());
    loop {
        let (rest, target) = (&payload[taken..], &mut out[made..]);
        let (status, used, written) = deflate(&mut state, rest, target, TDEFLFlush::Finish);
        (taken, made) = (taken + used, made + written);
        match status {
            TDEFLStatus::Done => break,
            TDEFLStatus::Okay if made < out.len() && (used, written) != (0, 0) => {}
            _ => return None,
        }
    }
    out.truncate(made);
    out.extend_from_slice(&crc32(payload).to_le_bytes());
    // Modulo 2^32, RFC 1952 2.3.1; no frame is longer anyway.
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.shrink_to_fit();
    Some(out)
}

/// What the payload, one gzip member and nothing else, was before; at most `cap` bytes.
///
/// Memory: what the member says about its length is reserved once, if the member can be so long and `cap` allows
/// it; beside that less than 64 KiB. A member that says something else than it holds is inflated without keeping anything.
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

/// `steps` counts how often deflated bytes are worked on.
fn inflate_counted(payload: &[u8], cap: usize, steps: &mut usize) -> Result<Vec<u8>, InflateError> {
    let body = body(payload)?;
    let announced = announced_len(payload, cap);
    let mut out = Vec::new();
    out.reserve_exact(announced);
    let mut window = vec![0; WINDOW];
    let mut state = Box::<DecompressorOxide>::default();
    let (mut taken, mut made, mut blocks) = (0, 0, 0);
    let mut crc = Crc32::new();
    loop {
        *steps += 1;
        let end = (taken + STEP).min(body.len());
        let more = u32::from(end < body.len()) * TINFL_FLAG_HAS_MORE_INPUT;
        let flags = TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY | more;
        let at = made % WINDOW;
        let (status, used, written) =
            decompress(&mut state, &body[taken..end], &mut window, at, flags);
        let new = &window[at..at + written];
        (taken, made) = (taken + used, made + written);
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
            TINFLStatus::Done => break,
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => {}
            TINFLStatus::BlockBoundary => {
                blocks += 1;
                if blocks > FREE_BLOCKS + (taken + made) / BLOCK_LEN {
                    return Err(InflateError::TooManyBlocks);
                }
            }
            TINFLStatus::FailedCannotMakeProgress => return Err(InflateError::Truncated),
            _ => return Err(InflateError::Corrupt),
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
