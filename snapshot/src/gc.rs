//! What may be deleted: what no retained manifest names and no snapshot under way is about to name.

use std::collections::BTreeSet;
use std::time::Duration;

use weir_common::ids::{AttemptId, CheckpointId};
use weir_proto::v1;

use crate::manifest::files;
use crate::paths::{self, Kind};
use crate::{Listed, Located, Result, Store};

/// Unfinished files of local folders that are older than this have no writer any more.
const UNFINISHED_AGE: Duration = Duration::from_secs(3600);

/// Objects that go with a checkpoint that is retained no longer: its manifest first (from then on it can't be chosen), then
/// those of its files that no retained checkpoint names.
///
/// A checkpoint under way names only files that every retained one made since its own confirmed predecessor names too, so
/// `retained` need not hold it.
pub fn of_dropped(dropped: &v1::Manifest, retained: &[&v1::Manifest]) -> Vec<String> {
    let manifest = paths::checkpoint_manifest(CheckpointId(dropped.checkpoint_id));
    with_files(manifest, dropped, retained)
}

/// Objects that go with a snapshot that a user had named, in this order; `beside` are the others whose files lie beside its own. Its
/// manifest goes last: as long as it is there, all that is left can be found and deleted by another try.
pub fn of_claimed(
    manifest_path: &str,
    claimed: &v1::Manifest,
    beside: &[&v1::Manifest],
) -> Vec<String> {
    let mut doomed = with_files(manifest_path.to_owned(), claimed, beside);
    doomed.rotate_left(1);
    doomed
}

fn with_files(manifest: String, dropped: &v1::Manifest, retained: &[&v1::Manifest]) -> Vec<String> {
    let named = named_by(retained);
    let unnamed: BTreeSet<&str> = files(dropped)
        .map(|file| file.path.as_str())
        .filter(|path| !named.contains(path))
        .collect();
    std::iter::once(manifest)
        .chain(unnamed.into_iter().map(str::to_owned))
        .collect()
}

/// What is running, as far as it may still write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Running {
    /// The current attempt; files of older ones that nothing names are left-overs.
    pub attempt: AttemptId,
    /// Checkpoints of the current attempt up to this are complete or given up.
    pub settled: CheckpointId,
}

/// Objects of a job's checkpoint folder that nobody names or will name: what aborted checkpoints and dead attempts left.
/// `running` is `None` when the job has ended. Objects whose names are not Weir's are never among them.
pub fn orphans(
    listed: &[Listed],
    retained: &[&v1::Manifest],
    running: Option<Running>,
) -> Vec<String> {
    let named = named_by(retained);
    let kept: BTreeSet<u64> = retained.iter().map(|m| m.checkpoint_id).collect();
    let settled = |checkpoint| running.is_none_or(|running| checkpoint <= running.settled);
    let dead = |attempt| running.is_none_or(|running| attempt < running.attempt);
    let is_orphan = |path: &str| match paths::kind_of(path) {
        Kind::Manifest(checkpoint) => !kept.contains(&checkpoint.0) && settled(checkpoint),
        Kind::File(attempt, checkpoint) => {
            !named.contains(path) && (dead(attempt) || settled(checkpoint))
        }
        Kind::Unknown => false,
    };
    listed
        .iter()
        .map(|object| &object.path)
        .filter(|path| is_orphan(path))
        .cloned()
        .collect()
}

/// Deletes a checkpoint that is retained no longer.
pub async fn drop_checkpoint(
    store: &Store,
    dropped: &v1::Manifest,
    retained: &[&v1::Manifest],
) -> Result<usize> {
    let doomed = of_dropped(dropped, retained);
    let (manifest, rest) = doomed.split_at(1);
    store.delete(manifest).await?;
    store.delete(rest).await?;
    Ok(doomed.len())
}

/// Deletes a snapshot that a user had named, also a savepoint: what [`of_claimed`] says.
pub async fn drop_located(located: &Located, beside: &[&v1::Manifest]) -> Result<usize> {
    let manifest = &located.candidate.manifest_path;
    let doomed = of_claimed(manifest, &located.manifest, beside);
    if let Some((manifest, files)) = doomed.split_last() {
        located.base.delete(files).await?;
        located.base.delete(std::slice::from_ref(manifest)).await?;
    }
    Ok(doomed.len())
}

/// Deletes the [`orphans`] of a job's checkpoint folder: at the start of an attempt, and at the end of the job.
pub async fn sweep(
    store: &Store,
    retained: &[&v1::Manifest],
    running: Option<Running>,
) -> Result<usize> {
    let doomed = orphans(&store.list("").await?, retained, running);
    store.delete(&doomed).await?;
    Ok(doomed.len() + store.sweep_unfinished(UNFINISHED_AGE).await?)
}

fn named_by<'a>(manifests: &[&'a v1::Manifest]) -> BTreeSet<&'a str> {
    manifests
        .iter()
        .flat_map(|manifest| files(manifest))
        .map(|file| file.path.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use weir_common::config::S3Config;

    /// A job manager, a task manager with three table files at most, and the store, in the smallest form.
    #[derive(Default)]
    struct Model {
        store: BTreeSet<String>,
        retained: Vec<v1::Manifest>,
        attempt: u64,
        checkpoint: u64,
        /// Table files of the running database and where the last completed checkpoint has them.
        tables: BTreeMap<u64, Option<String>>,
        next_table: u64,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Flush,
        Compact,
        Checkpoint { completes: bool },
        Restart,
    }

    impl Model {
        fn step(&mut self, step: &Step, keep: usize) {
            match step {
                Step::Flush => {
                    self.next_table += 1;
                    self.tables.insert(self.next_table, None);
                }
                Step::Compact => {
                    self.tables.clear();
                    self.step(&Step::Flush, keep);
                }
                Step::Checkpoint { completes } => self.checkpoint(*completes, keep),
                Step::Restart => self.restart(),
            }
        }

        fn checkpoint(&mut self, completes: bool, keep: usize) {
            self.checkpoint += 1;
            let (attempt, id) = (AttemptId(self.attempt), CheckpointId(self.checkpoint));
            let mut paths = vec![paths::new_private_file(attempt, id, "MANIFEST-1")];
            let mut named = BTreeMap::new();
            for (table, known) in &self.tables {
                let new = || paths::new_shared_file(attempt, id, &format!("{table}.sst"));
                let path = known.clone().unwrap_or_else(new);
                named.insert(*table, Some(path.clone()));
                paths.push(path);
            }
            self.store.extend(paths.iter().cloned());
            if !completes {
                return;
            }
            self.tables = named;
            self.store.insert(paths::checkpoint_manifest(id));
            self.retained.push(manifest(id.0, paths));
            if self.retained.len() > keep {
                let dropped = self.retained.remove(0);
                let retained: Vec<_> = self.retained.iter().collect();
                for path in of_dropped(&dropped, &retained) {
                    assert!(self.store.remove(&path), "{path} was deleted before");
                }
            }
        }

        fn restart(&mut self) {
            self.attempt += 1;
            self.sweep(Some(Running {
                attempt: AttemptId(self.attempt),
                settled: CheckpointId(self.checkpoint),
            }));
        }

        fn sweep(&mut self, running: Option<Running>) {
            let listed: Vec<_> = self.store.iter().map(|path| listed(path)).collect();
            let retained: Vec<_> = self.retained.iter().collect();
            for path in orphans(&listed, &retained, running) {
                self.store.remove(&path);
            }
        }

        fn named(&self) -> BTreeSet<String> {
            let retained: Vec<_> = self.retained.iter().collect();
            let mut named: BTreeSet<_> =
                named_by(&retained).into_iter().map(str::to_owned).collect();
            named.extend(
                self.retained.iter().map(|manifest| {
                    paths::checkpoint_manifest(CheckpointId(manifest.checkpoint_id))
                }),
            );
            named
        }
    }

    fn listed(path: &str) -> Listed {
        Listed {
            path: path.to_owned(),
            size_bytes: 1,
            modified_ms: 0,
        }
    }

    fn manifest(checkpoint_id: u64, paths: Vec<String>) -> v1::Manifest {
        let file = |path| v1::FileRef {
            path,
            ..v1::FileRef::default()
        };
        v1::Manifest {
            checkpoint_id,
            operators: vec![v1::OperatorSnapshot {
                keyed: Some(v1::KeyedState {
                    files: paths.into_iter().map(file).collect(),
                    ..v1::KeyedState::default()
                }),
                ..v1::OperatorSnapshot::default()
            }],
            ..v1::Manifest::default()
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Flush),
            1 => Just(Step::Compact),
            4 => any::<bool>().prop_map(|completes| Step::Checkpoint { completes }),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn nothing_that_is_named_is_deleted_and_nothing_else_is_left(
            steps in prop::collection::vec(step(), 1..60),
            keep in 1usize..4,
        ) {
            let mut model = Model::default();
            for step in &steps {
                model.step(step, keep);
                let missing: Vec<_> = model.named().difference(&model.store).cloned().collect();
                prop_assert!(missing.is_empty(), "after {step:?}: {missing:?}");
            }
            model.sweep(None);
            prop_assert_eq!(&model.store, &model.named());
        }
    }

    #[test]
    fn files_of_a_checkpoint_under_way_are_no_orphans() {
        let paths = [
            "shared/2-7-u-1.sst",
            "chk-7/2-u-MANIFEST-1",
            "shared/2-6-u-1.sst",
            "shared/1-9-u-1.sst",
            "chk-6/_metadata",
            "chk-7/_metadata",
            "notes.txt",
        ];
        let running = Running {
            attempt: AttemptId(2),
            settled: CheckpointId(6),
        };
        let all: Vec<_> = paths.iter().map(|path| listed(path)).collect();
        let doomed = orphans(&all, &[], Some(running));
        assert_eq!(
            doomed,
            [
                "shared/2-6-u-1.sst",
                "shared/1-9-u-1.sst",
                "chk-6/_metadata"
            ]
        );
    }

    #[tokio::test]
    async fn a_dropped_checkpoint_leaves_its_shared_files() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().to_string_lossy(), &S3Config::default()).unwrap();
        let all = [
            "shared/1-1-u-1.sst",
            "shared/1-1-u-2.sst",
            "shared/1-2-u-3.sst",
        ];
        for path in all.iter().chain(&["chk-1/_metadata", "chk-2/_metadata"]) {
            store.put(path, Bytes::from_static(b"x")).await.unwrap();
        }
        let files = |range: &[&str]| range.iter().map(|path| (*path).to_owned()).collect();
        let (old, new) = (manifest(1, files(&all[..2])), manifest(2, files(&all[1..])));
        drop_checkpoint(&store, &old, &[&new]).await.unwrap();
        let left: Vec<_> = store.list("").await.unwrap();
        let left: Vec<_> = left.iter().map(|object| object.path.as_str()).collect();
        assert_eq!(left, ["chk-2/_metadata", all[1], all[2]]);
        assert!(!dir.path().join("chk-1").exists());
    }
}
