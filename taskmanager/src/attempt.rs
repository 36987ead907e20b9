//! One attempt of a job, as far as it runs here: its subtasks, the tasks that serve them, and its end.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_common::ids::SubtaskId;
use weir_dataflow::Error;
use weir_proto::v1;
use weir_proto::v1::SubtaskState;

use crate::backend::SnapshotTargets;
use crate::checkpoint::{CutQueue, cut_queue};
use crate::leader::{CallError, Leader};
use crate::meter::Meter;
use crate::subtask::{AttemptKey, EventKind, SubtaskEvent};
use crate::tell;

/// How long the end of an attempt waits for its tasks and threads.
pub const TEAR_DOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// A subtask here.
pub struct Member {
    /// Its slot.
    pub slot: usize,
    /// Its counters and state.
    pub meter: Arc<Meter>,
    /// Reads a connector: checkpoints begin at it.
    pub is_source: bool,
}

/// See the module's head.
pub struct Attempt {
    /// Which.
    pub key: AttemptKey,
    /// As the deployment carried it; calls replace the leader term by the newest one.
    pub fence: v1::Fence,
    /// Where its snapshots go.
    pub targets: Arc<SnapshotTargets>,
    /// Id of this task manager.
    pub task_manager: String,
    /// The subtasks here.
    pub members: BTreeMap<SubtaskId, Member>,
    /// Folder of its keyed state; removed with it.
    pub folder: PathBuf,
    /// Ends everything that works for it.
    pub cancel: CancellationToken,
    /// All that works for it.
    pub tracker: TaskTracker,
    /// The way to the job manager.
    pub leader: Arc<Leader>,
    /// All subtasks have been handed to their slots.
    pub started: AtomicBool,
    /// Brings the subtasks up; it sees by itself that the attempt has ended, so that what it opened is closed.
    pub bring_up: Mutex<Option<JoinHandle<()>>>,
    events: mpsc::Sender<SubtaskEvent>,
    reports: mpsc::Sender<v1::SubtaskReport>,
    acknowledgements: mpsc::Sender<v1::SubtaskAcknowledgement>,
}

/// What an attempt is made of.
pub struct AttemptParts {
    /// See [`Attempt::key`].
    pub key: AttemptKey,
    /// See [`Attempt::fence`].
    pub fence: v1::Fence,
    /// See [`Attempt::targets`].
    pub targets: Arc<SnapshotTargets>,
    /// See [`Attempt::task_manager`].
    pub task_manager: String,
    /// See [`Attempt::members`].
    pub members: BTreeMap<SubtaskId, Member>,
    /// See [`Attempt::folder`].
    pub folder: PathBuf,
    /// See [`Attempt::leader`].
    pub leader: Arc<Leader>,
}

impl Attempt {
    /// Starts the tasks that serve the subtasks.
    pub fn start(parts: AttemptParts) -> Arc<Self> {
        let count = parts.members.len();
        // Each subtask reports RUNNING, its end and at most one failure from each side, and has few checkpoints under way.
        let (events, event_inbox) = mpsc::channel(64 + 16 * count);
        let (reports, report_inbox) = mpsc::channel(16 + 8 * count);
        let (acknowledgements, acknowledged) = mpsc::channel(count.max(1));
        let attempt = Arc::new(Self {
            key: parts.key,
            fence: parts.fence,
            targets: parts.targets,
            task_manager: parts.task_manager,
            members: parts.members,
            folder: parts.folder,
            cancel: CancellationToken::new(),
            tracker: TaskTracker::new(),
            leader: parts.leader,
            started: AtomicBool::new(false),
            bring_up: Mutex::new(None),
            events,
            reports,
            acknowledgements,
        });
        let own = Arc::clone(&attempt);
        attempt.spawn(async move { own.serve_events(event_inbox).await });
        let own = Arc::clone(&attempt);
        attempt.spawn(async move { tell::reports(&own, report_inbox).await });
        let own = Arc::clone(&attempt);
        attempt.spawn(async move { tell::acknowledgements(&own, acknowledged).await });
        attempt
    }

    /// Whether the job has a folder for checkpoints. Without, its sinks are committed when it finishes.
    pub fn takes_checkpoints(&self) -> bool {
        self.targets.checkpoints.is_some()
    }

    /// Runs a task until it ends or the attempt does.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Where subtasks tell what happens to them.
    pub fn events(&self) -> mpsc::Sender<SubtaskEvent> {
        self.events.clone()
    }

    /// The fence with the newest leader term.
    pub fn fence_at(&self, term: weir_common::ids::LeaderTerm) -> v1::Fence {
        v1::Fence {
            leader_term: term.0,
            ..self.fence.clone()
        }
    }

    /// For heartbeats.
    pub fn status(&self) -> v1::RunningAttempt {
        v1::RunningAttempt {
            job_id: self.key.job.to_string(),
            attempt: self.key.attempt.0,
            subtasks: self.members.values().map(|m| m.meter.status()).collect(),
        }
    }

    /// Whether all of these have emitted everything (or have ended).
    pub fn have_ended(&self, subtasks: &[SubtaskId]) -> bool {
        subtasks.iter().all(|id| {
            self.members.get(id).is_none_or(|member| {
                matches!(
                    member.meter.state(),
                    SubtaskState::EndOfData | SubtaskState::Finished | SubtaskState::Canceled
                )
            })
        })
    }

    /// The subtask takes part from now on.
    pub fn report_running(&self, subtask: SubtaskId) {
        if let Some(member) = self.members.get(&subtask)
            && member.meter.state() == SubtaskState::Deploying
        {
            member.meter.set_state(SubtaskState::Running);
            self.report(subtask, SubtaskState::Running, None);
        }
    }

    /// The subtask has failed outside of its slot.
    pub fn report_failed(&self, subtask: SubtaskId, error: Error) {
        if let Some(member) = self.members.get(&subtask) {
            member.meter.set_state(SubtaskState::Failed);
        }
        self.report(subtask, SubtaskState::Failed, Some(error));
    }

    fn report(&self, subtask: SubtaskId, state: SubtaskState, error: Option<Error>) {
        let report = v1::SubtaskReport {
            subtask: Some(subtask.into()),
            state: state.into(),
            fatal: error.as_ref().is_some_and(Error::is_fatal),
            error: error.map(|error| error.to_string()).unwrap_or_default(),
        };
        if self.reports.try_send(report).is_err() && !self.cancel.is_cancelled() {
            // The heartbeat tells the state, too; only the text is lost.
            tracing::warn!(job = %self.key.job, %subtask, "too many reports, one is left out");
        }
    }

    async fn serve_events(self: &Arc<Self>, mut inbox: mpsc::Receiver<SubtaskEvent>) {
        let mut queues: HashMap<SubtaskId, CutQueue> = HashMap::new();
        while let Some(SubtaskEvent { subtask, kind }) = inbox.recv().await {
            match kind {
                EventKind::EndOfData => self.report(subtask, SubtaskState::EndOfData, None),
                EventKind::Failed(error) => self.report(subtask, SubtaskState::Failed, Some(error)),
                EventKind::Cut(cut) => {
                    let queue = queues
                        .entry(subtask)
                        .or_insert_with(|| cut_queue(self, subtask));
                    if queue.try_send(cut).is_err() {
                        let error = Error::Internal("too many checkpoints at once".to_owned());
                        self.report_failed(subtask, error);
                    }
                }
                EventKind::Declined { checkpoint, reason } => {
                    let own = Arc::clone(self);
                    self.spawn(async move { own.decline(subtask, checkpoint.0, reason).await });
                }
            }
        }
    }

    /// Tells the job manager that a subtask's part of a checkpoint is complete; waits only while many others do.
    pub async fn acknowledge(&self, done: v1::SubtaskAcknowledgement) {
        // Its other end lives as long as the attempt.
        let _ = self.acknowledgements.send(done).await;
    }

    /// Tells the job manager that a checkpoint can't be taken.
    pub async fn decline(&self, subtask: SubtaskId, checkpoint: u64, reason: String) {
        tracing::warn!(job = %self.key.job, %subtask, checkpoint, reason, "checkpoint declined");
        let answer = self
            .leader
            .call("DeclineCheckpoint", &self.cancel, |mut client, term| {
                let request = v1::DeclineCheckpointRequest {
                    fence: Some(self.fence_at(term)),
                    task_manager_id: self.task_manager.clone(),
                    checkpoint_id: checkpoint,
                    subtask: Some(subtask.into()),
                    reason: reason.clone(),
                };
                async move { client.decline_checkpoint(request).await }
            })
            .await;
        self.note(answer.err(), "decline");
    }

    /// Logs what became of a call that nobody waits for.
    pub fn note(&self, error: Option<CallError>, what: &'static str) {
        match error {
            None | Some(CallError::GivenUp) => {}
            Some(error) => {
                tracing::warn!(job = %self.key.job, attempt = self.key.attempt.0, what, %error, "given up");
            }
        }
    }

    /// Ends everything that works for the attempt, and waits until nothing can be added to a slot any more.
    pub async fn stop(&self) {
        self.cancel.cancel();
        let bring_up = self.bring_up.lock().take();
        if let Some(bring_up) = bring_up
            && tokio::time::timeout(TEAR_DOWN_TIMEOUT, bring_up)
                .await
                .is_err()
        {
            tracing::warn!(job = %self.key.job, attempt = self.key.attempt.0, "subtasks of an ended attempt are still being opened");
        }
    }

    /// Waits for everything that works for the attempt, after [`Self::stop`]; removes its folder.
    pub async fn settle(&self, state: SubtaskState) {
        self.tracker.close();
        if tokio::time::timeout(TEAR_DOWN_TIMEOUT, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(job = %self.key.job, attempt = self.key.attempt.0, "work of an ended attempt still runs; its folder is removed at the next start");
        }
        for member in self.members.values() {
            if member.meter.state() != SubtaskState::Failed {
                member.meter.set_state(state);
            }
        }
        match tokio::fs::remove_dir_all(&self.folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.folder.display(), %error, "cannot remove the attempt's folder");
            }
            _ => {}
        }
    }

    /// All subtasks run in their slots.
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }
}
