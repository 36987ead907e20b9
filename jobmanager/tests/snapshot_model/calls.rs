//! What a leader does beside takes effect, is answered, gets lost, or arrives when nobody waits for it any more.

use weir_jobmanager::checkpoint::coordinator::Event;
use weir_jobmanager::checkpoint::retention;
use weir_jobmanager::checkpoint::storage::place_of;
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;
use weir_snapshot::publish::whose;
use weir_snapshot::{Created, Publication, paths};

use crate::leader::{Message, Op, Stage, fence, subtask_id};
use crate::part::Part;
use crate::subtask::{Change, Done, TaskManager, positions};
use crate::world::{JOB, Violation, World};

impl World {
    pub fn carry_out(&mut self, leader: usize, op: usize, change: Change) -> Result<(), Violation> {
        let op = self.leaders[leader].ops.remove(op);
        match op {
            Op::Tell {
                subtask,
                attempt,
                term,
                message,
            } => {
                let heard = self.hear(leader, (subtask, attempt, term), &message, change)?;
                self.told(leader, attempt, message, heard)
            }
            Op::Publish { .. } => {
                let (id, attempt, result) = self.publish(&op);
                let of = &self.leaders[leader];
                let runs = of.runs(attempt);
                // The sweep that it was meant for may be over.
                self.known.untidy |= !runs || of.term != self.log.term;
                if !runs {
                    return Ok(());
                }
                self.coordinate(leader, 0, Event::Published { id, result })
            }
            Op::Record(attempt, info) => self.record(leader, attempt, info),
            Op::Collect { dropped, retained } => {
                // A deposed leader may know only of what was retained then.
                let fresh = retention::retained(&self.log.job());
                let deposed = self.leaders[leader].term != self.log.term;
                let retained = if deposed { retained } else { fresh };
                self.collect(leader, &dropped, &retained);
                Ok(())
            }
            Op::Sweep {
                kept,
                running,
                again,
            } => {
                self.sweep(leader, &kept, running, again);
                Ok(())
            }
            Op::DeleteClaimed(path) => {
                self.delete_claimed(leader, path);
                Ok(())
            }
            Op::Delete(mut groups, then) => {
                if !groups.is_empty() {
                    let urls = groups.remove(0);
                    self.store
                        .change(|store| urls.iter().for_each(|url| store.delete(url)));
                }
                if groups.is_empty() {
                    self.note_deleted(leader, then);
                } else {
                    self.leaders[leader].ops.push(Op::Delete(groups, then));
                }
                Ok(())
            }
        }
    }

    /// What nobody waits for takes effect.
    pub fn land(&mut self, op: Op) -> Result<(), Violation> {
        match op {
            Op::Tell {
                subtask,
                attempt,
                term,
                message,
            } => {
                let leader = self.leaders.len() - 1;
                let from = (subtask, attempt, term);
                let _answer = self.hear(leader, from, &message, Change::Flush)?;
            }
            Op::Publish { .. } => {
                self.known.untidy = true;
                let _answer = self.publish(&op);
            }
            Op::Delete(groups, _) => {
                let urls = groups.into_iter().flatten();
                self.store
                    .change(|store| urls.for_each(|url| store.delete(&url)));
            }
            other => panic!("{other:?} is done by nobody but a leader"),
        }
        Ok(())
    }

    /// The answer does not come, or the call has not even arrived yet.
    pub fn lose(&mut self, leader: usize, op: usize) -> Result<(), Violation> {
        self.budget.losses -= 1;
        self.marks.push("an answer is lost");
        let op = self.leaders[leader].ops.remove(op);
        if let Op::Record(attempt, info) = &op {
            // Only the log knows; the job is read again from there.
            if self.leaders[leader].term == self.log.term {
                let complete = complete_command(*attempt, info);
                self.log.change(|log| log.in_flight = Some(complete));
                if !matches!(self.leaders[leader].stage, Stage::Ended) {
                    self.reload(leader);
                }
            } else {
                self.retire(leader);
            }
            return Ok(());
        }
        if !op.is_call() {
            self.no_answer_of_the_store(leader, op);
            return Ok(());
        }
        self.adrift.push(op.clone());
        match op {
            Op::Tell {
                attempt, message, ..
            } => self.told(leader, attempt, message, Err("no answer".to_owned())),
            Op::Publish { id, attempt, .. } if self.leaders[leader].runs(attempt) => {
                let result = Err("no answer".to_owned());
                self.coordinate(leader, 0, Event::Published { id, result })
            }
            _ => Ok(()),
        }
    }

    pub fn no_answer_of_the_store(&mut self, leader: usize, op: Op) {
        match op {
            // It is tried again until it is done, or by the next leader.
            Op::Sweep { running: None, .. } | Op::DeleteClaimed(_) => {
                self.leaders[leader].ops.push(op);
            }
            _ => self.known.untidy = true,
        }
    }

    /// The job's driver begins anew; what goes on beside it does.
    pub fn reload(&mut self, leader: usize) {
        let of = &mut self.leaders[leader];
        let (calls, beside) = std::mem::take(&mut of.ops)
            .into_iter()
            .partition(Op::is_call);
        of.ops = beside;
        of.stage = Stage::Attaching;
        of.coordinator = None;
        of.under_way = None;
        of.delete_subsumed(&self.log.job());
        self.set_adrift(calls);
    }

    /// A task manager takes a message, or does not.
    pub fn hear(
        &mut self,
        leader: usize,
        (index, attempt, term): (u32, u64, u64),
        message: &Message,
        change: Change,
    ) -> Result<Result<(), String>, Violation> {
        let runs = |of: &Part<TaskManager>| {
            let subtask = of.subtask.as_ref();
            subtask.is_some_and(|subtask| subtask.attempt == attempt && subtask.index == index)
        };
        let at = self.task_managers.iter().position(runs);
        let at = at.unwrap_or(index as usize);
        let fence = fence(attempt, term);
        let taken = self.task_managers[at].change(|of| of.fences.command(Some(&fence)));
        if let Err(refusal) = taken {
            self.marks.push("a task manager refuses");
            return Ok(Err(refusal.to_string()));
        }
        if !runs(&self.task_managers[at]) {
            return Ok(Err("does not run here".to_owned()));
        }
        let (complete, strict) = (self.known.complete_rows(), !self.known.damaged);
        let mut of = self.task_managers[at].clone();
        let mut outside = self.outside.clone();
        let done: Result<Option<Done>, Violation> = of.change(|of| {
            let Some(subtask) = &mut of.subtask else {
                return Ok(None);
            };
            match message {
                Message::Trigger(target) if index == 0 => {
                    outside.change(|outside| subtask.cut(target.clone(), change, outside));
                }
                Message::Trigger(target) => {
                    return Ok(outside.change(|out| subtask.snapshot(target.clone(), out)));
                }
                Message::Notify {
                    checkpoint,
                    completed: true,
                } => {
                    subtask.confirm(*checkpoint);
                    for (id, items) in subtask.ledger.due(*checkpoint) {
                        for item in &items {
                            outside.change(|outside| outside.commit(item, complete, strict))?;
                        }
                        subtask.ledger.committed(id);
                    }
                }
                Message::Notify { checkpoint, .. } => subtask.abort(*checkpoint),
            }
            Ok(None)
        });
        let done = done?;
        self.task_managers[at] = of;
        self.outside = outside;
        if let Some(done) = done {
            self.acknowledged(leader, attempt, done)?;
        }
        Ok(Ok(()))
    }

    pub fn acknowledged(
        &mut self,
        leader: usize,
        attempt: u64,
        done: Done,
    ) -> Result<(), Violation> {
        if !self.leaders[leader].runs(attempt) {
            return Ok(());
        }
        let subtask = done.operators.first().map_or(0, |part| part.subtask);
        let event = Event::Acknowledged {
            id: done.checkpoint,
            subtask: subtask_id(subtask),
            operators: done.operators,
        };
        self.coordinate(leader, 0, event)
    }

    /// The leader has its answer.
    pub fn told(
        &mut self,
        leader: usize,
        attempt: u64,
        message: Message,
        heard: Result<(), String>,
    ) -> Result<(), Violation> {
        if !self.leaders[leader].runs(attempt) {
            return Ok(());
        }
        match (message, heard) {
            (Message::Trigger(target), Err(reason)) => {
                let id = target.checkpoint;
                self.coordinate(leader, 0, Event::Declined { id, reason })
            }
            (
                Message::Notify {
                    checkpoint,
                    completed: true,
                },
                result,
            ) => {
                let of = &mut self.leaders[leader];
                let same = |op: &Op| {
                    matches!(op, Op::Tell { message: Message::Notify { checkpoint: id, completed: true }, .. }
                        if *id == checkpoint)
                };
                if result.is_ok() && of.ops.iter().any(same) {
                    return Ok(());
                }
                if of.under_way == Some(checkpoint) {
                    of.under_way = None;
                    self.known.unannounced = false;
                }
                let id = checkpoint;
                self.coordinate(leader, 0, Event::Committed { id, result })
            }
            _ => Ok(()),
        }
    }

    pub fn publish(&mut self, op: &Op) -> (u64, u64, Result<String, String>) {
        let Op::Publish {
            id,
            attempt,
            base,
            path,
            bytes,
        } = op
        else {
            panic!("{op:?} is no manifest");
        };
        let url = format!("{base}/{path}");
        let created = self.store.change(|store| store.create_new(&url, bytes));
        let publication = match (created, self.store.get(&url)) {
            (Created::AlreadyExists, Some(found)) => whose(bytes, found),
            _ => Publication::Ours,
        };
        let folder = url.trim_end_matches(paths::METADATA).trim_end_matches('/');
        let result = match publication {
            Publication::Ours => Ok(folder.to_owned()),
            Publication::Other(_) => Err("another was first".to_owned()),
        };
        (*id, *attempt, result)
    }

    pub fn record(
        &mut self,
        leader: usize,
        attempt: u64,
        info: v1::CheckpointInfo,
    ) -> Result<(), Violation> {
        let term = self.leaders[leader].term;
        let id = info.checkpoint_id;
        let before = self.log.job();
        let complete = complete_command(attempt, &info);
        let Some(result) = self.propose(term, complete.clone()) else {
            self.marks
                .push("a deposed leader's checkpoint does not count");
            self.retire(leader);
            return Ok(());
        };
        let result = result.map(drop);
        if result.is_ok() {
            if let Command::CompleteCheckpoint(complete) = &complete {
                self.note_complete(complete);
            }
            let after = self.log.job();
            self.leaders[leader].delete_subsumed(&after);
            let ops = &mut self.leaders[leader].ops;
            let retained = retention::retained(&after);
            let dropped = retention::dropped(&retention::retained(&before), &retained);
            if !dropped.is_empty() {
                ops.push(Op::Collect { dropped, retained });
            }
        }
        if !self.leaders[leader].runs(attempt) {
            if result.is_ok() {
                self.marks
                    .push("a checkpoint completes while the next attempt is started");
                self.known.unannounced = true;
            }
            return Ok(());
        }
        self.coordinate(leader, 0, Event::Recorded { id, result })
    }

    pub fn note_complete(&mut self, complete: &v1::CompleteCheckpointCommand) {
        let info = complete.checkpoint.clone().unwrap_or_default();
        let savepoint = if info.savepoint { &*info.path } else { "" };
        let place = place_of(&self.base, savepoint, info.checkpoint_id);
        let manifest = self.manifest(&place.base, &place.manifest);
        let rows = manifest.map_or([0; 2], |manifest| positions(&manifest));
        self.known.complete.insert(info.checkpoint_id, rows);
    }
}

pub fn complete_command(attempt: u64, info: &v1::CheckpointInfo) -> Command {
    Command::CompleteCheckpoint(v1::CompleteCheckpointCommand {
        job_id: JOB.to_owned(),
        attempt,
        checkpoint: Some(info.clone()),
    })
}
