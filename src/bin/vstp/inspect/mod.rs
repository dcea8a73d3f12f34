//! `vstp inspect`: frames byte by byte, and the first byte that is wrong.

mod anatomy;
mod capture;
mod flow;
mod input;
mod repair;

use crate::dump::{self, Look};
use crate::exit::{self, Failure};
use crate::message::to_json;
use crate::output::{self, Talk, paint};
use crate::units;
use anatomy::{Anatomy, Fault, dissect};
use clap::Args;
use flow::Flow;
use input::Format;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use vstp::Frame;
use vstp::wire::{FrameRef, Limits, Trailer};

const EXAMPLES: &str = "\
Examples:
  echo 5654010300000000000000d2879319 | vstp inspect
  vstp inspect frame.bin
  tcpdump -w - udp port 6969 | vstp inspect --format pcap
  vstp inspect session.pcapng --json | jq -r .type

Understood are bytes, hexadecimal (also as xxd, hexdump -C and docs/spec.md print it), pcap and pcapng. Of captures, \
datagrams and plaintext streams that begin like VSTP are shown; what TLS encrypts cannot be.

When exactly one byte of a frame with a checksum was changed, the checksum tells which, and what it was. After an error \
nothing more of that stream is read. The exit code is 7 for a wrong checksum, 6 for anything else that is wrong.";

/// Show frames byte by byte, and the first wrong byte
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// The input; - is stdin
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// What the input is
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// The frames were inside TLS: a checksum is there only with the flag CRC
    #[arg(long)]
    tls: bool,
    /// Largest frame
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = units::length)]
    max_frame_size: usize,
    /// Most headers in a frame
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_headers: usize,
    /// One JSON object for each frame, and one for the error
    #[arg(long)]
    json: bool,
}

/// Of an input larger than this nothing is looked at.
const MAX_INPUT_LEN: u64 = 2 << 30;

pub(crate) fn run(args: InspectArgs, talk: Talk) -> Result<(), Failure> {
    let flows = input::read(read(&args.file)?, args.format)?;
    let trailer = if args.tls {
        Trailer::WhenFlagged
    } else {
        Trailer::Always
    };
    let limits = Limits {
        max_frame_len: args.max_frame_size,
        max_header_count: args.max_headers,
    };
    let mut first = None;
    let mut count = 0;
    for flow in &flows {
        if !flow.title.is_empty() && !args.json {
            output::line(&flow.title)?;
        }
        let fault = inspect(flow, trailer, &limits, &args, talk, &mut count)?;
        first = first.or(fault);
    }
    if count == 0 && first.is_none() {
        return Err(Failure::new(exit::PROTOCOL, "no frame in the input"));
    }
    match first {
        None => Ok(()),
        Some((at, fault)) => {
            let code = if fault.is_checksum {
                exit::INTEGRITY
            } else {
                exit::PROTOCOL
            };
            Err(Failure::new(
                code,
                format!("byte {at} ({at:#x}): {}", fault.message),
            ))
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::file(path, &error);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(MAX_INPUT_LEN + 1)
            .read_to_end(&mut bytes)
    } else {
        let file = fs::File::open(path).map_err(failed)?;
        file.take(MAX_INPUT_LEN + 1).read_to_end(&mut bytes)
    };
    if read.map_err(failed)? as u64 > MAX_INPUT_LEN {
        return Err(Failure::new(
            exit::LOCAL,
            "the input is larger than 2 GiB; cut it first",
        ));
    }
    Ok(bytes)
}

/// All frames of a flow, up to the first error, which is returned with its place.
fn inspect(
    flow: &Flow,
    trailer: Trailer,
    limits: &Limits,
    args: &InspectArgs,
    talk: Talk,
    count: &mut u64,
) -> Result<Option<(usize, Fault)>, Failure> {
    let mut at = 0;
    while at < flow.bytes.len() {
        let rest = &flow.bytes[at..];
        let anatomy = dissect(rest, trailer, limits);
        *count += 1;
        if args.json {
            output::json(object(&anatomy, flow, at, *count))?;
        } else {
            output::data(picture(&anatomy, rest, at, *count, talk.color.on_stdout()).as_bytes())?;
        }
        match anatomy.result {
            Ok((_, len)) => at += len,
            Err(fault) => return Ok(Some((at + fault.offset, fault))),
        }
    }
    Ok(None)
}

fn object(anatomy: &Anatomy<'_>, flow: &Flow, at: usize, number: u64) -> Value {
    let mut object = match &anatomy.result {
        Ok((frame, len)) => {
            let mut object = to_json(&without_token(frame), None);
            let flags: Vec<_> = frame.flags.iter_names().map(|(name, _)| name).collect();
            object["flags"] = flags.into();
            object["len"] = (*len).into();
            object["payload_len"] = frame.payload.len().into();
            object
        }
        Err(fault) => json!({
            "error": fault.message,
            "wrong_byte": at + fault.offset,
            "was": fault.was,
        }),
    };
    object["frame"] = number.into();
    object["offset"] = at.into();
    if !flow.title.is_empty() {
        object["flow"] = flow.title.as_str().into();
        object["datagram"] = flow.is_datagram.into();
    }
    let part = |part: &anatomy::Part| json!({"offset": at + part.range.start, "len": part.range.len(), "text": part.text});
    object["parts"] = anatomy.parts.iter().map(part).collect();
    object
}

/// The frame as it may be shown: without what proves who somebody is.
fn without_token(frame: &FrameRef<'_>) -> Frame {
    use vstp::proto::keys::AUTH_TOKEN;
    let mut copy = Frame::new(frame.typ);
    for header in frame.headers.iter() {
        let is_token = header.key == AUTH_TOKEN.as_bytes();
        let value: &[u8] = if is_token { b".." } else { header.value };
        copy.headers.push(header.key, value);
    }
    let is_token = frame.typ == vstp::FrameType::Hello && frame.payload.iter().any(|b| *b != 0);
    let payload: &[u8] = if is_token { b".." } else { frame.payload };
    copy.with_payload(payload)
}

/// The picture of one frame that had its checksum, for the demonstration.
pub(crate) fn explain(bytes: &[u8], color: bool) -> String {
    let anatomy = dissect(bytes, Trailer::Always, &Limits::default());
    picture(&anatomy, bytes, 0, 1, color)
}

/// The annotated bytes of one frame.
fn picture(anatomy: &Anatomy<'_>, bytes: &[u8], at: usize, number: u64, color: bool) -> String {
    let mut out = String::new();
    let (bold, off) = paint(color, "1");
    let (red, _) = paint(color, "1;31");
    let title = match &anatomy.result {
        Ok((frame, len)) => format!("{}, {len} bytes", frame.typ),
        Err(_) => "not valid".to_owned(),
    };
    let _ = writeln!(out, "{bold}frame {number} at byte {at}: {title}{off}");
    let wrong = anatomy.result.as_ref().err().map(|fault| fault.offset);
    for part in &anatomy.parts {
        let look = Look {
            text: &part.text,
            color,
            wrong,
            secret: part.secret,
        };
        dump::lines(&mut out, bytes, at, part.range.clone(), &look);
    }
    if let Err(fault) = &anatomy.result {
        let place = at + fault.offset;
        let _ = write!(out, "{red}byte {place} ({place:#x}){off}");
        if let (Some(was), Some(is)) = (fault.was, bytes.get(fault.offset)) {
            let _ = write!(out, " is {is:02x} and was {was:02x}");
        }
        let _ = writeln!(out, ": {}", fault.message);
    }
    out
}
