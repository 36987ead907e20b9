//! Dates, times and timestamps plus or minus intervals.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, DurationMillisecondType, IntervalUnit,
    IntervalYearMonthType, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use datafusion_common::{Result, exec_err};

use super::call::{Call, Numbers, numbers};
use crate::value::calendar::{MILLIS_PER_DAY, add_months};

/// Argument `point` moved by argument `interval`, backwards if `negative`.
pub(super) fn shift(
    call: &Call,
    point: usize,
    interval: usize,
    negative: bool,
) -> Result<ArrayRef> {
    let sign = if negative { -1 } else { 1 };
    let (array, constant) = call.raw(point)?;
    if let DataType::Timestamp(..) = &call.returns
        && array.data_type() != &call.returns
    {
        // A TIMESTAMP(0) gets the digits that the interval has.
        let array = arrow::compute::cast(array, &call.returns)?;
        return shift_array(call, &array, constant, interval, sign);
    }
    shift_array(call, array, constant, interval, sign)
}

fn shift_array(
    call: &Call,
    array: &ArrayRef,
    constant: bool,
    interval: usize,
    sign: i64,
) -> Result<ArrayRef> {
    let by = match call.data_type(interval)? {
        DataType::Interval(IntervalUnit::YearMonth) => {
            By::Months(call.primitive::<IntervalYearMonthType>(interval)?, sign)
        }
        DataType::Duration(TimeUnit::Millisecond) => {
            By::Millis(call.primitive::<DurationMillisecondType>(interval)?, sign)
        }
        other => return exec_err!("{other} is no interval"),
    };
    let rows = call.rows;
    let shifted = match array.data_type() {
        DataType::Date32 => {
            let days = view::<Date32Type>(array, constant);
            numbers::<Date32Type>(rows, |row| {
                let day = i64::from(days.get(row)?);
                i32::try_from(by.day(row, day)?).ok()
            })
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            let times = view::<Time32MillisecondType>(array, constant);
            numbers::<Time32MillisecondType>(rows, |row| {
                let moved = by.units(row, i64::from(times.get(row)?), 1000)?;
                Some(moved.rem_euclid(MILLIS_PER_DAY) as i32)
            })
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            timestamps::<TimestampMillisecondType>(array, constant, rows, &by, 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            timestamps::<TimestampMicrosecondType>(array, constant, rows, &by, 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            timestamps::<TimestampNanosecondType>(array, constant, rows, &by, 1_000_000_000)
        }
        other => exec_err!("{other} is no date or time"),
    }?;
    relabel(shifted, &call.returns)
}

/// Builders know no time zone; the bits are right already.
fn relabel(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(array);
    }
    let data = array.to_data().into_builder().data_type(data_type.clone());
    Ok(arrow::array::make_array(data.build()?))
}

fn view<P: ArrowPrimitiveType>(array: &ArrayRef, constant: bool) -> Numbers<'_, P> {
    Numbers {
        array: array.as_primitive::<P>(),
        constant,
    }
}

fn timestamps<P: ArrowPrimitiveType<Native = i64>>(
    array: &ArrayRef,
    constant: bool,
    rows: usize,
    by: &By,
    per_second: i64,
) -> Result<ArrayRef> {
    let points = view::<P>(array, constant);
    if let (false, Some(millis)) = (constant, by.constant_millis()) {
        let delta = millis.wrapping_mul(per_second / 1000);
        let moved = points
            .array
            .unary::<_, P>(|value| value.wrapping_add(delta));
        return Ok(Arc::new(moved));
    }
    numbers::<P>(rows, |row| by.units(row, points.get(row)?, per_second))
}

/// An interval a row.
enum By<'a> {
    Months(Numbers<'a, IntervalYearMonthType>, i64),
    Millis(Numbers<'a, DurationMillisecondType>, i64),
}

impl By<'_> {
    /// The one day-time interval of all rows.
    fn constant_millis(&self) -> Option<i64> {
        match self {
            Self::Millis(millis, sign) if millis.constant => Some(millis.get(0)? * sign),
            _ => None,
        }
    }

    fn day(&self, row: usize, day: i64) -> Option<i64> {
        Some(match self {
            Self::Months(months, sign) => add_months(day, i64::from(months.get(row)?) * sign),
            Self::Millis(millis, sign) => day + millis.get(row)? * sign / MILLIS_PER_DAY,
        })
    }

    fn units(&self, row: usize, value: i64, per_second: i64) -> Option<i64> {
        match self {
            Self::Millis(millis, sign) => {
                Some(value.wrapping_add(millis.get(row)? * sign * (per_second / 1000)))
            }
            Self::Months(months, sign) => {
                let per_day = 86_400 * per_second;
                let day = value.div_euclid(per_day);
                let moved = add_months(day, i64::from(months.get(row)?) * sign);
                moved
                    .checked_mul(per_day)?
                    .checked_add(value.rem_euclid(per_day))
            }
        }
    }
}
