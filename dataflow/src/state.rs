//! Keyed state as operators see it: ordered tables of bytes, read and written in bulk.

use bytes::Bytes;
use weir_common::key_group::{KeyGroup, KeyGroupRange};

use crate::error::Result;

/// A list that operators with keyed state put into their snapshots for themselves: the layout in words.
pub const LAYOUT_LIST: &str = "layout";

/// One of an operator's tables, by its number (0..=255), fixed for the life of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateTable(pub u8);

/// Changes to be written together.
#[derive(Debug, Default)]
pub struct StateWrites {
    /// In any order; a later one to the same key wins.
    pub entries: Vec<StateWrite>,
    /// Ranges `[from, to)` of one key group to be deleted, before `entries` are applied.
    pub deleted_ranges: Vec<StateRange>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateWrite {
    /// Which table.
    pub table: StateTable,
    /// Group of the key.
    pub key_group: KeyGroup,
    /// The operator's own encoding; order of bytes is order of scans.
    pub key: Vec<u8>,
    /// `None` deletes.
    pub value: Option<Vec<u8>>,
}

/// Keys `from <= key < to` of a table and key group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRange {
    /// Which table.
    pub table: StateTable,
    /// Which group.
    pub key_group: KeyGroup,
    /// First key.
    pub from: Vec<u8>,
    /// End, not included; `None`: to the end of the group.
    pub to: Option<Vec<u8>>,
}

impl StateWrites {
    /// Adds a write.
    pub fn put(&mut self, table: StateTable, key_group: KeyGroup, key: Vec<u8>, value: Vec<u8>) {
        self.entries.push(StateWrite {
            table,
            key_group,
            key,
            value: Some(value),
        });
    }

    /// Adds a deletion.
    pub fn delete(&mut self, table: StateTable, key_group: KeyGroup, key: Vec<u8>) {
        self.entries.push(StateWrite {
            table,
            key_group,
            key,
            value: None,
        });
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.deleted_ranges.is_empty()
    }
}

/// What a scan calls for each entry, with the key and the value; `false` ends the scan.
pub type Visit<'a> = dyn FnMut(KeyGroup, &[u8], &[u8]) -> Result<bool> + 'a;

/// The durable home of one operator instance's keyed state: the key groups of its subtask. Operators keep their working set
/// themselves and write what changed behind a barrier or when memory runs short.
///
/// Used by one thread. A snapshot is begun by the runtime right after [`crate::Operator::snapshot`]; it has all writes up to [`Self::seal`].
pub trait KeyedState: Send {
    /// The key groups that are here.
    fn key_groups(&self) -> KeyGroupRange;

    /// Values of many keys at once, in the order of `keys`.
    fn multi_get(
        &mut self,
        table: StateTable,
        keys: &[(KeyGroup, &[u8])],
    ) -> Result<Vec<Option<Bytes>>>;

    /// Applies changes. Later reads see them and all that was written before, however far the disk has come. May wait for room.
    fn write(&mut self, writes: StateWrites) -> Result<()>;

    /// As [`Self::write`], but reads need not see these changes before the next `write` (which may be empty): for what the operator
    /// has in memory anyway, so that no read waits for a snapshot that is being written.
    fn write_behind(&mut self, writes: StateWrites) -> Result<()> {
        self.write(writes)
    }

    /// Whether a write of a moderate size would not have to wait.
    fn has_room(&self) -> bool {
        true
    }

    /// The snapshot that was begun last has all writes before this call and none after; without one, does nothing. The runtime calls
    /// it when [`crate::Operator::write_frozen`] has nothing left, an operator only if it must write something newer before that.
    fn seal(&mut self) -> Result<()> {
        Ok(())
    }

    /// All entries of a table in the order of (key group, key).
    fn scan(&mut self, table: StateTable, visit: &mut Visit<'_>) -> Result<()>;

    /// Entries of one key group from `from` on (`None`: from its beginning), in order of key.
    fn scan_group(
        &mut self,
        table: StateTable,
        key_group: KeyGroup,
        from: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<()>;

    /// True if nothing was ever written or restored: a miss needs no read.
    fn is_empty(&self) -> bool;

    /// About how much there is on disk, compressed: what is read would take at least that much memory. 0 if nobody knows.
    fn stored_bytes(&self) -> u64 {
        0
    }
}
