//! `--reconnect`: the server is killed and comes back, in between.

use crate::util::{Folder, Running, Server, command, vstp};
use std::fs;
use std::io::Write;

/// The same port again, as soon as the system gives it.
fn restart(address: &str, flags: &[&str]) -> Server {
    Server::start_at(address, flags)
}

#[test]
fn calls_go_on_with_the_next_server() {
    for how in ["--dev", "--plaintext"] {
        let mut server = Server::start(&[how]);
        let address = server.address().to_owned();
        let args = [
            "call",
            &server.url,
            "--plaintext",
            "-d",
            "x",
            "--repeat",
            "100000000",
            "--reconnect",
            "--idempotent",
            "--timeout",
            "80s",
        ];
        let mut client = Running::start(command(&args));
        for _ in 0..3 {
            assert_eq!(client.line(), "x");
        }
        server.running.kill();
        client.error_line("again in");
        let second = restart(&address, &[how, "--exec", "echo second"]);
        while client.line() != "second" {}
        client.kill();
        drop(second);
    }
}

#[test]
fn a_call_waits_for_a_server_that_is_not_there_yet() {
    let first = Server::start(&["--plaintext"]);
    let (address, url) = (first.address().to_owned(), first.url.clone());
    drop(first);
    let args = ["call", &url, "--plaintext", "-d", "x", "--reconnect"];
    let mut client = Running::start(command(&args));
    client.error_line("no connection");
    let server = restart(&address, &["--plaintext"]);
    assert_eq!(client.end().ok().text(), "x\n");
    drop(server);
    // Not for ever.
    let ended = vstp(&[&args[..], &["--timeout", "300ms", "-q"]].concat());
    ended.failed(4, &["within 300ms (--timeout)"]);
}

#[test]
fn a_call_ends_on_time_while_a_server_takes_long_to_answer_at_all() {
    // The system accepts; nobody says HELLO.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("vstp+tcp://{}", silent.local_addr().unwrap());
    let args = ["-q", "call", &url, "--plaintext", "-d", "x", "--reconnect"];
    let times = ["--timeout", "300ms", "--connect-timeout", "1h"];
    vstp(&[&args[..], &times].concat()).failed(4, &["within 300ms (--timeout)"]);
}

#[cfg(unix)]
#[test]
fn a_request_that_may_have_been_handled_is_not_sent_again_unless_that_is_allowed() {
    let folder = Folder::new();
    let (runs, go) = (folder.path("runs"), folder.path("go"));
    // Counts, and does not answer before the test says so.
    let program = format!(
        "echo run >> {runs}; while [ -e {runs} -a ! -e {go} ]; do read x < {runs}; done; echo done"
    );
    let count = || {
        fs::read_to_string(&runs)
            .unwrap_or_default()
            .lines()
            .count()
    };
    let wait_for = |wanted: usize| {
        let until = vstp::net::clock::now() + crate::util::LONG;
        while count() < wanted {
            assert!(vstp::net::clock::now() < until, "{} of {wanted}", count());
            std::thread::yield_now();
        }
    };
    for (idempotent, runs_in_all) in [(false, 1), (true, 3)] {
        let mut server = Server::start(&["--plaintext", "--exec", &program]);
        let address = server.address().to_owned();
        let args = [
            "-q",
            "call",
            &server.url,
            "--plaintext",
            "-d",
            "x",
            "--reconnect",
        ];
        let more: &[&str] = if idempotent { &["--idempotent"] } else { &[] };
        let client = Running::start(command(&[&args[..], more].concat()));
        wait_for(if idempotent { 2 } else { 1 });
        server.running.kill();
        let second = restart(&address, &["--plaintext", "--exec", &program]);
        if idempotent {
            wait_for(3);
            folder.file("go", "");
            assert_eq!(client.end().ok().text(), "done\n");
        } else {
            client.end().failed(3, &["no answer came"]);
        }
        assert_eq!(count(), runs_in_all);
        drop(second);
    }
}

#[test]
fn lines_arrive_at_the_next_listener() {
    for how in ["--dev", "--plaintext", "--udp"] {
        let listen = |address: &str| {
            let mut listener = Running::start(command(&["listen", address, how]));
            let line = listener.error_line("listening on ");
            let url = line.split(' ').find(|word| word.contains("://")).unwrap();
            let url = url.to_owned();
            (listener, url)
        };
        let (mut first, url) = listen("127.0.0.1:0");
        let address = url.split("://").nth(1).unwrap().to_owned();
        let args = [
            "send",
            &url,
            "--plaintext",
            "-l",
            "--ack",
            "--reconnect",
            "--timeout",
            "3s",
        ];
        let mut sender = Running::start(command(&args));
        let mut stdin = sender.stdin.take().unwrap();
        writeln!(stdin, "one").unwrap();
        assert_eq!(first.line(), "one");
        first.kill();
        writeln!(stdin, "two").unwrap();
        sender.error_line("again in");
        let (mut second, _) = listen(&address);
        assert_eq!(second.line(), "two", "{how}");
        writeln!(stdin, "three").unwrap();
        // A line whose acknowledgement was lost may come twice.
        let mut line = second.line();
        while line == "two" {
            line = second.line();
        }
        assert_eq!(line, "three");
        drop(stdin);
        sender.end().ok();
    }
}

#[cfg(unix)]
#[test]
fn a_listener_connects_again_until_it_is_told_to_stop() {
    use rustix::process::Signal;
    let server = Server::start(&["--dev"]);
    let address = server.address().to_owned();
    let mut listener = Running::start(command(&["listen", &server.url, "--reconnect"]));
    listener.error_line("connected to");
    // In order, and without.
    server.running.signal(Signal::TERM);
    server.running.end().ok();
    listener.error_line("goodbye; again in");
    let mut server = restart(&address, &["--dev"]);
    listener.error_line("connected to");
    server.running.kill();
    listener.error_line("again in");
    listener.signal(Signal::TERM);
    listener.end().ok();
}

#[test]
fn what_another_attempt_does_not_help_ends_at_once() {
    let folder = Folder::new();
    let server = Server::start(&["--plaintext"]);
    let url = format!("vstp://{}", server.address());
    let tls = Server::start(&["--dev"]);
    let pin = "0".repeat(64);
    let known = folder.file("known", "bob s3cret-of-bob\n");
    let closed = Server::start(&["--plaintext", "--token-file", &known]);
    for command in [
        &["listen"][..],
        &["send", "-m", "x", "--ack"],
        &["call", "-d", "x"],
    ] {
        // A limit of time that would be reached after the test has given up.
        let again = [command, &["--reconnect", "--timeout", "1h", "--plaintext"]].concat();
        vstp(&[&again[..], &[&url]].concat()).failed(5, &["TLS"]);
        vstp(&[&again[..], &[&tls.url, "--pin", &pin]].concat()).failed(5, &["cannot connect"]);
        vstp(&[&again[..], &[&tls.url, "--server-name", "other.example"]].concat())
            .failed(5, &["cannot connect"]);
        vstp(&[&again[..], &[&closed.url]].concat()).failed(69, &["unauthorized"]);
    }
    vstp(&["send", "vstp+tcp://localhost", "-m", "x", "--reconnect"]).failed(2, &["--plaintext"]);
    vstp(&["listen", "127.0.0.1:0", "--dev", "--reconnect"]).failed(2, &["URL"]);
    vstp(&["call", "vstp+udp://localhost", "-d", "x", "--reconnect"]).failed(2, &["vstp+tcp://"]);
    vstp(&["call", "vstp://localhost", "-d", "x", "--idempotent"]).refused(&["--reconnect"]);
}
