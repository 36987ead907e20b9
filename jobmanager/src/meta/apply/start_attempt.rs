//! StartAttempt: from here on only this attempt may complete checkpoints.

use weir_proto::v1;

use super::super::view::newest_checkpoint_id;
use super::{MetaState, Outcome, Refusal};
use crate::validate::set_parallelism;

pub(super) fn apply(
    state: &mut MetaState,
    command: &v1::StartAttemptCommand,
) -> Result<Outcome, Refusal> {
    let job = state.active(&command.job_id)?;
    if command.attempt != job.attempt + 1 {
        return Err(Refusal(format!(
            "job {} is at attempt {}: {} is not the next one",
            job.job_id, job.attempt, command.attempt
        )));
    }
    let newest = newest_checkpoint_id(job);
    if newest != command.newest_checkpoint_id {
        return Err(Refusal(format!(
            "checkpoint {newest} of job {} was completed while its recovery was chosen",
            job.job_id
        )));
    }
    job.attempt = command.attempt;
    job.slots = command.slots.clone();
    if let Some(graph) = job.graph.as_mut().filter(|_| command.parallelism > 0) {
        set_parallelism(graph, command.parallelism);
    }
    job.state = v1::JobState::Scheduling.into();
    // What is newer than the restored one belongs to a course of events that no longer happened.
    job.checkpoints
        .retain(|checkpoint| checkpoint.checkpoint_id <= command.restored_checkpoint_id);
    Ok(Outcome::Done)
}
