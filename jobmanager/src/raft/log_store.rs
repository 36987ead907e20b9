//! The Raft log of this job manager: entries, hard state and the last snapshot, in RocksDB.
//!
//! Invariant: what a method has returned `Ok` for survives a crash of the machine (every write is synced). Reads are answered from
//! memory: compaction keeps the log short, and raft-rs gives up on any read error. A data folder belongs to one cluster and one member
//! for ever. An empty one takes no part in anything until it has either founded the cluster or been let in (see `entry.rs`).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use raft::prelude::{Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use rocksdb::{DB, IteratorMode, Options, WriteBatch, WriteOptions};

const IDENTITY: &[u8] = b"m/identity";
const HARD_STATE: &[u8] = b"m/hard_state";
const SNAPSHOT: &[u8] = b"m/snapshot";
const ENTRY_PREFIX: u8 = b'e';
/// Index and term of a cluster's first snapshot.
const GENESIS: u64 = 1;

/// Why the log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    /// RocksDB's own words, with the folder.
    #[error("job manager data folder {path}: {message}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What failed.
        message: String,
    },
    /// The folder was written by another cluster.
    #[error(
        "job manager data folder {path} belongs to cluster '{found}', this process is configured for '{configured}'"
    )]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// In the folder.
        found: String,
        /// In the configuration.
        configured: String,
    },
    /// The folder was written by another member.
    #[error(
        "job manager data folder {path} belongs to job manager {found_id}, this process is configured as job manager {id}"
    )]
    OtherMember {
        /// The folder.
        path: PathBuf,
        /// In the folder.
        found_id: u64,
        /// In the configuration.
        id: u64,
    },
}

/// Who a data folder belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster_id: String,
    /// Number of this member, from 1.
    pub id: u64,
    /// Tells this folder from others of the same member: 0 for a first member's first one, else milliseconds at its making.
    pub incarnation: u64,
}

/// In front of the identity: the layout of the folder.
const LAYOUT: &str = "weir-raft-2";

impl Identity {
    fn encode(&self) -> String {
        format!(
            "{LAYOUT} {} {} {}",
            self.id, self.incarnation, self.cluster_id
        )
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(LAYOUT)?.trim_start().splitn(3, ' ');
        Some(Self {
            id: parts.next()?.parse().ok()?,
            incarnation: parts.next()?.parse().ok()?,
            cluster_id: parts.next()?.to_owned(),
        })
    }
}

/// The log, see the file's head.
pub struct LogStore {
    db: DB,
    path: PathBuf,
    identity: Option<Identity>,
    hard_state: HardState,
    snapshot: Snapshot,
    /// Continuous, the first one follows the snapshot.
    entries: VecDeque<Entry>,
    entry_bytes: usize,
}

impl LogStore {
    /// Opens the folder, or makes an empty one.
    pub fn open(path: &Path, cluster_id: &str, id: u64) -> Result<Self, LogStoreError> {
        let fail = |message: String| LogStoreError::Io {
            path: path.to_owned(),
            message,
        };
        std::fs::create_dir_all(path).map_err(|error| fail(error.to_string()))?;
        let db = DB::open(&options(), path).map_err(|error| fail(error.into_string()))?;
        let mut store = Self {
            db,
            path: path.to_owned(),
            identity: None,
            hard_state: HardState::default(),
            snapshot: Snapshot::default(),
            entries: VecDeque::new(),
            entry_bytes: 0,
        };
        if let Some(bytes) = store.read(IDENTITY)? {
            store.identity = Some(store.check_identity(&bytes, cluster_id, id)?);
        }
        store.load()?;
        Ok(store)
    }

    fn check_identity(
        &self,
        bytes: &[u8],
        cluster_id: &str,
        id: u64,
    ) -> Result<Identity, LogStoreError> {
        let found = std::str::from_utf8(bytes)
            .ok()
            .and_then(Identity::decode)
            .ok_or_else(|| self.fail("its identity cannot be read by this version"))?;
        if found.cluster_id != cluster_id {
            return Err(LogStoreError::OtherCluster {
                path: self.path.clone(),
                found: found.cluster_id,
                configured: cluster_id.to_owned(),
            });
        }
        if found.id != id {
            return Err(LogStoreError::OtherMember {
                path: self.path.clone(),
                found_id: found.id,
                id,
            });
        }
        Ok(found)
    }

    /// Whose folder it is; `None`: it is empty.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whether it has a state: its member has founded the cluster, or received a snapshot from it.
    pub fn has_state(&self) -> bool {
        self.snapshot.get_metadata().index > 0
    }

    /// Nothing was decided or voted on by this member since the cluster was founded.
    pub fn is_blank(&self) -> bool {
        self.hard_state.term <= GENESIS && self.last() <= GENESIS
    }

    /// The folder belongs to this member from now on, which waits to be let in.
    pub fn claim(&mut self, identity: Identity) -> Result<(), LogStoreError> {
        let mut batch = WriteBatch::default();
        batch.put(IDENTITY, identity.encode());
        self.write(batch)?;
        self.identity = Some(identity);
        Ok(())
    }

    /// Begins the log of a new cluster. All first members begin with the same snapshot of these voters, so that none has to be told; it
    /// stands at index 1, so that whoever comes later cannot begin without a snapshot.
    pub fn found(
        &mut self,
        identity: Identity,
        voters: Vec<u64>,
        state: Vec<u8>,
    ) -> Result<(), LogStoreError> {
        self.claim(identity)?;
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = GENESIS;
        metadata.term = GENESIS;
        metadata.mut_conf_state().set_voters(voters);
        snapshot.data = state.into();
        self.install(snapshot)
    }

    fn load(&mut self) -> Result<(), LogStoreError> {
        if let Some(bytes) = self.read(HARD_STATE)? {
            self.hard_state = self.decode(&bytes)?;
        }
        if let Some(bytes) = self.read(SNAPSHOT)? {
            self.snapshot = self.decode(&bytes)?;
        }
        let first = self.snapshot.get_metadata().index + 1;
        let start = entry_key(first);
        let mut entries = VecDeque::new();
        for item in self
            .db
            .iterator(IteratorMode::From(&start, rocksdb::Direction::Forward))
        {
            let (key, value) = item.map_err(|error| self.fail(&error.into_string()))?;
            if key.first() != Some(&ENTRY_PREFIX) {
                break;
            }
            let entry: Entry = self.decode(&value)?;
            let expected = first + entries.len() as u64;
            if entry.index != expected {
                return Err(self.fail(&format!(
                    "the log has a gap: entry {expected} is missing, {} follows",
                    entry.index
                )));
            }
            self.entry_bytes += entry.data.len();
            entries.push_back(entry);
        }
        self.entries = entries;
        Ok(())
    }

    /// The last snapshot of the state machine; its data is empty before the first.
    pub fn last_snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Entries and their bytes since the last snapshot.
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.entry_bytes)
    }

    /// Makes a ready's entries and hard state durable, in one synced write. Entries replace what stands at their indices and behind.
    pub fn persist(
        &mut self,
        entries: &[Entry],
        hard_state: Option<&HardState>,
    ) -> Result<(), LogStoreError> {
        if entries.is_empty() && hard_state.is_none() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        if let Some(hard_state) = hard_state {
            batch.put(HARD_STATE, self.encode(hard_state)?);
        }
        if let Some(first) = entries.first() {
            let last_written = first.index + entries.len() as u64 - 1;
            for stale in last_written + 1..=self.last() {
                batch.delete(entry_key(stale));
            }
            for entry in entries {
                batch.put(entry_key(entry.index), self.encode(entry)?);
            }
        }
        self.write(batch)?;
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state.clone();
        }
        if let Some(first) = entries.first() {
            let keep = first.index.saturating_sub(self.first()) as usize;
            for dropped in self.entries.drain(keep.min(self.entries.len())..) {
                self.entry_bytes -= dropped.data.len();
            }
            self.entry_bytes += entries.iter().map(|entry| entry.data.len()).sum::<usize>();
            self.entries.extend(entries.iter().cloned());
        }
        Ok(())
    }

    /// Records how far the log is committed. Not synced: a lost value only means that entries are committed anew.
    pub fn set_commit(&mut self, commit: u64) -> Result<(), LogStoreError> {
        self.hard_state.commit = commit;
        let bytes = self.encode(&self.hard_state)?;
        self.db
            .put(HARD_STATE, bytes)
            .map_err(|error| self.fail(&error.into_string()))
    }

    /// Replaces everything up to the snapshot's index by the snapshot: after one came from the leader, or to keep the log short.
    pub fn install(&mut self, snapshot: Snapshot) -> Result<(), LogStoreError> {
        let (index, term) = (snapshot.get_metadata().index, snapshot.get_metadata().term);
        let mut hard_state = self.hard_state.clone();
        hard_state.commit = hard_state.commit.max(index);
        hard_state.term = hard_state.term.max(term);
        // Entries behind the snapshot are only kept if they continue it.
        let continues = self.term_of(index) == Some(term);
        let dropped_to = if continues {
            index
        } else {
            self.last().max(index)
        };
        let mut batch = WriteBatch::default();
        batch.put(SNAPSHOT, self.encode(&snapshot)?);
        batch.put(HARD_STATE, self.encode(&hard_state)?);
        for dropped in self.first()..=dropped_to {
            batch.delete(entry_key(dropped));
        }
        self.write(batch)?;
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.index <= dropped_to)
        {
            if let Some(entry) = self.entries.pop_front() {
                self.entry_bytes -= entry.data.len();
            }
        }
        self.snapshot = snapshot;
        self.hard_state = hard_state;
        Ok(())
    }

    fn first(&self) -> u64 {
        self.snapshot.get_metadata().index + 1
    }

    fn last(&self) -> u64 {
        self.snapshot.get_metadata().index + self.entries.len() as u64
    }

    /// Term of an entry that the log or the snapshot knows.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        let base = self.snapshot.get_metadata();
        if index == base.index {
            return Some(base.term);
        }
        let offset = usize::try_from(index.checked_sub(self.first())?).ok()?;
        self.entries.get(offset).map(|entry| entry.term)
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LogStoreError> {
        self.db
            .get(key)
            .map_err(|error| self.fail(&error.into_string()))
    }

    fn write(&self, batch: WriteBatch) -> Result<(), LogStoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db
            .write_opt(batch, &options)
            .map_err(|error| self.fail(&error.into_string()))
    }

    fn encode<M: protobuf::Message>(&self, message: &M) -> Result<Vec<u8>, LogStoreError> {
        message
            .write_to_bytes()
            .map_err(|error| self.fail(&error.to_string()))
    }

    fn decode<M: protobuf::Message>(&self, bytes: &[u8]) -> Result<M, LogStoreError> {
        let mut message = M::new();
        message
            .merge_from_bytes(bytes)
            .map_err(|error| self.fail(&format!("a record cannot be read: {error}")))?;
        Ok(message)
    }

    /// For content that is not this version's.
    pub(super) fn unreadable(&self, message: &str) -> LogStoreError {
        self.fail(message)
    }

    fn fail(&self, message: &str) -> LogStoreError {
        LogStoreError::Io {
            path: self.path.clone(),
            message: message.to_owned(),
        }
    }
}

fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [ENTRY_PREFIX; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The log is small: RocksDB gets little memory and few files.
fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(4 << 20);
    options.set_max_write_buffer_number(2);
    options.set_keep_log_file_num(2);
    options.set_max_open_files(64);
    options
}

impl Storage for LogStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.snapshot.get_metadata().get_conf_state().clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let skip = (low - self.first()) as usize;
        let take = (high - low) as usize;
        let mut entries: Vec<Entry> = self.entries.iter().skip(skip).take(take).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.term_of(index).ok_or_else(|| {
            if index < self.first() {
                StorageError::Compacted.into()
            } else {
                StorageError::Unavailable.into()
            }
        })
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // The stored one is always recent enough: every change of the members makes a new one.
        if self.snapshot.get_metadata().index < request_index || self.snapshot.data.is_empty() {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(self.snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founded(path: &Path) -> LogStore {
        let mut store = LogStore::open(path, "a", 1).unwrap();
        let identity = Identity {
            cluster_id: "a".to_owned(),
            id: 1,
            incarnation: 0,
        };
        store
            .found(identity, vec![1, 2, 3], b"state".to_vec())
            .unwrap();
        store
    }

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            data: format!("{index}@{term}").into(),
            ..Default::default()
        }
    }

    fn hard_state(term: u64, commit: u64) -> HardState {
        HardState {
            term,
            commit,
            ..Default::default()
        }
    }

    fn all(store: &LogStore) -> Vec<(u64, u64)> {
        store
            .entries(
                store.first(),
                store.last() + 1,
                None,
                GetEntriesContext::empty(false),
            )
            .unwrap()
            .iter()
            .map(|entry| (entry.index, entry.term))
            .collect()
    }

    #[test]
    fn what_was_persisted_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = founded(dir.path());
        store
            .persist(
                &[entry(2, 1), entry(3, 1), entry(4, 1)],
                Some(&hard_state(1, 3)),
            )
            .unwrap();
        // A new leader overwrites the tail with a shorter one.
        store
            .persist(&[entry(3, 2)], Some(&hard_state(2, 3)))
            .unwrap();
        drop(store);

        let store = LogStore::open(dir.path(), "a", 1).unwrap();
        assert_eq!(all(&store), [(2, 1), (3, 2)]);
        let state = store.initial_state().unwrap();
        assert_eq!((state.hard_state.term, state.hard_state.commit), (2, 3));
        assert_eq!(state.conf_state.voters, [1, 2, 3]);
        assert!(store.term(4).is_err());
    }

    #[test]
    fn a_snapshot_takes_the_place_of_the_entries_it_covers() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = founded(dir.path());
        store
            .persist(&[entry(2, 1), entry(3, 1), entry(4, 1)], None)
            .unwrap();
        let mut snapshot = store.last_snapshot().clone();
        snapshot.mut_metadata().index = 3;
        snapshot.mut_metadata().term = 1;
        snapshot.data = "newer".into();
        store.install(snapshot).unwrap();
        drop(store);

        let store = LogStore::open(dir.path(), "a", 1).unwrap();
        assert_eq!(all(&store), [(4, 1)]);
        assert_eq!(store.term(3).unwrap(), 1);
        assert!(store.term(2).is_err());
        assert_eq!(&store.snapshot(3, 2).unwrap().data[..], b"newer");
    }

    #[test]
    fn a_snapshot_from_elsewhere_drops_entries_that_do_not_continue_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = founded(dir.path());
        store.persist(&[entry(2, 1), entry(3, 1)], None).unwrap();
        let mut snapshot = store.last_snapshot().clone();
        snapshot.mut_metadata().index = 9;
        snapshot.mut_metadata().term = 4;
        snapshot.data = "state".into();
        store.install(snapshot).unwrap();
        assert_eq!(
            (store.first_index().unwrap(), store.last_index().unwrap()),
            (10, 9)
        );
        store.persist(&[entry(10, 4)], None).unwrap();
        assert_eq!(all(&store), [(10, 4)]);
    }

    #[test]
    fn a_folder_of_another_cluster_or_member_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(founded(dir.path()));
        let error = LogStore::open(dir.path(), "b", 1).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("belongs to cluster 'a', this process is configured for 'b'"),
            "{error}"
        );
        let error = LogStore::open(dir.path(), "a", 2).err().unwrap();
        assert!(error.to_string().contains("job manager 1"), "{error}");
    }

    #[test]
    fn a_folder_that_waits_to_be_let_in_has_an_owner_and_no_state() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = LogStore::open(dir.path(), "a", 4).unwrap();
        assert!(store.identity().is_none());
        let identity = Identity {
            cluster_id: "a".to_owned(),
            id: 4,
            incarnation: 77,
        };
        store.claim(identity.clone()).unwrap();
        drop(store);
        let store = LogStore::open(dir.path(), "a", 4).unwrap();
        assert_eq!(store.identity(), Some(&identity));
        assert!(!store.has_state() && store.is_blank());
        assert!(store.initial_state().unwrap().conf_state.voters.is_empty());
        let founder = founded(&dir.path().join("other"));
        assert!(founder.has_state() && founder.is_blank());
    }
}
