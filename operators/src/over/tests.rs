use std::collections::BTreeMap;

use arrow::datatypes::{DataType, TimeUnit};
use proptest::prelude::*;
use weir_dataflow::testing::{Harness, batch, schema};

use super::*;
use crate::testing::{Cluster, assert_frozen, call, rows_in, time};

fn input() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("v", DataType::Int64),
    ])
}

fn spec(rows: bool, preceding: Option<i64>, calls: &[&str]) -> v1::OverAggregate {
    let over = |text: &&str| {
        let (text, offset) = text.split_once(" BY ").unwrap_or((text, "0"));
        v1::OverCall {
            call: Some(call(text)),
            offset: offset.parse().unwrap(),
        }
    };
    v1::OverAggregate {
        partition_columns: vec![0],
        time_column: 1,
        rows,
        preceding,
        calls: calls.iter().map(over).collect(),
        ..Default::default()
    }
}

fn output(spec: &v1::OverAggregate) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let mut columns = vec![("k", DataType::Int64), ("t", time), ("v", DataType::Int64)];
    columns.resize(3 + spec.calls.len(), ("a", DataType::Int64));
    schema(&columns)
}

fn open(spec: &v1::OverAggregate) -> Harness {
    let operator = OverOperator::new(spec).unwrap();
    Harness::open(Box::new(operator), vec![input()], output(spec)).unwrap()
}

/// `k t v` with t in milliseconds.
fn rows(rows: &[(i64, i64, i64)]) -> Batch {
    let lines = rows.iter().map(|(k, t, v)| {
        format!(
            "{k} 1970-01-01T00:00:{:02}.{:03} {v}",
            t / 1000,
            t.rem_euclid(1000)
        )
    });
    batch(&input(), &lines.collect::<Vec<_>>().join("\n")).unwrap()
}

/// What stands behind the input's columns.
fn results(lines: Vec<String>) -> Vec<String> {
    let behind = |line: &String| line.split(' ').skip(4).collect::<Vec<_>>().join(" ");
    lines.iter().map(behind).collect()
}

#[test]
fn rows_wait_for_the_watermark_and_come_in_the_order_of_time() {
    let mut harness = open(&spec(true, None, &["SUM 2", "ROW_NUMBER"]));
    harness
        .push(0, rows(&[(1, 30, 3), (1, 10, 1), (2, 20, 5)]))
        .unwrap();
    assert!(harness.rows().unwrap().is_empty());
    harness.watermark(20).unwrap();
    assert_eq!(results(harness.rows().unwrap()), ["1 1", "5 1"]);
    harness.push(0, rows(&[(1, 20, 9), (1, 25, 2)])).unwrap();
    harness.watermark(40).unwrap();
    assert_eq!(
        results(harness.rows().unwrap()),
        ["3 2", "6 3"],
        "the row of 20 was too late"
    );
}

#[test]
fn rows_of_one_time_see_each_other() {
    let all = [(1, 10, 1), (1, 20, 2), (1, 20, 3), (1, 30, 4)];
    let run = |spec: &v1::OverAggregate| {
        let mut harness = open(spec);
        harness.push(0, rows(&all)).unwrap();
        harness.watermark(99).unwrap();
        results(harness.rows().unwrap())
    };
    assert_eq!(run(&spec(false, None, &["SUM 2"])), ["1", "6", "6", "10"]);
    assert_eq!(
        run(&spec(
            false,
            Some(10),
            &["SUM 2", "FIRST_VALUE 2", "LAST_VALUE 2"]
        )),
        ["1 1 1", "6 1 3", "6 1 3", "9 2 4"]
    );
    assert_eq!(
        run(&spec(false, None, &["RANK", "DENSE_RANK"])),
        ["1 1", "3 3", "3 3", "4 4"]
    );
    assert_eq!(
        run(&spec(true, Some(2), &["LAG 2 BY 2", "MAX 2"])),
        ["null 1", "1 2", "1 3", "2 4"]
    );
}

#[test]
fn a_bounded_frame_takes_what_its_partition_has_not_passed() {
    let mut harness = open(&spec(true, Some(1), &["SUM 2"]));
    harness.push(0, rows(&[(1, 10, 1)])).unwrap();
    harness.watermark(50).unwrap();
    harness
        .push(0, rows(&[(1, 10, 7), (1, 20, 2), (2, 5, 4)]))
        .unwrap();
    harness.watermark(60).unwrap();
    assert_eq!(results(harness.rows().unwrap()), ["1", "4", "3"]);
}

#[test]
fn in_processing_time_rows_have_their_results_at_once() {
    let mut spec = spec(true, Some(1), &["SUM 2"]);
    spec.processing_time = true;
    let mut harness = open(&spec);
    harness.push(0, rows(&[(1, 30, 3), (1, 10, 1)])).unwrap();
    harness.push(0, rows(&[(1, 20, 5)])).unwrap();
    assert_eq!(results(harness.rows().unwrap()), ["3", "4", "6"]);
}

#[test]
fn rows_that_no_frame_reaches_leave_the_state() {
    let mut harness = open(&spec(false, Some(100), &["SUM 2"]));
    for second in 0..40 {
        let all: Vec<_> = (0..50)
            .map(|k| (second * 50 + k, second * 1000, 1))
            .collect();
        harness.push(0, rows(&all)).unwrap();
        harness.watermark(second * 1000).unwrap();
        harness.snapshot().unwrap();
    }
    // A search for expired rows comes every ten seconds, and its deletions go with the next snapshot.
    assert!(
        harness.state_entries() <= 600,
        "{}",
        harness.state_entries()
    );
}

#[test]
fn what_is_frozen_is_as_it_was_at_the_barrier() {
    let specs = [
        spec(true, None, &["SUM 2", "COUNT DISTINCT 2", "MAX 2"]),
        spec(true, Some(2), &["SUM 2"]),
        spec(false, Some(20), &["MIN 2", "LAST_VALUE 2"]),
    ];
    let part = |from: i64| {
        rows(&[
            (1, from, 1),
            (2, from + 5, 2),
            (1, from + 7, 3),
            (3, from + 9, 1),
        ])
    };
    for spec in &specs {
        assert_frozen(
            &|| open(spec),
            &[rows_in(0, part(0)), rows_in(0, part(10)), time(12)],
            &[
                rows_in(0, part(20)),
                time(18),
                rows_in(0, part(30)),
                time(60),
            ],
        );
    }
}

/// All results by the definition.
fn model(rows_frame: bool, preceding: Option<i64>, all: &[(i64, i64, i64)]) -> Vec<String> {
    let mut partitions: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    for (k, t, v) in all {
        partitions.entry(*k).or_default().push((*t, *v));
    }
    let mut out = Vec::new();
    for (k, mut rows) in partitions {
        rows.sort_by_key(|(t, _)| *t);
        for (place, (t, v)) in rows.iter().enumerate() {
            let frame: Vec<i64> = rows
                .iter()
                .enumerate()
                .filter(|(other, (time, _))| match (rows_frame, preceding) {
                    (true, Some(reach)) => *other <= place && *other + reach as usize >= place,
                    (true, None) => *other <= place,
                    (false, Some(reach)) => time <= t && *time >= *t - reach,
                    (false, None) => time <= t,
                })
                .map(|(_, (_, value))| *value)
                .collect();
            let distinct: std::collections::BTreeSet<_> = frame.iter().collect();
            out.push(format!(
                "{k} {v} {} {} {} {}",
                frame.iter().sum::<i64>(),
                distinct.len(),
                frame.iter().max().unwrap(),
                frame[0],
            ));
        }
    }
    out.sort();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn results_are_those_of_the_definition(
        batches in prop::collection::vec(prop::collection::vec((0i64..4, 0i64..80, 0i64..9), 1..12), 1..8),
        rows_frame: bool,
        preceding in prop::option::of(0i64..30),
        memory in prop::sample::select(vec![usize::MAX, 1]),
    ) {
        let calls = ["SUM 2", "COUNT DISTINCT 2", "MAX 2", "FIRST_VALUE 2"];
        let spec = spec(rows_frame, preceding, &calls);
        let mut cluster = Cluster {
            input: input(),
            output: output(&spec),
            keys: vec![0],
            memory_bytes: memory,
            create: &|| Box::new(OverOperator::new(&spec).unwrap()),
            subtasks: Vec::new(),
        };
        cluster.start(2, None);
        let (mut all, mut out) = (Vec::new(), Vec::new());
        for (number, rows_of) in batches.iter().enumerate() {
            // Times rise, but rows of a batch come up to 40 ms behind the watermark's next step.
            let shifted: Vec<_> = rows_of
                .iter()
                .map(|(k, t, v)| (*k, number as i64 * 40 + t, *v))
                .collect();
            cluster.push(&rows(&shifted));
            all.extend(shifted);
            out.extend(cluster.rows());
            cluster.watermark(number as i64 * 40 + 39);
            out.extend(cluster.rows());
            cluster.restart(1 + number as u32 % 3);
        }
        cluster.watermark(i64::MAX);
        out.extend(cluster.rows());
        let mut out: Vec<String> = out
            .iter()
            .map(|line| {
                let cells: Vec<&str> = line.split(' ').collect();
                [&cells[1..2], &cells[3..]].concat().join(" ")
            })
            .collect();
        out.sort();
        prop_assert_eq!(out, model(rows_frame, preceding, &all));
    }
}
