//! `--event-log` of every command that holds a connection, and what `vstp plot` makes of it.

use crate::util::{Folder, Running, Server, command, noise, vstp, vstp_with};
use serde_json::Value;
use std::fs;

fn events(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let parse = |line: &str| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    text.lines().map(parse).collect()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    let name = format!("vstp:{name}");
    events
        .iter()
        .filter(|event| event["name"] == name.as_str())
        .collect()
}

#[test]
fn every_command_with_a_connection_writes_its_events() {
    let folder = Folder::new();
    let files = Folder::new();
    for (how, group) in [
        ("--dev", "tcp/"),
        ("--plaintext", "tcp/"),
        ("--udp", "udp/"),
    ] {
        let theirs = folder.path("server.jsonl");
        let dir = files.path("");
        let server = Server::start(&[how, "--dir", &dir, "--event-log", &theirs]);
        let ours = folder.path("client.jsonl");
        let file = folder.file("f", noise(300_000, 2));
        let name = format!("f{how}");
        let url = server.url.clone();
        for args in [
            &["send", &url, "-m", "x", "--ack"][..],
            &["call", &url, "-d", "x"],
            &["ping", &url, "-n", "2", "-i", "1ms"],
            &["file", "send", &file, &url, "--name", &name],
            &["file", "recv", &name, &url, "-o", &folder.path(&name)],
        ] {
            let all = [args, &["--plaintext", "--event-log", &ours]].concat();
            let ended = vstp(&all);
            if args[0] == "ping" && how == "--udp" {
                ended.failed(2, &["--event-log", "vstp bench"]);
                continue;
            }
            // A server of files does not echo; its error is an answer, too.
            assert!([0, 72].contains(&ended.code), "{ended:?}");
            let events = events(&ours);
            assert_eq!(events[0]["name"], "vstp:log_started");
            for name in ["frame_sent", "frame_received"] {
                let all = named(&events, name);
                assert!(!all.is_empty(), "{how} {}: no {name}", args[0]);
                let of_group =
                    |event: &&&Value| event["group_id"].as_str().unwrap().starts_with(group);
                assert_eq!(all.iter().filter(of_group).count(), all.len());
            }
            if args[0] == "ping" {
                assert_eq!(named(&events, "rtt_updated").len(), 2);
            }
        }
        #[cfg(unix)]
        {
            server.running.signal(rustix::process::Signal::TERM);
            server.running.end().ok();
            assert!(named(&events(&theirs), "frame_received").len() > 5, "{how}");
        }
        #[cfg(not(unix))]
        drop(server);
    }
    let ours = folder.path("listen.jsonl");
    let mut listener = Running::start(command(&[
        "listen",
        "127.0.0.1:0",
        "--udp",
        "-n",
        "1",
        "--event-log",
        &ours,
    ]));
    let line = listener.error_line("listening on ");
    let url = line.split(' ').find(|word| word.contains("://")).unwrap();
    vstp(&["send", url, "-m", "x", "--ack"]).ok();
    listener.end().ok();
    assert!(!named(&events(&ours), "frame_received").is_empty());
}

#[test]
fn both_transports_write_to_one_log() {
    let folder = Folder::new();
    let log = folder.path("log");
    let server = Server::start(&["--dev", "--auto"]);
    for via in ["tcp", "udp"] {
        let call = ["call", &server.url, "-d", "x", "--via", via];
        vstp(&[&call[..], &["--event-log", &log]].concat()).ok();
        let events = events(&log);
        for group in ["tcp/", "udp/"] {
            let is_there = |e: &Value| e["group_id"].as_str().is_some_and(|g| g.starts_with(group));
            assert!(events.iter().any(is_there), "{via}: {group}");
        }
    }
}

#[test]
fn a_log_that_cannot_be_opened_ends_with_8() {
    let gone = "/no/such/folder/log";
    let log = ["--event-log", gone];
    for args in [
        &["server", "127.0.0.1:0", "--plaintext"][..],
        &["listen", "127.0.0.1:0", "--udp"],
        &["call", "vstp://localhost:1", "-d", "x"],
        &["send", "vstp+udp://localhost:1", "-m", "x"],
        &["ping", "vstp://localhost:1"],
        &["bench", "vstp://localhost:1"],
        &["file", "recv", "f", "vstp://localhost:1"],
        &["call", "vstp://localhost:1", "-d", "x", "--reconnect"],
    ] {
        vstp(&[args, &log].concat()).failed(8, &[gone, "No such file"]);
    }
    vstp(&["bench", "--local", "--svg", "/no/such/folder/a.svg"]).failed(8, &["a.svg"]);
    vstp(&["plot", gone]).failed(8, &[gone]);
}

#[cfg(unix)]
#[test]
fn a_log_that_another_program_writes_is_left_alone() {
    use rustix::process::Signal;
    let folder = Folder::new();
    let log = folder.path("log");
    let first = ["--plaintext", "--event-log", &log];
    let server = Server::start(&first);
    vstp(&["call", &server.url, "--plaintext", "-d", "x"]).ok();
    let other = Server::start(&["--plaintext"]);
    for args in [
        &["server", "127.0.0.1:0"][..],
        // Its port is taken, too.
        &["server", server.address()],
        &["listen", "127.0.0.1:0"],
        &["call", &other.url, "-d", "x"],
        &["bench", &other.url, "-t", "1ms"],
    ] {
        vstp(&[args, &first].concat()).failed(8, &[&log, "another program"]);
    }
    server.running.signal(Signal::TERM);
    server.running.end().ok();
    let all = events(&log);
    assert_eq!(all[0]["name"], "vstp:log_started");
    assert_eq!(named(&all, "connection_closed").len(), 1);
    // Afterwards it is anybody's, and begins anew.
    vstp(&[&["call", &other.url, "-d", "x"], &first[..]].concat()).ok();
    assert!(events(&log).len() < all.len() + 10);
    assert_eq!(named(&events(&log), "log_started").len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_is_said_to_be_lacking() {
    let server = Server::start(&["--plaintext", "--bench"]);
    let log = ["--plaintext", "--event-log", "/dev/full"];
    for args in [
        &["call", &server.url, "-d", "x"][..],
        &["send", &server.url, "-m", "x"],
        &["ping", &server.url, "-n", "1"],
        &["bench", &server.url, "-t", "1ms"],
    ] {
        let ended = vstp(&[args, &log].concat()).ok();
        assert!(
            ended.err.contains("the event log is not whole"),
            "{ended:?}"
        );
    }
    let folder = Folder::new();
    let svg = ["--svg", &folder.path("a.svg")];
    let bench = ["bench", &server.url, "-t", "1ms"];
    let ended = vstp(&[&bench[..], &log, &svg].concat());
    assert_eq!(ended.code, 8, "{ended:?}");
    assert!(ended.err.contains("nothing to draw"), "{ended:?}");
    assert!(folder.names().is_empty());
    // Also of a server, which hears of it when it ends.
    let server = Server::start(&log);
    vstp(&["call", &server.url, "--plaintext", "-d", "x"]).ok();
    server.running.signal(rustix::process::Signal::TERM);
    let ended = server.running.end().ok();
    assert!(
        ended.err.contains("the event log is not whole"),
        "{ended:?}"
    );
    // Whoever does not want to keep it is not told anything, nor kept out.
    let other = Server::start(&["--plaintext", "--event-log", "/dev/null"]);
    let call = ["call", &other.url, "--plaintext", "-d", "x"];
    let ended = vstp(&[&call[..], &["--event-log", "/dev/null"]].concat()).ok();
    assert_eq!(ended.err, "");
}

// Pictures.

#[derive(Debug)]
struct Curve {
    color: String,
    opacity: String,
    points: Vec<(i32, i32)>,
}

/// The curves of a picture, by panel. They are one pixel wide, those of the legends two.
fn curves(svg: &str) -> [Vec<Curve>; 3] {
    let mut panels: [Vec<_>; 3] = Default::default();
    for tag in svg.split('<').filter(|tag| tag.starts_with("polyline ")) {
        let attribute = |name: &str| {
            let begin = tag.split(&format!(" {name}=\"")).nth(1).unwrap();
            begin.split('"').next().unwrap().to_owned()
        };
        if attribute("stroke-width") != "1" || attribute("stroke") == "#000000" {
            continue;
        }
        let point = |text: &str| {
            let (x, y) = text.split_once(',').unwrap();
            (x.parse::<i32>().unwrap(), y.parse::<i32>().unwrap())
        };
        let points: Vec<_> = attribute("points").split_whitespace().map(point).collect();
        // Three panels below the title.
        let panel = (points[0].1 - 40) / 307;
        panels[panel as usize].push(Curve {
            color: attribute("stroke"),
            opacity: attribute("opacity"),
            points,
        });
    }
    panels
}

fn texts(svg: &str) -> Vec<&str> {
    let after = svg.split("<text ").skip(1);
    let inner = after.map(|tag| tag.split('>').nth(1).unwrap().split('<').next().unwrap());
    inner.map(str::trim).collect()
}

#[test]
fn a_real_log_becomes_three_panels_with_its_points() {
    let folder = Folder::new();
    let (log, svg) = (folder.path("log.jsonl"), folder.path("out.svg"));
    let server = Server::start(&["--udp", "--bench"]);
    let bench = [
        "bench",
        &server.url,
        "--mode",
        "stream",
        "--ack",
        "-t",
        "1s",
        "--rate",
        "2M",
        "--size",
        "4KiB",
    ];
    vstp(&[&bench[..], &["--event-log", &log]].concat()).ok();
    let made = vstp(&["plot", &log, "-o", &svg]).ok();
    assert!(made.out.is_empty());
    let picture = fs::read_to_string(&svg).unwrap();
    // To stdout, and from stdin, it is the same.
    assert_eq!(vstp(&["plot", &log]).ok().text(), picture);
    assert_eq!(
        vstp_with(&["plot", "-"], &fs::read(&log).unwrap())
            .ok()
            .text(),
        picture
    );

    let texts = texts(&picture);
    for text in [
        "Throughput",
        "Round-trip time",
        "Congestion window",
        "time (s)",
        "sent",
        "received",
    ] {
        assert!(texts.contains(&text), "{text}: {texts:?}");
    }
    assert!(texts[0].starts_with("1 connection, "), "{texts:?}");
    let events = events(&log);
    let group = events.last().unwrap()["group_id"].as_str().unwrap();
    assert!(texts.contains(&group), "{group}: {texts:?}");
    let [throughput, rtt, window] = curves(&picture);
    assert_eq!(throughput.len(), 2);
    assert!(
        throughput[0].points.len() > 50,
        "{}",
        throughput[0].points.len()
    );
    // All points are drawn: fewer than 4,096 of each.
    let count = |name: &str| named(&events, name).len();
    assert!(count("rtt_updated") > 0 && count("metrics_updated") > 0);
    assert_eq!(rtt.len(), 1);
    assert_eq!(rtt[0].points.len(), count("rtt_updated"));
    assert_eq!(window.len(), 2, "bytes in flight, and the window");
    assert_eq!(window[1].points.len(), count("metrics_updated"));
}

#[test]
fn points_are_where_the_log_says() {
    let line = |time: f64, name: &str, data: &str| {
        format!(
            "{{\"time\":{time},\"name\":\"vstp:{name}\",\"group_id\":\"udp/a/b\",\"data\":{data}}}\n"
        )
    };
    let mut log = String::new();
    for n in 0..=10 {
        let time = f64::from(n) / 10.0;
        log += &line(time, "frame_sent", "{\"length\":1000}");
        let window = format!(
            "{{\"congestion_window\":{},\"bytes_in_flight\":0}}",
            1000 * n
        );
        log += &line(time, "metrics_updated", &window);
        let rtt = format!(
            "{{\"latest_rtt\":1,\"smoothed_rtt\":{}}}",
            0.001 * f64::from(10 - n)
        );
        log += &line(time, "rtt_updated", &rtt);
    }
    log += &line(0.5, "frame_lost", "{\"length\":1000}");
    let svg = vstp_with(&["plot", "-"], log.as_bytes()).ok().text();
    let [_, rtt, window] = curves(&svg);
    let [in_flight, window] = &window[..] else {
        panic!("{window:?}");
    };
    assert_eq!(
        (in_flight.opacity.as_str(), window.opacity.as_str()),
        ("0.4", "1")
    );
    assert_eq!(window.color, "#1F77B4");
    let (in_flight, window) = (&in_flight.points, &window.points);
    // Equal steps to the right; the window rises and the round-trip time falls, to the same line.
    let rtt = &rtt[0].points;
    for points in [rtt, window] {
        assert_eq!(points.len(), 11);
        let steps = points.windows(2).map(|two| two[1].0 - two[0].0);
        let (min, max) = (steps.clone().min().unwrap(), steps.max().unwrap());
        assert!(min > 50 && max - min <= 1, "{points:?}");
    }
    assert!(
        window.windows(2).all(|two| two[1].1 < two[0].1),
        "{window:?}"
    );
    assert!(rtt.windows(2).all(|two| two[1].1 > two[0].1), "{rtt:?}");
    assert!(in_flight.iter().all(|point| point.1 == window[0].1));
    let circles = svg.matches("<circle").count();
    assert_eq!(circles, 2, "the loss, and its legend");
    assert!(texts(&svg)[0].ends_with("1 lost"), "{:?}", texts(&svg));

    // Names are text, whatever they are.
    let odd = line(0.1, "rtt_updated", "{\"latest_rtt\":1}").replace("udp/a/b", "<script>&\\\"");
    let svg = vstp_with(&["plot", "-"], format!("{log}{odd}").as_bytes())
        .ok()
        .text();
    assert!(
        svg.contains("&lt;script&gt;&amp;") && !svg.contains("<script"),
        "{svg}"
    );
    let odd = line(0.1, "rtt_updated", "{\"latest_rtt\":1}").replace("udp/a/b", "a\\u001bb\\u0000");
    let svg = vstp_with(&["plot", "-"], format!("{log}{odd}").as_bytes())
        .ok()
        .text();
    assert!(
        svg.contains("a\\u{1b}b") && !svg.contains(|c: char| c.is_control() && c != '\n'),
        "{svg}"
    );

    // Over TCP the system keeps the window.
    let tcp = line(0.1, "frame_sent", "{\"length\":1000}");
    let svg = vstp_with(&["plot", "-"], tcp.as_bytes()).ok().text();
    let texts = texts(&svg);
    assert!(
        texts.contains(&"no congestion window in this log"),
        "{texts:?}"
    );
}

#[test]
fn a_damaged_log_is_refused_with_the_number_of_the_line() {
    let good = "{\"time\":0.1,\"name\":\"vstp:frame_sent\",\"data\":{\"length\":1000}}\n";
    let folder = Folder::new();
    for (bad, words) in [
        ("hello\n", "not JSON"),
        ("{\"event\":\"start\",\"v\":1}\n", "no `time`"),
        (&good[..40], "not JSON"),
        (&good.replace("1000", "\"x\""), "`length`"),
        (&good.replace("1000", "1e308"), "`length`"),
        (&good.replace("1000", "1.1e15"), "`length`"),
        (
            &good
                .replace("frame_sent", "rtt_updated")
                .replace("\"length\":1000", "\"latest_rtt\":1e308"),
            "`latest_rtt`",
        ),
        (
            &good
                .replace("frame_sent", "metrics_updated")
                .replace("\"length\":1000", "\"congestion_window\":1e308"),
            "`congestion_window`",
        ),
    ] {
        let log = folder.file("log", format!("{good}{good}{bad}\n{good}"));
        vstp(&["plot", &log, "-o", &folder.path("no.svg")]).failed(6, &["log: line 3: ", words]);
        assert!(!folder.0.join("no.svg").exists());
    }
    // The largest numbers that are taken can be drawn, and so can their sums.
    let most = "{\"time\":0.1,\"name\":\"vstp:frame_sent\",\"data\":{\"length\":1e15}}\n";
    vstp_with(&["plot", "-"], most.repeat(100).as_bytes()).ok();
    // The last line of a command that was killed is cut.
    let cut = folder.file("cut", format!("{good}{}", &good[..30]));
    let ended = vstp(&["plot", &cut]).ok();
    assert!(
        ended.err.contains("the last line of the log was cut"),
        "{ended:?}"
    );
    // The log is never replaced by its picture, and a picture only by a whole one.
    let log = folder.file("log", good);
    vstp(&["plot", &log, "-o", &log]).failed(2, &["two files"]);
    let same = folder.path("../log").replace("..", "./.");
    vstp(&["plot", &log, "-o", &same]).failed(2, &["two files"]);
    let bench = ["bench", "--local", "-t", "1ms", "--event-log", &log];
    vstp(&[&bench[..], &["--svg", &log]].concat()).failed(2, &["two files"]);
    assert_eq!(fs::read_to_string(&log).unwrap(), good);
    let svg = folder.file("old.svg", "old");
    vstp(&["plot", &log, "-o", &svg]).ok();
    assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg"));
    assert_eq!(folder.names(), ["cut", "log", "old.svg"]);
    vstp(&["plot", &log, "-o", &folder.path("")]).failed(8, &["irectory"]);
    vstp_with(&["plot", "-"], b"").failed(6, &["nothing to draw"]);
    vstp_with(&["plot", "-"], &noise(100_000, 3)).failed(6, &["line 1"]);
}

#[test]
fn a_benchmark_draws_itself_and_leaves_nothing_else() {
    let folder = Folder::new();
    let svg = folder.path("bench.svg");
    vstp(&["bench", "--local", "-t", "100ms", "--svg", &svg]).ok();
    assert_eq!(folder.names(), ["bench.svg"]);
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(
        texts(&picture)[0].starts_with("3 connections, "),
        "{:?}",
        texts(&picture)[0]
    );
    // With a log of its own that stays.
    let log = folder.path("log");
    let bench = [
        "bench",
        "--local",
        "-t",
        "50ms",
        "--svg",
        &svg,
        "--event-log",
        &log,
    ];
    vstp(&bench).ok();
    assert_eq!(folder.names(), ["bench.svg", "log"]);
    assert_eq!(
        vstp(&["plot", &log]).ok().text(),
        fs::read_to_string(&svg).unwrap()
    );
}
