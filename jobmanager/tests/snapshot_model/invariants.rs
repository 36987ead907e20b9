//! What must be so after every step.

use std::collections::BTreeSet;

use weir_common::ids::CheckpointId;
use weir_jobmanager::checkpoint::retention;
use weir_jobmanager::checkpoint::storage::place_of;
use weir_proto::v1;
use weir_snapshot::manifest::files;
use weir_snapshot::paths;

use crate::leader::Stage;
use crate::subtask::positions;
use crate::world::{OTHER, Violation, World};

impl World {
    /// What the log retains is whole on the store, and so is what users have.
    pub fn check_retained(&self) -> Result<(), Violation> {
        if self.known.damaged {
            return Ok(());
        }
        let job = self.log.job();
        let own = retention::retained(&job);
        let kept =
            |c: &&v1::CheckpointInfo| c.savepoint || own.contains(&CheckpointId(c.checkpoint_id));
        for checkpoint in job.checkpoints.iter().filter(kept) {
            let savepoint = if checkpoint.savepoint {
                &*checkpoint.path
            } else {
                ""
            };
            let place = place_of(&self.base, savepoint, checkpoint.checkpoint_id);
            let manifest = self
                .store
                .whole(&place.base, &place.manifest)
                .map_err(Violation)?;
            if self.known.complete.get(&checkpoint.checkpoint_id) != Some(&positions(&manifest)) {
                return Err(Violation(format!(
                    "{} is not the manifest that was completed",
                    place.manifest
                )));
            }
        }
        for base in &self.known.savepoints {
            self.store.whole(base, paths::METADATA).map_err(Violation)?;
        }
        let from = match self.submission.claim {
            true => &*job.from_savepoint,
            false => self.submission.from,
        };
        if !from.is_empty() {
            let (base, path) = split(from);
            self.store.whole(base, &path).map_err(Violation)?;
        }
        let neighbour = paths::checkpoint_manifest(CheckpointId(6));
        if self.store.get(&format!("{OTHER}/{neighbour}")).is_some() {
            self.store.whole(OTHER, &neighbour).map_err(Violation)?;
        }
        Ok(())
    }

    fn nothing_is_on_its_way(&self) -> bool {
        let busy = |of: &crate::subtask::TaskManager| {
            of.subtask
                .as_ref()
                .is_some_and(|subtask| !subtask.cuts.is_empty())
        };
        self.leaders.len() == 1
            && self.leaders[0].ops.is_empty()
            && self.adrift.is_empty()
            && self.late.is_empty()
            && self.acks.is_empty()
            && self.log.in_flight.is_none()
            && !self.task_managers.iter().any(|of| busy(of))
    }

    /// When everything has settled, the sinks have committed what is complete and the store has nothing else.
    pub fn check_quiet(&mut self) -> Result<(), Violation> {
        if !self.nothing_is_on_its_way() {
            return Ok(());
        }
        let leader = &self.leaders[0];
        match leader.stage {
            Stage::Running(_) if leader.under_way.is_none() => {}
            Stage::Ended => return self.check_ended(),
            _ => return Ok(()),
        }
        self.marks.push("quiet");
        let complete = self.known.complete_rows();
        for (subtask, rows) in (0..).zip(complete) {
            let committed = self.outside.committed(subtask);
            let all_are_told = !self.known.unannounced && !self.known.damaged;
            if all_are_told && committed != (0..rows).collect() {
                return Err(Violation(format!(
                    "of subtask {subtask} {rows} rows are complete, and these committed: {committed:?}"
                )));
            }
        }
        if self.known.untidy || self.known.damaged {
            return Ok(());
        }
        self.marks.push("quiet and tidy");
        self.check_left(&self.wanted()?)
    }

    fn check_ended(&mut self) -> Result<(), Violation> {
        let job = self.log.job();
        self.marks.push("ended");
        if self.known.untidy || self.known.damaged {
            return Ok(());
        }
        if !job.subsumed_savepoint.is_empty() {
            return Err(Violation(format!(
                "{} is not deleted",
                job.subsumed_savepoint
            )));
        }
        self.check_left(&self.wanted()?)
    }

    /// What the retained checkpoints are made of.
    fn wanted(&self) -> Result<BTreeSet<String>, Violation> {
        let mut wanted = BTreeSet::new();
        for id in retention::retained(&self.log.job()) {
            let path = paths::checkpoint_manifest(id);
            let manifest = self.store.whole(&self.base, &path).map_err(Violation)?;
            wanted.extend(files(&manifest).map(|file| file.path.clone()));
            wanted.insert(path);
        }
        Ok(wanted)
    }

    fn check_left(&self, wanted: &BTreeSet<String>) -> Result<(), Violation> {
        let listed = self.store.list(&self.base);
        let mut left = listed
            .iter()
            .filter(|object| !wanted.contains(&object.path));
        match left.next() {
            Some(object) => Err(Violation(format!("{} is left behind", object.path))),
            None => Ok(()),
        }
    }
}

/// A snapshot's base and its manifest there, by its folder.
pub fn split(folder: &str) -> (&str, String) {
    match folder.strip_prefix(OTHER) {
        Some(checkpoint) => {
            let checkpoint = checkpoint.trim_start_matches('/');
            (OTHER, format!("{checkpoint}/{}", paths::METADATA))
        }
        None => (folder, paths::METADATA.to_owned()),
    }
}
