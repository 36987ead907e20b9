//! One row a key of an insert-only input: the first or the last one, in the order of the rows or by their rowtime.
//!
//! All rows of a batch count before its changes are emitted: a key has at most one change a batch. The first row by rowtime is known when the
//! watermark has passed it: it waits until then (`waiting`), and is the only one of its key that is ever emitted.

mod waiting;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, interleave, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_common::metric_names;
use weir_dataflow::key::EncodedKeys;
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, RowKind, SnapshotPart,
};
use weir_proto::v1;

use crate::fingerprint;
use crate::row_store::{FROZEN_ROWS, RowCodec, RowId, RowStore, RowsPerKey, rows_of};
use waiting::Waiting;

/// No row.
const NONE: RowId = RowId::MAX;

/// See [`v1::Deduplicate`].
pub struct DeduplicateOperator {
    spec: v1::Deduplicate,
    open: Option<Open>,
}

struct Open {
    codec: RowCodec,
    store: RowStore,
    output: SchemaRef,
    fingerprint: String,
    memory_bytes: usize,
    /// By slot: the key's row, and its time.
    rows: Vec<RowId>,
    times: Vec<i64>,
    waiting: Option<Waiting>,
    watermark_ms: i64,
    late: metrics::Counter,
    keys: EncodedKeys,
    hashes: Vec<u64>,
    slots: Vec<u32>,
    /// By slot: the last batch that touched it, and the row of the batch that counts.
    stamps: Vec<(u32, u32)>,
    batch: u32,
}

/// The rows of a batch that become those of their keys.
struct Winners {
    rows: Vec<u32>,
    slots: Vec<u32>,
}

impl DeduplicateOperator {
    /// # Errors
    /// If the description asks for what is not built.
    pub fn new(spec: &v1::Deduplicate) -> Result<Self> {
        if spec.state_ttl_ms > 0 {
            return Err(Error::Config(
                "table.exec.state.ttl is not supported yet by deduplication: set it to 0"
                    .to_owned(),
            ));
        }
        Ok(Self {
            spec: spec.clone(),
            open: None,
        })
    }

    fn opened(&mut self) -> Result<(&v1::Deduplicate, &mut Open)> {
        match &mut self.open {
            Some(open) => Ok((&self.spec, open)),
            None => Err(Error::Internal("a deduplication was not opened".to_owned())),
        }
    }

    /// The first row of a key that comes is emitted at once: that the key was there is all that is kept.
    fn keeps_keys_only(spec: &v1::Deduplicate) -> bool {
        !spec.keep_last && spec.time_column.is_none()
    }
}

impl Operator for DeduplicateOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let spec = &self.spec;
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("a deduplication without input".to_owned()))?;
        let key: Vec<usize> = spec.key_columns.iter().map(|c| *c as usize).collect();
        let codec = match Self::keeps_keys_only(spec) {
            true => RowCodec::keys_only(input, &key)?,
            false => RowCodec::new(input, &key)?,
        };
        let fingerprint = format!("deduplication, layout 1, {}", codec.fingerprint());
        fingerprint::check(&context, &fingerprint)?;
        let waits = !spec.keep_last && spec.time_column.is_some();
        let mut open = Open {
            store: RowStore::new(RowsPerKey::One, context.info.max_parallelism),
            waiting: waits.then(|| Waiting::new(input, &key)).transpose()?,
            codec,
            output: context.output_schema.clone(),
            fingerprint,
            memory_bytes: context.memory_bytes,
            rows: Vec::new(),
            times: Vec::new(),
            watermark_ms: i64::MIN,
            late: metrics::counter!(
                metric_names::LATE_RECORDS,
                "job" => context.info.job.to_string(),
                "operator" => context.info.name.to_string(),
                "subtask" => context.info.subtask.to_string()
            ),
            keys: EncodedKeys::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
            stamps: Vec::new(),
            batch: 0,
        };
        open.restore(spec, state)?;
        self.open = Some(open);
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let (spec, open) = self.opened()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.kinds().is_some() {
            return Err(Error::Config(
                "a deduplication planned for an insert-only input got an updating one".to_owned(),
            ));
        }
        open.resolve(spec, batch.data(), context.state)?;
        let times = spec
            .time_column
            .map(|column| millis(batch.data().columns(), column as usize))
            .transpose()?;
        let winners = open.winners(spec, times.as_ref().map(|times| times.values().as_ref()));
        if !winners.rows.is_empty() {
            open.take_over(spec, batch.data(), &winners, context)?;
        }
        if open.memory() > open.memory_bytes || open.store.is_full() {
            open.spill(spec, context.state)?;
        }
        Ok(())
    }

    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        let (_, open) = self.opened()?;
        open.watermark_ms = open.watermark_ms.max(watermark_ms);
        open.fire(context)?;
        Ok(watermark_ms)
    }

    fn snapshot(&mut self, _: CheckpointId, _: &mut Context<'_>) -> Result<SnapshotPart> {
        let (_, open) = self.opened()?;
        open.store.freeze();
        let mut part = SnapshotPart::default();
        fingerprint::put(&mut part.states, Bytes::from(open.fingerprint.clone()));
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        self.opened()?
            .1
            .store
            .write_frozen(FROZEN_ROWS, context.state)
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

/// A time column in milliseconds; NULL is before all times.
fn millis(columns: &[ArrayRef], column: usize) -> Result<Int64Array> {
    let column = columns
        .get(column)
        .ok_or_else(|| Error::Config("a deduplication's time column does not exist".to_owned()))?;
    let times = crate::window::millis(column)?;
    let values = cast(&times, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    Ok(match values.null_count() {
        0 => values.clone(),
        _ => values
            .iter()
            .map(|value| value.unwrap_or(i64::MIN))
            .collect(),
    })
}

impl Open {
    fn memory(&self) -> usize {
        self.store.memory()
            + self.rows.capacity() * 4
            + self.times.capacity() * 8
            + self.stamps.capacity() * 8
    }

    /// Slots of the batch's keys, and what the state knows of those that are new.
    fn resolve(
        &mut self,
        spec: &v1::Deduplicate,
        batch: &RecordBatch,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
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
        self.loaded(spec, &loaded)
    }

    /// Rows that came from the state.
    fn loaded(&mut self, spec: &v1::Deduplicate, loaded: &[RowId]) -> Result<()> {
        let slots = self.store.slots();
        self.rows.resize(slots, NONE);
        self.stamps.resize(slots, (0, 0));
        if spec.time_column.is_some() {
            self.times.resize(slots, i64::MIN);
        }
        for row in loaded {
            self.rows[self.store.slot_of(*row) as usize] = *row;
        }
        let (Some(column), false) = (spec.time_column, loaded.is_empty()) else {
            return Ok(());
        };
        let columns = self.columns_of(loaded)?;
        let times = millis(&columns, column as usize)?;
        for (row, time) in loaded.iter().zip(times.values()) {
            let slot = self.store.slot_of(*row);
            self.times[slot as usize] = *time;
            if let Some(waiting) = &mut self.waiting
                && self.store.bytes(*row) != waiting.emitted()
            {
                waiting.add(*time, slot);
            }
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

    /// For each key of the batch the row that counts, if it counts more than the one that the key has.
    fn winners(&mut self, spec: &v1::Deduplicate, times: Option<&[i64]>) -> Winners {
        self.batch = self.batch.wrapping_add(1);
        let mut touched = Vec::new();
        for (row, slot) in self.slots.iter().enumerate() {
            if let (Some(times), Some(_)) = (times, &self.waiting)
                && times[row] < self.watermark_ms
            {
                self.late.increment(1);
                continue;
            }
            let (stamp, best) = &mut self.stamps[*slot as usize];
            if *stamp != self.batch {
                (*stamp, *best) = (self.batch, row as u32);
                touched.push(*slot);
            } else if match times {
                None => spec.keep_last,
                Some(times) if spec.keep_last => times[row] >= times[*best as usize],
                Some(times) => times[row] < times[*best as usize],
            } {
                *best = row as u32;
            }
        }
        let wins = |slot: &u32| {
            let (slot, row) = (*slot as usize, self.stamps[*slot as usize].1 as usize);
            if self.rows[slot] == NONE {
                return true;
            }
            match times {
                None => spec.keep_last,
                Some(times) if spec.keep_last => times[row] >= self.times[slot],
                // The time of a row that was emitted is before all others.
                Some(times) => times[row] < self.times[slot],
            }
        };
        touched.retain(wins);
        Winners {
            rows: touched
                .iter()
                .map(|slot| self.stamps[*slot as usize].1)
                .collect(),
            slots: touched,
        }
    }

    /// Puts the rows in, and emits what that changes.
    fn take_over(
        &mut self,
        spec: &v1::Deduplicate,
        batch: &RecordBatch,
        winners: &Winners,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let new = take_record_batch(batch, &UInt32Array::from(winners.rows.clone()))?;
        let had: Vec<RowId> = winners
            .slots
            .iter()
            .map(|slot| self.rows[*slot as usize])
            .collect();
        let changes = match &self.waiting {
            Some(_) => None,
            None => Some(self.changes(spec, &new, &had)?),
        };
        let times = spec
            .time_column
            .map(|column| millis(new.columns(), column as usize))
            .transpose()?;
        let mut rows = EncodedKeys::default();
        self.codec.encode(&new, &mut rows)?;
        for (index, (slot, had)) in winners.slots.iter().zip(had).enumerate() {
            if had == NONE {
                self.rows[*slot as usize] = self.store.insert(*slot, &[], rows.get(index));
            } else {
                self.store.replace(had, &[], rows.get(index));
            }
            if let Some(times) = &times {
                self.times[*slot as usize] = times.value(index);
                if let Some(waiting) = &mut self.waiting {
                    waiting.add(times.value(index), *slot);
                }
            }
        }
        match changes {
            Some(changes) => context.out.emit(changes),
            None => Ok(()),
        }
    }

    /// New rows, and in front of each the one of its key that it takes the place of.
    fn changes(&self, spec: &v1::Deduplicate, new: &RecordBatch, had: &[RowId]) -> Result<Batch> {
        let data = rows_of(&self.output, new.columns().to_vec(), new.num_rows())?;
        if had.iter().all(|row| *row == NONE) {
            return Ok(Batch::inserts(data));
        }
        let kind = |row: &RowId| match *row == NONE {
            true => RowKind::Insert,
            false => RowKind::UpdateAfter,
        };
        if !spec.emit_update_before {
            return Batch::with_kinds(data, had.iter().map(kind).collect());
        }
        let old: Vec<RowId> = had.iter().copied().filter(|row| *row != NONE).collect();
        let old = self.columns_of(&old)?;
        let (mut kinds, mut picks, mut before) = (Vec::new(), Vec::new(), 0);
        for (index, row) in had.iter().enumerate() {
            if *row != NONE {
                kinds.push(RowKind::UpdateBefore);
                picks.push((0, before));
                before += 1;
            }
            kinds.push(kind(row));
            picks.push((1, index));
        }
        let columns = old.iter().zip(new.columns());
        let columns = columns
            .map(|(old, new)| Ok(interleave(&[old.as_ref(), new.as_ref()], &picks)?))
            .collect::<Result<Vec<_>>>()?;
        Batch::with_kinds(rows_of(&self.output, columns, kinds.len())?, kinds)
    }

    /// Emits the rows that wait for a time that has come.
    fn fire(&mut self, context: &mut Context<'_>) -> Result<()> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(());
        };
        let due = waiting.due(self.watermark_ms, &self.times);
        if due.is_empty() {
            return Ok(());
        }
        let rows: Vec<RowId> = due.iter().map(|slot| self.rows[*slot as usize]).collect();
        let data = rows_of(&self.output, self.columns_of(&rows)?, rows.len())?;
        if let Some(waiting) = &self.waiting {
            for (slot, row) in due.iter().zip(&rows) {
                self.store.replace(*row, &[], waiting.emitted());
                self.times[*slot as usize] = i64::MIN;
            }
        }
        context.out.emit(Batch::inserts(data))
    }

    /// Writes what changed, and keeps nothing in memory but what waits.
    fn spill(&mut self, spec: &v1::Deduplicate, state: &mut dyn KeyedState) -> Result<()> {
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting.keys(&self.store, &self.times),
            None => EncodedKeys::default(),
        };
        self.store.spill(state)?;
        (self.rows, self.times, self.stamps) = Default::default();
        self.bring_back(spec, &waiting, state)
    }

    fn bring_back(
        &mut self,
        spec: &v1::Deduplicate,
        keys: &EncodedKeys,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        let (mut slots, mut loaded) = (Vec::new(), Vec::new());
        let hashes: Vec<u64> = keys.iter().map(hash_key).collect();
        self.store
            .resolve(keys, &hashes, &mut slots, state, &mut loaded)?;
        self.loaded(spec, &loaded)
    }

    fn restore(&mut self, spec: &v1::Deduplicate, state: &mut dyn KeyedState) -> Result<()> {
        let mut loaded = Vec::new();
        self.store
            .restore(self.memory_bytes / 2, state, &mut loaded)?;
        self.loaded(spec, &loaded)?;
        if !loaded.is_empty() || state.is_empty() {
            return Ok(());
        }
        match &self.waiting {
            Some(waiting) => {
                let keys = waiting.stored_keys(state)?;
                self.bring_back(spec, &keys, state)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
