//! Single objects of a snapshot that are no database.

use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_dataflow::SnapshotTarget;
use weir_proto::v1;
use weir_snapshot::{FileInfo, Store, paths};

use crate::Result;
use crate::Transfers;
use crate::upload::Uploader;

impl Uploader {
    /// Writes an object of one snapshot alone. Blocks.
    pub fn put(
        &self,
        checkpoint: CheckpointId,
        target: &SnapshotTarget,
        name: &str,
        content: Bytes,
    ) -> Result<v1::FileRef> {
        let path = match target {
            SnapshotTarget::Checkpoint => paths::new_private_file(self.attempt, checkpoint, name),
            SnapshotTarget::Savepoint(_) => paths::new_savepoint_file(name),
        };
        let sent = self.transfers.run(vec![path], |path| {
            let content = content.clone();
            async move {
                let info = self.store.put(&path, content).await?;
                Ok(v1::FileRef {
                    path,
                    size_bytes: info.size_bytes,
                    checksum: info.checksum,
                    local_name: name.to_owned(),
                    ..v1::FileRef::default()
                })
            }
        })?;
        Ok(sent.into_iter().next().unwrap_or_default())
    }
}

impl Transfers {
    /// Reads whole objects, each verified. Blocks.
    pub fn read(&self, base: &Store, files: Vec<v1::FileRef>) -> Result<Vec<Bytes>> {
        self.run(files, |file| async move {
            let content = base.get(&file.path).await?;
            FileInfo::of(&content).expect(&file, || base.url_of(&file.path))?;
            Ok(content)
        })
    }
}
