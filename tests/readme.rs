//! README.md, CONTRIBUTING.md and docs/*.md: their links lead to files, and the README names
//! two commands and no others. What the commands do is tested elsewhere; the Rust code of the README
//! runs with the tests of the documentation (see the end of `src/lib.rs`).

use std::fs;
use std::path::{Path, PathBuf};

const COMMANDS: [&str; 2] = ["cargo run --release --example quickstart", "cargo test"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a Markdown text with their numbers, and whether each stands in a code block.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let mut in_code = false;
    text.lines().enumerate().map(move |(i, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (i + 1, line, in_code && !is_fence)
    })
}

/// The targets of `[text](target)` and `[name]: target`, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for (number, line, _) in lines(text).filter(|(_, _, in_code)| !in_code) {
        // Code in the text, `like [this](one)`, is every other piece.
        let prose: Vec<_> = line.split('`').step_by(2).collect();
        let prose = prose.join("`");
        for after in prose.split("](").skip(1) {
            let target = after.split(')').next().unwrap_or_default();
            out.push((number, target.to_owned()));
        }
        let definition = prose.strip_prefix('[').and_then(|l| l.split_once("]: "));
        out.extend(definition.map(|(_, target)| (number, target.trim().to_owned())));
    }
    out
}

/// The links of a file that lead to no file beside it, as `line: target`.
fn broken(text: &str, folder: &Path) -> Vec<String> {
    let is_remote = |target: &str| {
        ["https://", "http://", "mailto:", "#"]
            .iter()
            .any(|scheme| target.starts_with(scheme))
    };
    let leads_nowhere = |target: &str| {
        let file = target.split('#').next().unwrap_or_default();
        Path::new(file).is_absolute() || !folder.join(file).exists()
    };
    links(text)
        .into_iter()
        .filter(|(_, target)| !is_remote(target) && leads_nowhere(target))
        .map(|(number, target)| format!("{number}: {target}"))
        .collect()
}

/// The cargo commands in the code blocks of a text, sorted, without their comments.
fn commands(text: &str) -> Vec<&str> {
    let mut out: Vec<_> = lines(text)
        .filter(|(_, _, in_code)| *in_code)
        .map(|(_, line, _)| line.trim().trim_start_matches("$ "))
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| line.starts_with("cargo "))
        .collect();
    out.sort_unstable();
    out
}

fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).expect("docs/ is part of the repository");
    let docs = docs.map(|entry| entry.expect("the entry is readable").path());
    ["README.md", "CONTRIBUTING.md"]
        .map(|name| root().join(name))
        .into_iter()
        .chain(docs.filter(|path| path.extension().is_some_and(|e| e == "md")))
        .collect()
}

#[test]
fn links_lead_to_files() {
    let documents = documents();
    assert!(documents.len() > 2, "docs/ has no document");
    for path in documents {
        let folder = path.parent().expect("a file is in a folder");
        let broken = broken(&read(&path), folder);
        assert!(
            broken.is_empty(),
            "{}: links to nothing: {broken:#?}",
            path.display()
        );
    }
}

#[test]
fn the_readme_names_exactly_the_two_commands() {
    assert_eq!(commands(&read(&root().join("README.md"))), COMMANDS);
}

#[test]
fn other_and_repeated_commands_are_found() {
    let text = "`cargo test`\n```sh\n$ cargo test # all\n cargo bench\n```\ncargo doc\n\
        ```console\ncargo test\n```";
    assert_eq!(commands(text), ["cargo bench", "cargo test", "cargo test"]);
}

#[test]
fn a_broken_link_is_found() {
    let folder = root().join("docs");
    let text = "[a](spec.md) [b](../Cargo.toml#x)\n[c](https://example.com) [d](#here)\n\
        [e](nothing.md) and ![f](../no/picture.png)\n[g]: gone.md#x\n[h](/etc/hosts)";
    let expected = [
        "3: nothing.md",
        "3: ../no/picture.png",
        "4: gone.md#x",
        "5: /etc/hosts",
    ];
    assert_eq!(broken(text, &folder), expected);
}

#[test]
fn code_holds_no_links() {
    let text = "`a[0](b)` [c](spec.md)\n```rust\n[x](y)\n```\n[z](gone.md)";
    assert_eq!(broken(text, &root().join("docs")), ["5: gone.md"]);
}
