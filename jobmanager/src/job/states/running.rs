//! RUNNING: subtasks report, snapshots are taken; ends when all data has ended, when something fails, or when a user says so.

use weir_proto::v1;
use weir_snapshot::recovery::Verify;

use super::finished::Finished;
use super::restarting::Restarting;
use super::{Action, Context, Execution, Failure, Input, Output, State, fail, give_up_snapshots};
use crate::checkpoint::coordinator::{Coordinator, Event, Purpose, Request, Settings, Ticket};
use crate::job::adaptive::ScaleUp;
use crate::job::execution::{SILENT_HEARTBEATS, subtasks_of};
use crate::job::relocation::{self, Relocation};
use crate::meta::command;

/// See the file's head.
#[derive(Debug)]
pub struct Running {
    pub(super) execution: Execution,
    pub(super) coordinator: Coordinator,
    ending: bool,
    /// What the checkpoint is for that is wanted or under way.
    next: Option<Change>,
    /// Before that checkpoint, state is brought to where it will be needed.
    preparing: bool,
    scale_up: ScaleUp,
    /// A checkpoint to move from has failed; no sooner than this, another one.
    retry_at_ms: i64,
    /// Why the job cannot leave a task manager that drains.
    pub(in crate::job) stuck: String,
}

/// What is different for the attempt that follows this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// As a user wants it.
    Parallelism(u32),
    Place,
    /// As many slots as there are.
    Slots,
}

/// Between two checkpoints to move from, if the first one fails.
const RETRY_MS: i64 = 1000;

/// What handling the coordinator's requests came to.
pub(super) enum Course {
    On,
    Settled(String),
    NotMoved(String),
    Failed(Failure),
}

impl Running {
    /// All subtasks run, for the first time in this attempt.
    pub(super) fn enter(context: &mut Context, execution: Execution) -> State {
        let running = command::set_state(&context.job_id, v1::JobState::Running);
        context.ask(Action::Record(v1::JobState::Running, running));
        Self::resume(context, execution).after_report(context)
    }

    /// All subtasks run; the log knows it already.
    pub(super) fn resume(context: &mut Context, execution: Execution) -> Self {
        context.waiting.clear();
        context.policy.running(context.now_ms);
        context.verify = Verify::Sizes;
        context.answer_rescale(Ok(()));
        let coordinator = Coordinator::new(
            Settings::of(&context.graph),
            subtasks_of(&context.graph),
            context.now_ms,
        );
        Self {
            execution,
            coordinator,
            ending: false,
            next: None,
            preparing: false,
            scale_up: ScaleUp::new(context.now_ms),
            retry_at_ms: 0,
            stuck: String::new(),
        }
    }

    /// The next attempt starts from a checkpoint. Before it is taken, what there is of the state goes where it will be needed: then
    /// only what has changed since has to follow while the job stands still.
    pub(super) fn rescale(mut self, context: &mut Context, parallelism: u32) -> State {
        if !context.has_checkpoint_directory() {
            let why = "the job takes no checkpoints, from which it could go on: \
                       start it with 'execution.checkpointing.dir' set";
            context.ask(Action::Answer(Output::Rescaled(Err(why.to_owned()))));
            return State::Running(self);
        }
        context.rescaling = true;
        self.next = Some(Change::Parallelism(parallelism));
        self.preparing = true;
        context.ask(Action::Prepare(parallelism));
        State::Running(self)
    }

    fn change(mut self, context: &mut Context, change: Change) -> State {
        self.next = Some(change);
        let purpose = match change {
            Change::Parallelism(_) | Change::Slots => Purpose::Rescale,
            Change::Place => Purpose::Relocate,
        };
        self.coordinate(context, Event::Wanted(purpose))
    }

    /// What the job is about to do, if it is about to go on elsewhere or otherwise.
    pub(super) fn moves(&self) -> Option<&'static str> {
        self.next.map(|change| match change {
            Change::Parallelism(_) => "is being rescaled",
            Change::Place => "moves to other task managers",
            Change::Slots => "adapts to the slots there are",
        })
    }

    /// Looks whether the job has to leave a task manager, or can have more slots.
    fn tick(mut self, context: &mut Context) -> State {
        if self.ending || self.next.is_some() {
            return self.coordinate(context, Event::Tick);
        }
        let more = self.could_take_more(context);
        self.stuck.clear();
        match relocation::decide(context) {
            Relocation::Leave(from) if context.now_ms >= self.retry_at_ms => {
                tracing::info!(job = %context.job_id, "the job moves, task manager {from} wants to leave");
                let adaptive = context.graph.adaptive.is_some();
                let change = if adaptive {
                    Change::Slots
                } else {
                    Change::Place
                };
                self.change(context, change)
            }
            Relocation::Stay if more && context.now_ms >= self.retry_at_ms => {
                let (slots, open) = (context.slots_needed(), context.resources.open_slots);
                tracing::info!(job = %context.job_id, "the job has {slots} slots, and {open} are there for it: it takes more");
                self.change(context, Change::Slots)
            }
            Relocation::Stuck(why) => {
                self.stuck = why;
                self.coordinate(context, Event::Tick)
            }
            Relocation::Stay | Relocation::Leave(_) => self.coordinate(context, Event::Tick),
        }
    }

    fn could_take_more(&mut self, context: &Context) -> bool {
        let (slots, open) = (context.slots_needed(), context.resources.open_slots);
        context
            .graph
            .adaptive
            .as_ref()
            .is_some_and(|scheduler| self.scale_up.step(context.now_ms, scheduler, slots, open))
    }

    pub(super) fn savepoint(self, context: &mut Context, ticket: Ticket, base: String) -> State {
        self.coordinate(context, Event::Wanted(Purpose::Savepoint { ticket, base }))
    }

    pub(super) fn on(mut self, context: &mut Context, input: Input) -> State {
        let result = match input {
            Input::Tick => return self.tick(context),
            Input::Checkpoint(attempt, event) if attempt == context.attempt => {
                return self.coordinate(context, event);
            }
            Input::Prepared(attempt) if attempt == context.attempt && self.preparing => {
                self.preparing = false;
                return self.coordinate(context, Event::Wanted(Purpose::Rescale));
            }
            input => self.execution.on(context, input, SILENT_HEARTBEATS),
        };
        match result {
            Ok(()) => self.after_report(context),
            Err(failure) => self.failed(context, failure),
        }
    }

    /// When all data has ended, one more checkpoint makes everything final; without a place for it there is nothing to wait for.
    pub(super) fn after_report(mut self, context: &mut Context) -> State {
        if self.ending || !self.execution.all_ended() {
            return State::Running(self);
        }
        self.ending = true;
        self.coordinator.stop_periodic();
        if std::mem::take(&mut self.preparing) {
            self.next = None;
            context.answer_rescale(Err("the job has finished".to_owned()));
        }
        if !context.has_checkpoint_directory() {
            give_up_snapshots(context, self.coordinator, "the job has finished");
            return Finished::enter(context, None, false);
        }
        self.coordinate(context, Event::Wanted(Purpose::Final))
    }

    fn coordinate(mut self, context: &mut Context, event: Event) -> State {
        let requests = self.coordinator.step(context.now_ms, event);
        match carry_out(context, requests) {
            Course::On => State::Running(self),
            Course::Settled(_) => {
                let why = match self.next {
                    Some(Change::Parallelism(_)) => "the job is rescaled",
                    Some(Change::Place | Change::Slots) => "the job moves to other task managers",
                    None => "the job has finished",
                };
                give_up_snapshots(context, self.coordinator, why);
                match self.next {
                    Some(Change::Parallelism(wanted)) => Restarting::rescale(context, wanted),
                    Some(Change::Place | Change::Slots) => Restarting::relocate(context),
                    None => Finished::enter(context, None, true),
                }
            }
            Course::NotMoved(reason) => {
                if matches!(self.next.take(), Some(Change::Place | Change::Slots)) {
                    tracing::warn!(job = %context.job_id, "the job does not move yet: {reason}");
                }
                self.retry_at_ms = context.now_ms + RETRY_MS;
                context.answer_rescale(Err(reason));
                State::Running(self)
            }
            Course::Failed(failure) => self.failed(context, failure),
        }
    }

    fn failed(self, context: &mut Context, failure: Failure) -> State {
        give_up_snapshots(context, self.coordinator, &failure.reason);
        fail(context, failure)
    }
}

/// Passes the coordinator's requests on. Shared with STOPPING.
pub(super) fn carry_out(context: &mut Context, requests: Vec<Request>) -> Course {
    let mut course = Course::On;
    for request in requests {
        match request {
            Request::Answer(ticket, result) => {
                context.ask(Action::Answer(Output::Savepoint(ticket, result)));
            }
            Request::Settled(path) => course = Course::Settled(path),
            Request::NotMoved(reason) => course = Course::NotMoved(reason),
            Request::FailOver(reason) => {
                course = Course::Failed(Failure {
                    reason,
                    fatal: false,
                    lost: false,
                });
            }
            request => context.ask(Action::Checkpoint(request)),
        }
    }
    course
}
