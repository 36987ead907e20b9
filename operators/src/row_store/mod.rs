//! Rows by key: the working set of operators that keep whole rows, and its way to and from keyed state.
//!
//! State table 0, under the key group of the row's key:
//! * one row a key: key → version, the other columns;
//! * many rows a key: length of key, key, number (u64, big-endian) → version, the other columns. Rows of a key are numbered in the order
//!   in which they came, and a number is not used again as long as the key is in memory.
//!
//! Changes are frozen at barriers and written while the stream goes on (`save`). When memory is used up they are written, too, and the
//! working set is dropped; from then on the rows of a key that is not in memory are looked up. As long as that has not happened, what is
//! not in memory is nowhere.

mod arena;
mod codec;
mod save;

use weir_common::key_group::{KeyGroup, hash_key};
use weir_dataflow::key::EncodedKeys;
use weir_dataflow::{Error, KeyedState, Result, StateTable, StateWrites};

use crate::codec::{Reader, VERSION, put_bytes};
use crate::dirty::DirtySet;
use crate::key_table::KeyTable;
use arena::{Arena, Place};

pub use codec::{RowCodec, rows_of};
pub use save::FROZEN_ROWS;

/// The rows.
pub const ROWS: StateTable = StateTable(0);
/// Not a row's place: there is none.
const NOWHERE: Place = Place::MAX;

/// A row in memory, until it is removed.
pub type RowId = u32;

/// How many rows a key can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsPerKey {
    One,
    Many,
}

/// Rows in memory.
pub struct RowStore {
    per_key: RowsPerKey,
    max_parallelism: u32,
    keys: KeyTable,
    /// By slot of the key: how many rows it has, and the number of the next one.
    counts: Vec<u32>,
    next_numbers: Vec<u64>,
    /// Slots without a row.
    empty: usize,
    rows: Rows,
    dirty: DirtySet,
    /// Entries of the state whose rows were removed, to be deleted with the next freeze, and those of the one before.
    gone: Vec<(KeyGroup, Vec<u8>)>,
    frozen_gone: Vec<(KeyGroup, Vec<u8>)>,
    /// Frozen rows that have changed since, as they were.
    thawed: StateWrites,
    /// Whatever is not in memory is not in the state either.
    complete: bool,
}

/// By id of the row.
#[derive(Default)]
struct Rows {
    slots: Vec<u32>,
    numbers: Vec<u64>,
    places: Vec<Place>,
    /// The state has an entry of it.
    stored: Vec<bool>,
    /// Ids that can be used again.
    free: Vec<RowId>,
    bytes: Arena,
}

impl RowStore {
    /// Empty, as is the state.
    pub fn new(per_key: RowsPerKey, max_parallelism: u32) -> Self {
        Self {
            per_key,
            max_parallelism,
            keys: KeyTable::default(),
            counts: Vec::new(),
            next_numbers: Vec::new(),
            empty: 0,
            rows: Rows::default(),
            dirty: DirtySet::default(),
            gone: Vec::new(),
            frozen_gone: Vec::new(),
            thawed: StateWrites::default(),
            complete: true,
        }
    }

    /// Number of slots in memory.
    pub fn slots(&self) -> usize {
        self.keys.len()
    }

    /// Encoded key of a slot.
    pub fn key(&self, slot: u32) -> &[u8] {
        self.keys.key(slot)
    }

    /// Slot of a row.
    pub fn slot_of(&self, row: RowId) -> u32 {
        self.rows.slots[row as usize]
    }

    /// The row's number among those of its key.
    pub fn number(&self, row: RowId) -> u64 {
        self.rows.numbers[row as usize]
    }

    /// Columns of a row that are not its key's.
    #[inline]
    pub fn bytes(&self, row: RowId) -> &[u8] {
        self.rows.bytes.get(self.rows.places[row as usize]).1
    }

    /// The note that the row was put in with.
    #[inline]
    pub fn note(&self, row: RowId) -> &[u8] {
        self.rows.bytes.get(self.rows.places[row as usize]).0
    }

    /// Slots of keys. Rows that this brought into memory are added to `loaded`, in the order of their numbers; they have no note yet.
    pub fn resolve(
        &mut self,
        keys: &EncodedKeys,
        hashes: &[u64],
        slots: &mut Vec<u32>,
        state: &mut dyn KeyedState,
        loaded: &mut Vec<RowId>,
    ) -> Result<()> {
        let first_new = self.keys.resolve(keys, hashes, slots);
        self.grow();
        if self.complete || self.keys.len() as u32 == first_new {
            return Ok(());
        }
        let new = first_new..self.keys.len() as u32;
        match self.per_key {
            RowsPerKey::One => {
                let wanted: Vec<(KeyGroup, &[u8])> = new
                    .clone()
                    .map(|slot| (self.group_of(slot), self.keys.key(slot)))
                    .collect();
                let found = state.multi_get(ROWS, &wanted)?;
                for (slot, value) in new.zip(found) {
                    if let Some(value) = value {
                        loaded.push(self.load(slot, 0, &value)?);
                    }
                }
            }
            RowsPerKey::Many => {
                for slot in new {
                    self.load_rows(slot, state, loaded)?;
                }
            }
        }
        Ok(())
    }

    fn load_rows(
        &mut self,
        slot: u32,
        state: &mut dyn KeyedState,
        loaded: &mut Vec<RowId>,
    ) -> Result<()> {
        let mut prefix = Vec::new();
        put_bytes(self.keys.key(slot), &mut prefix);
        state.scan_group(
            ROWS,
            self.group_of(slot),
            Some(&prefix),
            &mut |_, key, value| {
                let Some(number) = key.strip_prefix(prefix.as_slice()) else {
                    return Ok(false);
                };
                loaded.push(self.load(slot, number_of(number)?, value)?);
                Ok(true)
            },
        )
    }

    /// An entry of the state.
    pub fn load_entry(&mut self, entry: &[u8], value: &[u8]) -> Result<RowId> {
        let (key, number) = match self.per_key {
            RowsPerKey::One => (entry, 0),
            RowsPerKey::Many => {
                let mut reader = Reader(entry);
                let key = reader.bytes()?;
                (key, number_of(reader.0)?)
            }
        };
        let slot = self.keys.slot_of(key, hash_key(key));
        self.grow();
        self.load(slot, number, value)
    }

    fn load(&mut self, slot: u32, number: u64, value: &[u8]) -> Result<RowId> {
        let row = Reader::new(value)?.0;
        let id = self.place(slot, number, &[], row);
        self.rows.stored[id as usize] = true;
        let next = &mut self.next_numbers[slot as usize];
        *next = (*next).max(number + 1);
        Ok(id)
    }

    /// Gives a row that came from the state its note.
    pub fn set_note(&mut self, id: RowId, note: &[u8]) {
        let row = self.bytes(id).to_vec();
        self.exchange(id, note, &row);
    }

    /// A new row of a key, behind those that it has.
    pub fn insert(&mut self, slot: u32, note: &[u8], row: &[u8]) -> RowId {
        let next = &mut self.next_numbers[slot as usize];
        let number = match self.per_key {
            RowsPerKey::One => 0,
            RowsPerKey::Many => *next,
        };
        *next += 1;
        let id = self.place(slot, number, note, row);
        // The id may be one that was frozen with another row, which is written or was never there.
        self.dirty.thaw(id);
        self.dirty.mark(id);
        id
    }

    /// Another row in the place of one of the same key.
    pub fn replace(&mut self, id: RowId, note: &[u8], row: &[u8]) {
        self.thaw(id);
        self.exchange(id, note, row);
        self.dirty.mark(id);
    }

    /// The row is gone, its id may be used again.
    pub fn remove(&mut self, id: RowId) {
        self.thaw(id);
        let (slot, place) = (self.slot_of(id), self.rows.places[id as usize]);
        if self.rows.stored[id as usize] {
            self.gone.push((self.group_of(slot), self.entry_key(id)));
        }
        self.rows.bytes.remove(place);
        self.rows.places[id as usize] = NOWHERE;
        self.rows.free.push(id);
        self.counts[slot as usize] -= 1;
        self.empty += usize::from(self.counts[slot as usize] == 0);
        self.compact();
    }

    fn place(&mut self, slot: u32, number: u64, note: &[u8], row: &[u8]) -> RowId {
        let place = self.rows.bytes.add(note, row);
        self.empty -= usize::from(self.counts[slot as usize] == 0);
        self.counts[slot as usize] += 1;
        let rows = &mut self.rows;
        if let Some(id) = rows.free.pop() {
            let index = id as usize;
            (rows.slots[index], rows.numbers[index]) = (slot, number);
            (rows.places[index], rows.stored[index]) = (place, false);
            return id;
        }
        rows.slots.push(slot);
        rows.numbers.push(number);
        rows.places.push(place);
        rows.stored.push(false);
        self.dirty.grow(rows.slots.len());
        (rows.slots.len() - 1) as RowId
    }

    fn exchange(&mut self, id: RowId, note: &[u8], row: &[u8]) {
        let place = &mut self.rows.places[id as usize];
        self.rows.bytes.remove(*place);
        *place = self.rows.bytes.add(note, row);
        self.compact();
    }

    /// Gives back the bytes of removed rows if they are most of all.
    fn compact(&mut self) {
        let rows = &mut self.rows;
        if !rows.bytes.is_mostly_removed() {
            return;
        }
        let old = std::mem::take(&mut rows.bytes);
        for place in rows.places.iter_mut().filter(|place| **place != NOWHERE) {
            let (note, row) = old.get(*place);
            *place = rows.bytes.add(note, row);
        }
    }

    fn grow(&mut self) {
        let length = self.keys.len();
        self.empty += length - self.counts.len();
        self.counts.resize(length, 0);
        self.next_numbers.resize(length, 0);
    }

    fn group_of(&self, slot: u32) -> KeyGroup {
        self.keys.key_group(slot, self.max_parallelism)
    }

    fn entry_key(&self, id: RowId) -> Vec<u8> {
        let key = self.keys.key(self.slot_of(id));
        match self.per_key {
            RowsPerKey::One => key.to_vec(),
            RowsPerKey::Many => {
                let mut entry = Vec::with_capacity(key.len() + 13);
                put_bytes(key, &mut entry);
                entry.extend_from_slice(&self.number(id).to_be_bytes());
                entry
            }
        }
    }

    fn entry_value(&self, id: RowId) -> Vec<u8> {
        let row = self.bytes(id);
        let mut value = Vec::with_capacity(1 + row.len());
        value.push(VERSION);
        value.extend_from_slice(row);
        value
    }

    /// Reads the whole state if it fits in `budget` bytes; else rows are read when they are needed, and `loaded` stays empty.
    pub fn restore(
        &mut self,
        budget: usize,
        state: &mut dyn KeyedState,
        loaded: &mut Vec<RowId>,
    ) -> Result<()> {
        let mut fits = state.stored_bytes() <= budget as u64;
        if fits && !state.is_empty() {
            state.scan(ROWS, &mut |_, key, value| {
                loaded.push(self.load_entry(key, value)?);
                fits = !loaded.len().is_multiple_of(1024) || self.memory() < budget;
                Ok(fits)
            })?;
        }
        if !fits {
            loaded.clear();
            self.forget();
        }
        Ok(())
    }

    /// Most keys in memory have no row.
    pub fn is_mostly_empty(&self) -> bool {
        self.empty > 1024 && self.empty * 2 > self.keys.len()
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        let gone = self.gone.capacity() + self.frozen_gone.capacity();
        self.keys.memory()
            + self.counts.capacity() * 12
            + self.rows.slots.capacity() * (4 + 8 + 8 + 1)
            + self.rows.free.capacity() * 4
            + self.rows.bytes.memory()
            + self.dirty.memory()
            + gone * 48
    }

    /// Ids or keys run out: time to spill.
    pub fn is_full(&self) -> bool {
        self.keys.is_full() || self.rows.slots.len() > 3 << 30
    }
}

fn number_of(bytes: &[u8]) -> Result<u64> {
    let number = bytes.try_into().map(u64::from_be_bytes);
    number.map_err(|_| Error::State("a row's number in the state is broken".to_owned()))
}

#[cfg(test)]
mod tests;
