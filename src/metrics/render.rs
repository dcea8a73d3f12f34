//! Numbers to text: the exposition format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use super::family::{Family, Kind};
use super::{Metrics, Snapshot};
use crate::error::VstpError;
use crate::proto::tally::{BOUNDS, BUCKET_COUNT};
use std::fmt::Write;

/// The media type of the text, for the header `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Several sources in one text, told apart by a label.
///
/// # Example
/// ```
/// use vstp::metrics::{Exposition, Snapshot};
/// let mut all = Exposition::new("role")?;
/// all.add("server", &Snapshot::default());
/// all.add("client", &Snapshot::default());
/// let text = all.render();
/// assert!(text.contains("vstp_handler_panics_total{role=\"client\"} 0\n"));
/// # Ok::<(), vstp::VstpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Exposition {
    label: String,
    parts: Vec<(String, Snapshot)>,
}

impl Exposition {
    /// Without sources yet; each will have a value of this label.
    ///
    /// # Errors
    /// `Config` if that is no name of a label, or one that is used already.
    pub fn new(label: impl Into<String>) -> Result<Self, VstpError> {
        let label = label.into();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begins = label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins || label.starts_with("__") || !label.chars().all(is_word) {
            let reason = "must be letters, digits and underscores, and begin with a letter";
            return Err(VstpError::config("label", reason));
        }
        if label == "le" || Family::label_names().any(|name| name == label) {
            return Err(VstpError::config("label", "is a label of the metrics"));
        }
        Ok(Self {
            label,
            parts: Vec::new(),
        })
    }

    /// Adds a source; those with the same value are added up.
    pub fn add(&mut self, value: impl Into<String>, snapshot: &Snapshot) {
        let value = value.into();
        match self.parts.iter_mut().find(|(other, _)| *other == value) {
            Some((_, sum)) => sum.merge(snapshot),
            None => self.parts.push((value, snapshot.clone())),
        }
    }

    /// The text; its media type is [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let parts: Vec<_> = self.parts.iter().map(|(v, s)| (v.as_str(), s)).collect();
        text(Some(&self.label), &parts)
    }
}

impl Snapshot {
    /// The numbers in the text format of Prometheus, version 0.0.4; see [`CONTENT_TYPE`].
    #[must_use]
    pub fn render_prometheus(&self) -> String {
        text(None, &[("", self)])
    }
}

impl Metrics {
    /// The numbers now in the text format of Prometheus; see [`Snapshot::render_prometheus`].
    #[must_use]
    pub fn render_prometheus(&self) -> String {
        self.snapshot().render_prometheus()
    }
}

/// Writes every family once, with the series of all parts.
fn text(label: Option<&str>, parts: &[(&str, &Snapshot)]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for family in Family::ALL {
        let kind = match family.kind() {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let name = family.name();
        // Writing to a string does not fail.
        let _ = writeln!(out, "# HELP {name} {}", family.help());
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for (value, snapshot) in parts {
            let own = label.map(|label| (label, *value));
            match family.kind() {
                Kind::Histogram => histogram(&mut out, *family, own, snapshot),
                Kind::Counter => counter(&mut out, *family, own, snapshot, false),
                Kind::Gauge => counter(&mut out, *family, own, snapshot, true),
            }
        }
    }
    out
}

fn counter<'a>(
    out: &mut String,
    family: Family,
    own: Option<(&'a str, &'a str)>,
    snapshot: &Snapshot,
    is_gauge: bool,
) {
    for place in 0..family.width() {
        out.push_str(family.name());
        let series = family
            .labels(place)
            .map(|(name, value)| -> (&'a str, &'a str) { (name, value) });
        labels(out, own.into_iter().chain(series));
        let value = snapshot.at(family, place);
        // A gauge whose parts were read one after the other may be below zero for a moment.
        let value = if is_gauge && value > u64::MAX / 2 {
            0
        } else {
            value
        };
        let _ = writeln!(out, " {value}");
    }
}

fn histogram(out: &mut String, family: Family, own: Option<(&str, &str)>, snapshot: &Snapshot) {
    let name = family.name();
    let mut count = 0;
    for bucket in 0..BUCKET_COUNT {
        count += snapshot.at(family, bucket);
        let bound = match BOUNDS.get(bucket) {
            Some(nanos) => seconds(*nanos),
            None => "+Inf".to_owned(),
        };
        let _ = write!(out, "{name}_bucket");
        labels(out, own.into_iter().chain([("le", bound.as_str())]));
        let _ = writeln!(out, " {count}");
    }
    let sum = seconds(snapshot.at(family, BUCKET_COUNT));
    for (suffix, value) in [("sum", sum), ("count", count.to_string())] {
        let _ = write!(out, "{name}_{suffix}");
        labels(out, own.into_iter());
        let _ = writeln!(out, " {value}");
    }
}

/// Nanoseconds as seconds, exactly.
fn seconds(nanos: u64) -> String {
    let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = format!("{rest:09}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

fn labels<'a>(out: &mut String, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut between = '{';
    for (name, value) in labels {
        let _ = write!(out, "{between}{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
        between = ',';
    }
    if between == ',' {
        out.push('}');
    }
}
