//! The examples as real processes: what they print, how they end, what they say when they cannot.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use crossbeam_channel::{Receiver, bounded};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

/// Reached only by a test that fails.
const LONG: Duration = Duration::from_secs(20);

/// A running example; killed if the test gives up on it.
struct Example {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

/// Cargo builds the examples for the tests and puts them beside their folder.
fn binary(name: &str) -> PathBuf {
    let deps = env::current_exe().unwrap();
    let profile = deps.parent().unwrap().parent().unwrap();
    profile
        .join("examples")
        .join(name)
        .with_extension(env::consts::EXE_EXTENSION)
}

impl Example {
    fn start(name: &'static str, args: &[&str], certs: &Path) -> Self {
        let mut child = Command::new(binary(name))
            .args(args)
            .env("VSTP_DEV_CERTS", certs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}; `cargo build --examples` makes it"));
        let lines = collect(child.stdout.take().unwrap());
        let errors = collect(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Self {
            name,
            child,
            stdin,
            lines,
            errors,
        }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(LONG).unwrap_or_else(|_| {
            let errors: Vec<_> = self.errors.try_iter().collect();
            panic!("{} printed no more; errors: {errors:?}", self.name)
        })
    }

    /// The address that a server prints.
    fn address(&self) -> String {
        let line = self.line();
        line.strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned()
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ends its input and waits: the exit code, what it still printed, and its errors.
    fn end(mut self) -> (i32, Vec<String>, Vec<String>) {
        drop(self.stdin.take());
        // Both end when the process does, or the deadline ends the test.
        let rest = |from: &Receiver<String>| {
            let mut out = Vec::new();
            loop {
                match from.recv_timeout(LONG) {
                    Ok(line) => out.push(line),
                    Err(error) if error.is_disconnected() => return out,
                    Err(_) => panic!("{} did not end", self.name),
                }
            }
        };
        let (lines, errors) = (rest(&self.lines), rest(&self.errors));
        (
            self.child.wait().unwrap().code().unwrap_or(-1),
            lines,
            errors,
        )
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = bounded(10_000);
    let read = move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().spawn(read).unwrap();
    receiver
}

/// A folder for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("vstp-examples-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn certs(&self) -> PathBuf {
        self.0.join("dev")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn contains(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[test]
fn quickstart_sends_a_file_and_shows_the_wire() {
    let folder = Folder::new("quickstart");
    let (code, lines, errors) = Example::start("quickstart", &[], &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
    assert!(contains(&lines, "TLSv1.3, TLS13_"), "{lines:?}");
    assert!(contains(&lines, "56 54"), "the magic is shown: {lines:?}");
    assert!(contains(&lines, "shut down in order: true"), "{lines:?}");

    let file = folder.file("small.txt", "one\ntwo three\n");
    let (code, lines, _) = Example::start("quickstart", &[&file], &folder.certs()).end();
    assert_eq!(code, 0);
    assert!(contains(&lines, "2 lines"), "{lines:?}");

    let empty = folder.file("empty.txt", "");
    assert_eq!(
        Example::start("quickstart", &[&empty], &folder.certs())
            .end()
            .0,
        0
    );

    let (code, _, errors) = Example::start("quickstart", &["/no/such/file"], &folder.certs()).end();
    assert_eq!((code, errors.len()), (1, 1), "one clear line: {errors:?}");
    assert!(errors[0].contains("/no/such/file"));
}

#[test]
fn tcp_server_and_client() {
    let folder = Folder::new("tcp");
    let mut server = Example::start("tcp_server", &["127.0.0.1:0"], &folder.certs());
    let addr = server.address();
    let client = Example::start("tcp_client", &[&addr, "hello", "world"], &folder.certs());
    let (code, lines, errors) = client.end();
    assert_eq!((code, &errors[..]), (0, &[][..]));
    assert!(
        lines[0].starts_with("hello (") && lines[1].starts_with("world ("),
        "{lines:?}"
    );
    server.say("quit");
    assert_eq!(server.end().0, 0);

    let (code, _, errors) = Example::start("tcp_client", &[&addr, "x"], &folder.certs()).end();
    assert_eq!(
        (code, errors.len()),
        (1, 1),
        "nobody listens any more: {errors:?}"
    );
}

#[test]
fn tls_with_the_certificate_for_this_machine() {
    let folder = Folder::new("tls-dev");
    let refused = Example::start("tcp_client_tls", &["127.0.0.1:1", "x"], &folder.certs()).end();
    assert_eq!(refused.0, 1);
    assert!(refused.2[0].contains("start a server"), "{:?}", refused.2);

    let server = Example::start("tcp_server_tls", &["127.0.0.1:0"], &folder.certs());
    let addr = server.address();
    let (code, lines, errors) =
        Example::start("tcp_client_tls", &[&addr, "hello"], &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]));
    assert!(lines[0].starts_with("TLSv1.3"));
    assert_eq!(lines[1], "you showed no certificate, and you said hello");
    assert_eq!(server.end().0, 0);
}

/// A certificate and its key as PEM, signed by the authority if there is one.
fn certificate(
    name: &str,
    issuer: Option<&Issuer<'_, KeyPair>>,
) -> (String, KeyPair, CertificateParams) {
    let names = if issuer.is_some() {
        vec!["localhost".to_owned()]
    } else {
        Vec::new()
    };
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let signed = match issuer {
        None => {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.self_signed(&key)
        }
        Some(issuer) => params.signed_by(&key, issuer),
    };
    (signed.unwrap().pem(), key, params)
}

#[test]
fn tls_with_an_own_authority_and_client_certificates() {
    let folder = Folder::new("tls-own");
    let (ca_pem, ca_key, ca) = certificate("test authority", None);
    let issuer = Issuer::new(ca, ca_key);
    let ca = folder.file("ca.pem", &ca_pem);
    let write = |name: &str| {
        let (pem, key, _) = certificate(name, Some(&issuer));
        let cert = folder.file(&format!("{name}.pem"), &pem);
        (
            cert,
            folder.file(&format!("{name}.key"), &key.serialize_pem()),
        )
    };
    let ((cert, key), (my_cert, my_key)) = (write("server"), write("client"));
    let args = [
        "--cert",
        &cert,
        "--key",
        &key,
        "--client-ca",
        &ca,
        "127.0.0.1:0",
    ];
    let server = Example::start("tcp_server_tls", &args, &folder.certs());
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    let addr = format!("localhost:{port}");

    let args = [
        "--ca", &ca, "--cert", &my_cert, "--key", &my_key, &addr, "hello",
    ];
    let (code, lines, errors) = Example::start("tcp_client_tls", &args, &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]));
    assert!(lines[1].starts_with("your certificate is "), "{lines:?}");

    let without = Example::start(
        "tcp_client_tls",
        &["--ca", &ca, &addr, "x"],
        &folder.certs(),
    );
    let (code, _, errors) = without.end();
    assert_eq!(code, 1);
    assert!(
        errors[0].contains("client_cert_pem_files"),
        "it says what to do: {errors:?}"
    );
    assert_eq!(server.end().0, 0);
}

#[test]
fn identity_recognises_by_certificate_and_bound_token() {
    let folder = Folder::new("identity");
    let (code, lines, errors) = Example::start("identity", &[], &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
    assert_eq!(lines[..2], ["ann: hello, ann", "bob: hello, bob"]);
    assert_eq!(lines.len(), 5, "{lines:?}");
    for line in &lines[2..] {
        assert!(
            line.starts_with("eve ") && line.contains("unauthorized"),
            "{line}"
        );
    }
}

#[test]
fn chat_brings_everybody_what_anybody_says() {
    let folder = Folder::new("chat");
    let server = Example::start("chat", &["server", "127.0.0.1:0"], &folder.certs());
    let addr = server.address();
    let mut people = Vec::new();
    for name in ["ann", "bob", "cy"] {
        let person = Example::start("chat", &["join", name, &addr], &folder.certs());
        assert_eq!(person.line(), "joined");
        // Those who are there already hear of it, which also proves that the server knows them.
        for other in &people {
            assert_eq!(Example::line(other), format!("{name} is here"));
        }
        people.push(person);
    }
    people[1].say("good morning");
    for listener in [0, 2] {
        assert_eq!(people[listener].line(), "bob: good morning");
    }
    for person in people {
        let (code, _, errors) = person.end();
        assert_eq!((code, &errors[..]), (0, &[][..]));
    }
    assert_eq!(server.end().0, 0);
}

#[test]
fn thread_pool_server_answers_many_clients() {
    let folder = Folder::new("pool");
    let server = Example::start("thread_pool_server", &["127.0.0.1:0", "2"], &folder.certs());
    let addr = server.address();
    let clients: Vec<_> = (0..5)
        .map(|n| {
            let message = format!("{n} two one");
            Example::start("tcp_client", &[&addr, &message, "b a"], &folder.certs())
        })
        .collect();
    for (n, client) in clients.into_iter().enumerate() {
        let (code, lines, errors) = client.end();
        assert_eq!((code, &errors[..]), (0, &[][..]));
        assert!(lines[0].starts_with(&format!("one two {n} (")), "{lines:?}");
        assert!(lines[1].starts_with("a b ("), "{lines:?}");
    }
    assert_eq!(server.end().0, 0);
}

#[test]
fn udp_server_and_client() {
    let folder = Folder::new("udp");
    let mut server = Example::start("udp_server", &["127.0.0.1:0"], &folder.certs());
    let addr = server.address();
    let client = Example::start("udp_client", &[&addr, "hello", "world"], &folder.certs());
    let (code, lines, errors) = client.end();
    assert_eq!((code, &errors[..]), (0, &[][..]));
    for (line, message) in lines.iter().zip(["hello", "world"]) {
        let (begin, middle) = (
            format!("sent {message}, "),
            format!(" answer {message} after"),
        );
        assert!(line.starts_with(&begin) && line.contains(&middle), "{line}");
    }
    assert!(lines[2].starts_with("round trip "), "{lines:?}");
    server.say("quit");
    let (code, lines, errors) = server.end();
    assert_eq!((code, &errors[..]), (0, &[][..]));
    assert!(contains(&lines, "2 messages in "), "{lines:?}");
}

#[test]
fn game_state_brings_everybody_the_event() {
    let folder = Folder::new("game");
    let (code, lines, errors) = Example::start("game_state", &["0.5", "2"], &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
    assert!(lines[0].starts_with("player 0: sent "), "{lines:?}");
    assert!(lines[1].ends_with("events: player 0 scored"), "{lines:?}");
    assert!(
        contains(&lines, "everybody saw the event once"),
        "{lines:?}"
    );
}

#[test]
fn sensor_network_loses_no_alarm() {
    let folder = Folder::new("sensors");
    let example = Example::start("sensor_network", &["4", "20"], &folder.certs());
    let (code, lines, errors) = example.end();
    assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
    assert!(contains(&lines, "sensor-3"), "{lines:?}");
    let alarms = lines
        .last()
        .unwrap()
        .strip_suffix(" alarms arrived")
        .unwrap();
    let (arrived, raised) = alarms.split_once(" of ").unwrap();
    assert!(arrived == raised && raised != "0", "{lines:?}");
}

#[test]
fn extensions_see_answer_and_refuse_and_text_travels_as_gzip() {
    let folder = Folder::new("extensions");
    let (code, lines, errors) = Example::start("extensions", &["2000"], &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
    for line in [
        "DATA: 10000 words",
        "CUSTOM 0x20: 1 messages",
        "refused: bad-request: an empty message",
    ] {
        assert!(contains(&lines, line), "{line}: {lines:?}");
    }
    // The log is beside the compression, not below it: both ends see the text as it is.
    let received = lines.iter().find_map(|line| {
        line.strip_prefix("server receives DATA of ")?
            .strip_suffix(" bytes")
    });
    let sent = lines
        .iter()
        .find_map(|line| line.strip_suffix(" bytes left the client"));
    let [received, sent] = [received, sent].map(|n| n.unwrap().parse::<usize>().unwrap());
    assert!(
        received > 40_000 && sent < received / 4,
        "{sent} of {received}"
    );
}

#[test]
fn udp_file_arrives_as_it_was() {
    let folder = Folder::new("udp-file");
    let (code, lines, errors) = Example::start("udp_file", &["3"], &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
    assert!(contains(&lines, "100 %  "), "{lines:?}");
    assert!(contains(&lines, "on both sides"), "{lines:?}");

    for (name, text) in [("small.txt", "one\ntwo three\n"), ("empty.txt", "")] {
        let dir = folder.0.to_str().unwrap();
        let received = folder.0.join(name);
        let receiver = Example::start(
            "udp_file",
            &["receive", "127.0.0.1:0", dir],
            &folder.certs(),
        );
        let addr = receiver.address();
        let source = folder.0.join("source");
        fs::create_dir_all(&source).unwrap();
        let source = source.join(name);
        fs::write(&source, text).unwrap();
        let source = source.to_str().unwrap();
        let sender = Example::start("udp_file", &["send", source, &addr], &folder.certs());
        let (code, lines, errors) = sender.end();
        assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
        assert!(contains(&lines, "on both sides"), "{lines:?}");
        let (code, lines, errors) = receiver.end();
        assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
        assert!(contains(&lines, name), "{lines:?}");
        assert_eq!(fs::read_to_string(received).unwrap(), text);
    }

    let missing = ["send", "/no/such/file", "127.0.0.1:1"];
    let (code, _, errors) = Example::start("udp_file", &missing, &folder.certs()).end();
    assert_eq!((code, errors.len()), (1, 1), "one clear line: {errors:?}");
    assert!(errors[0].contains("/no/such/file"));
}

#[test]
fn resilient_client_loses_no_call_that_may_be_made_again() {
    let folder = Folder::new("resilient");
    let (code, lines, errors) = Example::start("resilient_client", &["200"], &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
    assert!(contains(&lines, "4 squared is 16"), "{lines:?}");
    let connects = lines.iter().filter(|line| *line == "connected");
    assert!(connects.count() >= 2, "{lines:?}");
    assert!(contains(&lines, "8 squared is 64"), "{lines:?}");
    assert!(
        contains(&lines, "200 calls: 0 wrong answers, 0 lost"),
        "{lines:?}"
    );
}

#[test]
fn auto_transport_sends_by_both() {
    let folder = Folder::new("auto_transport");
    let (code, lines, errors) = Example::start("auto_transport", &[], &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]), "{lines:?}");
    for expected in [
        "small, by TCP: 100 bytes by TCP",
        "small, by UDP: 100 bytes by UDP",
        "small, by the better one: 100 bytes by ",
        "large, by the better one: 100000 bytes by TCP",
        "UDP: Open, sealed: true; ",
        "0 handlers were left behind",
    ] {
        assert!(contains(&lines, expected), "{expected}: {lines:?}");
    }
}

#[test]
fn every_example_explains_itself() {
    let folder = Folder::new("help");
    for name in [
        "quickstart",
        "tcp_server",
        "tcp_client",
        "tcp_server_tls",
        "tcp_client_tls",
        "chat",
        "thread_pool_server",
        "identity",
        "udp_server",
        "udp_client",
        "game_state",
        "sensor_network",
        "udp_file",
        "auto_transport",
        "extensions",
        "resilient_client",
    ] {
        let (code, lines, _) = Example::start(name, &["--help"], &folder.certs()).end();
        assert_eq!(code, 0, "{name}");
        assert!(lines[0].starts_with("usage: "), "{name}: {lines:?}");
    }
}

#[test]
fn metrics_are_printed_and_served() {
    let folder = Folder::new("metrics");
    let (code, lines, errors) = Example::start("metrics", &[], &folder.certs()).end();
    assert_eq!((code, &errors[..]), (0, &[][..]));
    for line in [
        "# TYPE vstp_frames_total counter",
        "vstp_frames_total{role=\"server\",direction=\"received\",type=\"data\"} 10",
        "vstp_frames_total{role=\"client\",direction=\"received\",type=\"pong\"} 1",
        "vstp_handler_seconds_count{role=\"server\"} 10",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line}: {lines:?}");
    }

    let server = Example::start("metrics", &["serve", "127.0.0.1:0"], &folder.certs());
    let line = server.line();
    let addr = line.strip_prefix("listening on http://").unwrap();
    let addr = addr.strip_suffix("/metrics").unwrap();
    let mut http = std::net::TcpStream::connect(addr).unwrap();
    http.set_read_timeout(Some(LONG)).unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("vstp_connections_active{role=\"server\"} 1\n"));
    assert_eq!(server.end().0, 0);
}
