//! What changed on its way to keyed state: frozen at a barrier, then written in small parts while the stream goes on.

use weir_dataflow::{KeyedState, Result, StateWrites};

use super::{NOWHERE, ROWS, RowId, RowStore, RowsPerKey};
use crate::dirty::DirtySet;

/// Rows that one call of an operator's `write_frozen` writes: about a millisecond's work. Tests take many parts for few rows.
pub const FROZEN_ROWS: usize = if cfg!(test) { 4 } else { 1024 };
/// Rows that are handed over at once: bounds what a flush takes beside the working set.
const WRITE_CHUNK: usize = 1 << 15;

impl RowStore {
    /// Freezes what changed, in no time. What was frozen before must be written.
    pub fn freeze(&mut self) {
        self.dirty.freeze();
        self.frozen_gone = std::mem::take(&mut self.gone);
    }

    fn is_frozen(&self) -> bool {
        !self.frozen_gone.is_empty() || !self.thawed.is_empty() || self.dirty.is_frozen()
    }

    /// Writes about `limit` of the frozen rows; `true` if more are left. Entries that went come first: a key of one row may have another since.
    pub fn write_frozen(&mut self, limit: usize, state: &mut dyn KeyedState) -> Result<bool> {
        let mut writes = StateWrites::default();
        if self.frozen_gone.is_empty() {
            writes = std::mem::take(&mut self.thawed);
            self.take_rows(limit, &mut writes);
        } else {
            let rest = self.frozen_gone.len().saturating_sub(limit);
            for (group, key) in self.frozen_gone.drain(rest..) {
                writes.delete(ROWS, group, key);
            }
        }
        state.write_behind(writes)?;
        Ok(self.is_frozen())
    }

    /// Writes all that is frozen, if anything is.
    fn write_all_frozen(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        while self.is_frozen() && self.write_frozen(WRITE_CHUNK, state)? {}
        Ok(())
    }

    /// Writes all that changed, and keeps nothing in memory. Ids and slots are no longer valid.
    pub fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.write_all_frozen(state)?;
        state.seal()?;
        self.freeze();
        self.write_all_frozen(state)?;
        // From now on reads have to see that.
        state.write(StateWrites::default())?;
        self.forget();
        Ok(())
    }

    /// Forgets the working set, of which everything is written.
    pub fn forget(&mut self) {
        self.keys.clear();
        (self.counts, self.next_numbers, self.empty) = Default::default();
        (self.rows, self.dirty) = Default::default();
        self.complete = false;
    }

    /// Before a row changes: if it is frozen, it is set aside to be written.
    pub(super) fn thaw(&mut self, id: RowId) {
        if self.dirty.thaw(id) {
            let mut writes = std::mem::take(&mut self.thawed);
            self.put(id, &mut writes);
            self.thawed = writes;
        }
    }

    fn take_rows(&mut self, limit: usize, writes: &mut StateWrites) {
        let (keys, slots) = (&self.keys, &self.rows.slots);
        let max_parallelism = self.max_parallelism;
        let group_of = |id: RowId| keys.key_group(slots[id as usize], max_parallelism);
        let mut ids = DirtySet::take_frozen(&mut self.dirty, limit, group_of);
        // An id without a row was removed before it was ever written.
        ids.retain(|id| self.rows.places[*id as usize] != NOWHERE);
        let place = |id: RowId| (group_of(id), keys.key(slots[id as usize]));
        if self.per_key == RowsPerKey::One {
            ids.sort_unstable_by(|a, b| place(*a).cmp(&place(*b)));
        }
        for id in ids {
            self.put(id, writes);
        }
    }

    fn put(&mut self, id: RowId, writes: &mut StateWrites) {
        let group = self.group_of(self.slot_of(id));
        writes.put(ROWS, group, self.entry_key(id), self.entry_value(id));
        self.rows.stored[id as usize] = true;
    }
}
