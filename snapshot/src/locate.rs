//! Finds a snapshot by what a user names: the folder of a savepoint, or of a checkpoint (`.../JOB_ID/chk-N`), with or without
//! `/_metadata`.

use weir_common::config::S3Config;
use weir_common::ids::CheckpointId;
use weir_proto::v1;

use crate::publish::read_manifest;
use crate::recovery::Candidate;
use crate::{Result, Store, paths};

/// A snapshot that is there.
#[derive(Debug, Clone)]
pub struct Located {
    /// What the paths of its files are relative to.
    pub base: Store,
    /// Its manifest's place, relative to `base`.
    pub candidate: Candidate,
    /// Verified by its checksum; the files are not looked at yet.
    pub manifest: v1::Manifest,
}

/// Reads the manifest that a user means.
pub async fn locate(path: &str, s3: &S3Config) -> Result<Located> {
    let folder = path
        .trim_end_matches('/')
        .trim_end_matches(paths::METADATA)
        .trim_end_matches('/');
    let store = Store::open(folder, s3)?;
    let manifest = read_manifest(&store, paths::METADATA).await?;
    let checkpoint = CheckpointId(manifest.checkpoint_id);
    let (base, manifest_path) = match manifest.kind() {
        v1::SnapshotKind::Checkpoint => {
            // A checkpoint's files are named from the job's folder, one above.
            let (base, folder) = store.url().rsplit_once('/').unwrap_or(("", store.url()));
            let manifest_path = format!("{folder}/{}", paths::METADATA);
            (Store::open(base, s3)?, manifest_path)
        }
        _ => (store, paths::METADATA.to_owned()),
    };
    Ok(Located {
        base,
        candidate: Candidate {
            checkpoint,
            manifest_path,
        },
        manifest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish;

    #[tokio::test]
    async fn a_snapshot_is_found_by_its_folder_and_by_its_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_string_lossy().into_owned();
        let store = Store::open(&root, &S3Config::default()).unwrap();
        for (kind, manifest_path, base) in [
            (v1::SnapshotKind::Checkpoint, "job/chk-7/_metadata", "job"),
            (v1::SnapshotKind::Savepoint, "moved/_metadata", "moved"),
        ] {
            let manifest = v1::Manifest {
                checkpoint_id: 7,
                kind: kind.into(),
                ..v1::Manifest::default()
            };
            publish(&store, manifest_path, &manifest).await.unwrap();
            let folder = manifest_path.trim_end_matches("_metadata");
            for named in [manifest_path, folder, folder.trim_end_matches('/')] {
                let path = format!("{root}/{named}");
                let located = locate(&path, &S3Config::default()).await.unwrap();
                assert_eq!(located.base.url(), store.url_of(base));
                assert_eq!(located.manifest, manifest);
                let read = read_manifest(&located.base, &located.candidate.manifest_path);
                assert_eq!(read.await.unwrap(), manifest);
            }
        }
        let missing = locate(&format!("{root}/none"), &S3Config::default()).await;
        assert!(missing.unwrap_err().is_damage());
    }
}
