//! The thread that drives raft-rs: takes messages, ticks and proposals, makes the log durable, applies what is committed.
//!
//! Invariants: nothing is sent to a peer or told to a proposer before raft-rs allows it; a storage error ends the node, since a member
//! that cannot write must not vote. A leader counts as leading only when it has applied an entry of its own term, so that its view
//! holds everything that earlier leaders committed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prost::Message as _;
use protobuf::Message as _;
use raft::prelude::{
    ConfChange, ConfState, Entry, EntryType, Message, MessageType, Ready, Snapshot,
};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};
use tokio::sync::watch;
use weir_proto::v1;

use super::handle::{ProposeError, RaftStatus, Reply, address, takes_part};
use super::log_store::{LogStore, LogStoreError};
use super::membership::{self, Change, Seen};
use super::network::{Outbox, Target};
use super::node::{Input, StartError, TICK, Who};
use super::reads::Reads;
use super::snapshot;
use crate::meta::{MetaState, Outcome, Refusal};

/// A peer that was heard of within this time counts as active.
const ALIVE: Duration = Duration::from_secs(2);
/// A learner that lacks no more entries than this has caught up.
const LAG_ENTRIES: u64 = 50;

pub(super) struct Driver {
    pub(super) raft: RawNode<LogStore>,
    pub(super) inputs: Receiver<Input>,
    pub(super) outbox: Outbox,
    pub(super) who: Who,
    pub(super) incarnation: u64,
    pub(super) status: watch::Sender<RaftStatus>,
    pub(super) view: Arc<RwLock<MetaState>>,
    /// As of what is applied.
    pub(super) conf_state: ConfState,
    pub(super) waiting: HashMap<u64, Reply<Outcome>>,
    pub(super) reads: Reads,
    /// When a peer was last heard of.
    pub(super) heard: HashMap<u64, Instant>,
    /// Tells this run's entries from those of a former run of the same member.
    pub(super) run: u64,
    pub(super) next_proposal: u64,
    pub(super) applied: u64,
    pub(super) applied_term: u64,
    /// Since the last snapshot: a new one is due, because members that come later need one in which they are.
    pub(super) members_changed: bool,
    pub(super) alone: bool,
}

impl Driver {
    pub(super) fn drive(&mut self) -> Result<(), String> {
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
                Ok(input) => self.take(input)?,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // What has come meanwhile shares the next synced write.
            for _ in 0..256 {
                match self.inputs.try_recv() {
                    Ok(Input::Stop) => return Ok(()),
                    Ok(input) => self.take(input)?,
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

    fn take(&mut self, input: Input) -> Result<(), String> {
        match input {
            Input::Step(message) => self.step(*message),
            Input::Met { id, target } => self.outbox.meet(id, target),
            Input::Propose { command, reply } => self.propose(command, reply),
            Input::Change { change, reply } => self.change(&change, reply),
            Input::Read { reply } => self.read(reply),
            // Whoever asked may have given up.
            Input::Active { reply } => drop(reply.send(Ok(self.seen().active))),
            Input::Yield => self.yield_leadership(),
            Input::Unreachable { peer } => self.raft.report_unreachable(peer),
            Input::SnapshotSent { peer, ok } => {
                let status = if ok {
                    SnapshotStatus::Finish
                } else {
                    SnapshotStatus::Failure
                };
                self.raft.report_snapshot(peer, status);
            }
            Input::Expelled { why } => return Err(why),
            // Only before this member takes part; or handled by the loop.
            Input::Found | Input::Claim { .. } | Input::Stop => {}
        }
        Ok(())
    }

    fn step(&mut self, mut message: Message) {
        self.heard.insert(message.from, Instant::now());
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

    fn leads(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    fn propose(&mut self, command: Vec<u8>, reply: Reply<Outcome>) {
        if !self.leads() {
            let _ = reply.send(Err(ProposeError::NotLeader));
            return;
        }
        let (id, context) = self.next_context();
        let proposed = self.raft.propose(context, command);
        self.proposed(id, proposed, reply);
    }

    fn next_context(&mut self) -> (u64, Vec<u8>) {
        let id = self.next_proposal;
        self.next_proposal += 1;
        (id, [self.run.to_be_bytes(), id.to_be_bytes()].concat())
    }

    fn proposed(&mut self, id: u64, proposed: raft::Result<()>, reply: Reply<Outcome>) {
        match proposed {
            Ok(()) => {
                self.waiting.insert(id, reply);
            }
            Err(error) => {
                tracing::warn!("proposal refused: {error}");
                let _ = reply.send(Err(ProposeError::NotLeader));
            }
        }
    }

    fn change(&mut self, change: &Change, reply: Reply<Outcome>) {
        if !self.leads() {
            let _ = reply.send(Err(ProposeError::NotLeader));
            return;
        }
        if self.raft.raft.has_pending_conf() {
            let _ = reply.send(Err(under_way()));
            return;
        }
        let planned = membership::plan(&self.view.read().members, change, &self.seen());
        let step = match planned {
            Ok(Some(step)) => step,
            Ok(None) => {
                let _ = reply.send(Ok(Outcome::Done));
                return;
            }
            Err(refusal) => {
                let _ = reply.send(Err(refusal.into()));
                return;
            }
        };
        let mut entry = ConfChange::default();
        entry.set_change_type(step.kind);
        entry.node_id = step.member.id;
        entry.context = step.member.encode_to_vec().into();
        let (id, context) = self.next_context();
        let proposed = self.raft.propose_conf_change(context, entry);
        self.proposed(id, proposed, reply);
    }

    fn seen(&self) -> Seen {
        let last = self.raft.raft.raft_log.last_index();
        let mut seen = Seen {
            own: self.who.id,
            active: BTreeSet::from([self.who.id]),
            caught_up: BTreeSet::from([self.who.id]),
        };
        for (id, progress) in self.raft.raft.prs().iter() {
            if self.heard.get(id).is_some_and(|at| at.elapsed() < ALIVE) {
                seen.active.insert(*id);
            }
            if progress.state == ProgressState::Replicate && progress.matched + LAG_ENTRIES >= last
            {
                seen.caught_up.insert(*id);
            }
        }
        seen
    }

    fn read(&mut self, reply: Reply<()>) {
        if !self.leads() {
            let _ = reply.send(Err(ProposeError::NotLeader));
            return;
        }
        let context = self.reads.begin(reply);
        self.raft.read_index(context);
    }

    /// To the voter that lacks least.
    fn yield_leadership(&mut self) {
        let seen = self.seen();
        let voter = |id: &u64| self.conf_state.voters.contains(id) && *id != self.who.id;
        let best = self
            .raft
            .raft
            .prs()
            .iter()
            .filter(|(id, _)| voter(id) && seen.active.contains(id))
            .max_by_key(|(_, progress)| progress.matched)
            .map(|(id, _)| *id);
        if let (true, Some(best)) = (self.leads(), best) {
            self.raft.transfer_leader(best);
        }
    }

    fn process_ready(&mut self) -> Result<(), String> {
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            self.send(ready.take_messages());
            for read in ready.take_read_states() {
                self.reads.confirmed(&read.request_ctx, read.index);
            }
            self.persist(&ready).map_err(|error| error.to_string())?;
            self.apply(ready.take_committed_entries())?;
            self.send(ready.take_persisted_messages());
            let mut light = self.raft.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.raft
                    .mut_store()
                    .set_commit(commit)
                    .map_err(|error| error.to_string())?;
            }
            self.send(light.take_messages());
            self.apply(light.take_committed_entries())?;
            self.raft.advance_apply();
        }
        self.reads.applied(self.applied);
        if self.members_changed || snapshot::is_due(self.raft.store()) {
            let view = Arc::clone(&self.view);
            let store = self.raft.mut_store();
            snapshot::compact(store, &view.read(), self.applied, &self.conf_state)
                .map_err(|error| error.to_string())?;
            self.members_changed = false;
        }
        self.check_membership()?;
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
            self.conf_state = metadata.get_conf_state().clone();
            match MetaState::decode(&snapshot.data) {
                Ok(state) => *self.view.write() = state,
                Err(error) => return Err(self.raft.store().unreadable(&error.to_string())),
            }
            self.raft.mut_store().install(snapshot)?;
            self.link_peers();
        }
        self.raft.mut_store().persist(ready.entries(), ready.hs())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), String> {
        for entry in entries {
            self.applied = entry.index;
            self.applied_term = entry.term;
            let result = match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => {
                    // A leader's first entry; or what Raft makes of a change of the members that comes during another one.
                    Err(under_way())
                }
                EntryType::EntryNormal => self.apply_command(&entry),
                _ => self.apply_change(&entry).map(|()| Ok(Outcome::Done))?,
            };
            if let Some(reply) = self.waiter(&entry.context) {
                let _ = reply.send(result);
            }
        }
        Ok(())
    }

    fn apply_command(&mut self, entry: &Entry) -> Result<Outcome, ProposeError> {
        let result = match v1::MetaCommand::decode(&entry.data[..]) {
            Ok(command) => self.view.write().apply(&command),
            Err(error) => Err(Refusal(format!("entry {}: {error}", entry.index))),
        };
        if let Err(refusal) = &result {
            tracing::debug!(index = entry.index, "command refused: {refusal}");
        }
        result.map_err(ProposeError::Refused)
    }

    fn apply_change(&mut self, entry: &Entry) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("entry {}: {error}", entry.index);
        let mut change = ConfChange::default();
        change
            .merge_from_bytes(&entry.data)
            .map_err(|error| failed(&error))?;
        let member =
            v1::JobManagerMember::decode(&change.context[..]).map_err(|error| failed(&error))?;
        self.conf_state = self
            .raft
            .apply_conf_change(&change)
            .map_err(|error| failed(&error))?;
        tracing::info!(
            id = member.id, address = %member.address, role = member.role().as_str_name(),
            voters = ?self.conf_state.voters, "the job managers have changed"
        );
        self.heard.remove(&member.id);
        self.view.write().members.insert(member.id, member);
        self.members_changed = true;
        self.link_peers();
        Ok(())
    }

    /// Makes the links those of the members that the log names.
    pub(super) fn link_peers(&mut self) {
        let members = &self.view.read().members;
        let peers = members
            .values()
            .filter(|member| member.id != self.who.id && takes_part(member));
        let targets = peers
            .map(|member| {
                let target = Target {
                    address: address(member, &self.who.configured),
                    incarnation: member.incarnation,
                };
                (member.id, target)
            })
            .collect();
        self.outbox.set(targets);
    }

    /// A member that was taken out has nothing more to do.
    fn check_membership(&self) -> Result<(), String> {
        let view = self.view.read();
        match view.members.get(&self.who.id) {
            Some(own) if own.incarnation >= self.incarnation && !takes_part(own) => {
                Err(StartError::Removed(self.who.id).to_string())
            }
            _ => Ok(()),
        }
    }

    fn waiter(&mut self, context: &[u8]) -> Option<Reply<Outcome>> {
        let (run, id) = context.split_at_checked(8)?;
        if run != self.run.to_be_bytes() {
            return None;
        }
        self.waiting
            .remove(&u64::from_be_bytes(id.try_into().ok()?))
    }

    fn publish_status(&mut self) {
        let raft = &self.raft.raft;
        let has_state = self.raft.store().has_state();
        let status = RaftStatus {
            term: raft.term,
            leader: raft.leader_id,
            leading: raft.state == StateRole::Leader && self.applied_term == raft.term,
            incarnation: Some(self.incarnation),
            has_state,
            blank: has_state && self.raft.store().is_blank(),
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

    pub(super) fn forget_proposals(&mut self, why: &str) {
        for (_, reply) in self.waiting.drain() {
            let _ = reply.send(Err(ProposeError::Unknown(why.to_owned())));
        }
        self.reads.forget();
    }
}

fn under_way() -> ProposeError {
    let why = "another change of the job managers is under way; try again".to_owned();
    membership::Refusal::NotNow(why).into()
}
