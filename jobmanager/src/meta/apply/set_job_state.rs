//! SetJobState: a step of the life cycle that is neither its start nor its end.

use weir_proto::v1;

use super::{MetaState, Outcome, Refusal};
use crate::meta::view::has_ended;

pub(super) fn apply(
    state: &mut MetaState,
    command: &v1::SetJobStateCommand,
) -> Result<Outcome, Refusal> {
    let job = state.active(&command.job_id)?;
    let wanted = command.state();
    if wanted == v1::JobState::Unspecified || has_ended(wanted) {
        return Err(Refusal(format!(
            "{} is not a state to pass through",
            wanted.as_str_name()
        )));
    }
    if job.state() == v1::JobState::Cancelling {
        return Err(Refusal(format!("job {} is being cancelled", job.job_id)));
    }
    job.set_state(wanted);
    if !command.error.is_empty() {
        job.error = command.error.clone();
    }
    if command.restart {
        job.restarts = job.restarts.saturating_add(1);
    }
    if wanted == v1::JobState::Stopping {
        job.stop_directory = command.stop_directory.clone();
        job.stop_request_id = command.stop_request_id.clone();
    }
    Ok(Outcome::Done)
}
