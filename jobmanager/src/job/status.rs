//! What an observer sees of a job that has not ended.

use std::collections::BTreeMap;

use weir_common::ids::SubtaskId;
use weir_proto::v1;

use super::Context;
use super::states::State;

/// A picture of the moment; the log has the rest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobStatus {
    /// The attempt whose reports are welcome.
    pub accepts: Option<u64>,
    /// The current attempt.
    pub attempt: u64,
    /// Its subtasks.
    pub subtasks: BTreeMap<SubtaskId, v1::SubtaskState>,
    /// Where they are: slot k has subtask k of every vertex.
    pub slots: Vec<v1::SlotPlace>,
    /// Why the job does not go on.
    pub waiting: String,
    /// Under this leader.
    pub failed_checkpoints: u64,
    /// Why the last one failed.
    pub last_checkpoint_failure: String,
}

pub(super) fn of(context: &Context, state: Option<&State>) -> JobStatus {
    let Some(state) = state else {
        return JobStatus::default();
    };
    let mut status = JobStatus {
        accepts: state.accepts_attempt().then_some(context.attempt),
        attempt: context.attempt,
        subtasks: state
            .execution()
            .map(|execution| execution.states.clone())
            .unwrap_or_default(),
        slots: context.slots.clone(),
        waiting: context.waiting.clone(),
        failed_checkpoints: context.failed_checkpoints,
        last_checkpoint_failure: context.last_checkpoint_failure.clone(),
    };
    if let Some(coordinator) = state.coordinator() {
        status.failed_checkpoints += coordinator.failed;
        if !coordinator.last_failure.is_empty() {
            status
                .last_checkpoint_failure
                .clone_from(&coordinator.last_failure);
        }
    }
    status
}
