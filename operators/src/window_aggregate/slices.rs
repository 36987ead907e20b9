//! The slices in flight: rows go in, windows come out as merges of them.
//!
//! In keyed state the entries of a slice have (end, start) in front, both big-endian with the sign turned, so that a slice is a range of keys.
//! Table 3 holds for each key group how far event time had come: a window that fired before a snapshot does not fire after its restore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_common::key_group::KeyGroup;
use weir_dataflow::key::EncodedKeys;
use weir_dataflow::{KeyedState, Result, StateTable, StateWrites};

use super::slicing::{Slicing, Span};
use crate::accumulator::{Accumulators, AggregatePlan};
use crate::aggregate_store::{AggregateStore, GROUPS, tables};
use crate::codec::{Reader, VERSION, put_signed};
use crate::key_table::KeyTable;

const PROGRESS: StateTable = StateTable(3);
const PREFIX: usize = 16;

/// All slices that are in a window which has not fired.
pub struct Slices {
    plan: Arc<AggregatePlan>,
    slicing: Slicing,
    max_parallelism: u32,
    slices: BTreeMap<Span, AggregateStore>,
    /// Windows that end at or before this + 1 have fired.
    progress: i64,
    /// After a restore from several subtasks: key groups that were further.
    ahead: BTreeMap<KeyGroup, i64>,
    /// Deletions of slices that are done with.
    done: StateWrites,
    saved_progress: i64,
    /// Slices of which something is frozen.
    frozen: Vec<Span>,
}

/// The groups of a window.
pub struct Merged {
    /// Keys by slot.
    pub keys: KeyTable,
    /// Accumulators by slot.
    pub accumulators: Accumulators,
}

fn prefix_of(slice: Span) -> Vec<u8> {
    let ordered = |time: i64| (time ^ i64::MIN).to_be_bytes();
    [ordered(slice.end), ordered(slice.start)].concat()
}

fn slice_of_key(key: &[u8]) -> Result<(Span, &[u8])> {
    let mut reader = Reader(key);
    let end = i64::from_be_bytes(reader.array()?) ^ i64::MIN;
    let start = i64::from_be_bytes(reader.array()?) ^ i64::MIN;
    debug_assert_eq!(key.len() - reader.0.len(), PREFIX);
    Ok((Span { start, end }, reader.0))
}

impl Slices {
    /// None yet.
    pub fn new(plan: Arc<AggregatePlan>, slicing: Slicing, max_parallelism: u32) -> Self {
        Self {
            plan,
            slicing,
            max_parallelism,
            slices: BTreeMap::new(),
            progress: i64::MIN,
            ahead: BTreeMap::new(),
            done: StateWrites::default(),
            saved_progress: i64::MIN,
            frozen: Vec::new(),
        }
    }

    /// How time is cut.
    pub fn slicing(&self) -> &Slicing {
        &self.slicing
    }

    /// All windows that a slice is in have fired.
    pub fn is_late(&self, slice: Span) -> bool {
        slice.end.saturating_sub(1) <= self.progress
            && self.slicing.next_window(slice, self.progress).is_none()
    }

    /// No window has this slice in it (HOP with a slide larger than its size).
    pub fn is_in_no_window(&self, slice: Span) -> bool {
        self.slicing.next_window(slice, i64::MIN).is_none()
    }

    /// Counts rows of one slice.
    pub fn count(
        &mut self,
        slice: Span,
        batch: &arrow::array::RecordBatch,
        keys: &EncodedKeys,
        hashes: &[u64],
        slots: &mut Vec<u32>,
        state: &mut dyn KeyedState,
    ) -> Result<()> {
        let store = match self.slices.entry(slice) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(AggregateStore::new(
                Arc::clone(&self.plan),
                self.max_parallelism,
                prefix_of(slice),
            )?),
        };
        store.resolve(keys, hashes, slots, state)?;
        store.count(batch, None, slots, state)?;
        slots.iter().for_each(|slot| store.set_alive(*slot, true));
        Ok(())
    }

    /// The next window that is complete at `watermark`, oldest first. The caller fires it, then calls this again; `None`: that was all.
    pub fn next_complete(
        &mut self,
        watermark: i64,
        state: &mut dyn KeyedState,
    ) -> Result<Option<Span>> {
        let one_slice = self.is_one_slice();
        while let Some(mut first) = self.slices.first_entry() {
            // Where a window is one slice, what is here has not fired: two of them may end together.
            let progress = if one_slice { i64::MIN } else { self.progress };
            match self.slicing.next_window(*first.key(), progress) {
                Some(window) if window.end.saturating_sub(1) <= watermark => {
                    return Ok(Some(window));
                }
                Some(_) => return Ok(None),
                None => {
                    first.get_mut().write_all_frozen(state)?;
                    first.get().delete(&mut self.done);
                    first.remove();
                }
            }
        }
        Ok(None)
    }

    /// A window of [`Self::next_complete`] was emitted.
    pub fn fired(&mut self, window: Span) {
        self.progress = self.progress.max(window.end.saturating_sub(1));
    }

    /// Event time has come to `watermark`, and all windows up to it have fired.
    pub fn advance(&mut self, watermark: i64) {
        self.progress = self.progress.max(watermark);
        self.ahead.retain(|_, progress| *progress > watermark);
    }

    /// The merge of a window's slices. Where a window is one slice, that is taken out.
    pub fn merge(&mut self, window: Span, state: &mut dyn KeyedState) -> Result<Merged> {
        if self.is_one_slice()
            && let Some(mut store) = self.slices.remove(&window)
        {
            store.write_all_frozen(state)?;
            store.load_rest(state)?;
            store.delete(&mut self.done);
            let (keys, accumulators) = store.into_parts();
            return Ok(Merged { keys, accumulators });
        }
        let first = Span {
            end: window.start.saturating_add(1),
            start: i64::MIN,
        };
        let parts = || {
            first..=Span {
                end: window.end,
                start: i64::MAX,
            }
        };
        let largest = self
            .slices
            .range(parts())
            .map(|(_, store)| store.keys().len())
            .max();
        let mut keys = KeyTable::with_capacity(largest.unwrap_or_default());
        let mut accumulators = Accumulators::new(&self.plan)?;
        let mut slots = Vec::new();
        for (_, store) in self.slices.range_mut(parts()) {
            store.load_rest(state)?;
            let from = store.keys();
            slots.clear();
            slots.extend(
                (0..from.len() as u32).map(|slot| keys.slot_of(from.key(slot), from.hash(slot))),
            );
            accumulators.grow(keys.len());
            accumulators.merge_from(&self.plan, store.accumulators(), &slots)?;
        }
        Ok(Merged { keys, accumulators })
    }

    fn is_one_slice(&self) -> bool {
        matches!(self.slicing, Slicing::Attached | Slicing::Tumble { .. })
    }

    /// Slots of a window whose key group has not fired it before the restore.
    pub fn due(&self, window: Span, keys: &KeyTable) -> Vec<u32> {
        let all = 0..keys.len() as u32;
        if self.ahead.is_empty() {
            return all.collect();
        }
        let fired = |slot: u32| {
            let group = keys.key_group(slot, self.max_parallelism);
            self.ahead
                .get(&group)
                .is_some_and(|progress| window.end.saturating_sub(1) <= *progress)
        };
        all.filter(|slot| !fired(*slot)).collect()
    }

    /// Takes all slices out (LOCAL), or those that end at or before `watermark` + 1.
    pub fn take(&mut self, watermark: i64) -> Vec<(Span, AggregateStore)> {
        let kept = match watermark {
            i64::MAX => BTreeMap::new(),
            _ => self.slices.split_off(&Span {
                end: watermark.saturating_add(2),
                start: i64::MIN,
            }),
        };
        let taken = std::mem::replace(&mut self.slices, kept);
        taken.into_iter().collect()
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.slices.values().map(AggregateStore::memory).sum()
    }

    /// A table can't grow much more.
    pub fn is_full(&self) -> bool {
        self.slices.values().any(AggregateStore::is_full)
    }

    /// Freezes what changed, for [`Self::write_frozen`]. What was frozen before must be written.
    pub fn freeze(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        let mut writes = std::mem::take(&mut self.done);
        if self.progress != self.saved_progress {
            self.saved_progress = self.progress;
            let groups = state.key_groups();
            for group in groups.first..=groups.last {
                let mut value = vec![VERSION];
                put_signed(
                    self.progress
                        .max(self.ahead.get(&group).copied().unwrap_or(i64::MIN)),
                    &mut value,
                );
                writes.put(PROGRESS, group, Vec::new(), value);
            }
        }
        for (slice, store) in &mut self.slices {
            store.freeze();
            if store.is_frozen() {
                self.frozen.push(*slice);
            }
        }
        state.write_behind(writes)
    }

    /// Writes about `limit` of the frozen entries; `true` if more are left.
    pub fn write_frozen(&mut self, limit: usize, state: &mut dyn KeyedState) -> Result<bool> {
        while let Some(slice) = self.frozen.last() {
            // One that is done with was written then.
            match self.slices.get_mut(slice) {
                Some(store) if store.is_frozen() => {
                    store.write_frozen(limit, state)?;
                    return Ok(true);
                }
                _ => self.frozen.pop(),
            };
        }
        Ok(false)
    }

    /// Writes what changed, and keeps nothing of it in memory.
    pub fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.write_all_frozen(state)?;
        state.seal()?;
        self.freeze(state)?;
        self.write_all_frozen(state)?;
        self.slices
            .values_mut()
            .try_for_each(AggregateStore::spill)?;
        // Now reads have to see all that.
        state.write(StateWrites::default())
    }

    fn write_all_frozen(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.frozen.clear();
        let mut stores = self.slices.values_mut();
        stores.try_for_each(|store| store.write_all_frozen(state))
    }

    /// Finds the slices of the state; reads them if they fit in `budget` bytes.
    pub fn restore(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        let mut progress: BTreeMap<KeyGroup, i64> = BTreeMap::new();
        state.scan(PROGRESS, &mut |group, _, value| {
            progress.insert(group, Reader::new(value)?.signed()?);
            Ok(true)
        })?;
        let owned = state.key_groups();
        let all = (owned.first..=owned.last)
            .map(|group| progress.get(&group).copied().unwrap_or(i64::MIN));
        self.progress = all.min().unwrap_or(i64::MIN);
        self.ahead = progress
            .into_iter()
            .filter(|(_, progress)| *progress > self.progress)
            .collect();
        self.saved_progress = if self.ahead.is_empty() {
            self.progress
        } else {
            i64::MIN
        };
        let found = self.find(state)?;
        // What clearly does not fit is not read in vain.
        let may_fit = state.stored_bytes() <= budget as u64;
        if !may_fit || !self.load(budget, state)? {
            self.slices
                .values_mut()
                .try_for_each(AggregateStore::clear)?;
            for (slice, groups) in found {
                if let Some(store) = self.slices.get_mut(&slice) {
                    store.set_incomplete(groups);
                }
            }
        }
        Ok(())
    }

    /// Slices in the state with their key groups; an empty store is made for each.
    fn find(&mut self, state: &mut dyn KeyedState) -> Result<BTreeMap<Span, BTreeSet<KeyGroup>>> {
        let mut found: BTreeMap<Span, BTreeSet<KeyGroup>> = BTreeMap::new();
        state.scan(GROUPS, &mut |group, key, _| {
            found.entry(slice_of_key(key)?.0).or_default().insert(group);
            Ok(true)
        })?;
        for slice in found.keys() {
            let store = AggregateStore::new(
                Arc::clone(&self.plan),
                self.max_parallelism,
                prefix_of(*slice),
            )?;
            self.slices.insert(*slice, store);
        }
        Ok(found)
    }

    /// `false` if there is too much.
    fn load(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<bool> {
        let (mut fits, mut entries) = (true, 0usize);
        for table in tables(&self.plan) {
            if !fits {
                break;
            }
            state.scan(table, &mut |_, key, value| {
                let (slice, entry) = slice_of_key(key)?;
                if let Some(store) = self.slices.get_mut(&slice) {
                    store.load_entry(table, entry, value)?;
                }
                entries += 1;
                fits = !entries.is_multiple_of(1024) || self.memory() < budget;
                Ok(fits)
            })?;
        }
        Ok(fits)
    }
}
