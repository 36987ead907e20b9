use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use weir_common::ids::CheckpointId;
use weir_dataflow::schema::encode_schema;
use weir_dataflow::testing::{batch, format_rows, schema};
use weir_dataflow::{Barrier, SnapshotTarget};

use super::*;
use crate::gate::InFlight;
use crate::in_flight::Recorded;
use crate::input::ChannelId;

const KEYS: i64 = 40;

fn columns() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("v", DataType::Utf8)])
}

/// Vertex 1 feeds vertex 2, whose head is "op".
fn graph(partitioning: Partitioning, parallelism: u32) -> v1::JobGraph {
    let vertex = |id, uid: &str| v1::Vertex {
        id,
        parallelism,
        chain: vec![v1::Operator {
            uid: uid.to_owned(),
            name: uid.to_owned(),
            ..v1::Operator::default()
        }],
        ..v1::Vertex::default()
    };
    v1::JobGraph {
        max_parallelism: 128,
        vertices: vec![vertex(1, "source"), vertex(2, "op")],
        edges: vec![v1::Edge {
            id: 7,
            source_vertex: 1,
            target_vertex: 2,
            partitioning: partitioning.into(),
            key_columns: vec![0],
            schema: encode_schema(&columns()),
            ..v1::Edge::default()
        }],
        ..v1::JobGraph::default()
    }
}

/// Rows of each old subtask, as the partitioner had sent them, in the snapshot's form.
fn manifest(graph: &v1::JobGraph, rows: &Batch) -> v1::Manifest {
    let parallelism = graph.vertices[1].parallelism;
    let mut channels: BTreeMap<usize, Vec<Batch>> = BTreeMap::new();
    let width = parallelism as usize;
    let mut partitioner = Partitioner::new(&graph.edges[0], &columns(), 0, width, 128).unwrap();
    for start in (0..rows.num_rows()).step_by(10) {
        let part = rows.slice(start, 10.min(rows.num_rows() - start));
        partitioner
            .split(part, &mut |target, part| {
                channels.entry(target).or_default().push(part);
                Ok(())
            })
            .unwrap();
    }
    let operators = (0u32..).zip(0..width).map(|(subtask, index)| {
        let recorded = Recorded {
            barrier: Barrier {
                checkpoint: CheckpointId(1),
                timestamp_ms: 0,
                target: SnapshotTarget::Checkpoint,
                stop_sources: false,
                overtakes_from_ms: Some(0),
            },
            alignment_ms: 0,
            ids: Arc::new([ChannelId {
                input: 0,
                edge: 7,
                source: 0,
            }]),
            in_flight: InFlight {
                restored: Vec::new(),
                channels: vec![channels.remove(&index).unwrap_or_default()],
            },
        };
        v1::OperatorSnapshot {
            operator_uid: "op".to_owned(),
            subtask,
            parallelism,
            in_flight: Some(v1::InFlight {
                content: Some(Content::Inlined(
                    recorded.encode().unwrap().encode_to_vec().into(),
                )),
                ..v1::InFlight::default()
            }),
            ..v1::OperatorSnapshot::default()
        }
    });
    v1::Manifest {
        operators: operators.collect(),
        max_parallelism: 128,
        ..v1::Manifest::default()
    }
}

/// What a subtask takes, as text.
fn take(graph: &v1::JobGraph, manifest: &v1::Manifest, index: u32) -> Result<Vec<String>> {
    let taker = Taker {
        graph,
        vertex: &graph.vertices[1],
        index,
    };
    taker.check_chain(manifest)?;
    let mut taken = Vec::new();
    for (part, content) in taker.parts(manifest) {
        let Content::Inlined(bytes) = content else {
            panic!("a file")
        };
        for channel in v1::InFlightData::decode(bytes.clone()).unwrap().channels {
            taker.take(part, channel, &mut taken)?;
        }
    }
    Ok(taken
        .iter()
        .flat_map(|(_, batch)| format_rows(batch).unwrap())
        .collect())
}

fn rows() -> Batch {
    let lines: Vec<String> = (0..100).map(|n| format!("{} r{n}", n % KEYS)).collect();
    batch(&columns(), &lines.join("\n")).unwrap()
}

#[test]
fn every_row_goes_to_the_owner_of_its_key_in_order() {
    for (old, new) in [(1, 1), (2, 2), (2, 3), (3, 2), (2, 1), (1, 4), (5, 128)] {
        let manifest = manifest(&graph(Partitioning::Hash, old), &rows());
        let graph = graph(Partitioning::Hash, new);
        let mut partitioner =
            Partitioner::new(&graph.edges[0], &columns(), 0, new as usize, 128).unwrap();
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        partitioner
            .split(rows(), &mut |target, part| {
                owners.extend(format_rows(&part).unwrap().into_iter().map(|r| (r, target)));
                Ok(())
            })
            .unwrap();
        let mut seen = 0;
        for index in 0..new {
            let mut last = BTreeMap::new();
            for line in take(&graph, &manifest, index).unwrap() {
                assert_eq!(owners[&line], index as usize, "{old} to {new}: {line}");
                let words: Vec<&str> = line.split(' ').collect();
                let number: u32 = words[2][1..].parse().unwrap();
                assert!(
                    last.insert(words[1].to_owned(), number)
                        .is_none_or(|l| l < number)
                );
                seen += 1;
            }
        }
        assert_eq!(seen, 100, "{old} to {new}");
    }
}

#[test]
fn rows_without_a_key_go_to_one_subtask() {
    for partitioning in [Partitioning::Rebalance, Partitioning::Global] {
        for (old, new) in [(2, 2), (3, 2), (2, 5)] {
            let manifest = manifest(&graph(partitioning, old), &rows());
            let graph = graph(partitioning, new);
            let mut seen: Vec<String> = (0..new)
                .flat_map(|index| take(&graph, &manifest, index).unwrap())
                .collect();
            seen.sort();
            let mut expected = format_rows(&rows()).unwrap();
            expected.sort();
            assert_eq!(seen, expected, "{partitioning:?} {old} to {new}");
        }
    }
}

#[test]
fn of_a_broadcast_every_subtask_gets_one_copy() {
    for (old, new) in [(2, 2), (3, 2), (2, 5)] {
        let manifest = manifest(&graph(Partitioning::Broadcast, old), &rows());
        let graph = graph(Partitioning::Broadcast, new);
        for index in 0..new {
            let taken = take(&graph, &manifest, index).unwrap();
            assert_eq!(taken, format_rows(&rows()).unwrap(), "{old} to {new}");
        }
    }
}

#[test]
fn updates_without_a_key_keep_their_parallelism() {
    let updates = batch(&columns(), "-U 1 a\n+U 1 b").unwrap();
    let manifest = manifest(&graph(Partitioning::Forward, 2), &updates);
    let same = take(&graph(Partitioning::Forward, 2), &manifest, 0).unwrap();
    assert_eq!(same, ["-U 1 a", "+U 1 b"]);
    let error = take(&graph(Partitioning::Forward, 3), &manifest, 0).unwrap_err();
    assert!(error.is_fatal());
    assert!(error.to_string().contains("at parallelism 2"), "{error}");
}

#[test]
fn a_snapshot_of_another_graph_is_refused_by_name() {
    let manifest = manifest(&graph(Partitioning::Hash, 2), &rows());
    let mut other = graph(Partitioning::Hash, 2);
    other.edges[0].schema = encode_schema(&schema(&[("k", DataType::Int64)]));
    let error = take(&other, &manifest, 0).unwrap_err();
    assert!(error.to_string().contains("[Int64, Utf8]"), "{error}");
    let mut chained = graph(Partitioning::Hash, 2);
    let head = chained.vertices[0].chain[0].clone();
    chained.vertices[1].chain.insert(0, head);
    let error = take(&chained, &manifest, 0).unwrap_err();
    assert!(error.to_string().contains("'op'"), "{error}");
    let mut broken = manifest;
    broken.operators[0].parallelism = 0;
    assert!(take(&graph(Partitioning::Hash, 2), &broken, 0).is_err());
}
