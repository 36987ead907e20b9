use arrow::datatypes::DataType;
use weir_dataflow::testing::{Harness, batch, schema};

use super::*;
use crate::testing::{Cluster, assert_frozen, rows_in};

fn input() -> SchemaRef {
    schema(&[("v", DataType::Utf8), ("k", DataType::Int64)])
}

fn operator(emit_update_before: bool) -> Box<dyn Operator> {
    let spec = v1::ChangelogNormalize {
        key_columns: vec![1],
        emit_update_before,
        state_ttl_ms: 0,
    };
    Box::new(ChangelogNormalizeOperator::new(&spec).unwrap())
}

fn open(emit_update_before: bool) -> Harness {
    Harness::open(operator(emit_update_before), vec![input()], input()).unwrap()
}

fn push(harness: &mut Harness, rows: &str) -> Vec<String> {
    harness.push(0, batch(&input(), rows).unwrap()).unwrap();
    harness.rows().unwrap()
}

#[test]
fn updates_by_key_become_whole_changes() {
    let mut harness = open(true);
    assert_eq!(push(&mut harness, "+U a 1\n+U b 2"), ["+I a 1", "+I b 2"]);
    assert_eq!(
        push(&mut harness, "+U c 1\n-D null 2\n+U d 2"),
        ["-U a 1", "+U c 1", "-D b 2", "+I d 2"]
    );
    let mut without = open(false);
    push(&mut without, "+U a 1");
    assert_eq!(
        push(&mut without, "+U b 1\n-D null 1"),
        ["+U b 1", "-D b 1"]
    );
}

#[test]
fn what_changes_nothing_is_left_out() {
    let mut harness = open(true);
    push(&mut harness, "+I a 1\n+I n 3");
    // Repeated insertions, deletions of what is not there, and -U, which say nothing that the rows do not.
    assert!(push(&mut harness, "+I a 1\n+U a 1\n-D null 2\n-U a 1\n+U a 1").is_empty());
    assert_eq!(
        push(&mut harness, "-D a 1\n-D a 1\n+I a 1"),
        ["-D a 1", "+I a 1"]
    );
    assert_eq!(push(&mut harness, "+U null 3"), ["-U n 3", "+U null 3"]);
}

#[test]
fn memory_and_restores_change_no_result() {
    let create = || operator(true);
    let run = |memory_bytes, restarts: bool| {
        let mut cluster = Cluster {
            input: input(),
            output: input(),
            keys: vec![1],
            memory_bytes,
            create: &create,
            subtasks: Vec::new(),
        };
        cluster.start(2, None);
        let mut seen = Vec::new();
        for step in 0..40i64 {
            let change = |i: i64| match (step + i) % 3 {
                0 => format!("-D null {}\n", (step * 7 + i * 3) % 23),
                _ => format!("+U r{step}.{i} {}\n", (step * 7 + i * 3) % 23),
            };
            let lines: String = (0..10).map(change).collect();
            cluster.push(&batch(&input(), lines.trim_end()).unwrap());
            seen.extend(cluster.rows());
            if restarts && step % 6 == 3 {
                cluster.restart(1 + (step % 3) as u32);
            }
        }
        seen.sort();
        seen
    };
    let expected = run(usize::MAX, false);
    assert!(expected.len() > 100);
    for (memory_bytes, restarts) in [(1, false), (1, true), (usize::MAX, true)] {
        assert_eq!(run(memory_bytes, restarts), expected);
    }
}

#[test]
fn changes_behind_a_barrier_are_not_in_its_snapshot() {
    let many = |kind: &str, value: &str| {
        let lines: Vec<String> = (0..20).map(|k| format!("{kind} {value} {k}")).collect();
        rows_in(0, batch(&input(), &lines.join("\n")).unwrap())
    };
    let before = [many("+U", "a"), many("+U", "b")];
    let behind = [many("+U", "c"), many("-D", "null"), many("+U", "d")];
    assert_frozen(&|| open(true), &before, &behind);
}
