//! SubmitJobs: new jobs, once for each request id.

use std::sync::Arc;

use weir_proto::v1;

use super::{MetaState, Outcome, Refusal};

pub(super) fn apply(
    state: &mut MetaState,
    command: &v1::SubmitJobsCommand,
    now_ms: i64,
) -> Result<Outcome, Refusal> {
    if !command.request_id.is_empty() {
        let known = state.jobs_of_request(&command.request_id);
        if !known.is_empty() {
            return Ok(Outcome::Jobs(known));
        }
    }
    if let Some(taken) = command
        .jobs
        .iter()
        .find(|job| state.job(&job.job_id).is_some())
    {
        return Err(Refusal(format!("job id {} is taken", taken.job_id)));
    }
    for new in &command.jobs {
        let graph = new.graph.clone().unwrap_or_default();
        let record = v1::JobRecord {
            job_id: new.job_id.clone(),
            request_id: command.request_id.clone(),
            name: graph.name.clone(),
            checkpoint_directory: graph
                .checkpoint
                .as_ref()
                .map(|checkpoint| checkpoint.directory.clone())
                .unwrap_or_default(),
            graph: Some(graph),
            state: v1::JobState::Created.into(),
            next_checkpoint_id: 1,
            from_savepoint: new.from_savepoint.clone(),
            allow_non_restored_state: new.allow_non_restored_state,
            claim_mode: new.claim_mode,
            submitted_ms: now_ms,
            ..Default::default()
        };
        state.jobs.insert(new.job_id.clone(), Arc::new(record));
    }
    Ok(Outcome::Jobs(
        command.jobs.iter().map(|job| job.job_id.clone()).collect(),
    ))
}
