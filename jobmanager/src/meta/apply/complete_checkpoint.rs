//! CompleteCheckpoint: a new restore point; those beyond the retained number are forgotten.

use weir_proto::v1;

use super::{MetaState, Outcome, Refusal, check_attempt};

/// Flink keeps one; three let a corrupt one be passed over.
pub(crate) const DEFAULT_RETAINED: u32 = 3;
/// Savepoints that are listed.
const LISTED_SAVEPOINTS: usize = 20;

pub(super) fn apply(
    state: &mut MetaState,
    command: &v1::CompleteCheckpointCommand,
) -> Result<Outcome, Refusal> {
    let job = state.active(&command.job_id)?;
    check_attempt(job, command.attempt)?;
    let Some(checkpoint) = &command.checkpoint else {
        return Err(Refusal("a checkpoint without content".to_owned()));
    };
    let newest = super::super::view::newest_checkpoint_id(job);
    if checkpoint.checkpoint_id <= newest {
        return Err(Refusal(format!(
            "checkpoint {} of job {} is not newer than {newest}",
            checkpoint.checkpoint_id, job.job_id
        )));
    }
    job.checkpoints.push(checkpoint.clone());
    let retained = match &job.graph {
        Some(v1::JobGraph {
            checkpoint: Some(config),
            ..
        }) if config.retained > 0 => config.retained,
        _ => DEFAULT_RETAINED,
    };
    forget_older(&mut job.checkpoints, false, retained as usize);
    forget_older(&mut job.checkpoints, true, LISTED_SAVEPOINTS);
    let own = job.checkpoints.iter().filter(|c| !c.savepoint).count();
    let claimed = job.claim_mode() == v1::ClaimMode::Claim && !job.from_savepoint.is_empty();
    if claimed && own >= retained as usize {
        job.subsumed_savepoint = std::mem::take(&mut job.from_savepoint);
    }
    Ok(Outcome::Done)
}

fn forget_older(checkpoints: &mut Vec<v1::CheckpointInfo>, savepoints: bool, keep: usize) {
    let of_kind = |c: &v1::CheckpointInfo| c.savepoint == savepoints;
    let mut surplus = checkpoints
        .iter()
        .filter(|c| of_kind(c))
        .count()
        .saturating_sub(keep);
    checkpoints.retain(|checkpoint| {
        let forgotten = surplus > 0 && of_kind(checkpoint);
        surplus -= usize::from(forgotten);
        !forgotten
    });
}
