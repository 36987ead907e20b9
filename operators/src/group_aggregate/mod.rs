//! GROUP BY without a window: keeps a result a key for ever and emits how each batch changes it.

mod changelog;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart,
};
use weir_proto::v1;
use weir_proto::v1::window_aggregate::Phase;

use crate::accumulator::{AggregatePlan, PlanInput, results};
use crate::aggregate_store::{AggregateStore, FROZEN_ENTRIES};
use crate::fingerprint;
use changelog::Touched;

/// Groups that a LOCAL phase collects at most before it hands them on.
const LOCAL_GROUPS: usize = 1 << 16;

/// See [`v1::GroupAggregate`].
///
/// All rows of a batch count before its changes are emitted: a key has at most one change a batch.
pub struct GroupAggregateOperator {
    spec: v1::GroupAggregate,
    open: Option<Open>,
}

struct Open {
    store: AggregateStore,
    encoder: KeyEncoder,
    output: SchemaRef,
    fingerprint: String,
    memory_bytes: usize,
    keys: EncodedKeys,
    hashes: Vec<u64>,
    slots: Vec<u32>,
    /// By slot: the last batch that touched it.
    stamps: Vec<u64>,
    batch: u64,
    /// By slot, valid for touched ones: the number of rows as they are counted one by one.
    running: Vec<i64>,
}

impl GroupAggregateOperator {
    /// # Errors
    /// If the description asks for what is not built.
    pub fn new(spec: &v1::GroupAggregate) -> Result<Self> {
        if spec.state_ttl_ms > 0 {
            return Err(Error::Config(
                "table.exec.state.ttl is not supported yet by GROUP BY without a window: set it to 0".to_owned(),
            ));
        }
        if spec.phase() != Phase::Single && spec.input_retracts {
            return Err(Error::Config(
                "an aggregation of an updating input has only the phase SINGLE".to_owned(),
            ));
        }
        Ok(Self {
            spec: spec.clone(),
            open: None,
        })
    }

    fn opened(&mut self) -> Result<(&v1::GroupAggregate, &mut Open)> {
        match &mut self.open {
            Some(open) => Ok((&self.spec, open)),
            None => Err(Error::Internal(
                "a group aggregation was not opened".to_owned(),
            )),
        }
    }
}

/// Types of the results, which stand behind the keys in the output.
fn output_types(
    schema: &Schema,
    keys: usize,
    calls: usize,
) -> Result<Vec<arrow::datatypes::DataType>> {
    let fields = schema.fields().get(keys..keys + calls).ok_or_else(|| {
        Error::Config(format!(
            "an aggregation of {keys} keys and {calls} calls has {} columns",
            schema.fields().len()
        ))
    })?;
    Ok(fields
        .iter()
        .map(|field| field.data_type().clone())
        .collect())
}

impl Operator for GroupAggregateOperator {
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
            _ => output_types(
                &context.output_schema,
                columns.len(),
                self.spec.aggregates.len(),
            )?,
        };
        let plan = AggregatePlan::new(PlanInput {
            calls: &self.spec.aggregates,
            input,
            outputs,
            retracts: self.spec.input_retracts,
            global: phase == Phase::Global,
        })?;
        let fingerprint = fingerprint::of("group aggregation", &encoder, &plan);
        let mut store =
            AggregateStore::new(Arc::new(plan), context.info.max_parallelism, Vec::new())?;
        if phase != Phase::Local {
            fingerprint::check(&context, &fingerprint)?;
            store.restore(context.memory_bytes / 2, state)?;
        }
        self.open = Some(Open {
            store,
            encoder,
            output: context.output_schema,
            fingerprint,
            memory_bytes: context.memory_bytes,
            keys: EncodedKeys::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
            stamps: Vec::new(),
            batch: 0,
            running: Vec::new(),
        });
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let (spec, open) = self.opened()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.kinds().is_some() && !spec.input_retracts {
            return Err(Error::Config(
                "an aggregation planned for an insert-only input got an updating one".to_owned(),
            ));
        }
        let changes = open.count(&batch, context.state)?;
        if spec.phase() == Phase::Local {
            if open.store.accumulators().len() >= LOCAL_GROUPS || open.is_over_budget() {
                open.emit_partials(context)?;
            }
            return Ok(());
        }
        let keys = open.key_columns(batch.data())?;
        context
            .out
            .emit(changes.changelog(&keys, &open.output, spec.emit_update_before)?)?;
        if open.is_over_budget() {
            open.spill(context.state)?;
        }
        Ok(())
    }

    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        self.hand_on(context)?;
        Ok(watermark_ms)
    }

    fn tick(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.hand_on(context)
    }

    fn end_of_data(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.hand_on(context)
    }

    fn snapshot(&mut self, _: CheckpointId, context: &mut Context<'_>) -> Result<SnapshotPart> {
        self.hand_on(context)?;
        let (spec, open) = self.opened()?;
        if spec.phase() == Phase::Local {
            return Ok(SnapshotPart::default());
        }
        open.store.freeze();
        let mut part = SnapshotPart::default();
        fingerprint::put(&mut part.states, Bytes::from(open.fingerprint.clone()));
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let (_, open) = self.opened()?;
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
        self.open
            .as_ref()
            .map_or_else(String::new, |open| open.fingerprint.clone())
    }
}

impl GroupAggregateOperator {
    /// LOCAL: nothing stays behind a watermark or a barrier.
    fn hand_on(&mut self, context: &mut Context<'_>) -> Result<()> {
        let (spec, open) = self.opened()?;
        if spec.phase() == Phase::Local {
            open.emit_partials(context)?;
        }
        Ok(())
    }
}

impl Open {
    /// Writes what changed, and keeps nothing in memory.
    fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.store.write_all_frozen(state)?;
        state.seal()?;
        self.store.flush(state)?;
        self.store.spill()?;
        self.forget_slots();
        Ok(())
    }

    fn is_over_budget(&self) -> bool {
        self.memory() > self.memory_bytes || self.store.is_full()
    }

    fn memory(&self) -> usize {
        self.store.memory() + (self.stamps.capacity() + self.running.capacity()) * 8
    }

    fn forget_slots(&mut self) {
        self.stamps = Vec::new();
        self.running = Vec::new();
    }

    fn key_columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let column = |index: &usize| {
            batch
                .columns()
                .get(*index)
                .cloned()
                .ok_or_else(|| Error::Internal(format!("key column {index} is not there")))
        };
        self.encoder.columns().iter().map(column).collect()
    }

    /// Counts the rows of a batch, and gives what that changed.
    fn count(&mut self, batch: &Batch, state: &mut dyn KeyedState) -> Result<Touched> {
        self.encoder.encode_into(batch.data(), &mut self.keys)?;
        self.hashes.clear();
        self.hashes.extend(self.keys.iter().map(hash_key));
        self.store
            .resolve(&self.keys, &self.hashes, &mut self.slots, state)?;
        let (rows, touched) = self.touch();
        let alive_before: Vec<bool> = touched
            .iter()
            .map(|slot| self.store.is_alive(*slot))
            .collect();
        let before = self.results(&touched)?;
        let signs = self.signs(batch, &touched);
        self.store
            .count(batch.data(), signs.as_deref(), &self.slots, state)?;
        let after = self.results(&touched)?;
        let row_count = self.store.plan().row_count;
        let alive = |store: &AggregateStore, slot| {
            row_count.is_none_or(|c| store.accumulators().count(c, slot) > 0)
        };
        let mut existence = Vec::with_capacity(touched.len());
        for (slot, before) in touched.iter().zip(alive_before) {
            let now = alive(&self.store, *slot);
            self.store.set_alive(*slot, now);
            existence.push((before, now));
        }
        Ok(Touched {
            rows,
            existence,
            before,
            after,
        })
    }

    /// First row and slot of each group of the batch.
    fn touch(&mut self) -> (UInt32Array, Vec<u32>) {
        self.batch += 1;
        self.stamps.resize(self.store.accumulators().len(), 0);
        let (mut rows, mut touched) = (Vec::new(), Vec::new());
        for (row, slot) in self.slots.iter().enumerate() {
            let stamp = &mut self.stamps[*slot as usize];
            if *stamp != self.batch {
                *stamp = self.batch;
                rows.push(row as u32);
                touched.push(*slot);
            }
        }
        (UInt32Array::from(rows), touched)
    }

    fn results(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        if self.store.plan().outputs.is_empty() {
            return Ok(Vec::new());
        }
        results(
            self.store.plan(),
            &self.store.accumulators().partials(slots)?,
        )
    }

    /// +1 or -1 a row; 0 for a retraction from a group that has no row (Flink passes over it, too). `None`: all +1.
    fn signs(&mut self, batch: &Batch, touched: &[u32]) -> Option<Vec<i8>> {
        let (kinds, row_count) = (batch.kinds()?, self.store.plan().row_count?);
        self.running.resize(self.store.accumulators().len(), 0);
        for slot in touched {
            self.running[*slot as usize] = self.store.accumulators().count(row_count, *slot);
        }
        let sign = |(kind, slot): (&weir_dataflow::RowKind, &u32)| {
            let count = &mut self.running[*slot as usize];
            match (kind.is_retraction(), *count > 0) {
                (true, false) => 0,
                (true, true) => {
                    *count -= 1;
                    -1
                }
                (false, _) => {
                    *count += 1;
                    1
                }
            }
        };
        Some(kinds.iter().zip(&self.slots).map(sign).collect())
    }

    /// LOCAL: emits what was collected, and forgets it.
    fn emit_partials(&mut self, context: &mut Context<'_>) -> Result<()> {
        let slots: Vec<u32> = (0..self.store.accumulators().len() as u32).collect();
        if slots.is_empty() {
            return Ok(());
        }
        let mut columns = self.store.decode_keys(&self.encoder, &slots)?;
        columns.extend(self.store.accumulators().partials(&slots)?);
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let data = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)?;
        self.store.clear()?;
        self.forget_slots();
        context.out.emit(Batch::inserts(data))
    }
}

#[cfg(test)]
mod tests;
