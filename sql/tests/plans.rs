//! Whole queries against the texts of their plans. `WEIR_BLESS=1` writes the texts anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::path::Path;

use arrow::datatypes::Schema;
use weir_dataflow::schema::decode_schema;
use weir_proto::v1::{self, operator::Kind};
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
        check(
            name,
            &explain(&mut session, &format!("INSERT INTO out {query}")),
        );
    }
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
