//! A scalar of a record into a column: the conversions that Flink's JSON and CSV formats have in common.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::column::{Column, Values};
use super::parse::{self, TimestampStandard, java_trim};

/// A scalar as it stands in a record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scalar<'a> {
    /// A text; in CSV everything is one.
    Text(&'a str),
    /// A JSON number without fraction and exponent.
    Integer(&'a str),
    /// Another JSON number.
    Float(&'a str),
    /// A JSON literal.
    Boolean(bool),
}

impl<'a> Scalar<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Text(text) | Self::Integer(text) | Self::Float(text) => text,
            Self::Boolean(true) => "true",
            Self::Boolean(false) => "false",
        }
    }

    /// As Java's narrowing of a double: cut off towards zero, out of range is an error.
    fn whole(self) -> Option<i64> {
        match self {
            Self::Float(text) => {
                let value: f64 = text.parse().ok()?;
                (value >= i64::MIN as f64 && value < -(i64::MIN as f64)).then_some(value as i64)
            }
            other => java_trim(other.text()).parse().ok(),
        }
    }

    fn double(self) -> Option<f64> {
        match self {
            Self::Integer(text) | Self::Float(text) => text.parse().ok(),
            other => parse::java_double(other.text()),
        }
    }

    fn small<T: std::str::FromStr>(self) -> Option<T> {
        java_trim(self.text()).parse().ok()
    }
}

/// The choices of a format.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ScalarRules {
    pub timestamps: TimestampStandard,
    /// java.sql.Date and LocalTime instead of the strict ISO forms (CSV).
    pub lenient_dates: bool,
}

/// The scalar is not of the column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch;

fn push<T>(values: &mut Vec<T>, value: Option<T>) -> Result<(), Mismatch> {
    values.push(value.ok_or(Mismatch)?);
    Ok(())
}

/// Appends the scalar; after an error the column is as before.
pub(crate) fn append(
    column: &mut Column,
    scalar: Scalar<'_>,
    rules: ScalarRules,
) -> Result<(), Mismatch> {
    match &mut column.values {
        Values::Text(texts) => texts.push(scalar.text().as_bytes()),
        Values::Int64(values) | Values::DayTime(values) => push(values, scalar.whole())?,
        Values::Int32(values) | Values::YearMonth(values) => {
            let value = scalar.whole().and_then(|value| i32::try_from(value).ok());
            push(values, value)?;
        }
        Values::Float64(values) => push(values, scalar.double())?,
        Values::Float32(values) => {
            let value = match scalar {
                Scalar::Integer(text) | Scalar::Float(text) => text.parse().ok(),
                other => other.double().map(|value| value as f32),
            };
            push(values, value)?;
        }
        Values::Boolean(values) => values.push(match scalar {
            Scalar::Boolean(value) => value,
            other => java_trim(other.text()).eq_ignore_ascii_case("true"),
        }),
        Values::Timestamp(values, unit, zoned) => {
            let value = parse::timestamp(scalar.text(), rules.timestamps, *zoned, *unit);
            push(values, value)?;
        }
        Values::Decimal(values, precision, scale) => {
            match parse::decimal(java_trim(scalar.text()), *precision, *scale).ok_or(Mismatch)? {
                Some(value) => values.push(value),
                None if column.is_nullable() => {
                    column.append_null();
                    return Ok(());
                }
                None => return Err(Mismatch),
            }
        }
        Values::Int8(values) => push(values, scalar.small())?,
        Values::Int16(values) => push(values, scalar.small())?,
        Values::Date(values) if rules.lenient_dates => {
            push(values, parse::lenient_date(scalar.text()))?;
        }
        Values::Date(values) => push(values, parse::date(scalar.text()))?,
        Values::Time(values) => {
            push(values, parse::time_ms(scalar.text(), rules.lenient_dates))?;
        }
        Values::Binary(bytes) => {
            let Scalar::Text(text) = scalar else {
                return Err(Mismatch);
            };
            bytes
                .push_with(|out| STANDARD.decode_vec(text, out))
                .map_err(|_| Mismatch)?;
        }
        Values::Null => {
            column.append_null();
            return Ok(());
        }
        Values::List(..) | Values::Map(..) | Values::Row(_) => return Err(Mismatch),
    }
    column.set_valid();
    Ok(())
}
