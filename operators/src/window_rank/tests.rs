use arrow::datatypes::{DataType, TimeUnit};
use weir_dataflow::testing::{Harness, batch, schema};

use super::*;
use crate::testing::{Cluster, assert_frozen, rows_in, time};

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn input() -> SchemaRef {
    schema(&[
        ("v", DataType::Int64),
        ("k", DataType::Int64),
        ("ws", TIME),
        ("we", TIME),
    ])
}

fn spec(start: u64, end: u64, output_rank: bool) -> v1::WindowRank {
    v1::WindowRank {
        partition_columns: vec![2, 3, 1],
        order: vec![v1::SortColumn {
            column: 0,
            descending: true,
            nulls_first: false,
        }],
        start,
        end,
        output_rank,
        window_start_column: 2,
        window_end_column: 3,
    }
}

fn output(spec: &v1::WindowRank) -> SchemaRef {
    let mut fields = input().fields().to_vec();
    if spec.output_rank {
        fields.push(arrow::datatypes::Field::new("rank", DataType::Int64, true).into());
    }
    Arc::new(arrow::datatypes::Schema::new(fields))
}

fn operator(spec: &v1::WindowRank) -> Box<dyn Operator> {
    Box::new(WindowRankOperator::new(spec).unwrap())
}

fn open(spec: &v1::WindowRank) -> Harness {
    Harness::open(operator(spec), vec![input()], output(spec)).unwrap()
}

/// `value key window`; windows are of a second.
fn rows(text: &str) -> Batch {
    let line = |line: &str| match line.rsplit_once(' ') {
        Some((rest, window)) => {
            let window: u32 = window.parse().unwrap();
            format!(
                "{rest} 1970-01-01T00:00:0{window} 1970-01-01T00:00:0{}",
                window + 1
            )
        }
        None => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(line).collect();
    batch(&input(), &lines.join("\n")).unwrap()
}

fn short(rows: Vec<String>) -> Vec<String> {
    let mut rows: Vec<String> = rows
        .into_iter()
        .map(|row| row.replace("1970-01-01T00:00:0", "").replace("+I ", ""))
        .collect();
    rows.sort();
    rows
}

#[test]
fn the_first_rows_come_at_the_end_of_the_window_with_their_numbers() {
    let mut harness = open(&spec(1, 2, true));
    harness
        .push(0, rows("5 1 0\n9 1 0\n7 1 0\n1 2 0\n8 1 1"))
        .unwrap();
    harness.watermark(998).unwrap();
    assert!(harness.rows().unwrap().is_empty());
    harness.watermark(999).unwrap();
    assert_eq!(
        short(harness.rows().unwrap()),
        ["1 2 0 1 1", "7 1 0 1 2", "9 1 0 1 1"]
    );
    // Late.
    harness.push(0, rows("10 1 0")).unwrap();
    harness.watermark(i64::MAX).unwrap();
    assert_eq!(short(harness.rows().unwrap()), ["8 1 1 2 1"]);
}

#[test]
fn memory_restores_and_dropping_rows_change_no_result() {
    for spec in [spec(1, 3, true), spec(2, 4, false)] {
        let create = || operator(&spec);
        let run = |memory_bytes, restarts: bool| {
            let mut cluster = Cluster {
                input: input(),
                output: output(&spec),
                keys: vec![2, 3, 1],
                memory_bytes,
                create: &create,
                subtasks: Vec::new(),
            };
            cluster.start(2, None);
            let mut seen = Vec::new();
            for step in 0..24i64 {
                let lines: Vec<String> = (0..12)
                    .map(|i| {
                        let value = (step * 31 + i * 17) % 101;
                        format!("{value} {} {}", i % 3, step / 4 + i % 2)
                    })
                    .collect();
                cluster.push(&rows(&lines.join("\n")));
                if restarts && step % 5 == 2 {
                    cluster.restart(1 + (step % 3) as u32);
                }
                cluster.watermark(step / 4 * 1000 - 1);
                seen.extend(cluster.rows());
            }
            cluster.watermark(i64::MAX);
            seen.extend(cluster.rows());
            short(seen)
        };
        let expected = run(usize::MAX, false);
        assert_eq!(expected.len(), 7 * 9);
        for (memory_bytes, restarts) in [(1, false), (1, true), (usize::MAX, true)] {
            assert_eq!(run(memory_bytes, restarts), expected);
        }
    }
}

#[test]
fn rows_and_firings_behind_a_barrier_are_not_in_its_snapshot() {
    let spec = spec(1, 1, true);
    let many = |value: i64, window: u32| {
        let lines: Vec<String> = (0..9).map(|k| format!("{value} {k} {window}")).collect();
        rows(&lines.join("\n"))
    };
    let before = [
        rows_in(0, many(1, 0)),
        rows_in(0, many(2, 1)),
        rows_in(0, many(3, 2)),
    ];
    let behind = [
        rows_in(0, many(4, 1)),
        time(999),
        rows_in(0, many(5, 2)),
        time(1999),
    ];
    assert_frozen(&|| open(&spec), &before, &behind);
}

#[test]
fn updates_are_refused() {
    let mut harness = open(&spec(1, 1, true));
    let error = harness.push(0, rows("-D 5 1 0")).unwrap_err();
    assert!(error.to_string().contains("insert-only"), "{error}");
    assert!(WindowRankOperator::new(&spec(0, 1, true)).is_err());
}
