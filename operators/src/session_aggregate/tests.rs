use std::collections::BTreeMap;

use arrow::datatypes::TimeUnit;
use proptest::prelude::*;
use weir_dataflow::testing::{Harness, batch, schema};

use super::*;
use crate::testing::{Cluster, assert_frozen, calls, rows_in, time};

const GAP_MS: i64 = 10;

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

fn input() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("t", timestamp()),
        ("v", DataType::Int64),
    ])
}

fn spec() -> v1::WindowAggregate {
    v1::WindowAggregate {
        window: Some(v1::WindowSpec {
            kind: v1::WindowKind::Session.into(),
            size_ms: GAP_MS,
            time_column: 1,
            ..Default::default()
        }),
        key_columns: vec![0],
        aggregates: calls(&["COUNT", "SUM 2", "COUNT DISTINCT 2"]),
        window_properties: vec!["window_start".to_owned(), "window_end".to_owned()],
        phase: Phase::Single.into(),
        ..Default::default()
    }
}

fn output() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("n", DataType::Int64),
        ("s", DataType::Int64),
        ("d", DataType::Int64),
        ("window_start", timestamp()),
        ("window_end", timestamp()),
    ])
}

fn open(spec: &v1::WindowAggregate) -> Harness {
    let operator = SessionAggregateOperator::new(spec).unwrap();
    Harness::open(Box::new(operator), vec![input()], output()).unwrap()
}

fn rows(rows: &[(i64, i64, i64)]) -> Batch {
    let lines = rows
        .iter()
        .map(|(k, t, v)| format!("{k} 1970-01-01T00:00:{:02}.{:03} {v}", t / 1000, t % 1000));
    batch(&input(), &lines.collect::<Vec<_>>().join("\n")).unwrap()
}

fn short(lines: Vec<String>) -> Vec<String> {
    let short = |line: &String| line.replace("1970-01-01T00:00:0", "").replace("+I ", "");
    lines.iter().map(short).collect()
}

#[test]
fn a_session_ends_a_gap_behind_its_last_row() {
    let mut harness = open(&spec());
    harness
        .push(0, rows(&[(1, 100, 1), (1, 105, 1), (2, 100, 7)]))
        .unwrap();
    harness.watermark(108).unwrap();
    assert!(harness.rows().unwrap().is_empty());
    harness.watermark(109).unwrap();
    assert_eq!(short(harness.rows().unwrap()), ["2 1 7 1 0.100 0.110"]);
    harness.push(0, rows(&[(2, 99, 7), (1, 98, 4)])).unwrap();
    harness.watermark(200).unwrap();
    assert_eq!(
        short(harness.rows().unwrap()),
        ["1 3 6 2 0.098 0.115"],
        "one was late, one came to an open session"
    );
}

#[test]
fn a_row_between_two_sessions_makes_them_one() {
    for together in [true, false] {
        let mut harness = open(&spec());
        let all = [(1, 100, 1), (1, 118, 2), (1, 109, 1)];
        if together {
            harness.push(0, rows(&all)).unwrap();
        } else {
            all.iter()
                .for_each(|row| harness.push(0, rows(&[*row])).unwrap());
        }
        harness.watermark(500).unwrap();
        assert_eq!(short(harness.rows().unwrap()), ["1 3 4 2 0.100 0.128"]);
        harness.snapshot().unwrap();
        harness.snapshot().unwrap();
        assert_eq!(harness.state_entries(), 0, "nothing of it is left");
    }
}

#[test]
fn in_processing_time_the_clock_ends_sessions() {
    let mut spec = spec();
    spec.window.as_mut().unwrap().processing_time = true;
    let mut harness = open(&spec);
    harness.tick(1000).unwrap();
    harness.push(0, rows(&[(1, 0, 5)])).unwrap();
    harness.tick(1010).unwrap();
    assert_eq!(short(harness.rows().unwrap()), ["1 1 5 1 1 1.010"]);
}

#[test]
fn what_is_frozen_is_as_it_was_at_the_barrier() {
    let part = |from: i64| {
        rows(&[
            (1, from, 1),
            (2, from + 5, 2),
            (1, from + 14, 3),
            (3, from + 9, 1),
        ])
    };
    let spec = spec();
    assert_frozen(
        &|| open(&spec),
        &[rows_in(0, part(0)), time(12), rows_in(0, part(30))],
        &[
            rows_in(0, part(37)),
            time(48),
            rows_in(0, part(60)),
            time(90),
        ],
    );
}

/// All sessions by the definition.
fn model(all: &[(i64, i64, i64)]) -> Vec<String> {
    let mut by_key: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    for (k, t, v) in all {
        by_key.entry(*k).or_default().push((*t, *v));
    }
    let mut out = Vec::new();
    for (k, mut rows) in by_key {
        rows.sort_unstable();
        for session in rows.chunk_by(|a, b| b.0 <= a.0 + GAP_MS) {
            let values: std::collections::BTreeSet<i64> = session.iter().map(|r| r.1).collect();
            out.push(format!(
                "{k} {} {} {}",
                session.len(),
                session.iter().map(|row| row.1).sum::<i64>(),
                values.len()
            ));
        }
    }
    out.sort();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn sessions_are_those_of_the_definition(
        batches in prop::collection::vec(prop::collection::vec((0i64..3, 0i64..60, 0i64..4), 1..8), 1..8),
        memory in prop::sample::select(vec![usize::MAX, 1]),
    ) {
        let spec = spec();
        let mut cluster = Cluster {
            input: input(),
            output: output(),
            keys: vec![0],
            memory_bytes: memory,
            create: &|| Box::new(SessionAggregateOperator::new(&spec).unwrap()),
            subtasks: Vec::new(),
        };
        cluster.start(2, None);
        let (mut all, mut out) = (Vec::new(), Vec::new());
        for (number, rows_of) in batches.iter().enumerate() {
            let base = number as i64 * 30;
            let shifted: Vec<_> = rows_of.iter().map(|(k, t, v)| (*k, base + t, *v)).collect();
            cluster.push(&rows(&shifted));
            all.extend(shifted);
            // No row to come is in a session that has ended.
            cluster.watermark(base + 28);
            out.extend(cluster.rows());
            cluster.restart(1 + number as u32 % 3);
        }
        cluster.watermark(i64::MAX);
        out.extend(cluster.rows());
        let mut out: Vec<String> = out
            .iter()
            .map(|line| line.split(' ').skip(1).take(4).collect::<Vec<_>>().join(" "))
            .collect();
        out.sort();
        prop_assert_eq!(out, model(&all));
    }
}
