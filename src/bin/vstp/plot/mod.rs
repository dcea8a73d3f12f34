//! `vstp plot`: a picture of what an event log says: throughput, round-trip times, congestion windows.
//!
//! `story` reads the log, line by line, into a bounded amount of numbers; `draw` makes an SVG of them.

mod curve;
mod draw;
mod story;

use crate::exit::{self, Failure};
use crate::output::{self, Talk};
use clap::Args;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use story::Story;

const EXAMPLES: &str = "\
Examples:
  vstp bench vstp+udp://server --mode stream --ack --event-log events.jsonl
  vstp plot events.jsonl -o events.svg
  vstp plot events.jsonl > events.svg
  vstp bench --local --svg bench.svg            both in one step

The picture has three panels over the same time: what was sent and received in all, the round-trip time of each \
connection (over UDP the smoothed one, over TCP that of PINGs), and over UDP its congestion window, the bytes in flight \
(pale), and losses (red). Over TCP the window is the system's, and not in the log. Of many connections the busiest are \
drawn one by one.

A picture that is there is replaced when the new one is complete. The log is what --event-log writes, of any command or of the library (`EventLog`). A line that is none ends the \
command with 6 and is named; a last line that was cut off is left out.";

/// Draw an event log: throughput, round-trip times, congestion windows
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlotArgs {
    /// The event log; - is stdin
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// Where the picture goes, as SVG (default: stdout)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &PlotArgs, talk: Talk) -> Result<(), Failure> {
    if let Some(path) = &args.output {
        check(path, &args.log)?;
    }
    let svg = picture(&args.log, talk)?;
    match &args.output {
        Some(path) => write(path, &svg),
        None => output::data(svg.as_bytes()),
    }
}

/// Refuses a picture in the place of the log that it is drawn from.
pub(crate) fn check(picture: &Path, log: &Path) -> Result<(), Failure> {
    let real = |path| fs::canonicalize(path).ok();
    if picture == log || real(picture).is_some_and(|path| real(log) == Some(path)) {
        let text = format!("{}: the log and its picture need two files", log.display());
        return Err(Failure::usage(text));
    }
    Ok(())
}

/// Writes beside the picture and renames, so that there is the old one, the new one, or none.
pub(crate) fn write(picture: &Path, svg: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::file(picture, &error);
    // A link stays, and what it leads to is replaced.
    let target = fs::canonicalize(picture).unwrap_or_else(|_| picture.to_owned());
    if fs::metadata(&target).is_ok_and(|there| !there.is_file()) {
        // A pipe or a device, which is written to, or a folder, which cannot be.
        return fs::write(&target, svg).map_err(failed);
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = target.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = fs::write(&beside, svg).and_then(|()| fs::rename(&beside, &target));
    written.map_err(|error| {
        // It is of no use to anybody, and may not be there at all.
        let _ = fs::remove_file(&beside);
        failed(error)
    })
}

/// The picture of the log at this path.
pub(crate) fn picture(log: &Path, talk: Talk) -> Result<String, Failure> {
    let input: Box<dyn Read> = if log == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(log).map_err(|error| Failure::file(log, &error))?)
    };
    let story = Story::read(BufReader::new(input)).map_err(|error| match error {
        story::Wrong::Io(error) => Failure::file(log, &error),
        story::Wrong::Line(number, what) => Failure::new(
            exit::PROTOCOL,
            format!("{}: line {number}: {what}", log.display()),
        ),
    })?;
    if story.is_cut {
        talk.warn("the last line of the log was cut off and is left out");
    }
    if story.is_empty() {
        let text = format!("{}: no frame in it, so nothing to draw", log.display());
        return Err(Failure::new(exit::PROTOCOL, text));
    }
    draw::svg(&story)
        .map_err(|error| Failure::new(exit::OTHER, format!("the picture cannot be drawn: {error}")))
}
