//! What may be deleted: what no retained manifest names and no snapshot under way is about to name.

use std::collections::BTreeSet;
use std::time::Duration;

use weir_common::ids::{AttemptId, CheckpointId};
use weir_proto::v1;

use crate::manifest::files;
use crate::paths::{self, Kind};
use crate::{Listed, Result, Store};

/// Unfinished files of local folders that are older than this have no writer any more.
const UNFINISHED_AGE: Duration = Duration::from_secs(3600);

/// Objects that go with a checkpoint that is retained no longer: its manifest first (from then on it can't be chosen), then
/// those of its files that no retained checkpoint names.
///
/// A checkpoint under way names only files that every retained one made since its own confirmed predecessor names too, so
/// `retained` need not hold it.
pub fn of_dropped(dropped: &v1::Manifest, retained: &[&v1::Manifest]) -> Vec<String> {
    let named = named_by(retained);
    let manifest = paths::checkpoint_manifest(CheckpointId(dropped.checkpoint_id));
    let unnamed: BTreeSet<&str> = files(dropped)
        .map(|file| file.path.as_str())
        .filter(|path| !named.contains(path))
        .collect();
    std::iter::once(manifest)
        .chain(unnamed.into_iter().map(str::to_owned))
        .collect()
}

/// What is running, as far as it may still write.
#[derive(Debug, Clone, Copy)]
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
