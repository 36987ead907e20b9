//! Fields of dates and times, TIMESTAMPADD and TIMESTAMPDIFF. TIMESTAMP_LTZ is read as UTC: with another session zone coercion casts first.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, DurationMillisecondType, Field, Int32Type, Int64Type, IntervalYearMonthType,
};
use datafusion_common::{Result, exec_err, internal_datafusion_err, plan_err};
use weir_dataflow::types::LogicalType;

use super::call::{Call, numbers};
use super::function::{Function, Kernel};
use super::params::{Argument, Param, Returns};
use super::unit::Unit;
use crate::cast::temporal::{PointReader, from_points, points};
use crate::coerce::types::{is_interval, is_temporal};
use crate::value::calendar::{self, MILLIS_PER_DAY, Point};

use LogicalType as T;

const ONE: &[Param] = &[Param::TemporalOrInterval];
const EXTRACT: &[Param] = &[Param::Text, Param::Any];
const ADD: &[Param] = &[Param::Text, Param::BigInt, Param::Temporal];
const DIFF: &[Param] = &[Param::Text, Param::Temporal, Param::Temporal];

pub(super) fn functions() -> Vec<Function> {
    let field = |name, kernel: Kernel| {
        Function::new(name, ONE, Returns::Rule(field_result), kernel).strict()
    };
    vec![
        field("YEAR", |call| extract_from(call, 0, Unit::Year)),
        field("QUARTER", |call| extract_from(call, 0, Unit::Quarter)),
        field("MONTH", |call| extract_from(call, 0, Unit::Month)),
        field("WEEK", |call| extract_from(call, 0, Unit::Week)),
        field("DAYOFYEAR", |call| extract_from(call, 0, Unit::DayOfYear)),
        field("DAYOFMONTH", |call| extract_from(call, 0, Unit::Day)),
        field("DAYOFWEEK", |call| extract_from(call, 0, Unit::DayOfWeek)),
        field("HOUR", |call| extract_from(call, 0, Unit::Hour)),
        field("MINUTE", |call| extract_from(call, 0, Unit::Minute)),
        field("SECOND", |call| extract_from(call, 0, Unit::Second)),
        Function::new("EXTRACT", EXTRACT, Returns::Rule(extract_result), extract)
            .alias("__extract")
            .strict(),
        Function::new("TIMESTAMPADD", ADD, Returns::Rule(add_result), add),
        Function::new("TIMESTAMPDIFF", DIFF, T::Int, diff),
        Function::new(
            "__difference",
            &[Param::Temporal, Param::Temporal, Param::Text],
            Returns::Rule(difference_result),
            difference,
        ),
    ]
}

fn unit_of(argument: &Argument) -> Result<Unit> {
    let name = argument.text().unwrap_or("");
    match Unit::parse(name) {
        Some(unit) => Ok(unit),
        None => plan_err!("'{name}' is no unit of time"),
    }
}

fn literal_unit(call: &Call) -> Result<Unit> {
    let name = call.literal(0)?;
    match Unit::parse(name) {
        Some(unit) => Ok(unit),
        None => exec_err!("'{name}' is no unit of time"),
    }
}

/// HOUR and its like take an interval, too.
fn field_result(arguments: &[Argument]) -> Result<LogicalType> {
    let from = &arguments[0].logical_type;
    if is_temporal(from) || is_interval(from) {
        return Ok(T::BigInt);
    }
    plan_err!("a field is taken of a DATE, TIME, TIMESTAMP or INTERVAL, not of {from}")
}

fn extract_result(arguments: &[Argument]) -> Result<LogicalType> {
    let unit = unit_of(&arguments[0])?;
    let from = &arguments[1].logical_type;
    if !is_temporal(from) && !is_interval(from) && *from != T::Null {
        return plan_err!("EXTRACT takes a DATE, TIME, TIMESTAMP or INTERVAL, not {from}");
    }
    if is_interval(from) && unit.nanos().is_none() && unit.months().is_none() {
        return plan_err!("an INTERVAL has no {unit:?}");
    }
    Ok(T::BigInt)
}

fn extract(call: &Call) -> Result<ArrayRef> {
    extract_from(call, 1, literal_unit(call)?)
}

fn extract_from(call: &Call, index: usize, unit: Unit) -> Result<ArrayRef> {
    let array = call.array(index)?;
    match array.data_type() {
        DataType::Null => return numbers::<Int64Type>(call.rows, |_| None),
        DataType::Duration(_) | DataType::Interval(_) => return extract_interval(&array, unit),
        // The hot ones: a whole number of milliseconds.
        DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, _)
            if matches!(unit, Unit::Hour | Unit::Minute | Unit::Second) =>
        {
            let millis = array.as_primitive::<arrow::datatypes::TimestampMillisecondType>();
            let size = unit.nanos().unwrap_or(1) / 1_000_000;
            let modulus = if unit == Unit::Hour { 24 } else { 60 };
            let field = |value: i64| value.div_euclid(size).rem_euclid(modulus);
            return Ok(Arc::new(millis.unary::<_, Int64Type>(field)));
        }
        _ => {}
    }
    let read = points(array.as_ref())?;
    numbers::<Int64Type>(call.rows, |row| Some(field(read(row)?, unit)))
}

fn extract_interval(array: &ArrayRef, unit: Unit) -> Result<ArrayRef> {
    let result = match array.data_type() {
        DataType::Interval(_) => {
            let months = array.as_primitive::<IntervalYearMonthType>();
            months.unary::<_, Int64Type>(|months| match unit {
                Unit::Year => i64::from(months / 12),
                Unit::Quarter => i64::from(months % 12 / 3 + 1),
                Unit::Month => i64::from(months % 12),
                _ => 0,
            })
        }
        _ => {
            let millis = array.as_primitive::<DurationMillisecondType>();
            millis.unary::<_, Int64Type>(|millis| match unit {
                Unit::Week => millis / (7 * MILLIS_PER_DAY),
                Unit::Day => millis / MILLIS_PER_DAY,
                Unit::Hour => millis / 3_600_000 % 24,
                Unit::Minute => millis / 60_000 % 60,
                Unit::Second => millis / 1000 % 60,
                Unit::Millisecond => millis % 1000,
                _ => 0,
            })
        }
    };
    Ok(Arc::new(result))
}

fn field(point: Point, unit: Unit) -> i64 {
    let (year, month, day) = calendar::civil(point.day);
    let seconds = point.nanos / 1_000_000_000;
    let fraction = point.nanos % 1_000_000_000;
    let weekday = calendar::iso_weekday(point.day);
    match unit {
        Unit::Millennium => (year + 999).div_euclid(1000),
        Unit::Century => (year + 99).div_euclid(100),
        Unit::Decade => year.div_euclid(10),
        Unit::Year => year,
        Unit::IsoYear => calendar::iso_week(point.day).0,
        Unit::Quarter => i64::from((month - 1) / 3 + 1),
        Unit::Month => i64::from(month),
        Unit::Week => i64::from(calendar::iso_week(point.day).1),
        Unit::Day => i64::from(day),
        Unit::DayOfWeek => i64::from(weekday % 7 + 1),
        Unit::IsoDayOfWeek => i64::from(weekday),
        Unit::DayOfYear => i64::from(calendar::day_of_year(point.day)),
        Unit::Hour => seconds / 3600,
        Unit::Minute => seconds / 60 % 60,
        Unit::Second => seconds % 60,
        Unit::Millisecond => fraction / 1_000_000,
        Unit::Microsecond => fraction / 1_000,
        Unit::Nanosecond => fraction,
        Unit::Epoch => point.day * 86_400 + seconds,
    }
}

/// A DATE plus hours is a TIMESTAMP; milliseconds need their digits.
fn add_result(arguments: &[Argument]) -> Result<LogicalType> {
    let unit = unit_of(&arguments[0])?;
    let given = &arguments[2].logical_type;
    let below_day = unit.nanos().is_some_and(|nanos| nanos < 86_400_000_000_000);
    let digits = match unit {
        Unit::Millisecond => 3,
        Unit::Microsecond => 6,
        Unit::Nanosecond => 9,
        _ => 0,
    };
    Ok(match given {
        T::Date if below_day => T::Timestamp(6.max(digits)),
        T::Timestamp(p) => T::Timestamp((*p).max(digits)),
        T::TimestampLtz(p) => T::TimestampLtz((*p).max(digits)),
        other => other.clone(),
    })
}

fn add(call: &Call) -> Result<ArrayRef> {
    let unit = literal_unit(call)?;
    let target = LogicalType::from_field(&Field::new("", call.returns.clone(), true))
        .ok_or_else(|| internal_datafusion_err!("{} is no SQL type", call.returns))?;
    let amount = call.primitive::<Int64Type>(1)?;
    let array = call.array(2)?;
    let read = points(array.as_ref())?;
    let time_only = matches!(target, T::Time(_));
    from_points(call.rows, &target, |row| {
        let moved = moved(read(row)?, amount.get(row)?, unit)?;
        Some(if time_only {
            Point { day: 0, ..moved }
        } else {
            moved
        })
    })
}

fn moved(point: Point, amount: i64, unit: Unit) -> Option<Point> {
    if let Some(months) = unit.months() {
        return Some(Point {
            day: calendar::add_months(point.day, months.checked_mul(amount)?),
            nanos: point.nanos,
        });
    }
    let per_day = i128::from(MILLIS_PER_DAY) * 1_000_000;
    let nanos = i128::from(point.nanos) + i128::from(unit.nanos()?) * i128::from(amount);
    Some(Point {
        day: point.day + i64::try_from(nanos.div_euclid(per_day)).ok()?,
        nanos: i64::try_from(nanos.rem_euclid(per_day)).ok()?,
    })
}

/// Whole units from the first to the second.
fn diff(call: &Call) -> Result<ArrayRef> {
    let unit = literal_unit(call)?;
    let (from, to) = (call.array(1)?, call.array(2)?);
    let (from, to): (PointReader, PointReader) = (points(from.as_ref())?, points(to.as_ref())?);
    numbers::<Int32Type>(call.rows, |row| {
        let (from, to) = (from(row)?, to(row)?);
        Some(match unit.months() {
            Some(months) => months_between(from, to) / months,
            None => {
                let per_day = i128::from(MILLIS_PER_DAY) * 1_000_000;
                let nanos =
                    i128::from(to.day - from.day) * per_day + i128::from(to.nanos - from.nanos);
                (nanos / i128::from(unit.nanos()?)) as i64
            }
        } as i32)
    })
}

fn difference_result(arguments: &[Argument]) -> Result<LogicalType> {
    let unit = Unit::parse(arguments[2].text().unwrap_or(""));
    Ok(match unit.and_then(Unit::months) {
        Some(_) => T::IntervalYearMonth,
        None => T::IntervalDayTime,
    })
}

/// `(later - earlier) DAY`: all milliseconds between them, or for units from months on all months.
fn difference(call: &Call) -> Result<ArrayRef> {
    let (later, earlier) = (call.array(0)?, call.array(1)?);
    let (later, earlier): (PointReader, PointReader) =
        (points(later.as_ref())?, points(earlier.as_ref())?);
    if matches!(call.returns, DataType::Interval(_)) {
        return numbers::<IntervalYearMonthType>(call.rows, |row| {
            i32::try_from(months_between(earlier(row)?, later(row)?)).ok()
        });
    }
    numbers::<DurationMillisecondType>(call.rows, |row| {
        Some(later(row)?.millis() - earlier(row)?.millis())
    })
}

fn months_between(from: Point, to: Point) -> i64 {
    if (to.day, to.nanos) < (from.day, from.nanos) {
        return -months_between(to, from);
    }
    let (from_year, from_month, _) = calendar::civil(from.day);
    let (to_year, to_month, _) = calendar::civil(to.day);
    let months = (to_year - from_year) * 12 + i64::from(to_month) - i64::from(from_month);
    let reached = calendar::add_months(from.day, months);
    if (reached, from.nanos) > (to.day, to.nanos) {
        months - 1
    } else {
        months
    }
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::testing::*;

    #[test]
    fn fields_of_times() {
        check(vec![
            ("YEAR", args![date("1994-09-27")], "1994"),
            ("QUARTER", args![date("1994-09-27")], "3"),
            ("MONTH", args![date("1994-09-27")], "9"),
            ("WEEK", args![date("1994-09-27")], "39"),
            ("DAYOFYEAR", args![date("1994-09-27")], "270"),
            ("DAYOFMONTH", args![date("1994-09-27")], "27"),
            ("DAYOFWEEK", args![date("1994-09-27")], "3"),
            ("HOUR", args![ts("1994-09-27 13:14:15")], "13"),
            ("MINUTE", args![ts("1994-09-27 13:14:15")], "14"),
            ("SECOND", args![ts("1994-09-27 13:14:15")], "15"),
            ("HOUR", args![ts("1969-12-31 23:59:59.999")], "23"),
            (
                "HOUR",
                args![of("1994-09-27 13:14:15", T::Timestamp(9))],
                "13",
            ),
            ("HOUR", args![of("13:14:15", T::Time(0))], "13"),
            ("HOUR", args![null(T::Timestamp(3))], "NULL"),
            ("HOUR", args![5], "ERROR"),
            ("HOUR", args![day_time(93784000)], "2"),
            ("YEAR", args![months(26)], "2"),
            (
                "EXTRACT",
                args![lit("CENTURY"), ts("2018-03-14 01:02:03.456")],
                "21",
            ),
            (
                "EXTRACT",
                args![lit("MILLENNIUM"), ts("2018-03-14 01:02:03.456")],
                "3",
            ),
            (
                "EXTRACT",
                args![lit("DECADE"), ts("2018-03-14 01:02:03.456")],
                "201",
            ),
            (
                "EXTRACT",
                args![lit("YEAR"), ts("2018-03-14 01:02:03.456")],
                "2018",
            ),
            (
                "EXTRACT",
                args![lit("QUARTER"), ts("2018-03-14 01:02:03.456")],
                "1",
            ),
            (
                "EXTRACT",
                args![lit("MONTH"), ts("2018-03-14 01:02:03.456")],
                "3",
            ),
            (
                "EXTRACT",
                args![lit("WEEK"), ts("2018-03-14 01:02:03.456")],
                "11",
            ),
            (
                "EXTRACT",
                args![lit("DAY"), ts("2018-03-14 01:02:03.456")],
                "14",
            ),
            (
                "EXTRACT",
                args![lit("DOW"), ts("2018-03-14 01:02:03.456")],
                "4",
            ),
            (
                "EXTRACT",
                args![lit("ISODOW"), ts("2018-03-14 01:02:03.456")],
                "3",
            ),
            (
                "EXTRACT",
                args![lit("DOY"), ts("2018-03-14 01:02:03.456")],
                "73",
            ),
            (
                "EXTRACT",
                args![lit("HOUR"), ts("2018-03-14 01:02:03.456")],
                "1",
            ),
            (
                "EXTRACT",
                args![lit("MILLISECOND"), ts("2018-03-14 01:02:03.456")],
                "456",
            ),
            (
                "EXTRACT",
                args![lit("MICROSECOND"), ts("2018-03-14 01:02:03.456")],
                "456000",
            ),
            (
                "EXTRACT",
                args![lit("EPOCH"), ts("2018-03-14 01:02:03.456")],
                "1520989323",
            ),
            (
                "EXTRACT",
                args![lit("ISOYEAR"), ts("2018-03-14 01:02:03.456")],
                "2018",
            ),
            (
                "EXTRACT",
                args![lit("PARSEC"), ts("2018-03-14 01:02:03.456")],
                "ERROR",
            ),
            ("EXTRACT", args![lit("HOUR"), day_time(93784000)], "2"),
            ("EXTRACT", args![lit("MONTH"), months(14)], "2"),
            (
                "FLOOR",
                args![ts("2018-03-14 01:02:03.456"), lit("YEAR")],
                "2018-01-01 00:00:00.000",
            ),
            (
                "FLOOR",
                args![ts("2018-03-14 01:02:03.456"), lit("QUARTER")],
                "2018-01-01 00:00:00.000",
            ),
            (
                "FLOOR",
                args![ts("2018-03-14 01:02:03.456"), lit("MONTH")],
                "2018-03-01 00:00:00.000",
            ),
            (
                "FLOOR",
                args![ts("2018-03-14 01:02:03.456"), lit("WEEK")],
                "2018-03-11 00:00:00.000",
            ),
            (
                "FLOOR",
                args![ts("2018-03-14 01:02:03.456"), lit("DAY")],
                "2018-03-14 00:00:00.000",
            ),
            (
                "FLOOR",
                args![ts("2018-03-14 01:02:03.456"), lit("HOUR")],
                "2018-03-14 01:00:00.000",
            ),
            (
                "FLOOR",
                args![ts("2018-03-14 01:02:03.456"), lit("MINUTE")],
                "2018-03-14 01:02:00.000",
            ),
            (
                "FLOOR",
                args![ts("2018-03-14 01:02:03.456"), lit("SECOND")],
                "2018-03-14 01:02:03.000",
            ),
            (
                "CEIL",
                args![ts("2018-03-14 01:02:03.456"), lit("YEAR")],
                "2019-01-01 00:00:00.000",
            ),
            (
                "CEIL",
                args![ts("2018-03-14 01:02:03.456"), lit("MONTH")],
                "2018-04-01 00:00:00.000",
            ),
            (
                "CEIL",
                args![ts("2018-03-14 01:02:03.456"), lit("DAY")],
                "2018-03-15 00:00:00.000",
            ),
            (
                "CEIL",
                args![ts("2018-03-14 01:02:03.456"), lit("SECOND")],
                "2018-03-14 01:02:04.000",
            ),
            (
                "CEIL",
                args![date("2018-03-01"), lit("MONTH")],
                "2018-03-01",
            ),
            (
                "FLOOR",
                args![date("2018-03-14"), lit("YEAR")],
                "2018-01-01",
            ),
            (
                "TIMESTAMPADD",
                args![lit("WEEK"), 1, ts("2003-01-02 00:00:00")],
                "2003-01-09 00:00:00.000",
            ),
            (
                "TIMESTAMPADD",
                args![lit("MONTH"), 1, date("2016-01-31")],
                "2016-02-29",
            ),
            (
                "TIMESTAMPADD",
                args![lit("HOUR"), -1, date("2016-01-01")],
                "2015-12-31 23:00:00.000000",
            ),
            (
                "TIMESTAMPADD",
                args![lit("DAY"), null(T::Int), date("2016-01-01")],
                "NULL",
            ),
            (
                "TIMESTAMPDIFF",
                args![
                    lit("DAY"),
                    ts("2003-01-02 10:00:00"),
                    ts("2003-01-03 10:00:00")
                ],
                "1",
            ),
            (
                "TIMESTAMPDIFF",
                args![lit("MONTH"), date("2016-01-31"), date("2016-02-29")],
                "1",
            ),
            (
                "TIMESTAMPDIFF",
                args![
                    lit("YEAR"),
                    ts("2018-01-01 00:00:00"),
                    ts("2016-06-01 00:00:00")
                ],
                "-1",
            ),
            (
                "TIMESTAMPDIFF",
                args![
                    lit("SECOND"),
                    ts("2016-01-01 00:00:01.5"),
                    ts("2016-01-01 00:00:00")
                ],
                "-1",
            ),
        ]);
    }
}
