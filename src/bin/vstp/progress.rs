//! A line on stderr that says how far a transfer is; on a terminal only.

use crate::units::show_bytes;
use clap::ValueEnum;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use vstp::net::clock;

/// When to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Show {
    /// When stderr is a terminal
    Auto,
    Always,
    Never,
}

/// Between two drawings.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    total: u64,
    /// Bytes that were there before we began; they say nothing about the speed.
    first: u64,
    began: Instant,
    drawn: Option<Instant>,
    on: bool,
}

impl Progress {
    pub(crate) fn new(
        label: impl Into<String>,
        total: u64,
        first: u64,
        show: Show,
        quiet: bool,
    ) -> Self {
        let on = match show {
            Show::Always => true,
            Show::Never => false,
            Show::Auto => !quiet && io::stderr().is_terminal(),
        };
        Self {
            label: label.into(),
            total,
            first,
            began: clock::now(),
            drawn: None,
            on,
        }
    }

    /// So many bytes of the total are done.
    pub(crate) fn at(&mut self, done: u64) {
        let now = clock::now();
        let is_due = self
            .drawn
            .is_none_or(|at| now.saturating_duration_since(at) >= TICK);
        if self.on && is_due {
            self.drawn = Some(now);
            self.draw(done, now);
        }
    }

    /// The last drawing, and the end of the line.
    pub(crate) fn finish(&mut self, done: u64) {
        if self.on {
            self.draw(done, clock::now());
            let _ = writeln!(io::stderr());
            self.on = false;
        }
    }

    fn draw(&self, done: u64, now: Instant) {
        let line = self.line(done, now.saturating_duration_since(self.began), width());
        // Nobody is told when it cannot be drawn.
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
    }

    fn line(&self, done: u64, time: Duration, width: usize) -> String {
        let fresh = done.saturating_sub(self.first) as f64;
        let rate = fresh / time.as_secs_f64().max(1e-3);
        let left = self.total.saturating_sub(done) as f64 / rate.max(1.0);
        let share = if self.total == 0 {
            1.0
        } else {
            done as f64 / self.total as f64
        };
        let numbers = format!(
            " {:>3.0}%  {} of {}  {}/s  {}",
            share * 100.0,
            show_bytes(done),
            show_bytes(self.total),
            show_bytes(rate as u64),
            clock_time(left),
        );
        let room = width.saturating_sub(numbers.len() + self.label.chars().count() + 4);
        if room < 8 {
            // The last column of a terminal is left free: some begin a new line there.
            let line = format!("{}{numbers}", self.label);
            return line.chars().take(width.saturating_sub(1)).collect();
        }
        let bar = room.min(40);
        let full = (share.min(1.0) * bar as f64) as usize;
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(bar - full));
        format!("{} [{bar}]{numbers}", self.label)
    }
}

impl Drop for Progress {
    /// An error message begins on a line of its own.
    fn drop(&mut self) {
        if self.on && self.drawn.is_some() {
            let _ = writeln!(io::stderr());
        }
    }
}

fn clock_time(seconds: f64) -> String {
    let seconds = seconds.min(359_999.0).round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(unix)]
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    match size {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => 80,
    }
}

#[cfg(not(unix))]
fn width() -> usize {
    80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_its_terminal() {
        let progress = Progress::new("file", 1000, 0, Show::Never, false);
        let time = Duration::from_secs(1);
        let line = progress.line(500, time, 80);
        assert!(
            line.len() < 80 && line.contains(" 50%") && line.contains("#."),
            "{line}"
        );
        assert!(!progress.line(500, time, 20).contains('['));
        let empty = Progress::new("file", 0, 0, Show::Never, false);
        assert!(empty.line(0, Duration::ZERO, 80).contains("100%"));
    }
}
