//! Both transports at one port: `vstp server --auto`, and `vstp+auto://` of every client.

use crate::util::{Folder, LONG, Running, Server, command, noise, sha256, vstp, vstp_with};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

/// The same port, in another way.
fn by(server: &Server, scheme: &str) -> String {
    format!("{scheme}://{}", server.address())
}

/// A server in plaintext and one with TLS, each with what its clients need.
fn servers(flags: &[&str]) -> [(Server, &'static [&'static str]); 2] {
    [("--plaintext", &["--plaintext"][..]), ("--dev", &[])].map(|(how, clients)| {
        let server = Server::start(&[&["--auto", how], flags].concat());
        assert!(server.url.starts_with("vstp+auto://"), "{}", server.url);
        (server, clients)
    })
}

#[test]
fn in_plaintext_one_port_echoes_on_tcp_and_udp() {
    let server = Server::start(&["--plaintext", "--auto"]);
    for scheme in ["vstp+tcp", "vstp+udp", "vstp+auto"] {
        let url = by(&server, scheme);
        let call = vstp(&["call", &url, "--plaintext", "-d", "hello"]).ok();
        assert_eq!(call.text(), "hello\n", "{scheme}");
        vstp(&["health", &url, "--plaintext"]).ok();
    }
    for via in ["auto", "tcp", "udp"] {
        let args = ["call", &server.url, "--plaintext", "--via", via, "--raw"];
        let input = noise(100_000, 1);
        assert!(vstp_with(&args, &input).ok().out == input, "{via}");
    }
    // Without a word about it vstp+auto:// is TLS.
    vstp(&["call", &server.url, "-d", "x"]).failed(5, &["TLS"]);
}

#[test]
fn with_tls_datagrams_are_sealed_and_no_others_are_taken() {
    let server = Server::start(&["--dev", "--auto"]);
    for via in ["auto", "tcp", "udp"] {
        let call = vstp(&["call", &server.url, "--via", via, "-d", "hello"]).ok();
        assert_eq!(call.text(), "hello\n", "{via}");
    }
    let url = by(&server, "vstp");
    assert_eq!(vstp(&["call", &url, "-d", "x"]).ok().text(), "x\n");
    let plain = by(&server, "vstp+udp");
    vstp(&["call", &plain, "-d", "x", "--connect-timeout", "500ms"]).failed(4, &["handshake"]);

    let ping = ["ping", &server.url, "-n", "2", "-i", "300ms", "--json"];
    let events = vstp(&[&ping[..], &["--via", "udp"]].concat()).ok().json();
    assert_eq!(events[0]["tls"]["version"], "TLSv1.3");
    let features = events[0]["features"].as_array().unwrap();
    assert!(features.contains(&json!("dual")), "{features:?}");
    assert_eq!(events[2]["udp_sealed"], true, "{}", events[2]);
    assert!(events[2]["ms"].as_f64().unwrap() > 0.0, "{}", events[2]);
    for via in ["tcp", "udp"] {
        vstp(&["health", &server.url, "--via", via]).ok();
    }
    let text = vstp(&["ping", &server.url, "-n", "1"]).ok().text();
    assert!(text.contains(", takes ") && text.contains("TCP "), "{text}");
}

#[test]
fn a_server_of_one_transport_is_served_by_that_one() {
    let server = Server::start(&["--dev"]);
    let url = by(&server, "vstp+auto");
    assert_eq!(vstp(&["call", &url, "-d", "x"]).ok().text(), "x\n");
    vstp(&["call", &url, "-d", "x", "--via", "udp"]).failed(3, &["vstp server --auto"]);
}

#[cfg(unix)]
#[test]
fn a_server_that_goes_silent_is_not_counted_as_answering() {
    use rustix::process::Signal;
    for via in ["tcp", "udp", "auto"] {
        let server = Server::start(&["--plaintext", "--auto"]);
        let args = [
            "ping",
            &server.url,
            "--plaintext",
            "--json",
            "-i",
            "50ms",
            "--via",
            via,
        ];
        let mut ping = Running::start(command(&args));
        while !ping.line().contains("\"answer\"") {}
        server.running.signal(Signal::STOP);
        while !ping.line().contains("\"lost\"") {}
        // All of them, until it is back.
        for _ in 0..2 {
            let line = ping.line();
            assert!(line.contains("\"lost\""), "{via}: {line}");
        }
        server.running.signal(Signal::CONT);
        while !ping.line().contains("\"answer\"") {}
    }
}

/// What stands before a server of both transports in plaintext: it lets everything pass but PINGs over UDP, which is
/// what a network that loses them looks like, and TCP after some time.
struct Relay {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Relay {
    fn before(server: &Server, delay: Duration) -> Self {
        let server: SocketAddr = server.address().parse().unwrap();
        // A port that is free on both transports.
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let relay = move || {
            // The first client, and no other.
            let (client, _) = tcp.accept().unwrap();
            let there = TcpStream::connect(server).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), there.try_clone().unwrap()),
                (there, client),
            ] {
                let copy = move || {
                    let mut buffer = [0; 4096];
                    while let Ok(len @ 1..) = from.read(&mut buffer) {
                        let _ = crossbeam_channel::after(delay).recv();
                        if to.write_all(&buffer[..len]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Write);
                };
                thread::Builder::new().spawn(copy).unwrap();
            }
        };
        thread::Builder::new().spawn(relay).unwrap();
        let datagrams = move || {
            let mut client = None;
            let mut buffer = [0; 2048];
            udp.set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = udp.recv_from(&mut buffer) else {
                    continue;
                };
                let frame = vstp::try_decode_frame(
                    &mut vstp::wire::Buffer::from(buffer[..len].to_vec()),
                    buffer.len(),
                );
                let is_ping =
                    matches!(frame, Ok(Some(frame)) if frame.typ == vstp::FrameType::Ping);
                let to = if from == server {
                    client
                } else {
                    client = Some(from);
                    Some(server).filter(|_| !is_ping)
                };
                if let Some(to) = to {
                    let _ = udp.send_to(&buffer[..len], to);
                }
            }
        };
        thread::Builder::new().spawn(datagrams).unwrap();
        Self { address, is_over }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_server_whose_udp_does_not_answer_is_not_healthy_over_udp() {
    let server = Server::start(&["--plaintext", "--auto"]);
    let health = |args: &[&str]| {
        let relay = Relay::before(&server, Duration::ZERO);
        let url = format!("vstp+auto://{}", relay.address);
        vstp(&[&["health", &url, "--plaintext"], args].concat())
    };
    health(&["--via", "tcp"]).ok();
    let long = format!("{}s", LONG.as_secs());
    health(&["--within", &long]).ok();
    health(&["--via", "udp", "--timeout", "3s"]).failed(9, &["unhealthy"]);
    // The wait for UDP leaves room for TCP to be the answer; a machine with much to do may need more than one look.
    let is_healthy = |_| health(&["--timeout", "990ms"]).code == 0;
    assert!((0..20).any(is_healthy));
}

#[test]
fn a_server_that_is_far_away_answers_however_often_it_is_asked() {
    let server = Server::start(&["--plaintext", "--auto"]);
    // There and back.
    let relay = Relay::before(&server, Duration::from_millis(90));
    let url = format!("vstp+auto://{}", relay.address);
    let ping = ["ping", &url, "--plaintext", "--json", "--via", "tcp"];
    let events = vstp(&[&ping[..], &["-n", "5", "-i", "100ms"]].concat());
    for answer in &events.ok().json()[1..6] {
        assert_eq!(answer["event"], "answer");
        assert!(answer["ms"].as_f64().unwrap() >= 180.0, "{answer}");
    }
}

#[test]
fn messages_files_and_benchmarks_take_both_transports() {
    for (how, plain) in [("--plaintext", &["--plaintext"][..]), ("--dev", &[])] {
        let mut listener = Running::start(command(&[
            "listen",
            "127.0.0.1:0",
            how,
            "--auto",
            "--json",
            "-n",
            "3",
        ]));
        let line = listener.error_line("listening on ");
        let url = line.split(' ').find(|word| word.contains("://")).unwrap();
        for via in ["tcp", "udp", "auto"] {
            let send = ["send", url, "--ack", "-m", via, "--via", via];
            vstp(&[&send[..], plain].concat()).ok();
        }
        let got = listener.end().ok().json();
        let payloads: Vec<_> = got.iter().map(|m| m["payload"].clone()).collect();
        assert_eq!(payloads, ["tcp", "udp", "auto"]);
    }
    let (here, there) = (Folder::new(), Folder::new());
    let file = here.file("f", noise(1_500_000, 5));
    for (number, (server, plain)) in servers(&["--dir", &there.path("")]).iter().enumerate() {
        for via in ["auto", "udp"] {
            let name = format!("{via}{number}");
            let send = [
                "file",
                "send",
                &file,
                &server.url,
                "--name",
                &name,
                "--via",
                via,
            ];
            vstp(&[&send[..], plain].concat()).ok();
            assert_eq!(sha256(&there.0.join(&name)), sha256(Path::new(&file)));
            let back = here.path(&name);
            let recv = [
                "file",
                "recv",
                &name,
                &server.url,
                "-o",
                &back,
                "--via",
                via,
            ];
            vstp(&[&recv[..], plain].concat()).ok();
            assert!(fs::read(&back).unwrap() == fs::read(&file).unwrap());
        }
    }
    for (server, plain) in servers(&["--bench"]) {
        for mode in [
            &["--mode", "call"][..],
            &["--mode", "stream", "--via", "udp"],
            &["--mode", "stream", "--via", "tcp", "--reverse"],
        ] {
            let bench = ["bench", &server.url, "-t", "200ms", "--json"];
            let events = vstp(&[&bench[..], mode, plain].concat()).ok().json();
            assert!(events.last().unwrap()["arrived"].as_u64().unwrap() > 0);
        }
        let bench = ["bench", &server.url, "--mode", "stream"];
        vstp(&[&bench[..], plain].concat()).failed(2, &["--via udp"]);
    }
}

#[test]
fn a_server_of_both_ends_with_its_first_client_and_counts_both() {
    for (server, plain) in servers(&["--once"]) {
        let call = ["call", &server.url, "-d", "x", "--via", "udp"];
        vstp(&[&call[..], plain].concat()).ok();
        server.running.end().ok();
    }
    // On plain UDP alone, too.
    let server = Server::start(&["--plaintext", "--auto", "--once"]);
    vstp(&["call", &by(&server, "vstp+udp"), "-d", "x"]).ok();
    server.running.end().ok();
}

#[test]
fn who_a_client_is_is_known_on_both_transports() {
    let folder = Folder::new();
    let known = folder.file("known", "bob s3cret-of-bob\n");
    let bob = folder.file("bob", "s3cret-of-bob\n");
    let program = "printf %s \"$VSTP_IDENTITY\"";
    for (server, plain) in servers(&["--token-file", &known, "--exec", program]) {
        for via in ["tcp", "udp"] {
            let call = ["-q", "call", &server.url, "-d", "x", "--via", via];
            let with = [&call[..], plain, &["--token-file", &bob]].concat();
            assert_eq!(vstp(&with).ok().text(), "bob\n", "{via}");
        }
        let call = [&["-q", "call", &server.url, "-d", "x"], plain].concat();
        assert_eq!(vstp(&call).code, 69);
    }
}

#[test]
fn contradictions_are_named() {
    let server = ["server", "127.0.0.1:0", "--auto"];
    vstp(&[&server[..], &["--udp"]].concat()).refused(&["--udp"]);
    vstp(&server).failed(2, &["--cert", "--dev", "--plaintext"]);
    vstp(&["call", "vstp://localhost", "-d", "x", "--via", "udp"])
        .failed(2, &["--via", "vstp+auto://"]);
    let plain = ["call", "vstp+auto://localhost", "-d", "x", "--plaintext"];
    vstp(&[&plain[..], &["--insecure"]].concat()).failed(2, &["--insecure", "--plaintext"]);
    vstp(&["listen", "vstp+auto://localhost", "--auto"]).failed(2, &["--auto"]);
    let shown = vstp(&["server", "127.0.0.1:0", "--help"]).ok().text();
    assert!(shown.contains("vstp server 127.0.0.1:7000 --plaintext --auto"));
}

#[test]
fn the_json_of_a_server_of_both_names_its_url() {
    let mut running = Running::start(command(&[
        "server",
        "127.0.0.1:0",
        "--plaintext",
        "--auto",
        "--json",
    ]));
    let line: serde_json::Value = serde_json::from_str(&running.line()).unwrap();
    assert_eq!(line["event"], json!("listening"));
    assert!(
        line["url"]
            .as_str()
            .unwrap()
            .starts_with("vstp+auto://127.0.0.1:")
    );
}
