//! `KeyedState` on RocksDB.
//!
//! A state that was never written has no database, no thread and no folder: most operators of small jobs stay like that between
//! barriers that find nothing changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use parking_lot::Mutex;
use weir_common::ids::CheckpointId;
use weir_common::key_group::{KeyGroup, KeyGroupRange};
use weir_dataflow::state::{KeyedState, StateTable, StateWrites, Visit};
use weir_dataflow::{Result as DataResult, SnapshotTarget};
use weir_proto::v1;
use weir_snapshot::SharedFiles;

use crate::db::Db;
use crate::local_copies::{Kept, LocalCopies};
use crate::memory::StateMemory;
use crate::snapshot::{Local, PendingSnapshot, SnapshotFolder};
use crate::writer::Writer;
use crate::{Result, StateError};

/// Where and how a state lives.
#[derive(Debug, Clone)]
pub struct StateOptions {
    /// A folder of this operator instance and attempt alone; created when needed, removed with the state.
    pub folder: PathBuf,
    /// The key groups of the subtask.
    pub key_groups: KeyGroupRange,
    /// Shared by the process.
    pub memory: Arc<StateMemory>,
    /// The job's, if files of its checkpoints are kept on this machine.
    pub copies: Option<Arc<LocalCopies>>,
}

impl StateOptions {
    /// Folder of the database.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("db")
    }
}

/// Keyed state of one operator instance.
pub struct RocksState {
    options: StateOptions,
    writer: Option<Writer>,
    shared: Arc<Mutex<SharedFiles>>,
    kept: Arc<Kept>,
    /// The checkpoint since which nothing was written.
    unchanged_since: Option<CheckpointId>,
    /// Numbers the local folders of snapshots: an aborted checkpoint's may still be uploading.
    snapshots: u64,
    /// The snapshot that was begun and that further writes still belong to.
    open_snapshot: Option<OpenSnapshot>,
}

struct OpenSnapshot {
    checkpoint: CheckpointId,
    savepoint: bool,
    folder: PathBuf,
    local: SyncSender<Result<Local>>,
}

impl OpenSnapshot {
    /// All of it is on the store: there is nothing to be written or sent.
    fn done_with(self, files: Vec<v1::FileRef>) {
        // Nobody listens if the snapshot was given up.
        let _ = self.local.try_send(Ok(Local::Stored(files)));
    }
}

impl std::fmt::Debug for RocksState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RocksState({})", self.options.folder.display())
    }
}

impl RocksState {
    /// An empty state. What an earlier process left in the folder is removed.
    pub fn open(options: StateOptions) -> Result<Self> {
        clear(&options)?;
        Ok(Self {
            kept: Arc::new(Kept::new(options.copies.clone())),
            options,
            writer: None,
            shared: Arc::default(),
            unchanged_since: None,
            snapshots: 0,
            open_snapshot: None,
        })
    }

    /// `unchanged_since` is the checkpoint in `shared` of which `db` is the whole and all of it, if it is.
    pub(crate) fn with_database(
        options: StateOptions,
        db: Db,
        (shared, kept): (SharedFiles, Kept),
        unchanged_since: Option<CheckpointId>,
    ) -> Result<Self> {
        let writer = Writer::of(db, Arc::clone(&options.memory))?;
        Ok(Self {
            options,
            writer: Some(writer),
            shared: Arc::new(Mutex::new(shared)),
            kept: Arc::new(kept),
            unchanged_since,
            snapshots: 0,
            open_snapshot: None,
        })
    }

    /// Begins a snapshot of what was written and what will be, up to [`KeyedState::seal`]. Takes no I/O; the rest is done by
    /// [`PendingSnapshot::run`] on a thread that may block, while this state goes on being written.
    pub fn snapshot(
        &mut self,
        checkpoint: CheckpointId,
        target: &SnapshotTarget,
    ) -> Result<PendingSnapshot> {
        self.seal_snapshot()?;
        let savepoint = matches!(target, SnapshotTarget::Savepoint(_));
        if !savepoint {
            self.shared.lock().begin(checkpoint);
        }
        self.snapshots += 1;
        let folder = format!("snapshot-{}", self.snapshots);
        let folder = self.options.folder.join(folder);
        let (sender, local) = sync_channel(1);
        self.open_snapshot = Some(OpenSnapshot {
            checkpoint,
            savepoint,
            folder: folder.clone(),
            local: sender,
        });
        Ok(PendingSnapshot {
            range: self.options.key_groups,
            checkpoint,
            savepoint,
            folder: SnapshotFolder(folder),
            local,
            shared: Arc::clone(&self.shared),
            kept: Arc::clone(&self.kept),
        })
    }

    fn seal_snapshot(&mut self) -> Result<()> {
        let Some(open) = self.open_snapshot.take() else {
            return Ok(());
        };
        let Some(writer) = &self.writer else {
            self.shared.lock().abort(open.checkpoint);
            open.done_with(Vec::new());
            return Ok(());
        };
        if !open.savepoint
            && let Some(last) = self.unchanged_since.replace(open.checkpoint)
            && let Some(files) = self.shared.lock().repeat(last, open.checkpoint)
        {
            open.done_with(files);
            return Ok(());
        }
        writer.checkpoint(open.folder, open.local)
    }

    /// The checkpoint is complete: later ones may share its files. Unknown ids and savepoints' are passed over.
    pub fn confirm(&mut self, checkpoint: CheckpointId) {
        self.shared.lock().confirm(checkpoint);
    }

    /// The checkpoint will never complete; its files may be deleted from the store at any time.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        self.shared.lock().abort(checkpoint);
    }

    /// Bytes of files, memtables and changes on their way there.
    pub fn size_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| {
            let files = writer.current().map_or(0, Db::size_bytes);
            files + writer.waiting_bytes() as u64
        })
    }

    /// The database with all writes in it; `None` if there never was one.
    fn settled(&self) -> Result<Option<&Db>> {
        self.writer.as_ref().map(Writer::settled).transpose()
    }

    fn check_groups(&self, writes: &StateWrites) -> Result<()> {
        let range = self.options.key_groups;
        let groups = writes.entries.iter().map(|write| write.key_group);
        let ranges = writes.deleted_ranges.iter().map(|range| range.key_group);
        match groups.chain(ranges).find(|group| !range.contains(*group)) {
            None => Ok(()),
            Some(group) => Err(StateError::ForeignKeyGroup {
                group,
                first: range.first,
                last: range.last,
            }),
        }
    }
}

impl KeyedState for RocksState {
    fn key_groups(&self) -> KeyGroupRange {
        self.options.key_groups
    }

    fn multi_get(
        &mut self,
        table: StateTable,
        keys: &[(KeyGroup, &[u8])],
    ) -> DataResult<Vec<Option<Bytes>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        match self.settled()? {
            Some(db) => Ok(db.multi_get(table, keys)?),
            None => Ok(vec![None; keys.len()]),
        }
    }

    fn write(&mut self, writes: StateWrites) -> DataResult<()> {
        self.write_behind(writes)?;
        if let Some(writer) = &mut self.writer {
            writer.show();
        }
        Ok(())
    }

    fn write_behind(&mut self, writes: StateWrites) -> DataResult<()> {
        if writes.is_empty() {
            return Ok(());
        }
        self.check_groups(&writes)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None if writes.entries.iter().all(|write| write.value.is_none()) => return Ok(()),
            none => none.insert(Writer::create(
                self.options.database(),
                Arc::clone(&self.options.memory),
            )?),
        };
        self.unchanged_since = None;
        Ok(writer.write(writes)?)
    }

    fn has_room(&self) -> bool {
        self.writer.as_ref().is_none_or(Writer::has_room)
    }

    fn seal(&mut self) -> DataResult<()> {
        Ok(self.seal_snapshot()?)
    }

    fn scan(&mut self, table: StateTable, visit: &mut Visit<'_>) -> DataResult<()> {
        match self.settled()? {
            Some(db) => db.scan(table, self.options.key_groups, visit),
            None => Ok(()),
        }
    }

    fn scan_group(
        &mut self,
        table: StateTable,
        key_group: KeyGroup,
        from: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> DataResult<()> {
        match self.settled()? {
            Some(db) => db.scan_group(table, key_group, from, visit),
            None => Ok(()),
        }
    }

    fn is_empty(&self) -> bool {
        self.writer.is_none()
    }

    fn stored_bytes(&self) -> u64 {
        let db = self.writer.as_ref().and_then(Writer::current);
        db.map_or(0, Db::live_bytes)
    }
}

impl Drop for RocksState {
    fn drop(&mut self) {
        self.writer = None;
        if let Err(error) = clear(&self.options) {
            tracing::warn!("{error}; it is removed at the next start");
        }
    }
}

/// Removes the state's folder.
pub(crate) fn clear(options: &StateOptions) -> Result<()> {
    match std::fs::remove_dir_all(&options.folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let context = format!("cannot remove {}", options.folder.display());
            Err(StateError::local(context, &error))
        }
        _ => Ok(()),
    }
}
