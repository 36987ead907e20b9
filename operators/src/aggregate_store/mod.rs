//! The working set of an aggregation (all groups, or those of a slice of time), and its way to and from keyed state.
//!
//! State tables, all under the key group of the group's key. In front of every key stands the store's prefix: nothing, or the slice of time.
//! * 0: key → version, accumulators;
//! * 1: length of key, key, number of the distinct set, value → version, marks;
//! * 2: length of key, key, number of the primitive, name of the value → version, value: of aggregates that keep values (MIN, MAX, FIRST_VALUE
//!   and LAST_VALUE of an input that retracts: ARRAY_AGG and COLLECT of any).
//!
//! Changes are frozen at barriers and written while the stream goes on. When memory is used up they are written, too, and the working set is
//! dropped; from then on a key that is not in memory is looked up, with one read a batch and table. As long as that has not happened, what is
//! not in memory is nowhere.

mod save;
mod sessions;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use weir_common::key_group::{KeyGroup, hash_key};
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::state::StateRange;
use weir_dataflow::{Error, KeyedState, Result, StateTable, StateWrites};

use crate::accumulator::{Accumulators, AggregatePlan, Prepared};
use crate::codec::{Reader, put_bytes};
use crate::dirty::DirtySet;
use crate::key_table::KeyTable;

pub use save::FROZEN_ENTRIES;

/// Accumulators.
pub const GROUPS: StateTable = StateTable(0);
/// Distinct values.
pub const DISTINCT: StateTable = StateTable(1);
/// Values that aggregates keep.
pub const VALUES: StateTable = StateTable(2);

/// Groups in memory.
pub struct AggregateStore {
    plan: Arc<AggregatePlan>,
    max_parallelism: u32,
    prefix: Vec<u8>,
    /// So many first bytes of a key do not decide its key group.
    unhashed: usize,
    keys: KeyTable,
    accumulators: Accumulators,
    /// The group exists: rows of it are there.
    alive: Vec<bool>,
    /// Not in the state when it came into memory: none of its entries is.
    fresh: Vec<bool>,
    dirty: DirtySet,
    /// Frozen entries that have changed since, as they were.
    thawed: StateWrites,
    dead: usize,
    /// Whatever is not in memory is not in the state either.
    complete: bool,
    /// Key groups in which something was written.
    stored: BTreeSet<KeyGroup>,
    /// Of slots below this one all values are in memory.
    complete_below: u32,
}

impl AggregateStore {
    /// Empty, and nothing under its prefix in the state.
    pub fn new(plan: Arc<AggregatePlan>, max_parallelism: u32, prefix: Vec<u8>) -> Result<Self> {
        Ok(Self {
            accumulators: Accumulators::new(&plan)?,
            plan,
            max_parallelism,
            prefix,
            unhashed: 0,
            keys: KeyTable::default(),
            alive: Vec::new(),
            fresh: Vec::new(),
            dirty: DirtySet::default(),
            thawed: StateWrites::default(),
            dead: 0,
            complete: true,
            stored: BTreeSet::new(),
            complete_below: 0,
        })
    }

    /// Reads the whole state if it fits in `budget` bytes; else it is read when it is needed. A start does not wait for the reading of what
    /// clearly does not fit. Only for a store without a prefix.
    pub fn restore(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<()> {
        if state.stored_bytes() > budget as u64 {
            return self.spill();
        }
        let (mut fits, mut entries) = (true, 0usize);
        for table in self.tables() {
            if state.is_empty() || !fits {
                break;
            }
            state.scan(table, &mut |_, key, value| {
                self.load_entry(table, key, value)?;
                entries += 1;
                fits = !entries.is_multiple_of(1024) || self.memory() < budget;
                Ok(fits)
            })?;
        }
        if fits { Ok(()) } else { self.spill() }
    }

    /// The layout.
    pub fn plan(&self) -> &Arc<AggregatePlan> {
        &self.plan
    }

    /// The keys in memory.
    pub fn keys(&self) -> &KeyTable {
        &self.keys
    }

    /// The accumulators.
    pub fn accumulators(&self) -> &Accumulators {
        &self.accumulators
    }

    /// Whether the group of a slot exists.
    pub fn is_alive(&self, slot: u32) -> bool {
        self.alive[slot as usize]
    }

    /// After a change: whether the group exists now. One that ends is back to nothing.
    pub fn set_alive(&mut self, slot: u32, alive: bool) {
        let before = std::mem::replace(&mut self.alive[slot as usize], alive);
        if before && !alive {
            self.dead += 1;
        } else if !before && alive {
            self.dead = self.dead.saturating_sub(1);
        }
        if !alive {
            self.accumulators.reset(slot);
        }
        self.dirty.mark(slot);
    }

    /// Slots of keys, with what the state knows about them.
    pub fn resolve(
        &mut self,
        keys: &EncodedKeys,
        hashes: &[u64],
        slots: &mut Vec<u32>,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        let first_new = self.keys.resolve(keys, hashes, slots);
        self.grow();
        if self.complete || self.keys.len() as u32 == first_new {
            return Ok(());
        }
        let new = first_new..self.keys.len() as u32;
        let entries: Vec<Vec<u8>> = new.clone().map(|slot| self.group_key(slot)).collect();
        let wanted = new.clone().zip(&entries);
        let wanted: Vec<(KeyGroup, &[u8])> = wanted
            .map(|(slot, key)| (self.group_of(slot), key.as_slice()))
            .collect();
        let found = state.multi_get(GROUPS, &wanted)?;
        for (slot, value) in new.zip(found) {
            if let Some(value) = value {
                self.load_slot(slot, &value)?;
                self.load_values(slot, state)?;
            }
        }
        Ok(())
    }

    /// Counts rows (or partial results, if the plan says so) into the slots that [`Self::resolve`] gave.
    pub fn count(
        &mut self,
        batch: &arrow::array::RecordBatch,
        signs: Option<&[i8]>,
        slots: &[u32],
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        self.thaw_groups(slots, state)?;
        if let Some(columns) = &self.plan.partials {
            let partials: Vec<ArrayRef> =
                columns.iter().map(|c| batch.column(*c).clone()).collect();
            return self.accumulators.merge(slots, &partials);
        }
        let prepared = self.accumulators.prepare(&self.plan, batch, signs, slots)?;
        self.load_distinct(&prepared, state)?;
        self.thaw_distinct(&prepared, state)?;
        self.accumulators.apply(&self.plan, batch, &prepared, slots)
    }

    /// As [`Self::count`] for rows that are all added; gives the partial results of each row's slot behind that row.
    pub fn scan(
        &mut self,
        batch: &arrow::array::RecordBatch,
        slots: &[u32],
        state: &mut dyn KeyedState,
    ) -> Result<Vec<ArrayRef>> {
        self.thaw_groups(slots, state)?;
        let prepared = self.accumulators.prepare(&self.plan, batch, None, slots)?;
        self.load_distinct(&prepared, state)?;
        self.thaw_distinct(&prepared, state)?;
        let partials = self
            .accumulators
            .scan(&self.plan, batch, &prepared, slots)?;
        for slot in slots {
            self.set_alive(*slot, true);
        }
        Ok(partials)
    }

    fn grow(&mut self) {
        let length = self.keys.len();
        self.accumulators.grow(length);
        self.alive.resize(length, false);
        self.fresh.resize(length, true);
        self.dirty.grow(length);
    }

    fn hash(&self, key: &[u8]) -> Result<u64> {
        let hashed = key.get(self.unhashed..);
        hashed
            .map(hash_key)
            .ok_or_else(|| Error::State("a key of an aggregation's state is broken".to_owned()))
    }

    fn group_of(&self, slot: u32) -> KeyGroup {
        self.keys.key_group(slot, self.max_parallelism)
    }

    fn group_key(&self, slot: u32) -> Vec<u8> {
        [self.prefix.as_slice(), self.keys.key(slot)].concat()
    }

    /// Of the group's entry `number` in one of the other tables; the value follows.
    fn entry_key(&self, slot: u32, number: usize) -> Vec<u8> {
        let key = self.keys.key(slot);
        let mut out = Vec::with_capacity(self.prefix.len() + key.len() + 24);
        out.extend_from_slice(&self.prefix);
        put_bytes(key, &mut out);
        out.push(number as u8);
        out
    }

    fn distinct_key(&self, number: usize, id: u32) -> Vec<u8> {
        let set = &self.accumulators.sets()[number];
        let mut out = self.entry_key(set.group(id), number);
        set.put_value(id, &mut out);
        out
    }

    fn load_slot(&mut self, slot: u32, value: &[u8]) -> Result<()> {
        self.accumulators.decode(slot, &mut Reader::new(value)?)?;
        self.alive[slot as usize] = true;
        self.fresh[slot as usize] = false;
        Ok(())
    }

    fn load_values(&mut self, slot: u32, state: &mut dyn KeyedState) -> Result<()> {
        if !self.plan.has_entries() {
            return Ok(());
        }
        let group = self.group_of(slot);
        for number in 0..self.plan.storages.len() {
            if !self.accumulators.columns()[number].has_entries() {
                continue;
            }
            let prefix = self.entry_key(slot, number);
            let column = &mut self.accumulators.columns_mut()[number];
            state.scan_group(VALUES, group, Some(&prefix), &mut |_, key, value| {
                let Some(name) = key.strip_prefix(prefix.as_slice()) else {
                    return Ok(false);
                };
                column.load_entry(slot, name, &mut Reader::new(value)?)?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// What the state knows about distinct values that a batch brought into memory.
    fn load_distinct(&mut self, prepared: &Prepared, state: &mut dyn KeyedState) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        for (number, first_new) in prepared.first_new.iter().enumerate() {
            let set = &self.accumulators.sets()[number];
            let is_stored = |id: &u32| !self.fresh[set.group(*id) as usize];
            let ids: Vec<u32> = (*first_new..set.len() as u32).filter(is_stored).collect();
            if ids.is_empty() {
                continue;
            }
            let keys: Vec<Vec<u8>> = ids
                .iter()
                .map(|id| self.distinct_key(number, *id))
                .collect();
            let wanted = ids.iter().zip(&keys);
            let wanted: Vec<(KeyGroup, &[u8])> = wanted
                .map(|(id, key)| (self.group_of(set.group(*id)), key.as_slice()))
                .collect();
            let found = state.multi_get(DISTINCT, &wanted)?;
            let set = &mut self.accumulators.sets_mut()[number];
            for (id, value) in ids.into_iter().zip(found) {
                if let Some(value) = value {
                    set.decode(id, &mut Reader::new(&value)?)?;
                }
            }
        }
        Ok(())
    }

    /// An entry of the state, its key without the prefix. What is in memory is newer, and stays.
    pub fn load_entry(&mut self, table: StateTable, entry: &[u8], value: &[u8]) -> Result<()> {
        let known = self.keys.len() as u32;
        if table == GROUPS {
            let hash = self.hash(entry)?;
            let slot = self.keys.slot_of(entry, hash);
            self.grow();
            self.stored.insert(self.group_of(slot));
            return if slot >= known {
                self.load_slot(slot, value)
            } else {
                Ok(())
            };
        }
        let mut entry = Reader(entry);
        let key = entry.bytes()?;
        let number = usize::from(entry.byte()?);
        let slot = self.keys.slot_of(key, self.hash(key)?);
        if slot >= known {
            return Err(Error::State(
                "an entry of a group that does not exist".to_owned(),
            ));
        }
        let mut value = Reader::new(value)?;
        if table == DISTINCT {
            if let Some(set) = self.accumulators.sets_mut().get_mut(number) {
                set.load(slot, entry.0, &mut value)?;
            }
        } else if slot >= self.complete_below
            && let Some(column) = self.accumulators.columns_mut().get_mut(number)
        {
            column.load_entry(slot, entry.0, &mut value)?;
        }
        Ok(())
    }

    /// Some entries are in the state only. `groups`: where they are.
    pub fn set_incomplete(&mut self, groups: impl IntoIterator<Item = KeyGroup>) {
        self.complete = false;
        self.stored.extend(groups);
    }

    /// The tables that entries of this store may be in; a group comes before what belongs to it.
    pub fn tables(&self) -> Vec<StateTable> {
        tables(&self.plan)
    }

    /// Reads what is in the state only.
    pub fn load_rest(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        let prefix = self.prefix.clone();
        self.complete_below = self.keys.len() as u32;
        for table in self.tables() {
            for group in self.stored.clone() {
                state.scan_group(table, group, Some(&prefix), &mut |_, key, value| {
                    let Some(entry) = key.strip_prefix(prefix.as_slice()) else {
                        return Ok(false);
                    };
                    self.load_entry(table, entry, value)?;
                    Ok(true)
                })?;
            }
        }
        self.complete = true;
        Ok(())
    }

    /// Adds the deletion of all of this store's entries to `writes`. Only for a store with a prefix.
    pub fn delete(&self, writes: &mut StateWrites) {
        for table in self.tables() {
            writes
                .deleted_ranges
                .extend(self.stored.iter().map(|group| StateRange {
                    table,
                    key_group: *group,
                    from: self.prefix.clone(),
                    to: following(&self.prefix),
                }));
        }
    }

    /// Forgets the working set, of which everything is written.
    pub fn spill(&mut self) -> Result<()> {
        self.complete = false;
        self.clear()
    }

    /// Forgets the working set, also what was never written.
    pub fn clear(&mut self) -> Result<()> {
        self.keys.clear();
        self.accumulators = Accumulators::new(&self.plan)?;
        (self.alive, self.fresh, self.dirty) = Default::default();
        (self.dead, self.complete_below) = (0, 0);
        Ok(())
    }

    /// What is left of a store that is done with: keys and accumulators by slot.
    pub fn into_parts(self) -> (KeyTable, Accumulators) {
        (self.keys, self.accumulators)
    }

    /// Most groups in memory do not exist any more.
    pub fn is_mostly_dead(&self) -> bool {
        self.dead > 1024 && self.dead * 2 > self.keys.len()
    }

    /// Key columns of slots.
    pub fn decode_keys(&self, encoder: &KeyEncoder, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let keys: Vec<&[u8]> = slots.iter().map(|slot| self.keys.key(*slot)).collect();
        encoder.decode(&keys)
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.keys.memory()
            + self.accumulators.memory()
            + self.alive.capacity() * 2
            + self.dirty.memory()
    }

    /// The table of keys can't grow much more.
    pub fn is_full(&self) -> bool {
        self.keys.is_full()
    }
}

/// The tables that entries of an aggregation may be in; a group comes before what belongs to it.
pub fn tables(plan: &AggregatePlan) -> Vec<StateTable> {
    let distinct = (!plan.sets.is_empty()).then_some(DISTINCT);
    let values = plan.has_entries().then_some(VALUES);
    [Some(GROUPS), distinct, values]
        .into_iter()
        .flatten()
        .collect()
}

/// The first key behind all keys with this prefix; `None` if there is none.
fn following(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}
