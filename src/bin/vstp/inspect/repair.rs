//! Which byte was changed, when one was: the checksum knows.
//!
//! CRC-32 is linear: a changed byte changes the checksum by a value that depends on the change and on how far the
//! byte is from the end. Walking back from the end, there is at most one byte whose change explains what is seen,
//! but for chance (about one in 16 million for each byte of the frame). That the repaired frame is valid is checked
//! by the caller.

use vstp::wire::crc::crc32;

/// The polynomial of IEEE 802.3, reflected.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// A byte that was changed, and what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) offset: usize,
    pub(super) was: u8,
}

/// What a checksum of zero becomes by one byte.
fn table() -> [u32; 256] {
    let mut table = [0; 256];
    for (byte, entry) in (0_u32..).zip(&mut table) {
        *entry = (0..8).fold(byte, |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            }
        });
    }
    table
}

/// The changes of one byte of `frame`, its trailer included, that explain a wrong checksum.
pub(super) fn candidates(frame: &[u8]) -> Vec<Change> {
    let mut found = Vec::new();
    let Some((body, trailer)) = frame.split_last_chunk::<4>() else {
        return found;
    };
    let mut difference = crc32(body) ^ u32::from_be_bytes(*trailer);
    if difference == 0 {
        return found;
    }
    for (index, delta) in difference.to_be_bytes().into_iter().enumerate() {
        let others = difference & !(0xff << (24 - 8 * index));
        if delta != 0 && others == 0 {
            let (offset, was) = (body.len() + index, trailer[index] ^ delta);
            found.push(Change { offset, was });
        }
    }
    let table = table();
    // The highest bytes of the entries are all different, so a step can be undone.
    let mut by_top = [0_u8; 256];
    for (byte, entry) in (0_u8..=255).zip(table) {
        by_top[(entry >> 24) as usize] = byte;
    }
    for (offset, &byte) in body.iter().enumerate().rev() {
        let delta = by_top[(difference >> 24) as usize];
        let before = (difference ^ table[usize::from(delta)]) << 8;
        if before == 0 && delta != 0 {
            let was = byte ^ delta;
            found.push(Change { offset, was });
        }
        // One byte further back: what the difference was before this byte, which was not changed.
        difference = before | u32::from(delta);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_found() {
        let mut frame: Vec<u8> = (0..100_u8).map(|n| n.wrapping_mul(37)).collect();
        frame.extend(crc32(&frame).to_be_bytes());
        assert!(candidates(&frame).is_empty());
        for offset in 0..frame.len() {
            for delta in [1, 0x80, 0xff, 0x2a] {
                let was = frame[offset];
                frame[offset] ^= delta;
                assert_eq!(
                    candidates(&frame),
                    [Change { offset, was }],
                    "{offset} {delta}"
                );
                frame[offset] = was;
            }
        }
    }

    #[test]
    fn two_changed_bytes_are_not_one() {
        let mut frame = vec![7; 60];
        frame.extend(crc32(&frame).to_be_bytes());
        frame[3] ^= 1;
        frame[30] ^= 1;
        assert!(candidates(&frame).is_empty());
        assert!(candidates(&[1, 2, 3]).is_empty());
    }
}
