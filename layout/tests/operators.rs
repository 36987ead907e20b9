//! What operators write is what their descriptions say, and they go on from what a migration makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use weir_dataflow::schema::encode_schema;
use weir_dataflow::state::LAYOUT_LIST;
use weir_dataflow::testing::{Harness, HarnessSnapshot, batch, format_rows, open_context, schema};
use weir_dataflow::{Batch, KeyedState, OperatorStates, StateTable};
use weir_layout::{RowReader, check_operator, describe};
use weir_proto::v1;
use weir_proto::v1::operator::Kind;

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// An operator behind one source for each input.
struct Job {
    kind: Kind,
    inputs: Vec<SchemaRef>,
    output: SchemaRef,
}

impl Job {
    fn operator(&self) -> v1::Operator {
        v1::Operator {
            uid: "u".to_owned(),
            name: "tested".to_owned(),
            output_schema: encode_schema(&self.output),
            kind: Some(self.kind.clone()),
            ..v1::Operator::default()
        }
    }

    fn description(&self) -> v1::OperatorDescription {
        let vertex = |id: u32, operator: v1::Operator| v1::Vertex {
            id,
            chain: vec![operator],
            ..v1::Vertex::default()
        };
        let mut graph = v1::JobGraph::default();
        for (index, input) in self.inputs.iter().enumerate() {
            let source = v1::Operator {
                uid: format!("source {index}"),
                kind: Some(Kind::Source(v1::Source::default())),
                ..v1::Operator::default()
            };
            graph.vertices.push(vertex(index as u32, source));
            graph.edges.push(v1::Edge {
                source_vertex: index as u32,
                target_vertex: 9,
                target_input: index as u32,
                schema: encode_schema(input),
                ..v1::Edge::default()
            });
        }
        graph.vertices.push(vertex(9, self.operator()));
        describe(&graph).unwrap().pop().unwrap()
    }

    fn open(&self) -> Harness {
        let operator = weir_operators::create(&self.operator()).unwrap();
        Harness::open(operator, self.inputs.clone(), self.output.clone()).unwrap()
    }

    fn push(&self, harness: &mut Harness, input: usize, rows: &str) {
        let rows = batch(&self.inputs[input], rows).unwrap();
        harness.push(input, rows).unwrap();
    }

    /// Goes on from another job's snapshot.
    fn resume(&self, old: &v1::OperatorDescription, mut snapshot: HarnessSnapshot) -> Harness {
        let migration = check_operator(old, &self.description()).unwrap();
        for state in &mut snapshot.keyed {
            migration.run(state).unwrap();
        }
        let states = snapshot.states.into_inner().into_iter();
        snapshot.states =
            OperatorStates::from_parts(states.filter(|state| state.name != LAYOUT_LIST));
        let context = open_context(self.inputs.clone(), self.output.clone(), 0, 1);
        let operator = weir_operators::create(&self.operator()).unwrap();
        Harness::restore(operator, context, &snapshot).unwrap()
    }

    fn refusal(&self, old: &v1::OperatorDescription) -> String {
        check_operator(old, &self.description()).unwrap_err()
    }
}

/// "name: columns" and the rows, of each table.
fn tables(description: &v1::OperatorDescription, snapshot: &HarnessSnapshot) -> Vec<String> {
    let mut shown = Vec::new();
    for table in &description.tables {
        let mut reader = RowReader::new(table).unwrap();
        let schema = reader.schema().clone();
        let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        shown.push(format!("{}: {}", table.name, columns.join(" | ")));
        for state in &snapshot.keyed {
            let number = StateTable(reader.number());
            let mut add = |group, key: &[u8], value: &[u8]| {
                reader.add(group, key, value)?;
                Ok(true)
            };
            state.clone().scan(number, &mut add).unwrap();
        }
        let mut rows = format_rows(&Batch::inserts(reader.finish().unwrap())).unwrap();
        rows.sort();
        shown.extend(rows);
    }
    shown
}

fn call(text: &str) -> v1::AggregateCall {
    let mut call = v1::AggregateCall::default();
    for (place, word) in text.split_whitespace().enumerate() {
        match (place, word) {
            (0, function) => call.function = function.into(),
            (_, "DISTINCT") => call.distinct = true,
            (_, word) => match word.strip_prefix('?') {
                Some(filter) => call.filter = Some(filter.parse().unwrap()),
                None => call.arguments.push(word.parse().unwrap()),
            },
        }
    }
    call
}

fn group_job(
    input: &[(&str, DataType)],
    output: &[DataType],
    calls: &[&str],
    retracts: bool,
) -> Job {
    let columns: Vec<_> = output.iter().map(|t| ("c", t.clone())).collect();
    Job {
        kind: Kind::GroupAggregate(v1::GroupAggregate {
            key_columns: vec![0],
            aggregates: calls.iter().map(|text| call(text)).collect(),
            input_retracts: retracts,
            emit_update_before: true,
            ..v1::GroupAggregate::default()
        }),
        inputs: vec![schema(input)],
        output: schema(&columns),
    }
}

fn sales(v: DataType) -> [(&'static str, DataType); 5] {
    [
        ("shop", DataType::Utf8),
        ("v", v),
        ("price", DataType::Decimal128(10, 2)),
        ("who", DataType::Utf8),
        ("paid", DataType::Boolean),
    ]
}

#[test]
fn accumulators_are_columns_by_their_calls() {
    use DataType::{Decimal128, Int32, Int64, Utf8};
    let calls = [
        "COUNT",
        "SUM 1",
        "AVG 1",
        "MAX 2",
        "SUM 2",
        "LAST_VALUE 3",
        "COUNT DISTINCT 3",
        "COUNT DISTINCT 3 ?4",
        "COUNT DISTINCT 1",
    ];
    let output = [
        Utf8,
        Int64,
        Int32,
        Int32,
        Decimal128(10, 2),
        Decimal128(38, 2),
        Utf8,
        Int64,
        Int64,
        Int64,
    ];
    let job = group_job(&sales(Int32), &output, &calls, false);
    let mut harness = job.open();
    job.push(
        &mut harness,
        0,
        "a 5 1.50 ann true
         a -2 9.25 bob false
         b null null null false",
    );
    let shown = tables(&job.description(), &harness.snapshot().unwrap());
    assert_eq!(
        shown[..3],
        [
            "groups: shop | COUNT(*) | SUM(v) | COUNT(v) | MAX(price) | SUM(price) | COUNT(price) | LAST_VALUE(who) \
             | COUNT(DISTINCT who) | COUNT(DISTINCT who) FILTER (paid) | COUNT(DISTINCT v)",
            "+I a 2 3 2 9.25 10.75 2 bob 2 1 2",
            "+I b 1 0 0 null 0.00 0 null 0 0 0",
        ]
    );
    assert_eq!(
        shown[3],
        "DISTINCT(who): shop | xxh3_128(who) | all | FILTER (paid)"
    );
    let marks: Vec<_> = shown[4..6]
        .iter()
        .map(|row| row.split(' ').skip(3).collect::<Vec<_>>())
        .collect();
    assert!(marks.contains(&vec!["true", "true"]) && marks.contains(&vec!["true", "false"]));
    assert_eq!(
        shown[6..],
        ["DISTINCT(v): shop | v | all", "+I a -2 true", "+I a 5 true"]
    );
}

#[test]
fn values_that_may_be_taken_back_are_a_table() {
    use DataType::{Float64, Int64, Utf8};
    let input = [("k", Utf8), ("x", Float64), ("n", Int64)];
    let calls = ["MIN 1", "COUNT DISTINCT 2"];
    let job = group_job(&input, &[Utf8, Float64, Int64], &calls, true);
    let mut harness = job.open();
    job.push(&mut harness, 0, "a -1.5 7\na 2.5 7\na 2.5 8\n-D a -1.5 7");
    assert_eq!(
        tables(&job.description(), &harness.snapshot().unwrap()),
        [
            "groups: k | COUNT(DISTINCT n) | COUNT(*)",
            "+I a 2 2",
            "DISTINCT(n): k | n | all",
            "+I a 7 1",
            "+I a 8 1",
            "MIN(x): k | value | rows",
            "+I a 2.5 2",
        ]
    );
}

fn window_job(kind: v1::WindowKind, (size_ms, slide_ms): (i64, i64)) -> Job {
    Job {
        kind: Kind::WindowAggregate(v1::WindowAggregate {
            window: Some(v1::WindowSpec {
                kind: kind.into(),
                size_ms,
                slide_ms,
                time_column: 1,
                ..v1::WindowSpec::default()
            }),
            key_columns: vec![0],
            aggregates: vec![call("COUNT"), call("COUNT DISTINCT 2")],
            window_properties: vec!["window_end".to_owned()],
            ..v1::WindowAggregate::default()
        }),
        inputs: vec![schema(&[
            ("k", DataType::Int64),
            ("t", TIME),
            ("n", DataType::Int64),
        ])],
        output: schema(&[
            ("k", DataType::Int64),
            ("c", DataType::Int64),
            ("d", DataType::Int64),
            ("we", TIME),
        ]),
    }
}

#[test]
fn windows_say_their_times_and_how_far_event_time_had_come() {
    let job = window_job(v1::WindowKind::Tumble, (10_000, 0));
    let mut harness = job.open();
    job.push(
        &mut harness,
        0,
        "1 1970-01-01T00:00:01 5\n1 1970-01-01T00:00:11 6\n2 1970-01-01T00:00:12 7",
    );
    harness.watermark(9_999).unwrap();
    let shown = tables(&job.description(), &harness.snapshot().unwrap());
    assert_eq!(
        shown[..7],
        [
            "groups: window_end | window_start | k | COUNT(*) | COUNT(DISTINCT n)",
            "+I 1970-01-01T00:00:20 1970-01-01T00:00:10 1 1 1",
            "+I 1970-01-01T00:00:20 1970-01-01T00:00:10 2 1 1",
            "DISTINCT(n): window_end | window_start | k | n | all",
            "+I 1970-01-01T00:00:20 1970-01-01T00:00:10 1 6 true",
            "+I 1970-01-01T00:00:20 1970-01-01T00:00:10 2 7 true",
            "progress: key_group | progress_ms",
        ]
    );
    assert_eq!(shown.len(), 7 + 128);
    assert!(shown.contains(&"+I 127 9999".to_owned()));
}

#[test]
fn windows_of_another_size_are_refused() {
    let old = window_job(v1::WindowKind::Hop, (10_000, 2_000)).description();
    let refusal = window_job(v1::WindowKind::Hop, (20_000, 2_000)).refusal(&old);
    assert!(refusal.contains("operator 'tested' (uid u)"), "{refusal}");
    assert!(refusal.contains("HOP(size 10000 ms"), "{refusal}");
    assert!(refusal.contains("HOP(size 20000 ms"), "{refusal}");
}

fn join_job(columns: &[(&str, DataType)]) -> Job {
    let mut left = vec![("k", DataType::Int64)];
    left.extend(columns.iter().cloned());
    let window = left.len() as u32;
    left.extend([("ws", TIME), ("we", TIME)]);
    let right = [("k", DataType::Int64), ("ws", TIME), ("we", TIME)];
    let output: Vec<_> = left.iter().cloned().chain(right.clone()).collect();
    Job {
        kind: Kind::WindowJoin(v1::WindowJoin {
            kind: v1::JoinKind::Inner.into(),
            left_keys: vec![0],
            right_keys: vec![0],
            left_window_start: window,
            left_window_end: window + 1,
            right_window_start: 1,
            right_window_end: 2,
            condition: None,
        }),
        inputs: vec![schema(&left), schema(&right)],
        output: schema(&output),
    }
}

const WINDOW: &str = "1970-01-01T00:00:00 1970-01-01T00:00:01";

#[test]
fn rows_of_a_join_gain_lose_and_widen_columns() {
    let old = join_job(&[("v", DataType::Int32), ("gone", DataType::Utf8)]);
    let mut harness = old.open();
    old.push(&mut harness, 0, &format!("1 7 x {WINDOW}"));
    let snapshot = harness.snapshot().unwrap();
    assert_eq!(
        tables(&old.description(), &snapshot)[..3],
        [
            "left: k | v | gone | ws | we".to_owned(),
            format!("+I 1 7 x {WINDOW}"),
            "right: k | ws | we".to_owned(),
        ]
    );

    let new = join_job(&[("new", DataType::Utf8), ("v", DataType::Int64)]);
    let mut harness = new.resume(&old.description(), snapshot);
    new.push(&mut harness, 0, &format!("1 fresh 8 {WINDOW}"));
    new.push(&mut harness, 1, &format!("1 {WINDOW}"));
    harness.watermark(999).unwrap();
    assert_eq!(
        harness.sorted_rows().unwrap(),
        [
            format!("+I 1 fresh 8 {WINDOW} 1 {WINDOW}"),
            format!("+I 1 null 7 {WINDOW} 1 {WINDOW}"),
        ]
    );
}

#[test]
fn a_column_that_does_not_fit_is_refused_by_name() {
    let old = join_job(&[("v", DataType::Int64)]).description();
    let refusal = join_job(&[("v", DataType::Int32)]).refusal(&old);
    assert!(
        refusal.contains("'v'") && refusal.contains("BIGINT"),
        "{refusal}"
    );
    let mut keyed = join_job(&[("v", DataType::Int64)]);
    let mut fields = vec![("k", DataType::Int32)];
    fields.extend([("v", DataType::Int64), ("ws", TIME), ("we", TIME)]);
    keyed.inputs[0] = schema(&fields);
    let refusal = keyed.refusal(&old);
    assert!(
        refusal.contains("key column 'k' was BIGINT and is INT"),
        "{refusal}"
    );
}

#[test]
fn an_aggregation_goes_on_with_wider_and_fewer_accumulators() {
    use DataType::{Decimal128, Int32, Int64, Utf8};
    let calls = [
        "MIN 2",
        "COUNT DISTINCT 3",
        "MAX 1",
        "COUNT DISTINCT 1",
        "COUNT",
    ];
    let output = [Utf8, Decimal128(10, 2), Int64, Int32, Int64, Int64];
    let old = group_job(&sales(Int32), &output, &calls, false);
    let mut harness = old.open();
    old.push(&mut harness, 0, "a 5 1.50 ann true\na 5 9.25 bob false");
    let snapshot = harness.snapshot().unwrap();

    // The other order, a wider type, and neither the prices nor the names.
    let calls = ["COUNT", "COUNT DISTINCT 1", "MAX 1"];
    let new = group_job(&sales(Int64), &[Utf8, Int64, Int64, Int64], &calls, false);
    let mut harness = new.resume(&old.description(), snapshot.clone());
    new.push(&mut harness, 0, "a 5000000000 1.50 ann true");
    new.push(&mut harness, 0, "a 5 1.50 ann true");
    assert_eq!(
        harness.rows().unwrap(),
        [
            "-U a 2 1 5",
            "+U a 3 2 5000000000",
            "-U a 3 2 5000000000",
            "+U a 4 2 5000000000",
        ]
    );

    let more = group_job(
        &sales(Int64),
        &[Utf8, Int64, Int64],
        &["COUNT", "MIN 1"],
        false,
    );
    let refusal = more.refusal(&old.description());
    assert!(refusal.contains("'MIN(v)' is new"), "{refusal}");
}

fn rank_job(columns: &[(&str, DataType)]) -> Job {
    let input = schema(columns);
    let at = |name: &str| input.index_of(name).unwrap() as u32;
    Job {
        kind: Kind::Rank(v1::Rank {
            partition_columns: vec![at("k")],
            order: vec![v1::SortColumn {
                column: at("v"),
                ..v1::SortColumn::default()
            }],
            start: 1,
            end: 2,
            emit_update_before: true,
            ..v1::Rank::default()
        }),
        output: input.clone(),
        inputs: vec![input],
    }
}

#[test]
fn rows_of_a_rank_lose_and_widen_columns() {
    let old = rank_job(&[
        ("gone", DataType::Utf8),
        ("k", DataType::Int64),
        ("v", DataType::Int32),
        ("name", DataType::Utf8),
    ]);
    let mut harness = old.open();
    old.push(&mut harness, 0, "x 1 7 a\ny 1 7 null");
    harness.rows().unwrap();
    let snapshot = harness.snapshot().unwrap();
    assert_eq!(
        tables(&old.description(), &snapshot),
        ["rows: k | gone | v | name", "+I 1 x 7 a", "+I 1 y 7 null"]
    );
    let new = rank_job(&[
        ("v", DataType::Int64),
        ("name", DataType::Utf8),
        ("k", DataType::Int64),
    ]);
    let mut harness = new.resume(&old.description(), snapshot);
    new.push(&mut harness, 0, "5 c 1");
    assert_eq!(harness.rows().unwrap(), ["-D 7 null 1", "+I 5 c 1"]);
    let mut further = rank_job(&[("k", DataType::Int64), ("v", DataType::Int64)]);
    if let Kind::Rank(rank) = &mut further.kind {
        rank.end = 3;
    }
    let refusal = further.refusal(&new.description());
    assert!(refusal.contains("rows up to 2"), "{refusal}");
}

#[test]
fn a_deduplication_keeps_rows_or_only_their_keys() {
    let input = schema(&[("v", DataType::Utf8), ("k", DataType::Int64), ("t", TIME)]);
    let job = |keep_last, time_column| Job {
        kind: Kind::Deduplicate(v1::Deduplicate {
            key_columns: vec![1],
            time_column,
            keep_last,
            emit_update_before: true,
            state_ttl_ms: 0,
        }),
        output: input.clone(),
        inputs: vec![input.clone()],
    };
    let shown = |job: Job| {
        let mut harness = job.open();
        job.push(
            &mut harness,
            0,
            "a 1 1970-01-01T00:00:05\nb 1 1970-01-01T00:00:06",
        );
        harness.watermark(5000).unwrap();
        tables(&job.description(), &harness.snapshot().unwrap())
    };
    assert_eq!(shown(job(false, None)), ["rows: k", "+I 1"]);
    let last = ["rows: k | v | t", "+I 1 b 1970-01-01T00:00:06"];
    assert_eq!(shown(job(true, Some(2))), last);
    // It was emitted: that is all that is known of it.
    assert_eq!(
        shown(job(false, Some(2))),
        ["rows: k | v | t", "+I 1 null null"]
    );
}

#[test]
fn the_same_layout_is_not_touched() {
    let job = window_job(v1::WindowKind::Hop, (10_000, 2_000));
    let migration = check_operator(&job.description(), &job.description()).unwrap();
    assert!(migration.is_identity());
}
