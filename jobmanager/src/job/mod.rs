//! The life of a job under one leader.
//!
//! `Job` is pure: it takes one [`Input`] at a time and gives the [`Action`]s that follow; `driver.rs` carries them out. One file a state in
//! `states/`. Invariant: nothing is told to a task manager before the log has taken the step that it follows from, so a deposed leader,
//! whose entries are refused, cannot disturb an attempt of its successor.

pub mod action;
mod adaptive;
mod deployment;
pub mod driver;
pub mod execution;
mod io;
pub mod placement;
mod prepare;
mod relocation;
pub mod states;
pub mod status;

use std::sync::Arc;

use weir_proto::v1;
use weir_snapshot::recovery::Verify;

pub use action::{Action, Input, Output};
use placement::Placement;
use states::State;

use crate::members::{Resources, Wanted};
use crate::restart_policy::RestartPolicy;

/// Times that the configuration gives.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a job waits for slots.
    pub slot_timeout_ms: i64,
    /// How long a new leader waits for the task managers of a running job.
    pub reattach_timeout_ms: i64,
    /// The same for a job that was only being started when the old leader went; all task managers that live have registered by then.
    pub restarting_timeout_ms: i64,
}

/// Slots that a graph needs: slot k runs subtask k of every vertex.
fn slots_of(graph: &v1::JobGraph) -> usize {
    let widths = graph
        .vertices
        .iter()
        .map(|vertex| vertex.parallelism as usize);
    widths.max().unwrap_or(0)
}

/// What all states share.
#[derive(Debug)]
pub struct Context {
    /// The job.
    pub job_id: String,
    /// What it runs.
    pub graph: Arc<v1::JobGraph>,
    /// Times that the configuration gives.
    pub limits: Limits,
    /// Monotonic time of the input being handled.
    pub now_ms: i64,
    /// Uniform in 0.0..1.0, for the input being handled.
    pub random: f64,
    /// The current attempt, 0 before the first.
    pub attempt: u64,
    /// Its slots.
    pub slots: Arc<Placement>,
    /// Task managers may have something of the current attempt.
    pub deployed: bool,
    /// How closely the next choice of a restore point looks at its files. Task managers compare the checksums of all that they load
    /// in any case; reading everything beforehand, to be able to take an older one, is for when that may have failed.
    pub verify: Verify,
    /// A user waits for the job to run at another parallelism.
    pub rescaling: bool,
    /// What there is for the job.
    pub resources: Resources,
    /// When to give up.
    pub policy: RestartPolicy,
    /// Why the job does not go on, for people.
    pub waiting: String,
    /// Failed checkpoints of former attempts under this leader.
    pub failed_checkpoints: u64,
    /// The last one's reason.
    pub last_checkpoint_failure: String,
    out: Vec<Action>,
}

impl Context {
    /// Asks the driver for something.
    pub fn ask(&mut self, action: Action) {
        self.out.push(action);
    }

    /// Slots that the job needs.
    pub fn slots_needed(&self) -> usize {
        slots_of(&self.graph)
    }

    /// Slots that the next attempt may have.
    pub fn slots_wanted(&self) -> Wanted {
        let Some(scheduler) = &self.graph.adaptive else {
            return Wanted::exactly(self.slots_needed());
        };
        let fixed = self.graph.vertices.iter().filter(|v| v.fixed_parallelism);
        let least = fixed.map(|v| v.parallelism as usize).max().unwrap_or(1);
        Wanted {
            least,
            most: least.max(scheduler.upper_bound as usize),
        }
    }

    /// Tells the user who waits for a rescale, if there is one.
    pub fn answer_rescale(&mut self, result: Result<(), String>) {
        if std::mem::take(&mut self.rescaling) {
            self.ask(Action::Answer(Output::Rescaled(result)));
        }
    }

    /// Whether snapshots can be taken without being asked for.
    pub fn has_checkpoint_directory(&self) -> bool {
        self.graph
            .checkpoint
            .as_ref()
            .is_some_and(|checkpoint| !checkpoint.directory.is_empty())
    }

    /// A new leader does not know all task managers before each has had the time to register.
    pub fn knows_all_task_managers(&self) -> bool {
        self.now_ms >= self.limits.restarting_timeout_ms
    }

    /// The first of these task managers that the current attempt runs on.
    pub fn uses_any<'a>(
        &self,
        task_managers: impl IntoIterator<Item = &'a String>,
    ) -> Option<String> {
        let mut used = task_managers.into_iter().filter(|id| self.slots.uses(id));
        used.next().cloned()
    }
}

/// A job that has not ended, see the file's head.
pub struct Job {
    context: Context,
    state: Option<State>,
}

impl Job {
    /// Takes over a job as the log has it.
    pub fn open(record: &v1::JobRecord, limits: Limits, now_ms: i64) -> (Self, Vec<Action>) {
        let graph = Arc::new(record.graph.clone().unwrap_or_default());
        let mut context = Context {
            job_id: record.job_id.clone(),
            policy: RestartPolicy::of(&graph),
            graph,
            limits,
            now_ms,
            random: 0.5,
            attempt: record.attempt,
            slots: Arc::new(Placement::new(record.slots.clone())),
            deployed: record.attempt > 0,
            verify: Verify::Checksums,
            rescaling: false,
            resources: Resources::default(),
            waiting: String::new(),
            failed_checkpoints: 0,
            last_checkpoint_failure: String::new(),
            out: Vec::new(),
        };
        let state = State::open(&mut context, record);
        let actions = std::mem::take(&mut context.out);
        let job = Self {
            context,
            state: Some(state),
        };
        (job, actions)
    }

    /// Takes one input and gives what follows.
    pub fn step(&mut self, now_ms: i64, random: f64, input: Input) -> Vec<Action> {
        self.context.now_ms = now_ms;
        self.context.random = random;
        if let Input::Resources(resources) = &input {
            self.context.resources.clone_from(resources);
        }
        if let Some(state) = self.state.take() {
            self.state = Some(state.on(&mut self.context, input));
        }
        std::mem::take(&mut self.context.out)
    }

    /// What an observer sees.
    pub fn status(&self) -> status::JobStatus {
        status::of(&self.context, self.state.as_ref())
    }

    /// Of the current attempt.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

#[cfg(test)]
mod tests;
