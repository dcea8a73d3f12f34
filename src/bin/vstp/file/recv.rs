//! `vstp file recv`: ask what the file is, fetch what is missing, check it, give it its name.

use super::common::{Asking, CommonArgs};
use super::part::{Part, PartError};
use super::protocol::{self, PIECE_LEN, Sha256, WINDOW};
use crate::exit::{self, Failure};
use crate::link::{Link, Received};
use crate::output::{self, Talk};
use crate::progress::Progress;
use crate::units::{millis, show_bytes};
use crate::url::Url;
use clap::Args;
use serde_json::json;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use vstp::Frame;
use vstp::error::{ClosedBy, TimeoutKind, VstpError};
use vstp::net::clock;
use vstp::proto::keys;

const HASH_STEP: u64 = 32 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct RecvArgs {
    /// The name over there
    name: String,
    /// The server
    #[arg(value_name = "URL", env = "VSTP_URL")]
    url: Url,
    /// Where to (default: the same name in this folder)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &RecvArgs, talk: Talk) -> Result<(), Failure> {
    protocol::check_name(&args.name).map_err(Failure::usage)?;
    let target = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(&args.name));
    let failed = |error: io::Error| Failure::file(&target, &error);
    let began = clock::now();
    let mut link = Link::connect(&args.url, &args.common.connect, talk)?;
    let mut asking = Asking {
        link: &mut link,
        connect: &args.common.connect,
        next: 0,
    };
    let get = Frame::data("")
        .with_header(protocol::OP, "get")
        .with_header(protocol::NAME, &args.name);
    let answer = asking.call_until_checked(&get)?;
    let len = protocol::needed(protocol::number(&answer, protocol::LEN))?;
    let sha256 = protocol::needed(protocol::hash(&answer))?;

    let is_there = target.exists();
    let mut received = 0;
    if !(is_there && is_same(&target, len, &sha256).map_err(failed)?) {
        if is_there && !args.overwrite {
            return Err(exists(&target));
        }
        let mut part = Part::open(&target, len, sha256).map_err(failed)?;
        while !part.check(HASH_STEP).map_err(failed)? {}
        received = len - part.there();
        if part.there() > 0 {
            talk.say(format!(
                "vstp: {} are here already",
                show_bytes(part.there())
            ));
        }
        let show = args.common.progress;
        let mut progress = Progress::new(&args.name, len, part.there(), show, talk.quiet);
        fetch(&mut asking, &args.name, len, &mut part, &mut progress).map_err(|failure| {
            let what = format!(
                "{} is not complete, the same command again goes on",
                args.name
            );
            failure.while_doing(what)
        })?;
        part.finish(args.overwrite)
            .map_err(|error| judged(error, &target))?;
    }
    link.close()?;
    let ms = millis(clock::now().saturating_duration_since(began));
    let hash = protocol::sha256_text(&sha256);
    if args.common.json {
        return output::json(json!({
            "event": "received", "name": args.name, "file": target.display().to_string(),
            "len": len, "received": received, "sha256": hash, "ms": ms,
        }));
    }
    talk.say(format!(
        "vstp: {}: {}, {} received, SHA-256 {hash}",
        target.display(),
        show_bytes(len),
        show_bytes(received)
    ));
    Ok(())
}

fn exists(target: &Path) -> Failure {
    let text = format!(
        "{} is another file; choose a name with --output, or replace it with --overwrite",
        target.display()
    );
    Failure::new(exit::LOCAL, text)
}

fn judged(error: PartError, target: &Path) -> Failure {
    match error {
        PartError::Io(error) => Failure::file(target, &error),
        PartError::WrongHash => Failure::new(
            exit::INTEGRITY,
            "the SHA-256 of what arrived is another one: the file was changed over there; try again",
        ),
        PartError::Exists => exists(target),
        PartError::OutOfRange | PartError::Incomplete => Failure::new(
            exit::PROTOCOL,
            "the server sent other pieces than it was asked for",
        ),
    }
}

/// Whether the file that is here is the one over there.
fn is_same(target: &Path, len: u64, sha256: &Sha256) -> io::Result<bool> {
    let mut file = File::open(target)?;
    if file.metadata()?.len() != len {
        return Ok(false);
    }
    let mut hashing = super::part::Hashing::new();
    hashing.step(&mut file, len)?;
    Ok(hashing.finish() == *sha256)
}

/// Keeps a window of questions on their way until all pieces are here.
fn fetch(
    asking: &mut Asking<'_>,
    name: &str,
    len: u64,
    part: &mut Part,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut next = part.there();
    // What was asked for, by the number of the request.
    let mut asked: HashMap<String, (u64, usize)> = HashMap::new();
    while part.there() < len {
        if asked.len() < WINDOW && next < len {
            let piece = PIECE_LEN.min((len - next) as usize);
            let number = asking.number();
            let frame = Frame::data("")
                .with_header(protocol::OP, "read")
                .with_header(protocol::NAME, name)
                .with_header(protocol::OFFSET, next.to_string())
                .with_header(protocol::PIECE, piece.to_string())
                .with_header(keys::CORRELATION_ID, &number);
            asking.link.send_request(frame)?;
            asked.insert(number, (next, piece));
            next += piece as u64;
            continue;
        }
        let until = clock::now().checked_add(asking.connect.timeout);
        match asking.link.recv(until)? {
            None => return Err(VstpError::Timeout(TimeoutKind::Recv).into()),
            Some(Received::End) => {
                return Err(VstpError::ConnectionClosed(ClosedBy::Peer(None)).into());
            }
            Some(Received::Refused(_, failure)) => return Err(failure),
            Some(Received::Message(answer)) => {
                let number = answer.header_str(keys::CORRELATION_ID).unwrap_or_default();
                let Some((offset, wanted)) = asked.remove(number) else {
                    continue;
                };
                if answer.payload.len() != wanted {
                    let text = "the file became shorter over there; try again";
                    return Err(Failure::new(exit::INTEGRITY, text));
                }
                let taken = part.take(offset, answer.payload);
                taken.map_err(|error| judged(error, Path::new(name)))?;
                progress.at(part.there());
            }
        }
    }
    progress.finish(len);
    Ok(())
}
