//! Which checkpoints a job still has a use for, and who may still write some, by what the log says of it. Pure.

use weir_common::ids::{AttemptId, CheckpointId};
use weir_proto::v1;
use weir_snapshot::gc;

use crate::meta::view::has_ended;

/// Those in the job's checkpoint folder; savepoints lie elsewhere and are not the job's. A job that was cancelled or has done its work
/// needs none; one that has failed keeps them, someone may want to start from them.
pub fn retained(job: &v1::JobRecord) -> Vec<CheckpointId> {
    let own = job.checkpoints.iter();
    let own = own.filter(|checkpoint| !checkpoint.savepoint && !job.cleaning);
    own.map(|c| CheckpointId(c.checkpoint_id)).collect()
}

/// Those that the log has forgotten between two looks at it.
pub fn dropped(before: &[CheckpointId], retained: &[CheckpointId]) -> Vec<CheckpointId> {
    let forgotten = before.iter().filter(|id| !retained.contains(id));
    forgotten.copied().collect()
}

/// What may still write into the checkpoint folder when an attempt that the log has is about to be deployed; `None` if the job has ended.
pub fn running(job: &v1::JobRecord) -> Option<gc::Running> {
    (!has_ended(job.state())).then_some(gc::Running {
        attempt: AttemptId(job.attempt),
        settled: CheckpointId(job.next_checkpoint_id.saturating_sub(1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: v1::JobState, cleaning: bool) -> v1::JobRecord {
        let info = |(checkpoint_id, savepoint)| v1::CheckpointInfo {
            checkpoint_id,
            savepoint,
            ..Default::default()
        };
        v1::JobRecord {
            state: state.into(),
            cleaning,
            attempt: 2,
            next_checkpoint_id: 6,
            checkpoints: [(3, false), (4, true), (5, false)].map(info).into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_failed_job_keeps_its_checkpoints_and_a_cancelled_one_does_not() {
        let own = [CheckpointId(3), CheckpointId(5)];
        for (state, cleaning, kept, runs) in [
            (v1::JobState::Running, false, &own[..], true),
            (v1::JobState::Failed, false, &own[..], false),
            (v1::JobState::Canceled, true, &[], false),
        ] {
            let job = job(state, cleaning);
            assert_eq!(retained(&job), kept);
            let running_is = runs.then_some(gc::Running {
                attempt: AttemptId(2),
                settled: CheckpointId(5),
            });
            assert_eq!(running(&job), running_is);
        }
    }

    #[test]
    fn what_the_log_has_forgotten_is_dropped() {
        let ids = |ids: &[u64]| ids.iter().copied().map(CheckpointId).collect::<Vec<_>>();
        assert_eq!(dropped(&ids(&[1, 2]), &ids(&[2, 3])), ids(&[1]));
        assert_eq!(dropped(&ids(&[1, 2]), &ids(&[1, 2, 3])), ids(&[]));
    }
}
