//! What travels on a channel, in order.

use std::sync::Arc;

use weir_common::ids::CheckpointId;

use crate::batch::Batch;

/// One element of a channel between subtasks.
#[derive(Debug, Clone)]
pub enum Element {
    /// Rows.
    Batch(Batch),
    /// No later row of this channel has an event time at or below this (milliseconds UTC).
    /// `i64::MAX` is the last one, at the end of the input.
    Watermark(i64),
    /// The channel does not hold the watermark back until its next batch or watermark.
    Idle,
    /// The cut of a snapshot.
    Barrier(Barrier),
    /// No batch and no watermark follow; barriers still may.
    EndOfData,
}

/// Separates what belongs to a snapshot from what comes after it (Chandy–Lamport, as in Carbone et al.,
/// "Lightweight Asynchronous Snapshots for Distributed Dataflows", 2015).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// Which snapshot.
    pub checkpoint: CheckpointId,
    /// When it was triggered, milliseconds UTC.
    pub timestamp_ms: i64,
    /// Where the files go.
    pub target: SnapshotTarget,
    /// Sources read nothing more after this barrier; end of data follows it.
    pub stop_sources: bool,
    /// From this time on (milliseconds UTC) the barrier does not wait in line: it overtakes the rows in front of it, and these go into
    /// the snapshot (an unaligned checkpoint). `None`: it always waits.
    pub overtakes_from_ms: Option<i64>,
}

impl Barrier {
    /// It does not wait in line any more.
    pub fn overtakes(&self, now_ms: i64) -> bool {
        self.overtakes_from_ms.is_some_and(|from| from <= now_ms)
    }
}

/// Where a snapshot's files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotTarget {
    /// The job's checkpoint folder; files that are there already are shared.
    Checkpoint,
    /// A self-contained folder of its own (URL).
    Savepoint(Arc<str>),
}
