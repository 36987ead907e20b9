//! What a connector implements to be written to.

use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Batch;
use crate::error::Result;
use crate::operator::Deferred;

/// Writes the rows of one subtask.
///
/// Exactly-once sinks are two-phase: [`prepare`](Self::prepare) closes what was written up to the barrier and gives committables, which go
/// into the snapshot; after the checkpoint is complete they go to the [`Committer`]; after a crash the restored ones do, before
/// the first new row. Committables of checkpoints that never completed are not seen again: what they name must stay invisible.
///
/// Runs on the slot's thread and must not block: I/O happens elsewhere, behind a bounded buffer.
pub trait SinkWriter: Send {
    /// False while the buffer is full: the subtask takes no input until the writer wakes the slot. Errors of I/O in the background surface here.
    fn ready(&mut self) -> Result<bool>;

    /// Whether [`prepare`](Self::prepare) may be called while [`ready`](Self::ready) says no. It must become true soon, however slow the
    /// system is.
    fn can_prepare(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// Takes rows (columns of the sink's schema). Called only after `ready` gave true.
    fn write(&mut self, batch: &Batch) -> Result<()>;

    /// The barrier of `checkpoint_id`, or the end of the data, is reached: everything written so far is to be made durable. The returned
    /// work runs beside the stream (new rows may be written meanwhile and do not belong to it) and gives the committables, none for an
    /// at-least-once sink.
    fn prepare(&mut self, checkpoint_id: u64) -> Result<Deferred<Vec<Bytes>>>;

    /// Makes committables visible; `None` for sinks that have none.
    fn committer(&self) -> Option<Arc<dyn Committer>> {
        None
    }

    /// Stops threads and closes connections; what was not committed is aborted where that is possible.
    fn close(&mut self) {}
}

/// The second phase. Runs off the slot's thread and may block.
pub trait Committer: Send + Sync {
    /// Makes them visible. Idempotent: one that was committed before (by this or an earlier attempt) is success. Restored ones are committed by
    /// all subtasks, at the same time. An error is retried by a restart of the job, with the same committables.
    fn commit(&self, committables: &[Bytes]) -> Result<()>;

    /// Before the first row of a new attempt, after all restored committables (of all subtasks) are committed: aborts what earlier attempts of
    /// this sink left open, as far as it falls to this subtask.
    fn abort_leftovers(&self) -> Result<()> {
        Ok(())
    }
}
