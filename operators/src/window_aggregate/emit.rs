//! What a window aggregation emits: results of complete windows, or partial results of slices.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use weir_common::limits::BATCH_ROWS;
use weir_dataflow::{Batch, Context, Error, Result};
use weir_proto::v1;

use super::Open;
use super::slices::Merged;
use super::slicing::Span;
use crate::accumulator::{constant_time, results};

/// Types of the calls' results, between the keys and the window's properties.
pub fn output_types(schema: &Schema, spec: &v1::WindowAggregate) -> Result<Vec<DataType>> {
    let (keys, calls, properties) = (
        spec.key_columns.len(),
        spec.aggregates.len(),
        &spec.window_properties,
    );
    let columns = schema.fields().len();
    if columns != keys + calls + properties.len() {
        return Err(Error::Config(format!(
            "a window aggregation of {keys} keys, {calls} calls and {} window properties has {columns} columns",
            properties.len()
        )));
    }
    for field in &schema.fields()[keys + calls..] {
        if !matches!(field.data_type(), DataType::Timestamp(_, _)) {
            return Err(Error::Config(format!(
                "the window property '{}' is not a TIMESTAMP",
                field.name()
            )));
        }
    }
    Ok(schema.fields()[keys..keys + calls]
        .iter()
        .map(|field| field.data_type().clone())
        .collect())
}

/// Times in milliseconds in the unit of a type.
pub fn times_of(millis: impl Iterator<Item = i64>, data_type: &DataType) -> Result<ArrayRef> {
    let scaled = millis.map(|millis| match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => millis.div_euclid(1000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => millis.saturating_mul(1000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => millis.saturating_mul(1_000_000),
        _ => millis,
    });
    crate::accumulator::times(scaled.collect(), data_type)
}

/// A column with one time in all rows, in the unit of its type.
fn times(millis: i64, rows: usize, data_type: &DataType) -> Result<ArrayRef> {
    let value = match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => millis.div_euclid(1000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => millis.saturating_mul(1000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => millis.saturating_mul(1_000_000),
        _ => millis,
    };
    constant_time(value, rows, data_type)
}

impl Open {
    /// Emits the windows that `watermark` completes.
    pub(super) fn fire(
        &mut self,
        spec: &v1::WindowAggregate,
        watermark: i64,
        context: &mut Context<'_>,
    ) -> Result<()> {
        while let Some(window) = self.slices.next_complete(watermark, context.state)? {
            let merged = self.slices.merge(window, context.state)?;
            let due = self.slices.due(window, &merged.keys);
            for slots in due.chunks(BATCH_ROWS) {
                context
                    .out
                    .emit(self.results(spec, window, &merged, slots)?)?;
            }
            self.slices.fired(window);
        }
        self.slices.advance(watermark);
        Ok(())
    }

    fn results(
        &self,
        spec: &v1::WindowAggregate,
        window: Span,
        merged: &Merged,
        slots: &[u32],
    ) -> Result<Batch> {
        let keys: Vec<&[u8]> = slots.iter().map(|slot| merged.keys.key(*slot)).collect();
        let mut columns = self.encoder.decode(&keys)?;
        columns.extend(results(&self.plan, &merged.accumulators.partials(slots)?)?);
        for property in &spec.window_properties {
            let time = match property.as_str() {
                "window_start" => window.start,
                "window_end" => window.end,
                _ => window.end - 1,
            };
            let data_type = self.output.field(columns.len()).data_type();
            columns.push(times(time, slots.len(), data_type)?);
        }
        self.batch(columns, slots.len())
    }

    /// LOCAL: emits the slices that end by `watermark`, and forgets them.
    pub(super) fn emit_partials(
        &mut self,
        watermark: i64,
        context: &mut Context<'_>,
    ) -> Result<()> {
        for (slice, store) in self.slices.take(watermark) {
            let slots: Vec<u32> = (0..store.keys().len() as u32).collect();
            for slots in slots.chunks(BATCH_ROWS) {
                let mut columns = store.decode_keys(&self.encoder, slots)?;
                let data_type = self.output.field(columns.len()).data_type();
                columns.push(times(slice.end, slots.len(), data_type)?);
                columns.extend(store.accumulators().partials(slots)?);
                context.out.emit(self.batch(columns, slots.len())?)?;
            }
        }
        Ok(())
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<Batch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Batch::inserts(RecordBatch::try_new_with_options(
            self.output.clone(),
            columns,
            &options,
        )?))
    }
}
