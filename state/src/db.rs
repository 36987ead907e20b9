//! A database: opening, and bulk reads.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{ColumnFamilyDescriptor, DB, DBRawIterator, ReadOptions, WriteBatch};
use weir_common::key_group::{KeyGroup, KeyGroupRange};
use weir_dataflow::StateTable;
use weir_dataflow::state::{StateWrites, Visit};

use crate::memory::StateMemory;
use crate::{Result, StateError, key};

const DEFAULT_FAMILY: &str = "default";
/// Writes go to RocksDB in batches of about this size: a batch is copied whole into the memtable.
const BATCH_BYTES: usize = 1 << 20;

/// An open database.
pub(crate) struct Db {
    rocks: DB,
    folder: PathBuf,
}

impl Db {
    /// Opens a database, creating it if there is none.
    pub(crate) fn open(folder: &Path, memory: &StateMemory) -> Result<Self> {
        let options = memory.options();
        let family = ColumnFamilyDescriptor::new(DEFAULT_FAMILY, options.clone());
        let rocks = DB::open_cf_descriptors(&options, folder, [family])
            .map_err(|error| StateError::rocks("open", folder, &error))?;
        Ok(Self {
            rocks,
            folder: folder.to_owned(),
        })
    }

    pub(crate) fn rocks(&self) -> &DB {
        &self.rocks
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn error(&self, action: &'static str, error: &rocksdb::Error) -> StateError {
        StateError::rocks(action, &self.folder, error)
    }

    /// Bytes of files and memtables.
    pub(crate) fn size_bytes(&self) -> u64 {
        [
            "rocksdb.total-sst-files-size",
            "rocksdb.cur-size-all-mem-tables",
        ]
        .iter()
        .filter_map(|property| self.rocks.property_int_value(*property).ok().flatten())
        .sum()
    }

    /// About how much a reader would find, compressed, without what is overwritten or deleted.
    pub(crate) fn live_bytes(&self) -> u64 {
        let live = "rocksdb.estimate-live-data-size";
        let known = self.rocks.property_int_value(live).ok().flatten();
        known.unwrap_or(0)
    }

    /// Values in the order of `keys`.
    pub(crate) fn multi_get(
        &self,
        table: StateTable,
        keys: &[(KeyGroup, &[u8])],
    ) -> Result<Vec<Option<Bytes>>> {
        let Some(family) = self.rocks.cf_handle(DEFAULT_FAMILY) else {
            return Err(StateError::Stuck {
                folder: self.folder.clone(),
                reason: "it has no default column family",
            });
        };
        let bytes = keys
            .iter()
            .map(|(_, key)| key.len() + key::PREFIX_BYTES)
            .sum();
        let mut encoded: Vec<u8> = Vec::with_capacity(bytes);
        for (group, key) in keys {
            encoded.extend_from_slice(&key::prefix(*group, table));
            encoded.extend_from_slice(key);
        }
        let mut rest = encoded.as_slice();
        let slices: Vec<&[u8]> = keys
            .iter()
            .map(|(_, key)| {
                let (head, tail) = rest.split_at(key.len() + key::PREFIX_BYTES);
                rest = tail;
                head
            })
            .collect();
        self.rocks
            .batched_multi_get_cf(&family, slices, false)
            .into_iter()
            .map(|value| match value {
                Ok(value) => Ok(value.map(|value| Bytes::copy_from_slice(&value))),
                Err(error) => Err(self.error("read", &error)),
            })
            .collect()
    }

    /// Writes without a log: snapshots are the durability.
    pub(crate) fn write(&self, writes: StateWrites) -> Result<()> {
        let mut batch = WriteBatch::default();
        for range in &writes.deleted_ranges {
            let from = key::encode(range.key_group, range.table, &range.from);
            let to = match &range.to {
                Some(to) => key::encode(range.key_group, range.table, to),
                None => key::prefix_end(range.key_group, range.table).to_vec(),
            };
            if from < to {
                batch.delete_range(from, to);
            }
        }
        for write in writes.entries {
            let key = key::encode(write.key_group, write.table, &write.key);
            match write.value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
            if batch.size_in_bytes() >= BATCH_BYTES {
                self.apply(std::mem::take(&mut batch))?;
            }
        }
        self.apply(batch)
    }

    pub(crate) fn apply(&self, batch: WriteBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.rocks
            .write_without_wal(batch)
            .map_err(|error| self.error("write", &error))
    }

    /// All entries of a table in the groups of `range`.
    pub(crate) fn scan(
        &self,
        table: StateTable,
        range: KeyGroupRange,
        visit: &mut Visit<'_>,
    ) -> weir_dataflow::Result<()> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(key::group_end(range.last));
        // One pass over everything must not push out what lookups need.
        options.fill_cache(false);
        let mut entries = self.rocks.raw_iterator_opt(options);
        entries.seek(key::prefix(range.first, table));
        while let Some((group, found, user_key)) = entries.key().and_then(key::decode) {
            if found < table {
                entries.seek(key::prefix(group, table));
            } else if found > table {
                entries.seek(key::prefix(group.saturating_add(1), table));
            } else {
                if !visit(group, user_key, entries.value().unwrap_or_default())? {
                    return Ok(());
                }
                entries.next();
            }
        }
        self.ended(&entries)
    }

    /// Entries of one group from a key on.
    pub(crate) fn scan_group(
        &self,
        table: StateTable,
        group: KeyGroup,
        from: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> weir_dataflow::Result<()> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(key::prefix_end(group, table));
        let mut entries = self.rocks.raw_iterator_opt(options);
        entries.seek(key::encode(group, table, from.unwrap_or_default()));
        while let Some((group, _, user_key)) = entries.key().and_then(key::decode) {
            if !visit(group, user_key, entries.value().unwrap_or_default())? {
                return Ok(());
            }
            entries.next();
        }
        self.ended(&entries)
    }

    /// An iterator that stops may have met an error.
    fn ended(&self, entries: &DBRawIterator<'_>) -> weir_dataflow::Result<()> {
        entries
            .status()
            .map_err(|error| self.error("read", &error).into())
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        self.rocks.cancel_all_background_work(true);
    }
}
