//! Snapshots on the object store, as the leader needs them: publish, choose what to restore, check a savepoint, delete what is retained no longer.

use weir_common::config::S3Config;
use weir_common::ids::{CheckpointId, JobId};
use weir_proto::v1;
use weir_snapshot::recovery::{self, Candidate, Verify, examine};
use weir_snapshot::{Publication, SnapshotError, Store, gc, locate, paths, publish, read_manifest};

use super::fall_back::{FallBack, Next};
use super::fit::fit;
use super::retention;

/// Folder in whose terms a snapshot's files are named, and its manifest in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// URL.
    pub base: String,
    /// Relative to it.
    pub manifest: String,
    /// URL of the folder with the manifest.
    pub folder: String,
}

/// URL of a job's checkpoint folder; empty if it has none.
pub fn base_of(directory: &str, job_id: &JobId) -> String {
    if directory.is_empty() {
        return String::new();
    }
    paths::checkpoint_base(directory, job_id)
}

/// Where a snapshot belongs.
pub fn place_of(checkpoint_base: &str, savepoint_base: &str, id: u64) -> Place {
    if savepoint_base.is_empty() {
        let folder = paths::checkpoint_folder(CheckpointId(id));
        return Place {
            base: checkpoint_base.to_owned(),
            manifest: paths::checkpoint_manifest(CheckpointId(id)),
            folder: format!("{}/{folder}", checkpoint_base.trim_end_matches('/')),
        };
    }
    Place {
        base: savepoint_base.to_owned(),
        manifest: paths::METADATA.to_owned(),
        folder: savepoint_base.to_owned(),
    }
}

/// Sizes of a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// All of it, with files that other snapshots have, too.
    pub state_bytes: u64,
    /// Newly uploaded for it.
    pub uploaded_bytes: u64,
    /// Rows that its barriers have overtaken.
    pub in_flight_bytes: u64,
}

/// Adds up what the operators have in a snapshot.
pub fn totals(operators: &[v1::OperatorSnapshot]) -> Totals {
    let mut totals = Totals::default();
    for operator in operators {
        if let Some(keyed) = &operator.keyed {
            totals.state_bytes += keyed.files.iter().map(|file| file.size_bytes).sum::<u64>();
            totals.uploaded_bytes += keyed.uploaded_bytes;
        }
        let items = operator.states.iter().flat_map(|state| &state.items);
        totals.state_bytes += items.map(|item| item.len() as u64).sum::<u64>();
        let content = operator.in_flight.as_ref().and_then(|i| i.content.as_ref());
        let in_flight = match content {
            Some(v1::in_flight::Content::File(file)) => {
                totals.uploaded_bytes += file.size_bytes;
                file.size_bytes
            }
            Some(v1::in_flight::Content::Inlined(bytes)) => bytes.len() as u64,
            None => 0,
        };
        totals.state_bytes += in_flight;
        totals.in_flight_bytes += in_flight;
    }
    totals
}

/// Makes the snapshot the complete one of its id; gives its folder.
pub async fn publish_manifest(
    s3: &S3Config,
    place: &Place,
    manifest: &v1::Manifest,
) -> Result<String, String> {
    let store = Store::open(&place.base, s3).map_err(|error| error.to_string())?;
    match publish(&store, &place.manifest, manifest).await {
        Ok(Publication::Ours) => Ok(place.folder.clone()),
        Ok(Publication::Other(other)) => Err(format!(
            "{} was written by another leader or attempt ({})",
            store.url_of(&place.manifest),
            match other {
                Some(other) => format!("attempt {}, term {}", other.attempt, other.leader_term),
                None => "unreadable".to_owned(),
            }
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// What an attempt starts from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restore {
    /// 0: from the submission's snapshot, or empty.
    pub checkpoint_id: u64,
    /// Absent: empty.
    pub from: Option<v1::RestoreFrom>,
}

/// Chooses the newest restore point of a job that is whole. Damaged ones are skipped, with a line in the log; if all are, that is an
/// error: a job never starts empty when it once had state. `Err((reason, passing))`: whether another try may help.
pub async fn choose_restore(
    s3: &S3Config,
    job: &v1::JobRecord,
    checkpoint_base: &str,
    verify: Verify,
) -> Result<Restore, (String, bool)> {
    let mut search = FallBack::of(job);
    let submitted = loop {
        let checkpoint = match search.next() {
            Next::LookAt(checkpoint) => checkpoint,
            Next::Submitted(path) => break path,
            Next::Empty => return Ok(Restore::default()),
            Next::Refuse(reason) => return Err((reason, false)),
        };
        let savepoint_base = if checkpoint.savepoint {
            checkpoint.path.as_str()
        } else {
            ""
        };
        let place = place_of(checkpoint_base, savepoint_base, checkpoint.checkpoint_id);
        match open(s3, &place, checkpoint.checkpoint_id, verify).await {
            Ok(from) => {
                return Ok(Restore {
                    checkpoint_id: checkpoint.checkpoint_id,
                    from: Some(from),
                });
            }
            Err(error) if error.is_damage() => {
                tracing::warn!(
                    job = %job.job_id, checkpoint = checkpoint.checkpoint_id, path = %checkpoint.path,
                    "checkpoint is not usable and is skipped, the next older one is tried: {error}"
                );
                search.damaged(error.to_string());
            }
            Err(error) => return Err((error.to_string(), true)),
        }
    };
    let refused =
        |reason: &dyn std::fmt::Display| format!("cannot start from {submitted}: {reason}");
    let mut from = open_savepoint(s3, submitted)
        .await
        .map_err(|error| (refused(&error), !error.is_damage()))?;
    let graph = job.graph.clone().unwrap_or_default();
    let manifest = from.manifest.take().unwrap_or_default();
    let fitted = fit(&graph, manifest, job.allow_non_restored_state);
    from.manifest = Some(fitted.map_err(|refusal| (refused(&refusal), false))?);
    Ok(Restore {
        checkpoint_id: 0,
        from: Some(from),
    })
}

async fn open(
    s3: &S3Config,
    place: &Place,
    checkpoint_id: u64,
    verify: Verify,
) -> Result<v1::RestoreFrom, SnapshotError> {
    let store = Store::open(&place.base, s3)?;
    let candidate = Candidate {
        checkpoint: CheckpointId(checkpoint_id),
        manifest_path: place.manifest.clone(),
    };
    let manifest = examine(&store, &candidate, verify).await?;
    Ok(v1::RestoreFrom {
        base: store.url().to_owned(),
        manifest: Some(manifest),
    })
}

/// Opens what a user named. Its files are verified.
pub async fn open_savepoint(s3: &S3Config, path: &str) -> Result<v1::RestoreFrom, SnapshotError> {
    let located = locate(path, s3).await?;
    let manifest = examine(&located.base, &located.candidate, Verify::Checksums).await?;
    Ok(v1::RestoreFrom {
        base: located.base.url().to_owned(),
        manifest: Some(manifest),
    })
}

/// Deletes checkpoints that are retained no longer, as far as no retained one needs their files.
pub async fn collect(
    s3: &S3Config,
    checkpoint_base: &str,
    dropped: &[CheckpointId],
    retained: &[CheckpointId],
) -> Result<(), SnapshotError> {
    let store = Store::open(checkpoint_base, s3)?;
    let mut kept = Vec::new();
    for id in retained {
        let path = paths::checkpoint_manifest(*id);
        kept.push(read_manifest(&store, &path).await?);
    }
    let kept: Vec<&v1::Manifest> = kept.iter().collect();
    for id in dropped {
        let path = paths::checkpoint_manifest(*id);
        let manifest = match read_manifest(&store, &path).await {
            // An earlier try got that far; what it left is swept.
            Err(SnapshotError::NotFound { .. }) => continue,
            manifest => manifest?,
        };
        gc::drop_checkpoint(&store, &manifest, &kept).await?;
    }
    Ok(())
}

/// Deletes a snapshot that a job had claimed, as far as no other checkpoint beside it names its files; gives the number of objects. One
/// that is not there any more is none.
pub async fn delete_claimed(s3: &S3Config, path: &str) -> Result<usize, SnapshotError> {
    let located = match locate(path, s3).await {
        Err(SnapshotError::NotFound { .. }) => return Ok(0),
        located => located?,
    };
    let mut beside = Vec::new();
    if located.manifest.kind() == v1::SnapshotKind::Checkpoint {
        for candidate in recovery::candidates(&located.base).await? {
            if candidate.manifest_path != located.candidate.manifest_path {
                beside.push(read_manifest(&located.base, &candidate.manifest_path).await?);
            }
        }
    }
    let beside: Vec<&v1::Manifest> = beside.iter().collect();
    gc::drop_located(&located, &beside).await
}

/// Deletes what is retained no longer, what earlier attempts left behind, and what failed checkpoints did: before an attempt is deployed, and
/// when the job has ended.
pub async fn sweep(
    s3: &S3Config,
    job: &v1::JobRecord,
    checkpoint_base: &str,
) -> Result<usize, SnapshotError> {
    let store = Store::open(checkpoint_base, s3)?;
    let mut kept = Vec::new();
    for id in retention::retained(job) {
        let path = paths::checkpoint_manifest(id);
        match read_manifest(&store, &path).await {
            Ok(manifest) => kept.push(manifest),
            // What cannot be read may name anything: nothing is swept.
            Err(error) => return Err(error),
        }
    }
    let kept: Vec<&v1::Manifest> = kept.iter().collect();
    gc::sweep(&store, &kept, retention::running(job)).await
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::Bytes;

    use super::*;

    const SHARED: &str = "shared/1-1-u-1.sst";

    /// Two checkpoints of a job: each has a file of its own, and both the same table file.
    struct Folder {
        dir: tempfile::TempDir,
        job: v1::JobRecord,
    }

    impl Folder {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().to_string_lossy(), &S3Config::default()).unwrap();
            let mut job = v1::JobRecord::default();
            let shared = file(&store, SHARED).await;
            for checkpoint_id in [1, 2] {
                let own = file(&store, &own(checkpoint_id)).await;
                let manifest = v1::Manifest {
                    checkpoint_id,
                    operators: vec![v1::OperatorSnapshot {
                        keyed: Some(v1::KeyedState {
                            files: vec![shared.clone(), own],
                            ..v1::KeyedState::default()
                        }),
                        ..v1::OperatorSnapshot::default()
                    }],
                    ..v1::Manifest::default()
                };
                let path = paths::checkpoint_manifest(CheckpointId(checkpoint_id));
                publish(&store, &path, &manifest).await.unwrap();
                job.checkpoints.push(v1::CheckpointInfo {
                    checkpoint_id,
                    ..v1::CheckpointInfo::default()
                });
            }
            Self { dir, job }
        }

        async fn chosen(&self) -> Result<u64, (String, bool)> {
            let base = self.dir.path().to_string_lossy();
            let s3 = S3Config::default();
            let restore = choose_restore(&s3, &self.job, &base, Verify::Checksums).await?;
            assert!(restore.from.is_some());
            Ok(restore.checkpoint_id)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
    }

    fn own(checkpoint: u64) -> String {
        format!("chk-{checkpoint}/1-u-MANIFEST-1")
    }

    async fn file(store: &Store, path: &str) -> v1::FileRef {
        let content = Bytes::from(format!("content of {path}"));
        let info = store.put(path, content).await.unwrap();
        v1::FileRef {
            path: path.to_owned(),
            size_bytes: info.size_bytes,
            checksum: info.checksum,
            local_name: path.to_owned(),
            ..v1::FileRef::default()
        }
    }

    /// Each way in which a file may be damaged: with a byte flipped, cut, gone.
    fn damages(whole: &[u8]) -> [Option<Vec<u8>>; 3] {
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 1;
        [Some(flipped), Some(whole[..whole.len() - 1].to_vec()), None]
    }

    fn damage(path: &std::path::Path, content: Option<Vec<u8>>) {
        match content {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
    }

    #[tokio::test]
    async fn damage_of_the_newest_leads_to_the_older_one() {
        for name in [own(2), "chk-2/_metadata".to_owned()] {
            let folder = Folder::new().await;
            assert_eq!(folder.chosen().await, Ok(2));
            let path = folder.path(&name);
            let whole = std::fs::read(&path).unwrap();
            for content in damages(&whole) {
                damage(&path, content);
                assert_eq!(folder.chosen().await, Ok(1), "{name}");
            }
            std::fs::write(&path, &whole).unwrap();
            assert_eq!(folder.chosen().await, Ok(2));
        }
    }

    #[tokio::test]
    async fn damage_of_what_all_share_ends_the_job_with_the_reason_and_never_starts_it_empty() {
        let folder = Folder::new().await;
        let path = folder.path(SHARED);
        let whole = std::fs::read(&path).unwrap();
        let words = ["its checksum is", "it has 28 bytes", "does not exist"];
        for (content, words) in damages(&whole).into_iter().zip(words) {
            damage(&path, content);
            let (reason, passing) = folder.chosen().await.unwrap_err();
            assert!(!passing, "another try can't help");
            assert!(reason.starts_with("none of the 2 retained"), "{reason}");
            assert_eq!(reason.matches(SHARED).count(), 2, "{reason}");
            assert_eq!(reason.matches(words).count(), 2, "{reason}");
        }
    }

    async fn write(store: &Store, manifest_path: &str, files: &[&str], kind: v1::SnapshotKind) {
        let mut named = Vec::new();
        for file in files {
            let info = store.put(file, Bytes::from_static(b"x")).await.unwrap();
            named.push(v1::FileRef {
                path: (*file).to_owned(),
                size_bytes: info.size_bytes,
                checksum: info.checksum,
                ..v1::FileRef::default()
            });
        }
        let manifest = v1::Manifest {
            kind: kind.into(),
            operators: vec![v1::OperatorSnapshot {
                keyed: Some(v1::KeyedState {
                    files: named,
                    ..Default::default()
                }),
                ..Default::default()
            }],
            ..Default::default()
        };
        publish(store, manifest_path, &manifest).await.unwrap();
    }

    async fn left(store: &Store) -> Vec<String> {
        let listed = store.list("").await.unwrap();
        listed.into_iter().map(|object| object.path).collect()
    }

    #[tokio::test]
    async fn of_a_failed_job_nothing_but_its_checkpoints_is_left_and_of_a_cancelled_one_nothing() {
        let folder = Folder::new().await;
        let s3 = S3Config::default();
        let base = folder.dir.path().to_string_lossy().into_owned();
        let store = Store::open(&base, &s3).unwrap();
        let whole = left(&store).await;
        for orphan in [
            "chk-3/1-u-MANIFEST-1",
            "chk-3/_metadata",
            "shared/1-3-u-1.sst",
        ] {
            file(&store, orphan).await;
        }
        let mut job = folder.job;
        job.set_state(v1::JobState::Failed);
        assert_eq!(sweep(&s3, &job, &base).await.unwrap(), 3);
        assert_eq!(left(&store).await, whole);
        job.set_state(v1::JobState::Canceled);
        job.cleaning = true;
        assert_eq!(sweep(&s3, &job, &base).await.unwrap(), whole.len());
        assert_eq!(left(&store).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_claimed_savepoint_is_deleted_without_what_else_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let s3 = S3Config::default();
        let store = Store::open(&dir.path().to_string_lossy(), &s3).unwrap();
        write(
            &store,
            "_metadata",
            &["files/a", "files/b"],
            v1::SnapshotKind::Savepoint,
        )
        .await;
        store
            .put("notes.txt", Bytes::from_static(b"mine"))
            .await
            .unwrap();
        assert_eq!(delete_claimed(&s3, store.url()).await.unwrap(), 3);
        assert_eq!(left(&store).await, ["notes.txt"]);
        // A new leader tries again what an old one may have done.
        assert_eq!(delete_claimed(&s3, store.url()).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn files_of_a_claimed_checkpoint_that_another_one_names_stay() {
        let dir = tempfile::tempdir().unwrap();
        let s3 = S3Config::default();
        let store = Store::open(&dir.path().to_string_lossy(), &s3).unwrap();
        let kind = v1::SnapshotKind::Checkpoint;
        let (own, shared) = ("shared/1-1-u-a.sst", "shared/1-1-u-b.sst");
        write(&store, "chk-1/_metadata", &[own, shared], kind).await;
        write(&store, "chk-2/_metadata", &[shared], kind).await;
        let claimed = store.url_of("chk-1");
        assert_eq!(delete_claimed(&s3, &claimed).await.unwrap(), 2);
        assert_eq!(left(&store).await, ["chk-2/_metadata", shared]);
    }
}
