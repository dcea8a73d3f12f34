//! Where each field of the fixed header lies: every offset is written once, lengths are derived.
//!
//! The two lengths differ in byte order (spec 2.1): HDR_LEN is little-endian, PAY_LEN big-endian.
//! That is how the published protocol has always been; the accessors here are the only code that
//! knows it.

use byteorder::{BigEndian, ByteOrder, LittleEndian};
use std::ops::Range;

/// The first two bytes of every frame, "VT" (spec 2.1).
pub const VSTP_MAGIC: [u8; 2] = *b"VT";

/// The only protocol version this crate speaks (spec 2.1).
pub const VSTP_VERSION: u8 = 0x01;

pub(super) const MAGIC: Range<usize> = 0..2;
pub(super) const VERSION: usize = MAGIC.end;
pub(super) const TYPE: usize = VERSION + 1;
pub(super) const FLAGS: usize = TYPE + 1;
const HDR_LEN: Range<usize> = FLAGS + 1..FLAGS + 3;
const PAY_LEN: Range<usize> = HDR_LEN.end..HDR_LEN.end + 4;

/// Bytes of the fixed header: everything before HEADERS.
pub(super) const FIXED_LEN: usize = PAY_LEN.end;

/// Bytes of the CRC-32 trailer.
pub(super) const TRAILER_LEN: usize = 4;

#[inline]
pub(super) fn header_len(fixed: &[u8; FIXED_LEN]) -> u16 {
    LittleEndian::read_u16(&fixed[HDR_LEN])
}

#[inline]
pub(super) fn payload_len(fixed: &[u8; FIXED_LEN]) -> u32 {
    BigEndian::read_u32(&fixed[PAY_LEN])
}

/// The fixed header as bytes.
#[inline]
pub(super) fn fixed(typ: u8, flags: u8, header_len: u16, payload_len: u32) -> [u8; FIXED_LEN] {
    let mut out = [0; FIXED_LEN];
    out[MAGIC].copy_from_slice(&VSTP_MAGIC);
    out[VERSION] = VSTP_VERSION;
    out[TYPE] = typ;
    out[FLAGS] = flags;
    LittleEndian::write_u16(&mut out[HDR_LEN], header_len);
    BigEndian::write_u32(&mut out[PAY_LEN], payload_len);
    out
}
