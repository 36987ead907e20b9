//! A windowing table-valued function alone: appends window_start, window_end and window_time to each row, a copy for each window.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::datatypes::{DataType, SchemaRef};
use weir_dataflow::{Batch, Context, Error, KeyedState, OpenContext, Operator, Result};
use weir_proto::v1;

use crate::window::{millis, window_start};

/// TUMBLE, HOP and CUMULATE over a rowtime column.
pub struct WindowAssignOperator {
    spec: v1::WindowSpec,
    output: Option<SchemaRef>,
}

impl WindowAssignOperator {
    /// # Errors
    /// On a window that can't be assigned row by row, or sizes that make no window.
    pub fn new(spec: &v1::WindowAssign) -> Result<Self> {
        let window = spec
            .window
            .ok_or_else(|| Error::Config("a window assigner without a window".to_owned()))?;
        let assignable = matches!(
            window.kind(),
            v1::WindowKind::Tumble | v1::WindowKind::Hop | v1::WindowKind::Cumulate
        );
        if !assignable || window.processing_time {
            return Err(Error::Config(
                "only TUMBLE, HOP and CUMULATE over a rowtime column are assigned row by row"
                    .to_owned(),
            ));
        }
        if window.size_ms <= 0 || (window.kind() != v1::WindowKind::Tumble && window.slide_ms <= 0)
        {
            return Err(Error::Config(
                "a window's size and slide must be positive".to_owned(),
            ));
        }
        Ok(Self {
            spec: window,
            output: None,
        })
    }

    /// Calls `visit` with (start, end) of each window of a time, oldest first.
    fn windows_of(&self, time_ms: i64, mut visit: impl FnMut(i64, i64)) {
        let (size, slide, offset) = (self.spec.size_ms, self.spec.slide_ms, self.spec.offset_ms);
        match self.spec.kind() {
            v1::WindowKind::Hop => {
                let last = window_start(time_ms, offset, slide);
                let first = last - (size - 1).div_euclid(slide) * slide;
                let mut start = first;
                while start <= last {
                    if start + size > time_ms {
                        visit(start, start + size);
                    }
                    start += slide;
                }
            }
            v1::WindowKind::Cumulate => {
                let start = window_start(time_ms, offset, size);
                let mut end = start + ((time_ms - start) / slide + 1) * slide;
                while end <= start + size {
                    visit(start, end);
                    end += slide;
                }
            }
            _ => {
                let start = window_start(time_ms, offset, size);
                visit(start, start + size);
            }
        }
    }
}

impl Operator for WindowAssignOperator {
    fn open(&mut self, context: OpenContext, _: &mut dyn KeyedState) -> Result<()> {
        self.output = Some(context.output_schema);
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let Some(schema) = self.output.clone() else {
            return Err(Error::Internal(
                "the window assigner was not opened".to_owned(),
            ));
        };
        let column = batch.data().columns().get(self.spec.time_column as usize);
        let times =
            millis(column.ok_or_else(|| {
                Error::Config("the window's time column does not exist".to_owned())
            })?)?;
        let (mut rows, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..times.len() {
            if times.is_null(row) {
                return Err(Error::Data(
                    "the rowtime column of a window is NULL; filter such rows before the window"
                        .to_owned(),
                ));
            }
            self.windows_of(times.value(row), |start, end| {
                rows.push(row as u32);
                starts.push(start);
                ends.push(end);
            });
        }
        let taken = batch.take(&UInt32Array::from(rows))?;
        let mut columns = taken.data().columns().to_vec();
        let last_ms: Vec<i64> = ends.iter().map(|end| end - 1).collect();
        let appended = [starts, ends, last_ms]
            .map(|values| Arc::new(TimestampMillisecondArray::from(values)) as ArrayRef);
        for (column, field) in appended.into_iter().zip(
            schema
                .fields()
                .iter()
                .skip(columns.len())
                .cloned()
                .collect::<Vec<_>>(),
        ) {
            columns.push(with_type(column, field.data_type())?);
        }
        context
            .out
            .emit(taken.with_data(RecordBatch::try_new(schema, columns)?)?)
    }
}

/// The declared type of a window column may have a zone (over TIMESTAMP_LTZ).
fn with_type(column: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if column.data_type() == data_type {
        Ok(column)
    } else {
        Ok(arrow::compute::cast(&column, data_type)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;
    use weir_dataflow::testing::{Harness, batch, schema};

    fn windows(kind: v1::WindowKind, size_ms: i64, slide_ms: i64, rows: &str) -> Vec<String> {
        let time = DataType::Timestamp(TimeUnit::Millisecond, None);
        let input = schema(&[("a", DataType::Int64), ("ts", time.clone())]);
        let output = schema(&[
            ("a", DataType::Int64),
            ("ts", time.clone()),
            ("window_start", time.clone()),
            ("window_end", time.clone()),
            ("window_time", time),
        ]);
        let window = v1::WindowSpec {
            kind: kind.into(),
            size_ms,
            slide_ms,
            time_column: 1,
            ..v1::WindowSpec::default()
        };
        let operator = WindowAssignOperator::new(&v1::WindowAssign {
            window: Some(window),
        })
        .unwrap();
        let mut harness = Harness::open(Box::new(operator), vec![input.clone()], output).unwrap();
        harness.push(0, batch(&input, rows).unwrap()).unwrap();
        let rows = harness.rows().unwrap();
        rows.iter()
            .map(|row| row.replace("1970-01-01T00:00:", ""))
            .collect()
    }

    #[test]
    fn tumble_gives_one_window_a_row() {
        let rows = windows(
            v1::WindowKind::Tumble,
            10_000,
            0,
            "-D 7 1970-01-01T00:00:12",
        );
        assert_eq!(rows, ["-D 7 12 10 20 19.999"]);
    }

    #[test]
    fn hop_gives_each_window_that_holds_the_row() {
        let rows = windows(v1::WindowKind::Hop, 10_000, 5_000, "7 1970-01-01T00:00:12");
        assert_eq!(rows, ["+I 7 12 05 15 14.999", "+I 7 12 10 20 19.999"]);
        // A slide longer than the size leaves gaps.
        let gaps = |row| windows(v1::WindowKind::Hop, 2_000, 5_000, row);
        assert_eq!(gaps("7 1970-01-01T00:00:11"), ["+I 7 11 10 12 11.999"]);
        assert!(gaps("7 1970-01-01T00:00:12").is_empty());
    }

    #[test]
    fn cumulate_grows_to_the_size() {
        let rows = windows(
            v1::WindowKind::Cumulate,
            15_000,
            5_000,
            "7 1970-01-01T00:00:21",
        );
        assert_eq!(rows, ["+I 7 21 15 25 24.999", "+I 7 21 15 30 29.999"]);
    }
}
