//! The moment a snapshot becomes complete: the conditional create of its manifest. Raft can't stop a write that a deposed
//! leader has already sent; the store lets only the first one through.

use weir_proto::v1;

use crate::manifest;
use crate::{Created, Result, SnapshotError, Store};

/// Whose manifest is on the store now.
#[derive(Debug, Clone, PartialEq)]
pub enum Publication {
    /// This one: written now, or by an earlier try of the same.
    Ours,
    /// Another leader or attempt was first; this snapshot must count as failed. `None`: what is there can't be read.
    Other(Option<Box<v1::Manifest>>),
}

/// Writes a manifest unless there is one at `path`. Safe to repeat after an error: the same manifest is ours however often it
/// is sent.
pub async fn publish(store: &Store, path: &str, manifest: &v1::Manifest) -> Result<Publication> {
    let bytes = manifest::encode(manifest);
    if store.create_new(path, bytes.clone()).await? == Created::Created {
        return Ok(Publication::Ours);
    }
    Ok(whose(&bytes, &store.get(path).await?))
}

/// Whose manifest is on the store, by its bytes there and those that could not be created.
pub fn whose(sent: &[u8], found: &[u8]) -> Publication {
    if found == sent {
        return Publication::Ours;
    }
    Publication::Other(manifest::decode(found).ok().map(Box::new))
}

/// Reads and verifies a manifest.
pub async fn read_manifest(store: &Store, path: &str) -> Result<v1::Manifest> {
    let bytes = store.get(path).await?;
    manifest::decode(&bytes).map_err(|source| SnapshotError::Manifest {
        url: store.url_of(path),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_common::config::S3Config;

    fn manifest(leader_term: u64) -> v1::Manifest {
        v1::Manifest {
            checkpoint_id: 4,
            leader_term,
            ..v1::Manifest::default()
        }
    }

    #[tokio::test]
    async fn the_first_leader_wins_and_may_repeat_itself() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().to_string_lossy(), &S3Config::default()).unwrap();
        let path = "chk-4/_metadata";
        for _ in 0..2 {
            let published = publish(&store, path, &manifest(1)).await.unwrap();
            assert_eq!(published, Publication::Ours);
        }
        let second = publish(&store, path, &manifest(2)).await.unwrap();
        assert_eq!(second, Publication::Other(Some(Box::new(manifest(1)))));
        assert_eq!(read_manifest(&store, path).await.unwrap(), manifest(1));
    }
}
