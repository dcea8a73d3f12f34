//! What is printed, and where: data to stdout, everything else to stderr.
//!
//! A closed stdout is not an error of ours: the reader has seen enough, and the command ends with 0.

use crate::exit::{Failure, LOCAL};
use clap::ValueEnum;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, and without `NO_COLOR`
    Auto,
    Always,
    Never,
}

impl Color {
    pub(crate) fn on_stdout(self) -> bool {
        self.on(io::stdout().is_terminal())
    }

    pub(crate) fn on_stderr(self) -> bool {
        self.on(io::stderr().is_terminal())
    }

    fn on(self, is_terminal: bool) -> bool {
        let forbidden = || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && !forbidden(),
        }
    }
}

/// What every command is told about talking to people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    pub(crate) color: Color,
    pub(crate) quiet: bool,
}

impl Talk {
    /// A remark for people on stderr; `--quiet` drops it.
    pub(crate) fn say(self, text: impl AsRef<str>) {
        if !self.quiet {
            // Nobody to tell: the remark is not the purpose of the command.
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }

    /// A warning on stderr, which `--quiet` does not drop.
    pub(crate) fn warn(self, text: impl AsRef<str>) {
        let (on, off) = paint(self.color.on_stderr(), "1;33");
        let _ = writeln!(io::stderr(), "vstp: {on}warning{off}: {}", text.as_ref());
    }
}

/// The sequences that begin and end a colour, or nothing.
pub(crate) fn paint(on: bool, code: &str) -> (String, &'static str) {
    if on {
        (format!("\x1b[{code}m"), "\x1b[0m")
    } else {
        (String::new(), "")
    }
}

/// Writes data to stdout and flushes: what a command prints is seen when it happens.
pub(crate) fn data(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| written(&error))
}

/// One line of data.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    data(format!("{}\n", text.as_ref()).as_bytes())
}

/// One JSON object as one line, with the version of its form.
pub(crate) fn json(mut object: Value) -> Result<(), Failure> {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("v".to_owned(), Value::from(1));
    }
    line(object.to_string())
}

/// What a failed write to stdout means.
fn written(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::new(0, "");
    }
    Failure::new(LOCAL, format!("stdout: {error}"))
}

/// Bytes as text where they are text, else `None`.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
    text.chars().all(is_plain).then_some(text)
}

/// Bytes on one line for people: what is not printable ASCII or Unicode is escaped.
pub(crate) fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().flat_map(escaped).collect(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

fn escaped(c: char) -> Vec<char> {
    if c.is_control() {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}
