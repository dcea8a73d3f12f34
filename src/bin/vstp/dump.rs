//! Bytes on the terminal, in the form of docs/spec.md: offset, up to 16 bytes, and what they are.

use crate::output::paint;
use std::fmt::Write as _;
use std::ops::Range;

const WIDTH: usize = 16;
/// Lines of one part; what lies between the first and the last of a longer one is left out.
const MAX_LINES: usize = 8;

/// Adds the lines of `range` of `bytes`; `base` is the offset of the first byte.
pub(crate) fn lines(
    out: &mut String,
    bytes: &[u8],
    base: usize,
    range: Range<usize>,
    look: &Look<'_>,
) {
    let mut rows: Vec<Range<usize>> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = (at + WIDTH).min(range.end);
        rows.push(at..end);
        at = end;
    }
    let hidden = rows.len().saturating_sub(MAX_LINES);
    let wrong_row = look
        .wrong
        .and_then(|wrong| rows.iter().position(|row| row.contains(&wrong)));
    for (number, row) in rows.iter().enumerate() {
        // Of a long part the beginning, and the line with the wrong byte.
        if hidden > 0 && number >= MAX_LINES && wrong_row != Some(number) {
            continue;
        }
        let text = if number == 0 { look.text } else { "" };
        line(out, bytes, base, row, text, look);
    }
    if hidden > 0 {
        let left = range.end - rows[MAX_LINES - 1].end;
        let _ = writeln!(out, "      ... {left} more bytes");
    }
}

/// How a part is printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    /// What the bytes are.
    pub(crate) text: &'a str,
    pub(crate) color: bool,
    /// The offset of the first wrong byte, if there is one.
    pub(crate) wrong: Option<usize>,
    /// The bytes are not shown.
    pub(crate) secret: bool,
}

fn line(
    out: &mut String,
    bytes: &[u8],
    base: usize,
    row: &Range<usize>,
    text: &str,
    look: &Look<'_>,
) {
    let (dim, off) = paint(look.color, "2");
    let (red, _) = paint(look.color, "1;31");
    let (blue, _) = paint(look.color, "36");
    let _ = write!(out, "{dim}{:04x}{off}  ", base + row.start);
    for at in row.clone() {
        let digits = if look.secret {
            "..".to_owned()
        } else {
            format!("{:02x}", bytes[at])
        };
        if look.wrong == Some(at) {
            let _ = write!(out, "{red}{digits}{off} ");
        } else {
            let _ = write!(out, "{digits} ");
        }
    }
    let padding = "   ".repeat(WIDTH - row.len());
    let comment = format!("{padding} {dim}|{off} {blue}{text}{off}");
    out.push_str(comment.trim_end());
    out.push('\n');
    if let Some(wrong) = look.wrong.filter(|wrong| row.contains(wrong)) {
        let indent = " ".repeat(6 + 3 * (wrong - row.start));
        let _ = writeln!(out, "{indent}{red}^^{off}");
    }
}
