//! Names of all metrics; docs/metrics.md lists the same ones. Prometheus' conventions: unit last, `_total` for counters.

/// Labels of a subtask's metrics: `job`, `vertex`, `subtask`.
pub const RECORDS_IN: &str = "weir_records_in_total";
/// See [`RECORDS_IN`].
pub const RECORDS_OUT: &str = "weir_records_out_total";
/// Arrow bytes into a subtask.
pub const BYTES_IN: &str = "weir_bytes_in_total";
/// Arrow bytes out of a subtask.
pub const BYTES_OUT: &str = "weir_bytes_out_total";
/// Time in operators.
pub const BUSY: &str = "weir_busy_milliseconds_total";
/// Time waiting for room in an output.
pub const BACKPRESSURED: &str = "weir_backpressured_milliseconds_total";
/// Time without input.
pub const IDLE: &str = "weir_idle_milliseconds_total";
/// Wall clock minus watermark.
pub const WATERMARK_LAG: &str = "weir_watermark_lag_milliseconds";
/// Rows that came after their window was closed.
pub const LATE_RECORDS: &str = "weir_late_records_total";
/// Records that could not be decoded and were skipped.
pub const DECODE_ERRORS: &str = "weir_decode_errors_total";
/// Bytes of keyed state of a subtask (RocksDB files and memtables).
pub const STATE_BYTES: &str = "weir_state_bytes";
/// Bytes of the working sets of a subtask's operators, in memory.
pub const WORKING_SET_BYTES: &str = "weir_working_set_bytes";
/// What a task manager's memory is used for (label `holder`).
pub const MEMORY_BYTES: &str = "weir_memory_bytes";
/// How much of it each holder may take (label `holder`).
pub const MEMORY_LIMIT_BYTES: &str = "weir_memory_limit_bytes";
/// How long barriers held a vertex' stream up: labels `job`, `vertex`.
pub const CHECKPOINT_SYNC: &str = "weir_checkpoint_sync_milliseconds";
/// Labels of checkpoint metrics: `job`.
pub const CHECKPOINT_DURATION: &str = "weir_checkpoint_duration_milliseconds";
/// Size of the last completed checkpoint.
pub const CHECKPOINT_SIZE: &str = "weir_checkpoint_size_bytes";
/// Newly uploaded bytes of the last completed checkpoint.
pub const CHECKPOINT_UPLOADED: &str = "weir_checkpoint_uploaded_bytes";
/// Rows in flight in the last completed checkpoint, encoded.
pub const CHECKPOINT_IN_FLIGHT: &str = "weir_checkpoint_in_flight_bytes";
/// From the first to the last barrier, of each subtask.
pub const CHECKPOINT_ALIGNMENT: &str = "weir_checkpoint_alignment_milliseconds";
/// Completed checkpoints.
pub const CHECKPOINTS_COMPLETED: &str = "weir_checkpoints_completed_total";
/// Failed or timed-out checkpoints.
pub const CHECKPOINTS_FAILED: &str = "weir_checkpoints_failed_total";
/// Restarts of a job because of failures.
pub const JOB_RESTARTS: &str = "weir_job_restarts_total";
/// Jobs by state (label `state`).
pub const JOBS: &str = "weir_jobs";
/// Registered task managers.
pub const TASK_MANAGERS: &str = "weir_task_managers";
/// 1 on the leading job manager.
pub const RAFT_LEADER: &str = "weir_raft_leader";
/// Raft term.
pub const RAFT_TERM: &str = "weir_raft_term";
/// Latency of calls made, label `method`.
pub const RPC_LATENCY: &str = "weir_rpc_latency_milliseconds";
/// Calls and messages refused because of an older attempt or term, label `what`.
pub const FENCED: &str = "weir_fenced_total";
