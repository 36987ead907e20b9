use arrow::datatypes::{DataType, TimeUnit};
use weir_dataflow::testing::{Harness, batch, schema};

use super::*;
use crate::testing::{Cluster, assert_frozen, rows_in, time};

const T: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn input() -> SchemaRef {
    schema(&[("v", DataType::Utf8), ("k", DataType::Int64), ("t", T)])
}

fn spec(keep_last: bool, by_time: bool) -> v1::Deduplicate {
    v1::Deduplicate {
        key_columns: vec![1],
        time_column: by_time.then_some(2),
        keep_last,
        emit_update_before: true,
        state_ttl_ms: 0,
    }
}

fn operator(spec: &v1::Deduplicate) -> Box<dyn Operator> {
    Box::new(DeduplicateOperator::new(spec).unwrap())
}

fn open(spec: &v1::Deduplicate) -> Harness {
    Harness::open(operator(spec), vec![input()], input()).unwrap()
}

/// Times are milliseconds, below 1000.
fn rows(text: &str) -> Batch {
    let with_time = |line: &str| match line.rsplit_once(' ') {
        Some((rest, "null")) => format!("{rest} null"),
        Some((rest, time)) => format!("{rest} 1970-01-01T00:00:00.{time:0>3}"),
        None => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(with_time).collect();
    batch(&input(), &lines.join("\n")).unwrap()
}

/// With times as [`rows`] takes them.
fn shown(harness: &mut Harness) -> Vec<String> {
    let short = |row: String| match row.rsplit_once(" 1970-01-01T00:00:00") {
        Some((rest, time)) => {
            let time = time.trim_start_matches(['.', '0']);
            format!("{rest} {time}")
        }
        None => row,
    };
    harness.rows().unwrap().into_iter().map(short).collect()
}

fn push(harness: &mut Harness, text: &str) -> Vec<String> {
    harness.push(0, rows(text)).unwrap();
    shown(harness)
}

#[test]
fn the_first_row_that_comes_stays() {
    let mut harness = open(&spec(false, false));
    assert_eq!(
        push(&mut harness, "a 1 5\nb 1 4\nc 2 9"),
        ["+I a 1 5", "+I c 2 9"]
    );
    assert_eq!(push(&mut harness, "d 1 1\ne 3 1"), ["+I e 3 1"]);
}

#[test]
fn the_last_row_that_comes_takes_the_place_of_the_one_before() {
    let mut harness = open(&spec(true, false));
    assert_eq!(
        push(&mut harness, "a 1 5\nb 1 4\nc 2 9"),
        ["+I b 1 4", "+I c 2 9"]
    );
    assert_eq!(
        push(&mut harness, "d 1 1\ne 3 1"),
        ["-U b 1 4", "+U d 1 1", "+I e 3 1"]
    );
    let mut without = spec(true, false);
    without.emit_update_before = false;
    let mut harness = open(&without);
    assert_eq!(push(&mut harness, "a 1 5"), ["+I a 1 5"]);
    assert_eq!(push(&mut harness, "b 1 5"), ["+U b 1 5"]);
}

#[test]
fn by_rowtime_a_row_of_the_same_time_is_a_later_one() {
    let mut harness = open(&spec(true, true));
    assert_eq!(push(&mut harness, "a 1 5\nb 1 4\nc 1 5"), ["+I c 1 5"]);
    assert!(push(&mut harness, "d 1 4\ne 1 null").is_empty());
    assert_eq!(push(&mut harness, "f 1 5"), ["-U c 1 5", "+U f 1 5"]);
}

#[test]
fn the_first_row_by_rowtime_waits_for_the_watermark() {
    let mut harness = open(&spec(false, true));
    assert!(push(&mut harness, "a 1 50\nb 1 40\nc 1 40\nd 2 30\ne 3 90").is_empty());
    assert!(push(&mut harness, "f 2 31").is_empty());
    harness.watermark(40).unwrap();
    assert_eq!(shown(&mut harness), ["+I d 2 30", "+I b 1 40"]);
    // A late row, one of a key that is done, and one of a new key.
    assert!(push(&mut harness, "g 3 39\nh 1 41\ni 4 40").is_empty());
    harness.watermark(i64::MAX).unwrap();
    assert_eq!(shown(&mut harness), ["+I i 4 40", "+I e 3 90"]);
}

#[test]
fn memory_and_restores_change_no_result() {
    for (keep_last, by_time) in [(false, false), (true, false), (false, true), (true, true)] {
        let spec = spec(keep_last, by_time);
        let create = || operator(&spec);
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
                let lines: String = (0..10)
                    .map(|i| {
                        format!(
                            "r{step}.{i} {} {}\n",
                            (step * 7 + i * 3) % 23,
                            step * 10 + (i * 37) % 50
                        )
                    })
                    .collect();
                cluster.push(&rows(lines.trim_end()));
                cluster.watermark(step * 10);
                seen.extend(cluster.rows());
                if restarts && step % 6 == 3 {
                    cluster.restart(1 + (step % 3) as u32);
                    // Watermarks are not restored.
                    cluster.watermark(step * 10);
                }
            }
            cluster.watermark(i64::MAX);
            seen.extend(cluster.rows());
            seen.sort();
            seen
        };
        let expected = run(usize::MAX, false);
        assert!(expected.len() > 20);
        for (memory_bytes, restarts) in [(1, false), (1, true), (usize::MAX, true)] {
            assert_eq!(
                run(memory_bytes, restarts),
                expected,
                "{keep_last} {by_time}"
            );
        }
    }
}

#[test]
fn rows_and_firings_behind_a_barrier_are_not_in_its_snapshot() {
    for (keep_last, by_time) in [(false, false), (true, true), (false, true)] {
        let spec = spec(keep_last, by_time);
        let many = |value: &str, at: i64| {
            let lines: Vec<String> = (0..20).map(|k| format!("{value} {k} {}", at + k)).collect();
            rows(&lines.join("\n"))
        };
        let before = [
            rows_in(0, many("a", 100)),
            time(104),
            rows_in(0, many("b", 100)),
        ];
        let behind = [
            rows_in(0, many("c", 110)),
            time(112),
            rows_in(0, many("d", 90)),
        ];
        assert_frozen(&|| open(&spec), &before, &behind);
    }
}

#[test]
fn an_updating_input_and_what_is_not_built_are_refused() {
    let mut harness = open(&spec(true, false));
    let error = harness.push(0, rows("-D a 1 5")).unwrap_err();
    assert!(error.to_string().contains("insert-only"), "{error}");
    let mut ttl = spec(true, false);
    ttl.state_ttl_ms = 1;
    assert!(DeduplicateOperator::new(&ttl).is_err());
}
