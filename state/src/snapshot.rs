//! From the cut to the uploaded files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use parking_lot::Mutex;
use weir_common::ids::CheckpointId;
use weir_common::key_group::KeyGroupRange;
use weir_proto::v1;
use weir_snapshot::SharedFiles;
use weir_snapshot::rescale::range_to_proto;

use crate::local_copies::Kept;
use crate::upload::{LocalFile, Uploader, is_table};
use crate::writer::STUCK_AFTER;
use crate::{Result, StateError};

/// A local folder that goes away with this.
pub(crate) struct SnapshotFolder(pub(crate) PathBuf);

impl Drop for SnapshotFolder {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", self.0.display());
            }
            _ => {}
        }
    }
}

/// What a sealed snapshot is made of.
pub(crate) enum Local {
    /// A RocksDB checkpoint in the snapshot's folder.
    Files,
    /// Nothing has changed since a checkpoint that is on the store.
    Stored(Vec<v1::FileRef>),
}

/// A snapshot that was begun and is not uploaded yet. Dropping it gives it up.
pub struct PendingSnapshot {
    pub(crate) range: KeyGroupRange,
    pub(crate) checkpoint: CheckpointId,
    pub(crate) savepoint: bool,
    pub(crate) folder: SnapshotFolder,
    /// Hears when the snapshot is sealed and its files are there.
    pub(crate) local: Receiver<Result<Local>>,
    pub(crate) shared: Arc<Mutex<SharedFiles>>,
    pub(crate) kept: Arc<Kept>,
}

impl PendingSnapshot {
    /// Waits for the local checkpoint and uploads what the store does not have. Blocks: must not run on a slot's thread nor on a
    /// thread that drives async tasks (`spawn_blocking` is right). On return all files are durable.
    pub fn run(self, uploader: &Uploader) -> Result<v1::KeyedState> {
        let (files, uploaded_bytes) = match self.local()? {
            Local::Stored(files) => (files, 0),
            Local::Files => {
                let local = files_to_keep(&self.folder.0)?;
                if self.savepoint {
                    uploader.upload_savepoint(local)?
                } else {
                    let uploaded =
                        uploader.upload_checkpoint(self.checkpoint, local, &self.shared)?;
                    self.keep_copies(&uploaded.0);
                    uploaded
                }
            }
        };
        Ok(v1::KeyedState {
            key_groups: Some(range_to_proto(self.range)),
            files,
            uploaded_bytes,
        })
    }

    fn local(&self) -> Result<Local> {
        let reason = match self.local.recv_timeout(STUCK_AFTER) {
            Ok(local) => return local,
            Err(RecvTimeoutError::Timeout) => "the local snapshot takes too long",
            Err(RecvTimeoutError::Disconnected) => "it was closed before its snapshot",
        };
        let folder = self.folder.0.clone();
        Err(StateError::Stuck { folder, reason })
    }

    fn keep_copies(&self, files: &[v1::FileRef]) {
        let is_object = |file: &&v1::FileRef| !file.path.is_empty() && is_table(&file.local_name);
        for file in files.iter().filter(is_object) {
            self.kept.keep(file, &self.folder.0);
        }
        let named = self.shared.lock().stored();
        self.kept.retain(|stored| named.contains(stored));
    }
}

/// The files of a RocksDB checkpoint that a database is made of. `CURRENT` only names the one `MANIFEST`, and is made again at
/// restore; options come from the program; there is no write-ahead log.
fn files_to_keep(folder: &Path) -> Result<Vec<LocalFile>> {
    let failed = |error: &std::io::Error| {
        StateError::local(format!("cannot read {}", folder.display()), error)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_table(&name) || name.starts_with("MANIFEST-") {
            files.push(LocalFile {
                size_bytes: entry.metadata().map_err(|e| failed(&e))?.len(),
                path: entry.path(),
                name,
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
