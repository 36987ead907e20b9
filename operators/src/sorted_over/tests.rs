use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use proptest::prelude::*;
use weir_dataflow::testing::{Harness, batch, open_context, schema};

use super::*;
use crate::testing::{Cluster, assert_frozen, call, rows_in};

fn input() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("o", DataType::Int64),
        ("v", DataType::Int64),
    ])
}

fn output() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("o", DataType::Int64),
        ("v", DataType::Int64),
        ("sum", DataType::Int64),
        ("number", DataType::Int64),
        ("different", DataType::Int64),
    ])
}

fn spec(rows: bool, retracts: bool) -> v1::OverAggregate {
    let calls = ["SUM 2", "ROW_NUMBER", "COUNT DISTINCT 2"].map(|text| v1::OverCall {
        call: Some(call(text)),
        offset: 0,
    });
    v1::OverAggregate {
        partition_columns: vec![0],
        rows,
        calls: calls.to_vec(),
        order: Some(v1::SortColumn {
            column: 1,
            descending: false,
            nulls_first: true,
        }),
        input_retracts: retracts,
        emit_update_before: true,
        ..Default::default()
    }
}

fn open(spec: &v1::OverAggregate, memory_bytes: usize) -> Harness {
    let mut context = open_context(vec![input()], output(), 0, 1);
    context.memory_bytes = memory_bytes;
    Harness::open_with(Box::new(SortedOverOperator::new(spec).unwrap()), context).unwrap()
}

fn push(harness: &mut Harness, rows: &str) -> Vec<String> {
    harness.push(0, batch(&input(), rows).unwrap()).unwrap();
    harness.rows().unwrap()
}

#[test]
fn a_row_changes_the_results_of_those_behind_it() {
    let mut harness = open(&spec(false, true), usize::MAX);
    assert_eq!(
        push(&mut harness, "1 5 10\n1 9 20"),
        ["+I 1 5 10 10 1 1", "+I 1 9 20 30 2 2"]
    );
    assert_eq!(
        push(&mut harness, "1 5 1"),
        [
            "-U 1 5 10 10 1 1",
            "+U 1 5 10 11 2 2",
            "+I 1 5 1 11 2 2",
            "-U 1 9 20 30 2 2",
            "+U 1 9 20 31 3 3",
        ],
        "rows that sort the same share a result"
    );
    assert_eq!(
        push(&mut harness, "-D 1 5 10\n-D 1 5 99"),
        [
            "-D 1 5 10 11 2 2",
            "-U 1 5 1 11 2 2",
            "+U 1 5 1 1 1 1",
            "-U 1 9 20 31 3 3",
            "+U 1 9 20 21 2 2",
        ]
    );
    let mut of_rows = open(&spec(true, false), usize::MAX);
    assert_eq!(
        push(&mut of_rows, "1 5 10\n1 5 20\n1 null 0"),
        ["+I 1 null 0 0 1 1", "+I 1 5 10 10 2 2", "+I 1 5 20 30 3 3"]
    );
}

#[test]
fn an_order_is_needed() {
    let mut without = spec(false, false);
    without.order = None;
    assert!(SortedOverOperator::new(&without).is_err());
    let mut bounded = spec(false, false);
    bounded.preceding = Some(1);
    assert!(SortedOverOperator::new(&bounded).is_err());
}

type Row = (i64, Option<i64>, i64);

fn text((k, o, v): &Row) -> String {
    let o = o.map_or("null".to_owned(), |o| o.to_string());
    format!("{k} {o} {v}")
}

/// The results of all rows by the definition.
fn model(live: &[Row], rows: bool) -> Vec<String> {
    let mut out = Vec::new();
    for (place, row) in live.iter().enumerate() {
        let seen = live.iter().enumerate().filter(|(other, that)| {
            that.0 == row.0
                && match that.1.cmp(&row.1) {
                    std::cmp::Ordering::Equal => !rows || *other <= place,
                    order => order.is_lt(),
                }
        });
        let seen: Vec<i64> = seen.map(|(_, row)| row.2).collect();
        let different: std::collections::BTreeSet<&i64> = seen.iter().collect();
        let sum: i64 = seen.iter().sum();
        out.push(format!(
            "{} {sum} {} {}",
            text(row),
            seen.len(),
            different.len()
        ));
    }
    out.sort();
    out
}

/// Batches of rows, some of them taken back: of equal rows the one that came first.
fn changelog(batches: Vec<Vec<(Row, bool)>>, live: &mut Vec<Row>) -> Vec<(Batch, Vec<Row>)> {
    let mut out = Vec::new();
    for rows in batches {
        let mut lines = Vec::new();
        for (row, remove) in rows {
            let known = live.iter().position(|known| *known == row);
            match known.filter(|_| remove) {
                Some(place) => {
                    live.remove(place);
                    lines.push(format!("-D {}", text(&row)));
                }
                None => {
                    live.push(row);
                    lines.push(format!("+I {}", text(&row)));
                }
            }
        }
        out.push((batch(&input(), &lines.join("\n")).unwrap(), live.clone()));
    }
    out
}

fn batches() -> impl Strategy<Value = Vec<Vec<(Row, bool)>>> {
    let row = (0i64..3, prop::option::weighted(0.9, 0i64..4), 0i64..3);
    prop::collection::vec(prop::collection::vec((row, any::<bool>()), 1..8), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn results_are_those_of_the_rows_that_are_there(
        batches in batches(),
        rows: bool,
        memory in prop::sample::select(vec![usize::MAX, 1]),
    ) {
        let spec = spec(rows, true);
        let create = || Box::new(SortedOverOperator::new(&spec).unwrap()) as Box<dyn Operator>;
        let mut cluster = Cluster {
            input: input(),
            output: output(),
            keys: vec![0],
            memory_bytes: memory,
            create: &create,
            subtasks: Vec::new(),
        };
        cluster.start(1, None);
        let mut table: BTreeMap<String, i64> = BTreeMap::new();
        for (number, (batch, live)) in changelog(batches, &mut Vec::new()).into_iter().enumerate() {
            cluster.push(&batch);
            for change in cluster.rows() {
                let (kind, row) = change.split_at(3);
                let count = table.entry(row.to_owned()).or_default();
                *count += if kind.starts_with('+') { 1 } else { -1 };
                prop_assert!(*count >= 0, "{change} takes back what is not there");
            }
            table.retain(|_, count| *count > 0);
            let shown: Vec<String> = table
                .iter()
                .flat_map(|(row, count)| vec![row.clone(); *count as usize])
                .collect();
            prop_assert_eq!(shown, model(&live, rows));
            cluster.restart([3, 2, 1][number % 3]);
        }
    }

    #[test]
    fn what_is_frozen_is_as_it_was_at_the_barrier(
        batches in batches(),
        barrier in 0usize..8,
        memory in prop::sample::select(vec![usize::MAX, 1]),
    ) {
        let spec = spec(false, true);
        let changes = changelog(batches, &mut Vec::new()).into_iter();
        let mut before: Vec<_> = changes.map(|(batch, _)| rows_in(0, batch)).collect();
        let behind = before.split_off(barrier.min(before.len()));
        assert_frozen(&|| open(&spec, memory), &before, &behind);
    }
}
