//! The rows of each partition that frames of later rows may still reach, oldest first: their times and what the calls read of them.
//!
//! State: key = length of the partition's key, the key, time (order-preserving), number; value = version, the row as a key. An entry is written once
//! and deleted once; numbers rise, so what a snapshot has is all below one number, and a barrier has nothing to copy.

use std::collections::VecDeque;

use weir_common::key_group::{KeyGroup, hash_key};
use weir_dataflow::key::EncodedKeys;
use weir_dataflow::{Error, KeyedState, Result, StateTable, StateWrites};

use crate::codec::{Reader, VERSION, put_bytes};
use crate::key_table::KeyTable;

/// Rows that one call writes: about a millisecond's work.
const WRITTEN_ROWS: usize = if cfg!(test) { 4 } else { 1024 };

/// A row behind the current one.
#[derive(Debug)]
pub struct PastRow {
    pub time_ms: i64,
    number: u64,
    pub bytes: Box<[u8]>,
}

/// Rows by partition.
pub struct PastRows {
    table: StateTable,
    max_parallelism: u32,
    keys: KeyTable,
    rows: Vec<VecDeque<PastRow>>,
    next_number: u64,
    /// All rows below it belong to the snapshot that is being written, or were written before.
    frozen_below: u64,
    /// All rows below it are in the state.
    saved_below: u64,
    /// Rows that are not in the state, by number, with their partitions.
    unsaved: VecDeque<(u64, u32)>,
    /// Of rows that are gone: for the running snapshot, and deletions for the next one.
    aside: StateWrites,
    deletions: StateWrites,
    /// Whatever is not in memory is not in the state either.
    complete: bool,
    bytes: usize,
}

impl PastRows {
    /// Empty.
    pub fn new(table: StateTable, max_parallelism: u32) -> Self {
        Self {
            table,
            max_parallelism,
            keys: KeyTable::default(),
            rows: Vec::new(),
            next_number: 0,
            frozen_below: 0,
            saved_below: 0,
            unsaved: VecDeque::new(),
            aside: StateWrites::default(),
            deletions: StateWrites::default(),
            complete: true,
            bytes: 0,
        }
    }

    /// Reads the state, if it fits into `budget` bytes.
    pub fn restore(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<()> {
        let mut fits = true;
        // Numbers must rise over all that is there, also over what is left in the state.
        state.scan(self.table, &mut |_, key, value| {
            let entry = Entry::read(key)?;
            self.next_number = self.next_number.max(entry.number + 1);
            fits &= self.bytes < budget;
            if fits {
                let slot = self.slot_of(entry.key);
                self.load(slot, &entry, value)?;
            }
            Ok(true)
        })?;
        (self.frozen_below, self.saved_below) = (self.next_number, self.next_number);
        if !fits {
            self.forget();
        }
        Ok(())
    }

    fn slot_of(&mut self, key: &[u8]) -> u32 {
        let slot = self.keys.slot_of(key, hash_key(key));
        self.rows.resize_with(self.keys.len(), VecDeque::new);
        slot
    }

    fn load(&mut self, slot: u32, entry: &Entry<'_>, value: &[u8]) -> Result<()> {
        let bytes: Box<[u8]> = Reader::new(value)?.0.into();
        self.bytes += cost(&bytes);
        self.rows[slot as usize].push_back(PastRow {
            time_ms: entry.time_ms,
            number: entry.number,
            bytes,
        });
        Ok(())
    }

    /// Partitions of rows, with what the state knows about them.
    pub fn resolve(
        &mut self,
        keys: &EncodedKeys,
        hashes: &[u64],
        slots: &mut Vec<u32>,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        let first_new = self.keys.resolve(keys, hashes, slots);
        self.rows.resize_with(self.keys.len(), VecDeque::new);
        if self.complete {
            return Ok(());
        }
        for slot in first_new..self.keys.len() as u32 {
            let mut prefix = Vec::new();
            put_bytes(self.keys.key(slot), &mut prefix);
            let (table, group) = (self.table, self.key_group(slot));
            state.scan_group(table, group, Some(&prefix), &mut |_, key, value| {
                if !key.starts_with(&prefix) {
                    return Ok(false);
                }
                self.load(slot, &Entry::read(key)?, value)?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn key_group(&self, slot: u32) -> KeyGroup {
        self.keys.key_group(slot, self.max_parallelism)
    }

    /// Rows of a partition, oldest first.
    pub fn rows(&self, slot: u32) -> &VecDeque<PastRow> {
        &self.rows[slot as usize]
    }

    /// A new row behind all others of its partition.
    pub fn push(&mut self, slot: u32, time_ms: i64, bytes: &[u8]) {
        let number = self.next_number;
        self.next_number += 1;
        self.bytes += cost(bytes);
        self.unsaved.push_back((number, slot));
        self.rows[slot as usize].push_back(PastRow {
            time_ms,
            number,
            bytes: bytes.into(),
        });
    }

    /// Forgets the oldest rows of a partition as long as `is_over` says so, for the number of rows and the time of the oldest.
    pub fn pop_while(&mut self, slot: u32, is_over: impl Fn(usize, i64) -> bool) {
        while let Some(first) = self.rows[slot as usize].front()
            && is_over(self.rows[slot as usize].len(), first.time_ms)
            && let Some(row) = self.rows[slot as usize].pop_front()
        {
            self.bytes = self.bytes.saturating_sub(cost(&row.bytes));
            if row.number >= self.frozen_below {
                continue;
            }
            let (group, key) = (self.key_group(slot), self.entry_key(slot, &row));
            if row.number >= self.saved_below {
                self.aside.put(self.table, group, key.clone(), value(&row));
            }
            self.deletions.delete(self.table, group, key);
        }
    }

    /// Partitions in memory.
    pub fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    fn entry_key(&self, slot: u32, row: &PastRow) -> Vec<u8> {
        let key = self.keys.key(slot);
        let mut out = Vec::with_capacity(key.len() + 20);
        put_bytes(key, &mut out);
        out.extend_from_slice(&(row.time_ms as u64 ^ (1 << 63)).to_be_bytes());
        out.extend_from_slice(&row.number.to_be_bytes());
        out
    }

    /// What is there now belongs to the snapshot. What was frozen before must be written.
    pub fn freeze(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.frozen_below = self.next_number;
        state.write_behind(std::mem::take(&mut self.deletions))
    }

    /// Writes a part of what is frozen; `true` if more is left.
    pub fn write_frozen(&mut self, state: &mut dyn KeyedState) -> Result<bool> {
        let mut writes = std::mem::take(&mut self.aside);
        while writes.entries.len() < WRITTEN_ROWS
            && let Some((number, slot)) = self.unsaved.front().copied()
            && number < self.frozen_below
        {
            self.unsaved.pop_front();
            let rows = &self.rows[slot as usize];
            // One that is gone was set aside.
            if let Ok(place) = rows.binary_search_by_key(&number, |row| row.number)
                && let Some(row) = rows.get(place)
            {
                let key = self.entry_key(slot, row);
                writes.put(self.table, self.key_group(slot), key, value(row));
            }
            self.saved_below = number + 1;
        }
        let more = self
            .unsaved
            .front()
            .is_some_and(|(number, _)| *number < self.frozen_below);
        if !more {
            self.saved_below = self.frozen_below;
        }
        state.write_behind(writes)?;
        Ok(more)
    }

    /// Writes all, and keeps nothing in memory. What a snapshot has must be written and sealed.
    pub fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.freeze(state)?;
        while self.write_frozen(state)? {}
        self.forget();
        // From now on reads have to see that.
        state.write(StateWrites::default())
    }

    fn forget(&mut self) {
        self.keys.clear();
        (self.rows, self.unsaved) = Default::default();
        (self.complete, self.bytes) = (false, 0);
    }

    /// Deletes the rows of partitions that are in the state only and have none that is younger than `time_ms`.
    pub fn sweep(&mut self, time_ms: i64, state: &mut dyn KeyedState) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        let mut writes = StateWrites::default();
        let keys = &self.keys;
        state.scan(self.table, &mut |group, key, _| {
            let entry = Entry::read(key)?;
            if entry.time_ms < time_ms && keys.find(entry.key, hash_key(entry.key)).is_none() {
                writes.delete(self.table, group, key.to_vec());
            }
            Ok(true)
        })?;
        self.deletions.entries.extend(writes.entries);
        Ok(())
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.keys.memory() + self.bytes + self.rows.capacity() * 32 + self.unsaved.capacity() * 16
    }
}

/// The allocator's part is taken to be 16 bytes.
fn cost(bytes: &[u8]) -> usize {
    bytes.len() + size_of::<PastRow>() + 16
}

fn value(row: &PastRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(row.bytes.len() + 1);
    out.push(VERSION);
    out.extend_from_slice(&row.bytes);
    out
}

/// The key of an entry of the state.
struct Entry<'a> {
    key: &'a [u8],
    time_ms: i64,
    number: u64,
}

impl<'a> Entry<'a> {
    fn read(entry: &'a [u8]) -> Result<Self> {
        let mut reader = Reader(entry);
        let key = reader.bytes()?;
        let time = u64::from_be_bytes(reader.array()?);
        let number = u64::from_be_bytes(reader.array()?);
        if !reader.0.is_empty() {
            return Err(Error::State("a row of an OVER has a broken key".to_owned()));
        }
        Ok(Self {
            key,
            time_ms: (time ^ (1 << 63)) as i64,
            number,
        })
    }
}
