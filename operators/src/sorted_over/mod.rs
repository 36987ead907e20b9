//! Calls with OVER in an order that is not that of time: a row may come between others, or be taken back, and changes the results of all behind it.
//!
//! All rows of a partition are kept. A batch counts as a whole: the results of the partitions that it touches are computed as they were and as they are
//! now, row by row in their order, and what differs is emitted.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, RowKind, SnapshotPart,
};
use weir_proto::v1;

use crate::accumulator::{Accumulators, AggregatePlan, PlanInput, results};
use crate::fingerprint;
use crate::over::{counted_calls, narrow};
use crate::rank::lists::RankLists;
use crate::rank::order::SortOrder;
use crate::row_store::{FROZEN_ROWS, RowCodec, RowId, RowStore, RowsPerKey, rows_of};

/// See [`v1::OverAggregate`], with an order.
pub struct SortedOverOperator {
    spec: v1::OverAggregate,
    open: Option<Open>,
}

struct Open {
    codec: RowCodec,
    order: SortOrder,
    plan: AggregatePlan,
    /// The columns that the calls read, and their schema.
    arguments: Vec<usize>,
    read: SchemaRef,
    /// Tells whether results are the same.
    compared: KeyEncoder,
    compared_schema: SchemaRef,
    /// Rows that sort the same have the result of the last of them.
    shares_results: bool,
    update_before: bool,
    store: RowStore,
    lists: RankLists,
    output: SchemaRef,
    fingerprint: String,
    memory_bytes: usize,
    keys: EncodedKeys,
    hashes: Vec<u64>,
    slots: Vec<u32>,
}

/// What a batch has changed.
#[derive(Default)]
struct Touched {
    /// Partitions with the rows that they had.
    before: Vec<(u32, Vec<RowId>)>,
    places: HashMap<u32, usize>,
    /// Rows that are in no list any more, but may be in `before`.
    removed: Vec<RowId>,
}

impl SortedOverOperator {
    /// # Errors
    /// If the description asks for what is not built.
    pub fn new(spec: &v1::OverAggregate) -> Result<Self> {
        if spec.calls.is_empty() || spec.order.is_none() || spec.preceding.is_some() {
            return Err(Error::Config("the job graph has a broken OVER".to_owned()));
        }
        Ok(Self {
            spec: spec.clone(),
            open: None,
        })
    }

    fn opened(&mut self) -> Result<&mut Open> {
        self.open
            .as_mut()
            .ok_or_else(|| Error::Internal("an OVER was not opened".to_owned()))
    }
}

impl Operator for SortedOverOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let spec = &self.spec;
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("an OVER without input".to_owned()))?;
        let key: Vec<usize> = spec.partition_columns.iter().map(|c| *c as usize).collect();
        let codec = RowCodec::new(input, &key)?;
        let fingerprint = format!("sorted over, layout 1, {}", codec.fingerprint());
        fingerprint::check(&context, &fingerprint)?;
        let (arguments, calls) = narrow(spec);
        let read: SchemaRef = input.project(&arguments)?.into();
        let outputs = context.output_schema.fields().get(input.fields().len()..);
        let outputs: Vec<Field> = outputs
            .unwrap_or_default()
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        if outputs.len() != calls.len() {
            return Err(Error::Config(format!(
                "an OVER of {} calls has {} columns more than its input",
                calls.len(),
                outputs.len()
            )));
        }
        let plan = AggregatePlan::new(PlanInput {
            calls: &counted_calls(&calls),
            input: &read,
            outputs: outputs.iter().map(|f| f.data_type().clone()).collect(),
            retracts: false,
            global: false,
        })?;
        let all: Vec<usize> = (0..outputs.len()).collect();
        let compared_schema: SchemaRef = Arc::new(Schema::new(outputs));
        let order: Vec<v1::SortColumn> = spec.order.into_iter().collect();
        let mut open = Open {
            store: RowStore::new(RowsPerKey::Many, context.info.max_parallelism),
            order: SortOrder::new(input, &order)?,
            codec,
            plan,
            arguments,
            read,
            compared: KeyEncoder::new(&compared_schema, &all)?,
            compared_schema,
            shares_results: !spec.rows,
            update_before: spec.emit_update_before,
            lists: RankLists::default(),
            output: context.output_schema.clone(),
            fingerprint,
            memory_bytes: context.memory_bytes,
            keys: EncodedKeys::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
        };
        let mut loaded = Vec::new();
        open.store
            .restore(context.memory_bytes / 2, state, &mut loaded)?;
        open.loaded(&loaded)?;
        self.open = Some(open);
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let retracts = self.spec.input_retracts;
        let open = self.opened()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.kinds().is_some() && !retracts {
            return Err(Error::Config(
                "an OVER planned for an insert-only input got an updating one".to_owned(),
            ));
        }
        open.resolve(batch.data(), context.state)?;
        let touched = open.count(&batch)?;
        let changes = open.changes(&touched)?;
        if changes.num_rows() > 0 {
            context.out.emit(changes)?;
        }
        for row in touched.removed {
            open.store.remove(row);
        }
        if open.memory() > open.memory_bytes || open.store.is_full() {
            open.spill(context.state)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId, _: &mut Context<'_>) -> Result<SnapshotPart> {
        let open = self.opened()?;
        open.store.freeze();
        let mut part = SnapshotPart::default();
        fingerprint::put(&mut part.states, Bytes::from(open.fingerprint.clone()));
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let open = self.opened()?;
        if open.store.write_frozen(FROZEN_ROWS, context.state)? {
            return Ok(true);
        }
        if open.store.is_mostly_empty() {
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

/// Rows of the touched partitions, as they were and as they are, one sequence behind the other.
struct Sequences {
    /// Each row once.
    ids: Vec<RowId>,
    /// Place of each row of the sequences in `ids`.
    rows: Vec<u32>,
    /// Number of the sequence, of each of its rows: twice the partition's, and one more for what is now.
    numbers: Vec<u32>,
}

impl Open {
    fn memory(&self) -> usize {
        self.store.memory() + self.lists.memory()
    }

    /// Slots of the batch's partitions, and the rows of those that are new here.
    fn resolve(&mut self, batch: &RecordBatch, state: &mut dyn KeyedState) -> Result<()> {
        self.codec.key().encode_into(batch, &mut self.keys)?;
        self.hashes.clear();
        self.hashes.extend(self.keys.iter().map(hash_key));
        let (slots, mut loaded) = (&mut self.slots, Vec::new());
        self.store
            .resolve(&self.keys, &self.hashes, slots, state, &mut loaded)?;
        self.loaded(&loaded)
    }

    /// Rows that came from the state.
    fn loaded(&mut self, loaded: &[RowId]) -> Result<()> {
        self.lists.grow(self.store.slots());
        if loaded.is_empty() {
            return Ok(());
        }
        let keys = self.order.keys(&self.columns_of(loaded)?)?;
        for (index, id) in loaded.iter().enumerate() {
            self.store.set_note(*id, keys.get(index));
            self.lists.insert(*id, &self.store);
        }
        Ok(())
    }

    fn columns_of(&self, rows: &[RowId]) -> Result<Vec<ArrayRef>> {
        let keys: Vec<&[u8]> = rows
            .iter()
            .map(|row| self.store.key(self.store.slot_of(*row)))
            .collect();
        let bytes: Vec<&[u8]> = rows.iter().map(|row| self.store.bytes(*row)).collect();
        self.codec.decode(&keys, &bytes)
    }

    /// Puts the rows of a batch into their places, and takes out those that it takes back.
    fn count(&mut self, batch: &Batch) -> Result<Touched> {
        let mut touched = Touched::default();
        let keys = self.order.keys(batch.data().columns())?;
        let mut rows = EncodedKeys::default();
        self.codec.encode(batch.data(), &mut rows)?;
        for row in 0..batch.num_rows() {
            let (slot, key, bytes) = (self.slots[row], keys.get(row), rows.get(row));
            touched.touch(slot, &self.lists);
            if batch.kind(row).is_retraction() {
                // A row that is not there can't be taken away; Flink passes over it, too.
                let taken = self.lists.take(slot, key, bytes, &self.store);
                touched.removed.extend(taken);
            } else {
                let id = self.store.insert(slot, key, bytes);
                self.lists.insert(id, &self.store);
            }
        }
        Ok(touched)
    }

    fn sequences(&self, touched: &Touched) -> Sequences {
        let mut places: HashMap<RowId, u32> = HashMap::new();
        let mut all = Sequences {
            ids: Vec::new(),
            rows: Vec::new(),
            numbers: Vec::new(),
        };
        for (number, (slot, before)) in touched.before.iter().enumerate() {
            for (offset, list) in [(0, before.as_slice()), (1, self.lists.get(*slot))] {
                for id in list {
                    let place = *places.entry(*id).or_insert_with(|| {
                        all.ids.push(*id);
                        all.ids.len() as u32 - 1
                    });
                    all.rows.push(place);
                    all.numbers.push(number as u32 * 2 + offset);
                }
            }
        }
        all
    }

    /// The results behind each row of the sequences.
    fn results(&self, all: &Sequences, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let read = self.arguments.iter().map(|column| columns[*column].clone());
        let options = RecordBatchOptions::new().with_row_count(Some(all.ids.len()));
        let read: Vec<ArrayRef> = read.collect();
        let read = RecordBatch::try_new_with_options(self.read.clone(), read, &options)?;
        let read = match read.num_columns() {
            0 => {
                let options = RecordBatchOptions::new().with_row_count(Some(all.rows.len()));
                RecordBatch::try_new_with_options(self.read.clone(), Vec::new(), &options)?
            }
            _ => take_record_batch(&read, &UInt32Array::from(all.rows.clone()))?,
        };
        let mut accumulators = Accumulators::new(&self.plan)?;
        accumulators.grow(all.numbers.last().map_or(0, |last| *last as usize + 1));
        let prepared = accumulators.prepare(&self.plan, &read, None, &all.numbers)?;
        let partials = accumulators.scan(&self.plan, &read, &prepared, &all.numbers)?;
        let own = results(&self.plan, &partials)?;
        if !self.shares_results {
            return Ok(own);
        }
        let last = self.last_peers(all);
        own.iter()
            .map(|result| Ok(take(result, &last, None)?))
            .collect()
    }

    /// For each row the last one of its sequence that sorts the same.
    fn last_peers(&self, all: &Sequences) -> UInt32Array {
        let note = |at: usize| self.store.note(all.ids[all.rows[at] as usize]);
        let mut last: Vec<u32> = (0..all.rows.len() as u32).collect();
        for at in (1..all.rows.len()).rev() {
            if all.numbers[at] == all.numbers[at - 1] && note(at) == note(at - 1) {
                last[at - 1] = last[at];
            }
        }
        last.into()
    }

    /// What leads from the results that there were to those that there are.
    fn changes(&self, touched: &Touched) -> Result<Batch> {
        let all = self.sequences(touched);
        let columns = self.columns_of(&all.ids)?;
        let results = self.results(&all, &columns)?;
        let compared = RecordBatch::try_new(self.compared_schema.clone(), results.clone())?;
        let compared = self.compared.encode_batch(&compared)?;
        let (mut kinds, mut rows, mut at) = (Vec::new(), Vec::new(), Vec::new());
        let mut put = |kind, sequence: usize| {
            kinds.push(kind);
            rows.push(all.rows[sequence]);
            at.push(sequence as u32);
        };
        let mut start = 0;
        for partition in all.numbers.chunk_by(|a, b| a / 2 == b / 2) {
            let middle = start + partition.iter().filter(|number| *number % 2 == 0).count();
            let end = start + partition.len();
            let was: HashMap<u32, usize> = (start..middle)
                .map(|place| (all.rows[place], place))
                .collect();
            let is: HashMap<u32, usize> = (middle..end)
                .map(|place| (all.rows[place], place))
                .collect();
            for place in (start..middle).filter(|place| !is.contains_key(&all.rows[*place])) {
                put(RowKind::Delete, place);
            }
            for place in middle..end {
                match was.get(&all.rows[place]) {
                    None => put(RowKind::Insert, place),
                    Some(old) if compared.get(*old) != compared.get(place) => {
                        if self.update_before {
                            put(RowKind::UpdateBefore, *old);
                        }
                        put(RowKind::UpdateAfter, place);
                    }
                    Some(_) => {}
                }
            }
            start = end;
        }
        let (rows, at, length) = (UInt32Array::from(rows), UInt32Array::from(at), kinds.len());
        let mut out = Vec::with_capacity(columns.len() + results.len());
        for column in &columns {
            out.push(take(column, &rows, None)?);
        }
        for result in &results {
            out.push(take(result, &at, None)?);
        }
        Batch::with_kinds(rows_of(&self.output, out, length)?, kinds)
    }

    /// Writes what changed, and keeps nothing in memory.
    fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.store.spill(state)?;
        self.lists = RankLists::default();
        Ok(())
    }
}

impl Touched {
    /// Remembers the rows of a partition before it changes.
    fn touch(&mut self, slot: u32, lists: &RankLists) {
        if let std::collections::hash_map::Entry::Vacant(new) = self.places.entry(slot) {
            new.insert(self.before.len());
            self.before.push((slot, lists.get(slot).to_vec()));
        }
    }
}

#[cfg(test)]
mod tests;
