//! Every fixed bound in one place. What a user may want to change is in `config` instead.

use std::time::Duration;

/// Rows in a batch that a source makes under load.
pub const BATCH_ROWS: usize = 8192;
/// Elements in the queue of a channel between subtasks of one process, and credits of a remote one.
pub const CHANNEL_ELEMENTS: usize = 8;
/// Largest gRPC message of control traffic, in bytes.
pub const CONTROL_MESSAGE_BYTES: usize = 64 << 20;
/// Largest gRPC message of the exchange, in bytes.
pub const EXCHANGE_MESSAGE_BYTES: usize = 256 << 20;
/// Largest SQL script, in bytes.
pub const SQL_SCRIPT_BYTES: usize = 4 << 20;
/// Time-out of one control call between job and task manager.
pub const CONTROL_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time-out of connecting to a peer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest parallelism of a vertex.
pub const PARALLELISM_MAX: u32 = 4096;
