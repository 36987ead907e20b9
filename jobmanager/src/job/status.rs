//! What an observer sees of a job that has not ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_common::ids::SubtaskId;
use weir_proto::v1;

use super::placement::Placement;
use super::states::State;
use super::{Context, Job, Limits};

/// A picture of the moment; the log has the rest. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct JobStatus {
    /// The attempt whose reports are welcome.
    pub accepts: Option<u64>,
    /// The current attempt.
    pub attempt: u64,
    /// Its subtasks; a tick old at most.
    pub subtasks: Arc<BTreeMap<SubtaskId, v1::SubtaskState>>,
    /// Where they are.
    pub slots: Arc<Placement>,
    /// Why the job does not go on.
    pub waiting: String,
    /// Under this leader.
    pub failed_checkpoints: u64,
    /// Why the last one failed.
    pub last_checkpoint_failure: String,
    /// Why the job cannot leave a task manager that drains.
    pub stuck: String,
}

impl JobStatus {
    /// Before the job's task has taken its first step. Task managers may ask as soon as somebody leads: what they run is not stale only because
    /// nobody has looked at the job yet.
    pub fn taken_over(record: &v1::JobRecord) -> Self {
        // Times make no difference to what is shown.
        let limits = Limits {
            slot_timeout_ms: 0,
            reattach_timeout_ms: 0,
            restarting_timeout_ms: 0,
        };
        Job::open(record, limits, 0).0.status()
    }

    /// Takes a newer picture over; gives whether anything is different. The subtasks are taken over with ticks only: each of thousands of
    /// reports would copy all of them otherwise.
    pub(super) fn update(&mut self, mut newer: Self, is_tick: bool) -> bool {
        let same_course = self.accepts == newer.accepts && self.attempt == newer.attempt;
        if same_course && !is_tick {
            newer.subtasks = Arc::clone(&self.subtasks);
        }
        let changed = !same_course
            || !Arc::ptr_eq(&self.subtasks, &newer.subtasks)
            || !Arc::ptr_eq(&self.slots, &newer.slots)
            || self.waiting != newer.waiting
            || self.stuck != newer.stuck
            || self.failed_checkpoints != newer.failed_checkpoints
            || self.last_checkpoint_failure != newer.last_checkpoint_failure;
        if changed {
            *self = newer;
        }
        changed
    }
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
            .map(|execution| Arc::clone(&execution.states))
            .unwrap_or_default(),
        slots: Arc::clone(&context.slots),
        waiting: context.waiting.clone(),
        failed_checkpoints: context.failed_checkpoints,
        last_checkpoint_failure: context.last_checkpoint_failure.clone(),
        stuck: match state {
            State::Running(running) => running.stuck.clone(),
            _ => String::new(),
        },
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
