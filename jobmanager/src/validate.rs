//! Checks a graph before it gets into the log: whoever submits it need not be our planner. Pure.

use std::collections::{BTreeMap, BTreeSet};

use weir_common::key_group::MAX_KEY_GROUPS;
use weir_common::limits::PARALLELISM_MAX;
use weir_proto::v1::{self, Partitioning};

/// Newest `JobGraph.format_version` that is understood. Planners that do not set it write version 0.
const FORMAT_VERSION: u32 = 1;
const VERTICES_MAX: usize = 1000;
const EDGES_MAX: usize = 10_000;
const SUBTASKS_MAX: u64 = 20_000;
const NAME_BYTES_MAX: usize = 4096;

/// What is wrong with a graph, in one sentence.
pub type Refusal = String;

/// Sets the parallelism of every vertex that may be scaled. Between such a one and a fixed one, subtasks feed each other one to one
/// only as long as there are as many of both.
pub fn set_parallelism(graph: &mut v1::JobGraph, parallelism: u32) {
    let mut vertices = BTreeMap::new();
    for vertex in &mut graph.vertices {
        if !vertex.fixed_parallelism {
            vertex.parallelism = parallelism;
        }
        vertices.insert(vertex.id, (vertex.parallelism, vertex.fixed_parallelism));
    }
    for edge in &mut graph.edges {
        let ends = (
            vertices.get(&edge.source_vertex),
            vertices.get(&edge.target_vertex),
        );
        let (Some((from, from_fixed)), Some((to, to_fixed))) = ends else {
            continue;
        };
        let in_order = matches!(
            edge.partitioning(),
            Partitioning::Forward | Partitioning::Rebalance
        );
        if in_order && from_fixed != to_fixed {
            edge.set_partitioning(match from == to {
                true => Partitioning::Forward,
                false => Partitioning::Rebalance,
            });
        }
    }
}

/// Refuses what cannot be run.
pub fn graph(graph: &v1::JobGraph) -> Result<(), Refusal> {
    if graph.format_version > FORMAT_VERSION {
        return Err(format!(
            "the job graph has format {}, this job manager knows up to {FORMAT_VERSION}",
            graph.format_version
        ));
    }
    if graph.name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "the job's name is longer than {NAME_BYTES_MAX} bytes"
        ));
    }
    if graph.max_parallelism == 0 || graph.max_parallelism > MAX_KEY_GROUPS {
        return Err(format!(
            "max_parallelism is {}, it must be from 1 to {MAX_KEY_GROUPS}",
            graph.max_parallelism
        ));
    }
    if graph.vertices.is_empty() {
        return Err("the job graph has no vertices".to_owned());
    }
    if graph.vertices.len() > VERTICES_MAX || graph.edges.len() > EDGES_MAX {
        return Err(format!(
            "the job graph has {} vertices and {} edges; at most {VERTICES_MAX} and {EDGES_MAX} are possible",
            graph.vertices.len(),
            graph.edges.len()
        ));
    }
    let order = vertices(graph)?;
    edges(graph, &order)?;
    checkpoints(graph)?;
    adaptive(graph)
}

/// Checks the vertices; gives each one's position.
fn vertices(graph: &v1::JobGraph) -> Result<BTreeMap<u32, usize>, Refusal> {
    let mut order = BTreeMap::new();
    let mut uids = BTreeSet::new();
    let mut subtasks = 0u64;
    for (position, vertex) in graph.vertices.iter().enumerate() {
        if order.insert(vertex.id, position).is_some() {
            return Err(format!("two vertices have the id {}", vertex.id));
        }
        let limit = PARALLELISM_MAX.min(graph.max_parallelism);
        if vertex.parallelism == 0 || vertex.parallelism > limit {
            return Err(format!(
                "vertex {} ({}) has parallelism {}, it must be from 1 to {limit} (max_parallelism is {})",
                vertex.id, vertex.name, vertex.parallelism, graph.max_parallelism
            ));
        }
        subtasks += u64::from(vertex.parallelism);
        if vertex.chain.is_empty() {
            return Err(format!(
                "vertex {} ({}) has no operator",
                vertex.id, vertex.name
            ));
        }
        for (place, operator) in vertex.chain.iter().enumerate() {
            check_operator(vertex, place, operator)?;
            if !uids.insert(operator.uid.as_str()) {
                return Err(format!("two operators have the uid '{}'", operator.uid));
            }
        }
    }
    if subtasks > SUBTASKS_MAX {
        return Err(format!(
            "the job has {subtasks} subtasks, at most {SUBTASKS_MAX} are possible"
        ));
    }
    Ok(order)
}

fn check_operator(
    vertex: &v1::Vertex,
    place: usize,
    operator: &v1::Operator,
) -> Result<(), Refusal> {
    use v1::operator::Kind;
    if operator.uid.is_empty() || operator.uid.len() > NAME_BYTES_MAX {
        return Err(format!(
            "operator '{}' of vertex {} has no uid, or one that is too long",
            operator.name, vertex.id
        ));
    }
    match &operator.kind {
        None => Err(format!(
            "operator '{}' is of a kind that this version of Weir does not know",
            operator.name
        )),
        Some(Kind::Source(_)) if place > 0 => Err(format!(
            "source '{}' does not stand at the head of its chain",
            operator.name
        )),
        Some(Kind::Sink(_)) if place + 1 < vertex.chain.len() => Err(format!(
            "sink '{}' does not stand at the end of its chain",
            operator.name
        )),
        Some(_) => Ok(()),
    }
}

fn edges(graph: &v1::JobGraph, order: &BTreeMap<u32, usize>) -> Result<(), Refusal> {
    let mut ids = BTreeSet::new();
    let mut fed = BTreeSet::new();
    for edge in &graph.edges {
        if !ids.insert(edge.id) {
            return Err(format!("two edges have the id {}", edge.id));
        }
        let (Some(&source), Some(&target)) = (
            order.get(&edge.source_vertex),
            order.get(&edge.target_vertex),
        ) else {
            return Err(format!(
                "edge {} goes from vertex {} to {}, and one of them does not exist",
                edge.id, edge.source_vertex, edge.target_vertex
            ));
        };
        if source >= target {
            return Err(format!(
                "edge {} goes backwards, from vertex {} to {}: the vertices are not in topological order",
                edge.id, edge.source_vertex, edge.target_vertex
            ));
        }
        let (from, to) = (&graph.vertices[source], &graph.vertices[target]);
        match edge.partitioning() {
            v1::Partitioning::Unspecified => {
                return Err(format!("edge {} has no partitioning", edge.id));
            }
            v1::Partitioning::Forward if from.parallelism != to.parallelism => {
                return Err(format!(
                    "edge {} passes rows straight on, but vertex {} has parallelism {} and vertex {} has {}",
                    edge.id, from.id, from.parallelism, to.id, to.parallelism
                ));
            }
            v1::Partitioning::Hash if edge.key_columns.is_empty() => {
                return Err(format!(
                    "edge {} is by hash, but has no key columns",
                    edge.id
                ));
            }
            _ => {}
        }
        fed.insert(target);
    }
    for (position, vertex) in graph.vertices.iter().enumerate() {
        let is_source = matches!(
            vertex
                .chain
                .first()
                .and_then(|operator| operator.kind.as_ref()),
            Some(v1::operator::Kind::Source(_))
        );
        if is_source == fed.contains(&position) {
            return Err(format!(
                "vertex {} ({}) {}",
                vertex.id,
                vertex.name,
                if is_source {
                    "is a source and has an input"
                } else {
                    "is no source and has no input"
                }
            ));
        }
    }
    Ok(())
}

fn checkpoints(graph: &v1::JobGraph) -> Result<(), Refusal> {
    let Some(checkpoint) = &graph.checkpoint else {
        return Ok(());
    };
    if checkpoint.interval_ms > 0 && checkpoint.directory.is_empty() {
        return Err(
            "checkpoints have an interval, but no directory: set 'execution.checkpointing.dir'"
                .to_owned(),
        );
    }
    if checkpoint.retained > 1000 {
        return Err(format!(
            "{} retained checkpoints are too many, at most 1000 are possible",
            checkpoint.retained
        ));
    }
    Ok(())
}

fn adaptive(graph: &v1::JobGraph) -> Result<(), Refusal> {
    let Some(scheduler) = &graph.adaptive else {
        return Ok(());
    };
    let (bound, limit) = (
        scheduler.upper_bound,
        PARALLELISM_MAX.min(graph.max_parallelism),
    );
    if bound == 0 || bound > limit {
        return Err(format!(
            "the parallelism is to follow the slots up to {bound}, it must be from 1 to {limit} (max_parallelism is {})",
            graph.max_parallelism
        ));
    }
    let scaled = graph.vertices.iter().filter(|v| !v.fixed_parallelism);
    let subtasks = scaled.count() as u64 * u64::from(bound);
    if subtasks > SUBTASKS_MAX {
        return Err(format!(
            "the parallelism is to follow the slots up to {bound}, which makes {subtasks} subtasks; at most {SUBTASKS_MAX} are possible"
        ));
    }
    let directory = graph.checkpoint.as_ref().map(|c| c.directory.as_str());
    if directory.unwrap_or_default().is_empty() {
        return Err(
            "the parallelism is to follow the slots ('jobmanager.scheduler', 'scheduler-mode'), but there are no checkpoints to go on from: \
             set 'execution.checkpointing.dir'"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Source → (hash) → sink, both of this parallelism.
    pub fn two_vertices(parallelism: u32) -> v1::JobGraph {
        let vertex = |id: u32, kind: v1::operator::Kind| v1::Vertex {
            id,
            name: format!("vertex {id}"),
            parallelism,
            chain: vec![v1::Operator {
                uid: format!("uid-{id}"),
                name: format!("operator {id}"),
                kind: Some(kind),
                ..Default::default()
            }],
            fixed_parallelism: false,
        };
        v1::JobGraph {
            format_version: 1,
            name: "test".to_owned(),
            max_parallelism: 128,
            vertices: vec![
                vertex(1, v1::operator::Kind::Source(v1::Source::default())),
                vertex(2, v1::operator::Kind::Sink(v1::Sink::default())),
            ],
            edges: vec![v1::Edge {
                id: 1,
                source_vertex: 1,
                target_vertex: 2,
                partitioning: v1::Partitioning::Hash.into(),
                key_columns: vec![0],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn hostile_graphs_are_refused_with_the_reason() {
        type Change = fn(&mut v1::JobGraph);
        let cases: [(Change, &str); 13] = [
            (|g| g.format_version = 9, "format 9"),
            (|g| g.max_parallelism = 0, "max_parallelism is 0"),
            (|g| g.vertices.clear(), "no vertices"),
            (|g| g.vertices[1].id = 1, "two vertices have the id 1"),
            (|g| g.vertices[0].parallelism = 129, "parallelism 129"),
            (|g| g.vertices[0].chain.clear(), "no operator"),
            (|g| g.vertices[0].chain[0].kind = None, "does not know"),
            (
                |g| g.vertices[1].chain[0].uid = "uid-1".to_owned(),
                "two operators have the uid 'uid-1'",
            ),
            (|g| g.edges[0].target_vertex = 7, "does not exist"),
            (|g| g.edges[0].target_vertex = 1, "goes backwards"),
            (|g| g.edges[0].partitioning = 77, "no partitioning"),
            (|g| g.edges[0].key_columns.clear(), "no key columns"),
            (|g| g.edges.clear(), "is no source and has no input"),
        ];
        assert_eq!(graph(&two_vertices(2)), Ok(()));
        for (change, expected) in cases {
            let mut changed = two_vertices(2);
            change(&mut changed);
            let refusal = graph(&changed).unwrap_err();
            assert!(refusal.contains(expected), "{refusal}");
        }
    }

    #[test]
    fn what_follows_the_slots_needs_checkpoints_and_a_bound() {
        let mut job = two_vertices(1);
        let scheduler = |upper_bound| v1::AdaptiveScheduler {
            upper_bound,
            ..Default::default()
        };
        job.adaptive = Some(scheduler(4));
        assert!(graph(&job).unwrap_err().contains("checkpointing.dir"));
        job.checkpoint = Some(v1::CheckpointConfig {
            directory: "file:///c".to_owned(),
            ..Default::default()
        });
        assert_eq!(graph(&job), Ok(()));
        for bound in [0, job.max_parallelism + 1] {
            job.adaptive = Some(scheduler(bound));
            assert!(graph(&job).unwrap_err().contains("from 1 to 128"));
        }
    }

    #[test]
    fn a_forward_edge_needs_equal_parallelism() {
        let mut forward = two_vertices(2);
        forward.edges[0].partitioning = v1::Partitioning::Forward.into();
        assert_eq!(graph(&forward), Ok(()));
        forward.vertices[1].parallelism = 3;
        assert!(graph(&forward).unwrap_err().contains("straight on"));
    }

    #[test]
    fn between_a_scaled_and_a_fixed_vertex_rows_go_one_to_one_while_they_can() {
        let mut scaled = two_vertices(1);
        scaled.edges[0].partitioning = v1::Partitioning::Forward.into();
        scaled.vertices[1].fixed_parallelism = true;
        let one = scaled.clone();
        set_parallelism(&mut scaled, 3);
        assert_eq!(graph(&scaled), Ok(()));
        assert_eq!(scaled.vertices[0].parallelism, 3);
        assert_eq!(scaled.vertices[1].parallelism, 1);
        assert_eq!(scaled.edges[0].partitioning(), Partitioning::Rebalance);
        set_parallelism(&mut scaled, 1);
        assert_eq!(scaled, one);
    }
}
