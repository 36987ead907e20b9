//! Strings to everything else.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use datafusion_common::{Result, exec_err};
use weir_dataflow::types::LogicalType;

use super::{Casting, nested};
use crate::value::calendar::{self, Point};
use crate::value::{decimal, floating};

use LogicalType as T;

/// `array` holds strings.
pub(super) fn cast(array: &ArrayRef, to: &LogicalType, casting: &Casting) -> Result<ArrayRef> {
    match to {
        T::Boolean => casting.read_booleans(array),
        T::TinyInt => casting.read::<Int8Type>(array, to, |text| integer(text).map(Some)),
        T::SmallInt => casting.read::<Int16Type>(array, to, |text| integer(text).map(Some)),
        T::Int => casting.read::<Int32Type>(array, to, |text| integer(text).map(Some)),
        T::BigInt => casting.read::<Int64Type>(array, to, |text| integer(text).map(Some)),
        T::Float => casting.read::<Float32Type>(array, to, |text| {
            floating::parse(text).map(|value| Some(value as f32))
        }),
        T::Double => casting.read::<Float64Type>(array, to, |text| floating::parse(text).map(Some)),
        T::Decimal(precision, scale) => casting
            .read::<Decimal128Type>(array, to, |text| decimal::parse(text, *precision, *scale)),
        T::Date => casting.read::<Date32Type>(array, to, |text| {
            let day = match text.split_once([' ', 'T']) {
                Some(_) => calendar::parse_timestamp(text)?.day,
                None => calendar::parse_date(text)?,
            };
            i32::try_from(day).ok().map(Some)
        }),
        T::Time(precision) => casting.read::<Time32MillisecondType>(array, to, |text| {
            let nanos = calendar::parse_time(text)?;
            let cut = Point { day: 0, nanos }.truncated((*precision).min(3));
            Some(Some((cut.nanos / 1_000_000) as i32))
        }),
        T::Timestamp(precision) | T::TimestampLtz(precision) => {
            timestamp(array, to, *precision, casting)
        }
        T::VarBinary(u32::MAX) => Ok(bytes(array)),
        T::Binary(length) | T::VarBinary(length) => {
            nested::cut_bytes(&bytes(array), *length, matches!(to, T::Binary(_)))
        }
        _ => exec_err!("there is no cast from STRING to {to}"),
    }
}

fn timestamp(
    array: &ArrayRef,
    to: &LogicalType,
    precision: u8,
    casting: &Casting,
) -> Result<ArrayRef> {
    let zoned = matches!(to, T::TimestampLtz(_));
    let read = |text: &str, per_second: i64| {
        let point = calendar::parse_timestamp(text)?.truncated(precision);
        let point = if zoned {
            casting.zone.instant(point)
        } else {
            point
        };
        point.to_units(per_second).map(Some)
    };
    match precision {
        0..=3 => casting.read::<TimestampMillisecondType>(array, to, |text| read(text, 1_000)),
        4..=6 => casting.read::<TimestampMicrosecondType>(array, to, |text| read(text, 1_000_000)),
        _ => casting.read::<TimestampNanosecondType>(array, to, |text| read(text, 1_000_000_000)),
    }
}

fn bytes(array: &ArrayRef) -> ArrayRef {
    let source = array.as_string::<i32>();
    let mut builder = BinaryBuilder::with_capacity(source.len(), source.value_data().len());
    for value in source {
        builder.append_option(value.map(str::as_bytes));
    }
    Arc::new(builder.finish())
}

/// Digits with an optional sign; a fraction is read and dropped, as Flink does.
fn integer<N: TryFrom<i64>>(text: &str) -> Option<N> {
    let whole = match text.split_once('.') {
        Some((whole, fraction)) => {
            if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            whole
        }
        None => text,
    };
    whole
        .parse::<i64>()
        .ok()
        .and_then(|value| N::try_from(value).ok())
}

/// The words that Flink takes for TRUE and FALSE.
pub(super) fn boolean(text: &str) -> Option<bool> {
    const TRUE: [&str; 6] = ["true", "t", "yes", "y", "1", "on"];
    const FALSE: [&str; 6] = ["false", "f", "no", "n", "0", "off"];
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(&TRUE) {
        return Some(true);
    }
    is(&FALSE).then_some(false)
}
