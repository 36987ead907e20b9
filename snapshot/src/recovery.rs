//! Which snapshot to start from: the newest whose manifest and files are whole. A store that does not answer is an error, not
//! a reason to go further back.

use std::collections::BTreeMap;

use futures::stream;
use futures::{StreamExt, TryStreamExt};
use weir_common::ids::CheckpointId;
use weir_proto::v1;

use crate::manifest::files;
use crate::publish::read_manifest;
use crate::{Listed, Result, Store, paths};

const PARALLEL_READS: usize = 8;

/// A snapshot that the caller believes to be complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// Its manifest, relative to the store.
    pub manifest_path: String,
}

impl Candidate {
    /// A checkpoint in its job's folder.
    pub fn checkpoint(checkpoint: CheckpointId) -> Self {
        Self {
            checkpoint,
            manifest_path: paths::checkpoint_manifest(checkpoint),
        }
    }
}

/// How closely files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Each is there with the right size: a few listings.
    Sizes,
    /// Each is read and its checksum compared.
    Checksums,
}

/// The choice.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// The newest usable one; `None` if there is none.
    pub chosen: Option<(Candidate, v1::Manifest)>,
    /// Newer ones that are damaged, and what is wrong with them: to be logged.
    pub skipped: Vec<(Candidate, String)>,
}

/// Finds the newest usable candidate; `candidates` come newest first. Fails if the store can't be asked, or if the newest was
/// written by a newer version.
pub async fn newest_usable(
    store: &Store,
    candidates: &[Candidate],
    verify: Verify,
) -> Result<Recovery> {
    let mut recovery = Recovery::default();
    for candidate in candidates {
        match examine(store, candidate, verify).await {
            Ok(manifest) => {
                recovery.chosen = Some((candidate.clone(), manifest));
                break;
            }
            Err(error) if error.is_damage() => {
                recovery
                    .skipped
                    .push((candidate.clone(), error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(recovery)
}

/// Reads a snapshot's manifest and verifies its files.
pub async fn examine(store: &Store, candidate: &Candidate, verify: Verify) -> Result<v1::Manifest> {
    let manifest = read_manifest(store, &candidate.manifest_path).await?;
    let mut listed = Vec::new();
    for folder in folders(&manifest) {
        listed.extend(store.list(folder).await?);
    }
    if let Some(damage) = missing_or_cut(&manifest, &listed) {
        return Err(damage.into_error(store));
    }
    if verify == Verify::Checksums {
        verify_checksums(store, &manifest).await?;
    }
    Ok(manifest)
}

/// All candidates that a job's checkpoint folder holds, newest first: for a start without the job manager's memory of them.
pub async fn candidates(store: &Store) -> Result<Vec<Candidate>> {
    let listed = store.list("").await?;
    let mut found: Vec<_> = listed
        .iter()
        .filter_map(|object| match paths::kind_of(&object.path) {
            paths::Kind::Manifest(checkpoint) => Some(Candidate::checkpoint(checkpoint)),
            _ => None,
        })
        .collect();
    found.sort_by_key(|candidate| std::cmp::Reverse(candidate.checkpoint));
    Ok(found)
}

/// What is wrong with a file that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// `None`: it is not there; else the size it has and should have.
    pub sizes: Option<(u64, u64)>,
}

impl Damage {
    fn into_error(self, store: &Store) -> crate::SnapshotError {
        let url = store.url_of(&self.path);
        match self.sizes {
            None => crate::SnapshotError::NotFound { url },
            Some((found, expected)) => crate::SnapshotError::Damaged {
                url,
                reason: format!("it has {found} bytes instead of {expected}"),
            },
        }
    }
}

/// The first file of a manifest that is not in the listing with its size.
pub fn missing_or_cut(manifest: &v1::Manifest, listed: &[Listed]) -> Option<Damage> {
    let sizes: BTreeMap<&str, u64> = listed
        .iter()
        .map(|object| (object.path.as_str(), object.size_bytes))
        .collect();
    files(manifest).find_map(|file| {
        let sizes = match sizes.get(file.path.as_str()) {
            Some(size) if *size == file.size_bytes => return None,
            Some(size) => Some((*size, file.size_bytes)),
            None => None,
        };
        Some(Damage {
            path: file.path.clone(),
            sizes,
        })
    })
}

fn folders(manifest: &v1::Manifest) -> Vec<&str> {
    let mut folders: Vec<&str> = files(manifest)
        .filter_map(|file| Some(file.path.rsplit_once('/')?.0))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    folders
}

async fn verify_checksums(store: &Store, manifest: &v1::Manifest) -> Result<()> {
    let mut distinct: Vec<&v1::FileRef> = files(manifest).collect();
    distinct.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    distinct.dedup_by(|a, b| a.path == b.path);
    stream::iter(distinct)
        .map(Ok)
        .try_for_each_concurrent(PARALLEL_READS, |file| async {
            let found = store.checksum(&file.path).await?;
            found.expect(file, || store.url_of(&file.path))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use weir_common::config::S3Config;

    async fn snapshot(store: &Store, checkpoint: u64, content: &'static [u8]) -> Candidate {
        let path = format!("shared/1-{checkpoint}-x-1.sst");
        let info = store.put(&path, Bytes::from_static(content)).await.unwrap();
        let file = v1::FileRef {
            path,
            size_bytes: info.size_bytes,
            checksum: info.checksum,
            local_name: "1.sst".to_owned(),
            ..v1::FileRef::default()
        };
        let manifest = v1::Manifest {
            checkpoint_id: checkpoint,
            operators: vec![v1::OperatorSnapshot {
                keyed: Some(v1::KeyedState {
                    files: vec![file],
                    ..v1::KeyedState::default()
                }),
                ..v1::OperatorSnapshot::default()
            }],
            ..v1::Manifest::default()
        };
        let candidate = Candidate::checkpoint(CheckpointId(checkpoint));
        crate::publish(store, &candidate.manifest_path, &manifest)
            .await
            .unwrap();
        candidate
    }

    async fn choice(store: &Store, verify: Verify) -> (u64, Vec<String>) {
        let all = candidates(store).await.unwrap();
        let recovery = newest_usable(store, &all, verify).await.unwrap();
        let chosen = recovery
            .chosen
            .map_or(0, |(candidate, _)| candidate.checkpoint.0);
        (
            chosen,
            recovery.skipped.into_iter().map(|(_, why)| why).collect(),
        )
    }

    #[tokio::test]
    async fn each_damage_sends_it_to_the_next_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().to_string_lossy(), &S3Config::default()).unwrap();
        for checkpoint in 8..=12 {
            snapshot(&store, checkpoint, b"content").await;
        }
        assert_eq!(choice(&store, Verify::Checksums).await, (12, vec![]));

        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("chk-12/_metadata"), b"WEIRSNAP").unwrap();
        std::fs::remove_file(file("shared/1-11-x-1.sst")).unwrap();
        std::fs::write(file("shared/1-10-x-1.sst"), b"conten").unwrap();
        std::fs::write(file("shared/1-9-x-1.sst"), b"c0ntent").unwrap();
        let (chosen, skipped) = choice(&store, Verify::Sizes).await;
        assert_eq!((chosen, skipped.len()), (9, 3));

        let (chosen, skipped) = choice(&store, Verify::Checksums).await;
        assert_eq!(chosen, 8);
        for (why, words) in skipped.iter().zip([
            "chk-12/_metadata: the manifest is truncated",
            "shared/1-11-x-1.sst does not exist",
            "shared/1-10-x-1.sst is damaged: it has 6 bytes instead of 7",
            "shared/1-9-x-1.sst is damaged: its checksum",
        ]) {
            assert!(why.contains(words), "{why}");
        }
    }

    #[tokio::test]
    async fn a_newer_format_is_refused_and_not_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().to_string_lossy(), &S3Config::default()).unwrap();
        snapshot(&store, 1, b"content").await;
        let newest = snapshot(&store, 2, b"content").await;
        let path = dir.path().join(&newest.manifest_path);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[11] = 200;
        std::fs::write(&path, bytes).unwrap();
        let all = candidates(&store).await.unwrap();
        let error = newest_usable(&store, &all, Verify::Sizes)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("newer Weir"), "{error}");
    }
}
