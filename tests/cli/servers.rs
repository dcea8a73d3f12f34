//! `vstp server`: programs, signals, certificates that change, the end.

use crate::util::{Folder, LONG, Running, Server, command, vstp, vstp_with};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use vstp::net::clock;

#[test]
fn a_program_answers() {
    for how in ["--dev", "--plaintext", "--udp"] {
        let server = Server::start(&[how, "--exec", "tr a-z A-Z; echo $VSTP_PEER_ADDR"]);
        let text = vstp(&["call", &server.url, "--plaintext", "-d", "hello "])
            .ok()
            .text();
        assert!(text.starts_with("HELLO 127.0.0.1:"), "{text}");
    }
    // It need not read its input, and its output can be binary and larger than a pipe.
    let server = Server::start(&["--dev", "--exec", "head -c 1000000 /dev/zero"]);
    let input = vec![b'x'; 2_000_000];
    let out = vstp_with(&["call", &server.url, "--raw"], &input).ok().out;
    assert!(out.len() == 1_000_000 && out.iter().all(|byte| *byte == 0));
}

#[cfg(unix)]
#[test]
fn a_program_that_takes_too_long_is_killed_with_its_children() {
    let folder = Folder::new();
    let pid = folder.path("pid");
    // The grandchild keeps the pipe open.
    let program = format!("sh -c 'echo $$ > {pid}; exec cat /dev/zero > /dev/null' & wait");
    let server = Server::start(&["--dev", "--exec", &program, "--exec-timeout", "300ms"]);
    vstp(&["call", &server.url, "-d", "x"]).failed(74, &["longer than 300ms"]);
    let pid: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let gone = || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    // It was sent the signal; when it dies of it is the system's business.
    let until = clock::now() + LONG;
    while std::path::Path::new("/proc/self").exists() && !gone() {
        assert!(clock::now() < until, "it still runs");
        std::thread::yield_now();
    }
    let server = Server::start(&[
        "--dev",
        "--exec",
        "cat /dev/zero",
        "--max-frame-size",
        "64KiB",
    ]);
    vstp(&["call", &server.url, "-d", "x"]).failed(66, &["too-large"]);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_server_in_order() {
    use rustix::process::Signal;
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::start(&["--dev"]);
        let mut listener = Running::start(command(&["listen", &server.url]));
        listener.error_line("connected to");
        server.running.signal(signal);
        let Server { running, .. } = server;
        assert!(running.end().ok().err.contains("stopping"));
        // The client was told goodbye.
        listener.end().ok();
    }
}

#[cfg(unix)]
#[test]
fn the_second_signal_ends_a_server_at_once() {
    use rustix::process::Signal;
    let server = Server::start(&[
        "--dev",
        "--exec",
        "cat; read x < /dev/tty; tail -f /dev/null",
        "--grace",
        "1h",
    ]);
    let call = Running::start(command(&["call", &server.url, "-d", "x"]));
    let Server { mut running, url } = server;
    // The program runs once another client is answered by a second worker.
    vstp(&["ping", &url, "-n", "2", "-i", "100ms"]).ok();
    running.signal(Signal::INT);
    running.error_line("stopping");
    running.signal(Signal::INT);
    assert_eq!(running.end().code, 130);
    drop(call);
}

#[cfg(unix)]
#[test]
fn sighup_reads_the_certificate_again() {
    use rustix::process::Signal;
    let folder = Folder::new();
    let path = |name: &str| folder.path(name);
    for ca in ["old", "new"] {
        vstp(&["cert", "ca", "--out", &path(ca)]).ok();
        let leaf = path(&format!("{ca}-leaf"));
        vstp(&[
            "cert",
            "leaf",
            "localhost",
            "127.0.0.1",
            "--ca",
            &path(ca),
            "--out",
            &leaf,
        ])
        .ok();
    }
    let install = |from: &str| {
        for end in ["pem", "key"] {
            fs::copy(
                path(&format!("{from}-leaf.{end}")),
                path(&format!("server.{end}")),
            )
            .unwrap();
        }
    };
    let (cert, key) = (path("server.pem"), path("server.key"));
    for more in [&[][..], &["--auto"]] {
        install("old");
        let mut server = Server::start(&[&["--cert", &cert, "--key", &key], more].concat());
        let url = server.url.clone();
        let call = |ca: &str| {
            let ca = path(&format!("{ca}.pem"));
            vstp(&["call", &url, "-d", "x", "--cacert", &ca])
        };
        call("old").ok();
        install("new");
        server.running.signal(Signal::HUP);
        server.running.error_line("read again");
        call("new").ok();
        call("old").failed(5, &["unknown issuer"]);
        folder.file("server.pem", "broken");
        server.running.signal(Signal::HUP);
        server.running.error_line("the old certificate stays");
        call("new").ok();
    }
}

#[cfg(unix)]
#[test]
fn a_request_that_runs_is_answered_after_the_signal() {
    use rustix::process::Signal;
    let folder = Folder::new();
    let (runs, go) = (folder.path("runs"), folder.path("go"));
    let program =
        format!("echo > {runs}; while [ -e {runs} -a ! -e {go} ]; do read x < {runs}; done; cat");
    for how in [&["--dev"][..], &["--udp"], &["--auto", "--dev"]] {
        let _ = (fs::remove_file(&go), fs::remove_file(&runs));
        let flags = ["--exec", &program, "--grace", "60s"];
        let mut server = Server::start(&[how, &flags].concat());
        let call = Running::start(command(&["call", &server.url, "-d", "x"]));
        let until = clock::now() + LONG;
        while !folder.0.join("runs").exists() {
            assert!(clock::now() < until, "the program was not started");
            std::thread::yield_now();
        }
        server.running.signal(Signal::TERM);
        server.running.error_line("stopping");
        folder.file("go", "");
        assert_eq!(call.end().ok().text(), "x\n", "{how:?}");
        assert!(!server.running.end().ok().err.contains("cut off"));
    }
}

#[test]
fn once_ends_with_the_first_client() {
    for how in ["--dev", "--plaintext", "--udp"] {
        let server = Server::start(&[how, "--once"]);
        vstp(&["call", &server.url, "--plaintext", "-d", "x"]).ok();
        let Server { running, .. } = server;
        running.end().ok();
    }
}

#[test]
fn a_server_reports_in_json() {
    let mut running = Running::start(command(&[
        "server",
        "127.0.0.1:0",
        "--dev",
        "--json",
        "--once",
    ]));
    let line: serde_json::Value = serde_json::from_str(&running.line()).unwrap();
    let url = line["url"].as_str().unwrap();
    assert_eq!(
        (&line["event"], &line["serves"]),
        (&json!("listening"), &json!("echo"))
    );
    vstp(&["ping", url, "-n", "1"]).ok();
    let events = running.end().ok().json();
    assert_eq!(events[1]["event"], "stopped");
}

#[test]
fn metrics_are_there_for_prometheus() {
    for how in [&["--dev"][..], &["--udp"], &["--auto", "--dev"]] {
        let mut server = Server::start(&[how, &["--metrics", "127.0.0.1:0"]].concat());
        let line = server.running.error_line("metrics at http://");
        let address = line
            .split("http://")
            .nth(1)
            .unwrap()
            .strip_suffix("/metrics")
            .unwrap()
            .to_owned();
        vstp(&["call", &server.url, "-d", "x"]).ok();
        let mut http = TcpStream::connect(&address).unwrap();
        http.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        http.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let counted = answer.lines().any(|line| {
            line.starts_with("vstp_frames_total{")
                && line.contains("\"data\"")
                && !line.ends_with(" 0")
        });
        assert!(counted, "{answer}");
        vstp(&[&["server", "127.0.0.1:0", "--metrics", &address], how].concat())
            .failed(3, &["metrics", "another program"]);
    }
}

#[test]
fn messages_are_compressed_when_both_sides_ask_for_it() {
    let text = "the same again ".repeat(5_000);
    for how in ["--dev", "--plaintext", "--udp"] {
        for (ours, theirs) in [(true, true), (true, false), (false, true)] {
            let server =
                Server::start(&[&[how][..], if theirs { &["--compress"] } else { &[] }].concat());
            let flags: &[&str] = if ours {
                &["--plaintext", "--compress"]
            } else {
                &["--plaintext"]
            };
            let call = [&["call", &server.url, "--raw", "-d", &text], flags].concat();
            assert_eq!(vstp(&call).ok().text(), text);
            let ping = [&["ping", &server.url, "-n", "1", "--json"], flags].concat();
            let features = &vstp(&ping).ok().json()[0]["features"];
            let expected = if ours && theirs && how != "--udp" {
                json!(["gzip"])
            } else {
                json!([])
            };
            assert_eq!(features, &expected, "{how} {ours} {theirs}");
        }
    }
}

#[test]
fn tokens_say_who_a_client_is() {
    let folder = Folder::new();
    let known = folder.file(
        "known",
        "# who may come\nann s3cret-of-ann\n\nbob s3cret-of-bob\n",
    );
    let bob = folder.file("bob", "s3cret-of-bob\n");
    let wrong = folder.file("wrong", "guess");
    let program = "printf %s \"$VSTP_IDENTITY\"";
    for how in [
        &["--dev"][..],
        &["--dev", "--token-bound"],
        &["--plaintext"],
        &["--udp"],
    ] {
        let server = Server::start(&[how, &["--token-file", &known, "--exec", program]].concat());
        let bound: &[&str] = if how.len() == 2 {
            &["--token-bound"]
        } else {
            &[]
        };
        let call = |file: &str| {
            let args = [
                "-q",
                "call",
                &server.url,
                "--plaintext",
                "-d",
                "x",
                "--token-file",
                file,
            ];
            vstp(&[&args[..], bound].concat())
        };
        let ended = call(&bob).ok();
        assert_eq!(ended.text(), "bob\n");
        assert_eq!(
            ended.err.contains("plaintext"),
            how[0] != "--dev",
            "{ended:?}"
        );
        let refused = call(&wrong);
        assert_eq!(refused.code, 69, "{refused:?}");
        assert!(
            refused.err.contains("unauthorized") && refused.err.contains("token"),
            "{refused:?}"
        );
        let nobody = vstp(&["call", &server.url, "--plaintext", "-d", "x"]);
        assert_eq!(nobody.code, 69, "{nobody:?}");
        let mut command = command(
            &[
                &["-q", "call", &server.url, "--plaintext", "-d", "x"],
                bound,
            ]
            .concat(),
        );
        command.env("VSTP_TOKEN", "s3cret-of-ann");
        assert_eq!(Running::start(command).end().ok().text(), "ann\n");
    }
    let empty = folder.file("empty", "# nothing\n");
    vstp(&["server", "127.0.0.1:0", "--dev", "--token-file", &empty])
        .failed(8, &["no token", "NAME TOKEN"]);
    vstp(&[
        "server",
        "127.0.0.1:0",
        "--plaintext",
        "--token-file",
        &known,
        "--token-bound",
    ])
    .failed(2, &["TLS"]);
    let gone = "/no/such/file";
    vstp(&[
        "-q",
        "call",
        "vstp+udp://127.0.0.1:1",
        "-d",
        "x",
        "--token-file",
        gone,
    ])
    .failed(8, &[gone]);
}

#[test]
fn a_client_that_sends_too_fast_is_slowed_down() {
    let server = Server::start(&["--dev", "--rate-messages", "20"]);
    let began = clock::now();
    vstp(&["call", &server.url, "-d", "x", "--repeat", "60"]).ok();
    // 40 at once and 20 a second after that; a busy machine is slower, never faster.
    let took = clock::now() - began;
    assert!(took.as_millis() >= 800, "{took:?}");
}

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start(&["--dev"]);
    vstp(&["server", server.address(), "--dev"])
        .failed(3, &["cannot listen on", "another program"]);
    let udp = Server::start(&["--udp"]);
    vstp(&["server", udp.address(), "--udp"]).failed(3, &["cannot listen on", "another program"]);
}

#[test]
fn limits_hold() {
    // One is served, another waits, or is turned away.
    for (limit, codes, wait) in [
        ("--max-connections", &[4][..], "500ms"),
        ("--max-per-address", &[3, 5], "20s"),
    ] {
        let server = Server::start(&["--dev", limit, "1"]);
        let mut listener = Running::start(command(&["listen", &server.url]));
        listener.error_line("connected to");
        let ended = vstp(&["call", &server.url, "-d", "x", "--connect-timeout", wait]);
        assert!(codes.contains(&ended.code), "{limit}: {ended:?}");
    }
    let server = Server::start(&["--dev", "--max-frame-size", "2KiB"]);
    let big = "x".repeat(4000);
    let ended = vstp(&["call", &server.url, "-d", &big]);
    ended.failed(2, &["over the limit"]);
}
