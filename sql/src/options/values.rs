//! What values a setting takes.

use weir_common::limits::PARALLELISM_MAX;

/// The kind of a setting's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// 'true' or 'false', in any case.
    Flag,
    /// '10 s'
    Duration,
    /// A whole number of at least this much.
    AtLeast(u32),
    /// 1 to the largest parallelism.
    Parallelism,
    /// A number of at least this much.
    Float(f64),
    /// One of these, in any case; kept as written here.
    OneOf(&'static [&'static str]),
    /// Only the first of these is built; the others are Flink's and refused by name.
    Only(&'static str, &'static [&'static str]),
    /// The first list is built; what is in the second one is Flink's and refused by name.
    Built(&'static [&'static str], &'static [&'static str]),
    /// A key of Flink's, whatever the value, that is not built.
    Unbuilt,
    /// A time zone: 'UTC', 'Asia/Shanghai', 'GMT+08:00'.
    TimeZone,
    /// A number of bytes, at most this many: '32 mb', which is kept as '33554432'.
    Memory(u64),
}

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not of the kind: what is.
    Wrong(String),
    /// Flink takes it, Weir does not.
    Unsupported,
}

impl Kind {
    /// The value in its plain form.
    pub(super) fn check(self, value: &str) -> Result<String, Refusal> {
        let wrong = |wanted: &str| Err(Refusal::Wrong(wanted.to_owned()));
        let value = value.trim();
        let valid = match self {
            Self::Text => true,
            Self::Flag => return one_of(value, &["true", "false"]),
            Self::Duration => {
                parse_duration_ms(value).map_err(Refusal::Wrong)?;
                true
            }
            Self::AtLeast(least) => match value.parse::<u32>() {
                Ok(number) => number >= least,
                Err(_) => return wrong("a whole number"),
            },
            Self::Parallelism => match value.parse::<u32>() {
                Ok(number) if (1..=PARALLELISM_MAX).contains(&number) => true,
                _ => return wrong(&format!("a whole number from 1 to {PARALLELISM_MAX}")),
            },
            Self::Float(least) => match value.parse::<f64>() {
                Ok(number) if number.is_finite() => number >= least,
                _ => return wrong("a number"),
            },
            Self::OneOf(values) => return one_of(value, values),
            Self::Only(built, others) => {
                if value.eq_ignore_ascii_case(built) {
                    return Ok(built.to_owned());
                }
                if others.iter().any(|other| other.eq_ignore_ascii_case(value)) {
                    return Err(Refusal::Unsupported);
                }
                return wrong(&format!("'{built}'"));
            }
            Self::Built(built, others) => {
                if others.iter().any(|other| other.eq_ignore_ascii_case(value)) {
                    return Err(Refusal::Unsupported);
                }
                return one_of(value, built);
            }
            Self::TimeZone => match weir_expr::is_time_zone(value) {
                true => true,
                false => return wrong("a time zone like 'UTC', 'Europe/Berlin' or 'GMT+08:00'"),
            },
            Self::Unbuilt => return Err(Refusal::Unsupported),
            Self::Memory(most) => match parse_bytes(value).map_err(Refusal::Wrong)? {
                bytes if bytes > most => return wrong(&format!("at most {} kb", most >> 10)),
                bytes => return Ok(bytes.to_string()),
            },
        };
        match (valid, self) {
            (true, _) => Ok(value.to_owned()),
            (false, Self::AtLeast(least)) => wrong(&format!("{least} or more")),
            (false, Self::Float(least)) => wrong(&format!("{least} or more")),
            (false, _) => wrong("another value"),
        }
    }
}

fn one_of(value: &str, values: &[&str]) -> Result<String, Refusal> {
    let known = values
        .iter()
        .find(|known| known.eq_ignore_ascii_case(value));
    match known {
        Some(known) => Ok((*known).to_owned()),
        None => Err(Refusal::Wrong(format!("one of '{}'", values.join("', '")))),
    }
}

/// Splits '10 s' into number and unit.
fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.len()
        - text
            .trim_start_matches(|ch: char| ch.is_ascii_digit())
            .len();
    let number = text.get(..digits)?.parse().ok()?;
    Some((number, text.get(digits..)?.trim().to_ascii_lowercase()))
}

/// A duration as Flink writes it, in milliseconds: '10 s', '1 min', '500 ms', '2h', '1 d'; a bare number is milliseconds. Parts of a
/// millisecond are cut off.
///
/// # Errors
/// What was expected.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let wanted = || "a duration like '10 s', '500 ms', '1 min', '2 h' or '1 d'".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(wanted)?;
    let millis = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => Some(number),
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => Some(number / 1_000_000),
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => Some(number / 1000),
        "s" | "sec" | "secs" | "second" | "seconds" => number.checked_mul(1000),
        "m" | "min" | "minute" | "minutes" => number.checked_mul(60_000),
        "h" | "hour" | "hours" => number.checked_mul(3_600_000),
        "d" | "day" | "days" => number.checked_mul(86_400_000),
        _ => return Err(wanted()),
    };
    // Times are added to the clock's milliseconds, which are signed.
    millis
        .filter(|millis| *millis <= i64::MAX as u64 / 2)
        .ok_or_else(|| "a duration of less than a hundred million years".to_owned())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let wanted = || "a number of bytes like '32 mb' or '1 gb'".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(wanted)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return Err(wanted()),
    };
    number.checked_mul(1 << shift).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_flinks_units() {
        for (text, millis) in [
            ("10 s", 10_000),
            ("500 ms", 500),
            ("1 min", 60_000),
            ("1min", 60_000),
            ("3 m", 180_000),
            ("2 h", 7_200_000),
            ("1 D", 86_400_000),
            ("2 days", 172_800_000),
            ("250", 250),
            ("1500 us", 1),
            ("0 s", 0),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "s",
            "ten s",
            "1.5 s",
            "-1 s",
            "1 week",
            "99999999999999999 d",
        ] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_brought_to_their_plain_form() {
        assert_eq!(Kind::Flag.check(" TRUE "), Ok("true".to_owned()));
        let memory = Kind::Memory(32 << 20);
        assert_eq!(memory.check("32 mb"), Ok("33554432".to_owned()));
        for wrong in ["32 parsec", "33 mb"] {
            assert!(matches!(memory.check(wrong), Err(Refusal::Wrong(_))));
        }
        assert!(matches!(
            Kind::AtLeast(1).check("0"),
            Err(Refusal::Wrong(_))
        ));
        assert_eq!(
            Kind::Only("streaming", &["batch"]).check("BATCH"),
            Err(Refusal::Unsupported)
        );
    }
}
