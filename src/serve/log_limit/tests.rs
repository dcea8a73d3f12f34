//! The log limit on a virtual clock.

use super::*;
use crate::net::clock;

#[test]
fn e15_one_line_per_second_and_reason() {
    let limit = LogLimit::default();
    let start = clock::now();
    let mut lines = 0;
    let mut suppressed = 0;
    // 10,000 events over 5 seconds.
    for event in 0..10_000_u64 {
        if let Some(more) = limit.allow("hostile", start + Duration::from_micros(event * 500)) {
            lines += 1;
            suppressed += more;
        }
    }
    assert_eq!(lines, 5);
    // The last second's are told with the next line.
    let last = limit
        .allow("hostile", start + Duration::from_secs(60))
        .unwrap();
    assert_eq!(suppressed + last + lines, 10_000);
}

#[test]
fn e15_reasons_do_not_hide_each_other() {
    let limit = LogLimit::default();
    let now = clock::now();
    assert_eq!(limit.allow("one", now), Some(0));
    assert_eq!(limit.allow("one", now), None);
    assert_eq!(limit.allow("two", now), Some(0));
    assert_eq!(limit.allow("two", now), None);
    assert_eq!(limit.reasons.lock().unwrap().len(), 2);
}

#[test]
fn the_interval_begins_with_the_line_written() {
    let limit = LogLimit::new(Duration::from_secs(60));
    let now = clock::now();
    assert_eq!(limit.allow("x", now), Some(0));
    let almost = now + Duration::from_millis(59_999);
    assert_eq!(limit.allow("x", almost), None);
    assert_eq!(limit.allow("x", now + Duration::from_secs(60)), Some(1));
    assert_eq!(limit.allow("x", almost + Duration::from_secs(60)), None);
}
