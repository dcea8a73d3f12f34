//! Durations and sizes as people write them: `500ms`, `10s`, `64KiB`, `1MB`.

use std::time::Duration;

/// `500ms`, `1.5s`, `2m`, `1h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration; examples: 500ms, 10s, 2m, 1h");
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(bad()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

/// `64KiB`, `1MB`, `100`; `K`, `M`, `G` alone are powers of 1,024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size; examples: 100, 64KiB, 8MiB, 1GB");
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let factor = match unit {
        "" | "B" => 1,
        "K" | "KiB" | "k" => 1 << 10,
        "M" | "MiB" | "m" => 1 << 20,
        "G" | "GiB" | "g" => 1 << 30,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).ok_or_else(bad)
}

/// A size that fits this machine's memory.
pub(crate) fn length(text: &str) -> Result<usize, String> {
    usize::try_from(size(text)?).map_err(|_| format!("{text:?} is too large for this machine"))
}

/// Bits a second: `10M`, `500k`, `1G`; powers of 1,000.
pub(crate) fn bit_rate(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no rate; examples: 500k, 10M, 1G (bits a second)");
    let (number, factor) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1_000),
        None => match text.strip_suffix('M') {
            Some(number) => (number, 1_000_000),
            None => match text.strip_suffix('G') {
                Some(number) => (number, 1_000_000_000),
                None => (text, 1),
            },
        },
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number
        .checked_mul(factor)
        .filter(|rate| *rate > 0)
        .ok_or_else(bad)
}

/// Bytes for people, in powers of 1,024.
pub(crate) fn show_bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A rate in bits a second for people, in powers of 1,000.
pub(crate) fn show_bits(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e9 => format!("{:.2} Gbit/s", rate / 1e9),
        rate if rate >= 1e6 => format!("{:.1} Mbit/s", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1} kbit/s", rate / 1e3),
        rate => format!("{rate:.0} bit/s"),
    }
}

/// Milliseconds with three digits after the point, for JSON.
pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "",
            "s",
            "-1s",
            "1 s",
            "1e9h",
            "1.2.3s",
            "99999999999999999999h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1MB"), Ok(1_000_000));
        for bad in [
            "",
            "K",
            "1.5K",
            "-1",
            "99999999999999999999",
            "17179869184G",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(bit_rate("10M"), Ok(10_000_000));
        assert!(bit_rate("0").is_err() && bit_rate("x").is_err());
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(show_bytes(1023), "1023 B");
        assert_eq!(show_bytes(1536), "1.5 KiB");
        assert_eq!(show_bytes(3 << 40), "3.0 TiB");
        assert_eq!(show_bits(2.5e9), "2.50 Gbit/s");
    }
}
