//! Dates and times from and to texts: DATE_FORMAT, TO_DATE, TO_TIMESTAMP, FROM_UNIXTIME and their like. A text that can't be read is NULL.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int32Type, Int64Type};
use arrow::datatypes::{TimeUnit, TimestampMillisecondType};
use datafusion_common::{Result, exec_err, plan_err};
use lru::LruCache;
use weir_common::clock::Clock;
use weir_dataflow::types::LogicalType;

use super::call::{Call, Text, numbers, put, texts};
use super::function::Function;
use super::params::{Argument, Param, Returns};
use super::string::is_string;
use crate::cast::temporal::{from_points, points};
use crate::coerce::types::STRING;
use crate::value::calendar::{self, Point};
use crate::value::pattern::Pattern;
use crate::value::zone::Zone;

use LogicalType as T;

const FORMAT: &[Param] = &[Param::Temporal, Param::Text];
const ONE_OR_TWO: &[Param] = &[Param::Text, Param::Text];
const UNIX: &[Param] = &[Param::BigInt, Param::Text, Param::Text];
const THREE: &[Param] = &[Param::Text, Param::Text, Param::Text];
const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("DATE_FORMAT", FORMAT, STRING, date_format),
        Function::new("TO_DATE", ONE_OR_TWO, T::Date, to_date).optional(1),
        Function::new("TO_TIMESTAMP", ONE_OR_TWO, T::Timestamp(3), to_timestamp).optional(1),
        Function::new("__read_timestamp", ONE_OR_TWO, T::Timestamp(3), |call| {
            let (text, pattern) = (call.text(0)?, compile(call.literal(1)?));
            from_points(call.rows, &T::Timestamp(3), |row| {
                pattern.as_ref()?.read(text.get(row)?)
            })
        }),
        Function::new(
            "TO_TIMESTAMP_LTZ",
            &[Param::TextOrNumeric, Param::Any, Param::Text],
            Returns::Rule(ltz_result),
            to_timestamp_ltz,
        )
        .optional(2),
        // The third argument is the session time zone.
        Function::new("FROM_UNIXTIME", UNIX, STRING, from_unixtime).optional(2),
        Function::new("UNIX_TIMESTAMP", THREE, T::BigInt, unix_timestamp).optional(3),
        Function::new("CONVERT_TZ", THREE, STRING, convert_tz),
    ]
}

const CACHED: NonZeroUsize = match NonZeroUsize::new(64) {
    Some(size) => size,
    None => NonZeroUsize::MIN,
};

thread_local! {
    static PATTERNS: RefCell<LruCache<String, Option<Rc<Pattern>>>> =
        RefCell::new(LruCache::new(CACHED));
}

/// The compiled pattern; kept for later calls on this thread.
fn compile(pattern: &str) -> Option<Rc<Pattern>> {
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(known) = patterns.get(pattern) {
            return known.clone();
        }
        let compiled = Pattern::compile(pattern).map(Rc::new);
        patterns.put(pattern.to_owned(), compiled.clone());
        compiled
    })
}

/// The pattern of each row; a literal one must be right.
enum Patterns<'a> {
    One(Option<Rc<Pattern>>),
    Many(Text<'a>),
}

impl<'a> Patterns<'a> {
    fn new(text: Option<Text<'a>>, default: &str) -> Result<Self> {
        let source = match &text {
            None => Some(default),
            Some(text) if text.constant => text.get(0),
            Some(text) => return Ok(Self::Many(*text)),
        };
        let Some(source) = source else {
            return Ok(Self::One(None));
        };
        match compile(source) {
            Some(pattern) => Ok(Self::One(Some(pattern))),
            None => exec_err!("'{source}' is not a pattern for dates and times that is supported"),
        }
    }

    /// For reading texts, where what is no pattern only never fits.
    fn to_read(text: Option<Text<'a>>, default: &str) -> Result<Self> {
        match Self::new(text, default) {
            Err(_) => Ok(Self::One(None)),
            patterns => patterns,
        }
    }

    fn get(&self, row: usize) -> Option<Rc<Pattern>> {
        match self {
            Self::One(pattern) => pattern.clone(),
            Self::Many(text) => compile(text.get(row)?),
        }
    }
}

fn date_format(call: &Call) -> Result<ArrayRef> {
    let patterns = Patterns::new(Some(call.text(1)?), DEFAULT)?;
    let (array, constant) = call.raw(0)?;
    if let (Patterns::One(Some(pattern)), DataType::Timestamp(TimeUnit::Millisecond, _), false) =
        (&patterns, array.data_type(), constant)
        && let Some(granule) = pattern.granule().map(|nanos| nanos / 1_000_000)
        && granule > 0
    {
        return format_granules(call, pattern, granule);
    }
    let array = call.array(0)?;
    let read = points(array.as_ref())?;
    texts(call.rows, |row, out| {
        let (point, pattern) = (read(row)?, patterns.get(row)?);
        pattern.write(out, point);
        Some(())
    })
}

/// Neighbours in a stream mostly lie within one day or minute, so the last text is often the next one.
fn format_granules(call: &Call, pattern: &Pattern, granule: i64) -> Result<ArrayRef> {
    let millis = call.primitive::<TimestampMillisecondType>(0)?;
    let mut last: Option<i64> = None;
    let mut text = String::new();
    let mut builder = StringBuilder::with_capacity(call.rows, call.rows * 12);
    for row in 0..call.rows {
        let Some(value) = millis.get(row) else {
            builder.append_null();
            continue;
        };
        let place = value.div_euclid(granule);
        if last != Some(place) {
            text.clear();
            pattern.write(&mut text, Point::from_units(value, 1000));
            last = Some(place);
        }
        builder.append_value(&text);
    }
    Ok(std::sync::Arc::new(builder.finish()))
}

/// The default forms; with a pattern first the pattern, and those only if it does not fit.
fn read_text(text: &str, pattern: Option<&Pattern>) -> Option<Point> {
    let read = pattern.and_then(|pattern| pattern.read(text));
    read.or_else(|| calendar::parse_full_timestamp(text.trim()))
}

fn to_date(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = Patterns::to_read(call.optional_text(1)?, "yyyy-MM-dd")?;
    let plain = call.len() == 1;
    numbers::<Date32Type>(call.rows, |row| {
        let text = text.get(row)?;
        let day = if plain {
            let date = text.trim().split([' ', 'T']).next()?;
            calendar::parse_date(date)?
        } else {
            read_text(text, Some(&*patterns.get(row)?))?.day
        };
        i32::try_from(day).ok()
    })
}

fn to_timestamp(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = Patterns::to_read(call.optional_text(1)?, DEFAULT)?;
    let plain = call.len() == 1;
    from_points(call.rows, &T::Timestamp(3), |row| {
        let text = text.get(row)?;
        if plain {
            read_text(text, None)
        } else {
            read_text(text, Some(&*patterns.get(row)?))
        }
    })
}

/// Both from numbers of seconds (precision 0) and of milliseconds (3), and from texts: TIMESTAMP_LTZ(3).
fn ltz_result(arguments: &[Argument]) -> Result<LogicalType> {
    let given = &arguments[0].logical_type;
    if matches!(given, T::Char(_) | T::VarChar(_)) {
        return Ok(T::TimestampLtz(3));
    }
    match arguments.get(1).map(|precision| precision.integer()) {
        None | Some(None) => Ok(T::TimestampLtz(3)),
        Some(Some(precision @ 0..=9)) => Ok(T::TimestampLtz(precision.max(3) as u8)),
        Some(Some(other)) => {
            plan_err!("TO_TIMESTAMP_LTZ takes a precision from 0 to 9, not {other}")
        }
    }
}

fn to_timestamp_ltz(call: &Call) -> Result<ArrayRef> {
    if is_string(call.data_type(0)?) {
        return text_to_ltz(call);
    }
    let precision = match call.len() {
        1 => None,
        _ => Some(arrow::compute::cast(&call.array(1)?, &DataType::Int32)?),
    };
    // Units in a second.
    let scale = |row: usize| match &precision {
        None => Some(1000),
        Some(array) => {
            let array = arrow::array::AsArray::as_primitive::<Int32Type>(array);
            let digits = array.is_valid(row).then(|| array.value(row))?;
            10i64.checked_pow(u32::try_from(digits).ok()?)
        }
    };
    let target = match call.returns {
        DataType::Timestamp(TimeUnit::Microsecond, _) => T::TimestampLtz(6),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => T::TimestampLtz(9),
        _ => T::TimestampLtz(3),
    };
    if matches!(call.data_type(0)?, DataType::Float32 | DataType::Float64) {
        let doubles = arrow::compute::cast(&call.array(0)?, &DataType::Float64)?;
        let doubles = arrow::array::AsArray::as_primitive::<Float64Type>(&doubles);
        return from_points(call.rows, &target, |row| {
            let value = doubles.is_valid(row).then(|| doubles.value(row))?;
            // Flink has milliseconds of a floating point number, of an integer what its precision says.
            let millis = value * 1000.0 / scale(row)? as f64;
            Some(Point::from_units(millis as i64, 1000))
        });
    }
    let longs = arrow::compute::cast(&call.array(0)?, &DataType::Int64)?;
    let longs = arrow::array::AsArray::as_primitive::<Int64Type>(&longs);
    from_points(call.rows, &target, |row| {
        let value = longs.is_valid(row).then(|| longs.value(row))?;
        Some(Point::from_units(value, scale(row)?))
    })
}

/// TO_TIMESTAMP_LTZ(text[, pattern[, zone]])
fn text_to_ltz(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = Patterns::to_read(call.optional_text(1)?, "yyyy-MM-dd HH:mm:ss.SSS")?;
    let zones = call.optional_text(2)?;
    let plain = call.len() == 1;
    from_points(call.rows, &T::TimestampLtz(3), |row| {
        let text = text.get(row)?;
        let point = if plain {
            read_text(text, None)?
        } else {
            read_text(text, Some(&*patterns.get(row)?))?
        };
        let zone = match &zones {
            None => Zone::Utc,
            Some(zones) => Zone::parse(zones.get(row)?)?,
        };
        Some(zone.instant(point))
    })
}

fn session_zone(text: Option<Text<'_>>) -> Result<Zone> {
    match text.and_then(|text| text.get(0)) {
        Some(name) => super::cast::zone(name),
        None => Ok(Zone::Utc),
    }
}

fn from_unixtime(call: &Call) -> Result<ArrayRef> {
    let seconds = call.primitive::<Int64Type>(0)?;
    let patterns = Patterns::new(call.optional_text(1)?, DEFAULT)?;
    let zone = session_zone(call.optional_text(2)?)?;
    texts(call.rows, |row, out| {
        let (seconds, pattern) = (seconds.get(row)?, patterns.get(row)?);
        pattern.write(out, zone.local(Point::from_units(seconds, 1)));
        Some(())
    })
}

/// The time now without arguments. What can't be read is the smallest BIGINT.
fn unix_timestamp(call: &Call) -> Result<ArrayRef> {
    if call.len() == 0 {
        let seconds = Clock::System.now_ms().div_euclid(1000);
        return numbers::<Int64Type>(call.rows, |_| Some(seconds));
    }
    let text = call.text(0)?;
    let given = call.optional_text(1)?;
    let is_default = |row: usize| {
        given
            .as_ref()
            .is_none_or(|given| given.get(row) == Some(DEFAULT))
    };
    let patterns = Patterns::to_read(call.optional_text(1)?, DEFAULT)?;
    let zone = session_zone(call.optional_text(2)?)?;
    numbers::<Int64Type>(call.rows, |row| {
        let text = text.get(row)?;
        let point = match patterns.get(row)?.read(text) {
            // The default pattern stops at the seconds.
            None if is_default(row) => {
                calendar::parse_full_timestamp(text).filter(|_| text.contains(':'))
            }
            point => point,
        };
        let seconds = point.and_then(|point| zone.instant(point).to_units(1));
        Some(seconds.unwrap_or(i64::MIN))
    })
}

/// A text of one zone's local time as the text of another's.
fn convert_tz(call: &Call) -> Result<ArrayRef> {
    let (text, from, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
    texts(call.rows, |row, out| {
        let (text, from, to) = (text.get(row)?, from.get(row)?, to.get(row)?);
        // Java takes a zone that it does not know for GMT.
        let zone = |name: &str| Zone::parse(name).unwrap_or(Zone::Utc);
        let (from, to) = (zone(from), zone(to));
        let point = calendar::parse_full_timestamp(text.trim()).filter(|_| text.contains(':'))?;
        let mut local = String::with_capacity(19);
        to.local(from.instant(point)).write(&mut local, 0);
        put(out, &local);
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn texts_of_times() {
        check(vec![
            (
                "DATE_FORMAT",
                args![ts("2020-04-15 23:07:08.123"), "yyyy-MM-dd"],
                "2020-04-15",
            ),
            (
                "DATE_FORMAT",
                args![ts("2020-04-15 23:07:08.123"), "HH:mm"],
                "23:07",
            ),
            (
                "DATE_FORMAT",
                args!["2018-03-14 01:02:03", "yyyy/MM/dd HH:mm:ss"],
                "2018/03/14 01:02:03",
            ),
            (
                "DATE_FORMAT",
                args![
                    of("2018-03-14 01:02:03.123456", T::Timestamp(6)),
                    "ss.SSSSSS"
                ],
                "03.123456",
            ),
            ("DATE_FORMAT", args![null(T::Timestamp(3)), "yyyy"], "NULL"),
            (
                "DATE_FORMAT",
                args![ts("2020-01-01 00:00:00"), null(STRING)],
                "NULL",
            ),
            (
                "DATE_FORMAT",
                args![ts("2020-01-01 00:00:00"), lit("bbb")],
                "ERROR",
            ),
            (
                "DATE_FORMAT",
                args![
                    of("2018-03-14 01:02:03", T::TimestampLtz(3)),
                    "yyyy-MM-dd HH"
                ],
                "2018-03-14 01",
            ),
            ("TO_DATE", args!["2018-03-14"], "2018-03-14"),
            ("TO_DATE", args!["14.03.2018", "dd.MM.yyyy"], "2018-03-14"),
            ("TO_DATE", args!["x"], "NULL"),
            (
                "TO_TIMESTAMP",
                args!["2018-03-14 01:02:03"],
                "2018-03-14 01:02:03.000",
            ),
            (
                "TO_TIMESTAMP",
                args!["2018-03-14 01:02:03.5"],
                "2018-03-14 01:02:03.500",
            ),
            (
                "TO_TIMESTAMP",
                args!["2018-03-14"],
                "2018-03-14 00:00:00.000",
            ),
            (
                "TO_TIMESTAMP",
                args!["20180314010203", "yyyyMMddHHmmss"],
                "2018-03-14 01:02:03.000",
            ),
            ("TO_TIMESTAMP", args!["x"], "NULL"),
            ("TO_TIMESTAMP", args!["2018-02-30"], "NULL"),
            (
                "TO_TIMESTAMP_LTZ",
                args![100, fixed(0)],
                "1970-01-01 00:01:40.000",
            ),
            (
                "TO_TIMESTAMP_LTZ",
                args![100, fixed(3)],
                "1970-01-01 00:00:00.100",
            ),
            ("TO_TIMESTAMP_LTZ", args![1i64, fixed(12)], "ERROR"),
            (
                "TO_TIMESTAMP_LTZ",
                args![1i64, fixed(6)],
                "1970-01-01 00:00:00.000001",
            ),
            (
                "TO_TIMESTAMP_LTZ",
                args![1520989323456i64],
                "2018-03-14 01:02:03.456",
            ),
            (
                "TO_TIMESTAMP_LTZ",
                args!["2018-03-14 01:02:03"],
                "2018-03-14 01:02:03.000",
            ),
            ("TO_TIMESTAMP_LTZ", args![null(T::BigInt), fixed(3)], "NULL"),
            ("FROM_UNIXTIME", args![44i64], "1970-01-01 00:00:44"),
            ("FROM_UNIXTIME", args![44i64, "yyyy/MM/dd"], "1970/01/01"),
            ("UNIX_TIMESTAMP", args!["1970-01-01 00:01:00"], "60"),
            ("UNIX_TIMESTAMP", args!["x"], "-9223372036854775808"),
            ("UNIX_TIMESTAMP", args!["01.01.1970", "dd.MM.yyyy"], "0"),
            (
                "CONVERT_TZ",
                args!["1970-01-01 00:00:00", "UTC", "America/Los_Angeles"],
                "1969-12-31 16:00:00",
            ),
            ("CONVERT_TZ", args!["x", "UTC", "UTC"], "NULL"),
        ]);
    }
}
