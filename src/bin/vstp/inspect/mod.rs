//! `vstp inspect`: frames byte by byte, and the first byte that is wrong.

mod anatomy;
mod capture;
mod flow;
mod input;
mod inside;
mod repair;
mod sealed;

use crate::dump::{self, Look};
use crate::exit::{self, Failure};
use crate::message::to_json;
use crate::output::{self, Talk, paint};
use crate::units;
use anatomy::{Anatomy, Fault, Part, dissect};
use clap::Args;
use flow::Flow;
use input::Format;
use inside::{Inside, Sets};
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
datagrams and plaintext streams that begin like VSTP are shown; what TLS encrypts cannot be, and of sealed datagrams \
only the outside.

A payload that was made smaller by gzip is inflated, if it then has at most 8 MiB and is no larger than --max-frame-size. \
Fragments are put together when all of them are in the input: the frame appears behind the last of them, in JSON under `reassembled`.

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
    let mut look = Looking {
        trailer,
        limits,
        json: args.json,
        color: talk.color.on_stdout(),
        count: 0,
        sets: Sets::new(args.json),
    };
    for flow in &flows {
        if !flow.title.is_empty() && !args.json {
            output::line(&flow.title)?;
        }
        let fault = look.at_flow(flow)?;
        first = first.or(fault);
    }
    let count = look.count;
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

/// One run through the input.
struct Looking<'a> {
    trailer: Trailer,
    limits: Limits,
    json: bool,
    color: bool,
    /// Frames, and sealed datagrams.
    count: u64,
    sets: Sets<'a>,
}

impl<'a> Looking<'a> {
    /// All frames of a flow, up to the first error, which is returned with its place.
    fn at_flow(&mut self, flow: &'a Flow) -> Result<Option<(usize, Fault)>, Failure> {
        let mut at = 0;
        let mut inner_fault = None;
        while at < flow.bytes.len() {
            let rest = &flow.bytes[at..];
            let anatomy = dissect(rest, self.trailer, &self.limits);
            self.count += 1;
            let fault = match &anatomy.result {
                Ok((frame, len)) => {
                    let max_len = self.limits.max_frame_len;
                    let inside = self.sets.look(&flow.title, frame, max_len);
                    let inner = self.print(&anatomy, flow, at, &inside)?;
                    // Its place is that of the fragment which completed it.
                    inner_fault = inner_fault.or(inner.map(|fault| (at, fault)));
                    at += len;
                    continue;
                }
                Err(fault) => fault.clone(),
            };
            // A frame of which one byte was changed can look like the beginning of a sealed datagram, too.
            if at == 0 && fault.was.is_none() && sealed::is_sealed(rest) {
                self.print_sealed(flow)?;
                return Ok(None);
            }
            self.print(&anatomy, flow, at, &Inside::default())?;
            return Ok(inner_fault.or(Some((at + fault.offset, fault))));
        }
        Ok(inner_fault)
    }

    /// Prints a frame, and the one that it completed; what is wrong with that.
    fn print(
        &self,
        anatomy: &Anatomy<'_>,
        flow: &Flow,
        at: usize,
        inside: &Inside,
    ) -> Result<Option<Fault>, Failure> {
        let number = self.count;
        let mut object = self
            .json
            .then(|| in_flow(object(anatomy, at, number), flow));
        let mut text = String::new();
        if !self.json {
            text = picture(anatomy, &flow.bytes[at..], at, number, self.color);
            note(&mut text, inside);
        } else if let (Some(object), Some((name, value))) = (&mut object, &inside.member) {
            object[name] = value.clone();
        }
        let mut wrong = None;
        if let Some(whole) = &inside.whole {
            // Inside of fragments a trailer is always there (spec 4.4).
            let inner = dissect(whole, Trailer::Always, &self.limits);
            let deeper = match &inner.result {
                // It cannot be one of fragments again.
                Ok((frame, _)) => Sets::new(self.json).look("", frame, self.limits.max_frame_len),
                Err(_) => Inside::default(),
            };
            wrong = wrong_inside(&inner, whole.len());
            if let Some(outer) = &mut object {
                let mut inner = self::object(&inner, 0, number);
                if let Some((name, value)) = deeper.member {
                    inner[name] = value;
                }
                outer["reassembled"] = inner;
            } else {
                let (bold, off) = paint(self.color, "1");
                let _ = writeln!(text, "{bold}put together from its fragments:{off}");
                text += &picture(&inner, whole, 0, number, self.color);
                note(&mut text, &deeper);
            }
        }
        match object {
            Some(object) => output::json(object)?,
            None => output::data(text.as_bytes())?,
        }
        Ok(wrong)
    }

    fn print_sealed(&self, flow: &Flow) -> Result<(), Failure> {
        let parts = sealed::parts(&flow.bytes).unwrap_or_default();
        if let (true, Some(mut object)) = (self.json, sealed::to_json(&flow.bytes)) {
            object["frame"] = self.count.into();
            object["offset"] = 0.into();
            object["parts"] = parts_to_json(&parts, 0);
            return output::json(in_flow(object, flow));
        }
        let title = format!("sealed, {} bytes", flow.bytes.len());
        let text = drawn(&title, &parts, None, &flow.bytes, 0, self.count, self.color);
        output::data(text.as_bytes())
    }
}

/// What is wrong with a frame that was put together.
fn wrong_inside(inner: &Anatomy<'_>, len: usize) -> Option<Fault> {
    let fault = match &inner.result {
        Ok((_, frame_len)) if *frame_len == len => return None,
        Ok((_, frame_len)) => Fault {
            offset: *frame_len,
            message: "something follows the frame".to_owned(),
            was: None,
            is_checksum: false,
        },
        Err(fault) => fault.clone(),
    };
    let message = format!(
        "the frame that its fragments make is wrong at its byte {}: {}",
        fault.offset, fault.message
    );
    Some(Fault { message, ..fault })
}

fn note(text: &mut String, inside: &Inside) {
    if let Some(note) = &inside.note {
        let _ = writeln!(text, "      {note}");
    }
}

fn object(anatomy: &Anatomy<'_>, at: usize, number: u64) -> Value {
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
    object["parts"] = parts_to_json(&anatomy.parts, at);
    object
}

/// The object, with where its bytes come from.
fn in_flow(mut object: Value, flow: &Flow) -> Value {
    if !flow.title.is_empty() {
        object["flow"] = flow.title.as_str().into();
        object["datagram"] = flow.is_datagram.into();
    }
    object
}

fn parts_to_json(parts: &[Part], at: usize) -> Value {
    let part = |part: &Part| json!({"offset": at + part.range.start, "len": part.range.len(), "text": part.text});
    parts.iter().map(part).collect()
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
    let title = match &anatomy.result {
        Ok((frame, len)) => format!("{}, {len} bytes", frame.typ),
        Err(_) => "not valid".to_owned(),
    };
    let fault = anatomy.result.as_ref().err();
    drawn(&title, &anatomy.parts, fault, bytes, at, number, color)
}

fn drawn(
    title: &str,
    parts: &[Part],
    fault: Option<&Fault>,
    bytes: &[u8],
    at: usize,
    number: u64,
    color: bool,
) -> String {
    let mut out = String::new();
    let (bold, off) = paint(color, "1");
    let (red, _) = paint(color, "1;31");
    let _ = writeln!(out, "{bold}frame {number} at byte {at}: {title}{off}");
    for part in parts {
        let look = Look {
            text: &part.text,
            color,
            wrong: fault.map(|fault| fault.offset),
            secret: part.secret,
        };
        dump::lines(&mut out, bytes, at, part.range.clone(), &look);
    }
    if let Some(fault) = fault {
        let place = at + fault.offset;
        let _ = write!(out, "{red}byte {place} ({place:#x}){off}");
        if let (Some(was), Some(is)) = (fault.was, bytes.get(fault.offset)) {
            let _ = write!(out, " is {is:02x} and was {was:02x}");
        }
        let _ = writeln!(out, ": {}", fault.message);
    }
    out
}
