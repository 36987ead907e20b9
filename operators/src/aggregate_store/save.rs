//! What changed on its way to keyed state: frozen at a barrier, then written in small parts while the stream goes on.

use weir_dataflow::{KeyedState, Result, StateWrites};

use super::{AggregateStore, DISTINCT, GROUPS, VALUES};
use crate::accumulator::{Column, NO_ENTRY, Prepared};
use crate::codec::VERSION;

/// Entries that one call of an operator's `write_frozen` writes: about a millisecond's work. Tests take many parts for few rows.
pub const FROZEN_ENTRIES: usize = if cfg!(test) { 4 } else { 1024 };
/// Entries that are handed over at once: bounds what a flush takes beside the working set.
const WRITE_CHUNK: usize = 1 << 15;

impl AggregateStore {
    /// Freezes what changed, in no time. What was frozen before must be written.
    pub fn freeze(&mut self) {
        self.dirty.freeze();
        for set in self.accumulators.sets_mut() {
            set.freeze();
        }
        for column in self.accumulators.columns_mut() {
            column.freeze();
        }
    }

    /// Something frozen is left to be written.
    pub fn is_frozen(&self) -> bool {
        !self.thawed.is_empty()
            || self.dirty.is_frozen()
            || self.accumulators.sets().iter().any(|set| set.is_frozen())
            || self.frozen_column().is_some()
    }

    /// A column with frozen entries.
    fn frozen_column(&self) -> Option<usize> {
        let mut columns = self.accumulators.columns().iter();
        columns.position(Column::is_frozen)
    }

    /// Writes about `limit` of the frozen entries; `true` if more are left.
    pub fn write_frozen(&mut self, limit: usize, state: &mut dyn KeyedState) -> Result<bool> {
        let mut writes = std::mem::take(&mut self.thawed);
        let sets = self.accumulators.sets();
        if self.dirty.is_frozen() {
            self.take_groups(limit, &mut writes);
        } else if let Some(number) = sets.iter().position(|set| set.is_frozen()) {
            self.take_distinct(number, limit, &mut writes);
        } else if let Some(number) = self.frozen_column() {
            self.take_entries(number, limit, &mut writes);
        }
        state.write_behind(writes)?;
        Ok(self.is_frozen())
    }

    /// Writes all that is frozen, if anything is.
    pub fn write_all_frozen(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        while self.is_frozen() && self.write_frozen(WRITE_CHUNK, state)? {}
        Ok(())
    }

    /// Writes all that changed, for reads to see. What is frozen for a snapshot must be written before.
    pub fn flush(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.freeze();
        self.write_all_frozen(state)?;
        state.write(StateWrites::default())
    }

    /// Before groups change: what is frozen of them is set aside to be written.
    pub(super) fn thaw_groups(&mut self, slots: &[u32], state: &mut dyn KeyedState) -> Result<()> {
        if !self.dirty.is_frozen() {
            return Ok(());
        }
        let mut writes = std::mem::take(&mut self.thawed);
        for slot in slots {
            if self.dirty.thaw(*slot) {
                self.put_group(*slot, &mut writes);
            }
        }
        self.set_aside(writes, state)
    }

    /// As [`Self::thaw_groups`], for the distinct values of a batch.
    pub(super) fn thaw_distinct(
        &mut self,
        prepared: &Prepared,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        let mut writes = std::mem::take(&mut self.thawed);
        for (number, ids) in prepared.entries().iter().enumerate() {
            if !self.accumulators.sets()[number].is_frozen() {
                continue;
            }
            for id in ids.iter().filter(|id| **id != NO_ENTRY) {
                if self.accumulators.sets_mut()[number].thaw(*id) {
                    self.put_distinct(number, *id, &mut writes);
                }
            }
        }
        self.set_aside(writes, state)
    }

    fn set_aside(&mut self, writes: StateWrites, state: &mut dyn KeyedState) -> Result<()> {
        if writes.entries.len() < WRITE_CHUNK {
            self.thawed = writes;
            return Ok(());
        }
        state.write_behind(writes)
    }

    fn take_groups(&mut self, limit: usize, writes: &mut StateWrites) {
        let (keys, max_parallelism) = (&self.keys, self.max_parallelism);
        let group_of = |slot| keys.key_group(slot, max_parallelism);
        let mut slots = self.dirty.take_frozen(limit, group_of);
        let place = |slot: u32| (group_of(slot), keys.key(slot));
        slots.sort_unstable_by(|a, b| place(*a).cmp(&place(*b)));
        for slot in slots {
            self.put_group(slot, writes);
        }
    }

    fn take_distinct(&mut self, number: usize, limit: usize, writes: &mut StateWrites) {
        let (keys, max_parallelism) = (&self.keys, self.max_parallelism);
        let group_of = |slot| keys.key_group(slot, max_parallelism);
        let set = &mut self.accumulators.sets_mut()[number];
        let mut ids = set.take_frozen(limit, group_of);
        ids.sort_unstable_by_key(|id| (group_of(set.group(*id)), set.group(*id)));
        for id in ids {
            self.put_distinct(number, id, writes);
        }
    }

    fn take_entries(&mut self, number: usize, limit: usize, writes: &mut StateWrites) {
        let Some(column) = self.accumulators.columns_mut().get_mut(number) else {
            return;
        };
        for (slot, name, entry) in column.take_frozen(limit) {
            let mut key = self.entry_key(slot, number);
            key.extend_from_slice(&name);
            let group = self.group_of(slot);
            match entry {
                None => writes.delete(VALUES, group, key),
                Some(entry) => {
                    self.stored.insert(group);
                    writes.put(VALUES, group, key, [&[VERSION], entry.as_slice()].concat());
                }
            }
        }
    }

    fn put_group(&mut self, slot: u32, writes: &mut StateWrites) {
        let (group, key) = (self.group_of(slot), self.group_key(slot));
        self.stored.insert(group);
        if self.alive[slot as usize] {
            let mut value = vec![VERSION];
            self.accumulators.encode(slot, &mut value);
            writes.put(GROUPS, group, key, value);
        } else {
            writes.delete(GROUPS, group, key);
        }
    }

    fn put_distinct(&self, number: usize, id: u32, writes: &mut StateWrites) {
        let set = &self.accumulators.sets()[number];
        let (group, key) = (self.group_of(set.group(id)), self.distinct_key(number, id));
        let mut value = vec![VERSION];
        // Of a group that is gone no values are left.
        if self.alive[set.group(id) as usize] && set.encode(id, &mut value) {
            writes.put(DISTINCT, group, key, value);
        } else {
            writes.delete(DISTINCT, group, key);
        }
    }
}
