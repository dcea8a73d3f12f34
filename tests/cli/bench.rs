//! `vstp bench`: every mode and transport, briefly. The numbers are not judged.

use crate::util::{Running, Server, command, vstp};
use serde_json::{Value, json};

fn run(args: &[&str]) -> Vec<Value> {
    vstp(&[&["bench"], args, &["--plaintext", "--json", "-t", "300ms"]].concat())
        .ok()
        .json()
}

/// Start, at least one interval, end.
fn end(events: &[Value]) -> &Value {
    assert_eq!(events[0]["event"], "start");
    assert_eq!(events[1]["event"], "interval");
    let last = events.last().unwrap();
    assert_eq!(last["event"], "end");
    assert!(last["arrived"].as_u64().unwrap() > 0, "{last}");
    last
}

#[test]
fn round_trips_with_any_server_that_echoes() {
    for how in ["--dev", "--plaintext", "--udp"] {
        let server = Server::start(&[how]);
        let events = run(&[&server.url, "--clients", "2", "--size", "100"]);
        let end = end(&events);
        let [p50, max] = ["p50_ms", "max_ms"].map(|key| end[key].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= max, "{end}");
        assert_eq!(
            end["bytes"].as_u64().unwrap(),
            100 * end["arrived"].as_u64().unwrap()
        );
    }
}

#[test]
fn streams_in_both_directions() {
    for how in ["--dev", "--plaintext", "--udp"] {
        let server = Server::start(&[how, "--bench"]);
        for direction in [&[][..], &["--reverse"]] {
            let args = [&[server.url.as_str(), "--mode", "stream"], direction].concat();
            let events = run(&args);
            let end = end(&events);
            if how != "--udp" {
                assert_eq!(end["lost"], 0, "{end}");
                assert_eq!(end["sent"], end["arrived"], "{end}");
            }
        }
    }
    let server = Server::start(&["--udp", "--bench"]);
    let events = run(&[&server.url, "--mode", "stream", "--ack"]);
    assert_eq!(end(&events)["lost"], 0);
}

#[test]
fn a_rate_is_kept() {
    let server = Server::start(&["--dev", "--bench"]);
    let events = run(&[
        &server.url,
        "--mode",
        "stream",
        "--rate",
        "800k",
        "--size",
        "1000",
    ]);
    // 100 messages a second; a loaded machine sends fewer, never many more.
    let sent = end(&events)["sent"].as_u64().unwrap();
    assert!((1..=60).contains(&sent), "{sent}");
}

#[test]
fn inside_one_process() {
    let text = vstp(&["bench", "--local", "-t", "100ms"]).ok().text();
    for words in [
        "vstp://",
        "vstp+tcp://",
        "vstp+udp://",
        "messages/s",
        "round trip p50",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    vstp(&["bench", "--local", "vstp://localhost"]).failed(2, &["--local"]);
}

#[test]
fn a_server_that_only_echoes_is_named() {
    let server = Server::start(&["--dev"]);
    for direction in [&[][..], &["--reverse"]] {
        let args = [
            "bench",
            &server.url,
            "--mode",
            "stream",
            "-t",
            "100ms",
            "--timeout",
            "5s",
        ];
        let ended = vstp(&[&args[..], direction].concat());
        assert_eq!(ended.code, 6, "{ended:?}");
        assert!(ended.err.contains("vstp server --bench"), "{ended:?}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_benchmark_reports_and_ends_with_130() {
    let server = Server::start(&["--dev"]);
    let mut running = Running::start(command(&["bench", &server.url, "--json", "-t", "1h"]));
    running.line();
    running.line();
    running.signal(rustix::process::Signal::INT);
    let ended = running.end();
    assert_eq!(ended.code, 130, "{ended:?}");
    let events = ended.json();
    assert_eq!(events.last().unwrap()["event"], json!("end"));
}
