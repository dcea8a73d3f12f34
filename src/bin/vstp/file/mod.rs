//! `vstp file`: files to and from `vstp server --dir`, whole or not at all.

mod common;
mod part;
mod protocol;
mod recv;
mod send;
mod store;

pub(crate) use store::Store;

use crate::exit::Failure;
use crate::output::Talk;
use clap::{Args, Subcommand};
use common::EXAMPLES;

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
    Send(send::SendArgs),
    /// Get a file from the folder of a server
    #[command(after_help = EXAMPLES)]
    Recv(recv::RecvArgs),
}

pub(crate) fn run(args: FileArgs, talk: Talk) -> Result<(), Failure> {
    match args.command {
        FileCommand::Send(args) => send::run(&args, talk),
        FileCommand::Recv(args) => recv::run(&args, talk),
    }
}
