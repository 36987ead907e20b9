//! The rows and runs of each partition: in memory and, behind barriers or under memory pressure, in the keyed state.
//!
//! State: key = the partition's key; value = version, number of the first row, the rows (time, bytes), the runs under way, the matches that wait.

use std::collections::VecDeque;

use weir_common::key_group::KeyGroup;
use weir_dataflow::key::EncodedKeys;
use weir_dataflow::{KeyedState, Result, StateTable, StateWrites};

use super::pattern::{Run, Runs};
use crate::codec::{Reader, VERSION, put_bytes, put_signed, put_unsigned};
use crate::dirty::DirtySet;
use crate::key_table::KeyTable;

/// Partitions that one call writes: about a millisecond's work.
const WRITTEN: usize = if cfg!(test) { 2 } else { 512 };

/// Rows that runs hold, and the runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Number of the first of `rows`, and of the next one if there is none.
    pub first: u64,
    pub rows: VecDeque<Box<[u8]>>,
    pub runs: Runs,
}

/// Partitions by key.
pub struct Partitions {
    table: StateTable,
    max_parallelism: u32,
    pub keys: KeyTable,
    partitions: Vec<Partition>,
    /// The state has something under the key.
    stored: Vec<bool>,
    dirty: DirtySet,
    /// Whatever is not in memory is not in the state either.
    complete: bool,
    bytes: usize,
}

impl Partition {
    /// Number of the next row.
    pub fn next_row(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    /// The bytes of a row that a run holds.
    pub fn row(&self, number: u64) -> Option<&[u8]> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.rows.get(index).map(AsRef::as_ref)
    }

    /// Lets go of rows that no run holds any more.
    pub fn forget(&mut self) {
        let runs = self.runs.partial.iter().chain(&self.runs.complete);
        let oldest = runs.map(|run| run.start).min();
        let gone = oldest.unwrap_or(self.next_row()).saturating_sub(self.first);
        let gone = usize::try_from(gone)
            .unwrap_or(usize::MAX)
            .min(self.rows.len());
        self.rows.drain(..gone);
        self.first += gone as u64;
    }

    fn bytes(&self) -> usize {
        let rows: usize = self.rows.iter().map(|row| row.len() + 24).sum();
        let runs = self.runs.partial.iter().chain(&self.runs.complete);
        rows + runs.map(|run| 48 + run.counts.len() * 4).sum::<usize>()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_unsigned(self.first, &mut out);
        put_unsigned(self.rows.len() as u64, &mut out);
        for row in &self.rows {
            put_bytes(row, &mut out);
        }
        for runs in [&self.runs.partial, &self.runs.complete] {
            put_unsigned(runs.len() as u64, &mut out);
            for run in runs {
                put_unsigned(run.start, &mut out);
                put_signed(run.start_ms, &mut out);
                put_unsigned(run.counts.len() as u64, &mut out);
                for count in &run.counts {
                    put_unsigned(u64::from(*count), &mut out);
                }
            }
        }
        out
    }

    fn decode(value: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(value)?;
        let first = reader.unsigned()?;
        let mut rows = VecDeque::new();
        for _ in 0..reader.unsigned()? {
            rows.push_back(reader.bytes()?.into());
        }
        let partial = read_runs(&mut reader)?;
        let complete = read_runs(&mut reader)?;
        Ok(Self {
            first,
            rows,
            runs: Runs { partial, complete },
        })
    }
}

fn read_runs(reader: &mut Reader<'_>) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for _ in 0..reader.unsigned()? {
        let (start, start_ms) = (reader.unsigned()?, reader.signed()?);
        let mut counts = Vec::new();
        for _ in 0..reader.unsigned()? {
            counts.push(u32::try_from(reader.unsigned()?).unwrap_or(u32::MAX));
        }
        runs.push(Run {
            start,
            start_ms,
            counts,
        });
    }
    Ok(runs)
}

impl Partitions {
    /// Empty.
    pub fn new(table: StateTable, max_parallelism: u32) -> Self {
        Self {
            table,
            max_parallelism,
            keys: KeyTable::default(),
            partitions: Vec::new(),
            stored: Vec::new(),
            dirty: DirtySet::default(),
            complete: true,
            bytes: 0,
        }
    }

    /// Reads the state, if it fits into `budget` bytes. Gives the partitions with matches that wait.
    pub fn restore(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<Vec<u32>> {
        let mut waiting = Vec::new();
        let mut fits = true;
        let table = self.table;
        state.scan(table, &mut |_, key, value| {
            let partition = Partition::decode(value)?;
            fits &= self.bytes < budget;
            if fits || !partition.runs.complete.is_empty() {
                let slot = self
                    .keys
                    .slot_of(key, weir_common::key_group::hash_key(key));
                self.grow();
                if !partition.runs.complete.is_empty() {
                    waiting.push(slot);
                }
                self.bytes += partition.bytes() + key.len();
                self.partitions[slot as usize] = partition;
                self.stored[slot as usize] = true;
            }
            Ok(true)
        })?;
        self.complete = fits;
        Ok(waiting)
    }

    fn grow(&mut self) {
        let length = self.keys.len();
        self.partitions.resize_with(length, Partition::default);
        self.stored.resize(length, false);
        self.dirty.grow(length);
    }

    /// Slots of keys, with what the state has of them.
    pub fn resolve(
        &mut self,
        keys: &EncodedKeys,
        hashes: &[u64],
        slots: &mut Vec<u32>,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        let first_new = self.keys.resolve(keys, hashes, slots);
        self.grow();
        if self.complete {
            return Ok(());
        }
        let new: Vec<u32> = (first_new..self.keys.len() as u32).collect();
        let wanted: Vec<(KeyGroup, &[u8])> = new
            .iter()
            .map(|slot| {
                (
                    self.keys.key_group(*slot, self.max_parallelism),
                    self.keys.key(*slot),
                )
            })
            .collect();
        let values = state.multi_get(self.table, &wanted)?;
        for (slot, value) in new.into_iter().zip(values) {
            if let Some(value) = value {
                let partition = Partition::decode(&value)?;
                self.bytes += partition.bytes();
                self.partitions[slot as usize] = partition;
                self.stored[slot as usize] = true;
            }
        }
        Ok(())
    }

    /// A partition as it is.
    pub fn get(&self, slot: u32) -> &Partition {
        &self.partitions[slot as usize]
    }

    /// Takes a partition out, to be changed and given back by [`Self::put`]. If a snapshot has it, it is written first.
    pub fn take(&mut self, slot: u32, state: &mut dyn KeyedState) -> Result<Partition> {
        if self.dirty.thaw(slot) {
            let mut writes = StateWrites::default();
            self.write(slot, &mut writes);
            state.write_behind(writes)?;
        }
        let partition = std::mem::take(&mut self.partitions[slot as usize]);
        self.bytes = self.bytes.saturating_sub(partition.bytes());
        Ok(partition)
    }

    /// See [`Self::take`].
    pub fn put(&mut self, slot: u32, partition: Partition) {
        self.bytes += partition.bytes();
        self.partitions[slot as usize] = partition;
        self.dirty.mark(slot);
    }

    /// A partition without runs is not kept.
    fn write(&mut self, slot: u32, writes: &mut StateWrites) {
        let group = self.keys.key_group(slot, self.max_parallelism);
        let key = self.keys.key(slot).to_vec();
        let partition = &self.partitions[slot as usize];
        let stored = &mut self.stored[slot as usize];
        if !partition.rows.is_empty() {
            writes.put(self.table, group, key, partition.encode());
            *stored = true;
        } else if std::mem::take(stored) {
            writes.delete(self.table, group, key);
        }
    }

    /// What is there now belongs to the snapshot. What was frozen before must be written.
    pub fn freeze(&mut self) {
        self.dirty.freeze();
    }

    /// Writes a part of what is frozen; `true` if more is left.
    pub fn write_frozen(&mut self, state: &mut dyn KeyedState) -> Result<bool> {
        if !self.dirty.is_frozen() {
            return Ok(false);
        }
        let (keys, max_parallelism) = (&self.keys, self.max_parallelism);
        let slots = self
            .dirty
            .take_frozen(WRITTEN, |slot| keys.key_group(slot, max_parallelism));
        let mut writes = StateWrites::default();
        for slot in slots {
            self.write(slot, &mut writes);
        }
        state.write_behind(writes)?;
        Ok(self.dirty.is_frozen())
    }

    /// Brings all into the state and keeps in memory only the partitions `kept`. What a snapshot has must be written and sealed.
    pub fn spill(&mut self, kept: &[u32], state: &mut dyn KeyedState) -> Result<Vec<u32>> {
        self.freeze();
        while self.write_frozen(state)? {}
        state.write(StateWrites::default())?;
        let mut left = Self::new(self.table, self.max_parallelism);
        left.complete = false;
        let mut slots = Vec::with_capacity(kept.len());
        for slot in kept {
            let new = left
                .keys
                .slot_of(self.keys.key(*slot), self.keys.hash(*slot));
            left.grow();
            let partition = std::mem::take(&mut self.partitions[*slot as usize]);
            left.bytes += partition.bytes();
            left.partitions[new as usize] = partition;
            left.stored[new as usize] = self.stored[*slot as usize];
            slots.push(new);
        }
        *self = left;
        Ok(slots)
    }

    /// Number of partitions in memory.
    pub fn len(&self) -> u32 {
        self.keys.len() as u32
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.bytes
            + self.keys.memory()
            + self.partitions.capacity() * size_of::<Partition>()
            + self.dirty.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_survives_its_encoding() {
        let run = |start, counts: &[u32]| Run {
            start,
            start_ms: -5,
            counts: counts.to_vec(),
        };
        let mut partition = Partition {
            first: 7,
            rows: [b"a".as_slice(), b"", b"ccc"].map(Box::from).into(),
            runs: Runs {
                partial: vec![run(8, &[1, 300])],
                complete: vec![run(9, &[1])],
            },
        };
        assert_eq!(Partition::decode(&partition.encode()).unwrap(), partition);
        assert_eq!(partition.row(9), Some(b"ccc".as_slice()));
        assert_eq!((partition.row(6), partition.row(10)), (None, None));
        partition.forget();
        assert_eq!(
            (partition.first, partition.rows.len(), partition.next_row()),
            (8, 2, 10)
        );
        partition.runs = Runs::default();
        partition.forget();
        assert_eq!((partition.first, partition.rows.len()), (10, 0));
    }
}
