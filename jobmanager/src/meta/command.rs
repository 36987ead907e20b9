//! The commands, as their proposers write them.

use weir_proto::v1;
use weir_proto::v1::meta_command::Command;

/// Builds the entry's content.
pub fn at(now_ms: i64, command: Command) -> v1::MetaCommand {
    v1::MetaCommand {
        now_ms,
        command: Some(command),
    }
}

/// A change of state without an error.
pub fn set_state(job_id: &str, state: v1::JobState) -> Command {
    Command::SetJobState(v1::SetJobStateCommand {
        job_id: job_id.to_owned(),
        state: state.into(),
        ..Default::default()
    })
}

/// The job failed and is to be restarted.
pub fn restarting(job_id: &str, error: &str) -> Command {
    Command::SetJobState(v1::SetJobStateCommand {
        job_id: job_id.to_owned(),
        state: v1::JobState::Restarting.into(),
        error: error.to_owned(),
        restart: true,
        ..Default::default()
    })
}

/// The job is to stop behind a savepoint.
pub fn stopping(job_id: &str, directory: &str, request_id: &str) -> Command {
    Command::SetJobState(v1::SetJobStateCommand {
        job_id: job_id.to_owned(),
        state: v1::JobState::Stopping.into(),
        stop_directory: directory.to_owned(),
        stop_request_id: request_id.to_owned(),
        ..Default::default()
    })
}

/// The next attempt runs at another parallelism.
pub fn rescale(job_id: &str, attempt: u64, parallelism: u32) -> Command {
    Command::RescaleJob(v1::RescaleJobCommand {
        job_id: job_id.to_owned(),
        attempt,
        parallelism,
    })
}

/// The job has ended before its data.
pub fn end(job_id: &str, state: v1::JobState, error: &str) -> Command {
    Command::EndJob(v1::EndJobCommand {
        job_id: job_id.to_owned(),
        state: state.into(),
        error: error.to_owned(),
        subtasks: Vec::new(),
    })
}

/// The job has done all its work.
pub fn finished(job_id: &str, subtasks: Vec<v1::SubtaskInfo>) -> Command {
    Command::EndJob(v1::EndJobCommand {
        job_id: job_id.to_owned(),
        state: v1::JobState::Finished.into(),
        error: String::new(),
        subtasks,
    })
}
