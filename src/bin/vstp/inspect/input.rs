//! What `vstp inspect` is given: bytes, bytes written in hexadecimal, or a capture.

use super::capture;
use super::flow::Flow;
use crate::exit::{self, Failure};
use clap::ValueEnum;
use data_encoding::HEXLOWER_PERMISSIVE;

/// The form of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Look at the input
    Auto,
    /// Hexadecimal digits; offsets and comments of xxd, hexdump -C and docs/spec.md are left out
    Hex,
    /// The bytes themselves
    Bin,
    /// A capture of tcpdump or Wireshark: pcap or pcapng
    Pcap,
}

pub(super) fn read(bytes: Vec<u8>, format: Format) -> Result<Vec<Flow>, Failure> {
    let plain = |bytes| {
        vec![Flow {
            title: String::new(),
            bytes,
            is_datagram: false,
        }]
    };
    match format {
        Format::Bin => Ok(plain(bytes)),
        Format::Hex => Ok(plain(hex(&bytes)?)),
        Format::Pcap => capture::read(&bytes),
        Format::Auto if capture::is_capture(&bytes) => capture::read(&bytes),
        Format::Auto if bytes.starts_with(b"VT") || bytes.starts_with(b"VS\x01") => {
            Ok(plain(bytes))
        }
        Format::Auto => match hex(&bytes) {
            Ok(decoded) if !decoded.is_empty() => Ok(plain(decoded)),
            _ => Ok(plain(bytes)),
        },
    }
}

/// The bytes of a text of hexadecimal digits.
fn hex(text: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |line: usize| {
        let text = format!("line {line} is no hexadecimal; --format bin takes bytes as they are");
        Failure::new(exit::PROTOCOL, text)
    };
    let text = std::str::from_utf8(text).map_err(|_| failed(1))?;
    let mut digits = String::new();
    for (number, line) in text.lines().enumerate() {
        let before = digits.len();
        digits.extend(digits_of(line).split_whitespace());
        let fresh = &digits[before..];
        if fresh.len() % 2 != 0 || !fresh.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(failed(number + 1));
        }
    }
    HEXLOWER_PERMISSIVE
        .decode(digits.as_bytes())
        .map_err(|_| failed(1))
}

/// A line without its offset and its comment.
fn digits_of(line: &str) -> &str {
    let line = line.split(['|', '#']).next().unwrap_or_default().trim();
    let is_offset = |text: &str| text.len() >= 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some((offset, rest)) = line.split_once(": ") {
        if is_offset(offset) {
            // xxd prints the characters after two spaces.
            return rest.split("  ").next().unwrap_or_default();
        }
    }
    match line.split_once("  ") {
        Some((offset, rest)) if is_offset(offset) => rest,
        // The last line of hexdump -C is the length, in eight digits.
        None if line.len() == 8 && line.starts_with("0000") && is_offset(line) => "",
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_form_of_hexadecimal_is_read() {
        let want = b"VT\x01\x03\x00\x04".to_vec();
        for text in [
            "565401030004",
            "56 54 01 03\n00 04\n",
            "0000  56 54 01 03 00  | \"VT\", VERSION 1\n0005  04 | more\n",
            "00000000: 5654 0103 0004  VT....\n",
            "00000000  56 54 01 03 00 04   |VT....|\n00000006\n",
            "# a comment\n5654 0103 0004 # another",
        ] {
            assert_eq!(hex(text.as_bytes()).expect(text), want, "{text}");
        }
        for bad in ["5", "xy", "56 5", "hello world"] {
            assert!(hex(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
