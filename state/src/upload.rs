//! Upload of a local snapshot: what an earlier, confirmed checkpoint has on the store is named again, small files go into the
//! manifest, the rest is sent in parallel under names that no other attempt uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use parking_lot::Mutex;
use weir_common::ids::{AttemptId, CheckpointId};
use weir_proto::v1;
use weir_snapshot::{FileInfo, Store, paths};

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
                .map(|file| (shared.find(checkpoint, &file), file))
                .partition(|(found, _)| found.is_some());
            let reused: Vec<_> = reused.into_iter().filter_map(|(found, _)| found).collect();
            let (small, large) = self.split(new.into_iter().map(|(_, file)| file).collect());
            let large: Vec<_> = large
                .into_iter()
                .map(|file| self.name(checkpoint, file))
                .collect();
            shared.plan(checkpoint, &reused, &large);
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

/// Which files of this database are where on the store.
///
/// A checkpoint names a file of an earlier one only if that one is confirmed complete, and only if every checkpoint begun in
/// between, which may have completed meanwhile without our knowing, names the same object: else dropping the earlier
/// checkpoint could delete the object under the later one.
#[derive(Debug, Default)]
pub(crate) struct SharedFiles {
    confirmed: Complete,
    pending: BTreeMap<CheckpointId, Pending>,
}

#[derive(Debug, Default)]
enum Pending {
    /// Its files' names on the store are not known yet.
    #[default]
    Begun,
    /// Local name → path on the store.
    Planned(BTreeMap<String, String>),
    /// All of it is on the store: files by local name.
    Uploaded(Files),
}

type Files = BTreeMap<String, v1::FileRef>;

/// The last checkpoint that is known to be complete.
#[derive(Debug, Default)]
struct Complete {
    /// `None` as long as there is none.
    id: Option<CheckpointId>,
    files: Files,
}

impl Pending {
    fn path(&self, name: &str) -> Option<&str> {
        match self {
            Self::Begun => None,
            Self::Planned(paths) => paths.get(name).map(String::as_str),
            Self::Uploaded(files) => files.get(name).map(|file| file.path.as_str()),
        }
    }
}

impl SharedFiles {
    /// After a restore from `id`, with the files that were taken as they are.
    pub(crate) fn restored(id: CheckpointId, files: &[v1::FileRef]) -> Self {
        Self {
            confirmed: Complete {
                id: Some(id),
                files: by_name(files),
            },
            pending: BTreeMap::new(),
        }
    }

    /// Begins a checkpoint of a state that is as it was at checkpoint `last`: if that one is the confirmed one, its files are all
    /// that is needed.
    pub(crate) fn repeat(
        &mut self,
        last: CheckpointId,
        checkpoint: CheckpointId,
    ) -> Option<Vec<v1::FileRef>> {
        if self.confirmed.id != Some(last) {
            return None;
        }
        let files = self.confirmed.files.clone();
        let all = files.values().cloned().collect();
        self.pending.insert(checkpoint, Pending::Uploaded(files));
        Some(all)
    }

    pub(crate) fn begin(&mut self, checkpoint: CheckpointId) {
        self.pending.insert(checkpoint, Pending::Begun);
    }

    fn find(&self, checkpoint: CheckpointId, file: &LocalFile) -> Option<v1::FileRef> {
        let known = self.confirmed.files.get(&file.name);
        let known = known.filter(|known| !known.path.is_empty())?;
        let agreed = self
            .pending
            .range(..checkpoint)
            .all(|(_, pending)| pending.path(&file.name) == Some(&known.path));
        let same = is_table(&file.name) && known.size_bytes == file.size_bytes;
        (same && agreed).then(|| known.clone())
    }

    fn plan(
        &mut self,
        checkpoint: CheckpointId,
        reused: &[v1::FileRef],
        new: &[(LocalFile, String)],
    ) {
        let Some(pending) = self.pending.get_mut(&checkpoint) else {
            return;
        };
        let reused = reused
            .iter()
            .map(|file| (file.local_name.clone(), file.path.clone()));
        let new = new
            .iter()
            .map(|(file, path)| (file.name.clone(), path.clone()));
        *pending = Pending::Planned(reused.chain(new).collect());
    }

    fn uploaded(&mut self, checkpoint: CheckpointId, files: &[v1::FileRef]) {
        if let Some(pending) = self.pending.get_mut(&checkpoint) {
            *pending = Pending::Uploaded(by_name(files));
        }
    }

    pub(crate) fn confirm(&mut self, checkpoint: CheckpointId) {
        if let Some(Pending::Uploaded(files)) = self.pending.remove(&checkpoint) {
            self.confirmed = Complete {
                id: Some(checkpoint),
                files,
            };
            // Older ones are subsumed.
            self.pending = self.pending.split_off(&checkpoint);
        }
    }

    /// What any checkpoint that is or may become complete names on the store.
    pub(crate) fn stored(&self) -> BTreeSet<String> {
        let confirmed = self.confirmed.files.values();
        let pending = self.pending.values().filter_map(|pending| match pending {
            Pending::Uploaded(files) => Some(files.values()),
            Pending::Begun | Pending::Planned(_) => None,
        });
        let files = confirmed.chain(pending.flatten());
        files.map(|file| file.path.clone()).collect()
    }

    pub(crate) fn abort(&mut self, checkpoint: CheckpointId) {
        self.pending.remove(&checkpoint);
    }
}

fn by_name(files: &[v1::FileRef]) -> Files {
    files
        .iter()
        .map(|file| (file.local_name.clone(), file.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(name: &str) -> LocalFile {
        LocalFile {
            path: PathBuf::from(name),
            name: name.to_owned(),
            size_bytes: 10,
        }
    }

    fn stored(name: &str, path: &str) -> v1::FileRef {
        v1::FileRef {
            path: path.to_owned(),
            size_bytes: 10,
            local_name: name.to_owned(),
            ..v1::FileRef::default()
        }
    }

    fn upload(shared: &mut SharedFiles, id: u64, files: &[v1::FileRef]) {
        shared.begin(CheckpointId(id));
        shared.plan(CheckpointId(id), files, &[]);
        shared.uploaded(CheckpointId(id), files);
    }

    fn find(shared: &SharedFiles, id: u64, name: &str) -> Option<String> {
        Some(shared.find(CheckpointId(id), &local(name))?.path)
    }

    #[test]
    fn a_file_is_shared_from_a_confirmed_checkpoint_only() {
        let mut shared = SharedFiles::default();
        upload(
            &mut shared,
            1,
            &[stored("1.sst", "a"), stored("MANIFEST-1", "m")],
        );
        shared.begin(CheckpointId(2));
        assert_eq!(find(&shared, 2, "1.sst"), None);
        shared.confirm(CheckpointId(1));
        assert_eq!(find(&shared, 2, "1.sst").as_deref(), Some("a"));
        assert_eq!(find(&shared, 2, "MANIFEST-1"), None);
        let mut longer = local("1.sst");
        longer.size_bytes = 11;
        assert!(shared.find(CheckpointId(2), &longer).is_none());
    }

    /// Checkpoint 2 was begun before 1 was confirmed, and has its own copy. If 2 completes and 1 is dropped, "a" is deleted.
    #[test]
    fn checkpoints_in_between_must_name_the_same_object() {
        let mut shared = SharedFiles::default();
        upload(&mut shared, 1, &[stored("1.sst", "a")]);
        upload(&mut shared, 2, &[stored("1.sst", "b")]);
        shared.confirm(CheckpointId(1));
        assert_eq!(find(&shared, 3, "1.sst"), None);
        shared.abort(CheckpointId(2));
        assert_eq!(find(&shared, 3, "1.sst").as_deref(), Some("a"));
        shared.begin(CheckpointId(3));
        assert_eq!(
            find(&shared, 4, "1.sst"),
            None,
            "3 may yet make its own copy"
        );
        upload(&mut shared, 3, &[stored("1.sst", "a")]);
        assert_eq!(find(&shared, 4, "1.sst").as_deref(), Some("a"));
    }

    #[test]
    fn an_unchanged_state_names_the_confirmed_files_again() {
        let mut shared = SharedFiles::default();
        let files = [stored("1.sst", "a"), stored("MANIFEST-1", "m")];
        upload(&mut shared, 1, &files);
        assert_eq!(shared.repeat(CheckpointId(1), CheckpointId(2)), None);
        shared.confirm(CheckpointId(1));
        for id in [2, 3] {
            let repeated = shared.repeat(CheckpointId(id - 1), CheckpointId(id));
            assert_eq!(repeated.as_deref(), Some(&files[..]));
            shared.confirm(CheckpointId(id));
        }
        assert_eq!(find(&shared, 4, "1.sst").as_deref(), Some("a"));
    }

    #[test]
    fn a_confirmed_checkpoint_replaces_all_older_ones() {
        let mut shared = SharedFiles::default();
        upload(&mut shared, 1, &[stored("1.sst", "a")]);
        upload(&mut shared, 2, &[stored("2.sst", "b")]);
        shared.confirm(CheckpointId(2));
        shared.confirm(CheckpointId(1));
        assert_eq!(find(&shared, 3, "1.sst"), None);
        assert_eq!(find(&shared, 3, "2.sst").as_deref(), Some("b"));
    }
}
