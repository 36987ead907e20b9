//! What exists only while this member leads: the task managers that report to it and the tasks that drive the jobs.
//!
//! Everything here is rebuilt by the next leader from the log and from what task managers say.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_common::backoff::Backoff;
use weir_common::clock::Clock;
use weir_common::config::S3Config;
use weir_common::ids::{CheckpointId, JobId};
use weir_common::metric_names;
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;
use weir_snapshot::store::CALL_TIMEOUT;

use crate::checkpoint::{retention, storage};
use crate::job::Limits;
use crate::job::action::Input;
use crate::job::driver::{Driver, JobHandle, Message};
use crate::lease_clock::LeaseClock;
use crate::members::Members;
use crate::membership;
use crate::meta::view::{has_ended, state_name};
use crate::meta::{Outcome, command};
use crate::raft::network::Links;
use crate::raft::{ProposeError, RaftHandle};
use crate::task_managers::TaskManagers;

/// So long after the end of a job a write may still take effect that was under way: a manifest of this or an earlier leader, a file of a task
/// manager that was cut off.
const LATE_WRITES: Duration = CALL_TIMEOUT.saturating_add(Duration::from_secs(30));
/// Tries to delete what is needed no longer; then the next attempt or leader tries again.
const DELETE_TRIES: u32 = 10;
/// How often leases are looked at.
const LEASE_TICK: Duration = Duration::from_millis(50);

/// What a leader needs of its process.
#[derive(Clone)]
pub struct Surroundings {
    /// Name of the cluster.
    pub cluster_id: String,
    /// The log.
    pub raft: RaftHandle,
    /// To job managers that are no members yet.
    pub links: Links,
    /// Access to S3.
    pub s3: S3Config,
    /// Connections to task managers.
    pub task_managers: Arc<TaskManagers>,
    /// Wall clock.
    pub clock: Clock,
    /// Times of the jobs.
    pub limits: Limits,
    /// Silence after which a task manager counts as lost.
    pub heartbeat_timeout_ms: i64,
}

/// One term of leadership.
pub struct Leadership {
    surroundings: Surroundings,
    /// Raft's term.
    pub term: u64,
    /// Registered task managers.
    pub members: Mutex<Members>,
    jobs: RwLock<HashMap<String, JobHandle>>,
    /// Ids of task managers to which a call is open.
    watched: Mutex<HashSet<String>>,
    /// Claimed snapshots that are being deleted.
    deleting: Mutex<HashSet<String>>,
    /// Version of what there is for jobs.
    resources: watch::Sender<u64>,
    started: Instant,
    leases: Mutex<LeaseClock>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::ops::Deref for Leadership {
    type Target = Surroundings;

    fn deref(&self) -> &Surroundings {
        &self.surroundings
    }
}

impl Leadership {
    /// Takes all jobs over.
    pub fn begin(surroundings: Surroundings, term: u64) -> Arc<Self> {
        let leader = Arc::new(Self {
            surroundings,
            term,
            members: Mutex::new(Members::default()),
            jobs: RwLock::new(HashMap::new()),
            watched: Mutex::default(),
            deleting: Mutex::default(),
            resources: watch::Sender::new(0),
            started: Instant::now(),
            leases: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let records: Vec<_> = leader.raft.view().read().jobs().cloned().collect();
        for record in records {
            if !has_ended(record.state()) {
                leader.open(&record);
                continue;
            }
            leader.delete_subsumed(&record);
            if record.cleaning {
                leader.clean(&record.job_id);
            }
        }
        leader.spawn(Arc::clone(&leader).watch_leases());
        leader.spawn(membership::keep(Arc::clone(&leader)));
        leader
    }

    /// Ends all its tasks and waits for them.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.jobs.write().clear();
        metrics::gauge!(metric_names::TASK_MANAGERS).set(0.0);
    }

    /// Milliseconds of a clock that does not jump.
    pub fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// By the clock of the leases.
    pub fn lease_ms(&self) -> i64 {
        self.leases.lock().at(self.monotonic_ms())
    }

    /// What every call about an attempt carries.
    pub fn fence(&self, job_id: &str, attempt: u64) -> v1::Fence {
        v1::Fence {
            cluster_id: self.cluster_id.clone(),
            job_id: job_id.to_owned(),
            attempt,
            leader_term: self.term,
        }
    }

    /// Enters a command into the log.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let entry = command::at(self.clock.now_ms(), command);
        self.raft.propose(&entry).await
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Drives a job that has just come into the log, or that an earlier leader left.
    pub fn open(self: &Arc<Self>, record: &v1::JobRecord) {
        let Ok(job_id) = record.job_id.parse::<JobId>() else {
            tracing::error!(job = %record.job_id, "not a job id, the job is left alone");
            return;
        };
        let mut jobs = self.jobs.write();
        if jobs.contains_key(job_id.as_str()) {
            return;
        }
        let (driver, handle) = Driver::new(Arc::clone(self), job_id.clone(), record);
        jobs.insert(record.job_id.clone(), handle);
        drop(jobs);
        let leader = Arc::clone(self);
        self.spawn(async move {
            driver.run().await;
            leader.jobs.write().remove(job_id.as_str());
        });
    }

    /// A job that is being driven.
    pub fn job(&self, job_id: &str) -> Option<JobHandle> {
        self.jobs.read().get(job_id).cloned()
    }

    fn all_jobs(&self) -> Vec<(String, JobHandle)> {
        let jobs = self.jobs.read();
        jobs.iter()
            .map(|(id, handle)| (id.clone(), handle.clone()))
            .collect()
    }

    /// Changes when there may be more or less for jobs than before.
    pub fn resources(&self) -> watch::Receiver<u64> {
        self.resources.subscribe()
    }

    /// For a task manager that drains: whether no job has a slot there any more, and else why one cannot move, if there is one that
    /// cannot.
    pub fn drained(&self, task_manager_id: &str) -> (bool, String) {
        let holders = self.members.lock().holders(task_manager_id);
        let stuck = holders.iter().find_map(|job_id| {
            let why = self.job(job_id)?.status().stuck;
            (!why.is_empty()).then(|| format!("job {job_id} {why}"))
        });
        (holders.is_empty(), stuck.unwrap_or_default())
    }

    /// Attempts among these that nobody wants any more.
    pub fn stale(&self, running: &[v1::RunningAttempt]) -> Vec<v1::RunningAttempt> {
        let wanted = |attempt: &&v1::RunningAttempt| {
            self.job(&attempt.job_id)
                .is_some_and(|job| job.accepts() == Some(attempt.attempt))
        };
        running
            .iter()
            .filter(|attempt| !wanted(attempt))
            .map(|attempt| v1::RunningAttempt {
                job_id: attempt.job_id.clone(),
                attempt: attempt.attempt,
                subtasks: Vec::new(),
            })
            .collect()
    }

    /// Tells the jobs what a task manager runs.
    pub fn heard(&self, task_manager_id: &str, address: &str, running: &[v1::RunningAttempt]) {
        for (job_id, job) in self.jobs.read().iter() {
            let Some(attempt) = job.concerned(task_manager_id, address) else {
                continue;
            };
            let subtasks = running
                .iter()
                .filter(|r| r.job_id == *job_id && r.attempt == attempt)
                .flat_map(|r| r.subtasks.clone())
                .collect();
            job.offer(Input::Heard {
                task_manager_id: task_manager_id.to_owned(),
                address: address.to_owned(),
                subtasks,
            });
        }
    }

    /// Tells the jobs that task managers are gone.
    pub async fn lost(&self, task_managers: &[String]) {
        if task_managers.is_empty() {
            return;
        }
        for (_, job) in self.all_jobs() {
            let lost = Input::Lost(task_managers.to_vec());
            job.send(Message::Input(lost)).await;
        }
    }

    /// Watches a task manager that has just registered; one that is watched already is not watched twice.
    pub fn watch(self: &Arc<Self>, id: &str, address: &str) {
        if !self.watched.lock().insert(id.to_owned()) {
            return;
        }
        let (leader, id, address) = (Arc::clone(self), id.to_owned(), address.to_owned());
        self.spawn(async move {
            crate::watch::watch(Arc::clone(&leader), id.clone(), address).await;
            leader.watched.lock().remove(&id);
        });
    }

    /// The process of a task manager is gone.
    pub async fn dead(&self, id: &str, address: &str) {
        let (known, wanted_to_leave) = {
            let mut members = self.members.lock();
            let leaving = members.is_draining(id);
            (members.remove(id), leaving)
        };
        if !known {
            return;
        }
        if wanted_to_leave {
            tracing::info!(task_manager = %id, address, "task manager has left");
        } else {
            tracing::warn!(task_manager = %id, address, "task manager is lost: its process has ended");
        }
        self.task_managers.forget(address);
        self.lost(&[id.to_owned()]).await;
    }

    /// Calls to these failed.
    pub fn not_reached(&self, task_managers: &[String]) {
        let mut members = self.members.lock();
        task_managers.iter().for_each(|id| members.not_reached(id));
    }

    async fn watch_leases(self: Arc<Self>) {
        let mut doubted = false;
        loop {
            tokio::time::sleep(LEASE_TICK).await;
            let interval_ms = LEASE_TICK.as_millis() as i64;
            let late_ms = self.leases.lock().look(self.monotonic_ms(), interval_ms);
            if late_ms > 0 {
                tracing::debug!(
                    "this leader is late by {late_ms} ms: so much longer are all leases"
                );
            }
            let now_ms = self.lease_ms();
            let lost = {
                let mut members = self.members.lock();
                let doubts = members.in_doubt(now_ms, self.heartbeat_timeout_ms);
                if std::mem::replace(&mut doubted, doubts) != doubts && doubts {
                    tracing::warn!(
                        "many task managers are silent at once: their leases are longer"
                    );
                }
                if late_ms > self.heartbeat_timeout_ms / 2 {
                    tracing::warn!(
                        "this process did not run for {late_ms} ms; task managers get new leases"
                    );
                    members.renew_all(now_ms);
                }
                let lost = members.expire(now_ms, self.heartbeat_timeout_ms);
                metrics::gauge!(metric_names::TASK_MANAGERS).set(members.iter().count() as f64);
                let version = members.version();
                self.resources
                    .send_if_modified(|known| std::mem::replace(known, version) != version);
                lost
            };
            for id in &lost {
                tracing::warn!(
                    task_manager = %id,
                    "task manager is lost: silent for more than {} ms", self.heartbeat_timeout_ms
                );
            }
            self.lost(&lost).await;
            self.count_jobs();
        }
    }

    fn count_jobs(&self) {
        let mut counts: HashMap<&'static str, u32> = HashMap::new();
        for job in self.raft.view().read().jobs() {
            *counts.entry(state_name(job.state())).or_default() += 1;
        }
        for state in [
            "CREATED",
            "SCHEDULING",
            "RUNNING",
            "RESTARTING",
            "STOPPING",
            "CANCELLING",
            "FINISHED",
            "CANCELED",
            "FAILED",
        ] {
            let count = counts.get(state).copied().unwrap_or_default();
            metrics::gauge!(metric_names::JOBS, "state" => state).set(f64::from(count));
        }
    }

    /// Enters a complete checkpoint into the log, then deletes those that are retained no longer.
    pub async fn complete_checkpoint(
        self: &Arc<Self>,
        fence: &v1::Fence,
        mut info: v1::CheckpointInfo,
        base: &str,
    ) -> Result<(), ProposeError> {
        info.completed_ms = self.clock.now_ms();
        let before = self.checkpoint_ids(&fence.job_id);
        let complete = v1::CompleteCheckpointCommand {
            job_id: fence.job_id.clone(),
            attempt: fence.attempt,
            checkpoint: Some(info.clone()),
        };
        self.propose(Command::CompleteCheckpoint(complete)).await?;
        report(&fence.job_id, fence.attempt, &info);
        if let Some(job) = self.raft.view().read().job(&fence.job_id) {
            self.delete_subsumed(&job);
        }
        let retained = self.checkpoint_ids(&fence.job_id);
        let dropped = retention::dropped(&before, &retained);
        if !dropped.is_empty() {
            let (leader, job_id, base) = (Arc::clone(self), fence.job_id.clone(), base.to_owned());
            self.spawn(async move { leader.collect(&job_id, &base, &dropped).await });
        }
        Ok(())
    }

    /// Deletes checkpoints that are retained no longer. Each time it asks anew what is: a retained one may be dropped and deleted meanwhile.
    async fn collect(&self, job_id: &str, base: &str, dropped: &[CheckpointId]) {
        for tries in 1..=DELETE_TRIES {
            let retained = self.checkpoint_ids(job_id);
            match storage::collect(&self.s3, base, dropped, &retained).await {
                Ok(()) => return,
                Err(error) if tries < DELETE_TRIES => {
                    tracing::debug!(job = %job_id, "old checkpoints {dropped:?} are not deleted yet: {error}");
                    tokio::time::sleep(Backoff::CALLS.delay_jittered(tries)).await;
                }
                Err(error) => {
                    tracing::warn!(job = %job_id, "old checkpoints {dropped:?} stay until the job's next attempt: {error}");
                }
            }
        }
    }

    /// Deletes the snapshot that a job had claimed and needs no longer, if there is one and this is not under way already.
    pub fn delete_subsumed(self: &Arc<Self>, job: &v1::JobRecord) {
        let path = job.subsumed_savepoint.clone();
        if path.is_empty() || !self.deleting.lock().insert(path.clone()) {
            return;
        }
        let (leader, job_id) = (Arc::clone(self), job.job_id.clone());
        self.spawn(async move {
            leader.delete_claimed(job_id, &path).await;
            leader.deleting.lock().remove(&path);
        });
    }

    async fn delete_claimed(&self, job_id: String, path: &str) {
        match storage::delete_claimed(&self.s3, path).await {
            Ok(count) => {
                tracing::info!(job = %job_id, "{path}, which the job had claimed, is deleted: {count} objects");
            }
            Err(error) => {
                tracing::warn!(job = %job_id, "{path}, which the job had claimed, is not deleted, it is tried again with the next checkpoint: {error}");
                return;
            }
        }
        let path = path.to_owned();
        let deleted = v1::SavepointDeletedCommand { job_id, path };
        if let Err(error) = self.propose(Command::SavepointDeleted(deleted)).await {
            tracing::debug!("the next leader notes that a claimed savepoint is deleted: {error}");
        }
    }

    /// Ids of the retained checkpoints, without savepoints.
    fn checkpoint_ids(&self, job_id: &str) -> Vec<CheckpointId> {
        let job = self.raft.view().read().job(job_id);
        job.map_or_else(Vec::new, |job| retention::retained(&job))
    }

    /// Deletes, beside the start of an attempt, what earlier ones left on the object store.
    pub fn sweep(self: &Arc<Self>, job_id: &str, base: &str) {
        let Some(job) = self.raft.view().read().job(job_id) else {
            return;
        };
        if base.is_empty() || job.attempt < 2 {
            return;
        }
        let (leader, base) = (Arc::clone(self), base.to_owned());
        self.spawn(async move {
            match storage::sweep(&leader.s3, &job, &base).await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::debug!(job = %job.job_id, "{count} left-over objects were deleted");
                }
                Err(error) => {
                    tracing::debug!(job = %job.job_id, "left-over objects stay for now: {error}");
                }
            }
        });
    }

    /// Deletes what an ended job leaves on the object store. Only when nothing is left, the log is told that nobody has to try again.
    pub fn clean(self: &Arc<Self>, job_id: &str) {
        let Some(job) = self.raft.view().read().job(job_id) else {
            return;
        };
        let Ok(id) = job_id.parse::<JobId>() else {
            return;
        };
        self.delete_subsumed(&job);
        let base = storage::base_of(&job.checkpoint_directory, &id);
        if base.is_empty() || !has_ended(job.state()) {
            return;
        }
        let leader = Arc::clone(self);
        self.spawn(async move {
            if !leader.has_swept(&job, &base).await {
                return;
            }
            tokio::time::sleep(LATE_WRITES).await;
            if !leader.has_swept(&job, &base).await || !job.cleaning {
                return;
            }
            let cleaned = v1::JobCleanedCommand {
                job_id: job.job_id.clone(),
            };
            if let Err(error) = leader.propose(Command::JobCleaned(cleaned)).await {
                tracing::debug!(job = %id, "the next leader cleans up: {error}");
            }
        });
    }

    /// Sweeps after an ended job; tries again while the store gives no answer.
    async fn has_swept(&self, job: &v1::JobRecord, base: &str) -> bool {
        let mut tries = 0;
        loop {
            tries += 1;
            match storage::sweep(&self.s3, job, base).await {
                Ok(_) => return true,
                Err(error) if tries < DELETE_TRIES && !error.is_damage() => {
                    tracing::debug!(job = %job.job_id, "left-over objects under {base} stay for now: {error}");
                    tokio::time::sleep(Backoff::CALLS.delay_jittered(tries)).await;
                }
                Err(error) => {
                    tracing::warn!(job = %job.job_id, "left-over objects under {base} are not deleted: {error}");
                    return false;
                }
            }
        }
    }
}

fn report(job_id: &str, attempt: u64, info: &v1::CheckpointInfo) {
    let job = || job_id.to_owned();
    metrics::counter!(metric_names::CHECKPOINTS_COMPLETED, "job" => job()).increment(1);
    metrics::histogram!(metric_names::CHECKPOINT_DURATION, "job" => job())
        .record(info.duration_ms as f64);
    metrics::gauge!(metric_names::CHECKPOINT_SIZE, "job" => job()).set(info.state_bytes as f64);
    metrics::gauge!(metric_names::CHECKPOINT_UPLOADED, "job" => job())
        .set(info.uploaded_bytes as f64);
    metrics::gauge!(metric_names::CHECKPOINT_IN_FLIGHT, "job" => job())
        .set(info.in_flight_bytes as f64);
    let what = if info.savepoint {
        "savepoint"
    } else {
        "checkpoint"
    };
    tracing::info!(
        job = %job_id, attempt, checkpoint = info.checkpoint_id, path = %info.path,
        duration_ms = info.duration_ms, state_bytes = info.state_bytes, uploaded_bytes = info.uploaded_bytes,
        in_flight_bytes = info.in_flight_bytes,
        "{what} is complete"
    );
}
