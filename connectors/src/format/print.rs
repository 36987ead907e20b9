//! Values to texts, as Java writes them.

use arrow::datatypes::TimeUnit;

fn push_padded(out: &mut Vec<u8>, value: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    out.extend(std::iter::repeat_n(b'0', digits.saturating_sub(text.len())));
    out.extend_from_slice(text);
}

fn push_two(out: &mut Vec<u8>, value: u32) {
    out.push(b'0' + (value / 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

/// A whole number.
pub(crate) fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// ISO_LOCAL_DATE of days since 1970.
pub(crate) fn date(out: &mut Vec<u8>, days: i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year < 0 {
        out.push(b'-');
    } else if year > 9999 {
        out.push(b'+');
    }
    push_padded(out, year.unsigned_abs(), 4);
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
}

/// `HH:mm:ss` and the fraction without zeros at its end.
pub(crate) fn time(out: &mut Vec<u8>, second_of_day: u32, nanos: u32) {
    push_two(out, second_of_day / 3600);
    out.push(b':');
    push_two(out, second_of_day / 60 % 60);
    out.push(b':');
    push_two(out, second_of_day % 60);
    if nanos > 0 {
        out.push(b'.');
        push_padded(out, u64::from(nanos), 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Seconds since 1970 and nanoseconds of a timestamp in `unit`.
fn seconds_and_nanos(value: i64, unit: TimeUnit) -> (i64, u32) {
    let per_second: i64 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    (value.div_euclid(per_second), nanos as u32)
}

/// Date, separator and time; a `Z` at the end if `zoned`.
pub(crate) fn timestamp(out: &mut Vec<u8>, value: i64, unit: TimeUnit, separator: u8, zoned: bool) {
    let (seconds, nanos) = seconds_and_nanos(value, unit);
    date(out, seconds.div_euclid(86_400));
    out.push(separator);
    time(out, seconds.rem_euclid(86_400) as u32, nanos);
    if zoned {
        out.push(b'Z');
    }
}

/// `LocalTime.toString`: without seconds if they are 0 (unless `seconds`), fraction in groups of three digits. `value` is since midnight.
pub(crate) fn java_time(out: &mut Vec<u8>, value: i64, unit: TimeUnit, seconds: bool) {
    let (second_of_day, nanos) = seconds_and_nanos(value, unit);
    let second_of_day = second_of_day.rem_euclid(86_400) as u32;
    let start = out.len();
    time(out, second_of_day, 0);
    if nanos > 0 {
        out.push(b'.');
        let fraction = out.len();
        push_padded(out, u64::from(nanos), 9);
        let digits = match nanos {
            _ if nanos % 1_000_000 == 0 => 3,
            _ if nanos % 1000 == 0 => 6,
            _ => 9,
        };
        out.truncate(fraction + digits);
    } else if second_of_day.is_multiple_of(60) && !seconds {
        out.truncate(start + 5);
    }
}

/// `LocalDateTime.toString`, or `Instant.toString` if `zoned`.
pub(crate) fn java_timestamp(out: &mut Vec<u8>, value: i64, unit: TimeUnit, zoned: bool) {
    let (seconds, _) = seconds_and_nanos(value, unit);
    date(out, seconds.div_euclid(86_400));
    out.push(b'T');
    java_time(out, value, unit, zoned);
    if zoned {
        out.push(b'Z');
    }
}

/// `Double.toString`
pub(crate) fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        java_float(out, ryu::Buffer::new().format_finite(value));
    } else {
        non_finite(out, value.is_nan(), value < 0.0);
    }
}

/// `Float.toString`
pub(crate) fn float(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        java_float(out, ryu::Buffer::new().format_finite(value));
    } else {
        non_finite(out, value.is_nan(), value < 0.0);
    }
}

fn non_finite(out: &mut Vec<u8>, is_nan: bool, is_negative: bool) {
    out.extend_from_slice(match (is_nan, is_negative) {
        (true, _) => b"NaN",
        (_, true) => b"-Infinity",
        _ => b"Infinity",
    });
}

/// Takes ryu's shortest digits and sets point and exponent where Java does: plain from 10^-3 up to 10^7, else with an exponent.
fn java_float(out: &mut Vec<u8>, shortest: &str) {
    let (mantissa, exponent) = match shortest.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
        None => (shortest, 0),
    };
    let unsigned = mantissa.trim_start_matches('-');
    if unsigned.len() < mantissa.len() {
        out.push(b'-');
    }
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    // The value is 0.DIGITS * 10^point.
    let mut point = whole.len() as i32 + exponent;
    if zeros == digits.len() {
        out.extend_from_slice(b"0.0");
        return;
    }
    digits.drain(..zeros);
    point -= zeros as i32;
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    if (-2..=7).contains(&point) {
        push_plain(out, &digits, point);
    } else {
        push_plain(out, &digits, 1);
        out.push(b'E');
        integer(out, point - 1);
    }
}

fn push_plain(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    let whole = point.max(0) as usize;
    if whole == 0 {
        out.push(b'0');
    }
    for index in 0..whole {
        out.push(digits.get(index).copied().unwrap_or(b'0'));
    }
    out.push(b'.');
    out.extend(std::iter::repeat_n(
        b'0',
        point.min(0).unsigned_abs() as usize,
    ));
    match digits.get(whole..) {
        Some(rest) if !rest.is_empty() => out.extend_from_slice(rest),
        _ => out.push(b'0'),
    }
}

/// `BigDecimal.toPlainString`
pub(crate) fn decimal_plain(out: &mut Vec<u8>, unscaled: i128, scale: i8) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let scale = scale.max(0) as usize;
    if scale == 0 {
        out.extend_from_slice(digits);
    } else if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', scale - digits.len()));
        out.extend_from_slice(digits);
    }
}

/// `BigDecimal.stripTrailingZeros().toString()`: 100.00 is `1E+2`, 0.000000027 is `2.7E-8`.
pub(crate) fn decimal_stripped(out: &mut Vec<u8>, unscaled: i128, scale: i8) {
    let (mut unscaled, mut scale) = (unscaled, i32::from(scale));
    if unscaled == 0 {
        out.push(b'0');
        return;
    }
    while unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let exponent = digits.len() as i32 - 1 - scale;
    if scale >= 0 && exponent >= -6 {
        decimal_plain(out, unscaled, scale as i8);
        return;
    }
    if unscaled < 0 {
        out.push(b'-');
    }
    let (first, rest) = digits.split_at(1);
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    out.push(b'E');
    if exponent > 0 {
        out.push(b'+');
    }
    integer(out, exponent);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_javas() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (9_999_999.0, "9999999.0"),
            (10_000_000.0, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (0.001, "0.001"),
            (0.000_999, "9.99E-4"),
            (1e21, "1.0E21"),
            (1.0e-300, "1.0E-300"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(|out| double(out, value)), expected);
        }
        assert_eq!(text(|out| float(out, 3.4e38)), "3.4E38");
        assert_eq!(text(|out| float(out, 0.1)), "0.1");
    }

    #[test]
    fn decimals_are_big_decimals() {
        let cases = [
            (1_041_476, 3, "1041.476", "1041.476"),
            (10_000, 2, "100.00", "1E+2"),
            (150, 2, "1.50", "1.5"),
            (27, 9, "0.000000027", "2.7E-8"),
            (-5, 2, "-0.05", "-0.05"),
            (1, 6, "0.000001", "0.000001"),
            (0, 3, "0.000", "0"),
            (-1200, 0, "-1200", "-1.2E+3"),
        ];
        for (unscaled, scale, plain, stripped) in cases {
            assert_eq!(text(|out| decimal_plain(out, unscaled, scale)), plain);
            assert_eq!(text(|out| decimal_stripped(out, unscaled, scale)), stripped);
        }
    }

    #[test]
    fn timestamps_drop_the_zeros_of_the_fraction() {
        let ms = |value| text(|out| timestamp(out, value, TimeUnit::Millisecond, b' ', false));
        assert_eq!(ms(1_774_982_401_300), "2026-03-31 18:40:01.3");
        assert_eq!(ms(0), "1970-01-01 00:00:00");
        assert_eq!(ms(-1), "1969-12-31 23:59:59.999");
        assert_eq!(ms(253_402_300_800_000), "+10000-01-01 00:00:00");
        let nanos = text(|out| timestamp(out, 1_000_000_001, TimeUnit::Nanosecond, b'T', true));
        assert_eq!(nanos, "1970-01-01T00:00:01.000000001Z");
        assert_eq!(text(|out| date(out, -719_893)), "-0001-01-01");
    }
}
