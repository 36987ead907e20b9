//! What an operator implements and what it gets.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use weir_common::clock::Clock;
use weir_common::ids::{AttemptId, CheckpointId, JobId};
use weir_common::key_group::KeyGroupRange;
use weir_proto::v1::operator_state::Redistribution;

use crate::batch::Batch;
use crate::error::Result;
use crate::state::KeyedState;
use crate::waker::SlotWaker;

/// Work that runs beside the stream, on a thread that may block.
pub type Deferred<T> = Box<dyn FnOnce() -> Result<T> + Send>;

/// A step of the dataflow, alone on its thread: all methods are called by one slot's thread, in the order of the stream.
///
/// Order of calls: `open`; then any of `process`, `watermark`, `tick`, `snapshot`, `write_frozen`, `checkpoint_completed`; `end_of_data` at most
/// once, after which only `snapshot`, `write_frozen` and `checkpoint_completed` come; `close`. An error ends the attempt.
pub trait Operator: Send {
    /// Before the first element. Restored state is in `context`.
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()>;

    /// Whether the operator can take a batch now; sinks with a full buffer say no, and wake the slot later.
    fn ready(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// Whether [`snapshot`](Self::snapshot) may be called while [`ready`](Self::ready) says no. What is true once need not last; it must become
    /// true soon, and without a batch being taken.
    fn can_be_cut(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// Rows on an input (0, or 1 for the right side of a join).
    fn process(&mut self, input: usize, batch: Batch, context: &mut Context<'_>) -> Result<()>;

    /// Event time has come to `watermark_ms` on all inputs. The operator emits what this completes; the runtime forwards the watermark afterwards.
    /// Returns the watermark to forward: usually the same; never a smaller one than before.
    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        let _ = context;
        Ok(watermark_ms)
    }

    /// Processing time has come to `context.now_ms`. Called about every 100 ms and before a snapshot.
    fn tick(&mut self, context: &mut Context<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// All inputs have ended (after the last watermark, `i64::MAX`): emit what is left.
    fn end_of_data(&mut self, context: &mut Context<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// The cut. Changed keyed state is written to `context.state`, or frozen as it is and written by [`Self::write_frozen`] while the stream
    /// goes on: the barrier waits for this call, so it must not take longer for more state. What belongs to no key is returned.
    /// An operator that buffers for throughput only (local aggregation) emits its buffer here, before the barrier goes on.
    fn snapshot(
        &mut self,
        checkpoint: CheckpointId,
        context: &mut Context<'_>,
    ) -> Result<SnapshotPart> {
        let _ = (checkpoint, context);
        Ok(SnapshotPart::default())
    }

    /// Writes a small part (about a millisecond's work) of what [`Self::snapshot`] froze; `true` if more is left. Called between elements until it
    /// says `false`, and always before the next snapshot.
    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let _ = context;
        Ok(false)
    }

    /// What the working set takes of [`OpenContext::memory_bytes`], in bytes.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// The checkpoint is complete everywhere. Returns what is to be done for it beside the stream (commits).
    fn checkpoint_completed(&mut self, checkpoint: CheckpointId) -> Result<Option<Deferred<()>>> {
        let _ = checkpoint;
        Ok(None)
    }

    /// Fingerprint of the layout of the keyed state: key types, accumulators. Restore refuses another one.
    fn state_schema(&self) -> String {
        String::new()
    }

    /// The end of the attempt, in success and failure.
    fn close(&mut self) {}
}

/// What belongs to no key, at a cut.
#[derive(Default)]
pub struct SnapshotPart {
    /// Known at once.
    pub states: OperatorStates,
    /// More of them, after work beside the stream.
    pub deferred: Option<Deferred<OperatorStates>>,
}

/// Named lists of opaque items that belong to no key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OperatorStates(Vec<weir_proto::v1::OperatorState>);

impl OperatorStates {
    /// From restored parts of several subtasks; lists of one name are joined in the order given.
    pub fn from_parts(parts: impl IntoIterator<Item = weir_proto::v1::OperatorState>) -> Self {
        let mut joined: Vec<weir_proto::v1::OperatorState> = Vec::new();
        for part in parts {
            match joined.iter_mut().find(|state| state.name == part.name) {
                Some(state) => state.items.extend(part.items),
                None => joined.push(part),
            }
        }
        Self(joined)
    }

    /// Adds a list.
    pub fn put(&mut self, name: &str, redistribution: Redistribution, items: Vec<Bytes>) {
        self.0.push(weir_proto::v1::OperatorState {
            name: name.to_owned(),
            redistribution: redistribution.into(),
            items,
        });
    }

    /// Items of a list; empty if there is none of that name.
    pub fn get(&self, name: &str) -> &[Bytes] {
        self.0
            .iter()
            .find(|state| state.name == name)
            .map_or(&[], |state| &state.items)
    }

    /// For the wire.
    pub fn into_inner(self) -> Vec<weir_proto::v1::OperatorState> {
        self.0
    }

    /// Adds all lists of another.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Who an operator instance is.
#[derive(Debug, Clone)]
pub struct OperatorInfo {
    /// The job.
    pub job: JobId,
    /// Name of the job, for people and for external names.
    pub job_name: Arc<str>,
    /// This run of it.
    pub attempt: AttemptId,
    /// Stable identity of the operator.
    pub uid: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// 0-based.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups of the job.
    pub max_parallelism: u32,
}

impl OperatorInfo {
    /// The key groups of this subtask.
    pub fn key_groups(&self) -> KeyGroupRange {
        KeyGroupRange::of_subtask(self.subtask, self.max_parallelism, self.parallelism)
    }
}

/// What an operator is opened with.
pub struct OpenContext {
    /// Who it is.
    pub info: OperatorInfo,
    /// Schema of each input; none for a source.
    pub input_schemas: Vec<SchemaRef>,
    /// What it is to emit; empty for a sink.
    pub output_schema: SchemaRef,
    /// Restored lists: UNION ones whole, of SPLIT ones this subtask's share. Empty at a fresh start.
    pub restored: OperatorStates,
    /// Whether the attempt was started from a snapshot.
    pub is_restored: bool,
    /// Wakes this operator's slot.
    pub waker: SlotWaker,
    /// Wall clock.
    pub clock: Clock,
    /// Memory that this operator's caches may take, in bytes; beyond it they go to the state backend.
    pub memory_bytes: usize,
    /// The job's options (SET).
    pub job_options: Arc<std::collections::BTreeMap<String, String>>,
    /// The access to object stores of this process.
    pub s3: weir_common::config::S3Config,
}

/// What an operator works with while an element is processed.
pub struct Context<'a> {
    /// The keyed state of this operator.
    pub state: &'a mut dyn KeyedState,
    /// Where its rows go.
    pub out: &'a mut dyn Output,
    /// Wall clock, milliseconds UTC.
    pub now_ms: i64,
}

/// Takes what an operator emits: the next operator of the chain, or the partitioner.
pub trait Output {
    /// Rows of the operator's output schema; an empty batch is dropped.
    fn emit(&mut self, batch: Batch) -> Result<()>;
}

impl Output for Vec<Batch> {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        if batch.num_rows() > 0 {
            self.push(batch);
        }
        Ok(())
    }
}
