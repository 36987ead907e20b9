//! Aggregation in windows of time: counts rows in slices, and emits a window's results when event time has passed its end.
//!
//! Phases: SINGLE does all; LOCAL counts what its subtask reads and hands on partial results, a row a slice and key; GLOBAL merges those.

pub(crate) mod emit;
mod slices;
mod slicing;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{
    DataType, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_common::metric_names::LATE_RECORDS;
use weir_dataflow::agg::SLICE_END;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart,
};
use weir_proto::v1;
use weir_proto::v1::window_aggregate::Phase;

use crate::accumulator::{AggregatePlan, PlanInput};
use crate::aggregate_store::FROZEN_ENTRIES;
use crate::fingerprint;
use slices::Slices;
use slicing::{Slicing, Span};

/// See [`v1::WindowAggregate`].
pub struct WindowAggregateOperator {
    spec: v1::WindowAggregate,
    slicing: Slicing,
    open: Option<Open>,
}

/// Whence a row's slice is known.
#[derive(Debug, Clone, Copy)]
enum TimeFrom {
    /// A rowtime column.
    Row(usize),
    /// The column of slice ends between the phases.
    SliceEnd(usize),
    /// Columns of the window's start and end.
    Window(usize, usize),
    /// The clock.
    Clock,
}

struct Open {
    plan: Arc<AggregatePlan>,
    slices: Slices,
    time_from: TimeFrom,
    encoder: KeyEncoder,
    output: SchemaRef,
    fingerprint: String,
    memory_bytes: usize,
    late: metrics::Counter,
    keys: EncodedKeys,
    hashes: Vec<u64>,
    slots: Vec<u32>,
}

impl WindowAggregateOperator {
    /// # Errors
    /// If the description asks for what is not built, or for a window that is none.
    pub fn new(spec: &v1::WindowAggregate) -> Result<Self> {
        let attached = spec.window_start_column.is_some() || spec.window_end_column.is_some();
        let window = spec.window.unwrap_or_default();
        let slicing = if attached {
            Slicing::Attached
        } else {
            Slicing::new(&window)?
        };
        if spec.phase() != Phase::Single && (attached || window.processing_time) {
            return Err(Error::Config(
                "a window that comes with its rows, or of processing time, has only the phase SINGLE".to_owned(),
            ));
        }
        for property in &spec.window_properties {
            if !matches!(
                property.as_str(),
                "window_start" | "window_end" | "window_time"
            ) {
                return Err(Error::Config(format!(
                    "the window property {property} is not supported yet"
                )));
            }
        }
        Ok(Self {
            spec: spec.clone(),
            slicing,
            open: None,
        })
    }

    fn opened(&mut self) -> Result<(&v1::WindowAggregate, &mut Open)> {
        match &mut self.open {
            Some(open) => Ok((&self.spec, open)),
            None => Err(Error::Internal(
                "a window aggregation was not opened".to_owned(),
            )),
        }
    }

    fn time_from(&self, input: &SchemaRef) -> Result<TimeFrom> {
        let window = self.spec.window.unwrap_or_default();
        Ok(
            match (self.spec.window_start_column, self.spec.window_end_column) {
                (Some(start), Some(end)) => TimeFrom::Window(start as usize, end as usize),
                (None, None) if self.spec.phase() == Phase::Global => {
                    let missing = |_| {
                        Error::Config(format!(
                            "a GLOBAL aggregation misses the column {SLICE_END} in its input"
                        ))
                    };
                    TimeFrom::SliceEnd(input.index_of(SLICE_END).map_err(missing)?)
                }
                (None, None) if window.processing_time => TimeFrom::Clock,
                (None, None) => TimeFrom::Row(window.time_column as usize),
                _ => {
                    return Err(Error::Config(
                        "of a window that comes with its rows, start and end are needed".to_owned(),
                    ));
                }
            },
        )
    }
}

impl Operator for WindowAggregateOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("an aggregation without input".to_owned()))?;
        let columns: Vec<usize> = self.spec.key_columns.iter().map(|c| *c as usize).collect();
        let encoder = KeyEncoder::new(input, &columns)?;
        let phase = self.spec.phase();
        let outputs = match phase {
            Phase::Local => Vec::new(),
            _ => emit::output_types(&context.output_schema, &self.spec)?,
        };
        let plan = Arc::new(AggregatePlan::new(PlanInput {
            calls: &self.spec.aggregates,
            input,
            outputs,
            retracts: false,
            global: phase == Phase::Global,
        })?);
        let fingerprint = fingerprint::of(
            &format!("window aggregation {:?}", self.slicing),
            &encoder,
            &plan,
        );
        let mut slices = Slices::new(
            Arc::clone(&plan),
            self.slicing,
            context.info.max_parallelism,
        );
        if phase != Phase::Local {
            fingerprint::check(&context, &fingerprint)?;
            slices.restore(context.memory_bytes / 2, state)?;
        }
        let labels = [
            ("job", context.info.job.to_string()),
            ("vertex", context.info.name.to_string()),
            ("subtask", context.info.subtask.to_string()),
        ];
        self.open = Some(Open {
            plan,
            slices,
            time_from: self.time_from(input)?,
            encoder,
            output: context.output_schema,
            fingerprint,
            memory_bytes: context.memory_bytes,
            late: metrics::counter!(LATE_RECORDS, &labels),
            keys: EncodedKeys::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
        });
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let (spec, open) = self.opened()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.kinds().is_some() {
            return Err(Error::Config(
                "a window aggregation of an updating input is not supported yet".to_owned(),
            ));
        }
        open.count(&batch, context)?;
        if open.slices.memory() > open.memory_bytes || open.slices.is_full() {
            match spec.phase() {
                Phase::Local => open.emit_partials(i64::MAX, context)?,
                _ => open.slices.spill(context.state)?,
            }
        }
        Ok(())
    }

    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        let (spec, open) = self.opened()?;
        match (spec.phase(), open.time_from) {
            (_, TimeFrom::Clock) => {}
            (Phase::Local, _) => open.emit_partials(watermark_ms, context)?,
            _ => open.fire(spec, watermark_ms, context)?,
        }
        Ok(watermark_ms)
    }

    fn tick(&mut self, context: &mut Context<'_>) -> Result<()> {
        let (spec, open) = self.opened()?;
        match open.time_from {
            // Rows of this millisecond may still come.
            TimeFrom::Clock => open.fire(spec, context.now_ms.saturating_sub(1), context),
            _ => Ok(()),
        }
    }

    fn end_of_data(&mut self, context: &mut Context<'_>) -> Result<()> {
        let (spec, open) = self.opened()?;
        match spec.phase() {
            Phase::Local => open.emit_partials(i64::MAX, context),
            // Windows of processing time that the clock has not closed are never emitted: so it is in Flink.
            _ => Ok(()),
        }
    }

    fn snapshot(&mut self, _: CheckpointId, context: &mut Context<'_>) -> Result<SnapshotPart> {
        let (spec, open) = self.opened()?;
        let mut part = SnapshotPart::default();
        if spec.phase() == Phase::Local {
            open.emit_partials(i64::MAX, context)?;
            return Ok(part);
        }
        open.slices.freeze(context.state)?;
        fingerprint::put(&mut part.states, Bytes::from(open.fingerprint.clone()));
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let (_, open) = self.opened()?;
        open.slices.write_frozen(FROZEN_ENTRIES, context.state)
    }

    fn memory_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.slices.memory())
    }

    fn state_schema(&self) -> String {
        self.open
            .as_ref()
            .map_or_else(String::new, |open| open.fingerprint.clone())
    }
}

impl Open {
    /// Counts the rows of a batch into their slices.
    fn count(&mut self, batch: &Batch, context: &mut Context<'_>) -> Result<()> {
        let parts = self.parts(batch, context.now_ms)?;
        let whole = parts.len() == 1;
        let sorted = if whole {
            batch.clone()
        } else {
            let order = parts.iter().flat_map(|(_, rows)| rows.iter().copied());
            batch.take(&UInt32Array::from_iter_values(order))?
        };
        let mut offset = 0;
        for (slice, rows) in parts {
            let length = if whole { batch.num_rows() } else { rows.len() };
            let part = sorted.slice(offset, length);
            offset += length;
            if self.slices.is_late(slice) {
                if !self.slices.is_in_no_window(slice) {
                    self.late.increment(length as u64);
                }
                continue;
            }
            if self.slices.is_in_no_window(slice) {
                continue;
            }
            self.encoder.encode_into(part.data(), &mut self.keys)?;
            self.hashes.clear();
            self.hashes.extend(self.keys.iter().map(hash_key));
            self.slices.count(
                slice,
                part.data(),
                &self.keys,
                &self.hashes,
                &mut self.slots,
                context.state,
            )?;
        }
        Ok(())
    }

    /// The slices of a batch with their rows; of a batch in one slice the rows are left out.
    fn parts(&self, batch: &Batch, now_ms: i64) -> Result<Vec<(Span, Vec<u32>)>> {
        let column = |index: usize| {
            let column = batch.data().columns().get(index);
            millis(
                column
                    .ok_or_else(|| Error::Internal(format!("time column {index} is not there")))?,
            )
        };
        let slicing = self.slices.slicing();
        match self.time_from {
            TimeFrom::Clock => Ok(vec![(slicing.slice_of(now_ms), Vec::new())]),
            TimeFrom::Row(time) => {
                let times = column(time)?;
                Ok(split(times.len(), |row, last| match last {
                    Some(span) if (span.start..span.end).contains(&times[row]) => span,
                    _ => slicing.slice_of(times[row]),
                }))
            }
            TimeFrom::SliceEnd(end) => {
                let ends = column(end)?;
                Ok(split(ends.len(), |row, _| slicing.slice_ending(ends[row])))
            }
            TimeFrom::Window(start, end) => {
                let (starts, ends) = (column(start)?, column(end)?);
                Ok(split(ends.len(), |row, _| Span {
                    start: starts[row],
                    end: ends[row],
                }))
            }
        }
    }
}

/// Rows by slice, in the order of their first rows. `slice_of` gets the slice of the row before.
fn split(rows: usize, slice_of: impl Fn(usize, Option<Span>) -> Span) -> Vec<(Span, Vec<u32>)> {
    let mut parts: Vec<(Span, Vec<u32>)> = Vec::new();
    let mut places: HashMap<Span, usize> = HashMap::new();
    let mut current: Option<(Span, usize)> = None;
    for row in 0..rows {
        let slice = slice_of(row, current.map(|(slice, _)| slice));
        let place = match current {
            Some((last, place)) if last == slice => place,
            _ => *places.entry(slice).or_insert_with(|| {
                if parts.len() == 1 {
                    // Only now is it known that the rows have to be told apart.
                    parts[0].1 = (0..row as u32).collect();
                }
                parts.push((slice, Vec::new()));
                parts.len() - 1
            }),
        };
        current = Some((slice, place));
        if parts.len() > 1 {
            parts[place].1.push(row as u32);
        }
    }
    parts
}

/// A time column in milliseconds, rounded down.
pub(crate) fn millis(column: &ArrayRef) -> Result<Cow<'_, [i64]>> {
    if column.null_count() > 0 {
        return Err(Error::Data(
            "the time attribute of a row is NULL; a window needs a time: filter such rows out"
                .to_owned(),
        ));
    }
    let scaled =
        |values: &[i64], unit: i64| Cow::Owned(values.iter().map(|v| v.div_euclid(unit)).collect());
    Ok(match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Cow::Borrowed(column.as_primitive::<TimestampMillisecondType>().values())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => scaled(
            column.as_primitive::<TimestampMicrosecondType>().values(),
            1000,
        ),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => scaled(
            column.as_primitive::<TimestampNanosecondType>().values(),
            1_000_000,
        ),
        DataType::Timestamp(TimeUnit::Second, _) => {
            let seconds = column.as_primitive::<TimestampSecondType>().values();
            Cow::Owned(seconds.iter().map(|v| v.saturating_mul(1000)).collect())
        }
        other => {
            return Err(Error::Config(format!(
                "the time attribute of a window is {other}, not a TIMESTAMP"
            )));
        }
    })
}

#[cfg(test)]
mod tests;
