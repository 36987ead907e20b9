//! A new leader has a job of which an attempt runs, or may run. Task managers go on without a leader and report here; when all subtasks
//! are there, the job goes on as if nothing had happened. What is missing when nobody has come for a while is lost, and the job is restarted.

use weir_proto::v1;

use super::restarting::Restarting;
use super::running::Running;
use super::stopping::Stopping;
use super::{Action, Context, Execution, Failure, Input, State, fail};
use crate::checkpoint::coordinator::Request;
use crate::checkpoint::takeover::announcements;
use crate::job::execution::SILENT_HEARTBEATS;
use crate::meta::command;

/// See the file's head.
#[derive(Debug)]
pub struct Reattaching {
    pub(super) execution: Execution,
    recorded: v1::JobState,
    stop: (String, String),
    /// Without anything new the job is restarted.
    patience_ms: i64,
    deadline_ms: i64,
    /// About the snapshots of the attempt, once all of it is there.
    announcements: Vec<Request>,
    last_allocated_id: u64,
}

impl Reattaching {
    pub(super) fn enter(context: &mut Context, record: &v1::JobRecord) -> State {
        let recorded = record.state();
        let patience_ms = if recorded == v1::JobState::Scheduling {
            context.limits.restarting_timeout_ms
        } else {
            context.limits.reattach_timeout_ms
        };
        context.waiting = "waits for its task managers to report to the new leader".to_owned();
        State::Reattaching(Self {
            execution: Execution::new(&context.graph),
            recorded,
            stop: (
                record.stop_directory.clone(),
                record.stop_request_id.clone(),
            ),
            patience_ms,
            deadline_ms: context.now_ms + patience_ms,
            announcements: announcements(record),
            last_allocated_id: record.next_checkpoint_id.saturating_sub(1),
        })
    }

    pub(super) fn on(mut self, context: &mut Context, input: Input) -> State {
        let starting = self.recorded == v1::JobState::Scheduling;
        // A task manager that knows this leader takes no deployment of the old one any more.
        let patience = if starting { 1 } else { SILENT_HEARTBEATS };
        let missing = self.execution.missing();
        let result = match input {
            Input::Tick if context.now_ms >= self.deadline_ms => Err(Failure {
                reason: format!(
                    "after a change of leader {} of {} subtasks were not heard of",
                    missing,
                    self.execution.states.len()
                ),
                fatal: false,
                lost: false,
            }),
            input => self.execution.on(context, input, patience),
        };
        match result {
            // The old leader did not get to deploy the attempt everywhere: that is nobody's failure.
            Err(failure) if starting && !failure.fatal => {
                return Restarting::start_over(context, &failure.reason);
            }
            Err(failure) => return fail(context, failure),
            Ok(()) => {}
        }
        if self.execution.missing() < missing {
            // Where there are many, or this leader is slow, they take their time to get through.
            self.deadline_ms = context.now_ms + self.patience_ms;
        }
        if self.execution.all_run() {
            return self.attached(context);
        }
        State::Reattaching(self)
    }

    fn attached(mut self, context: &mut Context) -> State {
        for request in std::mem::take(&mut self.announcements) {
            context.ask(Action::Checkpoint(request));
        }
        if self.recorded == v1::JobState::Scheduling {
            let running = command::set_state(&context.job_id, v1::JobState::Running);
            context.ask(Action::Record(v1::JobState::Running, running));
        }
        let running = Running::resume(context, self.execution);
        if self.recorded == v1::JobState::Stopping {
            let (base, request_id) = self.stop;
            // The old leader may have written a manifest into its folder: this one takes another.
            let base = format!("{base}-{}", self.last_allocated_id + 1);
            return Stopping::resume(context, running, base, request_id);
        }
        running.after_report(context)
    }
}
