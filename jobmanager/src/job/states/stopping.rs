//! STOPPING: a savepoint is taken with the sources stopped behind it; when it is complete and committed, the job ends.
//!
//! A failure before that means the job goes on: it is restarted from its newest checkpoint, and who wanted it stopped is told.

use super::finished::Finished;
use super::running::{Course, Running, carry_out};
use super::{
    Action, Context, Execution, Failure, Input, State, fail, give_up_snapshots, stop_failed,
};
use crate::checkpoint::coordinator::{Coordinator, Event, Purpose};
use crate::job::execution::SILENT_HEARTBEATS;
use crate::meta::command;
use weir_proto::v1;

/// After the savepoint is committed, subtasks that do not report the end of their data are ended without it.
const END_TIMEOUT_MS: i64 = 10_000;

/// See the file's head.
#[derive(Debug)]
pub struct Stopping {
    pub(super) execution: Execution,
    pub(super) coordinator: Coordinator,
    pub(super) request_id: String,
    base: String,
    /// The savepoint's folder, and since when it is complete and committed.
    settled: Option<(String, i64)>,
}

impl Stopping {
    pub(super) fn enter(
        context: &mut Context,
        running: Running,
        base: String,
        request_id: String,
    ) -> State {
        let entry = command::stopping(&context.job_id, &base, &request_id);
        context.ask(Action::Record(v1::JobState::Stopping, entry));
        State::Stopping(Self::from(running, base, request_id))
    }

    /// An earlier leader had the wish; its savepoint, if there is one, is not known to be complete.
    pub(super) fn resume(
        context: &mut Context,
        running: Running,
        base: String,
        request_id: String,
    ) -> State {
        Self::from(running, base, request_id).begin(context)
    }

    fn from(running: Running, base: String, request_id: String) -> Self {
        let mut coordinator = running.coordinator;
        coordinator.stop_periodic();
        Self {
            execution: running.execution,
            coordinator,
            request_id,
            base,
            settled: None,
        }
    }

    fn begin(self, context: &mut Context) -> State {
        let base = self.base.clone();
        self.coordinate(context, Event::Wanted(Purpose::Stop { base }))
    }

    pub(super) fn on(mut self, context: &mut Context, input: Input) -> State {
        let result = match input {
            Input::Recorded(v1::JobState::Stopping, Ok(())) => return self.begin(context),
            Input::Recorded(v1::JobState::Stopping, Err(reason)) => Err(Failure {
                reason,
                fatal: false,
                lost: false,
            }),
            Input::Tick => return self.coordinate(context, Event::Tick),
            Input::Checkpoint(attempt, event) if attempt == context.attempt => {
                return self.coordinate(context, event);
            }
            input => self.execution.on(context, input, SILENT_HEARTBEATS),
        };
        match result {
            Ok(()) => self.when_settled(context),
            Err(failure) => self.failed(context, failure),
        }
    }

    fn coordinate(mut self, context: &mut Context, event: Event) -> State {
        let requests = self.coordinator.step(context.now_ms, event);
        match carry_out(context, requests) {
            Course::On | Course::NotMoved(_) => self.when_settled(context),
            Course::Settled(path) => {
                self.settled = Some((path, context.now_ms));
                self.when_settled(context)
            }
            Course::Failed(failure) => self.failed(context, failure),
        }
    }

    fn when_settled(self, context: &mut Context) -> State {
        let Some((path, since_ms)) = &self.settled else {
            return State::Stopping(self);
        };
        if !self.execution.all_ended() && context.now_ms - since_ms < END_TIMEOUT_MS {
            return State::Stopping(self);
        }
        let path = path.clone();
        give_up_snapshots(context, self.coordinator, "the job has stopped");
        Finished::enter(context, Some(path), true)
    }

    fn failed(self, context: &mut Context, failure: Failure) -> State {
        if let Some((path, _)) = self.settled {
            // Everything up to the savepoint is committed and nothing comes behind it: the failure changes nothing.
            return Finished::enter(context, Some(path), true);
        }
        give_up_snapshots(context, self.coordinator, &failure.reason);
        stop_failed(context, &failure.reason);
        fail(context, failure)
    }
}
