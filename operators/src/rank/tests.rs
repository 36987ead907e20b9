use arrow::datatypes::DataType;
use proptest::prelude::*;
use weir_dataflow::RowKind;
use weir_dataflow::testing::{Harness, batch, schema};

use super::*;
use crate::testing::{Cluster, assert_frozen, rows_in};

fn input() -> SchemaRef {
    schema(&[
        ("v", DataType::Int64),
        ("k", DataType::Int64),
        ("name", DataType::Utf8),
    ])
}

fn output(spec: &v1::Rank) -> SchemaRef {
    let mut fields = input().fields().to_vec();
    if spec.output_rank {
        fields.push(arrow::datatypes::Field::new("rank", DataType::Int64, true).into());
    }
    Arc::new(arrow::datatypes::Schema::new(fields))
}

/// By `v`, in each `k`.
fn spec(start: u64, end: u64, output_rank: bool, retracts: bool) -> v1::Rank {
    v1::Rank {
        partition_columns: vec![1],
        order: vec![v1::SortColumn {
            column: 0,
            descending: true,
            nulls_first: false,
        }],
        start,
        end,
        end_column: None,
        output_rank,
        input_retracts: retracts,
        emit_update_before: true,
        state_ttl_ms: 0,
    }
}

fn operator(spec: &v1::Rank) -> Box<dyn Operator> {
    Box::new(RankOperator::new(spec).unwrap())
}

fn open(spec: &v1::Rank) -> Harness {
    Harness::open(operator(spec), vec![input()], output(spec)).unwrap()
}

fn rows(text: &str) -> Batch {
    batch(&input(), text).unwrap()
}

fn push(harness: &mut Harness, text: &str) -> Vec<String> {
    harness.push(0, rows(text)).unwrap();
    harness.rows().unwrap()
}

#[test]
fn numbers_of_later_rows_move_up() {
    let mut harness = open(&spec(1, 2, true, false));
    assert_eq!(
        push(&mut harness, "5 1 a\n7 1 b\n1 2 c"),
        ["+I 7 1 b 1", "+I 5 1 a 2", "+I 1 2 c 1"]
    );
    assert_eq!(
        push(&mut harness, "6 1 d\n4 1 e"),
        ["-U 5 1 a 2", "+U 6 1 d 2"]
    );
    assert_eq!(
        push(&mut harness, "9 1 f"),
        ["-U 7 1 b 1", "+U 9 1 f 1", "-U 6 1 d 2", "+U 7 1 b 2"]
    );
    // The same order, but later; and NULL is last here.
    assert!(push(&mut harness, "7 1 g\nnull 1 h").is_empty());
    assert_eq!(harness.state_entries(), 0);
    harness.snapshot().unwrap();
    assert_eq!(harness.state_entries(), 3);
}

#[test]
fn without_numbers_rows_come_and_go() {
    let mut harness = open(&spec(1, 2, false, false));
    assert_eq!(push(&mut harness, "5 1 a\n7 1 b"), ["+I 7 1 b", "+I 5 1 a"]);
    assert_eq!(push(&mut harness, "6 1 d"), ["-D 5 1 a", "+I 6 1 d"]);
    // One row is updated in its place.
    let mut harness = open(&spec(1, 1, false, false));
    assert_eq!(push(&mut harness, "5 1 a\n7 1 b"), ["+I 7 1 b"]);
    assert_eq!(push(&mut harness, "8 1 d"), ["-U 7 1 b", "+U 8 1 d"]);
    let mut one = spec(1, 1, false, false);
    one.emit_update_before = false;
    let mut harness = open(&one);
    push(&mut harness, "5 1 a");
    assert_eq!(push(&mut harness, "8 1 d"), ["+U 8 1 d"]);
}

#[test]
fn rows_behind_come_forward_when_others_are_taken_away() {
    let mut harness = open(&spec(2, 3, true, true));
    assert_eq!(
        push(&mut harness, "9 1 a\n8 1 b\n7 1 c\n6 1 d"),
        ["+I 8 1 b 2", "+I 7 1 c 3"]
    );
    assert_eq!(
        push(&mut harness, "-D 9 1 a\n-D 0 1 nobody"),
        ["-U 8 1 b 2", "+U 7 1 c 2", "-U 7 1 c 3", "+U 6 1 d 3"]
    );
    assert_eq!(push(&mut harness, "-U 6 1 d\n+U 6 2 d"), ["-D 6 1 d 3"]);
    // Taken away in the batch in which it came.
    assert!(push(&mut harness, "9 1 x\n-D 9 1 x").is_empty());
}

#[test]
fn a_limit_has_no_order_and_keeps_what_came_first() {
    let mut limit = spec(2, 3, false, false);
    (limit.partition_columns, limit.order) = (Vec::new(), Vec::new());
    let mut harness = open(&limit);
    assert_eq!(push(&mut harness, "5 1 a\n7 1 b"), ["+I 7 1 b"]);
    assert_eq!(push(&mut harness, "9 1 c\n1 1 d"), ["+I 9 1 c"]);
}

#[test]
fn the_end_can_be_a_column_of_the_partition() {
    let mut variable = spec(1, 0, false, false);
    variable.end_column = Some(1);
    let mut harness = open(&variable);
    assert_eq!(
        push(&mut harness, "5 1 a\n7 1 b\n5 2 c\n7 2 d\n1 0 e"),
        ["+I 7 1 b", "+I 7 2 d", "+I 5 2 c"]
    );
}

/// Folds a changelog.
fn fold(rows: Vec<String>) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    for row in rows {
        let (kind, row) = row.split_once(' ').unwrap();
        if kind == "+I" || kind == "+U" {
            left.push(row.to_owned());
        } else {
            let at = left.iter().position(|known| known == row);
            left.remove(at.unwrap_or_else(|| panic!("{kind} {row} was never there")));
        }
    }
    left.sort();
    left
}

/// The result from scratch.
fn model(spec: &v1::Rank, batches: &[Vec<(RowKind, i64, i64)>]) -> Vec<String> {
    let mut all: Vec<(i64, i64)> = Vec::new();
    for (kind, v, k) in batches.iter().flatten() {
        if !kind.is_retraction() {
            all.push((*v, *k));
        } else if let Some(at) = all.iter().position(|row| row == &(*v, *k)) {
            all.remove(at);
        }
    }
    let mut out = Vec::new();
    for key in 0..4 {
        let mut rows: Vec<_> = all.iter().filter(|row| row.1 == key).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.0));
        for number in spec.start..=spec.end.min(rows.len() as u64) {
            let (v, k) = rows[number as usize - 1];
            let rank = if spec.output_rank {
                format!(" {number}")
            } else {
                String::new()
            };
            out.push(format!("{v} {k} n{v}{rank}"));
        }
    }
    out.sort();
    out
}

fn change() -> impl Strategy<Value = (RowKind, i64, i64)> {
    let kind = prop_oneof![3 => Just(RowKind::Insert), 2 => Just(RowKind::Delete)];
    (kind, 0i64..12, 0i64..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// The folded changes are the result, with little memory and with restarts at other parallelisms, too.
    #[test]
    fn changes_fold_to_the_result(
        batches in prop::collection::vec(prop::collection::vec(change(), 1..12), 1..10),
        bounds in (1u64..3, 0u64..3),
        output_rank in any::<bool>(),
        retracts in any::<bool>(),
        little in any::<bool>(),
        restarts in any::<bool>(),
    ) {
        let spec = spec(bounds.0, bounds.0 + bounds.1, output_rank, retracts);
        // A row is taken away only if it is there: others change nothing.
        let batches: Vec<Vec<_>> = batches
            .into_iter()
            .map(|rows| rows.into_iter().map(|(kind, v, k)| match retracts {
                true => (kind, v, k),
                false => (RowKind::Insert, v, k),
            }).collect())
            .collect();
        let create = || operator(&spec);
        let mut cluster = Cluster {
            input: input(),
            output: output(&spec),
            keys: vec![1],
            memory_bytes: if little { 1 } else { usize::MAX },
            create: &create,
            subtasks: Vec::new(),
        };
        cluster.start(2, None);
        let mut seen = Vec::new();
        for (step, changes) in batches.iter().enumerate() {
            let lines: Vec<String> = changes
                .iter()
                .map(|(kind, v, k)| format!("{} {v} {k} n{v}", kind.short()))
                .collect();
            cluster.push(&rows(&lines.join("\n")));
            seen.extend(cluster.rows());
            if restarts && step % 2 == 1 {
                cluster.restart(1 + step as u32 % 3);
            }
        }
        prop_assert_eq!(fold(seen), model(&spec, &batches));
    }
}

#[test]
fn changes_behind_a_barrier_are_not_in_its_snapshot() {
    let spec = spec(1, 2, true, true);
    let many = |kind: &str, value: i64| {
        let lines: Vec<String> = (0..20)
            .map(|k| format!("{kind} {} {k} n", value + k % 3))
            .collect();
        rows(&lines.join("\n"))
    };
    let before = [
        rows_in(0, many("+I", 5)),
        rows_in(0, many("+I", 9)),
        rows_in(0, many("-D", 5)),
    ];
    let behind = [
        rows_in(0, many("-D", 9)),
        rows_in(0, many("+I", 3)),
        rows_in(0, many("+I", 5)),
    ];
    assert_frozen(&|| open(&spec), &before, &behind);
}

#[test]
fn an_updating_input_and_what_is_not_built_are_refused() {
    let mut harness = open(&spec(1, 2, false, false));
    let error = harness.push(0, rows("-D 5 1 a")).unwrap_err();
    assert!(error.to_string().contains("insert-only"), "{error}");
    let mut ttl = spec(1, 2, false, false);
    ttl.state_ttl_ms = 1;
    assert!(RankOperator::new(&ttl).is_err());
}
