//! `vstp file`: whole or not at all, over each transport, killed and resumed.

use crate::relay::{Link, Relay};
use crate::util::{Folder, Running, Server, command, is_full, long, noise, sha256, vstp};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vstp::net::clock;

const TRANSPORTS: [&str; 3] = ["--dev", "--plaintext", "--udp"];

/// Tens of MiB; with VSTP_FULL=1 a GiB, and 100 MiB over UDP.
fn large(folder: &Folder, how: &str) -> String {
    let count = match (is_full(), how) {
        (false, _) => 32,
        (true, "--udp") => 100,
        (true, _) => 1024,
    };
    of_mebibytes(folder, count)
}

fn of_mebibytes(folder: &Folder, count: usize) -> String {
    let path = folder.path("large");
    let piece = noise(1 << 20, 7);
    let mut file = fs::File::create(&path).unwrap();
    for _ in 0..count {
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
    let until = clock::now() + long();
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
        let file = large(&here, how);
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
        let file = large(&there, how);
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
fn over_a_network_that_loses_datagrams_a_killed_transfer_goes_on() {
    let (here, there) = (Folder::new(), Folder::new());
    let file = of_mebibytes(&here, if is_full() { 100 } else { 12 });
    let len = fs::metadata(&file).unwrap().len();
    let flags = ["--udp", "--dir", &there.path("")];
    let mut server = Server::start(&flags);
    let address = server.address().to_owned();
    let network = Link {
        loss: 20,
        duplicate: 10,
        flip: 5,
        delay: Duration::from_millis(2),
    };
    let relay = Relay::new(address.parse().unwrap(), network, 3);
    let url = format!("vstp+udp://{}", relay.addr);

    let send = ["file", "send", &file, &url, "--json"];
    kill_in_the_middle(&there, "large", len, &send);
    server.running.kill();
    let left = part_len(&there);
    assert!(0 < left && left < len, "{left} of {len}");
    assert_eq!(there.names().len(), 1, "no half file under the final name");
    let _server = Server::start_at(&address, &flags);
    let sent = vstp(&send).ok().json();
    assert_eq!(sent[0]["sent"], len - left, "the rest, and no more");
    assert_eq!(sha256(&there.0.join("large")), sha256(Path::new(&file)));
    assert_eq!(there.names(), ["large"]);

    let back = Folder::new();
    let target = back.path("copy");
    let recv = ["file", "recv", "large", &url, "-o", &target, "--json"];
    kill_in_the_middle(&back, "copy", len, &recv);
    let left = part_len(&back);
    assert!(0 < left && left < len, "{left} of {len}");
    assert_eq!(back.names().len(), 1, "no half file under the final name");
    assert_eq!(vstp(&recv).ok().json()[0]["received"], len - left);
    assert_eq!(sha256(Path::new(&target)), sha256(Path::new(&file)));
    assert_eq!(back.names(), ["copy"]);
    assert!(relay.lost.load(Ordering::Relaxed) > 100);
}

#[test]
fn the_upload_of_a_dead_client_is_taken_over() {
    let (here, there) = (Folder::new(), Folder::new());
    let file = large(&here, "--dev");
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
    let file = large(&here, "--dev");
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
