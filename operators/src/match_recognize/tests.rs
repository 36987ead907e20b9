use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_expr::Operator as Comparison;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column};
use weir_dataflow::schema::encode_schema;
use weir_dataflow::testing::{Harness, batch, schema};
use weir_proto::v1::match_value::Pick;

use super::*;
use crate::testing::{Cluster, assert_frozen, rows_in, time};

fn input() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("v", DataType::Int64),
    ])
}

fn output() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("top", DataType::Int64),
        ("bottom", DataType::Int64),
        ("up", DataType::Int64),
    ])
}

fn expr(expr: Arc<dyn PhysicalExpr>) -> v1::Expr {
    v1::Expr {
        physical: weir_expr::codec::encode(&expr).unwrap().into(),
        text: "test".to_owned(),
    }
}

fn value(index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(&format!("${index}"), index))
}

fn compare(left: usize, operator: Comparison, right: usize) -> v1::Expr {
    expr(Arc::new(BinaryExpr::new(
        value(left),
        operator,
        value(right),
    )))
}

/// `PATTERN (TOP DOWN+ UP)`: each row is lower than the one before, and the last one is higher.
fn spec() -> v1::MatchRecognize {
    let variable = |name: &str, max, condition| v1::PatternVariable {
        name: name.to_owned(),
        min: 1,
        max,
        greedy: max.is_none(),
        condition,
    };
    let pick = |variable, offset| v1::MatchValue {
        variable,
        pick: Pick::Last.into(),
        offset,
        function: String::new(),
        columns: vec![2],
    };
    // The row, the one before it, and the last of each variable.
    let values = vec![
        pick(None, 0),
        pick(None, 1),
        pick(Some(0), 0),
        pick(Some(1), 0),
        pick(Some(2), 0),
    ];
    let fields: Vec<Field> = (0..values.len())
        .map(|i| Field::new(format!("${i}"), DataType::Int64, true))
        .collect();
    let measure = |name: &str, index| v1::NamedExpr {
        name: name.to_owned(),
        expr: Some(expr(value(index))),
    };
    v1::MatchRecognize {
        partition_columns: vec![0],
        time_column: 1,
        pattern: vec![
            variable("TOP", Some(1), None),
            variable("DOWN", None, Some(compare(0, Comparison::Lt, 1))),
            variable("UP", Some(1), Some(compare(0, Comparison::Gt, 1))),
        ],
        values,
        value_schema: encode_schema(&Schema::new(fields)),
        measures: vec![measure("top", 2), measure("bottom", 3), measure("up", 4)],
        skip: SkipKind::PastLastRow.into(),
        ..v1::MatchRecognize::default()
    }
}

fn open(spec: &v1::MatchRecognize) -> Harness {
    let operator = MatchOperator::new(spec).unwrap();
    Harness::open(Box::new(operator), vec![input()], output()).unwrap()
}

/// `(k, t, v)` with t in milliseconds.
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

#[test]
fn rows_are_matched_in_the_order_of_time_and_late_ones_are_dropped() {
    let mut harness = open(&spec());
    harness
        .push(0, rows(&[(1, 30, 4), (1, 10, 9), (2, 20, 7), (1, 20, 6)]))
        .unwrap();
    harness.watermark(30).unwrap();
    assert!(harness.rows().unwrap().is_empty());
    harness
        .push(0, rows(&[(1, 25, 1), (1, 40, 5), (2, 40, 3)]))
        .unwrap();
    harness.watermark(50).unwrap();
    assert_eq!(
        harness.rows().unwrap(),
        ["+I 1 9 4 5"],
        "the row of 25 was too late"
    );
    harness.push(0, rows(&[(2, 60, 8)])).unwrap();
    harness.watermark(i64::MAX).unwrap();
    assert_eq!(harness.rows().unwrap(), ["+I 2 7 3 8"]);
}

#[test]
fn processing_time_takes_rows_as_they_come() {
    let mut spec = spec();
    spec.processing_time = true;
    let mut harness = open(&spec);
    harness
        .push(0, rows(&[(1, 50, 9), (1, 10, 3), (1, 40, 5)]))
        .unwrap();
    assert_eq!(harness.rows().unwrap(), ["+I 1 9 3 5"]);
}

/// Zigzags of many keys: each falls for some rows and rises for one.
fn zigzags() -> Vec<Vec<(i64, i64, i64)>> {
    let row = |n: i64| {
        let key = n % 17;
        let step = n / 17;
        let v = if step % (3 + key % 4) == 0 {
            1000 + step
        } else {
            500 - step
        };
        (key, n * 10, v)
    };
    (0..20)
        .map(|part| (part * 50..part * 50 + 50).map(row).collect())
        .collect()
}

fn run(memory_bytes: usize, restarts: &[u32]) -> Vec<String> {
    let create = || -> Box<dyn Operator> { Box::new(MatchOperator::new(&spec()).unwrap()) };
    let mut cluster = Cluster {
        input: input(),
        output: output(),
        keys: vec![0],
        memory_bytes,
        create: &create,
        subtasks: Vec::new(),
    };
    cluster.start(1, None);
    let mut found = Vec::new();
    for (part, batch) in zigzags().iter().enumerate() {
        cluster.push(&rows(batch));
        if let Some(parallelism) = restarts.get(part) {
            cluster.restart(*parallelism);
        }
        cluster.watermark(batch.last().unwrap().1 - 35);
        found.extend(cluster.rows());
    }
    cluster.watermark(i64::MAX);
    found.extend(cluster.rows());
    found.sort();
    found
}

#[test]
fn restarts_at_other_parallelisms_and_little_memory_change_nothing() {
    let expected = run(1 << 30, &[]);
    assert!(expected.len() > 50, "{}", expected.len());
    assert_eq!(run(1 << 30, &[2, 3, 1, 4, 1, 2]), expected);
    assert_eq!(run(1, &[]), expected);
    assert_eq!(run(1, &[3, 1, 2]), expected);
}

#[test]
fn a_snapshot_holds_what_the_barrier_saw() {
    let open = || open(&spec());
    let before = [
        rows_in(
            0,
            rows(&[(1, 10, 9), (2, 10, 9), (3, 10, 9), (1, 20, 5), (2, 30, 4)]),
        ),
        time(20),
    ];
    let behind = [
        rows_in(0, rows(&[(1, 40, 2), (3, 40, 1)])),
        time(40),
        rows_in(0, rows(&[(1, 50, 7), (2, 60, 6)])),
        time(60),
    ];
    assert_frozen(&open, &before, &behind);
}
