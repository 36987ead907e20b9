//! The layout of an aggregation's state in words. It travels in the snapshot, and a restore into another layout is refused.

use bytes::Bytes;
use weir_dataflow::key::KeyEncoder;
use weir_dataflow::state::LAYOUT_LIST;
use weir_dataflow::{Error, OpenContext, OperatorStates, Result};
use weir_proto::v1::operator_state::Redistribution;

use crate::accumulator::AggregatePlan;

/// Of keys and accumulators.
pub fn of(operator: &str, encoder: &KeyEncoder, plan: &AggregatePlan) -> String {
    let keys: Vec<String> = encoder.types().iter().map(ToString::to_string).collect();
    format!(
        "{operator}, layout 1, keys ({}), accumulators ({})",
        keys.join(", "),
        plan.fingerprint()
    )
}

/// Puts it into a snapshot.
pub fn put(states: &mut OperatorStates, fingerprint: Bytes) {
    states.put(LAYOUT_LIST, Redistribution::Union, vec![fingerprint]);
}

/// Compares it with the one that is restored.
pub fn check(context: &OpenContext, expected: &str) -> Result<()> {
    for found in context.restored.get(LAYOUT_LIST) {
        if found != expected.as_bytes() {
            return Err(Error::Restore(format!(
                "operator '{}' keeps another state than the snapshot has. In the snapshot: {}. Now: {expected}",
                context.info.name,
                String::from_utf8_lossy(found),
            )));
        }
    }
    Ok(())
}
