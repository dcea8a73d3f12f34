//! What is inside of a valid frame: the payload that gzip made smaller (spec 5), the frame that fragments are pieces
//! of (spec 4.4).
//!
//! Notes for the reader: whether both sides had agreed on it is not in the bytes, so nothing of it is an error here.
//! A payload is inflated up to a limit of its own, since a capture may hold any number of frames that inflate to the
//! largest one.

use crate::message::bytes_to_json;
use crate::output::{shown, text};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use vstp::FrameType;
use vstp::ext::compression::inflate;
use vstp::proto::error::InflateError;
use vstp::proto::keys;
use vstp::wire::{Flags, FrameRef};

/// A text of so many bytes is repeated in a note.
const SHORT: usize = 64;
/// Of one payload no more is inflated (bytes); `--help` says so.
const MAX_INFLATED_LEN: usize = 8 << 20;

/// Fragments that were seen, by the direction that they travelled in and the number of their set.
#[derive(Debug)]
pub(super) struct Sets<'a> {
    /// Whether anybody prints what is meant for programs.
    json: bool,
    sets: HashMap<(&'a str, u64), Set<'a>>,
}

#[derive(Debug)]
struct Set<'a> {
    total: u64,
    len: u64,
    /// Empty again once the frame was put together.
    chunks: BTreeMap<u64, &'a [u8]>,
    /// Those of the last frame of this set that was put together: what repeats them is no news, anything else is a later
    /// frame that has the same number.
    before: BTreeMap<u64, &'a [u8]>,
    is_new: bool,
}

impl Set<'_> {
    fn new(total: u64, len: u64) -> Self {
        Self {
            total,
            len,
            chunks: BTreeMap::new(),
            before: BTreeMap::new(),
            is_new: false,
        }
    }
}

/// What is known of the inside of one frame.
#[derive(Debug, Default)]
pub(super) struct Inside {
    /// For people.
    pub(super) note: Option<String>,
    /// The same for programs: the name of a member, and its value.
    pub(super) member: Option<(&'static str, Value)>,
    /// The frame whose last missing fragment this was.
    pub(super) whole: Option<Vec<u8>>,
}

impl<'a> Sets<'a> {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            sets: HashMap::new(),
        }
    }

    /// Looks into a frame that travelled in this direction.
    pub(super) fn look(
        &mut self,
        direction: &'a str,
        frame: &FrameRef<'a>,
        max_len: usize,
    ) -> Inside {
        let is_message = frame.typ.is_message();
        if frame.flags.contains(Flags::FRAG) && frame.typ == FrameType::Data {
            self.fragment(direction, frame)
        } else if frame.flags.contains(Flags::COMP) && is_message {
            inflated(frame.payload, max_len.min(MAX_INFLATED_LEN), self.json)
        } else {
            Inside::default()
        }
    }

    fn fragment(&mut self, direction: &'a str, frame: &FrameRef<'a>) -> Inside {
        let json = self.json;
        let odd = |what: &str| Inside {
            note: Some(what.to_owned()),
            member: json.then(|| ("fragment", json!({"error": what}))),
            whole: None,
        };
        let number = |key| frame.header(key).and_then(decimal);
        let numbers = (
            number(keys::FRAG_ID),
            number(keys::FRAG_INDEX),
            number(keys::FRAG_TOTAL),
            number(keys::FRAG_LEN),
        );
        let (Some(id), Some(index), Some(total), Some(len)) = numbers else {
            return odd("a fragment without the four numbers of one");
        };
        if index >= total || total < 2 || len < total {
            return odd("a fragment whose numbers cannot be true");
        }
        let set = self.sets.entry((direction, id));
        let set = set.or_insert_with(|| Set::new(total, len));
        if (set.total, set.len) != (total, len) {
            if set.is_new {
                return odd("a fragment that contradicts the others of its set");
            }
            *set = Set::new(total, len);
        }
        set.chunks.entry(index).or_insert(frame.payload);
        set.is_new |= set.before.get(&index) != Some(&frame.payload);
        let missing = if set.is_new {
            total - set.chunks.len() as u64
        } else {
            0
        };
        let mut inside = Inside {
            note: Some(format!(
                "fragment {index} (of 0 to {}) of the set {id}, {missing} are missing",
                total - 1
            )),
            member: json.then(|| {
                let numbers = json!({
                    "set": id, "index": index, "total": total, "len": len, "missing": missing,
                });
                ("fragment", numbers)
            }),
            whole: None,
        };
        if set.chunks.len() as u64 == total {
            set.before = std::mem::take(&mut set.chunks);
            if std::mem::take(&mut set.is_new) {
                let whole: Vec<u8> = set.before.values().copied().flatten().copied().collect();
                if whole.len() as u64 != len {
                    return odd(
                        "the last of fragments that have another length together than they say",
                    );
                }
                inside.whole = Some(whole);
            }
        }
        inside
    }
}

/// A decimal number without sign, space or leading zero (spec 4.2).
fn decimal(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_canonical = text == "0" || (!text.starts_with('0') && !text.starts_with('+'));
    text.parse().ok().filter(|_| is_canonical)
}

/// The payload as it was before, if it had at most so many bytes.
fn inflated(payload: &[u8], max_len: usize, json: bool) -> Inside {
    match inflate(payload, max_len) {
        Ok(bytes) => {
            let len = bytes.len();
            let what = match text(&bytes) {
                Some(text) if len <= SHORT => format!(": \"{}\"", shown(text.as_bytes())),
                _ => String::new(),
            };
            Inside {
                note: Some(format!("inflated, the payload has {len} bytes{what}")),
                member: json.then(|| {
                    let (key, value) = bytes_to_json("payload", &bytes);
                    let mut object = json!({"len": len});
                    object[key] = value;
                    ("inflated", object)
                }),
                whole: None,
            }
        }
        Err(InflateError::TooLarge { limit }) => {
            let what = format!("the payload has more than {limit} bytes, which are not shown");
            Inside {
                note: Some(format!("inflated, {what}")),
                member: json.then(|| ("inflated", json!({"error": what, "limit": limit}))),
                whole: None,
            }
        }
        Err(error) => Inside {
            note: Some(format!("the payload cannot be inflated: {error}")),
            member: json.then(|| ("inflated", json!({"error": error.to_string()}))),
            whole: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vstp::Frame;

    fn fragment(id: &str, index: &str, total: &str, len: &str, chunk: &[u8]) -> Frame {
        Frame::data(chunk)
            .with_flag(Flags::FRAG)
            .with_header("frag-id", id)
            .with_header("frag-index", index)
            .with_header("frag-total", total)
            .with_header("frag-len", len)
    }

    /// What is seen of these, one after the other.
    fn look(frames: &[Frame]) -> Vec<Inside> {
        let mut sets = Sets::new(true);
        let frames = frames.iter().map(Frame::as_ref);
        frames.map(|frame| sets.look("", &frame, 1 << 20)).collect()
    }

    #[test]
    fn fragments_in_any_order_and_twice_are_put_together_once() {
        let (a, b, c) = (
            fragment("7", "0", "3", "8", b"abc"),
            fragment("7", "1", "3", "8", b"def"),
            fragment("7", "2", "3", "8", b"gh"),
        );
        let seen = look(&[c.clone(), a.clone(), a, b.clone(), c, b]);
        let missing: Vec<_> = seen
            .iter()
            .map(|inside| inside.member.as_ref().expect("a note").1["missing"].clone())
            .collect();
        assert_eq!(missing, [2, 1, 1, 0, 0, 0]);
        let wholes: Vec<_> = seen
            .iter()
            .filter_map(|inside| inside.whole.as_deref())
            .collect();
        assert_eq!(wholes, [b"abcdefgh"]);
    }

    #[test]
    fn a_later_frame_with_the_same_number_is_put_together_too() {
        let set = |chunks: [&[u8]; 2], len: &str| {
            let [a, b] = chunks;
            [
                fragment("7", "0", "2", len, a),
                fragment("7", "1", "2", len, b),
            ]
        };
        let frames = [
            set([b"abc", b"de"], "5"),
            // What was sent again.
            set([b"abc", b"de"], "5"),
            // Only the end is another one.
            set([b"abc", b"fg"], "5"),
            set([b"abc", b"d"], "4"),
            set([b"abc", b"de"], "5"),
        ];
        let seen = look(frames.as_flattened());
        let wholes: Vec<_> = seen.iter().map(|inside| inside.whole.as_deref()).collect();
        let ends = [1, 5, 7, 9].map(|index| wholes[index]);
        assert_eq!(ends, [&b"abcde"[..], b"abcfg", b"abcd", b"abcde"].map(Some));
        assert_eq!(wholes.iter().flatten().count(), 4);
    }

    #[test]
    fn nothing_is_made_for_programs_where_none_reads_it() {
        let frame = fragment("7", "0", "2", "8", b"x");
        let comp = Frame::data("x").with_flag(Flags::COMP);
        for frame in [&frame, &comp] {
            let inside = Sets::new(false).look("", &frame.as_ref(), 1 << 20);
            assert!(inside.note.is_some() && inside.member.is_none());
        }
    }

    #[test]
    fn numbers_that_cannot_be_true_are_said_to_be() {
        for (id, index, total, len) in [
            ("7", "3", "3", "8"),
            ("7", "0", "1", "8"),
            ("7", "0", "9", "8"),
            ("07", "0", "3", "8"),
            ("7", "+0", "3", "8"),
            ("7", "0", "x", "8"),
            ("7", "0", "3", "99999999999999999999"),
        ] {
            let seen = look(&[fragment(id, index, total, len, b"x")]);
            let (name, value) = seen[0].member.as_ref().expect("a note");
            assert!(*name == "fragment" && value["error"].is_string(), "{value}");
        }
        let seen = look(&[
            fragment("7", "0", "2", "8", b"x"),
            fragment("7", "1", "3", "8", b"x"),
            fragment("7", "1", "2", "8", b"x"),
        ]);
        assert!(
            seen[1]
                .note
                .as_ref()
                .expect("a note")
                .contains("contradicts")
        );
        assert!(
            seen[2]
                .note
                .as_ref()
                .expect("a note")
                .contains("another length")
        );
        assert!(seen.iter().all(|inside| inside.whole.is_none()));
    }
}
