//! Frames from the command line, and frames for the terminal.

use crate::exit::Failure;
use crate::output;
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::net::SocketAddr;
use vstp::proto::keys;
use vstp::wire::HeadersRef;
use vstp::{Frame, FrameType};

/// A header `KEY=VALUE` of the command line.
#[derive(Debug, Clone)]
pub(crate) struct HeaderArg {
    key: String,
    value: String,
}

impl std::str::FromStr for HeaderArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| "expected KEY=VALUE".to_owned())?;
        if key.len() > 255 || value.len() > 255 {
            return Err("keys and values have at most 255 bytes".to_owned());
        }
        const OURS: [&str; 2] = [keys::MSG_ID, keys::CORRELATION_ID];
        if OURS.contains(&key) {
            return Err(format!("{key} belongs to the protocol"));
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// `DATA`, or a type of the application: `0x10` to `0xff`.
pub(crate) fn frame_type(text: &str) -> Result<FrameType, String> {
    if text.eq_ignore_ascii_case("data") {
        return Ok(FrameType::Data);
    }
    let byte = match text.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    match byte.and_then(FrameType::from_u8) {
        Some(typ) if typ.is_message() => Ok(typ),
        _ => Err("expected DATA, or a number from 0x10 to 0xff".to_owned()),
    }
}

pub(crate) fn frame(typ: FrameType, headers: &[HeaderArg], payload: Vec<u8>) -> Frame {
    headers
        .iter()
        .fold(Frame::new(typ), |frame, h| {
            frame.with_header(&h.key, &h.value)
        })
        .with_payload(payload)
}

/// A frame as a JSON object: bytes that are no text are in Base64, under a name that says so.
pub(crate) fn to_json(frame: &Frame, from: Option<SocketAddr>) -> Value {
    let mut object = json!({
        "type": frame.typ.to_string(),
        "headers": headers_to_json(frame.headers.as_ref()),
    });
    if let Some(from) = from {
        object["from"] = from.to_string().into();
    }
    let (key, value) = bytes_to_json("payload", &frame.payload);
    object[key] = value;
    object
}

pub(crate) fn headers_to_json(headers: HeadersRef<'_>) -> Value {
    let pair = |header: vstp::Header<'_>| {
        let (key, value) = (
            bytes_to_json("key", header.key),
            bytes_to_json("value", header.value),
        );
        let mut entry = json!({});
        entry[key.0] = key.1;
        entry[value.0] = value.1;
        entry
    };
    headers.iter().map(pair).collect()
}

pub(crate) fn bytes_to_json(name: &str, bytes: &[u8]) -> (String, Value) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text.into()),
        Err(_) => (format!("{name}_base64"), BASE64.encode(bytes).into()),
    }
}

/// How messages are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Text as text, anything else as a hex dump.
    People,
    Json,
    Hex,
    /// The payload as it is, nothing between two of them.
    Raw,
}

pub(crate) fn print(frame: &Frame, from: Option<SocketAddr>, form: Form) -> Result<(), Failure> {
    match form {
        Form::Json => output::json(to_json(frame, from)),
        Form::Raw => output::data(&frame.payload),
        Form::Hex => output::data(hex(&frame.payload).as_bytes()),
        Form::People => match output::text(&frame.payload) {
            Some(text) => output::line(text.strip_suffix('\n').unwrap_or(text)),
            None => output::data(hex(&frame.payload).as_bytes()),
        },
    }
}

/// Offsets, bytes and their characters, 16 to a line.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let is_shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        let chars: String = chunk
            .iter()
            .map(|&byte| {
                if is_shown(byte) {
                    char::from(byte)
                } else {
                    '.'
                }
            })
            .collect();
        out += &format!("{:08x}  {:<47}  |{chars}|\n", row * 16, digits.join(" "));
    }
    out
}
