//! What sessions need of a store: groups that become one, and groups that end.

use weir_dataflow::state::StateRange;
use weir_dataflow::{KeyedState, Result, StateTable, StateWrites};

use super::{AggregateStore, DISTINCT, following};
use crate::codec::Reader;

impl AggregateStore {
    /// The first bytes of a key do not decide its key group. Only for a store without a prefix.
    pub fn with_unhashed(mut self, bytes: usize) -> Self {
        self.unhashed = bytes;
        self
    }

    /// The rows of one group are those of another from now on: `from` is nothing any more.
    pub fn merge_groups(&mut self, from: u32, into: u32, state: &mut dyn KeyedState) -> Result<()> {
        self.load_distinct_of(&[from, into], state)?;
        self.finish_snapshot(state)?;
        self.thaw_groups(&[from, into], state)?;
        self.accumulators.merge_slots(&self.plan, from, into)?;
        self.set_alive(into, true);
        Ok(())
    }

    /// Reads the distinct values of groups that are in the state only.
    fn load_distinct_of(&mut self, slots: &[u32], state: &mut dyn KeyedState) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        for slot in slots.iter().filter(|slot| !self.fresh[**slot as usize]) {
            for number in 0..self.plan.sets.len() {
                let prefix = self.entry_key(*slot, number);
                let set = &mut self.accumulators.sets_mut()[number];
                let group = self.keys.key_group(*slot, self.max_parallelism);
                state.scan_group(DISTINCT, group, Some(&prefix), &mut |_, key, marks| {
                    let Some(value) = key.strip_prefix(prefix.as_slice()) else {
                        return Ok(false);
                    };
                    set.load(*slot, value, &mut Reader::new(marks)?)?;
                    Ok(true)
                })?;
            }
        }
        Ok(())
    }

    /// Groups end. What the state has of their distinct values is added to `deletions`.
    pub fn end_groups(
        &mut self,
        slots: &[u32],
        deletions: &mut StateWrites,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        self.finish_snapshot(state)?;
        self.thaw_groups(slots, state)?;
        for slot in slots {
            self.set_alive(*slot, false);
            for number in 0..self.plan.sets.len() {
                self.delete_entries(DISTINCT, *slot, number, deletions);
            }
        }
        Ok(())
    }

    fn delete_entries(
        &self,
        table: StateTable,
        slot: u32,
        number: usize,
        deletions: &mut StateWrites,
    ) {
        let from = self.entry_key(slot, number);
        deletions.deleted_ranges.push(StateRange {
            table,
            key_group: self.group_of(slot),
            to: following(&from),
            from,
        });
    }

    /// Distinct values of a group that ends are deleted, so a snapshot that has them is written first.
    fn finish_snapshot(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        if self.plan.sets.is_empty() {
            return Ok(());
        }
        self.write_all_frozen(state)
    }
}
