//! What sessions need of a store: groups that become one, and groups that end.

use weir_dataflow::state::StateRange;
use weir_dataflow::{KeyedState, Result, StateWrites};

use super::{AggregateStore, DISTINCT, following};

impl AggregateStore {
    /// The first bytes of a key do not decide its key group. Only for a store without a prefix.
    pub fn with_unhashed(mut self, bytes: usize) -> Self {
        self.unhashed = bytes;
        self
    }

    /// The rows of one group are those of another from now on: `from` is nothing any more.
    pub fn merge_groups(&mut self, from: u32, into: u32, state: &mut dyn KeyedState) -> Result<()> {
        if !self.plan.sets.is_empty() {
            // Which values the other one has seen may be in the state only.
            self.load_rest(state)?;
        }
        self.finish_snapshot(state)?;
        self.thaw_groups(&[from, into], state)?;
        self.accumulators.merge_slots(&self.plan, from, into)?;
        self.set_alive(into, true);
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
                let from = self.entry_key(*slot, number);
                deletions.deleted_ranges.push(StateRange {
                    table: DISTINCT,
                    key_group: self.group_of(*slot),
                    to: following(&from),
                    from,
                });
            }
        }
        Ok(())
    }

    /// Distinct values of a group that ends are deleted, so a snapshot that has them is written first.
    fn finish_snapshot(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        if self.plan.sets.is_empty() {
            return Ok(());
        }
        self.write_all_frozen(state)
    }
}
