//! What everything else says to the node, and what it sees of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use parking_lot::RwLock;
use prost::Message as _;
use raft::prelude::Message;
use tokio::sync::{oneshot, watch};
use weir_proto::v1;

use super::membership::{self, Change};
use super::network::Target;
use super::node::Input;
use crate::meta::{MetaState, Outcome, Refusal};

/// A proposal that is not applied in this time is given up; it may still be applied later.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// A leader that does not hear from most members in this time does not lead any more.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Who leads, as this member knows it, and what this member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RaftStatus {
    /// Raft's term.
    pub term: u64,
    /// The leader's id, 0 if none is known.
    pub leader: u64,
    /// This member leads and its view is up to date.
    pub leading: bool,
    /// Of its data folder; `None` as long as it is not known whether the cluster exists already.
    pub incarnation: Option<u64>,
    /// It has a state: it is, or was, a member.
    pub has_state: bool,
    /// It has voted for nobody and knows of no entry.
    pub blank: bool,
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
    /// The members do not change like this.
    #[error(transparent)]
    Membership(#[from] membership::Refusal),
}

/// How a proposal ended.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ProposeError>>;

/// Everything else talks to the node through this.
#[derive(Clone)]
pub struct RaftHandle {
    pub(super) own: Arc<v1::JobManagerMember>,
    pub(super) input: SyncSender<Input>,
    pub(super) status: watch::Receiver<RaftStatus>,
    pub(super) view: Arc<RwLock<MetaState>>,
    pub(super) configured: Arc<BTreeMap<u64, String>>,
}

impl RaftHandle {
    /// Replicates a command and gives its result when it is applied here.
    pub async fn propose(&self, command: &v1::MetaCommand) -> Result<Outcome, ProposeError> {
        let command = command.encode_to_vec();
        self.ask(PROPOSE_TIMEOUT, |reply| Input::Propose { command, reply })
            .await
    }

    /// Takes the next step of a change of the members, if there is one.
    pub async fn change(&self, change: Change) -> Result<(), ProposeError> {
        self.ask(PROPOSE_TIMEOUT, |reply| Input::Change { change, reply })
            .await
            .map(drop)
    }

    /// Comes back when this member has been the leader after the call, and has applied everything that was committed before it: what is
    /// read from the view then is linearizable.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        self.ask(READ_TIMEOUT, |reply| Input::Read { reply }).await
    }

    /// The members that this one, the leader, has heard of within the last two seconds.
    pub async fn active(&self) -> Result<BTreeSet<u64>, ProposeError> {
        self.ask(READ_TIMEOUT, |reply| Input::Active { reply })
            .await
    }

    async fn ask<T>(
        &self,
        limit: Duration,
        input: impl FnOnce(Reply<T>) -> Input,
    ) -> Result<T, ProposeError> {
        if !self.status.borrow().leading {
            return Err(ProposeError::NotLeader);
        }
        let (reply, result) = oneshot::channel();
        match self.input.try_send(input(reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(ProposeError::Unknown("too many commands wait".to_owned()));
            }
            Err(TrySendError::Disconnected(_)) => return Err(ProposeError::NotLeader),
        }
        match tokio::time::timeout(limit, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ProposeError::Unknown("the process is ending".to_owned())),
            Err(_) => Err(ProposeError::Unknown(format!(
                "not replicated within {} s; do most job managers run?",
                limit.as_secs()
            ))),
        }
    }

    /// Lets another member lead, if one can; waits until it does, at most for `limit`.
    pub async fn yield_leadership(&self, limit: Duration) {
        let mut status = self.status.clone();
        if !status.borrow().leading || self.members().len() < 2 {
            return;
        }
        if self.input.try_send(Input::Yield).is_err() {
            return;
        }
        let yielded = status.wait_for(|status| !status.leading && status.leader != 0);
        if tokio::time::timeout(limit, yielded).await.is_err() {
            tracing::info!("no other job manager has taken over yet");
        }
    }

    /// The cluster does not exist yet: this member founds it together with those in the configuration.
    pub(super) fn found(&self) {
        let _ = self.input.try_send(Input::Found);
    }

    /// The cluster exists: this data folder waits to be let in.
    pub(super) fn claim(&self, incarnation: u64) {
        let _ = self.input.try_send(Input::Claim { incarnation });
    }

    /// A peer that is not among the members here can be answered from now on.
    pub fn met(&self, id: u64, address: String, incarnation: u64) {
        let target = Target {
            address,
            incarnation,
        };
        let _ = self.input.try_send(Input::Met { id, target });
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

    /// This member's id and address.
    pub fn own(&self) -> &v1::JobManagerMember {
        &self.own
    }

    /// HOST:PORT of a member.
    pub fn address_of(&self, id: u64) -> Option<String> {
        if id == self.own.id {
            return Some(self.own.address.clone());
        }
        match self.view.read().members.get(&id) {
            Some(member) => Some(address(member, &self.configured)),
            None => self.configured.get(&id).cloned(),
        }
    }

    /// The members that take part, with the addresses at which they are called.
    pub fn members(&self) -> Vec<v1::JobManagerMember> {
        let view = self.view.read();
        let there = view.members.values().filter(|member| takes_part(member));
        there
            .map(|member| v1::JobManagerMember {
                address: if member.id == self.own.id {
                    self.own.address.clone()
                } else {
                    address(member, &self.configured)
                },
                ..member.clone()
            })
            .collect()
    }
}

/// Whether Raft speaks with it.
pub(super) fn takes_part(member: &v1::JobManagerMember) -> bool {
    matches!(
        member.role(),
        v1::JobManagerRole::Voter | v1::JobManagerRole::Learner
    )
}

/// Of the first members the configuration may say a newer address than the log: all of them may have moved while nobody could lead.
pub(super) fn address(member: &v1::JobManagerMember, configured: &BTreeMap<u64, String>) -> String {
    match configured.get(&member.id) {
        Some(address) if member.incarnation == 0 => address.clone(),
        _ => member.address.clone(),
    }
}
