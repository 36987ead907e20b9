//! What a connector implements to be read from.

use bytes::Bytes;

use crate::batch::Batch;
use crate::error::Result;

/// What a poll of a reader gave.
#[derive(Debug)]
pub enum SourceEvent {
    /// Rows of one split, in the split's order, with the columns of `read_schema`. `split` is the reader's own number of the split
    /// (stable while the reader lives): the watermark is kept for each.
    Batch {
        /// Split of the rows.
        split: u32,
        /// Never empty.
        batch: Batch,
    },
    /// A split begins: it holds the watermark back from now on, until it has rows, turns idle or ends.
    SplitStarted(u32),
    /// A split has no more rows.
    SplitFinished(u32),
    /// Nothing now. The reader wakes the slot (see [`crate::OpenContext::waker`]) when there is.
    Pending,
    /// All splits of this reader have ended and no new one will come.
    EndOfData,
}

/// Reads the splits (partitions, shards, files, ranges) that fall to one subtask.
///
/// Splits are found by every subtask alike and dealt out by a rule that depends on nothing but the split and the parallelism, so that
/// no assignment needs to be agreed upon. State is kept a split, with UNION redistribution: at restore each reader gets the
/// states of all splits and picks its own, so a job can start at any parallelism.
///
/// Runs on the slot's thread and must not block: I/O happens on threads or tasks of the reader's own, which hand over by a bounded queue.
pub trait SourceReader: Send {
    /// Next event. Called again at once after anything but `Pending` and `EndOfData`.
    fn poll(&mut self) -> Result<SourceEvent>;

    /// State of each split as of the last polled batch. One item a split, self-describing (it names its split), versioned by its first byte.
    /// Items of splits that this reader was given at restore but does not own are not returned.
    fn snapshot(&mut self) -> Result<Vec<Bytes>>;

    /// The checkpoint with this reader's snapshot is complete (Kafka: offsets may be committed to the group). Must not block.
    fn checkpoint_completed(&mut self, checkpoint_id: u64) -> Result<()> {
        let _ = checkpoint_id;
        Ok(())
    }

    /// The reader has not named all splits that it knows of, or does not know them yet. It holds the watermark back while that is so, also
    /// when none of those it has named is open: what is read of the next ones is not to be late.
    fn is_discovering(&self) -> bool {
        false
    }

    /// Stops threads and closes connections.
    fn close(&mut self) {}
}
