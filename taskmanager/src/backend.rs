//! The keyed state of an operator as a subtask holds it: what operators see, and how it takes part in checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use weir_common::config::S3Config;
use weir_common::ids::{AttemptId, CheckpointId};
use weir_common::key_group::{KeyGroup, KeyGroupRange};
use weir_dataflow::state::Visit;
use weir_dataflow::{Deferred, Error, KeyedState, Result, SnapshotTarget, StateTable, StateWrites};
use weir_proto::v1;
use weir_snapshot::Store;
use weir_state::{PartedState, Transfers, Uploader};

/// Brings the files of a local snapshot to the object store; gives its parts, of which there is one at least. Runs beside the stream.
pub type Upload = Deferred<Vec<v1::KeyedState>>;

/// Keyed state with its part in checkpoints.
pub trait KeyedBackend: KeyedState {
    /// Begins a snapshot of all that is written up to [`KeyedState::seal`], quickly; `None` if there is no keyed state.
    fn snapshot(
        &mut self,
        checkpoint: CheckpointId,
        target: &SnapshotTarget,
    ) -> Result<Option<Upload>>;

    /// Later snapshots may build on this one's files.
    fn checkpoint_completed(&mut self, checkpoint: CheckpointId);

    /// This snapshot's files count for nothing.
    fn checkpoint_aborted(&mut self, checkpoint: CheckpointId);

    /// Bytes on disk and in memory.
    fn size_bytes(&self) -> u64;
}

/// For operators that keep nothing by key.
#[derive(Debug)]
pub struct NoState {
    operator: String,
    key_groups: KeyGroupRange,
}

impl NoState {
    /// `operator` is named when it writes nevertheless.
    pub fn new(operator: &str, key_groups: KeyGroupRange) -> Self {
        Self {
            operator: operator.to_owned(),
            key_groups,
        }
    }
}

impl KeyedState for NoState {
    fn key_groups(&self) -> KeyGroupRange {
        self.key_groups
    }

    fn multi_get(
        &mut self,
        _: StateTable,
        keys: &[(KeyGroup, &[u8])],
    ) -> Result<Vec<Option<Bytes>>> {
        Ok(vec![None; keys.len()])
    }

    fn write(&mut self, writes: StateWrites) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        Err(Error::Internal(format!(
            "operator '{}' writes keyed state, but its kind is not known to have any",
            self.operator
        )))
    }

    fn scan(&mut self, _: StateTable, _: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }

    fn scan_group(
        &mut self,
        _: StateTable,
        _: KeyGroup,
        _: Option<&[u8]>,
        _: &mut Visit<'_>,
    ) -> Result<()> {
        Ok(())
    }

    fn is_empty(&self) -> bool {
        true
    }
}

impl KeyedBackend for NoState {
    fn snapshot(&mut self, _: CheckpointId, _: &SnapshotTarget) -> Result<Option<Upload>> {
        Ok(None)
    }

    fn checkpoint_completed(&mut self, _: CheckpointId) {}

    fn checkpoint_aborted(&mut self, _: CheckpointId) {}

    fn size_bytes(&self) -> u64 {
        0
    }
}

/// Where an attempt's snapshots go.
pub struct SnapshotTargets {
    /// The attempt; its number is in the names of files.
    pub attempt: AttemptId,
    /// The job's checkpoint folder; a job without one takes no checkpoints.
    pub checkpoints: Option<Store>,
    /// Access to the folders of savepoints.
    pub s3: S3Config,
    /// The right to use the network.
    pub transfers: Transfers,
    /// Small files of up to so many bytes together, of one operator instance, go into the manifest.
    pub inline_bytes: u64,
}

const INLINE_BYTES: &str = "execution.checkpointing.data-inline-threshold";
const INLINE_BYTES_DEFAULT: u64 = 20 << 10;
/// The job manager holds the manifests of all subtasks. SQL refuses more.
const INLINE_BYTES_MOST: u64 = 1 << 20;

/// What a job's options say of [`SnapshotTargets::inline_bytes`].
pub fn inline_bytes(options: &BTreeMap<String, String>) -> u64 {
    let set = options.get(INLINE_BYTES).and_then(|text| text.parse().ok());
    set.unwrap_or(INLINE_BYTES_DEFAULT).min(INLINE_BYTES_MOST)
}

impl SnapshotTargets {
    /// Writes to where snapshots of this kind go; `None`: the job takes no checkpoints.
    pub fn uploader(&self, target: &SnapshotTarget) -> Result<Option<Uploader>> {
        let store = match target {
            SnapshotTarget::Checkpoint => self.checkpoints.clone(),
            SnapshotTarget::Savepoint(folder) => {
                let store = Store::open(folder, &self.s3);
                Some(store.map_err(|error| Error::Config(error.to_string()))?)
            }
        };
        Ok(store.map(|store| {
            Uploader::new(store, self.attempt, self.transfers.clone()).inlining(self.inline_bytes)
        }))
    }
}

/// State in RocksDB.
pub struct RocksBackend {
    state: PartedState,
    targets: Arc<SnapshotTargets>,
}

impl RocksBackend {
    /// A state and where its snapshots go.
    pub fn new(state: PartedState, targets: Arc<SnapshotTargets>) -> Self {
        Self { state, targets }
    }
}

impl KeyedState for RocksBackend {
    fn key_groups(&self) -> KeyGroupRange {
        self.state.key_groups()
    }

    fn multi_get(
        &mut self,
        table: StateTable,
        keys: &[(KeyGroup, &[u8])],
    ) -> Result<Vec<Option<Bytes>>> {
        self.state.multi_get(table, keys)
    }

    fn write(&mut self, writes: StateWrites) -> Result<()> {
        self.state.write(writes)
    }

    fn write_behind(&mut self, writes: StateWrites) -> Result<()> {
        self.state.write_behind(writes)
    }

    fn has_room(&self) -> bool {
        self.state.has_room()
    }

    fn seal(&mut self) -> Result<()> {
        self.state.seal()
    }

    fn scan(&mut self, table: StateTable, visit: &mut Visit<'_>) -> Result<()> {
        self.state.scan(table, visit)
    }

    fn scan_group(
        &mut self,
        table: StateTable,
        key_group: KeyGroup,
        from: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        self.state.scan_group(table, key_group, from, visit)
    }

    fn is_empty(&self) -> bool {
        self.state.is_empty()
    }

    fn stored_bytes(&self) -> u64 {
        self.state.stored_bytes()
    }
}

impl KeyedBackend for RocksBackend {
    fn snapshot(
        &mut self,
        checkpoint: CheckpointId,
        target: &SnapshotTarget,
    ) -> Result<Option<Upload>> {
        let Some(uploader) = self.targets.uploader(target)? else {
            return Ok(None);
        };
        let pending = self.state.snapshot(checkpoint, target)?;
        Ok(Some(Box::new(move || Ok(pending.run(&uploader)?))))
    }

    fn checkpoint_completed(&mut self, checkpoint: CheckpointId) {
        self.state.confirm(checkpoint);
    }

    fn checkpoint_aborted(&mut self, checkpoint: CheckpointId) {
        self.state.abort(checkpoint);
    }

    fn size_bytes(&self) -> u64 {
        self.state.size_bytes()
    }
}
