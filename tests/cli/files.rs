//! `vstp file`: whole or not at all, over each transport, killed and resumed.

use crate::util::{Folder, LONG, Running, Server, command, noise, sha256, vstp};
use std::fs;
use std::io::Write;
use std::path::Path;
use vstp::net::clock;

const TRANSPORTS: [&str; 3] = ["--dev", "--plaintext", "--udp"];

fn is_full() -> bool {
    std::env::var_os("VSTP_FULL").is_some()
}

/// Tens of MB; a GiB with VSTP_FULL=1.
fn large(folder: &Folder) -> String {
    let path = folder.path("large");
    let piece = noise(1 << 20, 7);
    let mut file = fs::File::create(&path).unwrap();
    for _ in 0..if is_full() { 1024 } else { 32 } {
        file.write_all(&piece).unwrap();
    }
    path
}

#[test]
fn files_of_all_sizes_go_there_and_back() {
    for how in TRANSPORTS {
        let (here, there, back) = (Folder::new(), Folder::new(), Folder::new());
        let server = Server::start(&[how, "--dir", &there.path("")]);
        for len in [0, 1, 262_143, 262_144, 262_145, 1_500_000] {
            let name = format!("f{len}");
            let file = here.file(&name, noise(len, len as u64));
            let sent = vstp(&["file", "send", &file, &server.url, "--plaintext", "--json"])
                .ok()
                .json();
            assert_eq!(sent[0]["sha256"], sha256(Path::new(&file)));
            assert_eq!(sent[0]["sent"], len);
            let target = back.path(&name);
            let args = [
                "file",
                "recv",
                &name,
                &server.url,
                "--plaintext",
                "-o",
                &target,
                "--json",
            ];
            assert_eq!(vstp(&args).ok().json()[0]["received"], len);
            assert!(
                fs::read(&target).unwrap() == fs::read(&file).unwrap(),
                "{name}"
            );
            // Once more costs nothing.
            let again = vstp(&["file", "send", &file, &server.url, "--plaintext", "--json"])
                .ok()
                .json();
            assert_eq!(again[0]["sent"], 0);
            assert_eq!(vstp(&args).ok().json()[0]["received"], 0);
        }
        assert_eq!(
            there.names().len(),
            6,
            "no parts are left: {:?}",
            there.names()
        );
        assert_eq!(
            back.names().len(),
            6,
            "no parts are left: {:?}",
            back.names()
        );
    }
}

/// The bytes of the part in the folder.
fn part_len(folder: &Folder) -> u64 {
    let names = folder.names();
    let part = names.iter().find(|name| name.ends_with(".part"));
    part.map_or(0, |name| {
        fs::metadata(folder.path(name)).map_or(0, |m| m.len())
    })
}

/// Runs a transfer into this folder and kills it in the middle. A machine may be so busy that the transfer is over
/// before we look again; then it is done once more.
fn kill_in_the_middle(folder: &Folder, name: &str, len: u64, args: &[&str]) {
    let until = clock::now() + LONG;
    let is_complete = || folder.0.join(name).exists();
    while clock::now() < until {
        let mut client = Running::start(command(args));
        while part_len(folder) < len / 8 && !is_complete() {
            assert!(clock::now() < until, "no progress: {:?}", folder.names());
            std::thread::yield_now();
        }
        client.kill();
        if !is_complete() {
            assert!(part_len(folder) > 0, "{:?}", folder.names());
            return;
        }
        fs::remove_file(folder.0.join(name)).unwrap();
    }
    panic!("it was always over before it was killed");
}

#[test]
fn a_killed_upload_goes_on_where_it_was() {
    for how in TRANSPORTS {
        let (here, there) = (Folder::new(), Folder::new());
        let file = large(&here);
        let len = fs::metadata(&file).unwrap().len();
        let mut server = Server::start(&[how, "--dir", &there.path("")]);
        let args = ["file", "send", &file, &server.url, "--plaintext"];
        kill_in_the_middle(&there, "large", len, &args);

        // The server is killed as well, and another one finds what was left.
        server.running.kill();
        let left = part_len(&there);
        assert!(0 < left && left < len, "{left} of {len}");
        assert_eq!(there.names().len(), 1, "no half file under the final name");
        let server = Server::start(&[how, "--dir", &there.path("")]);
        let args = ["file", "send", &file, &server.url, "--plaintext", "--json"];
        let sent = vstp(&args).ok().json();
        assert_eq!(sent[0]["sent"], len - left, "the rest, and no more");
        assert_eq!(sha256(&there.0.join("large")), sha256(Path::new(&file)));
        assert_eq!(there.names(), ["large"]);
    }
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    for how in TRANSPORTS {
        let (there, here) = (Folder::new(), Folder::new());
        let file = large(&there);
        let len = fs::metadata(&file).unwrap().len();
        let server = Server::start(&[how, "--dir", &there.path("")]);
        let target = here.path("copy");
        let args = [
            "file",
            "recv",
            "large",
            &server.url,
            "--plaintext",
            "-o",
            &target,
            "--json",
        ];
        kill_in_the_middle(&here, "copy", len, &args);
        let left = part_len(&here);
        assert!(left < len, "{left} of {len}");
        assert_eq!(vstp(&args).ok().json()[0]["received"], len - left);
        assert_eq!(sha256(Path::new(&target)), sha256(Path::new(&file)));
        assert_eq!(here.names(), ["copy"]);
    }
}

#[test]
fn the_upload_of_a_dead_client_is_taken_over() {
    let (here, there) = (Folder::new(), Folder::new());
    let file = large(&here);
    let len = fs::metadata(&file).unwrap().len();
    let server = Server::start(&["--dev", "--dir", &there.path("")]);
    kill_in_the_middle(&there, "large", len, &["file", "send", &file, &server.url]);
    let sent = vstp(&["file", "send", &file, &server.url, "--json"])
        .ok()
        .json();
    assert!(sent[0]["sent"].as_u64().unwrap() < len, "{sent:?}");
    assert_eq!(sha256(&there.0.join("large")), sha256(Path::new(&file)));
}

#[test]
fn a_part_that_was_damaged_is_found_out() {
    let (here, there) = (Folder::new(), Folder::new());
    let file = here.file("f", noise(600_000, 3));
    let part = format!(".f.{}.part", &sha256(Path::new(&file))[..16]);
    there.file(&part, noise(300_000, 4));
    let server = Server::start(&["--dev", "--dir", &there.path("")]);
    vstp(&["-q", "file", "send", &file, &server.url]).failed(72, &["hash", "send it again"]);
    assert!(there.names().is_empty(), "{:?}", there.names());
    vstp(&["file", "send", &file, &server.url]).ok();

    here.file(&part, noise(300_000, 4));
    let target = here.path("f");
    fs::remove_file(&target).unwrap();
    vstp(&["-q", "file", "recv", "f", &server.url, "-o", &target])
        .failed(7, &["SHA-256", "try again"]);
    assert!(here.names().is_empty(), "{:?}", here.names());
}

#[test]
fn what_is_there_is_kept_unless_told_otherwise() {
    let (here, there) = (Folder::new(), Folder::new());
    let file = here.file("f", "new");
    there.file("f", "old");
    let server = Server::start(&["--dev", "--dir", &there.path("")]);
    vstp(&["file", "send", &file, &server.url]).failed(72, &["there already"]);
    vstp(&["file", "recv", "f", &server.url, "-o", &file]).failed(8, &["--overwrite", "--output"]);
    assert_eq!(fs::read(there.path("f")).unwrap(), b"old");
    assert_eq!(fs::read(&file).unwrap(), b"new");
    vstp(&["file", "send", &file, &server.url, "--name", "g"]).ok();
    vstp(&["file", "recv", "f", &server.url, "-o", &file, "--overwrite"]).ok();
    assert_eq!(fs::read(&file).unwrap(), b"old");

    let willing = Server::start(&["--dev", "--dir", &there.path(""), "--overwrite"]);
    here.file("f", "newer");
    vstp(&["file", "send", &file, &willing.url]).ok();
    assert_eq!(fs::read(there.path("f")).unwrap(), b"newer");

    let read_only = Server::start(&["--dev", "--dir", &there.path(""), "--read-only"]);
    vstp(&["file", "send", &file, &read_only.url, "--name", "h"]).failed(72, &["--read-only"]);
    vstp(&["file", "recv", "f", &read_only.url, "-o", &here.path("i")]).ok();
}

#[test]
fn nothing_outside_the_folder_can_be_named() {
    let (here, outside) = (Folder::new(), Folder::new());
    outside.file("secret", "x");
    fs::create_dir(outside.0.join("dir")).unwrap();
    let server = Server::start(&["--dev", "--dir", &outside.path("dir")]);
    for name in ["../secret", "..", ".hidden", "a/b", "/etc/passwd", ""] {
        // The client refuses the name; that the server does as well is tested with a raw frame.
        vstp(&["file", "recv", name, &server.url]).failed(2, &["name"]);
        let file = here.file("f", "x");
        vstp(&["file", "send", &file, &server.url, "--name", name]).failed(2, &["name"]);
        if !name.is_empty() {
            let header = format!("file-name={name}");
            let raw = [
                "call",
                &server.url,
                "-d",
                "x",
                "-H",
                "file-op=read",
                "-H",
                &header,
                "-H",
                "file-piece=10",
            ];
            vstp(&raw).failed(72, &["bad-request"]);
        }
    }
    vstp(&["file", "recv", "nothing", &server.url]).failed(72, &["no such file"]);
    vstp(&["file", "send", &here.path(""), &server.url, "--name", "d"]).failed(8, &["not a file"]);
}

#[test]
fn pieces_that_are_handled_at_once_make_the_same_file() {
    let (here, there) = (Folder::new(), Folder::new());
    let file = large(&here);
    let server = Server::start(&["--dev", "--concurrency", "8", "--dir", &there.path("")]);
    vstp(&["file", "send", &file, &server.url]).ok();
    assert_eq!(sha256(&there.0.join("large")), sha256(Path::new(&file)));
    let back = here.path("back");
    vstp(&["file", "recv", "large", &server.url, "-o", &back]).ok();
    assert_eq!(sha256(Path::new(&back)), sha256(Path::new(&file)));
    vstp(&["server", "127.0.0.1:0", "--dev", "--concurrency", "0"]).failed(2, &["concurrency"]);
}

#[test]
fn another_kind_of_server_is_named() {
    let here = Folder::new();
    let file = here.file("f", "x");
    let server = Server::start(&["--dev"]);
    vstp(&["file", "send", &file, &server.url]).failed(6, &["vstp server --dir"]);
    vstp(&["file", "recv", "f", &server.url, "-o", &here.path("g")])
        .failed(6, &["vstp server --dir"]);
}

#[test]
fn two_uploads_of_one_name_do_not_mix() {
    let (here, there) = (Folder::new(), Folder::new());
    let server = Server::start(&["--dev", "--dir", &there.path("")]);
    let files: Vec<_> = (0..4)
        .map(|n| here.file(&format!("f{n}"), noise(3_000_000, n)))
        .collect();
    let clients: Vec<_> = files
        .iter()
        .map(|file| {
            Running::start(command(&[
                "file",
                "send",
                file,
                &server.url,
                "--name",
                "same",
            ]))
        })
        .collect();
    let codes: Vec<_> = clients
        .into_iter()
        .map(|client| client.end().code)
        .collect();
    let winners = codes.iter().filter(|code| **code == 0).count();
    assert_eq!(winners, 1, "{codes:?}");
    let got = sha256(&there.0.join("same"));
    let winner = codes.iter().position(|code| *code == 0).unwrap();
    assert_eq!(got, sha256(Path::new(&files[winner])));
}
