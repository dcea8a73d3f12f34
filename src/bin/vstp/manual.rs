//! `vstp completions` and `vstp man`: made from the definition of the arguments, so they cannot be out of date.

use crate::exit::{self, Failure};
use crate::output;
use clap::{Args, Command};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vstp completions bash > ~/.local/share/bash-completion/completions/vstp
  vstp completions zsh > ~/.zfunc/_vstp
  vstp completions fish > ~/.config/fish/completions/vstp.fish")]
pub(crate) struct CompletionsArgs {
    shell: Shell,
}

/// Print the manual page, or write one for each command into a folder
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vstp man | man -l -
  vstp man --out ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write vstp.1 and vstp-COMMAND.1 into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<(), Failure> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut command, "vstp", &mut out);
    output::data(&out)
}

pub(crate) fn man(args: &ManArgs, command: Command) -> Result<(), Failure> {
    let Some(folder) = &args.out else {
        return output::data(&page(command)?);
    };
    clap_mangen::generate_to(command, folder).map_err(|error| Failure::file(folder, &error))
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut out)
        .map_err(|error| Failure::new(exit::OTHER, format!("the manual page: {error}")))?;
    Ok(out)
}
