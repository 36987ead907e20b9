//! RESTARTING: the failure is in the log; the attempt is torn down, and after a delay the next one follows.

use std::sync::Arc;
use std::time::Duration;

use weir_proto::v1;

use super::failed::Failed;
use super::scheduling::Scheduling;
use super::{Action, Context, Failure, Input, State};
use crate::meta::command;
use crate::restart_policy::Delays;
use crate::validate::set_parallelism;

/// See the file's head.
#[derive(Debug)]
pub struct Restarting {
    recorded: bool,
    torn_down: bool,
    until_ms: i64,
    /// The same, should it turn out that a task manager is gone.
    until_if_lost_ms: i64,
    /// Of the next attempts, once it is in the log.
    graph: Option<Arc<v1::JobGraph>>,
}

impl Restarting {
    pub(super) fn enter(context: &mut Context, failure: Failure, delays: Delays) -> State {
        let entry = command::restarting(&context.job_id, &failure.reason);
        context.ask(Action::Record(v1::JobState::Restarting, entry));
        context.waiting.clear();
        let after = |delay: Duration| {
            context.now_ms + i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 4)
        };
        let until_if_lost_ms = after(delays.loss);
        State::Restarting(Self {
            recorded: false,
            torn_down: false,
            until_ms: match failure.lost {
                true => until_if_lost_ms,
                false => after(delays.failure),
            },
            until_if_lost_ms,
            graph: None,
        })
    }

    /// The next attempt follows at once, and it does not count as a restart.
    pub(super) fn start_over(context: &mut Context, why: &str) -> State {
        tracing::info!(job = %context.job_id, attempt = context.attempt, "attempt is given up before it ran: {why}");
        let entry = command::set_state(&context.job_id, v1::JobState::Restarting);
        context.ask(Action::Record(v1::JobState::Restarting, entry));
        context.waiting.clear();
        State::Restarting(Self {
            recorded: false,
            torn_down: false,
            until_ms: context.now_ms,
            until_if_lost_ms: context.now_ms,
            graph: None,
        })
    }

    /// The next attempt follows at once, from the checkpoint that was just completed, and it does not count as a restart.
    pub(super) fn relocate(context: &mut Context) -> State {
        let entry = command::set_state(&context.job_id, v1::JobState::Restarting);
        context.ask(Action::Record(v1::JobState::Restarting, entry));
        State::Restarting(Self {
            recorded: false,
            torn_down: false,
            until_ms: context.now_ms,
            until_if_lost_ms: context.now_ms,
            graph: None,
        })
    }

    /// The next attempt follows at once, at another parallelism, from the checkpoint that was just completed.
    pub(super) fn rescale(context: &mut Context, parallelism: u32) -> State {
        let entry = command::rescale(&context.job_id, context.attempt, parallelism);
        context.ask(Action::Record(v1::JobState::Restarting, entry));
        let mut graph = v1::JobGraph::clone(&context.graph);
        set_parallelism(&mut graph, parallelism);
        State::Restarting(Self {
            recorded: false,
            torn_down: false,
            until_ms: context.now_ms,
            until_if_lost_ms: context.now_ms,
            graph: Some(Arc::new(graph)),
        })
    }

    /// An earlier leader was here: what it did not tear down is torn down now.
    pub(super) fn resume(context: &mut Context) -> State {
        let state = Self {
            recorded: true,
            torn_down: false,
            until_ms: context.now_ms,
            until_if_lost_ms: context.now_ms,
            graph: None,
        };
        state.tear_down(context)
    }

    fn tear_down(mut self, context: &mut Context) -> State {
        if context.deployed {
            context.ask(Action::TearDown);
            return State::Restarting(self);
        }
        self.torn_down = true;
        context.ask(Action::ReleaseSlots);
        self.when_due(context)
    }

    pub(super) fn on(mut self, context: &mut Context, input: Input) -> State {
        match input {
            Input::Recorded(v1::JobState::Restarting, Ok(())) if !self.recorded => {
                self.recorded = true;
                if let Some(graph) = self.graph.take() {
                    context.graph = graph;
                }
                self.tear_down(context)
            }
            Input::Recorded(v1::JobState::Restarting, Err(_)) => {
                context.ask(Action::Reload);
                State::Ended
            }
            Input::TornDown(attempt) if attempt == context.attempt => {
                self.torn_down = true;
                context.ask(Action::ReleaseSlots);
                self.when_due(context)
            }
            // The cause can arrive behind its effect on other subtasks.
            Input::Lost(gone) if context.uses_any(&gone).is_some() => {
                self.until_ms = self.until_ms.min(self.until_if_lost_ms);
                self.when_due(context)
            }
            Input::Subtask {
                state: v1::SubtaskState::Failed,
                error,
                fatal: true,
                ..
            } => Failed::enter(context, error),
            _ => self.when_due(context),
        }
    }

    fn when_due(self, context: &mut Context) -> State {
        if self.recorded && self.torn_down && context.now_ms >= self.until_ms {
            return Scheduling::enter(context);
        }
        State::Restarting(self)
    }
}
