//! `docs/spec.md` against the code: its frames, its tables, and the sections that the code cites.

use std::fs;
use std::path::{Path, PathBuf};
use vstp::proto::ErrorCode;
use vstp::wire::{self, Limits, Trailer};
use vstp::{Flags, Frame, FrameType};

#[path = "spec/datagrams.rs"]
mod datagrams;
#[path = "spec/drops.rs"]
mod drops;
#[path = "spec/dump.rs"]
mod dump;
#[path = "spec/sealed.rs"]
mod sealed;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn spec() -> String {
    fs::read_to_string(root().join("docs/spec.md")).expect("docs/spec.md is part of the package")
}

/// The text between the heading of `section` and the next heading.
fn section<'a>(spec: &'a str, section: &str) -> &'a str {
    let begin = spec
        .find(&format!("# {section} "))
        .expect("the section exists");
    let text = &spec[begin + 2..];
    &text[..text.find("\n#").unwrap_or(text.len())]
}

/// The rows of the tables in a section, without heads and rules.
fn rows(section: &str) -> Vec<Vec<&str>> {
    let lines: Vec<_> = section.lines().collect();
    let is_row = |line: &str| line.starts_with('|');
    let is_rule = |line: Option<&&str>| line.is_some_and(|l| l.starts_with("|---"));
    lines
        .iter()
        .enumerate()
        .filter(|(i, line)| is_row(line) && !is_rule(Some(line)) && !is_rule(lines.get(i + 1)))
        .map(|(_, line)| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The bytes of each block marked `frame`; the offsets in it are checked on the way.
fn dumps(spec: &str) -> Vec<Vec<u8>> {
    let blocks = spec.split("```frame\n").skip(1);
    blocks
        .map(|block| dump::bytes(block.split("```").next().expect("a first piece")))
        .collect()
}

#[test]
fn the_frames_of_appendix_a_decode_and_encode_to_the_same_bytes() {
    let expected = [
        Frame::data("Hello").with_header("test", "value"),
        Frame::new(FrameType::Hello)
            .with_header("features", "gzip")
            .with_header("max-frame-size", "8388608"),
    ];
    let dumps = dumps(&spec());
    assert_eq!(dumps.len(), expected.len());
    for (bytes, expected) in dumps.iter().zip(expected) {
        let frame = wire::decode_exact(bytes, Trailer::Always, &Limits::default());
        assert_eq!(frame, Ok(expected.as_ref()));
        assert_eq!(
            &vstp::encode_frame(&expected).expect("it was decoded"),
            bytes
        );
    }
}

#[test]
fn the_tables_of_types_and_flags_are_those_of_the_code() {
    let spec = spec();
    let mut types = 0;
    let mut flags = 0;
    for row in rows(section(&spec, "2.1")) {
        let Ok(byte) = u8::from_str_radix(row[0].trim_matches('`'), 16) else {
            continue;
        };
        if let Some(flag) = Flags::from_name(row[1]) {
            assert_eq!(flag.bits(), byte);
            flags += 1;
        } else if row.len() == 3 {
            let typ = FrameType::from_u8(byte).expect("the type exists");
            assert_eq!(typ.to_string(), row[1]);
            types += 1;
        }
    }
    assert_eq!((types, flags), (8, Flags::all().iter().count()));
}

#[test]
fn the_limits_are_those_of_the_code() {
    let spec = spec();
    let rows = rows(section(&spec, "2.4"));
    let limits = Limits::default();
    assert_eq!(
        rows[0][..2],
        ["frame", &format!("{} MiB", limits.max_frame_len >> 20)]
    );
    assert_eq!(
        rows[1][..2],
        ["entries", &limits.max_header_count.to_string()]
    );
}

#[test]
fn the_codes_of_err_are_those_of_the_code() {
    let spec = spec();
    let mut names: Vec<_> = rows(section(&spec, "3.7"))
        .iter()
        .filter_map(|row| row[0].strip_prefix('`')?.strip_suffix('`'))
        .map(|name| ErrorCode::from_wire(name.as_bytes()).as_str() == name)
        .collect();
    assert_eq!(names.len(), 12);
    names.retain(|known| !known);
    assert!(
        names.is_empty(),
        "a word of the table is unknown to the code"
    );
}

#[test]
fn the_ranks_are_those_of_the_code() {
    let spec = spec();
    let rows = rows(section(&spec, "3.10"));
    assert_eq!(rows.len(), 9);
    for row in rows {
        let mut types = (1..=8).filter_map(FrameType::from_u8);
        let typ = types.find(|typ| typ.to_string() == row[0]);
        let typ = typ.unwrap_or(FrameType::Custom(0x10));
        assert_eq!(typ.priority().to_string(), row[1], "{}", row[0]);
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// Section numbers after "spec ", also in lists: 2.1, 2.2 and 2.3, or 2.1 to 2.3.
fn citations(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in text.split("spec ").skip(1) {
        let mut rest = rest;
        loop {
            let len = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len());
            let number = rest[..len].trim_end_matches('.');
            if number.is_empty() {
                break;
            }
            found.push(number.to_owned());
            let next = [", ", " and ", " to "];
            match next.iter().find_map(|word| rest[len..].strip_prefix(word)) {
                Some(after) => rest = after,
                None => break,
            }
        }
    }
    found
}

#[test]
fn citations_are_found_in_lists() {
    assert_eq!(
        citations("(spec 2.1, 2.4) spec 3.10. The spec says"),
        ["2.1", "2.4", "3.10"]
    );
    assert_eq!(citations("spec 2.1 to 2.3 and spec 9"), ["2.1", "2.3", "9"]);
}

#[test]
fn every_section_that_the_code_cites_exists() {
    let spec = spec();
    let headings = spec.lines().filter(|line| line.starts_with("##"));
    let numbers = headings.filter_map(|line| line.split_whitespace().nth(1));
    let sections: Vec<_> = numbers.map(|n| n.trim_end_matches('.')).collect();
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches", "examples"] {
        sources(&root().join(dir), &mut files);
    }
    let mut count = 0;
    for file in files.iter().filter(|file| !file.ends_with("tests/spec.rs")) {
        let text = fs::read_to_string(file).expect("a source file is UTF-8");
        for number in citations(&text) {
            assert!(
                sections.contains(&&*number),
                "{}: spec {number}",
                file.display()
            );
            count += 1;
        }
    }
    assert!(count >= 15, "only {count} citations were found");
}
