//! The proleptic Gregorian calendar: days, fields and default texts of dates, times and timestamps. No time zones here.

use std::fmt::Write;

pub(crate) const MILLIS_PER_DAY: i64 = 86_400_000;

/// Year, month (1..=12) and day of month of a day since 1970-01-01.
pub(crate) fn civil(days: i64) -> (i64, u32, u32) {
    // Howard Hinnant's algorithm: years start in March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days since 1970-01-01. The day may lie outside of its month and then counts on.
pub(crate) fn days(year: i64, month: u32, day: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

pub(crate) fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 => 28 + u32::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The day `months` later; beyond the end of a month it is the month's last day.
pub(crate) fn add_months(day: i64, months: i64) -> i64 {
    let (year, month, of_month) = civil(day);
    let total = year * 12 + i64::from(month) - 1 + months;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
    days(year, month, of_month.min(days_in_month(year, month)))
}

/// 1 (Monday) to 7 (Sunday).
pub(crate) fn iso_weekday(day: i64) -> u32 {
    (day + 3).rem_euclid(7) as u32 + 1
}

pub(crate) fn day_of_year(day: i64) -> u32 {
    let (year, _, _) = civil(day);
    (day - days(year, 1, 1)) as u32 + 1
}

/// ISO year and week.
pub(crate) fn iso_week(day: i64) -> (i64, u32) {
    let thursday = day - i64::from(iso_weekday(day)) + 4;
    let (year, _, _) = civil(thursday);
    (year, ((thursday - days(year, 1, 1)) / 7) as u32 + 1)
}

/// Year and week as the United States count them: weeks start on Sunday, and the first has January 1.
pub(crate) fn us_week(day: i64) -> (i64, u32) {
    let sunday = |day: i64| day - i64::from(iso_weekday(day) % 7);
    let (year, _, _) = civil(sunday(day) + 6);
    let first = sunday(days(year, 1, 1));
    (year, ((sunday(day) - first) / 7) as u32 + 1)
}

/// "2024-02-29"; years have at least four digits.
pub(crate) fn write_date(out: &mut impl Write, day: i64) {
    let (year, month, of_month) = civil(day);
    let _ = if (0..=9999).contains(&year) {
        write!(out, "{year:04}-{month:02}-{of_month:02}")
    } else {
        write!(out, "{year:+05}-{month:02}-{of_month:02}")
    };
}

/// A TIME as Flink writes it: at most `precision` digits of the second's fraction, at least one if there may be any, and no zeros behind.
pub(crate) fn write_short_time(out: &mut impl Write, nanos: i64, precision: u8) {
    let mut least = precision.min(9);
    while least > 1 && nanos % 10i64.pow(10 - u32::from(least)) == 0 {
        least -= 1;
    }
    write_time(out, nanos, least);
}

/// "12:34:56" with `precision` digits of the second's fraction; the time is nanoseconds of the day.
pub(crate) fn write_time(out: &mut impl Write, nanos: i64, precision: u8) {
    let seconds = nanos / 1_000_000_000;
    let _ = write!(
        out,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if precision > 0 {
        let width = usize::from(precision.min(9));
        let fraction = nanos % 1_000_000_000 / 10i64.pow(9 - width as u32);
        let _ = write!(out, ".{fraction:0width$}");
    }
}

/// A point in local time: a day and the nanoseconds in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub day: i64,
    pub nanos: i64,
}

impl Point {
    /// From a count of units since the epoch, `per_second` of them in a second.
    pub fn from_units(value: i64, per_second: i64) -> Self {
        let per_day = 86_400 * per_second;
        Self {
            day: value.div_euclid(per_day),
            nanos: value.rem_euclid(per_day) * (1_000_000_000 / per_second),
        }
    }

    /// To a count of units; what is finer is cut off. `None` if it does not fit.
    pub fn to_units(self, per_second: i64) -> Option<i64> {
        self.day
            .checked_mul(86_400 * per_second)?
            .checked_add(self.nanos / (1_000_000_000 / per_second))
    }

    /// Milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        self.day * MILLIS_PER_DAY + self.nanos / 1_000_000
    }

    /// The point so many milliseconds earlier.
    pub fn minus(self, millis: i64) -> Self {
        let per_day = MILLIS_PER_DAY * 1_000_000;
        let nanos = self.nanos - millis * 1_000_000;
        Self {
            day: self.day + nanos.div_euclid(per_day),
            nanos: nanos.rem_euclid(per_day),
        }
    }

    /// "2024-02-29 12:34:56.789"
    pub fn write(self, out: &mut impl Write, precision: u8) {
        write_date(out, self.day);
        let _ = out.write_char(' ');
        write_time(out, self.nanos, precision);
    }

    /// Cuts the fraction of the second off behind `precision` digits.
    pub fn truncated(self, precision: u8) -> Self {
        let unit = 10i64.pow(9 - u32::from(precision.min(9)));
        Self {
            day: self.day,
            nanos: self.nanos - self.nanos % unit,
        }
    }
}

/// Reads "2024-2-29"; a valid day of the calendar only.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let mut reader = Digits { rest: text };
    let negative = reader.take(b'-');
    let year = reader.number(1, 9)?;
    let year = if negative { -year } else { year };
    let (mut month, mut day) = (1, 1);
    if reader.take(b'-') {
        month = reader.number(1, 2)? as u32;
        if reader.take(b'-') {
            day = reader.number(1, 2)? as u32;
        }
    }
    let valid = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    (valid && reader.rest.is_empty()).then(|| days(year, month, day))
}

/// Reads "12:34:56.789", also with the seconds or the minutes missing; nanoseconds of the day.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let mut reader = Digits { rest: text };
    let hour = reader.number(1, 2)?;
    let (mut minute, mut second, mut nanos) = (0, 0, 0);
    if reader.take(b':') {
        minute = reader.number(1, 2)?;
        if reader.take(b':') {
            second = reader.number(1, 2)?;
            if reader.take(b'.') {
                nanos = reader.fraction()?;
            }
        }
    }
    let valid = hour < 24 && minute < 60 && second < 60 && reader.rest.is_empty();
    valid.then(|| (hour * 3600 + minute * 60 + second) * 1_000_000_000 + nanos)
}

/// Reads a date with all its parts, or such a date and a time parted by a blank or a T.
pub(crate) fn parse_timestamp(text: &str) -> Option<Point> {
    let (date, nanos) = match text.find([' ', 'T']) {
        None => (text, 0),
        Some(at) => (&text[..at], parse_time(&text[at + 1..])?),
    };
    let complete = date.trim_start_matches('-').matches('-').count() == 2;
    let day = complete.then(|| parse_date(date)).flatten()?;
    Some(Point { day, nanos })
}

/// Reads a date, or a date and a time with all its parts: "2024-2-9 1:02:03.4". What Flink's functions take, other than casts.
pub(crate) fn parse_full_timestamp(text: &str) -> Option<Point> {
    let complete = match text.split_once(' ') {
        Some((_, time)) => time.matches(':').count() == 2,
        None => !text.contains('T'),
    };
    complete.then(|| parse_timestamp(text)).flatten()
}

struct Digits<'a> {
    rest: &'a str,
}

impl Digits<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest.as_bytes().first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn number(&mut self, least: usize, most: usize) -> Option<i64> {
        let length = self
            .rest
            .bytes()
            .take(most)
            .take_while(u8::is_ascii_digit)
            .count();
        if length < least {
            return None;
        }
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits.parse().ok()
    }

    /// Digits behind the point as nanoseconds; more than nine are cut off.
    fn fraction(&mut self) -> Option<i64> {
        let digits = self.rest;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        self.rest = "";
        let mut nanos = 0;
        for index in 0..9 {
            let digit = digits
                .as_bytes()
                .get(index)
                .map_or(0, |b| i64::from(b - b'0'));
            nanos = nanos * 10 + digit;
        }
        Some(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate};

    #[test]
    fn agrees_with_chrono() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for day in (-800_000..800_000).step_by(37) {
            let date = epoch + chrono::Duration::days(day);
            let expected = (i64::from(date.year()), date.month(), date.day());
            assert_eq!(civil(day), expected);
            assert_eq!(days(expected.0, expected.1, expected.2), day);
            assert_eq!(iso_weekday(day), date.weekday().number_from_monday());
            assert_eq!(day_of_year(day), date.ordinal());
            let week = date.iso_week();
            assert_eq!(iso_week(day), (i64::from(week.year()), week.week()));
        }
    }

    #[test]
    fn months_end_where_they_end() {
        let jan31 = days(2024, 1, 31);
        assert_eq!(civil(add_months(jan31, 1)), (2024, 2, 29));
        assert_eq!(civil(add_months(jan31, -11)), (2023, 2, 28));
        assert_eq!(civil(add_months(jan31, 12)), (2025, 1, 31));
    }

    #[test]
    fn reads_and_writes() {
        let point = parse_timestamp("2024-02-29 12:34:56.789").unwrap();
        let mut out = String::new();
        point.write(&mut out, 3);
        assert_eq!(out, "2024-02-29 12:34:56.789");
        let before = Point::from_units(-1, 1000);
        let mut out = String::new();
        before.write(&mut out, 6);
        assert_eq!(out, "1969-12-31 23:59:59.999000");
        assert_eq!(parse_date("2023-02-29"), None);
        assert_eq!(parse_date("2023-1-2"), Some(days(2023, 1, 2)));
        assert_eq!(parse_date("2023-01-02x"), None);
        assert_eq!(parse_time("25:00:00"), None);
        assert_eq!(
            parse_timestamp("2024-01-01T01:02"),
            Some(Point {
                day: days(2024, 1, 1),
                nanos: 3_720_000_000_000,
            })
        );
        assert_eq!(parse_timestamp("x"), None);
        assert_eq!(parse_timestamp("2024-01"), None);
        assert_eq!(parse_date("2024"), Some(days(2024, 1, 1)));
    }
}
