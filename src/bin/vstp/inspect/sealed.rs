//! A sealed datagram (spec 4.13) as far as it can be read without keys: whose it is, its number, how long it is.

use super::anatomy::Part;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

const MAGIC: &[u8] = b"VS\x01";
const HEADER_LEN: usize = 19;
const TAG_LEN: usize = 16;

/// Whether it has the form of one.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) && bytes.len() >= HEADER_LEN + TAG_LEN
}

/// Its parts; `None` for anything else.
pub(super) fn parts(bytes: &[u8]) -> Option<Vec<Part>> {
    let (id, number) = numbers(bytes)?;
    let tag = bytes.len() - TAG_LEN;
    let part = |range, text: String| Part {
        range,
        text,
        secret: false,
    };
    let mut parts = vec![
        part(0..3, "\"VS\", version 1".to_owned()),
        part(3..11, format!("id {id}")),
        part(11..HEADER_LEN, format!("number {number}")),
        part(
            HEADER_LEN..tag,
            format!("ciphertext, {} bytes", tag - HEADER_LEN),
        ),
        part(tag..bytes.len(), "tag".to_owned()),
    ];
    parts.retain(|part| !part.range.is_empty());
    Some(parts)
}

/// The same as a JSON object.
pub(super) fn to_json(bytes: &[u8]) -> Option<Value> {
    let (id, number) = numbers(bytes)?;
    Some(json!({
        "type": "sealed",
        "id": id,
        "number": number,
        "len": bytes.len(),
        "ciphertext_len": bytes.len() - HEADER_LEN - TAG_LEN,
    }))
}

fn numbers(bytes: &[u8]) -> Option<(String, u64)> {
    if !is_sealed(bytes) {
        return None;
    }
    let number = bytes.get(11..HEADER_LEN)?.try_into().ok()?;
    Some((
        HEXLOWER.encode(bytes.get(3..11)?),
        u64::from_be_bytes(number),
    ))
}
