//! JobCleaned: the checkpoint files of an ended job are deleted.

use std::sync::Arc;

use weir_proto::v1;

use super::{MetaState, Outcome, Refusal};

pub(super) fn apply(
    state: &mut MetaState,
    command: &v1::JobCleanedCommand,
) -> Result<Outcome, Refusal> {
    if let Some(job) = state.jobs.get_mut(&command.job_id) {
        let job = Arc::make_mut(job);
        job.cleaning = false;
        job.checkpoints.retain(|checkpoint| checkpoint.savepoint);
    }
    Ok(Outcome::Done)
}
