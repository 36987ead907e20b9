//! RescaleJob: the graph changes between two attempts, at a checkpoint that the next one starts from.

use weir_proto::v1;

use super::{MetaState, Outcome, Refusal, check_attempt};
use crate::meta::view::state_name;
use crate::validate::set_parallelism;

pub(super) fn apply(
    state: &mut MetaState,
    command: &v1::RescaleJobCommand,
) -> Result<Outcome, Refusal> {
    let job = state.active(&command.job_id)?;
    check_attempt(job, command.attempt)?;
    if job.state() != v1::JobState::Running {
        return Err(Refusal(format!(
            "job {} is {}, it can be rescaled when it runs",
            job.job_id,
            state_name(job.state())
        )));
    }
    if let Some(graph) = &mut job.graph {
        set_parallelism(graph, command.parallelism);
    }
    job.set_state(v1::JobState::Restarting);
    Ok(Outcome::Done)
}
