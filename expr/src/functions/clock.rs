//! The time now: read once a call, so that the rows of a batch agree. In streaming each batch reads it anew.

use arrow::array::ArrayRef;
use datafusion_common::Result;
use weir_common::clock::Clock;
use weir_dataflow::types::LogicalType;

use super::call::Call;
use super::function::Function;
use super::params::Param;
use crate::cast::temporal::from_points;
use crate::value::calendar::Point;
use crate::value::zone::Zone;

use LogicalType as T;

/// The session time zone, for what is local.
const ZONE: &[Param] = &[Param::Text];

pub(super) fn functions() -> Vec<Function> {
    let now = |name, logical_type| {
        Function::new(name, ZONE, logical_type, current)
            .optional(1)
            .volatile()
            .never_null()
    };
    vec![
        now("CURRENT_TIMESTAMP", T::TimestampLtz(3)).alias("NOW"),
        now("CURRENT_ROW_TIMESTAMP", T::TimestampLtz(3)),
        now("PROCTIME", T::TimestampLtz(3)),
        now("LOCALTIMESTAMP", T::Timestamp(3)),
        now("CURRENT_DATE", T::Date),
        now("LOCALTIME", T::Time(0)).alias("CURRENT_TIME"),
    ]
}

fn current(call: &Call) -> Result<ArrayRef> {
    let now = Point::from_units(Clock::System.now_ms(), 1000);
    let field = arrow::datatypes::Field::new("", call.returns.clone(), false);
    let target = LogicalType::from_field(&field).unwrap_or(T::TimestampLtz(3));
    let zone = match call.len() {
        0 => Zone::Utc,
        _ => super::cast::zone(call.literal(0)?)?,
    };
    let point = match target {
        T::TimestampLtz(_) => now,
        T::Time(_) => zone.local(now).truncated(0),
        _ => zone.local(now),
    };
    from_points(call.rows, &target, |_| Some(point))
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::testing::run;

    #[test]
    fn the_time_now() {
        for name in [
            "CURRENT_TIMESTAMP",
            "NOW",
            "LOCALTIMESTAMP",
            "CURRENT_DATE",
            "CURRENT_ROW_TIMESTAMP",
            "PROCTIME",
        ] {
            let (text, _) = call_once(name);
            assert!(text.starts_with("2"), "{name}: {text}");
        }
        assert_eq!(call_once("LOCALTIME").1, T::Time(0));
        assert_eq!(call_once("UUID").0.len(), 36);
        assert!(call_once("UNIX_TIMESTAMP").0.parse::<i64>().unwrap() > 1_700_000_000);
    }

    fn call_once(name: &str) -> (String, T) {
        run(crate::functions::lookup(name).unwrap().call(vec![]), &[]).unwrap()
    }
}
