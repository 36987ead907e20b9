//! What a connector is opened with.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use tokio::runtime::Handle;
use weir_common::clock::Clock;
use weir_common::config::S3Config;
use weir_dataflow::{OpenContext, OperatorInfo, SlotWaker};

/// For [`crate::open_source`].
#[derive(Clone)]
pub struct SourceContext {
    /// Which subtask this is.
    pub info: OperatorInfo,
    /// What to deliver: the decoded `read_schema`.
    pub schema: SchemaRef,
    /// States of ALL splits of the operator, whichever subtask wrote them; the reader picks its own.
    pub restored: Vec<Bytes>,
    /// Whether the attempt was started from a snapshot (which may hold no split).
    pub is_restored: bool,
    /// Wakes the slot when a reader that said `Pending` has something.
    pub waker: SlotWaker,
    /// Wall clock.
    pub clock: Clock,
    /// Access to object stores.
    pub s3: S3Config,
    /// Flink configuration keys of the job (SET).
    pub job_options: Arc<BTreeMap<String, String>>,
    /// Where asynchronous I/O runs. Never the slot's thread.
    pub runtime: Handle,
}

/// For [`crate::open_sink`].
#[derive(Clone)]
pub struct SinkContext {
    /// Which subtask this is.
    pub info: OperatorInfo,
    /// What is written: the decoded schema of the sink.
    pub schema: SchemaRef,
    /// Whether the attempt was started from a snapshot.
    pub is_restored: bool,
    /// Wakes the slot when a writer that was not ready has room again.
    pub waker: SlotWaker,
    /// Wall clock.
    pub clock: Clock,
    /// Access to object stores.
    pub s3: S3Config,
    /// Flink configuration keys of the job (SET).
    pub job_options: Arc<BTreeMap<String, String>>,
    /// Where asynchronous I/O runs. Never the slot's thread.
    pub runtime: Handle,
}

impl SourceContext {
    /// From what an operator is opened with. `restored` are the items of all splits.
    pub fn new(
        open: &OpenContext,
        schema: SchemaRef,
        restored: Vec<Bytes>,
        runtime: Handle,
    ) -> Self {
        Self {
            info: open.info.clone(),
            schema,
            restored,
            is_restored: open.is_restored,
            waker: open.waker.clone(),
            clock: open.clock.clone(),
            s3: open.s3.clone(),
            job_options: Arc::clone(&open.job_options),
            runtime,
        }
    }
}

impl SinkContext {
    /// From what an operator is opened with.
    pub fn new(open: &OpenContext, schema: SchemaRef, runtime: Handle) -> Self {
        Self {
            info: open.info.clone(),
            schema,
            is_restored: open.is_restored,
            waker: open.waker.clone(),
            clock: open.clock.clone(),
            s3: open.s3.clone(),
            job_options: Arc::clone(&open.job_options),
            runtime,
        }
    }
}
