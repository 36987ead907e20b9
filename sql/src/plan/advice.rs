//! What a person should know about a job before it runs: state that only grows, partitions that can hold back a watermark, and rows that
//! would be taken back with other values than they were written with.

use datafusion_expr::Expr;
use weir_proto::v1::operator::Kind;
use weir_proto::v1::window_aggregate::Phase;

use super::lower::{Lowering, Node};
use super::needs_update_before;
use super::rel::{Column, RelOp, RelRef};
use super::sink::SinkPlan;
use super::text;

/// Connectors whose tables have partitions that may be silent while others are not.
const PARTITIONED: [&str; 2] = ["kafka", "kinesis"];

/// One sentence or two for each thing, in the order of the operators.
pub(super) fn advice(lowering: &Lowering, sinks: &[SinkPlan]) -> Vec<String> {
    let mut found: Vec<String> = lowering
        .nodes
        .iter()
        .filter(|node| !node.bounded)
        .filter_map(|node| growing_state(node).or_else(|| silent_partitions(node)))
        .collect();
    for sink in sinks {
        changing_values(&sink.rel, !needs_update_before(sink), &mut found);
    }
    let mut said = std::collections::HashSet::new();
    found.retain(|advice| said.insert(advice.clone()));
    found
}

fn growing_state(node: &Node) -> Option<String> {
    let kept = match &node.kind {
        Kind::GroupAggregate(spec)
            if spec.phase() != Phase::Local
                && !spec.key_columns.is_empty()
                && spec.state_ttl_ms == 0 =>
        {
            "every group"
        }
        Kind::Join(spec) if spec.left_ttl_ms == 0 || spec.right_ttl_ms == 0 => {
            "all rows of its inputs"
        }
        Kind::ChangelogNormalize(spec) if spec.state_ttl_ms == 0 => "every key",
        Kind::Deduplicate(spec) if spec.state_ttl_ms == 0 => "every key",
        Kind::Rank(spec) if spec.state_ttl_ms == 0 && spec.input_retracts => {
            "all rows of its input"
        }
        Kind::Rank(spec) if spec.state_ttl_ms == 0 && !spec.partition_columns.is_empty() => {
            "rows of every partition"
        }
        Kind::MatchRecognize(spec) if spec.within_ms == 0 => {
            return Some(format!(
                "{}({}) keeps the beginnings of matches until they end, however long that takes; WITHIN INTERVAL ... bounds them",
                node.name, node.detail
            ));
        }
        _ => return None,
    };
    Some(format!(
        "{}({}) keeps {kept} for ever; SET 'table.exec.state.ttl' = '1 d' frees what has not changed for a day, which is then forgotten",
        node.name, node.detail
    ))
}

fn silent_partitions(node: &Node) -> Option<String> {
    let Kind::Source(source) = &node.kind else {
        return None;
    };
    let waits = source.watermark.as_ref()?.idle_timeout_ms == 0;
    (waits && PARTITIONED.contains(&source.connector.as_str())).then(|| {
        format!(
            "a partition of '{}' without rows holds back the watermark, and with it all windows; \
             SET 'table.exec.source.idle-timeout' = '30 s' leaves out those that are silent for so long",
            source.table
        )
    })
}

/// `by_key`: what reads the relation finds a row by its key, and does not compare it with the one that it was given first.
fn changing_values(rel: &RelRef, by_key: bool, found: &mut Vec<String>) {
    let changing = |what: &str, expr: &Expr, columns: &[Column]| {
        format!(
            "{what} = {} has another value when a row is taken back than when it was given, so that it is not found again; \
             compute it in front of what makes the rows change",
            text::expr(expr, columns)
        )
    };
    let (filter, projection, read) = match &rel.op {
        RelOp::Calc {
            input,
            filter,
            projection,
        } if input.updating => (filter.as_ref(), projection, &input.columns[..]),
        _ => (None, &Vec::new(), &[][..]),
    };
    if let Some(filter) = filter.filter(|filter| filter.is_volatile()) {
        found.push(changing("WHERE", filter, read));
    }
    if !by_key {
        let computed = projection.iter().zip(&rel.columns);
        found.extend(
            computed
                .filter(|(expr, _)| expr.is_volatile())
                .map(|(expr, column)| changing(&column.name, expr, read)),
        );
    }
    let by_key = by_key && matches!(rel.op, RelOp::Calc { .. });
    for input in rel.inputs() {
        changing_values(input, by_key, found);
    }
}
