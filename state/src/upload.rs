//! Upload of a local snapshot: what an earlier, confirmed checkpoint has on the store is named again, small files go into the
//! manifest, the rest is sent in parallel under names that no other attempt uses.

use std::path::PathBuf;

use parking_lot::Mutex;
use weir_common::ids::{AttemptId, CheckpointId};
use weir_proto::v1;
use weir_snapshot::{FileInfo, SharedFiles, Store, paths};

use crate::{Result, StateError, Transfers};

/// Where the snapshots of an attempt go.
#[derive(Debug, Clone)]
pub struct Uploader {
    pub(crate) store: Store,
    pub(crate) attempt: AttemptId,
    pub(crate) transfers: Transfers,
    inline_bytes: u64,
}

/// A file of a local snapshot.
#[derive(Debug, Clone)]
pub(crate) struct LocalFile {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
}

/// RocksDB never changes a table file, and never uses its number again.
pub(crate) fn is_table(name: &str) -> bool {
    name.ends_with(".sst")
}

impl Uploader {
    /// `store` is the job's checkpoint folder, or for a savepoint the savepoint's own folder.
    pub fn new(store: Store, attempt: AttemptId, transfers: Transfers) -> Self {
        Self {
            store,
            attempt,
            transfers,
            inline_bytes: 0,
        }
    }

    /// Of one state, files of up to so many bytes together go into the manifest, the smallest first: a request a file would cost
    /// more than they do. Every checkpoint carries them anew, and the job manager holds them.
    #[must_use]
    pub fn inlining(mut self, bytes: u64) -> Self {
        self.inline_bytes = bytes;
        self
    }

    /// Uploads every file; returns their references and the bytes sent.
    pub(crate) fn upload_savepoint(
        &self,
        local: Vec<LocalFile>,
    ) -> Result<(Vec<v1::FileRef>, u64)> {
        let (small, large) = self.split(local);
        let planned = large
            .into_iter()
            .map(|file| {
                let path = paths::new_savepoint_file(&file.name);
                (file, path)
            })
            .collect();
        let mut uploaded = self.send(planned)?;
        uploaded.extend(inline(small)?);
        let bytes = uploaded.iter().map(|file| file.size_bytes).sum();
        Ok((uploaded, bytes))
    }

    /// Uploads what can't be shared; returns references to all files and the bytes sent.
    pub(crate) fn upload_checkpoint(
        &self,
        checkpoint: CheckpointId,
        local: Vec<LocalFile>,
        shared: &Mutex<SharedFiles>,
    ) -> Result<(Vec<v1::FileRef>, u64)> {
        let (mut files, new, small) = {
            let mut shared = shared.lock();
            let (reused, new): (Vec<_>, Vec<_>) = local
                .into_iter()
                .map(|file| (find(&shared, checkpoint, &file), file))
                .partition(|(found, _)| found.is_some());
            let reused: Vec<_> = reused.into_iter().filter_map(|(found, _)| found).collect();
            let (small, large) = self.split(new.into_iter().map(|(_, file)| file).collect());
            let large: Vec<_> = large
                .into_iter()
                .map(|file| self.name(checkpoint, file))
                .collect();
            let new = large.iter().map(|(file, path)| (&*file.name, &**path));
            shared.plan(checkpoint, &reused, new);
            (reused, large, small)
        };
        let mut uploaded = self.send(new)?;
        uploaded.extend(inline(small)?);
        let bytes = uploaded.iter().map(|file| file.size_bytes).sum();
        files.extend(uploaded);
        shared.lock().uploaded(checkpoint, &files);
        Ok((files, bytes))
    }

    /// Files for the manifest, and those that become objects.
    fn split(&self, mut files: Vec<LocalFile>) -> (Vec<LocalFile>, Vec<LocalFile>) {
        files.sort_by_key(|file| file.size_bytes);
        let mut bytes = 0;
        let mut fits = |file: &LocalFile| {
            bytes += file.size_bytes;
            bytes <= self.inline_bytes
        };
        let small = files.iter().take_while(|file| fits(file)).count();
        let large = files.split_off(small);
        (files, large)
    }

    fn name(&self, checkpoint: CheckpointId, file: LocalFile) -> (LocalFile, String) {
        let path = if is_table(&file.name) {
            paths::new_shared_file(self.attempt, checkpoint, &file.name)
        } else {
            paths::new_private_file(self.attempt, checkpoint, &file.name)
        };
        (file, path)
    }

    fn send(&self, files: Vec<(LocalFile, String)>) -> Result<Vec<v1::FileRef>> {
        self.transfers.run(files, |(file, path)| async move {
            self.transfers.before_upload(file.size_bytes).await;
            let info = self.store.put_file(&path, &file.path).await?;
            if info.size_bytes != file.size_bytes {
                return Err(StateError::Local {
                    context: format!("cannot upload {}", file.path.display()),
                    message: "its size has changed".to_owned(),
                });
            }
            Ok(v1::FileRef {
                path,
                size_bytes: info.size_bytes,
                checksum: info.checksum,
                local_name: file.name,
                ..v1::FileRef::default()
            })
        })
    }
}

fn inline(files: Vec<LocalFile>) -> Result<Vec<v1::FileRef>> {
    let read = |file: LocalFile| {
        let content = std::fs::read(&file.path).map_err(|error| {
            StateError::local(format!("cannot read {}", file.path.display()), &error)
        })?;
        let info = FileInfo::of(&content);
        Ok(v1::FileRef {
            size_bytes: info.size_bytes,
            checksum: info.checksum,
            local_name: file.name,
            content,
            ..v1::FileRef::default()
        })
    };
    files.into_iter().map(read).collect()
}

/// The object of an earlier checkpoint that this file is.
fn find(shared: &SharedFiles, checkpoint: CheckpointId, file: &LocalFile) -> Option<v1::FileRef> {
    is_table(&file.name)
        .then(|| shared.find(checkpoint, &file.name, file.size_bytes))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_table_files_are_shared() {
        let stored = |name: &str| v1::FileRef {
            path: format!("shared/{name}"),
            size_bytes: 10,
            local_name: name.to_owned(),
            ..v1::FileRef::default()
        };
        let files = ["1.sst", "MANIFEST-1"].map(stored);
        let shared = SharedFiles::restored(CheckpointId(0), &files);
        let found = |name: &str| {
            let file = LocalFile {
                path: PathBuf::from(name),
                name: name.to_owned(),
                size_bytes: 10,
            };
            find(&shared, CheckpointId(1), &file)
        };
        assert_eq!(found("1.sst"), Some(stored("1.sst")));
        assert_eq!(found("MANIFEST-1"), None);
    }
}
