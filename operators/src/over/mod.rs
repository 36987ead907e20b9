//! Calls with OVER in the order of time: each row sees the rows of its partition up to itself, from the frame's beginning on.
//!
//! In event time rows wait until the watermark has passed them; then they are sorted by time and get their results, so what comes out is in order up to
//! the watermark. In processing time each row has its result at once. What comes too late is dropped and counted.
//!
//! State: the rows that wait (table 4), and what later rows need of earlier ones: accumulators of frames without a beginning (tables 0 and 1, as
//! GROUP BY has them), or the rows themselves (table 3).

mod bounded;
mod past;
mod running;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_common::metric_names::LATE_RECORDS;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart, StateTable,
};
use weir_proto::v1;

use crate::aggregate_store::FROZEN_ENTRIES;
use crate::fingerprint;
use crate::time_buffer::TimeBuffer;
use crate::window::millis;
use bounded::Bounded;
use running::Running;
pub(crate) use running::counted_calls;

/// Rows that later frames reach.
const PAST: StateTable = StateTable(3);
/// Rows that wait for the watermark.
const PENDING: StateTable = StateTable(4);
/// Frames are not searched for expired rows more often than this.
const EXPIRY_MS: i64 = 10_000;

/// See [`v1::OverAggregate`].
pub struct OverOperator {
    spec: v1::OverAggregate,
    watermark_ms: i64,
    open: Option<Open>,
}

struct Open {
    input: SchemaRef,
    output: SchemaRef,
    encoder: KeyEncoder,
    /// Columns of the input that the calls read.
    arguments: Vec<usize>,
    frames: Frames,
    /// In event time.
    pending: Option<TimeBuffer>,
    next_expiry_ms: i64,
    fingerprint: String,
    memory_bytes: usize,
    late: metrics::Counter,
    keys: EncodedKeys,
    hashes: Vec<u64>,
    slots: Vec<u32>,
}

enum Frames {
    Running(Box<Running>),
    Bounded(Box<Bounded>),
}

/// Rows on their way to their results, in the order of time.
struct Rows<'a> {
    /// The columns that the calls read.
    arguments: &'a RecordBatch,
    times: &'a [i64],
    keys: &'a EncodedKeys,
    hashes: &'a [u64],
}

fn internal(what: &str) -> Error {
    Error::Internal(what.to_owned())
}

impl OverOperator {
    /// # Errors
    /// If the description asks for what is not built.
    pub fn new(spec: &v1::OverAggregate) -> Result<Self> {
        if spec.calls.is_empty() || spec.preceding.is_some_and(|preceding| preceding < 0) {
            return Err(Error::Config("the job graph has a broken OVER".to_owned()));
        }
        Ok(Self {
            spec: spec.clone(),
            watermark_ms: i64::MIN,
            open: None,
        })
    }

    fn opened(&mut self) -> Result<&mut Open> {
        self.open
            .as_mut()
            .ok_or_else(|| internal("an OVER was not opened"))
    }
}

/// The calls over the columns that they read, and which those are.
pub(crate) fn narrow(spec: &v1::OverAggregate) -> (Vec<usize>, Vec<v1::OverCall>) {
    let mut columns: Vec<usize> = Vec::new();
    let mut place = |column: u32| {
        let column = column as usize;
        let known = columns.iter().position(|known| *known == column);
        known.unwrap_or_else(|| {
            columns.push(column);
            columns.len() - 1
        }) as u32
    };
    let mut calls = spec.calls.clone();
    for call in calls.iter_mut().filter_map(|over| over.call.as_mut()) {
        for argument in call.arguments.iter_mut().chain(call.filter.as_mut()) {
            *argument = place(*argument);
        }
    }
    (columns, calls)
}

impl Operator for OverOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("an OVER without input".to_owned()))?;
        let partition: Vec<usize> = self
            .spec
            .partition_columns
            .iter()
            .map(|column| *column as usize)
            .collect();
        let max_parallelism = context.info.max_parallelism;
        let encoder = KeyEncoder::new(input, &partition)?;
        let (arguments, calls) = narrow(&self.spec);
        let read: SchemaRef = input.project(&arguments)?.into();
        let width = input.fields().len();
        let output = &context.output_schema;
        let results = output.fields().get(width..).unwrap_or_default();
        if results.len() != calls.len() {
            return Err(Error::Config(format!(
                "an OVER of {} calls has {} columns more than its input",
                calls.len(),
                results.len()
            )));
        }
        let outputs = results.iter().map(|f| f.data_type().clone()).collect();
        let mut frames = match self.spec.preceding {
            None => Frames::Running(Box::new(Running::new(
                &self.spec,
                &calls,
                &read,
                outputs,
                max_parallelism,
            )?)),
            Some(_) => Frames::Bounded(Box::new(Bounded::new(
                &self.spec,
                &calls,
                &read,
                outputs,
                PAST,
                max_parallelism,
            )?)),
        };
        let fingerprint = frames.fingerprint(&encoder, input);
        fingerprint::check(&context, &fingerprint)?;
        frames.restore(context.memory_bytes / 4, state)?;
        let pending = if self.spec.processing_time {
            None
        } else {
            let time = self.spec.time_column as usize;
            let mut pending = TimeBuffer::new(input, time, &partition, max_parallelism, PENDING)?;
            pending.restore(context.memory_bytes / 4, state)?;
            Some(pending)
        };
        self.open = Some(Open {
            input: input.clone(),
            output: output.clone(),
            encoder,
            arguments,
            frames,
            pending,
            next_expiry_ms: i64::MIN,
            fingerprint,
            memory_bytes: context.memory_bytes,
            late: metrics::counter!(
                LATE_RECORDS,
                "job" => context.info.job.to_string(),
                "operator" => context.info.name.to_string(),
                "subtask" => context.info.subtask.to_string()
            ),
            keys: EncodedKeys::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
        });
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        if batch.kinds().is_some() {
            return Err(Error::Config(
                "an OVER planned for an insert-only input got an updating one".to_owned(),
            ));
        }
        let (watermark, time) = (self.watermark_ms, self.spec.time_column as usize);
        let open = self.opened()?;
        if open.pending.is_none() {
            let times = vec![context.now_ms; batch.num_rows()];
            open.emit(batch.data(), &times, context)?;
            open.expire(context.now_ms, context.state)?;
        } else {
            open.wait(batch.data(), time, watermark, context.state)?;
        }
        open.keep_in_budget(context.state)
    }

    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        self.watermark_ms = self.watermark_ms.max(watermark_ms);
        let time = self.spec.time_column as usize;
        let open = self.opened()?;
        if let Some(pending) = &mut open.pending {
            let taken = pending.take_until(watermark_ms, context.state)?;
            if !taken.is_empty() {
                let rows = concat_batches(&open.input, &taken)?;
                let (rows, times) = in_order(rows, time)?;
                open.emit(&rows, &times, context)?;
            }
            open.expire(watermark_ms, context.state)?;
            open.keep_in_budget(context.state)?;
        }
        Ok(watermark_ms)
    }

    fn snapshot(&mut self, _: CheckpointId, context: &mut Context<'_>) -> Result<SnapshotPart> {
        let open = self.opened()?;
        if let Some(pending) = &mut open.pending {
            pending.freeze(context.state)?;
        }
        match &mut open.frames {
            Frames::Running(running) => running.store.freeze(),
            Frames::Bounded(bounded) => bounded.past.freeze(context.state)?,
        }
        let mut part = SnapshotPart::default();
        fingerprint::put(&mut part.states, Bytes::from(open.fingerprint.clone()));
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        self.opened()?.write_frozen(context.state)
    }

    fn memory_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, Open::memory)
    }

    fn state_schema(&self) -> String {
        let open = self.open.as_ref();
        open.map_or_else(String::new, |open| open.fingerprint.clone())
    }
}

/// Rows sorted by time, those of one time as they came; with their times in milliseconds.
fn in_order(rows: RecordBatch, time: usize) -> Result<(RecordBatch, Vec<i64>)> {
    let times = millis(rows.column(time))?;
    let times = times.values();
    if times.is_sorted() {
        let times = times.to_vec();
        return Ok((rows, times));
    }
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    order.sort_by_key(|row| times[*row as usize]);
    let sorted = order.iter().map(|row| times[*row as usize]).collect();
    let rows = take_record_batch(&rows, &UInt32Array::from(order))?;
    Ok((rows, sorted))
}

impl Frames {
    fn fingerprint(&self, encoder: &KeyEncoder, input: &Schema) -> String {
        let keys: Vec<String> = encoder.types().iter().map(ToString::to_string).collect();
        let fields = input.fields().iter();
        let columns: Vec<String> = fields.map(|field| field.data_type().to_string()).collect();
        let frames = match self {
            Self::Running(running) => running.store.plan().fingerprint(),
            Self::Bounded(bounded) => bounded.fingerprint(),
        };
        format!(
            "OVER, layout 1, keys ({}), columns ({}), {frames}",
            keys.join(", "),
            columns.join(", ")
        )
    }

    fn restore(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<()> {
        match self {
            Self::Running(running) => running.store.restore(budget, state),
            Self::Bounded(bounded) => bounded.past.restore(budget, state),
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Running(running) => running.store.memory(),
            Self::Bounded(bounded) => bounded.past.memory(),
        }
    }
}

impl Open {
    /// Rows with their results.
    fn emit(&mut self, rows: &RecordBatch, times: &[i64], context: &mut Context<'_>) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.encode(rows)?;
        let arguments = rows.project(&self.arguments)?;
        let input = Rows {
            arguments: &arguments,
            times,
            keys: &self.keys,
            hashes: &self.hashes,
        };
        let results = match &mut self.frames {
            Frames::Running(running) => running.process(&input, &mut self.slots, context.state)?,
            Frames::Bounded(bounded) => bounded.process(&input, &mut self.slots, context.state)?,
        };
        let columns: Vec<ArrayRef> = rows.columns().iter().cloned().chain(results).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let data = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)?;
        context.out.emit(Batch::inserts(data))
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        self.encoder.encode_into(rows, &mut self.keys)?;
        self.hashes.clear();
        self.hashes.extend(self.keys.iter().map(hash_key));
        Ok(())
    }

    /// Event time: rows wait for the watermark, unless it has passed them.
    fn wait(
        &mut self,
        rows: &RecordBatch,
        time: usize,
        watermark_ms: i64,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        let times = millis(rows.column(time))?;
        let Some(pending) = &mut self.pending else {
            return Ok(());
        };
        if times.values().iter().all(|time| *time > watermark_ms) {
            return pending.add(rows, times.values());
        }
        let in_time: Vec<bool> = times
            .values()
            .iter()
            .map(|time| *time > watermark_ms)
            .collect();
        let kept = self.behind_their_partition(rows, times.values(), in_time, state)?;
        self.late.increment(kept.false_count() as u64);
        let rows = filter_record_batch(rows, &kept)?;
        let times = millis(rows.column(time))?;
        match &mut self.pending {
            Some(pending) => pending.add(&rows, times.values()),
            None => Ok(()),
        }
    }

    /// As Flink has it, a bounded frame takes rows that the watermark has passed as long as none of their partition was later.
    fn behind_their_partition(
        &mut self,
        rows: &RecordBatch,
        times: &[i64],
        mut in_time: Vec<bool>,
        state: &mut dyn KeyedState,
    ) -> Result<BooleanArray> {
        if !matches!(self.frames, Frames::Bounded(_)) {
            return Ok(in_time.into());
        }
        self.encode(rows)?;
        let Frames::Bounded(bounded) = &mut self.frames else {
            return Ok(in_time.into());
        };
        let past = &mut bounded.past;
        past.resolve(&self.keys, &self.hashes, &mut self.slots, state)?;
        for ((slot, time), in_time) in self.slots.iter().zip(times).zip(&mut in_time) {
            let last = past.rows(*slot).back();
            *in_time |= last.is_none_or(|last| last.time_ms < *time);
        }
        Ok(in_time.into())
    }

    fn expire(&mut self, now_ms: i64, state: &mut dyn KeyedState) -> Result<()> {
        // Not at the end of the stream: nothing comes after it.
        if now_ms < self.next_expiry_ms || now_ms == i64::MAX {
            return Ok(());
        }
        self.next_expiry_ms = now_ms.saturating_add(EXPIRY_MS);
        match &mut self.frames {
            Frames::Bounded(bounded) => bounded.expire(now_ms, state),
            Frames::Running(_) => Ok(()),
        }
    }

    fn write_frozen(&mut self, state: &mut dyn KeyedState) -> Result<bool> {
        if let Some(pending) = &mut self.pending
            && pending.write_frozen(state)?
        {
            return Ok(true);
        }
        match &mut self.frames {
            Frames::Running(running) => running.store.write_frozen(FROZEN_ENTRIES, state),
            Frames::Bounded(bounded) => bounded.past.write_frozen(state),
        }
    }

    fn memory(&self) -> usize {
        self.frames.memory() + self.pending.as_ref().map_or(0, TimeBuffer::memory)
    }

    /// Under memory pressure everything goes to the state.
    fn keep_in_budget(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        if self.memory() <= self.memory_bytes {
            return Ok(());
        }
        while self.write_frozen(state)? {}
        state.seal()?;
        if let Some(pending) = &mut self.pending {
            pending.spill(state)?;
        }
        match &mut self.frames {
            Frames::Running(running) => {
                running.store.flush(state)?;
                running.store.spill()
            }
            Frames::Bounded(bounded) => bounded.past.spill(state),
        }
    }
}

#[cfg(test)]
mod tests;
