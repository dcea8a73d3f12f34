//! What sending and fetching have in common: flags, and numbered requests.

use super::protocol;
use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::link::Link;
use crate::progress::Show;
use clap::Args;
use vstp::Frame;

pub(super) const EXAMPLES: &str = "\
Examples:
  vstp server --dev --dir ./files                        the other side
  vstp file send photo.jpg vstp://localhost              put a file there
  vstp file recv photo.jpg vstp://localhost              get it into this folder
  vstp file recv photo.jpg vstp://localhost -o copy.jpg

A file appears under its name when all of it has arrived and its SHA-256 is right. Until then it is hidden \
(.NAME.HASH.part), and the same command again goes on where the last one was interrupted.";

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// When to show the progress
    #[arg(long, value_enum, default_value_t = Show::Auto)]
    pub(super) progress: Show,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

/// Requests of one transfer, numbered.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    pub(super) link: &'a mut Link,
    pub(super) connect: &'a ConnectArgs,
    pub(super) next: u64,
}

impl Asking<'_> {
    pub(super) fn number(&mut self) -> String {
        self.next += 1;
        self.next.to_string()
    }

    pub(super) fn call(&mut self, frame: Frame) -> Result<Frame, Failure> {
        let id = self.number();
        self.link.call(frame, &id, self.connect.timeout, |_| ())
    }

    /// Asks until the server has read what it must read first.
    pub(super) fn call_until_checked(&mut self, frame: &Frame) -> Result<Frame, Failure> {
        loop {
            let answer = self.call(frame.clone())?;
            if answer.header_str(protocol::STATE) != Some("checking") {
                return Ok(answer);
            }
        }
    }
}
