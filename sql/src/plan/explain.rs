//! EXPLAIN: the operators as a tree from the sink to the sources.

use std::fmt::Write as _;

use weir_proto::v1::{JobGraph, Partitioning, operator::Kind};

use super::graph::{consumers, layout};
use super::lower::{Input, Lowering, NodeId};

/// One tree a sink. A part that was shown already is named only.
pub(super) fn explain(lowering: &Lowering, parallelism: u32, changelog_mode: bool) -> String {
    let layout = layout(&lowering.nodes, parallelism);
    let mut printer = Printer {
        lowering,
        changelog_mode,
        parallelism: (0..lowering.nodes.len())
            .map(|node| layout.parallelism[layout.vertex_of[node]])
            .collect(),
        shown: vec![None; lowering.nodes.len()],
        shared: consumers(&lowering.nodes)
            .into_iter()
            .map(|count| count > 1)
            .collect(),
        out: String::new(),
    };
    for (id, node) in lowering.nodes.iter().enumerate() {
        if matches!(node.kind, Kind::Sink(_)) {
            printer.node(id, None, 0);
        }
    }
    printer.out
}

/// What EXPLAIN PLAN_ADVICE adds.
pub(super) fn advice(found: &[String]) -> String {
    if found.is_empty() {
        return "\nNo available advice...\n".to_owned();
    }
    let lines = found.iter().zip(1..);
    let lines = lines.map(|(advice, number)| format!("advice[{number}]: [WARNING] {advice}.\n"));
    format!("\n{}", lines.collect::<String>())
}

/// The job's vertices as Flink writes its JSON execution plan.
pub(super) fn json(graph: &JobGraph) -> String {
    let nodes = graph.vertices.iter().map(|vertex| {
        let inputs = graph.edges.iter().filter(|edge| edge.target_vertex == vertex.id);
        let predecessors: Vec<_> = inputs
            .map(|edge| {
                serde_json::json!({
                    "id": edge.source_vertex,
                    "ship_strategy": edge.partitioning().as_str_name().trim_start_matches("PARTITIONING_"),
                })
            })
            .collect();
        let mut node = serde_json::json!({
            "id": vertex.id,
            "type": vertex.name,
            "parallelism": vertex.parallelism,
        });
        if !predecessors.is_empty() {
            node["predecessors"] = predecessors.into();
        }
        node
    });
    let plan = serde_json::json!({ "nodes": nodes.collect::<Vec<_>>() });
    format!("{plan:#}")
}

struct Printer<'a> {
    lowering: &'a Lowering,
    changelog_mode: bool,
    parallelism: Vec<u32>,
    /// Number under which a shared node was shown.
    shown: Vec<Option<usize>>,
    shared: Vec<bool>,
    out: String,
}

impl Printer<'_> {
    fn node(&mut self, id: NodeId, edge: Option<&Input>, depth: usize) {
        if depth > 0 {
            self.out.push_str(&"   ".repeat(depth - 1));
            self.out.push_str("+- ");
        }
        if let Some(edge) = edge {
            self.exchange(edge);
        }
        if let Some(number) = self.shown[id] {
            let _ = writeln!(self.out, "Reused(reference_id=[{number}])");
            return;
        }
        let lowering = self.lowering;
        let node = &lowering.nodes[id];
        let kind = match node.kind {
            Kind::Source(_) => "Source",
            Kind::Sink(_) => "Sink",
            _ => node.name.as_str(),
        };
        let _ = write!(self.out, "{kind}({}", node.detail);
        if self.changelog_mode {
            let _ = write!(
                self.out,
                ", changelogMode=[{}]",
                changelog(self.lowering, id)
            );
        }
        let _ = write!(self.out, ") parallelism={}", self.parallelism[id]);
        if let Some(state) = state(&node.kind) {
            let _ = write!(self.out, " state=[{state}]");
        }
        if self.shared[id] {
            let number = self.shown.iter().flatten().count() + 1;
            self.shown[id] = Some(number);
            let _ = write!(self.out, " reuse_id=[{number}]");
        }
        self.out.push('\n');
        for input in &node.inputs {
            self.node(input.from, Some(input), depth + 1);
        }
    }

    fn exchange(&mut self, edge: &Input) {
        let _ = match edge.partitioning {
            Partitioning::Hash => {
                let schema = self.lowering.schema_of(edge.from).ok();
                let names: Vec<_> = edge
                    .keys
                    .iter()
                    .map(
                        |key| match schema.as_ref().and_then(|s| s.fields().get(*key as usize)) {
                            Some(field) => field.name().clone(),
                            None => format!("#{key}"),
                        },
                    )
                    .collect();
                write!(self.out, "[hash {}] ", names.join(", "))
            }
            Partitioning::Global => write!(self.out, "[single] "),
            Partitioning::Rebalance => write!(self.out, "[rebalance] "),
            Partitioning::Broadcast => write!(self.out, "[broadcast] "),
            Partitioning::Forward | Partitioning::Unspecified => Ok(()),
        };
    }
}

/// What an operator keeps between batches.
fn state(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::Source(_) => Some("positions of the splits"),
        Kind::WindowAggregate(aggregate) => match aggregate.phase() {
            weir_proto::v1::window_aggregate::Phase::Local => None,
            _ => Some("an accumulator a key and window"),
        },
        Kind::GroupAggregate(aggregate) => match aggregate.phase() {
            weir_proto::v1::window_aggregate::Phase::Local => None,
            _ => Some("an accumulator a key"),
        },
        Kind::WindowJoin(_) | Kind::WindowRank(_) => Some("rows of open windows"),
        Kind::Join(_) => Some("all rows of both inputs"),
        Kind::Deduplicate(_) | Kind::ChangelogNormalize(_) => Some("a row a key"),
        Kind::Sort(sort) if sort.time_column.is_some() => Some("rows ahead of the watermark"),
        Kind::Sort(_) => Some("all rows"),
        Kind::Rank(rank) if rank.input_retracts => Some("all rows"),
        Kind::Rank(_) => Some("the first rows of a partition"),
        Kind::MatchRecognize(_) => Some("rows of matches under way"),
        _ => None,
    }
}

/// The row kinds that a node emits (a sink: takes).
fn changelog(lowering: &Lowering, id: NodeId) -> &'static str {
    let node = &lowering.nodes[id];
    if !node.updating {
        return "I";
    }
    if has_update_before(lowering, id) {
        "I,UB,UA,D"
    } else {
        "I,UA,D"
    }
}

fn has_update_before(lowering: &Lowering, id: NodeId) -> bool {
    let node = &lowering.nodes[id];
    match &node.kind {
        Kind::GroupAggregate(aggregate) => aggregate.emit_update_before,
        Kind::Deduplicate(deduplicate) => deduplicate.emit_update_before,
        Kind::Rank(rank) => rank.emit_update_before,
        Kind::ChangelogNormalize(normalize) => normalize.emit_update_before,
        Kind::Source(_) | Kind::Join(_) | Kind::ChangelogConversion(_) => true,
        _ => node.inputs.iter().any(|input| {
            lowering.nodes[input.from].updating && has_update_before(lowering, input.from)
        }),
    }
}
