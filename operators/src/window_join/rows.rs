//! The rows of one side of one window, in memory and in the keyed state. Under memory pressure they are in the state only, and are read when
//! the window fires.
//!
//! State layout, a table an input: key = window_end, window_start (order-preserving i64), sequence (u64), all big-endian;
//! value = Arrow IPC stream of rows of that key group.

use std::collections::BTreeMap;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use weir_common::key_group::{KeyGroup, key_group_of_hash};
use weir_dataflow::key::KeyEncoder;
use weir_dataflow::state::StateRange;
use weir_dataflow::{Error, KeyedState, Result, StateTable, StateWrites};

use super::WindowKey;

/// Rows that are written together, if batches are not larger: about a millisecond's work.
const SAVED_ROWS: usize = if cfg!(test) { 4 } else { 4096 };

/// Rows of a side, oldest first.
#[derive(Default)]
pub struct SideRows {
    batches: Vec<RecordBatch>,
    /// So many of `batches` are in the state.
    saved: usize,
    /// So many are or come into the state with the snapshot that is being written.
    frozen: usize,
    /// Next sequence number of each key group that has rows in the state.
    sequences: BTreeMap<KeyGroup, u64>,
    /// What is in the state is not in memory.
    spilled: bool,
    bytes: usize,
    /// Rows that came since [`Self::prune`] last looked, and how many have to before it looks again.
    unpruned: usize,
    pruned_at: usize,
}

impl SideRows {
    /// New rows.
    pub fn add(&mut self, batch: RecordBatch) {
        self.bytes += batch.get_array_memory_size();
        self.unpruned += batch.num_rows();
        self.batches.push(batch);
    }

    /// If more than `rows` came since the last time (or as many as were kept then): leaves of those that no snapshot has what `keep` makes of them.
    pub fn prune(
        &mut self,
        schema: &SchemaRef,
        rows: usize,
        keep: impl Fn(&RecordBatch) -> Result<RecordBatch>,
    ) -> Result<()> {
        if self.unpruned <= rows.max(self.pruned_at) {
            return Ok(());
        }
        let from = self.frozen.max(self.saved);
        let kept = keep(&arrow::compute::concat_batches(
            schema,
            &self.batches[from..],
        )?)?;
        (self.unpruned, self.pruned_at) = (0, kept.num_rows());
        self.batches.truncate(from);
        self.batches.push(kept);
        self.bytes = self
            .batches
            .iter()
            .map(RecordBatch::get_array_memory_size)
            .sum();
        Ok(())
    }

    /// Rows that were found in the state.
    pub fn add_restored(&mut self, group: KeyGroup, batch: RecordBatch) {
        *self.sequences.entry(group).or_default() += 1;
        if self.spilled {
            return;
        }
        self.bytes += batch.get_array_memory_size();
        self.batches.insert(self.saved, batch);
        self.saved += 1;
        self.frozen = self.saved;
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.bytes
    }

    /// Forgets what is in memory, of which everything is in the state.
    pub fn spill(&mut self) {
        debug_assert_eq!(self.saved, self.batches.len(), "rows would be lost");
        self.spilled = !self.sequences.is_empty();
        self.batches = Vec::new();
        (self.saved, self.frozen, self.bytes) = (0, 0, 0);
    }

    /// All rows as one batch.
    pub fn concat(&self, schema: &SchemaRef, stored: Vec<RecordBatch>) -> Result<RecordBatch> {
        let all = stored.iter().chain(&self.batches);
        Ok(arrow::compute::concat_batches(schema, all)?)
    }

    /// The rows that are here now belong to the snapshot; `true` if any of them is not in the state.
    pub fn freeze(&mut self) -> bool {
        self.frozen = self.batches.len();
        self.is_frozen()
    }

    /// Where about [`SAVED_ROWS`] of the frozen rows that are not in the state end.
    fn some_frozen(&self) -> usize {
        let mut rows = 0;
        let mut fits = |batch: &&RecordBatch| {
            let first = rows == 0;
            rows += batch.num_rows().max(1);
            first || rows <= SAVED_ROWS
        };
        let unsaved = &self.batches[self.saved..self.frozen.max(self.saved)];
        self.saved + unsaved.iter().take_while(|batch| fits(batch)).count()
    }

    /// Rows of the snapshot are not in the state yet.
    pub fn is_frozen(&self) -> bool {
        self.saved < self.frozen
    }

    /// Deletes what the state has of this side.
    pub fn forget(&mut self, table: StateTable, key: WindowKey, writes: &mut StateWrites) {
        for group in std::mem::take(&mut self.sequences).into_keys() {
            writes.deleted_ranges.push(StateRange {
                table,
                key_group: group,
                from: state_key(key, 0),
                to: Some(state_key(key, u64::MAX)),
            });
        }
    }
}

/// Moves rows of one input to and from the state.
pub struct RowsCodec {
    schema: SchemaRef,
    encoder: KeyEncoder,
    max_parallelism: u32,
}

impl RowsCodec {
    /// `partition_columns` decide the key group, as in the exchange.
    pub fn new(
        schema: &SchemaRef,
        partition_columns: &[usize],
        max_parallelism: u32,
    ) -> Result<Self> {
        Ok(Self {
            schema: schema.clone(),
            encoder: KeyEncoder::new(schema, partition_columns)?,
            max_parallelism,
        })
    }

    /// Writes some frozen rows that are not in the state yet.
    pub fn save(
        &self,
        table: StateTable,
        key: WindowKey,
        side: &mut SideRows,
        writes: &mut StateWrites,
    ) -> Result<()> {
        let end = side.some_frozen();
        let unsaved = &side.batches[side.saved..end];
        if unsaved.is_empty() {
            return Ok(());
        }
        let rows = arrow::compute::concat_batches(&self.schema, unsaved)?;
        let mut hashes = Vec::new();
        self.encoder.hashes(&rows, &mut hashes)?;
        let mut groups: BTreeMap<KeyGroup, Vec<u32>> = BTreeMap::new();
        for (row, hash) in hashes.iter().enumerate() {
            groups
                .entry(key_group_of_hash(*hash, self.max_parallelism))
                .or_default()
                .push(row as u32);
        }
        for (group, indices) in groups {
            let part = arrow::compute::take_record_batch(&rows, &UInt32Array::from(indices))?;
            let sequence = side.sequences.entry(group).or_default();
            writes.put(table, group, state_key(key, *sequence), encode(&part)?);
            *sequence += 1;
        }
        side.saved = end;
        Ok(())
    }

    /// The rows that are in the state only.
    pub fn load(
        &self,
        table: StateTable,
        key: WindowKey,
        side: &SideRows,
        state: &mut dyn KeyedState,
    ) -> Result<Vec<RecordBatch>> {
        let mut found = Vec::new();
        if !side.spilled {
            return Ok(found);
        }
        let first = state_key(key, 0);
        for group in side.sequences.keys() {
            state.scan_group(table, *group, Some(&first), &mut |_, entry, value| {
                if window_of(entry) != Some(key) {
                    return Ok(false);
                }
                found.extend(self.decode(value)?);
                Ok(true)
            })?;
        }
        Ok(found)
    }

    fn decode(&self, value: &[u8]) -> Result<Vec<RecordBatch>> {
        let decode = |batch: std::result::Result<RecordBatch, ArrowError>| {
            let batch = batch?;
            if batch.schema().fields().len() != self.schema.fields().len() {
                return Err(Error::Restore(
                    "the rows of a window join have other columns than the query".to_owned(),
                ));
            }
            let columns = batch.columns().to_vec();
            Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
        };
        StreamReader::try_new(value, None)?.map(decode).collect()
    }

    /// Calls `found` for each saved part.
    pub fn restore(
        &self,
        table: StateTable,
        state: &mut dyn KeyedState,
        mut found: impl FnMut(WindowKey, KeyGroup, RecordBatch),
    ) -> Result<()> {
        state.scan(table, &mut |group, key, value| {
            let window = window_of(key)
                .ok_or_else(|| Error::Restore("a window join has a broken key".to_owned()))?;
            for batch in self.decode(value)? {
                found(window, group, batch);
            }
            Ok(true)
        })
    }
}

fn encode(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    Ok(writer.into_inner()?)
}

/// Flips the sign bit, so that the order of the bytes is the order of the numbers.
fn ordered(value: i64) -> [u8; 8] {
    (value as u64 ^ (1 << 63)).to_be_bytes()
}

fn state_key((end, start): WindowKey, sequence: u64) -> Vec<u8> {
    [ordered(end), ordered(start), sequence.to_be_bytes()].concat()
}

fn window_of(key: &[u8]) -> Option<WindowKey> {
    let number = |range: std::ops::Range<usize>| {
        let bytes: [u8; 8] = key.get(range)?.try_into().ok()?;
        Some((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
    };
    Some((number(0..8)?, number(8..16)?))
}
