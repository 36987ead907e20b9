//! The part of a subtask's snapshot that runs beside the stream: deferred work of operators, upload of files, acknowledgement.
//!
//! The cuts of a subtask are worked off one after the other, in order, also those of checkpoints that were given up meanwhile: a sink's
//! rows of a given-up checkpoint belong to the next one.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use weir_common::ids::SubtaskId;
use weir_dataflow::{Error, Result};
use weir_proto::v1;

use crate::attempt::Attempt;
use crate::chain::OperatorCut;
use crate::slot::guarded;
use crate::subtask::{Cut, millis};

/// Cuts that wait for those before them.
pub type CutQueue = mpsc::Sender<Cut>;

/// Most cuts of one subtask that wait.
const CUTS: usize = 64;

/// Starts the task that works a subtask's cuts off.
pub fn cut_queue(attempt: &Arc<Attempt>, subtask: SubtaskId) -> CutQueue {
    let (queue, mut inbox) = mpsc::channel::<Cut>(CUTS);
    let own = Arc::clone(attempt);
    attempt.spawn(async move {
        while let Some(cut) = inbox.recv().await {
            complete(&own, subtask, cut).await;
        }
    });
    queue
}

async fn complete(attempt: &Arc<Attempt>, subtask: SubtaskId, cut: Cut) {
    let checkpoint = cut.barrier.checkpoint;
    let started = Instant::now();
    let operators = match beside(attempt, move || finish(cut.operators)).await {
        Some(Ok(operators)) => operators,
        Some(Err(error)) => {
            return attempt
                .decline(subtask, checkpoint.0, error.to_string())
                .await;
        }
        None => return,
    };
    let mut done = v1::SubtaskAcknowledgement {
        checkpoint_id: checkpoint.0,
        subtask: Some(subtask.into()),
        operators,
        sync_ms: cut.sync_ms,
        alignment_ms: cut.alignment_ms,
        async_ms: 0,
    };
    if let Some(follows) = cut.in_flight {
        // The subtask gives it up when the checkpoint is aborted, a newer one overtakes it, or the attempt ends.
        let Ok(recorded) = follows.await else {
            return;
        };
        done.alignment_ms = recorded.alignment_ms;
        let targets = Arc::clone(&attempt.targets);
        match beside(attempt, move || recorded.upload(&targets)).await {
            Some(Ok(in_flight)) => {
                if let Some(first) = done.operators.first_mut() {
                    first.in_flight = in_flight;
                }
            }
            Some(Err(error)) => {
                let reason = format!("the rows in flight cannot be stored: {error}");
                return attempt.decline(subtask, checkpoint.0, reason).await;
            }
            None => return,
        }
    }
    done.async_ms = millis(started.elapsed());
    attempt.acknowledge(done).await;
}

/// On a thread that may block. `None`: the runtime is shutting down.
async fn beside<T: Send + 'static>(
    attempt: &Attempt,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Option<Result<T>> {
    let work = attempt.tracker.spawn_blocking(move || guarded(work));
    work.await.ok()
}

/// Every operator's deferred work runs, also when one before it has failed: it may hold rows of a sink.
pub fn finish(cuts: Vec<OperatorCut>) -> Result<Vec<v1::OperatorSnapshot>> {
    let finished: Vec<_> = cuts.into_iter().map(finish_one).collect();
    let parts: Result<Vec<_>> = finished.into_iter().collect();
    Ok(parts?.into_iter().flatten().collect())
}

/// The first part has everything but the keyed state of the others.
fn finish_one(cut: OperatorCut) -> Result<Vec<v1::OperatorSnapshot>> {
    let mut states = cut.part.states;
    let deferred = cut.part.deferred.map(|work| work()).transpose();
    let keyed = cut.keyed.map(|upload| upload()).transpose()?;
    let name = |error: Error| Error::External {
        system: "checkpoint",
        message: format!("operator '{}': {error}", cut.info.name),
    };
    if let Some(more) = deferred.map_err(name)? {
        states.extend(more);
    }
    let mut keyed = keyed.unwrap_or_default().into_iter();
    let first = v1::OperatorSnapshot {
        operator_uid: cut.info.uid.to_string(),
        operator_name: cut.info.name.to_string(),
        subtask: cut.info.subtask,
        parallelism: cut.info.parallelism,
        keyed: keyed.next(),
        states: states.into_inner(),
        state_schema: cut.state_schema,
        in_flight: None,
    };
    let further = v1::OperatorSnapshot {
        states: Vec::new(),
        ..first.clone()
    };
    let others = keyed.map(|part| v1::OperatorSnapshot {
        keyed: Some(part),
        ..further.clone()
    });
    Ok(std::iter::once(first).chain(others).collect())
}
