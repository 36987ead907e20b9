//! Whole queries against the texts of their plans. `WEIR_BLESS=1` writes the texts anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::path::Path;

use arrow::datatypes::Schema;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::types::LogicalField;
use weir_proto::v1::{self, operator::Kind, window_aggregate::Phase};
use weir_sql::{Session, SessionDefaults, StatementResult, parse_script};

const NEXMARK: &str = include_str!("nexmark.sql");

fn session(ddl: &str) -> Session {
    let mut session = Session::new(SessionDefaults {
        default_parallelism: 2,
        ..SessionDefaults::default()
    })
    .unwrap();
    for statement in parse_script(ddl).unwrap() {
        session.execute(&statement).unwrap();
    }
    session
}

fn run(session: &mut Session, sql: &str) -> Result<StatementResult, String> {
    let mut last = StatementResult::Ok(String::new());
    for statement in parse_script(sql).map_err(|error| error.to_string())? {
        last = session
            .execute(&statement)
            .map_err(|error| error.to_string())?;
    }
    Ok(last)
}

fn explain(session: &mut Session, sql: &str) -> String {
    match run(session, &format!("EXPLAIN CHANGELOG_MODE {sql}")) {
        Ok(StatementResult::Rows { rows, .. }) => {
            let lines: Vec<_> = rows.into_iter().flatten().flatten().collect();
            lines.join("\n") + "\n"
        }
        Ok(other) => panic!("EXPLAIN gave {other:?}"),
        Err(error) => panic!("{sql}\n{error}"),
    }
}

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/plans/{name}.txt"));
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, text, "plan of {name}; WEIR_BLESS=1 accepts it");
}

#[test]
fn nexmark_queries_have_the_plans_we_know() {
    for (name, columns, query) in queries() {
        let mut session = session(NEXMARK);
        let sink = format!("CREATE TABLE out ({columns}) WITH ('connector' = 'blackhole')");
        run(&mut session, &sink).unwrap();
        let insert = format!("INSERT INTO out {query}");
        check(name, &explain(&mut session, &insert));
        match run(&mut session, &insert).unwrap() {
            StatementResult::Job(job) => check_graph(&job.graph),
            other => panic!("INSERT gave {other:?}"),
        }
    }
}

#[test]
fn other_queries_have_the_plans_we_know() {
    let mut session = session(NEXMARK);
    let minutes = "CREATE VIEW minutes AS SELECT window_start AS ws, window_end AS we, window_time AS wt, SUM(price) AS s \
        FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) \
        GROUP BY window_start, window_end, window_time";
    run(&mut session, minutes).unwrap();
    let mut text = String::new();
    for part in include_str!("shapes.sql").split("-- ").skip(1) {
        let (name, query) = part.split_once('\n').unwrap();
        let planned = match run(&mut session, query) {
            Ok(StatementResult::Query(planned)) => planned,
            other => panic!("{name}: {other:?}"),
        };
        check_graph(&planned.graph);
        let columns: Vec<_> = planned
            .schema
            .fields()
            .iter()
            .map(|field| {
                format!(
                    "{} {}",
                    field.name(),
                    LogicalField::from_field(field).unwrap()
                )
            })
            .collect();
        let plan = explain(&mut session, query);
        text.push_str(&format!("-- {name}\n{}\n{plan}", columns.join(", ")));
    }
    check("shapes", &text);
}

#[test]
fn a_statement_set_reads_a_table_once() {
    let mut session = session(NEXMARK);
    let sinks = "CREATE TABLE a (id BIGINT, name STRING) WITH ('connector' = 'blackhole');
        CREATE TABLE b (n BIGINT, x STRING NOT NULL, m BIGINT) WITH ('connector' = 'blackhole');";
    run(&mut session, sinks).unwrap();
    let set = "STATEMENT SET BEGIN
        INSERT INTO a SELECT id, name FROM person;
        INSERT INTO b (m, x) SELECT auction, channel FROM bid WHERE price > 7;
        END";
    check("statement_set", &explain(&mut session, set));
}

/// The uid of the job's GROUP BY.
fn aggregate_uid(query: &str) -> String {
    let Ok(StatementResult::Query(planned)) = run(&mut session(NEXMARK), query) else {
        panic!("{query}");
    };
    let operators = planned
        .graph
        .vertices
        .iter()
        .flat_map(|vertex| &vertex.chain);
    let mut aggregates =
        operators.filter(|operator| matches!(operator.kind, Some(Kind::GroupAggregate(_))));
    aggregates.next().unwrap().uid.clone()
}

#[test]
fn state_is_found_again_after_an_edit_behind_it() {
    let uid = aggregate_uid("SELECT auction, SUM(price) FROM bid GROUP BY auction");
    let behind =
        "SELECT SUM(price) / 2, auction AS a FROM bid GROUP BY auction HAVING SUM(price) > 5";
    assert_eq!(uid, aggregate_uid(behind));
    // Somebody else reads the table too: the condition on event_type moves out of the source.
    let mut session = session(NEXMARK);
    let set = "CREATE TABLE a (id BIGINT, s BIGINT) WITH ('connector' = 'blackhole');
        EXECUTE STATEMENT SET BEGIN
        INSERT INTO a SELECT id, reserve FROM auction;
        INSERT INTO a SELECT auction, SUM(price) FROM bid GROUP BY auction;
        END";
    let Ok(StatementResult::Job(job)) = run(&mut session, set) else {
        panic!("{set}");
    };
    let mut operators = job.graph.vertices.iter().flat_map(|vertex| &vertex.chain);
    assert!(operators.any(|operator| operator.uid == uid));
    for other in [
        "SELECT bidder, SUM(price) FROM bid GROUP BY bidder",
        "SELECT auction, SUM(bidder) FROM bid GROUP BY auction",
        "SELECT auction, SUM(price) FROM bid WHERE price > 3 GROUP BY auction",
    ] {
        assert_ne!(uid, aggregate_uid(other), "{other}");
    }
}

#[test]
fn settings_reach_the_graph() {
    let set = "SET 'execution.checkpointing.interval' = '3 s';
        SET 'table.exec.state.ttl' = '1 h';
        SET 'table.exec.mini-batch.enabled' = 'true';
        SELECT auction, COUNT(*) FROM bid GROUP BY auction";
    let Ok(StatementResult::Query(planned)) = run(&mut session(NEXMARK), set) else {
        panic!("{set}");
    };
    let graph = planned.graph;
    assert_eq!(graph.checkpoint.unwrap().interval_ms, 3000);
    assert!(graph.bounded && planned.changelog);
    assert_eq!(planned.upsert_key, [0]);
    let operators = graph.vertices.iter().flat_map(|vertex| &vertex.chain);
    let aggregates: Vec<_> = operators
        .filter_map(|operator| match &operator.kind {
            Some(Kind::GroupAggregate(aggregate)) => {
                Some((aggregate.phase(), aggregate.state_ttl_ms))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        aggregates,
        [(Phase::Local, 3_600_000), (Phase::Global, 3_600_000)]
    );
}

/// What a task manager relies on: edges go forward, uids are unique, every expression can be read again over the schema it is for.
fn check_graph(graph: &v1::JobGraph) {
    let mut uids = HashSet::new();
    for operator in graph.vertices.iter().flat_map(|vertex| &vertex.chain) {
        assert!(uids.insert(operator.uid.clone()), "{}", operator.name);
    }
    for edge in &graph.edges {
        assert!(edge.source_vertex < edge.target_vertex);
    }
    for vertex in &graph.vertices {
        let mut input = graph
            .edges
            .iter()
            .find(|edge| edge.target_vertex == vertex.id)
            .map(|edge| decode_schema(&edge.schema).unwrap());
        for operator in &vertex.chain {
            let output = match operator.output_schema.as_slice() {
                [] => None,
                bytes => Some(decode_schema(bytes).unwrap()),
            };
            check_operator(
                operator.kind.as_ref().unwrap(),
                input.as_deref(),
                output.as_deref(),
            );
            input = output;
        }
    }
}

fn check_operator(kind: &Kind, input: Option<&Schema>, output: Option<&Schema>) {
    match kind {
        Kind::Source(source) => {
            let read = decode_schema(&source.read_schema).unwrap();
            let output = output.unwrap();
            check_projection(&source.projection, &read, output);
            source
                .filter
                .iter()
                .for_each(|filter| decode(filter, output));
            let watermark = source.watermark.as_ref().unwrap();
            decode(watermark.expr.as_ref().unwrap(), output);
        }
        Kind::Calc(calc) => {
            check_projection(&calc.projection, input.unwrap(), output.unwrap());
            calc.filter
                .iter()
                .for_each(|filter| decode(filter, input.unwrap()));
        }
        _ => {}
    }
}

fn check_projection(exprs: &[v1::NamedExpr], input: &Schema, output: &Schema) {
    if exprs.is_empty() {
        return;
    }
    assert_eq!(exprs.len(), output.fields().len());
    for (named, field) in exprs.iter().zip(output.fields()) {
        let expr = named.expr.as_ref().unwrap();
        let physical = weir_expr::codec::decode(&expr.physical, input).unwrap();
        let data_type = physical.data_type(input).unwrap();
        assert_eq!(&data_type, field.data_type(), "{}", expr.text);
    }
}

fn decode(expr: &v1::Expr, schema: &Schema) {
    weir_expr::codec::decode(&expr.physical, schema).unwrap();
}

/// Name, columns of the sink, query.
fn queries() -> Vec<(&'static str, &'static str, &'static str)> {
    QUERIES
        .split("\n-- ")
        .map(|part| {
            let mut lines = part.trim_start_matches("-- ").splitn(3, '\n');
            let mut next = || lines.next().unwrap().trim();
            (next(), next(), next())
        })
        .collect()
}

const QUERIES: &str = include_str!("nexmark_queries.sql");
