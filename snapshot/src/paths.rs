//! Where things lie.
//!
//! ```text
//! DIRECTORY/JOB_ID/                      a job's checkpoint folder: FileRef.path is relative to it
//!     chk-CHECKPOINT/_metadata           the manifest; the checkpoint is complete when it exists
//!     chk-CHECKPOINT/ATTEMPT-UUID-NAME   files of this checkpoint alone
//!     shared/ATTEMPT-CHECKPOINT-UUID-NAME  files that later checkpoints may name too
//! SAVEPOINT/                             a savepoint's own folder: FileRef.path is relative to it
//!     _metadata
//!     files/UUID-NAME
//! ```
//!
//! A file's name says which attempt and checkpoint made it, so that what a dead attempt left behind can be told from what a
//! running checkpoint is about to name. The UUID keeps attempts from writing over each other's files.

use uuid::Uuid;
use weir_common::ids::{AttemptId, CheckpointId, JobId};

/// Name of a manifest in its folder.
pub const METADATA: &str = "_metadata";

/// URL of a job's checkpoint folder.
pub fn checkpoint_base(directory: &str, job: &JobId) -> String {
    format!("{}/{job}", directory.trim_end_matches('/'))
}

/// Folder of one checkpoint in the job's checkpoint folder.
pub fn checkpoint_folder(checkpoint: CheckpointId) -> String {
    format!("chk-{checkpoint}")
}

/// The manifest of a checkpoint, in the job's checkpoint folder.
pub fn checkpoint_manifest(checkpoint: CheckpointId) -> String {
    format!("chk-{checkpoint}/{METADATA}")
}

/// A new name for a file that later checkpoints may share.
pub fn new_shared_file(attempt: AttemptId, checkpoint: CheckpointId, name: &str) -> String {
    format!("shared/{attempt}-{checkpoint}-{}-{name}", unique())
}

/// A new name for a file of one checkpoint.
pub fn new_private_file(attempt: AttemptId, checkpoint: CheckpointId, name: &str) -> String {
    format!("chk-{checkpoint}/{attempt}-{}-{name}", unique())
}

/// A new name for a file of a savepoint.
pub fn new_savepoint_file(name: &str) -> String {
    format!("files/{}-{name}", unique())
}

/// A new folder for a savepoint below the folder that a user named.
pub fn new_savepoint_folder(directory: &str, job: &JobId) -> String {
    let short = job.as_str().get(..6).unwrap_or_default();
    let unique = unique();
    let suffix = unique.get(..12).unwrap_or_default();
    format!(
        "{}/savepoint-{short}-{suffix}",
        directory.trim_end_matches('/')
    )
}

fn unique() -> String {
    Uuid::new_v4().simple().to_string()
}

/// What the path of an object in a job's checkpoint folder says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A checkpoint's manifest.
    Manifest(CheckpointId),
    /// A file of keyed state: who made it and for which checkpoint.
    File(AttemptId, CheckpointId),
    /// Not ours.
    Unknown,
}

/// Reads a path of a job's checkpoint folder.
pub fn kind_of(path: &str) -> Kind {
    parse(path).unwrap_or(Kind::Unknown)
}

fn parse(path: &str) -> Option<Kind> {
    let (folder, name) = path.split_once('/')?;
    if folder == "shared" {
        let mut parts = name.splitn(3, '-');
        let attempt = number(parts.next()?)?;
        let checkpoint = number(parts.next()?)?;
        parts.next()?;
        return Some(Kind::File(AttemptId(attempt), CheckpointId(checkpoint)));
    }
    let checkpoint = CheckpointId(number(folder.strip_prefix("chk-")?)?);
    if name == METADATA {
        return Some(Kind::Manifest(checkpoint));
    }
    let (attempt, _) = name.split_once('-')?;
    Some(Kind::File(AttemptId(number(attempt)?), checkpoint))
}

fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_read_back() {
        let (attempt, checkpoint) = (AttemptId(3), CheckpointId(12));
        let file = Kind::File(attempt, checkpoint);
        for (path, kind) in [
            (checkpoint_manifest(checkpoint), Kind::Manifest(checkpoint)),
            (new_shared_file(attempt, checkpoint, "000012.sst"), file),
            (
                new_private_file(attempt, checkpoint, "MANIFEST-000005"),
                file,
            ),
            ("shared/readme".to_owned(), Kind::Unknown),
            ("chk-+1/_metadata".to_owned(), Kind::Unknown),
            ("chk-1".to_owned(), Kind::Unknown),
            ("other/1-2-3".to_owned(), Kind::Unknown),
        ] {
            assert_eq!(kind_of(&path), kind, "{path}");
        }
    }

    #[test]
    fn no_two_attempts_write_the_same_file() {
        let name = || new_shared_file(AttemptId(1), CheckpointId(1), "000001.sst");
        assert_ne!(name(), name());
    }
}
