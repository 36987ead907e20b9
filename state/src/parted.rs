//! The keyed state of a subtask, as several databases that lie side by side: each has a range of the key groups.
//!
//! Usually there is one. After a rescale to fewer subtasks each large old part stays the database that it was, instead of being copied into
//! another: opening takes as long as linking its files. Small ones are copied, and so is what would be too many: a database takes threads and
//! memtables. In a snapshot each is a part of its own.

use std::path::PathBuf;

use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_common::key_group::{KeyGroup, KeyGroupRange};
use weir_dataflow::state::{KeyedState, StateTable, StateWrites, Visit};
use weir_dataflow::{Result as DataResult, SnapshotTarget};
use weir_proto::v1;
use weir_snapshot::rescale::{range_from_proto, range_to_proto};

use crate::state::clear;
use crate::upload::Uploader;
use crate::{
    PendingSnapshot, RestoreSource, Result, RocksState, StateError, StateOptions, Transfers,
};

/// A part with less is copied into its neighbour: that takes no time to speak of.
const SMALL_BYTES: u64 = 16 << 20;
/// Databases of one subtask's operator.
const PARTS_MAX: usize = 4;

/// See the file's head.
#[derive(Debug)]
pub struct PartedState {
    folder: PathBuf,
    key_groups: KeyGroupRange,
    /// In the order of their key groups, which are all of the subtask's. Never empty.
    parts: Vec<RocksState>,
}

impl PartedState {
    /// An empty state.
    pub fn open(options: StateOptions) -> Result<Self> {
        Self::make(options, &[], |options, _| RocksState::open(options))
    }

    /// Makes the state of `options.key_groups` from the old parts of its operator. Blocks, see [`RocksState::restore`].
    pub fn restore(
        options: StateOptions,
        old: &[v1::KeyedState],
        source: &RestoreSource,
        transfers: &Transfers,
    ) -> Result<Self> {
        Self::make(options, old, |options, old| {
            RocksState::restore(options, old, source, transfers)
        })
    }

    /// Each part on a thread of its own: they wait for disks and stores.
    fn make(
        options: StateOptions,
        old: &[v1::KeyedState],
        make: impl Fn(StateOptions, &[v1::KeyedState]) -> Result<RocksState> + Sync,
    ) -> Result<Self> {
        clear(&options)?;
        let (folder, key_groups) = (options.folder.clone(), options.key_groups);
        let ranges = divided(&held(old, key_groups), key_groups, SMALL_BYTES);
        let one = |number: usize, range: KeyGroupRange| {
            let options = StateOptions {
                folder: folder.join(format!("part-{number}")),
                key_groups: range,
                ..options.clone()
            };
            make(options, old)
        };
        let parts: Vec<Result<RocksState>> = std::thread::scope(|scope| {
            let one = &one;
            let mut numbered = ranges.into_iter().enumerate();
            let first = numbered.next();
            let others: Vec<_> = numbered
                .map(|(number, range)| scope.spawn(move || one(number, range)))
                .collect();
            let first = first.map(|(number, range)| one(number, range));
            let joined = others.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    Err(StateError::Stuck {
                        folder: folder.clone(),
                        reason: "its restore panicked",
                    })
                })
            });
            first.into_iter().chain(joined).collect()
        });
        Ok(Self {
            parts: parts.into_iter().collect::<Result<_>>()?,
            folder,
            key_groups,
        })
    }

    /// Begins a snapshot, see [`RocksState::snapshot`].
    pub fn snapshot(
        &mut self,
        checkpoint: CheckpointId,
        target: &SnapshotTarget,
    ) -> Result<PartedSnapshot> {
        let parts = self.parts.iter_mut();
        Ok(PartedSnapshot {
            key_groups: self.key_groups,
            parts: parts
                .map(|part| part.snapshot(checkpoint, target))
                .collect::<Result<_>>()?,
        })
    }

    /// See [`RocksState::confirm`].
    pub fn confirm(&mut self, checkpoint: CheckpointId) {
        self.parts
            .iter_mut()
            .for_each(|part| part.confirm(checkpoint));
    }

    /// See [`RocksState::abort`].
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        self.parts
            .iter_mut()
            .for_each(|part| part.abort(checkpoint));
    }

    /// See [`RocksState::size_bytes`].
    pub fn size_bytes(&self) -> u64 {
        self.parts.iter().map(RocksState::size_bytes).sum()
    }

    fn place_of(&self, group: KeyGroup) -> usize {
        let before = |part: &RocksState| part.key_groups().last < group;
        self.parts.partition_point(before).min(self.parts.len() - 1)
    }

    /// The writes of each part. One that is not of this state's key groups goes to the nearest part, which refuses it.
    fn routed(&self, writes: StateWrites) -> Vec<StateWrites> {
        if self.parts.len() == 1 {
            return vec![writes];
        }
        let mut routed: Vec<StateWrites> =
            self.parts.iter().map(|_| StateWrites::default()).collect();
        for write in writes.entries {
            routed[self.place_of(write.key_group)].entries.push(write);
        }
        for range in writes.deleted_ranges {
            routed[self.place_of(range.key_group)]
                .deleted_ranges
                .push(range);
        }
        routed
    }
}

impl Drop for PartedState {
    fn drop(&mut self) {
        self.parts.clear();
        // It is empty, unless a part could not be removed, which has said so.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

impl KeyedState for PartedState {
    fn key_groups(&self) -> KeyGroupRange {
        self.key_groups
    }

    fn multi_get(
        &mut self,
        table: StateTable,
        keys: &[(KeyGroup, &[u8])],
    ) -> DataResult<Vec<Option<Bytes>>> {
        if let [only] = self.parts.as_mut_slice() {
            return only.multi_get(table, keys);
        }
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); self.parts.len()];
        for (place, (group, _)) in keys.iter().enumerate() {
            places[self.place_of(*group)].push(place);
        }
        let mut values = vec![None; keys.len()];
        for (part, places) in self.parts.iter_mut().zip(places) {
            let keys: Vec<(KeyGroup, &[u8])> = places.iter().map(|place| keys[*place]).collect();
            for (place, value) in places.into_iter().zip(part.multi_get(table, &keys)?) {
                values[place] = value;
            }
        }
        Ok(values)
    }

    fn write(&mut self, writes: StateWrites) -> DataResult<()> {
        let routed = self.routed(writes);
        // Also those without writes: what was written behind becomes visible.
        let mut parts = self.parts.iter_mut().zip(routed);
        parts.try_for_each(|(part, writes)| part.write(writes))
    }

    fn write_behind(&mut self, writes: StateWrites) -> DataResult<()> {
        let routed = self.routed(writes);
        let mut parts = self.parts.iter_mut().zip(routed);
        parts.try_for_each(|(part, writes)| part.write_behind(writes))
    }

    fn has_room(&self) -> bool {
        self.parts.iter().all(RocksState::has_room)
    }

    fn seal(&mut self) -> DataResult<()> {
        self.parts.iter_mut().try_for_each(RocksState::seal)
    }

    fn scan(&mut self, table: StateTable, visit: &mut Visit<'_>) -> DataResult<()> {
        let mut goes_on = true;
        for part in &mut self.parts {
            part.scan(table, &mut |group, key, value| {
                goes_on = visit(group, key, value)?;
                Ok(goes_on)
            })?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    fn scan_group(
        &mut self,
        table: StateTable,
        key_group: KeyGroup,
        from: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> DataResult<()> {
        let place = self.place_of(key_group);
        self.parts[place].scan_group(table, key_group, from, visit)
    }

    fn is_empty(&self) -> bool {
        self.parts.iter().all(RocksState::is_empty)
    }

    fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(RocksState::stored_bytes).sum()
    }
}

/// A snapshot that was begun, of all parts. Dropping it gives it up.
pub struct PartedSnapshot {
    key_groups: KeyGroupRange,
    parts: Vec<PendingSnapshot>,
}

impl PartedSnapshot {
    /// See [`PendingSnapshot::run`]. Parts without anything are left out; at least one is there.
    pub fn run(self, uploader: &Uploader) -> Result<Vec<v1::KeyedState>> {
        let mut stored = Vec::new();
        for part in self.parts {
            stored.push(part.run(uploader)?);
        }
        stored.retain(|part| !part.files.is_empty());
        if stored.is_empty() {
            stored.push(v1::KeyedState {
                key_groups: Some(range_to_proto(self.key_groups)),
                ..Default::default()
            });
        }
        Ok(stored)
    }
}

/// The wanted key groups that old parts hold, in their order, and how many bytes that is.
fn held(old: &[v1::KeyedState], wanted: KeyGroupRange) -> Vec<(KeyGroupRange, u64)> {
    let mut held: Vec<_> = old
        .iter()
        .filter(|part| !part.files.is_empty())
        .filter_map(|part| {
            let whole = part.key_groups.as_ref().and_then(range_from_proto)?;
            let groups = whole.intersect(wanted)?;
            let bytes: u64 = part.files.iter().map(|file| file.size_bytes).sum();
            Some((groups, bytes * count(groups) / count(whole)))
        })
        .collect();
    held.sort_by_key(|(groups, _)| groups.first);
    held
}

fn count(groups: KeyGroupRange) -> u64 {
    u64::from(groups.last) - u64::from(groups.first) + 1
}

/// The ranges of the new databases: together they are `wanted`, and each begins and ends where an old part does.
fn divided(
    held: &[(KeyGroupRange, u64)],
    wanted: KeyGroupRange,
    small_bytes: u64,
) -> Vec<KeyGroupRange> {
    let mut parts: Vec<(KeyGroup, u64)> = Vec::new();
    for (groups, bytes) in held {
        let full = parts.len() >= PARTS_MAX;
        match parts.last_mut() {
            Some((_, before)) if full || *before < small_bytes || *bytes < small_bytes => {
                *before += bytes;
            }
            _ => parts.push((groups.first, *bytes)),
        }
    }
    let firsts: Vec<KeyGroup> = parts.into_iter().skip(1).map(|(first, _)| first).collect();
    let lasts = firsts.iter().map(|first| first - 1).chain([wanted.last]);
    let begins = [wanted.first].into_iter().chain(firsts.iter().copied());
    begins
        .zip(lasts)
        .map(|(first, last)| KeyGroupRange { first, last })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: KeyGroup, last: KeyGroup) -> KeyGroupRange {
        KeyGroupRange { first, last }
    }

    fn ranges(held: &[(KeyGroup, KeyGroup, u64)]) -> Vec<(KeyGroup, KeyGroup)> {
        let held: Vec<_> = held
            .iter()
            .map(|&(first, last, bytes)| (range(first, last), bytes))
            .collect();
        let divided = divided(&held, range(10, 99), 100);
        divided
            .iter()
            .map(|range| (range.first, range.last))
            .collect()
    }

    #[test]
    fn large_parts_stay_and_small_ones_join_their_neighbour() {
        assert_eq!(ranges(&[]), [(10, 99)]);
        assert_eq!(ranges(&[(10, 99, 500)]), [(10, 99)]);
        assert_eq!(
            ranges(&[(10, 49, 500), (50, 99, 500)]),
            [(10, 49), (50, 99)]
        );
        // What nobody held goes with what is before it, or with the first.
        assert_eq!(
            ranges(&[(20, 29, 500), (50, 89, 500)]),
            [(10, 49), (50, 99)]
        );
        assert_eq!(
            ranges(&[(10, 49, 99), (50, 79, 500), (80, 99, 99)]),
            [(10, 99)]
        );
        assert_eq!(
            ranges(&[(10, 29, 60), (30, 49, 60), (50, 99, 100)]),
            [(10, 49), (50, 99)]
        );
    }

    #[test]
    fn there_are_never_too_many() {
        let held: Vec<_> = (1..=9).map(|n| (n * 10, n * 10 + 9, 500)).collect();
        assert_eq!(ranges(&held), [(10, 19), (20, 29), (30, 39), (40, 99)]);
    }
}
