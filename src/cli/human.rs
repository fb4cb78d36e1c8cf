//! Times and sizes as people say them, in Docker's words: `3 days`, `26.4MB`, `1.5MiB`; and the times that people type: `10m`,
//! `2025-03-09T10:00:00`, `1741514400.5`.
//!
//! Read: docker logs(1) `--since`; github.com/docker/go-units.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock;
use crate::error::{Error, Result};
use crate::sys::time;

/// How long, in one word or two: `Less than a second`, `About a minute`, `3 days`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let minutes = seconds / 60;
    // From half an hour on, it is the next.
    let hours = (length.as_secs_f64() / 3600.0 + 0.5) as u64;
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago a time was that a record tells: `3 days ago`. Empty for what is no time.
pub fn ago(time: &str) -> String {
    clock::parse_rfc3339(time).map(|time| format!("{} ago", since(time))).unwrap_or_default()
}

/// How long it is since then; a time to come is now.
pub fn since(time: SystemTime) -> String {
    duration(SystemTime::now().duration_since(time).unwrap_or_default())
}

/// A time that a record tells as Docker's tables show it, on the local clock: `2026-11-21 20:00:00 +0900 KST`.
pub fn local(time: &str) -> String {
    let Some(moment) = clock::parse_rfc3339(time).and_then(|time| time.duration_since(UNIX_EPOCH).ok()) else { return String::new() };
    let (offset, zone) = time::local_zone(moment.as_secs() as i64);
    let there = UNIX_EPOCH + Duration::from_secs(moment.as_secs().saturating_add_signed(offset));
    let text = clock::rfc3339(there);
    let sign = if offset < 0 { '-' } else { '+' };
    let (hours, minutes) = (offset.abs() / 3600, offset.abs() / 60 % 60);
    format!("{} {} {sign}{hours:02}{minutes:02} {zone}", &text[..10], &text[11..19])
}

/// Bytes in thousands, three digits: `26.4MB`.
pub fn size(bytes: u64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// Bytes in powers of 1024, four digits: `1.5MiB`.
pub fn binary_size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(mut number: f64, base: f64, units: &[&str], digits: i32) -> String {
    let mut unit = 0;
    // 999.9 kB with three digits is 1 MB.
    while unit + 1 < units.len() && rounded(number, digits) >= base {
        number /= base;
        unit += 1;
    }
    format!("{}{}", rounded(number, digits), units[unit])
}

/// A number of so many digits.
fn rounded(number: f64, digits: i32) -> f64 {
    if number == 0.0 {
        return 0.0;
    }
    let places = digits - 1 - number.abs().log10().floor() as i32;
    let factor = 10f64.powi(places);
    let rounded = (number * factor).round() / factor;
    // The division leaves dust in the last binary digit.
    format!("{rounded:.*}", places.max(0) as usize).parse().unwrap_or(rounded)
}

/// A moment that somebody typed: a date and time (with a zone, or in the local one), Unix seconds, or how long before `now`.
///
/// # Errors
/// Invalid, with examples.
pub fn moment(option: &str, text: &str, now: SystemTime) -> Result<SystemTime> {
    let found = if let Some(length) = go_duration(text) {
        length.before(now)
    } else if let Some(time) = unix_seconds(text) {
        Some(time)
    } else {
        date(text)
    };
    found.ok_or_else(|| {
        Error::invalid(format!("use {option} {text:?}"), "it is no time")
            .hint("write 10m, 1h30m, 2025-03-09, 2025-03-09T10:00:00 or seconds since 1970")
    })
}

/// A length of time with its sign, as Go writes them.
struct Length {
    negative: bool,
    length: Duration,
}

impl Length {
    fn before(&self, now: SystemTime) -> Option<SystemTime> {
        if self.negative { now.checked_add(self.length) } else { now.checked_sub(self.length) }
    }
}

/// `10m`, `1h30m`, `1.5h`, `300ms`.
pub fn length(text: &str) -> Option<Duration> {
    go_duration(text).filter(|length| !length.negative).map(|length| length.length)
}

fn go_duration(text: &str) -> Option<Length> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut nanoseconds = 0u128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
        let unit: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 12 || fraction.contains('.') {
            return None;
        }
        let fraction = &fraction[..fraction.len().min(12)];
        let digits: u128 = format!("0{whole}{fraction}").parse().ok()?;
        nanoseconds += digits * unit / 10u128.pow(fraction.len() as u32);
        rest = after;
    }
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).ok()?;
    Some(Length { negative, length: Duration::new(seconds, (nanoseconds % 1_000_000_000) as u32) })
}

/// `1741514400`, `1741514400.123456789`.
fn unix_seconds(text: &str) -> Option<SystemTime> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) {
        return None;
    }
    UNIX_EPOCH.checked_add(Duration::new(seconds.parse().ok()?, clock::nanoseconds(fraction)?))
}

/// A date, with a time of any exactness: what has no zone is local.
fn date(text: &str) -> Option<SystemTime> {
    let (body, zone) = clock::split_zone(text);
    let (day, clock_time) = body.split_once(['T', ' ']).unwrap_or((body, "00"));
    // The parts that are left out are zero.
    let full = match clock_time.len() {
        2 => format!("{day}T{clock_time}:00:00"),
        5 => format!("{day}T{clock_time}:00"),
        _ => format!("{day}T{clock_time}"),
    };
    if let Some(zone) = zone {
        return clock::parse_rfc3339(&format!("{full}{zone}"));
    }
    let as_if_utc = clock::parse_rfc3339(&format!("{full}Z"))?;
    let seconds = as_if_utc.duration_since(UNIX_EPOCH).ok()?.as_secs() as i64;
    // The offset is a matter of the moment, which is a matter of the offset: twice is enough but in the hour that a clock is turned.
    let guess = seconds - time::local_zone(seconds).0;
    let offset = time::local_zone(guess).0;
    if offset >= 0 {
        as_if_utc.checked_sub(Duration::from_secs(offset as u64))
    } else {
        as_if_utc.checked_add(Duration::from_secs(offset.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_three_digits() {
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (2048, "2.05kB"), (4608, "4.61kB"), (1_500_000, "1.5MB"), (100_000, "100kB"), (12_340, "12.3kB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_are_said_as_docker_says_them() {
        let said = |seconds: u64| duration(Duration::from_secs(seconds));
        let (hour, day) = (3600, 86400);
        assert_eq!(duration(Duration::from_millis(450)), "Less than a second");
        for (seconds, words) in [
            (1, "1 second"),
            (47, "47 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (180, "3 minutes"),
            (35 * 60 + 5, "35 minutes"),
            (hour, "About an hour"),
            (hour + 1799, "About an hour"),
            (hour + 1800, "2 hours"),
            (3 * hour + 1799, "3 hours"),
            (32 * hour, "32 hours"),
            (2 * day, "2 days"),
            (3 * day + 6 * hour, "3 days"),
            (14 * day, "2 weeks"),
            (16 * day, "2 weeks"),
            (3 * 7 * day, "3 weeks"),
            (60 * day, "2 months"),
            (13 * 30 * day, "13 months"),
            (24 * 30 * day, "24 months"),
            (3 * 365 * day + 60 * day, "3 years"),
        ] {
            assert_eq!(said(seconds), words);
        }
    }

    #[test]
    fn sizes_have_three_digits_in_thousands_and_four_in_powers_of_1024() {
        for (bytes, words) in
            [(0, "0B"), (999, "999B"), (1000, "1kB"), (26_412_345, "26.4MB"), (187_512_000, "188MB"), (999_900, "1MB"), (1_234_000_000, "1.23GB")]
        {
            assert_eq!(size(bytes), words);
        }
        for (bytes, words) in
            [(0, "0B"), (1024, "1KiB"), (1_572_864, "1.5MiB"), (3_993_600, "3.809MiB"), (16_778_264_576, "15.63GiB"), (1023, "1023B")]
        {
            assert_eq!(binary_size(bytes), words);
        }
    }

    #[test]
    fn moments_are_read_in_all_their_lengths() {
        let now = UNIX_EPOCH + Duration::from_secs(1_741_514_400);
        let at = |text: &str| moment("--since", text, now).map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_nanos()).ok();
        let second = 1_000_000_000u128;
        let epoch = 1_741_514_400 * second;
        assert_eq!(at("10m"), Some(epoch - 600 * second));
        assert_eq!(at("1h30m"), Some(epoch - 5400 * second));
        assert_eq!(at("1.5h"), Some(epoch - 5400 * second));
        assert_eq!(at("250ms"), Some(epoch - second / 4));
        assert_eq!(at("-1m"), Some(epoch + 60 * second));
        assert_eq!(at("1741514400"), Some(epoch));
        assert_eq!(at("1741514400.5"), Some(epoch + second / 2));
        assert_eq!(at("1741514400.000000001"), Some(epoch + 1));
        assert_eq!(at("2025-03-09T10:00:00Z"), Some(epoch));
        assert_eq!(at("2025-03-09T19:00:00.25+09:00"), Some(epoch + second / 4));
        assert_eq!(at("2025-03-09T10:00Z"), Some(epoch));
        assert_eq!(at("2025-03-09Z"), Some(epoch - 36000 * second));
        let offset = i128::from(time::local_zone(1_741_514_400).0) * second as i128;
        for local in ["2025-03-09T10:00:00", "2025-03-09T10:00", "2025-03-09T10", "2025-03-09 10:00:00"] {
            assert_eq!(at(local).map(|time| time as i128), Some(epoch as i128 - offset), "{local}");
        }
        for wrong in [
            "",
            "x",
            "10",
            "10x",
            "1h-",
            "2025-13-01",
            "2025-03-09T25:00:00Z",
            "2025-02-30",
            ".",
            "-",
            "1.2.3s",
            "99999999999999999999h",
            "2025-03-09T10:00:00+99",
        ] {
            let found = at(wrong);
            assert!(found.is_none() || wrong == "10", "{wrong}: {found:?}");
        }
    }
}
