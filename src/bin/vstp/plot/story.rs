//! [`Story`]: what an event log says, in the numbers that are drawn. Its form is in docs/design.md.

use super::curve::{Bins, Curve};
use crate::output;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::{self, BufRead, Read};

/// A longer line is none of a log (bytes).
const MAX_LINE_LEN: u64 = 64 * 1024;
/// Connections that are kept apart; those that come later only count for the throughput.
const MAX_CONNECTIONS: usize = 256;
/// A larger number is none of a log, whatever it counts; an axis can be drawn for it, and for sums of it.
const MAX_NUMBER: f64 = 1e15;

/// Why a log cannot be read.
#[derive(Debug)]
pub(super) enum Wrong {
    Io(io::Error),
    /// This line, counted from 1, is no event.
    Line(u64, String),
}

/// One connection, as its group of events tells.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) name: String,
    /// Of frames, in both directions.
    pub(super) bytes: f64,
    /// Seconds.
    pub(super) rtt: Curve,
    /// Bytes.
    pub(super) window: Curve,
    pub(super) in_flight: Curve,
    /// Whether round-trip times are smoothed ones.
    is_smoothed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// The time of the last event (seconds).
    pub(super) end: f64,
    /// Bytes of frames.
    pub(super) sent: Bins,
    pub(super) received: Bins,
    pub(super) connections: Vec<Connection>,
    pub(super) lost: Curve,
    pub(super) lost_count: u64,
    /// Events that the log itself says it does not have.
    pub(super) missing: u64,
    /// The last line had no end, and was none.
    pub(super) is_cut: bool,
    by_name: HashMap<String, usize>,
}

impl Story {
    pub(super) fn read(mut input: impl BufRead) -> Result<Self, Wrong> {
        let mut story = Self::default();
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            let read = (&mut input)
                .take(MAX_LINE_LEN)
                .read_until(b'\n', &mut line)
                .map_err(Wrong::Io)?;
            if read == 0 {
                return Ok(story);
            }
            number += 1;
            let is_whole = line.ends_with(b"\n");
            if line.trim_ascii().is_empty() {
                continue;
            }
            match story.line(&line) {
                Ok(()) => {}
                Err(_) if !is_whole && (read as u64) < MAX_LINE_LEN => story.is_cut = true,
                Err(what) => return Err(Wrong::Line(number, what)),
            }
        }
    }

    /// Nothing was sent or received.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.total + self.received.total == 0.0
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| {
            // The position in the line, and not "line 1".
            format!("not JSON: wrong at column {}", error.column())
        })?;
        let field = |key: &str| value.get(key).ok_or_else(|| format!("it has no `{key}`"));
        let time = field("time")?
            .as_f64()
            .filter(|time| *time >= 0.0 && *time < 1e9)
            .ok_or("`time` is no number of seconds")?;
        let name = field("name")?
            .as_str()
            .and_then(|name| name.strip_prefix("vstp:"))
            .ok_or("`name` is none of an event of VSTP")?;
        let data = field("data")?.as_object().ok_or("`data` is no object")?;
        let group = match value.get("group_id") {
            Some(group) => group.as_str().ok_or("`group_id` is no text")?,
            None => "",
        };
        self.end = self.end.max(time);
        match name {
            "frame_sent" | "frame_received" => {
                let len = number(data, "length")?;
                let bins = match name {
                    "frame_sent" => &mut self.sent,
                    _ => &mut self.received,
                };
                bins.add(time, len);
                if let Some(connection) = self.connection(group) {
                    connection.bytes += len;
                }
            }
            "rtt_updated" => {
                let latest = number(data, "latest_rtt")?;
                let smoothed = data.contains_key("smoothed_rtt");
                let rtt = if smoothed {
                    number(data, "smoothed_rtt")?
                } else {
                    latest
                };
                if let Some(connection) = self.connection(group) {
                    connection.is_smoothed |= smoothed;
                    connection.rtt.add(time, rtt);
                }
            }
            "metrics_updated" => {
                let window = number(data, "congestion_window")?;
                let in_flight = number(data, "bytes_in_flight")?;
                if let Some(connection) = self.connection(group) {
                    connection.window.add(time, window);
                    connection.in_flight.add(time, in_flight);
                }
            }
            "frame_lost" => {
                self.lost.add(time, 0.0);
                self.lost_count += 1;
            }
            "events_lost" => self.missing += number(data, "count")? as u64,
            // Nothing of it is drawn.
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, name: &str) -> Option<&mut Connection> {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None if self.connections.len() == MAX_CONNECTIONS => return None,
            None => {
                let index = self.connections.len();
                self.by_name.insert(name.to_owned(), index);
                self.connections.push(Connection {
                    name: output::shown(name.as_bytes()),
                    bytes: 0.0,
                    rtt: Curve::default(),
                    window: Curve::default(),
                    in_flight: Curve::default(),
                    is_smoothed: false,
                });
                index
            }
        };
        self.connections.get_mut(index)
    }
}

fn number(data: &Map<String, Value>, key: &str) -> Result<f64, String> {
    let value = data.get(key).and_then(Value::as_f64);
    value
        .filter(|value| (0.0..=MAX_NUMBER).contains(value))
        .ok_or_else(|| format!("`{key}` is missing or no number from 0 to {MAX_NUMBER:e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Story, Wrong> {
        Story::read(text.as_bytes())
    }

    #[test]
    fn what_a_log_says_is_counted_by_connection() {
        let story = read(concat!(
            r#"{"time":0.0,"name":"vstp:log_started","data":{"version":"0.3.0"}}"#,
            "\n",
            r#"{"time":0.1,"name":"vstp:frame_sent","group_id":"a","data":{"frame_type":"data","length":100}}"#,
            "\n\n",
            r#"{"time":0.2,"name":"vstp:frame_received","group_id":"b","data":{"length":50,"count":2}}"#,
            "\n",
            r#"{"time":0.3,"name":"vstp:rtt_updated","group_id":"a","data":{"latest_rtt":0.5,"smoothed_rtt":0.25}}"#,
            "\n",
            r#"{"time":0.4,"name":"vstp:metrics_updated","group_id":"a","data":{"congestion_window":12000,"bytes_in_flight":7}}"#,
            "\n",
            r#"{"time":0.5,"name":"vstp:frame_lost","group_id":"a","data":{}}"#,
            "\n",
            r#"{"time":0.6,"name":"vstp:events_lost","data":{"count":9}}"#,
            "\n",
            r#"{"time":0.7,"name":"vstp:something_new","data":{}}"#,
            "\n",
            r#"{"time":0.8,"na"#,
        ))
        .expect("a log");
        assert_eq!((story.sent.total, story.received.total), (100.0, 50.0));
        assert_eq!((story.lost_count, story.missing), (1, 9));
        assert!(story.is_cut && !story.is_empty());
        assert_eq!(story.end, 0.7);
        let a = &story.connections[0];
        assert_eq!((a.name.as_str(), a.bytes), ("a", 100.0));
        assert_eq!(a.rtt.points(), [(0.3, 0.25)]);
        assert_eq!(a.window.points(), [(0.4, 12000.0)]);
        assert_eq!(story.connections[1].bytes, 50.0);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = r#"{"time":0.1,"name":"vstp:x","data":{}}"#;
        let long = "x".repeat(MAX_LINE_LEN as usize + 1);
        for (bad, words) in [
            ("hello", "not JSON"),
            ("[1]", "no `time`"),
            (r#"{"time":-1,"name":"vstp:x","data":{}}"#, "`time`"),
            (r#"{"time":1e300,"name":"vstp:x","data":{}}"#, "`time`"),
            (r#"{"time":1,"name":"x","data":{}}"#, "`name`"),
            (r#"{"time":1,"name":"vstp:x","data":3}"#, "`data`"),
            (
                r#"{"time":1,"name":"vstp:x","data":{},"group_id":1}"#,
                "`group_id`",
            ),
            (
                r#"{"time":1,"name":"vstp:frame_sent","data":{}}"#,
                "`length`",
            ),
            (
                r#"{"time":1,"name":"vstp:frame_sent","data":{"length":-1}}"#,
                "`length`",
            ),
            ("\u{0}", "not JSON"),
            (&long, "not JSON"),
        ] {
            match read(&format!("{good}\n{bad}\n{good}\n")) {
                Err(Wrong::Line(2, what)) => assert!(what.contains(words), "{what}"),
                other => panic!("{bad:.80}: {other:?}"),
            }
        }
        // Not whole, but too long to be the end of one.
        assert!(matches!(read(&long), Err(Wrong::Line(1, _))));
    }

    #[test]
    fn very_many_connections_are_not_kept_apart() {
        let mut text = String::new();
        for n in 0..2 * MAX_CONNECTIONS {
            text += &format!(
                "{{\"time\":0,\"name\":\"vstp:frame_sent\",\"group_id\":\"{n}\",\"data\":{{\"length\":1}}}}\n"
            );
        }
        let story = read(&text).expect("a log");
        assert_eq!(story.connections.len(), MAX_CONNECTIONS);
        assert_eq!(story.sent.total, 2.0 * MAX_CONNECTIONS as f64);
    }
}
