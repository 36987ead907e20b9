//! Top-N: the rows of each partition whose number by an order is within bounds.
//!
//! Of an insert-only input no more rows are kept than the end of the bounds; of an updating one all are, for those behind may come forward.
//! All rows of a batch count before its changes are emitted.

pub(crate) mod lists;
pub(crate) mod order;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_dataflow::key::EncodedKeys;
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart,
};
use weir_proto::v1;

use crate::fingerprint;
use crate::row_store::{FROZEN_ROWS, RowCodec, RowId, RowStore, RowsPerKey, rows_of};
use lists::{Change, Emission, RankLists};
use order::{SortKeys, SortOrder};

/// See [`v1::Rank`].
pub struct RankOperator {
    spec: v1::Rank,
    open: Option<Open>,
}

struct Open {
    codec: RowCodec,
    order: SortOrder,
    emission: Emission,
    store: RowStore,
    lists: RankLists,
    output: SchemaRef,
    fingerprint: String,
    memory_bytes: usize,
    keys: EncodedKeys,
    hashes: Vec<u64>,
    slots: Vec<u32>,
    /// By slot: the last batch that touched it.
    stamps: Vec<u32>,
    batch: u32,
    touched: Touched,
}

/// Partitions that a batch has changed.
#[derive(Default)]
struct Touched {
    /// Slot, the end of its bounds, and how many rows of `before` are its.
    slots: Vec<(u32, u64, usize)>,
    /// The rows that were shown, of all of them.
    before: Vec<RowId>,
    /// Rows that are in no list any more, but may be in `before`.
    removed: Vec<RowId>,
}

/// The last number that is shown, for each row of a batch.
enum Ends {
    All(u64),
    Each(Int64Array),
}

impl Ends {
    fn of(&self, row: usize) -> u64 {
        match self {
            Self::All(end) => *end,
            Self::Each(ends) => u64::try_from(ends.value(row)).unwrap_or_default(),
        }
    }
}

impl RankOperator {
    /// # Errors
    /// If the description asks for what is not built.
    pub fn new(spec: &v1::Rank) -> Result<Self> {
        if spec.state_ttl_ms > 0 {
            return Err(Error::Config(
                "table.exec.state.ttl is not supported yet by Top-N: set it to 0".to_owned(),
            ));
        }
        if spec.start == 0 {
            return Err(Error::Config("the first rank is 1".to_owned()));
        }
        Ok(Self {
            spec: spec.clone(),
            open: None,
        })
    }

    fn opened(&mut self) -> Result<(&v1::Rank, &mut Open)> {
        match &mut self.open {
            Some(open) => Ok((&self.spec, open)),
            None => Err(Error::Internal("a rank was not opened".to_owned())),
        }
    }
}

impl Operator for RankOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let spec = &self.spec;
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("a rank without input".to_owned()))?;
        let key: Vec<usize> = spec.partition_columns.iter().map(|c| *c as usize).collect();
        let codec = RowCodec::new(input, &key)?;
        let fingerprint = format!("rank, layout 1, {}", codec.fingerprint());
        fingerprint::check(&context, &fingerprint)?;
        let one_row = spec.end_column.is_none() && spec.start == spec.end;
        let mut open = Open {
            store: RowStore::new(RowsPerKey::Many, context.info.max_parallelism),
            order: SortOrder::new(input, &spec.order)?,
            codec,
            emission: Emission {
                start: spec.start,
                in_place: spec.output_rank || one_row,
                update_before: spec.emit_update_before,
            },
            lists: RankLists::default(),
            output: context.output_schema.clone(),
            fingerprint,
            memory_bytes: context.memory_bytes,
            keys: EncodedKeys::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
            stamps: Vec::new(),
            batch: 0,
            touched: Touched::default(),
        };
        let mut loaded = Vec::new();
        open.store
            .restore(context.memory_bytes / 2, state, &mut loaded)?;
        open.loaded(&loaded)?;
        self.open = Some(open);
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let (spec, open) = self.opened()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.kinds().is_some() && !spec.input_retracts {
            return Err(Error::Config(
                "a rank planned for an insert-only input got an updating one".to_owned(),
            ));
        }
        open.resolve(batch.data(), context.state)?;
        let ends = ends(spec, batch.data())?;
        if spec.input_retracts {
            open.count_changes(&batch, &ends)?;
        } else {
            open.count_inserts(batch.data(), &ends)?;
        }
        let changes = open.changes();
        if !changes.is_empty() {
            context.out.emit(open.rows(spec, &changes)?)?;
        }
        for row in open.touched.removed.drain(..) {
            open.store.remove(row);
        }
        if open.memory() > open.memory_bytes || open.store.is_full() {
            open.spill(context.state)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId, _: &mut Context<'_>) -> Result<SnapshotPart> {
        let (_, open) = self.opened()?;
        open.store.freeze();
        let mut part = SnapshotPart::default();
        fingerprint::put(&mut part.states, Bytes::from(open.fingerprint.clone()));
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let (_, open) = self.opened()?;
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
        self.open
            .as_ref()
            .map_or_else(String::new, |open| open.fingerprint.clone())
    }
}

fn ends(spec: &v1::Rank, batch: &RecordBatch) -> Result<Ends> {
    let Some(column) = spec.end_column else {
        return Ok(Ends::All(spec.end));
    };
    let column = batch.columns().get(column as usize);
    let column = column
        .ok_or_else(|| Error::Config("the column of a rank's end does not exist".to_owned()))?;
    let ends = cast(column, &DataType::Int64)?;
    // Nothing is within a bound that is NULL.
    let ends = ends.as_primitive::<Int64Type>().iter();
    Ok(Ends::Each(ends.map(|end| end.unwrap_or(0)).collect()))
}

impl Open {
    fn memory(&self) -> usize {
        self.store.memory() + self.lists.memory() + self.stamps.capacity() * 4
    }

    /// Slots of the batch's partitions, and the rows of those that are new here.
    fn resolve(&mut self, batch: &RecordBatch, state: &mut dyn KeyedState) -> Result<()> {
        self.codec.key().encode_into(batch, &mut self.keys)?;
        self.hashes.clear();
        self.hashes.extend(self.keys.iter().map(hash_key));
        let mut loaded = Vec::new();
        self.store.resolve(
            &self.keys,
            &self.hashes,
            &mut self.slots,
            state,
            &mut loaded,
        )?;
        self.loaded(&loaded)
    }

    /// Rows that came from the state.
    fn loaded(&mut self, loaded: &[RowId]) -> Result<()> {
        self.lists.grow(self.store.slots());
        self.stamps.resize(self.store.slots(), 0);
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

    /// Remembers what is shown of a partition before it changes.
    fn touch(&mut self, slot: u32, end: u64) {
        let stamp = &mut self.stamps[slot as usize];
        if *stamp == self.batch {
            return;
        }
        *stamp = self.batch;
        let list = self.lists.get(slot);
        let shown = usize::try_from(end).unwrap_or(usize::MAX).min(list.len());
        self.touched.before.extend(&list[..shown]);
        self.touched.slots.push((slot, end, shown));
    }

    fn begin(&mut self) {
        self.batch = self.batch.wrapping_add(1);
        self.touched.slots.clear();
        self.touched.before.clear();
    }

    /// Rows that are not among the first are not even encoded: what is kept of a partition only gets better.
    fn count_inserts(&mut self, batch: &RecordBatch, ends: &Ends) -> Result<()> {
        self.begin();
        let keys = self.order.keys(batch.columns())?;
        let is_among_first = |row: &u32| {
            let list = self.lists.get(self.slots[*row as usize]);
            let end = usize::try_from(ends.of(*row as usize)).unwrap_or(usize::MAX);
            match end.checked_sub(1) {
                None => false,
                Some(last) => list
                    .get(last)
                    .is_none_or(|last| keys.get(*row as usize) < self.store.note(*last)),
            }
        };
        let first: Vec<u32> = (0..batch.num_rows() as u32)
            .filter(is_among_first)
            .collect();
        if first.is_empty() {
            return Ok(());
        }
        let mut rows = EncodedKeys::default();
        let indices = UInt32Array::from(first);
        if indices.len() == batch.num_rows() {
            self.codec.encode(batch, &mut rows)?;
        } else {
            self.codec
                .encode(&take_record_batch(batch, &indices)?, &mut rows)?;
        }
        for (index, row) in indices.values().iter().enumerate() {
            let row = *row as usize;
            let (slot, end) = (self.slots[row], ends.of(row));
            self.touch(slot, end);
            let id = self.store.insert(slot, keys.get(row), rows.get(index));
            self.lists.insert(id, &self.store);
            if self.lists.get(slot).len() as u64 > end
                && let Some(last) = self.lists.pop(slot)
            {
                self.touched.removed.push(last);
            }
        }
        Ok(())
    }

    fn count_changes(&mut self, batch: &Batch, ends: &Ends) -> Result<()> {
        self.begin();
        let keys = self.order.keys(batch.data().columns())?;
        let mut rows = EncodedKeys::default();
        self.codec.encode(batch.data(), &mut rows)?;
        for row in 0..batch.num_rows() {
            let slot = self.slots[row];
            self.touch(slot, ends.of(row));
            if batch.kind(row).is_retraction() {
                // A row that is not there can't be taken away; Flink passes over it, too.
                let taken = self
                    .lists
                    .take(slot, keys.get(row), rows.get(row), &self.store);
                self.touched.removed.extend(taken);
            } else {
                self.insert(slot, &keys, &rows, row);
            }
        }
        Ok(())
    }

    fn insert(&mut self, slot: u32, keys: &SortKeys, rows: &EncodedKeys, row: usize) {
        let id = self.store.insert(slot, keys.get(row), rows.get(row));
        self.lists.insert(id, &self.store);
    }

    /// What the batch has changed of what is shown.
    fn changes(&self) -> Vec<Change> {
        let (mut changes, mut at) = (Vec::new(), 0);
        for (slot, end, shown) in &self.touched.slots {
            let before = &self.touched.before[at..at + shown];
            at += shown;
            self.emission.changes(
                before,
                self.lists.get(*slot),
                *end,
                &self.store,
                &mut changes,
            );
        }
        changes
    }

    fn rows(&self, spec: &v1::Rank, changes: &[Change]) -> Result<Batch> {
        let ids: Vec<RowId> = changes.iter().map(|(_, id, _)| *id).collect();
        let mut columns = self.columns_of(&ids)?;
        if spec.output_rank {
            let numbers = changes.iter().map(|(_, _, number)| *number);
            columns.push(Arc::new(Int64Array::from_iter_values(numbers)));
        }
        let kinds = changes.iter().map(|(kind, ..)| *kind).collect();
        Batch::with_kinds(rows_of(&self.output, columns, ids.len())?, kinds)
    }

    /// Writes what changed, and keeps nothing in memory.
    fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.store.spill(state)?;
        self.lists = RankLists::default();
        self.stamps = Vec::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
