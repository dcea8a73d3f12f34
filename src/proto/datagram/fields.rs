//! The reserved headers of a datagram's frame, read in one pass (spec 4.2).

use super::proof::Sid;
use super::stats::DropReason;
use super::traced::TracedFrame;
use crate::proto::keys;
use crate::wire::{Flags, FrameRef, FrameType};

/// The headers that mean something in a frame of its type.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    /// The session.
    pub sid: Option<Sid>,
    /// The message's number.
    pub msg_id: Option<u64>,
    /// The set's number.
    pub frag_id: Option<u64>,
    frag_index: Option<u64>,
    frag_total: Option<u64>,
    frag_len: Option<u64>,
    /// What the receiver can still take.
    pub window: Option<u64>,
    /// The proof of an address.
    pub cookie: Option<&'a [u8]>,
    /// How many of the headers are the transport's.
    pub count: usize,
}

/// The headers of a fragment, each there once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FragmentFields {
    /// The set's number.
    pub frag_id: u64,
    /// The fragment's place, below `total`.
    pub index: u64,
    /// Fragments of the set, 2 or more.
    pub total: u64,
    /// Bytes of the inner frame.
    pub inner_len: u64,
    /// Whether the inner frame is to be acknowledged.
    pub wants_ack: bool,
}

impl FragmentFields {
    /// The bytes of every fragment but the last, as this fragment of `len` bytes says; `None` when no
    /// cut into equal pieces has it.
    #[must_use]
    pub(super) fn chunk_len(&self, len: usize) -> Option<usize> {
        let len = len as u64;
        let before_last = self.total - 1;
        let chunk = if self.index < before_last {
            len
        } else {
            let rest = self.inner_len.checked_sub(len)?;
            (rest % before_last == 0).then_some(rest / before_last)?
        };
        let last = self
            .inner_len
            .checked_sub(chunk.checked_mul(before_last)?)?;
        (len > 0 && last > 0 && last <= chunk).then_some(chunk as usize)
    }
}

impl<'a> Fields<'a> {
    /// Reads them.
    ///
    /// # Errors
    /// `Invalid`: one is there twice, or has a value that it cannot have.
    pub(super) fn read(frame: FrameRef<'a>) -> Result<Self, DropReason> {
        let mut fields = Self::default();
        let is_message = frame.typ.is_message();
        let is_ack = frame.typ == FrameType::Ack;
        let is_handshake = matches!(frame.typ, FrameType::Hello | FrameType::Welcome);
        for header in frame.headers.iter() {
            let value = header.value;
            let known = match header.key {
                b"sid" => {
                    let sid = value.try_into().map_err(|_| DropReason::Invalid)?;
                    once(&mut fields.sid, sid)?
                }
                b"msg-id" if is_message || is_ack => message(&mut fields.msg_id, value)?,
                b"frag-id" if is_message || is_ack => number(&mut fields.frag_id, value)?,
                b"frag-index" if is_message => number(&mut fields.frag_index, value)?,
                b"frag-total" if is_message => number(&mut fields.frag_total, value)?,
                b"frag-len" if is_message => number(&mut fields.frag_len, value)?,
                b"window" if is_ack => number(&mut fields.window, value)?,
                b"cookie" if is_handshake => once(&mut fields.cookie, value)?,
                _ => false,
            };
            fields.count += usize::from(known);
        }
        Ok(fields)
    }

    /// Whether any header says that this is a fragment.
    #[must_use]
    pub(super) const fn speaks_of_fragments(&self) -> bool {
        self.frag_id.is_some()
            || self.frag_index.is_some()
            || self.frag_total.is_some()
            || self.frag_len.is_some()
    }

    /// What an event log says of the frame.
    #[must_use]
    pub(super) fn traced(&self, typ: FrameType, len: usize) -> TracedFrame {
        TracedFrame {
            typ,
            len,
            msg_id: self.msg_id,
            frag_id: self.frag_id,
            place: self.frag_index.zip(self.frag_total),
        }
    }

    /// The headers of a fragment.
    ///
    /// # Errors
    /// `BadFragment`: one is missing, or they cannot be true.
    pub(super) fn fragment(&self, flags: Flags) -> Result<FragmentFields, DropReason> {
        let all = (
            self.frag_id,
            self.frag_index,
            self.frag_total,
            self.frag_len,
        );
        let (Some(frag_id), Some(index), Some(total), Some(inner_len)) = all else {
            return Err(DropReason::BadFragment);
        };
        let is_true = total >= 2 && index < total && inner_len >= total;
        if !is_true || self.msg_id.is_some() {
            return Err(DropReason::BadFragment);
        }
        Ok(FragmentFields {
            frag_id,
            index,
            total,
            inner_len,
            wants_ack: flags.contains(Flags::REQ_ACK),
        })
    }
}

/// The key is the transport's own in a message, so an application cannot set it.
#[must_use]
pub(super) fn reserved_in_message(key: &[u8]) -> Option<&'static str> {
    [
        keys::SID,
        keys::MSG_ID,
        keys::FRAG_ID,
        keys::FRAG_INDEX,
        keys::FRAG_TOTAL,
        keys::FRAG_LEN,
    ]
    .into_iter()
    .find(|reserved| reserved.as_bytes() == key)
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<bool, DropReason> {
    match slot.replace(value) {
        None => Ok(true),
        Some(_) => Err(DropReason::Invalid),
    }
}

/// The last number of all is none: a range could not end behind it.
fn message(slot: &mut Option<u64>, value: &[u8]) -> Result<bool, DropReason> {
    match number(slot, value) {
        Ok(_) if *slot == Some(u64::MAX) => Err(DropReason::Invalid),
        read => read,
    }
}

fn number(slot: &mut Option<u64>, value: &[u8]) -> Result<bool, DropReason> {
    let number = keys::parse_u64(value).ok_or(DropReason::Invalid)?;
    once(slot, number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    fn fragment(index: u64, total: u64, inner_len: u64) -> FragmentFields {
        FragmentFields {
            frag_id: 1,
            index,
            total,
            inner_len,
            wants_ack: false,
        }
    }

    #[test]
    fn du19_every_fragment_tells_the_one_cut_it_can_be_of() {
        for inner_len in 2..200_u64 {
            for chunk in 1..inner_len {
                let total = inner_len.div_ceil(chunk);
                for index in 0..total {
                    let len = chunk.min(inner_len - index * chunk);
                    let told = fragment(index, total, inner_len).chunk_len(len as usize);
                    assert_eq!(told, Some(chunk as usize), "{index}/{total} of {inner_len}");
                }
            }
        }
        assert_eq!(
            fragment(0, 3, 10).chunk_len(5),
            None,
            "three times five is more than ten"
        );
        assert_eq!(
            fragment(0, 3, 10).chunk_len(3),
            None,
            "the last would be the longest"
        );
        assert_eq!(
            fragment(2, 3, 10).chunk_len(1),
            None,
            "nine are no two equal pieces"
        );
        assert_eq!(fragment(1, 2, 10).chunk_len(0), None);
        assert_eq!(fragment(0, 1 << 20, u64::MAX).chunk_len(65_000), None);
    }

    #[test]
    fn du20_headers_that_cannot_be_true_are_refused() {
        let read = |id: &str, index: &str, total: &str, len: &str| {
            let frame = Frame::data("x")
                .with_header("frag-id", id)
                .with_header("frag-index", index)
                .with_header("frag-total", total)
                .with_header("frag-len", len);
            Fields::read(frame.as_ref()).and_then(|f| f.fragment(Flags::FRAG))
        };
        assert!(read("7", "0", "2", "20").is_ok());
        for (index, total, len) in [("2", "2", "20"), ("0", "0", "20"), ("0", "1", "20")] {
            assert_eq!(read("7", index, total, len), Err(DropReason::BadFragment));
        }
        assert_eq!(
            read("7", "0", "9", "8"),
            Err(DropReason::BadFragment),
            "under a byte each"
        );
        for bad in ["", "07", "-1", "1e3", " 1", "18446744073709551616"] {
            assert_eq!(
                read(bad, "0", "2", "20"),
                Err(DropReason::Invalid),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn du15_the_last_number_of_all_is_no_message() {
        let read = |id: u64| {
            let frame = Frame::data("x").with_header("msg-id", id.to_string());
            Fields::read(frame.as_ref()).map(|fields| fields.msg_id)
        };
        assert_eq!(read(u64::MAX), Err(DropReason::Invalid));
        assert_eq!(read(u64::MAX - 1), Ok(Some(u64::MAX - 1)));
    }

    #[test]
    fn du21_a_header_counts_once_and_where_it_means_something() {
        let twice = Frame::data("")
            .with_header("sid", [1; 16])
            .with_header("sid", [1; 16]);
        assert_eq!(
            Fields::read(twice.as_ref()).err(),
            Some(DropReason::Invalid)
        );
        let short = Frame::data("").with_header("sid", [1; 15]);
        assert_eq!(
            Fields::read(short.as_ref()).err(),
            Some(DropReason::Invalid)
        );
        let theirs = Frame::data("")
            .with_header("window", "wide")
            .with_header("cookie", "");
        let fields = Fields::read(theirs.as_ref()).expect("they mean nothing in DATA");
        assert_eq!(
            (fields.window, fields.cookie, fields.count),
            (None, None, 0)
        );
        let missing = Frame::data("").with_header("frag-id", "1");
        let fields = Fields::read(missing.as_ref()).expect("readable");
        assert!(fields.speaks_of_fragments() && fields.fragment(Flags::FRAG).is_err());
    }
}
