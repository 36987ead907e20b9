//! SavepointDeleted: what a job had claimed is gone. Who puts another snapshot at the same path is not to lose it at the next leader change.

use std::sync::Arc;

use weir_proto::v1;

use super::{MetaState, Outcome, Refusal};

pub(super) fn apply(
    state: &mut MetaState,
    command: &v1::SavepointDeletedCommand,
) -> Result<Outcome, Refusal> {
    if let Some(job) = state.jobs.get_mut(&command.job_id)
        && job.subsumed_savepoint == command.path
    {
        Arc::make_mut(job).subsumed_savepoint.clear();
    }
    Ok(Outcome::Done)
}
