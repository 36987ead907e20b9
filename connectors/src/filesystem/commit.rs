//! The second phase: a pending part file gets its visible name. And what earlier attempts left behind is removed.

use std::collections::BTreeSet;

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
    /// Name of the empty file that tells of a partition's new files.
    success_file: Option<String>,
}

impl FileCommitter {
    pub(super) fn new(store: Store, success_file: Option<String>, context: &SinkContext) -> Self {
        Self {
            store,
            s3: context.s3.clone(),
            runtime: context.runtime.clone(),
            own: PartName::first(&context.info),
            parallelism: context.info.parallelism.max(1),
            success_file,
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

    /// Tells of the partitions that have new files.
    fn announce(&self, committed: &[Committable]) -> Result<()> {
        let Some(name) = &self.success_file else {
            return Ok(());
        };
        let folders: BTreeSet<&str> = committed
            .iter()
            .filter_map(|part| Some(part.visible.rsplit_once('/')?.0))
            .collect();
        for folder in folders {
            let path = format!("{folder}/{name}");
            let told = self.store.put(&path, Bytes::new());
            self.runtime.block_on(told).map_err(external)?;
        }
        Ok(())
    }

    /// Removes the hidden files of earlier attempts, as far as they fall to this subtask.
    fn sweep(&self) -> Result<()> {
        let is_leftover = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or(path);
            PartName::parse(name).is_some_and(|(part, _)| {
                part.sink == self.own.sink
                    && part.attempt < self.own.attempt
                    && part.subtask % self.parallelism == self.own.subtask
            })
        };
        if let Some(folder) = self.store.local_folder() {
            return sweep_local(folder, &is_leftover)
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
    is_leftover: &impl Fn(&str) -> bool,
) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sweep_local(&entry.path(), is_leftover)?;
            continue;
        }
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
        let committables = committables
            .iter()
            .map(|committable| Committable::decode(committable))
            .collect::<Result<Vec<_>>>()?;
        for committable in &committables {
            self.publish(committable)?;
        }
        self.announce(&committables)
    }

    /// All that the snapshot names is committed by now: what else is pending belongs to checkpoints that never completed.
    fn abort_leftovers(&self) -> Result<()> {
        self.sweep()
    }
}
