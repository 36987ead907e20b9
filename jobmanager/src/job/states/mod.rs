//! One file a state. A state takes an input and gives the state that follows; what it wants done it asks the context for.

mod cancelling;
mod created;
mod deploying;
mod failed;
mod finished;
mod reattaching;
mod restarting;
mod running;
mod scheduling;
mod stopping;

use weir_proto::v1;

use super::execution::{Execution, Failure};
use super::{Action, Context, Input, Output};
use crate::checkpoint::coordinator::{Coordinator, Ticket};
use crate::restart_policy::Decision;
use crate::validate::set_parallelism;

/// Where a job is.
#[derive(Debug)]
pub enum State {
    /// A new leader waits for the task managers of an attempt that it did not start.
    Reattaching(reattaching::Reattaching),
    /// Slots, restore point and the entry in the log.
    Scheduling(scheduling::Scheduling),
    /// Task managers create the subtasks.
    Deploying(deploying::Deploying),
    /// All subtasks run.
    Running(running::Running),
    /// On the way to the savepoint that ends it.
    Stopping(stopping::Stopping),
    /// The attempt failed; the next one follows.
    Restarting(restarting::Restarting),
    /// A user has ended it.
    Cancelling(cancelling::Cancelling),
    /// Everything is committed; subtasks end.
    Finished(finished::Finished),
    /// It has failed for good.
    Failed(failed::Failed),
    /// Nothing more will come.
    Ended,
}

impl State {
    /// The state in which a leader takes the job over.
    pub fn open(context: &mut Context, record: &v1::JobRecord) -> Self {
        match record.state() {
            v1::JobState::Created | v1::JobState::Unspecified => created::open(context),
            v1::JobState::Scheduling | v1::JobState::Running | v1::JobState::Stopping => {
                reattaching::Reattaching::enter(context, record)
            }
            v1::JobState::Restarting => restarting::Restarting::resume(context),
            v1::JobState::Cancelling => cancelling::Cancelling::resume(context),
            v1::JobState::Finished | v1::JobState::Canceled | v1::JobState::Failed => {
                context.ask(Action::Done);
                Self::Ended
            }
        }
    }

    /// Takes an input.
    pub fn on(self, context: &mut Context, input: Input) -> Self {
        let input = match input {
            Input::Cancel if self.can_be_cancelled() => return self.cancel(context),
            Input::Savepoint(ticket, base) => return self.savepoint(context, ticket, base),
            Input::Rescale(parallelism) => return self.rescale(context, parallelism),
            Input::Stop { base, request_id } => return self.stop(context, base, request_id),
            input => input,
        };
        match self {
            Self::Reattaching(state) => state.on(context, input),
            Self::Scheduling(state) => state.on(context, input),
            Self::Deploying(state) => state.on(context, input),
            Self::Running(state) => state.on(context, input),
            Self::Stopping(state) => state.on(context, input),
            Self::Restarting(state) => state.on(context, input),
            Self::Cancelling(state) => state.on(context, input),
            Self::Finished(state) => state.on(context, input),
            Self::Failed(state) => state.on(context, input),
            Self::Ended => Self::Ended,
        }
    }

    fn can_be_cancelled(&self) -> bool {
        !matches!(
            self,
            Self::Cancelling(_) | Self::Finished(_) | Self::Failed(_) | Self::Ended
        )
    }

    fn cancel(self, context: &mut Context) -> Self {
        match self {
            Self::Running(state) => give_up_snapshots(context, state.coordinator, "cancelled"),
            Self::Stopping(state) => {
                give_up_snapshots(context, state.coordinator, "cancelled");
                stop_failed(context, "the job was cancelled");
            }
            _ => {}
        }
        cancelling::Cancelling::enter(context)
    }

    fn savepoint(mut self, context: &mut Context, ticket: Ticket, base: String) -> Self {
        if let Self::Running(state) = self {
            return state.savepoint(context, ticket, base);
        }
        let refusal = format!("the job is {}; try again when it runs", self.name());
        context.ask(Action::Answer(Output::Savepoint(ticket, Err(refusal))));
        self.keep()
    }

    fn rescale(mut self, context: &mut Context, parallelism: u32) -> Self {
        let mut wanted = v1::JobGraph::clone(&context.graph);
        set_parallelism(&mut wanted, parallelism);
        let is_so = wanted == *context.graph;
        let moves = match &self {
            Self::Running(state) => state.moves(),
            _ => None,
        };
        let refusal = match self {
            Self::Running(_) if is_so => {
                context.ask(Action::Answer(Output::Rescaled(Ok(()))));
                return self;
            }
            Self::Running(state) if moves.is_none() => {
                return state.rescale(context, parallelism);
            }
            // A repeated request waits for the first one's end.
            Self::Reattaching(_)
            | Self::Restarting(_)
            | Self::Scheduling(_)
            | Self::Deploying(_)
                if is_so =>
            {
                context.rescaling = true;
                return self;
            }
            _ => match moves {
                Some(moves) => format!("the job {moves}; try again when it runs"),
                None => format!("the job is {}; try again when it runs", self.name()),
            },
        };
        context.ask(Action::Answer(Output::Rescaled(Err(refusal))));
        self.keep()
    }

    fn stop(mut self, context: &mut Context, base: String, request_id: String) -> Self {
        if let Self::Running(state) = self {
            if let Some(moves) = state.moves() {
                stop_failed(context, &format!("the job {moves}; try again when it runs"));
                return Self::Running(state);
            }
            return stopping::Stopping::enter(context, state, base, request_id);
        }
        // A repeated request waits for the first one's end.
        let repeated = matches!(&self, Self::Stopping(state) if state.request_id == request_id);
        if !repeated {
            let refusal = format!("the job is {}; try again when it runs", self.name());
            stop_failed(context, &refusal);
        }
        self.keep()
    }

    fn keep(&mut self) -> Self {
        std::mem::replace(self, Self::Ended)
    }

    /// As users see it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reattaching(_) => {
                "RUNNING under a new leader that has not heard of all subtasks yet"
            }
            Self::Scheduling(_) | Self::Deploying(_) => "SCHEDULING",
            Self::Running(_) => "RUNNING",
            Self::Stopping(_) => "STOPPING",
            Self::Restarting(_) => "RESTARTING",
            Self::Cancelling(_) => "CANCELLING",
            Self::Finished(_) => "FINISHED",
            Self::Failed(_) => "FAILED",
            Self::Ended => "ended",
        }
    }

    /// The attempt's subtasks, where there is one.
    pub fn execution(&self) -> Option<&Execution> {
        match self {
            Self::Reattaching(state) => Some(&state.execution),
            Self::Deploying(state) => Some(&state.execution),
            Self::Running(state) => Some(&state.execution),
            Self::Stopping(state) => Some(&state.execution),
            _ => None,
        }
    }

    /// Whether reports of the current attempt are welcome; in other states task managers are to tear it down.
    pub fn accepts_attempt(&self) -> bool {
        self.execution().is_some() || matches!(self, Self::Finished(_))
    }

    /// The one that takes the snapshots now.
    pub fn coordinator(&self) -> Option<&Coordinator> {
        match self {
            Self::Running(state) => Some(&state.coordinator),
            Self::Stopping(state) => Some(&state.coordinator),
            _ => None,
        }
    }
}

/// The attempt has failed: the restart policy decides what follows.
fn fail(context: &mut Context, failure: Failure) -> State {
    context.answer_rescale(Err(format!("the job failed meanwhile: {}", failure.reason)));
    if failure.fatal {
        return failed::Failed::enter(context, failure.reason);
    }
    match context.policy.failed(context.now_ms, context.random) {
        Decision::RestartAfter(delays) => restarting::Restarting::enter(context, failure, delays),
        Decision::GiveUp => failed::Failed::enter(context, failure.reason),
    }
}

/// Tells those who wait for savepoints that the attempt has ended, and keeps the count of failures.
fn give_up_snapshots(context: &mut Context, mut coordinator: Coordinator, why: &str) {
    for ticket in coordinator.abandon() {
        let refusal = format!("the savepoint was given up: {why}");
        context.ask(Action::Answer(Output::Savepoint(ticket, Err(refusal))));
    }
    context.failed_checkpoints += coordinator.failed;
    if !coordinator.last_failure.is_empty() {
        context.last_checkpoint_failure = coordinator.last_failure;
    }
}

fn stop_failed(context: &mut Context, why: &str) {
    context.ask(Action::Answer(Output::Stopped(Err(why.to_owned()))));
}
