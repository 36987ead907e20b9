//! The working set of a group aggregation, and its way to and from keyed state.
//!
//! State tables, all under the key group of the group's key:
//! * 0: key → version, accumulators;
//! * 1: length of key, key, number of the distinct set, value → version, marks;
//! * 2: length of key, key, number of the primitive, value → version, count (MIN and MAX of an input that retracts).
//!
//! Changes are written at barriers. When memory is used up they are written, too, and the working set is dropped; from then on a key that is not
//! in memory is looked up, with one read a batch and table. As long as that has not happened, what is not in memory is nowhere.

use arrow::array::ArrayRef;
use weir_common::key_group::{KeyGroup, hash_key};
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{KeyedState, Result, StateTable, StateWrites};

use crate::accumulator::{Accumulators, AggregatePlan, Column, Prepared};
use crate::codec::{Reader, VERSION, put_bytes, put_signed};
use crate::key_table::KeyTable;

const GROUPS: StateTable = StateTable(0);
const DISTINCT: StateTable = StateTable(1);
const MULTISETS: StateTable = StateTable(2);
/// Changes that are handed over at once: bounds what a flush takes beside the working set.
const WRITE_CHUNK: usize = 1 << 15;

/// Groups in memory.
pub struct GroupStore {
    plan: AggregatePlan,
    max_parallelism: u32,
    keys: KeyTable,
    accumulators: Accumulators,
    /// The group exists: rows of it are there.
    alive: Vec<bool>,
    /// Not in the state when it came into memory: none of its entries is.
    fresh: Vec<bool>,
    dirty: Vec<bool>,
    changed: Vec<u32>,
    dead: usize,
    /// Whatever is not in memory is not in the state either.
    complete: bool,
}

impl GroupStore {
    /// Without groups; all of the state is to be read when it is needed.
    pub fn new(plan: AggregatePlan, max_parallelism: u32) -> Result<Self> {
        Ok(Self {
            accumulators: Accumulators::new(&plan)?,
            plan,
            max_parallelism,
            keys: KeyTable::default(),
            alive: Vec::new(),
            fresh: Vec::new(),
            dirty: Vec::new(),
            changed: Vec::new(),
            dead: 0,
            complete: true,
        })
    }

    /// The layout.
    pub fn plan(&self) -> &AggregatePlan {
        &self.plan
    }

    /// The accumulators.
    pub fn accumulators(&self) -> &Accumulators {
        &self.accumulators
    }

    /// The accumulators, with their layout.
    pub fn accumulators_mut(&mut self) -> (&mut Accumulators, &AggregatePlan) {
        (&mut self.accumulators, &self.plan)
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
        if !self.dirty[slot as usize] {
            self.dirty[slot as usize] = true;
            self.changed.push(slot);
        }
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
        let wanted: Vec<(KeyGroup, &[u8])> = new
            .clone()
            .map(|slot| (self.group_of(slot), self.keys.key(slot)))
            .collect();
        let found = state.multi_get(GROUPS, &wanted)?;
        for (slot, value) in new.zip(found) {
            if let Some(value) = value {
                self.accumulators.decode(slot, &mut Reader::new(&value)?)?;
                self.alive[slot as usize] = true;
                self.fresh[slot as usize] = false;
                self.load_multisets(slot, state)?;
            }
        }
        Ok(())
    }

    fn grow(&mut self) {
        let length = self.keys.len();
        self.accumulators.grow(length);
        self.alive.resize(length, false);
        self.fresh.resize(length, true);
        self.dirty.resize(length, false);
    }

    fn group_of(&self, slot: u32) -> KeyGroup {
        self.keys.key_group(slot, self.max_parallelism)
    }

    fn load_multisets(&mut self, slot: u32, state: &mut dyn KeyedState) -> Result<()> {
        if !self.plan.retracts {
            return Ok(());
        }
        let (group, mut prefix) = (self.group_of(slot), Vec::new());
        put_bytes(self.keys.key(slot), &mut prefix);
        for (index, column) in self.accumulators.columns_mut().iter_mut().enumerate() {
            let Column::Multiset(multiset) = column else {
                continue;
            };
            prefix.push(index as u8);
            state.scan_group(MULTISETS, group, Some(&prefix), &mut |_, key, value| {
                let Some(item) = key.strip_prefix(prefix.as_slice()) else {
                    return Ok(false);
                };
                multiset.load(slot, item, Reader::new(value)?.signed()?)?;
                Ok(true)
            })?;
            prefix.pop();
        }
        Ok(())
    }

    /// What the state knows about distinct values that a batch brought into memory.
    pub fn load_distinct(&mut self, prepared: &Prepared, state: &mut dyn KeyedState) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        for (number, first_new) in prepared.first_new.iter().enumerate() {
            let set = &self.accumulators.sets()[number];
            let ids: Vec<u32> = (*first_new..set.len() as u32)
                .filter(|id| !self.fresh[set.group(*id) as usize])
                .collect();
            let keys: Vec<Vec<u8>> = ids
                .iter()
                .map(|id| self.distinct_key(number, *id))
                .collect();
            let wanted: Vec<(KeyGroup, &[u8])> = ids
                .iter()
                .zip(&keys)
                .map(|(id, key)| (self.group_of(set.group(*id)), key.as_slice()))
                .collect();
            let found = if wanted.is_empty() {
                Vec::new()
            } else {
                state.multi_get(DISTINCT, &wanted)?
            };
            let set = &mut self.accumulators.sets_mut()[number];
            for (id, value) in ids.into_iter().zip(found) {
                if let Some(value) = value {
                    set.decode(id, &mut Reader::new(&value)?)?;
                }
            }
        }
        Ok(())
    }

    fn distinct_key(&self, number: usize, id: u32) -> Vec<u8> {
        let set = &self.accumulators.sets()[number];
        let key = self.keys.key(set.group(id));
        let mut out = Vec::with_capacity(key.len() + 24);
        put_bytes(key, &mut out);
        out.push(number as u8);
        set.put_value(id, &mut out);
        out
    }

    /// Reads all of the state if it fits in `budget` bytes; else it is read when it is needed.
    pub fn restore(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        self.complete = self.load_all(budget, state)?;
        if !self.complete {
            self.drop_all()?;
        }
        Ok(())
    }

    fn load_all(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<bool> {
        let (mut fits, mut seen) = (true, 0usize);
        let mut check = move |memory: &dyn Fn() -> usize| {
            seen += 1;
            seen % 1024 != 0 || memory() < budget
        };
        state.scan(GROUPS, &mut |_, key, value| {
            let slot = self.keys.slot_of(key, hash_key(key));
            self.grow();
            self.accumulators.decode(slot, &mut Reader::new(value)?)?;
            self.alive[slot as usize] = true;
            self.fresh[slot as usize] = false;
            fits = check(&|| self.memory());
            Ok(fits)
        })?;
        for table in [DISTINCT, MULTISETS] {
            if !fits {
                return Ok(false);
            }
            state.scan(table, &mut |_, entry, value| {
                let mut entry = Reader(entry);
                let key = entry.bytes()?;
                let number = usize::from(entry.byte()?);
                let slot = self.keys.slot_of(key, hash_key(key));
                self.grow();
                let mut value = Reader::new(value)?;
                if table == DISTINCT {
                    if let Some(set) = self.accumulators.sets_mut().get_mut(number) {
                        set.load(slot, entry.0, &mut value)?;
                    }
                } else if let Some(Column::Multiset(multiset)) =
                    self.accumulators.columns_mut().get_mut(number)
                {
                    multiset.load(slot, entry.0, value.signed()?)?;
                }
                fits = check(&|| self.memory());
                Ok(fits)
            })?;
        }
        Ok(fits)
    }

    /// Writes what changed. Drops what is dead when that is most of the working set.
    pub fn flush(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        let mut writes = StateWrites::default();
        self.flush_groups(&mut writes, state)?;
        self.flush_distinct(&mut writes, state)?;
        self.flush_multisets(&mut writes, state)?;
        if !writes.is_empty() {
            state.write(writes)?;
        }
        if self.dead > 1024 && self.dead * 2 > self.keys.len() {
            self.spill()?;
        }
        Ok(())
    }

    fn flush_groups(&mut self, writes: &mut StateWrites, state: &mut dyn KeyedState) -> Result<()> {
        let mut slots = std::mem::take(&mut self.changed);
        slots.sort_unstable_by(|a, b| {
            let of = |slot: u32| (self.group_of(slot), self.keys.key(slot));
            of(*a).cmp(&of(*b))
        });
        for slot in slots {
            self.dirty[slot as usize] = false;
            let (group, key) = (self.group_of(slot), self.keys.key(slot).to_vec());
            if self.alive[slot as usize] {
                let mut value = vec![VERSION];
                self.accumulators.encode(slot, &mut value);
                writes.put(GROUPS, group, key, value);
            } else {
                writes.delete(GROUPS, group, key);
            }
            hand_over(writes, state)?;
        }
        Ok(())
    }

    fn flush_distinct(
        &mut self,
        writes: &mut StateWrites,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        for number in 0..self.accumulators.sets().len() {
            let mut ids = self.accumulators.sets_mut()[number].drain_changes();
            let set = &self.accumulators.sets()[number];
            ids.sort_unstable_by_key(|id| (self.group_of(set.group(*id)), set.group(*id)));
            for id in ids {
                let (group, key) = (self.group_of(set.group(id)), self.distinct_key(number, id));
                let mut value = vec![VERSION];
                if set.encode(id, &mut value) {
                    writes.put(DISTINCT, group, key, value);
                } else {
                    writes.delete(DISTINCT, group, key);
                }
                hand_over(writes, state)?;
            }
        }
        Ok(())
    }

    fn flush_multisets(
        &mut self,
        writes: &mut StateWrites,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        for number in 0..self.accumulators.columns_mut().len() {
            let Column::Multiset(multiset) = &mut self.accumulators.columns_mut()[number] else {
                continue;
            };
            for (slot, item, count) in multiset.drain_changes() {
                let (group, mut key) = (self.group_of(slot), Vec::new());
                put_bytes(self.keys.key(slot), &mut key);
                key.push(number as u8);
                key.extend_from_slice(&item);
                if count == 0 {
                    writes.delete(MULTISETS, group, key);
                } else {
                    let mut value = vec![VERSION];
                    put_signed(count, &mut value);
                    writes.put(MULTISETS, group, key, value);
                }
                hand_over(writes, state)?;
            }
        }
        Ok(())
    }

    /// Key columns of all groups, by slot.
    pub fn decode_keys(&self, encoder: &KeyEncoder) -> Result<Vec<ArrayRef>> {
        let keys: Vec<&[u8]> = (0..self.keys.len() as u32)
            .map(|slot| self.keys.key(slot))
            .collect();
        encoder.decode(&keys)
    }

    /// Forgets everything, also what was never written.
    pub fn clear(&mut self) -> Result<()> {
        self.drop_all()
    }

    /// Forgets the working set, of which everything is written.
    pub fn spill(&mut self) -> Result<()> {
        self.complete = false;
        self.drop_all()
    }

    fn drop_all(&mut self) -> Result<()> {
        self.keys.clear();
        self.accumulators = Accumulators::new(&self.plan)?;
        (self.alive, self.fresh, self.dirty, self.changed) = Default::default();
        self.dead = 0;
        Ok(())
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.keys.memory()
            + self.accumulators.memory()
            + self.alive.capacity() * 3
            + self.changed.capacity() * 4
    }

    /// The table of keys can't grow much more.
    pub fn is_full(&self) -> bool {
        self.keys.is_full()
    }
}

fn hand_over(writes: &mut StateWrites, state: &mut dyn KeyedState) -> Result<()> {
    if writes.entries.len() >= WRITE_CHUNK {
        state.write(std::mem::take(writes))?;
    }
    Ok(())
}
