use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use weir_dataflow::testing::{Harness, batch, open_context, schema};

use super::*;

fn input() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    schema(&[("v", DataType::Int64), ("t", time)])
}

fn spec(columns: &[u32], time_column: Option<u32>) -> v1::Sort {
    let key = |column: &u32| v1::SortColumn {
        column: *column,
        ..v1::SortColumn::default()
    };
    v1::Sort {
        order: columns.iter().map(key).collect(),
        time_column,
    }
}

fn open(spec: &v1::Sort, memory_bytes: usize) -> Harness {
    let mut context = open_context(vec![input()], input(), 0, 1);
    context.memory_bytes = memory_bytes;
    Harness::open_with(Box::new(SortOperator::new(spec)), context).unwrap()
}

/// `value second`
fn push(harness: &mut Harness, text: &str) {
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let (value, second) = line.split_once(' ').unwrap();
            format!("{value} 1970-01-01T00:00:0{second}")
        })
        .collect();
    let rows = batch(&input(), &lines.join("\n")).unwrap();
    harness.push(0, rows).unwrap();
}

fn rows(harness: &mut Harness) -> Vec<String> {
    let rows = harness.rows().unwrap().into_iter();
    rows.map(|row| row.replace("1970-01-01T00:00:0", "").replace("+I ", ""))
        .collect()
}

#[test]
fn by_time_rows_come_when_the_watermark_passes_them() {
    for memory_bytes in [1, usize::MAX] {
        let mut harness = open(&spec(&[1, 0], Some(1)), memory_bytes);
        push(&mut harness, "5 3\n9 1\n2 3\n7 2");
        harness.watermark(2000).unwrap();
        assert_eq!(rows(&mut harness), ["9 1", "7 2"]);
        // Late.
        push(&mut harness, "4 2\n3 3");
        harness.watermark(2999).unwrap();
        assert!(rows(&mut harness).is_empty());
        harness.end().unwrap();
        assert_eq!(rows(&mut harness), ["2 3", "3 3", "5 3"]);
    }
}

#[test]
fn without_time_all_rows_come_at_the_end() {
    let mut harness = open(&spec(&[0], None), usize::MAX);
    push(&mut harness, "5 3\n9 1\n2 3");
    harness.watermark(9000).unwrap();
    let snapshot = harness.snapshot().unwrap();
    assert!(rows(&mut harness).is_empty());
    let operator = Box::new(SortOperator::new(&spec(&[0], None)));
    let context = open_context(vec![input()], input(), 0, 1);
    let mut harness = Harness::restore(operator, context, &snapshot).unwrap();
    push(&mut harness, "4 2");
    harness.end().unwrap();
    assert_eq!(rows(&mut harness), ["2 3", "4 2", "5 3", "9 1"]);
}
