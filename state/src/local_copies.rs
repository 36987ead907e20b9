//! Copies of checkpoints' files on this machine's disk: a subtask that is restored where its files still are downloads nothing
//! (Flink's task-local recovery).
//!
//! A copy is a hard link to a table file that RocksDB has or had, so it costs no space as long as the database keeps the file. It is
//! named after the file on the store, whose name never repeats, and so serves whichever subtask needs that file. Nothing relies on
//! copies: one is taken only if it has the size and checksum that the manifest says, else the file is downloaded. A file that this process
//! has itself uploaded or downloaded, and that nobody has written to since, is not read again: what the disk does to it meanwhile RocksDB's
//! own checksums find, as they would have without a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weir_proto::v1;
use weir_snapshot::{FileInfo, Store, file_info};

use crate::upload::is_table;
use crate::{Result, StateError, Transfers};

/// Copies of jobs of which nothing was heard for so long are removed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// The copies of one job. To be kept as long as the job may come back to this process.
#[derive(Debug)]
pub struct LocalCopies {
    folder: PathBuf,
    /// Of copies by path: what was found in them, and which file that was.
    known: Mutex<BTreeMap<PathBuf, (Identity, FileInfo)>>,
}

/// A file that has not been written to since has the same. Hard links, which come and go, change none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    modified_ns: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl LocalCopies {
    /// In the folder of one job; created when needed.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            known: Mutex::default(),
        }
    }

    /// Downloads the tables among `files` that have no copy here yet, for a restore that follows. Gives how many bytes that were. Blocks.
    pub fn fetch(&self, files: &[v1::FileRef], base: &Store, transfers: &Transfers) -> Result<u64> {
        let is_missing = |file: &&v1::FileRef| {
            let length = || self.path(&file.path).metadata().map(|m| m.len());
            is_table(&file.local_name)
                && !file.path.is_empty()
                && !length().is_ok_and(|length| length == file.size_bytes)
        };
        // Parts that were one before have files in common.
        let missing: BTreeMap<&str, &v1::FileRef> = files
            .iter()
            .filter(is_missing)
            .map(|file| (file.path.as_str(), file))
            .collect();
        let missing: Vec<&v1::FileRef> = missing.into_values().collect();
        std::fs::create_dir_all(&self.folder).map_err(|error| {
            StateError::local(format!("cannot create {}", self.folder.display()), &error)
        })?;
        let fetched = transfers.run(missing, |file: &v1::FileRef| async move {
            let copy = self.path(&file.path);
            // Under a name of its own until it is whole.
            let partial = copy.with_extension("partial");
            let found = base.get_to_file(&file.path, &partial).await?;
            found.expect(file, || base.url_of(&file.path))?;
            let renamed = std::fs::rename(&partial, &copy).and_then(|()| copy.metadata());
            let metadata = renamed.map_err(|error| {
                StateError::local(format!("cannot keep {}", copy.display()), &error)
            })?;
            self.known
                .lock()
                .insert(copy, (Identity::of(&metadata), found));
            Ok(file.size_bytes)
        })?;
        Ok(fetched.into_iter().sum())
    }

    fn path(&self, stored: &str) -> PathBuf {
        self.folder.join(stored.replace('/', "_"))
    }

    /// Keeps `from`, which was read and is `file` of a checkpoint. A copy that can't be made is only a download later.
    pub(crate) fn keep(&self, file: &v1::FileRef, from: &Path) {
        let copy = self.path(&file.path);
        let link = || match std::fs::hard_link(from, &copy) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        };
        let linked = match link() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(&self.folder).and_then(|()| link())
            }
            linked => linked,
        };
        if let Err(error) = linked {
            tracing::debug!("no local copy of {} is kept: {error}", file.path);
        }
        // Only of this very file, not of another that has the name, is it known.
        if let (Ok(own), Ok(kept)) = (from.metadata(), copy.metadata())
            && Identity::of(&own) == Identity::of(&kept)
        {
            let info = FileInfo {
                size_bytes: file.size_bytes,
                checksum: file.checksum,
            };
            self.known.lock().insert(copy, (Identity::of(&kept), info));
        }
    }

    /// Puts the copy of `file` at `to`, if there is one and it is whole. Reads all of it, unless it is known.
    pub(crate) fn take(&self, file: &v1::FileRef, to: &Path) -> bool {
        let copy = self.path(&file.path);
        let Some(found) = self.info(&copy) else {
            return false;
        };
        if let Err(error) = found.expect(file, || copy.display().to_string()) {
            tracing::warn!("a local copy is not used: {error}");
            self.forget(&file.path);
            return false;
        }
        std::fs::hard_link(&copy, to).is_ok()
    }

    fn info(&self, copy: &Path) -> Option<FileInfo> {
        let metadata = copy.metadata().ok()?;
        let identity = Identity::of(&metadata);
        let known = self.known.lock().get(copy).copied();
        if let Some((known, info)) = known
            && known == identity
            && info.size_bytes == metadata.len()
        {
            return Some(info);
        }
        let info = file_info(copy).ok()?;
        self.known.lock().insert(copy.to_owned(), (identity, info));
        Some(info)
    }

    fn forget(&self, stored: &str) {
        self.remove(&self.path(stored));
    }

    fn remove(&self, copy: &Path) {
        self.known.lock().remove(copy);
        // It may be gone already, or never have been made.
        let _ = std::fs::remove_file(copy);
    }

    /// Removes all copies but those of `needed`: what the subtasks of an attempt that begins here were restored from.
    pub fn retain<'a>(&self, needed: impl Iterator<Item = &'a str>) {
        let needed: BTreeSet<PathBuf> = needed.map(|stored| self.path(stored)).collect();
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if !needed.contains(&path) {
                self.remove(&path);
            }
        }
    }
}

/// Removes the copies of jobs that have not run here for an hour. `folder` has the folders of all jobs.
pub fn remove_forgotten(folder: &Path, running: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let changed = entry.metadata().and_then(|metadata| metadata.modified());
        let age = changed.ok().and_then(|time| time.elapsed().ok());
        let forgotten = age.is_some_and(|age| age > FORGOTTEN_AFTER);
        if forgotten && !running(&entry.file_name().to_string_lossy()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// What one state has in the copies: a file that no checkpoint of it names any more is removed.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    copies: Option<Arc<LocalCopies>>,
    stored: Mutex<BTreeSet<String>>,
}

impl Kept {
    pub(crate) fn new(copies: Option<Arc<LocalCopies>>) -> Self {
        Self {
            copies,
            stored: Mutex::default(),
        }
    }

    /// `file` lies in `folder` under its local name.
    pub(crate) fn keep(&self, file: &v1::FileRef, folder: &Path) {
        if let Some(copies) = &self.copies {
            copies.keep(file, &folder.join(&file.local_name));
            self.stored.lock().insert(file.path.clone());
        }
    }

    pub(crate) fn take(&self, file: &v1::FileRef, to: &Path) -> bool {
        let taken = self
            .copies
            .as_ref()
            .is_some_and(|copies| copies.take(file, to));
        if taken {
            self.stored.lock().insert(file.path.clone());
        }
        taken
    }

    /// Only what `is_needed` says is kept on.
    pub(crate) fn retain(&self, is_needed: impl Fn(&str) -> bool) {
        let Some(copies) = &self.copies else {
            return;
        };
        self.stored.lock().retain(|stored| {
            let needed = is_needed(stored);
            if !needed {
                copies.forget(stored);
            }
            needed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(path: &str, content: &[u8]) -> v1::FileRef {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(&file, content).unwrap();
        let info = file_info(&file).unwrap();
        v1::FileRef {
            path: path.to_owned(),
            size_bytes: info.size_bytes,
            checksum: info.checksum,
            local_name: "1.sst".to_owned(),
            ..v1::FileRef::default()
        }
    }

    #[test]
    fn a_copy_is_taken_if_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let copies = Arc::new(LocalCopies::new(dir.path().join("job")));
        let kept = Kept::new(Some(Arc::clone(&copies)));
        std::fs::write(dir.path().join("1.sst"), b"abc").unwrap();
        let file = stored("shared/1-1-u-1.sst", b"abc");
        let to = dir.path().join("restored.sst");
        assert!(!kept.take(&file, &to), "nothing is there yet");
        kept.keep(&file, dir.path());
        assert!(kept.take(&file, &to));
        assert_eq!(std::fs::read(&to).unwrap(), b"abc");

        let other = stored("shared/1-1-u-1.sst", b"abd");
        assert!(!kept.take(&other, &dir.path().join("other.sst")));
        assert!(
            !kept.take(&file, &dir.path().join("again.sst")),
            "a damaged copy is removed"
        );
    }

    #[test]
    fn a_copy_is_read_once_by_a_process_and_again_when_it_was_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let copies = LocalCopies::new(dir.path().join("job"));
        let path = dir.path().join("1.sst");
        std::fs::write(&path, b"abc").unwrap();
        let file = stored("shared/1-1-u-1.sst", b"abc");
        copies.keep(&file, &path);
        let mut taken = 0;
        let mut take = |copies: &LocalCopies| {
            taken += 1;
            copies.take(&file, &dir.path().join(format!("taken-{taken}")))
        };
        // Only the disk itself changes a file so.
        let modified = path.metadata().unwrap().modified().unwrap();
        std::fs::write(&path, b"abX").unwrap();
        let damaged = std::fs::File::options().append(true).open(&path).unwrap();
        damaged.set_modified(modified).unwrap();
        assert!(take(&copies), "it is known");
        let written = modified + Duration::from_secs(1);
        damaged.set_modified(written).unwrap();
        assert!(!take(&copies), "somebody has written to it");
    }

    #[test]
    fn another_process_reads_the_copies_that_it_finds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.sst");
        std::fs::write(&path, b"abc").unwrap();
        let file = stored("shared/1-1-u-1.sst", b"abc");
        LocalCopies::new(dir.path().join("job")).keep(&file, &path);
        std::fs::write(&path, b"abX").unwrap();
        let restarted = LocalCopies::new(dir.path().join("job"));
        assert!(!restarted.take(&file, &dir.path().join("taken")));
    }

    #[test]
    fn what_no_checkpoint_names_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let copies = Arc::new(LocalCopies::new(dir.path().join("job")));
        let kept = Kept::new(Some(Arc::clone(&copies)));
        std::fs::write(dir.path().join("1.sst"), b"abc").unwrap();
        let files = ["shared/a", "shared/b", "shared/c"].map(|path| stored(path, b"abc"));
        for file in &files {
            kept.keep(file, dir.path());
        }
        kept.retain(|stored| stored != "shared/a");
        copies.retain(["shared/b"].into_iter());
        let is_there = |index: usize| {
            let to = dir.path().join(format!("taken-{index}"));
            copies.take(&files[index], &to)
        };
        assert_eq!([0, 1, 2].map(is_there), [false, true, false]);
    }
}
