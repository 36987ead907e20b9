//! The thread that drives raft-rs: takes messages, ticks and proposals, makes the log durable, applies what is committed.
//!
//! Invariants: nothing is sent to a peer or told to a proposer before raft-rs allows it; a storage error ends the node, since a member
//! that cannot write must not vote. A leader counts as leading only when it has applied an entry of its own term, so that its view
//! holds everything that earlier leaders committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prost::Message as _;
use raft::prelude::{Entry, EntryType, Message, MessageType, Ready, Snapshot};
use raft::{RawNode, SnapshotStatus, StateRole};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_proto::transport::{TlsMaterial, TransportError};
use weir_proto::v1;

use super::log_store::{Identity, LogStore, LogStoreError};
use super::network::Outbox;
use super::{logger, network, snapshot};
use crate::meta::{MetaState, Outcome, Refusal};

const TICK: Duration = Duration::from_millis(100);
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 2;
/// Inputs that wait for the thread; more are refused.
const INPUTS: usize = 4096;
/// A proposal that is not applied in this time is given up; it may still be applied later.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the thread is told.
pub(super) enum Input {
    /// From a peer.
    Step(Box<Message>),
    /// From this process.
    Propose {
        command: Vec<u8>,
        reply: oneshot::Sender<Result<Outcome, ProposeError>>,
    },
    /// A message to the peer was not delivered.
    Unreachable { peer: u64 },
    /// How the transfer of a snapshot ended.
    SnapshotSent { peer: u64, ok: bool },
    /// The process ends.
    Stop,
}

/// Who leads, as this member knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RaftStatus {
    /// Raft's term.
    pub term: u64,
    /// The leader's id, 0 if none is known.
    pub leader: u64,
    /// This member leads and its view is up to date.
    pub leading: bool,
}

/// Why a command has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// Another member leads, or none does. The command was not taken.
    #[error("this job manager does not lead")]
    NotLeader,
    /// Leadership was lost, or time ran out, with the command under way: it may or may not take effect.
    #[error("the command's fate is not known: {0}")]
    Unknown(String),
    /// It was applied, and the state refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Log(#[from] LogStoreError),
    /// An address of a peer or a certificate.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// raft-rs refuses the log.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    /// The stored state is not readable.
    #[error(transparent)]
    State(#[from] Refusal),
    /// The thread cannot be made.
    #[error("raft thread: {0}")]
    Thread(std::io::Error),
}

/// Everything else talks to the node through this.
#[derive(Clone)]
pub struct RaftHandle {
    input: SyncSender<Input>,
    status: watch::Receiver<RaftStatus>,
    view: Arc<RwLock<MetaState>>,
}

impl RaftHandle {
    /// Replicates a command and gives its result when it is applied here.
    pub async fn propose(&self, command: &v1::MetaCommand) -> Result<Outcome, ProposeError> {
        if !self.status.borrow().leading {
            return Err(ProposeError::NotLeader);
        }
        let (reply, result) = oneshot::channel();
        let input = Input::Propose {
            command: command.encode_to_vec(),
            reply,
        };
        match self.input.try_send(input) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(ProposeError::Unknown("too many commands wait".to_owned()));
            }
            Err(TrySendError::Disconnected(_)) => return Err(ProposeError::NotLeader),
        }
        match tokio::time::timeout(PROPOSE_TIMEOUT, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ProposeError::Unknown("the process is ending".to_owned())),
            Err(_) => Err(ProposeError::Unknown(format!(
                "not replicated within {} s; do most job managers run?",
                PROPOSE_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Gives a message of a peer to Raft; dropped if the thread is far behind.
    pub fn step(&self, message: Message) {
        let _ = self.input.try_send(Input::Step(Box::new(message)));
    }

    /// The newest status; changes can be awaited.
    pub fn status(&self) -> watch::Receiver<RaftStatus> {
        self.status.clone()
    }

    /// The replicated state as far as it is applied here.
    pub fn view(&self) -> &RwLock<MetaState> {
        &self.view
    }
}

/// The running node; owns its thread.
pub struct RaftNode {
    input: SyncSender<Input>,
    thread: JoinHandle<Result<(), String>>,
}

impl RaftNode {
    /// Opens the log and starts the thread. `peers` are all members by id; tasks to them are tracked in `tasks` and end with `stop`.
    pub fn start(
        log: LogStore,
        identity: &Identity,
        peers: &BTreeMap<u64, String>,
        tls: Option<&TlsMaterial>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(Self, RaftHandle), StartError> {
        let stored = log.last_snapshot();
        let state = MetaState::decode(&stored.data)?;
        let applied = stored.get_metadata().index;
        let raft = RawNode::new(&raft_config(identity.id, applied), log, &logger::logger())?;
        let (input, inputs) = sync_channel(INPUTS);
        let others = peers
            .iter()
            .filter(|(id, _)| **id != identity.id)
            .map(|(id, address)| (*id, address.clone()))
            .collect();
        let outbox = network::start(&identity.cluster_id, &others, tls, &input, tasks, stop)?;
        let (status, status_receiver) = watch::channel(RaftStatus::default());
        let view = Arc::new(RwLock::new(state));
        let driver = Driver {
            raft,
            inputs,
            outbox,
            status,
            view: Arc::clone(&view),
            waiting: HashMap::new(),
            run: rand::random(),
            next_proposal: 0,
            applied,
            applied_term: 0,
            alone: identity.members == 1,
        };
        let thread = std::thread::Builder::new()
            .name("raft".to_owned())
            .spawn(move || driver.run())
            .map_err(StartError::Thread)?;
        let handle = RaftHandle {
            input: input.clone(),
            status: status_receiver,
            view,
        };
        Ok((Self { input, thread }, handle))
    }

    /// Ends the thread and waits for it. The error is why it ended by itself before.
    pub fn stop(self) -> Result<(), String> {
        // Blocking: the thread takes inputs all the time, so there is room soon; an ended one has hung up.
        let _ = self.input.send(Input::Stop);
        self.thread
            .join()
            .unwrap_or_else(|_| Err("the raft thread panicked".to_owned()))
    }
}

fn raft_config(id: u64, applied: u64) -> raft::Config {
    raft::Config {
        id,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied,
        max_size_per_msg: 4 << 20,
        max_inflight_msgs: 64,
        check_quorum: true,
        pre_vote: true,
        ..raft::Config::default()
    }
}

struct Driver {
    raft: RawNode<LogStore>,
    inputs: Receiver<Input>,
    outbox: Outbox,
    status: watch::Sender<RaftStatus>,
    view: Arc<RwLock<MetaState>>,
    waiting: HashMap<u64, oneshot::Sender<Result<Outcome, ProposeError>>>,
    /// Tells this run's entries from those of a former run of the same member.
    run: u64,
    next_proposal: u64,
    applied: u64,
    applied_term: u64,
    alone: bool,
}

impl Driver {
    fn run(mut self) -> Result<(), String> {
        let result = self.drive();
        if let Err(error) = &result {
            tracing::error!("Raft stops: {error}");
        }
        self.forget_proposals("the process is ending");
        result
    }

    fn drive(&mut self) -> Result<(), String> {
        if self.alone {
            // Nobody else can win: no reason to wait for the election time-out.
            self.raft.campaign().map_err(|error| error.to_string())?;
        }
        self.process_ready()?;
        let mut next_tick = Instant::now() + TICK;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match self.inputs.recv_timeout(wait) {
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // What has come meanwhile shares the next synced write.
            for _ in 0..256 {
                match self.inputs.try_recv() {
                    Ok(Input::Stop) => return Ok(()),
                    Ok(input) => self.take(input),
                    Err(_) => break,
                }
            }
            if Instant::now() >= next_tick {
                self.raft.tick();
                // After a pause of the process the missed ticks are not made up: that would start an election.
                next_tick = Instant::now() + TICK;
            }
            self.process_ready()?;
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Step(message) => self.step(*message),
            Input::Propose { command, reply } => self.propose(command, reply),
            Input::Unreachable { peer } => self.raft.report_unreachable(peer),
            Input::SnapshotSent { peer, ok } => {
                let status = if ok {
                    SnapshotStatus::Finish
                } else {
                    SnapshotStatus::Failure
                };
                self.raft.report_snapshot(peer, status);
            }
            Input::Stop => {}
        }
    }

    fn step(&mut self, mut message: Message) {
        let last = self.raft.raft.raft_log.last_index();
        if message.get_msg_type() == MessageType::MsgHeartbeat && message.commit > last {
            tracing::error!(
                "the leader knows this job manager's log up to entry {}, but it ends at {last}: was its data folder replaced?",
                message.commit
            );
            message.commit = last;
        }
        if let Err(error) = self.raft.step(message) {
            tracing::debug!("raft message refused: {error}");
        }
    }

    fn propose(&mut self, command: Vec<u8>, reply: oneshot::Sender<Result<Outcome, ProposeError>>) {
        if self.raft.raft.state != StateRole::Leader {
            let _ = reply.send(Err(ProposeError::NotLeader));
            return;
        }
        let id = self.next_proposal;
        self.next_proposal += 1;
        let context = [self.run.to_be_bytes(), id.to_be_bytes()].concat();
        match self.raft.propose(context, command) {
            Ok(()) => {
                self.waiting.insert(id, reply);
            }
            Err(error) => {
                tracing::warn!("proposal refused: {error}");
                let _ = reply.send(Err(ProposeError::NotLeader));
            }
        }
    }

    fn process_ready(&mut self) -> Result<(), String> {
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            self.send(ready.take_messages());
            self.persist(&ready).map_err(|error| error.to_string())?;
            self.apply(ready.take_committed_entries());
            self.send(ready.take_persisted_messages());
            let mut light = self.raft.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.raft
                    .mut_store()
                    .set_commit(commit)
                    .map_err(|error| error.to_string())?;
            }
            self.send(light.take_messages());
            self.apply(light.take_committed_entries());
            self.raft.advance_apply();
        }
        if snapshot::is_due(self.raft.store()) {
            let view = Arc::clone(&self.view);
            snapshot::compact(self.raft.mut_store(), &view.read(), self.applied)
                .map_err(|error| error.to_string())?;
        }
        self.publish_status();
        Ok(())
    }

    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            self.outbox.send(message);
        }
    }

    fn persist(&mut self, ready: &Ready) -> Result<(), LogStoreError> {
        if *ready.snapshot() != Snapshot::default() {
            let snapshot = ready.snapshot().clone();
            let metadata = snapshot.get_metadata();
            (self.applied, self.applied_term) = (metadata.index, metadata.term);
            match MetaState::decode(&snapshot.data) {
                Ok(state) => *self.view.write() = state,
                Err(error) => return Err(self.raft.store().unreadable(&error.to_string())),
            }
            self.raft.mut_store().install(snapshot)?;
        }
        self.raft.mut_store().persist(ready.entries(), ready.hs())
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.applied = entry.index;
            self.applied_term = entry.term;
            if entry.data.is_empty() || entry.get_entry_type() != EntryType::EntryNormal {
                continue;
            }
            let result = match v1::MetaCommand::decode(&entry.data[..]) {
                Ok(command) => self.view.write().apply(&command),
                Err(error) => Err(Refusal(format!("entry {}: {error}", entry.index))),
            };
            if let Err(refusal) = &result {
                tracing::debug!(index = entry.index, "command refused: {refusal}");
            }
            if let Some(reply) = self.waiter(&entry.context) {
                let _ = reply.send(result.map_err(ProposeError::Refused));
            }
        }
    }

    fn waiter(&mut self, context: &[u8]) -> Option<oneshot::Sender<Result<Outcome, ProposeError>>> {
        let (run, id) = context.split_at_checked(8)?;
        if run != self.run.to_be_bytes() {
            return None;
        }
        self.waiting
            .remove(&u64::from_be_bytes(id.try_into().ok()?))
    }

    fn publish_status(&mut self) {
        let raft = &self.raft.raft;
        let status = RaftStatus {
            term: raft.term,
            leader: raft.leader_id,
            leading: raft.state == StateRole::Leader && self.applied_term == raft.term,
        };
        let before = *self.status.borrow();
        if before == status {
            return;
        }
        if before.leading && (!status.leading || before.term != status.term) {
            self.forget_proposals("leadership was lost");
        }
        self.status.send_replace(status);
    }

    fn forget_proposals(&mut self, why: &str) {
        for (_, reply) in self.waiting.drain() {
            let _ = reply.send(Err(ProposeError::Unknown(why.to_owned())));
        }
    }
}
