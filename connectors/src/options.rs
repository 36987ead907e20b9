//! Reads the options of a table. Reading an option declares it: what nobody asked for when [`OptionReader::finish`] is called is unknown
//! and refused, with the nearest of those that were asked for. Connectors therefore read all their options always, in one function.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_dataflow::{Error, Result};

/// The options of one table while they are read. Keys are Flink's.
pub struct OptionReader<'a> {
    connector: String,
    options: &'a BTreeMap<String, String>,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> OptionReader<'a> {
    /// `connector` is for the error messages.
    pub fn new(connector: &str, options: &'a BTreeMap<String, String>) -> Self {
        let reader = Self {
            connector: connector.to_owned(),
            options,
            asked: RefCell::default(),
        };
        reader.text("connector");
        reader
    }

    /// Name of the connector.
    pub fn connector(&self) -> &str {
        &self.connector
    }

    /// The value as it stands, without blanks around it.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.options.get(key).map(|value| value.trim())
    }

    /// The value with the blanks around it (a delimiter may be one).
    pub fn raw_text(&self, key: &str) -> Option<&'a str> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.options.get(key).map(String::as_str)
    }

    /// As [`Self::text`], refusing absence and emptiness.
    pub fn required(&self, key: &str) -> Result<&'a str> {
        self.text(key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| {
                Error::Config(format!(
                    "connector '{}' needs the option '{key}'",
                    self.connector
                ))
            })
    }

    /// An error about the value of a key.
    pub fn invalid(&self, key: &str, value: &str, expected: &str) -> Error {
        Error::Config(format!(
            "option '{key}' of connector '{}' is '{value}': expected {expected}",
            self.connector
        ))
    }

    fn parsed<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.text(key) {
            None => Ok(None),
            Some(value) => parse(value)
                .map(Some)
                .ok_or_else(|| self.invalid(key, value, expected)),
        }
    }

    /// `true` or `false` in any case.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.parsed(key, "true or false", |value| {
            if value.eq_ignore_ascii_case("true") {
                Some(true)
            } else if value.eq_ignore_ascii_case("false") {
                Some(false)
            } else {
                None
            }
        })
    }

    /// A whole number within a range.
    pub fn integer(&self, key: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>> {
        let expected = match (*range.start(), *range.end()) {
            (0, i64::MAX) => "a whole number, 0 or more".to_owned(),
            (1, i64::MAX) => "a whole number, 1 or more".to_owned(),
            (i64::MIN, i64::MAX) => "a whole number".to_owned(),
            (low, high) => format!("a whole number from {low} to {high}"),
        };
        self.parsed(key, &expected, |value| {
            value.parse().ok().filter(|number| range.contains(number))
        })
    }

    /// A number with or without a fraction.
    pub fn double(&self, key: &str) -> Result<Option<f64>> {
        self.parsed(key, "a number", |value| {
            value.parse().ok().filter(|number: &f64| number.is_finite())
        })
    }

    /// Flink's durations: a whole number and a unit (`10 s`, `5min`, `1 d`); without a unit milliseconds.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        self.parsed(key, "a duration such as '10 s' or '5 min'", parse_duration)
    }

    /// Flink's memory sizes in bytes: a whole number and a unit (`128MB`, `64 kb`); binary multiples; without a unit bytes.
    pub fn memory(&self, key: &str) -> Result<Option<u64>> {
        self.parsed(key, "a size such as '128 MB'", parse_memory)
    }

    /// One of several values, compared without case; gives the one of `choices`.
    pub fn choice(
        &self,
        key: &str,
        choices: &'static [&'static str],
    ) -> Result<Option<&'static str>> {
        let expected = format!("one of {}", quoted(choices.iter().copied()));
        self.parsed(key, &expected, |value| {
            choices
                .iter()
                .find(|choice| choice.eq_ignore_ascii_case(value))
                .copied()
        })
    }

    /// Exactly one character. Java's escapes `\t`, `\n`, `\\` and `\uXXXX` are understood.
    pub fn character(&self, key: &str) -> Result<Option<char>> {
        let Some(value) = self.raw_text(key) else {
            return Ok(None);
        };
        let unescaped = unescape(value);
        let mut characters = unescaped.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Ok(Some(character)),
            _ => Err(self.invalid(key, value, "exactly one character")),
        }
    }

    /// Refuses an option of Flink's that is not built; `why` says what to do instead.
    pub fn refuse(&self, key: &str, why: &str) -> Result<()> {
        match self.options.get(key) {
            None => Ok(()),
            Some(_) => Err(Error::Config(format!(
                "option '{key}' of connector '{}' is not supported yet: {why}",
                self.connector
            ))),
        }
    }

    /// All options whose key starts with `prefix`: (rest of the key, value). They count as asked for.
    pub fn with_prefix(&self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        self.options
            .iter()
            .filter_map(|(key, value)| {
                let rest = key.strip_prefix(prefix)?;
                self.asked.borrow_mut().insert(key.clone());
                Some((rest, value.as_str()))
            })
            .collect()
    }

    /// Refuses what nobody asked for.
    pub fn finish(self) -> Result<()> {
        let asked = self.asked.into_inner();
        let Some(unknown) = self.options.keys().find(|key| !asked.contains(*key)) else {
            return Ok(());
        };
        let hint = match nearest(unknown, asked.iter().map(String::as_str)) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("it knows {}", quoted(asked.iter().map(String::as_str))),
        };
        Err(Error::Config(format!(
            "connector '{}' has no option '{unknown}'; {hint}",
            self.connector
        )))
    }
}

/// The candidate that differs from `name` by a slip of the fingers.
pub(crate) fn nearest<'c>(
    name: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    let allowed = (name.len() / 4).clamp(1, 4);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, candidate)| candidate)
}

/// `'a', 'b', 'c'`
pub(crate) fn quoted<'c>(names: impl Iterator<Item = &'c str>) -> String {
    names
        .map(|name| format!("'{name}'"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim().to_ascii_lowercase()))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let nanos: u64 = match unit.as_str() {
        "ns" | "nano" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return None,
    };
    number.checked_mul(nanos).map(Duration::from_nanos)
}

fn parse_memory(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn unescape(text: &str) -> String {
    match text {
        "\\t" => "\t".to_owned(),
        "\\n" => "\n".to_owned(),
        "\\r" => "\r".to_owned(),
        "\\\\" => "\\".to_owned(),
        _ => text
            .strip_prefix("\\u")
            .filter(|digits| digits.len() == 4)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .and_then(char::from_u32)
            .map_or_else(|| text.to_owned(), String::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest() {
        let options = map(&[("connector", "x"), ("rows-per-secnd", "1")]);
        let reader = OptionReader::new("x", &options);
        reader.integer("rows-per-second", 1..=i64::MAX).unwrap();
        let error = reader.finish().unwrap_err().to_string();
        assert_eq!(
            error,
            "connector 'x' has no option 'rows-per-secnd'; did you mean 'rows-per-second'?"
        );
    }

    #[test]
    fn values_are_named_with_what_was_expected() {
        let options = map(&[("a", "maybe"), ("b", "0"), ("c", "5 parsec"), ("d", "ab")]);
        let reader = OptionReader::new("x", &options);
        let errors = [
            reader.boolean("a").unwrap_err(),
            reader.integer("b", 1..=9).unwrap_err(),
            reader.duration("c").unwrap_err(),
            reader.character("d").unwrap_err(),
            reader.required("e").unwrap_err(),
        ];
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "option 'a' of connector 'x' is 'maybe': expected true or false",
                "option 'b' of connector 'x' is '0': expected a whole number from 1 to 9",
                "option 'c' of connector 'x' is '5 parsec': expected a duration such as '10 s' or '5 min'",
                "option 'd' of connector 'x' is 'ab': expected exactly one character",
                "connector 'x' needs the option 'e'",
            ]
        );
    }

    #[test]
    fn durations_sizes_and_characters_are_flinks() {
        let durations = ["250", "10 s", "5min", "1 d", "7 h"].map(parse_duration);
        let expected = [250, 10_000, 300_000, 86_400_000, 25_200_000].map(Duration::from_millis);
        assert_eq!(durations, expected.map(Some));
        assert_eq!(parse_memory("128MB"), Some(128 << 20));
        assert_eq!(parse_memory("3 kb"), Some(3072));
        assert_eq!(parse_memory("MB"), None);
        let options = map(&[("t", "\\t"), ("u", "\\u0001"), ("blank", " ")]);
        let reader = OptionReader::new("x", &options);
        let read = |key| reader.character(key).unwrap();
        assert_eq!(
            [read("t"), read("u"), read("blank"), read("none")],
            [Some('\t'), Some('\u{1}'), Some(' '), None]
        );
    }
}
