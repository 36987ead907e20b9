//! The second phase: a pending part file gets its visible name. And what earlier attempts left behind is removed.

use bytes::Bytes;
use tokio::runtime::Handle;
use weir_common::config::S3Config;
use weir_dataflow::{Committer, Error, Result};
use weir_snapshot::{SnapshotError, Store};

use super::external;
use super::part::{Committable, PartName};
use super::sink::sync_parent;
use crate::context::SinkContext;

/// Of one subtask.
pub(super) struct FileCommitter {
    store: Store,
    s3: S3Config,
    runtime: Handle,
    /// The first part of this attempt: what other subtasks and attempts are told apart by.
    own: PartName,
    parallelism: u32,
}

impl FileCommitter {
    pub(super) fn new(store: Store, context: &SinkContext) -> Self {
        Self {
            store,
            s3: context.s3.clone(),
            runtime: context.runtime.clone(),
            own: PartName::first(&context.info),
            parallelism: context.info.parallelism.max(1),
        }
    }

    fn publish(&self, committable: &Committable) -> Result<()> {
        // A savepoint may name another folder than the table does now.
        let store = if committable.folder == self.store.url() {
            self.store.clone()
        } else {
            Store::open(&committable.folder, &self.s3).map_err(external)?
        };
        let lost = || Error::External {
            system: "filesystem",
            message: format!(
                "the part file {} is gone before its commit, and {} is not there either",
                store.url_of(&committable.pending),
                store.url_of(&committable.visible)
            ),
        };
        if let Some(folder) = store.local_folder() {
            let (from, to) = (
                folder.join(&committable.pending),
                folder.join(&committable.visible),
            );
            let failed = |error| Error::io(format!("cannot publish {}", to.display()), error);
            return match std::fs::rename(&from, &to) {
                Ok(()) => sync_parent(&to).map_err(failed),
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
                Err(_) if to.is_file() => Ok(()),
                Err(_) => Err(lost()),
            };
        }
        self.runtime.block_on(async {
            match store.copy(&committable.pending, &committable.visible).await {
                Ok(()) => {
                    let staged = std::slice::from_ref(&committable.pending);
                    return store.delete(staged).await.map_err(external);
                }
                // Committed before, or by another subtask just now.
                Err(SnapshotError::NotFound { .. }) => {}
                Err(error) => return Err(external(error)),
            }
            match store.exists(&committable.visible).await.map_err(external)? {
                true => Ok(()),
                false => Err(lost()),
            }
        })
    }

    /// Removes the hidden files of earlier attempts, as far as they fall to this subtask.
    fn sweep(&self) -> Result<()> {
        let is_leftover = |name: &str| {
            PartName::parse(name).is_some_and(|(part, _)| {
                part.sink == self.own.sink
                    && part.attempt < self.own.attempt
                    && part.subtask % self.parallelism == self.own.subtask
            })
        };
        if let Some(folder) = self.store.local_folder() {
            return sweep_local(folder, is_leftover)
                .map_err(|error| Error::io(format!("cannot clean {}", folder.display()), error));
        }
        self.runtime.block_on(async {
            let listed = self.store.list("").await.map_err(external)?;
            let names = listed.into_iter().map(|file| file.path);
            let leftovers: Vec<String> = names.filter(|name| is_leftover(name)).collect();
            self.store.delete(&leftovers).await.map_err(external)
        })
    }
}

fn sweep_local(
    folder: &std::path::Path,
    is_leftover: impl Fn(&str) -> bool,
) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !is_leftover(&entry.file_name().to_string_lossy()) {
            continue;
        }
        match std::fs::remove_file(entry.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Committer for FileCommitter {
    fn commit(&self, committables: &[Bytes]) -> Result<()> {
        for committable in committables {
            self.publish(&Committable::decode(committable)?)?;
        }
        Ok(())
    }

    /// All that the snapshot names is committed by now: what else is pending belongs to checkpoints that never completed.
    fn abort_leftovers(&self) -> Result<()> {
        self.sweep()
    }
}
