//! Carries out what a job asks for: one task a job, whose calls and log entries run beside it and come back as inputs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use weir_common::ids::JobId;
use weir_common::metric_names;
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;
use weir_snapshot::recovery::Verify;

use super::action::{Action, Choice, Input, Output};
use super::io::Attempt;
use super::prepare::prepare;
use super::status::JobStatus;
use super::{Job, io, slots_of};
use crate::checkpoint::coordinator::{Event, Request, Ticket};
use crate::checkpoint::storage::{self, Restore};
use crate::leadership::Leadership;
use crate::members::Wanted;
use crate::meta::Outcome;
use crate::meta::view::has_ended;
use crate::raft::ProposeError;
use crate::validate::set_parallelism;

/// Inputs that wait for a job.
const MAILBOX: usize = 4096;
const TICK: Duration = Duration::from_millis(20);
/// Before a job is read again whose entry has an unknown fate.
const RELOAD_DELAY: Duration = Duration::from_millis(500);

/// How a request of a user ended.
pub type Reply<T> = oneshot::Sender<Result<T, String>>;

/// What a job's task is sent.
pub enum Message {
    /// An input as it is.
    Input(Input),
    /// A savepoint into this folder; the reply has the folder.
    Savepoint(String, Reply<String>),
    /// Stop behind a savepoint: its folder, the request's id.
    Stop(String, String, Reply<String>),
    /// Run at this parallelism; the reply comes when all subtasks run.
    Rescale(u32, Reply<()>),
    /// Cancel; the reply comes at the end.
    Cancel(Reply<()>),
}

/// To a job's task.
#[derive(Clone)]
pub struct JobHandle {
    sender: mpsc::Sender<Message>,
    status: watch::Receiver<JobStatus>,
}

impl JobHandle {
    /// Sends; waits while the mailbox is full. False if the job has ended.
    pub async fn send(&self, message: Message) -> bool {
        self.sender.send(message).await.is_ok()
    }

    /// Sends an input that will come again; dropped if the mailbox is full.
    pub fn offer(&self, input: Input) {
        let _ = self.sender.try_send(Message::Input(input));
    }

    /// The picture of the moment.
    pub fn status(&self) -> JobStatus {
        self.status.borrow().clone()
    }

    /// The current attempt, if a task manager has, or once had, to do with it.
    pub fn concerned(&self, task_manager_id: &str, address: &str) -> Option<u64> {
        let status = self.status.borrow();
        let concerned = status.slots.uses(task_manager_id) || status.slots.at(address).is_some();
        status.accepts.filter(|_| concerned)
    }

    /// The attempt whose reports are welcome.
    pub fn accepts(&self) -> Option<u64> {
        self.status.borrow().accepts
    }
}

/// Why an input does not come.
enum Gone {
    /// Another leads.
    Deposed,
    /// Only the log knows what became of it.
    Reload,
}

type Outgoing = Result<Option<Input>, Gone>;

enum Course {
    On,
    Reload,
    Done,
}

/// The task's state.
pub struct Driver {
    leader: Arc<Leadership>,
    job_id: JobId,
    checkpoint_base: String,
    mailbox: mpsc::Receiver<Message>,
    status: watch::Sender<JobStatus>,
    calls: JoinSet<Outgoing>,
    savepoints: HashMap<Ticket, Reply<String>>,
    stops: Vec<Reply<String>>,
    rescales: Vec<Reply<()>>,
    cancels: Vec<Reply<()>>,
    next_ticket: u64,
}

impl Driver {
    /// For a job of this leader.
    pub fn new(
        leader: Arc<Leadership>,
        job_id: JobId,
        record: &v1::JobRecord,
    ) -> (Self, JobHandle) {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let (status, status_receiver) = watch::channel(JobStatus::taken_over(record));
        let driver = Self {
            leader,
            checkpoint_base: storage::base_of(&record.checkpoint_directory, &job_id),
            job_id,
            mailbox,
            status,
            calls: JoinSet::new(),
            savepoints: HashMap::new(),
            stops: Vec::new(),
            rescales: Vec::new(),
            cancels: Vec::new(),
            next_ticket: 0,
        };
        let handle = JobHandle {
            sender,
            status: status_receiver,
        };
        (driver, handle)
    }

    /// Until the job has ended or another leads.
    pub async fn run(mut self) {
        loop {
            let record = self.leader.raft.view().read().job(self.job_id.as_str());
            let Some(record) = record.filter(|record| !has_ended(record.state())) else {
                break;
            };
            // What the last entry made of it may not be known here.
            self.leader.delete_subsumed(&record);
            let now_ms = self.leader.monotonic_ms();
            let (mut job, actions) = Job::open(&record, self.leader.limits, now_ms);
            self.leader
                .members
                .lock()
                .hold(&record.job_id, &record.slots);
            let course = match self.carry_out(&mut job, actions, false) {
                Course::On => self.drive(&mut job).await,
                course => course,
            };
            self.calls.abort_all();
            while self.calls.join_next().await.is_some() {}
            match course {
                Course::Reload => {
                    let unknown = "it is not known what became of the rescale; try again";
                    self.answer(Output::Rescaled(Err(unknown.to_owned())));
                    tokio::time::sleep(RELOAD_DELAY).await;
                }
                _ => break,
            }
        }
        self.answer_all();
    }

    async fn drive(&mut self, job: &mut Job) -> Course {
        let mut resources = self.leader.resources();
        resources.mark_changed();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let input = tokio::select! {
                message = self.mailbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return Course::Done,
                },
                Some(finished) = self.calls.join_next() => match finished {
                    Ok(Ok(Some(input))) => input,
                    Ok(Ok(None)) => continue,
                    Ok(Err(Gone::Deposed)) => return Course::Done,
                    Ok(Err(Gone::Reload)) => return Course::Reload,
                    Err(error) => {
                        tracing::error!(job = %self.job_id, "a call of the job ended badly: {error}");
                        return Course::Reload;
                    }
                },
                Ok(()) = resources.changed() => {
                    let open = self.leader.members.lock().open_to(self.job_id.as_str());
                    Input::Resources(open)
                }
                _ = tick.tick() => Input::Tick,
            };
            let is_tick = matches!(input, Input::Tick);
            let actions = job.step(self.leader.monotonic_ms(), rand::random(), input);
            match self.carry_out(job, actions, is_tick) {
                Course::On => {}
                course => return course,
            }
        }
    }

    fn take(&mut self, message: Message) -> Input {
        match message {
            Message::Input(input) => input,
            Message::Savepoint(base, reply) => {
                self.next_ticket += 1;
                let ticket = Ticket(self.next_ticket);
                self.savepoints.insert(ticket, reply);
                Input::Savepoint(ticket, base)
            }
            Message::Stop(base, request_id, reply) => {
                self.stops.push(reply);
                Input::Stop { base, request_id }
            }
            Message::Rescale(parallelism, reply) => {
                self.rescales.push(reply);
                Input::Rescale(parallelism)
            }
            Message::Cancel(reply) => {
                self.cancels.push(reply);
                Input::Cancel
            }
        }
    }

    fn carry_out(&mut self, job: &mut Job, actions: Vec<Action>, is_tick: bool) -> Course {
        let mut queue = std::collections::VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                Action::AllocateSlots(wanted) => {
                    let former = &job.context().slots;
                    let allocated =
                        self.leader
                            .members
                            .lock()
                            .allocate(self.job_id.as_str(), wanted, former);
                    let now_ms = self.leader.monotonic_ms();
                    queue.extend(job.step(now_ms, rand::random(), Input::Slots(allocated)));
                }
                Action::ReleaseSlots => {
                    self.leader.members.lock().release(self.job_id.as_str());
                }
                Action::Answer(output) => self.answer(output),
                Action::Clean => self.leader.clean(self.job_id.as_str()),
                Action::Reload => return Course::Reload,
                Action::Done => return Course::Done,
                action => self.begin(job, action),
            }
        }
        let status = job.status();
        self.status
            .send_if_modified(|known| known.update(status, is_tick));
        Course::On
    }

    /// Starts what takes time.
    fn begin(&mut self, job: &Job, action: Action) {
        let context = job.context();
        let attempt = Attempt {
            fence: self.leader.fence(self.job_id.as_str(), context.attempt),
            slots: Arc::clone(&context.slots),
        };
        let leader = Arc::clone(&self.leader);
        let job_id = self.job_id.as_str().to_owned();
        let base = self.checkpoint_base.clone();
        match action {
            Action::ChooseRestore(verify) => {
                self.calls
                    .spawn(choose_restore(leader, job_id, base, verify));
            }
            Action::StartAttempt {
                attempt,
                slots,
                choice,
                parallelism,
            } => {
                let start = v1::StartAttemptCommand {
                    job_id,
                    attempt,
                    slots,
                    newest_checkpoint_id: choice.newest_checkpoint_id,
                    restored_checkpoint_id: choice.restore.checkpoint_id,
                    parallelism,
                };
                self.calls.spawn(start_attempt(leader, start, choice));
            }
            Action::Record(state, command) => {
                self.calls.spawn(record(leader, job_id, state, command));
            }
            Action::Deploy(restore) => {
                let graph = Arc::clone(&context.graph);
                self.calls
                    .spawn(deploy(leader, attempt, graph, restore, base));
            }
            Action::TearDown => {
                self.calls.spawn(async move {
                    let lives = |id: &str| leader.members.lock().knows(id);
                    let unreached = io::tear_down(&leader.task_managers, &attempt, lives).await;
                    leader.not_reached(&unreached);
                    Ok(Some(Input::TornDown(attempt.fence.attempt)))
                });
            }
            Action::Prepare(parallelism) => {
                let mut graph = v1::JobGraph::clone(&context.graph);
                set_parallelism(&mut graph, parallelism);
                let wanted = Wanted::exactly(slots_of(&graph));
                let members = leader.members.lock();
                let places = members.plan(&job_id, wanted, &context.slots);
                drop(members);
                self.calls.spawn(async move {
                    let number = attempt.fence.attempt;
                    prepare(&leader, attempt.fence, graph, places, &base).await;
                    Ok(Some(Input::Prepared(number)))
                });
            }
            Action::Finish => {
                self.calls.spawn(async move {
                    let result = io::finish(&leader.task_managers, &attempt).await;
                    Ok(Some(Input::Finished(attempt.fence.attempt, result)))
                });
            }
            Action::Checkpoint(request) => {
                let graph = Arc::clone(&context.graph);
                let number = attempt.fence.attempt;
                self.calls.spawn(async move {
                    let event = snapshot_step(leader, attempt, graph, base, request).await?;
                    Ok(event.map(|event| Input::Checkpoint(number, event)))
                });
            }
            // Handled where they are taken from the queue.
            Action::AllocateSlots(_)
            | Action::ReleaseSlots
            | Action::Answer(_)
            | Action::Clean
            | Action::Reload
            | Action::Done => {}
        }
    }

    fn answer(&mut self, output: Output) {
        match output {
            Output::Savepoint(ticket, result) => {
                if let Some(reply) = self.savepoints.remove(&ticket) {
                    let _ = reply.send(result);
                }
            }
            Output::Rescaled(result) => {
                for reply in self.rescales.drain(..) {
                    let _ = reply.send(result.clone());
                }
            }
            Output::Stopped(result) => {
                for reply in self.stops.drain(..) {
                    let _ = reply.send(result.clone());
                }
            }
        }
    }

    /// The job has ended, or this leader has.
    fn answer_all(&mut self) {
        let record = self.leader.raft.view().read().job(self.job_id.as_str());
        let ended = record.filter(|record| has_ended(record.state()));
        let why = match &ended {
            Some(record) => format!(
                "the job is {}",
                crate::meta::view::state_name(record.state())
            ),
            None => "this job manager does not lead any more; try again".to_owned(),
        };
        for reply in self.cancels.drain(..) {
            let cancelled = ended
                .as_ref()
                .is_some_and(|record| record.state() == v1::JobState::Canceled);
            let _ = reply.send(if cancelled { Ok(()) } else { Err(why.clone()) });
        }
        for reply in self.stops.drain(..) {
            let _ = reply.send(Err(why.clone()));
        }
        for reply in self.rescales.drain(..) {
            let _ = reply.send(Err(why.clone()));
        }
        for (_, reply) in self.savepoints.drain() {
            let _ = reply.send(Err(why.clone()));
        }
    }
}

/// A refusal is an answer; everything else means that this leader knows no more.
fn answered<T>(result: Result<T, ProposeError>) -> Result<Result<T, String>, Gone> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(ProposeError::Refused(refusal)) => Ok(Err(refusal.0)),
        Err(ProposeError::NotLeader) => Err(Gone::Deposed),
        // Never said of a command about a job.
        Err(ProposeError::Membership(refusal)) => Ok(Err(refusal.to_string())),
        Err(ProposeError::Unknown(why)) => {
            tracing::warn!("an entry of the log has an unknown fate: {why}");
            Err(Gone::Reload)
        }
    }
}

async fn choose_restore(
    leader: Arc<Leadership>,
    job_id: String,
    base: String,
    verify: Verify,
) -> Outgoing {
    let Some(job) = leader.raft.view().read().job(&job_id) else {
        return Err(Gone::Reload);
    };
    let newest_checkpoint_id = crate::meta::view::newest_checkpoint_id(&job);
    let chosen = storage::choose_restore(&leader.s3, &job, &base, verify).await;
    Ok(Some(Input::RestoreChosen(chosen.map(|restore| Choice {
        restore,
        newest_checkpoint_id,
    }))))
}

async fn start_attempt(
    leader: Arc<Leadership>,
    start: v1::StartAttemptCommand,
    choice: Choice,
) -> Outgoing {
    let (job_id, attempt, slots) = (start.job_id.clone(), start.attempt, start.slots.len());
    let result = leader.propose(Command::StartAttempt(start)).await;
    let result = answered(result)?.map(drop);
    if result.is_ok() {
        // From the start, so that a rate over the first failure can be computed.
        for name in [metric_names::JOB_RESTARTS, metric_names::CHECKPOINTS_FAILED] {
            metrics::counter!(name, "job" => job_id.clone()).increment(0);
        }
        tracing::info!(
            job = %job_id, attempt, slots, checkpoint = choice.restore.checkpoint_id,
            "attempt starts{}", match &choice.restore.from {
                Some(from) => format!(" from {}", from.base),
                None => " empty".to_owned(),
            }
        );
    }
    Ok(Some(Input::AttemptStarted(result)))
}

async fn record(
    leader: Arc<Leadership>,
    job_id: String,
    state: v1::JobState,
    command: Command,
) -> Outgoing {
    let (error, counts) = match &command {
        Command::SetJobState(command) => (command.error.clone(), command.restart),
        Command::EndJob(command) => (command.error.clone(), false),
        _ => (String::new(), false),
    };
    let result = answered(leader.propose(command).await)?.map(drop);
    if result.is_ok() {
        let name = crate::meta::view::state_name(state);
        match state {
            v1::JobState::Restarting if counts => {
                metrics::counter!(metric_names::JOB_RESTARTS, "job" => job_id.clone()).increment(1);
                tracing::warn!(job = %job_id, "job is {name}: {error}");
            }
            v1::JobState::Failed => tracing::error!(job = %job_id, "job is {name}: {error}"),
            _ => tracing::info!(job = %job_id, "job is {name}"),
        }
    }
    Ok(Some(Input::Recorded(state, result)))
}

async fn deploy(
    leader: Arc<Leadership>,
    attempt: Attempt,
    graph: Arc<v1::JobGraph>,
    restore: Restore,
    base: String,
) -> Outgoing {
    leader.sweep(&attempt.fence.job_id, &base);
    let deployed = io::deploy(&leader.task_managers, &attempt, &graph, restore.from, &base).await;
    let result = deployed.map_err(|error| {
        leader.not_reached(&error.unreached);
        (error.reason, error.passing)
    });
    Ok(Some(Input::Deployed(attempt.fence.attempt, result)))
}

/// One request of the coordinator.
async fn snapshot_step(
    leader: Arc<Leadership>,
    attempt: Attempt,
    graph: Arc<v1::JobGraph>,
    base: String,
    request: Request,
) -> Result<Option<Event>, Gone> {
    let fence = &attempt.fence;
    match request {
        Request::Allocate => {
            let begin = v1::BeginCheckpointCommand {
                job_id: fence.job_id.clone(),
                attempt: fence.attempt,
            };
            let result = leader.propose(Command::BeginCheckpoint(begin)).await;
            let id = answered(result)?.and_then(|outcome| match outcome {
                Outcome::CheckpointId(id) => Ok(id),
                other => Err(format!("no checkpoint id, but {other:?}")),
            });
            Ok(Some(Event::Allocated(id)))
        }
        Request::Trigger {
            id,
            kind,
            savepoint_base,
            stop_sources,
            unaligned_after_ms,
        } => {
            let trigger = v1::TriggerCheckpointRequest {
                fence: Some(fence.clone()),
                checkpoint_id: id,
                kind: kind.into(),
                timestamp_ms: leader.clock.now_ms(),
                savepoint_base,
                stop_sources,
                unaligned_after_ms,
            };
            let triggered = io::trigger(&leader.task_managers, &attempt, trigger).await;
            Ok(triggered.err().map(|reason| Event::Declined { id, reason }))
        }
        Request::Publish {
            id,
            kind,
            savepoint_base,
            operators,
        } => {
            // Without descriptions a snapshot can be restored, but not read.
            let descriptions = weir_layout::describe(&graph).unwrap_or_else(|error| {
                tracing::warn!(job = %fence.job_id, checkpoint = id, "the state is not described: {error}");
                Vec::new()
            });
            let manifest = v1::Manifest {
                descriptions,
                checkpoint_id: id,
                kind: kind.into(),
                operators,
                ..manifest_of(&leader, fence, &graph)
            };
            let place = storage::place_of(&base, &savepoint_base, id);
            let result = storage::publish_manifest(&leader.s3, &place, &manifest).await;
            Ok(Some(Event::Published { id, result }))
        }
        Request::Record(info) => {
            let id = info.checkpoint_id;
            let result = leader.complete_checkpoint(fence, info, &base).await;
            let result = answered(result)?;
            Ok(Some(Event::Recorded { id, result }))
        }
        Request::Notify { id, completed } => {
            let result = io::notify(&leader.task_managers, &attempt, id, completed).await;
            if !completed {
                let job = fence.job_id.clone();
                metrics::counter!(metric_names::CHECKPOINTS_FAILED, "job" => job).increment(1);
                tracing::warn!(job = %fence.job_id, attempt = fence.attempt, checkpoint = id, "checkpoint is given up");
                return Ok(None);
            }
            Ok(Some(Event::Committed { id, result }))
        }
        Request::Answer(..) | Request::Settled(_) | Request::NotMoved(_) | Request::FailOver(_) => {
            Ok(None)
        }
    }
}

/// What a manifest says about its job.
fn manifest_of(leader: &Leadership, fence: &v1::Fence, graph: &v1::JobGraph) -> v1::Manifest {
    v1::Manifest {
        cluster_id: fence.cluster_id.clone(),
        job_id: fence.job_id.clone(),
        job_name: graph.name.clone(),
        attempt: fence.attempt,
        leader_term: fence.leader_term,
        created_ms: leader.clock.now_ms(),
        max_parallelism: graph.max_parallelism,
        ..Default::default()
    }
}
