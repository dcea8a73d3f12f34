//! What holds for all commands: help, completions, manual pages, exit codes, broken pipes, the environment.

use crate::util::{Folder, Running, Server, command, vstp, vstp_with};
use std::net::TcpListener;
use std::process::Stdio;

const COMMANDS: [&str; 14] = [
    "server",
    "send",
    "listen",
    "call",
    "ping",
    "bench",
    "plot",
    "file",
    "inspect",
    "cert",
    "health",
    "demo",
    "completions",
    "man",
];

#[test]
fn help_names_every_command_and_every_command_has_examples() {
    let help = vstp(&["--help"]).ok().text();
    for name in COMMANDS {
        assert!(help.contains(&format!("\n  {name} ")), "{name}: {help}");
        let help = vstp(&[name, "--help"]).ok().text();
        assert!(help.contains("Examples:\n  "), "{name}: {help}");
        assert!(help.contains(&format!("vstp {name}")), "{name}: {help}");
    }
    assert!(
        help.contains("Exit codes:") && help.contains("130  interrupted"),
        "{help}"
    );
    let version = vstp(&["--version"]).ok().text();
    assert_eq!(version.trim(), concat!("vstp ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = vstp(&["completions", shell]).ok().text();
        assert!(text.contains("vstp") && text.contains("inspect"), "{shell}");
    }
    vstp(&["completions", "tcsh"]).refused(&["tcsh", "bash"]);
}

#[test]
fn manual_pages_of_all_commands() {
    let page = vstp(&["man"]).ok().text();
    assert!(page.contains(".TH vstp 1"), "{page}");
    assert!(page.contains("Exit codes"), "{page}");
    let folder = Folder::new();
    vstp(&["man", "--out", &folder.path("")]).ok();
    let names = folder.names();
    for name in COMMANDS {
        assert!(
            names.contains(&format!("vstp-{name}.1")),
            "{name}: {names:?}"
        );
    }
    vstp(&["man", "--out", "/no/such/folder"]).failed(8, &["/no/such/folder"]);
}

#[test]
fn wrong_arguments_end_with_2_and_say_which() {
    vstp(&[]).refused(&["Usage"]);
    vstp(&["fly"]).refused(&["fly"]);
    vstp(&["call", "vstp://a", "--nonsense"]).refused(&["--nonsense"]);
    vstp(&["call", "http://a"]).refused(&["http://", "vstp+udp://"]);
    vstp(&["call", "vstp://a:port"]).refused(&["a:port", "example.org:6969"]);
    vstp(&["ping", "vstp://a", "-i", "soon"]).refused(&["soon", "500ms"]);
    vstp(&["ping", "vstp://a", "-n", "0"]).refused(&["0"]);
    vstp(&["send", "vstp://a", "-m", "x", "-l"]).refused(&["--lines"]);
    vstp(&["send", "vstp://a", "-m", "x", "-H", "novalue"]).refused(&["KEY=VALUE"]);
    vstp(&["send", "vstp://a", "-m", "x", "-H", "msg-id=1"]).refused(&["protocol"]);
    vstp(&["send", "vstp://a", "-m", "x", "--type", "5"]).refused(&["0x10"]);
    vstp(&["call", "vstp://a", "--pin", "sha256/x"]).refused(&["vstp cert pin"]);
    vstp(&["call", "vstp://a", "--cert", "c.pem"]).refused(&["--key"]);
    vstp(&["call", "vstp://a", "--insecure", "--cacert", "x"]).refused(&["--insecure"]);
    vstp(&["server", "--exec", "cat", "--dir", "."]).refused(&["--dir"]);
    vstp(&["bench"]).failed(2, &["vstp server --bench", "--local"]);
}

#[test]
fn contradictions_between_the_url_and_the_flags_end_with_2() {
    vstp(&["call", "vstp+tcp://localhost", "-d", "x"]).failed(2, &["--plaintext", "vstp://"]);
    vstp(&["ping", "vstp+udp://localhost", "--pin", &"0".repeat(64)])
        .failed(2, &["--pin", "plaintext"]);
    vstp(&["listen", "vstp://localhost", "--dev"]).failed(2, &["--dev"]);
    vstp(&["bench", "vstp://localhost", "--reverse"]).failed(2, &["--mode stream"]);
    vstp(&["bench", "vstp://localhost", "--mode", "stream", "--ack"]).failed(2, &["vstp+udp://"]);
}

#[test]
fn missing_files_end_with_8_before_anybody_is_connected_to() {
    let gone = "/no/such/file";
    vstp(&["send", "vstp://localhost:1", "-f", gone]).failed(8, &[gone, "No such file"]);
    vstp(&["call", "vstp://localhost:1", "-d", "@/no/such/file"]).failed(8, &[gone]);
    vstp(&["call", "vstp://localhost:1", "-d", "x", "--cacert", gone]).failed(8, &[gone]);
    vstp(&[
        "call",
        "vstp://localhost:1",
        "-d",
        "x",
        "--cert",
        gone,
        "--key",
        gone,
    ])
    .failed(8, &[gone]);
    vstp(&["file", "send", gone, "vstp://localhost:1"]).failed(8, &[gone]);
    vstp(&["inspect", gone]).failed(8, &[gone]);
    vstp(&["cert", "show", gone]).failed(8, &[gone]);
    vstp(&["server", "--plaintext", "127.0.0.1:0", "--dir", gone]).failed(8, &[gone]);
    vstp(&["server", "--cert", gone, "--key", gone, "127.0.0.1:0"]).failed(8, &[gone]);
}

#[test]
fn a_dead_server_ends_with_3() {
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let url = format!("vstp+tcp://{dead}");
    for args in [
        &["call", &url, "-d", "x", "--plaintext"][..],
        &["send", &url, "-m", "x", "--plaintext"],
        &["listen", &url, "--plaintext"],
        &["ping", &url, "--plaintext"],
        &["bench", &url, "--plaintext"],
        &["file", "recv", "x", &url, "--plaintext"],
    ] {
        vstp(args).failed(3, &["refused", &dead, "does a server listen"]);
    }
    vstp(&[
        "call",
        "vstp+tcp://no.such.host.invalid",
        "-d",
        "x",
        "--plaintext",
    ])
    .failed(3, &["no.such.host.invalid"]);
}

#[test]
fn silence_ends_with_4() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("vstp+tcp://{}", silent.local_addr().unwrap());
    vstp(&[
        "call",
        &url,
        "-d",
        "x",
        "--plaintext",
        "--connect-timeout",
        "200ms",
    ])
    .failed(4, &["handshake", "TLS or plaintext"]);
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("vstp+udp://{}", udp.local_addr().unwrap());
    vstp(&["call", &url, "-d", "x", "--connect-timeout", "200ms"]).failed(4, &["handshake"]);
    let ended = vstp(&["ping", &url, "-n", "1", "--timeout", "100ms"]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.contains("did not answer"), "{ended:?}");
}

#[test]
fn the_wrong_protocol_is_named() {
    let tls = Server::start(&["--dev"]);
    let url = format!("vstp+tcp://{}", tls.address());
    let ended = vstp(&[
        "call",
        &url,
        "-d",
        "x",
        "--plaintext",
        "--connect-timeout",
        "5s",
    ]);
    assert!([3, 4, 6].contains(&ended.code), "{ended:?}");
    let plain = Server::start(&["--plaintext"]);
    let url = format!("vstp://{}", plain.address());
    vstp(&["call", &url, "-d", "x"]).failed(5, &["TLS", "--plaintext"]);
}

#[test]
fn a_reader_that_went_away_is_success() {
    let server = Server::start(&["--dev"]);
    // More answers than fit into a pipe, so that it does write after the reader has gone.
    let mut command = command(&[
        "call",
        &server.url,
        "-d",
        &"x".repeat(100_000),
        "--repeat",
        "20",
    ]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_environment_stands_in_for_flags() {
    let server = Server::start(&["--plaintext"]);
    let run = |envs: &[(&str, &str)]| {
        let mut command = command(&["call", "-d", "x"]);
        command.envs(envs.iter().copied());
        Running::start(command).end()
    };
    let url = ("VSTP_URL", server.url.as_str());
    let ended = run(&[url, ("VSTP_PLAINTEXT", "1")]).ok();
    assert_eq!(ended.text(), "x\n");
    run(&[url, ("VSTP_PLAINTEXT", "0")]).failed(2, &["--plaintext"]);
    run(&[url, ("VSTP_PLAINTEXT", "yes"), ("VSTP_TIMEOUT", "soon")]).refused(&["soon"]);
    run(&[]).refused(&["URL"]);
}

#[test]
fn what_means_nothing_is_refused_as_a_flag_and_ignored_from_the_environment() {
    let folder = Folder::new();
    let log = folder.path("log");
    let udp = Server::start(&["--udp"]);
    let tcp = Server::start(&["--plaintext"]);
    for (flag, variable, value, args) in [
        (
            "--via",
            "VSTP_VIA",
            "udp",
            &["call", &tcp.url, "-d", "x"][..],
        ),
        ("--via", "VSTP_VIA", "udp", &["health", &udp.url]),
        (
            "--event-log",
            "VSTP_EVENT_LOG",
            &log,
            &["ping", &udp.url, "-n", "1"],
        ),
        ("--event-log", "VSTP_EVENT_LOG", &log, &["health", &udp.url]),
        (
            "--reconnect",
            "VSTP_RECONNECT",
            "1",
            &["call", &udp.url, "-d", "x"],
        ),
        (
            "--reconnect",
            "VSTP_RECONNECT",
            "1",
            &["listen", "127.0.0.1:0", "-n", "1"],
        ),
    ] {
        let args = [args, &["--plaintext"]].concat();
        let written = match flag {
            "--reconnect" => vec![flag],
            _ => vec![flag, value],
        };
        let ended = vstp(&[&args[..], &written].concat());
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(flag), "{ended:?}");
        let mut ignored = command(&args);
        ignored.env(variable, value);
        let mut ignored = Running::start(ignored);
        if args[0] == "listen" {
            ignored.error_line("listening on");
            continue;
        }
        drop(ignored.stdin.take());
        ignored.end().ok();
        // Where it is written as well, it was meant.
        let mut both = command(&[&args[..], &written].concat());
        both.env(variable, value);
        assert_eq!(Running::start(both).end().code, 2);
    }
    assert!(folder.names().is_empty());
    // Where it means something, it counts.
    let mut call = command(&["call", &udp.url, "-d", "x"]);
    call.env("VSTP_EVENT_LOG", &log);
    Running::start(call).end().ok();
    assert_eq!(folder.names(), ["log"]);
}

#[test]
fn quiet_and_verbose_change_stderr_alone() {
    let server = Server::start(&["--dev"]);
    let quiet = vstp(&["-q", "call", &server.url, "-d", "x"]).ok();
    assert_eq!((quiet.text().as_str(), quiet.err.as_str()), ("x\n", ""));
    let verbose = vstp(&["-vv", "call", &server.url, "-d", "x"]).ok();
    assert_eq!(verbose.text(), "x\n");
    vstp(&["-q", "-v", "demo"]).refused(&["--quiet"]);
}

#[test]
fn the_demonstration_ends_well_and_leaves_nothing() {
    let folder = Folder::new();
    let mut command = command(&["demo", "say it"]);
    command.env("VSTP_DEV_CERTS", folder.path("dev"));
    let text = Running::start(command).end().ok().text();
    for words in [
        "TLSv1.3",
        "56 54 01 03",
        "PAYLOAD \"say it\"",
        "PAYLOAD \"SAY IT\"",
        "^^",
        "one byte was changed",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(folder.names().is_empty());
    vstp_with(&["demo", &"x".repeat(9000)], b"").ok();
}
