//! `vstp file`: files to and from `vstp server --dir`, whole or not at all.

mod part;
mod protocol;
mod recv;
mod send;
mod store;

pub(crate) use store::Store;

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::link::Link;
use crate::output::Talk;
use crate::progress::Show;
use crate::url::Url;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use vstp::Frame;

const EXAMPLES: &str = "\
Examples:
  vstp server --dev --dir ./files                        the other side
  vstp file send photo.jpg vstp://localhost              put a file there
  vstp file recv photo.jpg vstp://localhost              get it into this folder
  vstp file recv photo.jpg vstp://localhost -o copy.jpg

A file appears under its name when all of it has arrived and its SHA-256 is right. Until then it is hidden
(.NAME.HASH.part), and the same command again goes on where the last one was interrupted.";

/// Send and fetch files, checked and resumable
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FileArgs {
    #[command(subcommand)]
    command: FileCommand,
}

#[derive(Debug, Subcommand)]
enum FileCommand {
    /// Put a file into the folder of a server
    #[command(after_help = EXAMPLES)]
    Send(SendArgs),
    /// Get a file from the folder of a server
    #[command(after_help = EXAMPLES)]
    Recv(RecvArgs),
}

#[derive(Debug, Args)]
struct SendArgs {
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

#[derive(Debug, Args)]
struct RecvArgs {
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

#[derive(Debug, Args)]
struct CommonArgs {
    /// When to show the progress
    #[arg(long, value_enum, default_value_t = Show::Auto)]
    progress: Show,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(crate) fn run(args: FileArgs, talk: Talk) -> Result<(), Failure> {
    match args.command {
        FileCommand::Send(args) => send::run(&args, talk),
        FileCommand::Recv(args) => recv::run(&args, talk),
    }
}

/// Requests of one transfer, numbered.
#[derive(Debug)]
struct Asking<'a> {
    link: &'a mut Link,
    connect: &'a ConnectArgs,
    next: u64,
}

impl Asking<'_> {
    fn number(&mut self) -> String {
        self.next += 1;
        self.next.to_string()
    }

    fn call(&mut self, frame: Frame) -> Result<Frame, Failure> {
        let id = self.number();
        self.link.call(frame, &id, self.connect.timeout, |_| ())
    }

    /// Asks until the server has read what it must read first.
    fn call_until_checked(&mut self, frame: &Frame) -> Result<Frame, Failure> {
        loop {
            let answer = self.call(frame.clone())?;
            if answer.header_str(protocol::STATE) != Some("checking") {
                return Ok(answer);
            }
        }
    }
}
