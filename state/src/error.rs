//! What can go wrong with keyed state.

use std::io;
use std::path::{Path, PathBuf};

use weir_snapshot::SnapshotError;

/// An error of the keyed state; the text names the folder or file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateError {
    /// The disk under the state is full.
    #[error("cannot {action} the keyed state in {}: no space left on device", folder.display())]
    NoSpace {
        /// "write", "read" ...
        action: &'static str,
        /// Where the state lies.
        folder: PathBuf,
    },
    /// RocksDB failed.
    #[error("cannot {action} the keyed state in {}: {message}", folder.display())]
    Rocks {
        /// "write", "read" ...
        action: &'static str,
        /// Where the state lies.
        folder: PathBuf,
        /// RocksDB's own words.
        message: String,
    },
    /// The local file system failed.
    #[error("{context}: {message}")]
    Local {
        /// What was attempted, with the path.
        context: String,
        /// The system's words.
        message: String,
    },
    /// The object store failed, or a file on it is missing or damaged.
    #[error("{message}")]
    Snapshot {
        /// As [`SnapshotError`] says it, with the URL.
        message: String,
        /// Another try can't help: the snapshot itself is damaged.
        damaged: bool,
    },
    /// A manifest says what can't be.
    #[error("the snapshot can't be restored: {0}")]
    BadSnapshot(String),
    /// A write of a key group that is another subtask's: a bug of the operator or the partitioner.
    #[error("key group {group} is outside of {first}..={last}, which this subtask owns")]
    ForeignKeyGroup {
        /// That was written.
        group: u16,
        /// Of this subtask.
        first: u16,
        /// Of this subtask.
        last: u16,
    },
    /// The writer made no progress for too long, or ended.
    #[error("the keyed state in {}: {reason}", folder.display())]
    Stuck {
        /// Where the state lies.
        folder: PathBuf,
        /// What was waited for.
        reason: &'static str,
    },
}

impl StateError {
    pub(crate) fn rocks(action: &'static str, folder: &Path, error: &rocksdb::Error) -> Self {
        let message = error.to_string();
        let folder = folder.to_owned();
        if message.contains("No space left on device") || message.contains("NoSpace") {
            return Self::NoSpace { action, folder };
        }
        Self::Rocks {
            action,
            folder,
            message,
        }
    }

    pub(crate) fn local(context: impl Into<String>, error: &io::Error) -> Self {
        Self::Local {
            context: context.into(),
            message: match error.kind() {
                io::ErrorKind::StorageFull => "no space left on device".to_owned(),
                _ => error.to_string(),
            },
        }
    }
}

impl From<SnapshotError> for StateError {
    fn from(error: SnapshotError) -> Self {
        Self::Snapshot {
            message: error.to_string(),
            damaged: error.is_damage(),
        }
    }
}

impl From<StateError> for weir_dataflow::Error {
    /// Damage is no fatal error: the job manager may have an older snapshot that is whole.
    fn from(error: StateError) -> Self {
        match error {
            StateError::ForeignKeyGroup { .. } => Self::Internal(error.to_string()),
            other => Self::State(other.to_string()),
        }
    }
}
