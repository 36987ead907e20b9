//! Literals with Flink's types: 1 is INT, 0.908 is DECIMAL(3, 3), 1e0 is DOUBLE, 'abc' is CHAR(3), TIME '10:00:00' is TIME(0), INTERVAL '4' SECOND
//! is a duration in milliseconds.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use datafusion_common::ScalarValue;
use datafusion_common::metadata::FieldMetadata;
use datafusion_expr::Expr;
use sqlparser::ast::{self, DateTimeField, Value};
use weir_dataflow::types::{LogicalField, LogicalType};

use crate::error::{Result, SqlError};

/// A value whose type is exactly this one. Arrow's type alone does not tell CHAR from STRING, nor TIMESTAMP(0) from TIMESTAMP(3).
pub(super) fn exact(value: ScalarValue, logical_type: LogicalType) -> Expr {
    let field = LogicalField::nullable(logical_type).to_field("");
    let metadata = FieldMetadata::new_from_field(&field);
    Expr::Literal(
        value,
        Some(metadata).filter(|metadata| !metadata.is_empty()),
    )
}

/// A literal that is no interval and has no type in front, with its exact type.
pub(super) fn plain(literal: &Value) -> Result<Expr> {
    let found = value(literal)?;
    let logical_type = match &found {
        ScalarValue::Utf8(Some(text)) => LogicalType::Char(length(text.encode_utf16().count())),
        ScalarValue::Binary(Some(bytes)) => LogicalType::Binary(length(bytes.len())),
        _ => return Ok(Expr::Literal(found, None)),
    };
    Ok(exact(found, logical_type))
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A literal that is no interval and has no type in front.
pub(super) fn value(value: &Value) -> Result<ScalarValue> {
    Ok(match value {
        Value::Number(text, _) => number(text)?,
        Value::SingleQuotedString(text)
        | Value::UnicodeStringLiteral(text)
        | Value::NationalStringLiteral(text)
        | Value::EscapedStringLiteral(text) => ScalarValue::Utf8(Some(text.clone())),
        Value::HexStringLiteral(digits) => ScalarValue::Binary(Some(hex(digits)?)),
        Value::Boolean(value) => ScalarValue::Boolean(Some(*value)),
        Value::Null => ScalarValue::Null,
        Value::DoubleQuotedString(text) => {
            return Err(SqlError::new(format!("\"{text}\" is no literal"))
                .hint("write texts in ' and names in `"));
        }
        other => return Err(SqlError::unsupported(format!("the literal {other}"))),
    })
}

/// The smallest of INT, BIGINT, DECIMAL for whole numbers; DECIMAL with a point; DOUBLE with an exponent.
fn number(text: &str) -> Result<ScalarValue> {
    let bad = || SqlError::new(format!("{text} is no number that a type can hold"));
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().map_err(|_| bad())?;
        return Ok(ScalarValue::Float64(Some(value)));
    }
    if let Ok(value) = text.parse::<i64>() {
        return Ok(match i32::try_from(value) {
            Ok(value) => ScalarValue::Int32(Some(value)),
            Err(_) => ScalarValue::Int64(Some(value)),
        });
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let unscaled: i128 = digits.parse().map_err(|_| bad())?;
    let scale = u8::try_from(fraction.len()).map_err(|_| bad())?;
    let significant = digits.trim_start_matches('0').len();
    let precision = u8::try_from(significant.max(fraction.len()).max(1)).map_err(|_| bad())?;
    if precision > 38 {
        return Err(bad().hint("DECIMAL has at most 38 digits"));
    }
    Ok(ScalarValue::Decimal128(
        Some(unscaled),
        precision,
        scale as i8,
    ))
}

fn hex(digits: &str) -> Result<Vec<u8>> {
    let bad = || SqlError::new(format!("X'{digits}' is not a whole number of bytes in hex"));
    if !digits.is_ascii() || digits.len() % 2 == 1 {
        return Err(bad());
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| bad()))
        .collect()
}

/// DATE '2020-01-31', TIME '10:00:00', TIMESTAMP '2020-01-31 10:00:00.123'. The digits of the second's fraction are the type's precision.
pub(super) fn typed(data_type: &LogicalType, text: &str) -> Result<Expr> {
    let wanted = |what: &str, like: &str| {
        SqlError::new(format!("'{text}' is no {what}")).hint(format!("write it like '{like}'"))
    };
    let digits = text.split_once('.').map_or(0, |(_, digits)| digits.len());
    let precision = u8::try_from(digits.min(9)).unwrap_or(9);
    match data_type {
        LogicalType::Date => {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .map_err(|_| wanted("DATE", "2020-01-31"))?;
            let days = date.signed_duration_since(NaiveDate::default()).num_days();
            let days = ScalarValue::Date32(i32::try_from(days).ok());
            Ok(Expr::Literal(days, None))
        }
        LogicalType::Time(_) => {
            let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f")
                .map_err(|_| wanted("TIME", "10:00:00"))?;
            let millis = time.num_seconds_from_midnight() * 1000 + time.nanosecond() / 1_000_000;
            let millis = ScalarValue::Time32Millisecond(i32::try_from(millis).ok());
            Ok(exact(millis, LogicalType::Time(precision)))
        }
        LogicalType::Timestamp(_) => {
            let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
                .map_err(|_| wanted("TIMESTAMP", "2020-01-31 10:00:00"))?;
            let utc = time.and_utc();
            let value = match precision {
                0..=3 => ScalarValue::TimestampMillisecond(Some(utc.timestamp_millis()), None),
                4..=6 => ScalarValue::TimestampMicrosecond(Some(utc.timestamp_micros()), None),
                _ => {
                    let nanos = utc.timestamp_nanos_opt();
                    let nanos = nanos.ok_or_else(|| {
                        SqlError::new(format!(
                            "TIMESTAMP '{text}': with more than 6 digits of a second, years are 1678 to 2261"
                        ))
                    })?;
                    ScalarValue::TimestampNanosecond(Some(nanos), None)
                }
            };
            Ok(exact(value, LogicalType::Timestamp(precision)))
        }
        other => Err(SqlError::unsupported(format!("a literal of type {other}"))),
    }
}

/// INTERVAL '...' unit [TO unit].
pub(crate) fn interval(interval: &ast::Interval) -> Result<ScalarValue> {
    // INTERVAL -'1' DAY
    let (minus, value) = match interval.value.as_ref() {
        ast::Expr::UnaryOp {
            op: ast::UnaryOperator::Minus,
            expr,
        } => (true, expr.as_ref()),
        value => (false, value),
    };
    let text = match value {
        ast::Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.as_str(),
            _ => return Err(quotes()),
        },
        _ => return Err(quotes()),
    };
    let Some(leading) = &interval.leading_field else {
        return Err(SqlError::new("an INTERVAL needs a unit").hint("write INTERVAL '4' SECOND"));
    };
    let first = Unit::of(leading)?;
    let last = match &interval.last_field {
        Some(field) => Unit::of(field)?,
        None => first,
    };
    let bad = || SqlError::new(format!("'{text}' is no {}", describe(first, last)));
    if last < first || first.is_months() != last.is_months() {
        return Err(SqlError::new(format!(
            "INTERVAL {} is no interval",
            describe(first, last)
        )));
    }
    let (negative, digits) = match text.trim().strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.trim().trim_start_matches('+')),
    };
    let total = amount(digits, first, last).ok_or_else(bad)?;
    let total = if negative != minus { -total } else { total };
    if first.is_months() {
        let months = i32::try_from(total).map_err(|_| bad())?;
        return Ok(ScalarValue::IntervalYearMonth(Some(months)));
    }
    Ok(ScalarValue::DurationMillisecond(Some(total)))
}

fn quotes() -> SqlError {
    SqlError::new("the value of an INTERVAL is to be in quotes").hint("write INTERVAL '4' SECOND")
}

fn describe(first: Unit, last: Unit) -> String {
    if first == last {
        format!("{first:?}").to_uppercase()
    } else {
        format!("{first:?} TO {last:?}").to_uppercase()
    }
}

/// In the order of size, largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
}

impl Unit {
    fn of(field: &DateTimeField) -> Result<Self> {
        Ok(match field {
            DateTimeField::Year | DateTimeField::Years => Self::Year,
            DateTimeField::Quarter => Self::Quarter,
            DateTimeField::Month | DateTimeField::Months => Self::Month,
            DateTimeField::Week(None) | DateTimeField::Weeks => Self::Week,
            DateTimeField::Day | DateTimeField::Days => Self::Day,
            DateTimeField::Hour | DateTimeField::Hours => Self::Hour,
            DateTimeField::Minute | DateTimeField::Minutes => Self::Minute,
            DateTimeField::Second | DateTimeField::Seconds => Self::Second,
            other => {
                return Err(SqlError::new(format!("{other} is no unit of an INTERVAL"))
                    .hint("units are YEAR, MONTH, DAY, HOUR, MINUTE and SECOND"));
            }
        })
    }

    fn is_months(self) -> bool {
        self <= Self::Month
    }

    /// Months or milliseconds.
    fn size(self) -> i64 {
        match self {
            Self::Year => 12,
            Self::Quarter => 3,
            Self::Month => 1,
            Self::Week => 7 * 86_400_000,
            Self::Day => 86_400_000,
            Self::Hour => 3_600_000,
            Self::Minute => 60_000,
            Self::Second => 1000,
        }
    }
}

/// Reads `1 10:00:00.5` and the like: one number a unit, from the first to the last.
fn amount(text: &str, first: Unit, last: Unit) -> Option<i64> {
    const ORDER: [Unit; 6] = [
        Unit::Year,
        Unit::Month,
        Unit::Day,
        Unit::Hour,
        Unit::Minute,
        Unit::Second,
    ];
    let units: Vec<Unit> = if first == last {
        vec![first]
    } else {
        ORDER
            .into_iter()
            .filter(|unit| (first..=last).contains(unit))
            .collect()
    };
    let parts: Vec<&str> = text.split([' ', ':', '-']).collect();
    if parts.len() != units.len() {
        return None;
    }
    let mut total = 0i64;
    for (part, unit) in parts.into_iter().zip(units) {
        let (whole, fraction) = part.split_once('.').unwrap_or((part, ""));
        total = total.checked_add(whole.parse::<i64>().ok()?.checked_mul(unit.size())?)?;
        if unit == Unit::Second && !fraction.is_empty() {
            let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
            total = total.checked_add(millis.parse().ok()?)?;
        } else if !fraction.is_empty() {
            return None;
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_flinks_types() {
        assert_eq!(number("7").unwrap(), ScalarValue::Int32(Some(7)));
        assert_eq!(
            number("3000000000").unwrap(),
            ScalarValue::Int64(Some(3_000_000_000))
        );
        assert_eq!(
            number("0.908").unwrap(),
            ScalarValue::Decimal128(Some(908), 3, 3)
        );
        assert_eq!(
            number("12.50").unwrap(),
            ScalarValue::Decimal128(Some(1250), 4, 2)
        );
        assert_eq!(
            number("99999999999999999999").unwrap(),
            ScalarValue::Decimal128(Some(99_999_999_999_999_999_999), 20, 0)
        );
        assert_eq!(number("1e3").unwrap(), ScalarValue::Float64(Some(1000.0)));
        assert!(number("123456789012345678901234567890123456789.1").is_err());
    }

    #[test]
    fn intervals_of_several_units() {
        assert_eq!(amount("4", Unit::Second, Unit::Second), Some(4000));
        assert_eq!(amount("0.25", Unit::Second, Unit::Second), Some(250));
        assert_eq!(
            amount("1 02:03:04.5", Unit::Day, Unit::Second),
            Some(93_784_500)
        );
        assert_eq!(amount("1-2", Unit::Year, Unit::Month), Some(14));
        assert_eq!(amount("1.5", Unit::Hour, Unit::Hour), None);
        assert_eq!(amount("1:2", Unit::Second, Unit::Second), None);
    }
}
