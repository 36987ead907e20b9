//! Who holds how much of the task manager's memory, as metrics.

use metrics::gauge;
use weir_common::memory::MemoryBudget;
use weir_common::metric_names::{MEMORY_BYTES, MEMORY_LIMIT_BYTES};
use weir_proto::v1;

use crate::node::Node;

/// `running` is what the heartbeat tells.
pub fn report(node: &Node, running: &[v1::RunningAttempt]) {
    let subtasks = running.iter().flat_map(|attempt| &attempt.subtasks);
    let metrics = subtasks.filter_map(|status| status.metrics);
    let working_sets = metrics.map(|metrics| metrics.memory_bytes).sum();
    let used = |holder| match holder {
        "rocksdb" => Some(node.memory.used_bytes()),
        "working_sets" => Some(working_sets),
        "writes" => Some(node.memory.queued_bytes()),
        "exchange" => Some(node.exchange_memory.used_bytes()),
        _ => None,
    };
    let budget = MemoryBudget::of(node.options.config.memory_bytes);
    for (holder, limit) in budget.holders() {
        gauge!(MEMORY_LIMIT_BYTES, "holder" => holder).set(limit as f64);
        if let Some(bytes) = used(holder) {
            gauge!(MEMORY_BYTES, "holder" => holder).set(bytes as f64);
        }
    }
}
