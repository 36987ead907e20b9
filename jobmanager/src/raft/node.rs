//! Starts and ends the thread that takes part in Raft (see `driver.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::RwLock;
use raft::RawNode;
use raft::prelude::Message;
use tokio::sync::watch;
use weir_proto::transport::TransportError;
use weir_proto::v1;

use super::driver::Driver;
use super::handle::{RaftHandle, RaftStatus, Reply};
use super::log_store::{Identity, LogStore, LogStoreError};
use super::logger;
use super::membership::{Change, Members};
use super::network::{Links, Outbox, Target};
use super::reads::Reads;
use crate::meta::{MetaState, Outcome, Refusal};

pub(super) const TICK: Duration = Duration::from_millis(100);
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 2;
/// Inputs that wait for the thread; more are refused.
const INPUTS: usize = 4096;

/// What the thread is told.
pub(super) enum Input {
    /// From a peer.
    Step(Box<Message>),
    /// A peer that the log has not named here has spoken.
    Met { id: u64, target: Target },
    /// From this process.
    Propose {
        command: Vec<u8>,
        reply: Reply<Outcome>,
    },
    /// The members are to change.
    Change {
        change: Change,
        reply: Reply<Outcome>,
    },
    /// Somebody wants to read what is committed by now.
    Read { reply: Reply<()> },
    /// Somebody wants to know who was heard of lately.
    Active { reply: Reply<BTreeSet<u64>> },
    /// Another member is to lead.
    Yield,
    /// A message to the peer was not delivered.
    Unreachable { peer: u64 },
    /// How the transfer of a snapshot ended.
    SnapshotSent { peer: u64, ok: bool },
    /// A peer says that this member, or this data folder of it, does not belong to the cluster any more.
    Expelled { why: String },
    /// This member without data founds the cluster.
    Found,
    /// This member without data waits to be let in.
    Claim { incarnation: u64 },
    /// The process ends.
    Stop,
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
    /// The data folder is of a member that was taken out.
    #[error(
        "job manager {0} was removed from the cluster; empty its data folder before it is added again"
    )]
    Removed(u64),
    /// The thread cannot be made.
    #[error("raft thread: {0}")]
    Thread(std::io::Error),
}

/// The running node; owns its thread.
pub struct RaftNode {
    input: SyncSender<Input>,
    thread: JoinHandle<Result<(), String>>,
}

/// Who this member is.
#[derive(Debug, Clone)]
pub struct Who {
    /// Name of the cluster.
    pub cluster_id: String,
    /// From 1.
    pub id: u64,
    /// HOST:PORT at which the others reach it.
    pub address: String,
    /// HOST:PORT of the first members by id, this one among them if it is one.
    pub configured: BTreeMap<u64, String>,
}

impl RaftNode {
    /// Starts the thread. With an empty data folder it takes part in nothing before it is told how it comes in (see `entry.rs`).
    pub fn start(log: LogStore, who: Who, links: Links) -> Result<(Self, RaftHandle), StartError> {
        for address in who.configured.values() {
            links.client(address)?;
        }
        let state = if log.has_state() {
            MetaState::decode(&log.last_snapshot().data)?
        } else {
            MetaState::default()
        };
        let removed = |member: &v1::JobManagerMember| {
            member.role() == v1::JobManagerRole::Removed
                && log.identity().map(|own| own.incarnation) == Some(member.incarnation)
        };
        if state.members.get(&who.id).is_some_and(removed) {
            return Err(StartError::Removed(who.id));
        }
        let (input, inputs) = sync_channel(INPUTS);
        let (status, status_receiver) = watch::channel(RaftStatus::default());
        let handle = RaftHandle {
            own: Arc::new(v1::JobManagerMember {
                id: who.id,
                address: who.address.clone(),
                ..Default::default()
            }),
            input: input.clone(),
            status: status_receiver,
            view: Arc::new(RwLock::new(state)),
            configured: Arc::new(who.configured.clone()),
        };
        let seat = Seat {
            log,
            who,
            links,
            inputs,
            input: input.clone(),
            status,
            view: Arc::clone(&handle.view),
        };
        seat.publish();
        let thread = std::thread::Builder::new()
            .name("raft".to_owned())
            .spawn(move || seat.run())
            .map_err(StartError::Thread)?;
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

/// What the thread has before it takes part.
struct Seat {
    log: LogStore,
    who: Who,
    links: Links,
    inputs: Receiver<Input>,
    input: SyncSender<Input>,
    status: watch::Sender<RaftStatus>,
    view: Arc<RwLock<MetaState>>,
}

impl Seat {
    fn run(mut self) -> Result<(), String> {
        let result = match self.take() {
            Ok(true) => self.drive(),
            Ok(false) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &result {
            tracing::error!("Raft stops: {error}");
        }
        result
    }

    /// Until this member has founded the cluster or waits to be let in; false: the process ends before that.
    fn take(&mut self) -> Result<bool, LogStoreError> {
        let identity = |incarnation| Identity {
            cluster_id: self.who.cluster_id.clone(),
            id: self.who.id,
            incarnation,
        };
        let waits = |own: &Identity| own.incarnation > 0;
        while !self.log.has_state() && !self.log.identity().is_some_and(waits) {
            match self.inputs.recv() {
                Ok(Input::Found) => {
                    let first = MetaState::of_members(first_members(&self.who.configured));
                    let voters = first.members.keys().copied().collect();
                    self.log.found(identity(0), voters, first.encode())?;
                    *self.view.write() = first;
                }
                Ok(Input::Claim { incarnation }) => self.log.claim(identity(incarnation))?,
                Ok(Input::Stop) | Err(_) => return Ok(false),
                // Whoever waits for an answer finds its channel closed.
                Ok(_) => {}
            }
        }
        self.publish();
        Ok(true)
    }

    fn publish(&self) {
        self.status.send_modify(|status| {
            status.has_state = self.log.has_state();
            status.incarnation = match self.log.identity() {
                Some(own) if status.has_state || own.incarnation > 0 => Some(own.incarnation),
                _ => None,
            };
            status.blank = match status.incarnation {
                Some(0) | None => self.log.is_blank(),
                Some(_) => false,
            };
        });
    }

    fn drive(self) -> Result<(), String> {
        let metadata = self.log.last_snapshot().get_metadata();
        let (applied, conf_state) = (metadata.index, metadata.get_conf_state().clone());
        let incarnation = self.log.identity().map_or(0, |own| own.incarnation);
        let config = raft_config(self.who.id, applied);
        let alone = conf_state.voters == [self.who.id];
        let raft = RawNode::new(&config, self.log, &logger::logger())
            .map_err(|error| error.to_string())?;
        let mut driver = Driver {
            raft,
            inputs: self.inputs,
            outbox: Outbox::new(
                self.links,
                incarnation,
                self.who.address.clone(),
                self.input,
            ),
            who: self.who,
            incarnation,
            status: self.status,
            view: self.view,
            conf_state,
            waiting: HashMap::new(),
            reads: Reads::default(),
            heard: HashMap::new(),
            run: rand::random(),
            next_proposal: 0,
            applied,
            applied_term: 0,
            members_changed: false,
            alone,
        };
        driver.link_peers();
        let result = driver.drive();
        driver.forget_proposals("the process is ending");
        result
    }
}

fn first_members(configured: &BTreeMap<u64, String>) -> Members {
    let member = |(id, address): (&u64, &String)| v1::JobManagerMember {
        id: *id,
        address: address.clone(),
        incarnation: 0,
        role: v1::JobManagerRole::Voter.into(),
    };
    configured
        .iter()
        .map(|first| (*first.0, member(first)))
        .collect()
}
