//! Event logs of real connections: what they say is what the statistics say, and what they must not say.

use crate::relay::{Link, Relay};
use crate::util::{self, BOTH, LONG};
use serde_json::Value;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vstp::net::event_log::EventLog;
use vstp::net::udp::UdpConfig;
use vstp::serve::ServerConfig;
use vstp::{Frame, VstpUdpClient, VstpUdpServer};

const LOCAL: &str = "127.0.0.1:0";
const SECRET: &str = "nobody-may-read-this";

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    /// All lines, each of which is a JSON object with the members that it must have.
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains(SECRET));
        let lines = text.lines().map(|line| {
            let value: Value = serde_json::from_str(line).expect(line);
            assert!(value["time"].as_f64().unwrap() >= 0.0, "{line}");
            assert!(
                value["name"].as_str().unwrap().starts_with("vstp:"),
                "{line}"
            );
            assert!(value["data"].is_object(), "{line}");
            value
        });
        lines.collect()
    }
}

fn named<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    let all = lines.iter().filter(|line| line["name"] == name);
    all.map(|line| &line["data"]).collect()
}

fn count(lines: &[Value], name: &str) -> u64 {
    named(lines, name).len() as u64
}

#[test]
fn through_losses_the_log_counts_what_the_statistics_count() {
    let link = Link {
        loss: 50,
        duplicate: 20,
        flip: 0,
        delay: Duration::from_millis(1),
    };
    let config = UdpConfig::default().read_timeout(Some(LONG));
    let server = VstpUdpServer::bind_with_config(LOCAL, config.clone()).unwrap();
    let relay = Relay::new(server.local_addr(), link, 11);
    let memory = Memory::default();
    let log = EventLog::writer(Box::new(memory.clone()));
    let config = config
        .event_log(log.clone())
        .auth_token(Some(SECRET.as_bytes().to_vec()));
    let client = VstpUdpClient::bind_with_config(LOCAL, config).unwrap();
    client.connect(relay.addr).unwrap();
    let payload = SECRET.repeat(30_000);
    client
        .send_with_ack(Frame::data(payload), relay.addr)
        .unwrap();
    for _ in 0..50 {
        client
            .send_with_ack(Frame::data(SECRET), relay.addr)
            .unwrap();
    }
    client.close();
    let stats = client.stats().protocol;
    drop(client);
    log.flush();

    assert_eq!((log.lost_count(), log.error_count()), (0, 0));
    let lines = memory.lines();
    assert!(stats.retransmissions > 0);
    assert_eq!(
        count(&lines, "vstp:frame_retransmitted"),
        stats.retransmissions
    );
    assert_eq!(count(&lines, "vstp:timeout_expired"), stats.timeouts);
    for (name, tally) in [
        ("vstp:frame_sent", stats.frames_sent),
        ("vstp:frame_received", stats.frames_received),
    ] {
        let frames = named(&lines, name);
        let bytes = frames.iter().map(|data| data["length"].as_u64().unwrap());
        assert_eq!(frames.len() as u64, tally.frame_total(), "{name}");
        assert_eq!(bytes.sum::<u64>(), tally.byte_total(), "{name}");
    }
    for lost in named(&lines, "vstp:frame_lost") {
        let trigger = lost["trigger"].as_str().unwrap();
        let rules = ["reordering_threshold", "time_threshold", "timeout_expired"];
        assert!(rules.contains(&trigger), "{trigger}");
    }
    assert!(count(&lines, "vstp:frame_lost") > 0);
    let states = named(&lines, "vstp:congestion_state_updated");
    assert_eq!(states[0]["new"], "startup");
    let metrics = named(&lines, "vstp:metrics_updated");
    assert!(
        metrics
            .iter()
            .all(|m| m["congestion_window"].as_u64() > Some(0))
    );
    assert!(count(&lines, "vstp:rtt_updated") > 0);
    let fragments = named(&lines, "vstp:frame_sent");
    assert!(fragments.iter().any(|data| data["frag_total"].is_u64()));
}

#[test]
fn a_tcp_connection_tells_its_frames_its_round_trip_and_its_end() {
    for kind in BOTH {
        let (at_client, at_server) = (Memory::default(), Memory::default());
        let log = EventLog::writer(Box::new(at_client.clone()));
        let server_log = EventLog::writer(Box::new(at_server.clone()));
        let config = ServerConfig::default().tcp(util::config().event_log(server_log.clone()));
        let handle = util::echo(kind, config);
        let config = util::config()
            .event_log(log.clone())
            .auth_token(Some(SECRET.as_bytes().to_vec()));
        let mut client = util::try_connect(kind, &handle, config).unwrap();
        for _ in 0..10 {
            client
                .feed(&Frame::data(SECRET).with_header("h", SECRET))
                .unwrap();
        }
        client.flush().unwrap();
        for _ in 0..10 {
            client.recv().unwrap().unwrap();
        }
        client.ping().unwrap();
        let stats = client.stats();
        log.flush();
        let lines = at_client.lines();
        let sent = named(&lines, "vstp:frame_sent").into_iter();
        let sent = sent.map(|data| data["count"].as_u64().unwrap_or(1));
        assert_eq!(sent.sum::<u64>(), stats.frames_sent);
        assert_eq!(count(&lines, "vstp:frame_received"), stats.frames_received);
        let round_trips = named(&lines, "vstp:rtt_updated");
        assert_eq!(round_trips.len(), 1);
        assert!(round_trips[0]["latest_rtt"].as_f64().unwrap() < LONG.as_secs_f64());

        client.close().unwrap();
        let lines = at_client.lines();
        let ends = named(&lines, "vstp:connection_closed");
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0]["trigger"], "local");
        handle.shutdown(LONG);
        server_log.flush();
        let lines = at_server.lines();
        let ends = named(&lines, "vstp:connection_closed");
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0]["trigger"], "peer_bye");
        assert_eq!(log.lost_count() + server_log.lost_count(), 0);
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_writer_that_fails_ends_nothing() {
    let log = EventLog::writer(Box::new(Broken));
    let config = UdpConfig::default()
        .read_timeout(Some(LONG))
        .event_log(log.clone());
    let server = VstpUdpServer::bind_with_config(LOCAL, config.clone()).unwrap();
    let client = VstpUdpClient::bind_with_config(LOCAL, config).unwrap();
    let payload = vec![7; 1_000_000];
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| server.recv().unwrap().0.payload);
        let frame = Frame::data(payload.clone());
        client.connect(server.local_addr()).unwrap();
        client.send_with_ack(frame, server.local_addr()).unwrap();
        assert_eq!(receiving.join().unwrap(), payload);
    });
    let handle = util::echo(util::Kind::Plain, ServerConfig::default());
    let config = util::config().event_log(log.clone());
    let mut tcp = util::try_connect(util::Kind::Plain, &handle, config).unwrap();
    tcp.send(&Frame::data("x")).unwrap();
    assert_eq!(tcp.recv().unwrap().unwrap().payload, b"x");
    tcp.close().unwrap();
    assert!(log.error_count() > 1);
    handle.shutdown(LONG);
}
