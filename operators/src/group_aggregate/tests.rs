use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::DataType;
use proptest::prelude::*;
use weir_dataflow::testing::{Harness, batch, schema};

use super::*;
use crate::testing::{Cluster, assert_frozen, calls, rows_in};

fn input() -> SchemaRef {
    schema(&[
        ("k", DataType::Int64),
        ("v", DataType::Int64),
        ("s", DataType::Utf8),
        ("f", DataType::Boolean),
        ("d", DataType::Decimal128(10, 2)),
    ])
}

fn spec(aggregates: &[&str], retracts: bool) -> v1::GroupAggregate {
    v1::GroupAggregate {
        key_columns: vec![0],
        aggregates: calls(aggregates),
        input_retracts: retracts,
        emit_update_before: true,
        ..Default::default()
    }
}

/// Output schema: the key, then what Flink gives for each call.
fn output(spec: &v1::GroupAggregate) -> SchemaRef {
    let input = input();
    let mut columns = vec![("k", DataType::Int64)];
    for call in &spec.aggregates {
        let argument = call.arguments.first().map(|c| input.field(*c as usize));
        let argument = argument.and_then(weir_dataflow::types::LogicalType::from_field);
        let result = weir_dataflow::agg::result_type(&call.function, argument.as_ref()).unwrap();
        columns.push(("a", result.logical_type.to_arrow()));
    }
    if spec.key_columns.is_empty() {
        columns.remove(0);
    }
    schema(&columns)
}

fn open(spec: &v1::GroupAggregate) -> Harness {
    let operator = GroupAggregateOperator::new(spec).unwrap();
    Harness::open(Box::new(operator), vec![input()], output(spec)).unwrap()
}

fn push(harness: &mut Harness, rows: &str) -> Vec<String> {
    harness.push(0, batch(&input(), rows).unwrap()).unwrap();
    harness.rows().unwrap()
}

#[test]
fn a_key_changes_once_a_batch_and_only_if_its_result_does() {
    let mut harness = open(&spec(&["COUNT", "SUM 1", "MAX 1"], false));
    assert_eq!(
        push(&mut harness, "1 5 x true 0\n2 7 x true 0\n1 null x true 0"),
        ["+I 1 2 5 5", "+I 2 1 7 7"]
    );
    assert_eq!(
        push(&mut harness, "1 6 x true 0\n1 1 x true 0"),
        ["-U 1 2 5 5", "+U 1 4 12 6"]
    );
    let mut harness = open(&spec(&["MAX 1"], false));
    assert_eq!(push(&mut harness, "1 5 x true 0"), ["+I 1 5"]);
    assert!(push(&mut harness, "1 4 x true 0").is_empty());
}

#[test]
fn without_update_before_only_the_new_results_come() {
    let mut spec = spec(&["COUNT"], true);
    spec.emit_update_before = false;
    let mut harness = open(&spec);
    assert_eq!(push(&mut harness, "1 5 x true 0"), ["+I 1 1"]);
    assert_eq!(push(&mut harness, "1 5 x true 0"), ["+U 1 2"]);
    assert_eq!(
        push(&mut harness, "-D 1 5 x true 0\n-D 1 5 x true 0"),
        ["-D 1 2"]
    );
}

#[test]
fn a_group_ends_with_its_last_row_and_starts_anew() {
    let mut harness = open(&spec(
        &["COUNT", "SUM 1", "MIN 1", "COUNT DISTINCT 1"],
        true,
    ));
    assert_eq!(
        push(&mut harness, "1 5 x true 0\n1 3 x true 0"),
        ["+I 1 2 8 3 2"]
    );
    assert_eq!(
        push(&mut harness, "-D 1 3 x true 0"),
        ["-U 1 2 8 3 2", "+U 1 1 5 5 1"]
    );
    harness.snapshot().unwrap();
    assert!(harness.state_entries() > 0);
    assert_eq!(push(&mut harness, "-D 1 5 x true 0"), ["-D 1 1 5 5 1"]);
    harness.snapshot().unwrap();
    assert_eq!(harness.state_entries(), 0);
    // A retraction from a group that is not there is passed over.
    assert!(push(&mut harness, "-D 1 5 x true 0").is_empty());
    assert_eq!(push(&mut harness, "1 9 x true 0"), ["+I 1 1 9 9 1"]);
}

#[test]
fn without_keys_there_is_one_group() {
    let mut spec = spec(&["COUNT", "SUM 1"], false);
    spec.key_columns.clear();
    let mut harness = open(&spec);
    assert_eq!(
        push(&mut harness, "1 5 x true 0\n2 6 x true 0"),
        ["+I 2 11"]
    );
    assert_eq!(push(&mut harness, "1 5 x true 0"), ["-U 2 11", "+U 3 16"]);
}

#[test]
fn numbers_are_those_of_flink() {
    let mut harness = open(&spec(&["SUM 1", "AVG 1", "AVG 4", "SUM 4"], false));
    let rows = format!(
        "1 {} x true 1.00\n1 2 x true 0.01\n1 null x true 0.01",
        i64::MAX
    );
    assert_eq!(
        push(&mut harness, &rows),
        [format!(
            "+I 1 {} {} 0.340000 1.02",
            i64::MIN + 1,
            (i64::MIN + 1) / 2
        )]
    );
    assert_eq!(
        push(&mut harness, "2 -3 x true null\n2 -4 x true null"),
        ["+I 2 -7 -3 null null"]
    );
    assert_eq!(
        push(&mut harness, "3 null x true 1"),
        ["+I 3 null null 1.000000 1.00"]
    );
}

#[test]
fn two_phases_give_what_one_gives() {
    let aggregates = [
        "COUNT", "AVG 1", "MIN 2", "MAX 4", "SUM 1 ?3", "COUNT 1", "SUM 4",
    ];
    let mut local = spec(&aggregates, false);
    local.phase = Phase::Local.into();
    let mut global = local.clone();
    global.phase = Phase::Global.into();
    let between: SchemaRef = weir_dataflow::agg::group_local_output_schema(&local, &input())
        .unwrap()
        .into();
    let create = |spec| Box::new(GroupAggregateOperator::new(spec).unwrap());
    let mut first = Harness::open(create(&local), vec![input()], between.clone()).unwrap();
    let mut second =
        Harness::open(create(&global), vec![between.clone()], output(&global)).unwrap();
    let mut single = open(&spec(&aggregates, false));
    let rows = "1 5 b true 1.5\n2 null a false null\n1 7 a null 2\n1 null c true 1";
    first.push(0, batch(&input(), rows).unwrap()).unwrap();
    assert!(first.rows().unwrap().is_empty());
    first.snapshot().unwrap();
    let partials: Vec<String> = first.rows().unwrap();
    let text = partials.join("\n");
    second.push(0, batch(&between, &text).unwrap()).unwrap();
    assert_eq!(second.rows().unwrap(), push(&mut single, rows));
    assert_eq!(first.state_entries(), 0);
}

#[test]
fn what_can_not_be_done_is_refused_by_name() {
    let refused = |spec: &v1::GroupAggregate| match GroupAggregateOperator::new(spec) {
        Err(error) => error.to_string(),
        Ok(operator) => Harness::open(
            Box::new(operator),
            vec![input()],
            schema(&[("k", DataType::Int64), ("a", DataType::Int64)]),
        )
        .err()
        .map_or_else(String::new, |error| error.to_string()),
    };
    let ttl = v1::GroupAggregate {
        state_ttl_ms: 1,
        ..spec(&["COUNT"], false)
    };
    assert!(refused(&ttl).contains("table.exec.state.ttl"));
    assert!(refused(&spec(&["MEDIAN 1"], false)).contains("MEDIAN"));
    assert!(refused(&spec(&["COUNT ?1"], false)).contains("BOOLEAN"));
}

#[test]
fn state_of_another_layout_is_refused() {
    let mut harness = open(&spec(&["SUM 1"], false));
    push(&mut harness, "1 5 x true 0");
    let snapshot = harness.snapshot().unwrap();
    let other = spec(&["MIN 1"], false);
    let context = weir_dataflow::testing::open_context(vec![input()], output(&other), 0, 1);
    let operator = GroupAggregateOperator::new(&other).unwrap();
    let error = Harness::restore(Box::new(operator), context, &snapshot)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("Sum") && error.contains("Min"), "{error}");
}

/// A row: key, number, text, flag, decimal in hundredths.
type Row = (
    Option<i64>,
    Option<i64>,
    &'static str,
    Option<bool>,
    Option<i64>,
);

fn row() -> impl Strategy<Value = Row> {
    (
        prop::option::weighted(0.9, 0i64..6),
        prop::option::weighted(0.8, -3i64..4),
        prop::sample::select(vec!["a", "bb", "c", "dddd"]),
        prop::option::of(any::<bool>()),
        prop::option::weighted(0.8, -300i64..300),
    )
}

fn text(row: &Row) -> String {
    let cell = |value: Option<String>| value.unwrap_or_else(|| "null".into());
    let decimal = row.4.map(|d| {
        format!(
            "{}{}.{:02}",
            if d < 0 { "-" } else { "" },
            d.abs() / 100,
            d.abs() % 100
        )
    });
    let cells = [
        cell(row.0.map(|v| v.to_string())),
        cell(row.1.map(|v| v.to_string())),
        row.2.to_owned(),
        cell(row.3.map(|v| v.to_string())),
        cell(decimal),
    ];
    cells.join(" ")
}

const AGGREGATES: [&str; 13] = [
    "COUNT",
    "COUNT 1",
    "SUM 1",
    "AVG 1",
    "MIN 1",
    "MAX 2",
    "COUNT DISTINCT 1",
    "COUNT DISTINCT 1 ?3",
    "COUNT DISTINCT 2",
    "SUM DISTINCT 1 ?3",
    "COUNT ?3",
    "MAX 4 ?3",
    "SUM 4",
];

/// The same by the definition.
fn naive(rows: &[Row]) -> String {
    let some = |value: Option<String>| value.unwrap_or_else(|| "null".into());
    let hundredths = |d: i64| {
        format!(
            "{}{}.{:02}",
            if d < 0 { "-" } else { "" },
            d.abs() / 100,
            d.abs() % 100
        )
    };
    let values = || rows.iter().filter_map(|row| row.1);
    let flagged = || rows.iter().filter(|row| row.3 == Some(true));
    let (count, sum) = (values().count() as i64, values().sum::<i64>());
    let decimals: Vec<i64> = rows.iter().filter_map(|row| row.4).collect();
    let distinct = |values: &mut dyn Iterator<Item = i64>| values.collect::<BTreeSet<_>>();
    let flagged_values = distinct(&mut flagged().filter_map(|row| row.1));
    let cells = [
        rows.len().to_string(),
        count.to_string(),
        some((count > 0).then(|| sum.to_string())),
        some((count > 0).then(|| (sum / count).to_string())),
        some(values().min().map(|v| v.to_string())),
        some(rows.iter().map(|row| row.2).max().map(Into::into)),
        distinct(&mut values()).len().to_string(),
        flagged_values.len().to_string(),
        rows.iter()
            .map(|row| row.2)
            .collect::<BTreeSet<_>>()
            .len()
            .to_string(),
        some((!flagged_values.is_empty()).then(|| flagged_values.iter().sum::<i64>().to_string())),
        flagged().count().to_string(),
        some(flagged().filter_map(|row| row.4).max().map(hundredths)),
        some((!decimals.is_empty()).then(|| hundredths(decimals.iter().sum()))),
    ];
    cells.join(" ")
}

/// Plays a changelog into the rows it stands for; every change must fit them.
fn play(table: &mut BTreeMap<String, String>, changes: Vec<String>) {
    for change in changes {
        let (kind, rest) = change.split_at(2);
        let (key, result) = rest.trim().split_once(' ').unwrap();
        match kind {
            "+I" => assert_eq!(table.insert(key.into(), result.into()), None, "{change}"),
            "+U" => assert!(
                table.insert(key.into(), result.into()).is_none(),
                "{change}"
            ),
            _ => assert_eq!(table.remove(key).as_deref(), Some(result), "{change}"),
        }
    }
}

fn check(batches: Vec<Vec<(Row, bool)>>, retracts: bool, memory_bytes: usize, restarts: bool) {
    let spec = spec(&AGGREGATES, retracts);
    let create = || Box::new(GroupAggregateOperator::new(&spec).unwrap()) as Box<dyn Operator>;
    let mut cluster = Cluster {
        input: input(),
        output: output(&spec),
        keys: vec![0],
        memory_bytes,
        create: &create,
        subtasks: Vec::new(),
    };
    cluster.start(1, None);
    let mut live: Vec<Row> = Vec::new();
    let mut table = BTreeMap::new();
    for (number, rows) in batches.into_iter().enumerate() {
        let mut lines = Vec::new();
        for (row, remove) in rows {
            if retracts && remove && !live.is_empty() {
                let gone = live.swap_remove(live.len() / 2);
                lines.push(format!("-D {}", text(&gone)));
            } else {
                lines.push(format!("+I {}", text(&row)));
                live.push(row);
            }
        }
        cluster.push(&batch(&input(), &lines.join("\n")).unwrap());
        play(&mut table, cluster.rows());
        let mut expected: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in &live {
            expected
                .entry(row.0.map_or("null".into(), |k| k.to_string()))
                .or_default()
                .push(*row);
        }
        let expected: BTreeMap<String, String> = expected
            .iter()
            .map(|(key, rows)| (key.clone(), naive(rows)))
            .collect();
        assert_eq!(table, expected);
        if restarts {
            cluster.restart([3, 2, 1][number % 3]);
        }
    }
}

#[test]
fn a_barrier_writes_no_more_for_more_keys() {
    let mut harness = open(&spec(&["COUNT", "COUNT DISTINCT 1", "MAX 1"], true));
    for first in [0, 1000, 2000] {
        let rows: Vec<String> = (first..first + 1000)
            .map(|k| format!("{k} {k} x true 0"))
            .collect();
        push(&mut harness, &rows.join("\n"));
    }
    harness.begin_snapshot().unwrap();
    assert_eq!(harness.state_entries(), 0);
    let (mut written, mut parts) = (0, 0);
    while harness.write_frozen().unwrap() {
        assert!(harness.state_entries() - written <= FROZEN_ENTRIES);
        written = harness.state_entries();
        parts += 1;
    }
    assert_eq!(harness.state_entries(), 9000);
    assert!(parts > 9000 / FROZEN_ENTRIES, "{parts}");
}

const COLLECTING: [&str; 6] = [
    "ARRAY_AGG 1",
    "ARRAY_AGG DISTINCT 1",
    "$ARRAY_AGG_IGNORE_NULLS 1",
    "FIRST_VALUE 1",
    "LAST_VALUE 1",
    "COUNT",
];

/// Values in the order in which they came; what is taken back is the first of its like, of distinct ones the last.
fn naive_collection(values: &[Option<i64>], first_ones: &[Option<i64>]) -> String {
    let shown = |values: &mut dyn Iterator<Item = Option<i64>>| {
        let cells = values.map(|value| value.map_or("null".to_owned(), |v| v.to_string()));
        let cells: Vec<String> = cells.collect();
        match cells.is_empty() {
            true => "null".to_owned(),
            false => format!("[{}]", cells.join(", ")),
        }
    };
    let present: Vec<i64> = values.iter().copied().flatten().collect();
    let one = |value: Option<&i64>| value.map_or("null".to_owned(), i64::to_string);
    [
        shown(&mut values.iter().copied()),
        shown(&mut first_ones.iter().copied()),
        shown(&mut present.iter().copied().map(Some)),
        one(present.first()),
        one(present.last()),
        values.len().to_string(),
    ]
    .join(" ")
}

/// What a group has: its values, and each of them once.
type Collected = (Vec<Option<i64>>, Vec<Option<i64>>);

fn check_collected(batches: Vec<Vec<(i64, Option<i64>, bool)>>, memory_bytes: usize) {
    let spec = spec(&COLLECTING, true);
    let create = || Box::new(GroupAggregateOperator::new(&spec).unwrap()) as Box<dyn Operator>;
    let mut cluster = Cluster {
        input: input(),
        output: output(&spec),
        keys: vec![0],
        memory_bytes,
        create: &create,
        subtasks: Vec::new(),
    };
    cluster.start(1, None);
    let mut groups: BTreeMap<i64, Collected> = BTreeMap::new();
    let mut table = BTreeMap::new();
    for (number, rows) in batches.into_iter().enumerate() {
        let mut lines = Vec::new();
        for (key, value, remove) in rows {
            let (values, once) = groups.entry(key).or_default();
            let known = values.iter().position(|known| *known == value);
            let kind = match known.filter(|_| remove) {
                Some(place) => {
                    values.remove(place);
                    "-D"
                }
                None => {
                    values.push(value);
                    "+I"
                }
            };
            match (values.contains(&value), once.contains(&value)) {
                (true, false) => once.push(value),
                (false, true) => once.retain(|known| *known != value),
                _ => {}
            }
            let value = value.map_or("null".to_owned(), |value| value.to_string());
            lines.push(format!("{kind} {key} {value} x true 0"));
        }
        cluster.push(&batch(&input(), &lines.join("\n")).unwrap());
        play(&mut table, cluster.rows());
        groups.retain(|_, (values, _)| !values.is_empty());
        let expected = groups
            .iter()
            .map(|(key, (values, once))| (key.to_string(), naive_collection(values, once)));
        assert_eq!(table, expected.collect::<BTreeMap<_, _>>());
        cluster.restart([3, 2, 1][number % 3]);
    }
}

/// Batches; retractions are of rows before them that are still there.
fn changelog(batches: Vec<Vec<(Row, bool)>>, retracts: bool) -> Vec<Batch> {
    let mut live: Vec<Row> = Vec::new();
    let mut line = |(row, remove): (Row, bool)| {
        if retracts && remove && !live.is_empty() {
            format!("-D {}", text(&live.swap_remove(live.len() / 2)))
        } else {
            live.push(row);
            format!("+I {}", text(&row))
        }
    };
    let mut lines = |rows: Vec<(Row, bool)>| rows.into_iter().map(&mut line).collect::<Vec<_>>();
    let batches = batches.into_iter().map(|rows| lines(rows).join("\n"));
    batches
        .map(|lines| batch(&input(), &lines).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_comes_behind_a_barrier_is_not_in_its_snapshot(
        batches in prop::collection::vec(prop::collection::vec((row(), any::<bool>()), 1..20), 2..8),
        barrier in 1usize..7,
        retracts: bool,
        spills: bool,
    ) {
        let collecting = ["COLLECT 2", "ARRAY_AGG 1", "$SQUARED_DISTANCES 1", "LAST_VALUE 4"];
        let spec = spec(&[&AGGREGATES[..], &collecting].concat(), retracts);
        let open = || {
            let mut context = weir_dataflow::testing::open_context(vec![input()], output(&spec), 0, 1);
            context.memory_bytes = if spills { 1 } else { 64 << 20 };
            let operator = Box::new(GroupAggregateOperator::new(&spec).unwrap());
            Harness::open_with(operator, context).unwrap()
        };
        let batches = changelog(batches, retracts).into_iter();
        let mut before: Vec<_> = batches.map(|batch| rows_in(0, batch)).collect();
        let behind = before.split_off(barrier.min(before.len()));
        assert_frozen(&open, &before, &behind);
    }

    #[test]
    fn collected_values_are_those_that_are_there(
        batches in prop::collection::vec(
            prop::collection::vec((0i64..3, prop::option::weighted(0.8, 0i64..4), any::<bool>()), 1..12),
            1..8,
        ),
        spills: bool,
    ) {
        check_collected(batches, if spills { 1 } else { 64 << 20 });
    }

    #[test]
    fn any_changelog_gives_what_its_rows_give(
        batches in prop::collection::vec(prop::collection::vec((row(), any::<bool>()), 1..12), 1..8),
        retracts: bool,
        spills: bool,
        restarts: bool,
    ) {
        check(batches, retracts, if spills { 1 } else { 64 << 20 }, restarts);
    }
}
