//! The array and its text: every place is one number, and the text is what the format asks for.

use super::*;
use std::collections::HashSet;

#[test]
fn every_place_of_every_family_is_a_number_of_its_own() {
    let metrics = Metrics::default();
    let mut next = 1;
    for family in Family::ALL {
        for place in 0..family.width() {
            metrics.add(*family, place, next);
            next += 1;
        }
    }
    let snapshot = metrics.snapshot();
    let all: HashSet<u64> = snapshot.slots.iter().copied().collect();
    assert_eq!(all.len(), SLOT_COUNT);
    assert_eq!(all.into_iter().max(), Some(SLOT_COUNT as u64));
}

#[test]
fn names_and_labels_are_those_that_the_format_allows_and_asks_for() {
    let mut names = HashSet::new();
    for family in Family::ALL {
        let name = family.name();
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("vstp_"), "{name}");
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );
        assert_eq!(
            name.ends_with("_total"),
            family.kind() == Kind::Counter,
            "{name}"
        );
        assert!(
            family.kind() != Kind::Histogram || name.ends_with("_seconds"),
            "{name}"
        );
        assert!(!family.help().contains(['\n', '\\']), "{name}");
        let series: HashSet<Vec<_>> = (0..family.width())
            .map(|place| family.labels(place).collect())
            .collect();
        assert!(
            series.len() == family.width() || family.kind() == Kind::Histogram,
            "{name}"
        );
    }
}

#[test]
fn a_value_is_found_by_name_and_labels_and_summed_over_the_others() {
    let mut tally = Tally::default();
    tally.note(crate::wire::FrameType::Data, 100);
    tally.note(crate::wire::FrameType::Custom(0x20), 50);
    let mut snapshot = Snapshot::default();
    snapshot.set_frames(SENT, &tally);
    let value = |labels: &[_]| snapshot.value("vstp_frame_bytes_total", labels);
    assert_eq!(value(&[]), Some(150));
    assert_eq!(value(&[("type", "custom")]), Some(50));
    assert_eq!(value(&[("type", "data"), ("direction", "sent")]), Some(100));
    assert_eq!(value(&[("direction", "received")]), Some(0));
    assert_eq!(value(&[("type", "nothing")]), None);
    assert_eq!(snapshot.value("vstp_handler_seconds", &[]), None);
    assert_eq!(snapshot.value("vstp_handler_seconds_count", &[]), Some(0));
}

#[test]
fn what_a_source_adds_between_two_looks_is_added_once_gauges_included() {
    let metrics = Metrics::default();
    let (mut last, mut now) = (Snapshot::default(), Snapshot::default());
    now.set(Family::Retransmissions, 0, 7);
    now.set(Family::SessionsActive, 0, 3);
    metrics.add_since(&now, &last);
    last = now.clone();
    now.set(Family::Retransmissions, 0, 9);
    now.set(Family::SessionsActive, 0, 1);
    metrics.add_since(&now, &last);
    metrics.add_since(&now, &now);
    let sum = metrics.snapshot();
    assert_eq!(sum.value("vstp_retransmissions_total", &[]), Some(9));
    assert_eq!(sum.value("vstp_sessions_active", &[]), Some(1));
}

#[test]
fn the_text_of_a_histogram_is_cumulative_and_in_seconds() {
    let metrics = Metrics::default();
    for time in [
        Duration::from_micros(50),
        Duration::from_micros(51),
        Duration::from_millis(1_500),
        Duration::from_secs(60),
    ] {
        metrics.time(Family::Handlers, time);
    }
    let text = metrics.render_prometheus();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("vstp_handler_seconds"))
        .collect();
    assert_eq!(lines.len(), 21);
    assert_eq!(lines[0], "vstp_handler_seconds_bucket{le=\"0.00005\"} 1");
    assert_eq!(lines[1], "vstp_handler_seconds_bucket{le=\"0.0001\"} 2");
    assert_eq!(lines[14], "vstp_handler_seconds_bucket{le=\"2.5\"} 3");
    assert_eq!(lines[18], "vstp_handler_seconds_bucket{le=\"+Inf\"} 4");
    assert_eq!(lines[19], "vstp_handler_seconds_sum 61.500101");
    assert_eq!(lines[20], "vstp_handler_seconds_count 4");
}

#[test]
fn label_values_are_escaped_and_label_names_are_checked() {
    let mut exposition = Exposition::new("who").unwrap();
    exposition.add("a\"b\\c\nd", &Snapshot::default());
    let expected = r#"vstp_retransmissions_total{who="a\"b\\c\nd"} 0"#;
    let text = exposition.render();
    assert!(text.lines().any(|line| line == expected), "{text}");
    for wrong in ["", "1a", "a-b", "__a", "le", "type", "\u{e4}"] {
        assert!(Exposition::new(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_lane_that_is_off_counts_nothing() {
    let mut lane = Lane::default();
    lane.note(crate::wire::FrameType::Data, 10);
    lane.note_all(&lane.tally());
    assert_eq!(
        (lane.tally().frame_total(), lane.tally().byte_total()),
        (2, 20)
    );
    lane.switch_off();
    lane.note(crate::wire::FrameType::Data, 10);
    lane.note_all(&lane.tally());
    assert_eq!(lane.tally().frame_total(), 2);
}
