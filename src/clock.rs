//! Times as people and the standards write them: RFC 3339, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-11-21T08:00:00.123456789Z`
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86400, since.as_secs() % 86400);
    let (year, month, day) = civil(days as i64);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// The moment that an RFC 3339 time tells, to the nanosecond; a time before 1970 is none of ours.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (body, zone) = split_zone(text);
    let offset = zone_seconds(zone?)?;
    let (date, time) = body.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let days = days(year, month as u32, day as u32);
    // A 30th of February is the 1st or 2nd of March when it is counted; a leap second is the next one.
    if civil(days) != (year, month as u32, day as u32) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset;
    UNIX_EPOCH.checked_add(Duration::new(u64::try_from(seconds).ok()?, nanoseconds(fraction)?))
}

/// A time and its zone: `Z`, or hours and minutes ahead of or behind UTC.
pub fn split_zone(text: &str) -> (&str, Option<&str>) {
    let zoned = |at: usize| (&text[..at], Some(&text[at..]));
    match text.char_indices().nth_back(5) {
        _ if text.ends_with(['Z', 'z']) => zoned(text.len() - 1),
        // `-03:00`, but not the end of a date without time.
        Some((at, '+' | '-')) if text.as_bytes().get(at + 3) == Some(&b':') => zoned(at),
        _ => (text, None),
    }
}

/// The digits after the point as nanoseconds; what is smaller goes.
pub fn nanoseconds(fraction: &str) -> Option<u32> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}")[..9].parse().ok()
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
    let seconds = hours * 3600 + minutes * 60;
    (hours < 24 && minutes < 60).then_some(if zone.starts_with('-') { -seconds } else { seconds })
}

/// Numbers of so many digits with a sign between.
fn numbers<const N: usize>(text: &str, between: char, lengths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut all = [0; N];
    for (number, length) in all.iter_mut().zip(lengths) {
        let part = parts.next().filter(|part| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(all)
}

/// The other way round: how many days after 1970-01-01 a date is.
fn days(year: i64, month: u32, day: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let march_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * march_month + 2) / 5 + i64::from(day) - 1;
    let year_of_era = year.rem_euclid(400);
    year.div_euclid(400) * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from March, so that the leap day is
/// the last of its year, and in eras of 400 years, which all have 146 097 days.
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * march_month + 2) / 5 + 1) as u32;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_fall_on_their_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_778), (2026, 11, 21));
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(951_782_400, 5)), "2000-02-29T00:00:00.000000005Z");
    }

    #[test]
    fn a_time_that_was_written_is_read_again() {
        for (seconds, nanoseconds) in [(0, 0), (951_782_400, 5), (1_741_514_400, 999_999_999), (4_102_444_799, 1)] {
            let time = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
        }
        for day in (0..100_000).step_by(17) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
        let same = parse_rfc3339("2025-03-09T10:00:00Z");
        assert_eq!(parse_rfc3339("2025-03-09T19:00:00+09:00"), same);
        assert_eq!(parse_rfc3339("2025-03-09T06:30:00.000-03:30"), same);
        for wrong in [
            "",
            "2025-03-09",
            "2025-03-09T10:00:00",
            "2025-02-30T10:00:00Z",
            "2025-3-9T10:00:00Z",
            "2025-03-09T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "2025-03-09T10:00:00.Z",
            "옹기-03-09T10:00:00Z",
            "-03:00",
        ] {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }
}
