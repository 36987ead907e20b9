use weir_dataflow::testing::{Harness, HarnessSnapshot, batch, open_context, schema};

use super::*;
use crate::testing::{assert_frozen, rows_in};
use arrow::datatypes::DataType;

fn side() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("v", DataType::Utf8)])
}

fn output(kind: JoinKind) -> SchemaRef {
    let fields = side().fields().to_vec();
    match kind {
        JoinKind::Semi | JoinKind::Anti => side(),
        _ => Arc::new(Schema::new([fields.clone(), fields].concat())),
    }
}

fn spec(kind: JoinKind, retracts: bool) -> v1::Join {
    v1::Join {
        kind: kind.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        left_retracts: retracts,
        right_retracts: retracts,
        ..v1::Join::default()
    }
}

fn open(spec: v1::Join, memory_bytes: usize) -> Harness {
    let out = output(spec.kind());
    let mut context = open_context(vec![side(), side()], out, 0, 1);
    context.memory_bytes = memory_bytes;
    Harness::open_with(Box::new(JoinOperator::new(spec).unwrap()), context).unwrap()
}

fn rows(text: &str) -> Batch {
    batch(&side(), text).unwrap()
}

/// What each batch does to the result: "L:" or "R:", then its rows.
fn run(spec: v1::Join, memory_bytes: usize, steps: &[&str]) -> Vec<Vec<String>> {
    let mut harness = open(spec, memory_bytes);
    let mut seen = Vec::new();
    for step in steps {
        let (side, text) = step.split_at(2);
        let input = usize::from(side == "R:");
        harness.push(input, rows(&text.replace(';', "\n"))).unwrap();
        seen.push(harness.rows().unwrap());
    }
    seen
}

const MEMORY: usize = 1 << 20;

#[test]
fn pairs_come_when_the_second_of_two_rows_does() {
    for memory in [MEMORY, 0] {
        let seen = run(
            spec(JoinKind::Inner, false),
            memory,
            &[
                "L:1 a; 2 b; null n",
                "R:1 x; 3 z; null m",
                "L:1 c; 3 d",
                "R:1 y",
            ],
        );
        assert_eq!(seen[0], Vec::<String>::new());
        assert_eq!(seen[1], ["+I 1 a 1 x"]);
        assert_eq!(seen[2], ["+I 1 c 1 x", "+I 3 d 3 z"]);
        let mut last = seen[3].clone();
        last.sort();
        assert_eq!(last, ["+I 1 a 1 y", "+I 1 c 1 y"]);
    }
}

#[test]
fn a_row_without_a_partner_is_padded_until_one_comes() {
    for memory in [MEMORY, 0] {
        let seen = run(
            spec(JoinKind::Left, true),
            memory,
            &[
                "L:1 a; null n",
                "R:1 x",
                "R:1 y",
                "R:-D 1 x",
                "R:-D 1 y",
                "L:-D 1 a; -D null n",
            ],
        );
        assert_eq!(seen[0], ["+I 1 a null null", "+I null n null null"]);
        assert_eq!(seen[1], ["-D 1 a null null", "+I 1 a 1 x"]);
        assert_eq!(seen[2], ["+I 1 a 1 y"]);
        assert_eq!(seen[3], ["-D 1 a 1 x"]);
        assert_eq!(seen[4], ["-D 1 a 1 y", "+I 1 a null null"]);
        assert_eq!(seen[5], ["-D 1 a null null", "-D null n null null"]);
    }
}

#[test]
fn both_sides_of_a_full_join_are_padded() {
    for memory in [MEMORY, 0] {
        let seen = run(
            spec(JoinKind::Full, true),
            memory,
            &[
                "R:1 x; null m",
                "L:1 a; 1 a",
                "L:-D 1 a",
                "L:-D 1 a",
                "R:-D 1 x",
            ],
        );
        assert_eq!(seen[0], ["+I null null 1 x", "+I null null null m"]);
        assert_eq!(seen[1], ["-D null null 1 x", "+I 1 a 1 x", "+I 1 a 1 x"]);
        assert_eq!(seen[2], ["-D 1 a 1 x"]);
        assert_eq!(seen[3], ["-D 1 a 1 x", "+I null null 1 x"]);
        assert_eq!(seen[4], ["-D null null 1 x"]);
    }
}

#[test]
fn semi_and_anti_joins_ask_only_whether_there_is_a_partner() {
    for memory in [MEMORY, 0] {
        let steps = [
            "L:1 a; 2 b; null n",
            "R:1 x; 1 x; 2 y",
            "R:-D 1 x",
            "R:-D 1 x",
            "L:1 c; -D 2 b",
        ];
        let semi = run(spec(JoinKind::Semi, true), memory, &steps);
        assert_eq!(semi[0], Vec::<String>::new());
        assert_eq!(semi[1], ["+I 1 a", "+I 2 b"]);
        assert_eq!(semi[2], Vec::<String>::new());
        assert_eq!(semi[3], ["-D 1 a"]);
        assert_eq!(semi[4], ["-D 2 b"]);
        let anti = run(spec(JoinKind::Anti, true), memory, &steps);
        assert_eq!(anti[0], ["+I 1 a", "+I 2 b", "+I null n"]);
        assert_eq!(anti[1], ["-D 1 a", "-D 2 b"]);
        assert_eq!(anti[2], Vec::<String>::new());
        assert_eq!(anti[3], ["+I 1 a"]);
        assert_eq!(anti[4], ["+I 1 c"]);
    }
}

#[test]
fn null_equals_null_where_the_join_says_so() {
    let mut spec = spec(JoinKind::Inner, false);
    spec.null_safe = vec![true];
    let seen = run(spec, MEMORY, &["L:null a", "R:null x"]);
    assert_eq!(seen[1], ["+I null a null x"]);
}

#[test]
fn without_keys_all_rows_meet() {
    let spec = v1::Join {
        left_keys: Vec::new(),
        right_keys: Vec::new(),
        null_safe: Vec::new(),
        ..spec(JoinKind::Inner, false)
    };
    let seen = run(spec, 0, &["L:1 a; null b", "R:3 x"]);
    assert_eq!(seen[1].len(), 2);
}

#[test]
fn rows_expire_if_nobody_touches_them() {
    for memory in [MEMORY, 0] {
        let mut spec = spec(JoinKind::Inner, false);
        spec.left_ttl_ms = 1000;
        let mut harness = open(spec, memory);
        harness.tick(0).unwrap();
        harness.push(0, rows("1 a\n2 b")).unwrap();
        harness.push(1, rows("9 z")).unwrap();
        harness.tick(999).unwrap();
        harness.push(1, rows("1 x")).unwrap();
        assert_eq!(harness.rows().unwrap(), ["+I 1 a 1 x"]);
        // Gone at the moment when its time is over, and soon after from the state, too.
        for _ in 0..2000 {
            harness.tick(1000).unwrap();
        }
        harness.push(1, rows("2 y")).unwrap();
        assert!(harness.rows().unwrap().is_empty());
        harness.snapshot().unwrap();
        assert_eq!(harness.state_entries(), 3);
    }
}

#[test]
fn rows_that_come_and_go_leave_no_trace() {
    let mut harness = open(spec(JoinKind::Left, true), MEMORY);
    harness.push(1, rows("7 x")).unwrap();
    for round in 0..50 {
        harness
            .push(0, rows(&format!("7 a{round}\n{round} b")))
            .unwrap();
        harness
            .push(0, rows(&format!("-D 7 a{round}\n-D {round} b")))
            .unwrap();
        if round % 7 == 0 {
            harness.snapshot().unwrap();
        }
    }
    harness.rows().unwrap();
    harness.push(0, rows("7 last")).unwrap();
    assert_eq!(harness.rows().unwrap(), ["+I 7 last 7 x"]);
    harness.snapshot().unwrap();
    assert_eq!(harness.state_entries(), 2);
}

/// The rows of the result after a changelog.
fn fold(result: &mut Vec<String>, changes: Vec<String>) {
    for change in changes {
        let (kind, row) = change.split_at(3);
        match kind {
            "+I " => result.push(row.to_owned()),
            _ => {
                let at = result.iter().position(|known| known == row).unwrap();
                result.swap_remove(at);
            }
        }
    }
}

#[test]
fn a_restore_at_another_parallelism_goes_on_with_the_same_result() {
    use weir_common::key_group::{key_group_of_hash, subtask_of};
    for retracts in [true, false] {
        for kind in [
            JoinKind::Inner,
            JoinKind::Full,
            JoinKind::Semi,
            JoinKind::Anti,
        ] {
            let input = |round: usize, side: usize| {
                let rows: Vec<String> = (0..20)
                    .map(|i| {
                        format!(
                            "{} {side}v{round}_{i}",
                            (i * 7 + round * side) % 11 * (1 + side)
                        )
                    })
                    .collect();
                rows.join("\n")
            };
            let mut expected = Vec::new();
            let mut whole = open(spec(kind, retracts), MEMORY);
            let mut result = Vec::new();
            let mut snapshot: Option<HarnessSnapshot> = None;
            for (round, parallelism) in [1u32, 2, 3, 1].into_iter().enumerate() {
                let mut subtasks: Vec<Harness> = (0..parallelism)
                    .map(|subtask| {
                        let mut context =
                            open_context(vec![side(), side()], output(kind), subtask, parallelism);
                        // The second attempt has no room for anything.
                        context.memory_bytes = if round == 1 { 0 } else { MEMORY };
                        let operator = Box::new(JoinOperator::new(spec(kind, retracts)).unwrap());
                        match &snapshot {
                            Some(snapshot) => Harness::restore(operator, context, snapshot),
                            None => Harness::open_with(operator, context),
                        }
                        .unwrap()
                    })
                    .collect();
                for number in 0..2 {
                    let all = rows(&input(round, number));
                    whole.push(number, all.clone()).unwrap();
                    fold(&mut expected, whole.rows().unwrap());
                    let mut hashes = Vec::new();
                    KeyEncoder::new(&side(), &[0])
                        .unwrap()
                        .hashes(all.data(), &mut hashes)
                        .unwrap();
                    for (subtask, harness) in subtasks.iter_mut().enumerate() {
                        let here = |hash: &u64| {
                            let group = key_group_of_hash(*hash, 128);
                            subtask_of(group, 128, parallelism) == subtask as u32
                        };
                        let mine = hashes.iter().enumerate().filter(|(_, hash)| here(hash));
                        let mine = mine.map(|(row, _)| row as u32);
                        let mine = arrow::array::UInt32Array::from_iter_values(mine);
                        harness.push(number, all.take(&mine).unwrap()).unwrap();
                        fold(&mut result, harness.rows().unwrap());
                    }
                }
                let mut keyed = Vec::new();
                let mut states = Vec::new();
                for harness in &mut subtasks {
                    let part = harness.snapshot().unwrap();
                    keyed.extend(part.keyed);
                    states.extend(part.states.into_inner());
                }
                let states = weir_dataflow::OperatorStates::from_parts(states);
                snapshot = Some(HarnessSnapshot { keyed, states });
            }
            result.sort();
            expected.sort();
            assert!(result == expected, "{kind:?}");
            assert!(!result.is_empty());
        }
    }
}

#[test]
fn a_snapshot_is_as_of_its_barrier() {
    for memory in [MEMORY, 0] {
        let open = || open(spec(JoinKind::Full, true), memory);
        let before = [
            rows_in(0, rows("1 a\n2 b\n3 c\n3 c\n4 d\n5 e")),
            rows_in(1, rows("1 x\n2 y\n9 z")),
        ];
        let behind = [
            rows_in(0, rows("-D 1 a\n3 c\n9 k")),
            rows_in(1, rows("-D 2 y\n4 w")),
            rows_in(0, rows("1 a\n-D 5 e")),
        ];
        assert_frozen(&open, &before, &behind);
    }
}

mod model;
