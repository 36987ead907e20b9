//! Dates, times and timestamps among each other. What the target can't show is cut off, never rounded.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveBuilder};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Time32MillisecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use datafusion_common::{Result, exec_err};
use weir_dataflow::types::LogicalType;

use crate::value::calendar::{MILLIS_PER_DAY, Point};
use crate::value::zone::Zone;

use LogicalType as T;

/// Reads the rows of a temporal column as points; of TIMESTAMP_LTZ as UTC.
pub(crate) type PointReader<'a> = Box<dyn Fn(usize) -> Option<Point> + 'a>;

/// A reader of a column of DATE, TIME, TIMESTAMP or TIMESTAMP_LTZ.
pub(crate) fn points(array: &dyn Array) -> Result<PointReader<'_>> {
    fn reader<'a, P: ArrowPrimitiveType>(
        array: &'a dyn Array,
        point: impl Fn(P::Native) -> Point + 'a,
    ) -> PointReader<'a> {
        let array = array.as_primitive::<P>();
        Box::new(move |row| array.is_valid(row).then(|| point(array.value(row))))
    }
    Ok(match array.data_type() {
        DataType::Date32 => reader::<Date32Type>(array, |day| Point {
            day: i64::from(day),
            nanos: 0,
        }),
        DataType::Time32(TimeUnit::Millisecond) => {
            reader::<Time32MillisecondType>(array, |millis| Point {
                day: 0,
                nanos: i64::from(millis) * 1_000_000,
            })
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            reader::<TimestampMillisecondType>(array, |v| Point::from_units(v, 1_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            reader::<TimestampMicrosecondType>(array, |v| Point::from_units(v, 1_000_000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            reader::<TimestampNanosecondType>(array, |v| Point::from_units(v, 1_000_000_000))
        }
        other => return exec_err!("{other} is no date or time"),
    })
}

/// Makes a column of the type from points; for TIMESTAMP_LTZ they are UTC. A point out of the type's range becomes NULL.
pub(crate) fn from_points(
    rows: usize,
    to: &LogicalType,
    point: impl Fn(usize) -> Option<Point>,
) -> Result<ArrayRef> {
    fn build<P: ArrowPrimitiveType>(
        rows: usize,
        to: &LogicalType,
        value: impl Fn(usize) -> Option<P::Native>,
    ) -> ArrayRef {
        let mut builder = PrimitiveBuilder::<P>::with_capacity(rows);
        for row in 0..rows {
            builder.append_option(value(row));
        }
        Arc::new(builder.finish().with_data_type(to.to_arrow()))
    }
    Ok(match to {
        T::Date => build::<Date32Type>(rows, to, |row| i32::try_from(point(row)?.day).ok()),
        T::Time(precision) => build::<Time32MillisecondType>(rows, to, |row| {
            Some((point(row)?.truncated((*precision).min(3)).nanos / 1_000_000) as i32)
        }),
        T::Timestamp(p) | T::TimestampLtz(p) => match p {
            0..=3 => build::<TimestampMillisecondType>(rows, to, |row| {
                point(row)?.truncated(*p).to_units(1_000)
            }),
            4..=6 => build::<TimestampMicrosecondType>(rows, to, |row| {
                point(row)?.truncated(*p).to_units(1_000_000)
            }),
            _ => build::<TimestampNanosecondType>(rows, to, |row| {
                point(row)?.truncated(*p).to_units(1_000_000_000)
            }),
        },
        _ => return exec_err!("{to} is no date or time"),
    })
}

/// Flink cuts milliseconds off towards 1970, so what lies before it moves forward.
fn before_epoch(point: Point, from: &LogicalType, to: &LogicalType) -> Point {
    let unit_ms = match (from, to) {
        (T::Timestamp(_), T::Date) => MILLIS_PER_DAY,
        (
            T::Timestamp(_) | T::TimestampLtz(_),
            T::Timestamp(p @ 0..3) | T::TimestampLtz(p @ 0..3),
        ) => 10i64.pow(3 - u32::from(*p)),
        _ => return point,
    };
    let millis = point.millis();
    if millis >= 0 || millis % unit_ms == 0 {
        return point;
    }
    Point::from_units(millis - millis % unit_ms, 1000)
}

pub(super) fn cast(
    array: &ArrayRef,
    from: &LogicalType,
    to: &LogicalType,
    zone: Zone,
) -> Result<ArrayRef> {
    let zoned = |t: &LogicalType| matches!(t, T::TimestampLtz(_));
    let read = points(array.as_ref())?;
    from_points(array.len(), to, |row| {
        let point = before_epoch(read(row)?, from, to);
        Some(match (zoned(from), zoned(to)) {
            (true, false) => zone.local(point),
            (false, true) => zone.instant(point),
            _ => point,
        })
    })
}
