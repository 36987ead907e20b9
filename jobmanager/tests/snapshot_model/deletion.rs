//! What is deleted: the real decisions read what is on the store, and their lists are worked off step by step.

use weir_common::ids::CheckpointId;
use weir_jobmanager::checkpoint::retention;
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;
use weir_snapshot::{gc, manifest, paths};

use crate::invariants::split;
use crate::leader::{Op, Then};
use crate::world::{JOB, World};

impl World {
    pub fn manifest(&self, base: &str, path: &str) -> Option<v1::Manifest> {
        let bytes = self.store.get(&format!("{base}/{path}"))?;
        manifest::decode(bytes).ok()
    }

    pub fn manifests(&self, ids: &[CheckpointId]) -> Option<Vec<v1::Manifest>> {
        let read = |id: &CheckpointId| self.manifest(&self.base, &paths::checkpoint_manifest(*id));
        ids.iter().map(read).collect()
    }

    pub fn urls(&self, base: &str, paths: &[String]) -> Vec<String> {
        paths.iter().map(|path| format!("{base}/{path}")).collect()
    }

    pub fn collect(&mut self, leader: usize, dropped: &[CheckpointId], retained: &[CheckpointId]) {
        let (Some(kept), Some(dropped)) = (self.manifests(retained), self.manifests(dropped))
        else {
            self.known.untidy = true;
            return;
        };
        self.marks.push("a checkpoint is collected");
        let kept: Vec<&v1::Manifest> = kept.iter().collect();
        let mut groups = Vec::new();
        for manifest in &dropped {
            let doomed = self.urls(&self.base, &gc::of_dropped(manifest, &kept));
            let (manifest, files) = doomed.split_at(1);
            groups.extend([manifest.to_vec(), files.to_vec()]);
        }
        self.leaders[leader].ops.push(Op::Delete(groups, None));
    }

    pub fn sweep(
        &mut self,
        leader: usize,
        kept: &[CheckpointId],
        running: Option<gc::Running>,
        again: bool,
    ) {
        let then = match (running, again) {
            (Some(_), _) => None,
            (None, false) => Some(Then::SweepAgain),
            (None, true) => self.log.job().cleaning.then_some(Then::Cleaned),
        };
        let Some(kept) = self.manifests(kept) else {
            self.known.untidy = true;
            return;
        };
        let kept: Vec<&v1::Manifest> = kept.iter().collect();
        let doomed = gc::orphans(&self.store.list(&self.base), &kept, running);
        if running.is_none() || running == retention::running(&self.log.job()) {
            self.known.untidy = false;
        }
        if !doomed.is_empty() {
            self.marks.push("orphans are swept");
        }
        let groups = vec![self.urls(&self.base, &doomed)];
        self.leaders[leader].ops.push(Op::Delete(groups, then));
    }

    pub fn delete_claimed(&mut self, leader: usize, path: String) {
        let (base, manifest_path) = split(&path);
        let then = Some(Then::Deleted(path.clone()));
        let Some(manifest) = self.manifest(base, &manifest_path) else {
            self.leaders[leader].ops.push(Op::Delete(Vec::new(), then));
            return;
        };
        self.marks.push("a claimed snapshot is deleted");
        let mut beside = Vec::new();
        if manifest.kind() == v1::SnapshotKind::Checkpoint {
            let listed = self.store.list(base).into_iter().map(|object| object.path);
            let others = listed.filter(|path| {
                *path != manifest_path && matches!(paths::kind_of(path), paths::Kind::Manifest(_))
            });
            beside.extend(others.filter_map(|path| self.manifest(base, &path)));
        }
        let beside: Vec<&v1::Manifest> = beside.iter().collect();
        let doomed = gc::of_claimed(&manifest_path, &manifest, &beside);
        let doomed = self.urls(base, &doomed);
        let (files, manifest) = doomed.split_at(doomed.len() - 1);
        let groups = vec![files.to_vec(), manifest.to_vec()];
        self.leaders[leader].ops.push(Op::Delete(groups, then));
    }

    pub fn note_deleted(&mut self, leader: usize, then: Option<Then>) {
        let job_id = JOB.to_owned();
        let entry = match then {
            None => return,
            Some(Then::SweepAgain) => {
                let again = sweep_after(&self.log.job(), true);
                return self.leaders[leader].ops.push(again);
            }
            Some(Then::Cleaned) => Command::JobCleaned(v1::JobCleanedCommand { job_id }),
            Some(Then::Deleted(path)) => {
                Command::SavepointDeleted(v1::SavepointDeletedCommand { job_id, path })
            }
        };
        let term = self.leaders[leader].term;
        if self.propose(term, entry).is_none() {
            self.retire(leader);
        }
    }
}

/// What is deleted that nobody has a use for, by what the log says.
pub fn sweep_after(job: &v1::JobRecord, again: bool) -> Op {
    Op::Sweep {
        kept: retention::retained(job),
        running: retention::running(job),
        again,
    }
}
