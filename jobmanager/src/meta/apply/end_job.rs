//! EndJob: the job will never run again. Only the newest ended jobs are remembered.

use weir_proto::v1;

use super::{MetaState, Outcome, Refusal};
use crate::meta::view::has_ended;

/// Ended jobs that are remembered.
pub(super) const REMEMBERED: usize = 200;

pub(super) fn apply(
    state: &mut MetaState,
    command: &v1::EndJobCommand,
    now_ms: i64,
) -> Result<Outcome, Refusal> {
    let wanted = command.state();
    if !has_ended(wanted) {
        return Err(Refusal(format!("{} is no end", wanted.as_str_name())));
    }
    let job = state.active(&command.job_id)?;
    job.set_state(wanted);
    job.ended_ms = now_ms;
    if !command.error.is_empty() {
        job.error = command.error.clone();
    }
    job.subtasks.clone_from(&command.subtasks);
    job.graph = None;
    job.slots.clear();
    // After a failure the checkpoints stay: someone may want to start from them.
    job.cleaning = wanted != v1::JobState::Failed && !job.checkpoint_directory.is_empty();
    forget_oldest(state);
    Ok(Outcome::Done)
}

fn forget_oldest(state: &mut MetaState) {
    let mut ended: Vec<(i64, String)> = state
        .jobs
        .values()
        .filter(|job| has_ended(job.state()) && !job.cleaning)
        .map(|job| (job.ended_ms, job.job_id.clone()))
        .collect();
    ended.sort();
    let surplus = ended.len().saturating_sub(REMEMBERED);
    for (_, job_id) in ended.into_iter().take(surplus) {
        state.jobs.remove(&job_id);
    }
}
