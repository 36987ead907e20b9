//! The task manager's own state: slots, attempts, expected streams, fences; and the changes of an attempt's life.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_common::ids::{AttemptId, CheckpointId, JobId, SubtaskId};
use weir_common::memory::MemoryBudget;
use weir_common::metric_names::FENCED;
use weir_dataflow::{Barrier, Error, Result};
use weir_proto::transport::TlsMaterial;
use weir_proto::v1;
use weir_proto::v1::SubtaskState;
use weir_snapshot::Store;
use weir_snapshot::shared::may_be_shared;
use weir_state::{LocalCopies, RestoreSource, StateMemory, Transfers, remove_forgotten};

use crate::TaskManagerOptions;
use crate::attempt::{Attempt, AttemptParts, TEAR_DOWN_TIMEOUT};
use crate::backend::{SnapshotTargets, inline_bytes};
use crate::chain::OperatorCut;
use crate::deploy::bring_up::bring_up;
use crate::deploy::open::{Restore, Site};
use crate::deploy::plan::Plan;
use crate::deploy::wiring::{Wiring, WiringInput};
use crate::drain::Drain;
use crate::exchange::receive::{ExpectedStream, StreamKey};
use crate::exchange_memory::ExchangeMemory;
use crate::fence::{Fences, Refusal};
use crate::leader::Leader;
use crate::slot::{Slot, SlotCommand, close};
use crate::subtask::AttemptKey;

/// Subfolder of the data folder that outlives the process: copies of checkpoints' files, a folder a job.
pub const COPIES: &str = "copies";

/// See the module's head.
pub struct Node {
    /// As configured.
    pub options: TaskManagerOptions,
    /// New at each start of the process.
    pub id: String,
    /// HOST:PORT for others.
    pub address: String,
    /// The slots by index.
    pub slots: Vec<Slot>,
    /// What is too old to be obeyed.
    pub fences: Mutex<Fences>,
    /// The way to the job manager.
    pub leader: Arc<Leader>,
    /// Certificates.
    pub tls: Option<TlsMaterial>,
    /// Whether it wants to leave.
    pub drain: Drain,
    /// Ends everything.
    pub shutdown: CancellationToken,
    /// Everything that runs for the process.
    pub tracker: TaskTracker,
    /// Memory of keyed state.
    pub memory: Arc<StateMemory>,
    /// Memory of batches in channels.
    pub exchange_memory: Arc<ExchangeMemory>,
    /// The right to use the network.
    pub transfers: Transfers,
    /// Where connectors' I/O runs.
    pub runtime: Handle,
    /// Folder of this process' state.
    pub folder: PathBuf,
    attempts: Mutex<HashMap<JobId, Arc<Attempt>>>,
    streams: Mutex<HashMap<StreamKey, ExpectedStream>>,
    /// Of the jobs that ran here lately.
    copies: Mutex<HashMap<JobId, Arc<LocalCopies>>>,
    /// Deploy, cancel and finish of a job happen one after the other.
    lifecycles: Mutex<HashMap<JobId, Arc<tokio::sync::Mutex<()>>>>,
}

/// What a node is made of, beside what starts empty.
pub struct NodeParts {
    /// See [`Node::options`].
    pub options: TaskManagerOptions,
    /// See [`Node::id`].
    pub id: String,
    /// See [`Node::address`].
    pub address: String,
    /// See [`Node::slots`].
    pub slots: Vec<Slot>,
    /// See [`Node::tls`].
    pub tls: Option<TlsMaterial>,
    /// See [`Node::memory`].
    pub memory: Arc<StateMemory>,
    /// See [`Node::folder`].
    pub folder: PathBuf,
}

impl Node {
    /// Nothing runs yet.
    pub fn new(parts: NodeParts) -> Arc<Self> {
        let runtime = Handle::current();
        let config = &parts.options.config;
        let transfers = Transfers::new(runtime.clone(), config.transfer_threads)
            .with_upload_limit(config.upload_bytes_per_second);
        let budget = MemoryBudget::of(config.memory_bytes);
        Arc::new(Self {
            exchange_memory: ExchangeMemory::new(budget.exchange_bytes),
            fences: Mutex::new(Fences::new(parts.options.cluster_id.clone())),
            leader: Arc::new(Leader::new(parts.tls.clone())),
            drain: Drain::new(),
            shutdown: CancellationToken::new(),
            tracker: TaskTracker::new(),
            transfers,
            runtime,
            options: parts.options,
            id: parts.id,
            address: parts.address,
            slots: parts.slots,
            tls: parts.tls,
            memory: parts.memory,
            folder: parts.folder,
            attempts: Mutex::default(),
            streams: Mutex::default(),
            copies: Mutex::default(),
            lifecycles: Mutex::default(),
        })
    }

    /// Counts and logs a refusal.
    pub fn refused(&self, refusal: &Refusal, what: &'static str) {
        metrics::counter!(FENCED, "what" => what).increment(1);
        tracing::warn!(what, "{refusal}");
    }

    /// For registration and heartbeats.
    pub fn running(&self) -> Vec<v1::RunningAttempt> {
        let attempts = self.attempts.lock();
        let running = attempts.values().filter(|a| !a.cancel.is_cancelled());
        running.map(|attempt| attempt.status()).collect()
    }

    /// The attempt, if it is the one that runs here and is not being ended.
    pub fn attempt(&self, key: &AttemptKey) -> Option<Arc<Attempt>> {
        let attempts = self.attempts.lock();
        attempts
            .get(&key.job)
            .filter(|attempt| attempt.key == *key && !attempt.cancel.is_cancelled())
            .cloned()
    }

    fn lifecycle(&self, job: &JobId) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.lifecycles.lock();
        // Those that nobody holds and that have no attempt are not needed any more.
        if all.len() > 64 {
            let attempts = self.attempts.lock();
            all.retain(|job, lock| Arc::strong_count(lock) > 1 || attempts.contains_key(job));
        }
        Arc::clone(all.entry(job.clone()).or_default())
    }

    /// Deploys; an older attempt of the job is torn down before. A repeated command changes nothing.
    ///
    /// # Errors
    /// If the command can't be carried out: nothing was started then.
    pub async fn deploy(
        self: &Arc<Self>,
        key: AttemptKey,
        request: v1::DeployRequest,
    ) -> Result<()> {
        let lifecycle = self.lifecycle(&key.job);
        let _guard = lifecycle.lock().await;
        let running = self.attempts.lock().get(&key.job).cloned();
        if let Some(running) = running {
            if running.key == key {
                return Ok(());
            }
            self.tear_down(&running, SubtaskState::Canceled).await;
        }
        let fence = request.fence.clone().unwrap_or_default();
        let checkpoint_base = request.checkpoint_base.clone();
        let plan = Plan::read(self, request)?;
        let site = self.site(&key, &plan, &checkpoint_base)?;
        let mut wiring = Wiring::new(&WiringInput {
            job: &key.job,
            attempt: key.attempt,
            graph: &site.graph,
            own_id: &self.id,
            places: &plan.places,
            memory: &self.exchange_memory,
            wakers: &plan.wakers,
        })?;
        let attempt = Attempt::start(AttemptParts {
            members: plan.members(&key.job, &site.graph)?,
            key: key.clone(),
            fence,
            targets: Arc::clone(&site.targets),
            task_manager: self.id.clone(),
            folder: site.folder.clone(),
            leader: Arc::clone(&self.leader),
        });
        self.streams.lock().extend(wiring.expected.drain());
        self.attempts
            .lock()
            .insert(key.job.clone(), Arc::clone(&attempt));
        let work = bring_up(
            Arc::clone(self),
            Arc::clone(&attempt),
            Arc::new(site),
            wiring,
            plan.wakers,
        );
        *attempt.bring_up.lock() = Some(attempt.tracker.spawn(work));
        Ok(())
    }

    fn site(&self, key: &AttemptKey, plan: &Plan, checkpoint_base: &str) -> Result<Site> {
        let s3 = self.options.s3.clone();
        let open = |url: &str| Store::open(url, &s3).map_err(|e| Error::Config(e.to_string()));
        let checkpoints = match checkpoint_base {
            "" => None,
            base => Some(open(base)?),
        };
        let restore = match &plan.restore {
            None => None,
            Some(from) => {
                let base = open(&from.base)?;
                let manifest = from.manifest.clone().unwrap_or_default();
                let own = checkpoints.as_ref().map(Store::url);
                let share_files = may_be_shared(&manifest, base.url(), own);
                Some(Restore {
                    manifest,
                    source: RestoreSource { base, share_files },
                    wanted: weir_layout::describe(&plan.graph)?,
                })
            }
        };
        let targets = SnapshotTargets {
            attempt: key.attempt,
            checkpoints,
            s3: s3.clone(),
            transfers: self.transfers.clone(),
            inline_bytes: inline_bytes(&plan.graph.options),
        };
        Ok(Site {
            job: key.job.clone(),
            attempt: key.attempt,
            options: Arc::new(plan.graph.options.clone()),
            restore,
            targets: Arc::new(targets),
            folder: self.folder.join(format!("{}-{}", key.job, key.attempt)),
            memory: Arc::clone(&self.memory),
            copies: self.copies(&key.job),
            operator_bytes: plan.operator_bytes(self),
            clock: self.options.clock.clone(),
            s3,
            connectors: Arc::clone(&self.options.connectors),
            runtime: self.runtime.clone(),
            graph: plan.graph.clone(),
        })
    }

    /// Brings a snapshot's files here before the attempt that needs them. Blocks.
    pub fn fetch_state(&self, key: &AttemptKey, from: &v1::RestoreFrom) -> Result<()> {
        let Some(copies) = self.copies(&key.job) else {
            return Ok(());
        };
        let started = std::time::Instant::now();
        let base = Store::open(&from.base, &self.options.s3)
            .map_err(|error| Error::Config(error.to_string()))?;
        let parts = from
            .manifest
            .iter()
            .flat_map(|manifest| &manifest.operators);
        let files: Vec<v1::FileRef> = parts
            .filter_map(|part| part.keyed.as_ref())
            .flat_map(|keyed| keyed.files.iter().cloned())
            .collect();
        let bytes = copies.fetch(&files, &base, &self.transfers)?;
        tracing::info!(
            job = %key.job, bytes, took_ms = started.elapsed().as_millis() as u64,
            "files of the next attempt's state are here"
        );
        Ok(())
    }

    fn copies(&self, job: &JobId) -> Option<Arc<LocalCopies>> {
        let folder = || self.folder.join(COPIES).join(job.as_str());
        self.options.config.local_copies.then(|| {
            let mut all = self.copies.lock();
            let copies = all
                .entry(job.clone())
                .or_insert_with(|| Arc::new(LocalCopies::new(folder())));
            Arc::clone(copies)
        })
    }

    /// Removes local copies of jobs that run here no longer. Blocks.
    pub fn forget_jobs(&self) {
        let running = |id: &str| self.attempts.lock().keys().any(|job| job.as_str() == id);
        self.copies
            .lock()
            .retain(|job, copies| Arc::strong_count(copies) > 1 || running(job.as_str()));
        remove_forgotten(&self.folder.join(COPIES), running);
    }

    /// Begins a checkpoint at the sources that run here.
    ///
    /// # Errors
    /// If the attempt does not run here, or not all of it yet.
    pub async fn trigger(&self, key: &AttemptKey, barrier: Barrier) -> Result<()> {
        let attempt = self.attempt(key).filter(|attempt| attempt.is_started());
        let attempt = attempt.ok_or_else(|| Error::Config("not running here".to_owned()))?;
        let sources = attempt.members.iter().filter(|(_, m)| m.is_source);
        let mut answers = Vec::new();
        for (id, member) in sources {
            let (reply, answer) = oneshot::channel();
            let command = SlotCommand::Trigger {
                attempt: key.clone(),
                subtask: *id,
                barrier: barrier.clone(),
                reply,
            };
            self.command(member.slot, command).await?;
            answers.push((*id, answer));
        }
        for (id, answer) in answers {
            if !answer.await.unwrap_or(false) {
                return Err(Error::Config(format!("subtask {id} has ended")));
            }
        }
        Ok(())
    }

    /// A checkpoint is complete: gives the commits of all subtasks here.
    ///
    /// # Errors
    /// If a slot does not answer.
    pub async fn completed(
        &self,
        attempt: &Attempt,
        checkpoint: CheckpointId,
    ) -> Result<Vec<(SubtaskId, weir_dataflow::Deferred<()>)>> {
        let mut answers = Vec::new();
        for slot in slots_of(attempt) {
            let (reply, answer) = oneshot::channel();
            let command = SlotCommand::Completed {
                attempt: attempt.key.clone(),
                checkpoint,
                reply,
            };
            self.command(slot, command).await?;
            answers.push(answer);
        }
        let mut commits = Vec::new();
        for answer in answers {
            let own = answer.await;
            commits.extend(own.map_err(|_| Error::Internal("a slot has ended".to_owned()))?);
        }
        Ok(commits)
    }

    /// Cuts all subtasks here at the end of a job without checkpoints.
    ///
    /// # Errors
    /// If a slot does not answer.
    pub async fn last_cuts(
        &self,
        attempt: &Attempt,
        checkpoint: CheckpointId,
    ) -> Result<Vec<(SubtaskId, Vec<OperatorCut>)>> {
        let mut answers = Vec::new();
        for slot in slots_of(attempt) {
            let (reply, answer) = oneshot::channel();
            let command = SlotCommand::LastCut {
                attempt: attempt.key.clone(),
                checkpoint,
                reply,
            };
            self.command(slot, command).await?;
            answers.push(answer);
        }
        let mut cuts = Vec::new();
        for answer in answers {
            let own = answer.await;
            cuts.extend(own.map_err(|_| Error::Internal("a slot has ended".to_owned()))?);
        }
        Ok(cuts)
    }

    /// A checkpoint will never be complete.
    ///
    /// # Errors
    /// If a slot does not answer.
    pub async fn aborted(&self, attempt: &Attempt, checkpoint: CheckpointId) -> Result<()> {
        for slot in slots_of(attempt) {
            let command = SlotCommand::Aborted {
                attempt: attempt.key.clone(),
                checkpoint,
            };
            self.command(slot, command).await?;
        }
        Ok(())
    }

    /// Something outside of the slots that these subtasks need has failed.
    pub async fn fail_subtasks(&self, attempt: &Attempt, subtasks: Vec<SubtaskId>, error: &Error) {
        let message = match error {
            Error::External { message, .. } => message.clone(),
            other => other.to_string(),
        };
        for slot in slots_of(attempt) {
            let command = SlotCommand::Fail {
                attempt: attempt.key.clone(),
                subtasks: subtasks.clone(),
                message: message.clone(),
            };
            if let Err(error) = self.command(slot, command).await {
                tracing::error!(%error, "cannot fail subtasks");
            }
        }
        // Those that were not handed to a slot yet can't fail there.
        if !attempt.is_started()
            && let Some(first) = subtasks.first()
        {
            let error = Error::External {
                system: "exchange",
                message,
            };
            attempt.report_failed(*first, error);
        }
    }

    async fn command(&self, slot: usize, command: SlotCommand) -> Result<()> {
        let slot = self
            .slots
            .get(slot)
            .ok_or_else(|| Error::Internal(format!("no slot {slot}")))?;
        let sent = slot.send(command).await;
        sent.map_err(|error| Error::Internal(error.to_string()))
    }

    /// Takes the stream that a producer opens, if its attempt is deployed here.
    pub fn take_stream(&self, key: &StreamKey) -> Option<(Arc<Attempt>, ExpectedStream)> {
        let attempt = self.attempt(&AttemptKey {
            job: key.job.clone(),
            attempt: key.attempt,
        })?;
        let stream = self.streams.lock().remove(key)?;
        Some((attempt, stream))
    }

    /// Ends an attempt of a job (any, if `attempt` is not older), and answers when nothing of it is left.
    pub async fn end(self: &Arc<Self>, key: &AttemptKey, state: SubtaskState) {
        let lifecycle = self.lifecycle(&key.job);
        let _guard = lifecycle.lock().await;
        let running = self.attempts.lock().get(&key.job).cloned();
        if let Some(running) = running.filter(|running| running.key.attempt <= key.attempt) {
            self.tear_down(&running, state).await;
        }
    }

    /// Ends what the job manager does not want any more: at once, beside whatever else is under way.
    pub fn tear_down_stale(self: &Arc<Self>, stale: &[v1::RunningAttempt]) {
        for attempt in stale {
            let Ok(job) = attempt.job_id.parse::<JobId>() else {
                continue;
            };
            let key = AttemptKey {
                job,
                attempt: AttemptId(attempt.attempt),
            };
            let Some(running) = self.attempt(&key) else {
                continue;
            };
            metrics::counter!(FENCED, "what" => "stale attempt").increment(1);
            tracing::warn!(job = %key.job, attempt = key.attempt.0, "the job manager calls this attempt stale, it is torn down");
            running.cancel.cancel();
            let own = Arc::clone(self);
            self.tracker
                .spawn(async move { own.end(&key, SubtaskState::Canceled).await });
        }
    }

    async fn tear_down(self: &Arc<Self>, attempt: &Arc<Attempt>, state: SubtaskState) {
        attempt.stop().await;
        self.streams
            .lock()
            .retain(|key, _| key.job != attempt.key.job || key.attempt != attempt.key.attempt);
        for slot in slots_of(attempt) {
            let (reply, answer) = oneshot::channel();
            let command = SlotCommand::Remove {
                attempt: attempt.key.clone(),
                reply,
            };
            if let Err(error) = self.command(slot, command).await {
                tracing::error!(slot, %error, "cannot remove subtasks");
                continue;
            }
            let removed = tokio::time::timeout(TEAR_DOWN_TIMEOUT, answer).await;
            let Ok(Ok(removed)) = removed else {
                tracing::error!(slot, "the slot is stuck in a subtask of an ended attempt");
                continue;
            };
            // Connectors may wait for their threads, and the next attempt waits for all of them.
            for mut subtask in removed {
                attempt.tracker.spawn_blocking(move || close(&mut subtask));
            }
        }
        attempt.settle(state).await;
        let mut attempts = self.attempts.lock();
        if attempts
            .get(&attempt.key.job)
            .is_some_and(|current| Arc::ptr_eq(current, attempt))
        {
            attempts.remove(&attempt.key.job);
        }
        tracing::info!(job = %attempt.key.job, attempt = attempt.key.attempt.0, ?state, "attempt ended here");
    }

    /// Ends all attempts.
    pub async fn end_all(self: &Arc<Self>) {
        let all: Vec<_> = self.attempts.lock().values().cloned().collect();
        for attempt in &all {
            attempt.cancel.cancel();
        }
        for attempt in all {
            self.end(&attempt.key, SubtaskState::Canceled).await;
        }
    }
}

fn slots_of(attempt: &Attempt) -> Vec<usize> {
    let mut slots: Vec<_> = attempt.members.values().map(|member| member.slot).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}
