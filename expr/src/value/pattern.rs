//! Patterns of Java's `DateTimeFormatter` ("yyyy-MM-dd HH:mm:ss.SSS"): compiled once, then writing and reading points.

use std::fmt::Write;

use super::calendar::{self, Point};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Literal(String),
    /// A letter and how often it stands there.
    Field(char, usize),
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    items: Vec<Item>,
}

impl Pattern {
    /// `None` for a pattern with letters that have no meaning here.
    pub fn compile(pattern: &str) -> Option<Self> {
        let mut items = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\'' {
                items.push(Item::Literal(quoted(&mut chars)?));
            } else if c.is_ascii_alphabetic() {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                if !"yuYMLdDHhKkmsSnaEeQqwW".contains(c) {
                    return None;
                }
                items.push(Item::Field(c, count));
            } else if !matches!(c, '[' | ']') {
                match items.last_mut() {
                    Some(Item::Literal(text)) => text.push(c),
                    _ => items.push(Item::Literal(c.to_string())),
                }
            }
        }
        Some(Self { items })
    }

    /// The longest time in nanoseconds within which all points of an aligned interval have one text; `None` if there is none.
    pub fn granule(&self) -> Option<i64> {
        let mut granule = 86_400_000_000_000;
        for item in &self.items {
            let Item::Field(letter, count) = item else {
                continue;
            };
            let finest = match letter {
                'H' | 'h' | 'K' | 'k' | 'a' => 3_600_000_000_000,
                'm' => 60_000_000_000,
                's' => 1_000_000_000,
                'S' => 10i64.pow(9 - (*count).min(9) as u32),
                'n' => return None,
                _ => continue,
            };
            granule = granule.min(finest);
        }
        Some(granule)
    }

    /// Writes a point.
    pub fn write(&self, out: &mut impl Write, point: Point) {
        let (year, month, day) = calendar::civil(point.day);
        let seconds = point.nanos / 1_000_000_000;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        for item in &self.items {
            let (letter, count) = match item {
                Item::Literal(text) => {
                    let _ = out.write_str(text);
                    continue;
                }
                Item::Field(letter, count) => (*letter, *count),
            };
            match letter {
                'y' | 'u' if count == 2 => number(out, year.rem_euclid(100), 2),
                'y' | 'u' => number(out, year, count),
                'M' | 'L' if count >= 3 => name(out, MONTHS[month as usize - 1], count),
                'M' | 'L' => number(out, i64::from(month), count),
                'd' => number(out, i64::from(day), count),
                'D' => number(out, i64::from(calendar::day_of_year(point.day)), count),
                'H' => number(out, hour, count),
                'k' => number(out, if hour == 0 { 24 } else { hour }, count),
                'K' => number(out, hour % 12, count),
                'h' => number(out, if hour % 12 == 0 { 12 } else { hour % 12 }, count),
                'm' => number(out, minute, count),
                's' => number(out, second, count),
                'S' => {
                    let shown = count.min(9);
                    let fraction = point.nanos % 1_000_000_000 / 10i64.pow(9 - shown as u32);
                    number(out, fraction, shown);
                }
                'n' => number(out, point.nanos % 1_000_000_000, count),
                'a' => {
                    let _ = out.write_str(if hour < 12 { "AM" } else { "PM" });
                }
                'E' => {
                    let weekday = calendar::iso_weekday(point.day) as usize - 1;
                    name(out, WEEKDAYS[weekday], count.max(3));
                }
                // Weeks of a locale start on Sunday.
                'e' => number(
                    out,
                    i64::from(calendar::iso_weekday(point.day) % 7 + 1),
                    count,
                ),
                'Q' | 'q' => number(out, i64::from((month - 1) / 3 + 1), count),
                'Y' | 'w' => {
                    let (year, week) = calendar::us_week(point.day);
                    match (letter, count) {
                        ('Y', 2) => number(out, year.rem_euclid(100), 2),
                        ('Y', _) => number(out, year, count),
                        _ => number(out, i64::from(week), count),
                    }
                }
                _ => number(out, i64::from((day - 1) / 7 + 1), count),
            }
        }
    }

    /// Reads a text that has exactly the pattern; what the pattern does not have is 1970-01-01 00:00:00.
    pub fn read(&self, text: &str) -> Option<Point> {
        let mut read = Fields::default();
        let mut rest = text;
        for (index, item) in self.items.iter().enumerate() {
            match item {
                Item::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Item::Field(letter, count) => {
                    let adjacent = matches!(self.items.get(index + 1), Some(Item::Field(..)));
                    rest = read.take(*letter, *count, adjacent, rest)?;
                }
            }
        }
        if !rest.trim().is_empty() {
            return None;
        }
        read.point()
    }
}

/// The text up to the closing quote; two quotes are one.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    if chars.next_if_eq(&'\'').is_some() {
        return Some("'".to_owned());
    }
    let mut text = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_some() => text.push('\''),
            '\'' => return Some(text),
            c => text.push(c),
        }
    }
}

fn number(out: &mut impl Write, value: i64, width: usize) {
    let _ = write!(out, "{value:0width$}");
}

/// Three letters, or all from four on.
fn name(out: &mut impl Write, name: &str, count: usize) {
    let _ = out.write_str(if count >= 4 { name } else { &name[..3] });
}

#[derive(Default)]
struct Fields {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    half_day: Option<i64>,
    hour_of_half: Option<i64>,
    minute: i64,
    second: i64,
    nanos: i64,
}

impl Fields {
    /// Reads one field; returns what is behind it.
    fn take<'a>(
        &mut self,
        letter: char,
        count: usize,
        adjacent: bool,
        text: &'a str,
    ) -> Option<&'a str> {
        match letter {
            'M' | 'L' if count >= 3 => {
                let (index, rest) = named(&MONTHS, count, text)?;
                self.month = Some(index as i64 + 1);
                return Some(rest);
            }
            'E' => return named(&WEEKDAYS, count.max(3), text).map(|(_, rest)| rest),
            'a' => {
                let half = text.get(..2)?;
                self.half_day = Some(match half.to_ascii_uppercase().as_str() {
                    "AM" => 0,
                    "PM" => 12,
                    _ => return None,
                });
                return Some(&text[2..]);
            }
            _ => {}
        }
        // Fields that touch have exactly as many digits as letters.
        let most = match letter {
            _ if adjacent => count,
            'y' | 'u' => 9,
            'S' => count.max(1),
            _ => count.max(2),
        };
        let digits = text
            .bytes()
            .take(most)
            .take_while(u8::is_ascii_digit)
            .count();
        if digits == 0 || adjacent && digits < count {
            return None;
        }
        let value: i64 = text[..digits].parse().ok()?;
        match letter {
            'y' | 'u' if count == 2 => self.year = Some(2000 + value),
            'y' | 'u' => self.year = Some(value),
            'M' | 'L' => self.month = Some(value),
            'd' => self.day = Some(value),
            'D' => self.day_of_year = Some(value),
            'H' => self.hour = value,
            'k' => self.hour = value % 24,
            'h' | 'K' => self.hour_of_half = Some(value % 12),
            'm' => self.minute = value,
            's' => self.second = value,
            'S' => {
                self.nanos =
                    value.checked_mul(10i64.checked_pow(9u32.checked_sub(digits as u32)?)?)?
            }
            'n' => self.nanos = value,
            _ => {}
        }
        Some(&text[digits..])
    }

    fn point(self) -> Option<Point> {
        let year = self.year.unwrap_or(1970);
        let day = match self.day_of_year {
            Some(day) if (1..=366).contains(&day) => calendar::days(year, 1, 1) + day - 1,
            Some(_) => return None,
            None => {
                let month = u32::try_from(self.month.unwrap_or(1)).ok()?;
                let day = u32::try_from(self.day.unwrap_or(1)).ok()?;
                let valid = (1..=12).contains(&month)
                    && day >= 1
                    && day <= calendar::days_in_month(year, month);
                valid.then(|| calendar::days(year, month, day))?
            }
        };
        let hour = match self.hour_of_half {
            Some(hour) => hour + self.half_day.unwrap_or(0),
            None => self.hour,
        };
        let valid = hour < 24 && self.minute < 60 && self.second < 60;
        valid.then(|| Point {
            day,
            nanos: ((hour * 60 + self.minute) * 60 + self.second) * 1_000_000_000 + self.nanos,
        })
    }
}

fn named<'a>(names: &[&str], count: usize, text: &'a str) -> Option<(usize, &'a str)> {
    names.iter().enumerate().find_map(|(index, name)| {
        let name = if count >= 4 { name } else { &name[..3] };
        let start = text.get(..name.len())?;
        start
            .eq_ignore_ascii_case(name)
            .then(|| (index, &text[name.len()..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(text: &str) -> Point {
        calendar::parse_timestamp(text).unwrap()
    }

    #[test]
    fn writes() {
        let at = point("2024-02-09 13:04:05.678");
        for (pattern, expected) in [
            ("yyyy-MM-dd", "2024-02-09"),
            ("HH:mm", "13:04"),
            ("yy/M/d h:mm a", "24/2/9 1:04 PM"),
            ("EEE, dd MMM yyyy", "Fri, 09 Feb 2024"),
            ("EEEE MMMM", "Friday February"),
            ("yyyyMMddHHmmssSSS", "20240209130405678"),
            ("D 'day of' yyyy ''''", "40 day of 2024 ''"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSSSS", "2024-02-09T13:04:05.678000"),
        ] {
            let mut out = String::new();
            Pattern::compile(pattern).unwrap().write(&mut out, at);
            assert_eq!(out, expected, "{pattern}");
        }
        assert!(Pattern::compile("yyyy-bb").is_none());
        assert!(Pattern::compile("'open").is_none());
    }

    #[test]
    fn reads() {
        for (pattern, text, expected) in [
            ("yyyy-MM-dd", "2024-02-09", Some("2024-02-09 00:00:00")),
            (
                "yyyyMMdd HHmmss",
                "20240209 130405",
                Some("2024-02-09 13:04:05"),
            ),
            (
                "dd.MM.yyyy hh:mm a",
                "09.02.2024 01:04 PM",
                Some("2024-02-09 13:04:00"),
            ),
            ("MMM d, yyyy", "Feb 9, 2024", Some("2024-02-09 00:00:00")),
            (
                "yyyy-MM-dd'T'HH:mm:ss.SSS",
                "2024-02-09T01:02:03.450",
                Some("2024-02-09 01:02:03.45"),
            ),
            ("yyyy-MM-dd", "2024-02-30", None),
            ("yyyy-MM-dd", "2024/02/09", None),
            ("yyyy-MM-dd", "2024-02-09x", None),
        ] {
            let read = Pattern::compile(pattern).unwrap().read(text);
            assert_eq!(read, expected.map(point), "{pattern} {text}");
        }
    }

    #[test]
    fn granules() {
        let granule = |pattern: &str| Pattern::compile(pattern).unwrap().granule();
        assert_eq!(granule("yyyy-MM-dd"), Some(86_400_000_000_000));
        assert_eq!(granule("HH:mm"), Some(60_000_000_000));
        assert_eq!(granule("ss.SSS"), Some(1_000_000));
        assert_eq!(granule("n"), None);
    }
}
