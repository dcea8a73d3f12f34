//! The order of the modules, as a test: what may import what, and what may be named where.
//!
//! Reads `src` as text, without comments, string literals and test code. It is not a compiler: names
//! that come out of macros and glob imports are not followed, and clippy (`clippy.toml`) catches the
//! forbidden calls that hide behind another name. CONTRIBUTING.md explains the rules to people. The
//! tests after the first one show on made-up files that each rule can fail.

#[path = "layering/rules.rs"]
mod rules;
#[path = "layering/source.rs"]
mod source;
#[path = "layering/tree.rs"]
mod tree;

use rules::{MAX_LINES, findings};
use std::fs;
use std::path::Path;
use tree::Tree;

#[test]
fn the_sources_keep_the_rules() {
    let mut sources = Vec::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    collect(&src, "src", &mut sources);
    sources.sort();
    let imports = Tree::new(&sources).imports().len();
    assert!(imports > sources.len(), "only {imports} imports were found");
    let findings = findings(&sources);
    let list = findings.join("\n");
    assert!(list.is_empty(), "{} findings:\n{list}\n", findings.len());
}

fn collect(folder: &Path, name: &str, out: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        let base = path.file_name().expect("an entry has a name");
        let name = format!("{name}/{}", base.to_string_lossy());
        if path.is_dir() {
            collect(&path, &name, out);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            out.push((name, text));
        }
    }
}

/// The findings in made-up files. Each line is `module: code` and goes to `src/module.rs`, whose first
/// line is a `//!`: the code of a file begins on line 2.
fn found(lines: &str) -> Vec<String> {
    let mut sources: Vec<(String, String)> = Vec::new();
    for line in lines.lines() {
        let (module, code) = line.split_once(": ").expect("`module: code`");
        let file = format!("src/{module}.rs");
        if sources.iter().all(|(name, _)| *name != file) {
            sources.push((file.clone(), "//! Docs.\n".to_owned()));
        }
        let is_file = |source: &&mut (String, String)| source.0 == file;
        let (_, text) = sources.iter_mut().find(is_file).expect("it is there now");
        *text += &format!("{code}\n");
    }
    findings(&sources)
}

/// Exactly one finding, and it says where and why.
#[track_caller]
fn one(lines: &str, place: &str, reason: &str) {
    let found = found(lines);
    assert_eq!(found.len(), 1, "{found:#?}");
    let says = found[0].starts_with(place) && found[0].contains(reason);
    assert!(says, "{found:#?}");
}

#[track_caller]
fn none(lines: &str) {
    let found = found(lines);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_import_upwards_is_found() {
    let up = |from: &str, code: &str, to: &str, layer: &str| {
        let lines = format!("{from}: {code}\n{to}: pub struct B;");
        one(&lines, &format!("src/{from}.rs:2:"), layer);
    };
    up("wire/a", "use crate::net::b::B;", "net/b", "(layer 5)");
    up("wire/a", "use super::super::net::b;", "net/b", "(layer 5)");
    up(
        "wire/a",
        "use crate::{net::{b::{self}}};",
        "net/b",
        "(layer 5)",
    );
    up(
        "wire/a",
        "fn f() { crate::net::b::f() }",
        "net/b",
        "(layer 5)",
    );
    up("wire/a", "use crate::proto::b::B;", "proto/b", "(layer 1)");
    up("proto/a", "use crate::error::B;", "error", "(layer 2)");
    up("error", "use crate::net::b::B;", "net/b", "(layer 5)");
    up("metrics/a", "use crate::ext::b::B;", "ext/b", "(layer 4)");
    up("ext/a", "use crate::net::b::B;", "net/b", "(layer 5)");
    up(
        "error",
        "use crate::metrics::B;",
        "metrics/mod",
        "(layer 3)",
    );
    up("metrics/a", "use crate::net::b::B;", "net/b", "(layer 5)");
    up(
        "net/a",
        "pub use crate::serve::b::B;",
        "serve/b",
        "(layer 6)",
    );
    up("serve/a", "use crate::easy::B;", "easy/mod", "(layer 7)");
    let group = "wire/a: use crate::{\nwire/a: wire::b,\nwire/a: net::c,\nwire/a: };";
    one(
        &format!("{group}\nwire/b: \nnet/c: "),
        "src/wire/a.rs:4:",
        "",
    );
}

#[test]
fn an_import_downwards_or_beside_is_not_found() {
    none("easy/a: use crate::{net::b, wire::c};\nnet/b: \nwire/c: ");
    none("codec: use crate::error::E;\nerror: ");
    none("net/a: pub(in crate::easy) struct A;\neasy/mod: ");
}

#[test]
fn comments_and_literals_are_not_looked_at() {
    none("wire/a: /* crate::net\nwire/a: /* nested */ Mutex */ // TcpStream");
    none(r#"wire/a: const A: &str = "crate::net \" Mutex";"#);
    none(r##"wire/a: const B: &str = r#"a " UdpSocket"#;"##);
    let lock = |before: &str| {
        one(
            &format!("wire/a: {before} Mutex"),
            "src/wire/a.rs:2:",
            "Mutex",
        )
    };
    lock("/* a /* b */ */");
    lock(r#"const A: &str = "\\";"#);
    lock(r##"const A: &[u8] = br#"""#;"##);
    lock(r#"const A: [char; 4] = ['"', '\'', '\\', '\u{22}'];"#);
    lock("fn f<'a>(r#type: &'a str) -> &'a str {}");
    let multiline = "wire/a: const A: &str = \"\nwire/a: \";\nwire/a: Mutex";
    one(multiline, "src/wire/a.rs:4:", "Mutex");
}

#[test]
fn test_code_is_not_looked_at() {
    none("wire/a: #[cfg(test)] use std::sync::{Mutex, RwLock};");
    none("wire/a: struct S { #[cfg(test)] lock: Mutex<u8>, b: u8 }");
    none("wire/a: #[cfg(test)]\nwire/a: #[derive(Debug)] pub(crate) struct T(TcpStream);");
    none("wire/a: #[cfg(all(test, unix))]\nwire/a: mod tests { fn f<A, B>(_: [u8; 2]) { Mutex } }");
    none("wire/tests: use std::sync::Mutex;\nwire/tests/a: use std::net::TcpStream;");
    let after =
        "wire/a: #[cfg(test)]\nwire/a: mod tests { fn f() {} }\nwire/a: struct S(Mutex<u8>);";
    one(after, "src/wire/a.rs:4:", "`Mutex`");
    let field = "wire/a: struct S { #[cfg(test)] a: u8, lock: Mutex<u8> }";
    one(field, "src/wire/a.rs:2:", "`Mutex`");
    one(
        "wire/a: #[cfg(not(test))] struct S(Mutex<u8>);",
        "src/wire/a.rs:2:",
        "`Mutex`",
    );
}

#[test]
fn an_import_cycle_is_found() {
    let two = "net/a: use super::b::B;\nnet/b: use crate::net::a;";
    one(
        two,
        "src/net/a.rs:2 -> src/net/b.rs",
        "b.rs:2 -> src/net/a.rs",
    );
    let three = "net/a: use super::b::B;\nnet/b: use super::c::C;\nnet/c: fn f() { super::a::g() }";
    one(
        three,
        "src/net/a.rs:2 -> src/net/b.rs",
        "c.rs:2 -> src/net/a.rs",
    );
    none("net/a: use super::b::B;\nnet/b: use super::c::C;\nnet/c: ");
}

#[test]
fn a_re_export_is_followed_and_is_no_use_itself() {
    let parent =
        "net/mod: mod a; mod b; pub use a::A; pub(crate) use b::{B as C}; pub const D: u8 = 0;";
    let tree = |a: &str, b: &str| format!("{parent}\nnet/a: {a}\nnet/b: {b}");
    none(&tree("use super::{C, D};", "use super::D;"));
    one(
        &tree("use super::C;", "use crate::net::A;"),
        "src/net/a.rs:2 -> src/net/b.rs",
        "cycle",
    );
    let alias = "use crate::net; fn f(_: net::A) {}";
    let found = found(&tree("use super::C;", alias));
    assert!(
        found.iter().any(|f| f.contains("b.rs:2 -> src/net/a.rs")),
        "{found:#?}"
    );
}

#[test]
fn a_parent_that_uses_its_child_is_an_edge() {
    for code in ["use a::A;", "use self::a::A;", "fn f() { a::g() }"] {
        let lines = format!("net/mod: mod a;\nnet/mod: {code}\nnet/a: use super::Shared;");
        one(&lines, "src/net/", "src/net/mod.rs:3 -> src/net/a.rs");
    }
    // Inside an inline module, `super` is the file itself.
    none("net/a: mod inner { use super::X; } struct X;\nnet/mod: mod a; use a::X;");
}

#[test]
fn a_name_of_the_root_is_found() {
    let root = "lib: pub mod wire; pub use wire::a::{Frame, encode}; pub type Id = u128;\nwire/a: ";
    for code in [
        "use crate::Frame;",
        "use super::Frame;",
        "use crate::{Id};",
        "use crate::*;",
    ] {
        one(
            &format!("{root}\nerror: {code}"),
            "src/error.rs:2:",
            "is a name of the root",
        );
    }
    let inline = "error: fn f() { crate::encode() }";
    one(
        &format!("{root}\n{inline}"),
        "src/error.rs:2:",
        "`crate::encode`",
    );
    none(&format!("{root}\nerror: use crate::wire::a::Frame;"));
    none(&format!(
        "{root}\nbin/vstp/main: mod a; use crate::A;\nbin/vstp/a: use crate::Args;"
    ));
}

#[test]
fn input_output_and_waiting_below_net_are_found() {
    for module in ["wire/a", "proto/a", "error", "codec"] {
        let place = format!("src/{module}.rs:2:");
        for code in [
            "use std::net::TcpStream;",
            "use std::{fmt, net::{TcpListener}};",
            "fn f(_: &std::net::UdpSocket) {}",
            "use std::sync::{Arc, Mutex};",
            "use std::sync::atomic::AtomicU64;",
            "static A: OnceLock<u8> = OnceLock;",
            "use std::thread;",
            "use std::{fmt, thread::Builder};",
            "fn f() { log::debug!(); }",
            "use log::warn;",
        ] {
            one(&format!("{module}: {code}"), &place, "below net");
        }
        let now = "fn f() { Instant::now(); }";
        one(&format!("{module}: {now}"), &place, "as an argument");
        let allowed = "use std::net::SocketAddr; use std::time::Instant; use std::sync::Arc;";
        none(&format!("{module}: {allowed}"));
    }
    none("net/a: use std::{sync::Mutex, net::TcpStream, thread}; use log::warn;");
    none("metrics/a: use std::sync::atomic::AtomicU64;");
    let lock = "metrics/a: use std::sync::Mutex;";
    one(lock, "src/metrics/a.rs:2:", "below net");
}

#[test]
fn names_of_one_place_are_found_elsewhere() {
    let outside = |code: &str, reason: &str| {
        for module in ["net/a", "serve/a", "easy/a"] {
            one(
                &format!("{module}: {code}"),
                &format!("src/{module}.rs:2:"),
                reason,
            );
        }
    };
    outside("fn f() { std::time::Instant::now(); }", "`net::clock::now`");
    outside("fn f(_: SystemTime) {}", "wall clock");
    outside("use rustls::Stream;", "src/net/tls");
    outside("fn f() { unbounded(); }", "`bounded`");
    outside(
        "fn f() { crossbeam_channel::unbounded::<u8>(); }",
        "`bounded`",
    );
    outside("fn f() { env_logger::init(); }", "`env_logger`");
    none("net/clock: fn f() { Instant::now(); }");
    none("bin/vstp/main: fn f() { env_logger::init(); }");
    none("net/tls/a: use rustls::Stream; use std::time::SystemTime;");
}

#[test]
fn pem_parsing_in_a_second_place_is_found() {
    let body = "{ rustls_pemfile::certs(); rustls_pemfile::read_one(); }";
    none(&format!("net/tls/pem: fn items() {body}"));
    one(
        "net/tls/pem: use rustls_pemfile::certs;",
        "src/net/tls/pem.rs:2:",
        "one function",
    );
    let functions = format!("net/tls/pem: fn a() {body}\nnet/tls/pem: fn b() {body}");
    assert_eq!(found(&functions).len(), 2);
    let files = format!("net/tls/pem: fn a() {body}\nnet/tls/b: fn a() {body}");
    assert_eq!(found(&files).len(), 2);
}

#[test]
fn the_shape_of_a_file_is_checked() {
    let lines = |count: usize| "net/a: \n".repeat(count - 1);
    one(&lines(MAX_LINES + 1), "src/net/a.rs:600:", "601 lines");
    none(&lines(MAX_LINES));
    let tests = format!(
        "net/a: #[cfg(test)]\nnet/a: mod tests {{\n{}net/a: }}",
        lines(700)
    );
    none(&tests);
    one("stuff/a: ", "src/stuff/a.rs:1:", "LAYERS");
    for file in ["src/net/a.rs", "src/net/tests.rs"] {
        let found = findings(&[(file.to_owned(), "struct S;\n".to_owned())]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(file) && found[0].contains("`//!`"));
    }
}
