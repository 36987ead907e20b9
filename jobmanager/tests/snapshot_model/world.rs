//! The small world: a log, an object store, a system that a sink writes to, job managers, task managers, and what is on its way between them.
//!
//! Raft is taken for granted: an entry is refused unless its proposer leads, and entries are applied in order. Everything else may go wrong
//! between any two steps, as often as the scenario allows.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use weir_jobmanager::checkpoint::coordinator::{Coordinator, Settings};
use weir_jobmanager::checkpoint::storage::base_of;
use weir_jobmanager::meta::{MetaState, Outcome, command};
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;

use crate::leader::{Leader, Op, Stage};
use crate::outside::{Store, Transactions};
use crate::part::{Part, Print, hashed, printed};
use crate::subtask::{Change, Done, TaskManager};

pub const CLUSTER: &str = "c";
pub const JOB: &str = "0123456789abcdef0123456789abcdef";
/// Folder of another job's checkpoints.
pub const OTHER: &str = "s3://b/other";
pub const TIMEOUT_MS: i64 = 1000;

/// What must never happen, and did.
#[derive(Debug)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// How often things may happen on the way.
#[derive(Debug, Clone, Copy, Default, Hash)]
pub struct Budget {
    pub checkpoints: u8,
    pub savepoints: u8,
    /// Messages or answers that are lost or come late.
    pub losses: u8,
    pub timeouts: u8,
    /// Of the attempt.
    pub failures: u8,
    /// The failure is one of the connection to a task manager, which goes on.
    pub cut_offs: u8,
    pub elections: u8,
    /// Objects that disappear.
    pub damages: u8,
    /// The job is cancelled, or fails for good.
    pub ends: u8,
    /// The tables change in one way only.
    pub one_change: bool,
}

/// The log, as far as it is applied.
#[derive(Debug, Clone)]
pub struct Log {
    pub state: MetaState,
    /// Of the one that leads.
    pub term: u64,
    /// An entry that the leader knows nothing of any more; if it comes, it comes before all that follow.
    pub in_flight: Option<Command>,
}

impl Print for Log {
    fn print(&self) -> u64 {
        hashed(&(self.state.encode(), self.term, printed(&self.in_flight)))
    }
}

impl Log {
    pub fn job(&self) -> std::sync::Arc<v1::JobRecord> {
        self.state.job(JOB).unwrap()
    }
}

/// An acknowledgement on its way.
#[derive(Debug, Clone)]
pub struct Ack {
    pub attempt: u64,
    pub done: Done,
}

impl Print for Ack {
    fn print(&self) -> u64 {
        printed(self)
    }
}

/// What the observer knows, and nobody in the world does.
#[derive(Debug, Clone, Default, Hash)]
pub struct Known {
    /// Rows of each subtask in front of each complete checkpoint.
    pub complete: BTreeMap<u64, [u8; 2]>,
    /// Savepoints that a user was told of.
    pub savepoints: Vec<String>,
    /// Something was left that only the next attempt's sweep, or the job's end, deletes.
    pub untidy: bool,
    /// A checkpoint is complete that the sinks hear of only with the next one.
    pub unannounced: bool,
    /// An object is gone that should be there.
    pub damaged: bool,
}

impl Known {
    pub fn complete_rows(&self) -> [u8; 2] {
        self.complete.values().last().copied().unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is time for a checkpoint, or a user wants a savepoint.
    Want { savepoint: bool },
    /// What a leader does beside takes effect, and its answer arrives. The change is one of the tables before a cut.
    Do {
        leader: usize,
        op: usize,
        change: Change,
    },
    /// The leader gives up waiting for an answer. It may still take effect, later.
    Lose { leader: usize, op: usize },
    /// What nobody waits for takes effect.
    Adrift { op: usize },
    /// A task manager goes on with its first cut; those that are cut off come behind the two others.
    Upload { task_manager: usize },
    /// An acknowledgement arrives.
    Acknowledge { ack: usize, leader: usize },
    /// A file that an ended attempt was sending is there.
    Late { file: usize },
    /// A checkpoint takes too long.
    TimeOut { leader: usize },
    /// The attempt fails. A task manager that is cut off does not hear of it.
    Fail { cut_off: Option<usize> },
    /// The restore point is chosen.
    Choose,
    /// The attempt is entered into the log.
    Start,
    /// Its subtasks are created and restored.
    Deploy,
    /// Another job manager leads. The old one may not know.
    Elect { old_lives: bool, in_flight: bool },
    /// The task managers have found the new leader.
    Attach,
    /// An object is lost.
    Damage { url: String },
    /// The job ends.
    End { failed: bool },
}

/// See the file's head.
#[derive(Clone)]
pub struct World {
    pub submission: Submission,
    pub base: String,
    pub budget: Budget,
    pub log: Part<Log>,
    pub store: Part<Store>,
    pub outside: Part<Transactions>,
    /// Subtask k of the current attempt is at k. Behind them, those that are cut off.
    pub task_managers: Vec<Part<TaskManager>>,
    /// The last one is the current one.
    pub leaders: Vec<Leader>,
    pub adrift: Vec<Op>,
    /// URLs.
    pub late: Vec<String>,
    pub acks: Vec<Part<Ack>>,
    pub known: Known,
    /// What was special about the last step.
    pub marks: Vec<&'static str>,
    /// Log and store when retained snapshots were last looked at.
    checked: (u64, u64),
}

/// What a job is submitted with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Submission {
    pub retained: u32,
    pub from: &'static str,
    pub claim: bool,
}

impl World {
    /// A job that runs since just now.
    pub fn new(submission: Submission, budget: Budget, store: Store) -> Self {
        let graph = v1::JobGraph {
            checkpoint: Some(v1::CheckpointConfig {
                directory: "s3://b/c".to_owned(),
                retained: submission.retained,
                ..Default::default()
            }),
            ..Default::default()
        };
        let claim_mode = match submission.claim {
            true => v1::ClaimMode::Claim,
            false => v1::ClaimMode::NoClaim,
        };
        let submit = v1::SubmitJobsCommand {
            jobs: vec![v1::NewJob {
                job_id: JOB.to_owned(),
                graph: Some(graph),
                from_savepoint: submission.from.to_owned(),
                claim_mode: claim_mode.into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut log = Log {
            state: MetaState::default(),
            term: 1,
            in_flight: None,
        };
        let submitted = command::at(0, Command::SubmitJobs(submit));
        log.state.apply(&submitted).unwrap();
        let mut world = Self {
            submission,
            base: base_of("s3://b/c", &JOB.parse().unwrap()),
            budget,
            log: Part::new(log),
            store: Part::new(store),
            outside: Part::new(Transactions::default()),
            task_managers: vec![Part::new(TaskManager::new(CLUSTER, 1)); 2],
            leaders: vec![Leader::new(1, Stage::Choosing)],
            adrift: Vec::new(),
            late: Vec::new(),
            acks: Vec::new(),
            known: Known::default(),
            marks: Vec::new(),
            checked: (0, 0),
        };
        for step in [Step::Choose, Step::Start, Step::Deploy] {
            world = world.after(&step).unwrap();
        }
        world
    }

    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.budget.hash(&mut hasher);
        (&self.log, &self.store, &self.outside).hash(&mut hasher);
        (&self.task_managers, &self.leaders, &self.adrift).hash(&mut hasher);
        (&self.late, &self.acks, &self.known).hash(&mut hasher);
        hasher.finish()
    }

    pub fn marks(&self) -> impl Iterator<Item = &'static str> {
        self.marks.iter().copied()
    }

    pub fn current(&mut self) -> &mut Leader {
        self.leaders.last_mut().unwrap()
    }

    /// All that may happen now.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (leader, of) in self.leaders.iter().enumerate() {
            for (op, what) in of.ops.iter().enumerate() {
                if matches!(what, Op::Sweep { again: true, .. }) && !self.all_writes_are_over() {
                    continue;
                }
                for &change in what.changes(self.budget.one_change) {
                    steps.push(Step::Do { leader, op, change });
                }
                if self.budget.losses > 0 && what.can_be_lost() {
                    steps.push(Step::Lose { leader, op });
                }
            }
            if self.budget.timeouts > 0 && of.under_way.is_some() {
                steps.push(Step::TimeOut { leader });
            }
            steps.extend((0..self.acks.len()).map(|ack| Step::Acknowledge { ack, leader }));
        }
        steps.extend((0..self.adrift.len()).map(|op| Step::Adrift { op }));
        steps.extend((0..self.late.len()).map(|file| Step::Late { file }));
        for (task_manager, of) in self.task_managers.iter().enumerate() {
            let cuts = of.subtask.as_ref().map_or(0, |subtask| subtask.cuts.len());
            if cuts > 0 {
                steps.push(Step::Upload { task_manager });
            }
        }
        self.steps_of_current(&mut steps);
        steps
    }

    fn all_writes_are_over(&self) -> bool {
        let sends = |of: &TaskManager| of.subtask.as_ref().is_some_and(|s| !s.cuts.is_empty());
        let publishes = |op: &Op| matches!(op, Op::Publish { .. });
        self.leaders.len() == 1
            && !self.leaders[0].ops.iter().any(publishes)
            && self.adrift.is_empty()
            && self.late.is_empty()
            && !self.task_managers.iter().any(|of| sends(of))
    }

    fn steps_of_current(&self, steps: &mut Vec<Step>) {
        let leader = self.leaders.last().unwrap();
        let running = matches!(leader.stage, Stage::Running(_));
        match &leader.stage {
            Stage::Running(_) if leader.under_way.is_none() => {
                if self.budget.checkpoints > 0 {
                    steps.push(Step::Want { savepoint: false });
                }
                if self.budget.savepoints > 0 {
                    steps.push(Step::Want { savepoint: true });
                }
            }
            Stage::Running(_) | Stage::Ended => {}
            Stage::Attaching => steps.push(Step::Attach),
            Stage::Choosing => steps.push(Step::Choose),
            Stage::Starting(_) => steps.push(Step::Start),
            Stage::Deploying(..) => steps.push(Step::Deploy),
        }
        if running && self.budget.failures > 0 {
            steps.push(Step::Fail { cut_off: None });
            if self.budget.cut_offs > 0 {
                steps.push(Step::Fail { cut_off: Some(0) });
            }
        }
        if running && self.budget.ends > 0 {
            steps.extend([false, true].map(|failed| Step::End { failed }));
        }
        if self.budget.elections > 0 && self.leaders.len() == 1 {
            for old_lives in [false, true] {
                steps.push(Step::Elect {
                    old_lives,
                    in_flight: false,
                });
                if self.log.in_flight.is_some() {
                    steps.push(Step::Elect {
                        old_lives,
                        in_flight: true,
                    });
                }
            }
        }
        if self.budget.damages > 0 && running {
            let listed = self.store.list(&self.base);
            let urls = listed
                .iter()
                .map(|object| format!("{}/{}", self.base, object.path));
            steps.extend(urls.map(|url| Step::Damage { url }));
        }
    }

    /// The world after one of [`Self::steps`].
    pub fn after(&self, step: &Step) -> Result<Self, Violation> {
        let mut world = self.clone();
        world.marks.clear();
        world.take(step)?;
        for leader in &mut world.leaders {
            leader.ops.sort_by_cached_key(hashed);
        }
        world.adrift.sort_by_cached_key(hashed);
        world.acks.sort_by_key(Part::fingerprint);
        let seen = (world.log.fingerprint(), world.store.fingerprint());
        if seen != world.checked {
            world.check_retained()?;
            world.checked = seen;
        }
        world.check_quiet()?;
        Ok(world)
    }

    fn take(&mut self, step: &Step) -> Result<(), Violation> {
        match step {
            Step::Want { savepoint } => self.want(*savepoint),
            Step::Do { leader, op, change } => self.carry_out(*leader, *op, *change),
            Step::Lose { leader, op } => self.lose(*leader, *op),
            Step::Adrift { op } => {
                let op = self.adrift.remove(*op);
                self.land(op)
            }
            Step::Upload { task_manager } => {
                self.upload(*task_manager);
                Ok(())
            }
            Step::Acknowledge { ack, leader } => {
                let ack = self.acks.remove(*ack);
                self.acknowledged(*leader, ack.attempt, ack.done.clone())
            }
            Step::Late { file } => {
                let url = self.late.remove(*file);
                self.known.untidy = true;
                self.store.change(|store| store.put(&url, "x".into()));
                Ok(())
            }
            Step::TimeOut { leader } => {
                self.budget.timeouts -= 1;
                self.time_out(*leader)
            }
            Step::Fail { cut_off } => {
                self.budget.failures -= 1;
                self.fail(*cut_off);
                Ok(())
            }
            Step::Choose => self.choose(),
            Step::Start => self.start(),
            Step::Deploy => self.deploy(),
            Step::Elect {
                old_lives,
                in_flight,
            } => {
                self.budget.elections -= 1;
                self.elect(*old_lives, *in_flight)
            }
            Step::Attach => self.attach(),
            Step::Damage { url } => {
                self.budget.damages -= 1;
                self.known.damaged = true;
                self.store.change(|store| store.delete(url));
                Ok(())
            }
            Step::End { failed } => {
                self.budget.ends -= 1;
                self.end(*failed)
            }
        }
    }

    fn upload(&mut self, task_manager: usize) {
        // One that is cut off may send at any time.
        self.known.untidy |= task_manager >= 2;
        let base = self.base.clone();
        let store = &mut self.store;
        let acks = &mut self.acks;
        self.task_managers[task_manager].change(|of| {
            let Some(subtask) = &mut of.subtask else {
                return;
            };
            if subtask.is_to_plan() {
                return subtask.plan(&base);
            }
            let done = store.change(|store| subtask.sent(store));
            let attempt = subtask.attempt;
            acks.push(Part::new(Ack { attempt, done }));
        });
    }

    /// Enters a command into the log. `None`: another leads.
    pub fn propose(&mut self, term: u64, entry: Command) -> Option<Result<Outcome, String>> {
        if term != self.log.term {
            return None;
        }
        self.apply_in_flight();
        let entry = command::at(0, entry);
        let applied = self.log.change(|log| log.state.apply(&entry));
        Some(applied.map_err(|refusal| refusal.0))
    }

    /// What nobody knew of is there, if the log takes it.
    pub fn apply_in_flight(&mut self) {
        let Some(entry) = self.log.change(|log| log.in_flight.take()) else {
            return;
        };
        let applied = self
            .log
            .change(|log| log.state.apply(&command::at(0, entry.clone())));
        if let (Ok(_), Command::CompleteCheckpoint(complete)) = (applied, &entry) {
            self.marks
                .push("an entry was applied that its leader had given up");
            // Nobody collects what it has dropped.
            self.known.untidy = true;
            self.known.unannounced = true;
            self.note_complete(complete);
        }
    }

    pub fn coordinator(&self) -> Part<Coordinator> {
        let settings = Settings {
            interval_ms: 0,
            timeout_ms: TIMEOUT_MS,
            min_pause_ms: 0,
            tolerable_failures: 0,
            unaligned_after_ms: None,
            rescales_unaligned: false,
        };
        let subtasks = (0..2).map(crate::leader::subtask_id).collect();
        Part::new(Coordinator::new(settings, subtasks, 0))
    }
}
