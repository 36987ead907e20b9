use arrow::datatypes::{DataType, TimeUnit};
use weir_dataflow::testing::{Harness, batch, open_context, schema};

use super::*;
use crate::testing::{assert_frozen, rows_in, time};

fn side() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    schema(&[
        ("k", DataType::Int64),
        ("v", DataType::Utf8),
        ("ws", time.clone()),
        ("we", time),
    ])
}

fn output(kind: v1::JoinKind) -> SchemaRef {
    let fields = side().fields().to_vec();
    match kind {
        v1::JoinKind::Semi | v1::JoinKind::Anti => side(),
        _ => Arc::new(Schema::new([fields.clone(), fields].concat())),
    }
}

fn operator(kind: v1::JoinKind) -> Box<dyn Operator> {
    let spec = v1::WindowJoin {
        kind: kind.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        left_window_start: 2,
        left_window_end: 3,
        right_window_start: 2,
        right_window_end: 3,
        condition: None,
    };
    Box::new(WindowJoinOperator::new(spec).unwrap())
}

fn rows(text: &str) -> Batch {
    // "key value window" with windows of a second: 0 is [0 s, 1 s).
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let window: u32 = words[2].parse().unwrap();
            format!(
                "{} {} 1970-01-01T00:00:0{window} 1970-01-01T00:00:0{}",
                words[0],
                words[1],
                window + 1
            )
        });
    batch(&side(), &lines.collect::<Vec<_>>().join("\n")).unwrap()
}

fn short(rows: Vec<String>) -> Vec<String> {
    rows.iter()
        .map(|row| row.replace("1970-01-01T00:00:0", "").replace("+I ", ""))
        .collect()
}

fn joined(kind: v1::JoinKind) -> Vec<String> {
    let mut harness = Harness::open(operator(kind), vec![side(), side()], output(kind)).unwrap();
    harness
        .push(0, rows("1 a 0\n2 b 0\nnull n 0\n1 c 1"))
        .unwrap();
    harness
        .push(1, rows("1 x 0\n1 y 0\n3 z 0\nnull m 0"))
        .unwrap();
    harness.watermark(998).unwrap();
    assert!(harness.rows().unwrap().is_empty());
    harness.watermark(999).unwrap();
    short(harness.sorted_rows().unwrap())
}

#[test]
fn only_rows_of_one_window_and_key_meet() {
    assert_eq!(
        joined(v1::JoinKind::Inner),
        ["1 a 0 1 1 x 0 1", "1 a 0 1 1 y 0 1"]
    );
    assert_eq!(joined(v1::JoinKind::Semi), ["1 a 0 1"]);
    assert_eq!(joined(v1::JoinKind::Anti), ["2 b 0 1", "null n 0 1"]);
    assert_eq!(joined(v1::JoinKind::Left).len(), 4);
    assert_eq!(joined(v1::JoinKind::Right).len(), 4);
    assert_eq!(joined(v1::JoinKind::Full).len(), 6);
}

#[test]
fn rows_for_a_fired_window_are_dropped() {
    let mut harness = Harness::open(
        operator(v1::JoinKind::Inner),
        vec![side(), side()],
        output(v1::JoinKind::Inner),
    )
    .unwrap();
    harness.push(0, rows("1 a 0")).unwrap();
    harness.watermark(999).unwrap();
    harness.push(1, rows("1 x 0")).unwrap();
    harness.end().unwrap();
    assert!(harness.rows().unwrap().is_empty());
}

#[test]
fn waiting_rows_survive_a_restore_at_another_parallelism_and_leave_nothing_behind() {
    let kind = v1::JoinKind::Inner;
    let mut harness = Harness::open(operator(kind), vec![side(), side()], output(kind)).unwrap();
    let left: String = (0..50).map(|k| format!("{k} a 0\n")).collect();
    let right: String = (0..50).map(|k| format!("{k} x 0\n")).collect();
    harness.push(0, rows(&left)).unwrap();
    harness.snapshot().unwrap();
    harness.push(1, rows(&right)).unwrap();
    let snapshot = harness.snapshot().unwrap();
    let mut all = Vec::new();
    for subtask in 0..3 {
        let context = open_context(vec![side(), side()], output(kind), subtask, 3);
        let mut part = Harness::restore(operator(kind), context, &snapshot).unwrap();
        part.end().unwrap();
        let mine = part.rows().unwrap();
        assert!(mine.len() < 40, "one subtask took {}", mine.len());
        all.extend(mine);
        part.snapshot().unwrap();
        assert_eq!(part.state_entries(), 0);
    }
    assert_eq!(all.len(), 50);
}

#[test]
fn without_memory_the_rows_wait_in_the_state() {
    for kind in [v1::JoinKind::Inner, v1::JoinKind::Full] {
        let run = |memory_bytes: usize, restores: bool| {
            let open = || {
                let mut context = open_context(vec![side(), side()], output(kind), 0, 1);
                context.memory_bytes = memory_bytes;
                context
            };
            let mut harness = Harness::open_with(operator(kind), open()).unwrap();
            for round in 0..4 {
                let left: String = (0..10)
                    .map(|k| format!("{k} a{round} {}\n", k % 3))
                    .collect();
                let right: String = (5..15)
                    .map(|k| format!("{k} x{round} {}\n", k % 3))
                    .collect();
                harness.push(0, rows(&left)).unwrap();
                harness.push(1, rows(&right)).unwrap();
                if restores {
                    let snapshot = harness.snapshot().unwrap();
                    harness = Harness::restore(operator(kind), open(), &snapshot).unwrap();
                }
            }
            harness.watermark(1999).unwrap();
            harness.end().unwrap();
            harness.snapshot().unwrap();
            assert_eq!(harness.state_entries(), 0);
            harness.sorted_rows().unwrap()
        };
        let expected = run(usize::MAX, false);
        for (memory_bytes, restores) in [(1, false), (1, true), (usize::MAX, true)] {
            assert_eq!(run(memory_bytes, restores), expected);
        }
    }
}

#[test]
fn rows_and_firings_behind_a_barrier_are_not_in_its_snapshot() {
    let kind = v1::JoinKind::Full;
    let open = || Harness::open(operator(kind), vec![side(), side()], output(kind)).unwrap();
    let many = |value: &str, window: u32| {
        let lines: String = (0..20).map(|k| format!("{k} {value} {window}\n")).collect();
        rows(&lines)
    };
    let before = [
        rows_in(0, many("a", 0)),
        rows_in(1, many("x", 0)),
        rows_in(0, many("b", 1)),
        rows_in(0, many("c", 2)),
    ];
    let behind = [
        rows_in(1, many("y", 1)),
        time(999),
        rows_in(0, many("d", 1)),
        rows_in(0, many("e", 2)),
        time(1999),
    ];
    assert_frozen(&open, &before, &behind);
}
