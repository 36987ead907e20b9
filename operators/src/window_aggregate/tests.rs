use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_dataflow::testing::{Harness, HarnessSnapshot, batch, open_context, schema};

use super::*;
use crate::testing::{Cluster, assert_frozen, calls, rows_in, time};

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn input() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("t", TIME),
        ("v", DataType::Int64),
        ("s", DataType::Utf8),
    ])
}

fn window(kind: v1::WindowKind, size_ms: i64, slide_ms: i64) -> v1::WindowSpec {
    v1::WindowSpec {
        kind: kind.into(),
        size_ms,
        slide_ms,
        time_column: 1,
        ..Default::default()
    }
}

fn spec(window: v1::WindowSpec, aggregates: &[&str]) -> v1::WindowAggregate {
    v1::WindowAggregate {
        window: Some(window),
        key_columns: vec![0],
        aggregates: calls(aggregates),
        window_properties: vec!["window_start".into(), "window_end".into()],
        ..Default::default()
    }
}

fn output(spec: &v1::WindowAggregate) -> SchemaRef {
    let mut columns = vec![("k", DataType::Int64)];
    for call in &spec.aggregates {
        let text = call.arguments.first() == Some(&3) && call.function != "COUNT";
        columns.push((
            "a",
            if text {
                DataType::Utf8
            } else {
                DataType::Int64
            },
        ));
    }
    columns.extend(spec.window_properties.iter().map(|_| ("w", TIME)));
    schema(&columns)
}

fn open(spec: &v1::WindowAggregate) -> Harness {
    let operator = WindowAggregateOperator::new(spec).unwrap();
    Harness::open(Box::new(operator), vec![input()], output(spec)).unwrap()
}

/// Milliseconds within the first minute, as text.
fn at(millis: i64) -> String {
    format!("1970-01-01T00:00:{:02}.{:03}", millis / 1000, millis % 1000)
}

/// Arrow leaves a fraction of zero out.
fn shown(millis: i64) -> String {
    at(millis).trim_end_matches(".000").to_owned()
}

fn rows(rows: &[(i64, i64, i64)]) -> Batch {
    let line = |(k, t, v): &(i64, i64, i64)| format!("{k} {} {v} x{v}", at(*t));
    let lines: Vec<String> = rows.iter().map(line).collect();
    batch(&input(), &lines.join("\n")).unwrap()
}

#[test]
fn a_window_fires_when_the_watermark_passes_its_last_millisecond() {
    let mut harness = open(&spec(
        window(v1::WindowKind::Tumble, 1000, 0),
        &["COUNT", "SUM 2"],
    ));
    harness
        .push(
            0,
            rows(&[(1, 0, 5), (2, 999, 6), (1, 1000, 7), (1, 500, 8)]),
        )
        .unwrap();
    assert_eq!(harness.watermark(998).unwrap(), 998);
    assert!(harness.rows().unwrap().is_empty());
    harness.watermark(999).unwrap();
    let (start, end) = (shown(0), shown(1000));
    assert_eq!(
        harness.rows().unwrap(),
        [
            format!("+I 1 2 13 {start} {end}"),
            format!("+I 2 1 6 {start} {end}")
        ]
    );
    // Late rows are dropped; those of an open window are not.
    harness
        .push(0, rows(&[(1, 999, 100), (1, 1999, 1)]))
        .unwrap();
    harness.end().unwrap();
    assert_eq!(
        harness.rows().unwrap(),
        [format!("+I 1 2 8 {} {}", shown(1000), shown(2000))]
    );
    harness.snapshot().unwrap();
}

#[test]
fn properties_stand_in_the_order_asked_for() {
    let mut spec = spec(window(v1::WindowKind::Tumble, 1000, 0), &[]);
    spec.window_properties = vec!["window_time".into(), "window_start".into()];
    let mut harness = open(&spec);
    harness.push(0, rows(&[(1, 10, 5)])).unwrap();
    harness.end().unwrap();
    assert_eq!(
        harness.rows().unwrap(),
        [format!("+I 1 {} {}", at(999), shown(0))]
    );
}

#[test]
fn a_window_that_comes_with_its_rows_needs_no_time_column() {
    let input = schema(&[("k", DataType::Int64), ("ws", TIME), ("we", TIME)]);
    let mut spec = spec(v1::WindowSpec::default(), &["COUNT"]);
    spec.window = None;
    spec.window_start_column = Some(1);
    spec.window_end_column = Some(2);
    let operator = WindowAggregateOperator::new(&spec).unwrap();
    let mut harness =
        Harness::open(Box::new(operator), vec![input.clone()], output(&spec)).unwrap();
    let line = |start, end| format!("1 {} {}", at(start), at(end));
    let text = [
        line(0, 2000),
        line(1000, 2000),
        line(0, 2000),
        line(2000, 3000),
    ]
    .join("\n");
    harness.push(0, batch(&input, &text).unwrap()).unwrap();
    harness.watermark(1999).unwrap();
    assert_eq!(
        harness.sorted_rows().unwrap(),
        [
            format!("+I 1 1 {} {}", shown(1000), shown(2000)),
            format!("+I 1 2 {} {}", shown(0), shown(2000)),
        ]
    );
    harness
        .push(0, batch(&input, &line(0, 2000)).unwrap())
        .unwrap();
    harness.end().unwrap();
    assert_eq!(
        harness.rows().unwrap(),
        [format!("+I 1 1 {} {}", shown(2000), shown(3000))]
    );
}

#[test]
fn windows_of_processing_time_follow_the_clock() {
    let mut window = window(v1::WindowKind::Tumble, 1000, 0);
    window.processing_time = true;
    let mut harness = open(&spec(window, &["COUNT"]));
    harness.push(0, rows(&[(1, 50_000, 5)])).unwrap();
    harness.watermark(i64::MAX - 1).unwrap();
    harness.tick(999).unwrap();
    assert!(harness.rows().unwrap().is_empty());
    harness.tick(1000).unwrap();
    assert_eq!(
        harness.rows().unwrap(),
        [format!("+I 1 1 {} {}", shown(0), shown(1000))]
    );
}

#[test]
fn what_is_done_with_leaves_the_state() {
    let mut harness = open(&spec(
        window(v1::WindowKind::Hop, 4000, 1000),
        &["COUNT", "COUNT DISTINCT 3"],
    ));
    harness.push(0, rows(&[(1, 500, 5), (2, 600, 6)])).unwrap();
    harness.snapshot().unwrap();
    // Two groups, two distinct values, and how far time had come is not known yet.
    assert_eq!(harness.state_entries(), 4);
    harness.watermark(5000).unwrap();
    assert_eq!(harness.rows().unwrap().len(), 8);
    harness.snapshot().unwrap();
    assert_eq!(harness.state_entries(), 128);
}

#[test]
fn what_can_not_be_done_is_refused_by_name() {
    let refused = |spec: &v1::WindowAggregate| {
        WindowAggregateOperator::new(spec)
            .err()
            .map_or_else(String::new, |error| error.to_string())
    };
    let session = spec(window(v1::WindowKind::Session, 1000, 0), &["COUNT"]);
    assert!(refused(&session).contains("SESSION"));
    let mut other = spec(window(v1::WindowKind::Tumble, 1000, 0), &["COUNT"]);
    other.window_properties = vec!["window_size".into()];
    assert!(refused(&other).contains("window_size"));
    let mut harness = open(&spec(window(v1::WindowKind::Tumble, 1000, 0), &["COUNT"]));
    let error = harness
        .push(0, batch(&input(), "1 null 5 x").unwrap())
        .unwrap_err();
    assert!(error.to_string().contains("NULL"), "{error}");
    let retraction = batch(&input(), &format!("-D 1 {} 5 x", at(0))).unwrap();
    assert!(harness.push(0, retraction).is_err());
}

#[test]
fn key_groups_that_were_further_do_not_fire_twice() {
    let spec = spec(window(v1::WindowKind::Hop, 4000, 1000), &["COUNT"]);
    let create = || Box::new(WindowAggregateOperator::new(&spec).unwrap()) as Box<dyn Operator>;
    let mut cluster = cluster(&spec, &create, 64 << 20);
    cluster.start(2, None);
    let all: Vec<(i64, i64, i64)> = (0..20).map(|k| (k, 500, 1)).collect();
    cluster.push(&rows(&all));
    // One subtask is further when the snapshot is taken.
    cluster.subtasks[0].watermark(1999).unwrap();
    cluster.subtasks[1].watermark(999).unwrap();
    let mut emitted = cluster.rows();
    cluster.restart(1);
    cluster.watermark(i64::MAX);
    emitted.extend(cluster.rows());
    let total = emitted.len();
    emitted.sort();
    emitted.dedup();
    assert_eq!((total, emitted.len()), (80, 80));
}

fn cluster<'a>(
    spec: &v1::WindowAggregate,
    create: &'a dyn Fn() -> Box<dyn Operator>,
    memory_bytes: usize,
) -> Cluster<'a> {
    Cluster {
        input: input(),
        output: output(spec),
        keys: vec![0],
        memory_bytes,
        create,
        subtasks: Vec::new(),
    }
}

const AGGREGATES: [&str; 6] = [
    "COUNT",
    "SUM 2",
    "MIN 2",
    "MAX 3",
    "AVG 2",
    "COUNT DISTINCT 2",
];

/// By the definition: all windows of all rows.
fn naive(spec: v1::WindowSpec, rows: &[(i64, i64, i64)], distinct: bool) -> Vec<String> {
    let mut windows: BTreeMap<(i64, i64, i64), Vec<i64>> = BTreeMap::new();
    for (k, t, v) in rows {
        for end in 1..100_000 / 250 {
            let end = end * 250;
            let start = match spec.kind() {
                v1::WindowKind::Tumble if end % spec.size_ms == 0 => end - spec.size_ms,
                v1::WindowKind::Hop if (end - spec.size_ms) % spec.slide_ms == 0 => {
                    end - spec.size_ms
                }
                v1::WindowKind::Cumulate if end % spec.slide_ms == 0 => {
                    (end - 1) / spec.size_ms * spec.size_ms
                }
                _ => continue,
            };
            if (start..end).contains(t) {
                windows.entry((*k, start, end)).or_default().push(*v);
            }
        }
    }
    let line = |((k, start, end), values): (&(i64, i64, i64), &Vec<i64>)| {
        let sum: i64 = values.iter().sum();
        let text = values.iter().map(|v| format!("x{v}")).max().unwrap();
        let count = values.len() as i64;
        let different = values
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len();
        let different = if distinct {
            format!(" {different}")
        } else {
            String::new()
        };
        let (min, average) = (values.iter().min().unwrap(), sum / count);
        format!("+I {k} {count} {sum} {min} {text} {average}{different} {start} {end}")
    };
    windows.iter().map(line).collect()
}

/// Replaces the last two columns by milliseconds.
fn in_millis(row: &str) -> String {
    let words: Vec<&str> = row.split(' ').collect();
    let millis = |text: &str| {
        let (minutes, seconds) = text
            .trim_start_matches("1970-01-01T00:")
            .split_once(':')
            .unwrap();
        let seconds: f64 = seconds.parse().unwrap();
        minutes.parse::<i64>().unwrap() * 60_000 + (seconds * 1000.0).round() as i64
    };
    // Windows may start before the epoch.
    let time = |text: &str| {
        if text.starts_with("1969") {
            let rest = text.replace("1969-12-31T23:", "1970-01-01T00:");
            millis(&rest) - 3_600_000
        } else {
            millis(text)
        }
    };
    let count = words.len();
    format!(
        "{} {} {}",
        words[..count - 2].join(" "),
        time(words[count - 2]),
        time(words[count - 1])
    )
}

type Batches = Vec<Vec<(i64, i64, i64)>>;

/// Batches of rows that are out of order by less than 1500 ms, with a watermark that far behind.
fn batches() -> impl Strategy<Value = Batches> {
    let row = (0i64..5, 0i64..1500, -5i64..6);
    prop::collection::vec(prop::collection::vec(row, 1..12), 1..8).prop_map(|batches| {
        let shift = |(number, rows): (usize, Vec<(i64, i64, i64)>)| {
            let late = number as i64 * 700;
            rows.into_iter().map(|(k, t, v)| (k, t + late, v)).collect()
        };
        batches.into_iter().enumerate().map(shift).collect()
    })
}

fn windows() -> impl Strategy<Value = v1::WindowSpec> {
    prop::sample::select(vec![
        window(v1::WindowKind::Tumble, 1000, 0),
        window(v1::WindowKind::Hop, 2000, 500),
        window(v1::WindowKind::Hop, 1250, 500),
        window(v1::WindowKind::Hop, 500, 1000),
        window(v1::WindowKind::Cumulate, 3000, 750),
    ])
}

fn check(window: v1::WindowSpec, batches: Batches, spills: bool, restarts: bool) {
    let spec = spec(window, &AGGREGATES);
    let create = || Box::new(WindowAggregateOperator::new(&spec).unwrap()) as Box<dyn Operator>;
    let mut cluster = cluster(&spec, &create, if spills { 1 } else { 64 << 20 });
    cluster.start(1, None);
    let mut emitted = Vec::new();
    for (number, part) in batches.iter().enumerate() {
        cluster.push(&rows(part));
        cluster.watermark(number as i64 * 700 + 699);
        emitted.extend(cluster.rows());
        if restarts {
            cluster.restart([3, 2, 1][number % 3]);
        }
    }
    cluster.watermark(i64::MAX);
    emitted.extend(cluster.rows());
    let mut emitted: Vec<String> = emitted.iter().map(|row| in_millis(row)).collect();
    let mut expected = naive(window, &batches.concat(), true);
    emitted.sort();
    expected.sort();
    assert_eq!(emitted, expected);
}

fn check_phases(window: v1::WindowSpec, batches: Batches, restarts: bool) {
    let mut local = spec(window, &AGGREGATES[..5]);
    local.phase = Phase::Local.into();
    let mut global = local.clone();
    global.phase = Phase::Global.into();
    let between: SchemaRef = weir_dataflow::agg::local_output_schema(&local, &input())
        .unwrap()
        .into();
    let create = |spec| Box::new(WindowAggregateOperator::new(spec).unwrap());
    let restore = |snapshot: Option<&HarnessSnapshot>| {
        let context = || open_context(vec![between.clone()], output(&global), 0, 1);
        match snapshot {
            Some(snapshot) => Harness::restore(create(&global), context(), snapshot).unwrap(),
            None => Harness::open_with(create(&global), context()).unwrap(),
        }
    };
    let mut first = Harness::open(create(&local), vec![input()], between.clone()).unwrap();
    let mut second = restore(None);
    let mut emitted = Vec::new();
    let hand_on = |first: &mut Harness, second: &mut Harness| {
        let text = first.rows().unwrap().join("\n");
        if !text.is_empty() {
            second.push(0, batch(&between, &text).unwrap()).unwrap();
        }
    };
    for (number, part) in batches.iter().enumerate() {
        first.push(0, rows(part)).unwrap();
        let watermark = first.watermark(number as i64 * 700 + 699).unwrap();
        hand_on(&mut first, &mut second);
        second.watermark(watermark).unwrap();
        emitted.extend(second.rows().unwrap());
        if restarts {
            first.snapshot().unwrap();
            hand_on(&mut first, &mut second);
            let snapshot = second.snapshot().unwrap();
            emitted.extend(second.rows().unwrap());
            second = restore(Some(&snapshot));
            first = Harness::open(create(&local), vec![input()], between.clone()).unwrap();
        }
    }
    first.end().unwrap();
    hand_on(&mut first, &mut second);
    second.end().unwrap();
    emitted.extend(second.rows().unwrap());
    let mut emitted: Vec<String> = emitted.iter().map(|row| in_millis(row)).collect();
    let mut expected = naive(window, &batches.concat(), false);
    emitted.sort();
    expected.sort();
    assert_eq!(emitted, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn windows_hold_what_they_hold_by_definition(
        window in windows(), batches in batches(), spills: bool, restarts: bool,
    ) {
        check(window, batches, spills, restarts);
    }

    #[test]
    fn two_phases_give_what_one_gives(window in windows(), batches in batches(), restarts: bool) {
        check_phases(window, batches, restarts);
    }
}

#[test]
fn rows_and_firings_behind_a_barrier_are_not_in_its_snapshot() {
    let aggregates = ["COUNT", "MAX 2", "COUNT DISTINCT 3"];
    let many = |t: i64, v: i64| {
        let keys: Vec<_> = (0..15).map(|k| (k, t, v)).collect();
        rows_in(0, rows(&keys))
    };
    let windows = [
        window(v1::WindowKind::Tumble, 1000, 0),
        window(v1::WindowKind::Hop, 2000, 1000),
    ];
    for (window, memory_bytes) in windows.into_iter().flat_map(|w| [(w, 1), (w, 64 << 20)]) {
        let spec = spec(window, &aggregates);
        let open = || {
            let mut context = open_context(vec![input()], output(&spec), 0, 1);
            context.memory_bytes = memory_bytes;
            let operator = Box::new(WindowAggregateOperator::new(&spec).unwrap());
            Harness::open_with(operator, context).unwrap()
        };
        let before = [many(100, 1), many(1100, 2), time(1000), many(2100, 3)];
        let behind = [
            many(1200, 4),
            time(2000),
            many(2200, 5),
            time(3500),
            many(3600, 6),
        ];
        assert_frozen(&open, &before, &behind);
    }
}
