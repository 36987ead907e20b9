//! Texts to values, as Java reads them: the numbers, dates and times that Flink's text formats accept. All functions give `None` for what is not one.

use arrow::datatypes::TimeUnit;

/// How a TIMESTAMP is written in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TimestampStandard {
    /// `2026-03-31 18:40:01.3`
    #[default]
    Sql,
    /// `2026-03-31T18:40:01.3`
    Iso8601,
}

/// `String.trim()`: blanks and control characters at both ends.
pub(crate) fn java_trim(text: &str) -> &str {
    text.trim_matches(|character| character <= ' ')
}

/// `Double.parseDouble` of a trimmed text, without hexadecimal ones.
pub(crate) fn java_double(text: &str) -> Option<f64> {
    let text = java_trim(text);
    match text.trim_start_matches(['+', '-']) {
        "NaN" => return Some(f64::NAN),
        "Infinity" if text.starts_with('-') => return Some(f64::NEG_INFINITY),
        "Infinity" => return Some(f64::INFINITY),
        _ => {}
    }
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let is_number = number
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if is_number { number.parse().ok() } else { None }
}

/// A BigDecimal's text, rounded half up to `scale`. `Some(None)`: a number that DECIMAL(precision, scale) can't hold, which is NULL in Flink.
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> Option<Option<i128>> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, unsigned) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes());
    let significant: Vec<u8> = digits.skip_while(|digit| *digit == b'0').collect();
    // The value is `significant` * 10^(exponent - fraction.len()); wanted is a multiple of 10^-scale.
    let shift = i64::from(exponent) - fraction.len() as i64 + i64::from(scale);
    let kept = significant.len() as i64 + shift;
    if significant.is_empty() || kept < 0 {
        return Some(Some(0));
    }
    if kept > i64::from(precision) {
        return Some(None);
    }
    let mut value: i128 = 0;
    for index in 0..kept as usize {
        let digit = significant.get(index).map_or(0, |digit| digit - b'0');
        value = value * 10 + i128::from(digit);
    }
    if shift < 0
        && significant
            .get(kept as usize)
            .is_some_and(|digit| *digit >= b'5')
    {
        value += 1;
    }
    if value
        >= 10i128
            .checked_pow(u32::from(precision))
            .unwrap_or(i128::MAX)
    {
        return Some(None);
    }
    Some(Some(if negative { -value } else { value }))
}

fn two_digits(bytes: &[u8], at: usize) -> Option<u32> {
    let (tens, ones) = (
        bytes.get(at)?.wrapping_sub(b'0'),
        bytes.get(at + 1)?.wrapping_sub(b'0'),
    );
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

fn number(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() || bytes.len() > 9 {
        return None;
    }
    bytes.iter().try_fold(0i64, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
pub(crate) fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_of_month(year: i64, month: u32) -> u32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// ISO_LOCAL_DATE at the beginning of `bytes`: days, and how many bytes it took. `clamp`: a day up to 31 that the month doesn't have is its last,
/// as Java's SMART resolving has it.
fn date_prefix(bytes: &[u8], clamp: bool) -> Option<(i64, usize)> {
    let signed = matches!(bytes.first(), Some(b'+' | b'-'));
    let start = usize::from(signed);
    let digits = bytes[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let length_is_right = if bytes.first() == Some(&b'+') {
        digits > 4
    } else {
        digits == 4 || (signed && digits > 4)
    };
    if !length_is_right {
        return None;
    }
    let end = start + digits;
    let mut year = number(&bytes[start..end])?;
    if bytes.first() == Some(&b'-') {
        year = -year;
    }
    let month = two_digits(bytes, end + 1)?;
    let day = two_digits(bytes, end + 4)?;
    let dashes = bytes.get(end) == Some(&b'-') && bytes.get(end + 3) == Some(&b'-');
    if !dashes || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let last = days_of_month(year, month);
    if day > last && !clamp {
        return None;
    }
    Some((days_from_civil(year, month, day.min(last)), end + 6))
}

/// `HH:mm:ss[.f{0,9}]` up to the end: seconds of the day and nanoseconds. `short`: the seconds may be missing, as in ISO_LOCAL_TIME.
fn time_of_day(bytes: &[u8], short: bool) -> Option<(u32, u32)> {
    let hour = two_digits(bytes, 0).filter(|hour| *hour < 24)?;
    let minute = two_digits(bytes, 3).filter(|minute| *minute < 60)?;
    if bytes.get(2) != Some(&b':') {
        return None;
    }
    let minutes = (hour * 60 + minute) * 60;
    if bytes.len() == 5 {
        return short.then_some((minutes, 0));
    }
    let second = two_digits(bytes, 6).filter(|second| *second < 60)?;
    if bytes.get(5) != Some(&b':') {
        return None;
    }
    let nanos = match bytes.get(8..)? {
        [] => 0,
        [b'.', fraction @ ..] if fraction.len() <= 9 => {
            let value = if fraction.is_empty() {
                0
            } else {
                number(fraction)?
            };
            (value * 10i64.pow(9 - fraction.len() as u32)) as u32
        }
        _ => return None,
    };
    Some((minutes + second, nanos))
}

/// ISO_LOCAL_DATE: days since 1970.
pub(crate) fn date(text: &str) -> Option<i32> {
    let (days, length) = date_prefix(text.as_bytes(), false)?;
    i32::try_from(days).ok().filter(|_| length == text.len())
}

/// java.sql.Date.valueOf: as [`date`], with one digit for month and day allowed.
pub(crate) fn lenient_date(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || month.len() > 2 || day.len() > 2 {
        return None;
    }
    date(&format!("{year}-{month:0>2}-{day:0>2}"))
}

/// Milliseconds of the day; what is finer is cut off.
pub(crate) fn time_ms(text: &str, short: bool) -> Option<i32> {
    let (seconds, nanos) = time_of_day(text.as_bytes(), short)?;
    Some((seconds * 1000 + nanos / 1_000_000) as i32)
}

/// A TIMESTAMP, or a TIMESTAMP_LTZ (`zoned`), which ends in `Z`, in `unit` since 1970; what is finer is cut off.
pub(crate) fn timestamp(
    text: &str,
    standard: TimestampStandard,
    zoned: bool,
    unit: TimeUnit,
) -> Option<i64> {
    let bytes = text.as_bytes();
    let iso = standard == TimestampStandard::Iso8601;
    let bytes = match (zoned, bytes.split_last()) {
        (true, Some((b'Z', rest))) => rest,
        (true, Some((b'z', rest))) if iso => rest,
        (true, _) => return None,
        (false, _) => bytes,
    };
    let (days, length) = date_prefix(bytes, !iso || zoned)?;
    match bytes.get(length)? {
        b' ' if !iso => {}
        b'T' | b't' if iso => {}
        _ => return None,
    }
    let (seconds, nanos) = time_of_day(&bytes[length + 1..], iso)?;
    let seconds = days * 86_400 + i64::from(seconds);
    let nanos = i64::from(nanos);
    match unit {
        TimeUnit::Second => Some(seconds),
        TimeUnit::Millisecond => Some(seconds * 1000 + nanos / 1_000_000),
        TimeUnit::Microsecond => Some(seconds * 1_000_000 + nanos / 1000),
        TimeUnit::Nanosecond => seconds.checked_mul(1_000_000_000)?.checked_add(nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_follow_the_standard() {
        use TimestampStandard::{Iso8601, Sql};
        let ms = |text, standard, zoned| timestamp(text, standard, zoned, TimeUnit::Millisecond);
        let cases = [
            ("1970-01-01 00:00:01.5", Sql, false, Some(1500)),
            ("1970-01-01 00:00:01", Sql, false, Some(1000)),
            ("1969-12-31 23:59:59.999999", Sql, false, Some(-1)),
            ("2021-02-30 00:00:00", Sql, false, Some(1_614_470_400_000)),
            ("2021-02-30T00:00:00", Iso8601, false, None),
            ("1970-01-01T00:00:01.123456789", Iso8601, false, Some(1123)),
            ("1970-01-01T00:01", Iso8601, false, Some(60_000)),
            ("1970-01-01 00:01", Sql, false, None),
            ("1970-01-01T00:00:00", Sql, false, None),
            ("1970-01-01 00:00:00", Iso8601, false, None),
            ("1970-01-01 00:00:02Z", Sql, true, Some(2000)),
            ("1970-01-01T00:00:02Z", Iso8601, true, Some(2000)),
            ("1970-01-01 00:00:02", Sql, true, None),
            ("1970-01-01 24:00:00", Sql, false, None),
            ("1970-13-01 00:00:00", Sql, false, None),
            ("1970-01-01 00:00:00.1234567890", Sql, false, None),
            ("", Sql, false, None),
        ];
        for (text, standard, zoned, expected) in cases {
            assert_eq!(ms(text, standard, zoned), expected, "{text}");
        }
        let far = timestamp("9999-12-31 00:00:00", Sql, false, TimeUnit::Nanosecond);
        assert_eq!(far, None);
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(date("2000-02-29"), Some(11_016));
        assert_eq!(date("1969-12-31"), Some(-1));
        assert_eq!(date("-0001-01-01"), Some(-719_893));
        for bad in [
            "2001-02-29",
            "2000-2-29",
            "2000-02-29 ",
            "00-02-29",
            "+2000-01-01",
        ] {
            assert_eq!(date(bad), None, "{bad}");
        }
        assert_eq!(lenient_date("2000-2-9"), date("2000-02-09"));
        assert_eq!(time_ms("23:59:59.9999", false), Some(86_399_999));
        assert_eq!(time_ms("23:59", true), Some(86_340_000));
        assert_eq!(time_ms("23:59", false), None);
        assert_eq!(time_ms("9:00:00", false), None);
    }

    #[test]
    fn decimals_round_half_up_and_overflow_to_null() {
        let cases = [
            ("12.345", 5, 2, Some(Some(1235))),
            ("-12.345", 5, 2, Some(Some(-1235))),
            ("12.3449", 5, 2, Some(Some(1234))),
            ("1E+2", 5, 2, Some(Some(10_000))),
            ("1e-9", 5, 2, Some(Some(0))),
            ("0.005", 5, 2, Some(Some(1))),
            ("999.995", 5, 2, Some(None)),
            ("1000", 5, 2, Some(None)),
            ("000001.5", 2, 1, Some(Some(15))),
            ("0e999999999", 5, 2, Some(Some(0))),
            (
                "99999999999999999999999999999999999999",
                38,
                0,
                Some(Some(10i128.pow(38) - 1)),
            ),
            (".5", 2, 1, Some(Some(5))),
            ("", 5, 2, None),
            ("-", 5, 2, None),
            ("1,5", 5, 2, None),
            ("1.2.3", 5, 2, None),
        ];
        for (text, precision, scale, expected) in cases {
            assert_eq!(decimal(text, precision, scale), expected, "{text}");
        }
    }

    #[test]
    fn doubles_are_javas() {
        assert_eq!(java_double(" 1.5f "), Some(1.5));
        assert_eq!(java_double("-Infinity"), Some(f64::NEG_INFINITY));
        assert!(java_double("NaN").is_some_and(f64::is_nan));
        assert_eq!(java_double("nan"), None);
        assert_eq!(java_double("inf"), None);
        assert_eq!(java_double(""), None);
    }
}
