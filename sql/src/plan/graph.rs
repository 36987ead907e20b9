//! Operators become vertices: what follows one another without an exchange runs as one subtask.

use std::collections::{BTreeSet, HashSet};

use weir_proto::v1::window_aggregate::Phase;
use weir_proto::v1::{self, Partitioning, operator::Kind};
use xxhash_rust::xxh3::xxh3_128;

use super::encode;
use super::lower::{Lowering, Node, NodeId};

/// How nodes are placed.
pub(super) struct Layout {
    /// Vertex of each node.
    pub vertex_of: Vec<usize>,
    /// Nodes of each vertex, in order.
    pub chains: Vec<Vec<NodeId>>,
    pub parallelism: Vec<u32>,
}

/// Chains the nodes.
pub(super) fn layout(nodes: &[Node], parallelism: u32) -> Layout {
    let consumers = consumers(nodes);
    let mut layout = Layout {
        vertex_of: Vec::with_capacity(nodes.len()),
        chains: Vec::new(),
        parallelism: Vec::new(),
    };
    for (id, node) in nodes.iter().enumerate() {
        let joined = match node.inputs.as_slice() {
            [only]
                if only.partitioning == Partitioning::Forward
                    && consumers[only.from] == 1
                    && nodes[only.from].single == node.single =>
            {
                Some(layout.vertex_of[only.from])
            }
            _ => None,
        };
        let vertex = joined.unwrap_or_else(|| {
            layout.chains.push(Vec::new());
            layout
                .parallelism
                .push(if node.single { 1 } else { parallelism });
            layout.chains.len() - 1
        });
        layout.chains[vertex].push(id);
        layout.vertex_of.push(vertex);
    }
    layout
}

/// Vertices and edges of a job.
pub(super) fn build(lowering: &Lowering, parallelism: u32) -> (Vec<v1::Vertex>, Vec<v1::Edge>) {
    let nodes = &lowering.nodes;
    let layout = layout(nodes, parallelism);
    let uids = uids(nodes);
    let lineages = lineages(nodes);
    let mut vertices = Vec::with_capacity(layout.chains.len());
    for (id, chain) in layout.chains.iter().enumerate() {
        let names: Vec<_> = chain
            .iter()
            .map(|node| nodes[*node].name.as_str())
            .collect();
        vertices.push(v1::Vertex {
            id: encode::index(id),
            name: names.join(" -> "),
            parallelism: layout.parallelism[id],
            chain: chain
                .iter()
                .map(|node| operator(&nodes[*node], &uids[*node], &lineages[*node]))
                .collect(),
            fixed_parallelism: chain.iter().any(|node| nodes[*node].single),
        });
    }
    let mut edges = Vec::new();
    for (to, node) in nodes.iter().enumerate() {
        for input in &node.inputs {
            let (source, target) = (layout.vertex_of[input.from], layout.vertex_of[to]);
            if source == target {
                continue;
            }
            let same = layout.parallelism[source] == layout.parallelism[target];
            let partitioning = match input.partitioning {
                Partitioning::Forward if !same => Partitioning::Rebalance,
                other => other,
            };
            edges.push(v1::Edge {
                id: encode::index(edges.len()),
                source_vertex: encode::index(source),
                target_vertex: encode::index(target),
                target_input: input.target,
                partitioning: partitioning.into(),
                key_columns: input.keys.clone(),
                schema: nodes[input.from].schema.clone(),
            });
        }
    }
    (vertices, edges)
}

fn operator(node: &Node, uid: &str, lineage: &str) -> v1::Operator {
    v1::Operator {
        uid: uid.to_owned(),
        lineage: lineage.to_owned(),
        name: node.name.clone(),
        output_schema: node.schema.clone(),
        kind: Some(node.kind.clone()),
    }
}

/// Identities that say what a node means and what it is fed with, not where it stands, so that state is found again after an edit elsewhere
/// in the job. Whether a condition is checked by the source or behind it makes no difference: that depends on who else reads the table.
fn uids(nodes: &[Node]) -> Vec<String> {
    let consumers = consumers(nodes);
    let mut uids: Vec<String> = Vec::with_capacity(nodes.len());
    let mut taken = HashSet::new();
    for node in nodes {
        let mut conditions: BTreeSet<&str> = match node.kind {
            Kind::Source(_) => BTreeSet::new(),
            _ => node.conditions.iter().map(String::as_str).collect(),
        };
        let mut identity = format!("{}\n{}", node.name, node.meaning);
        for input in &node.inputs {
            identity.push_str(&format!("\n{} {}", input.target, uids[input.from]));
            let from = &nodes[input.from];
            if matches!(from.kind, Kind::Source(_)) && consumers[input.from] == 1 {
                conditions.extend(from.conditions.iter().map(String::as_str));
            }
        }
        for condition in conditions {
            identity.push_str(&format!("\nwhere {condition}"));
        }
        uids.push(unique(&identity, &mut taken));
    }
    uids
}

/// What nodes do without the columns that they select and compute, so that the state of one whose columns were edited is found again.
/// Nodes that only pass rows on are looked through; their conditions count with the node that follows.
fn lineages(nodes: &[Node]) -> Vec<String> {
    let mut passed: Vec<BTreeSet<&str>> = Vec::with_capacity(nodes.len());
    let mut lineages: Vec<String> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let inputs = || node.inputs.iter().map(|input| input.from);
        let mut conditions: BTreeSet<&str> = node.conditions.iter().map(String::as_str).collect();
        conditions.extend(inputs().flat_map(|from| passed[from].iter().copied()));
        let columns_aside = node
            .meaning
            .split("aggregates=[")
            .next()
            .unwrap_or_default();
        let mut identity = match &node.kind {
            Kind::Calc(_) => String::new(),
            Kind::WindowAggregate(spec) if spec.phase() == Phase::Local => String::new(),
            Kind::GroupAggregate(spec) if spec.phase() == Phase::Local => String::new(),
            // Whether there is a LOCAL phase in front depends on the calls.
            Kind::WindowAggregate(_) => format!("WindowAggregate\n{columns_aside}"),
            Kind::GroupAggregate(_) => format!("GroupAggregate\n{columns_aside}"),
            _ => format!("{}\n{}", node.name, node.meaning),
        };
        let looked_through = identity.is_empty() && node.inputs.len() == 1;
        if let (true, Some(from)) = (looked_through, inputs().next()) {
            lineages.push(lineages[from].clone());
            passed.push(conditions);
            continue;
        }
        for input in &node.inputs {
            identity.push_str(&format!("\n{} {}", input.target, lineages[input.from]));
        }
        let is_source = matches!(node.kind, Kind::Source(_));
        if !is_source {
            for condition in &conditions {
                identity.push_str(&format!("\nwhere {condition}"));
            }
            conditions.clear();
        }
        lineages.push(format!("{:032x}", xxh3_128(identity.as_bytes())));
        passed.push(conditions);
    }
    lineages
}

/// Equal nodes are told apart by a number.
fn unique(identity: &str, taken: &mut HashSet<String>) -> String {
    let uid = format!("{:032x}", xxh3_128(identity.as_bytes()));
    let mut unique = uid.clone();
    let mut number = 1;
    while !taken.insert(unique.clone()) {
        number += 1;
        unique = format!("{uid}-{number}");
    }
    unique
}

/// How many edges leave each node.
pub(super) fn consumers(nodes: &[Node]) -> Vec<usize> {
    let mut consumers = vec![0; nodes.len()];
    for input in nodes.iter().flat_map(|node| &node.inputs) {
        consumers[input.from] += 1;
    }
    consumers
}
