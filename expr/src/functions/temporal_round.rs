//! FLOOR and CEIL of dates and times TO a unit.

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use datafusion_common::{Result, exec_err, internal_datafusion_err};
use weir_dataflow::types::LogicalType;

use super::call::Call;
use super::unit::Unit;
use crate::cast::temporal::{from_points, points};
use crate::value::calendar::{self, Point};
use crate::value::zone::Zone;

/// Argument 0 brought down to the start of the unit named by argument 1, or up to the next one.
pub(super) fn round_to_unit(call: &Call, up: bool) -> Result<ArrayRef> {
    let name = call.literal(1)?;
    let Some(unit) = Unit::parse(name) else {
        return exec_err!("FLOOR and CEIL know no unit {name}");
    };
    let target = LogicalType::from_field(&Field::new("", call.returns.clone(), true))
        .ok_or_else(|| internal_datafusion_err!("{} is no SQL type", call.returns))?;
    let array = call.array(0)?;
    let read = points(array.as_ref())?;
    let zone = match (&target, call.len()) {
        (LogicalType::TimestampLtz(_), 3) => super::cast::zone(call.literal(2)?)?,
        _ => Zone::Utc,
    };
    from_points(call.rows, &target, |row| {
        let instant = read(row)?;
        let point = zone.local(instant);
        let low = floor(point, unit)?;
        // From weeks on only the day counts. That a DATE goes up to the next day even so is Flink's way.
        let whole = match (unit, &target) {
            (Unit::Day, LogicalType::Date) => false,
            _ if unit.nanos().is_none() || unit == Unit::Week => low.day == point.day,
            _ => low == point,
        };
        let rounded = if up && !whole { next(low, unit)? } else { low };
        // Back by the offset of the instant that was rounded, as Flink does it, also over a change of the clocks.
        Some(rounded.minus(zone.offset_at(instant.millis())))
    })
}

fn floor(point: Point, unit: Unit) -> Option<Point> {
    let start_of = |day: i64| Some(Point { day, nanos: 0 });
    let (year, month, _) = calendar::civil(point.day);
    match unit {
        Unit::Millennium => start_of(calendar::days((year - 1).div_euclid(1000) * 1000 + 1, 1, 1)),
        Unit::Century => start_of(calendar::days((year - 1).div_euclid(100) * 100 + 1, 1, 1)),
        Unit::Decade => start_of(calendar::days(year.div_euclid(10) * 10, 1, 1)),
        Unit::Year => start_of(calendar::days(year, 1, 1)),
        Unit::Quarter => start_of(calendar::days(year, (month - 1) / 3 * 3 + 1, 1)),
        Unit::Month => start_of(calendar::days(year, month, 1)),
        // Weeks start on Sunday here, other than in EXTRACT.
        Unit::Week => start_of(point.day - i64::from(calendar::iso_weekday(point.day) % 7)),
        Unit::Day => start_of(point.day),
        other => {
            let size = other.nanos()?;
            Some(Point {
                day: point.day,
                nanos: point.nanos - point.nanos % size,
            })
        }
    }
}

/// The start of the unit after the one that starts at `point`.
fn next(point: Point, unit: Unit) -> Option<Point> {
    let later = |day: i64| Some(Point { day, nanos: 0 });
    match unit {
        Unit::Week => later(point.day + 7),
        Unit::Day => later(point.day + 1),
        other => match other.months() {
            Some(months) => later(calendar::add_months(point.day, months)),
            None => {
                let nanos = point.nanos + other.nanos()?;
                let per_day = calendar::MILLIS_PER_DAY * 1_000_000;
                Some(Point {
                    day: point.day + nanos / per_day,
                    nanos: nanos % per_day,
                })
            }
        },
    }
}
