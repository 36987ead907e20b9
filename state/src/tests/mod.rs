//! Against real databases in temporary folders.

mod conformance;
mod copies;
mod parted;
mod reader;
mod rescale;
mod snapshots;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;
use weir_common::config::S3Config;
use weir_common::ids::{AttemptId, CheckpointId};
use weir_common::key_group::{KeyGroup, KeyGroupRange, hash_key};
use weir_dataflow::{KeyedState, SnapshotTarget, StateTable, StateWrites};
use weir_proto::v1;
use weir_snapshot::Store;

use crate::{
    PendingSnapshot, RestoreSource, RocksState, StateMemory, StateOptions, Transfers, Uploader,
};

const GROUPS: u32 = 16;

/// All entries of a state.
type Content = BTreeMap<(StateTable, KeyGroup, Vec<u8>), Vec<u8>>;

/// A process with a local disk and an object store.
struct World {
    dir: tempfile::TempDir,
    runtime: Runtime,
    memory: Arc<StateMemory>,
    store: Store,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().join("store");
        Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            memory: Arc::new(StateMemory::new(8 << 20, 4 << 20).unwrap()),
            store: Store::open(&url.to_string_lossy(), &S3Config::default()).unwrap(),
            dir,
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join("local").join(name)
    }

    fn stored(&self, file: &v1::FileRef) -> PathBuf {
        self.dir.path().join("store").join(&file.path)
    }

    fn options(&self, name: &str, key_groups: KeyGroupRange) -> StateOptions {
        StateOptions {
            folder: self.folder(name),
            key_groups,
            memory: Arc::clone(&self.memory),
            copies: None,
        }
    }

    fn open(&self, name: &str) -> RocksState {
        RocksState::open(self.options(name, all_groups())).unwrap()
    }

    fn transfers(&self) -> Transfers {
        Transfers::new(self.runtime.handle().clone(), 4)
    }

    fn uploader(&self) -> Uploader {
        Uploader::new(self.store.clone(), AttemptId(1), self.transfers())
    }

    fn checkpoint(&self, state: &mut RocksState, id: u64) -> v1::KeyedState {
        let pending = begin(state, id, &SnapshotTarget::Checkpoint);
        pending.run(&self.uploader()).unwrap()
    }

    fn source(&self) -> RestoreSource {
        RestoreSource {
            base: self.store.clone(),
            share_files: true,
        }
    }

    fn restore(
        &self,
        name: &str,
        range: KeyGroupRange,
        parts: &[v1::KeyedState],
    ) -> crate::Result<RocksState> {
        let options = self.options(name, range);
        RocksState::restore(options, parts, &self.source(), &self.transfers())
    }
}

/// A snapshot of all that was written before.
fn begin(state: &mut RocksState, id: u64, target: &SnapshotTarget) -> PendingSnapshot {
    let pending = state.snapshot(CheckpointId(id), target).unwrap();
    state.seal().unwrap();
    pending
}

fn all_groups() -> KeyGroupRange {
    KeyGroupRange::of_subtask(0, GROUPS, 1)
}

fn one(group: KeyGroup, key: &str, value: &str) -> StateWrites {
    let mut writes = StateWrites::default();
    writes.put(StateTable(0), group, key.into(), value.into());
    writes
}

fn content(state: &mut dyn KeyedState) -> Content {
    let mut content = Content::new();
    for table in [0, 1, 255].map(StateTable) {
        state
            .scan(table, &mut |group, key, value| {
                content.insert((table, group, key.to_vec()), value.to_vec());
                Ok(true)
            })
            .unwrap();
    }
    content
}

/// As many entries in each group, with values that do not compress away.
fn fill(state: &mut dyn KeyedState, entries: u64) {
    let mut writes = StateWrites::default();
    for group in state.key_groups().first..=state.key_groups().last {
        for entry in 0..entries {
            let key = entry.to_be_bytes().to_vec();
            let seed = u64::from(group) << 32 | entry;
            let value = (0..16u64)
                .flat_map(|n| hash_key(&(seed << 8 | n).to_le_bytes()).to_le_bytes())
                .collect();
            writes.put(StateTable((entry % 2) as u8), group, key, value);
        }
    }
    state.write(writes).unwrap();
}
