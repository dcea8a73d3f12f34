//! `vstp file send`: hash, ask what is there, send the rest, let it be checked.

use super::common::{Asking, CommonArgs};
use super::part::Hashing;
use super::protocol::{self, PIECE_LEN, Sha256, WINDOW};
use crate::exit::{self, Failure};
use crate::link::{Link, Received};
use crate::output::{self, Talk};
use crate::progress::Progress;
use crate::units::{millis, show_bytes};
use crate::url::Url;
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use vstp::Frame;
use vstp::error::{ClosedBy, TimeoutKind, VstpError};
use vstp::net::clock;
use vstp::proto::keys;

/// Between two looks at the progress of hashing.
const HASH_STEP: u64 = 32 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The file
    file: PathBuf,
    /// The server
    #[arg(value_name = "URL", env = "VSTP_URL")]
    url: Url,
    /// The name over there (default: the file's own)
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &SendArgs, talk: Talk) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::file(&args.file, &error);
    let own_name = args
        .file
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = args.name.clone().or(own_name).unwrap_or_default();
    protocol::check_name(&name)
        .map_err(|text| Failure::usage(text + "; choose another with --name"))?;
    let mut file = File::open(&args.file).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() {
        let text = format!("{}: not a file", args.file.display());
        return Err(Failure::new(exit::LOCAL, text));
    }
    let len = facts.len();
    let began = clock::now();
    let show = args.common.progress;
    // The server is asked first whether it is there: hashing a large file for nobody is a waste.
    let mut link = Link::connect(&args.url, &args.common.connect, talk)?;
    let mut progress = Progress::new(format!("hashing {name}"), len, 0, show, talk.quiet);
    let sha256 = hash(&mut file, len, &mut progress).map_err(failed)?;

    let mut asking = Asking {
        link: &mut link,
        connect: &args.common.connect,
        next: 0,
    };
    let put = Frame::data("")
        .with_header(protocol::OP, "put")
        .with_header(protocol::NAME, &name)
        .with_header(protocol::LEN, len.to_string())
        .with_header(protocol::SHA256, protocol::sha256_text(&sha256));
    let answer = asking.call_until_checked(&put)?;
    let mut sent = 0;
    if answer.header_str(protocol::STATE) != Some("complete") {
        let id = protocol::needed(protocol::number(&answer, protocol::ID))?;
        let first = protocol::needed(protocol::number(&answer, protocol::OFFSET))?.min(len);
        sent = len - first;
        if first > 0 {
            talk.say(format!("vstp: {} are there already", show_bytes(first)));
        }
        let mut progress = Progress::new(&name, len, first, show, talk.quiet);
        let mut pieces = Pieces {
            file,
            id,
            next: first,
            len,
        };
        transfer(&mut asking, &mut pieces, first, &mut progress).map_err(|failure| {
            failure.while_doing(format_args!(
                "{name} is not complete, the same command again goes on"
            ))
        })?;
        let done = Frame::data("")
            .with_header(protocol::OP, "done")
            .with_header(protocol::ID, id.to_string());
        asking.call(done)?;
    }
    link.close()?;
    let took = clock::now().saturating_duration_since(began);
    report(args, &name, len, sent, &sha256, millis(took), talk)
}

fn hash(file: &mut File, len: u64, progress: &mut Progress) -> io::Result<Sha256> {
    let mut hashing = Hashing::new();
    while hashing.len < len {
        if hashing.step(file, HASH_STEP)? == 0 {
            return Err(io::Error::other("the file became shorter"));
        }
        progress.at(hashing.len);
    }
    progress.finish(len);
    Ok(hashing.finish())
}

/// The pieces of the file that are still to be sent.
struct Pieces {
    file: File,
    id: u64,
    next: u64,
    len: u64,
}

impl Pieces {
    fn next(&mut self) -> Result<Frame, Failure> {
        let failed = |error: io::Error| Failure::new(exit::LOCAL, format!("the file: {error}"));
        let mut piece = vec![0; PIECE_LEN.min((self.len - self.next) as usize)];
        self.file.seek(SeekFrom::Start(self.next)).map_err(failed)?;
        self.file.read_exact(&mut piece).map_err(failed)?;
        let offset = self.next;
        self.next += piece.len() as u64;
        Ok(Frame::data(piece)
            .with_header(protocol::OP, "write")
            .with_header(protocol::ID, self.id.to_string())
            .with_header(protocol::OFFSET, offset.to_string()))
    }
}

/// Keeps a window of pieces on their way until all have been answered.
fn transfer(
    asking: &mut Asking<'_>,
    pieces: &mut Pieces,
    first: u64,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut on_their_way = 0;
    let mut there = first;
    while on_their_way > 0 || pieces.next < pieces.len {
        if on_their_way < WINDOW && pieces.next < pieces.len {
            let number = asking.number();
            let frame = pieces.next()?.with_header(keys::CORRELATION_ID, number);
            asking.link.send_request(frame)?;
            on_their_way += 1;
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
                on_their_way -= 1;
                there = protocol::number(&answer, protocol::OFFSET)
                    .unwrap_or(there)
                    .max(there);
                progress.at(there);
            }
        }
    }
    progress.finish(pieces.len);
    Ok(())
}

fn report(
    args: &SendArgs,
    name: &str,
    len: u64,
    sent: u64,
    sha256: &Sha256,
    ms: f64,
    talk: Talk,
) -> Result<(), Failure> {
    if args.common.json {
        return output::json(json!({
            "event": "sent", "name": name, "len": len, "sent": sent,
            "sha256": protocol::sha256_text(sha256), "ms": ms,
        }));
    }
    talk.say(format!(
        "vstp: {name}: {}, {} sent, SHA-256 {}",
        show_bytes(len),
        show_bytes(sent),
        protocol::sha256_text(sha256)
    ));
    Ok(())
}
