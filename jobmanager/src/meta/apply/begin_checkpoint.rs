//! BeginCheckpoint: allocates an id.

use weir_proto::v1;

use super::{MetaState, Outcome, Refusal, check_attempt};

pub(super) fn apply(
    state: &mut MetaState,
    command: &v1::BeginCheckpointCommand,
) -> Result<Outcome, Refusal> {
    let job = state.active(&command.job_id)?;
    check_attempt(job, command.attempt)?;
    let id = job.next_checkpoint_id;
    job.next_checkpoint_id += 1;
    Ok(Outcome::CheckpointId(id))
}
