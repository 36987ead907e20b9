//! One file a command. Each is a function of the state, the command and the time in it.

mod begin_checkpoint;
mod complete_checkpoint;
mod end_job;
mod job_cleaned;
mod rescale_job;
mod savepoint_deleted;
mod set_job_state;
mod start_attempt;
mod submit_jobs;

use weir_proto::v1;
use weir_proto::v1::meta_command::Command;

use super::view::{MetaState, Outcome, Refusal};

impl MetaState {
    /// Applies one entry of the log. A refused command has changed nothing.
    pub fn apply(&mut self, command: &v1::MetaCommand) -> Result<Outcome, Refusal> {
        let now_ms = command.now_ms;
        match &command.command {
            Some(Command::SubmitJobs(c)) => submit_jobs::apply(self, c, now_ms),
            Some(Command::StartAttempt(c)) => start_attempt::apply(self, c),
            Some(Command::SetJobState(c)) => set_job_state::apply(self, c),
            Some(Command::BeginCheckpoint(c)) => begin_checkpoint::apply(self, c),
            Some(Command::CompleteCheckpoint(c)) => complete_checkpoint::apply(self, c),
            Some(Command::EndJob(c)) => end_job::apply(self, c, now_ms),
            Some(Command::JobCleaned(c)) => job_cleaned::apply(self, c),
            Some(Command::RescaleJob(c)) => rescale_job::apply(self, c),
            Some(Command::SavepointDeleted(c)) => savepoint_deleted::apply(self, c),
            None => Err(Refusal(
                "a command that this version of Weir does not know".to_owned(),
            )),
        }
    }
}

/// Refuses a command of any attempt but the current one.
fn check_attempt(job: &v1::JobRecord, attempt: u64) -> Result<(), Refusal> {
    if job.attempt == attempt {
        return Ok(());
    }
    Err(Refusal(format!(
        "job {} is at attempt {}, not {attempt}",
        job.job_id, job.attempt
    )))
}

#[cfg(test)]
mod tests;
