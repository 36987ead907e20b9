//! From one attempt to the next, from one leader to the next, and the end of the job.

use weir_common::ids::{CheckpointId, LeaderTerm};
use weir_jobmanager::checkpoint::fall_back::{FallBack, Next};
use weir_jobmanager::checkpoint::storage::place_of;
use weir_jobmanager::checkpoint::takeover;
use weir_jobmanager::meta::view::{has_ended, newest_checkpoint_id};
use weir_jobmanager::meta::{Outcome, command};
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;
use weir_snapshot::paths;

use crate::deletion::sweep_after;
use crate::invariants::split;
use crate::leader::{Choice, Leader, Stage, fence};
use crate::part::Part;
use crate::subtask::{Subtask, TaskManager, committables, positions};
use crate::world::{CLUSTER, JOB, Violation, World};

impl World {
    /// The attempt is torn down where it can be; then the next one follows.
    pub fn fail(&mut self, cut_off: Option<usize>) {
        self.marks.push("an attempt fails");
        let term = self.log.term;
        for index in 0..2 {
            let of = &mut self.task_managers[index];
            if cut_off == Some(index) {
                let fresh = Part::new(TaskManager::new(CLUSTER, term));
                let zombie = std::mem::replace(of, fresh);
                self.task_managers.push(zombie);
                self.known.untidy = true;
                continue;
            }
            let ended = of.change(|of| of.subtask.take());
            let late = ended.map_or_else(Vec::new, |subtask| subtask.on_their_way());
            self.late.extend(late);
        }
        let leader = self.current();
        leader.stage = Stage::Choosing;
        leader.coordinator = None;
        leader.under_way = None;
    }

    pub fn choose(&mut self) -> Result<(), Violation> {
        let job = self.log.job();
        let newest = newest_checkpoint_id(&job);
        let mut search = FallBack::of(&job);
        let choice = loop {
            let (base, path, restored) = match search.next() {
                Next::LookAt(point) => {
                    let savepoint = if point.savepoint { &*point.path } else { "" };
                    let place = place_of(&self.base, savepoint, point.checkpoint_id);
                    (place.base, place.manifest, point.checkpoint_id)
                }
                Next::Submitted(folder) => {
                    let (base, path) = split(folder);
                    (base.to_owned(), path, 0)
                }
                Next::Empty => {
                    break Choice {
                        newest,
                        restored: 0,
                        from: None,
                    };
                }
                Next::Refuse(_) if self.known.damaged => {
                    self.marks.push("nothing is left to start from");
                    return self.end(true);
                }
                Next::Refuse(reason) => return Err(Violation(reason)),
            };
            match self.store.whole(&base, &path) {
                Ok(manifest) => {
                    break Choice {
                        newest,
                        restored,
                        from: Some((base, manifest)),
                    };
                }
                Err(_) if restored == 0 && self.known.damaged => return self.end(true),
                Err(why) => search.damaged(why),
            }
        };
        if choice.restored != newest {
            self.marks.push("an older checkpoint is taken");
        }
        if choice.from.is_none() && !self.known.complete.is_empty() {
            return Err(Violation("it starts empty, but had state once".to_owned()));
        }
        self.current().stage = Stage::Starting(Part::new(choice));
        Ok(())
    }

    pub fn start(&mut self) -> Result<(), Violation> {
        let Stage::Starting(choice) = self.current().stage.clone() else {
            return Ok(());
        };
        let attempt = self.log.job().attempt + 1;
        let start = v1::StartAttemptCommand {
            job_id: JOB.to_owned(),
            attempt,
            newest_checkpoint_id: choice.newest,
            restored_checkpoint_id: choice.restored,
            ..Default::default()
        };
        let term = self.current().term;
        let started = self.propose(term, Command::StartAttempt(start));
        if started != Some(Ok(Outcome::Done)) {
            self.marks.push("the log refuses an attempt");
            self.current().stage = Stage::Choosing;
            return Ok(());
        }
        let newest = self
            .known
            .complete
            .keys()
            .last()
            .copied()
            .unwrap_or_default();
        if choice.restored != newest && !self.known.damaged {
            return Err(Violation(format!(
                "attempt {attempt} starts from checkpoint {}, but {newest} is complete",
                choice.restored
            )));
        }
        self.known.complete.retain(|id, _| *id <= choice.restored);
        let job = self.log.job();
        if job.attempt >= 2 {
            self.current().ops.push(sweep_after(&job, false));
        }
        self.current().stage = Stage::Deploying(attempt, choice);
        Ok(())
    }

    pub fn deploy(&mut self) -> Result<(), Violation> {
        let Stage::Deploying(attempt, choice) = self.current().stage.clone() else {
            return Ok(());
        };
        let term = self.current().term;
        let mut complete = self.known.complete_rows();
        for index in 0..2_u32 {
            let subtask = match &choice.from {
                None => Subtask::new(attempt, index),
                Some((base, manifest)) => {
                    let rows = positions(manifest);
                    complete[index as usize] = complete[index as usize].max(rows[index as usize]);
                    Subtask::restored(attempt, index, base, manifest, &self.base)
                }
            };
            let fence = fence(attempt, term);
            let of = &mut self.task_managers[index as usize];
            let taken = of.change(|of| {
                let taken = of.fences.command(Some(&fence));
                of.subtask = Some(subtask);
                taken
            });
            taken.map_err(|refusal| Violation(refusal.to_string()))?;
            if let Some((base, manifest)) = &choice.from {
                // Every file of it is loaded.
                let path = manifest_path(manifest);
                if !self.known.damaged {
                    self.store.whole(base, &path).map_err(Violation)?;
                }
                for item in committables(manifest) {
                    let strict = !self.known.damaged;
                    self.outside
                        .change(|outside| outside.commit(&item, complete, strict))?;
                }
            }
            self.outside
                .change(|outside| outside.abort_before(attempt, index));
        }
        let coordinator = self.coordinator();
        self.known.unannounced = false;
        let leader = self.current();
        leader.stage = Stage::Running(attempt);
        leader.coordinator = Some(coordinator);
        Ok(())
    }

    pub fn elect(&mut self, old_lives: bool, in_flight: bool) -> Result<(), Violation> {
        self.marks.push("another leads");
        if in_flight {
            self.apply_in_flight();
        }
        self.log.change(|log| {
            log.in_flight = None;
            log.term += 1;
        });
        if !old_lives {
            self.retire(0);
        }
        let term = self.log.term;
        let job = self.log.job();
        let ended = has_ended(job.state());
        let mut leader = Leader::new(
            term,
            if ended {
                Stage::Ended
            } else {
                Stage::Attaching
            },
        );
        leader.delete_subsumed(&job);
        if ended && job.cleaning {
            leader.ops.push(sweep_after(&job, false));
        }
        self.leaders.push(leader);
        Ok(())
    }

    pub fn attach(&mut self) -> Result<(), Violation> {
        let job = self.log.job();
        let runs = |of: &Part<TaskManager>| {
            let subtask = of.subtask.as_ref();
            subtask.is_some_and(|subtask| subtask.attempt == job.attempt)
        };
        let all_run = self.task_managers.iter().take(2).all(runs);
        let term = self.current().term;
        for of in self.task_managers.iter_mut().take(2) {
            of.change(|of| of.fences.observe_term(LeaderTerm(term)));
        }
        if !all_run {
            self.fail(None);
            return Ok(());
        }
        let coordinator = self.coordinator();
        let leader = self.current();
        leader.stage = Stage::Running(job.attempt);
        leader.coordinator = Some(coordinator);
        // A checkpoint that completes without its leader's knowing is announced by the next one, or now.
        let current = self.leaders.len() - 1;
        let announcements = takeover::announcements(&job);
        self.known.unannounced = false;
        announcements
            .into_iter()
            .try_for_each(|request| self.request(current, request))
    }

    pub fn end(&mut self, failed: bool) -> Result<(), Violation> {
        for of in self.task_managers.iter_mut().take(2) {
            of.change(|of| of.subtask = None);
        }
        self.late.clear();
        let state = match failed {
            true => v1::JobState::Failed,
            false => v1::JobState::Canceled,
        };
        let term = self.current().term;
        let ended = self.propose(term, command::end(JOB, state, ""));
        if !matches!(ended, Some(Ok(_))) {
            return Err(Violation(format!("the job cannot end: {ended:?}")));
        }
        self.known.untidy = false;
        let job = self.log.job();
        let leader = self.current();
        leader.stage = Stage::Ended;
        leader.coordinator = None;
        leader.under_way = None;
        leader.delete_subsumed(&job);
        leader.ops.push(sweep_after(&job, false));
        Ok(())
    }
}

pub fn manifest_path(manifest: &v1::Manifest) -> String {
    match manifest.kind() {
        v1::SnapshotKind::Checkpoint => {
            paths::checkpoint_manifest(CheckpointId(manifest.checkpoint_id))
        }
        _ => paths::METADATA.to_owned(),
    }
}
