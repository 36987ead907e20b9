//! From the cut to the uploaded files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use parking_lot::Mutex;
use weir_common::ids::CheckpointId;
use weir_common::key_group::KeyGroupRange;
use weir_proto::v1;
use weir_snapshot::rescale::range_to_proto;

use crate::local_copies::Kept;
use crate::upload::{LocalFile, SharedFiles, Uploader, is_table};
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

/// A cut that is not uploaded yet. Dropping it gives it up.
pub struct PendingSnapshot {
    range: KeyGroupRange,
    work: Work,
}

enum Work {
    /// Everything is on the store already.
    Done(Vec<v1::FileRef>),
    Upload(Cut),
}

struct Cut {
    checkpoint: CheckpointId,
    savepoint: bool,
    folder: SnapshotFolder,
    made: Receiver<Result<()>>,
    shared: Arc<Mutex<SharedFiles>>,
    kept: Arc<Kept>,
}

impl PendingSnapshot {
    /// Of a state that has nothing.
    pub(crate) fn empty(range: KeyGroupRange) -> Self {
        Self::repeated(range, Vec::new())
    }

    /// Of a state that is on the store as it is.
    pub(crate) fn repeated(range: KeyGroupRange, files: Vec<v1::FileRef>) -> Self {
        Self {
            range,
            work: Work::Done(files),
        }
    }

    pub(crate) fn new(
        range: KeyGroupRange,
        checkpoint: CheckpointId,
        savepoint: bool,
        folder: SnapshotFolder,
        made: Receiver<Result<()>>,
        (shared, kept): (Arc<Mutex<SharedFiles>>, Arc<Kept>),
    ) -> Self {
        Self {
            range,
            work: Work::Upload(Cut {
                checkpoint,
                savepoint,
                folder,
                made,
                shared,
                kept,
            }),
        }
    }

    /// Waits for the local checkpoint and uploads what the store does not have. Blocks: must not run on a slot's thread nor on a
    /// thread that drives async tasks (`spawn_blocking` is right). On return all files are durable.
    pub fn run(self, uploader: &Uploader) -> Result<v1::KeyedState> {
        let (files, uploaded_bytes) = match self.work {
            Work::Upload(cut) => cut.run(uploader)?,
            Work::Done(files) => (files, 0),
        };
        Ok(v1::KeyedState {
            key_groups: Some(range_to_proto(self.range)),
            files,
            uploaded_bytes,
        })
    }
}

impl Cut {
    fn run(self, uploader: &Uploader) -> Result<(Vec<v1::FileRef>, u64)> {
        match self.made.recv_timeout(STUCK_AFTER) {
            Ok(made) => made?,
            Err(error) => {
                return Err(StateError::Stuck {
                    folder: self.folder.0.clone(),
                    reason: match error {
                        RecvTimeoutError::Timeout => "the local snapshot takes too long",
                        RecvTimeoutError::Disconnected => "it was closed before its snapshot",
                    },
                });
            }
        }
        let local = files_to_keep(&self.folder.0)?;
        if self.savepoint {
            return uploader.upload_savepoint(local);
        }
        let uploaded = uploader.upload_checkpoint(self.checkpoint, local, &self.shared)?;
        self.keep_copies(&uploaded.0);
        Ok(uploaded)
    }

    fn keep_copies(&self, files: &[v1::FileRef]) {
        for file in files.iter().filter(|file| is_table(&file.local_name)) {
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
