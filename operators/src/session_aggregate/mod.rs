//! Aggregation in sessions: windows that end when no row has come for a gap of time. A session has accumulators of its own; when a row closes the gap
//! between two of them, they become one.
//!
//! State: tables 0 and 1 as GROUP BY has them, with the session's name (8 bytes, order-preserving) in front of the key; its first and last time
//! are the last two accumulators.

mod sessions;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_common::limits::BATCH_ROWS;
use weir_common::metric_names::LATE_RECORDS;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart, StateWrites,
};
use weir_proto::v1;
use weir_proto::v1::window_aggregate::Phase;

use crate::accumulator::{AggregatePlan, PlanInput, results};
use crate::aggregate_store::{AggregateStore, FROZEN_ENTRIES, GROUPS};
use crate::fingerprint;
use crate::window_aggregate::{emit, millis};
use sessions::{Placed, Session, Sessions};

/// Bytes of a session's name in front of a key.
const NAME: usize = 8;

/// Whether an aggregation is one in sessions.
pub fn is_session(spec: &v1::WindowAggregate) -> bool {
    spec.window.unwrap_or_default().kind() == v1::WindowKind::Session
}

/// See [`v1::WindowAggregate`], of the kind SESSION.
pub struct SessionAggregateOperator {
    spec: v1::WindowAggregate,
    window: v1::WindowSpec,
    watermark_ms: i64,
    open: Option<Open>,
}

struct Open {
    plan: Arc<AggregatePlan>,
    store: AggregateStore,
    sessions: Sessions,
    encoder: KeyEncoder,
    output: SchemaRef,
    /// The input's columns and the time in milliseconds.
    timed: SchemaRef,
    fingerprint: String,
    memory_bytes: usize,
    /// Of ended sessions, for the next snapshot.
    deletions: StateWrites,
    late: metrics::Counter,
    keys: EncodedKeys,
    named: EncodedKeys,
    hashes: Vec<u64>,
    slots: Vec<u32>,
}

fn name(id: i64) -> [u8; NAME] {
    (id ^ i64::MIN).to_be_bytes()
}

impl SessionAggregateOperator {
    /// # Errors
    /// If the description is of no session.
    pub fn new(spec: &v1::WindowAggregate) -> Result<Self> {
        let window = spec.window.unwrap_or_default();
        if window.size_ms <= 0 || spec.phase() != Phase::Single {
            return Err(Error::Config(
                "a session needs a gap above 0, and has only the phase SINGLE".to_owned(),
            ));
        }
        Ok(Self {
            spec: spec.clone(),
            window,
            watermark_ms: i64::MIN,
            open: None,
        })
    }

    fn opened(&mut self) -> Result<&mut Open> {
        self.open
            .as_mut()
            .ok_or_else(|| Error::Internal("a session aggregation was not opened".to_owned()))
    }

    /// The calls, and behind them the first and the last time of the session.
    fn calls(&self, time: usize) -> Vec<v1::AggregateCall> {
        let mut calls = self.spec.aggregates.clone();
        calls.extend(["MIN", "MAX"].map(|function| v1::AggregateCall {
            function: function.to_owned(),
            arguments: vec![time as u32],
            ..Default::default()
        }));
        calls
    }

    fn fire(&mut self, until_ms: i64, context: &mut Context<'_>) -> Result<()> {
        let properties = self.spec.window_properties.clone();
        let open = self.opened()?;
        let ended = open.sessions.take_ended(until_ms);
        for part in ended.chunks(BATCH_ROWS) {
            open.emit(part, &properties, context)?;
        }
        Ok(())
    }
}

impl Operator for SessionAggregateOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("an aggregation without input".to_owned()))?;
        let columns: Vec<usize> = self.spec.key_columns.iter().map(|c| *c as usize).collect();
        let encoder = KeyEncoder::new(input, &columns)?;
        let mut fields = input.fields().to_vec();
        fields.push(Arc::new(Field::new("$time", DataType::Int64, false)));
        let timed: SchemaRef = Arc::new(Schema::new(fields));
        let mut outputs = emit::output_types(&context.output_schema, &self.spec)?;
        outputs.extend([DataType::Int64, DataType::Int64]);
        let plan = Arc::new(AggregatePlan::new(PlanInput {
            calls: &self.calls(input.fields().len()),
            input: &timed,
            outputs,
            retracts: false,
            global: false,
        })?);
        let gap_ms = self.window.size_ms;
        let fingerprint = fingerprint::of(
            &format!("sessions with a gap of {gap_ms} ms"),
            &encoder,
            &plan,
        );
        fingerprint::check(&context, &fingerprint)?;
        let max_parallelism = context.info.max_parallelism;
        let new_store = || {
            let store = AggregateStore::new(Arc::clone(&plan), max_parallelism, Vec::new());
            store.map(|store| store.with_unhashed(NAME))
        };
        let mut sessions = Sessions::new(gap_ms);
        find(&mut sessions, &new_store, gap_ms, state)?;
        let mut store = new_store()?;
        store.restore(context.memory_bytes / 2, state)?;
        let labels = [
            ("job", context.info.job.to_string()),
            ("operator", context.info.name.to_string()),
            ("subtask", context.info.subtask.to_string()),
        ];
        self.open = Some(Open {
            plan,
            store,
            sessions,
            encoder,
            output: context.output_schema,
            timed,
            fingerprint,
            memory_bytes: context.memory_bytes,
            deletions: StateWrites::default(),
            late: metrics::counter!(LATE_RECORDS, &labels),
            keys: EncodedKeys::default(),
            named: EncodedKeys::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
        });
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        if batch.kinds().is_some() {
            return Err(Error::Config(
                "a window aggregation of an updating input is not supported yet".to_owned(),
            ));
        }
        let (window, watermark_ms) = (self.window, self.watermark_ms);
        let open = self.opened()?;
        if window.processing_time {
            let times = vec![context.now_ms; batch.num_rows()];
            open.count(batch.data(), &times, i64::MIN, context.state)?;
        } else {
            let column = batch.data().columns().get(window.time_column as usize);
            let column = column
                .ok_or_else(|| Error::Internal("a session misses its time column".to_owned()))?;
            open.count(batch.data(), &millis(column)?, watermark_ms, context.state)?;
        }
        open.keep_in_budget(context.state)
    }

    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        if !self.window.processing_time {
            self.watermark_ms = self.watermark_ms.max(watermark_ms);
            self.fire(watermark_ms, context)?;
        }
        Ok(watermark_ms)
    }

    fn tick(&mut self, context: &mut Context<'_>) -> Result<()> {
        if self.window.processing_time {
            // Rows of this millisecond may still come.
            self.fire(context.now_ms.saturating_sub(1), context)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId, context: &mut Context<'_>) -> Result<SnapshotPart> {
        let open = self.opened()?;
        context
            .state
            .write_behind(std::mem::take(&mut open.deletions))?;
        open.store.freeze();
        let mut part = SnapshotPart::default();
        fingerprint::put(&mut part.states, Bytes::from(open.fingerprint.clone()));
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let open = self.opened()?;
        if open.store.write_frozen(FROZEN_ENTRIES, context.state)? {
            return Ok(true);
        }
        if open.store.is_mostly_dead() {
            open.spill(context.state)?;
        }
        Ok(false)
    }

    fn memory_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, Open::memory)
    }

    fn state_schema(&self) -> String {
        let open = self.open.as_ref();
        open.map_or_else(String::new, |open| open.fingerprint.clone())
    }
}

/// Finds the sessions of a snapshot. Their accumulators are read in parts, and not kept.
fn find(
    sessions: &mut Sessions,
    new_store: &dyn Fn() -> Result<AggregateStore>,
    gap_ms: i64,
    state: &mut dyn KeyedState,
) -> Result<()> {
    if state.is_empty() {
        return Ok(());
    }
    let mut part = new_store()?;
    let mut read = |store: &AggregateStore| -> Result<()> {
        let slots: Vec<u32> = (0..store.keys().len() as u32).collect();
        let partials = store.accumulators().partials(&slots)?;
        let all = results(store.plan(), &partials)?;
        let time = |behind: usize| all[all.len() - behind].as_primitive::<Int64Type>().clone();
        let (first, last) = (time(2), time(1));
        for slot in slots {
            let (name, key) = store.keys().key(slot).split_at(NAME);
            let name: [u8; NAME] = name.try_into().unwrap_or_default();
            let row = slot as usize;
            sessions.restore(
                key,
                Session {
                    start: first.value(row),
                    end: last.value(row).saturating_add(gap_ms),
                    id: i64::from_be_bytes(name) ^ i64::MIN,
                },
            );
        }
        Ok(())
    };
    state.scan(GROUPS, &mut |_, key, value| {
        part.load_entry(GROUPS, key, value)?;
        if part.keys().len() >= BATCH_ROWS {
            read(&part)?;
            part.clear()?;
        }
        Ok(true)
    })?;
    read(&part)
}

impl Open {
    /// Counts rows into their sessions.
    fn count(
        &mut self,
        rows: &RecordBatch,
        times: &[i64],
        watermark_ms: i64,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        self.encoder.encode_into(rows, &mut self.keys)?;
        let (mut kept, mut ids, mut merges) = (Vec::new(), Vec::new(), Vec::new());
        for (row, time) in times.iter().enumerate() {
            let key = self.keys.get(row);
            match self.sessions.place(key, *time, watermark_ms) {
                Placed::Late => {}
                Placed::In { id, merged } => {
                    merges.extend(merged.into_iter().map(|from| (row, from, id)));
                    kept.push(row as u32);
                    ids.push(id);
                }
            }
        }
        self.late.increment((times.len() - kept.len()) as u64);
        self.follow(&merges, &kept, &mut ids);
        self.named.clear();
        self.hashes.clear();
        for (row, id) in kept.iter().zip(&ids) {
            let key = self.keys.get(*row as usize);
            self.named.push([&name(*id), key])?;
            self.hashes.push(hash_key(key));
        }
        let timed = self.timed_rows(rows, times, &kept)?;
        self.store
            .resolve(&self.named, &self.hashes, &mut self.slots, state)?;
        self.store.count(&timed, None, &self.slots, state)?;
        for slot in &self.slots {
            self.store.set_alive(*slot, true);
        }
        self.merge(&merges, state)
    }

    /// Rows of this batch that came before their session became part of another one.
    fn follow(&self, merges: &[(usize, i64, i64)], kept: &[u32], ids: &mut [i64]) {
        for (row, from, into) in merges {
            let key = self.keys.get(*row);
            for (other, id) in kept.iter().zip(ids.iter_mut()) {
                if (*other as usize) < *row && *id == *from && self.keys.get(*other as usize) == key
                {
                    *id = *into;
                }
            }
        }
    }

    fn timed_rows(&self, rows: &RecordBatch, times: &[i64], kept: &[u32]) -> Result<RecordBatch> {
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(times.to_vec())));
        let timed = RecordBatch::try_new(Arc::clone(&self.timed), columns)?;
        if kept.len() == times.len() {
            return Ok(timed);
        }
        let kept = UInt32Array::from(kept.to_vec());
        Ok(arrow::compute::take_record_batch(&timed, &kept)?)
    }

    /// What sessions have counted that are part of others now.
    fn merge(&mut self, merges: &[(usize, i64, i64)], state: &mut dyn KeyedState) -> Result<()> {
        for (row, from, into) in merges {
            let key = self.keys.get(*row);
            self.named.clear();
            self.named.push([&name(*from), key])?;
            self.named.push([&name(*into), key])?;
            let hashes = [hash_key(key); 2];
            let mut slots = Vec::with_capacity(2);
            self.store
                .resolve(&self.named, &hashes, &mut slots, state)?;
            if let [from, into] = slots.as_slice()
                && self.store.is_alive(*from)
            {
                self.store.merge_groups(*from, *into, state)?;
                self.store
                    .end_groups(&[*from], &mut self.deletions, state)?;
            }
        }
        Ok(())
    }

    /// Ended sessions with their results.
    fn emit(
        &mut self,
        ended: &[(Box<[u8]>, Session)],
        properties: &[String],
        context: &mut Context<'_>,
    ) -> Result<()> {
        self.named.clear();
        self.hashes.clear();
        for (key, session) in ended {
            self.named.push([&name(session.id), key])?;
            self.hashes.push(hash_key(key));
        }
        self.store
            .resolve(&self.named, &self.hashes, &mut self.slots, context.state)?;
        let keys: Vec<&[u8]> = ended.iter().map(|(key, _)| &**key).collect();
        let mut columns = self.encoder.decode(&keys)?;
        let partials = self.store.accumulators().partials(&self.slots)?;
        let mut calls: Vec<ArrayRef> = results(&self.plan, &partials)?;
        calls.truncate(calls.len().saturating_sub(2));
        columns.extend(calls);
        for property in properties {
            let time = |session: &Session| match property.as_str() {
                "window_start" => session.start,
                "window_end" => session.end,
                _ => session.end - 1,
            };
            let data_type = self.output.field(columns.len()).data_type();
            let times = ended.iter().map(|(_, session)| time(session));
            columns.push(emit::times_of(times, data_type)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(ended.len()));
        let data = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)?;
        context.out.emit(Batch::inserts(data))?;
        let slots = std::mem::take(&mut self.slots);
        self.store
            .end_groups(&slots, &mut self.deletions, context.state)?;
        self.slots = slots;
        Ok(())
    }

    fn memory(&self) -> usize {
        self.store.memory() + self.sessions.memory()
    }

    fn keep_in_budget(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        if self.store.memory() <= self.memory_bytes && !self.store.is_full() {
            return Ok(());
        }
        self.spill(state)
    }

    /// Writes what changed, and keeps no accumulators in memory.
    fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.store.write_all_frozen(state)?;
        state.seal()?;
        state.write(std::mem::take(&mut self.deletions))?;
        self.store.flush(state)?;
        self.store.spill()
    }
}

#[cfg(test)]
mod tests;
