//! Windows aligned to the epoch: which ones a time falls into. Shared by the operators that assign, aggregate and join windows.

use std::sync::Arc;

use arrow::array::{Array, PrimitiveArray};
use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use weir_dataflow::{Error, Result};

/// Start of the last window that a time falls into: windows start at `offset + k * slide` (Flink's `TimeWindow.getWindowStartWithOffset`).
#[inline]
pub fn window_start(time_ms: i64, offset_ms: i64, slide_ms: i64) -> i64 {
    time_ms - (time_ms - offset_ms).rem_euclid(slide_ms)
}

/// A timestamp column in milliseconds, rounded down, whatever its unit and zone.
///
/// # Errors
/// If it is not a timestamp.
pub fn millis(column: &ArrayRef) -> Result<PrimitiveArray<TimestampMillisecondType>> {
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => {
            return Err(Error::Config(format!(
                "a time attribute is {other}, not a timestamp"
            )));
        }
    };
    let millis = match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => Arc::clone(column),
        _ => cast(column, &DataType::Timestamp(TimeUnit::Millisecond, zone))?,
    };
    Ok(millis.as_primitive::<TimestampMillisecondType>().clone())
}

/// The window has fired: its last millisecond is not later than the watermark.
#[inline]
pub fn is_complete(window_end_ms: i64, watermark_ms: i64) -> bool {
    window_end_ms.saturating_sub(1) <= watermark_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_to_the_epoch_also_before_it() {
        assert_eq!(window_start(12, 0, 10), 10);
        assert_eq!(window_start(-1, 0, 10), -10);
        assert_eq!(window_start(12, 3, 10), 3);
        assert_eq!(window_start(10, 0, 10), 10);
    }

    #[test]
    fn a_window_is_complete_at_its_last_millisecond() {
        assert!(!is_complete(10, 8));
        assert!(is_complete(10, 9));
    }
}
