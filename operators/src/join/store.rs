//! The rows of both inputs of a join: in memory by join key, and their way to and from keyed state.
//!
//! State tables, 0 the left input's and 1 the right one's, under the key group of the join key:
//! length of join key, join key, row (or, of an insert-only input, its sequence number, 8 bytes big-endian) →
//! version, time of the last touch in milliseconds (0 without a TTL), number of equal rows, number of matching rows if it is tracked, then the
//! row if the key does not have it.
//!
//! Changes are frozen at barriers and written while the stream goes on. When memory is used up everything is written and dropped; from then on
//! the rows of a key that is not in memory are read when a batch brings the key.

use weir_common::key_group::{KeyGroup, hash_key};
use weir_dataflow::key::KeyEncoder;
use weir_dataflow::{Error, KeyedState, Result, StateTable, StateWrites};

use super::side::{Entry, NONE, Side, SideSpec};
use crate::codec::{Reader, VERSION, put_bytes, put_signed};
use crate::key_table::KeyTable;

/// Entries that one call of `write_frozen` writes: about a millisecond's work. Tests take many parts for few rows.
pub const FROZEN_ENTRIES: usize = if cfg!(test) { 4 } else { 1024 };
/// Entries that are handed over at once: bounds what a flush takes beside the working set.
const WRITE_CHUNK: usize = 1 << 15;
/// Fewer gone entries are not worth a compaction.
const FEW: usize = if cfg!(test) { 8 } else { 4096 };
/// Entries that one tick looks at for those that have expired.
const EXPIRED_A_TICK: usize = 1 << 16;
/// Entries of the state that one tick reads for the same.
const SWEPT_A_TICK: usize = 1 << 13;

/// See the module.
pub struct Store {
    pub keys: KeyTable,
    pub sides: [Side; 2],
    max_parallelism: u32,
    /// What is not in memory is nowhere.
    complete: bool,
    /// Where the search for expired entries goes on.
    expired_to: [u32; 2],
    /// Where the search in the state goes on: table, key group, key.
    swept_to: Option<(usize, KeyGroup, Vec<u8>)>,
}

impl Store {
    /// Empty, with nothing in the state.
    pub fn new(specs: [SideSpec; 2], encoders: [KeyEncoder; 2], max_parallelism: u32) -> Self {
        let [left, right] = encoders;
        Self {
            keys: KeyTable::default(),
            sides: [
                Side::new(specs[0], StateTable(0), left),
                Side::new(specs[1], StateTable(1), right),
            ],
            max_parallelism,
            complete: true,
            expired_to: [0; 2],
            swept_to: None,
        }
    }

    /// Slot of a join key.
    #[inline]
    pub fn slot_of(&mut self, key: &[u8]) -> u32 {
        self.keys.slot_of(key, hash_key(key))
    }

    /// Makes room for all slots, and reads what the state alone has of the keys: of the other input always, of `input` itself if equal
    /// rows are counted.
    pub fn prepare(
        &mut self,
        input: usize,
        slots: &[u32],
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        for side in &mut self.sides {
            side.grow(self.keys.len());
        }
        if self.complete {
            return Ok(());
        }
        for number in 0..2 {
            if number == input && !self.sides[number].spec.counted {
                continue;
            }
            for slot in slots.iter().filter(|slot| **slot != NONE) {
                if !self.sides[number].loaded[*slot as usize] {
                    self.load_key(number, *slot, state)?;
                }
            }
        }
        Ok(())
    }

    fn load_key(&mut self, number: usize, slot: u32, state: &mut dyn KeyedState) -> Result<()> {
        let mut prefix = Vec::new();
        put_bytes(self.keys.key(slot), &mut prefix);
        let group = self.keys.key_group(slot, self.max_parallelism);
        let side = &mut self.sides[number];
        side.loaded[slot as usize] = true;
        state.scan_group(side.table, group, Some(&prefix), &mut |_, key, value| {
            let Some(rest) = key.strip_prefix(prefix.as_slice()) else {
                return Ok(false);
            };
            side.load(slot, &decode(side.spec, rest, value)?);
            Ok(true)
        })
    }

    /// Reads the whole state if it fits in `budget` bytes; else it is read when it is needed.
    pub fn restore(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<()> {
        if state.stored_bytes() > budget as u64 {
            self.complete = false;
            return Ok(());
        }
        for side in &mut self.sides {
            side.first_in_memory = side.next_sequence;
        }
        let (mut fits, mut entries) = (true, 0usize);
        for number in 0..2 {
            if state.is_empty() || !fits {
                break;
            }
            let table = self.sides[number].table;
            state.scan(table, &mut |_, key, value| {
                let mut rest = Reader(key);
                let slot = self.slot_of(rest.bytes()?);
                let spec = self.sides[number].spec;
                for side in &mut self.sides {
                    side.grow(self.keys.len());
                }
                self.sides[number].load(slot, &decode(spec, rest.0, value)?);
                entries += 1;
                fits = !entries.is_multiple_of(1024) || self.memory() < budget;
                Ok(fits)
            })?;
        }
        if !fits {
            self.forget();
        }
        Ok(())
    }

    /// Freezes what changed, in no time. What was frozen before must be written.
    pub fn freeze(&mut self) {
        self.sides.iter_mut().for_each(|side| side.dirty.freeze());
    }

    fn is_frozen(&self) -> bool {
        self.sides
            .iter()
            .any(|side| side.dirty.is_frozen() || !side.thawed.is_empty())
    }

    /// Writes about `limit` of the frozen entries; `true` if more are left.
    pub fn write_frozen(&mut self, limit: usize, state: &mut dyn KeyedState) -> Result<bool> {
        let mut writes = StateWrites::default();
        for side in &mut self.sides {
            writes.entries.append(&mut side.thawed.entries);
        }
        let frozen = self.sides.iter().position(|side| side.dirty.is_frozen());
        if let Some(number) = frozen {
            let (keys, side) = (&self.keys, &mut self.sides[number]);
            let slots = std::mem::take(&mut side.slots);
            let group_of = |entry: u32| keys.key_group(slots[entry as usize], self.max_parallelism);
            let mut entries = side.dirty.take_frozen(limit, group_of);
            let place = |entry: u32| (group_of(entry), keys.key(slots[entry as usize]));
            entries.sort_unstable_by(|a, b| place(*a).cmp(&place(*b)));
            side.slots = slots;
            for entry in entries {
                put(side, entry, keys, self.max_parallelism, &mut writes);
            }
        }
        state.write_behind(writes)?;
        Ok(self.is_frozen())
    }

    /// What was set aside since the last call goes to the state before it takes too much memory.
    pub fn bound_thawed(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        for side in &mut self.sides {
            if side.thawed.entries.len() >= WRITE_CHUNK {
                state.write_behind(std::mem::take(&mut side.thawed))?;
            }
        }
        Ok(())
    }

    /// Before an entry changes: if it is frozen, it is set aside to be written as it is.
    #[inline]
    pub fn thaw(&mut self, number: usize, entry: u32) {
        let side = &mut self.sides[number];
        if side.dirty.is_frozen() && side.dirty.thaw(entry) {
            let mut writes = std::mem::take(&mut side.thawed);
            put(side, entry, &self.keys, self.max_parallelism, &mut writes);
            side.thawed = writes;
        }
    }

    /// A row of a join key comes. `matches`: how many rows of the other input it meets.
    pub fn insert(&mut self, input: usize, slot: u32, row: &[u8], matches: u32, now_ms: i64) {
        let (entry, is_new) = self.sides[input].entry_of(slot, row);
        if !is_new {
            self.thaw(input, entry);
        }
        self.sides[input].add(entry, is_new, matches, now_ms);
    }

    /// A row goes. One that is not there is passed over.
    pub fn remove(&mut self, input: usize, row: &[u8], now_ms: i64) {
        if let Some(entry) = self.sides[input].find(row) {
            self.thaw(input, entry);
            self.sides[input].remove(entry, now_ms);
        }
    }

    /// Another number of matching rows of an entry.
    pub fn set_matches(&mut self, input: usize, entry: u32, matches: u32, now_ms: i64) {
        self.thaw(input, entry);
        self.sides[input].set_matches(entry, matches, now_ms);
    }

    /// Writes what changed, and keeps nothing in memory.
    pub fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.write_all_frozen(state)?;
        state.seal()?;
        self.freeze();
        self.write_all_frozen(state)?;
        state.write(StateWrites::default())?;
        self.forget();
        Ok(())
    }

    fn write_all_frozen(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        while self.is_frozen() && self.write_frozen(WRITE_CHUNK, state)? {}
        Ok(())
    }

    fn forget(&mut self) {
        self.keys.clear();
        self.sides = [0, 1].map(|number| {
            let mut side = self.sides[number].emptied();
            side.first_in_memory = side.next_sequence;
            side
        });
        (self.complete, self.expired_to) = (false, [0; 2]);
    }

    /// Ends some entries whose time has come.
    pub fn expire(&mut self, now_ms: i64, state: &mut dyn KeyedState) -> Result<()> {
        for number in 0..2 {
            if self.sides[number].spec.ttl_ms == 0 {
                continue;
            }
            let from = self.expired_to[number];
            let end = (from as usize + EXPIRED_A_TICK).min(self.sides[number].len()) as u32;
            for entry in from..end {
                let side = &self.sides[number];
                if side.count(entry) > 0 && side.is_expired(entry, now_ms) {
                    self.thaw(number, entry);
                    self.sides[number].end(entry);
                }
            }
            let done = end as usize == self.sides[number].len();
            self.expired_to[number] = if done { 0 } else { end };
        }
        self.bound_thawed(state)?;
        if self.is_mostly_dead() {
            return self.compact(state);
        }
        if !self.complete && !self.is_frozen() {
            self.sweep(now_ms, state)?;
        }
        Ok(())
    }

    /// Deletes some of the expired entries that are in the state only. What is in memory of an entry is newer, and is written later.
    fn sweep(&mut self, now_ms: i64, state: &mut dyn KeyedState) -> Result<()> {
        let groups = state.key_groups();
        let (number, group, from) = self
            .swept_to
            .take()
            .unwrap_or((0, groups.first, Vec::new()));
        let spec = self.sides[number].spec;
        let table = self.sides[number].table;
        let mut writes = StateWrites::default();
        let (mut seen, mut next) = (0, None);
        if spec.ttl_ms > 0 {
            state.scan_group(table, group, Some(&from), &mut |_, key, value| {
                seen += 1;
                if seen > SWEPT_A_TICK {
                    next = Some(key.to_vec());
                    return Ok(false);
                }
                if Reader::new(value)?.signed()? + spec.ttl_ms as i64 <= now_ms {
                    writes.delete(table, group, key.to_vec());
                }
                Ok(true)
            })?;
        }
        self.swept_to = match next {
            Some(key) => Some((number, group, key)),
            None if group < groups.last => Some((number, group + 1, Vec::new())),
            None => Some((1 - number, groups.first, Vec::new())),
        };
        if writes.is_empty() {
            return Ok(());
        }
        state.seal()?;
        state.write(writes)
    }

    /// Most entries in memory are gone: time for [`Self::compact`].
    pub fn is_mostly_dead(&self) -> bool {
        let dead: usize = self.sides.iter().map(Side::dead).sum();
        let all: usize = self.sides.iter().map(Side::len).sum();
        dead > FEW && dead * 2 > all
    }

    /// Rebuilds the working set without the entries that are gone, and the keys that have no others.
    pub fn compact(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.write_all_frozen(state)?;
        state.seal()?;
        let old = std::mem::take(&mut self.keys);
        let mut writes = StateWrites::default();
        for number in 0..2 {
            let mut side = self.sides[number].emptied();
            let before = &mut self.sides[number];
            for entry in 0..before.len() as u32 {
                let (count, slot) = (before.count(entry), before.slots[entry as usize]);
                if count == 0 {
                    if before.stored[entry as usize] && before.dirty.is_changed(entry) {
                        put(before, entry, &old, self.max_parallelism, &mut writes);
                    }
                    continue;
                }
                let to = self.keys.slot_of(old.key(slot), old.hash(slot));
                side.grow(self.keys.len());
                side.loaded[to as usize] = before.loaded[slot as usize];
                let (stored, changed) = (
                    before.stored[entry as usize],
                    before.dirty.is_changed(entry),
                );
                side.take_over(to, &before.entry(entry), stored, changed);
            }
            self.sides[number] = side;
        }
        self.expired_to = [0; 2];
        for side in &mut self.sides {
            side.grow(self.keys.len());
        }
        state.write(writes)
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.keys.memory() + self.sides.iter().map(Side::memory).sum::<usize>()
    }

    /// Can't grow much more.
    pub fn is_full(&self) -> bool {
        self.keys.is_full() || self.sides.iter().any(Side::is_full)
    }
}

fn broken() -> Error {
    Error::State("an entry of a join's state is broken".to_owned())
}

fn decode<'a>(spec: SideSpec, key: &'a [u8], value: &'a [u8]) -> Result<Entry<'a>> {
    let mut value = Reader::new(value)?;
    let number = |value: i64| u32::try_from(value).map_err(|_| broken());
    let touched_ms = value.signed()?;
    let count = number(value.signed()?)?;
    let matches = match spec.tracks_matches {
        true => number(value.signed()?)?,
        false => 0,
    };
    let (row, sequence) = match spec.counted {
        true => (key, 0),
        false => {
            let sequence = key.try_into().map_err(|_| broken())?;
            (value.0, u64::from_be_bytes(sequence))
        }
    };
    Ok(Entry {
        row,
        sequence,
        count,
        matches,
        touched_ms,
    })
}

/// Adds what the state is to have of an entry.
fn put(
    side: &mut Side,
    entry: u32,
    keys: &KeyTable,
    max_parallelism: u32,
    writes: &mut StateWrites,
) {
    let slot = side.slots[entry as usize];
    let group: KeyGroup = keys.key_group(slot, max_parallelism);
    let join_key = keys.key(slot);
    let shown = side.entry(entry);
    let mut key = Vec::with_capacity(join_key.len() + shown.row.len() + 8);
    put_bytes(join_key, &mut key);
    match side.spec.counted {
        true => key.extend_from_slice(shown.row),
        false => key.extend_from_slice(&shown.sequence.to_be_bytes()),
    }
    if shown.count == 0 {
        if side.stored[entry as usize] {
            writes.delete(side.table, group, key);
            side.stored[entry as usize] = false;
        }
        return;
    }
    let mut value = vec![VERSION];
    put_signed(shown.touched_ms, &mut value);
    put_signed(i64::from(shown.count), &mut value);
    if side.spec.tracks_matches {
        put_signed(i64::from(shown.matches), &mut value);
    }
    if !side.spec.counted {
        value.extend_from_slice(shown.row);
    }
    writes.put(side.table, group, key, value);
    side.stored[entry as usize] = true;
}
