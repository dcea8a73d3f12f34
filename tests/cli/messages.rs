//! send, listen, call, ping and health, over each transport.

use crate::util::{Folder, LONG, Running, Server, command, vstp, vstp_with};
use serde_json::json;
use std::io::Write;
use vstp::{Frame, VstpTcpServer};

/// A server of each transport.
fn servers(flags: &[&str]) -> [Server; 3] {
    ["--dev", "--plaintext", "--udp"].map(|how| Server::start(&[&[how], flags].concat()))
}

#[test]
fn call_prints_the_answer_in_every_form() {
    for server in servers(&[]) {
        let call = |more: &[&str], input: &[u8]| {
            let args = [&["call", &server.url, "--plaintext"], more].concat();
            vstp_with(&args, input).ok()
        };
        assert_eq!(call(&["-d", "hello"], b"").text(), "hello\n");
        assert_eq!(call(&[], b"from stdin").text(), "from stdin\n");
        assert_eq!(call(&["-d", "@-", "--raw"], b"\0\xff").out, b"\0\xff");
        let hex = call(&["--hex"], b"\0\xffab").text();
        assert_eq!(hex, format!("00000000  {:<47}  |..ab|\n", "00 ff 61 62"));
        // Bytes that are no text are never written to a terminal as they are.
        assert!(call(&[], b"\x1b[31m").text().contains("1b 5b 33 31 6d"));

        let answers = call(&["-d", "[1]", "--json", "--repeat", "3", "-H", "a=b"], b"").json();
        assert_eq!(answers.len(), 3);
        for (answer, number) in answers.iter().zip(1..) {
            let headers = answer["headers"].as_array().unwrap();
            assert!(
                headers.contains(&json!({"key": "a", "value": "b"})),
                "{answer}"
            );
            assert!(headers.contains(&json!({"key": "content-type", "value": "application/json"})));
            assert!(
                headers.contains(&json!({"key": "correlation-id", "value": number.to_string()}))
            );
            assert_eq!(
                (&answer["type"], &answer["payload"]),
                (&json!("DATA"), &json!("[1]"))
            );
            assert!(answer["ms"].as_f64().unwrap() > 0.0);
        }
        let binary = &call(&["--json", "--type", "0x42"], b"\xff\xfe").json()[0];
        assert_eq!(
            (&binary["type"], &binary["payload_base64"]),
            (&json!("CUSTOM 0x42"), &json!("//4="))
        );
    }
}

#[test]
fn call_takes_a_file_and_large_payloads() {
    let folder = Folder::new();
    let bytes = crate::util::noise(3_000_000, 1);
    let file = format!("@{}", folder.file("big", &bytes));
    for server in servers(&[]) {
        let ended = vstp(&["call", &server.url, "--plaintext", "-d", &file, "--raw"]).ok();
        assert!(ended.out == bytes, "{} bytes", ended.out.len());
    }
    let server = Server::start(&["--dev"]);
    vstp(&["call", &server.url, "-d", &file, "--max-frame-size", "1MiB"])
        .failed(2, &["over the limit", "--max-frame-size"]);
}

#[test]
fn the_error_of_a_server_has_its_own_exit_code() {
    let server = Server::start(&["--dev", "--exec", "exit 3"]);
    vstp(&["call", &server.url, "-d", "x"]).failed(73, &["handler", "exit status: 3"]);
    let files = Folder::new();
    for server in servers(&["--dir", &files.path("")]) {
        vstp(&["call", &server.url, "--plaintext", "-d", "x"])
            .failed(72, &["bad-request", "vstp file"]);
    }
}

#[test]
fn messages_arrive_in_every_way_of_sending() {
    for (how, scheme) in [
        ("--dev", "vstp"),
        ("--plaintext", "vstp+tcp"),
        ("--udp", "vstp+udp"),
    ] {
        let mut listener = Running::start(command(&[
            "listen",
            "127.0.0.1:0",
            how,
            "--json",
            "-n",
            "5",
        ]));
        let line = listener.error_line("listening on ");
        let url = line
            .split(' ')
            .find(|word| word.contains("://"))
            .unwrap()
            .to_owned();
        assert!(url.starts_with(&format!("{scheme}://")), "{url}");
        let folder = Folder::new();
        let file = folder.file("f", "file");
        let send = |more: &[&str], input: &[u8]| {
            // One after the other, acknowledged: also over UDP they arrive, and in order.
            let args = [&["send", &url, "--plaintext", "--ack"], more].concat();
            vstp_with(&args, input).ok()
        };
        send(&["-m", "text", "-H", "k=v"], b"");
        send(&["-f", &file], b"");
        let report = send(&["-l", "--json"], b"one\ntwo").json();
        assert_eq!(
            (&report[0]["messages"], &report[0]["bytes"]),
            (&json!(2), &json!(6))
        );
        send(&[], b"all\nof it\n");
        let got = listener.end().ok().json();
        let mut payloads: Vec<_> = got.iter().map(|m| m["payload"].as_str().unwrap()).collect();
        if how == "--udp" {
            payloads.sort_unstable_by_key(|p| {
                ["text", "file", "one", "two", "all\nof it\n"]
                    .iter()
                    .position(|q| q == p)
            });
        }
        assert_eq!(payloads, ["text", "file", "one", "two", "all\nof it\n"]);
        let text = got.iter().find(|m| m["payload"] == "text").unwrap();
        assert_eq!(text["headers"][0], json!({"key": "k", "value": "v"}));
        assert!(text["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
}

#[test]
fn listen_on_a_url_prints_what_the_server_sends() {
    let server = VstpTcpServer::bind_plain("127.0.0.1:0").unwrap();
    let url = format!("vstp+tcp://{}", server.local_addr());
    let listen = |more: &[&str]| {
        let args = [&["listen", &url, "--plaintext"], more].concat();
        let listener = Running::start(command(&args));
        (listener, server.accept_timeout(LONG).unwrap())
    };
    let (listener, mut connection) = listen(&["-n", "2", "--json"]);
    for text in ["one", "two", "three"] {
        connection.send(&Frame::data(text)).unwrap();
    }
    let got = listener.end().ok().json();
    assert_eq!(
        got.iter().map(|m| m["payload"].clone()).collect::<Vec<_>>(),
        ["one", "two"]
    );

    // The server's goodbye is the end, and no error.
    let (listener, mut connection) = listen(&["--raw"]);
    connection.send(&Frame::data("all")).unwrap();
    connection.close().unwrap();
    assert_eq!(listener.end().ok().out, b"all");

    // Without one it is.
    let (listener, connection) = listen(&[]);
    connection.closer().close();
    assert_eq!(listener.end().code, 3);
    vstp(&["listen", "vstp://127.0.0.1:1", "-n", "0"]).ok();
}

#[test]
fn ping_measures_and_introduces_the_server() {
    for server in servers(&[]) {
        let ping = |more: &[&str]| {
            let args = [
                &["ping", &server.url, "--plaintext", "-n", "3", "-i", "1ms"],
                more,
            ]
            .concat();
            vstp(&args).ok()
        };
        let text = ping(&[]).text();
        assert!(
            text.contains("seq=3 time=") && text.contains("3 sent, 3 answered"),
            "{text}"
        );
        assert!(text.contains("min/avg/max/mdev = "), "{text}");
        let events = ping(&["--json"]).json();
        assert_eq!(events.len(), 5);
        let summary = &events[4];
        let [min, avg, max] =
            ["min_ms", "avg_ms", "max_ms"].map(|key| summary[key].as_f64().unwrap());
        assert!(0.0 < min && min <= avg && avg <= max, "{summary}");
        let is_tls = server.url.starts_with("vstp://");
        assert_eq!(
            events[0]["tls"]["version"],
            if is_tls {
                json!("TLSv1.3")
            } else {
                json!(null)
            }
        );
        if is_tls {
            assert_eq!(events[0]["tls"]["alpn"], "vstp/1");
            let certificate = &events[0]["certificates"][0];
            assert!(
                certificate["days_left"].as_i64().unwrap() > 300,
                "{certificate}"
            );
            assert!(
                text.contains("TLSv1.3") && text.contains("CN=localhost, expires 20"),
                "{text}"
            );
        }
    }
}

#[test]
fn health_is_an_exit_code() {
    for server in servers(&[]) {
        let health =
            |more: &[&str]| vstp(&[&["health", &server.url, "--plaintext"], more].concat());
        assert!(health(&[]).ok().text().starts_with("healthy: "));
        assert_eq!(health(&["--json"]).ok().json()[0]["healthy"], true);
        health(&["--within", "10us"]).failed(9, &["unhealthy"]);
    }
    let server = Server::start(&["--dev"]);
    vstp(&["health", &server.url, "--cert-days", "10000"]).failed(9, &["expires"]);
    let url = server.url.clone();
    drop(server);
    vstp(&["health", &url]).failed(9, &["unhealthy", "refused"]);
    let ended = vstp(&["health", &url, "--json"]);
    assert_eq!(
        (ended.code, &ended.json()[0]["healthy"]),
        (9, &json!(false))
    );
    vstp(&["health", "vstp+tcp://127.0.0.1:1"]).failed(2, &["--plaintext"]);
}

#[test]
fn lines_are_sent_as_they_come() {
    let mut listener = Running::start(command(&["listen", "127.0.0.1:0", "--dev", "-n", "2"]));
    let line = listener.error_line("listening on ");
    let url = line
        .split(' ')
        .find(|word| word.contains("://"))
        .unwrap()
        .to_owned();
    let mut sender = Running::start(command(&["send", &url, "-l"]));
    let mut stdin = sender.stdin.take().unwrap();
    for word in ["first", "second"] {
        writeln!(stdin, "{word}").unwrap();
        assert_eq!(listener.line(), word, "before the input has ended");
    }
    drop(stdin);
    sender.end().ok();
    listener.end().ok();
}
