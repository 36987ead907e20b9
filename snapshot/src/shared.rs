//! Which objects of earlier checkpoints the next one may name again. Pure.

use std::collections::{BTreeMap, BTreeSet};

use weir_common::ids::CheckpointId;
use weir_proto::v1;

/// Which files of this database are where on the store.
///
/// A checkpoint names a file of an earlier one only if that one is confirmed complete, and only if every checkpoint begun in
/// between, which may have completed meanwhile without our knowing, names the same object: else dropping the earlier
/// checkpoint could delete the object under the later one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SharedFiles {
    confirmed: Complete,
    pending: BTreeMap<CheckpointId, Pending>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
enum Pending {
    /// Its files' names on the store are not known yet.
    #[default]
    Begun,
    /// Local name → path on the store.
    Planned(BTreeMap<String, String>),
    /// All of it is on the store: files by local name.
    Uploaded(Files),
}

/// Whether the checkpoints of an attempt, which go to `own`, may name files of the snapshot that it was restored from: it may be
/// deleted when another checkpoint has followed it, and only this very job's garbage collection looks at those.
pub fn may_be_shared(restored: &v1::Manifest, from: &str, own: Option<&str>) -> bool {
    restored.kind() == v1::SnapshotKind::Checkpoint && own == Some(from)
}

type Files = BTreeMap<String, v1::FileRef>;

/// The last checkpoint that is known to be complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
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
    pub fn restored(id: CheckpointId, files: &[v1::FileRef]) -> Self {
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
    pub fn repeat(
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

    /// Begins a checkpoint.
    pub fn begin(&mut self, checkpoint: CheckpointId) {
        self.pending.insert(checkpoint, Pending::Begun);
    }

    /// The object that a file is, which must not change as long as it has its name.
    pub fn find(
        &self,
        checkpoint: CheckpointId,
        name: &str,
        size_bytes: u64,
    ) -> Option<v1::FileRef> {
        let known = self.confirmed.files.get(name);
        let known = known.filter(|known| !known.path.is_empty())?;
        let agreed = self
            .pending
            .range(..checkpoint)
            .all(|(_, pending)| pending.path(name) == Some(&known.path));
        (known.size_bytes == size_bytes && agreed).then(|| known.clone())
    }

    /// What the checkpoint will name: objects that are there, and new ones by local name and path.
    pub fn plan<'a>(
        &mut self,
        checkpoint: CheckpointId,
        reused: &[v1::FileRef],
        new: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        let Some(pending) = self.pending.get_mut(&checkpoint) else {
            return;
        };
        let reused = reused
            .iter()
            .map(|file| (file.local_name.clone(), file.path.clone()));
        let new = new.map(|(name, path)| (name.to_owned(), path.to_owned()));
        *pending = Pending::Planned(reused.chain(new).collect());
    }

    /// All that the checkpoint names is on the store.
    pub fn uploaded(&mut self, checkpoint: CheckpointId, files: &[v1::FileRef]) {
        if let Some(pending) = self.pending.get_mut(&checkpoint) {
            *pending = Pending::Uploaded(by_name(files));
        }
    }

    /// The checkpoint is complete. Those that are not known are passed over.
    pub fn confirm(&mut self, checkpoint: CheckpointId) {
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
    pub fn stored(&self) -> BTreeSet<String> {
        let confirmed = self.confirmed.files.values();
        let pending = self.pending.values().filter_map(|pending| match pending {
            Pending::Uploaded(files) => Some(files.values()),
            Pending::Begun | Pending::Planned(_) => None,
        });
        let files = confirmed.chain(pending.flatten());
        files.map(|file| file.path.clone()).collect()
    }

    /// The checkpoint will never be complete.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
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
        shared.plan(CheckpointId(id), files, std::iter::empty());
        shared.uploaded(CheckpointId(id), files);
    }

    fn find(shared: &SharedFiles, id: u64, name: &str) -> Option<String> {
        Some(shared.find(CheckpointId(id), name, 10)?.path)
    }

    #[test]
    fn only_checkpoints_of_the_same_job_are_shared() {
        let of = |kind: v1::SnapshotKind| v1::Manifest {
            kind: kind.into(),
            ..v1::Manifest::default()
        };
        let checkpoint = of(v1::SnapshotKind::Checkpoint);
        assert!(may_be_shared(&checkpoint, "s3://b/j", Some("s3://b/j")));
        assert!(!may_be_shared(&checkpoint, "s3://b/i", Some("s3://b/j")));
        assert!(!may_be_shared(&checkpoint, "s3://b/j", None));
        let savepoint = of(v1::SnapshotKind::Savepoint);
        assert!(!may_be_shared(&savepoint, "s3://b/j", Some("s3://b/j")));
    }

    #[test]
    fn a_file_is_shared_from_a_confirmed_checkpoint_only() {
        let mut shared = SharedFiles::default();
        upload(&mut shared, 1, &[stored("1.sst", "a")]);
        shared.begin(CheckpointId(2));
        assert_eq!(find(&shared, 2, "1.sst"), None);
        shared.confirm(CheckpointId(1));
        assert_eq!(find(&shared, 2, "1.sst").as_deref(), Some("a"));
        assert!(shared.find(CheckpointId(2), "1.sst", 11).is_none());
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
