//! Which entries of a working set differ from what keyed state has of them, and which of these a snapshot has frozen.
//!
//! A barrier freezes all that changed by exchanging two lists, however long they are. What is frozen is written afterwards in
//! small parts; an entry that is to change before its turn has come is written first (thawed). So every frozen entry is
//! written once, as it was at the barrier.

use weir_common::key_group::KeyGroup;

/// How many entries are looked at to sort them by key group, for one that is written.
const SORTED_A_WRITTEN: usize = 16;
const CLEAN: u8 = 0;

/// Entries by their dense number.
#[derive(Debug)]
pub struct DirtySet {
    /// [`CLEAN`], `mark` for a changed one, the other mark for a frozen one.
    marks: Vec<u8>,
    /// Of changed entries: 1 or 2, in turns.
    mark: u8,
    changed: Vec<u32>,
    /// Frozen, in no order; thawed ones are among them.
    frozen: Vec<u32>,
    /// Frozen, by key group: RocksDB compacts less if what is written together lies together.
    by_group: Vec<Vec<u32>>,
}

impl Default for DirtySet {
    fn default() -> Self {
        Self {
            marks: Vec::new(),
            mark: 1,
            changed: Vec::new(),
            frozen: Vec::new(),
            by_group: Vec::new(),
        }
    }
}

impl DirtySet {
    /// Makes entries up to `length`, as they are in keyed state.
    pub fn grow(&mut self, length: usize) {
        self.marks.resize(length, CLEAN);
    }

    /// An entry has changed. It must not be frozen: see [`Self::thaw`].
    #[inline]
    pub fn mark(&mut self, id: u32) {
        let mark = &mut self.marks[id as usize];
        if *mark != self.mark {
            debug_assert_eq!(*mark, CLEAN, "a frozen entry was changed");
            *mark = self.mark;
            self.changed.push(id);
        }
    }

    /// Whether an entry has changed since the last freezing.
    #[inline]
    pub fn is_changed(&self, id: u32) -> bool {
        self.marks[id as usize] == self.mark
    }

    /// All that changed is frozen. What was frozen before must be written.
    pub fn freeze(&mut self) {
        debug_assert!(!self.is_frozen(), "frozen twice");
        std::mem::swap(&mut self.frozen, &mut self.changed);
        self.mark = 3 - self.mark;
    }

    /// Something frozen may be left.
    pub fn is_frozen(&self) -> bool {
        !self.frozen.is_empty() || !self.by_group.is_empty()
    }

    /// Whether an entry is frozen, which it is not any more: the caller writes it as it is, and then may change it.
    #[inline]
    pub fn thaw(&mut self, id: u32) -> bool {
        let mark = &mut self.marks[id as usize];
        let frozen = *mark != CLEAN && *mark != self.mark;
        if frozen {
            *mark = CLEAN;
        }
        frozen
    }

    /// At most `limit` frozen entries, group after group, for the caller to write; there may be none though more are left, since
    /// sorting them is done in parts, too.
    pub fn take_frozen(&mut self, limit: usize, group_of: impl Fn(u32) -> KeyGroup) -> Vec<u32> {
        if !self.frozen.is_empty() && !self.sort(limit.saturating_mul(SORTED_A_WRITTEN), group_of) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(last) = self.by_group.last_mut()
        {
            let rest = last.len().saturating_sub(limit - taken.len());
            taken.extend(last.drain(rest..));
            if last.is_empty() {
                self.by_group.pop();
            }
        }
        taken.retain(|id| self.thaw(*id));
        taken
    }

    /// Sorts some frozen entries by key group; whether that was all.
    fn sort(&mut self, some: usize, group_of: impl Fn(u32) -> KeyGroup) -> bool {
        let rest = self.frozen.len().saturating_sub(some);
        for id in self.frozen.drain(rest..) {
            let group = usize::from(group_of(id));
            if self.by_group.len() <= group {
                self.by_group.resize_with(group + 1, Vec::new);
            }
            self.by_group[group].push(id);
        }
        if rest == 0 {
            self.frozen = Vec::new();
        }
        rest == 0
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        let by_group: usize = self.by_group.iter().map(Vec::capacity).sum();
        self.marks.capacity()
            + (self.changed.capacity() + self.frozen.capacity() + by_group) * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const ENTRIES: u32 = 64;

    fn group_of(id: u32) -> KeyGroup {
        (id % 5) as KeyGroup
    }

    #[test]
    fn parts_come_in_order_of_key_groups_and_are_no_larger_than_asked_for() {
        let mut set = DirtySet::default();
        set.grow(ENTRIES as usize);
        (0..ENTRIES).for_each(|id| set.mark(id));
        set.freeze();
        let mut seen = Vec::new();
        while set.is_frozen() {
            let taken = set.take_frozen(3, group_of);
            assert!(taken.len() <= 3);
            seen.extend(taken);
        }
        assert!(seen.is_sorted_by_key(|id| std::cmp::Reverse(group_of(*id))));
        seen.sort_unstable();
        assert_eq!(seen, (0..ENTRIES).collect::<Vec<_>>());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Change(u32),
        Write(usize),
        Freeze,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..ENTRIES).prop_map(Step::Change),
            2 => (0usize..9).prop_map(Step::Write),
            1 => Just(Step::Freeze),
        ]
    }

    proptest! {
        /// Each frozen entry is handed out once, by its turn or because it changes; and nothing else is.
        #[test]
        fn each_frozen_entry_is_written_once(steps in prop::collection::vec(step(), 0..200)) {
            let mut set = DirtySet::default();
            set.grow(ENTRIES as usize);
            let (mut changed, mut frozen) = (BTreeSet::new(), BTreeSet::new());
            let take = |set: &mut DirtySet, frozen: &mut BTreeSet<u32>, limit| {
                for id in set.take_frozen(limit, group_of) {
                    assert!(frozen.remove(&id));
                }
            };
            for step in steps {
                match step {
                    Step::Change(id) => {
                        prop_assert_eq!(set.thaw(id), frozen.remove(&id));
                        set.mark(id);
                        changed.insert(id);
                    }
                    Step::Write(limit) => take(&mut set, &mut frozen, limit),
                    Step::Freeze => {
                        while set.is_frozen() {
                            take(&mut set, &mut frozen, usize::MAX);
                        }
                        prop_assert!(frozen.is_empty());
                        set.freeze();
                        frozen = std::mem::take(&mut changed);
                    }
                }
            }
        }
    }
}
